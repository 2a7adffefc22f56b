//! Debian's docker-registry, where an engine reaches it on loopback.

use super::bare;
use super::dockerd::Dockerd;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// `push-me`, by bcrypt.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuAglephEw1JPgHJV2KyWKcWrVfUriAd2";
pub const USER: &str = "pusher";
pub const PASSWORD: &str = "push-me";

/// A registry that wants a login. It ends with the value.
pub struct DockerRegistry {
    pub host: String,
    child: Child,
}

impl DockerRegistry {
    /// Starts one that keeps its images in a folder, on loopback of the engine's network namespace. Several may share a folder,
    /// where engines do not share a namespace.
    pub fn start(daemon: &Dockerd, dir: &Path, port: u16) -> Self {
        let (storage, users, config) = (dir.join("storage"), dir.join("users"), dir.join(format!("{}.yml", daemon.pid())));
        std::fs::write(&users, format!("{USER}:{HASH}\n")).unwrap();
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {storage:?}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {users:?}}}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let namespace = format!("--net=/proc/{}/ns/net", daemon.pid());
        let mut command = bare("nsenter");
        command.args([&namespace, "docker-registry", "serve"]).arg(&config);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let registry = Self { host: format!("127.0.0.1:{port}"), child };
        registry.answers(daemon, ([127, 0, 0, 1], port).into());
        registry
    }

    fn answers(&self, daemon: &Dockerd, address: SocketAddr) {
        let begun = Instant::now();
        while within(daemon, move || TcpStream::connect(address)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "no registry at {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
