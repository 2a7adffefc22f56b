//! A simulated installation: the real API, store and loops on a paused clock; engines and proxy in memory.

use super::chance::SimClock;
use devsanctum::access::Identity;
use devsanctum::api::streams::NoStreams;
use devsanctum::api::{ApiConfig, ApiState, NoObserver, bootstrap, client, router};
use devsanctum::clock::Clock;
use devsanctum::controllers::{self, Parts, Reports, SecretReader};
use devsanctum::engine::fake::FakeEngine;
use devsanctum::engine::pool::{EnginePool, NoMetrics};
use devsanctum::engine::{Engine, EngineError};
use devsanctum::proxy::FakeProxy;
use devsanctum::store::{SecretKey, Store, StoreConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where the databases of all simulations work: in real time, on threads of their own.
static DATABASES: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// What outlives the process: the database, the engines, the proxy.
pub struct World {
    pub clock: Arc<SimClock>,
    pub engines: BTreeMap<String, FakeEngine>,
    pub proxy: Arc<FakeProxy>,
    pub trace: Trace,
    store: Store,
    _dir: tempfile::TempDir,
}

/// Every call of the process to the world outside, in order.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct NoSecrets;

#[async_trait::async_trait]
impl SecretReader for NoSecrets {
    async fn read(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

/// A runtime whose clock stands still while there is something to do.
pub fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

impl World {
    /// An empty installation with these servers' engines, each with the image workspaces are made of.
    pub fn new(seed: u64, servers: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("sim.db").display());
        let config = StoreConfig { url, secret_key: SecretKey([7; 32]), keep_changes: 1_000_000 };
        let store = Store::open_aside(&config, DATABASES.handle()).unwrap();
        let clock = Arc::new(SimClock::new(seed));
        let trace = Trace::default();
        let runtime = paused();
        let engines = runtime.block_on(async {
            clock.begin();
            bootstrap(&store, clock.as_ref()).await.unwrap();
            let made = servers.iter().enumerate().map(|(i, name)| ((*name).to_owned(), engine(seed, i as u64)));
            made.collect::<BTreeMap<_, _>>()
        });
        for (name, engine) in &engines {
            let (trace, clock, name) = (trace.clone(), clock.clone(), name.clone());
            engine.on_call(move |call, path| {
                trace.note(format!("{:?} {name} {call} {path}", clock.elapsed()));
                None
            });
        }
        runtime.block_on(async { clock.end() });
        Self { clock, engines, proxy: Arc::default(), trace, store, _dir: dir }
    }

    /// Runs the process on a runtime of its own, with this script beside it, and kills it when the script has ended.
    pub fn run<T>(&self, script: impl AsyncFnOnce(kube::Client) -> T) -> T {
        let runtime = paused();
        runtime.block_on(async {
            self.clock.begin();
            let api = ApiState::new(ApiConfig {
                store: self.store.clone(),
                streams: Arc::new(NoStreams),
                health: Arc::new(NoObserver),
                observer: Arc::new(NoObserver),
                clock: self.clock.clone(),
                shutdown: CancellationToken::new(),
            });
            let routes = router(api);
            let process = tokio::spawn(controllers::run(self.parts(client(routes.clone(), Identity::system("devsanctum")))));
            let person = client(routes, Identity::administrator("admin"));
            let told = tokio::select! {
                told = script(person) => told,
                ended = process => panic!("the loops ended: {ended:?}"),
            };
            self.clock.end();
            told
        })
    }

    fn parts(&self, client: kube::Client) -> Parts {
        let (engines, instance) = (self.engines.clone(), self.store.instance().to_owned());
        let fence: devsanctum::engine::Fence = Arc::new(|| true);
        let make = move |server: &str, _: &devsanctum::engine::Endpoint| {
            let engine = engines.get(server).ok_or_else(|| EngineError::Unreachable(format!("no engine {server}")))?;
            Ok(Arc::new(engine.engine(&instance)?) as Arc<dyn Engine>)
        };
        Parts {
            client,
            instance: self.store.instance().to_owned(),
            connector: Arc::new(EnginePool::making(Arc::new(NoMetrics), fence.clone(), make)),
            proxy: self.proxy.clone(),
            secrets: Arc::new(NoSecrets),
            clock: self.clock.clone() as Arc<dyn Clock>,
            reports: Arc::new(Reports::default()),
            public_port: None,
            ready: watch::channel(false).0,
            stop: CancellationToken::new(),
            fence,
        }
    }
}

fn engine(seed: u64, nth: u64) -> FakeEngine {
    let engine = FakeEngine::new(seed.wrapping_mul(31).wrapping_add(nth));
    engine.add_image(super::IMAGE);
    // The neighbour of the isolation proof hears itself.
    engine.set_reachable("127.0.0.1", 8080);
    engine.set_resources(4, (32 << 30, 32 << 30), (500 << 30, 500 << 30));
    engine.set_latency(Duration::from_millis(20));
    engine
}
