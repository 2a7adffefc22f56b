//! Ten thousand records on simulated engines: memory and CPU at rest, and how long a restart takes to see that there
//! is nothing to do.

use super::docker::TINY;
use super::system::{self, System};
use super::tool::{cpu_seconds, memory_mb, note, row};
use super::{Flags, idle, records};
use devsanctum::engine::fake::FakeEngine;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

const SERVERS: usize = 10;
const CLIENTS: usize = 16;

/// An engine in this process behind a socket.
fn simulated(socket: &Path, seed: u64) -> FakeEngine {
    let fake = FakeEngine::new(seed);
    fake.add_image(TINY);
    // The neighbour of the isolation proof hears itself.
    fake.set_reachable("127.0.0.1", 8080);
    fake.set_resources(2, (4 << 40, 4 << 40), (100 << 40, 100 << 40));
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let serving = fake.clone();
    tokio::spawn(async move { serving.listen(listener).await });
    fake
}

pub async fn run(flags: Flags) {
    let count = flags.count.unwrap_or(10_000);
    let dir = system::state();
    let sockets: Vec<_> = (0..SERVERS).map(|i| dir.path().join(format!("e{i}"))).collect();
    let _fakes: Vec<_> = sockets.iter().enumerate().map(|(i, s)| simulated(s, i as u64 + 1)).collect();
    let system = System::start(dir.path()).await;
    let mut ground = records::ground(false);
    ground.extend(sockets.iter().enumerate().map(|(i, s)| records::server(&format!("s{i}"), s)));
    system.apply(&ground);
    for i in 0..SERVERS {
        system.await_server(&format!("s{i}")).await;
    }
    let begun = Instant::now();
    create(&system, count).await;
    note(&format!("{count} workspaces created after {:.1} s", begun.elapsed().as_secs_f64()));
    let mut running = 0;
    while running < count && begun.elapsed() < Duration::from_secs(600) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        running = self::running(&system).await;
        note(&format!("{running} running after {:.0} s, {:.1} CPU s", begun.elapsed().as_secs_f64(), cpu_seconds(system.pid())));
    }
    note(&format!("after the rollout: {:?} MB resident, peak", memory_mb(system.pid())));
    system.kill();

    let system = System::start(dir.path()).await;
    let cpu = cpu_seconds(system.pid());
    let status = system.status().await;
    let workspaces =
        status["loops"].as_array().and_then(|l| l.iter().find(|l| l["kind"] == "workspace")).cloned().unwrap_or_default();
    note(&format!("at ready: {:?} MB, {cpu:.2} CPU s, workspace loop {workspaces}", memory_mb(system.pid())));
    let ready = format!("{:.2} s to ready", system.ready_after.as_secs_f64());
    let done = format!("{} passes, {cpu:.2} CPU s", workspaces["passes"]);
    row(&format!("restart with {running} workspaces, all seen as no-op"), &ready, &done, "", "≤ 0.5 s");
    idle::look(&system, &format!("{running} workspaces, simulated engines"), flags.seconds, "≤ 0.3 %", "≤ 100 MB").await;
}

async fn create(system: &System, count: usize) {
    let clients = (0..CLIENTS).map(|c| {
        let target = system.target.clone();
        tokio::spawn(async move {
            let mut wire = target.connect().await.unwrap();
            for i in (c..count).step_by(CLIENTS) {
                let body = records::workspace(&format!("w{i}")).to_string();
                let path = "/apis/devsanctum.io/v1/namespaces/bench/workspaces";
                let (code, answer) = wire.call("POST", path, &body).await.unwrap();
                assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

async fn running(system: &System) -> usize {
    let path = "/apis/devsanctum.io/v1/namespaces/bench/workspaces";
    let (_, body) = system.target.connect().await.unwrap().call("GET", path, "").await.unwrap();
    let list: Value = serde_json::from_slice(&body).unwrap_or_default();
    list["items"].as_array().into_iter().flatten().filter(|w| w["status"]["phase"] == "RUNNING").count()
}
