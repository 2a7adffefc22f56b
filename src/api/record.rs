//! Reading and writing the parts every record has.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Finalizer of a record being deleted in the foreground.
pub const FOREGROUND: &str = "foregroundDeletion";

/// What most decisions about another record need, read without the rest of it.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// Its metadata.
    pub metadata: HeadMeta,
}

/// See [`Head`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadMeta {
    /// Set when it is being deleted.
    pub deletion_timestamp: Option<String>,
}

/// An owner, as far as deletion cares.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Its uid.
    pub uid: String,
    /// A foreground deletion of the owner waits for this record.
    #[serde(default)]
    pub block_owner_deletion: bool,
}

/// Reads a stored record. The store holds what we serialised, so this fails only on a damaged database.
///
/// # Errors
/// When the bytes are no JSON.
pub fn parse(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(body)
}

/// True when the record is being deleted.
pub fn is_deleting(record: &Value) -> bool {
    record["metadata"].get("deletionTimestamp").is_some_and(|t| !t.is_null())
}

/// `metadata` of a record, made where it is missing.
pub fn meta_mut(record: &mut Value) -> &mut Map<String, Value> {
    if !record["metadata"].is_object() {
        record["metadata"] = json!({});
    }
    record["metadata"].as_object_mut().expect("it was made an object just above")
}

/// A text field of `metadata`; empty where it is missing.
pub fn meta_str<'a>(record: &'a Value, field: &str) -> &'a str {
    record["metadata"].get(field).and_then(Value::as_str).unwrap_or("")
}

/// The finalizers.
pub fn finalizers(record: &Value) -> Vec<&str> {
    record["metadata"].get("finalizers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Adds a finalizer once.
pub fn add_finalizer(record: &mut Value, name: &str) {
    if !finalizers(record).contains(&name) {
        let list = meta_mut(record).entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(name.into());
        }
    }
}

/// Takes a finalizer off.
pub fn remove_finalizer(record: &mut Value, name: &str) {
    let meta = meta_mut(record);
    if let Some(list) = meta.get_mut("finalizers").and_then(Value::as_array_mut) {
        list.retain(|f| f != name);
        if list.is_empty() {
            meta.remove("finalizers");
        }
    }
}

/// The owners.
pub fn owners(record: &Value) -> Vec<Owner> {
    let list = record["metadata"].get("ownerReferences").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|o| Owner::deserialize(o).ok()).collect()
}

/// Takes an owner off.
pub fn remove_owner(record: &mut Value, uid: &str) {
    let meta = meta_mut(record);
    if let Some(list) = meta.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        list.retain(|o| o["uid"] != uid);
        if list.is_empty() {
            meta.remove("ownerReferences");
        }
    }
}

/// True when two states ask for the same: everything but metadata and status is equal. Anything else moves
/// `metadata.generation`.
pub fn same_intent(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let intent = |k: &str| !matches!(k, "metadata" | "status");
    let half = |m: &Map<String, Value>, n: &Map<String, Value>| m.iter().all(|(k, v)| !intent(k) || n.get(k) == Some(v));
    half(a, b) && half(b, a)
}

/// True when two states differ in nothing but the times in managed fields.
pub fn same(a: &Value, b: &Value) -> bool {
    let (Some(x), Some(y)) = (a.as_object(), b.as_object()) else { return a == b };
    let rest = |m: &Map<String, Value>, n: &Map<String, Value>| m.iter().all(|(k, v)| k == "metadata" || n.get(k) == Some(v));
    rest(x, y) && rest(y, x) && same_meta(&a["metadata"], &b["metadata"])
}

fn same_meta(a: &Value, b: &Value) -> bool {
    let (Some(x), Some(y)) = (a.as_object(), b.as_object()) else { return a == b };
    let skip = |k: &str| matches!(k, "managedFields" | "resourceVersion" | "generation");
    let half = |m: &Map<String, Value>, n: &Map<String, Value>| m.iter().all(|(k, v)| skip(k) || n.get(k) == Some(v));
    half(x, y) && half(y, x) && same_managers(x.get("managedFields"), y.get("managedFields"))
}

fn same_managers(a: Option<&Value>, b: Option<&Value>) -> bool {
    let list = |v: Option<&'_ Value>| -> Vec<Map<String, Value>> {
        let entries = v.and_then(Value::as_array).into_iter().flatten();
        let timeless = entries.filter_map(Value::as_object).map(|e| {
            let mut e = e.clone();
            e.remove("time");
            e
        });
        timeless.collect()
    };
    a == b || list(a) == list(b)
}
