//! Who set which field: `metadata.managedFields` and server-side apply.
//!
//! The rules are those of a Kubernetes API server (`structured-merge-diff`), so that kubectl, kube-rs and a person who
//! knows them meet no surprise:
//!
//! - An **applier** owns exactly the fields of its last configuration. What it named before and names no more is taken
//!   out, unless somebody else owns it. Changing a field another manager owns is a conflict, unless forced.
//! - An **updater** (create, update, patch) owns the fields it changed. Whoever owned them before does no longer.
//! - A field that goes is owned by nobody; a manager without fields has no entry.
//! - Lists are owned whole, except where the schema says `x-kubernetes-list-type: map` or `set`, and except
//!   `status.conditions` (by `type`), `metadata.ownerReferences` (by `uid`) and `metadata.finalizers` (by value).

mod compare;
mod entries;
mod field_set;
mod merge;
mod shape;
#[cfg(test)]
mod tests;

pub use field_set::FieldSet;

use compare::{Changes, compare, owned};
use entries::{Entries, Manager, Source};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use shape::{Part, Shape};
use std::collections::BTreeMap;

/// Owner of the fields of a record that nobody had tracked when it was first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Where client-side `kubectl apply` keeps the configuration it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A field an apply would change although another manager owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The manager that owns it.
    pub manager: String,
    /// Its operation, `Apply` or `Update`.
    pub operation: String,
    /// The API version it used.
    pub api_version: String,
    /// The subresource it wrote through, or empty.
    pub subresource: String,
    /// When it last wrote (RFC 3339), or empty.
    pub time: String,
    /// The field, such as `.spec.owner` or `.status.conditions[type="Ready"].status`.
    pub path: String,
}

impl Conflict {
    /// The owner in kubectl's words: `"kubectl-edit" using devsanctum.io/v1 at 2026-01-01T00:00:00Z`.
    pub fn holder(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == "Update" {
            text = format!("{text} using {}", self.api_version);
            if !self.time.is_empty() {
                text = format!("{text} at {}", self.time);
            }
        }
        text
    }
}

/// `Apply failed with 1 conflict: conflict with "a" using v1: .spec.x`, or a list of owners and their fields.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.holder(), only.path);
    }
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        owners.entry(conflict.holder()).or_default().push(&conflict.path);
    }
    let paths = |paths: &[&str]| paths.iter().map(|path| format!("\n- {path}")).collect::<String>();
    let lists: Vec<String> = owners.iter().map(|(owner, fields)| format!("conflicts with {owner}:{}", paths(fields))).collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lists.join("\n"))
}

/// Server-side apply: merges `applied` (pruned, not defaulted) into `live`, and keeps `metadata.managedFields`.
/// The result equals `live` when there was nothing to do. `status` is applied only through the subresource of that
/// name, and nothing else is applied through that.
///
/// # Errors
/// Without `force`, the fields other managers own and this apply would change.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    subresource: &str,
    force: bool,
    schema: &JSONSchemaProps,
    now: Timestamp,
) -> Result<Value, Vec<Conflict>> {
    let shape = Shape::for_write(schema, subresource);
    let own = Manager { name: manager, operation: "Apply", api_version: api_version(applied), subresource };
    let mut entries = live.map(|live| known_entries(live, schema, now)).unwrap_or_default();
    let before = entries.take(&own);
    let set = owned(shape, applied);

    let mut merged = live.cloned().unwrap_or_else(|| identity(applied));
    merge::merge(shape, &mut merged, applied);
    if let Some(last) = &before {
        drop_abandoned(Shape::root(schema, Part::All), &mut merged, &last.fields, &set, &entries);
    }
    if live == Some(&merged) && before.is_some_and(|last| last.fields == set) {
        return Ok(merged);
    }
    let changes = compare(Shape::root(schema, Part::All), live, Some(&merged));
    if !force {
        refuse_conflicts(&entries, &changes, live, manager, schema)?;
    }
    entries.release(&changes, &own);
    entries.set(&own, set, now);
    entries.store(&mut merged);
    Ok(merged)
}

/// Keeps `metadata.managedFields` of `new` for a create (`old` is `None`), update or patch by `manager`. Where nothing
/// changed the entries stay as they are, times included.
pub fn track_update(
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    schema: &JSONSchemaProps,
    now: Timestamp,
) {
    let changes = compare(Shape::root(schema, Part::All), old, Some(new));
    let given = new.pointer_mut("/metadata/managedFields").map(Value::take);
    let held = old.and_then(|old| old.pointer("/metadata/managedFields"));
    if changes.is_empty() && given.as_ref() == held {
        if let (Some(slot), Some(given)) = (new.pointer_mut("/metadata/managedFields"), given) {
            *slot = given;
        }
        return;
    }
    let mut entries = starting_entries(given, held, subresource);
    if !changes.is_empty() {
        let own = Manager { name: manager, operation: "Update", api_version: api_version(new), subresource };
        entries.release(&changes, &own);
        entries.add(&own, changes.changed, now);
    }
    entries.store(new);
}

fn api_version(record: &Value) -> &str {
    record.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// The entries an update starts from. A client may correct them (`kubectl apply --server-side` does, and `[{}]` clears
/// them), but not through a subresource; what cannot be read is as if it had not been sent.
fn starting_entries(given: Option<Value>, held: Option<&Value>, subresource: &str) -> Entries {
    if subresource.is_empty() && given.as_ref().is_some_and(|list| *list == json!([{}])) {
        return Entries::default();
    }
    let source = if given.as_ref() == held { Source::Store } else { Source::Client };
    let given = given.filter(|_| source == Source::Store || subresource.is_empty());
    let given = given.and_then(|list| Entries::read(list, source)).filter(|entries| !entries.is_empty());
    given.or_else(|| held.and_then(|list| Entries::read(list.clone(), Source::Store))).unwrap_or_default()
}

/// The entries of a stored record. One without any was written before anybody tracked it: its fields get an owner, so
/// that the first apply conflicts where it changes something.
fn known_entries(live: &Value, schema: &JSONSchemaProps, now: Timestamp) -> Entries {
    let mut entries = Entries::of(live);
    if entries.is_empty() {
        let own = Manager { name: BEFORE_FIRST_APPLY, operation: "Update", api_version: api_version(live), subresource: "" };
        entries.set(&own, compare(Shape::root(schema, Part::All), None, Some(live)).changed, now);
    }
    entries
}

/// What a record made by an apply starts from.
fn identity(applied: &Value) -> Value {
    let mut record = json!({"metadata": {}});
    for key in ["apiVersion", "kind"] {
        if let Some(value) = applied.get(key) {
            record[key] = value.clone();
        }
    }
    for key in ["name", "namespace"] {
        if let Some(value) = applied.pointer(&format!("/metadata/{key}")) {
            record["metadata"][key] = value.clone();
        }
    }
    record
}

/// Takes out what the applier named last time and names no more, unless somebody owns it.
fn drop_abandoned(shape: Shape, merged: &mut Value, last: &FieldSet, set: &FieldSet, others: &Entries) {
    let mut kept = others.owned();
    kept.union(set);
    let mut abandoned = merge::with_holders(shape, last);
    abandoned.subtract(&merge::with_holders(shape, &kept));
    if !abandoned.is_empty() {
        merge::remove(shape, merged, &abandoned);
    }
}

/// Conflicts, less those with what client-side `kubectl apply` left behind: the same person moving to server-side
/// apply is in conflict with nobody.
fn refuse_conflicts(
    entries: &Entries,
    changes: &Changes,
    live: Option<&Value>,
    manager: &str,
    schema: &JSONSchemaProps,
) -> Result<(), Vec<Conflict>> {
    let mut conflicts = entries.conflicts(&changes.changed);
    if manager == "kubectl" && !conflicts.is_empty() {
        let allowed = live.map(|live| last_applied(live, schema).paths()).unwrap_or_default();
        conflicts.retain(|conflict| !allowed.contains(&conflict.path));
    }
    if conflicts.is_empty() { Ok(()) } else { Err(conflicts) }
}

/// Fields that still have the value client-side `kubectl apply` gave them.
fn last_applied(live: &Value, schema: &JSONSchemaProps) -> FieldSet {
    let shape = Shape::for_write(schema, "");
    let annotation = live.pointer("/metadata/annotations").and_then(|a| a.get(LAST_APPLIED)).and_then(Value::as_str);
    let Some(config) = annotation.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return FieldSet::default();
    };
    let mut fields = owned(shape, &config);
    fields.subtract(&compare(shape, Some(live), Some(&config)).changed);
    fields
}
