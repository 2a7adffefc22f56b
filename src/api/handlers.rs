//! One handler for all kinds: what is asked for, may they, then do it.

use super::audited::{self, Noted};
use super::deletion::Sweep;
use super::lasting::Lasts;
use super::patch::PatchKind;
use super::record;
use super::request::{DeleteOptions, Params, Subresource, Target, content_type, decode, decode_json, decode_yaml, field_manager};
use super::select::Selection;
use super::status::ApiError;
use super::view::{Form, View, json_response, negotiate};
use super::write::{Caller, Change, Draft, SecretData, WriteRequest, Written, create, modify, transact};
use super::{ApiState, admission, door, events, exec, fail, list, logs, portforward, terminal, watch};
use crate::access::{Identity, Sight};
use crate::store::{Key, Stored, Tx, Wants};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Instant;

/// Records deleted in one transaction when a whole collection is.
const DELETE_BATCH: usize = 100;

/// A request that has been understood.
struct Call {
    state: ApiState,
    identity: Identity,
    verb: &'static str,
    target: Target,
    params: Params,
    view: View,
    parts: Parts,
}

/// Answers every request about records.
pub async fn resource(State(state): State<ApiState>, Extension(identity): Extension<Identity>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let target = match Target::parse(parts.uri.path()) {
        Ok(target) => target,
        Err(error) => return error.into_response(),
    };
    let resource = &target.served.resource;
    let (response, verb) = match understand(&state, identity, target.clone(), parts).await {
        Ok((call, verb)) => (answer(call, verb, body).await.unwrap_or_else(IntoResponse::into_response), verb),
        Err(error) => (error.into_response(), "unknown"),
    };
    state.observer().observe(verb, resource, response.status().as_u16(), started.elapsed());
    response
}

async fn understand(
    state: &ApiState,
    identity: Identity,
    target: Target,
    parts: Parts,
) -> Result<(Call, &'static str), ApiError> {
    let params = Params::parse(&parts.uri)?;
    let verb = verb(&target, &parts.method, &params)?;
    door::enter(state.directory(), &identity, target.served, &door::action(&target, verb)).await?;
    let form = if target.subresource == Subresource::Log { Form::Whole } else { negotiate(&parts.headers, &params)? };
    let view = View { served: target.served, form };
    Ok((Call { state: state.clone(), identity, verb, target, params, view, parts }, verb))
}

fn verb(target: &Target, method: &Method, params: &Params) -> Result<&'static str, ApiError> {
    let everywhere = target.served.def.namespaced && target.namespace.is_none();
    let verb = match (target.subresource, method.as_str(), target.name.is_some()) {
        (Subresource::Exec | Subresource::Portforward | Subresource::Terminal, "GET" | "POST" | "CONNECT", true) => "create",
        (Subresource::Log, "GET", true) => "get",
        (Subresource::Exec | Subresource::Portforward | Subresource::Terminal | Subresource::Log, ..) => "",
        (_, "GET", _) if params.flag("watch")? => "watch",
        (_, "GET", true) => "get",
        (_, "GET", false) => "list",
        (_, "PUT", true) => "update",
        (_, "PATCH", true) => "patch",
        // All projects together can only be read.
        (_, "DELETE" | "POST", false) if everywhere => {
            let why = format!("the server does not allow {method} in all projects at once: use …/namespaces/NAMESPACE/…");
            return Err(ApiError::method_not_allowed(why));
        }
        (Subresource::None, "DELETE", true) => "delete",
        (Subresource::None, "DELETE", false) => "deletecollection",
        (Subresource::None, "POST", false) => "create",
        _ => "",
    };
    if verb.is_empty() {
        return Err(ApiError::method_not_allowed(format!("the server does not allow {method} on the requested resource")));
    }
    Ok(verb)
}

async fn answer(mut call: Call, verb: &'static str, body: Body) -> Result<Response, ApiError> {
    let ends = door::ends(&call.state, &call.identity, &call.target, verb);
    let place = |what| call.state.lasting().place(&call.identity, what);
    match (call.target.subresource, verb) {
        (Subresource::Exec, _) => {
            let place = place(Lasts::Stream)?;
            exec::exec(&call.state, &call.target, &call.params, &mut call.parts, (ends, place)).await
        }
        (Subresource::Portforward, _) => {
            let place = place(Lasts::Stream)?;
            portforward::portforward(&call.state, &call.target, &call.params, &mut call.parts, (ends, place)).await
        }
        (Subresource::Terminal, _) => {
            terminal::terminal(&call.state, &call.identity, &call.target, &call.params, &mut call.parts, ends).await
        }
        (Subresource::Log, _) => {
            let place = place(Lasts::Stream)?;
            logs::log(&call.state, &call.target, &call.params, (ends, place)).await
        }
        (_, "get") => get(&call).await,
        (_, "list") => list::list(call.state.store(), &call.target, &call.params, &call.view, call.sight()).await,
        (_, "watch") => {
            let place = place(Lasts::Watch)?;
            let sight = call.sight();
            watch::watch(&call.state, &call.target, &call.params, call.view, (sight, place)).await
        }
        (_, "create") => post(&call, call.read(body).await?).await,
        (_, "update") => put(&call, call.read(body).await?).await,
        (_, "patch") => patch(&call, call.read(body).await?).await,
        (_, "deletecollection") => delete_collection(&call, call.read(body).await?).await,
        _ => delete(&call, call.read(body).await?).await,
    }
}

async fn get(call: &Call) -> Result<Response, ApiError> {
    let stored = call.state.store().get(&call.key()).await?;
    let stored = stored.ok_or_else(|| ApiError::not_found(call.target.served.def, call.name()))?;
    Ok(json_response(StatusCode::OK, call.view.one(&stored.body, true)?, &[]))
}

async fn post(call: &Call, body: Bytes) -> Result<Response, ApiError> {
    let request = call.write_request()?;
    let dry_run = call.params.dry_run()?;
    let mut record = call.record(&body)?;
    let secrets = if request.served.is_secret() { SecretData::take(&mut record) } else { SecretData::default() };
    let draft = Draft::new(&request, record, secrets, false)?;
    let (store, wants) = (call.state.store(), draft.wants(&request));
    let noted = call.noted();
    let written = transact(store, dry_run, wants, move |tx| {
        Box::pin(async move {
            let written = create(tx, &request, draft).await?;
            audited::keep(noted.as_ref(), tx, None, &written, &request.asked.def.kind)?;
            Ok(written)
        })
    });
    let written = written.await?;
    call.is_noted();
    call.written(&written, dry_run)
}

async fn put(call: &Call, body: Bytes) -> Result<Response, ApiError> {
    let change = Change::Replace(call.record(&body)?);
    call.modify(change).await
}

async fn patch(call: &Call, body: Bytes) -> Result<Response, ApiError> {
    let media = call.parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let change = match PatchKind::from_content_type(media)? {
        PatchKind::Json => Change::JsonPatch(decode_json(&body)?),
        PatchKind::Merge => Change::Merge(object(decode_json(&body)?)?),
        PatchKind::Apply => {
            if call.params.get("fieldManager").is_none() {
                return Err(ApiError::bad_request(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            let config = object(decode_yaml(&body)?)?;
            let config = if call.target.served.is_new_event() { events::to_core(config) } else { config };
            Change::Apply { config, force: call.params.flag("force")? }
        }
    };
    call.modify(change).await
}

/// A record, a merge patch and an applied configuration are objects.
fn object(body: Value) -> Result<Value, ApiError> {
    if body.is_object() { Ok(body) } else { Err(ApiError::bad_request("the body must be an object")) }
}

impl Call {
    async fn read(&self, body: Body) -> Result<Bytes, ApiError> {
        door::read(&self.state, &self.identity, body).await
    }

    fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or("")
    }

    /// The row that this request has in the audit log.
    fn noted(&self) -> Option<Noted> {
        self.parts.extensions.get().cloned()
    }

    /// What its row tells has been committed, and the row with it.
    fn is_noted(&self) {
        self.noted().inspect(|noted| noted.set_written(true));
    }

    /// A dry run has no row.
    fn leave_out_if(&self, dry_run: bool) {
        self.noted().filter(|_| dry_run).inspect(Noted::leave_out);
    }

    fn sight(&self) -> Option<Sight> {
        door::sight(&self.state, &self.identity, self.target.served)
    }

    fn key(&self) -> Key {
        self.target.served.key(self.target.namespace.as_deref().unwrap_or(""), self.name())
    }

    /// A write begins with the record as it is.
    fn wants(&self) -> Wants {
        Wants { keys: vec![self.key()], claims: Vec::new() }
    }

    fn write_request(&self) -> Result<WriteRequest, ApiError> {
        // Both spellings of an event are stored, and so checked, in the core one.
        let stored_as = super::served::by_id(self.target.served.id).unwrap_or(self.target.served);
        Ok(WriteRequest {
            verb: self.verb,
            served: stored_as,
            asked: self.target.served,
            namespace: self.target.namespace.clone().unwrap_or_default(),
            name: self.name().to_owned(),
            caller: Caller { who: self.identity.clone(), directory: self.state.directory().clone() },
            manager: field_manager(&self.params, &self.parts.headers, &self.identity)?,
            subresource: self.target.subresource.name(),
            validation: self.params.validation()?,
            now: self.state.clock().now(),
            clock: self.state.clock().clone(),
        })
    }

    fn record(&self, body: &[u8]) -> Result<Value, ApiError> {
        let record = object(decode(content_type(&self.parts.headers), body)?)?;
        if !self.target.served.is_new_event() {
            return Ok(record);
        }
        match record["apiVersion"].as_str() {
            Some("events.k8s.io/v1") => Ok(events::to_core(record)),
            other => Err(ApiError::bad_request(format!("the apiVersion in the body ({other:?}) must be \"events.k8s.io/v1\""))),
        }
    }

    async fn modify(&self, change: Change) -> Result<Response, ApiError> {
        let (request, dry_run, noted) = (self.write_request()?, self.params.dry_run()?, self.noted());
        let written = transact(self.state.store(), dry_run, self.wants(), move |tx| {
            Box::pin(async move {
                let before = tx.get(&request.served.key(&request.namespace, &request.name)).await?;
                let written = modify(tx, &request, change).await?;
                audited::keep(noted.as_ref(), tx, before.as_ref(), &written, &request.asked.def.kind)?;
                Ok(written)
            })
        });
        let written = written.await?;
        self.is_noted();
        self.written(&written, dry_run)
    }

    fn written(&self, written: &Written, dry_run: bool) -> Result<Response, ApiError> {
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        if dry_run && written.created {
            // What was not stored has no version.
            let mut record = record::parse(&written.record.body).map_err(fail::damaged)?;
            record::meta_mut(&mut record).remove("resourceVersion");
            let body = self.view.one(&record.to_string().into(), true)?;
            return Ok(json_response(code, body, &written.warnings));
        }
        Ok(json_response(code, self.view.one(&written.record.body, true)?, &written.warnings))
    }
}

/// Namespaces come and go with their projects.
fn deletable(target: &Target, name: &str) -> Result<(), ApiError> {
    if target.served.id != "namespaces" {
        return Ok(());
    }
    let why = format!("namespaces follow projects: delete the Project {name:?} instead");
    Err(ApiError::forbidden(target.served.def, name, why))
}

async fn delete(call: &Call, body: Bytes) -> Result<Response, ApiError> {
    let options = DeleteOptions::parse(&call.params, content_type(&call.parts.headers), &body)?;
    call.leave_out_if(options.dry_run);
    let (request, key) = (call.write_request()?, call.key());
    if call.state.store().get(&key).await?.is_some() {
        deletable(&call.target, call.name())?;
    }
    let (dry_run, noted) = (options.dry_run, call.noted());
    let written = transact(call.state.store(), dry_run, call.wants(), move |tx| {
        Box::pin(async move {
            let before = tx.get(&key).await?;
            let written = delete_in(tx, &request, &key, &options).await?;
            audited::keep(noted.as_ref(), tx, before.as_ref(), &written, &request.asked.def.kind)?;
            Ok(written)
        })
    })
    .await?;
    call.is_noted();
    if !written.gone {
        return Ok(json_response(StatusCode::OK, call.view.one(&written.record.body, true)?, &[]));
    }
    let def = call.target.served.def;
    let details = json!({"name": call.name(), "group": def.group, "kind": def.plural, "uid": written.record.uid});
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(json_response(StatusCode::OK, status.to_string(), &[]))
}

async fn delete_in(tx: &mut Tx, request: &WriteRequest, key: &Key, options: &DeleteOptions) -> Result<Written, ApiError> {
    let def = request.served.def;
    request.still_may().await?;
    let stored = tx.get(key).await?.ok_or_else(|| ApiError::not_found(def, &key.name))?;
    admission::may_go(request, &stored)?;
    check_preconditions(request, options, &stored)?;
    Sweep::new(tx, &request.time()).delete(&stored, options.propagation).run().await?;
    let left = tx.get(key).await?;
    let gone = left.is_none();
    Ok(Written { record: left.unwrap_or(stored), created: false, gone, warnings: Vec::new() })
}

/// What a caller has said that it is to be: of a collection, each.
fn check_preconditions(request: &WriteRequest, options: &DeleteOptions, stored: &Stored) -> Result<(), ApiError> {
    let def = request.served.def;
    let failed = |what: &str, asked: &str, held: &str| {
        ApiError::conflict(
            def,
            &stored.key.name,
            format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {held}"),
        )
    };
    if let Some(uid) = options.uid.as_deref().filter(|u| *u != stored.uid) {
        return Err(failed("UID", uid, &stored.uid));
    }
    let held = stored.revision.to_string();
    if let Some(version) = options.resource_version.as_deref().filter(|v| *v != held) {
        return Err(failed("ResourceVersion", version, &held));
    }
    Ok(())
}

async fn delete_collection(call: &Call, body: Bytes) -> Result<Response, ApiError> {
    let options = std::sync::Arc::new(DeleteOptions::parse(&call.params, content_type(&call.parts.headers), &body)?);
    call.leave_out_if(options.dry_run);
    deletable(&call.target, "")?;
    let selection = Selection::parse(&call.target, &call.params)?.seen(call.sight());
    let found = list::find_all(call.state.store(), &call.target, &selection).await?;
    for batch in found.items.chunks(DELETE_BATCH) {
        let (batch, options, request): (Vec<Stored>, _, _) = (batch.to_vec(), options.clone(), call.write_request()?);
        delete_batch(call, batch, options, request).await?;
    }
    let meta = json!({"resourceVersion": call.state.store().revision().to_string()});
    Ok(json_response(StatusCode::OK, call.view.list(&found.items, &meta)?, &[]))
}

async fn delete_batch(
    call: &Call,
    batch: Vec<Stored>,
    options: std::sync::Arc<DeleteOptions>,
    request: WriteRequest,
) -> Result<(), ApiError> {
    let Some(last) = batch.last().cloned() else { return Ok(()) };
    let wants = Wants { keys: batch.iter().map(|s| s.key.clone()).collect(), claims: Vec::new() };
    let noted = call.noted();
    // Each transaction has the rows of its own records: should a later one fail, the request gets another row for that.
    noted.as_ref().inspect(|noted| noted.set_written(false));
    transact(call.state.store(), options.dry_run, wants, move |tx| {
        Box::pin(async move {
            request.still_may().await?;
            let mut sweep = Sweep::new(tx, &request.time());
            for stored in &batch {
                check_preconditions(&request, &options, stored)?;
                sweep = sweep.delete(stored, options.propagation);
            }
            sweep.run().await?;
            if let Some(noted) = &noted {
                for stored in &batch {
                    let left = tx.get(&stored.key).await?;
                    noted.change(tx, Some(stored), left.as_ref(), &request.asked.def.kind)?;
                }
            }
            Ok(Written { record: last, created: false, gone: true, warnings: Vec::new() })
        })
    })
    .await?;
    call.is_noted();
    Ok(())
}
