//! The API over HTTPS and SQLite with full durability, in a control plane that has no server.

use super::system::{self, System};
use super::tool::{cpu_seconds, median, ms, note, quantile, row};
use super::{Flags, records};
use devsanctum::resource::User;
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: usize = 16;
const WATCHERS: usize = 100;
const GROUP: &str = "/apis/devsanctum.io/v1";

/// A control plane without servers: its loops have next to nothing to do.
struct Served {
    system: System,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let dir = system::state();
        let system = System::start(dir.path()).await;
        system.apply(&records::ground(true));
        Self { system, _dir: dir }
    }

    /// Creates from all clients at once; seconds taken.
    async fn create(&self, count: usize, path: &'static str, make: fn(usize) -> Value) -> f64 {
        let mut wires = Vec::new();
        for _ in 0..CLIENTS {
            wires.push(self.system.target.connect().await.unwrap());
        }
        let begun = Instant::now();
        let clients = wires.into_iter().enumerate().map(|(c, mut wire)| {
            tokio::spawn(async move {
                for i in (c..count).step_by(CLIENTS) {
                    let (code, answer) = wire.call("POST", path, &make(i).to_string()).await.unwrap();
                    assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        begun.elapsed().as_secs_f64()
    }
}

fn user(i: usize) -> Value {
    let email = format!("u{i}@example.com");
    json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": format!("u{i}")}, "spec": {"email": email}})
}

fn workspace(i: usize) -> Value {
    records::workspace(&format!("w{i}"))
}

const USERS: &str = "/apis/devsanctum.io/v1/users";
const WORKSPACES: &str = "/apis/devsanctum.io/v1/namespaces/bench/workspaces";

pub async fn run(flags: Flags) {
    let (count, runs) = (flags.count.unwrap_or(10_000), flags.runs.unwrap_or(3));
    for (what, path, make) in
        [("users", USERS, user as fn(usize) -> Value), ("workspaces, their loop at work", WORKSPACES, workspace)]
    {
        let (mut paces, mut costs, mut client) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let served = Served::start().await;
            let (before, own) = (cpu_seconds(served.system.pid()), cpu_seconds(std::process::id()));
            paces.push(count as f64 / served.create(count, path, make).await);
            costs.push((cpu_seconds(served.system.pid()) - before) / count as f64 * 1e6);
            client.push((cpu_seconds(std::process::id()) - own) / count as f64 * 1e6);
        }
        let measured = format!("{:.0}/s (n={runs} × {count})", median(&paces));
        let beside = format!("{:.0} µs CPU each, client {:.0} µs", median(&costs), median(&client));
        row(&format!("creates over HTTPS, 16 clients: {what}"), &measured, &beside, "", "≥ 3,000/s");
    }
    watchers().await;
    controller(runs).await;
}

/// Creates users one by one and times when each of 100 watchers has the event.
async fn watchers() {
    let served = Served::start().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<(usize, Instant)>();
    for _ in 0..WATCHERS {
        let mut wire = served.system.target.connect().await.unwrap();
        wire.send("GET", &format!("{GROUP}/users?watch=1&resourceVersion=0"), "").await.unwrap();
        let tell = tell.clone();
        tokio::spawn(async move {
            let mut pending = String::new();
            while let Ok(bytes) = wire.read_some().await {
                let at = Instant::now();
                pending.push_str(&String::from_utf8_lossy(bytes));
                while let Some(found) = pending.find("\"email\":\"u") {
                    let rest = &pending[found + 10..];
                    let Some(end) = rest.find('@') else { break };
                    if let Ok(i) = rest[..end].parse() {
                        let _ = tell.send((i, at));
                    }
                    pending.drain(..found + 10 + end);
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut wire = served.system.target.connect().await.unwrap();
    let events = 300;
    let mut sent = Vec::new();
    let mut every = tokio::time::interval(Duration::from_millis(20));
    for i in 0..events {
        every.tick().await;
        sent.push(Instant::now());
        let (code, _) = wire.call("POST", &format!("{GROUP}/users"), &user(i).to_string()).await.unwrap();
        assert_eq!(code, 201);
    }
    let mut took = Vec::new();
    while took.len() < events * WATCHERS {
        let (i, at) = tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect("an event is missing").unwrap();
        took.push(ms(at - sent[i]));
    }
    let measured = format!("p50 {:.1} ms, p99 {:.1} ms (n={events} × {WATCHERS})", quantile(&took, 0.5), quantile(&took, 0.99));
    row("create sent → event at 100 watchers, 50/s", &measured, "", "", "p99 ≤ 50 ms");
}

/// 2,000 records through a controller in this process, as anyone would write it.
async fn controller(runs: usize) {
    let (count, mut took) = (2_000, Vec::new());
    for _ in 0..runs.min(3) {
        let served = Served::start().await;
        let all: Api<User> = Api::all(served.system.client.clone());
        let context = Arc::new(served.system.client.clone());
        let config = kube::runtime::controller::Config::default().concurrency(16);
        let controller = Controller::new(all.clone(), watcher::Config::default()).with_config(config);
        let running = tokio::spawn(
            controller.run(reconcile, |_, _: &kube::Error, _| Action::await_change(), context).for_each(|_| async {}),
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        let before = cpu_seconds(served.system.pid());
        let seen = async {
            let mut done = std::collections::BTreeSet::new();
            let mut events = watcher(all.clone(), watcher::Config::default()).applied_objects().boxed();
            while done.len() < count {
                if let Some(Ok(w)) = events.next().await
                    && w.status.as_ref().is_some_and(|s| s.observed_generation.is_some())
                {
                    done.insert(w.name_any());
                }
            }
        };
        let (created, ()) = tokio::join!(served.create(count, USERS, user), seen);
        took.push(begun.elapsed().as_secs_f64());
        let cpu = cpu_seconds(served.system.pid()) - before;
        note(&format!("controller: created after {created:.2} s, all after {:.2} s, API {cpu:.2} CPU s", took.last().unwrap()));
        running.abort();
    }
    let measured = super::tool::spread(&took, "s");
    row(
        "2,000 records through an external kube-rs controller",
        &measured,
        "kube-apiserver + etcd 36 s (noted earlier)",
        "",
        "≤ 2.5 s",
    );
}

async fn reconcile(record: Arc<User>, client: Arc<Client>) -> Result<Action, kube::Error> {
    if record.status.as_ref().is_some_and(|s| s.observed_generation.is_some()) {
        return Ok(Action::await_change());
    }
    let api: Api<User> = Api::all(client.as_ref().clone());
    let patch = json!({"status": {"observedGeneration": record.metadata.generation}});
    api.patch_status(&record.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(Action::await_change())
}
