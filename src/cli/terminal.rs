//! `terminal`: the user's shell in a workspace, on a terminal that survives a broken connection.

use super::args::TerminalArgs;
use super::connect::Context;
use super::failure::Failure;
use super::tty::{self, Raw};
use super::workspace::woken;
use super::{exec, logs, ui};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use kube::core::Status;
use serde_json::json;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};

/// The server says something at least every five seconds.
const SILENT: Duration = Duration::from_secs(20);
/// Longest time a connection is tried to be had again.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);

const STDIN: u8 = 0;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;

/// Runs `terminal`.
///
/// # Errors
/// With the shell's own exit code; with 1 when there is no such workspace, or the connection stays broken.
pub async fn run(context: &Context, args: TerminalArgs) -> Result<(), Failure> {
    let name = logs::workspace(&args.workspace)?;
    let raw = Raw::enter()?;
    let mut seat = Seat { keys: keys(), sizes: signal(SignalKind::window_change())?, seen: 0 };
    let session = uuid::Uuid::new_v4().to_string();
    let mut lost: Option<Instant> = None;
    loop {
        match connect(context, name, &session, seat.seen).await {
            Ok(socket) => {
                if lost.take().is_some() {
                    ui::note("\r\n[connected again]\r");
                }
                if let Some(status) = seat.carry(socket).await? {
                    drop(raw);
                    return exec::finish(Some(status));
                }
            }
            Err(kube::Error::Api(_)) if seat.seen == 0 && lost.is_none() && woken(context, name).await? => continue,
            // What was understood and refused stays so.
            Err(kube::Error::Api(status)) if status.code < 500 => return Err(Failure::from_status(&status)),
            Err(e) if lost.is_some_and(|since| since.elapsed() > PATIENCE) => return Err(e.into()),
            Err(e) if seat.seen == 0 && lost.is_none() => return Err(e.into()),
            Err(_) => {}
        }
        if lost.is_none() {
            ui::note("\r\n[the connection was lost: trying to have it again]\r");
            lost = Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

type Socket = Box<dyn Pipe>;

/// Messages both ways.
trait Pipe: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Send + Unpin {}
impl<T: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Send + Unpin> Pipe for T {}

async fn connect(context: &Context, name: &str, session: &str, seen: u64) -> Result<Socket, kube::Error> {
    let size = tty::size().map(|s| format!("&columns={}&rows={}", s.width, s.height)).unwrap_or_default();
    let namespace = &context.namespace;
    let path = format!("/apis/devsanctum.io/v1/namespaces/{namespace}/workspaces/{name}/terminal");
    let request = http::Request::get(format!("{path}?session={session}&offset={seen}{size}")).body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    Ok(Box::new(context.client.connect(request).await?.into_stream()))
}

/// What is typed, read on a thread of its own: a read cannot be broken off.
fn keys() -> mpsc::Receiver<Bytes> {
    let (typed, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = std::io::stdin().read(&mut buffer) {
            if typed.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                return;
            }
        }
    });
    keys
}

fn framed(channel: u8, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put(data);
    Message::Binary(message.freeze())
}

/// Where a person sits.
struct Seat {
    keys: mpsc::Receiver<Bytes>,
    sizes: Signal,
    /// How many bytes of the terminal were shown.
    seen: u64,
}

impl Seat {
    /// Carries until the shell ends, or, with `None`, the connection.
    async fn carry(&mut self, mut socket: Socket) -> Result<Option<Status>, Failure> {
        let (mut heard, mut typing) = (tokio::time::Instant::now(), true);
        loop {
            let sent = tokio::select! {
                key = self.keys.recv(), if typing => match key {
                    Some(bytes) => socket.send(framed(STDIN, &bytes)).await,
                    None => { typing = false; Ok(()) }
                },
                _ = self.sizes.recv() => match tty::size() {
                    Some(size) => {
                        let size = json!({"Width": size.width, "Height": size.height}).to_string();
                        socket.send(framed(RESIZE, size.as_bytes())).await
                    }
                    None => Ok(()),
                },
                message = socket.next() => {
                    heard = tokio::time::Instant::now();
                    match message {
                        Some(Ok(Message::Binary(message))) => match self.show(&message)? {
                            Some(status) => return Ok(Some(status)),
                            None => Ok(()),
                        },
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
                        Some(Ok(_)) => Ok(()),
                    }
                }
                () = tokio::time::sleep_until(heard + SILENT) => return Ok(None),
            };
            if sent.is_err() {
                return Ok(None);
            }
        }
    }

    fn show(&mut self, message: &[u8]) -> Result<Option<Status>, Failure> {
        match message.split_first() {
            Some((&STATUS, status)) => Ok(Some(serde_json::from_slice(status)?)),
            Some((_, shown)) => {
                let mut out = std::io::stdout().lock();
                out.write_all(shown)?;
                out.flush()?;
                self.seen += shown.len() as u64;
                Ok(None)
            }
            None => Ok(None),
        }
    }
}
