//! Changing a record: update, patch and apply, of the record or of its status.

use super::super::admission::{self, Subject};
use super::super::deletion::{Sweep, moved_owners};
use super::super::events;
use super::super::facts::{Facts, facts, put, selection_changed};
use super::super::fail;
use super::super::managed_fields::{apply, track_update};
use super::super::patch::{json_patch, merge_patch};
use super::super::record::{self, is_deleting, meta_mut, meta_str, same, same_intent};
use super::super::schema;
use super::super::status::ApiError;
use super::create::{Draft, check, check_identity, create};
use super::metadata::{new_finalizers, restore};
use super::{SecretData, WriteRequest, Written};
use crate::resource::{FieldError, FieldErrors, Problem};
use crate::store::{Key, Stored, Tx};
use serde_json::{Value, json};

/// What is to become of a record.
#[derive(Debug)]
pub enum Change {
    /// This instead.
    Replace(Value),
    /// RFC 6902.
    JsonPatch(Value),
    /// RFC 7386.
    Merge(Value),
    /// Server-side apply; creates what does not exist.
    Apply {
        /// The fields the manager wants.
        config: Value,
        /// Take fields from other managers.
        force: bool,
    },
}

/// A record's next state, before it is checked.
struct Next {
    record: Value,
    secrets: SecretData,
    tracked: bool,
    warnings: Vec<String>,
}

/// Changes a record in the transaction of `tx`.
///
/// # Errors
/// 404, 409 for a stale version or an apply conflict, 422 for what is wrong with the result.
pub async fn modify(tx: &mut Tx, request: &WriteRequest, change: Change) -> Result<Written, ApiError> {
    request.still_may().await?;
    let served = request.served;
    let key = served.key(&request.namespace, &request.name);
    let Some(stored) = tx.get(&key).await? else {
        return match change {
            Change::Apply { config, .. } if request.subresource.is_empty() => create_by_apply(tx, request, config).await,
            _ => Err(ApiError::not_found(served.def, &request.name)),
        };
    };
    let old = record::parse(&stored.body).map_err(fail::damaged)?;
    let mut next = next_state(request, &old, change)?;
    check_version(request, &old, &next.record)?;
    restore(&old, &mut next.record);
    confine(request, &old, &mut next);
    if served.is_secret() {
        let held = tx.secret_keys(&stored.uid).await?;
        next.secrets.list_keys(&held, &mut next.record);
        next.secrets.refuse_too_many(request, &held)?;
    }
    if next.secrets.is_empty() && same(&old, &next.record) {
        return Ok(unchanged(stored, next.warnings));
    }
    let (facts, warnings) = check(request, &mut next.record, &next.secrets)?;
    next.warnings.extend(warnings);
    if let Some(error) = forbidden_change(request, &old, &next.record) {
        return Err(ApiError::invalid(served.def, &request.name, &[error]));
    }
    finish(request, &old, &mut next);
    schema::check_owned(Some(&old), &next.record).map_err(|error| ApiError::invalid(served.def, &request.name, &[error]))?;
    if next.secrets.is_empty() && same(&old, &next.record) {
        return Ok(unchanged(stored, next.warnings));
    }
    commit(tx, request, &key, &old, next, facts).await
}

async fn commit(
    tx: &mut Tx,
    request: &WriteRequest,
    key: &Key,
    old: &Value,
    mut next: Next,
    facts: Facts,
) -> Result<Written, ApiError> {
    let served = request.served;
    let before = self::facts(served, &request.namespace, old, &mut FieldErrors::default());
    admission::admit(tx, &Subject { request, key, old: Some(old), new: &next.record, before: Some(&before), facts: &facts })
        .await?;
    admission::forget_visitors(tx, request, Some(old), &next.record).await?;
    admission::name_source(tx, request, Some(old), &mut next.record).await?;
    let tell_previous = selection_changed(served, old, &next.record);
    let deleting = is_deleting(old);
    let uid = meta_str(old, "uid");
    let mut waiting = moved_owners(old, &next.record);
    let kept = facts.keys();
    waiting.extend(before.references.into_iter().map(|(_, k)| k).filter(|k| !kept.contains(k)));
    let mut stored = tx.put(put(served, next.record, &facts, tell_previous)).await?;
    next.secrets.keep(tx, uid).await?;
    let mut gone = false;
    waiting.extend(deleting.then(|| key.clone()));
    if !waiting.is_empty() {
        Sweep::new(tx, &request.time()).settle(waiting).run().await?;
    }
    if deleting {
        match tx.get(key).await? {
            Some(now) => stored = now,
            None => gone = true,
        }
    }
    Ok(Written { record: stored, created: false, gone, warnings: next.warnings })
}

fn unchanged(record: Stored, warnings: Vec<String>) -> Written {
    Written { record, created: false, gone: false, warnings }
}

async fn create_by_apply(tx: &mut Tx, request: &WriteRequest, mut config: Value) -> Result<Written, ApiError> {
    let secrets = if request.served.is_secret() { SecretData::take(&mut config) } else { SecretData::default() };
    check_applied(request, &config)?;
    for field in ["uid", "resourceVersion"] {
        let given = meta_str(&config, field);
        if !given.is_empty() {
            let why =
                format!("{field} mismatch: the provided object specified {field} {given}, and no existing object was found");
            return Err(ApiError::conflict(request.served.def, &request.name, why));
        }
    }
    let pruned = prune(request, &mut config)?;
    let merged = apply(None, &config, &request.manager, "", false, &request.served.def.schema, request.now)
        .map_err(|conflicts| ApiError::apply_conflict(&conflicts))?;
    let mut written = create(tx, request, Draft::new(request, merged, secrets, true)?).await?;
    written.warnings.extend(pruned);
    Ok(written)
}

fn prune(request: &WriteRequest, config: &mut Value) -> Result<Vec<String>, ApiError> {
    schema::prune(request.served.def, config, request.validation)
        .map_err(|errors| ApiError::invalid(request.served.def, &request.name, &errors))
}

/// Computes what the caller wants the record to be.
fn next_state(request: &WriteRequest, old: &Value, change: Change) -> Result<Next, ApiError> {
    let mut next = Next { record: Value::Null, secrets: SecretData::default(), tracked: false, warnings: Vec::new() };
    let secret = request.served.is_secret();
    let current = || if request.asked.is_new_event() { events::to_new(old.clone()) } else { old.clone() };
    match change {
        Change::Replace(body) => {
            next.record = body;
            check_identity(request, &next.record)?;
        }
        Change::JsonPatch(patch) => {
            next.record = current();
            if let Some(spec) = next.record.get_mut("spec").and_then(Value::as_object_mut).filter(|_| secret) {
                spec.insert("data".into(), json!({}));
            }
            json_patch(&mut next.record, &patch)?;
        }
        Change::Merge(mut patch) => {
            // A null in a merge patch says "forget this key", so it must be read before it is merged away.
            if secret {
                next.secrets = SecretData::take(&mut patch);
                if patch["metadata"].as_object().is_some_and(serde_json::Map::is_empty) {
                    patch.as_object_mut().map(|p| p.remove("metadata"));
                }
            }
            next.record = current();
            merge_patch(&mut next.record, &patch)?;
        }
        Change::Apply { mut config, force } => {
            if secret {
                next.secrets = SecretData::take(&mut config);
            }
            check_applied(request, &config)?;
            check_preconditions(request, old, &config)?;
            next.warnings = prune(request, &mut config)?;
            next.record =
                apply(Some(old), &config, &request.manager, request.subresource, force, &request.served.def.schema, request.now)
                    .map_err(|conflicts| ApiError::apply_conflict(&conflicts))?;
            next.tracked = true;
        }
    }
    if !next.record.is_object() {
        return Err(ApiError::undecodable(request.served.def, "the result is not an object"));
    }
    if request.asked.is_new_event() {
        next.record = events::to_core(next.record);
    }
    if secret && next.secrets.is_empty() {
        next.secrets = SecretData::take(&mut next.record);
    }
    Ok(next)
}

fn check_applied(request: &WriteRequest, config: &Value) -> Result<(), ApiError> {
    if meta_str(config, "name").is_empty() {
        return Err(ApiError::bad_request(format!("metadata.name must be {:?}, as in the address", request.name)));
    }
    if config["metadata"].get("managedFields").is_some_and(|m| !m.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil in an apply: leave it out"));
    }
    for field in ["uid", "resourceVersion"] {
        // As a number it would be no precondition at all.
        if config["metadata"].get(field).is_some_and(|v| !v.is_null() && !v.is_string()) {
            return Err(ApiError::bad_request(format!("metadata.{field} must be a string: put it in quotes, or leave it out")));
        }
    }
    check_identity(request, config)
}

/// Optimistic concurrency: an update or patch says what version it is of.
fn check_version(request: &WriteRequest, old: &Value, new: &Value) -> Result<(), ApiError> {
    if meta_str(new, "resourceVersion").is_empty() {
        let error = FieldError {
            path: "metadata.resourceVersion".into(),
            problem: Problem::Invalid,
            value: Some(json!("")),
            detail: "must be specified for an update".into(),
        };
        return Err(ApiError::invalid(request.served.def, &request.name, &[error]));
    }
    check_preconditions(request, old, new)
}

/// A body that names a version or uid must name the current one.
fn check_preconditions(request: &WriteRequest, old: &Value, new: &Value) -> Result<(), ApiError> {
    let def = request.served.def;
    let version = meta_str(new, "resourceVersion");
    if !version.is_empty() && version != meta_str(old, "resourceVersion") {
        return Err(ApiError::modified(def, &request.name));
    }
    let (uid, held) = (meta_str(new, "uid"), meta_str(old, "uid"));
    if !uid.is_empty() && uid != held {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {held}");
        return Err(ApiError::conflict(def, &request.name, why));
    }
    Ok(())
}

/// A write of the record leaves the status alone, and a write of the status everything else.
fn confine(request: &WriteRequest, old: &Value, next: &mut Next) {
    let sent = next.record["metadata"].get("managedFields").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    // Callers may correct the entries (`track_update` reads them), but not in passing.
    if !next.tracked && (!sent || !request.subresource.is_empty() || request.served.is_event()) {
        copy(&old["metadata"], "managedFields", meta_mut(&mut next.record));
    }
    if !request.served.def.has_status {
        return;
    }
    if request.subresource.is_empty() {
        if let Some(record) = next.record.as_object_mut() {
            copy(old, "status", record);
        }
        return;
    }
    next.secrets = SecretData::default();
    let written = std::mem::replace(&mut next.record, old.clone());
    if let Some(record) = next.record.as_object_mut() {
        copy(&written, "status", record);
    }
    copy(&written["metadata"], "managedFields", meta_mut(&mut next.record));
}

fn copy(from: &Value, field: &str, to: &mut serde_json::Map<String, Value>) {
    match from.get(field) {
        Some(value) => to.insert(field.into(), value.clone()),
        None => to.remove(field),
    };
}

fn forbidden_change(request: &WriteRequest, old: &Value, new: &Value) -> Option<FieldError> {
    if let Some(error) = new_finalizers(old, new) {
        return Some(error);
    }
    let slug = |v: &Value| v["status"].get("slug").and_then(Value::as_str).map(str::to_owned);
    let held = slug(old).filter(|_| request.served.def.kind == "Workspace")?;
    (slug(new).as_ref() != Some(&held)).then(|| FieldError {
        path: "status.slug".into(),
        problem: Problem::Forbidden,
        value: slug(new).map(Value::from),
        detail: format!("a workspace's public name never changes: it is {held:?}"),
    })
}

/// Moves the generation and the managed fields.
fn finish(request: &WriteRequest, old: &Value, next: &mut Next) {
    let served = request.served;
    if !next.secrets.is_empty() || !same_intent(old, &next.record) {
        let generation = old["metadata"].get("generation").and_then(Value::as_i64).unwrap_or(0);
        meta_mut(&mut next.record).insert("generation".into(), json!(generation + 1));
    }
    if !next.tracked && !served.is_event() {
        track_update(Some(old), &mut next.record, &request.manager, request.subresource, &served.def.schema, request.now);
    }
}
