//! A Docker Engine of the bench's own.

#[path = "../../tests/it/support/command.rs"]
mod command;
#[path = "../../tests/it/support/dockerd.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod dockerd;
#[path = "../../tests/it/support/watchdog.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod watchdog;

use command::{bare, signal};
pub use dockerd::{Dockerd, TINY};

/// A daemon in this network namespace with the image on it.
pub fn start() -> Dockerd {
    let daemon = Dockerd::start(&dockerd::Options { shared_network: true, ..Default::default() });
    daemon.tiny_image();
    daemon
}

/// Removes everything on it but the image.
pub fn clear(daemon: &Dockerd) {
    for (list, remove) in [(&["ps", "-aq"][..], &["rm", "-f"][..]), (&["volume", "ls", "-q"], &["volume", "rm", "-f"])] {
        let all = daemon.docker(list);
        let all: Vec<&str> = all.split_whitespace().collect();
        if !all.is_empty() {
            daemon.docker(&[remove, &all].concat());
        }
    }
    daemon.docker(&["network", "prune", "-f"]);
}
