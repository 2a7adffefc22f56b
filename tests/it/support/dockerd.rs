//! A real Docker Engine of the tests' own: own folders, own sockets, own network namespace; gone when the tests are.

use super::bare;
use super::watchdog::Watchdog;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A busybox root with its applets, as [`Dockerd::tiny_image`] puts it on the engine.
pub const TINY: &str = "ds-test/busybox:1";

/// Starts a containerd, then the daemon: one that is not given a containerd takes the machine's where there is one.
/// Lies in the folder; its arguments are the daemon's command.
const LAUNCH: &str = r#"
dir=${0%/*}
rm -f "$dir/containerd.sock"
containerd --config "$dir/containerd.toml" >>"$dir/log" 2>&1 &
echo $! >"$dir/containerd.pid"
i=0
while [ $i -lt 600 ] && ! [ -S "$dir/containerd.sock" ]; do sleep 0.05; i=$((i + 1)); done
exec "$@"
"#;

/// How a daemon is to be started.
#[derive(Default)]
pub struct Options {
    /// Run in the test's own network namespace, so that containers' addresses can be reached from the test.
    pub shared_network: bool,
    /// Listen on TCP with TLS (on loopback alone in the test's own network namespace): folder with `ca.pem`, `server.pem`, `server-key.pem`, and the port.
    pub tls: Option<(PathBuf, u16)>,
    /// Set no firewall rules: a must in a network namespace that is not the test's alone.
    pub no_firewall: bool,
    /// Let containers go on while the daemon is away.
    pub live_restore: bool,
    /// Keep its data on a disk of its own of this size, in mebibytes.
    pub disk_mb: Option<u32>,
}

/// A running dockerd.
pub struct Dockerd {
    home: Watchdog,
    command: Vec<String>,
}

impl Dockerd {
    /// The one daemon that the tests of this binary share.
    pub fn shared() -> &'static Dockerd {
        static SHARED: OnceLock<Dockerd> = OnceLock::new();
        SHARED.get_or_init(|| {
            let daemon = Dockerd::start(&Options::default());
            daemon.tiny_image();
            daemon
        })
    }

    /// Starts a daemon and waits until it answers.
    pub fn start(options: &Options) -> Self {
        let home = Watchdog::asking("ds-dockerd-", "pid", "TERM");
        let dir = home.path();
        let of = |name: &str| dir.join(name).display().to_string();
        let (root, state, socket) = (of("containerd/root"), of("containerd/state"), of("containerd.sock"));
        let config = format!(
            "version = 2\nroot = \"{root}\"\nstate = \"{state}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{socket}\"\n"
        );
        std::fs::write(dir.join("containerd.toml"), config).unwrap();
        std::fs::write(dir.join("launch"), LAUNCH).unwrap();
        let unshare = ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"].map(str::to_owned);
        let outer = if options.shared_network { Vec::new() } else { unshare.to_vec() };
        let mut command = vec!["dockerd".to_owned()];
        let fixed = ["--bridge=none", "--shutdown-timeout=2", "--default-address-pool=base=10.64.0.0/12,size=24"];
        command.extend(fixed.map(str::to_owned));
        command.push(format!("--host=unix://{}", of("s")));
        for (flag, name) in [("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid"), ("containerd", "containerd.sock")]
        {
            command.push(format!("--{flag}={}", of(name)));
        }
        if let Some((pem, port)) = &options.tls {
            let host = if options.shared_network { "127.0.0.1" } else { "0.0.0.0" };
            command.extend(["--tlsverify".to_owned(), format!("--host=tcp://{host}:{port}")]);
            for (flag, name) in [("tlscacert", "ca.pem"), ("tlscert", "server.pem"), ("tlskey", "server-key.pem")] {
                command.push(format!("--{flag}={}", pem.join(name).display()));
            }
        }
        if options.no_firewall {
            command.push("--iptables=false".to_owned());
        }
        if options.live_restore {
            command.push("--live-restore".to_owned());
        }
        if let Some(size) = options.disk_mb {
            std::fs::create_dir(dir.join("data")).unwrap();
            let size = format!("size={size}m");
            // The watchdog unmounts what is mounted below its folder.
            let mounted = bare("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.join("data")).status().unwrap();
            assert!(mounted.success());
        }
        let daemon = Self { home, command };
        daemon.launch(outer);
        daemon
    }

    /// A daemon that somebody else starts and ends, by its socket; `process` is one whose namespaces it has.
    pub fn of_others(socket: &Path, process: &str) -> Self {
        let home = Watchdog::new("ds-dockerd-");
        symlink(socket, home.path().join("s")).unwrap();
        std::fs::write(home.path().join("pid"), process).unwrap();
        let daemon = Self { home, command: Vec::new() };
        daemon.await_ready();
        daemon
    }

    fn launch(&self, outer: Vec<String>) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.home.path().join("log")).unwrap();
        let inner = ["sh", &self.home.path().join("launch").display().to_string()].map(str::to_owned);
        let words: Vec<&String> = outer.iter().chain(&inner).chain(&self.command).collect();
        let mut command = bare(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        // Nobody asks how it ended, but it must not stay a zombie that `kill -0` finds alive.
        std::thread::spawn(move || child.wait());
        self.await_ready();
    }

    /// Kills it with SIGKILL, its containers left to themselves, and waits until it is gone.
    pub fn kill(&self) {
        self.end("-KILL");
    }

    /// Asks it to end, as when its host is updated, and waits until it is gone.
    pub fn stop(&self) {
        self.end("-TERM");
    }

    fn end(&self, signal: &str) {
        // Its containerd goes with it; one that lingered would hold the data's lock.
        let containerd = std::fs::read_to_string(self.home.path().join("containerd.pid")).unwrap_or_default();
        for (signal, pid) in [(signal, self.pid().to_string()), ("-KILL", containerd.trim().to_owned())] {
            if pid.is_empty() {
                continue;
            }
            let _ = bare("kill").args([signal, &pid]).stderr(Stdio::null()).status();
            let begun = Instant::now();
            while Path::new("/proc").join(&pid).exists() && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Sends a signal to the daemon alone.
    pub fn signal(&self, signal: &str) {
        super::signal(signal, self.pid());
    }

    /// Where its data lies.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Starts it again on the same data, in the network namespace of the calling thread.
    pub fn restart(&self) {
        let _ = std::fs::remove_file(self.home.path().join("pid"));
        self.launch(Vec::new());
    }

    fn await_ready(&self) {
        let begun = Instant::now();
        while !self.try_docker(&["version"]).status.success() {
            let log = std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            assert!(begun.elapsed() < Duration::from_secs(60), "dockerd does not answer; its log, newest first: {tail:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("s")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        std::fs::read_to_string(self.home.path().join("pid")).unwrap().trim().parse().unwrap()
    }

    /// Runs `docker` against it, as a person at the host would. Fails the test when that fails.
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.try_docker(args);
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// As [`Dockerd::docker`], with whatever comes of it.
    pub fn try_docker(&self, args: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket().display());
        bare("docker").args(["--host", &host]).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Puts [`TINY`] on the engine and gives its name.
    pub fn tiny_image(&self) -> &'static str {
        static LOCK: Mutex<()> = Mutex::new(());
        let _one_at_a_time = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.try_docker(&["image", "inspect", TINY]).status.success() {
            return TINY;
        }
        let root = tempfile::tempdir().unwrap();
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "var", "root", "home", "data"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.path().join("bin/busybox")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000::/home:/bin/sh\n")
            .unwrap();
        std::fs::write(root.path().join("etc/group"), "root:x:0:\ndev:x:1000:\n").unwrap();
        let applets = bare("/bin/busybox").arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(applets).unwrap().lines().filter(|a| *a != "busybox") {
            symlink("busybox", root.path().join("bin").join(applet)).unwrap();
        }
        let tar = root.path().with_extension("tar");
        let packed = bare("tar").arg("-C").arg(root.path()).arg("-cf").arg(&tar).arg(".").status().unwrap();
        assert!(packed.success());
        self.docker(&["import", &tar.display().to_string(), TINY]);
        std::fs::remove_file(&tar).unwrap();
        TINY
    }
}

#[test]
fn a_daemon_has_a_containerd_of_its_own_and_leaves_nothing() {
    let daemon = Dockerd::start(&Options::default());
    daemon.docker(&["run", "-d", "--network=none", daemon.tiny_image(), "sleep", "1000"]);
    let dir = daemon.home.path().to_owned();
    let words = std::fs::read_to_string(format!("/proc/{}/cmdline", daemon.pid())).unwrap();
    assert!(words.contains(&format!("--containerd={}", dir.display())), "{words:?}");
    drop(daemon);
    assert!(!dir.exists());
    let named = |entry: std::fs::DirEntry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(dir.to_str().unwrap()))
    };
    assert!(!std::fs::read_dir("/proc").unwrap().flatten().any(named), "processes are left");
    assert!(!std::fs::read_to_string("/proc/mounts").unwrap().contains(dir.to_str().unwrap()), "mounts are left");
}
