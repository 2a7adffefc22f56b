//! The API alone, in a process of its own, over HTTPS and SQLite with full durability.

use super::system;
use super::tool::{cpu_seconds, median, ms, note, quantile, row};
use super::wire::Target;
use super::{Flags, records};
use devsanctum::api::streams::NoStreams;
use devsanctum::api::{ApiConfig, ApiState, NoObserver, bootstrap, router, tls};
use devsanctum::resource::Workspace;
use devsanctum::store::{SecretKey, Store, StoreConfig};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "bench-token-0123456789";
const CLIENTS: usize = 16;
const WATCHERS: usize = 100;
const GROUP: &str = "/apis/devsanctum.io/v1";

/// Serves until killed: `serve-api FOLDER`.
pub async fn serve(args: &[String]) -> ExitCode {
    let dir = Path::new(&args[0]);
    let config = StoreConfig {
        url: format!("sqlite://{}/db/api.db", dir.display()),
        secret_key: SecretKey([7; 32]),
        keep_changes: 10_000,
    };
    let store = Store::open(&config).await.unwrap();
    bootstrap(&store).await.unwrap();
    store.set_token("admin", Sha256::digest(TOKEN).into()).await.unwrap();
    let made = tls::load_or_create(&dir.join("tls"), &[], jiff::Timestamp::now()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let state = ApiState::new(ApiConfig {
        store,
        streams: Arc::new(NoStreams),
        health: Arc::new(NoObserver),
        observer: Arc::new(NoObserver),
        shutdown: CancellationToken::new(),
    });
    tls::serve(listener, router(state), &made, std::future::pending()).await.unwrap();
    ExitCode::SUCCESS
}

struct Served {
    child: Child,
    target: Target,
    client: Client,
    dir: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        let dir = system::state();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("serve-api").arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ca = std::fs::read(dir.path().join("tls/ca.crt")).unwrap();
        let target = Target::new(line.trim().parse().unwrap(), &ca, TOKEN);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": format!("https://{}", line.trim()),
                "certificate-authority": dir.path().join("tls/ca.crt")}}],
            "users": [{"name": "here", "user": {"token": TOKEN}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        });
        let kubeconfig = serde_json::from_value(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let served = Self { child, target, client: Client::try_from(config).unwrap(), dir };
        let mut wire = served.target.connect().await.unwrap();
        for record in records::ground(true).iter().filter(|r| r["kind"] != "Settings") {
            let plural = format!("{}s", record["kind"].as_str().unwrap().to_lowercase());
            let (code, answer) = wire.call("POST", &format!("{GROUP}/{plural}"), &record.to_string()).await.unwrap();
            assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
        }
        served
    }

    /// Creates from all clients at once; seconds taken.
    async fn create(&self, count: usize, path: &'static str, make: fn(usize) -> Value) -> f64 {
        let mut wires = Vec::new();
        for _ in 0..CLIENTS {
            wires.push(self.target.connect().await.unwrap());
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

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn user(i: usize) -> Value {
    let email = format!("u{i}@example.com");
    json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": format!("u{i}")}, "spec": {"email": email}})
}

fn workspace(i: usize) -> Value {
    records::workspace(&format!("w{i}"))
}

const WORKSPACES: &str = "/apis/devsanctum.io/v1/namespaces/bench/workspaces";

pub async fn run(flags: Flags) {
    let (count, runs) = (flags.count.unwrap_or(10_000), flags.runs.unwrap_or(3));
    for (what, path, make) in [
        ("workspaces (3 references)", WORKSPACES, workspace as fn(usize) -> Value),
        ("users (1 unique e-mail)", "/apis/devsanctum.io/v1/users", user),
    ] {
        let (mut paces, mut costs, mut client) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            let served = Served::start().await;
            let (before, own) = (cpu_seconds(served.child.id()), cpu_seconds(std::process::id()));
            paces.push(count as f64 / served.create(count, path, make).await);
            costs.push((cpu_seconds(served.child.id()) - before) / count as f64 * 1e6);
            client.push((cpu_seconds(std::process::id()) - own) / count as f64 * 1e6);
            let _ = served.dir.path();
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
        let mut wire = served.target.connect().await.unwrap();
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
    let mut wire = served.target.connect().await.unwrap();
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
        let all: Api<Workspace> = Api::all(served.client.clone());
        let context = Arc::new(served.client.clone());
        let config = kube::runtime::controller::Config::default().concurrency(16);
        let controller = Controller::new(all.clone(), watcher::Config::default()).with_config(config);
        let running = tokio::spawn(
            controller.run(reconcile, |_, _: &kube::Error, _| Action::await_change(), context).for_each(|_| async {}),
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        let before = cpu_seconds(served.child.id());
        let seen = async {
            use kube::runtime::WatchStreamExt;
            let mut done = std::collections::BTreeSet::new();
            let mut events = watcher(all.clone(), watcher::Config::default()).applied_objects().boxed();
            while done.len() < count {
                if let Some(Ok(w)) = events.next().await
                    && w.status.as_ref().is_some_and(|s| s.message.as_deref() == Some("seen"))
                {
                    done.insert(w.name_any());
                }
            }
        };
        let (created, ()) = tokio::join!(served.create(count, WORKSPACES, workspace), seen);
        took.push(begun.elapsed().as_secs_f64());
        let cpu = cpu_seconds(served.child.id()) - before;
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

async fn reconcile(record: Arc<Workspace>, client: Arc<Client>) -> Result<Action, kube::Error> {
    if record.status.as_ref().is_some_and(|s| s.message.is_some()) {
        return Ok(Action::await_change());
    }
    let api: Api<Workspace> = Api::namespaced(client.as_ref().clone(), &record.namespace().unwrap_or_default());
    let patch = json!({"status": {"message": "seen", "observedGeneration": record.metadata.generation}});
    api.patch_status(&record.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(Action::await_change())
}
