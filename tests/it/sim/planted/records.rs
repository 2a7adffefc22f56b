//! Mistakes made with the records, as requests to the API that are not as they should be; and with time and chance.

use super::Bug;
use crate::sim::chance::SimClock;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use devsanctum::clock::Clock;
use http::{Method, header};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// What a process was told of the records when it listed them, by path.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<String, (Instant, Value)>>);

/// For so long it believes that.
const BELIEVED: Duration = Duration::from_secs(60);

impl Memory {
    /// The answer to a request for one record or all, with what is remembered in place of what is.
    async fn answer(&self, request: Request, next: Next) -> Response {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
        let known = self.0.lock().unwrap().get(&path).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, record)| record.clone());
        if let Some(record) = known {
            return axum::Json(record).into_response();
        }
        let answer = next.run(request).await;
        if !query.contains("limit=500") {
            return answer;
        }
        let (head, body) = answer.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let list: Value = serde_json::from_slice(&bytes).unwrap();
        let plural = path.rsplit('/').next().unwrap_or_default();
        for record in list["items"].as_array().into_iter().flatten() {
            let text = |key: &str| record["metadata"][key].as_str().unwrap_or_default();
            let one = format!("/apis/devsanctum.io/v1/namespaces/{}/{plural}/{}", text("namespace"), text("name"));
            self.0.lock().unwrap().insert(one, (Instant::now(), record.clone()));
        }
        Response::from_parts(head, bytes.into())
    }
}

/// Passes a request on as the mistake has it.
pub async fn pass(bug: Bug, memory: &Memory, request: Request, next: Next) -> Response {
    if bug == Bug::NeverLooksAgain && *request.method() == Method::GET {
        return memory.answer(request, next).await;
    }
    if *request.method() != Method::PATCH {
        return next.run(request).await;
    }
    let (mut head, body) = request.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let Ok(mut patch) = serde_json::from_slice::<Value>(&bytes) else {
        return next.run(Request::from_parts(head, bytes.into())).await;
    };
    let finalizers = patch["metadata"]["finalizers"].as_array().map(Vec::len);
    match (bug, finalizers) {
        (Bug::KeepsFinalizers, Some(0)) => drop(patch["metadata"].as_object_mut().unwrap().remove("finalizers")),
        (Bug::ForgetsFinalizers, Some(1..)) => patch["metadata"]["finalizers"] = json!([]),
        (Bug::ClaimsBlindly, _) if patch["status"]["claimedBy"].is_object() => {
            drop(patch["metadata"].as_object_mut().unwrap().remove("resourceVersion"));
        }
        (Bug::ClobbersStatus, _) if patch["status"].is_object() => patch["status"]["slug"] = Value::Null,
        _ => {}
    }
    head.headers.remove(header::CONTENT_LENGTH);
    next.run(Request::from_parts(head, Body::from(patch.to_string()))).await
}

/// Time and chance, wrong.
pub struct WrongClock {
    pub inner: Arc<SimClock>,
    pub bug: Bug,
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn draw(&self) -> Result<[u8; 16], getrandom::Error> {
        if self.bug == Bug::DrawsTheSame { Ok([7; 16]) } else { self.inner.draw() }
    }

    fn jitter(&self) -> f64 {
        // So that a wait of `0.75 + 0.5 * jitter` is none.
        if self.bug == Bug::Hot { -1.499 } else { self.inner.jitter() }
    }
}
