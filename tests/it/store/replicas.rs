//! Two stores on one PostgreSQL.

use super::harness::*;
use devsanctum::store::{Job, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

async fn write_some(store: &Store, who: &str) {
    let callers = (0..8).map(|c| {
        let (store, who) = (store.clone(), who.to_owned());
        tokio::spawn(async move {
            for i in 0..40 {
                let written = create(&store, &format!("{who}-{c}-{i}")).await;
                assert!(store.revision() >= written.revision, "one's own write is told when it is answered");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_see_each_others_changes_in_one_order() {
    let db = Db::postgres().await;
    let (a, b) = tokio::join!(db.open(), db.open());
    assert_eq!(a.instance(), b.instance());
    let first = a.revision();
    let mut watch_a = a.watch(WORKSPACES, None, first).await.unwrap();
    let mut watch_b = b.watch(WORKSPACES, None, first).await.unwrap();
    tokio::join!(write_some(&a, "a"), write_some(&b, "b"));
    for expected in first + 1..=first + 640 {
        let seen = next_change(&mut watch_a).await;
        assert_eq!(seen.0, expected, "no gap and no repeat");
        assert_eq!(seen, next_change(&mut watch_b).await, "both tell the same");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_held_by_one_replica() {
    let db = Db::postgres().await;
    let (a, b) = (db.open().await, db.open().await);
    let minute = std::time::Duration::from_secs(60);
    let (got_a, got_b) = tokio::join!(a.lease("leader", "a", minute), b.lease("leader", "b", minute));
    assert!(got_a.unwrap() ^ got_b.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_frozen_while_it_writes_lets_the_others_write_soon() {
    let db = Db::postgres().await;
    let (frozen, other) = (db.open().await, db.open().await);
    let (wrote, writes) = tokio::sync::oneshot::channel();
    let freezing = tokio::spawn(async move {
        let job: Job<(), StoreError> = Box::new(move |_| {
            Box::pin(async move {
                let _ = wrote.send(());
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok(())
            })
        });
        frozen.write(job).await
    });
    writes.await.unwrap();
    let begun = std::time::Instant::now();
    create(&other, "meanwhile").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited {:?}", begun.elapsed());
    assert!(freezing.await.unwrap().is_err(), "what it had begun is not done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_goes_on_after_the_database_has_cut_its_connections() {
    let db = Db::postgres().await;
    let store = db.open().await;
    let mut watch = store.watch(WORKSPACES, None, store.revision()).await.unwrap();
    create(&store, "before").await;
    db.cut_connections().await;
    // The first write may meet the dead connection; it is told so, and the next one works.
    let mut done = None;
    for _ in 0..50 {
        if let Ok(stored) = put(&store, record(workspace("after"))).await {
            done = Some(stored);
            break;
        }
    }
    assert_eq!(next_change(&mut watch).await.1, "before");
    assert_eq!(next_change(&mut watch).await, (done.expect("a write works again").revision, "after".into()));
    assert!(store.get(&workspace("after")).await.unwrap().is_some());
}

/// Reads a workspace in a job of its own, which takes a while.
async fn read(store: Store, name: String, slow: bool) -> bool {
    let job = store.write::<_, StoreError>(Box::new(move |tx| {
        Box::pin(async move {
            let found = tx.get(&workspace(&name)).await?.is_some();
            if slow {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(found)
        })
    }));
    job.await.unwrap()
}

/// Reads in one batch before and after a job that fails, while another replica waits to write; whether the second read
/// finds what that has written.
async fn read_around_a_failure(db: &Arc<Db>, a: &Store, b: &Store, name: &str) -> bool {
    // Three jobs in one batch: the first holds it open until the others are there.
    let before = tokio::spawn(read(a.clone(), name.into(), true));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (store, other, database, new) = (a.clone(), b.clone(), db.clone(), name.to_owned());
    let failing = tokio::spawn(async move {
        let job = store.write::<(), StoreError>(Box::new(move |tx| {
            Box::pin(async move {
                // The other replica waits for the lock that the failure lets go.
                tokio::spawn(async move { create(&other, &new).await });
                database.until_a_lock_is_waited_for().await;
                tx.claim_holder("scope", "\0").await.map(|_| ())
            })
        }));
        job.await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let after = tokio::spawn(read(a.clone(), name.into(), false));
    assert!(!before.await.unwrap());
    assert!(failing.await.unwrap().is_err());
    after.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_a_failed_read_is_read_again() {
    let db = Arc::new(Db::postgres().await);
    let (a, b) = (db.open().await, db.open().await);
    // The database may give the lock back to the first replica, and then there is nothing new to read.
    for attempt in 0..20 {
        let name = format!("x{attempt}");
        if read_around_a_failure(&db, &a, &b, &name).await {
            return;
        }
        while b.get(&workspace(&name)).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("what another replica has written meanwhile was never seen");
}
