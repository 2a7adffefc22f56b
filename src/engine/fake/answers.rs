//! Answers as Docker gives them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

/// A refusal: status and Docker's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16, pub(super) String);

/// What an operation gives.
pub(super) type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    pub(super) fn no_container(name: &str) -> Self {
        Self(404, format!("No such container: {name}"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refuse(self.0, &self.1)
    }
}

/// An error as Docker words it. 304 has no body.
pub(super) fn refuse(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::NOT_MODIFIED {
        return status.into_response();
    }
    reply(status, &json!({ "message": message }))
}

/// A JSON answer.
pub(super) fn reply(status: StatusCode, value: &Value) -> Response {
    let head = [(header::CONTENT_TYPE, "application/json"), (header::HeaderName::from_static("api-version"), "1.41")];
    (status, head, Body::from(value.to_string())).into_response()
}

/// A JSON answer with status 200.
pub(super) fn ok(value: &Value) -> Response {
    reply(StatusCode::OK, value)
}

/// An answer without content.
pub(super) fn done(outcome: Outcome<()>) -> Response {
    outcome.map_or_else(IntoResponse::into_response, |()| StatusCode::NO_CONTENT.into_response())
}
