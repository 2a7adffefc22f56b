//! The API over real connections: TLS, commands and logs, clients that vanish, throughput.

use crate::support::api::{Api, GROUP, user, workspace, workspaces};
use async_trait::async_trait;
use bytes::Bytes;
use devsanctum::api::streams::{
    ExecInput, ExecOutput, ExecRequest, ExecSession, LogRequest, Run, StreamError, StreamTarget, WorkspaceStreams,
};
use devsanctum::api::{Bounds, tls};
use devsanctum::resource::Workspace;
use devsanctum::store::AuditQuery;
use futures::stream::{self, BoxStream};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use kube::api::{Api as KubeApi, AttachParams, LogParams};
use sha2::Digest;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "test-token";

/// An API on a port of its own.
pub struct Server {
    pub api: Api,
    pub address: SocketAddr,
    pub ca: String,
    task: JoinHandle<()>,
}

impl Server {
    async fn tls(api: Api) -> Self {
        Self::with(api, None).await
    }

    async fn with(api: Api, public: Option<tls::Files>) -> Self {
        Self::bounded(api, public, Bounds::default()).await
    }

    pub async fn bounded(api: Api, public: Option<tls::Files>, bounds: Bounds) -> Self {
        api.store.set_token("admin", sha2::Sha256::digest(TOKEN).into()).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tls::load_or_create(&api.dir.path().join("tls"), &[], public, jiff::Timestamp::now()).unwrap();
        let (ca, router, stop) = (tls.ca_pem.clone(), api.open.clone(), api.shutdown.clone());
        let task = tokio::spawn(async move { tls::serve(listener, router, &tls, bounds, stop.cancelled_owned()).await.unwrap() });
        Self { api, address, ca, task }
    }

    pub fn client(&self) -> kube::Client {
        let yaml = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://{}", self.address),
                "certificate-authority-data": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &self.ca)}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        });
        crate::support::crypto();
        futures::executor::block_on(crate::support::client(&yaml.to_string())).unwrap()
    }
}

/// A plain HTTP server for the raw tests: the identity comes with the router.
async fn plain(api: &Api) -> (SocketAddr, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api.router.clone();
    (
        address,
        tokio::spawn(async move {
            axum_server::from_tcp(listener.into_std().unwrap()).unwrap().serve(router.into_make_service()).await.unwrap()
        }),
    )
}

/// Plays back what the test wrote down, and notes what it is asked.
#[derive(Default)]
pub struct Scripted {
    asked: Mutex<Vec<(StreamTarget, ExecRequest)>>,
    sizes: Arc<Mutex<Vec<(u16, u16)>>>,
    /// Cancelled when a command that reads nothing was given up.
    given_up: CancellationToken,
}

#[async_trait]
impl WorkspaceStreams for Scripted {
    async fn dial(&self, target: StreamTarget, host: &str, port: u16) -> Result<ExecSession, StreamError> {
        if port == 1 {
            return Err(StreamError::Refused(format!("nothing takes a connection to {host}:{port}")));
        }
        let cat = ExecRequest::piped(Run::Command(vec!["dialled".into()]));
        self.exec(target, cat).await
    }

    async fn exec(&self, target: StreamTarget, request: ExecRequest) -> Result<ExecSession, StreamError> {
        let shell = vec!["cat".to_owned()];
        let command = match &request.run {
            Run::Command(command) => command.clone(),
            _ => shell,
        };
        if command[0] == "missing" {
            return Err(StreamError::NotRunning("workspace \"web\" has no running container: start it first".into()));
        }
        if command[0] == "deaf" {
            let (input, unread) = mpsc::channel(8);
            let held = (unread, self.given_up.clone().drop_guard());
            let output = stream::once(async move {
                let _held = held;
                std::future::pending().await
            });
            return Ok(ExecSession { input, output: output.boxed() });
        }
        let exit = command.get(1).and_then(|c| c.parse().ok()).unwrap_or(0);
        self.asked.lock().unwrap().push((target, request));
        let (input, mut from_caller) = mpsc::channel(8);
        let (to_caller, output) = mpsc::channel(8);
        let sizes = self.sizes.clone();
        // An echo, then a word on the error output, then the end.
        tokio::spawn(async move {
            while let Some(said) = from_caller.recv().await {
                match said {
                    ExecInput::Stdin(bytes) => to_caller.send(ExecOutput::Stdout(bytes)).await.unwrap(),
                    ExecInput::Resize { width, height } => sizes.lock().unwrap().push((width, height)),
                    ExecInput::CloseStdin => break,
                }
            }
            let _ = to_caller.send(ExecOutput::Stderr(Bytes::from_static(b"bye"))).await;
            let _ = to_caller.send(ExecOutput::Exit(exit)).await;
        });
        let output = stream::unfold(output, |mut o| async move { o.recv().await.map(|said| (said, o)) }).boxed();
        Ok(ExecSession { input, output })
    }

    async fn log(
        &self,
        _: StreamTarget,
        request: LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        let lines: Vec<_> = (0..request.tail_lines.unwrap_or(3)).map(|i| Ok(Bytes::from(format!("line {i}\n")))).collect();
        let first = stream::iter(lines);
        Ok(if request.follow { first.chain(stream::pending()).boxed() } else { first.boxed() })
    }
}

async fn scripted() -> (Server, Arc<Scripted>, KubeApi<Workspace>) {
    scripted_within(Bounds::default()).await
}

pub async fn scripted_within(bounds: Bounds) -> (Server, Arc<Scripted>, KubeApi<Workspace>) {
    let streams = Arc::new(Scripted::default());
    let api = Api::with_streams(streams.clone(), 100_000).await;
    api.project().await;
    api.create(&workspaces(), &workspace("web")).await;
    let server = Server::bounded(api, None, bounds).await;
    let client = KubeApi::namespaced(server.client(), "team");
    (server, streams, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_rs_runs_commands_over_tls() {
    let (server, streams, client) = scripted().await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(true).container("db");
    let mut process = client.exec("web", ["cat", "3"], &params).await.unwrap();
    let (mut stdin, mut stdout, mut stderr) = (process.stdin().unwrap(), process.stdout().unwrap(), process.stderr().unwrap());
    let status = process.take_status().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    let mut five = [0u8; 5];
    stdout.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"hello");
    stdin.shutdown().await.unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "bye");
    let status = status.await.unwrap();
    assert_eq!((status.status.as_deref(), status.reason.as_deref()), (Some("Failure"), Some("NonZeroExitCode")));
    assert_eq!(status.details.unwrap().causes.unwrap()[0].message.as_deref(), Some("3"));
    let asked = streams.asked.lock().unwrap().clone();
    let command = Run::Command(vec!["cat".into(), "3".into()]);
    assert_eq!((asked[0].0.container.as_deref(), &asked[0].1.run), (Some("db"), &command));
    assert!(asked[0].1.stdin && asked[0].1.stdout && asked[0].1.stderr && !asked[0].1.tty);
    server.api.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_rs_reaches_ports_over_tls() {
    let (server, streams, client) = scripted().await;
    let mut forwarder = client.portforward("web", &[80, 5432]).await.unwrap();
    let (mut web, mut database) = (forwarder.take_stream(80).unwrap(), forwarder.take_stream(5432).unwrap());
    for (stream, word) in [(&mut web, b"one"), (&mut database, b"two")] {
        stream.write_all(word).await.unwrap();
        let mut back = [0u8; 3];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, word);
    }
    assert_eq!(streams.asked.lock().unwrap().len(), 2);
    let refused = client.portforward("web", &[1]).await.err().unwrap();
    assert!(refused.to_string().contains("nothing takes a connection to localhost:1"), "{refused}");
    let nobody = client.portforward("nobody", &[80]).await.err().unwrap();
    assert!(nobody.to_string().contains("not found"), "{nobody}");
    server.api.shutdown.cancel();
}

/// Connects to a terminal; gives what it has shown once that is so much.
async fn terminal(server: &Server, query: &str, typed: &[u8], wanted: usize) -> Result<Vec<u8>, kube::Error> {
    use futures::SinkExt;
    use tokio_tungstenite::tungstenite::Message;
    let path = format!("{}/web/terminal?{query}", workspaces());
    let mut socket = server.client().connect(http::Request::get(path).body(vec![]).unwrap()).await?.into_stream();
    let mut message = vec![0];
    message.extend_from_slice(typed);
    socket.send(Message::Binary(message.into())).await.unwrap();
    let mut shown = Vec::new();
    while shown.len() < wanted {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(piece) => shown.extend_from_slice(&piece[1..]),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
    Ok(shown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_into_a_workspace_is_in_the_audit_log_before_it_is_opened() {
    let (server, streams, client) = scripted().await;
    let opened = async || {
        let exec = client.exec("web", ["cat"], &AttachParams::default()).await.is_ok();
        let ports = client.portforward("web", &[80]).await.is_ok();
        let terminal = terminal(&server, "session=a", b"one", 3).await.is_ok();
        [exec, ports, terminal]
    };
    let rows = async || {
        let asked =
            AuditQuery { fields: vec![("kind", "Workspace".into())], after: Some(0), limit: 100, ..AuditQuery::default() };
        let rows = server.api.store.audit_rows(asked).await.unwrap().into_iter().map(|row| row.entry);
        rows.filter(|entry| !entry.subresource.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(opened().await, [true; 3]);
    let seen = rows().await;
    let told: Vec<_> = seen.iter().map(|e| (e.verb.as_str(), e.subresource.as_str(), e.code)).collect();
    assert_eq!(told, [("create", "exec", 101), ("create", "portforward", 101), ("create", "terminal", 101)]);
    assert!(seen.iter().all(|e| e.name == "web" && e.namespace == "team" && e.address == "127.0.0.1"), "{seen:?}");
    let asked = streams.asked.lock().unwrap().len();
    server.api.sql("ALTER TABLE audit RENAME TO elsewhere").await;
    assert_eq!(opened().await, [false; 3]);
    assert_eq!(streams.asked.lock().unwrap().len(), asked, "the engine was not asked for anything");
    server.api.sql("ALTER TABLE elsewhere RENAME TO audit").await;
    server.api.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_goes_on_where_it_was_seen() {
    let (server, streams, _) = scripted().await;
    assert_eq!(terminal(&server, "session=a&columns=80&rows=24", b"one", 3).await.unwrap(), b"one");
    assert_eq!(terminal(&server, "session=a&offset=3", b"two", 3).await.unwrap(), b"two");
    assert_eq!(terminal(&server, "session=a", b"three", 11).await.unwrap(), b"onetwothree");
    assert_eq!(terminal(&server, "session=b", b"other", 5).await.unwrap(), b"other");
    assert_eq!(streams.asked.lock().unwrap().len(), 2, "one program for each terminal");
    assert_eq!(*streams.sizes.lock().unwrap(), [(80, 24)]);
    for (query, code, words) in [
        ("session=c&offset=3", 410, "the terminal is gone"),
        ("session=", 400, "session: must be a name"),
        ("session=a%2Fb", 400, "session: must be a name"),
        ("session=a&offset=-1", 400, "offset"),
    ] {
        match terminal(&server, query, b"", 0).await {
            Err(kube::Error::Api(status)) => assert!(status.code == code && status.message.contains(words), "{status:?}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    server.api.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_resized_and_errors_come_as_status() {
    use futures::SinkExt;
    let (server, streams, client) = scripted().await;
    let params = AttachParams::interactive_tty();
    let mut process = client.exec("web", ["sh"], &params).await.unwrap();
    let mut size = process.terminal_size().unwrap();
    size.send(kube::api::TerminalSize { width: 80, height: 24 }).await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while streams.sizes.lock().unwrap().is_empty() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*streams.sizes.lock().unwrap(), [(80, 24)]);
    process.stdin().unwrap().shutdown().await.unwrap();
    assert_eq!(process.take_status().unwrap().await.unwrap().status.as_deref(), Some("Success"));
    let missing = client.exec("web", ["missing"], &AttachParams::default()).await.err().unwrap();
    assert!(missing.to_string().contains("start it first"), "{missing}");
    let nobody = client.exec("nobody", ["sh"], &AttachParams::default()).await.err().unwrap();
    assert!(nobody.to_string().contains("not found"), "{nobody}");
    server.api.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_reads_nothing_is_given_up_with_its_caller() {
    // What is kept for the command, and far more than that, so that the connection is not read to its end.
    for size in [100 * 1024, 32 * 1024 * 1024] {
        let (server, streams, client) = scripted().await;
        let mut process = client.exec("web", ["deaf"], &AttachParams::default().stdin(true)).await.unwrap();
        let mut stdin = process.stdin().unwrap();
        let written = tokio::time::timeout(Duration::from_secs(3), stdin.write_all(&vec![b'x'; size])).await;
        assert_eq!(written.is_ok(), size < 1024 * 1024);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!streams.given_up.is_cancelled());
        process.abort();
        let ended = tokio::time::timeout(Duration::from_secs(30), streams.given_up.cancelled()).await;
        assert!(ended.is_ok(), "{size} bytes");
        server.api.shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_stream_and_a_stop_ends_them() {
    let (server, _, client) = scripted().await;
    assert_eq!(client.logs("web", &LogParams::default()).await.unwrap(), "line 0\nline 1\nline 2\n");
    let follow = LogParams { follow: true, tail_lines: Some(2), ..LogParams::default() };
    let mut lines = client.log_stream("web", &follow).await.unwrap().lines();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("line 0"));
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("line 1"));
    server.api.shutdown.cancel();
    let end = tokio::time::timeout(Duration::from_secs(10), lines.try_next()).await.expect("a stop ends the log");
    assert!(matches!(end, Ok(None) | Err(_)));
    tokio::time::timeout(Duration::from_secs(10), server.task).await.expect("the server stops").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_our_authority_and_our_token_open_the_door() {
    let server = Server::tls(Api::new().await).await;
    let users: KubeApi<devsanctum::resource::User> = KubeApi::all(server.client());
    assert_eq!(users.list(&Default::default()).await.unwrap().items.len(), 0);
    let config = |token: Option<&str>, ca: bool| {
        let mut config = kube::Config::new(format!("https://localhost:{}", server.address.port()).parse().unwrap());
        config.auth_info.token = token.map(|t| t.to_owned().into());
        config.root_cert = ca.then(|| vec![pem_der(&server.ca)]);
        kube::Client::try_from(config).unwrap()
    };
    let denied = KubeApi::<devsanctum::resource::User>::all(config(None, true)).list(&Default::default()).await.unwrap_err();
    assert!(matches!(&denied, kube::Error::Api(s) if s.code == 401), "{denied}");
    let foreign = KubeApi::<devsanctum::resource::User>::all(config(Some(TOKEN), false)).list(&Default::default()).await;
    assert!(foreign.is_err(), "without our authority there is no trust");
    server.api.shutdown.cancel();
}

/// Who calls it by a name of a certificate that others trust already is shown that one; all others are shown ours.
#[tokio::test]
async fn a_certificate_that_others_trust_is_shown_to_who_calls_by_its_name() {
    let api = Api::new().await;
    let made = rcgen::generate_simple_self_signed(["api.example.com".into()]).unwrap();
    let files = tls::Files { cert: api.dir.path().join("public.crt"), key: api.dir.path().join("public.key") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::with(api, Some(files)).await;
    let asked = async |name: &str, trusted: &str| {
        let mut config = kube::Config::new(format!("https://{}", server.address).parse().unwrap());
        config.auth_info.token = Some(TOKEN.to_owned().into());
        config.root_cert = Some(vec![pem_der(trusted)]);
        config.tls_server_name = Some(name.into());
        let users = KubeApi::<devsanctum::resource::User>::all(kube::Client::try_from(config).unwrap());
        users.list(&Default::default()).await.is_ok()
    };
    assert!(asked("api.example.com", &made.cert.pem()).await);
    assert!(asked("localhost", &server.ca).await);
    assert!(!asked("api.example.com", &server.ca).await && !asked("localhost", &made.cert.pem()).await);
    server.api.shutdown.cancel();
}

pub fn pem_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn create_request(name: &str) -> Vec<u8> {
    let body = user(name).to_string();
    format!(
        "POST {GROUP}/users HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one answer; its code.
async fn answer(stream: &mut TcpStream) -> Option<u16> {
    let mut all = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        let n = stream.read(&mut buffer).await.ok()?;
        if n == 0 {
            return None;
        }
        all.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&all);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|l| l.parse::<usize>().ok())?;
        if body.len() >= length {
            return head.split(' ').nth(1)?.parse().ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_thousand_creates_cut_at_random_lose_no_acknowledged_one() {
    let api = Api::new().await;
    let (address, server) = plain(&api).await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let mut clients = Vec::new();
    for client in 0..40u32 {
        let acknowledged = acknowledged.clone();
        clients.push(tokio::spawn(async move {
            for i in 0..100 {
                let name = format!("u{client}-{i}");
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(&create_request(&name)).await.unwrap();
                let mut random = [0u8; 2];
                getrandom::fill(&mut random).unwrap();
                let patience = Duration::from_micros(u64::from(u16::from_le_bytes(random)));
                if let Ok(Some(201)) = tokio::time::timeout(patience, answer(&mut stream)).await {
                    acknowledged.lock().unwrap().insert(name);
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let (_, list) = api.get(&format!("{GROUP}/users")).await;
    let held: BTreeSet<String> =
        list["items"].as_array().unwrap().iter().map(|u| u["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    println!("{} acknowledged, {} held, of 4000", acknowledged.len(), held.len());
    assert!(acknowledged.len() < 4000, "no request was cut: the test shows nothing");
    assert_eq!(acknowledged.difference(&held).count(), 0);
    api.create(&format!("{GROUP}/users"), &user("after")).await;
    server.abort();
}

/// Prints how many creates a second go through; run by hand, in release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn measure_creates() {
    let api = Api::new().await;
    api.project().await;
    let (address, server) = plain(&api).await;
    for kind in ["users", "workspaces"] {
        let started = Instant::now();
        let mut clients = Vec::new();
        for client in 0..16 {
            clients.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                for i in 0..500 {
                    let name = format!("u{client}-{i}");
                    let request = if kind == "users" { create_request(&name) } else { workspace_request(&name) };
                    stream.write_all(&request).await.unwrap();
                    assert_eq!(answer(&mut stream).await, Some(201));
                }
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
        let took = started.elapsed();
        println!("{kind}: 8000 creates in {took:?}: {:.0}/s", 8000.0 / took.as_secs_f64());
    }
    server.abort();
}

fn workspace_request(name: &str) -> Vec<u8> {
    let body = workspace(name).to_string();
    let path = workspaces();
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
