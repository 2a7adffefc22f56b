//! Watches as a client holds them, and what each must have been told.

use super::record::{Kind, Slot, told_labels};
use super::step::Scope;
use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use futures::{FutureExt, StreamExt};
use http::Request;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tower::ServiceExt;

/// A change is told before the write is answered; this is patience with a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines of a watch.
pub struct Lines {
    body: BodyDataStream,
    rest: Vec<u8>,
}

/// A read within the step, or one that must not wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Here,
    ForIt,
}

impl Lines {
    pub async fn open(router: &Router, path: &str) -> Result<Self, String> {
        let request = Request::builder().uri(path).body(Body::empty()).map_err(|e| e.to_string())?;
        let response = router.clone().oneshot(request).await.map_err(|e| e.to_string())?;
        let code = response.status().as_u16();
        if code != 200 {
            let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap_or_default();
            return Err(format!("GET {path} is answered {code}: {}", String::from_utf8_lossy(&bytes)));
        }
        Ok(Self { body: response.into_body().into_data_stream(), rest: Vec::new() })
    }

    /// The next line, if there is one, or when there is one.
    pub async fn next(&mut self, wait: Wait) -> Result<Option<Value>, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|e| format!("a line of a watch is no JSON: {e}"));
            }
            let chunk = match wait {
                Wait::Here => match self.body.next().now_or_never() {
                    None => return Ok(None),
                    Some(chunk) => chunk,
                },
                Wait::ForIt => match tokio::time::timeout(PATIENCE, self.body.next()).await {
                    Err(_) => return Err(format!("a watch has told nothing for {PATIENCE:?}, although there is something")),
                    Ok(chunk) => chunk,
                },
            };
            let bytes = chunk.ok_or("a watch has ended")?.map_err(|e| format!("a watch has broken: {e}"))?;
            self.rest.extend_from_slice(&bytes);
        }
    }
}

pub fn version(object: &Value) -> Result<i64, String> {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|v| v.parse().ok()).ok_or_else(|| format!("no resourceVersion: {object}"))
}

/// A change as a watcher of everything was told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub what: String,
    pub slot: Slot,
    pub version: i64,
    pub object: Value,
    /// The record before.
    pub previous: Option<Value>,
}

/// A watch of a whole kind, never cut. The model checks it against each step's changes, and the others against it.
pub struct Scribe {
    pub kind: Kind,
    lines: Lines,
    pub log: Vec<Told>,
    pub mirror: BTreeMap<Slot, Value>,
    newest: i64,
}

impl Scribe {
    pub async fn open(router: &Router, kind: Kind, from: i64, mirror: BTreeMap<Slot, Value>) -> Result<Self, String> {
        let lines = Lines::open(router, &format!("{}?watch=true&resourceVersion={from}", kind.path(None))).await?;
        Ok(Self { kind, lines, log: Vec::new(), mirror, newest: from })
    }

    /// Takes note of the next change; `false` where there is none yet.
    pub async fn take(&mut self, wait: Wait) -> Result<bool, String> {
        let Some(line) = self.lines.next(wait).await? else { return Ok(false) };
        let (what, object) = (line["type"].as_str().unwrap_or("").to_owned(), line["object"].clone());
        let slot = Slot::of(self.kind, &object).ok_or_else(|| format!("a watch of {:?} tells {line}", self.kind))?;
        let version = version(&object)?;
        if version <= self.newest {
            return Err(format!("a watch tells version {version} after {}: {line}", self.newest));
        }
        let previous = self.mirror.get(&slot).cloned();
        if (what == "ADDED") != previous.is_none() || !["ADDED", "MODIFIED", "DELETED"].contains(&what.as_str()) {
            return Err(format!(
                "a watch tells {what} of a record that was {}",
                if previous.is_some() { "there" } else { "not" }
            ));
        }
        match what.as_str() {
            "DELETED" => drop(self.mirror.remove(&slot)),
            _ => drop(self.mirror.insert(slot, object.clone())),
        }
        self.newest = version;
        self.log.push(Told { what, slot, version, object, previous });
        Ok(true)
    }
}

/// A watch of some records, which may be cut and go on.
pub struct Watcher {
    scope: Scope,
    lines: Option<Lines>,
    /// What it makes of what it was told.
    pub mirror: BTreeMap<Slot, Value>,
    /// Where it goes on after a cut.
    position: i64,
}

fn admits(scope: Scope, slot: Slot, object: &Value) -> bool {
    scope.space.is_none_or(|s| s == slot.space()) && scope.selector.admits(slot.name(), &told_labels(object))
}

/// What a change is to a watch of this scope: a record that stops matching is gone, one that starts matching is new.
fn seen_by(scope: Scope, told: &Told) -> Option<(&str, Value)> {
    let before = told.previous.as_ref().filter(|previous| admits(scope, told.slot, previous));
    let now = admits(scope, told.slot, &told.object);
    match (before, now) {
        _ if told.what == "DELETED" => now.then(|| ("DELETED", told.object.clone())),
        (None, true) => Some(("ADDED", told.object.clone())),
        (Some(_), true) => Some(("MODIFIED", told.object.clone())),
        (Some(before), false) => {
            let mut gone = before.clone();
            gone["metadata"]["resourceVersion"] = told.version.to_string().into();
            Some(("DELETED", gone))
        }
        (None, false) => None,
    }
}

impl Watcher {
    /// Starts from a list, or lets the watch tell it.
    pub async fn open(router: &Router, scope: Scope, stream: bool, now: &Scribe, revision: i64) -> Result<Self, String> {
        let path = scope.kind.path(scope.space);
        let mine = now.mirror.iter().filter(|(slot, object)| admits(scope, **slot, object));
        let mine: BTreeMap<Slot, Value> = mine.map(|(slot, object)| (*slot, object.clone())).collect();
        let mut it = Self { scope, lines: None, mirror: mine.clone(), position: revision };
        if !stream {
            it.reconnect(router).await?;
            return Ok(it);
        }
        let asked = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut lines = Lines::open(router, &format!("{path}?watch=true&{asked}{}", scope.selector.query())).await?;
        it.mirror.clear();
        loop {
            let line = lines.next(Wait::ForIt).await?.ok_or("a watch has ended before its list")?;
            if line["type"] == "BOOKMARK" {
                if line["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] != "true" {
                    continue;
                }
                it.position = version(&line["object"])?;
                break;
            }
            let slot = Slot::of(scope.kind, &line["object"]).filter(|_| line["type"] == "ADDED");
            let slot = slot.ok_or_else(|| format!("not part of a list: {line}"))?;
            if it.mirror.insert(slot, line["object"].clone()).is_some() {
                return Err(format!("told twice in one list: {line}"));
            }
        }
        if it.mirror != mine || it.position != revision {
            return Err(format!(
                "a watch of {scope:?} begins with {:?} at {}, not {mine:?} at {revision}",
                it.mirror, it.position
            ));
        }
        it.lines = Some(lines);
        Ok(it)
    }

    pub fn cut(&mut self) {
        self.lines = None;
    }

    pub async fn reconnect(&mut self, router: &Router) -> Result<(), String> {
        let (path, query) = (self.scope.kind.path(self.scope.space), self.scope.selector.query());
        let path = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={}{query}", self.position);
        self.lines = Some(Lines::open(router, &path).await?);
        Ok(())
    }

    /// Reads what there is, and checks that it is exactly what must be there; `all` of it with [`Wait::ForIt`].
    pub async fn read(&mut self, scribe: &Scribe, wait: Wait) -> Result<usize, String> {
        let (scope, Some(lines)) = (self.scope, &mut self.lines) else { return Ok(0) };
        let start = scribe.log.partition_point(|told| told.version <= self.position);
        let mut due = scribe.log[start..].iter().filter_map(|told| Some((told, seen_by(scope, told)?)));
        let mut next = due.next();
        let mut count = 0;
        loop {
            // With nothing due, one more look finds what should not be there.
            let wait = if next.is_some() { wait } else { Wait::Here };
            let Some(line) = lines.next(wait).await? else { break };
            if line["type"] == "BOOKMARK" {
                let at = version(&line["object"])?;
                if at < self.position || next.as_ref().is_some_and(|(told, _)| told.version <= at) {
                    return Err(format!("a bookmark at {at} passes over {next:?}"));
                }
                self.position = at;
                continue;
            }
            let Some((told, (what, object))) = &next else {
                return Err(format!("a watch of {:?} from {} tells what it must not: {line}", self.scope, self.position));
            };
            if line["type"] != *what || line["object"] != *object {
                return Err(format!("a watch of {:?} must tell {what} {object} next, and tells {line}", self.scope));
            }
            match *what {
                "DELETED" => drop(self.mirror.remove(&told.slot)),
                _ => drop(self.mirror.insert(told.slot, object.clone())),
            }
            (self.position, count) = (told.version, count + 1);
            next = due.next();
        }
        if next.is_some() {
            return Ok(count);
        }
        let here = scribe.mirror.iter().filter(|(slot, object)| admits(self.scope, **slot, object));
        if !here.eq(self.mirror.iter()) {
            return Err(format!("a watch of {:?} has led to {:?}, but there is {:?}", self.scope, self.mirror, scribe.mirror));
        }
        Ok(count)
    }

    pub fn kind(&self) -> Kind {
        self.scope.kind
    }

    pub fn is_open(&self) -> bool {
        self.lines.is_some()
    }
}
