//! The same Docker calls with no controller, and a Traefik with no controller behind.

use super::docker::{Dockerd, TINY};
use super::records::SERVE;
use super::tool::{find, free_port};
use devsanctum::engine::docker::DockerEngine;
use devsanctum::engine::ownership::Ownership;
use devsanctum::engine::{Attach, ContainerId, ContainerSpec, Endpoint, Engine, NetworkSpec, VolumeSpec};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::watch;

const NETWORK: &str = "bare";
/// Calls in flight: the best there is on two cores.
pub const IN_FLIGHT: usize = 4;

/// The port's own adapter and nothing above it: every call and every setting is the product's.
pub struct Bare(pub DockerEngine);

impl Bare {
    /// Connects and makes the shared bridge.
    pub async fn prepare(daemon: &Dockerd) -> Self {
        let engine = DockerEngine::at(Endpoint::Unix(daemon.socket()), "bare").unwrap();
        let spec = NetworkSpec {
            name: NETWORK.into(),
            labels: owner("network").labels(),
            subnet: Some("10.212.0.0/16".into()),
            bridge: Some("dsbare".into()),
            inter_container: false,
        };
        engine.create_network(&spec).await.unwrap();
        Self(engine)
    }

    /// Volume, container, start, address.
    pub async fn make(&self, name: &str) -> (ContainerId, IpAddr) {
        let owner = owner(name);
        self.0.create_volume(&VolumeSpec { name: format!("{name}-home"), labels: owner.labels() }).await.unwrap();
        let spec = ContainerSpec {
            name: name.into(),
            image: TINY.into(),
            command: Some(["sh", "-c", SERVE].map(String::from).to_vec()),
            env: BTreeMap::new(),
            labels: owner.labels_with_digest("bare"),
            mounts: BTreeMap::from([(format!("{name}-home"), "/home".into())]),
            attach: Attach::Network(NETWORK.into()),
            hostname: Some(name.into()),
            workdir: None,
            memory: 64 << 20,
            nano_cpus: 1_000_000_000,
            pids: 64,
        };
        let id = self.0.create(&spec).await.unwrap();
        self.0.start(&id).await.unwrap();
        let found = self.0.inspect(id.as_str()).await.unwrap().unwrap();
        (id, found.networks[NETWORK].unwrap())
    }

    /// Many, with so many in flight.
    pub async fn make_all(&self, count: usize, in_flight: usize) -> BTreeMap<String, (ContainerId, IpAddr)> {
        let names = (0..count).map(|i| format!("bare-{i}"));
        let each = futures::stream::iter(names).map(|name| async move {
            let made = self.make(&name).await;
            (name, made)
        });
        each.buffer_unordered(in_flight).collect().await
    }
}

fn owner(name: &str) -> Ownership {
    Ownership {
        instance: "bare".into(),
        uid: format!("uid-{name}"),
        kind: "Workspace".into(),
        namespace: Some("bench".into()),
        name: name.into(),
        role: "main".into(),
    }
}

/// A Traefik with a bare long-polled HTTP provider in this process.
pub struct BareTraefik {
    child: Child,
    pub web: SocketAddr,
    config: watch::Sender<String>,
    _dir: TempDir,
}

impl BareTraefik {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (config, changed) = watch::channel(String::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(String::new()));
        let answer = move || {
            let (mut changed, told) = (changed.clone(), told.clone());
            async move {
                let before = told.lock().unwrap().clone();
                let _ = changed.wait_for(|c| !c.is_empty() && *c != before).await;
                let body = changed.borrow().clone();
                told.lock().unwrap().clone_from(&body);
                ([("content-type", "application/json")], body)
            }
        };
        let routes = axum::Router::new().route("/config", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let web = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let settings = json!({
            "global": {"checkNewVersion": false, "sendAnonymousUsage": false}, "log": {"level": "ERROR"},
            "entryPoints": {"web": {"address": web.to_string()}},
            "providers": {"providersThrottleDuration": "0s",
                "http": {"endpoint": format!("http://{endpoint}/config"), "pollInterval": "1ms", "pollTimeout": "600s"}},
        });
        let file = dir.path().join("traefik.yml");
        std::fs::write(&file, settings.to_string()).unwrap();
        let program = find("DEVSANCTUM_TRAEFIK", "traefik").unwrap();
        let mut command = Command::new(program);
        command.arg(format!("--configFile={}", file.display())).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, web, config, _dir: dir }
    }

    /// Tells it all routes: name, host, upstream.
    pub fn tell(&self, routes: &BTreeMap<String, (String, SocketAddr)>) {
        let certificate = devsanctum::proxy::certificate::self_signed;
        static FILES: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
        let files = FILES.get_or_init(|| serde_json::to_value(certificate().unwrap()).unwrap());
        let router = |(name, (host, _)): (&String, &(String, SocketAddr))| {
            (name.clone(), json!({"rule": format!("Host(`{host}`)"), "service": name, "entryPoints": ["web"]}))
        };
        let service = |(name, (_, to)): (&String, &(String, SocketAddr))| {
            (name.clone(), json!({"loadBalancer": {"servers": [{"url": format!("http://{to}")}]}}))
        };
        let routers: serde_json::Map<String, Value> = routes.iter().map(router).collect();
        let services: serde_json::Map<String, Value> = routes.iter().map(service).collect();
        let config = json!({"http": {"routers": routers, "services": services},
            "tls": {"stores": {"default": {"defaultCertificate": files}}}});
        self.tell_all(&config);
    }

    /// Tells it a whole configuration.
    pub fn tell_all(&self, config: &Value) {
        let _ = self.config.send(config.to_string());
    }
}

impl Drop for BareTraefik {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
