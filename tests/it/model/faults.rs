//! APIs that err, each in one way: the model must find out about every one of them.

use super::{Failure, LENGTH, On, aside};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Method, Request, Uri};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tower::ServiceExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One line in nine of a watch is lost.
    LosesEvents,
    /// A watch that goes on tells the last change again.
    RepeatsAfterReconnect,
    /// A watch that goes on leaves the next change out.
    SkipsAfterReconnect,
    /// Two changes that come together are told the wrong way round.
    SwapsEvents,
    /// An update is taken whatever version it is of.
    TakesStaleUpdates,
    /// What is only asked is done.
    ForgetsDryRun,
    /// A status write counts as a change of intent.
    StatusMovesGeneration,
    /// A status write changes the spec as well.
    StatusWritesSpec,
    /// A record made anew has the uid of the one before.
    ReusesUids,
    /// A deletion heeds no uid and no version.
    IgnoresPreconditions,
    /// A deletion does not wait for finalizers.
    IgnoresFinalizers,
    /// Dependents always stay.
    AlwaysOrphans,
    /// A list takes no notice of labels.
    IgnoresSelectors,
    /// The second page of a list lacks its first record.
    LosesAtPages,
    /// Every apply is forced.
    ForcesApplies,
    /// A list is as it was when it was asked for last.
    ListsThePast,
    /// A write that changes nothing is told as a change.
    WritesNothing,
}

const ALL: [Fault; 17] = [
    Fault::LosesEvents,
    Fault::RepeatsAfterReconnect,
    Fault::SkipsAfterReconnect,
    Fault::SwapsEvents,
    Fault::TakesStaleUpdates,
    Fault::ForgetsDryRun,
    Fault::StatusMovesGeneration,
    Fault::StatusWritesSpec,
    Fault::ReusesUids,
    Fault::IgnoresPreconditions,
    Fault::IgnoresFinalizers,
    Fault::AlwaysOrphans,
    Fault::IgnoresSelectors,
    Fault::LosesAtPages,
    Fault::ForcesApplies,
    Fault::ListsThePast,
    Fault::WritesNothing,
];

/// The API with a fault before it.
pub fn planted(inner: Router, fault: Fault) -> Router {
    let faulty = Arc::new(Faulty { inner, fault, seen: AtomicU64::new(0), lists: Mutex::default(), uids: Arc::default() });
    Router::new().fallback(move |request: Request<Body>| {
        let faulty = faulty.clone();
        async move { faulty.answer(request).await }
    })
}

struct Faulty {
    inner: Router,
    fault: Fault,
    seen: AtomicU64,
    lists: Mutex<BTreeMap<String, Bytes>>,
    uids: Uids,
}

/// Made-up uids, and the true ones last told.
type Uids = Arc<Mutex<BTreeMap<String, String>>>;

/// A request, taken apart.
struct Asked {
    method: Method,
    path: String,
    query: String,
    media: String,
    body: Bytes,
}

impl Asked {
    fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    fn is_list(&self) -> bool {
        let plural = self.path.rsplit('/').next().unwrap_or("");
        self.method == Method::GET && !self.is_watch() && ["users", "groups", "workspaces"].contains(&plural)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Faulty {
    async fn send(&self, asked: &Asked) -> Response {
        let uri: Uri = format!("{}?{}", asked.path, asked.query).parse().unwrap();
        let request = Request::builder().method(asked.method.clone()).uri(uri).header("content-type", &asked.media);
        self.inner.clone().oneshot(request.body(Body::from(asked.body.clone())).unwrap()).await.unwrap()
    }

    async fn side(&self, method: Method, path: &str, media: &str, body: Value) -> Value {
        let body = if method == Method::GET { Bytes::new() } else { body.to_string().into() };
        let asked = Asked { method, path: path.into(), query: "fieldManager=fault".into(), media: media.into(), body };
        let response = self.send(&asked).await;
        serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap_or_default()
    }

    async fn answer(&self, request: Request<Body>) -> Response {
        let (parts, body) = request.into_parts();
        let header = parts.headers.get("content-type").map(|v| v.to_str().unwrap().to_owned());
        let mut asked = Asked {
            method: parts.method,
            path: parts.uri.path().into(),
            query: parts.uri.query().unwrap_or("").into(),
            media: header.unwrap_or_default(),
            body: to_bytes(body, usize::MAX).await.unwrap(),
        };
        self.before(&mut asked).await;
        let response = self.send(&asked).await;
        self.after(&asked, response).await
    }

    async fn before(&self, asked: &mut Asked) {
        let without = |query: &str, part: &str| -> String {
            query.split('&').filter(|p| !p.starts_with(part)).collect::<Vec<_>>().join("&")
        };
        let is_status = asked.path.ends_with("/status");
        match self.fault {
            Fault::RepeatsAfterReconnect if asked.is_watch() => {
                let from = asked.query.split('&').find_map(|p| p.strip_prefix("resourceVersion=")?.parse::<i64>().ok());
                if let Some(from) = from {
                    let rest = without(&asked.query, "resourceVersion=");
                    asked.query = format!("{rest}&resourceVersion={}", from - 1);
                }
            }
            Fault::TakesStaleUpdates if asked.method == Method::PUT => {
                let current = self.side(Method::GET, asked.path.trim_end_matches("/status"), "", Value::Null).await;
                let mut body = asked.json();
                if body["metadata"]["resourceVersion"].is_string() && current["kind"] != "Status" {
                    body["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
                    asked.body = body.to_string().into();
                }
            }
            Fault::ForgetsDryRun => asked.query = without(&asked.query, "dryRun="),
            Fault::StatusWritesSpec if is_status => {
                let path = asked.path.trim_end_matches("/status");
                self.side(Method::PATCH, path, "application/merge-patch+json", json!({"spec": {"description": "x"}})).await;
            }
            Fault::ReusesUids => {
                let text = String::from_utf8_lossy(&asked.body).into_owned();
                let truth = self.uids.lock().unwrap();
                asked.body = truth.iter().fold(text, |text, (made_up, real)| text.replace(made_up, real)).into();
            }
            Fault::IgnoresPreconditions if asked.method == Method::DELETE => {
                let mut body = asked.json();
                body.as_object_mut().map(|b| b.remove("preconditions"));
                asked.body = body.to_string().into();
            }
            Fault::IgnoresFinalizers if asked.method == Method::DELETE && !asked.query.contains("dryRun=All") => {
                let nothing = json!({"metadata": {"finalizers": null}});
                self.side(Method::PATCH, &asked.path, "application/merge-patch+json", nothing).await;
            }
            Fault::AlwaysOrphans if asked.method == Method::DELETE => {
                let mut body = asked.json();
                body["propagationPolicy"] = json!("Orphan");
                asked.body = body.to_string().into();
            }
            Fault::IgnoresSelectors if asked.is_list() => asked.query = without(&asked.query, "labelSelector="),
            Fault::ForcesApplies => asked.query = asked.query.replace("force=false", "force=true"),
            Fault::WritesNothing if asked.method == Method::PATCH && !is_status && !asked.query.contains("dryRun=All") => {
                let count = json!({"metadata": {"annotations": {"n": self.next().to_string()}}});
                self.side(Method::PATCH, &asked.path, "application/merge-patch+json", count).await;
            }
            _ => {}
        }
    }

    fn next(&self) -> u64 {
        self.seen.fetch_add(1, Ordering::Relaxed)
    }

    async fn after(&self, asked: &Asked, response: Response) -> Response {
        let code = response.status();
        if asked.is_watch() && code == 200 {
            return self.watch(asked, response);
        }
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let mut body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match self.fault {
            Fault::StatusMovesGeneration if asked.path.ends_with("/status") => {
                if let Some(generation) = body["metadata"]["generation"].as_i64() {
                    body["metadata"]["generation"] = json!(generation + 1);
                }
            }
            Fault::ReusesUids => reuse_uids(&self.uids, &mut body),
            Fault::LosesAtPages if asked.is_list() && asked.query.contains("&continue=ey") => {
                body["items"].as_array_mut().filter(|items| !items.is_empty()).map(|items| items.remove(0));
            }
            Fault::ListsThePast if asked.is_list() => {
                let key = format!("{}?{}", asked.path, asked.query);
                let last = self.lists.lock().unwrap().insert(key, bytes.clone());
                body = serde_json::from_slice(&last.unwrap_or(bytes)).unwrap_or_default();
            }
            _ => {}
        }
        Response::builder().status(code).header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
    }

    fn watch(&self, asked: &Asked, response: Response) -> Response {
        let lines = response.into_body().into_data_stream().map(|line| line.unwrap());
        // The API hands out a line at a time.
        let told: std::pin::Pin<Box<dyn Stream<Item = Bytes> + Send>> = match self.fault {
            Fault::LosesEvents => {
                Box::pin(lines.enumerate().filter(|(i, _)| std::future::ready(i % 9 != 8)).map(|(_, line)| line))
            }
            Fault::SkipsAfterReconnect if asked.query.contains("allowWatchBookmarks") && self.next() > 0 => {
                Box::pin(lines.skip(1))
            }
            Fault::SwapsEvents => Box::pin(lines.ready_chunks(2).flat_map(|mut pair| {
                pair.reverse();
                futures::stream::iter(pair)
            })),
            Fault::ReusesUids => {
                let uids = self.uids.clone();
                Box::pin(lines.map(move |line| {
                    let mut event: Value = serde_json::from_slice(&line).unwrap();
                    reuse_uids(&uids, &mut event["object"]);
                    format!("{event}\n").into()
                }))
            }
            _ => Box::pin(lines),
        };
        Response::new(Body::from_stream(told.map(Ok::<_, std::convert::Infallible>)))
    }
}

/// The uid becomes one made of the name.
fn reuse_uids(uids: &Uids, body: &mut Value) {
    let mut truth = uids.lock().unwrap();
    let mut one = |record: &mut Value| {
        let meta = &mut record["metadata"];
        if let Some(real) = meta["uid"].as_str().map(str::to_owned) {
            let name = format!("{}-{}", meta["namespace"].as_str().unwrap_or(""), meta["name"].as_str().unwrap_or(""));
            let made_up = format!("{:0>36}", format!("{}-{name}", record["kind"].as_str().unwrap_or("")));
            record["metadata"]["uid"] = json!(made_up);
            truth.insert(made_up, real);
        }
        for owner in record.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some((made_up, _)) = truth.iter().find(|(_, real)| owner["uid"] == **real) {
                owner["uid"] = json!(made_up);
            }
        }
    };
    if body["metadata"]["uid"].is_string() {
        one(body);
    }
    body.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(one);
}

/// Sequences within which each fault must show.
const ENOUGH: u64 = 40;

async fn found(fault: Fault) -> Option<(u64, Failure)> {
    for seed in 1..=ENOUGH {
        if let (seed, Err(failure)) = aside(On::Faulty(fault), seed).await {
            return Some((seed, failure));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_finds_every_planted_fault() {
    let mut missed = Vec::new();
    let mut all = futures::stream::iter(ALL).map(|fault| async move { (fault, found(fault).await) }).buffered(4);
    while let Some((fault, outcome)) = all.next().await {
        match outcome {
            Some((seed, failure)) => {
                let why: String = failure.why.chars().take(160).collect();
                println!("{fault:?}: after {} steps ({why})", (seed - 1) * LENGTH as u64 + failure.at as u64 + 1);
            }
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "the model has not found {missed:?}");
}
