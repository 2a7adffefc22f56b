//! A Traefik in memory: polled configuration, API and routing as of Traefik 3.7, without a socket, so that it works on a
//! paused clock. For tests and simulations of what stands above; one contract suite runs on it and on a real Traefik.
//!
//! # Guarantees
//! - It polls as Traefik's HTTP provider does: one request at a time, an answer that is no 200 or cannot be read keeps
//!   what there is and puts off the next poll, ever longer; the same bytes again change nothing; `{}` wipes all.
//! - What is wrong with a router is told of that router, and harms no other.
//! - A restart loses everything until the next good poll.
//!
//! # Caveats
//! Rules are ``Host(`…`)`` alone. No middleware does anything to a request; which ones stand before an upstream is told.

mod decode;
mod held;

use super::api::{API_TIMEOUT, TraefikApi};
use super::async_trait;
use super::feed::Connection;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use held::Held;
pub use held::Way;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

/// The version it says it is.
const VERSION: &str = "3.7.15";
/// First wait after a poll that failed, and by how much it grows. (Traefik's own has a jitter of one half.)
const FIRST_RETRY: Duration = Duration::from_millis(500);
const GROWTH: f64 = 1.5;
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// One that polled well for this long begins with the first wait again.
const WELL: Duration = Duration::from_secs(30);
/// A poll may take this long.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// No configuration is longer.
const MOST: usize = 64 << 20;

/// How it is set up.
#[derive(Clone)]
pub struct FakeSettings {
    /// What it polls.
    pub provider: Router,
    /// The path it asks for.
    pub path: String,
    /// Its bearer token.
    pub token: String,
    /// Time between polls.
    pub poll_interval: Duration,
    /// Names of its entry points.
    pub entry_points: Vec<String>,
}

/// A Traefik in memory. Clones are the same one.
#[derive(Clone)]
pub struct FakeTraefik(Arc<Shared>);

struct Shared {
    settings: FakeSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Held,
    /// The process; none while it is dead.
    process: Option<JoinHandle<()>>,
    /// Stopped by a signal.
    silent: bool,
    /// The provider cannot be reached.
    cut: bool,
    polls: u64,
    /// By service; a process counts from nought.
    requests: BTreeMap<String, u64>,
    connections: BTreeMap<SocketAddr, BTreeMap<String, u64>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.process.take().inspect(JoinHandle::abort);
    }
}

impl FakeTraefik {
    /// Starts one. Needs a tokio runtime.
    pub fn start(settings: FakeSettings) -> Self {
        let traefik = Self(Arc::new(Shared { settings, state: Mutex::default() }));
        traefik.restart();
        traefik
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process ends: nobody listens any more.
    pub fn kill(&self) {
        let mut state = self.state();
        state.process.take().inspect(JoinHandle::abort);
        (state.held, state.requests, state.connections) = Default::default();
    }

    /// Starts it anew: it holds nothing until the first good poll.
    pub fn restart(&self) {
        self.kill();
        // The task must not keep what it serves alive.
        let weak = Arc::downgrade(&self.0);
        let polling = tokio::spawn(async move {
            let mut provider = Provider::default();
            while let Some(shared) = weak.upgrade() {
                let traefik = Self(shared);
                let (interval, polled) = (traefik.0.settings.poll_interval, traefik.poll(&mut provider).await);
                drop(traefik);
                sleep(provider.pause(polled, interval)).await;
            }
        });
        self.state().process = Some(polling);
    }

    /// Whether it stands still, as when it is stopped by a signal.
    pub fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// Whether what it polls cannot be reached.
    pub fn set_cut(&self, cut: bool) {
        self.state().cut = cut;
    }

    /// How often it has asked for its configuration.
    pub fn polls(&self) -> u64 {
        self.state().polls
    }

    /// Where a request with this `Host` goes.
    pub fn way(&self, host: &str) -> Way {
        let state = self.state();
        if state.process.is_none() { Way::Refused } else { state.held.way(host) }
    }

    /// As [`FakeTraefik::way`]; a request is counted for the service that it leads to.
    pub fn visit(&self, host: &str) -> Way {
        let way = self.way(host);
        let mut state = self.state();
        if let (Way::To { .. }, Some(service)) = (&way, state.held.service(host).map(str::to_owned)) {
            *state.requests.entry(service).or_default() += 1;
        }
        way
    }

    /// Over a connection that stands open to an upstream so many bytes have gone by now.
    pub fn set_connection(&self, upstream: SocketAddr, near: &str, bytes: u64) {
        self.state().connections.entry(upstream).or_default().insert(near.to_owned(), bytes);
    }

    fn metrics(&self) -> String {
        let line = |(service, count): (&String, &u64)| {
            let labels = format!("code=\"200\",method=\"GET\",protocol=\"http\",service=\"{service}@http\"");
            format!("traefik_service_requests_total{{{labels}}} {count}\n")
        };
        self.state().requests.iter().map(line).collect()
    }

    /// Asks for the configuration once.
    async fn poll(&self, provider: &mut Provider) -> Result<(), ()> {
        let cut = {
            let mut state = self.state();
            state.polls += 1;
            state.cut
        };
        let settings = &self.0.settings;
        let answer = async {
            let request = Request::get(&settings.path)
                .header(header::AUTHORIZATION, format!("Bearer {}", settings.token))
                .extension(ConnectInfo(provider.connection.clone()))
                .body(Body::empty())
                .map_err(drop)?;
            let Ok(answer) = settings.provider.clone().oneshot(request).await;
            if answer.status() != StatusCode::OK {
                return Err(());
            }
            to_bytes(answer.into_body(), MOST).await.map_err(drop)
        };
        let body = match cut {
            true => Err(()),
            false => timeout(POLL_TIMEOUT, answer).await.unwrap_or(Err(())),
        };
        while self.state().silent {
            sleep(Duration::from_millis(10)).await;
        }
        let body = body?;
        if provider.last.as_ref() == Some(&body) {
            return Ok(());
        }
        // Also one that cannot be read: asked again, the same bytes are no failure.
        provider.last = Some(body.clone());
        let http = decode::http(&body).map_err(drop)?;
        self.state().held = Held::new(http, &settings.entry_points);
        Ok(())
    }

    fn answer(&self, path: &str) -> (u16, Value) {
        let state = self.state();
        match path.split('?').next().unwrap_or_default() {
            "/api/version" => (200, json!({"Version": VERSION, "Codename": "fake"})),
            "/api/rawdata" => (200, state.held.raw()),
            "/api/overview" => (200, state.held.overview()),
            "/api/http/routers" => (200, state.held.list("routers")),
            "/api/http/services" => (200, state.held.list("services")),
            "/api/http/middlewares" => (200, state.held.list("middlewares")),
            "/ping" => (200, Value::Null),
            path => match path.strip_prefix("/api/http/").and_then(|rest| rest.split_once('/')) {
                Some((kind, name)) => state.held.one(kind, name).map_or((404, Value::Null), |found| (200, found)),
                None => (404, Value::Null),
            },
        }
    }
}

#[async_trait]
impl TraefikApi for FakeTraefik {
    fn address(&self) -> &str {
        "fake://traefik"
    }

    async fn get(&self, path: &str) -> Result<(u16, Bytes), String> {
        let begun = Instant::now();
        while self.state().silent {
            if begun.elapsed() >= API_TIMEOUT {
                return Err("operation timed out".into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        if self.state().process.is_none() {
            return Err("connection refused".into());
        }
        if path == "/metrics" {
            return Ok((200, self.metrics().into()));
        }
        let (status, body) = self.answer(path);
        Ok((status, Bytes::from(body.to_string())))
    }

    /// Upstreams of a simulation are no addresses of this machine.
    async fn reaches(&self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    async fn end_connections(&self, _: &[SocketAddr]) -> Result<(), String> {
        Ok(())
    }

    async fn open_connections(&self) -> Result<BTreeMap<SocketAddr, BTreeMap<String, u64>>, String> {
        Ok(self.state().connections.clone())
    }
}

/// Where polling stands.
struct Provider {
    connection: Connection,
    /// The last answer, whatever it was worth.
    last: Option<Bytes>,
    retry: Duration,
    well_since: Instant,
}

impl Default for Provider {
    fn default() -> Self {
        Self { connection: Connection::default(), last: None, retry: FIRST_RETRY, well_since: Instant::now() }
    }
}

impl Provider {
    /// How long to wait before the next poll.
    fn pause(&mut self, polled: Result<(), ()>, interval: Duration) -> Duration {
        if polled.is_ok() {
            return interval;
        }
        self.connection = Connection::default();
        if self.well_since.elapsed() >= WELL {
            (self.retry, self.well_since) = (FIRST_RETRY, Instant::now());
        }
        let pause = self.retry;
        self.retry = LONGEST_RETRY.min(pause.mul_f64(GROWTH));
        pause
    }
}
