//! A process of ours that may outlive us: how it is found again after we were killed, and ended.
//!
//! A process is ours when the pid file names it, it started when the file says (a pid is used again), and its command
//! line names our configuration file. Signals go through a pidfd, so they cannot meet another process.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Longest pause between two looks at a process that is not our child.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A running process, ours but not necessarily our child.
pub(super) struct Process {
    pub pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// Takes hold of a process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open(pid: u32) -> std::io::Result<Self> {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, fd: pidfd_open(id, PidfdFlags::empty())? })
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        let mut pause = Duration::from_millis(5);
        // A pidfd is readable once its process has ended.
        while poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready == 0) {
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Asks it to end, and after `patience` makes it.
    pub async fn terminate(&self, patience: Duration) {
        let _ = pidfd_send_signal(&self.fd, Signal::TERM);
        if timeout(patience, self.ended()).await.is_err() {
            let _ = pidfd_send_signal(&self.fd, Signal::KILL);
            self.ended().await;
        }
    }
}

/// What is to be written down of a process, for [`find`].
pub(super) fn note(pid: u32) -> String {
    format!("{pid} {}\n", start_time(pid).unwrap_or_default())
}

/// Finds the process written down, when it still runs and its command line holds `argument`.
pub(super) fn find(file: &Path, argument: &str) -> Option<Process> {
    let text = std::fs::read_to_string(file).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let pid: u32 = pid.parse().ok()?;
    let process = Process::open(pid).ok()?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = arguments.split(|b| *b == 0).any(|a| a == argument.as_bytes());
    (ours && start_time(pid)? == started).then_some(process)
}

/// Start time in clock ticks since boot: field 22 of `/proc/<pid>/stat`, the 20th after the name in parentheses.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn a_process_is_found_again_by_pid_start_and_argument_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        // `spawn` returns when the new program has its memory, which is a little before its command line can be read.
        let command_line = format!("/proc/{}/cmdline", child.id());
        while std::fs::read(&command_line).unwrap().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        std::fs::write(&file, note(child.id())).unwrap();
        assert!(find(&file, "1001").is_none());
        let found = find(&file, "1000").unwrap();
        std::fs::write(&file, format!("{} 12\n", child.id())).unwrap();
        assert!(find(&file, "1000").is_none());
        found.terminate(Duration::from_secs(5)).await;
        assert!(!child.wait().unwrap().success());
    }
}
