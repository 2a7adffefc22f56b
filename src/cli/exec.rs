//! `exec`: a command in a workspace, with its input, output, terminal and exit code passed through.

use super::args::ExecArgs;
use super::connect::Context;
use super::failure::Failure;
use super::logs::workspace;
use super::tty::{self, Raw};
use super::workspace::woken;
use crate::resource::Workspace;
use futures::SinkExt;
use kube::api::{Api, AttachParams, AttachedProcess};
use kube::core::Status;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

/// Most that is kept of what a command says, in bytes.
const KEPT: u64 = 1 << 20;
/// How long output that has come already may take to be read once the connection is gone.
const LEFT_OVER: Duration = Duration::from_secs(1);

/// Runs `exec`.
///
/// # Errors
/// With the command's own exit code; with 1 when it could not be run.
pub async fn run(context: &Context, args: ExecArgs) -> Result<(), Failure> {
    let name = workspace(&args.workspace)?;
    let api: Api<Workspace> = Api::namespaced(context.client.clone(), &context.namespace);
    // With a terminal, both outputs are one stream.
    let params = AttachParams {
        container: args.container.clone(),
        stdin: args.stdin,
        stdout: true,
        stderr: !args.tty,
        tty: args.tty,
        max_stdin_buf_size: Some(32 << 10),
        max_stdout_buf_size: Some(32 << 10),
        max_stderr_buf_size: Some(32 << 10),
    };
    // Asked for before the connection: a refusal must not leave a process behind.
    let raw = if args.tty && args.stdin { Some(Raw::enter()?) } else { None };
    let mut process = match api.exec(name, args.command.clone(), &params).await {
        Err(_) if woken(context, name).await? => api.exec(name, args.command.clone(), &params).await?,
        begun => begun?,
    };
    let status = pump(&mut process, args.tty).await;
    drop(raw);
    finish(status?)
}

/// Runs a command in a workspace and gives what it says.
///
/// # Errors
/// In its own words, where it fails.
pub async fn said(api: &Api<Workspace>, name: &str, command: &[&str]) -> Result<String, Failure> {
    let params = AttachParams::default().stdin(false).stdout(true).stderr(true);
    let mut process = api.exec(name, command.iter().copied(), &params).await?;
    let (output, errors) = (process.stdout(), process.stderr());
    let reading = async { tokio::join!(text(output), text(errors)) };
    let (read, status) = ended(&mut process, reading).await;
    let (output, errors) = read.unwrap_or_default();
    match finish(status) {
        Ok(()) => Ok(output),
        Err(_) if !errors.trim().is_empty() => Err(Failure::new(errors.trim().to_owned())),
        Err(failure) => Err(failure),
    }
}

/// Reads to the end, and keeps the first part.
pub async fn text(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(from) = from else { return String::new() };
    let (mut kept, mut from) = (Vec::new(), from.take(KEPT));
    let _ = from.read_to_end(&mut kept).await;
    // Whatever else it says is taken in, so that it does not stand still.
    let _ = tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

/// Carries bytes both ways until the command ends.
async fn pump(process: &mut AttachedProcess, tty: bool) -> Result<Option<Status>, Failure> {
    let input = process.stdin().map(|to| tokio::spawn(carry(tokio::io::stdin(), to)));
    let resize = process.terminal_size().filter(|_| tty).map(|to| tokio::spawn(resizes(to)));
    let output = process.stdout();
    let errors = process.stderr();
    let both = async {
        let out = async { if let Some(from) = output { carry(from, tokio::io::stdout()).await } else { Ok(()) } };
        let err = async { if let Some(from) = errors { carry(from, tokio::io::stderr()).await } else { Ok(()) } };
        let (out, err) = tokio::join!(out, err);
        out.and(err)
    };
    let (written, status) = ended(process, both).await;
    for task in [input, resize].into_iter().flatten() {
        task.abort();
    }
    written.transpose()?;
    Ok(status)
}

/// Reads a process's output and waits for how it ended. Where the connection broke there is no status, and the output never
/// ends either (kube-rs leaves it open): what has come by then is read, and no more.
pub async fn ended<T>(process: &mut AttachedProcess, reading: impl Future<Output = T>) -> (Option<T>, Option<Status>) {
    let status = process.take_status();
    let mut status = pin!(async { if let Some(status) = status { status.await } else { None } });
    let mut reading = pin!(reading);
    let (read, status) = tokio::select! {
        read = &mut reading => (Some(read), status.await),
        status = &mut status => match status {
            Some(_) => (Some(reading.await), status),
            None => (tokio::time::timeout(LEFT_OVER, reading).await.ok(), None),
        },
    };
    // kube-rs hands out k8s-openapi's type here and its own everywhere else.
    (read, status.and_then(|s| serde_json::to_value(s).and_then(serde_json::from_value).ok()))
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            // The end of our input is the end of the command's.
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

/// Tells the other side the size of the terminal, now and whenever it changes.
async fn resizes(mut to: futures::channel::mpsc::Sender<kube::api::TerminalSize>) -> std::io::Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    loop {
        if let Some(size) = tty::size()
            && to.send(size).await.is_err()
        {
            return Ok(());
        }
        if changes.recv().await.is_none() {
            return Ok(());
        }
    }
}

/// Reads the exit code out of the closing status.
///
/// # Errors
/// With that code, where it is not 0.
pub fn finish(status: Option<Status>) -> Result<(), Failure> {
    let Some(status) = status else {
        return Err(
            Failure::new("the connection ended before the command did").hint("look at `devsanctum describe` of the workspace")
        );
    };
    if status.is_success() {
        return Ok(());
    }
    match exit_code(&status) {
        // Codes above 255 do not exist; one that would read as success must not.
        Some(code) => Err(Failure::silent(u8::try_from(code).unwrap_or(1).max(1))),
        None => Err(Failure::from_status(&status)),
    }
}

fn exit_code(status: &Status) -> Option<i32> {
    let causes = &status.details.as_ref().filter(|_| status.reason == "NonZeroExitCode")?.causes;
    causes.iter().find(|c| c.reason == "ExitCode")?.message.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(status: serde_json::Value) -> u8 {
        finish(serde_json::from_value(status).ok()).map_or_else(|f| f.code, |()| 0)
    }

    #[test]
    fn the_exit_code_is_passed_through() {
        let exit = |code: &str| json!({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": code}]}});
        assert_eq!(code(json!({"status": "Success"})), 0);
        assert_eq!([code(exit("3")), code(exit("255")), code(exit("137")), code(exit("-1"))], [3, 255, 137, 1]);
        assert_eq!(code(json!({"status": "Failure", "reason": "InternalError", "message": "no"})), 1);
        assert_eq!(code(json!(null)), 1);
    }
}
