use super::*;
use crate::store::{SecretKey, StoreConfig};
use std::sync::atomic::{AtomicU32, Ordering};

/// Renewed every half second: much longer than a busy machine holds up two statements in a row.
const TTL: Duration = Duration::from_secs(3);

async fn store(dir: &tempfile::TempDir) -> Store {
    let url = format!("sqlite://{}", dir.path().join("a.db").display());
    Store::open(&StoreConfig { url, secret_key: SecretKey([1; 32]), keep_changes: 100 }).await.unwrap()
}

fn candidate(store: &Store, holder: &str, stop: &CancellationToken) -> (Candidate, watch::Receiver<bool>) {
    let (leads, told) = watch::channel(false);
    (Candidate { store: store.clone(), holder: holder.into(), ttl: TTL, stop: stop.clone(), leads }, told)
}

#[tokio::test]
async fn a_lost_lead_ends_the_work_and_is_won_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, stop) = (store(&dir).await, CancellationToken::new());
    let (me, mut told) = candidate(&store, "me", &stop);
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
