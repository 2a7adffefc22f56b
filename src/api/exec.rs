//! The `exec` subresource: a command in a workspace over Kubernetes' WebSocket subprotocols.
//!
//! Every message is one byte naming a channel, then data: 0 input, 1 output, 2 error output, 3 how it ended (a
//! `Status`), 4 a new terminal size. `v5` adds 255: the channel named by the next byte is closed.

use super::ApiState;
use super::logs::{must_exist, stream_target};
use super::request::{Params, Target};
use super::status::ApiError;
use super::streams::{ExecInput, ExecOutput, ExecRequest, ExecSession};
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use http::Method;
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Largest message taken from a caller, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Input a command has not read yet, in bytes; more is left to the connection.
const MAX_WAITING: usize = 1024 * 1024;
/// How often the caller is asked whether it is still there, which a connection that is not read does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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
pub async fn exec(state: &ApiState, target: &Target, params: &Params, parts: &mut Parts) -> Result<Response, ApiError> {
    must_exist(state, target).await?;
    let request = ExecRequest {
        command: params.all("command"),
        stdin: params.flag("stdin")?,
        stdout: params.flag("stdout")?,
        stderr: params.flag("stderr")?,
        tty: params.flag("tty")?,
    };
    if request.command.is_empty() {
        return Err(ApiError::bad_request("command: Required value: say what to run, as command=PROGRAM&command=ARGUMENT"));
    }
    // Older clients post; the upgrade itself is the same.
    if parts.method == Method::POST {
        parts.method = Method::GET;
    }
    let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
    let upgrade = upgrade.map_err(|e| ApiError::bad_request(format!("exec needs a WebSocket upgrade: {}", e.body_text())))?;
    let upgrade = upgrade.protocols(PROTOCOLS).max_message_size(MAX_MESSAGE);
    if upgrade.selected_protocol().is_none() {
        return Err(ApiError::bad_request(format!("exec needs one of the subprotocols {}", PROTOCOLS.join(", "))));
    }
    let session = state.streams().exec(stream_target(target, params)?, request).await?;
    let shutdown = state.shutdown().clone();
    Ok(upgrade.on_upgrade(move |socket| carry(socket, session, shutdown)))
}

/// Carries bytes between the caller and the command until one of them ends. Dropping the session gives it up.
async fn carry(socket: WebSocket, session: ExecSession, shutdown: CancellationToken) {
    let (mut send, mut receive) = socket.split();
    let ExecSession { input, mut output } = session;
    let inward = forward(&mut receive, input);
    let outward = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let said = tokio::select! {
                said = output.next() => said,
                _ = look.tick() => match send.send(Message::Ping(Bytes::new())).await {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                () = shutdown.cancelled() => Some(ExecOutput::Failed("the control plane is stopping".into())),
            };
            let (channel, bytes, last) = match said {
                Some(ExecOutput::Stdout(bytes)) => (STDOUT, bytes, false),
                Some(ExecOutput::Stderr(bytes)) => (STDERR, bytes, false),
                Some(ExecOutput::Exit(code)) => (STATUS, exit_status(code).to_string().into(), true),
                Some(ExecOutput::Failed(why)) => (STATUS, failure(&why).to_string().into(), true),
                None => (STATUS, failure("the connection to the command was lost").to_string().into(), true),
            };
            if send.send(Message::Binary(framed(channel, &bytes))).await.is_err() || last {
                break;
            }
        }
        let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = send.send(Message::Close(Some(frame))).await;
    };
    // When the command has ended the caller is given a moment to close in turn, so that nothing it should still
    // read is cut off; when the caller is gone the command is given up at once.
    tokio::pin!(inward);
    tokio::select! {
        () = &mut inward => {}
        () = outward => {
            let _ = tokio::time::timeout(Duration::from_secs(2), inward).await;
        }
    }
}

/// Hands on what the caller sends until the caller ends. While the command does not read, a bounded part is kept here,
/// so that the end is still seen.
async fn forward(receive: &mut SplitStream<WebSocket>, input: Sender<ExecInput>) {
    let (mut waiting, mut size) = (VecDeque::new(), 0);
    loop {
        let message = tokio::select! {
            biased;
            room = input.reserve(), if !waiting.is_empty() => {
                // A command that does not read any more is not an error: its end is told on the other side.
                if let (Ok(room), Some((said, bytes))) = (room, waiting.pop_front()) {
                    size -= bytes;
                    room.send(said);
                } else {
                    waiting.clear();
                    size = 0;
                }
                continue;
            }
            message = receive.next(), if size < MAX_WAITING => message,
        };
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
        };
        if let Some(said) = said(&bytes) {
            // Each takes more room than its bytes.
            let bytes = bytes.len() + size_of::<ExecInput>();
            size += bytes;
            waiting.push_back((said, bytes));
        }
    }
}

fn said(message: &[u8]) -> Option<ExecInput> {
    let (channel, data) = message.split_first()?;
    match *channel {
        STDIN if !data.is_empty() => Some(ExecInput::Stdin(Bytes::copy_from_slice(data))),
        CLOSE if data == [STDIN] => Some(ExecInput::CloseStdin),
        RESIZE => {
            let size: Size = serde_json::from_slice(data).ok()?;
            Some(ExecInput::Resize { width: size.width, height: size.height })
        }
        _ => None,
    }
}

fn framed(channel: u8, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 1);
    out.put_u8(channel);
    out.put(data);
    out.freeze()
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
