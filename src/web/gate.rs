//! The gate: the proxy asks it before each request to a private workspace.
//!
//! It fails closed: nobody can sign in yet, so nobody is entitled, and every request is refused.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

const REFUSAL: &str = "This workspace is private, and this installation has no sign-in yet.\n\
    Its owner can make it public (spec.visibility: PUBLIC) or use `devsanctum exec`.\n";

/// The gate's routes.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/gate/{workspace}", any(refuse))
}

async fn refuse() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::FORBIDDEN, headers, REFUSAL).into_response()
}
