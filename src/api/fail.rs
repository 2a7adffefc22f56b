//! Errors of other parts, as the API words them.

use super::status::ApiError;
use super::streams::StreamError;
use crate::access::Unauthenticated;
use crate::store::StoreError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// Why a request was refused, for the audit log; goes with the answer.
#[derive(Clone)]
pub struct Refusal {
    /// In one word.
    pub reason: &'static str,
    /// In more, without what was sent.
    pub words: String,
}

/// The operating system gives no random bytes.
pub fn no_chance(error: getrandom::Error) -> ApiError {
    ApiError::internal(format!("no random bytes: {error}"))
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Expired(revision) => {
                Self::expired(format!("too old resource version: {revision}; list again and watch from the version it answers"))
            }
            StoreError::Nul => Self::bad_request(error.to_string()),
            StoreError::Claimed { scope, value } => Self::unprocessable(format!("{scope} {value:?} is taken")),
            StoreError::Database(cause) => {
                tracing::error!(%cause, "the database refused");
                Self::internal("the database refused or is unreachable; the server's log has its words")
            }
            StoreError::KeyMissing { wanted, words } => {
                tracing::error!(words, "a secret cannot be read or written");
                let wanted = wanted.join(", ");
                Self::internal(format!("the key {wanted} that secrets want is not here; the server's log says what to do"))
            }
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<Unauthenticated> for ApiError {
    fn from(error: Unauthenticated) -> Self {
        match error {
            Unauthenticated::Store(cause) => cause.into(),
            other => Self::unauthorized(other.to_string()),
        }
    }
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::NotFound(_) => Self::bad_request(error.to_string()),
            StreamError::NotRunning(_) => Self::bad_request(error.to_string()),
            StreamError::Refused(_) => Self::bad_request(error.to_string()),
            StreamError::Unavailable(_) => Self::unavailable(error.to_string()),
        }
    }
}

/// A record in the store is no JSON any more.
pub fn damaged(cause: serde_json::Error) -> ApiError {
    tracing::error!(%cause, "a stored record cannot be read");
    ApiError::internal("a stored record cannot be read; restore the database from a backup")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (status, json, self.to_status().to_string()).into_response();
        response.extensions_mut().insert(Refusal { reason: self.reason(), words: self.noted() });
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
