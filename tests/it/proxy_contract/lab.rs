//! A Traefik to test, what it polls, and a hand at its host.

use crate::support::ports::free_address;
use crate::support::signal;
use crate::support::traefik::{Upstream, find_traefik, request, started};
use crate::support::watchdog::Watchdog;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use devsanctum::proxy::api::HttpApi;
use devsanctum::proxy::fake_traefik::{FakeSettings, Way};
use devsanctum::proxy::feed::Connection;
use devsanctum::proxy::{FakeTraefik, ManagedSettings, ManagedTraefik, RenderSettings, TraefikApi, TraefikProxy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

const TOKEN: &str = "lab";
const PATH: &str = "/traefik/config";
/// After errors Traefik waits ever longer before it polls again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a poll and what comes of it take.
pub const A_WHILE: Duration = Duration::from_millis(300);

/// What the provider answers.
#[derive(Clone)]
pub enum Answer {
    /// A configuration.
    Config(Value),
    /// These bytes, with status 200.
    Text(&'static str),
    /// This status.
    Status(u16),
    /// Nothing, until there is another answer.
    Held,
    /// What the feed of [`Lab::proxy`] says.
    Feed,
}

#[derive(Clone)]
struct Provider {
    answer: Arc<Mutex<Answer>>,
    feed: Router,
}

async fn answer(State(provider): State<Provider>, request: Request) -> Response {
    let now = || provider.answer.lock().unwrap().clone();
    while matches!(now(), Answer::Held) {
        sleep(Duration::from_millis(5)).await;
    }
    match now() {
        Answer::Config(config) => config.to_string().into_response(),
        Answer::Text(text) => text.into_response(),
        Answer::Status(status) => axum::http::StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Feed | Answer::Held => provider.feed.oneshot(request).await.into_response(),
    }
}

/// A Traefik with one entry point, `web`, and two servers to lead to.
pub struct Lab {
    pub proxy: TraefikProxy,
    api: Arc<dyn TraefikApi>,
    provider: Provider,
    servers: BTreeMap<&'static str, SocketAddr>,
    traefik: Which,
}

enum Which {
    Fake(FakeTraefik),
    Real(Box<Real>),
}

struct Real {
    settings: ManagedSettings,
    web: SocketAddr,
    traefik: Option<ManagedTraefik>,
    serving: Option<JoinHandle<()>>,
    listen: SocketAddr,
    _upstreams: [Upstream; 2],
    _dir: Watchdog,
}

fn settings() -> RenderSettings {
    RenderSettings { entry_points: vec!["web".into()], gate_url: "http://127.0.0.1:1".into(), ..RenderSettings::default() }
}

impl Provider {
    fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }
}

impl Lab {
    pub fn fake() -> Self {
        // The proxy needs the API and the API the proxy's feed: the provider is told of the feed once there is one.
        let feed = Arc::new(Mutex::new(Router::new()));
        let late = Arc::clone(&feed);
        let asked = Router::new().fallback(move |request: Request| {
            let feed = late.lock().unwrap().clone();
            async move { feed.oneshot(request).await }
        });
        let provider = Provider { answer: Arc::new(Mutex::new(Answer::Held)), feed: asked };
        let fake = FakeTraefik::start(FakeSettings {
            provider: provider.router(),
            path: PATH.into(),
            token: TOKEN.into(),
            poll_interval: Duration::from_millis(1),
            entry_points: vec!["web".into()],
        });
        let api: Arc<dyn TraefikApi> = Arc::new(fake.clone());
        let proxy = TraefikProxy::over(Arc::clone(&api), TOKEN.into(), settings()).unwrap();
        *feed.lock().unwrap() = proxy.feed().router();
        let servers = BTreeMap::from([("one", ([192, 0, 2, 1], 80).into()), ("two", ([192, 0, 2, 2], 80).into())]);
        Self { proxy, api, provider, servers, traefik: Which::Fake(fake) }
    }

    pub async fn real() -> Self {
        crate::support::crypto();
        let dir = Watchdog::new("ds-proxy-lab-");
        let (web, api, listen) = (free_address(), free_address(), free_address());
        let url = format!("http://{api}");
        let proxy = TraefikProxy::new(&url, TOKEN.into(), settings()).unwrap();
        let provider = Provider { answer: Arc::new(Mutex::new(Answer::Held)), feed: proxy.feed().router() };
        let settings = ManagedSettings {
            binary: Some(find_traefik()),
            state_dir: dir.path().into(),
            entry_points: BTreeMap::from([("web".into(), web)]),
            api,
            feed_url: format!("http://{listen}{PATH}"),
            token: TOKEN.into(),
            env: BTreeMap::new(),
            extra: BTreeMap::new(),
            redirect: None,
            trusted: Vec::new(),
        };
        let upstreams = [Upstream::start("one").await, Upstream::start("two").await];
        let servers = BTreeMap::from([("one", upstreams[0].address), ("two", upstreams[1].address)]);
        let real = Real { settings, web, traefik: None, serving: None, listen, _upstreams: upstreams, _dir: dir };
        let api: Arc<dyn TraefikApi> = Arc::new(HttpApi::new(&url).unwrap());
        let mut lab = Self { proxy, api, provider, servers, traefik: Which::Real(Box::new(real)) };
        lab.revive().await;
        lab.restart().await;
        lab
    }

    /// Middlewares do something.
    pub fn is_real(&self) -> bool {
        matches!(self.traefik, Which::Real(_))
    }

    pub fn say(&self, answer: Answer) {
        *self.provider.answer.lock().unwrap() = answer;
    }

    /// The address of a server.
    pub fn server(&self, name: &str) -> SocketAddr {
        self.servers[name]
    }

    /// A configuration: name of the router, rule, server.
    pub fn config(&self, routers: &[(&str, &str, &str)]) -> Value {
        let router =
            |(_, rule, _): &(&str, &str, &str), name: &str| json!({"entryPoints": ["web"], "rule": rule, "service": name});
        let service = |server: &str| json!({"loadBalancer": {"servers": [{"url": format!("http://{}", self.server(server))}]}});
        let all: serde_json::Map<_, _> = routers.iter().map(|r| (r.0.to_owned(), router(r, r.0))).collect();
        let services: serde_json::Map<_, _> = routers.iter().map(|r| (r.0.to_owned(), service(r.2))).collect();
        json!({"http": {"routers": all, "services": services}})
    }

    /// Which server answers for a host; nothing where no router takes it.
    pub async fn get(&self, host: &str) -> Option<String> {
        match &self.traefik {
            Which::Fake(fake) => match fake.visit(host) {
                Way::To { url, .. } => {
                    let to = |address: &SocketAddr| url == format!("http://{address}");
                    self.servers.iter().find(|(_, address)| to(address)).map(|(name, _)| (*name).to_owned())
                }
                Way::Nowhere | Way::Refused => None,
            },
            Which::Real(real) => match request(real.web, host, "/", &[]).await {
                (200, body) => Some(body),
                _ => None,
            },
        }
    }

    /// Waits until a host is answered so.
    #[track_caller]
    pub fn until(&self, host: &str, wanted: Option<&str>) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let begun = Instant::now();
        async move {
            loop {
                let now = self.get(host).await;
                if now.as_deref() == wanted {
                    return;
                }
                assert!(begun.elapsed() < PATIENCE, "{caller}: {host} is answered by {now:?}, not {wanted:?}");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Says a configuration, and waits until its first host is served.
    pub async fn serve(&self, routers: &[(&str, &str, &str)]) {
        self.say(Answer::Config(self.config(routers)));
        let host = routers[0].1.trim_start_matches("Host(`").trim_end_matches("`)").to_owned();
        self.until(&host, Some(routers[0].2)).await;
    }

    pub async fn api(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.api.get(path).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// What it says of a thing that came from the provider: `routers`, `r1`.
    pub async fn held(&self, kind: &str, name: &str) -> Value {
        self.api("/api/rawdata").await.1[kind][format!("{name}@http")].clone()
    }

    /// The provider dies.
    pub async fn kill_provider(&mut self) {
        match &mut self.traefik {
            Which::Fake(fake) => fake.set_cut(true),
            Which::Real(real) => {
                let serving = real.serving.take().unwrap();
                serving.abort();
                let _ = serving.await;
            }
        }
    }

    /// It comes back.
    pub async fn revive(&mut self) {
        match &mut self.traefik {
            Which::Fake(fake) => fake.set_cut(false),
            Which::Real(real) => {
                let listener = TcpListener::bind(real.listen).await.unwrap();
                let service = self.provider.router().into_make_service_with_connect_info::<Connection>();
                real.serving = Some(tokio::spawn(async move { axum::serve(listener, service).await.unwrap() }));
            }
        }
    }

    /// Traefik is ended and started again; it answers.
    pub async fn restart(&mut self) {
        match &mut self.traefik {
            Which::Fake(fake) => fake.restart(),
            Which::Real(real) => {
                if let Some(before) = real.traefik.take() {
                    before.stop().await;
                }
                real.traefik = Some(started(real.settings.clone(), self.proxy.feed()).await.unwrap());
            }
        }
    }

    /// Traefik is stopped by a signal, or goes on.
    pub fn set_silent(&self, silent: bool) {
        match &self.traefik {
            Which::Fake(fake) => fake.set_silent(silent),
            Which::Real(real) => {
                let pid = real.traefik.as_ref().unwrap().status().borrow().pid;
                signal(if silent { "-STOP" } else { "-CONT" }, pid);
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Which::Real(real) = &mut self.traefik {
            real.serving.take().inspect(JoinHandle::abort);
        }
    }
}
