//! `up` and `down`: the control plane in the background on this machine.

use super::StateDir;
use crate::cli::{Globals, state_dir};
use clap::Parser;
use futures::future::BoxFuture;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Start the control plane in the background and wait until it is ready
#[derive(Debug, Parser)]
#[command(name = "devsanctum up")]
struct UpArgs {
    /// Longest wait until it is ready
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Arguments for `serve`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    serve: Vec<OsString>,
}

/// Stop the control plane; workspaces go on
#[derive(Debug, Parser)]
#[command(name = "devsanctum down")]
struct DownArgs {
    /// Longest wait until it has stopped
    #[arg(long, default_value = "40s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Starts the control plane, unless it runs already.
pub fn up(globals: Globals, args: Vec<OsString>) -> BoxFuture<'static, ExitCode> {
    Box::pin(async move {
        let args = UpArgs::parse_from(std::iter::once(OsString::from("up")).chain(args));
        finish(start(&globals, &args).await)
    })
}

/// Stops the control plane, if it runs.
pub fn down(globals: Globals, args: Vec<OsString>) -> BoxFuture<'static, ExitCode> {
    Box::pin(async move {
        let args = DownArgs::parse_from(std::iter::once(OsString::from("down")).chain(args));
        finish(stop(&globals, args.timeout).await)
    })
}

/// Tells how a command went, and gives its exit code.
pub fn finish(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a control plane runs, or is about to: its watchdog starts another when one has ended. The locks tell it; a pid file alone could
/// name a stranger.
fn runs(state: &StateDir) -> bool {
    // Not both at once: what starts in between has the second.
    state.watch().is_err() || state.lock().is_err()
}

/// Holds the pid of the watchdog, which has written it.
pub const PID: &str = "devsanctum.pid";

/// The state folder that is meant.
pub fn open(globals: &Globals) -> Result<StateDir, String> {
    let path = state_dir(globals);
    StateDir::open(&path).map_err(|e| format!("{}: {e}; choose a folder you may write with --state-dir", path.display()))
}

async fn start(globals: &Globals, args: &UpArgs) -> Result<String, String> {
    let state = open(globals)?;
    if runs(&state) {
        wait_ready(&state, None, args.timeout).await?;
        return Ok(format!("the control plane runs already (state in {})", state.path().display()));
    }
    let log = state.file("devsanctum.log");
    let out =
        OpenOptions::new().create(true).append(true).mode(0o600).open(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let error = out.try_clone().map_err(|e| e.to_string())?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .arg("--state-dir")
        .arg(state.path())
        .args(["serve", "--watchdog"])
        .args(&args.serve)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(error)
        // A group of its own: Ctrl-C in this terminal does not end it.
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot start: {e}"))?;
    wait_ready(&state, Some(&mut child), args.timeout).await?;
    Ok(format!("the control plane runs (pid {}, log in {})", child.id(), log.display()))
}

async fn wait_ready(state: &StateDir, mut child: Option<&mut std::process::Child>, timeout: Duration) -> Result<(), String> {
    let begun = Instant::now();
    let mut last = String::from("it has not answered");
    while begun.elapsed() < timeout {
        if let Some(Ok(Some(status))) = child.as_mut().map(|c| c.try_wait()) {
            return Err(format!("the control plane ended at once ({status}):\n{}", tail(&state.file("devsanctum.log"))));
        }
        match answers(&state.file("kubeconfig"), "/readyz").await {
            Ok(()) => return Ok(()),
            Err(e) => last = e,
        }
        progress(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("the control plane is not ready after {timeout:?}: {last}; see {}", state.file("devsanctum.log").display()))
}

fn progress(spent: Duration) {
    let seconds = spent.as_secs();
    if seconds >= 2 && spent.subsec_millis() < 100 && std::io::stderr().is_terminal() {
        eprint!("\rwaiting for the control plane … {seconds} s ");
    }
}

/// Asks the API that a kubeconfig leads to for a path that says how it is.
pub async fn answers(kubeconfig: &Path, path: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(kubeconfig).map_err(|_| "it has not written its kubeconfig".to_owned())?;
    let config = kube::config::Kubeconfig::from_yaml(&text).map_err(|e| e.to_string())?;
    let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.map_err(|e| e.to_string())?;
    // This machine's own control plane is reached directly, whatever HTTPS_PROXY says.
    config.proxy_url = None;
    let client = kube::Client::try_from(config).map_err(|e| e.to_string())?;
    let request = http::Request::get(path).body(Vec::new()).map_err(|e| e.to_string())?;
    match tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("no answer in 2 s".into()),
    }
}

async fn stop(globals: &Globals, timeout: Duration) -> Result<String, String> {
    let state = open(globals)?;
    if !runs(&state) {
        return Ok("the control plane does not run".into());
    }
    let pid_file = state.file(PID);
    let pid = std::fs::read_to_string(&pid_file).ok().and_then(|t| t.trim().parse::<i32>().ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).filter(|p| is_ours(*p, &state));
    let pid = pid.ok_or_else(|| {
        format!("a control plane runs on {} that `up` did not start: stop it where it was started", state.path().display())
    })?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|e| format!("cannot stop process {pid}: {e}"))?;
    let begun = Instant::now();
    while begun.elapsed() < timeout {
        if !runs(&state) {
            let _ = std::fs::remove_file(&pid_file);
            return Ok("the control plane has stopped; workspaces go on".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("process {pid} has not stopped after {timeout:?}; see {}", state.file("devsanctum.log").display()))
}

/// A number in a file may be another process by now: only one that serves this very folder is ended.
fn is_ours(pid: rustix::process::Pid, state: &StateDir) -> bool {
    let line = std::fs::read(PathBuf::from(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
    words.contains(&b"serve".as_slice()) && words.contains(&state.path().as_os_str().as_encoded_bytes())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
