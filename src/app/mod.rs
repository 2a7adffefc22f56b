//! The composition root: the one place that knows all parts and puts them together.

mod config;
mod leader;
mod state_dir;
mod streams;
mod telemetry;
mod up;

pub use config::Config;
pub use state_dir::StateDir;
pub use telemetry::start_logging;
pub use up::{down, up};

use crate::access::Identity;
use crate::api::{ApiConfig, ApiState, Health, bootstrap, client, guarded, router, tls};
use crate::controllers::{self, LoopReport, Outcome, Parts, Reports, SecretReader, SystemClock};
use crate::engine::pool::EnginePool;
use crate::proxy::feed::Connection;
use crate::proxy::{ManagedSettings, ManagedTraefik, RenderSettings, TraefikProxy};
use crate::store::{Store, StoreConfig};
use crate::web::gate;
use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::routing::get;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use streams::EngineStreams;
use telemetry::{Metrics, Told};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Changes kept for watches to resume from.
const KEEP_CHANGES: u32 = 10_000;
/// Name of Traefik's entry point for workspaces.
const ENTRY_POINT: &str = "web";

/// What a running control plane is told and asked.
struct App {
    store: Store,
    reports: Arc<Reports>,
    metrics: Arc<Metrics>,
    ready: watch::Receiver<bool>,
    started: Instant,
    leads: bool,
}

impl Health for App {
    fn ready(&self) -> Result<(), String> {
        if !self.leads || *self.ready.borrow() {
            return Ok(());
        }
        Err("not every record has been looked at yet".into())
    }
}

struct StoredSecrets(Store);

#[async_trait]
impl SecretReader for StoredSecrets {
    async fn read(&self, uid: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.0.secret_value(uid, key).await.map_err(|e| e.to_string())
    }
}

/// Runs a control plane until `stop`.
///
/// # Errors
/// In words for people: what could not be done and what to do about it.
pub async fn serve(config: Config, state: StateDir, stop: CancellationToken) -> Result<(), String> {
    let _lock = state.lock().map_err(|e| e.to_string())?;
    let store = open_store(&config, &state).await?;
    bootstrap(&store).await.map_err(|e| format!("the store cannot be prepared: {e}"))?;
    let token = state.token("admin.token").map_err(|e| in_state(&state, "admin.token", &e))?;
    store.set_token("admin", Sha256::digest(token.as_bytes()).into()).await.map_err(|e| e.to_string())?;
    let tls_files = tls::load_or_create(&state.file("tls"), &config.tls_name, k8s_openapi::jiff::Timestamp::now());
    let tls_files = tls_files.map_err(|e| in_state(&state, "tls", &e))?;
    let listener = listen(config.listen, "--listen")?;
    let feed_listener = listen(config.feed, "--feed")?;
    let proxy = Proxying::start(&config, &state, feed_listener, stop.clone()).await?;

    let metrics = Arc::new(Metrics::default());
    let reports = Arc::new(Reports::observed_by(Box::new(Told(metrics.clone()))));
    let connector = Arc::new(EnginePool::new(store.instance(), Arc::new(Told(metrics.clone()))));
    let secrets: Arc<dyn SecretReader> = Arc::new(StoredSecrets(store.clone()));
    let (ready, is_ready) = watch::channel(false);
    let replicated = config.database.as_ref().is_some_and(|u| u.starts_with("postgres"));
    let app = Arc::new(App {
        store: store.clone(),
        reports: reports.clone(),
        metrics: metrics.clone(),
        ready: is_ready,
        started: Instant::now(),
        leads: !replicated,
    });
    // The streams need a client of the very API they are part of.
    let later = Arc::new(LateStreams::default());
    let api = ApiState::new(ApiConfig {
        store: store.clone(),
        streams: later.clone(),
        health: app.clone(),
        observer: Arc::new(Told(metrics)),
        shutdown: stop.clone(),
    });
    let api_router = router(api.clone()).merge(guarded(&api, more_routes(app)));
    let client = client(api_router.clone(), Identity::system("devsanctum"));
    let streams = EngineStreams { client: client.clone(), connector: connector.clone(), secrets: secrets.clone() };
    let _ = later.0.set(streams);
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    write_kubeconfig(&state, address, &tls_files.ca_pem, &token).map_err(|e| in_state(&state, "kubeconfig", &e))?;
    tracing::info!(%address, web = %config.web, state = %state.path().display(), "serving");

    let serving = tls::serve(listener, api_router, &tls_files, stop.clone().cancelled_owned());
    let run = |stop: CancellationToken| {
        controllers::run(Parts {
            client: client.clone(),
            instance: store.instance().to_owned(),
            connector: connector.clone(),
            proxy: proxy.proxy.clone(),
            secrets: secrets.clone(),
            clock: Arc::new(SystemClock),
            reports: reports.clone(),
            public_port: config.external_traefik.is_none().then_some(config.web.port()),
            ready: ready.clone(),
            stop,
        })
    };
    let loops = async {
        if !replicated {
            return run(stop.clone()).await;
        }
        let holder = uuid::Uuid::new_v4().to_string();
        leader::lead(store.clone(), holder, config.lease, stop.clone(), run).await
    };
    let result = tokio::select! {
        done = serving => done.map_err(|e| format!("the API stopped: {e}")),
        done = loops => done,
    };
    stop.cancel();
    proxy.stop().await;
    result
}

/// The proxy and what feeds it.
struct Proxying {
    proxy: Arc<TraefikProxy>,
    managed: Option<ManagedTraefik>,
}

impl Proxying {
    async fn start(config: &Config, state: &StateDir, feed: TcpListener, stop: CancellationToken) -> Result<Self, String> {
        let token = state.token("feed.token").map_err(|e| in_state(state, "feed.token", &e))?;
        let address = feed.local_addr().map_err(|e| e.to_string())?;
        let api = free_port(config.traefik_api)?;
        let api_url = config.external_traefik.clone().unwrap_or_else(|| format!("http://{api}"));
        let settings = RenderSettings {
            entry_points: vec![ENTRY_POINT.into()],
            gate_url: format!("http://{address}"),
            tls: None,
            default_certificate: None,
        };
        let proxy = Arc::new(TraefikProxy::new(&api_url, token.clone(), settings).map_err(|e| e.to_string())?);
        let routes = proxy.feed().router().merge(gate::router());
        feed.set_nonblocking(true).map_err(|e| e.to_string())?;
        let feed = tokio::net::TcpListener::from_std(feed).map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            let service = routes.into_make_service_with_connect_info::<Connection>();
            tokio::select! {
                ended = axum::serve(feed, service).into_future() => tracing::error!(?ended, "the proxy's feed stopped"),
                () = stop.cancelled() => {}
            }
        });
        let mut managed = None;
        if config.external_traefik.is_none() {
            let settings = ManagedSettings {
                binary: config.traefik.clone(),
                state_dir: state.path().to_owned(),
                entry_points: BTreeMap::from([(ENTRY_POINT.to_owned(), config.web)]),
                api,
                feed_url: format!("http://{address}/traefik/config"),
                token,
                metrics: false,
                extra: BTreeMap::new(),
                env: BTreeMap::new(),
            };
            managed = Some(ManagedTraefik::start(settings, proxy.feed()).await.map_err(|e| e.to_string())?);
        }
        Ok(Self { proxy, managed })
    }

    async fn stop(self) {
        if let Some(managed) = self.managed {
            managed.stop().await;
        }
    }
}

#[derive(Default)]
struct LateStreams(OnceLock<EngineStreams>);

#[async_trait]
impl crate::api::streams::WorkspaceStreams for LateStreams {
    async fn exec(
        &self,
        target: crate::api::streams::StreamTarget,
        request: crate::api::streams::ExecRequest,
    ) -> Result<crate::api::streams::ExecSession, crate::api::streams::StreamError> {
        self.ready()?.exec(target, request).await
    }
    async fn log(
        &self,
        target: crate::api::streams::StreamTarget,
        request: crate::api::streams::LogRequest,
    ) -> Result<
        futures::stream::BoxStream<'static, Result<bytes::Bytes, crate::api::streams::StreamError>>,
        crate::api::streams::StreamError,
    > {
        self.ready()?.log(target, request).await
    }
}

impl LateStreams {
    fn ready(&self) -> Result<&EngineStreams, crate::api::streams::StreamError> {
        self.0.get().ok_or_else(|| crate::api::streams::StreamError::Unavailable("the control plane is still starting".into()))
    }
}

fn in_state(state: &StateDir, name: &str, e: &std::io::Error) -> String {
    format!("{}: {e}; the state folder must be writable by this user", state.file(name).display())
}

async fn open_store(config: &Config, state: &StateDir) -> Result<Store, String> {
    let url = config.database.clone().unwrap_or_else(|| format!("sqlite://{}", state.file("db/devsanctum.db").display()));
    let secret_key = state.secret_key().map_err(|e| in_state(state, "secret.key", &e))?;
    Store::open(&StoreConfig { url, secret_key, keep_changes: KEEP_CHANGES }).await.map_err(|e| e.to_string())
}

fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|e| format!("cannot listen on {address}: {e}; choose another address with {flag}"))
}

/// Port 0 means a free one: it is taken and given back, since Traefik must bind it itself.
fn free_port(address: SocketAddr) -> Result<SocketAddr, String> {
    if address.port() != 0 {
        return Ok(address);
    }
    listen(address, "--traefik-api")?.local_addr().map_err(|e| e.to_string())
}

fn more_routes(app: Arc<App>) -> Router {
    Router::new().route("/devsanctum/status", get(status)).route("/metrics", get(metrics)).with_state(app)
}

async fn metrics(State(app): State<Arc<App>>) -> String {
    app.metrics.text()
}

async fn status(State(app): State<Arc<App>>) -> axum::Json<Value> {
    let one = |(kind, l): (&'static str, LoopReport)| {
        let failures: u64 = [Outcome::Failed, Outcome::Stalled].iter().filter_map(|o| l.passes.get(o)).sum();
        json!({
            "kind": kind,
            "passes": l.passes.values().sum::<u64>(),
            "failures": failures,
            "outcomes": l.passes,
            "lastPass": l.last_pass,
            "lastDurationMs": l.last_millis,
            "totalMs": l.total_millis,
            "recent": l.recent,
        })
    };
    let loops: Vec<Value> = app.reports.snapshot().into_iter().map(one).collect();
    axum::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": app.started.elapsed().as_secs(),
        "ready": app.ready().is_ok(),
        "instance": app.store.instance(),
        "revision": app.store.revision(),
        "database": if app.leads { "sqlite" } else { "postgres" },
        "loops": loops,
    }))
}

fn write_kubeconfig(state: &StateDir, address: SocketAddr, ca: &str, token: &str) -> std::io::Result<()> {
    use base64::Engine as _;
    let host = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { address.ip().to_string() };
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "devsanctum", "preferences": {},
        "clusters": [{"name": "devsanctum", "cluster": {"server": format!("https://{host}:{}", address.port()), "certificate-authority-data": ca}}],
        "users": [{"name": "devsanctum-admin", "user": {"token": token}}],
        "contexts": [{"name": "devsanctum", "context": {"cluster": "devsanctum", "user": "devsanctum-admin"}}],
    });
    state.write("kubeconfig", &serde_json::to_vec_pretty(&config)?)
}

/// How long a stop may take before the process is ended as it is.
pub const STOP_PATIENCE: Duration = Duration::from_secs(30);
