//! What was open to anybody and is not any more: a share link that is withdrawn, a workspace that turns private; and the connections
//! of a service that speaks TLS.

use super::gate::{host_of, panel, person, set_up};
use super::records;
use super::revoked::{PATIENCE, Socket, ground, request_as, told, trials};
use super::world::{World, in_world, until};
use crate::support::browser::Browser;
use crate::support::traefik::request;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum_server::tls_rustls::RustlsConfig;
use http::StatusCode;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// What the gate's tests have, and a workspace of this visibility that answers; its host.
async fn workspace(world: &World<'_>, visibility: &str, answer: u16) -> String {
    let mut project = records::project("team", "echo");
    project["spec"]["owner"] = json!("root");
    world.create(project).await;
    let mut workspace = records::workspace("w0");
    workspace["spec"]["owner"] = json!("root");
    workspace["spec"]["visibility"] = json!(visibility);
    world.create(workspace).await;
    let host = host_of(world, "w0").await;
    answers(world, &host, answer).await;
    host
}

async fn answers(world: &World<'_>, host: &str, wanted: u16) {
    until("its answer", PATIENCE, async || match request(world.web, host, "/", &[]).await.0 {
        code if code == wanted => Ok(()),
        code => Err(code.to_string()),
    })
    .await;
}

/// A connection to what is public, as soon as it is.
async fn opened(world: &World<'_>, browser: &Browser, host: &str) -> Socket {
    let mut socket = None;
    until("a connection", PATIENCE, async || match Socket::open(world, browser, host).await {
        (101, _, open) => {
            socket = Some(open);
            Ok(())
        }
        (code, ..) => Err(code.to_string()),
    })
    .await;
    socket.unwrap()
}

/// How long requests, and a connection that stands open, go on from now.
async fn goes_on(world: &World<'_>, browser: &Browser, host: &str, socket: &mut Socket, begun: Instant) -> (Duration, Duration) {
    let requests = async {
        while request_as(world, browser, host).await == 200 {}
        begun.elapsed()
    };
    let connection = async {
        socket.end().await;
        begun.elapsed()
    };
    tokio::join!(requests, connection)
}

#[test]
fn a_link_that_is_withdrawn_opens_nothing_and_what_it_opened_ends() {
    in_world(async |world| {
        ground(&world).await;
        let _root = set_up(&world).await;
        let host = workspace(&world, "PRIVATE", 401).await;
        let (mut requests, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..trials() {
            let body = json!({"project": "team", "workspace": "w0"}).to_string().into_bytes();
            let asked = http::Request::post("/devsanctum/shares").header("content-type", "application/json").body(body).unwrap();
            let share: Value = world.client.request(asked).await.unwrap();
            let mut guest = Browser::new(world.web);
            assert_eq!(guest.open(share["url"].as_str().unwrap()).await.code, 200);
            let (code, _, mut socket) = Socket::open(&world, &guest, &host).await;
            assert!(code == 101 && socket.echoes("hello").await, "{code}");
            let begun = Instant::now();
            let ended = http::Request::delete(format!("/devsanctum/shares/{}", share["id"].as_str().unwrap()));
            world.client.request_text(ended.body(vec![]).unwrap()).await.unwrap();
            let (request, connection) = goes_on(&world, &guest, &host, &mut socket, begun).await;
            requests.push(request);
            connections.push(connection);
        }
        told("share link withdrawn", &requests, &connections);
    });
}

#[test]
fn what_was_opened_while_a_workspace_was_public_ends_when_it_turns_private() {
    in_world(async |world| {
        ground(&world).await;
        let _root = set_up(&world).await;
        let host = workspace(&world, "PUBLIC", 200).await;
        let anybody = Browser::new(world.web);
        let (mut requests, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..trials() {
            let mut socket = opened(&world, &anybody, &host).await;
            assert!(socket.echoes("hello").await);
            let begun = Instant::now();
            world.merge("w0", json!({"spec": {"visibility": "PRIVATE"}})).await;
            let (request, connection) = goes_on(&world, &anybody, &host, &mut socket, begun).await;
            requests.push(request);
            connections.push(connection);
            world.merge("w0", json!({"spec": {"visibility": "PUBLIC"}})).await;
            answers(&world, &host, 200).await;
        }
        told("turned private", &requests, &connections);
        // Nobody had to be told that something could not be done; and what stays public is not touched.
        let mut socket = opened(&world, &anybody, &host).await;
        world.merge("w0", json!({"metadata": {"labels": {"some": "thing"}}})).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(socket.echoes("still there").await);
        let route = world.routes().list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
        let events = world.events(&route).await;
        assert!(events.iter().all(|(reason, _)| reason != "ConnectionsGoOn"), "{events:?}");
    });
}

/// A service that speaks TLS, in a container: says what it was sent, and then again all that it is told.
pub struct Secure {
    handle: axum_server::Handle<std::net::SocketAddr>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Secure {
    /// By a thread in the network of this process, with a certificate that nobody knows.
    pub fn serve(pid: &str) -> Self {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let handle = axum_server::Handle::new();
        let own = handle.clone();
        let thread = std::thread::spawn(move || {
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), network).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let made = rcgen::generate_simple_self_signed(["nobody.invalid".into()]).unwrap();
                let (certificate, key) = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
                let config = RustlsConfig::from_pem(certificate, key).await.unwrap();
                let listener = std::net::TcpListener::bind("0.0.0.0:8443").unwrap();
                listener.set_nonblocking(true).unwrap();
                let server = axum_server::from_tcp_rustls(listener, config).unwrap().handle(own);
                server.serve(axum::Router::new().fallback(secured).into_make_service()).await.unwrap();
            });
        });
        Self { handle, thread: Some(thread) }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.handle.shutdown();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

async fn secured(request: Request) -> Response {
    if !request.headers().contains_key("upgrade") {
        return Response::new("yes".into());
    }
    let ours = request.headers().iter().filter(|(name, _)| *name == "cookie" || name.as_str().starts_with("x-ds"));
    let mut seen: Vec<String> = ours.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    seen.sort();
    let seen = format!("{}\n", seen.join("|"));
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        stream.write_all(seen.as_bytes()).await.unwrap();
        let (mut from, mut to) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    answer.header("upgrade", "websocket").header("connection", "Upgrade").body(Body::empty()).unwrap()
}

#[test]
fn connections_of_a_service_with_tls_go_through_the_gate_and_are_cut() {
    in_world(async |world| {
        world.create(records::settings(crate::support::dockerd::TINY)).await;
        world.create(records::server("local", &world.daemon.socket())).await;
        let mut template = records::template("echo");
        template["spec"]["ports"] = json!([{"name": "tls", "port": 8443, "protocol": "HTTPS"}]);
        world.create(template).await;
        let _root = set_up(&world).await;
        let mut project = records::project("team", "echo");
        project["spec"]["owner"] = json!("root");
        world.create(project).await;
        let mut ada = person(&world, "ada").await;
        let mut workspace = records::workspace("w0");
        workspace["spec"]["visibility"] = json!("PRIVATE");
        workspace["spec"]["owner"] = json!("root");
        world.create(workspace).await;
        let group = json!({"apiVersion": "devsanctum.io/v1", "kind": "Group", "metadata": {"name": "leads"}, "spec": {"members": [{"user": "ada"}]}});
        world.create(group).await;
        let projects: kube::Api<devsanctum::resource::Project> = kube::Api::all(world.client.clone());
        let role = json!({"spec": {"groups": [{"group": "leads", "role": "MANAGE"}]}});
        projects.patch("team", &Default::default(), &kube::api::Patch::Merge(role)).await.unwrap();
        let mut pid = String::new();
        until("its container to run", PATIENCE, async || {
            let container = world.container("w0").await;
            pid = world.docker_says(&["inspect", "-f", "{{.State.Pid}}", &container]).trim().to_owned();
            if pid.is_empty() || pid == "0" { Err("not yet".into()) } else { Ok(()) }
        })
        .await;
        let _secure = Secure::serve(&pid);
        let host = host_of(&world, "w0").await;
        answers(&world, &host, 401).await;
        let url = format!("http://{host}:{}/", world.web.port());

        let (code, _, _) = Socket::open(&world, &Browser::new(world.web), &host).await;
        assert_eq!(code, 401, "nobody is let through");
        let page = ada.open(&url).await;
        assert_eq!((page.code, page.body.as_str()), (200, "yes"));
        let (code, seen, mut socket) = Socket::open(&world, &ada, &host).await;
        assert_eq!((code, seen.as_str()), (101, "cookie: own=1|x-ds-user: ada\n"));
        assert!(socket.echoes("hello").await && socket.echoes(&"x".repeat(100_000)).await);
        let begun = Instant::now();
        assert_eq!(ada.submit(&format!("{}/logout", panel(&world)), &[]).await.code, 302);
        let (requests, connection) = goes_on(&world, &ada, &host, &mut socket, begun).await;
        told("signed out, of a service with TLS", &[requests], &[connection]);

        // And what was opened while it was public ends as with any other.
        world.merge("w0", json!({"spec": {"visibility": "PUBLIC"}})).await;
        answers(&world, &host, 200).await;
        let mut socket = opened(&world, &Browser::new(world.web), &host).await;
        assert!(socket.echoes("hello").await);
        world.merge("w0", json!({"spec": {"visibility": "PRIVATE"}})).await;
        socket.end().await;
    });
}
