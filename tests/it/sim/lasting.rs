//! Watches that last for an hour. A day has one for each kind each five minutes, and nothing is told in most of them.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::StreamExt;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// How long kube asks for.
const ASKED: &str = "timeoutSeconds=290";
const LASTING: &str = "timeoutSeconds=3600";
/// kube gives up a watch in which it hears nothing for 295 seconds.
const SILENT: Duration = Duration::from_secs(280);

/// Asks for a long watch without bookmarks; gives the version it begins at. Other requests stay as they are.
pub fn ask(request: &mut Request) -> Option<String> {
    let uri = request.uri().to_string();
    let from = uri.split_once("watch=true").and_then(|(_, rest)| version(rest, "resourceVersion=", '&'))?;
    *request.uri_mut() = uri.replace(ASKED, LASTING).replace("allowWatchBookmarks=true", "").parse().unwrap();
    Some(from)
}

/// What follows `name` in a text, up to `end`.
fn version(text: &str, name: &str, end: char) -> Option<String> {
    let rest = &text[text.rfind(name)? + name.len()..];
    Some(rest.split(end).next().unwrap_or_default().to_owned())
}

/// The watch's answer, with a bookmark whenever nothing was told for long.
pub fn kept(answer: Response, from: String) -> Response {
    answer.map(|body| {
        let told = (body.into_data_stream(), from);
        Body::from_stream(futures::stream::unfold(told, |(mut body, mut at)| async move {
            let bytes = match timeout(SILENT, body.next()).await {
                Ok(bytes) => bytes?.ok()?,
                Err(_) => bookmark(&at).into(),
            };
            at = version(&String::from_utf8_lossy(&bytes), "\"resourceVersion\":\"", '"').unwrap_or(at);
            Some((Ok::<_, Infallible>(bytes), (body, at)))
        }))
    })
}

fn bookmark(version: &str) -> String {
    let object = json!({"apiVersion": "devsanctum.io/v1", "kind": "Any", "metadata": {"resourceVersion": version}});
    format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
}
