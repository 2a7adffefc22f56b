//! Watches: late, slow, resumed and expired; and compaction.

use super::harness::*;
use super::on_both;
use devsanctum::store::{Store, StoreError, WatchItem};
use futures::StreamExt;
use std::time::Duration;

on_both! {
    a_late_watcher_gets_everything_after_its_revision
    a_watcher_that_falls_behind_memory_misses_nothing
    a_watch_says_where_it_is_when_other_kinds_move_on
    compaction_keeps_the_newest_changes_and_expires_the_rest
    compaction_waits_for_a_live_watcher
    a_revision_from_the_future_is_refused
    closing_the_store_ends_its_watches
}

async fn create_many(store: &Store, from: usize, to: usize) {
    let callers = (0..16).map(|c| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in (from..to).skip(c).step_by(16) {
                create(&store, &format!("ws-{i}")).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

async fn a_late_watcher_gets_everything_after_its_revision(db: &Db) {
    let store = db.open().await;
    let first = create(&store, "first").await;
    create_many(&store, 0, 600).await;
    store.close().await;
    let store = db.open().await;
    // The memory of this store is empty: these come from the log.
    let mut watch = store.watch(WORKSPACES, None, first.revision).await.unwrap();
    for expected in first.revision + 1..=first.revision + 600 {
        assert_eq!(next_change(&mut watch).await.0, expected);
    }
    let fresh = create(&store, "fresh").await;
    assert_eq!(next_change(&mut watch).await, (fresh.revision, "fresh".into()));
    let mut team = store.watch(WORKSPACES, Some("other".into()), first.revision).await.unwrap();
    let position = next(&mut team).await.unwrap();
    assert!(matches!(position, WatchItem::Position(at) if at == fresh.revision));
}

async fn a_watcher_that_falls_behind_memory_misses_nothing(db: &Db) {
    let store = db.open_keeping(100).await;
    let first = store.revision();
    let mut slow = store.watch(WORKSPACES, None, first).await.unwrap();
    // Memory holds 32 MiB: bodies of 100 kB push the oldest out.
    for i in 0..400 {
        let mut big = record(workspace(&format!("big-{i}")));
        big.body["spec"]["text"] = "x".repeat(100_000).into();
        put(&store, big).await.unwrap();
    }
    for expected in first + 1..=first + 400 {
        assert_eq!(next_change(&mut slow).await.0, expected);
    }
}

async fn a_watch_says_where_it_is_when_other_kinds_move_on(db: &Db) {
    let store = db.open().await;
    create(&store, "dev").await;
    let mut users = store.watch(USERS, None, 1).await.unwrap();
    let first = next(&mut users).await.unwrap();
    assert!(matches!(first, WatchItem::Position(at) if at == store.revision()), "told on subscription");
    for i in 0..3 {
        create(&store, &format!("ws-{i}")).await;
    }
    let soon = tokio::time::timeout(Duration::from_secs(1), users.next()).await;
    assert!(soon.is_err(), "not told again within a few seconds");
    let later = next(&mut users).await.unwrap();
    assert!(matches!(later, WatchItem::Position(at) if at == store.revision()));
    assert!(tokio::time::timeout(Duration::from_secs(6), users.next()).await.is_err(), "at rest there is nothing to tell");
}

/// Waits until the log no longer reaches back to `revision`.
async fn compacted(store: &Store, revision: i64) {
    for _ in 0..100 {
        if let Err(StoreError::Expired(_)) = store.watch(WORKSPACES, None, revision).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("revision {revision} has not been compacted within five seconds");
}

async fn compaction_keeps_the_newest_changes_and_expires_the_rest(db: &Db) {
    let store = db.open_keeping(100).await;
    let first = store.revision();
    create_many(&store, 0, 1500).await;
    compacted(&store, first + 1380).await;
    let newest = store.revision();
    let mut watch = store.watch(WORKSPACES, None, newest - 100).await.unwrap();
    for expected in newest - 99..=newest {
        assert_eq!(next_change(&mut watch).await.0, expected);
    }
    assert!(matches!(store.watch(WORKSPACES, None, first).await.err(), Some(StoreError::Expired(_))));
    // Across a restart, too.
    store.close().await;
    let store = db.open_keeping(100).await;
    assert!(matches!(store.watch(WORKSPACES, None, first).await.err(), Some(StoreError::Expired(_))));
    assert!(store.watch(WORKSPACES, None, newest - 100).await.is_ok());
    assert_eq!(store.list(&all(WORKSPACES)).await.unwrap().items.len(), 1500, "records are not touched");
}

async fn compaction_waits_for_a_live_watcher(db: &Db) {
    let store = db.open_keeping(100).await;
    let first = store.revision();
    let mut live = store.watch(WORKSPACES, None, first).await.unwrap();
    create_many(&store, 0, 800).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(store.watch(WORKSPACES, None, first).await.is_ok(), "held back");
    for expected in first + 1..=first + 800 {
        assert_eq!(next_change(&mut live).await.0, expected);
    }
    compacted(&store, first).await;
}

async fn a_revision_from_the_future_is_refused(db: &Db) {
    let store = db.open().await;
    let newest = create(&store, "dev").await.revision;
    assert!(store.watch(WORKSPACES, None, newest).await.is_ok());
    assert!(matches!(store.watch(WORKSPACES, None, newest + 1).await.err(), Some(StoreError::Expired(_))));
}

async fn closing_the_store_ends_its_watches(db: &Db) {
    let store = db.open().await;
    let mut watch = store.watch(WORKSPACES, None, store.revision()).await.unwrap();
    let ended = tokio::spawn(async move { while watch.next().await.is_some() {} });
    store.close().await;
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("within five seconds").unwrap();
    assert!(put(&store, record(workspace("dev"))).await.is_err());
}
