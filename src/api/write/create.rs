//! Creating a record.

use super::super::admission::{self, Subject};
use super::super::deletion::{Sweep, moved_owners};
use super::super::facts::{Facts, facts, put};
use super::super::fail;
use super::super::managed_fields::track_update;
use super::super::record::{meta_mut, meta_str};
use super::super::schema;
use super::super::served::by_kind;
use super::super::status::ApiError;
use super::metadata::{born, wanted_name};
use super::{SecretData, WriteRequest, Written};
use crate::resource::{FieldError, FieldErrors, GROUP};
use crate::store::{Tx, Wants};
use serde_json::Value;

/// How often another name is drawn for `generateName`.
const DRAWS: usize = 8;

/// A record ready to be created, checked as far as that is possible without looking at others.
#[derive(Debug)]
pub struct Draft {
    record: Value,
    facts: Facts,
    secrets: SecretData,
    warnings: Vec<String>,
    /// The server chose the name, so it may choose another.
    generated: bool,
}

impl Draft {
    /// Checks a body and gives it what only the server sets. `tracked` says that managed fields are in it already.
    ///
    /// # Errors
    /// 400 and 422 naming every field that is wrong.
    pub fn new(request: &WriteRequest, mut record: Value, secrets: SecretData, tracked: bool) -> Result<Self, ApiError> {
        check_identity(request, &record)?;
        if !tracked {
            meta_mut(&mut record).remove("managedFields");
        }
        if !meta_str(&record, "resourceVersion").is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        meta_mut(&mut record).remove("resourceVersion");
        if request.served.def.has_status {
            record.as_object_mut().map(|r| r.remove("status"));
        }
        let (facts, warnings) = check(request, &mut record, &secrets)?;
        let name = wanted_name(&record, request.clock.as_ref()).ok_or_else(|| {
            let error = "Required value: name or generateName is required";
            ApiError::unprocessable(format!("{} \"\" is invalid: metadata.name: {error}", request.served.def.kind))
        })?;
        let generated = meta_str(&record, "name").is_empty();
        let uid = request.clock.uuid().map_err(fail::no_chance)?;
        born(request, &mut record, &name, &uid);
        if request.served.is_secret() {
            secrets.refuse_too_many(request, &[])?;
            secrets.list_keys(&[], &mut record);
        }
        if !tracked && !request.served.is_event() {
            track_update(None, &mut record, &request.manager, "", &request.served.def.schema, request.now);
        }
        schema::check_owned(None, &record).map_err(|error| ApiError::invalid(request.served.def, &name, &[error]))?;
        Ok(Self { record, facts, secrets, warnings, generated })
    }

    /// What [`create`] will ask the store for.
    pub fn wants(&self, request: &WriteRequest) -> Wants {
        let own = request.served.key(&request.namespace, meta_str(&self.record, "name"));
        let space = request.served.def.namespaced.then(|| by_kind("Namespace")).flatten();
        let space = space.filter(|_| request.served.def.group != GROUP).map(|s| s.key("", &request.namespace));
        let named = self.facts.references.iter().map(|(_, key)| key.clone());
        let claims = self.facts.claims.iter().map(|c| (c.scope.to_owned(), c.value.clone()));
        Wants { keys: named.chain([own]).chain(space).collect(), claims: claims.collect() }
    }
}

/// Brings a record into the shape of its kind and collects everything wrong with it.
///
/// # Errors
/// All of it, in one answer.
pub fn check(request: &WriteRequest, record: &mut Value, secrets: &SecretData) -> Result<(Facts, Vec<String>), ApiError> {
    let served = request.served;
    let mut errors = FieldErrors::default();
    let mut warnings = Vec::new();
    match schema::prepare(served.def, record, request.validation) {
        Ok(unknown) => warnings = unknown,
        Err(wrong) => errors.0 = wrong,
    }
    let mut found = Facts::default();
    if errors.0.is_empty() {
        found = if secrets.is_empty() {
            facts(served, &request.namespace, record, &mut errors)
        } else {
            facts(served, &request.namespace, &secrets.shown_to_rules(record), &mut errors)
        };
        admission::check_name(served, meta_str(record, "name"), &mut errors);
    }
    if errors.0.is_empty() {
        return Ok((found, warnings));
    }
    if served.is_secret() {
        errors.0.iter_mut().for_each(hide_value);
    }
    let name = meta_str(record, "name").to_owned();
    Err(ApiError::invalid(served.def, if name.is_empty() { &request.name } else { &name }, &errors.0))
}

/// An error about a secret's value must not repeat it.
fn hide_value(error: &mut FieldError) {
    if error.path.starts_with("spec.data") {
        error.value = None;
    }
}

/// The body must be of the kind, in the project and of the name that the address says.
///
/// # Errors
/// 400 with both.
pub fn check_identity(request: &WriteRequest, record: &Value) -> Result<(), ApiError> {
    let def = request.served.def;
    let differs = |what: &str, got: &str, want: &str| {
        let message = format!("the {what} in the body ({got:?}) is not the one in the address ({want:?}): make them the same");
        Err(ApiError::bad_request(message))
    };
    for (field, want) in [("kind", def.kind.as_str()), ("apiVersion", request.served.api_version.as_str())] {
        match record.get(field).and_then(Value::as_str) {
            Some(got) if got != want => return differs(field, got, want),
            Some(_) => {}
            None => return Err(ApiError::bad_request(format!("the body has no {field}: it must be {want:?}"))),
        }
    }
    let (name, namespace) = (meta_str(record, "name"), meta_str(record, "namespace"));
    if !request.name.is_empty() && !name.is_empty() && name != request.name {
        return differs("name", name, &request.name);
    }
    if def.namespaced && !namespace.is_empty() && namespace != request.namespace {
        return differs("namespace", namespace, &request.namespace);
    }
    Ok(())
}

/// Creates a record.
///
/// # Errors
/// 409 when it exists, and whatever admission says.
pub async fn create(tx: &mut Tx, request: &WriteRequest, draft: Draft) -> Result<Written, ApiError> {
    request.still_may().await?;
    let Draft { mut record, facts, secrets, warnings, generated } = draft;
    let served = request.served;
    let mut key = served.key(&request.namespace, meta_str(&record, "name"));
    for _ in 0..DRAWS {
        if tx.get(&key).await?.is_none() {
            break;
        }
        let generate = generated.then(|| {
            meta_mut(&mut record).remove("name");
            wanted_name(&record, request.clock.as_ref())
        });
        match generate.flatten() {
            Some(name) => key.name = name,
            None => return Err(ApiError::already_exists(served.def, &key.name)),
        }
        meta_mut(&mut record).insert("name".into(), key.name.as_str().into());
    }
    admission::admit(tx, &Subject { request, key: &key, old: None, new: &record, before: None, facts: &facts }).await?;
    admission::forget_visitors(tx, request, None, &record).await?;
    admission::name_source(tx, request, None, &mut record).await?;
    let uid = meta_str(&record, "uid").to_owned();
    let owners = moved_owners(&Value::Null, &record);
    let namespace = admission::namespace_of(served, &record, request)?;
    let stored = tx.put(put(served, record, &facts, false)).await?;
    secrets.keep(tx, &uid).await?;
    if let Some(namespace) = namespace {
        tx.put(namespace).await?;
    }
    if !owners.is_empty() {
        Sweep::new(tx, &request.time()).settle(owners).run().await?;
    }
    Ok(Written { record: stored, created: true, gone: false, warnings })
}
