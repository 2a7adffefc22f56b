//! The `exec` subresource: a command in a workspace over Kubernetes' WebSocket subprotocols.
//!
//! Channels: 0 input, 1 output, 2 error output, 3 how it ended (a `Status`), 4 a new terminal size. `v5` adds 255: the
//! channel named by the next byte is closed.

use super::ApiState;
use super::audited::opens;
use super::channels::{carry, framed, upgrade};
use super::logs::{must_exist, stream_target};
use super::request::{Params, Target};
use super::status::ApiError;
use super::streams::{ExecInput, ExecOutput, ExecRequest, ExecSession, Run};
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Kubernetes' subprotocols for programs.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Starts a command and answers with the upgrade. What goes wrong before is answered as a `Status`.
///
/// # Errors
/// 400 for a request that is no such upgrade, 404 for no such workspace, and what the container's side says.
pub async fn exec(
    state: &ApiState,
    target: &Target,
    params: &Params,
    parts: &mut Parts,
    (ends, place): (BoxFuture<'static, ()>, impl Send + 'static),
) -> Result<Response, ApiError> {
    must_exist(state, target).await?;
    let command = params.all("command");
    if command.is_empty() {
        return Err(ApiError::bad_request("command: Required value: say what to run, as command=PROGRAM&command=ARGUMENT"));
    }
    let request = ExecRequest {
        run: Run::Command(command),
        env: BTreeMap::new(),
        stdin: params.flag("stdin")?,
        stdout: params.flag("stdout")?,
        stderr: params.flag("stderr")?,
        tty: params.flag("tty")?,
    };
    let upgrade = upgrade("exec", &PROTOCOLS, parts).await?;
    opens(state, &parts.extensions).await?;
    let session = state.streams().exec(stream_target(target, params)?, request).await?;
    let stopping = state.shutdown().clone();
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _place = place;
        // Dropping the session gives the command up.
        let ExecSession { input, output } = session;
        let ends = ends.shared();
        let output = output.take_until(ends.clone());
        let cut_off = futures::stream::once(async move {
            let why =
                if stopping.is_cancelled() { "the control plane is stopping" } else { "the connection to the command was cut" };
            ExecOutput::Failed(why.into())
        });
        let mut ended = false;
        let until_the_end = output.chain(cut_off).take_while(move |said| {
            let go_on = !ended;
            ended = matches!(said, ExecOutput::Exit(_) | ExecOutput::Failed(_));
            std::future::ready(go_on)
        });
        carry(socket, until_the_end.map(|said| frame(&said)), vec![input], said, ends).await;
    }))
}

/// What a program says, as a message.
pub fn frame(said: &ExecOutput) -> Bytes {
    match said {
        ExecOutput::Stdout(bytes) => framed(STDOUT, bytes),
        ExecOutput::Stderr(bytes) => framed(STDERR, bytes),
        ExecOutput::Exit(code) => framed(STATUS, exit_status(*code).to_string().as_bytes()),
        ExecOutput::Failed(why) => framed(STATUS, failure(why).to_string().as_bytes()),
    }
}

/// What a message says to a program.
pub fn said(message: &[u8]) -> Option<(usize, ExecInput)> {
    let (channel, data) = message.split_first()?;
    let said = match *channel {
        STDIN if !data.is_empty() => ExecInput::Stdin(Bytes::copy_from_slice(data)),
        CLOSE if data == [STDIN] => ExecInput::CloseStdin,
        RESIZE => {
            let size: Size = serde_json::from_slice(data).ok()?;
            ExecInput::Resize { width: size.width, height: size.height }
        }
        _ => return None,
    };
    Some((0, said))
}

fn exit_status(code: i64) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failure(why: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": why, "code": 500})
}
