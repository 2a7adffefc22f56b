//! Two control planes on one PostgreSQL database and one Docker Engine: one acts, the other takes over.

use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::ports::free_address;
use crate::support::watchdog::Watchdog;
use crate::support::{devsanctum, postgres, signal};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(3);
/// A busy machine may be slow to notice.
const SLACK: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(120);

/// A control plane process, killed when dropped.
struct Replica {
    dir: PathBuf,
    process: Child,
}

impl Replica {
    fn start(dir: &Path, database: &str) -> Self {
        Self::start_with(dir, database, &[])
    }

    fn start_with(dir: &Path, database: &str, more: &[&str]) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let _ = std::fs::remove_file(dir.join("kubeconfig"));
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let web = free_address().to_string();
        let process = devsanctum()
            .args([
                "--state-dir",
                &dir.display().to_string(),
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--web",
                &web,
                "--ssh",
                "127.0.0.1:0",
            ])
            // No page is asked for here, so no Traefik is needed; nothing listens at port 1.
            .args(["--database", database, "--lease", "3s", "--external-traefik", "http://127.0.0.1:1"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut replica = Self { dir: dir.to_owned(), process };
        eventually(Duration::from_secs(60), "it serves", || {
            assert!(replica.process.try_wait().unwrap().is_none(), "it ended: {}", replica.log());
            replica.try_status().is_some()
        });
        replica
    }

    fn run(&self, words: &[&str]) -> Output {
        devsanctum().args(["--state-dir", &self.dir.display().to_string()]).args(words).stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let out = self.run(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(out.status.success(), "{words:?}: {}{}\n{}", text(&out.stdout), text(&out.stderr), self.log());
        text(&out.stdout)
    }

    fn try_status(&self) -> Option<Value> {
        serde_json::from_slice(&self.run(&["status", "-o", "json"]).stdout).ok()
    }

    fn leads(&self) -> bool {
        self.try_status().is_some_and(|s| s["leads"] == true)
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().rev().take(30).collect::<Vec<_>>().join("\n")
    }

    fn signal(&self, name: &str) {
        signal(name, self.process.id());
    }

    fn kill(mut self) -> PathBuf {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.dir.clone()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    begun.elapsed()
}

/// What the second replica must share with the first: the token, the key that seals secrets, the certificates.
fn twin(first: &Path, second: &Path) {
    std::fs::create_dir_all(second.join("tls")).unwrap();
    for name in ["admin.token", "secret.key"] {
        std::fs::copy(first.join(name), second.join(name)).unwrap();
    }
    for file in std::fs::read_dir(first.join("tls")).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, second.join("tls").join(path.file_name().unwrap())).unwrap();
    }
}

fn record(kind: &str, name: &str, spec: Value) -> Value {
    let mut record = json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    if kind == "Workspace" {
        record["metadata"]["namespace"] = "team".into();
    }
    record
}

/// The whole scene, and what is applied to it.
struct Scene {
    dir: Watchdog,
    dockerd: Dockerd,
}

impl Scene {
    fn new() -> Self {
        let dockerd = Dockerd::start(&Options::default());
        dockerd.tiny_image();
        Self { dir: Watchdog::new("ds-replicas-"), dockerd }
    }

    fn apply(&self, to: &Replica, records: &[Value]) {
        let file = self.dir.path().join("apply.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": records});
        std::fs::write(&file, list.to_string()).unwrap();
        to.ok(&["apply", "-f", &file.display().to_string()]);
    }

    fn ground(&self) -> Vec<Value> {
        let host = format!("unix://{}", self.dockerd.socket().display());
        vec![
            record("Settings", "default", json!({"images": {"probe": TINY}})),
            record("DockerServer", "local", json!({"host": host})),
            record("User", "ada", json!({"email": "ada@example.com"})),
            record(
                "Template",
                "tiny",
                json!({"base": TINY, "startCommand": ["sleep", "1000000"], "minRamMb": 16, "minDiskGb": 0.01}),
            ),
            record("Project", "team", json!({"owner": "ada", "template": "tiny"})),
        ]
    }

    /// Ids of workspaces' containers by their record's name.
    fn containers(&self) -> BTreeMap<String, BTreeSet<String>> {
        let format = "{{.Label \"devsanctum.io/name\"}} {{.ID}}";
        let text =
            self.dockerd.docker(&["ps", "-a", "--no-trunc", "--filter", "label=devsanctum.io/role=main", "--format", format]);
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, id) in text.lines().filter_map(|l| l.split_once(' ')) {
            found.entry(name.to_owned()).or_default().insert(id.to_owned());
        }
        found
    }

    /// How often a workspace's container was ever made.
    fn creates(&self) -> BTreeMap<String, usize> {
        let format = "{{index .Actor.Attributes \"devsanctum.io/name\"}}";
        let filters = ["--filter", "type=container", "--filter", "event=create", "--filter", "label=devsanctum.io/role=main"];
        let until = (k8s_openapi::jiff::Timestamp::now().as_second() + 1).to_string();
        let text =
            self.dockerd.docker(&[&["events", "--since", "1", "--until", &until, "--format", format], &filters[..]].concat());
        let mut counts = BTreeMap::new();
        for name in text.lines() {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
        counts
    }

    fn all_run(&self, seen_by: &Replica, count: usize) {
        eventually(PATIENCE, &format!("{count} workspaces run\n{}", seen_by.log()), || {
            let list: Value = serde_json::from_str(&seen_by.ok(&["get", "ws", "-n", "team", "-o", "json"])).unwrap();
            let items = list["items"].as_array().unwrap();
            items.iter().filter(|w| w["status"]["phase"] == "RUNNING").count() == count
        });
    }
}

fn workspaces(prefix: &str) -> Vec<Value> {
    (0..4).map(|i| record("Workspace", &format!("{prefix}{i}"), json!({"owner": "ada"}))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_acts_and_the_other_takes_over() {
    let database = postgres::database().await;
    tokio::task::spawn_blocking(move || story(&database.url)).await.unwrap();
}

fn story(url: &str) {
    let scene = Scene::new();
    let dir = |name: &str| scene.dir.path().join(name);
    let first = Replica::start(&dir("one"), url);
    eventually(LEASE + SLACK, "the only replica leads", || first.leads());
    twin(&dir("one"), &dir("two"));
    let second = Replica::start(&dir("two"), url);
    eventually(LEASE + SLACK, "the first leads, and it alone", || first.leads() && !second.leads());
    second.ok(&["status"]);

    // What is written at one replica is seen by a watch at the other, and done by the one that leads.
    let mut watch = devsanctum();
    watch.args(["--state-dir", &dir("two").display().to_string(), "get", "ws", "-A", "-w", "-o", "name"]);
    let mut watch = Ended(watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    scene.apply(&first, &scene.ground());
    scene.apply(&first, &workspaces("a"));
    scene.all_run(&second, 4);
    let seen = watch.output();
    for i in 0..4 {
        assert!(seen.contains(&format!("workspace.devsanctum.io/a{i}\n")), "{seen}");
    }
    let before = scene.containers();
    assert_eq!(before.len(), 4);

    // The leader dies in the middle of its work.
    scene.apply(&second, &workspaces("b"));
    let one = first.kill();
    let took = eventually(LEASE + SLACK, "the other takes over", || second.leads());
    println!("taken over {took:?} after the kill, with a lease of {LEASE:?}");
    scene.all_run(&second, 8);
    let after = scene.containers();
    assert!(after.len() == 8 && after.values().all(|ids| ids.len() == 1), "{after:?}");
    assert!(before.iter().all(|(name, ids)| after[name] == *ids), "nothing that ran was made anew: {before:?} {after:?}");
    assert!(scene.creates().values().all(|n| *n == 1), "{:?}", scene.creates());

    // A leader that sleeps too long does not act when it wakes up.
    let first = Replica::start(&one, url);
    eventually(LEASE + SLACK, "the second leads, and it alone", || second.leads() && !first.leads());
    second.signal("-STOP");
    let took = eventually(LEASE + SLACK, "the first takes over", || first.leads());
    println!("taken over {took:?} after the stop");
    let name = after.keys().next().unwrap().clone();
    let id = after[&name].first().unwrap().clone();
    scene.dockerd.docker(&["rm", "-f", &id]);
    second.signal("-CONT");
    eventually(PATIENCE, "it is made anew", || scene.containers().get(&name).is_some_and(|ids| !ids.contains(&id)));
    scene.all_run(&first, 8);
    eventually(SLACK, "the sleeper follows", || second.try_status().is_some_and(|s| s["leads"] == false));
    eventually(LEASE + SLACK, "the first leads on", || first.leads());
    std::thread::sleep(LEASE);
    let creates = scene.creates();
    assert!(creates.iter().all(|(n, count)| *count == if *n == name { 2 } else { 1 }), "{name}: {creates:?}");

    // A stop gives the lead away at once, and is not waited for.
    first.signal("-TERM");
    eventually(LEASE + SLACK, "the second leads again", || second.leads());
    let names: Vec<String> = after.keys().map(|name| format!("ws/{name}")).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).chain(["-n", "team", "--timeout", "60s"]).collect();
    second.ok(&[&["delete"], &words[..]].concat());
    assert_eq!(scene.containers(), BTreeMap::new());
}

/// A process that is ended when it is dropped.
struct Ended(Child);

impl Ended {
    /// Ends it and gives what it has printed.
    fn output(&mut self) -> String {
        let mut text = String::new();
        let _ = self.0.kill();
        std::io::Read::read_to_string(self.0.stdout.as_mut().unwrap(), &mut text).unwrap();
        text
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_the_lead_routes_nothing() {
    let database = postgres::database().await;
    tokio::task::spawn_blocking(move || withdrawal(&database.url)).await.unwrap();
}

fn withdrawal(url: &str) {
    let scene = Scene::new();
    let dir = |name: &str| scene.dir.path().join(name);
    let feed = free_address();
    let first = Replica::start_with(&dir("one"), url, &["--feed", &feed.to_string()]);
    eventually(LEASE + SLACK, "the only replica leads", || first.leads());
    let mut ground = scene.ground();
    // Nobody listens at this port, and the route is made all the same.
    ground[3]["spec"]["ports"] = json!([{"name": "web", "port": 8080}]);
    scene.apply(&first, &ground);
    scene.apply(&first, &[record("Workspace", "routed", json!({"owner": "ada"}))]);
    // Beside the panel, which is always there.
    let routed = || told(feed, &dir("one")).is_some_and(|config| config.matches("Host(").count() > 1);
    eventually(PATIENCE, "its proxy is told the route", routed);
    twin(&dir("one"), &dir("two"));
    let second = Replica::start(&dir("two"), url);
    first.signal("-STOP");
    eventually(LEASE + SLACK, "the other takes over", || second.leads());
    first.signal("-CONT");
    eventually(LEASE, "its proxy is told to forget the route", || told(feed, &dir("one")).is_some() && !routed());
    second.ok(&["delete", "-n", "team", "ws/routed", "--timeout", "60s"]);
}

/// What a replica's feed answers a proxy that asks for the first time.
fn told(feed: SocketAddr, dir: &Path) -> Option<String> {
    let token = std::fs::read_to_string(dir.join("feed.token")).unwrap();
    let mut stream = TcpStream::connect(feed).ok()?;
    let ask =
        format!("GET /traefik/config HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n", token.trim());
    stream.write_all(ask.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}
