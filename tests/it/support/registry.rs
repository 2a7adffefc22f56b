//! An image registry on loopback, that can go away and come again.

use super::bare;
use super::dockerd::Dockerd;
use super::ports::free_address;
use super::watchdog::Watchdog;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The registry of Debian's package `docker-registry`. Engines speak plain HTTP to one on loopback.
pub struct Registry {
    pub address: SocketAddr,
    dir: Watchdog,
    child: Option<Child>,
}

impl Registry {
    /// Listens on loopback in the network namespace of this thread.
    pub fn start() -> Self {
        let (dir, address) = (Watchdog::new("ds-registry-"), free_address());
        let data = dir.path().join("data").display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp: {{addr: '{address}'}}\n"
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut registry = Self { address, dir, child: None };
        registry.launch();
        registry
    }

    /// Starts it on what it holds, and waits until it listens.
    pub fn launch(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = bare("docker-registry");
        command.arg("serve").arg(self.dir.path().join("config.yml"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let started = command.spawn();
        self.child = Some(started.expect("this machine has no docker-registry: scripts/test-tools.sh installs it"));
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(30), "the registry does not listen: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Takes it down; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Keeps an image of the engine here, and here alone. Gives its name.
    pub fn take(&self, daemon: &Dockerd, image: &str, name: &str) -> String {
        let name = format!("{}/{name}", self.address);
        daemon.docker(&["tag", image, &name]);
        daemon.docker(&["push", "--quiet", &name]);
        daemon.docker(&["rmi", &name]);
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
