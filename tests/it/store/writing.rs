//! Many writers, failing jobs and callers that go away.

use super::harness::*;
use super::on_both;
use devsanctum::store::{Store, StoreError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

on_both! {
    sixteen_writers_get_revisions_in_the_feeds_order
    a_failed_job_is_taken_back_alone
    a_panicking_job_harms_nobody
    callers_that_go_away_lose_nothing
    a_name_can_pass_to_a_new_record_at_once
    what_no_database_could_keep_is_refused_alone
    a_write_is_seen_by_the_next_read_and_list
}

async fn sixteen_writers_get_revisions_in_the_feeds_order(db: &Db) {
    let store = db.open().await;
    let first = store.revision();
    let mut watch = store.watch(WORKSPACES, None, first).await.unwrap();
    let answered = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..16)
        .map(|w| {
            let (store, answered) = (store.clone(), answered.clone());
            tokio::spawn(async move {
                let mut last = 0;
                for i in 0..25 {
                    let name = if i % 5 == 4 { format!("shared-{i}") } else { format!("ws-{w}-{i}") };
                    let stored = create(&store, &name).await;
                    assert!(stored.revision > last && store.revision() >= stored.revision);
                    last = stored.revision;
                    answered.lock().unwrap().push((stored.revision, name));
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut answered = Arc::into_inner(answered).unwrap().into_inner().unwrap();
    answered.sort();
    assert_eq!(answered.len(), 400);
    assert!(answered.iter().zip(first + 1..).all(|((revision, _), expected)| *revision == expected), "no gaps, no repeats");
    for expected in answered {
        assert_eq!(next_change(&mut watch).await, expected);
    }
}

/// A job that writes, looks at what it wrote in the database and then fails.
async fn fail(store: &Store, i: usize, look: bool) -> Result<(), StoreError> {
    store
        .write(Box::new(move |tx| {
            Box::pin(async move {
                tx.put(record(workspace(&format!("bad-{i}")))).await?;
                tx.put(record(workspace("shared"))).await?;
                if look {
                    tx.list(WORKSPACES, None).await?;
                }
                Err(StoreError::Expired(i as i64))
            })
        }))
        .await
}

async fn a_failed_job_is_taken_back_alone(db: &Db) {
    let store = db.open().await;
    let mut watch = store.watch(WORKSPACES, None, store.revision()).await.unwrap();
    let jobs = (0..60).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            if i % 3 == 0 {
                assert!(matches!(fail(&store, i, i % 2 == 0).await, Err(StoreError::Expired(_))));
            } else {
                create(&store, &format!("good-{i:02}")).await;
            }
        })
    });
    for job in jobs.collect::<Vec<_>>() {
        job.await.unwrap();
    }
    let page = store.list(&all(WORKSPACES)).await.unwrap();
    assert_eq!(page.items.len(), 40);
    assert!(page.items.iter().all(|i| i.key.name.starts_with("good-")));
    for _ in 0..40 {
        assert!(next_change(&mut watch).await.1.starts_with("good-"));
    }
    assert_eq!(store.revision(), page.revision);
}

async fn a_panicking_job_harms_nobody(db: &Db) {
    let store = db.open().await;
    let panicking = (0..10).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let job = store.write::<(), StoreError>(Box::new(move |tx| {
                Box::pin(async move {
                    tx.put(record(workspace("bad"))).await?;
                    tx.count(WORKSPACES, "team").await?;
                    panic!("planned in a test, {i}")
                })
            }));
            assert!(matches!(job.await, Err(StoreError::Database(_))));
        })
    });
    let panicking: Vec<_> = panicking.collect();
    for i in 0..10 {
        create(&store, &format!("good-{i}")).await;
    }
    for job in panicking {
        job.await.unwrap();
    }
    assert_eq!(store.list(&all(WORKSPACES)).await.unwrap().items.len(), 10);
}

async fn callers_that_go_away_lose_nothing(db: &Db) {
    let store = db.open().await;
    let mut watch = store.watch(WORKSPACES, None, store.revision()).await.unwrap();
    let mut answered = BTreeSet::new();
    let mut random = 1_u64;
    let mut callers = Vec::new();
    for i in 0..2000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // A quarter waits for its answer, a quarter goes as soon as the job is handed in, the rest goes at any time.
        let patience = match i % 4 {
            0 => Duration::from_secs(60),
            1 => Duration::ZERO,
            _ => Duration::from_micros((random >> 33) % 4000),
        };
        let store = store.clone();
        callers.push(tokio::spawn(async move {
            let name = format!("ws-{i}");
            tokio::time::timeout(patience, put(&store, record(workspace(&name)))).await.ok().map(|r| r.map(|_| name).unwrap())
        }));
        if i % 16 == 15 {
            for caller in callers.drain(..) {
                answered.extend(caller.await.unwrap());
            }
        }
    }
    let last = create(&store, "last").await;
    let page = store.list(&all(WORKSPACES)).await.unwrap();
    let there: BTreeSet<_> = page.items.iter().map(|i| i.key.name.clone()).collect();
    assert!(answered.is_subset(&there), "an acknowledged write is there");
    assert!((500..=1500).contains(&answered.len()), "a quarter at least is answered and a quarter is not: {}", answered.len());
    let mut told = BTreeSet::new();
    loop {
        let (revision, name) = next_change(&mut watch).await;
        told.insert(name);
        if revision == last.revision {
            break;
        }
    }
    assert_eq!(told, there, "the feed tells what is there");
}

async fn a_name_can_pass_to_a_new_record_at_once(db: &Db) {
    let store = db.open().await;
    create(&store, "dev").await;
    let again = store.write::<_, StoreError>(Box::new(|tx| {
        Box::pin(async move {
            let mut new = record(workspace("dev"));
            new.uid = "another".into();
            assert!(tx.put(new.clone()).await.is_err(), "the name is taken by another uid");
            tx.delete(&workspace("dev"), new.body.clone()).await?;
            assert!(tx.get(&workspace("dev")).await?.is_none());
            tx.put(new.clone()).await?;
            tx.delete(&workspace("dev"), new.body.clone()).await?;
            tx.put(new).await
        })
    }));
    let stored = again.await.unwrap();
    let read = store.get(&workspace("dev")).await.unwrap().unwrap();
    assert_eq!((read.uid.as_str(), read.revision), ("another", stored.revision));
}

async fn what_no_database_could_keep_is_refused_alone(db: &Db) {
    let store = db.open().await;
    let good = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 0..50 {
                create(&store, &format!("good-{i}")).await;
            }
        }
    });
    for i in 0..20 {
        let mut bad = record(workspace(&format!("bad-{i}")));
        match i % 4 {
            0 => bad.claims = vec![("host".into(), "a\0b".into())],
            1 => bad.claims = vec![("host".into(), "a".repeat(10_000))],
            2 => bad.body = serde_json::json!(["no metadata"]),
            _ => bad.key.name = "x".repeat(4000),
        }
        assert!(matches!(put(&store, bad).await, Err(StoreError::Database(_))));
    }
    good.await.unwrap();
    // A NUL inside the body is escaped by JSON and no trouble.
    let mut odd = record(workspace("odd"));
    odd.body["spec"]["text"] = "a\0b".into();
    put(&store, odd).await.unwrap();
    assert_eq!(json_of(&store.get(&workspace("odd")).await.unwrap().unwrap())["spec"]["text"], "a\0b");
}

async fn a_write_is_seen_by_the_next_read_and_list(db: &Db) {
    let store = db.open().await;
    let writers = (0..8).map(|w| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..20 {
                let name = format!("ws-{w}-{i}");
                let written = create(&store, &name).await;
                assert_eq!(store.get(&workspace(&name)).await.unwrap().unwrap().revision, written.revision);
                let page = store.list(&all(WORKSPACES)).await.unwrap();
                assert!(page.revision >= written.revision);
                // One state: nothing on the page is newer than the page.
                let newest = page.items.iter().map(|i| i.revision).max();
                assert_eq!(newest, Some(page.revision));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}
