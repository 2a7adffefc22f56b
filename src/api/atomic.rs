//! `POST /devsanctum/apply`: several records applied in one transaction, or none of them.
//!
//! Each document is a server-side apply with strict fields. They are applied in the order given, so that one may
//! name another before it. All that is wrong with any of them comes back in one answer.

use super::audited::{self, Noted};
use super::request::{check_manager, decode_json};
use super::schema::FieldValidation;
use super::served::{Served, served};
use super::status::ApiError;
use super::view::json_response;
use super::write::{Caller, Change, WriteRequest, modify, transact};
use super::{ApiState, door, record};
use crate::access::{Action, Identity, IdentityKind, Records};
use crate::store::{Tx, Wants};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

/// Documents taken at once.
const MAX_DOCUMENTS: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
    manager: String,
    documents: Vec<Value>,
}

/// A document whose place in the world is known.
struct Document {
    request: WriteRequest,
    config: Value,
}

/// Applies all documents, or none.
pub async fn apply(
    State(state): State<ApiState>,
    Extension(identity): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    body: Body,
) -> Response {
    let started = Instant::now();
    let response = answer(&state, &identity, noted.map(|n| n.0), body).await.unwrap_or_else(IntoResponse::into_response);
    state.observer().observe("apply", "documents", response.status().as_u16(), started.elapsed());
    response
}

async fn answer(state: &ApiState, identity: &Identity, noted: Option<Noted>, body: Body) -> Result<Response, ApiError> {
    let asked = decode_json(&door::read(state, identity, body).await?)?;
    let asked: Asked = serde_json::from_value(asked).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    noted.as_ref().filter(|_| asked.dry_run).inspect(|noted| noted.leave_out());
    check_manager("manager", &asked.manager)?;
    let count = asked.documents.len();
    if count == 0 || count > MAX_DOCUMENTS {
        return Err(ApiError::bad_request(format!("documents: must be 1 to {MAX_DOCUMENTS}, got {count}")));
    }
    let (manager, force) = (asked.manager, asked.force);
    let caller = Caller { who: making(state, identity, &asked.documents).await?, directory: state.directory().clone() };
    let mut placed = Vec::with_capacity(count);
    for config in asked.documents {
        placed.push(place(state, &caller, &manager, config).await);
    }
    let (documents, refused) = sorted(placed.into_iter());
    if !refused.is_empty() {
        return Err(ApiError::of_documents(refused, count));
    }
    let rows = noted.clone();
    let results = transact(state.store(), asked.dry_run, Wants::default(), move |tx| {
        Box::pin(async move { apply_all(tx, documents, force, rows.as_ref()).await })
    })
    .await?;
    noted.inspect(|noted| noted.set_written(true));
    Ok(json_response(StatusCode::OK, json!({"results": results}).to_string(), &[]))
}

/// What went well, and what did not with its index.
fn sorted<T>(results: impl Iterator<Item = Result<T, ApiError>>) -> (Vec<T>, Vec<(usize, ApiError)>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (index, result) in results.enumerate() {
        match result {
            Ok(one) => good.push(one),
            Err(error) => bad.push((index, error)),
        }
    }
    (good, bad)
}

/// The caller, with the projects that these documents make for them: what lies in those is theirs to make, too.
async fn making(state: &ApiState, who: &Identity, documents: &[Value]) -> Result<Identity, ApiError> {
    let mut who = who.clone();
    if who.kind == IdentityKind::User {
        let theirs = |d: &&Value| d["kind"] == "Project" && d["spec"]["owner"] == who.name.as_str();
        let names: Vec<&str> = documents.iter().filter(theirs).map(|d| record::meta_str(d, "name")).collect();
        let new = |records: &Records| names.iter().filter(|n| !records.has_project(n)).map(|n| (*n).to_owned()).collect();
        who.makes = state.directory().ask(new).await?;
    }
    Ok(who)
}

/// Finds out which record a document is about, and whether the caller may write it.
async fn place(state: &ApiState, caller: &Caller, manager: &str, config: Value) -> Result<Document, ApiError> {
    if !config.is_object() {
        return Err(ApiError::bad_request("must be an object"));
    }
    let served = kind_of(&config)?;
    let text = |field| record::meta_str(&config, field).to_owned();
    let (name, namespace) = (text("name"), text("namespace"));
    if name.is_empty() {
        return Err(ApiError::bad_request("metadata.name: Required value"));
    }
    if served.def.namespaced && namespace.is_empty() {
        return Err(ApiError::bad_request("metadata.namespace: Required value: the project it lies in"));
    }
    if !served.def.namespaced && !namespace.is_empty() {
        let kind = &served.def.kind;
        return Err(ApiError::bad_request(format!("metadata.namespace: Forbidden: a {kind} lies in no project")));
    }
    let action = Action {
        verb: "patch",
        group: served.def.group,
        resource: &served.def.plural,
        subresource: "",
        namespace: served.def.namespaced.then_some(namespace.as_str()),
        name: Some(&name),
    };
    door::enter(state.directory(), &caller.who, served, &action).await?;
    let request = WriteRequest {
        verb: "patch",
        served,
        asked: served,
        namespace,
        name,
        caller: caller.clone(),
        manager: manager.to_owned(),
        subresource: "",
        validation: FieldValidation::Strict,
        now: state.clock().now(),
        clock: state.clock().clone(),
    };
    Ok(Document { request, config })
}

fn kind_of(config: &Value) -> Result<&'static Served, ApiError> {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or("");
    let (version, kind) = (text("apiVersion"), text("kind"));
    let found = served().iter().find(|s| s.api_version == version && s.def.kind == kind && !s.is_event());
    found.ok_or_else(|| ApiError::bad_request(format!("no kind {kind:?} in version {version:?} can be applied here")))
}

/// Applies one after the other and goes on past a refusal, to find all of them. Nothing of it stays if there is any.
async fn apply_all(tx: &mut Tx, documents: Vec<Document>, force: bool, noted: Option<&Noted>) -> Result<Vec<Value>, ApiError> {
    let (count, mut done, mut refused) = (documents.len(), Vec::new(), Vec::new());
    for (index, document) in documents.into_iter().enumerate() {
        match apply_one(tx, document, force, noted).await {
            Ok(action) => done.push(json!({"index": index, "action": action})),
            Err(error) if error.code() >= 500 => return Err(error),
            Err(error) => refused.push((index, error)),
        }
    }
    if refused.is_empty() { Ok(done) } else { Err(ApiError::of_documents(refused, count)) }
}

async fn apply_one(tx: &mut Tx, document: Document, force: bool, noted: Option<&Noted>) -> Result<&'static str, ApiError> {
    let Document { request, config } = document;
    let before = tx.get(&request.served.key(&request.namespace, &request.name)).await?;
    let written = modify(tx, &request, Change::Apply { config, force }).await?;
    audited::keep(noted, tx, before.as_ref(), &written, &request.served.def.kind)?;
    Ok(match before {
        None => "created",
        Some(before) if before.body == written.record.body => "unchanged",
        Some(_) => "configured",
    })
}
