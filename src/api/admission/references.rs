//! Records named must exist and stay; values claimed must be free.

use super::super::facts::{Facts, NAMESPACE_PATH};
use super::super::fail;
use super::super::record::Head;
use super::super::schema::MAX_TOLD;
use super::super::served::{by_id, by_kind};
use super::super::status::ApiError;
use super::Subject;
use crate::resource::{FieldErrors, Problem, Reference};
use crate::store::{Key, KindId, Tx};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Names shown to help where one does not exist.
const SHOWN: usize = 5;

/// Checks what is new in a write: what stood before may be on its way out, and the record must still be writable.
/// Stops where no more errors would be told.
pub async fn check(tx: &mut Tx, subject: &Subject<'_>, errors: &mut FieldErrors) -> Result<(), ApiError> {
    let known = subject.before.map(Facts::keys).unwrap_or_default();
    let mut missing = Missing::default();
    for (reference, key) in &subject.facts.references {
        if is_full(errors) {
            return Ok(());
        }
        // The project was looked at before, and itself is judged by the rules of the kind.
        if reference.path != NAMESPACE_PATH && !known.contains(key) && key != subject.key {
            check_reference(tx, reference, key, &mut missing, errors).await?;
        }
    }
    for claim in &subject.facts.claims {
        if is_full(errors) || subject.before.is_some_and(|b| b.claims.contains(claim)) {
            continue;
        }
        if let Some(holder) = tx.claim_holder(claim.scope, &claim.value).await?.filter(|k| k != subject.key) {
            errors.duplicate(&claim.path, claim.value.as_str(), format!("{} already has it", describe(&holder)));
        }
    }
    check_owners(tx, subject, errors).await
}

/// True when nobody would be told of a further error: then nothing more is looked up.
pub fn is_full(errors: &FieldErrors) -> bool {
    errors.0.len() >= MAX_TOLD
}

/// `Route "web" in project "team"`.
fn describe(key: &Key) -> String {
    let kind = by_id(key.kind).map_or(key.kind, |s| s.def.kind.as_str());
    match key.namespace.as_str() {
        "" => format!("{kind} {:?}", key.name),
        namespace => format!("{kind} {:?} in project {namespace:?}", key.name),
    }
}

async fn check_reference(
    tx: &mut Tx,
    reference: &Reference,
    key: &Key,
    missing: &mut Missing,
    errors: &mut FieldErrors,
) -> Result<(), ApiError> {
    let value = Some(Value::from(reference.name.as_str()));
    let Some(found) = tx.get(key).await? else {
        let detail = missing.detail(tx, reference.kind, key).await?;
        errors.push(&reference.path, Problem::NotFound, value, detail);
        return Ok(());
    };
    let head: Head = serde_json::from_slice(&found.body).map_err(fail::damaged)?;
    if head.metadata.deletion_timestamp.is_some() {
        let detail = format!("{} is being deleted: name another, or wait until it is gone and create it anew", describe(key));
        errors.push(&reference.path, Problem::Forbidden, value, detail);
    }
    Ok(())
}

/// What is said where a name does not exist, by kind and place: each is listed once.
#[derive(Default)]
struct Missing(HashMap<(KindId, String), String>);

impl Missing {
    async fn detail(&mut self, tx: &mut Tx, kind: &str, key: &Key) -> Result<String, ApiError> {
        let place = (key.kind, key.namespace.clone());
        if let Some(said) = self.0.get(&place) {
            return Ok(said.clone());
        }
        let detail = there_are(tx, kind, key).await?;
        self.0.insert(place, detail.clone());
        Ok(detail)
    }
}

async fn there_are(tx: &mut Tx, kind: &str, key: &Key) -> Result<String, ApiError> {
    let namespace = (!key.namespace.is_empty()).then_some(key.namespace.as_str());
    let all = tx.list(key.kind, namespace).await?;
    let place = namespace.map_or(String::new(), |n| format!(" in project {n:?}"));
    if all.is_empty() {
        return Ok(format!("there is no {kind}{place} yet: create it first"));
    }
    let names: Vec<_> = all.iter().take(SHOWN).map(|s| s.key.name.as_str()).collect();
    let more = if all.len() > SHOWN { format!(" and {} more", all.len() - SHOWN) } else { String::new() };
    Ok(format!("no {kind} of this name{place}; there are: {}{more}", names.join(", ")))
}

/// An owner that does not exist would never take its dependent along.
async fn check_owners(tx: &mut Tx, subject: &Subject<'_>, errors: &mut FieldErrors) -> Result<(), ApiError> {
    let list = |v: &Value| v["metadata"].get("ownerReferences").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |owner: &Value, field: &str| owner[field].as_str().unwrap_or("").to_owned();
    let before: HashSet<String> = subject.old.map(list).unwrap_or_default().iter().map(|b| text(b, "uid")).collect();
    for (i, owner) in list(subject.new).into_iter().enumerate() {
        if is_full(errors) {
            return Ok(());
        }
        let (name, uid) = (text(&owner, "name"), text(&owner, "uid"));
        let Some(served) = by_kind(&text(&owner, "kind")).filter(|_| !before.contains(&uid)) else { continue };
        let found = tx.get(&served.key(&subject.key.namespace, &name)).await?;
        if found.is_none_or(|f| f.uid != uid) {
            let detail = format!("there is no {} {name:?} with this uid", served.def.kind);
            errors.push(format!("metadata.ownerReferences[{i}].uid"), Problem::NotFound, Some(uid.into()), detail);
        }
    }
    Ok(())
}
