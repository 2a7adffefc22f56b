use super::*;
use crate::engine::fake::FakeEngine;
use crate::engine::{Attach, ContainerSpec, Labels};
use std::time::Duration;
use tokio::time::Instant;

fn socket(path: &str) -> Endpoint {
    Endpoint::Unix(path.into())
}

fn pool(fake: &FakeEngine) -> EnginePool {
    let fake = fake.clone();
    EnginePool::making(Arc::new(NoMetrics), Arc::new(|| true), move |_, _| Ok(Arc::new(fake.engine("i")?)))
}

fn spec(name: String) -> ContainerSpec {
    ContainerSpec {
        name,
        image: "base:1".into(),
        command: None,
        workdir: None,
        env: BTreeMap::new(),
        labels: Labels::new(),
        mounts: BTreeMap::new(),
        attach: Attach::None,
        hostname: None,
        memory: 1 << 20,
        nano_cpus: 1,
        pids: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_settings_give_the_same_engine() {
    let fake = FakeEngine::new(1);
    let pool = pool(&fake);
    let first = pool.connect("a", &socket("/a")).await.unwrap();
    assert!(Arc::ptr_eq(&first, &pool.connect("a", &socket("/a")).await.unwrap()));
    assert_eq!(fake.calls()["info"], 1);
    assert!(!Arc::ptr_eq(&first, &pool.connect("b", &socket("/a")).await.unwrap()));
    let moved = pool.connect("a", &socket("/b")).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &moved));
    pool.forget("a");
    assert!(!Arc::ptr_eq(&moved, &pool.connect("a", &socket("/b")).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_never_answered_is_asked_again() {
    let fake = FakeEngine::new(1);
    let pool = pool(&fake);
    fake.set_refusing(true);
    assert!(matches!(pool.connect("a", &socket("/a")).await, Err(EngineError::Unreachable(_))));
    fake.set_refusing(false);
    pool.connect("a", &socket("/a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn twice_as_many_heavy_calls_as_cores_are_in_flight_and_reads_pass_them() {
    let fake = FakeEngine::new(1);
    fake.add_image("base:1");
    fake.set_resources(3, (8 << 30, 6 << 30), (1 << 40, 1 << 39));
    let engine = pool(&fake).connect("a", &socket("/a")).await.unwrap();
    fake.set_latency(Duration::from_secs(1));
    let begun = Instant::now();
    let creates = (0..12).map(|i| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.create(&spec(format!("c{i}"))).await })
    });
    let creates: Vec<_> = creates.collect();
    tokio::task::yield_now().await;
    engine.containers(None).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 1);
    for create in creates {
        create.await.unwrap().unwrap();
    }
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[derive(Default)]
struct Told(Mutex<Vec<(String, &'static str, &'static str, Duration)>>);

impl CallMetrics for Told {
    fn observe(&self, server: &str, call: &'static str, outcome: &'static str, _: Duration, took: Duration) {
        self.0.lock().unwrap().push((server.to_owned(), call, outcome, took));
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_is_told_with_its_outcome_and_length() {
    let fake = FakeEngine::new(1);
    let told = Arc::new(Told::default());
    let guarded = Guarded::new("a", Arc::new(fake.engine("i").unwrap()), told.clone(), Arc::new(|| true));
    guarded.info().await.unwrap();
    fake.set_latency(Duration::from_secs(2));
    guarded.create(&spec("c".into())).await.unwrap_err();
    let told = told.0.lock().unwrap().clone();
    let outcomes: Vec<_> =
        told.iter().map(|(server, call, outcome, took)| (server.as_str(), *call, *outcome, took.as_secs())).collect();
    assert_eq!(outcomes, [("a", "info", "ok", 0), ("a", "create", "image_missing", 2)]);
}

#[tokio::test(start_paused = true)]
async fn the_limit_follows_the_cores_down_as_well() {
    let fake = FakeEngine::new(1);
    let guarded = Guarded::new("a", Arc::new(fake.engine("i").unwrap()), Arc::new(NoMetrics), Arc::new(|| true));
    assert_eq!(guarded.limit(), 4);
    for (cores, limit) in [(8, 16), (1, 2), (2, 4)] {
        fake.set_resources(cores, (2, 1), (2, 1));
        guarded.info().await.unwrap();
        assert_eq!(guarded.limit(), limit);
    }
}
