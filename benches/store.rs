//! Durable creates a second with 16 callers, and the CPU time of one.
//!
//! `cargo bench --bench store [-- URL]`; without a URL on SQLite in a temporary folder.

use devsanctum::store::{Key, ListQuery, Put, SecretKey, Store, StoreConfig, StoreError, WatchItem};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Instant;

const CALLERS: usize = 16;
const CREATES: usize = 10_000;
const KIND: &str = "workspaces.devsanctum.io";

fn body(name: &str) -> Value {
    let conditions: Vec<_> = ["Scheduled", "ImageReady", "ContainerRunning", "Routed", "Ready"]
        .map(|c| json!({"type": c, "status": "False", "reason": "Pending", "message": "waits for its turn", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
        .into();
    json!({
        "apiVersion": "devsanctum.io/v1", "kind": "Workspace",
        "metadata": {"name": name, "namespace": "bench", "uid": name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"owner": "ada", "branch": "main", "running": true, "visibility": "PRIVATE", "pinned": false, "kept": false},
        "status": {"phase": "PENDING", "conditions": conditions},
    })
}

/// Reads the record, as admission does, and writes it.
async fn write(store: &Store, name: String, exists: bool) {
    let write = store.write::<_, StoreError>(Box::new(move |tx| {
        Box::pin(async move {
            let key = Key { kind: KIND, namespace: "bench".into(), name: name.clone() };
            assert_eq!(tx.get(&key).await?.is_some(), exists);
            let user = Key { kind: "users.devsanctum.io", namespace: String::new(), name: "ada".into() };
            let body = body(&name);
            tx.put(Put { key, uid: name, body, owners: vec![], references: vec![user], claims: vec![], tell_previous: false })
                .await
        })
    }));
    write.await.expect("written");
}

/// CPU time of this process so far, in microseconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    ticks * 10_000.0
}

/// Runs `CREATES` calls from `CALLERS` callers and prints the pace.
async fn measure<F>(what: &str, store: &Store, call: impl Fn(Store, usize) -> F + Copy + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (start, before) = (Instant::now(), cpu());
    let callers = (0..CALLERS).map(|c| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in (c..CREATES).step_by(CALLERS) {
                call(store.clone(), i).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("caller");
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu() - before);
    println!("{what}: {:.0}/s, {:.0} us CPU each", CREATES as f64 / wall, cpu / CREATES as f64);
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = format!("sqlite://{}/data/bench.db", folder.path().display());
    let url = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or(file);
    let config = StoreConfig { url, secret_keys: SecretKey([1; 32]).into(), keep_changes: 10_000 };
    let store = Store::open(&config).await.expect("opens");
    let mut watch = store.watch(KIND, None, store.revision()).await.expect("watches");
    let watched = tokio::spawn(async move {
        let mut seen = 0;
        while seen < CREATES {
            seen += usize::from(matches!(watch.next().await, Some(Ok(WatchItem::Change(_)))));
        }
        Instant::now()
    });
    measure("create", &store, |store, i| async move { write(&store, format!("ws-{i}"), false).await }).await;
    println!(
        "last create seen by a watcher {:?} after its answer",
        Instant::now().duration_since(watched.await.expect("watcher"))
    );
    measure("update", &store, |store, i| async move { write(&store, format!("ws-{i}"), true).await }).await;
    measure("get", &store, |store, i| async move {
        let key = Key { kind: KIND, namespace: "bench".into(), name: format!("ws-{i}") };
        assert!(store.get(&key).await.expect("reads").is_some());
    })
    .await;
    let start = Instant::now();
    let page = store.list(&ListQuery { kind: KIND, ..ListQuery::default() }).await.expect("lists");
    println!("list of {}: {:?}", page.items.len(), start.elapsed());
    store.close().await;
}
