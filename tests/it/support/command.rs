//! Commands that tests and benches run.

use std::ffi::OsStr;
use std::fmt::Display;
use std::process::Command;
use std::time::{Duration, Instant};

/// A command without this process's environment, but for where programs are: a proxy, a database or an engine that
/// somebody has exported is not what is tested.
pub fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Sends a signal to a process that must be there. One told to stop (`-STOP`) stands still when this returns: the kernel
/// stops its threads one by one, and one that still runs might answer once more.
pub fn signal(name: &str, pid: impl Display) {
    let sent = bare("kill").args([name, &pid.to_string()]).status().expect("kill");
    assert!(sent.success(), "kill {name} {pid}");
    let begun = Instant::now();
    while name == "-STOP" && !stands_still(&pid) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{pid} does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether each thread of a process is stopped.
fn stands_still(pid: &impl Display) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    // One that ends meanwhile does nothing any more.
    let mut stats = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // After the name in brackets comes the state.
    stats.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't'])))
}
