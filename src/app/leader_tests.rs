use super::*;
use crate::engine::fake::FakeEngine;
use crate::engine::pool::{EnginePool, NoMetrics};
use crate::engine::{Connector, Endpoint, EngineError, Labels, VolumeSpec};
use crate::proxy::FakeProxy;
use crate::store::{SecretKey, StoreConfig};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::oneshot;

/// Renewed every half second: much longer than a busy machine holds up two statements in a row.
const TTL: Duration = Duration::from_secs(3);

async fn store(dir: &tempfile::TempDir) -> Store {
    let url = format!("sqlite://{}", dir.path().join("a.db").display());
    Store::open(&StoreConfig { url, secret_keys: SecretKey([1; 32]).into(), keep_changes: 100 }).await.unwrap()
}

fn candidate(store: &Store, holder: &str, stop: &CancellationToken) -> (Candidate, watch::Receiver<bool>) {
    let (leads, told) = watch::channel(false);
    let (until, proxy) = (Until::new(), Arc::new(FakeProxy::default()));
    (Candidate { store: store.clone(), holder: holder.into(), ttl: TTL, stop: stop.clone(), leads, until, proxy }, told)
}

/// Work that does nothing but end when it is told.
async fn until_told(own: CancellationToken) -> Result<(), String> {
    own.cancelled().await;
    Ok(())
}

#[tokio::test]
async fn a_lost_lead_ends_the_work_and_is_won_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stop) = (store(&dir).await, CancellationToken::new());
    let (mut me, mut told) = candidate(&store, "me", &stop);
    let proxy = Arc::new(FakeProxy::default());
    me.proxy = proxy.clone();
    let began = Arc::new(AtomicU32::new(0));
    let counted = began.clone();
    let leading = tokio::spawn(lead(me, move |own| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            own.cancelled().await;
            Ok(())
        }
    }));
    told.wait_for(|leads| *leads).await.unwrap();
    assert!(!store.lease(LEASE, "other", TTL).await.unwrap(), "the lead is held");
    // Somebody takes the lease away, as when this replica slept too long. Its renewal may come in between, once.
    let mut taken = false;
    for _ in 0..3 {
        store.release(LEASE, "me").await.unwrap();
        taken = taken || store.lease(LEASE, "other", TTL).await.unwrap();
    }
    assert!(taken);
    told.wait_for(|leads| !*leads).await.unwrap();
    sleep(TTL / 3).await;
    assert_eq!(proxy.publishes(), 1, "its routes are withdrawn");
    assert!(store.lease(LEASE, "other", TTL).await.unwrap(), "it does not take it back by force");
    store.release(LEASE, "other").await.unwrap();
    told.wait_for(|leads| *leads).await.unwrap();
    assert_eq!(began.load(Ordering::Relaxed), 2);
    stop.cancel();
    leading.await.unwrap().unwrap();
    assert!(store.lease(LEASE, "other", TTL).await.unwrap(), "a stop gives the lease back at once");
}

#[tokio::test]
async fn work_is_not_polled_after_its_time() {
    let until = Until(Arc::new(Mutex::new(Instant::now())));
    assert_eq!(while_ours(&until, poll_fn(|_| -> Poll<()> { panic!("polled") })).await, None);
    until.set(Instant::now() + TTL);
    assert_eq!(while_ours(&until, async { 1 }).await, Some(1));
}

#[tokio::test]
async fn routes_of_a_former_life_are_withdrawn_only_when_another_replica_leads() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stop) = (store(&dir).await, CancellationToken::new());
    assert!(store.lease(LEASE, "former", TTL).await.unwrap());
    let (mut me, mut told) = candidate(&store, "me", &stop);
    let proxy = Arc::new(FakeProxy::default());
    me.proxy = proxy.clone();
    let leading = tokio::spawn(lead(me, until_told));
    told.wait_for(|leads| *leads).await.unwrap();
    assert_eq!(proxy.publishes(), 0, "the routes of a Traefik left behind are still good");
    stop.cancel();
    leading.await.unwrap().unwrap();

    let (stop, renewed) = (CancellationToken::new(), Instant::now() + TTL * 2);
    let (mut me, _told) = candidate(&store, "me", &stop);
    me.proxy = proxy.clone();
    assert!(store.lease(LEASE, "other", TTL).await.unwrap());
    let following = tokio::spawn(lead(me, until_told));
    while Instant::now() < renewed {
        assert!(store.lease(LEASE, "other", TTL).await.unwrap());
        sleep(TTL / 6).await;
    }
    assert_eq!(proxy.publishes(), 1);
    stop.cancel();
    following.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_task_that_wakes_up_after_its_time_changes_nothing_although_nobody_has_ended_it_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stop) = (store(&dir).await, CancellationToken::new());
    let (me, _told) = candidate(&store, "me", &stop);
    let fake = FakeEngine::new(1);
    let (until, made) = (me.until.clone(), fake.clone());
    let pool = EnginePool::making(Arc::new(NoMetrics), until.fence(true), move |_, _| Ok(Arc::new(made.engine("i")?)));
    let engine = pool.connect("a", &Endpoint::Unix("/a".into())).await.unwrap();
    let volume = |name: &str| VolumeSpec { name: name.into(), labels: Labels::new() };
    assert!(engine.create_volume(&volume("early")).await.is_err(), "the lead was not won yet");
    let (ended, results) = oneshot::channel();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let leading = tokio::spawn(lead(me, move |own| {
        let (engine, ended) = (engine.clone(), ended.lock().unwrap().take());
        async move {
            // As the controller runs its passes.
            tokio::spawn(async move {
                let first = engine.create_volume(&volume("first")).await;
                // As a process that is stopped: nothing else is polled meanwhile, and this goes on first.
                std::thread::sleep(TTL);
                let second = engine.create_volume(&volume("second")).await;
                let _ = ended.map(|ended| ended.send((first, second)));
            });
            own.cancelled().await;
            Ok(())
        }
    }));
    let (first, second) = results.await.unwrap();
    assert_eq!(first, Ok(()));
    assert!(matches!(&second, Err(EngineError::Unreachable(why)) if why.contains("no longer leads")), "{second:?}");
    assert_eq!(fake.calls()["create_volume"], 1);
    stop.cancel();
    leading.await.unwrap().unwrap();
}
