//! `/devsanctum/mail`: whether mail arrives.

use super::ApiState;
use super::audited::Noted;
use super::door::{self, refusal};
use super::keys::note;
use super::request::decode_json;
use super::status::ApiError;
use super::view::json_response;
use crate::access::{Action, Decision, Identity};
use crate::mail::{MailError, Mailer, Message};
use crate::resource::{GROUP, names};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToWhom {
    to: String,
}

/// Sends a mail that says who has asked for it, and answers what the mail server said.
pub async fn test(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    body: Body,
) -> Result<Response, ApiError> {
    note(noted.as_deref(), "Mail", |_| {});
    let asked = decode_json(&door::read(&state, &who, body).await?)?;
    let asked: ToWhom = serde_json::from_value(asked).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    note(noted.as_deref(), "Mail", |entry| entry.name = asked.to.chars().take(253).collect());
    let action = Action { verb: "create", group: GROUP, resource: "mails", subresource: "", namespace: None, name: None };
    match state.directory().judge(&who, &action, false).await? {
        (Decision::Allow(_), _) => {}
        (_, why) => return Err(ApiError::forbidden_request(refusal(&who, &action, &why))),
    }
    if !names::is_email(&asked.to) {
        return Err(ApiError::bad_request(format!("to: {:?} must be an e-mail address such as 'ada@example.com'", asked.to)));
    }
    // It has no links in it.
    let mailer = Mailer::new(state.store().clone(), String::new());
    match mailer.send(&asked.to, &Message::test(&who.name)).await {
        Ok(()) => Ok(json_response(StatusCode::CREATED, json!({"to": asked.to}).to_string(), &[])),
        Err(MailError::Store(error)) => Err(error.into()),
        Err(error) => Err(ApiError::unprocessable(error.to_string())),
    }
}
