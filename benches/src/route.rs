//! A new route: from its creation through the API until Traefik answers for its host, among 200 others.

use super::docker::TINY;
use super::floor::BareTraefik;
use super::system::{self, System};
use super::tool::{median, ms, note, row, spread};
use super::wire::plain;
use super::{Flags, records};
use devsanctum::engine::fake::FakeEngine;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// An engine in this process behind a socket, whose containers' addresses all lead to this process.
pub fn simulated(socket: &Path, seed: u64) -> FakeEngine {
    let fake = FakeEngine::new(seed);
    fake.add_image(TINY);
    fake.set_resources(2, (4 << 40, 4 << 40), (100 << 40, 100 << 40));
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let serving = fake.clone();
    tokio::spawn(async move { serving.listen(listener).await });
    fake
}

pub async fn run(flags: Flags) {
    let (count, runs) = (flags.count.unwrap_or(200), flags.runs.unwrap_or(20));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).await.unwrap();
    let upstream = axum::Router::new().fallback(|| async { "ok" });
    tokio::spawn(async move { axum::serve(listener, upstream).await });

    let dir = system::state();
    let socket = dir.path().join("engine");
    let _fake = simulated(&socket, 1);
    let system = System::start(dir.path()).await;
    let mut ground = records::ground(true);
    ground.push(records::server("local", &socket));
    system.apply(&ground);
    system.await_server("local").await;
    let begun = Instant::now();
    system.apply(&(0..count).map(|i| records::workspace(&format!("w{i}"))).collect::<Vec<_>>());
    system.await_running(count).await;
    note(&format!("{count} workspaces on a simulated engine: {:.1} s", begun.elapsed().as_secs_f64()));

    let traefik = BareTraefik::start().await;
    let upstream = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    let mut routes: BTreeMap<String, (String, SocketAddr)> =
        (0..count).map(|i| (format!("r{i}"), (format!("r{i}.localhost"), upstream))).collect();
    traefik.tell(&routes);
    super::wire::until_ok(traefik.web, "r0.localhost", Duration::from_millis(20)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let mut wire = system.target.connect().await.unwrap();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let host = format!("new{run}.localhost");
        let waiting = tokio::spawn(live(traefik.web, host.clone()));
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = Instant::now();
        routes.insert(host.clone(), (host.clone(), upstream));
        traefik.tell(&routes);
        bare.push(ms(waiting.await.unwrap() - begun));

        let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Route", "metadata": {"name": format!("new{run}")},
            "spec": {"host": host, "workspace": "w0", "port": 8080, "visibility": "PUBLIC"}});
        let waiting = tokio::spawn(live(system.web, host.clone()));
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = Instant::now();
        let path = "/apis/devsanctum.io/v1/namespaces/bench/routes";
        let (code, answer) = wire.call("POST", path, &record.to_string()).await.unwrap();
        assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
        ours.push(ms(waiting.await.unwrap() - begun));
    }
    let more = median(&ours) - median(&bare);
    let what = format!("new route live, {count} routes");
    row(
        &what,
        &spread(&ours, "ms"),
        &format!("bare provider {}", spread(&bare, "ms")),
        &format!("{more:+.0} ms"),
        "≤ bare + 50 ms",
    );
}

/// When the host first answers 200; asked every 2 ms over a kept connection.
async fn live(web: SocketAddr, host: String) -> Instant {
    let mut wire = plain(web, &host).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if matches!(wire.call("GET", "/", "").await, Ok((200, _))) {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{host} does not get live");
}
