//! `/devsanctum/secrets`: the keys that secrets are sealed with, by their ids. An administrator's to see and to rotate.

use super::ApiState;
use super::audited::Noted;
use super::door::{self, refusal};
use super::keys::note;
use super::request::decode_json;
use super::status::ApiError;
use super::view::json_response;
use crate::access::{Action, Decision, Identity};
use crate::resource::GROUP;
use crate::store::{KeyReport, Rotate, Step, StoreError};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the audit log calls one.
const KEY: &str = "SecretKey";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    keep_old: bool,
    #[serde(default)]
    only_replica: bool,
}

async fn may(state: &ApiState, who: &Identity, verb: &str) -> Result<(), ApiError> {
    let action = Action { verb, group: GROUP, resource: "secretkeys", subresource: "", namespace: None, name: None };
    match state.directory().judge(who, &action, false).await? {
        (Decision::Allow(_), _) => Ok(()),
        (_, why) => Err(ApiError::forbidden_request(refusal(who, &action, &why))),
    }
}

/// Says which keys there are, which are in use, and how far a rotation is.
pub async fn show(State(state): State<ApiState>, Extension(who): Extension<Identity>) -> Result<Response, ApiError> {
    may(&state, &who, "get").await?;
    let report = shown(&state.store().key_report().await?);
    Ok(json_response(StatusCode::OK, report.to_string(), &[]))
}

/// Begins a rotation, which goes on whether or not the caller waits.
pub async fn rotate(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    body: Body,
) -> Result<Response, ApiError> {
    note(noted.as_deref(), KEY, |_| {});
    let body = door::read(&state, &who, body).await?;
    may(&state, &who, "update").await?;
    let wanted = decode_json(&body)?;
    let wanted: Wanted = serde_json::from_value(wanted).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    let how = Rotate { keep_old: wanted.keep_old, only_replica: wanted.only_replica };
    let step = state.store().rotate(how).await.map_err(|error| match error {
        StoreError::Keys(words) => ApiError::unprocessable(words),
        other => other.into(),
    })?;
    let mut told = shown(&state.store().key_report().await?);
    let to = match step {
        Step::Made(id) => Some(("made", id)),
        Step::Found(id) => Some(("goesOnTo", id)),
        _ => None,
    };
    if let Some((how, id)) = to {
        note(noted.as_deref(), KEY, |entry| entry.name.clone_from(&id));
        told[how] = json!(id);
    }
    Ok(json_response(StatusCode::ACCEPTED, told.to_string(), &[]))
}

fn shown(report: &KeyReport) -> Value {
    let keys = report
        .keys
        .iter()
        .map(|key| json!({"id": key.id, "current": key.current, "given": key.given, "dataKeys": key.data_keys}));
    let rotation = &report.rotation;
    json!({
        "source": report.source,
        "keys": keys.collect::<Vec<_>>(),
        "rotation": {
            "running": rotation.running, "total": rotation.total, "wrapped": rotation.wrapped,
            "removed": rotation.removed, "error": rotation.error,
        },
    })
}
