//! `metadata`: what callers may set, and what only the server sets.

use super::super::record::{finalizers, is_deleting, meta_mut, meta_str};
use super::WriteRequest;
use crate::clock::Clock;
use crate::resource::names::Slug;
use crate::resource::{FieldError, Problem};
use serde_json::{Value, json};

/// Set by the server alone; what a caller sends is replaced by what is known.
const SERVER_SET: [&str; 7] =
    ["creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generateName", "generation", "selfLink", "uid"];
/// Gives a new record what only the server sets.
pub fn born(request: &WriteRequest, record: &mut Value, name: &str, uid: &str) {
    let meta = meta_mut(record);
    for field in SERVER_SET.iter().filter(|f| **f != "generateName") {
        meta.remove(*field);
    }
    meta.insert("name".into(), name.into());
    if request.served.def.namespaced {
        meta.insert("namespace".into(), request.namespace.as_str().into());
    } else {
        meta.remove("namespace");
    }
    meta.insert("uid".into(), uid.into());
    meta.insert("creationTimestamp".into(), request.time().into());
    meta.insert("generation".into(), json!(1));
}

/// Puts back what a caller may not change.
pub fn restore(old: &Value, new: &mut Value) {
    let meta = meta_mut(new);
    for field in SERVER_SET.iter().chain(&["name", "namespace", "resourceVersion"]) {
        match old["metadata"].get(*field) {
            Some(value) => meta.insert((*field).into(), value.clone()),
            None => meta.remove(*field),
        };
    }
}

/// While a record is being deleted its finalizers may only get fewer.
pub fn new_finalizers(old: &Value, new: &Value) -> Option<FieldError> {
    if !is_deleting(old) {
        return None;
    }
    let held = finalizers(old);
    let added: Vec<&str> = finalizers(new).into_iter().filter(|f| !held.contains(f)).collect();
    (!added.is_empty()).then(|| FieldError {
        path: "metadata.finalizers".into(),
        problem: Problem::Forbidden,
        value: None,
        detail: format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"),
    })
}

/// The name a create asks for: its own, or one made from `generateName`.
pub fn wanted_name(record: &Value, clock: &dyn Clock) -> Option<String> {
    let name = meta_str(record, "name");
    if !name.is_empty() {
        return Some(name.to_owned());
    }
    let prefix = meta_str(record, "generateName");
    if prefix.is_empty() {
        return None;
    }
    let slug = Slug::drawn(|| clock.draw()).ok()?.to_string();
    Some(format!("{}{}", prefix.get(..prefix.len().min(58)).unwrap_or(prefix), &slug[..5]))
}
