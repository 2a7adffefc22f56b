//! What stops and starts by itself: a visit to a stopped workspace, and a look for work in many.

use super::floor::Bare;
use super::system::{self, System};
use super::tool::{cpu_seconds, free_port, median, ms, note, row, spread};
use super::{Flags, docker, records, wire};
use devsanctum::proxy::{ManagedSettings, ManagedTraefik, Proxy, RenderSettings, RouteEntry, RouteTable, TraefikProxy};
use devsanctum::resource::common::{Protocol, Visibility};
use devsanctum::resource::{Workspace, WorkspacePhase};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// As a browser opens a page, and as its page that waits asks anew.
const PAGE: &str = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n";
const ANEW: &str = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n";
/// Looks for work that are measured together: CPU time is told in hundredths of a second.
const LOOKS: u32 = 50;

pub async fn run(flags: Flags) {
    wake(flags.runs.unwrap_or(15)).await;
    look(flags.count.unwrap_or(1000)).await;
}

async fn wake(runs: usize) {
    let daemon = docker::start();
    let dir = system::state();
    let system = System::with_engine(dir.path(), &daemon).await;
    let mut workspace = records::workspace("w0");
    workspace["spec"]["wakeOnVisit"] = json!(true);
    system.apply(&[workspace]);
    let host = system.await_running(1).await["w0"].clone();
    let bare = Bare::prepare(&daemon).await;
    let (id, address) = bare.make("bare").await;
    let beside = SocketAddr::new(address, 8080);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        devsanctum::engine::Engine::stop(&bare.0, &id, Duration::from_secs(1)).await.unwrap();
        let begun = Instant::now();
        devsanctum::engine::Engine::start(&bare.0, &id).await.unwrap();
        while !matches!(get(beside, "bare", "").await, Ok((200, _))) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        floor.push(ms(begun.elapsed()));

        stop(&system, &host).await;
        let begun = Instant::now();
        let first = get(system.web, &host, PAGE).await.unwrap();
        assert!(matches!(first.0, 200 | 302 | 503), "{}", first.0);
        while !matches!(get(system.web, &host, ANEW).await, Ok((200, body)) if body.starts_with(b"ok")) {}
        ours.push(ms(begun.elapsed()));
        // To stop one takes up to its grace, so that all runs take minutes.
        note(&format!("{run} of {runs}: {:.0} ms, bare {:.0} ms", ours[run - 1], floor[run - 1]));
    }
    let more = median(&ours) - median(&floor);
    row(
        "visit of a stopped workspace → its page",
        &spread(&ours, "ms"),
        &format!("bare start → its page {}", spread(&floor, "ms")),
        &format!("{more:+.0} ms"),
        "≤ bare + 500 ms",
    );
}

async fn get(to: SocketAddr, host: &str, headers: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut wire = wire::plain(to, host).await?;
    headers.lines().for_each(|line| wire.with(line));
    wire.call("GET", "/", "").await
}

/// Stops it, and waits until its address says so.
async fn stop(system: &System, host: &str) {
    let api: Api<Workspace> = Api::namespaced(system.client.clone(), "bench");
    let body = Patch::Merge(json!({"spec": {"running": false}}));
    api.patch("w0", &PatchParams::default(), &body).await.unwrap();
    loop {
        let phase = api.get("w0").await.unwrap().status.unwrap_or_default().phase;
        if phase == WorkspacePhase::Stopped && matches!(get(system.web, host, "").await, Ok((503, _))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a look costs at a real Traefik that leads to so many workspaces, each of which was visited.
async fn look(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let [web, api, feed, upstream] = std::array::from_fn(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let rendered =
        RenderSettings { entry_points: vec!["web".into()], gate_url: format!("http://{feed}"), ..RenderSettings::default() };
    let proxy = TraefikProxy::new(&format!("http://{api}"), "t".into(), rendered).unwrap();
    let listener = tokio::net::TcpListener::bind(feed).await.unwrap();
    tokio::spawn(proxy.feed().clone().serve(listener, std::future::pending()));
    let served = tokio::net::TcpListener::bind(upstream).await.unwrap();
    tokio::spawn(async move { axum::serve(served, axum::Router::new().fallback(|| async { "ok" })).await });
    let settings = ManagedSettings {
        binary: None,
        state_dir: dir.path().into(),
        entry_points: BTreeMap::from([("web".to_owned(), web)]),
        api,
        feed_url: format!("http://{feed}/traefik/config"),
        token: "t".into(),
        env: BTreeMap::new(),
        extra: BTreeMap::new(),
        redirect: None,
        trusted: Vec::new(),
    };
    let mut traefik = ManagedTraefik::start(settings, proxy.feed());
    traefik.answers().await.unwrap();
    let entry = |i: usize| RouteEntry {
        host: format!("w{i}.localhost"),
        upstream,
        protocol: Protocol::Http,
        visibility: Visibility::Public,
        workspace_uid: format!("u{i}"),
        way: None,
    };
    proxy.publish(&RouteTable((0..count).map(|i| (format!("r{i}"), entry(i))).collect()));
    proxy.wait_live(Duration::from_secs(60)).await.unwrap();
    for i in 0..count {
        assert_eq!(get(web, &format!("w{i}.localhost"), "").await.unwrap().0, 200);
    }
    let pid = std::fs::read_to_string(dir.path().join("traefik/traefik.pid")).unwrap();
    let pid: u32 = pid.split_whitespace().next().unwrap().parse().unwrap();
    let (ours, theirs, begun) = (cpu_seconds(std::process::id()), cpu_seconds(pid), Instant::now());
    for _ in 0..LOOKS {
        let found = proxy.traffic().await.unwrap();
        assert!(found.len() == count && found.values().all(|t| t.requests.values().sum::<u64>() == 1));
    }
    let each = |seconds: f64| seconds * 1000.0 / f64::from(LOOKS);
    let (ours, theirs) = (each(cpu_seconds(std::process::id()) - ours), each(cpu_seconds(pid) - theirs));
    row(
        &format!("a look for work in {count} workspaces: CPU of the control plane"),
        &format!("{ours:.1} ms (takes {:.1} ms)", each(begun.elapsed().as_secs_f64())),
        &format!("Traefik's for telling its counts {theirs:.1} ms"),
        &format!("{:.1} ms together", ours + theirs),
        "≤ 50 ms",
    );
    traefik.stop().await;
}
