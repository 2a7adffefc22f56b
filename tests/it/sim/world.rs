//! A simulated installation: the real API, store and loops on a paused clock; engines and proxy in memory.

use super::chance::SimClock;
use super::director::{Director, Fate};
use super::hands::{Hands, IMAGE};
use super::lasting;
use super::late;
use super::moments::{self, Records};
use super::plan::Plan;
use super::planted::{self, Bug};
use super::strangers;
use super::workloads::Workload;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use devsanctum::access::Identity;
use devsanctum::api::streams::NoStreams;
use devsanctum::api::{ApiConfig, ApiState, NoObserver, bootstrap, client, router};
use devsanctum::clock::Clock;
use devsanctum::controllers::{self, Parts, Reports, SecretReader};
use devsanctum::engine::fake::{FakeEngine, Fault};
use devsanctum::engine::pool::{EnginePool, NoMetrics};
use devsanctum::engine::{Engine, EngineError};
use devsanctum::proxy::{FakeProxy, LiveRoutes, Proxy, ProxyError, RouteTable, Traffic};
use devsanctum::store::{ListQuery, SecretKey, Store, StoreConfig, Stored};
use futures::future::select_all;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where the databases of all simulations work: in real time, on threads of their own.
static DATABASES: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap());

/// How often all is listed: seldom, so that there are few calls.
const RESYNC: Duration = Duration::from_secs(600);
/// And in a day by chance, of which there are many.
const RESYNC_OF_DAYS: Duration = Duration::from_secs(3600);
const POLL_OF_DAYS: Duration = Duration::from_secs(4 * 3600);
/// How often it is looked at whether what must hold does.
const LOOK: Duration = Duration::from_secs(5);
/// A record goes after what it stood for: nothing of it is there for longer than an answer takes.
const ORPHANED: Duration = Duration::from_secs(60);
/// A process that ended is started again after this long.
const DOWN: Duration = Duration::from_secs(1);

/// What outlives the process: the database, the engines, the proxy.
pub struct World {
    pub clock: Arc<SimClock>,
    pub engines: BTreeMap<String, FakeEngine>,
    pub proxy: Arc<FakeProxy>,
    pub director: Arc<Director>,
    /// What must hold but for a moment may be otherwise for this long.
    patience: Duration,
    /// Times the process was started.
    pub starts: AtomicU64,
    pub plan: Plan,
    /// How many things have happened, in a day by chance.
    pub happened: AtomicUsize,
    /// What people have done that is not to be done again.
    did: Mutex<BTreeSet<&'static str>>,
    store: Store,
    _dir: tempfile::TempDir,
}

fn resync(plan: &Plan) -> Duration {
    if plan.is_day() { RESYNC_OF_DAYS } else { RESYNC }
}

/// A runtime whose clock stands still while there is something to do.
pub fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

impl World {
    /// An empty installation with these servers' engines, each with the image workspaces are made of.
    pub fn new(plan: &Plan, workload: &Workload) -> Self {
        // In memory: what is measured is not the disk.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let url = format!("sqlite://{}", dir.path().join("sim.db").display());
        let config = StoreConfig { url, secret_keys: SecretKey([7; 32]).into(), keep_changes: 1_000_000 };
        let store = Store::open_aside(&config, DATABASES.handle()).unwrap();
        let clock = Arc::new(SimClock::new(plan.seed));
        let director = Director::new(clock.clone(), plan);
        let engines = paused().block_on(async {
            clock.begin();
            bootstrap(&store, clock.as_ref()).await.unwrap();
            clock.end();
            let made = workload.servers.iter().enumerate().map(|(i, name)| {
                let engine = engine(plan.seed, i as u64, clock.clone());
                direct(&engine, name, director.clone());
                ((*name).to_owned(), engine)
            });
            let engines = made.collect::<BTreeMap<_, _>>();
            strangers::settle(&engines, store.instance());
            engines
        });
        let (proxy, starts, did) = (Arc::default(), AtomicU64::new(0), Mutex::default());
        // What is seen late is found at the next list of all.
        let patience = if plan.is_view() { resync(plan) * 2 } else { workload.patience };
        Self {
            clock,
            engines,
            proxy,
            director,
            patience,
            starts,
            plan: plan.clone(),
            happened: AtomicUsize::new(0),
            did,
            store,
            _dir: dir,
        }
    }

    /// How often all is listed.
    pub fn resync(&self) -> Duration {
        resync(&self.plan)
    }

    /// How often a server's resources are measured. In a day by chance seldom: it would be half of all calls.
    pub fn poll(&self) -> Duration {
        if self.plan.is_day() { POLL_OF_DAYS } else { self.resync() }
    }

    /// Whether this was done before; from now on it was.
    pub fn once(&self, what: &'static str) -> bool {
        !self.did.lock().unwrap().insert(what)
    }

    /// Does the workload's steps, and what `after` is, starting the process anew wherever the plan ends it.
    pub fn play<T>(&self, workload: &Workload, after: impl AsyncFn(&Hands<'_>) -> T) -> T {
        let mut next = 0;
        loop {
            let told = paused().block_on(async {
                self.clock.begin();
                if self.starts.fetch_add(1, Ordering::Relaxed) > 0 {
                    tokio::time::sleep(DOWN).await;
                }
                self.director.revive();
                let told = self.process(workload, &mut next, &after).await;
                self.clock.end();
                told
            });
            if let Some(told) = told {
                return told;
            }
        }
    }

    /// One process, from its start to its death (`None`) or the end of the simulation.
    async fn process<T>(&self, workload: &Workload, next: &mut usize, after: &impl AsyncFn(&Hands<'_>) -> T) -> Option<T> {
        let api = ApiState::new(ApiConfig {
            store: self.store.clone(),
            streams: Arc::new(NoStreams),
            health: Arc::new(NoObserver),
            observer: Arc::new(NoObserver),
            clock: self.clock.clone(),
            shutdown: CancellationToken::new(),
        });
        let routes = router(api);
        let mut directed = directed(routes.clone(), self.director.clone());
        if let Some(bug) = self.plan.bug {
            let memory = Arc::new(planted::records::Memory::default());
            directed = directed.layer(middleware::from_fn(move |request, next| {
                let memory = memory.clone();
                async move { planted::records::pass(bug, &memory, request, next).await }
            }));
        }
        let process = tokio::spawn(controllers::run(self.parts(client(directed, Identity::system("devsanctum")))));
        let hands = Hands { client: client(routes, Identity::administrator("admin")), world: self };
        let script = async {
            while let Some(step) = workload.steps.get(*next) {
                step(&hands).await;
                hands.wait(120).await;
                *next += 1;
            }
            after(&hands).await
        };
        tokio::select! {
            biased;
            () = self.director.death() => None,
            ended = process => panic!("the loops ended: {ended:?}"),
            told = script => Some(told),
            () = self.watch() => None,
        }
    }

    /// Looks whether what must hold does: some seconds after something was done, and as long as there is doubt.
    async fn watch(&self) {
        let mut done: Vec<_> = self.engines.values().map(FakeEngine::changes).chain([self.director.acts()]).collect();
        let (mut doubtful, mut records) = (BTreeMap::new(), Records::default());
        loop {
            if doubtful.is_empty() {
                let _ = select_all(done.iter_mut().map(|done| Box::pin(done.changed()))).await;
            }
            tokio::time::sleep(LOOK).await;
            done.iter_mut().for_each(watch::Receiver::mark_unchanged);
            records.read(self).await;
            let own = moments::own(self);
            let never = moments::one_main_each(&own, &records).into_iter().chain(moments::nothing_shared(&records));
            never.for_each(|broken| self.director.broke(broken));
            let routes = moments::routes(self, &own, &records).await.into_iter().map(|w| (w, self.patience));
            let orphans = moments::orphans(&own, &records).into_iter().map(|w| (w, ORPHANED.min(self.patience)));
            let at = tokio::time::Instant::now();
            doubtful = routes.chain(orphans).map(|w| (w.clone(), *doubtful.get(&w).unwrap_or(&at))).collect();
            let long = doubtful.iter().filter(|((_, patience), since)| since.elapsed() >= *patience);
            long.for_each(|((broken, _), _)| self.director.broke(broken.clone()));
        }
    }

    fn parts(&self, client: kube::Client) -> Parts {
        let (engines, instance, bug) = (self.engines.clone(), self.store.instance().to_owned(), self.plan.bug);
        let fence: devsanctum::engine::Fence = Arc::new(|| true);
        let made = Arc::default();
        let make = move |server: &str, _: &devsanctum::engine::Endpoint| {
            let engine = engines.get(server).ok_or_else(|| EngineError::Unreachable(format!("no engine {server}").into()))?;
            let right: Arc<dyn Engine> = Arc::new(engine.engine(&instance)?);
            Ok(match bug {
                Some(bug) => {
                    Arc::new(planted::engine::Wrong { inner: right, bug, seen: Mutex::default(), made: Arc::clone(&made) })
                }
                None => right,
            })
        };
        let (inner, director) = (self.proxy.clone(), self.director.clone());
        let proxy = DirectedProxy { earlier: inner.routes(), inner, director, calls: AtomicU64::new(0), bug };
        Parts {
            client,
            builds: Arc::default(),
            life: controllers::Life::default(),
            instance: self.store.instance().to_owned(),
            connector: Arc::new(EnginePool::making(Arc::new(NoMetrics), fence.clone(), make)),
            proxy: Arc::new(proxy),
            secrets: Arc::new(NoSecrets),
            clock: match bug {
                Some(bug) => Arc::new(planted::records::WrongClock { inner: self.clock.clone(), bug }),
                None => self.clock.clone() as Arc<dyn Clock>,
            },
            reports: Arc::new(Reports::default()),
            public: Default::default(),
            api_port: None,
            resync: self.resync(),
            ready: watch::channel(false).0,
            stop: CancellationToken::new(),
            fence,
        }
    }

    /// All records of a kind, as they are stored.
    pub async fn stored(&self, kind: &'static str) -> Vec<Stored> {
        self.store.list(&ListQuery { kind, ..ListQuery::default() }).await.unwrap().items
    }

    /// The newest change of a record.
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// The installation's identity.
    pub fn instance(&self) -> &str {
        self.store.instance()
    }
}

struct NoSecrets;

#[async_trait::async_trait]
impl SecretReader for NoSecrets {
    async fn read(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

fn engine(seed: u64, nth: u64, clock: Arc<SimClock>) -> FakeEngine {
    let engine = FakeEngine::new(seed.wrapping_mul(31).wrapping_add(nth));
    engine.set_watch(move || clock.elapsed());
    engine.add_image(IMAGE);
    // The neighbour of the isolation proof hears itself.
    engine.set_reachable("127.0.0.1", 8080);
    engine.set_resources(4, (32 << 30, 32 << 30), (500 << 30, 500 << 30));
    engine.set_latency(Duration::from_millis(20));
    engine
}

fn direct(engine: &FakeEngine, name: &str, director: Arc<Director>) {
    let name = name.to_owned();
    engine.on_call(move |call| {
        let fate = match call.done {
            None => director.asked(&name, call.number, call.name, call.path),
            Some((status, body)) => director.done(&name, call.number, status, body),
        };
        match (fate, call.done) {
            (Fate::Goes, _) => None,
            (Fate::Lost, None) => Some(Fault::Silence),
            (Fate::Lost, Some(_)) => Some(Fault::Hang),
            (Fate::Fails, None) => Some(Fault::Status(500, "something is wrong".into())),
            (Fate::Fails, Some(_)) => Some(Fault::StatusAfter(500, "something is wrong".into())),
            (Fate::Answers((status, body)), _) => Some(Fault::Answer(status, body)),
            (Fate::Breaks, None) => Some(Fault::LostRequest),
            (Fate::Breaks, Some(_)) => Some(Fault::LostAnswer),
        }
    });
}

/// The API as the loops see it.
fn directed(routes: axum::Router, director: Arc<Director>) -> axum::Router {
    let calls = Arc::new(AtomicU64::new(0));
    routes.layer(middleware::from_fn(move |request: Request, next: Next| {
        let (director, number) = (director.clone(), calls.fetch_add(1, Ordering::Relaxed));
        async move { pass(&director, number, request, next).await }
    }))
}

/// The kind, by its plural, of which all records (`false`) or the changes (`true`) are asked for.
fn watched(request: &Request) -> Option<(String, bool)> {
    let query = request.uri().query().unwrap_or_default();
    let (watch, list) = (query.contains("watch=true"), query.contains("limit=500"));
    (watch || list).then(|| (request.uri().path().rsplit('/').next().unwrap_or_default().to_owned(), watch))
}

/// A list, or what the plan puts in its place.
async fn listed(director: &Director, kind: &str, answer: Response) -> Response {
    let (mut head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    match director.listed(kind, &list) {
        Some(old) => {
            head.headers.remove(http::header::CONTENT_LENGTH);
            Response::from_parts(head, old.to_string().into())
        }
        None => Response::from_parts(head, bytes.into()),
    }
}

async fn pass(director: &Arc<Director>, number: u64, mut request: Request, next: Next) -> Response {
    let what = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    match director.asked("api", number, request.method().as_str(), &what) {
        Fate::Goes | Fate::Answers(_) => {}
        Fate::Lost => std::future::pending().await,
        Fate::Fails | Fate::Breaks => return unavailable(),
    }
    // All day one watch each five minutes for each kind: half of all that a day does.
    let lasting = if director.follows() { None } else { lasting::ask(&mut request) };
    let kind = watched(&request).filter(|_| director.follows());
    let answer = next.run(request).await;
    match director.done("api", number, answer.status().as_u16(), &[]) {
        Fate::Goes | Fate::Answers(_) => match kind {
            Some((kind, true)) => answer.map(|body| late::told(director.clone(), kind, body)),
            Some((kind, false)) => listed(director, &kind, answer).await,
            None => match lasting {
                Some(from) => lasting::kept(answer, from),
                None => answer,
            },
        },
        Fate::Lost => std::future::pending().await,
        Fate::Fails | Fate::Breaks => unavailable(),
    }
}

fn unavailable() -> Response {
    (http::StatusCode::SERVICE_UNAVAILABLE, "something is wrong").into_response()
}

struct DirectedProxy {
    /// What was routed when the process began.
    earlier: RouteTable,
    inner: Arc<FakeProxy>,
    director: Arc<Director>,
    calls: AtomicU64,
    bug: Option<Bug>,
}

#[async_trait::async_trait]
impl Proxy for DirectedProxy {
    fn publish(&self, table: &RouteTable) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let hosts: Vec<String> = table.0.values().map(|e| format!("{}={:?}", e.host, e.visibility)).collect();
        if self.director.asked("proxy", number, "publish", &hosts.join(",")) != Fate::Lost {
            match self.bug {
                Some(bug) => self.inner.publish(&planted::proxy::table(bug, &self.earlier, &self.inner.routes(), table)),
                None => self.inner.publish(table),
            }
            self.director.done("proxy", number, 200, &[]);
        }
    }
    async fn reaches(&self, upstream: SocketAddr) -> std::io::Result<()> {
        self.inner.reaches(upstream).await
    }
    async fn traffic(&self) -> Result<BTreeMap<String, Traffic>, String> {
        self.inner.traffic().await
    }
    async fn live(&self) -> Result<LiveRoutes, ProxyError> {
        self.inner.live().await
    }
    async fn wait_live(&self, patience: Duration) -> Result<LiveRoutes, ProxyError> {
        self.inner.wait_live(patience).await
    }
}
