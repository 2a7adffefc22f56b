//! What a record says about others: whom it names, and what it claims.

use super::record::owners;
use super::served::{Served, by_kind};
use crate::resource::{Claim, FieldErrors, GROUP, Reference};
use crate::store::{Key, Put};
use serde_json::Value;
use std::collections::HashSet;

/// Field under which a namespaced record names its project.
pub const NAMESPACE_PATH: &str = "metadata.namespace";

/// What a record says about others.
#[derive(Debug, Default)]
pub struct Facts {
    /// Records it names, and where they lie.
    pub references: Vec<(Reference, Key)>,
    /// Values it claims.
    pub claims: Vec<Claim>,
}

impl Facts {
    /// The records named.
    pub fn keys(&self) -> HashSet<&Key> {
        self.references.iter().map(|(_, key)| key).collect()
    }
}

/// Reads a record's facts, and adds what its kind finds wrong with it to `errors`.
pub fn facts(served: &Served, namespace: &str, record: &Value, errors: &mut FieldErrors) -> Facts {
    static EMPTY: Value = Value::Null;
    let mut facts = Facts::default();
    let empty = Value::Object(serde_json::Map::new());
    let spec = record.get("spec").unwrap_or(&EMPTY);
    match served.def.rules(if spec.is_null() { &empty } else { spec }) {
        Ok(None) => {}
        Ok(Some(rules)) => {
            rules.validate(errors);
            facts.claims = rules.claims();
            facts.references =
                rules.references().into_iter().filter_map(|r| Some((located(&r, namespace)?, r)).map(|(k, r)| (r, k))).collect();
        }
        Err(detail) if errors.0.is_empty() => errors.invalid("spec", "…", detail),
        Err(_) => {}
    }
    if served.def.namespaced && served.def.group == GROUP && !is_reserved(namespace) {
        let project = Reference::new(NAMESPACE_PATH, "Project", namespace);
        facts.references.extend(located(&project, "").map(|key| (project, key)));
    }
    facts
}

/// True for the namespaces that belong to no project.
pub fn is_reserved(namespace: &str) -> bool {
    super::bootstrap::RESERVED.contains(&namespace)
}

fn located(reference: &Reference, namespace: &str) -> Option<Key> {
    Some(by_kind(reference.kind)?.key(reference.namespace.as_deref().unwrap_or(namespace), &reference.name))
}

/// A record ready for the store.
pub fn put(served: &Served, record: Value, facts: &Facts, tell_previous: bool) -> Put {
    let text = |field: &str| super::record::meta_str(&record, field).to_owned();
    Put {
        key: served.key(&text("namespace"), &text("name")),
        uid: text("uid"),
        owners: owners(&record).into_iter().map(|o| o.uid).collect(),
        references: facts.references.iter().map(|(_, key)| key.clone()).collect(),
        claims: facts.claims.iter().map(|c| (c.scope.to_owned(), c.value.clone())).collect(),
        tell_previous,
        body: record,
    }
}

/// True when a change could make a selector match or stop matching, so that watchers need the state before.
pub fn selection_changed(served: &Served, old: &Value, new: &Value) -> bool {
    let at = |v: &Value, path: &str| v.pointer(&format!("/{}", path.replace('.', "/"))).cloned();
    old["metadata"].get("labels") != new["metadata"].get("labels")
        || served.def.selectable.iter().any(|path| at(old, path) != at(new, path))
}
