//! The composition root: the one place that knows all parts and puts them together.

mod backup;
mod config;
mod front;
mod gateway;
mod keep;
mod leader;
mod panel;
mod post;
mod proxying;
mod secret_keys;
mod state_dir;
mod status;
mod streams;
mod telemetry;
mod up;

pub use config::Config;
pub use keep::keep;
use state_dir::Owned;
pub use state_dir::StateDir;
pub use telemetry::start_logging;

use crate::access::Identity;
use crate::api::certificate::Pair;
use crate::api::{ApiConfig, ApiState, Bounds, bootstrap, client, guarded, keep_pruning, router, tls};
use crate::cli::{Hook, Hooks};
use crate::clock::SystemClock;
use crate::controllers::{self, Life, Parts, Reports, SecretReader, Touched};
use crate::engine::pool::EnginePool;
use crate::store::{Store, StoreConfig, StoreError, file_url};
use crate::web::ApiAddress;
use async_trait::async_trait;
use futures::future::BoxFuture;
use post::Post;
use proxying::Proxying;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use sha2::{Digest, Sha256};
use status::App;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streams::{EngineStreams, LateStreams, tell_elsewhere};
use telemetry::{Metrics, Told};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Changes kept for watches to resume from.
const KEEP_CHANGES: u32 = 10_000;
/// A store that takes longer to open is worth a word.
const SLOW_STORE: Duration = Duration::from_secs(5);

/// The commands that run or look after the control plane itself. `serve` listens to signals, which is the program's.
pub fn hooks(serve: Hook) -> Hooks {
    Hooks {
        serve,
        up: Box::new(up::up),
        down: Box::new(up::down),
        backup: Box::new(backup::backup),
        restore: Box::new(backup::restore),
    }
}

struct StoredSecrets(Store);

#[async_trait]
impl SecretReader for StoredSecrets {
    async fn read(&self, uid: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.0.secret_value(uid, key).await.map_err(|e| match e {
            // It comes to stand in conditions that others read.
            StoreError::KeyMissing { wanted, words } => {
                tracing::error!(words, "a secret cannot be read");
                format!("the key {} that the secret wants is not here; the server's log says more", wanted.join(", "))
            }
            other => other.to_string(),
        })
    }
}

/// Runs a control plane until `stop`.
///
/// # Errors
/// In words for people: what could not be done and what to do about it.
pub fn serve(config: Config, state: StateDir, stop: CancellationToken) -> BoxFuture<'static, Result<(), String>> {
    keep::follow(config.kept);
    allow_files();
    // Boxed, so that its code is made once, with the library, and not again in each program that calls it.
    Box::pin(serve_until(config, state, stop))
}

/// As many open files as the system lets this process have. Each connection is one or two, and shells give programs 1,024.
fn allow_files() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(%error, "the number of open files cannot be raised");
    }
}

async fn serve_until(config: Config, state: StateDir, stop: CancellationToken) -> Result<(), String> {
    let (clock, (store, _owned)) = (SystemClock::shared(), open_store(&config, &state).await?);
    let (token, tls_files) = (admin_token(&state, &store).await?, certificates(&config, &state)?);
    let (listener, door) = (listen(config.listen, "--listen")?, gateway::open(config.ssh, &state)?);
    let panel = panel::open(&config, &state, &store, clock.clone()).await?;
    let mut proxying = Proxying::start(&config, &state, panel.route.clone(), panel.web.clone(), stop.clone())?;

    let (metrics, until) = (Arc::new(Metrics::default()), leader::Until::new());
    let reports = Arc::new(Reports::observed_by(Box::new(Told(metrics.clone()))));
    let (replicated, fence) = (config.replicated(), until.fence(config.replicated()));
    let connector = Arc::new(EnginePool::new(store.instance(), Arc::new(Told(metrics.clone())), fence.clone()));
    let (secrets, proxy): (Arc<dyn SecretReader>, _) = (Arc::new(StoredSecrets(store.clone())), proxying.proxy.clone());
    let ((ready, is_ready), (leads, is_leading)) = (watch::channel(false), watch::channel(false));
    let app = Arc::new(App {
        store: store.clone(),
        reports: reports.clone(),
        metrics: metrics.clone(),
        ready: is_ready,
        traefik: proxying.status(),
        started: Instant::now(),
        leads: is_leading,
        replicated,
        ssh: door.as_ref().map(|door| door.served.clone()),
        panel: panel.web.panel.origin(),
    });
    // The streams need a client of the very API they are part of.
    let (post, later, builds) = (Post::of(&panel.web), Arc::new(LateStreams::default()), Arc::default());
    let parts = ApiConfig {
        store: store.clone(),
        streams: later.clone(),
        health: app.clone(),
        observer: Arc::new(Told(metrics)),
        clock: clock.clone(),
        shutdown: stop.clone(),
    };
    let api = ApiState::over(parts, panel.web.directory.clone(), panel.web.sign_in.clone());
    let api_router = router(api.clone()).merge(guarded(&api, status::routes(app, api.directory().clone())));
    let client = client(api_router.clone(), Identity::system("devsanctum"));
    let life = Life { touched: Touched::default(), herald: post.herald(&client) };
    later.set(EngineStreams::new(&client, connector.clone(), &secrets, (&builds, &life.touched)));
    let elsewhere = tell_elsewhere(client.clone(), life.touched.clone(), leads.subscribe(), clock.clone());
    door.map(|door| door.serve(api_router.clone(), later, &api, stop.clone())).transpose()?;
    panel.serve(api_router.clone(), &api, reached(&config, &listener, &tls_files)?, stop.clone())?;
    let api_port = Some(announce(&config, &state, &listener, &tls_files.ca_pem, &token)?);
    let run = |stop: CancellationToken| {
        ready.send_replace(false);
        let posting = post.run(client.clone(), reports.clone(), fence.clone(), stop.clone());
        let loops = controllers::run(Parts {
            client: client.clone(),
            instance: store.instance().to_owned(),
            connector: connector.clone(),
            proxy: proxy.clone(),
            secrets: secrets.clone(),
            clock: clock.clone(),
            reports: reports.clone(),
            public: config.public(),
            api_port,
            resync: controllers::RESYNC,
            ready: ready.clone(),
            stop,
            fence: fence.clone(),
            builds: builds.clone(),
            life: life.clone(),
        });
        async move { tokio::try_join!(loops, posting).map(drop) }
    };
    let (ttl, holder, store) = (config.lease, leader::name(), store.clone());
    let candidate = leader::Candidate { holder, ttl, store, stop: stop.clone(), leads, until, proxy: proxy.clone() };
    let loops = leader::alone_or_lead(!replicated, candidate, run);
    let answers = async { stop.run_until_cancelled(proxying.answers()).await.unwrap_or(Ok(())) };
    // Whichever fails ends the others; a stop waits for all, so that the lead is given back.
    let result = tokio::select! {
        done = async { tokio::try_join!(serve_api(listener, api_router, &tls_files, &config, stop.clone()), loops, answers) } => done.map(drop),
        never = keep_pruning(api) => match never {},
        never = elsewhere => match never {},
    };
    stop.cancel();
    proxying.stop().await;
    result
}

async fn serve_api(
    listener: TcpListener,
    api: axum::Router,
    files: &tls::Tls,
    config: &Config,
    stop: CancellationToken,
) -> Result<(), String> {
    let bounds = Bounds { trusted: config.front.trusted_proxies.clone(), ..Bounds::default() };
    tls::serve(listener, api, files, bounds, stop.cancelled_owned()).await.map_err(|e| format!("the API stopped: {e}"))
}

/// Says where all of it is: in the kubeconfig, and in the log.
fn announce(config: &Config, state: &StateDir, listener: &TcpListener, ca: &str, token: &str) -> Result<u16, String> {
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    write_kubeconfig(state, address, ca, token)?;
    tracing::info!(%address, web = %config.web, ssh = %config.ssh, state = %state.path().display(), "serving");
    Ok(address.port())
}

/// The administrator's token, which the store knows by its digest.
async fn admin_token(state: &StateDir, store: &Store) -> Result<String, String> {
    let token = state.token("admin.token").map_err(|e| in_state(state, "admin.token", &e))?;
    store.set_token("admin", Sha256::digest(token.as_bytes()).into()).await.map_err(|e| e.to_string())?;
    Ok(token)
}

/// The API's certificate, and the authority that made it.
fn certificates(config: &Config, state: &StateDir) -> Result<tls::Tls, String> {
    let public = config.tls_cert.clone().zip(config.tls_key.clone()).map(|(cert, key)| tls::Files { cert, key });
    if let Some(tls::Files { cert, key }) = &public {
        Pair::read(cert, key).map_err(|e| format!("--tls-cert: {e}"))?;
    }
    let made = tls::load_or_create(&state.file("tls"), &config.tls_name, public, k8s_openapi::jiff::Timestamp::now());
    made.map_err(|e| in_state(state, "tls", &e))
}

fn in_state(state: &StateDir, name: &str, e: &std::io::Error) -> String {
    let file = state.file(name);
    match e.kind() {
        std::io::ErrorKind::InvalidData => format!("{}: {e}", file.display()),
        _ => format!("{}: {e}; the state folder must be writable by this user", file.display()),
    }
}

/// Where the records are, if nothing else is said: in the state folder.
fn database_url(given: Option<&String>, state: &Path) -> String {
    given.cloned().unwrap_or_else(|| file_url(&state.join("db/devsanctum.db")))
}

/// The store, and that nobody else works on it.
async fn open_store(config: &Config, state: &StateDir) -> Result<(Store, Owned), String> {
    let url = database_url(config.database.as_ref(), state.path());
    // Before anything is made.
    let secret_keys = secret_keys::of_process(state)?;
    let owned = state.own(&url)?;
    // Where nothing more is said, this is what it waits for.
    tracing::info!(state = %state.path().display(), version = env!("CARGO_PKG_VERSION"), "opening the store");
    let begun = Instant::now();
    let store = Store::open(&StoreConfig { url, secret_keys, keep_changes: KEEP_CHANGES }).await.map_err(|e| e.to_string())?;
    bootstrap(&store, &SystemClock).await.map_err(|e| format!("the store cannot be prepared: {e}"))?;
    if begun.elapsed() > SLOW_STORE {
        tracing::warn!(seconds = begun.elapsed().as_secs(), "the store took long to open: is its disk, or the database, busy?");
    }
    Ok((store, owned))
}

fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|e| format!("cannot listen on {address}: {e}; choose another address with {flag}"))
}

/// Where the API is for who is on this machine.
fn local_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("https://{address}")
}

/// Where terminals reach the API that the panel lets in, and a name that its certificate surely has.
fn reached(config: &Config, listener: &TcpListener, tls: &tls::Tls) -> Result<ApiAddress, String> {
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let server = config.api_url.clone().unwrap_or_else(|| local_url(address));
    let uri: http::Uri = server.parse().map_err(|e| format!("--api-url {server}: {e}"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    if tls.is_public(&host) {
        return Ok(ApiAddress { server, certificate_authority: String::new(), tls_server_name: None });
    }
    let tls_server_name = (!tls.is_named(&host)).then(|| "localhost".to_owned());
    Ok(ApiAddress { server, certificate_authority: tls.ca_pem.clone(), tls_server_name })
}

fn write_kubeconfig(state: &StateDir, address: SocketAddr, ca: &str, token: &str) -> Result<(), String> {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "devsanctum", "preferences": {},
        "clusters": [{"name": "devsanctum", "cluster": {"server": local_url(address), "certificate-authority-data": ca}}],
        "users": [{"name": "devsanctum-admin", "user": {"token": token}}],
        "contexts": [{"name": "devsanctum", "context": {"cluster": "devsanctum", "user": "devsanctum-admin"}}],
    });
    let text = serde_json::to_vec_pretty(&config).map_err(|e| e.to_string())?;
    state.write("kubeconfig", &text).map_err(|e| in_state(state, "kubeconfig", &e))
}
