//! What every answer of ours says to browsers, whichever door it comes through.

use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

/// What is no page is read by programs: it is not shown, framed, guessed at or kept. Pages have a policy of their own.
const CLOSED: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Adds `nosniff`, a policy without frames and `no-store` to an answer that does not say otherwise. To be the outermost layer
/// of all that answers by itself, and of nothing that hands on what a workspace has answered.
pub async fn closed(mut answer: Response) -> Response {
    for (name, value) in CLOSED {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}
