//! Keeps a control plane running: ends one that does not answer any more, and starts it anew whenever it has ended.
//!
//! What fails before it has answered once is not started again: whoever starts it is told instead.

use super::StateDir;
use super::up::{PID, answers};
use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often it is asked whether it lives, and how long it may take to say so.
const EVERY: Duration = Duration::from_secs(4);
/// Answers in a row that must be missing. Together about twenty seconds: less than the proxy waits for the gate.
const MISSED: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// One that is kept is told to stop when its watchdog goes: the next would find it in its way.
pub(super) fn follow(kept: bool) {
    if kept {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
}

/// How a control plane ended.
enum Ended {
    /// As it was told to.
    Stopped,
    ByItself(ExitStatus),
    /// It did not answer, and was killed.
    Hung,
}

/// Takes the folder for this watchdog, and says there which process it is.
fn taken(path: &Path) -> std::io::Result<std::fs::File> {
    let state = StateDir::open(path)?;
    let held = state.watch()?;
    state.write(PID, format!("{}\n", std::process::id()).as_bytes())?;
    Ok(held)
}

/// Runs `serve` with these arguments until told to stop.
pub async fn keep(state: &Path, args: &[OsString], stop: CancellationToken) -> ExitCode {
    let _held = match taken(state) {
        Ok(held) => held,
        Err(error) => {
            tracing::error!(%error, "no control plane is kept here");
            return ExitCode::FAILURE;
        }
    };
    let (mut lived, mut wait) = (false, FIRST_WAIT);
    loop {
        let begun = Instant::now();
        let mut child = match start(state, args) {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(%error, "the control plane cannot be started");
                return ExitCode::FAILURE;
            }
        };
        match watch(&mut child, state, &stop, &mut lived).await {
            Ended::Stopped => return ExitCode::SUCCESS,
            Ended::ByItself(status) if status.success() || !lived => return code(status),
            Ended::ByItself(status) => tracing::error!(%status, "the control plane has ended; starting it again"),
            Ended::Hung => {
                tracing::error!("the control plane did not answer {MISSED} times in a row and was killed; starting it again")
            }
        }
        if begun.elapsed() > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            return ExitCode::SUCCESS;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn start(state: &Path, args: &[OsString]) -> std::io::Result<Child> {
    let own = args.iter().filter(|arg| *arg != "--watchdog");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--state-dir").arg(state).args(["serve", "--kept"]).args(own);
    command.stdin(Stdio::null()).kill_on_drop(true).spawn()
}

async fn watch(child: &mut Child, state: &Path, stop: &CancellationToken, lived: &mut bool) -> Ended {
    let kubeconfig = state.join("kubeconfig");
    let (mut missed, mut answered) = (0, false);
    loop {
        tokio::select! {
            status = child.wait() => return status.map_or(Ended::Hung, Ended::ByItself),
            () = stop.cancelled() => {
                end(child).await;
                return Ended::Stopped;
            }
            () = sleep(EVERY) => {}
        }
        match tokio::time::timeout(EVERY, answers(&kubeconfig, "/livez")).await {
            Ok(Ok(())) => (missed, answered, *lived) = (0, true, true),
            // One that is being started may take its time.
            _ if answered => missed += 1,
            _ => {}
        }
        if missed == MISSED {
            let _ = child.kill().await;
            return Ended::Hung;
        }
    }
}

async fn end(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = child.wait().await;
}
