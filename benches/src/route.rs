//! A new route: from its creation through the API until Traefik answers for its host, among 200 others.

use super::floor::BareTraefik;
use super::system::{self, System};
use super::tool::{median, ms, row, spread};
use super::wire::{Wire, plain};
use super::{Flags, docker, records};
use devsanctum::resource::Workspace;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

pub async fn run(flags: Flags) {
    let (count, runs) = (flags.count.unwrap_or(200), flags.runs.unwrap_or(20));
    let daemon = docker::start();
    let dir = system::state();
    let system = System::with_engine(dir.path(), &daemon).await;
    system.apply(&[records::workspace("w0")]);
    system.await_running(1).await;
    let mut wire = system.target.connect().await.unwrap();
    for i in 0..count {
        create(&mut wire, &format!("r{i}")).await;
    }
    super::wire::until_ok(system.web, &host(&format!("r{}", count - 1)), Duration::from_millis(20)).await;

    let traefik = BareTraefik::start().await;
    let upstream = upstream(&system).await;
    let mut routes: BTreeMap<String, (String, SocketAddr)> =
        (0..count).map(|i| (format!("r{i}"), (host(&format!("r{i}")), upstream))).collect();
    traefik.tell(&routes);
    super::wire::until_ok(traefik.web, &host("r0"), Duration::from_millis(20)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let name = format!("new{run}");
        let waiting = tokio::spawn(live(traefik.web, host(&name)));
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = Instant::now();
        routes.insert(name.clone(), (host(&name), upstream));
        traefik.tell(&routes);
        bare.push(ms(waiting.await.unwrap() - begun));

        let waiting = tokio::spawn(live(system.web, host(&name)));
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = Instant::now();
        create(&mut wire, &name).await;
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

fn host(name: &str) -> String {
    format!("{name}.example.com")
}

/// One more route to the workspace.
async fn create<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, name: &str) {
    let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Route", "metadata": {"name": name},
        "spec": {"host": host(name), "workspace": "w0", "port": 8080, "visibility": "PUBLIC"}});
    let path = "/apis/devsanctum.io/v1/namespaces/bench/routes";
    let (code, answer) = wire.call("POST", path, &record.to_string()).await.unwrap();
    assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
}

/// Where the workspace's service is.
async fn upstream(system: &System) -> SocketAddr {
    let api: kube::Api<Workspace> = kube::Api::namespaced(system.client.clone(), "bench");
    let address = api.get("w0").await.unwrap().status.unwrap().address.unwrap();
    SocketAddr::new(address.parse().unwrap(), 8080)
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
