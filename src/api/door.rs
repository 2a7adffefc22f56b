//! The door of the API: whether a caller may do what they ask for, and how a refusal is worded.

use super::ApiState;
use super::request::{Target, read_body};
use super::served::{Served, by_kind};
use super::status::ApiError;
use crate::access::{Action, Decision, Directory, Identity, IdentityKind, Lack, Sight};
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::time::{Duration, Instant};

/// A body that takes longer has its sender looked at again.
const LONG: Duration = Duration::from_secs(1);

/// What a request wants to do to its target.
pub fn action<'a>(target: &'a Target, verb: &'a str) -> Action<'a> {
    Action {
        verb,
        group: target.served.def.group,
        resource: &target.served.def.plural,
        subresource: target.subresource.name(),
        namespace: target.namespace.as_deref(),
        name: target.name.as_deref(),
    }
}

/// Lets a caller pass, or says why not. Every request about a record passes here before it does anything.
///
/// # Errors
/// 403 with the reason; 404 for what does not exist for the caller; 401 for one who is no longer active.
pub async fn enter(directory: &Directory, who: &Identity, served: &Served, action: &Action<'_>) -> Result<(), ApiError> {
    let (decision, why) = directory.judge(who, action, false).await?;
    match decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(Lack::Inactive) => Err(ApiError::unauthorized(format!("Unauthorized: {why}"))),
        Decision::Deny(_) => Err(ApiError::forbidden(served.def, action.name.unwrap_or_default(), refusal(who, action, &why))),
        Decision::Hidden => Err(missing(served, action)),
    }
}

/// Reads a whole body. Whose API key has ended while it came is as nobody; what they may is asked in the write itself.
///
/// # Errors
/// Those of [`read_body`]; 401 without a key.
pub async fn read(state: &ApiState, who: &Identity, body: Body) -> Result<Bytes, ApiError> {
    let begun = Instant::now();
    let bytes = read_body(body).await?;
    if begun.elapsed() >= LONG && !state.directory().has_key(who).await {
        return Err(ApiError::unauthorized("Unauthorized: the API key has ended meanwhile"));
    }
    Ok(bytes)
}

/// In Kubernetes' words, and then why.
pub fn refusal(who: &Identity, action: &Action<'_>, why: &str) -> String {
    let Action { verb, group, resource, .. } = action;
    let resource = match action.subresource {
        "" => (*resource).to_owned(),
        sub => format!("{resource}/{sub}"),
    };
    let place = match action.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    format!("User {:?} cannot {verb} resource {resource:?} in API group {group:?} {place}: {why}", who.name)
}

/// What is not there for the caller is answered as what is not there at all.
fn missing(served: &Served, action: &Action<'_>) -> ApiError {
    match (action.name, action.namespace, by_kind("Namespace")) {
        (None, Some(namespace), Some(spaces)) => ApiError::not_found(spaces.def, namespace),
        (name, ..) => ApiError::not_found(served.def, name.unwrap_or_default()),
    }
}

/// What the caller sees of a kind; `None` for all of it.
pub fn sight(state: &ApiState, who: &Identity, served: &'static Served) -> Option<Sight> {
    (who.kind == IdentityKind::User).then(|| Sight::new(who, state.directory(), served.def.group, &served.def.plural))
}

/// When something that lasts must end: with this program, or when the caller may no longer do it.
pub fn ends(state: &ApiState, who: &Identity, target: &Target, verb: &'static str) -> BoxFuture<'static, ()> {
    let (stopping, directory) = (state.shutdown().clone(), state.directory().clone());
    let (who, target) = (who.clone(), target.clone());
    Box::pin(async move {
        let action = action(&target, verb);
        tokio::select! {
            () = stopping.cancelled() => {}
            () = directory.lost(&who, &action) => {}
        }
    })
}
