//! A world of a test's own: the real binary with its Traefik, on a Docker Engine in a network namespace of its own.

use super::equality::host;
use super::records;
use crate::support::dockerd::{Dockerd, TINY};
use crate::support::ports::free_address;
use crate::support::traefik::{find_traefik, request};
use crate::support::watchdog::Watchdog;
use crate::support::{self, client, devsanctum};
use devsanctum::plan::workspace::base_name;
use devsanctum::proxy::Earlier;
use devsanctum::resource::{DockerServer, Route, Workspace, labels};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the world to come to rest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test in a world on the engine that all tests share.
pub fn in_world(test: impl AsyncFnOnce(World<'static>)) {
    on(Dockerd::shared(), test);
}

/// Runs a test in a world on an engine of its own.
pub fn on<'d>(daemon: &'d Dockerd, test: impl AsyncFnOnce(World<'d>)) {
    crate::support::crypto();
    daemon.tiny_image();
    // Sockets and processes made by this thread from now on are in the engine's network namespace.
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", daemon.pid())).unwrap();
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::start(daemon).await;
        test(world).await;
    });
}

/// The address of the engine's machine as [`apart`] has it (RFC 5737).
pub const THERE: &str = "192.0.2.7";
pub const HERE: &str = "192.0.2.1";

/// As [`on`], with the control plane and its Traefik on a machine of their own, as far as networks go: a wire leads to the engine's
/// machine, and no route to its containers.
pub fn apart<'d>(daemon: &'d Dockerd, test: impl AsyncFnOnce(World<'d>)) {
    crate::support::crypto();
    daemon.tiny_image();
    // It ends with this thread, and takes its end of the wire, and so the other, with it.
    let mut machine = support::bare("unshare");
    machine.args(["--net", "--", "setpriv", "--pdeathsig", "KILL", "sleep", "infinity"]).stdin(Stdio::null());
    let mut machine = machine.spawn().unwrap();
    let own = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    while own(machine.id()) == own(std::process::id()) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (here, there) = (machine.id().to_string(), daemon.pid().to_string());
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        assert!(support::bare(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
    };
    run(&format!("ip link add name wire netns {here} type veth peer name wire netns {there}"));
    for (pid, address) in [(&here, HERE), (&there, THERE)] {
        run(&format!("nsenter -t {pid} -n ip address add {address}/24 dev wire"));
        run(&format!("nsenter -t {pid} -n ip link set wire up"));
        run(&format!("nsenter -t {pid} -n ip link set lo up"));
    }
    let namespace = std::fs::File::open(format!("/proc/{here}/ns/net")).unwrap();
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::start(daemon).await;
        test(world).await;
    });
    machine.kill().unwrap();
    machine.wait().unwrap();
}

/// A control plane, its engine and its Traefik.
pub struct World<'d> {
    pub daemon: &'d Dockerd,
    pub client: Client,
    pub web: SocketAddr,
    pub instance: String,
    /// Containers each workspace has beside its own.
    pub sidecars: usize,
    listen: SocketAddr,
    dir: Watchdog,
    child: Option<Child>,
    /// What is somebody else's, and how it was.
    pub foreign: BTreeMap<String, String>,
}

impl<'d> World<'d> {
    async fn start(daemon: &'d Dockerd) -> Self {
        let dir = Watchdog::new("ds-e2e-");
        let (listen, web) = (free_address(), free_address());
        let child = Some(launch(dir.path(), listen, web, &[], &[]));
        let client = connect(dir.path()).await;
        let (sidecars, foreign, instance) = (0, BTreeMap::new(), String::new());
        let mut world = Self { daemon, client, web, instance, sidecars, listen, dir, child, foreign };
        world.ready().await;
        let status: Value = world.client.request(http::Request::get("/devsanctum/status").body(vec![]).unwrap()).await.unwrap();
        world.instance = status["instance"].as_str().unwrap().to_owned();
        world
    }

    pub fn state_dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Where the API listens.
    pub fn api(&self) -> SocketAddr {
        self.listen
    }

    /// Where Traefik's own API is, and where Traefik asks for its routes.
    pub fn traefik(&self) -> Earlier {
        Earlier::read(self.dir.path()).unwrap()
    }

    /// The process of Traefik.
    pub fn traefik_pid(&self) -> Option<String> {
        let note = std::fs::read_to_string(self.dir.path().join("traefik/traefik.pid")).ok()?;
        let pid = note.split(' ').next()?.to_owned();
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("traefik")).then_some(pid)
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        until("the control plane to be ready", PATIENCE, async || {
            let asked = self.client.request_text(http::Request::get("/readyz").body(vec![]).unwrap()).await;
            asked.map(drop).map_err(|e| format!("{e}; its log ends:\n{}", self.log_tail()))
        })
        .await;
    }

    /// Kills the control plane with SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again on the same state.
    pub fn launch(&mut self) {
        self.child = Some(launch(self.dir.path(), self.listen, self.web, &[], &[]));
    }

    /// Starts it again with a watchdog; gives the watchdog's process.
    pub fn launch_watched(&mut self) -> u32 {
        self.launch_with(&["--watchdog"], &[])
    }

    /// Starts it again with more flags and variables; gives its process.
    pub fn launch_with(&mut self, more: &[&str], env: &[(&str, String)]) -> u32 {
        let child = launch(self.dir.path(), self.listen, self.web, more, env);
        self.child.insert(child).id()
    }

    /// Starts it again and waits until it is ready.
    pub async fn restart(&mut self) {
        self.launch();
        self.ready().await;
    }

    /// Does something behind a control plane that is held still meanwhile: it sees the whole change at once.
    pub fn unseen<T>(&self, change: impl FnOnce() -> T) -> T {
        self.signal("-STOP");
        let done = change();
        self.signal("-CONT");
        done
    }

    /// Sends a signal to the control plane.
    pub fn signal(&self, signal: &str) {
        support::signal(signal, self.child.as_ref().unwrap().id());
    }

    pub fn docker(&self, args: &[&str]) -> String {
        self.daemon.docker(args)
    }

    /// What a command prints, whatever comes of it (busybox's static wget crashes here, so requests go through nc).
    pub fn docker_says(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.daemon.try_docker(args).stdout).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Creates a record, whatever its kind.
    pub async fn create(&self, record: Value) {
        self.try_create(&record).await.unwrap_or_else(|e| panic!("{record}: {e}"));
    }

    /// As [`World::create`], with whatever comes of it.
    pub async fn try_create(&self, record: &Value) -> kube::Result<Value> {
        let kind = record["kind"].as_str().unwrap().to_lowercase();
        let plural = if kind == "settings" { kind } else { format!("{kind}s") };
        let path = match record["metadata"]["namespace"].as_str() {
            Some(ns) => format!("/apis/devsanctum.io/v1/namespaces/{ns}/{plural}"),
            None => format!("/apis/devsanctum.io/v1/{plural}"),
        };
        let request = http::Request::post(path).header("content-type", "application/json").body(record.to_string().into_bytes());
        self.client.request(request.unwrap()).await
    }

    /// A server, a user, a template, a project and `n` workspaces, all as they should be.
    pub async fn with_workspaces(&self, n: usize) {
        self.ground().await;
        for i in 0..n {
            self.create(records::workspace(&format!("w{i}"))).await;
        }
        self.at_rest().await;
    }

    /// Everything but workspaces.
    pub async fn ground(&self) {
        self.create(records::settings(TINY)).await;
        self.create(records::server("local", &self.daemon.socket())).await;
        self.create(records::user()).await;
        self.create(records::template("hello")).await;
        self.create(records::project("team", "hello")).await;
    }

    pub fn workspaces(&self) -> Api<Workspace> {
        Api::namespaced(self.client.clone(), "team")
    }

    pub fn routes(&self) -> Api<Route> {
        Api::namespaced(self.client.clone(), "team")
    }

    pub fn servers(&self) -> Api<DockerServer> {
        Api::all(self.client.clone())
    }

    pub async fn workspace(&self, name: &str) -> Workspace {
        self.workspaces().get(name).await.unwrap()
    }

    pub async fn merge(&self, name: &str, body: Value) {
        self.workspaces().patch(name, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.workspaces().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until a workspace is gone.
    pub async fn gone(&self, name: &str) {
        until(&format!("{name} to go"), PATIENCE, async || match self.workspaces().get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|w| w.map(|w| w.status)))),
        })
        .await;
    }

    /// The name of a workspace's container.
    pub async fn container(&self, name: &str) -> String {
        base_name(&self.workspace(name).await.identity())
    }

    /// The name of the bridge that workspaces share.
    pub fn bridge(&self) -> String {
        format!("ds-{}", &self.instance[..8])
    }

    /// The host of a workspace's first service, and the page it answers with.
    pub async fn page(&self, name: &str) -> (u16, String) {
        match host(&self.workspace(name).await) {
            Some(host) => request(self.web, &host, "/", &[]).await,
            None => (0, "no host yet".into()),
        }
    }

    /// Notes of the events about a record.
    pub async fn events(&self, name: &str) -> Vec<(String, String)> {
        let all = Api::<k8s_openapi::api::events::v1::Event>::all(self.client.clone());
        let found = all.list(&ListParams::default()).await.unwrap().items;
        let about = found.into_iter().filter(|e| e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name));
        about.map(|e| (e.reason.unwrap_or_default(), e.note.unwrap_or_default())).collect()
    }

    pub async fn event(&self, about: &str, reason: &str) -> String {
        let mut note = String::new();
        until(&format!("an event {reason} about {about}"), PATIENCE, async || {
            let all = self.events(about).await;
            note = all.iter().find(|(r, _)| r == reason).map(|(_, n)| n.clone()).ok_or_else(|| format!("{all:?}"))?;
            Ok(())
        })
        .await;
        note
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.instance.is_empty() {
            return;
        }
        for filter in [format!("label={}={}", labels::INSTANCE, self.instance), format!("label=ds-e2e={}", self.instance)] {
            for (list, remove) in [
                (["ps", "-aq"].as_slice(), ["rm", "-fv"].as_slice()),
                (&["network", "ls", "-q"], &["network", "rm"]),
                (&["volume", "ls", "-q"], &["volume", "rm"]),
            ] {
                let args: Vec<&str> = list.iter().copied().chain(["--filter", &filter]).collect();
                let ids = String::from_utf8_lossy(&self.daemon.try_docker(&args).stdout).into_owned();
                let args: Vec<&str> = remove.iter().copied().chain(ids.split_whitespace()).collect();
                if args.len() > remove.len() {
                    self.daemon.try_docker(&args);
                }
            }
        }
    }
}

fn launch(dir: &std::path::Path, listen: SocketAddr, web: SocketAddr, more: &[&str], env: &[(&str, String)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = devsanctum();
    command.arg("--state-dir").arg(dir).arg("serve").args(more).arg("--traefik").arg(find_traefik());
    command.arg("--listen").arg(listen.to_string()).arg("--web").arg(web.to_string()).args(["--ssh", "127.0.0.1:0"]);
    command
        .envs(env.iter().map(|(name, value)| (name, value)))
        .env("RUST_LOG", "info,devsanctum=debug")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command.spawn().unwrap()
}

async fn connect(dir: &std::path::Path) -> Client {
    let mut connected = None;
    until("the kubeconfig", PATIENCE, async || {
        let text = std::fs::read_to_string(dir.join("kubeconfig")).map_err(|e| e.to_string())?;
        connected = Some(client(&text).await?);
        Ok(())
    })
    .await;
    connected.unwrap()
}

/// Asks again and again until it is so.
#[track_caller]
pub fn until(what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> Result<(), String>) -> impl Future<Output = ()> {
    let (what, caller) = (what.to_owned(), std::panic::Location::caller());
    async move {
        let begun = Instant::now();
        loop {
            let Err(last) = ask().await else { break };
            assert!(begun.elapsed() < patience, "{caller}: waited {patience:?} for {what}: {last}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprintln!("{caller}: {what} took {:?}", begun.elapsed());
    }
}

/// A merge patch with one annotation.
pub fn annotation(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}
