//! The SSH gateway's door, over a real API and with OpenSSH's own client: who is cut, and who stands in nobody's way. What runs in a
//! workspace is told of here and runs nowhere; `e2e::ssh` has real ones.

use crate::access::Town;
use crate::support::api::GROUP;
use crate::support::bare;
use async_trait::async_trait;
use bytes::Bytes;
use devsanctum::access::Directory;
use devsanctum::api::streams::{
    ExecInput, ExecOutput, ExecRequest, ExecSession, LogRequest, StreamError, StreamTarget, WorkspaceStreams,
};
use devsanctum::api::{Ledger, Starts};
use devsanctum::clock::SystemClock;
use devsanctum::ssh::{Gateway, Keys, Limits, host_key, serve};
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// Counts what is begun, each of which says that it runs, and goes on.
#[derive(Default)]
struct Counted {
    begun: AtomicUsize,
    inputs: Mutex<Vec<mpsc::Receiver<ExecInput>>>,
}

impl Counted {
    fn begin(&self) -> ExecSession {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let (input, typed) = mpsc::channel(64);
        self.inputs.lock().unwrap().push(typed);
        let runs = futures::stream::iter([ExecOutput::Stdout(Bytes::from_static(b"it runs\n"))]);
        ExecSession { input, output: runs.chain(futures::stream::pending()).boxed() }
    }

    /// Whether the input of one of them, the first of which is 0, has ended; that is told once.
    fn heard_the_end(&self, nth: usize) -> bool {
        self.inputs.lock().unwrap().get_mut(nth).is_some_and(|typed| matches!(typed.try_recv(), Ok(ExecInput::CloseStdin)))
    }
}

#[async_trait]
impl WorkspaceStreams for Counted {
    async fn exec(&self, _: StreamTarget, _: ExecRequest) -> Result<ExecSession, StreamError> {
        Ok(self.begin())
    }

    async fn dial(&self, _: StreamTarget, _: &str, _: u16) -> Result<ExecSession, StreamError> {
        Ok(self.begin())
    }

    async fn log(&self, _: StreamTarget, _: LogRequest) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        Err(StreamError::Unavailable("nothing is written here".into()))
    }
}

/// A town with an SSH gateway, in which somebody has a key.
struct Door {
    town: Town,
    address: SocketAddr,
    streams: Arc<Counted>,
    stop: CancellationToken,
    desk: TempDir,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Door {
    async fn of(who: &str) -> Self {
        Self::with(who, Limits::default()).await
    }

    async fn with(who: &str, limits: Limits) -> Self {
        let (town, desk, stop) = (Town::new().await, tempfile::tempdir().unwrap(), CancellationToken::new());
        let key = desk.path().join("id");
        let made = bare("ssh-keygen").args(["-q", "-N", "", "-C", who, "-t", "ed25519", "-f"]).arg(&key).status().unwrap();
        assert!(made.success());
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let (code, told) = town.api.merge(&format!("{GROUP}/users/{who}"), &json!({"spec": {"sshKeys": [public.trim()]}})).await;
        assert_eq!(code, 200, "{told}");
        let streams = Arc::new(Counted::default());
        let directory = Arc::new(Directory::new(town.api.store.clone()));
        let gateway = Gateway {
            api: town.api.open.clone(),
            streams: streams.clone(),
            keys: Keys::follow(town.api.client(), stop.clone()),
            directory: directory.clone(),
            audit: Ledger::new(town.api.store.clone(), directory, SystemClock::shared()),
            starts: Starts::default(),
            limits,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, host_key(&[7; 32]), gateway, stop.clone()));
        Self { town, address, streams, stop, desk }
    }

    /// OpenSSH's client, with the key.
    fn ssh(&self, args: &[&str]) -> Command {
        let mut command = bare("ssh");
        command.args(["-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-i"]);
        command.arg(self.desk.path().join("id")).args(["-p", &self.address.port().to_string()]).args(args).stdin(Stdio::null());
        command
    }

    /// What it says, with its code.
    async fn ran(&self, args: &[&str]) -> (i32, String) {
        let mut command = tokio::process::Command::from(self.ssh(args));
        let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await.expect("its end").unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    /// Gives the readers, or the deployers, of the project a role.
    async fn role(&self, group: &str, role: &str) {
        let groups = json!([{"group": group, "role": role}]);
        let (code, told) = self.town.api.merge(&format!("{GROUP}/projects/team"), &json!({"spec": {"groups": groups}})).await;
        assert_eq!(code, 200, "{told}");
    }

    /// The record of a workspace.
    async fn workspace(&self, name: &str) -> Value {
        self.town.api.get(&format!("{GROUP}/namespaces/team/workspaces/{name}")).await.1
    }

    /// A workspace's container runs from now on.
    async fn runs(&self, name: &str) {
        let path = format!("{GROUP}/namespaces/team/workspaces/{name}");
        let (_, record) = self.town.api.get(&path).await;
        let condition = json!({"type": "ContainerRunning", "status": "True", "reason": "Running", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = json!({"observedGeneration": record["metadata"]["generation"], "conditions": [condition]});
        let (code, told) = self.town.api.merge(&format!("{path}/status"), &json!({"status": status})).await;
        assert_eq!(code, 200, "{told}");
    }

    fn begun(&self) -> usize {
        self.streams.begun.load(Ordering::SeqCst)
    }
}

/// A client that is ended with its test.
struct Client(Child);

impl Client {
    fn begin(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < PATIENCE, "waited for {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_later_is_cut_when_that_is_taken_away() {
    let door = Door::of("reader").await;
    door.runs("of-reader").await;
    let control = door.desk.path().join("control");
    let control = format!("ControlPath={}", control.display());
    let there = "of-reader.team@127.0.0.1";
    let mut first = Client::begin(door.ssh(&["-o", "ControlMaster=yes", "-o", &control, "-N", there]));
    until("the connection", async || door.ran(&["-o", &control, "-O", "check", there]).await.0 == 0).await;
    let refused = door.ran(&["-o", &control, there, "id"]).await;
    assert!(refused.0 == 255 && refused.1.contains("you may not"), "{refused:?}");

    door.role("readers", "DEPLOY").await;
    let mut shell = door.ssh(&["-o", &control, there, "cat"]);
    shell.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut shell = Client::begin(shell);
    until("the shell", async || door.begun() == 1).await;
    assert!(!shell.is_over() && !first.is_over());
    door.role("readers", "READ").await;
    until("the connection's end", async || first.is_over() && shell.is_over()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_workspace_is_judged_again_before_it_begins() {
    let door = Door::of("deployer").await;
    let there = "of-deployer.team@127.0.0.1";
    let more = door.desk.path().join("more");
    std::fs::write(&more, vec![b'x'; 3 << 20]).unwrap();
    // More than is kept of what is sent early, so that nobody reads on to see the connection end.
    let mut command = door.ssh(&[there, "cat"]);
    command.stdin(std::fs::File::open(&more).unwrap()).stderr(Stdio::null());
    let mut waiting = [Client::begin(command), Client::begin(door.ssh(&["-W", "localhost:9000", there]))];
    let opened = async || {
        let (_, told) = door.town.api.get("/devsanctum/audit?user=deployer&kind=Workspace").await;
        let rows = told["rows"].as_array().cloned().unwrap_or_default();
        ["exec", "portforward"].iter().all(|part| rows.iter().any(|row| row["subresource"] == *part && row["code"] == 101))
    };
    until("both to be let in", opened).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(door.begun(), 0);
    door.role("devs", "READ").await;
    until("both to be sent away", async || waiting.iter_mut().all(Client::is_over)).await;
    door.runs("of-deployer").await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(door.begun(), 0, "something was begun for who may not any more");
}

/// A caller who says which version it speaks, and then nothing: keys are being agreed on from then on.
async fn silent(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"SSH-2.0-silent\r\n").await.unwrap();
    stream
}

/// Waits until the gateway has closed a connection, which this side does not.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    timeout(PATIENCE, async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} }).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_does_not_close_is_closed() {
    let door = Door::of("deployer").await;
    let mut stream = silent(door.address).await;
    assert_ne!(stream.read(&mut [0; 4]).await.unwrap(), 0);
    sleep(Duration::from_millis(300)).await;
    door.stop.cancel();
    assert!(closed(&mut stream).await, "socket and task stay for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_do_not_log_in_are_few_for_each_address_and_shut_nobody_out() {
    let door = Door::of("deployer").await;
    door.runs("of-deployer").await;
    let mut all = Vec::new();
    for _ in 0..40 {
        all.push(silent(door.address).await);
    }
    for stream in &mut all[..8] {
        assert!(closed(stream).await, "those who have waited longest make room");
    }
    let mut last = all.pop().unwrap();
    let stays = timeout(Duration::from_secs(1), async { while last.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {} }).await;
    assert!(stays.is_err(), "the last one is still waited for");
    let mut command = door.ssh(&["of-deployer.team@127.0.0.1", "id"]);
    command.stdout(Stdio::null());
    let mut within = Client::begin(command);
    until("somebody who logs in from there", async || door.begun() == 1).await;
    // Who is in has left the places of those who wait, and makes no room.
    for _ in 0..40 {
        all.push(silent(door.address).await);
    }
    for stream in &mut all[31..39] {
        assert!(closed(stream).await, "those who came before make room");
    }
    assert!(!within.is_over());
}

/// Whether the gateway has closed a connection by now.
fn is_closed(stream: &TcpStream) -> bool {
    let mut rest = [0; 4096];
    loop {
        match stream.try_read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_do_not_log_in_are_few_wherever_they_come_from_and_take_nobodys_place_who_has() {
    let door = Door::with("deployer", Limits { of_all: 1, ..Limits::default() }).await;
    door.runs("of-deployer").await;
    let mut all = Vec::new();
    for n in 0..300u16 {
        let socket = TcpSocket::new_v4().unwrap();
        let [_, from] = (n / 30).to_be_bytes();
        socket.bind((Ipv4Addr::new(127, 0, 1, 1 + from), 0).into()).unwrap();
        let mut stream = socket.connect(door.address).await.unwrap();
        stream.write_all(b"SSH-2.0-silent\r\n").await.unwrap();
        all.push(stream);
    }
    let open = || all.iter().filter(|stream| !is_closed(stream)).count();
    until("all but 256 to be sent away", async || open() <= 256).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(open(), 256, "the others are still waited for");
    let mut command = door.ssh(&["of-deployer.team@127.0.0.1", "cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let _within = Client::begin(command);
    until("somebody who logs in", async || door.begun() == 1).await;
    let full = door.ran(&["of-deployer.team@127.0.0.1", "id"]).await;
    assert!(full.0 == 255 && full.1.contains("as many people are connected as may be at once"), "{full:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_connections_and_is_told() {
    let door = Door::with("deployer", Limits { of_user: 2, ..Limits::default() }).await;
    door.runs("of-deployer").await;
    let there = "of-deployer.team@127.0.0.1";
    let stays = || {
        let mut command = door.ssh(&[there, "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Client::begin(command)
    };
    let [first, _second] = [stays(), stays()];
    until("both", async || door.begun() == 2).await;
    let third = door.ran(&[there, "id"]).await;
    assert!(third.0 == 255 && third.1.contains("2 connections of yours are open"), "{third:?}");
    assert_eq!(door.begun(), 2, "nothing was run for it");
    drop(first);
    let mut next = None;
    until("a place that has become free", async || {
        next.get_or_insert_with(stays);
        if next.as_mut().is_some_and(Client::is_over) {
            next = None;
        }
        door.begun() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_log_in_begins_once() {
    let door = Door::with("deployer", Limits { login_grace: Duration::from_secs(6), ..Limits::default() }).await;
    let (mut stream, begun) = (TcpStream::connect(door.address).await.unwrap(), Instant::now());
    sleep(Duration::from_secs(5)).await;
    stream.write_all(b"SSH-2.0-slow\r\n").await.unwrap();
    assert!(closed(&mut stream).await);
    // With two seconds for a caller who does not close; a second beginning would make it eleven and more.
    assert!(begun.elapsed() < Duration::from_millis(10_500), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_is_open_ends() {
    let door = Door::with("deployer", Limits { idle: Duration::from_secs(4), ..Limits::default() }).await;
    door.runs("of-deployer").await;
    let there = "of-deployer.team@127.0.0.1";
    let mut works = door.ssh(&[there, "cat"]);
    works.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut works = Client::begin(works);
    until("the one that works", async || door.begun() == 1).await;
    let idle = door.ran(&["-N", there]).await;
    assert!(idle.0 == 255 && idle.1.contains("nothing was open for 4 seconds"), "{idle:?}");
    // One on which something has ended is as one on which nothing was.
    let control = format!("ControlPath={}", door.desk.path().join("control").display());
    let mut master = Client::begin(door.ssh(&["-o", "ControlMaster=yes", "-o", &control, "-N", there]));
    until("the connection", async || door.ran(&["-o", &control, "-O", "check", there]).await.0 == 0).await;
    let mut once = door.ssh(&["-o", &control, there, "cat"]);
    once.stdout(Stdio::null());
    let once = Client::begin(once);
    // Where the input of a channel is open still, OpenSSH's master tells of its end no sooner than it hears something.
    until("the end of a channel's input", async || door.streams.heard_the_end(1)).await;
    drop(once);
    assert!(!master.is_over());
    until("its end", async || master.is_over()).await;
    assert!(!works.is_over(), "what is open goes on, however little it says");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_may_open_nothing_ends_however_often_it_tries() {
    let door = Door::with("reader", Limits { idle: Duration::from_secs(2), ..Limits::default() }).await;
    door.runs("of-reader").await;
    let control = format!("ControlPath={}", door.desk.path().join("control").display());
    let there = "of-reader.team@127.0.0.1";
    let mut master = Client::begin(door.ssh(&["-o", "ControlMaster=yes", "-o", &control, "-N", there]));
    let mut tries = 0;
    until("its end", async || {
        let (code, words) = door.ran(&["-o", &control, "-o", "ControlMaster=no", "-o", "ProxyCommand=false", there, "id"]).await;
        tries += usize::from(code == 255 && words.contains("you may not"));
        master.is_over()
    })
    .await;
    assert!(tries > 0, "it was let in to try");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_utf_8_is_refused_in_words() {
    let door = Door::of("deployer").await;
    door.runs("of-deployer").await;
    let mut command = door.ssh(&["of-deployer.team@127.0.0.1"]);
    command.arg(OsStr::from_bytes(b"rm caf\xe9"));
    let mut command = tokio::process::Command::from(command);
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await.expect("its end").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(255) && said.contains("devsanctum: the command is not UTF-8"), "{output:?}");
    assert_eq!(door.begun(), 0, "something else was run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_workspace_is_started_once_and_told_once_however_many_come() {
    let door = Door::of("deployer").await;
    let stop = json!({"spec": {"running": false}});
    let (code, told) = door.town.api.merge(&format!("{GROUP}/namespaces/team/workspaces/of-deployer"), &stop).await;
    assert_eq!(code, 200, "{told}");
    let before = door.workspace("of-deployer").await["metadata"]["generation"].as_i64().unwrap();
    let come = || {
        let mut command = door.ssh(&["of-deployer.team@127.0.0.1", "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Client::begin(command)
    };
    let all: Vec<Client> = (0..8).map(|_| come()).collect();
    until("it to be started", async || door.workspace("of-deployer").await["spec"]["running"] == true).await;
    let rows = async |query: &str| {
        let (_, told) = door.town.api.get(&format!("/devsanctum/audit?user=deployer&kind=Workspace&{query}")).await;
        told["rows"].as_array().cloned().unwrap_or_default()
    };
    until("all to be let in", async || rows("verb=create").await.len() == all.len()).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(door.begun(), 0, "it does not run yet");
    door.runs("of-deployer").await;
    until("all of them", async || door.begun() == all.len()).await;
    let started = rows("verb=patch").await;
    assert_eq!(started.len(), 1, "{started:?}");
    assert_eq!((&started[0]["code"], &started[0]["address"]), (&json!(200), &json!("127.0.0.1")), "{started:?}");
    let proof = started[0]["proof"].as_str().unwrap_or_default();
    assert!(started[0]["how"] == "ssh-key" && proof.starts_with("SHA256:"), "{started:?}");
    assert_eq!(door.workspace("of-deployer").await["metadata"]["generation"], before + 1);
}
