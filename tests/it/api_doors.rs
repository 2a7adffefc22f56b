//! The API against whoever holds its doors open: by what lasts, by silence, by not reading, and by number.

use crate::api_server::{Server, TOKEN, pem_der, scripted_within};
use crate::support::api::{Api, GROUP, record, workspace, workspaces};
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::Bytes;
use devsanctum::access::Identity;
use devsanctum::api::Bounds;
use devsanctum::api::streams::{ExecRequest, ExecSession, LogRequest, StreamError, StreamTarget, WorkspaceStreams};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use http::Request;
use hyper_util::rt::TokioIo;
use kube::api::{Api as KubeApi, AttachParams, WatchEvent, WatchParams};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

const PATIENCE: Duration = Duration::from_secs(30);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame with settings, and none in it.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn get(api: &Api, who: &Identity, path: &str) -> Response {
    let router = api.open.clone().layer(axum::Extension(who.clone()));
    router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

/// That somebody has too many, in what words.
async fn refused(response: Response) -> String {
    assert_eq!(response.status(), 429);
    let status: Value = serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap();
    assert_eq!((&status["kind"], &status["reason"], &status["code"]), (&"Status".into(), &"TooManyRequests".into(), &429.into()));
    status["message"].as_str().unwrap().to_owned()
}

/// Over TLS, saying nothing yet.
async fn connect(
    server: &Server,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem_der(&server.ca).into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_only();
    let mut connector = builder.enable_http1().build();
    let stream = connector.call(format!("https://{}", server.address).parse().unwrap()).await?;
    Ok(TokioIo::new(stream))
}

/// A way into the workspace `web`, as the administrator; what was answered where there is none.
async fn opened(server: &Server, way: &str) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, String> {
    let mut stream = connect(server).await.unwrap();
    let request = format!(
        "GET {}/web/{way} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: v4.channel.k8s.io\r\n\r\n",
        workspaces()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let mut read = 0;
    while !answer[..read].windows(4).any(|end| end == b"\r\n\r\n") {
        let more = stream.read(&mut answer[read..]).await.unwrap();
        assert_ne!(more, 0, "an answer");
        read += more;
    }
    let told = String::from_utf8_lossy(&answer[..read]).into_owned();
    if told.starts_with("HTTP/1.1 101 ") { Ok(stream) } else { Err(told) }
}

/// Waits until the server hangs up.
async fn hung_up_on(mut stream: impl AsyncRead + Unpin) -> bool {
    let mut buffer = [0; 4096];
    let all = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, all).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_has_so_many_watches_and_what_ends_makes_room() {
    let api = Api::new().await;
    api.project().await;
    let path = format!("{}?watch=true", workspaces());
    let (admin, ada) = (Identity::administrator("admin"), Identity::person("ada"));
    for who in [&admin, &ada] {
        let mut watches = Vec::new();
        for _ in 0..256 {
            let watch = get(&api, who, &path).await;
            assert_eq!(watch.status(), 200);
            watches.push(watch);
        }
        let told = refused(get(&api, who, &path).await).await;
        assert!(told.contains("you have 256 watches open") && told.contains("end some"), "{told}");
        watches.pop();
        watches.push(get(&api, who, &path).await);
        assert_eq!(watches.last().unwrap().status(), 200, "one has ended");
        assert_eq!(get(&api, who, &workspaces()).await.status(), 200, "what does not last is no matter");
    }
    let own = Identity::system("devsanctum");
    let all = join_all((0..300).map(|_| get(&api, &own, &path))).await;
    assert!(all.iter().all(|watch| watch.status() == 200), "the program's own loops are not counted");
    api.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_has_so_many_commands_ports_and_logs() {
    let (server, ..) = scripted_within(Bounds::default()).await;
    let (admin, ada) = (Identity::administrator("admin"), Identity::person("ada"));
    let path = format!("{}/web/log?follow=true", workspaces());
    let mut logs = Vec::new();
    for _ in 0..64 {
        let log = get(&server.api, &admin, &path).await;
        assert_eq!(log.status(), 200);
        logs.push(log);
    }
    let told = refused(get(&server.api, &admin, &path).await).await;
    assert!(told.contains("you have 64 commands, forwarded ports and logs open") && told.contains("end some"), "{told}");
    let (exec, ports) = ("exec?command=cat&stdin=true", "portforward?ports=80");
    for way in [exec, ports] {
        let told = opened(&server, way).await.err().expect(way);
        assert!(told.starts_with("HTTP/1.1 429 ") && told.contains("you have 64 commands"), "{told}");
    }
    assert_eq!(get(&server.api, &ada, &path).await.status(), 200, "others have their own");
    logs.truncate(62);
    let held = [opened(&server, exec).await.unwrap(), opened(&server, ports).await.unwrap()];
    assert!(opened(&server, exec).await.is_err(), "each has a place");
    drop(held);
    for _ in 0..2 {
        let until = Instant::now() + PATIENCE;
        loop {
            match get(&server.api, &admin, &path).await {
                log if log.status() == 200 => break logs.push(log),
                _ => assert!(Instant::now() < until, "what has ended has no place"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    server.api.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_is_ended_and_one_that_waits_is_not() {
    let (server, _, client) = scripted_within(Bounds { silent: Duration::from_secs(1), ..Bounds::default() }).await;
    let mut watch = client.watch(&WatchParams::default(), &server.api.store.revision().to_string()).await.unwrap().boxed();
    let http2 = [PREFACE, SETTINGS].concat();
    let cases: [(&str, &[u8]); 5] = [
        ("nothing", b""),
        ("the beginning of HTTP/2", &PREFACE[..16]),
        ("half a head", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"),
        ("a request, and no other one", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
        ("HTTP/2 without a request, and no answer to a ping", &http2),
    ];
    let silent = cases.map(async |(what, said)| {
        let mut stream = connect(&server).await.unwrap();
        stream.write_all(said).await.unwrap();
        assert!(hung_up_on(stream).await, "{what}");
    });
    let mute = async { assert!(hung_up_on(TcpStream::connect(server.address).await.unwrap()).await, "without TLS") };
    tokio::join!(join_all(silent), mute);
    server.api.create(&workspaces(), &workspace("later")).await;
    let told = timeout(PATIENCE, watch.next()).await.expect("word of it").unwrap().unwrap();
    assert!(matches!(&told, WatchEvent::Added(w) if w.metadata.name.as_deref() == Some("later")), "{told:?}");
    server.api.shutdown.cancel();
}

/// Logs without end. The token is cancelled when one is given up.
struct Flood(CancellationToken);

#[async_trait]
impl WorkspaceStreams for Flood {
    async fn dial(&self, _: StreamTarget, _: &str, _: u16) -> Result<ExecSession, StreamError> {
        Err(StreamError::Unavailable(String::new()))
    }

    async fn exec(&self, _: StreamTarget, _: ExecRequest) -> Result<ExecSession, StreamError> {
        Err(StreamError::Unavailable(String::new()))
    }

    async fn log(&self, _: StreamTarget, _: LogRequest) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        let held = self.0.clone().drop_guard();
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        Ok(stream::repeat(piece).map(move |piece| (Ok(piece), &held).0).boxed())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_takes_nothing_in_is_ended() {
    let given_up = CancellationToken::new();
    let api = Api::with_streams(Arc::new(Flood(given_up.clone())), 100_000).await;
    api.project().await;
    api.create(&workspaces(), &workspace("web")).await;
    let server = Server::bounded(api, None, Bounds { unread: Duration::from_secs(2), ..Bounds::default() }).await;
    let mut stream = connect(&server).await.unwrap();
    let path = format!("{}/web/log?follow=true", workspaces());
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = vec![0; 1 << 20];
    stream.read_exact(&mut read).await.unwrap();
    assert!(!given_up.is_cancelled(), "as long as it is read");
    let ended = timeout(PATIENCE, given_up.cancelled()).await;
    assert!(ended.is_ok(), "it is not read, and goes on");
    server.api.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_so_many_connections_and_one_that_ends_makes_room() {
    let (server, _, client) = scripted_within(Bounds { of_all: 2, ..Bounds::default() }).await;
    let process = client.exec("web", ["cat"], &AttachParams::default().stdin(true).stderr(false)).await.unwrap();
    let other = connect(&server).await.unwrap();
    assert!(connect(&server).await.is_err(), "a command has a connection, and so has who says nothing yet");
    drop(other);
    let again = async || {
        let until = Instant::now() + PATIENCE;
        loop {
            match connect(&server).await {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let _held = again().await;
    assert!(connect(&server).await.is_err());
    process.abort();
    let _held_too = again().await;
    server.api.shutdown.cancel();
}

#[tokio::test]
async fn what_one_connection_may_ask_for_by_http2_is_said_when_it_begins() {
    let server = Server::bounded(Api::new().await, None, Bounds::default()).await;
    let mut stream = connect(&server).await.unwrap();
    stream.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "settings come first");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let said = |id: u8| settings.chunks(6).find(|one| one[1] == id).map(|one| u32::from_be_bytes(one[2..].try_into().unwrap()));
    // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_MAX_FRAME_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE
    assert_eq!((said(3), said(5), said(6)), (Some(100), Some(16 << 10), Some(16 << 10)));
    server.api.shutdown.cancel();
}

/// Who holds everything open takes nothing from who comes by another way: what a watch tells comes whole, however large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_large_and_small_things_whole_and_in_order() {
    let (server, ..) = scripted_within(Bounds::default()).await;
    let templates: KubeApi<devsanctum::resource::Template> = KubeApi::all(server.client());
    let from = server.api.store.revision().to_string();
    for n in 0..60 {
        let mut template = record("Template", &format!("t{n}"), serde_json::json!({"base": "node:20"}));
        template["metadata"]["annotations"] = serde_json::json!({"text": "x".repeat(if n % 3 == 0 { 200_000 } else { 10 })});
        server.api.create(&format!("{GROUP}/templates"), &template).await;
    }
    let mut watch = templates.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    for n in 0..60 {
        let told = timeout(PATIENCE, watch.next()).await.expect("in time").unwrap().unwrap();
        assert!(matches!(&told, WatchEvent::Added(t) if t.metadata.name == Some(format!("t{n}"))), "{n}");
    }
    server.api.shutdown.cancel();
}
