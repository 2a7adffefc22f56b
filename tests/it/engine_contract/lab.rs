//! An engine to test, and a hand at its host.

use crate::support::dockerd::{Dockerd, Options, TINY};
use devsanctum::engine::docker::DockerEngine;
use devsanctum::engine::fake::FakeEngine;
use devsanctum::engine::*;
use devsanctum::resource::labels;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// What controllers listen for.
const ACTIONS: [&str; 13] =
    ["create", "start", "die", "stop", "kill", "oom", "pause", "unpause", "destroy", "rename", "update", "connect", "disconnect"];

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

static LABS: AtomicU32 = AtomicU32::new(0);

/// An engine, and an installation and names of the test's own on it.
pub struct Lab {
    pub engine: DockerEngine,
    pub instance: String,
    socket: PathBuf,
    fake: Option<(FakeEngine, tempfile::TempDir)>,
    own: Option<Dockerd>,
}

impl Lab {
    pub fn fake() -> Self {
        let fake = FakeEngine::new(7);
        fake.add_image(TINY);
        let (instance, dir) = (Self::new_instance(), tempfile::tempdir().unwrap());
        let socket = dir.path().join("s");
        let (listener, served) = (UnixListener::bind(&socket).unwrap(), fake.clone());
        tokio::spawn(async move { served.listen(listener).await });
        Self { engine: fake.engine(&instance).unwrap(), instance, socket, fake: Some((fake, dir)), own: None }
    }

    pub fn real() -> Self {
        Self::at(Dockerd::shared().socket(), None)
    }

    /// On a daemon of its own, which may be killed.
    pub fn own(live_restore: bool) -> Self {
        let daemon = Dockerd::start(&Options { shared_network: true, no_firewall: true, live_restore, ..Options::default() });
        daemon.tiny_image();
        Self::at(daemon.socket(), Some(daemon))
    }

    /// On a daemon with a firewall of its own, where no other test makes networks: whenever one is made, the engine takes its
    /// rules between networks out for some milliseconds.
    pub fn undisturbed() -> Self {
        let daemon = Dockerd::start(&Options::default());
        daemon.tiny_image();
        Self::at(daemon.socket(), Some(daemon))
    }

    fn at(socket: PathBuf, own: Option<Dockerd>) -> Self {
        let instance = Self::new_instance();
        let engine = DockerEngine::at(Endpoint::Unix(socket.clone()), &instance).unwrap();
        Self { engine, instance, socket, fake: None, own }
    }

    pub fn fake_engine(&self) -> Option<&FakeEngine> {
        self.fake.as_ref().map(|(fake, _)| fake)
    }

    fn new_instance() -> String {
        format!("lab{}", LABS.fetch_add(1, Ordering::Relaxed))
    }

    /// A name that no other test uses.
    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.instance)
    }

    pub fn labels(&self, uid: &str) -> Labels {
        Labels::from([(labels::INSTANCE.to_owned(), self.instance.clone()), (labels::UID.to_owned(), uid.to_owned())])
    }

    /// A container that sleeps.
    pub fn spec(&self, what: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name(what),
            image: TINY.into(),
            command: Some(vec!["sleep".into(), "100000".into()]),
            workdir: None,
            env: BTreeMap::new(),
            labels: self.labels(what),
            mounts: BTreeMap::new(),
            attach: Attach::None,
            hostname: None,
            memory: 32 << 20,
            nano_cpus: 500_000_000,
            pids: 64,
        }
    }

    /// A container that runs a script.
    pub fn script(&self, what: &str, script: &str) -> ContainerSpec {
        ContainerSpec { command: Some(vec!["sh".into(), "-c".into(), script.into()]), ..self.spec(what) }
    }

    /// Creates and starts.
    pub async fn run(&self, spec: &ContainerSpec) -> ContainerId {
        let id = self.engine.create(spec).await.unwrap();
        self.engine.start(&id).await.unwrap();
        id
    }

    pub fn network_spec(&self, what: &str) -> NetworkSpec {
        NetworkSpec { name: self.name(what), labels: self.labels(what), subnet: None, bridge: None, inter_container: false }
    }

    pub async fn inspect(&self, id: &ContainerId) -> Container {
        self.engine.inspect(id.as_str()).await.unwrap().expect("the container is there")
    }

    /// Waits until a container has ended.
    pub async fn ended(&self, id: &ContainerId) -> Container {
        for _ in 0..300 {
            let found = self.inspect(id).await;
            if found.state == ContainerState::Exited {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the container does not end");
    }

    pub async fn sh(&self, id: &ContainerId, script: &str) -> ExecOutput {
        let argv = ["sh", "-c", script].map(str::to_owned);
        self.engine.exec_output(id, &argv, 64 * 1024).await.unwrap()
    }

    // By hand, behind the engine's back.

    fn docker(&self, args: &[&str]) {
        self.own.as_ref().unwrap_or_else(|| Dockerd::shared()).docker(args);
    }

    /// Kills the daemon and starts it again.
    pub fn crash(&self) {
        match (self.fake_engine(), &self.own) {
            (Some(fake), _) => fake.restart_daemon(),
            (None, Some(daemon)) => {
                daemon.kill();
                daemon.restart();
            }
            (None, None) => panic!("the daemon is everybody's"),
        }
    }

    /// As [`Lab::crash`], of a daemon that lets containers go on without it.
    pub fn crash_alone(&self) {
        match self.fake_engine() {
            Some(fake) => fake.restart_daemon_alone(),
            None => self.crash(),
        }
    }

    /// Runs a container that is killed for its memory.
    pub async fn run_out_of_memory(&self, what: &str) -> ContainerId {
        let Some(fake) = self.fake_engine() else {
            // The first run only. It is listened for only some time after the start, so the memory is eaten again and
            // again. A busy dockerd hears of it only after the container's end, and then never says so: it ends once it
            // was told.
            let script = "[ -e /ran ] && exec sleep 100000; : > /ran
                while [ ! -e /told ]; do (x=x; while :; do x=$x$x; done); sleep 0.3; done; exit 137";
            let since = self.now();
            let id = self.run(&ContainerSpec { memory: 8 << 20, ..self.script(what, script) }).await;
            self.told_of_memory(&since, &id).await;
            self.docker(&["cp", "/etc/hostname", &format!("{}:/told", self.name(what))]);
            return id;
        };
        let id = self.run(&self.spec(what)).await;
        assert!(fake.oom_kill(&self.name(what)));
        id
    }

    /// What has been told since then.
    pub async fn events(&self, since: &str) -> Vec<Value> {
        let filters = encoded(&json!({"event": ACTIONS}).to_string());
        let path = format!("/v1.41/events?since={since}&until={}&filters={filters}", self.now());
        let (status, body) = self.ask_bytes(&path, "GET", None).await;
        assert_eq!(status, 200);
        let lines = String::from_utf8(body.to_vec()).unwrap();
        lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    async fn told_of_memory(&self, since: &str, id: &ContainerId) {
        for _ in 0..300 {
            let events = self.events(since).await;
            if events.iter().any(|e| e["Action"] == "oom" && e["Actor"]["ID"] == id.as_str()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the engine does not tell of it");
    }

    pub fn kill(&self, name: &str) {
        match self.fake_engine() {
            Some(fake) => assert!(fake.kill(name)),
            None => self.docker(&["kill", name]),
        }
    }

    pub fn pause(&self, name: &str) {
        match self.fake_engine() {
            Some(fake) => assert!(fake.pause(name)),
            None => self.docker(&["pause", name]),
        }
    }

    /// The container's command keeps a core busy.
    pub fn is_busy(&self, name: &str) {
        if let Some(fake) = self.fake_engine() {
            assert!(fake.set_load(name, 1.0));
        }
    }

    pub fn rename(&self, name: &str, to: &str) {
        match self.fake_engine() {
            Some(fake) => assert!(fake.rename(name, to)),
            None => self.docker(&["rename", name, to]),
        }
    }

    pub fn disconnect(&self, network: &str, name: &str) {
        match self.fake_engine() {
            Some(fake) => assert!(fake.disconnect(network, name)),
            None => self.docker(&["network", "disconnect", "-f", network, name]),
        }
    }

    /// Starts a container of someone else.
    pub fn add_foreign(&self, name: &str, labels: &Labels) {
        if let Some(fake) = self.fake_engine() {
            assert!(fake.add_foreign(name, labels));
            return;
        }
        let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut args = vec!["run", "-d", "--network=none", "--name", name, "--label", "ds-lab=foreign"];
        pairs.iter().for_each(|pair| args.extend(["--label", pair.as_str()]));
        args.extend([TINY, "sleep", "100000"]);
        self.docker(&args);
    }

    /// Asks for a container and hangs up before the answer.
    pub async fn create_and_lose(&self, spec: &ContainerSpec) {
        let body = serde_json::json!({ "Image": spec.image, "Labels": spec.labels, "Cmd": ["true"] });
        self.ask_and_leave("POST", &format!("/containers/create?name={}", spec.name), Some(&body)).await;
    }

    /// Asks for something as another client would, and hangs up before the answer.
    pub async fn ask_and_leave(&self, method: &str, path: &str, body: Option<&Value>) {
        use tokio::io::AsyncWriteExt;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /v1.41{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = UnixStream::connect(&self.socket).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        // So that it has been read by then.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// What the engine answers another client: status, and the body as JSON, if it is that.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, bytes) = self.ask_bytes(&format!("/v1.41{path}"), method, body).await;
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// As [`Lab::ask`], with the whole path and the bytes as they came.
    pub async fn ask_bytes(&self, path: &str, method: &str, body: Option<&Value>) -> (u16, bytes::Bytes) {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri(path).header("host", "x");
        let request = request.header("content-type", "application/json");
        let body = Full::new(bytes::Bytes::from(body.map(Value::to_string).unwrap_or_default()));
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    }

    /// Docker's words in an answer.
    pub async fn refusal(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let (status, answer) = self.ask(method, path, body).await;
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    }

    /// The engine's time, as its API takes it.
    pub fn now(&self) -> String {
        let now = self.fake_engine().map_or_else(jiff::Timestamp::now, FakeEngine::now);
        format!("{}.{:09}", now.as_second(), now.subsec_nanosecond())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.fake.is_some() || self.own.is_some() {
            return;
        }
        let daemon = Dockerd::shared();
        let filters = ["--filter".to_owned(), format!("name={}-", self.instance)];
        let list = |what: &[&str]| {
            let args: Vec<&str> = what.iter().copied().chain(filters.iter().map(String::as_str)).collect();
            String::from_utf8_lossy(&daemon.try_docker(&args).stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        for (kind, listing) in [
            (["rm", "-f"].as_slice(), ["ps", "-aq"].as_slice()),
            (&["network", "rm"], &["network", "ls", "-q"]),
            (&["volume", "rm"], &["volume", "ls", "-q"]),
        ] {
            let found = list(listing);
            if !found.is_empty() {
                daemon.try_docker(&kind.iter().copied().chain(found.iter().map(String::as_str)).collect::<Vec<_>>());
            }
        }
    }
}
