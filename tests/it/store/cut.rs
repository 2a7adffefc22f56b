//! The connection to PostgreSQL breaks in the middle of a write.

use super::harness::*;
use crate::support::cutter::Cutter;
use devsanctum::store::{Store, StoreConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Writers at once, and what each writes in a round.
const WRITERS: usize = 6;
const WRITES: usize = 8;

/// The same database, reached through the cutter.
fn through(cutter: &Cutter, config: StoreConfig) -> StoreConfig {
    let (begin, rest) = config.url.split_once('@').unwrap();
    let (_, name) = rest.split_once('/').unwrap();
    StoreConfig { url: format!("{begin}@{}/{name}", cutter.address), ..config }
}

fn server(config: &StoreConfig) -> std::net::SocketAddr {
    let (_, rest) = config.url.split_once('@').unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// Many write while the connection breaks; the names that were answered well.
async fn write_and_cut(store: &Store, cutter: &Cutter, round: u32) -> BTreeSet<String> {
    let writers = (0..WRITERS).map(|w| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut answered = BTreeSet::new();
            for i in 0..WRITES {
                let name = format!("ws-{round}-{w}-{i}");
                if put(&store, record(workspace(&name))).await.is_ok() {
                    answered.insert(name);
                }
            }
            answered
        })
    });
    let writers: Vec<_> = writers.collect();
    cutter.cut_after(random(12_000), round % 2 == 1);
    let mut answered = BTreeSet::new();
    for writer in writers {
        answered.extend(writer.await.unwrap());
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_connection_is_cut_fails_or_is_there() {
    // Waiting for a new connection takes most of the time, so several stores are ill-treated at once.
    let stores = (0..4).map(|_| tokio::spawn(ill_treat((kills(50) / 8).max(1))));
    let mut all = (0, 0, 0);
    for store in stores.collect::<Vec<_>>() {
        let (cuts, answered, there) = store.await.unwrap();
        all = (all.0 + cuts, all.1 + answered, all.2 + there);
    }
    println!("{} cuts: {} writes answered, {} there", all.0, all.1, all.2);
    assert!(all.0 > 0 && all.1 > 0);
}

async fn ill_treat(rounds: u32) -> (u64, usize, usize) {
    let db = Db::postgres().await;
    let cutter = Cutter::to(server(&db.config())).await;
    let store = Store::open(&through(&cutter, db.config())).await.unwrap();
    let first = store.revision();
    let mut watch = store.watch(WORKSPACES, None, first).await.unwrap();
    let mut answered = BTreeSet::new();
    for round in 0..rounds {
        answered.extend(write_and_cut(&store, &cutter, round).await);
    }
    // It goes on, and its watch has missed nothing and told nothing twice.
    let mut last = Err(devsanctum::store::StoreError::Expired(0));
    for _ in 0..50 {
        last = put(&store, record(workspace("last"))).await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let last = last.unwrap();
    let mut told = BTreeMap::new();
    for expected in first + 1..=last.revision {
        let (revision, name) = next_change(&mut watch).await;
        assert_eq!(revision, expected, "no gap and no repeat");
        told.insert(name, revision);
    }
    let direct = db.open().await;
    let there: BTreeMap<_, _> =
        direct.list(&all(WORKSPACES)).await.unwrap().items.iter().map(|i| (i.key.name.clone(), i.revision)).collect();
    assert_eq!(told, there);
    let lost: Vec<_> = answered.iter().filter(|name| !there.contains_key(*name)).collect();
    assert!(lost.is_empty(), "answered and not there: {lost:?}");
    sound(&direct).await;
    (cutter.cuts(), answered.len(), there.len())
}
