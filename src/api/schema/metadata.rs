//! `ObjectMeta`: the same for every kind.

use super::path::{Path, scalar};
use super::validate::validate;
use crate::resource::{FieldErrors, KindDef, Problem, names};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Keys and values of all annotations together, in bytes (as in Kubernetes).
const MAX_ANNOTATIONS: usize = 256 * 1024;

fn typed(kind: &str) -> JSONSchemaProps {
    JSONSchemaProps { type_: Some(kind.into()), ..JSONSchemaProps::default() }
}

fn object(fields: &[(&str, JSONSchemaProps)], required: &[&str]) -> JSONSchemaProps {
    JSONSchemaProps {
        properties: Some(fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect()),
        required: Some(required.iter().map(|name| (*name).to_owned()).collect()),
        ..typed("object")
    }
}

fn texts() -> JSONSchemaProps {
    let each = JSONSchemaPropsOrBool::Schema(Box::new(typed("string")));
    JSONSchemaProps { additional_properties: Some(each), ..typed("object") }
}

fn list(item: JSONSchemaProps) -> JSONSchemaProps {
    JSONSchemaProps { items: Some(JSONSchemaPropsOrArray::Schema(Box::new(item))), ..typed("array") }
}

/// The schema of `metadata`.
pub(super) fn schema() -> &'static JSONSchemaProps {
    static SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(|| {
        let time = || JSONSchemaProps { format: Some("date-time".into()), ..typed("string") };
        let any = || JSONSchemaProps { x_kubernetes_preserve_unknown_fields: Some(true), ..typed("object") };
        let (text, number, flag) = (typed("string"), typed("integer"), typed("boolean"));
        let owner = object(
            &[
                ("apiVersion", text.clone()),
                ("kind", text.clone()),
                ("name", text.clone()),
                ("uid", text.clone()),
                ("controller", flag.clone()),
                ("blockOwnerDeletion", flag),
            ],
            &["apiVersion", "kind", "name", "uid"],
        );
        object(
            &[
                ("name", text.clone()),
                ("generateName", text.clone()),
                ("namespace", text.clone()),
                ("uid", text.clone()),
                ("resourceVersion", text.clone()),
                ("selfLink", text.clone()),
                ("generation", number.clone()),
                ("creationTimestamp", time()),
                ("deletionTimestamp", time()),
                ("deletionGracePeriodSeconds", number),
                ("labels", texts()),
                ("annotations", texts()),
                ("finalizers", list(text)),
                ("ownerReferences", list(owner)),
                ("managedFields", list(any())),
            ],
            &[],
        )
    });
    &SCHEMA
}

/// Takes out maps and lists that hold nothing, which Kubernetes never writes: to take away the last label, or one that is
/// not there, leaves the record as if it had never had one.
pub(super) fn drop_hollow(record: &mut Value) {
    let Some(metadata) = record.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let hollow = |v: &Value| v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty);
    for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
        if metadata.get(field).is_some_and(hollow) {
            metadata.remove(field);
        }
    }
}

/// Checks the metadata of a record.
pub(super) fn check(def: &KindDef, record: &Value, errors: &mut FieldErrors) {
    let Some(metadata) = record.get("metadata") else {
        return errors.required("metadata.name", "name or generateName is required");
    };
    let before = errors.0.len();
    validate(schema(), metadata, Path::Root.field("metadata"), errors);
    if errors.0.len() > before {
        return;
    }
    check_names(def, metadata, errors);
    check_labels(metadata, errors);
    check_annotations(metadata, errors);
    check_owners(metadata, errors);
    for (index, finalizer) in strings(metadata, "finalizers").enumerate() {
        errors.check(format!("metadata.finalizers[{index}]"), finalizer, finalizer_name(finalizer));
    }
}

fn strings<'v>(metadata: &'v Value, field: &str) -> impl Iterator<Item = &'v str> + use<'v> {
    metadata.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn check_names(def: &KindDef, metadata: &Value, errors: &mut FieldErrors) {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    // Names of events and leases are made by their writers and may carry dots.
    let valid = if def.group == crate::resource::GROUP || def.kind == "Namespace" { names::dns_label } else { dns_subdomain };
    match (text("name"), text("generateName")) {
        (Some(name), _) => errors.check("metadata.name", name, valid(name)),
        (None, Some(prefix)) => {
            // The server adds five characters; with them it must be a name.
            let name = format!("{prefix}xxxxx");
            errors.check("metadata.generateName", prefix, valid(&name));
        }
        (None, None) => errors.required("metadata.name", "name or generateName is required"),
    }
    match (text("namespace"), def.namespaced) {
        (Some(namespace), true) => errors.check("metadata.namespace", namespace, names::dns_label(namespace)),
        (Some(namespace), false) => {
            let detail = format!("a {} belongs to no namespace: leave it out", def.kind);
            errors.push("metadata.namespace", Problem::Forbidden, Some(namespace.into()), detail);
        }
        (None, _) => {}
    }
}

fn dns_subdomain(name: &str) -> Result<(), String> {
    if name.len() <= 253 && name.split('.').all(|part| names::dns_label(part).is_ok()) {
        return Ok(());
    }
    Err("must be DNS labels of lower-case letters, digits and '-', joined by '.', 253 characters at most".into())
}

fn pairs<'v>(metadata: &'v Value, field: &str) -> impl Iterator<Item = (&'v String, &'v str)> + use<'v> {
    let map = metadata.get(field).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_str()?)))
}

fn check_labels(metadata: &Value, errors: &mut FieldErrors) {
    for (key, value) in pairs(metadata, "labels") {
        errors.check("metadata.labels", key, qualified_name(key));
        errors.check(format!("metadata.labels[{key}]"), value, label_value(value));
    }
}

fn check_annotations(metadata: &Value, errors: &mut FieldErrors) {
    let mut size = 0usize;
    for (key, value) in pairs(metadata, "annotations") {
        errors.check("metadata.annotations", key, qualified_name(&key.to_lowercase()));
        size = size.saturating_add(key.len()).saturating_add(value.len());
    }
    if size > MAX_ANNOTATIONS {
        let detail = format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes, all keys and values together");
        errors.push("metadata.annotations", Problem::Invalid, Some(size.into()), detail);
    }
}

fn check_owners(metadata: &Value, errors: &mut FieldErrors) {
    let mut controllers = 0;
    for (index, owner) in metadata.get("ownerReferences").and_then(Value::as_array).into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(field).and_then(Value::as_str) == Some("") {
                errors.required(format!("metadata.ownerReferences[{index}].{field}"), "must not be empty");
            }
        }
        controllers += usize::from(owner.get("controller") == Some(&Value::Bool(true)));
        if controllers > 1 {
            let detail = "Only one reference can have Controller set to true";
            errors.push("metadata.ownerReferences", Problem::Invalid, scalar(owner), detail);
            return;
        }
    }
}

/// `[prefix/]name`: the form of label and annotation keys.
///
/// # Errors
/// Says what is allowed.
pub(in crate::api) fn qualified_name(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(|p| dns_subdomain(p).is_ok()) && !name.is_empty() && label_value(name).is_ok() {
        return Ok(());
    }
    Err("must be letters, digits, '-', '_' or '.', starting and ending with a letter or digit, 63 characters at most, \
         with an optional DNS prefix and '/' before it (for example 'example.com/my-name')"
        .into())
}

/// The form of label values.
///
/// # Errors
/// Says what is allowed.
pub(in crate::api) fn label_value(value: &str) -> Result<(), String> {
    let bytes = value.as_bytes();
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    if bytes.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last()) {
        return Ok(());
    }
    Err("must be empty, or up to 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit".into())
}

fn finalizer_name(name: &str) -> Result<(), String> {
    const STANDARD: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];
    if STANDARD.contains(&name) || (name.contains('/') && qualified_name(name).is_ok()) {
        return Ok(());
    }
    Err("name is neither a standard finalizer name nor is it fully qualified (for example 'example.com/my-finalizer')".into())
}
