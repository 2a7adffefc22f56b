//! Streams over one WebSocket, as Kubernetes carries them: every message is one byte naming a channel, then data.

use super::status::ApiError;
use super::streams::ExecInput;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{SinkExt, Stream, StreamExt};
use http::Method;
use http::request::Parts;
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::MissedTickBehavior;

/// Largest message taken from a caller, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Input that was not read yet, in bytes; more is left to the connection.
const MAX_WAITING: usize = 1024 * 1024;
/// How often the caller is asked whether it is still there, which a connection that is not read does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a caller may take to be told the end, and then to close.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a message from the caller means: for which of the inputs.
pub type Said = fn(&[u8]) -> Option<(usize, ExecInput)>;

/// The upgrade that a request asks for, in one of these subprotocols.
///
/// # Errors
/// 400 for a request that is no such upgrade.
pub async fn upgrade(what: &str, protocols: &[&'static str], parts: &mut Parts) -> Result<WebSocketUpgrade, ApiError> {
    // Older clients post; the upgrade itself is the same.
    if parts.method == Method::POST {
        parts.method = Method::GET;
    }
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
    let upgrade = upgrade.map_err(|e| ApiError::bad_request(format!("{what} needs a WebSocket upgrade: {}", e.body_text())))?;
    let upgrade = upgrade.protocols(protocols.iter().copied()).max_message_size(MAX_MESSAGE);
    if upgrade.selected_protocol().is_none() {
        return Err(ApiError::bad_request(format!("{what} needs one of the subprotocols {}", protocols.join(", "))));
    }
    Ok(upgrade)
}

/// One message of a channel.
pub fn framed(channel: u8, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 1);
    out.put_u8(channel);
    out.put(data);
    out.freeze()
}

/// Carries messages both ways until `outward` or the caller ends, or it `ends`. From then on nothing that the caller sends is handed
/// on, whether it reads or not; `outward` is to end then, too, and has a moment for its last words.
pub async fn carry(
    socket: WebSocket,
    outward: impl Stream<Item = Bytes>,
    inputs: Vec<Sender<ExecInput>>,
    said: Said,
    ends: impl Future<Output = ()>,
) {
    let (mut send, mut receive) = socket.split();
    let inward = forward(&mut receive, inputs, said);
    let outward = async {
        let mut outward = pin!(outward);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                message = outward.next() => message.map(Message::Binary),
                _ = look.tick() => Some(Message::Ping(Bytes::new())),
            };
            match message {
                Some(message) => {
                    if send.send(message).await.is_err() {
                        break;
                    }
                }
                None => break,
            }
        }
        let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = send.send(Message::Close(Some(frame))).await;
    };
    let said_all = {
        let mut outward = pin!(outward);
        let said_all = tokio::select! {
            biased;
            // Asked here, too: a message that waits for a caller who does not read asks nobody.
            () = ends => None,
            () = inward => Some(false),
            () = &mut outward => Some(true),
        };
        match said_all {
            Some(said_all) => said_all,
            None => tokio::time::timeout(LAST_WORDS, outward).await.is_ok(),
        }
    };
    // When the caller is gone all is given up at once. When all has been said the caller is given a moment to close in turn,
    // so that nothing it should still read is cut off: one that is still writing reads nothing until that has been taken.
    if said_all {
        let rest = receive.take_while(|m| std::future::ready(matches!(m, Ok(m) if !matches!(m, Message::Close(_)))));
        let _ = tokio::time::timeout(LAST_WORDS, rest.for_each(|_| std::future::ready(()))).await;
    }
}

/// Hands on what the caller sends until the caller ends. While it is not read, a bounded part is kept here, so that
/// the end is still seen.
async fn forward(receive: &mut SplitStream<WebSocket>, inputs: Vec<Sender<ExecInput>>, said: Said) {
    let (mut waiting, mut size) = (VecDeque::<(usize, ExecInput, usize)>::new(), 0);
    loop {
        let next = waiting.front().map_or(0, |(input, ..)| *input);
        let message = tokio::select! {
            biased;
            room = inputs[next].reserve(), if !waiting.is_empty() => {
                // A command that does not read any more is not an error: its end is told on the other side.
                if let Some((_, said, bytes)) = waiting.pop_front() {
                    size -= bytes;
                    if let Ok(room) = room {
                        room.send(said);
                    }
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
        if let Some((input, said)) = said(&bytes).filter(|(input, _)| *input < inputs.len()) {
            // Each takes more room than its bytes.
            let bytes = bytes.len() + size_of::<ExecInput>();
            size += bytes;
            waiting.push_back((input, said, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::exec;
    use axum::routing::any;
    use futures::FutureExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::{sleep, timeout};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A message for standard input, masked with zeros.
    fn typed(words: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x82, 0x80 | (words.len() as u8 + 1), 0, 0, 0, 0, 0];
        frame.extend_from_slice(words);
        frame
    }

    #[tokio::test]
    async fn a_caller_who_does_not_read_is_cut_off_all_the_same() {
        let (input, mut program) = mpsc::channel(8);
        let (end, ended) = oneshot::channel::<()>();
        let (over, was_over) = oneshot::channel::<()>();
        let sent = Arc::new(AtomicUsize::new(0));
        let (count, once) = (sent.clone(), Arc::new(std::sync::Mutex::new(Some((input, ended, over)))));
        let app = axum::Router::new().fallback(any(async move |upgrade: WebSocketUpgrade| {
            let (input, ended, over) = once.lock().unwrap().take().unwrap();
            upgrade.on_upgrade(async move |socket| {
                let ends = ended.map(drop).shared();
                let chatter = futures::stream::repeat(framed(1, &[b'y'; 32 << 10])).inspect(move |_| {
                    count.fetch_add(1, Ordering::SeqCst);
                });
                carry(socket, chatter.take_until(ends.clone()), vec![input], exec::said, ends).await;
                drop(over);
            })
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let mut caller = TcpStream::connect(address).await.unwrap();
        let head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        caller.write_all(head.as_bytes()).await.unwrap();
        assert_ne!(caller.read(&mut [0; 12]).await.unwrap(), 0);
        // It reads no further, until nothing more can be sent to it.
        let mut before = usize::MAX;
        while std::mem::replace(&mut before, sent.load(Ordering::SeqCst)) != sent.load(Ordering::SeqCst) || before == 0 {
            sleep(Duration::from_millis(500)).await;
        }
        caller.write_all(&typed(b"while allowed")).await.unwrap();
        let heard = timeout(PATIENCE, program.recv()).await.unwrap();
        assert_eq!(heard, Some(ExecInput::Stdin(Bytes::from_static(b"while allowed"))));
        end.send(()).unwrap();
        sleep(Duration::from_millis(200)).await;
        let _ = caller.write_all(&typed(b"after the end")).await;
        let heard = timeout(PATIENCE, program.recv()).await;
        assert_eq!(heard.expect("the program's input ends"), None);
        let was_over = timeout(PATIENCE, was_over).await;
        assert!(was_over.is_ok(), "the connection is given up");
    }
}
