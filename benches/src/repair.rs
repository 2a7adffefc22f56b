//! A container's process is killed: how long until it runs again.

use super::floor::{Bare, IN_FLIGHT};
use super::system::{self, System};
use super::tool::{median, ms, note, row, spread};
use super::{Flags, docker, records};
use devsanctum::engine::docker::DockerEngine;
use devsanctum::engine::{Endpoint, Engine};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// Containers of the bare restarter.
const BARE: usize = 10;

pub async fn run(flags: Flags) {
    let (count, runs) = (flags.count.unwrap_or(50), flags.runs.unwrap_or(20));
    let daemon = docker::start();
    let dir = system::state();
    let system = System::with_engine(dir.path(), &daemon).await;
    system.apply(&(0..count).map(|i| records::workspace(&format!("w{i}"))).collect::<Vec<_>>());
    system.await_running(count).await;
    let instance = daemon.docker(&["ps", "-q", "--filter", "label=devsanctum.io/role=main"]);
    let one = instance.split_whitespace().next().unwrap();
    let instance = daemon.docker(&["inspect", "-f", "{{index .Config.Labels \"devsanctum.io/instance\"}}", one]);
    let watched = DockerEngine::at(Endpoint::Unix(daemon.socket()), &instance).unwrap();
    let theirs: Vec<String> =
        watched.containers(None).await.unwrap().into_iter().filter(|c| c.name.contains("bench")).map(|c| c.name).collect();
    assert_eq!(theirs.len(), count, "{theirs:?}");

    let bare = Arc::new(Bare::prepare(&daemon).await.0);
    let made = Bare(DockerEngine::at(Endpoint::Unix(daemon.socket()), "bare").unwrap()).make_all(BARE, IN_FLIGHT).await;
    tokio::spawn(restart(bare.clone()));
    let ours_seen = starts(watched).await;
    let bare_seen = starts(DockerEngine::at(Endpoint::Unix(daemon.socket()), "bare").unwrap()).await;
    let names: Vec<String> = made.keys().cloned().collect();
    tokio::time::sleep(Duration::from_secs(3)).await;

    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for run in 0..runs {
        floor.push(kill(&daemon, &names[run % names.len()], bare_seen.subscribe()).await);
        ours.push(kill(&daemon, &theirs[run % theirs.len()], ours_seen.subscribe()).await);
    }
    let more = median(&ours) - median(&floor);
    note(&format!("ours {ours:.0?}"));
    let what = format!("killed → running again, {count} up");
    row(
        &what,
        &spread(&ours, "ms"),
        &format!("bare restarter {}", spread(&floor, "ms")),
        &format!("{more:+.0} ms"),
        "≤ bare + 60 ms",
    );
}

/// Kills and waits for the next start of that container.
async fn kill(daemon: &docker::Dockerd, name: &str, mut seen: broadcast::Receiver<(String, Instant)>) -> f64 {
    let pid = daemon.docker(&["inspect", "-f", "{{.State.Pid}}", name]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let until = async {
        loop {
            let (who, at) = seen.recv().await.unwrap();
            if who == name && at > begun {
                return ms(at - begun);
            }
        }
    };
    let took = tokio::time::timeout(Duration::from_secs(60), until).await.expect("it was not started again");
    tokio::time::sleep(Duration::from_millis(700)).await;
    took
}

/// Tells of every start.
async fn starts(engine: DockerEngine) -> broadcast::Sender<(String, Instant)> {
    let sender = broadcast::Sender::new(1024);
    let mut events = engine.events().await.unwrap();
    let tell = sender.clone();
    tokio::spawn(async move {
        let _engine = engine;
        while let Some(Ok(event)) = events.next().await {
            if event.kind == "container" && event.action == "start" {
                let _ = tell.send((event.name, Instant::now()));
            }
        }
    });
    sender
}

/// The least that restarts containers: one event, one call.
async fn restart(engine: Arc<DockerEngine>) {
    let mut events = engine.events().await.unwrap();
    let ids: BTreeMap<String, _> = engine.containers(None).await.unwrap().into_iter().map(|c| (c.name, c.id)).collect();
    while let Some(Ok(event)) = events.next().await {
        if event.action == "die"
            && let Some(id) = ids.get(&event.name).cloned()
        {
            let engine = engine.clone();
            tokio::spawn(async move { engine.start(&id).await });
        }
    }
}
