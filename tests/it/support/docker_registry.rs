//! Debian's docker-registry on loopback, where an engine reaches it. It can go away and come again.

use super::bare;
use super::dockerd::Dockerd;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// `push-me`, by bcrypt.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuAglephEw1JPgHJV2KyWKcWrVfUriAd2";
pub const USER: &str = "pusher";
pub const PASSWORD: &str = "push-me";

/// A registry. It ends with the value. Engines speak plain HTTP to one on loopback.
pub struct DockerRegistry<'d> {
    pub host: String,
    daemon: &'d Dockerd,
    dir: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

impl<'d> DockerRegistry<'d> {
    /// Starts one that keeps its images in a folder, on loopback of the engine's network namespace. Several may share a folder,
    /// where engines do not share a namespace.
    pub fn start(daemon: &'d Dockerd, dir: &Path, port: u16) -> Self {
        Self::begin(daemon, dir, port, "")
    }

    /// One that lets in only who knows the name and the password.
    pub fn asking(daemon: &'d Dockerd, dir: &Path, port: u16) -> Self {
        let users = dir.join("users");
        std::fs::write(&users, format!("{USER}:{HASH}\n")).unwrap();
        Self::begin(daemon, dir, port, &format!("auth: {{htpasswd: {{realm: test, path: {users:?}}}}}\n"))
    }

    fn begin(daemon: &'d Dockerd, dir: &Path, port: u16, auth: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let storage = dir.join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {storage:?}}}}}\nhttp: {{addr: '{address}'}}\n{auth}"
        );
        let mut registry = Self { host: address.to_string(), daemon, dir: dir.to_owned(), address, child: None };
        std::fs::write(registry.config(), config).unwrap();
        registry.launch();
        registry
    }

    fn config(&self) -> PathBuf {
        self.dir.join(format!("{}.yml", self.daemon.pid()))
    }

    /// Starts it on what it holds, and waits until it listens.
    pub fn launch(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let namespace = format!("--net=/proc/{}/ns/net", self.daemon.pid());
        let mut command = bare("nsenter");
        command.args([&namespace, "docker-registry", "serve"]).arg(self.config());
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let (begun, address) = (Instant::now(), self.address);
        while within(self.daemon, move || TcpStream::connect(address)).is_err() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(30), "no registry listens (scripts/test-tools.sh installs it): {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes it down; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Keeps an image of the engine here, and here alone. Gives its name.
    pub fn take(&self, image: &str, name: &str) -> String {
        let name = format!("{}/{name}", self.host);
        self.daemon.docker(&["tag", image, &name]);
        self.daemon.docker(&["push", "--quiet", &name]);
        self.daemon.docker(&["rmi", &name]);
        name
    }
}

impl Drop for DockerRegistry<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that nothing in the network namespace of an engine listens at now.
pub fn free_port(daemon: &Dockerd) -> u16 {
    within(daemon, || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
}

/// Does something in the network namespace of an engine.
pub fn within<T: Send + 'static>(daemon: &Dockerd, act: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", daemon.pid())).unwrap();
    let enter = move || {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network)).unwrap();
        act()
    };
    std::thread::spawn(enter).join().unwrap()
}
