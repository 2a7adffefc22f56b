//! The whole program, as `up` and `down` run it: in the background, with a Traefik of its own.

use crate::support::ports::free_address;
use crate::support::traefik::find_traefik;
use crate::support::watchdog::Watchdog;
use crate::support::{devsanctum, open_to_others, signal};
use std::process::Output;
use std::time::{Duration, Instant};

/// An installation in a folder of its own; ended when dropped.
struct Installation {
    state: Watchdog,
    web: String,
}

impl Installation {
    fn new() -> Self {
        Self { state: Watchdog::new("ds-up-"), web: free_address().to_string() }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = devsanctum();
        // A proxy that somebody has exported is not on the way to a control plane of this machine.
        command.env("HTTPS_PROXY", "http://127.0.0.1:1");
        command.arg("--state-dir").arg(self.state.path()).args(words).output().unwrap()
    }

    /// What a command that must succeed prints.
    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn up(&self) -> String {
        let traefik = find_traefik().display().to_string();
        self.ok(&["up", "--", "--listen", "127.0.0.1:0", "--web", &self.web, "--ssh", "127.0.0.1:0", "--traefik", &traefik])
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

#[test]
fn up_and_down_can_be_repeated_and_leave_nothing_open() {
    let installation = Installation::new();
    assert!(installation.up().contains("the control plane runs (pid "));
    assert!(installation.up().contains("runs already"));
    let status: serde_json::Value = serde_json::from_str(&installation.ok(&["status", "-o", "json"])).unwrap();
    assert_eq!((&status["ready"], &status["database"]), (&true.into(), &"sqlite".into()));
    assert_eq!(open_to_others(installation.state.path()), Vec::<String>::new());
    let log = std::fs::read_to_string(installation.state.path().join("devsanctum.log")).unwrap();
    assert!(log.contains("serving") && !log.contains('\x1b'), "{log}");
    // Traefik holds a poll at our feed all the time; it must be let go, or ending takes as long as Traefik's patience.
    let begun = Instant::now();
    assert!(installation.ok(&["down"]).contains("has stopped"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(installation.ok(&["down"]).contains("does not run"));
    assert!(installation.up().contains("the control plane runs (pid "));
}

/// A watchdog waits for a second before it starts another.
#[test]
fn between_a_crash_and_the_next_start_it_runs() {
    let installation = Installation::new();
    installation.up();
    let pid = || std::fs::read_to_string(installation.state.path().join("devsanctum.pid")).unwrap().trim().to_owned();
    let watchdog = pid();
    // What fails before it has answered its watchdog, which asks every four seconds, is not started again.
    std::thread::sleep(Duration::from_secs(9));
    let kept = || std::fs::read_to_string(format!("/proc/{watchdog}/task/{watchdog}/children")).unwrap_or_default();
    signal("-KILL", kept().trim());
    assert!(installation.up().contains("runs already"));
    assert_eq!(pid(), watchdog, "there is one watchdog");
    std::thread::sleep(Duration::from_secs(9));
    signal("-KILL", kept().trim());
    assert!(installation.ok(&["down"]).contains("has stopped"));
    assert_eq!(kept(), "");
    assert!(installation.ok(&["down"]).contains("does not run"));
}

/// As docs/OPERATIONS.md says of each: stopped, its file removed, started.
#[test]
fn every_key_of_the_state_folder_can_be_made_anew() {
    let installation = Installation::new();
    installation.up();
    let file = |name: &str| installation.state.path().join(name);
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let host_key = || {
        let status: serde_json::Value = serde_json::from_str(&installation.ok(&["status", "-o", "json"])).unwrap();
        status["ssh"]["hostKey"].as_str().unwrap().to_owned()
    };
    let kept = tempfile::tempdir().unwrap();
    let old = |name: &str| kept.path().join(name.replace('/', "-")).display().to_string();
    let all = [
        "admin.token",
        "feed.token",
        "setup.token",
        "ssh_host.key",
        "tls/ca.crt",
        "tls/ca.key",
        "tls/server.crt",
        "tls/server.key",
    ];
    let keep = || {
        for name in all {
            std::fs::copy(file(name), old(name)).unwrap();
        }
    };
    let is_old = |name: &str| read(name) == std::fs::read_to_string(old(name)).unwrap();

    // The server's certificate alone: who trusts the authority sees no difference.
    keep();
    assert!(installation.ok(&["down"]).contains("has stopped"));
    ["tls/server.crt", "tls/server.key"].iter().for_each(|name| std::fs::remove_file(file(name)).unwrap());
    installation.up();
    assert!(!is_old("tls/server.crt") && !is_old("tls/server.key") && is_old("tls/ca.crt"));
    let ca = old("tls/ca.crt");
    installation.ok(&["get", "projects", "--ca-file", &ca]);

    keep();
    let before = host_key();
    assert!(installation.ok(&["down"]).contains("has stopped"));
    for name in ["admin.token", "feed.token", "setup.token", "ssh_host.key"] {
        std::fs::remove_file(file(name)).unwrap();
    }
    std::fs::remove_dir_all(file("tls")).unwrap();
    installation.up();
    for name in all {
        assert!(!is_old(name), "{name}");
    }
    assert_eq!(open_to_others(installation.state.path()), Vec::<String>::new());
    assert_ne!(host_key(), before);
    installation.ok(&["get", "projects"]);
    let refused = |flag: &str, value: &str, words: &str| {
        let done = installation.run(&["get", "projects", flag, value]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(words), "{flag}: {said}");
    };
    refused("--token-file", &old("admin.token"), "not known here");
    refused("--ca-file", &ca, "certificate");
}
