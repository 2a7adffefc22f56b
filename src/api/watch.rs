//! Watching: the changes of a kind, one JSON line each.

use super::fail::damaged;
use super::lasting::{UNREAD, told};
use super::list::find_all;
use super::record;
use super::request::{Params, Target};
use super::select::Selection;
use super::status::ApiError;
use super::view::View;
use super::{ApiState, record::meta_mut};
use crate::access::Sight;
use crate::store::{Change, ChangeType, Store, Stored, WatchItem};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{HeaderValue, header};
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tokio_util::sync::CancellationToken;

/// How often a bookmark is sent at least; kube-apiserver's own measure.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How often at most, however much other kinds change.
const BOOKMARK_PAUSE: Duration = Duration::from_secs(1);
/// How long a watch lasts where the caller does not say; half of it and up to all of it, so that many watches
/// made together do not end together.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a version from another replica is waited for.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Answers a watch request.
///
/// # Errors
/// 400 and 422 for bad parameters, 410 when the version asked for is gone.
pub async fn watch(
    state: &ApiState,
    target: &Target,
    params: &Params,
    view: View,
    (sight, place): (Option<Sight>, impl Send + Sync + 'static),
) -> Result<Response, ApiError> {
    let selection = Selection::parse(target, params)?.seen(sight.clone());
    let bookmarks = params.flag("allowWatchBookmarks")?;
    let streaming = streaming_list(params)?;
    let from = params.number("resourceVersion")?.map_or(0, |v| i64::try_from(v).unwrap_or(i64::MAX));
    let timeout =
        params.number("timeoutSeconds")?.filter(|seconds| *seconds > 0).map_or_else(default_timeout, Duration::from_secs);
    caught_up(state.store(), from).await?;
    let mut watching = Watching::new(view, selection, timeout, bookmarks);
    if streaming.unwrap_or(from == 0) {
        let found = find_all(state.store(), target, &watching.selection).await?;
        watching.position = found.revision;
        watching.initial = found.items.into_iter();
        watching.announce_end = streaming == Some(true);
    } else {
        watching.position = if from == 0 { state.store().revision() } else { from };
    }
    let changes = state.store().watch(target.served.id, target.namespace.clone(), watching.position).await?;
    watching.changes = changes;
    let lines = stream::unfold(watching, |mut w| async move { w.next().await.map(|line| (Ok::<_, Infallible>(line), w)) });
    let body = told(lines, ends(state.shutdown().clone(), sight), Some(UNREAD), place);
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((json, body).into_response())
}

/// What ends a watch before its time, and its last words then.
async fn ends(shutdown: CancellationToken, sight: Option<Sight>) -> Option<Bytes> {
    let changed = async {
        match sight {
            Some(mut sight) => sight.changed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        // What they saw and what they see now are two worlds: they begin anew.
        () = changed => Some(said(&ApiError::expired("your access has changed: list again"))),
    }
}

/// `sendInitialEvents`, under the same conditions as in Kubernetes.
fn streaming_list(params: &Params) -> Result<Option<bool>, ApiError> {
    let asked = params.get("sendInitialEvents").is_some();
    let matched = params.get("resourceVersionMatch");
    match (asked, matched) {
        (false, None) => Ok(None),
        (false, Some(_)) => {
            Err(ApiError::unprocessable("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
        }
        (true, Some("NotOlderThan")) => Ok(Some(params.flag("sendInitialEvents")?)),
        (true, _) => Err(ApiError::unprocessable("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")),
    }
}

fn default_timeout() -> Duration {
    let mut byte = [0u8; 1];
    // Without random bytes all watches last equally long, which is harmless.
    let _ = getrandom::fill(&mut byte);
    DEFAULT_TIMEOUT / 2 + DEFAULT_TIMEOUT / 2 * u32::from(byte[0]) / 255
}

/// A version this replica has not seen is waited for. One that never comes is from another database.
async fn caught_up(store: &Store, from: i64) -> Result<(), ApiError> {
    let until = Instant::now() + CATCH_UP;
    while store.revision() < from {
        if Instant::now() >= until {
            return Err(ApiError::expired(format!(
                "version {from} is not known here (newest: {}): list again",
                store.revision()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

struct Watching {
    changes: BoxStream<'static, Result<WatchItem, crate::store::StoreError>>,
    initial: std::vec::IntoIter<Stored>,
    announce_end: bool,
    view: View,
    selection: Selection,
    bookmarks: bool,
    /// Everything up to this version has been told.
    position: i64,
    told: Instant,
    ticks: Interval,
    deadline: Pin<Box<Sleep>>,
    headers: bool,
    ended: bool,
}

impl Watching {
    fn new(view: View, selection: Selection, timeout: Duration, bookmarks: bool) -> Self {
        let mut ticks = tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            changes: stream::pending().boxed(),
            initial: Vec::new().into_iter(),
            announce_end: false,
            view,
            selection,
            bookmarks,
            position: 0,
            told: Instant::now(),
            ticks,
            deadline: Box::pin(tokio::time::sleep(timeout)),
            headers: true,
            ended: false,
        }
    }

    /// The next line; `None` when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(item) = self.initial.next() {
            let shown = self.show(&item.body);
            return Some(self.line("ADDED", shown));
        }
        if std::mem::take(&mut self.announce_end) {
            return Some(self.bookmark(true));
        }
        while !self.ended {
            let item = tokio::select! {
                biased;
                () = &mut self.deadline => return None,
                item = self.changes.next() => item?,
                _ = self.ticks.tick(), if self.bookmarks => return Some(self.bookmark(false)),
            };
            if let Some(line) = self.tell(item) {
                return Some(line);
            }
        }
        None
    }

    fn tell(&mut self, item: Result<WatchItem, crate::store::StoreError>) -> Option<Bytes> {
        match item {
            Ok(WatchItem::Change(change)) => {
                self.position = change.record.revision;
                match self.judge(&change) {
                    Ok(None) => None,
                    Ok(Some((kind, body))) => {
                        let shown = self.show(&body);
                        Some(self.line(kind, shown))
                    }
                    Err(error) => Some(self.error(&error)),
                }
            }
            Ok(WatchItem::Position(revision)) => {
                self.position = self.position.max(revision);
                (self.bookmarks && self.told.elapsed() >= BOOKMARK_PAUSE).then(|| self.bookmark(false))
            }
            Err(error) => Some(self.error(&error.into())),
        }
    }

    /// What a change is to this watcher: one that stops matching is gone, one that starts matching is new.
    fn judge(&self, change: &Change) -> Result<Option<(&'static str, Bytes)>, ApiError> {
        if self.selection.excludes(&change.record.key) {
            return Ok(None);
        }
        if !self.selection.sees(&change.record) {
            return Ok(None);
        }
        let now = self.selection.matches_stored(&change.record)?;
        let body = change.record.body.clone();
        Ok(match (change.kind, &change.previous) {
            (ChangeType::Added, _) => now.then_some(("ADDED", body)),
            (ChangeType::Deleted, _) => now.then_some(("DELETED", body)),
            // Without a state before, nothing has changed that a selector can see.
            (ChangeType::Modified, None) => now.then_some(("MODIFIED", body)),
            (ChangeType::Modified, Some(previous)) => {
                let mut previous = record::parse(previous).map_err(damaged)?;
                match (self.selection.matches(&previous), now) {
                    (true, true) => Some(("MODIFIED", body)),
                    (false, true) => Some(("ADDED", body)),
                    (true, false) => {
                        let revision = change.record.revision.to_string();
                        meta_mut(&mut previous).insert("resourceVersion".into(), revision.into());
                        Some(("DELETED", previous.to_string().into()))
                    }
                    (false, false) => None,
                }
            }
        })
    }

    fn show(&mut self, body: &Bytes) -> Result<Bytes, ApiError> {
        let headers = std::mem::take(&mut self.headers);
        self.view.one(body, headers)
    }

    fn line(&mut self, kind: &str, shown: Result<Bytes, ApiError>) -> Bytes {
        match shown {
            Ok(object) => event(kind, &object),
            Err(error) => self.error(&error),
        }
    }

    fn bookmark(&mut self, initial_events_end: bool) -> Bytes {
        self.told = Instant::now();
        event("BOOKMARK", self.view.bookmark(self.position, initial_events_end).to_string().as_bytes())
    }

    /// An error is the last thing a watch says.
    fn error(&mut self, error: &ApiError) -> Bytes {
        self.ended = true;
        said(error)
    }
}

fn said(error: &ApiError) -> Bytes {
    event("ERROR", error.to_status().to_string().as_bytes())
}

fn event(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 32);
    out.put(&b"{\"type\":\""[..]);
    out.put(kind.as_bytes());
    out.put(&b"\",\"object\":"[..]);
    out.put(object);
    out.put(&b"}\n"[..]);
    out.freeze()
}
