//! `metadata`: what callers may set, and what only the server sets.

use super::super::record::{finalizers, is_deleting, meta_mut, meta_str};
use super::super::schema::FieldValidation;
use super::super::served::Served;
use super::WriteRequest;
use crate::resource::names::dns_label;
use crate::resource::{FieldError, FieldErrors, GROUP, Problem};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Set by the server alone; what a caller sends is replaced by what is known.
const SERVER_SET: [&str; 7] =
    ["creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generateName", "generation", "selfLink", "uid"];
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Brings a body's `metadata` into shape: known fields of the right type, no nulls, valid names and labels.
/// Adds what is wrong to `errors`; returns warnings.
pub fn normalise(served: &Served, record: &mut Value, validation: FieldValidation, errors: &mut FieldErrors) -> Vec<String> {
    let mut warnings = Vec::new();
    if record.get("metadata").is_some_and(|m| !m.is_object() && !m.is_null()) {
        errors.invalid("metadata", record["metadata"].clone(), "must be an object");
        return warnings;
    }
    let meta = meta_mut(record);
    meta.retain(|_, value| !value.is_null());
    for field in meta.keys().filter(|k| !FIELDS.contains(&k.as_str())) {
        let path = format!("metadata.{field}");
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.push(format!("unknown field {path:?}")),
            FieldValidation::Strict => errors.push(&path, Problem::Unknown, None, format!("unknown field {path:?}")),
        }
    }
    meta.retain(|key, _| FIELDS.contains(&key.as_str()));
    if let Err(e) = ObjectMeta::deserialize(&record["metadata"]) {
        errors.invalid("metadata", "…", e.to_string());
        return warnings;
    }
    let meta = meta_mut(record);
    check_labels(meta, errors);
    check_annotations(meta, errors);
    check_finalizers(meta, errors);
    check_owners(meta, errors);
    check_name(served, meta, errors);
    warnings
}

fn check_name(served: &Served, meta: &Map<String, Value>, errors: &mut FieldErrors) {
    let (field, name) = match (meta.get("name"), meta.get("generateName")) {
        (Some(name), _) => ("metadata.name", name.as_str().unwrap_or("").to_owned()),
        (None, Some(prefix)) => ("metadata.generateName", format!("{}x", prefix.as_str().unwrap_or(""))),
        (None, None) => return,
    };
    // Events carry the name of what they are about and a number, with a dot between.
    let result = if served.def.group == GROUP || served.def.kind == "Namespace" {
        dns_label(&name)
    } else if name.len() <= 253 && name.split('.').all(|part| dns_label(part).is_ok()) {
        Ok(())
    } else {
        Err("must be DNS labels separated by '.', 253 characters at most".into())
    };
    errors.check(field, name.strip_suffix('x').filter(|_| field.ends_with("generateName")).unwrap_or(&name), result);
}

fn check_labels(meta: &Map<String, Value>, errors: &mut FieldErrors) {
    for (key, value) in meta.get("labels").and_then(Value::as_object).into_iter().flatten() {
        if !qualified(key) {
            errors.invalid("metadata.labels", key.as_str(), KEY_FORM);
        }
        let text = value.as_str().unwrap_or("");
        if !text.is_empty() && !name_part(text) {
            errors.invalid(
                format!("metadata.labels[{key}]"),
                text,
                "a label's value is empty, or 1 to 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
            );
        }
    }
}

fn check_annotations(meta: &Map<String, Value>, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in meta.get("annotations").and_then(Value::as_object).into_iter().flatten() {
        size += key.len() + value.as_str().unwrap_or("").len();
        if !qualified(&key.to_lowercase()) {
            errors.invalid("metadata.annotations", key.as_str(), KEY_FORM);
        }
    }
    if size > MAX_ANNOTATIONS {
        errors.invalid("metadata.annotations", size, format!("may hold {MAX_ANNOTATIONS} bytes in all"));
    }
}

fn check_finalizers(meta: &Map<String, Value>, errors: &mut FieldErrors) {
    let list = meta.get("finalizers").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (i, name) in list.map(|(i, f)| (i, f.as_str().unwrap_or(""))) {
        if !qualified(name) {
            errors.invalid(format!("metadata.finalizers[{i}]"), name, KEY_FORM);
        }
    }
}

fn check_owners(meta: &Map<String, Value>, errors: &mut FieldErrors) {
    let list = meta.get("ownerReferences").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (i, owner) in list {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or("").is_empty() {
                errors.required(
                    format!("metadata.ownerReferences[{i}].{field}"),
                    "an owner is named by all of apiVersion, kind, name and uid",
                );
            }
        }
    }
}

const KEY_FORM: &str = "must be a name of 1 to 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, \
                        with an optional DNS prefix and '/' before it (for example 'example.com/name')";

fn qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && prefix.split('.').all(|part| dns_label(part).is_ok()) && name_part(name),
        None => name_part(key),
    }
}

fn name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

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
pub fn wanted_name(record: &Value) -> Option<String> {
    let name = meta_str(record, "name");
    if !name.is_empty() {
        return Some(name.to_owned());
    }
    let prefix = meta_str(record, "generateName");
    if prefix.is_empty() {
        return None;
    }
    let slug = crate::resource::names::Slug::random().ok()?.to_string();
    Some(format!("{}{}", prefix.get(..prefix.len().min(58)).unwrap_or(prefix), &slug[..5]))
}
