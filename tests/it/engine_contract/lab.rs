//! An engine to test, and a hand at its host.

use crate::support::dockerd::{Dockerd, TINY};
use devsanctum::engine::docker::DockerEngine;
use devsanctum::engine::fake::{FakeEngine, Fault};
use devsanctum::engine::*;
use devsanctum::resource::labels;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static LABS: AtomicU32 = AtomicU32::new(0);

/// An engine, and an installation and names of the test's own on it.
pub struct Lab {
    pub engine: DockerEngine,
    pub instance: String,
    fake: Option<FakeEngine>,
}

impl Lab {
    pub fn fake() -> Self {
        let fake = FakeEngine::new(7);
        fake.add_image(TINY);
        let instance = Self::new_instance();
        Self { engine: fake.engine(&instance).unwrap(), instance, fake: Some(fake) }
    }

    pub fn real() -> Self {
        let instance = Self::new_instance();
        let endpoint = Endpoint::Unix(Dockerd::shared().socket());
        Self { engine: DockerEngine::at(endpoint, &instance).unwrap(), instance, fake: None }
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
        Dockerd::shared().docker(args);
    }

    pub fn kill(&self, name: &str) {
        match &self.fake {
            Some(fake) => assert!(fake.kill(name)),
            None => self.docker(&["kill", name]),
        }
    }

    pub fn pause(&self, name: &str) {
        match &self.fake {
            Some(fake) => assert!(fake.pause(name)),
            None => self.docker(&["pause", name]),
        }
    }

    pub fn rename(&self, name: &str, to: &str) {
        match &self.fake {
            Some(fake) => assert!(fake.rename(name, to)),
            None => self.docker(&["rename", name, to]),
        }
    }

    pub fn disconnect(&self, network: &str, name: &str) {
        match &self.fake {
            Some(fake) => assert!(fake.disconnect(network, name)),
            None => self.docker(&["network", "disconnect", "-f", network, name]),
        }
    }

    /// Starts a container of someone else.
    pub fn add_foreign(&self, name: &str, labels: &Labels) {
        if let Some(fake) = &self.fake {
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
        if let Some(fake) = &self.fake {
            fake.plan_fault("create", 0, Fault::LostAnswer);
            assert!(matches!(self.engine.create(spec).await, Err(EngineError::Unreachable(_))));
            return;
        }
        use tokio::io::AsyncWriteExt;
        let body = serde_json::json!({ "Image": spec.image, "Labels": spec.labels, "Cmd": ["true"] }).to_string();
        let request = format!(
            "POST /v1.41/containers/create?name={} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            spec.name,
            body.len()
        );
        let mut socket = tokio::net::UnixStream::connect(Dockerd::shared().socket()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.fake.is_some() {
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
