//! The endpoint that Traefik's HTTP provider polls: `GET /traefik/config`.
//!
//! Traefik polls every millisecond; we hold each request until there is something new (long poll), so a change is
//! there at once and rest costs nothing. Held is only what repeats on one connection: a new connection may be a Traefik
//! that has just started empty, and is answered at once.
//!
//! # Guarantees
//! - Nothing is served before the first [`Feed::publish`] (503): an empty configuration would wipe every route.
//! - Traefik rebuilds all routes for each answer, so answers to one connection keep a distance that grows with the
//!   table ([`Pace`]), and an unchanged table causes none.

use super::dynamic::CertificateFiles;
use super::render::{Certificate, RenderSettings, Rendered, render_below};
use super::types::{RouteEntry, RouteTable};
use crate::resource::common::Visibility;
use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Longest time a request is held. Traefik's `pollTimeout` must be longer.
const HOLD: Duration = Duration::from_secs(20);
/// Time a request is held before 401 or 503: Traefik would otherwise come back every millisecond.
const REFUSAL_DELAY: Duration = Duration::from_millis(500);

/// How changes are gathered before Traefik is told.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Wait after the first change of a burst.
    pub gather: Duration,
    /// Least distance between two answers, for each route: a rebuild costs about 0.3 ms of CPU a route.
    pub per_route: Duration,
    /// Most that distance grows to.
    pub most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { gather: Duration::from_millis(20), per_route: Duration::from_millis(1), most: Duration::from_millis(500) }
    }
}

/// A rendered configuration and the bytes Traefik gets.
#[derive(Debug)]
pub struct Published {
    /// What was rendered.
    pub rendered: Rendered,
    body: Bytes,
}

/// What Traefik is to hold, and the endpoint that tells it.
pub struct Feed {
    settings: RenderSettings,
    token: String,
    pace: Pace,
    state: Mutex<Desired>,
    changed: watch::Sender<u64>,
    polls: watch::Sender<u64>,
}

#[derive(Default)]
struct Desired {
    table: Option<Arc<RouteTable>>,
    /// The domain that workspaces are below.
    below: Option<String>,
    /// A certificate that came after the settings.
    certificate: Option<CertificateFiles>,
    stale: bool,
    published: Option<Arc<Published>>,
}

/// What one connection has been told, and when.
#[derive(Clone, Default)]
pub struct Connection(Arc<Mutex<Option<(String, Instant)>>>);

impl Connected<IncomingStream<'_, TcpListener>> for Connection {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self::default()
    }
}

impl Feed {
    /// A feed that serves only requests with `Authorization: Bearer <token>`.
    pub fn new(settings: RenderSettings, token: String, pace: Pace) -> Arc<Self> {
        let (changed, polls) = (watch::Sender::new(0), watch::Sender::new(0));
        Arc::new(Self { settings, token, pace, state: Mutex::default(), changed, polls })
    }

    /// Sets the whole table. An equal table changes nothing.
    pub fn publish(&self, table: &RouteTable) {
        let mut state = lock(&self.state);
        if state.table.as_deref() == Some(table) {
            return;
        }
        state.table = Some(Arc::new(table.clone()));
        state.stale = true;
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The table as it was published last.
    pub fn table(&self) -> Arc<RouteTable> {
        lock(&self.state).table.clone().unwrap_or_default()
    }

    /// The route of a host that is private and can be carried by us, as it was published last.
    pub fn private(&self, host: &str) -> Option<RouteEntry> {
        let table = lock(&self.state).table.clone()?;
        let mut of_host = table.0.values().filter(|entry| entry.host == host);
        let (only, another) = (of_host.next()?, of_host.next());
        (another.is_none() && only.is_carried()).then(|| only.clone())
    }

    /// Whether a public route leads to an address, as it was published last.
    pub fn is_public(&self, upstream: SocketAddr) -> bool {
        let table = lock(&self.state).table.clone();
        let is_it = |entry: &RouteEntry| entry.spot() == (None, upstream) && entry.visibility == Visibility::Public;
        table.is_some_and(|table| table.0.values().any(is_it))
    }

    /// Sets the domain below which hosts without a route lead to the control plane. The same one changes nothing.
    pub fn serve_below(&self, domain: &str) {
        let mut state = lock(&self.state);
        if state.below.as_deref() == Some(domain) {
            return;
        }
        state.below = Some(domain.to_owned());
        drop(state);
        self.settings_changed();
    }

    /// Shows browsers this certificate from now on, in place of the one of the settings.
    pub fn present(&self, certificate: CertificateFiles) {
        lock(&self.state).certificate = Some(certificate);
        self.settings_changed();
    }

    fn settings_changed(&self) {
        let mut state = lock(&self.state);
        // Before the first table there is nothing that could be stale, and nobody to be told.
        if state.table.is_some() {
            state.stale = true;
            drop(state);
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// The configuration as it should be now; `None` before the first [`Feed::publish`].
    pub fn current(&self) -> Option<Arc<Published>> {
        let mut state = lock(&self.state);
        if state.stale {
            let newer = state.certificate.clone().map(Certificate::Files);
            let settings = newer.map(|files| RenderSettings { tls: Some(files), ..self.settings.clone() });
            let settings = settings.as_ref().unwrap_or(&self.settings);
            let rendered = render_below(state.table.as_deref()?, settings, state.below.as_deref());
            let same = state.published.as_ref().is_some_and(|p| p.rendered == rendered);
            if !same {
                let body = serde_json::to_vec(&rendered.configuration).unwrap_or_default().into();
                state.published = Some(Arc::new(Published { rendered, body }));
            }
            state.stale = false;
        }
        state.published.clone()
    }

    /// Done once there is a table.
    pub async fn published(&self) {
        // The sender is held here, so this cannot fail.
        let _ = self.changed.subscribe().wait_for(|n| *n > 0).await;
    }

    /// Counts the requests of proxies: it moves when one asks.
    pub fn polls(&self) -> watch::Receiver<u64> {
        self.polls.subscribe()
    }

    /// The endpoint. It needs `into_make_service_with_connect_info::<Connection>()`; [`Feed::serve`] does that.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/traefik/config", get(serve_config)).with_state(Arc::clone(self))
    }

    /// Serves the endpoint alone on a listener, on loopback, until `stop` is done.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let service = self.router().into_make_service_with_connect_info::<Connection>();
        // Not axum's graceful shutdown: it would wait for the held requests.
        tokio::select! {
            done = axum::serve(listener, service).into_future() => done,
            () = stop => Ok(()),
        }
    }

    fn allows(&self, request: &Request) -> bool {
        let given = request.headers().get(header::AUTHORIZATION).map(|v| v.as_bytes()).unwrap_or_default();
        let token = given.strip_prefix(b"Bearer ").unwrap_or_default();
        !self.token.is_empty() && bool::from(token.ct_eq(self.token.as_bytes()))
    }

    /// What to answer a connection: at once what is new to it, else after a change or [`HOLD`].
    async fn next(&self, seen: Option<(String, Instant)>) -> Option<Arc<Published>> {
        let Some((digest, told_at)) = seen else {
            return self.first().await;
        };
        let mut changed = self.changed.subscribe();
        let deadline = Instant::now() + HOLD;
        loop {
            changed.borrow_and_update();
            if self.differs(&digest) {
                sleep(self.pace.gather).await;
                sleep_until(told_at + self.distance()).await;
                let current = self.current();
                if current.as_ref().is_some_and(|p| p.rendered.digest != digest) {
                    return current;
                }
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return self.current();
            }
        }
    }

    async fn first(&self) -> Option<Arc<Published>> {
        let mut changed = self.changed.subscribe();
        if let Some(published) = self.current() {
            return Some(published);
        }
        let _ = tokio::time::timeout(REFUSAL_DELAY, changed.changed()).await;
        self.current()
    }

    /// Whether a connection that holds `digest` may be outdated; cheap, without rendering.
    fn differs(&self, digest: &str) -> bool {
        let state = lock(&self.state);
        state.stale || state.published.as_ref().is_some_and(|p| p.rendered.digest != digest)
    }

    fn distance(&self) -> Duration {
        let routes = lock(&self.state).table.as_ref().map_or(0, |t| t.0.len());
        self.pace.most.min(self.pace.per_route.saturating_mul(u32::try_from(routes).unwrap_or(u32::MAX)))
    }
}

/// A panic elsewhere does not make the values behind the lock worse: each is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve_config(
    State(feed): State<Arc<Feed>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    if !feed.allows(&request) {
        sleep(REFUSAL_DELAY).await;
        return (StatusCode::UNAUTHORIZED, "wrong or missing bearer token\n").into_response();
    }
    feed.polls.send_modify(|n| *n += 1);
    let seen = lock(&connection.0).clone();
    let Some(published) = feed.next(seen).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "not loaded yet\n").into_response();
    };
    *lock(&connection.0) = Some((published.rendered.digest.clone(), Instant::now()));
    ([(header::CONTENT_TYPE, "application/json")], published.body.clone()).into_response()
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
