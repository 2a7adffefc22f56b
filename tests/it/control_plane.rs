//! The whole program, as `up` and `down` run it: in the background, with a Traefik of its own.

use crate::support::ports::free_address;
use crate::support::traefik::find_traefik;
use crate::support::watchdog::Watchdog;
use crate::support::{devsanctum, open_to_others};
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
