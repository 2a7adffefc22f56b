//! The `log` subresource: a workspace's log as text.

use super::ApiState;
use super::lasting::told;
use super::request::{Params, Target};
use super::status::ApiError;
use super::streams::{LogRequest, StreamTarget};
use crate::resource::names::dns_label;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, header};

/// Which container of which workspace an address is about.
///
/// # Errors
/// 404 when the address names no workspace.
pub fn stream_target(target: &Target, params: &Params) -> Result<StreamTarget, ApiError> {
    match (&target.namespace, &target.name) {
        (Some(namespace), Some(name)) => Ok(StreamTarget {
            namespace: namespace.clone(),
            name: name.clone(),
            container: params.get("container").filter(|c| *c != "main").map(Into::into),
        }),
        _ => Err(ApiError::unknown_path()),
    }
}

/// The workspace must exist before its containers are asked.
///
/// # Errors
/// 404 when it does not.
pub async fn must_exist(state: &ApiState, target: &Target) -> Result<(), ApiError> {
    let name = target.name.as_deref().unwrap_or("");
    let key = target.served.key(target.namespace.as_deref().unwrap_or(""), name);
    match state.store().get(&key).await? {
        Some(_) => Ok(()),
        None => Err(ApiError::not_found(target.served.def, name)),
    }
}

/// Answers a log request; with `follow` the answer lasts until the caller or this program goes.
///
/// # Errors
/// 400 for bad parameters, 404 for no such workspace, and what the container's side says.
pub async fn log(
    state: &ApiState,
    target: &Target,
    params: &Params,
    (ends, place): (BoxFuture<'static, ()>, impl Send + Sync + 'static),
) -> Result<Response, ApiError> {
    must_exist(state, target).await?;
    let service = params.get("service").map(ToString::to_string);
    if let Some(name) = &service {
        dns_label(name).map_err(|allowed| ApiError::bad_request(format!("service: {name:?} {allowed}")))?;
        if params.get("sinceSeconds").is_some() || params.flag("timestamps")? {
            let words =
                "service: a service's own log has no times; ask for the workspace's, or leave sinceSeconds and timestamps out";
            return Err(ApiError::bad_request(words));
        }
    }
    let build = params.flag("build")?;
    if build
        && (service.is_some()
            || params.get("container").is_some()
            || params.get("sinceSeconds").is_some()
            || params.flag("timestamps")?)
    {
        let words = "build: the log of a build has no services, containers or times; ask for follow and tailLines alone";
        return Err(ApiError::bad_request(words));
    }
    let request = LogRequest {
        build,
        service,
        follow: params.flag("follow")?,
        tail_lines: params.number("tailLines")?,
        since_seconds: params.number("sinceSeconds")?,
        timestamps: params.flag("timestamps")?,
    };
    let lines = state.streams().log(stream_target(target, params)?, request).await?;
    // A reader may stand still for as long as they like, as in a pager: the connection has bounds of its own.
    let body = told(lines, ends.map(|()| None), None, place);
    let text = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
    Ok((text, body).into_response())
}
