//! The line to an engine: what stands between the control plane and dockerd, and can go wrong as networks and engines do.
//!
//! It listens on loopback, knows where each request begins and which one it is, and passes bytes on as they come. Each
//! request can be seen, held before it is sent or after its effect, and answered wrongly.

use super::request::{Request, Requests};
use crate::support::ports::free_address;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What it does to what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Good,
    /// Nobody listens, and what is open is reset.
    Refuse,
    /// Each request is reset before the engine sees it.
    Reset,
    /// Requests are taken and never answered; connections of that time stay dead for good, as after a peer is gone.
    Silent,
    /// Answers come a few bytes at a time.
    Slow,
    /// Answers end after this many bytes.
    Cut(usize),
    /// What changes something happens, and its answer is lost.
    LoseAnswers,
    /// Everything is answered with a failure and never happens.
    Fail,
    /// Everything is answered by something that is no engine.
    Garbage,
    /// Lists are empty, and all else is true.
    EmptyLists,
    /// Events are not told.
    NoEvents,
}

/// Words of [`Mode::Fail`].
pub const FAILURE: &str = "the engine has lost its mind (test)";
/// A piece of a slow answer, and how far apart they are.
const DRIP: (usize, Duration) = (64, Duration::from_millis(10));

/// When a trapped request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Before the engine sees it.
    Before,
    /// After its effect, before its answer is told.
    After,
}

struct Trap {
    call: String,
    /// So many of the call are let pass.
    skip: usize,
    window: Window,
    caught: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

/// A request that will be held. Dropped, the request's connection is cut.
pub struct Held {
    caught: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Held {
    /// Waits until it is there.
    pub async fn caught(&mut self, patience: Duration) -> Result<(), String> {
        match tokio::time::timeout(patience, &mut self.caught).await {
            Ok(caught) => caught.map_err(|_| "the line has ended".into()),
            Err(_) => Err(format!("the request was not made within {patience:?}")),
        }
    }

    /// Lets it go on.
    pub fn release(self) {
        let _ = self.go.send(());
    }
}

/// The line. It runs on a thread of its own, so that it goes on while a test waits for a command.
pub struct Line {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    engine: PathBuf,
    mode: watch::Sender<Mode>,
    trap: Mutex<Option<Trap>>,
    /// Requests that change something, in order.
    changes: Mutex<Vec<String>>,
    last: Mutex<Instant>,
}

impl Line {
    /// A line to the engine at this socket, listening in the calling thread's network namespace.
    pub fn start(engine: &Path) -> Self {
        let (address, end) = (free_address(), CancellationToken::new());
        let shared = Arc::new(Shared {
            engine: engine.to_owned(),
            mode: watch::Sender::new(Mode::Good),
            trap: Mutex::default(),
            changes: Mutex::default(),
            last: Mutex::new(Instant::now()),
        });
        let (serving, ended) = (serve(Arc::clone(&shared), address), end.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ended.run_until_cancelled(serving));
        });
        Self { address, shared, end, thread: Some(thread) }
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Holds the next request that is this call.
    pub fn trap(&self, call: &str, window: Window) -> Held {
        self.trap_after(0, call, window)
    }

    /// Holds a later request that is this call, after so many others.
    pub fn trap_after(&self, skip: usize, call: &str, window: Window) -> Held {
        let ((tell, caught), (go, released)) = (oneshot::channel(), oneshot::channel());
        *self.shared.trap.lock().unwrap() = Some(Trap { call: call.to_owned(), skip, window, caught: tell, go: released });
        Held { caught, go }
    }

    /// All requests so far that change something on the engine.
    pub fn changes(&self) -> Vec<String> {
        self.shared.changes.lock().unwrap().clone()
    }

    /// How long nothing was changed.
    pub fn quiet(&self) -> Duration {
        self.shared.last.lock().unwrap().elapsed()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Listens while there is an engine and the mode lets it.
async fn serve(shared: Arc<Shared>, address: SocketAddr) {
    let mut mode = shared.mode.subscribe();
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            let _ = mode.changed().await;
            continue;
        }
        if UnixStream::connect(&shared.engine).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let Ok(listener) = TcpListener::bind(address).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            tokio::select! {
                Ok((client, _)) = listener.accept() => {
                    let Ok(engine) = UnixStream::connect(&shared.engine).await else {
                        reset(client);
                        break;
                    };
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move { Connection::new(shared, client, engine).carry().await });
                }
                _ = mode.changed() => if *mode.borrow_and_update() == Mode::Refuse { break },
            }
        }
    }
}

fn reset(client: TcpStream) {
    let _ = client.set_zero_linger();
}

/// What becomes of a connection after a request.
enum Then {
    GoOn,
    Reset,
    Close,
    Silence,
}

struct Connection {
    shared: Arc<Shared>,
    client: TcpStream,
    engine: UnixStream,
    requests: Requests,
    /// Bytes of the answer so far.
    told: usize,
    events: bool,
    /// The engine does not see this request, so neither the rest of its body.
    unseen: bool,
}

impl Connection {
    fn new(shared: Arc<Shared>, client: TcpStream, engine: UnixStream) -> Self {
        let _ = client.set_nodelay(true);
        Self { shared, client, engine, requests: Requests::default(), told: 0, events: false, unseen: false }
    }

    async fn carry(mut self) {
        match self.run().await {
            Ok(Then::Reset) => reset(self.client),
            Ok(Then::Silence) => std::future::pending().await,
            // An end, and an error, which is somebody who has left.
            Ok(_) | Err(_) => {}
        }
    }

    async fn run(&mut self) -> io::Result<Then> {
        let mut mode = self.shared.mode.subscribe();
        let (mut asked, mut answer) = ([0; 16 * 1024], [0; 16 * 1024]);
        let mut half_closed = false;
        loop {
            tokio::select! {
                n = self.client.read(&mut asked), if !half_closed => match n? {
                    0 => {
                        half_closed = true;
                        self.engine.shutdown().await?;
                    }
                    n => {
                        self.requests.push(&asked[..n]);
                        while let Some(request) = self.requests.next() {
                            match self.ask(&request).await? {
                                Then::GoOn => {}
                                end => return Ok(end),
                            }
                        }
                    }
                },
                n = self.engine.read(&mut answer) => match n? {
                    0 => return Ok(Then::Close),
                    n => match self.tell(&answer[..n]).await? {
                        Then::GoOn => {}
                        end => return Ok(end),
                    },
                },
                _ = mode.changed() => match *mode.borrow_and_update() {
                    Mode::Refuse | Mode::Reset => return Ok(Then::Reset),
                    Mode::Silent => return Ok(Then::Silence),
                    _ => {}
                },
            }
        }
    }

    fn mode(&self) -> Mode {
        *self.shared.mode.borrow()
    }

    async fn ask(&mut self, request: &Request) -> io::Result<Then> {
        if let Some(call) = &request.call {
            (self.told, self.unseen) = (0, false);
            self.events = call == "GET events";
            if request.changes() {
                self.shared.changes.lock().unwrap().push(call.clone());
                *self.shared.last.lock().unwrap() = Instant::now();
            }
            if let Some(trap) = self.sprung(call) {
                return self.hold(request, trap).await;
            }
        }
        match self.mode() {
            Mode::Refuse | Mode::Reset => Ok(Then::Reset),
            Mode::Silent => Ok(Then::Silence),
            Mode::LoseAnswers if request.changes() => {
                self.effect(request).await?;
                Ok(Then::Reset)
            }
            _ if self.unseen => Ok(Then::GoOn),
            Mode::Fail => self.answer(500, &serde_json::json!({"message": FAILURE}).to_string()).await,
            Mode::Garbage => {
                self.client.write_all(b"\x15\x03\x01\x00\x02\x02\x0a no engine here\r\n\r\n").await?;
                Ok(Then::Close)
            }
            Mode::EmptyLists if request.call.as_deref().is_some_and(is_list) => {
                let volumes = request.call.as_deref() == Some("GET volumes");
                self.answer(200, if volumes { r#"{"Volumes":[],"Warnings":null}"# } else { "[]" }).await
            }
            _ => {
                self.engine.write_all(&request.bytes).await?;
                Ok(Then::GoOn)
            }
        }
    }

    fn sprung(&self, call: &str) -> Option<Trap> {
        let mut trap = self.shared.trap.lock().unwrap();
        let due = trap.as_mut().filter(|t| t.call == call).is_some_and(|t| match t.skip.checked_sub(1) {
            Some(left) => {
                t.skip = left;
                false
            }
            None => true,
        });
        trap.take_if(|_| due)
    }

    async fn hold(&mut self, request: &Request, trap: Trap) -> io::Result<Then> {
        let mut begun = Vec::new();
        if trap.window == Window::After {
            begun = self.effect(request).await?;
        }
        let _ = trap.caught.send(());
        if trap.go.await.is_err() {
            return Ok(Then::Reset);
        }
        match self.mode() {
            Mode::Refuse | Mode::Reset => Ok(Then::Reset),
            Mode::Silent => Ok(Then::Silence),
            _ if trap.window == Window::After => self.tell(&begun).await,
            _ => {
                self.engine.write_all(&request.bytes).await?;
                Ok(Then::GoOn)
            }
        }
    }

    /// Has a request done, to the end of its body: the engine answers when it has done what it was asked for. The answer's first bytes.
    async fn effect(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        self.engine.write_all(&request.bytes).await?;
        let (mut asked, mut bytes, mut more) = ([0; 16 * 1024], vec![0; 16 * 1024], request.more);
        loop {
            while let Some(piece) = more.then(|| self.requests.next()).flatten() {
                more = piece.more;
                self.engine.write_all(&piece.bytes).await?;
            }
            tokio::select! {
                n = self.client.read(&mut asked), if more => match n? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => self.requests.push(&asked[..n]),
                },
                n = self.engine.read(&mut bytes) => {
                    bytes.truncate(n?);
                    return Ok(bytes);
                }
            }
        }
    }

    async fn tell(&mut self, bytes: &[u8]) -> io::Result<Then> {
        match self.mode() {
            Mode::NoEvents if self.events => {}
            Mode::Cut(most) if self.told + bytes.len() > most => {
                self.client.write_all(&bytes[..most.saturating_sub(self.told)]).await?;
                return Ok(Then::Close);
            }
            Mode::Slow => {
                for piece in bytes.chunks(DRIP.0) {
                    self.client.write_all(piece).await?;
                    tokio::time::sleep(DRIP.1).await;
                }
            }
            _ => self.client.write_all(bytes).await?,
        }
        self.told += bytes.len();
        Ok(Then::GoOn)
    }

    async fn answer(&mut self, status: u16, body: &str) -> io::Result<Then> {
        let head = format!(
            "HTTP/1.1 {status} Told\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.unseen = true;
        self.client.write_all((head + body).as_bytes()).await?;
        Ok(Then::GoOn)
    }
}

fn is_list(call: &str) -> bool {
    ["GET containers/json", "GET networks", "GET volumes"].contains(&call)
}
