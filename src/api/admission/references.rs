//! Records named must exist and stay; values claimed must be free.

use super::super::facts::{Facts, NAMESPACE_PATH};
use super::super::fail;
use super::super::record::Head;
use super::super::schema::MAX_TOLD;
use super::super::served::{by_id, by_kind};
use super::super::status::ApiError;
use super::Subject;
use crate::access::{IdentityKind, Records, Role};
use crate::resource::{FieldErrors, Problem, Reference};
use crate::store::{Key, KindId, Tx};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Names shown to help where one does not exist.
const SHOWN: usize = 5;
/// Records looked at for them.
const LOOKED_AT: usize = 100;

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
            check_reference(tx, subject, (reference, key), &mut missing, errors).await?;
        }
    }
    for claim in &subject.facts.claims {
        if is_full(errors) || subject.before.is_some_and(|b| b.claims.contains(claim)) {
            continue;
        }
        if let Some(holder) = tx.claim_holder(claim.scope, &claim.value).await?.filter(|k| k != subject.key) {
            errors.duplicate(&claim.path, claim.value.as_str(), format!("{} already has it", holder_told(subject, &holder)));
        }
    }
    check_owners(tx, subject, errors).await
}

/// True when nobody would be told of a further error: then nothing more is looked up.
pub fn is_full(errors: &FieldErrors) -> bool {
    errors.0.len() >= MAX_TOLD
}

/// Who holds a value, to those who may see the record.
fn holder_told(subject: &Subject<'_>, holder: &Key) -> String {
    if subject.request.caller.sees(holder) { describe(holder) } else { "another record, which you may not see,".into() }
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
    subject: &Subject<'_>,
    (reference, key): (&Reference, &Key),
    missing: &mut Missing,
    errors: &mut FieldErrors,
) -> Result<(), ApiError> {
    let value = Some(Value::from(reference.name.as_str()));
    let Some(found) = tx.get(key).await?.filter(|_| may_name(subject, reference, key)) else {
        let detail = missing.detail(tx, subject, reference.kind, key).await?;
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

/// Whether somebody may point at a record: what they may not see does not exist for them. Who may write a group puts people into it
/// by their names; and the people of a project, and the servers that its workspaces are placed on, are known in it.
fn may_name(subject: &Subject<'_>, reference: &Reference, key: &Key) -> bool {
    let (caller, project) = (&subject.request.caller, subject.project());
    let is_known = |records: &Records| match reference.kind {
        "User" => records.role(&key.name, project) >= Role::Read,
        "DockerServer" => records.is_open_to_project(&key.name, project),
        _ => false,
    };
    subject.request.served.def.kind == "Group" || caller.sees_as_themselves(key) || caller.directory.now(is_known)
}

/// What is said where a name does not exist, by kind and place: each is listed once.
#[derive(Default)]
struct Missing(HashMap<(KindId, String), String>);

impl Missing {
    async fn detail(&mut self, tx: &mut Tx, subject: &Subject<'_>, kind: &str, key: &Key) -> Result<String, ApiError> {
        let place = (key.kind, key.namespace.clone());
        if let Some(said) = self.0.get(&place) {
            return Ok(said.clone());
        }
        let detail = there_are(tx, subject, kind, key).await?;
        self.0.insert(place, detail.clone());
        Ok(detail)
    }
}

/// Some of those that there are, of those that the caller may see.
async fn there_are(tx: &mut Tx, subject: &Subject<'_>, kind: &str, key: &Key) -> Result<String, ApiError> {
    let caller = &subject.request.caller;
    let looked_at = tx.keys(key.kind, &key.namespace, LOOKED_AT).await?;
    let whole = looked_at.len() < LOOKED_AT;
    let seen: Vec<Key> = looked_at.into_iter().filter(|key| caller.sees(key)).collect();
    let place = if key.namespace.is_empty() { String::new() } else { format!(" in project {:?}", key.namespace) };
    if seen.is_empty() {
        return Ok(match caller.who.kind {
            IdentityKind::User => {
                format!("no {kind} of this name{place} that you may see: ask who manages it, or an administrator")
            }
            _ => format!("there is no {kind}{place} yet: create it first"),
        });
    }
    let names: Vec<_> = seen.iter().take(SHOWN).map(|key| key.name.as_str()).collect();
    let more = match seen.len().saturating_sub(SHOWN) {
        _ if !whole => " and more".into(),
        0 => String::new(),
        more => format!(" and {more} more"),
    };
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
