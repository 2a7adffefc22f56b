//! An engine that is not the one which holds a server's workspaces, and a server registered anew.

use super::records;
use super::world::{World, annotation, in_world, until};
use crate::support::dockerd::TINY;
use devsanctum::engine::fake::FakeEngine;
use devsanctum::resource::labels;
use kube::api::{DeleteParams, Patch, PatchParams};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Serves an engine at the socket until the task is aborted.
fn serve(socket: &Path, fake: &FakeEngine) -> tokio::task::JoinHandle<std::io::Result<()>> {
    let _ = std::fs::remove_file(socket);
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let fake = fake.clone();
    tokio::spawn(async move { fake.listen(listener).await })
}

fn engine(seed: u64) -> FakeEngine {
    let fake = FakeEngine::new(seed);
    fake.add_image(TINY);
    // The neighbour of the isolation proof hears itself.
    fake.set_reachable("127.0.0.1", 8080);
    fake.set_resources(2, (4 << 30, 4 << 30), (100 << 30, 100 << 30));
    fake
}

async fn server_says(world: &World<'_>, wanted: &str) {
    until(&format!("the server to say {wanted}"), SOON, async || {
        let status = world.servers().get("local").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        let found = status.conditions.iter().find(|c| c.type_ == "Reachable");
        let now = found.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default();
        if now.contains(wanted) { Ok(()) } else { Err(now) }
    })
    .await;
}

async fn runs(world: &World<'_>) {
    until("the workspace to run", SOON, async || {
        let status = world.workspace("w0").await.status.unwrap_or_default();
        let server = world.servers().get("local").await.unwrap().status.unwrap_or_default().message;
        if format!("{:?}", status.phase) == "Running" { Ok(()) } else { Err(format!("{server:?} {:?}", status.conditions)) }
    })
    .await;
}

#[test]
fn another_engine_at_the_same_address_is_given_nothing_until_somebody_says_so() {
    in_world(async |mut world| {
        let socket = world.state_dir().join("engine.sock");
        let (first, second) = (engine(1), engine(2));
        let serving = serve(&socket, &first);
        world.create(records::settings(TINY)).await;
        world.create(records::server("local", &socket)).await;
        world.create(records::user()).await;
        let mut template = records::template("hello");
        template["spec"]["ports"] = serde_json::json!([]);
        world.create(template).await;
        world.create(records::project("team", "hello")).await;
        world.create(records::workspace("w0")).await;
        runs(&world).await;
        world.kill();
        serving.abort();
        let serving = serve(&socket, &second);
        world.launch();
        server_says(&world, "False EngineReplaced: another engine").await;
        assert!(second.containers().is_empty() && second.networks().is_empty());

        // The first one again: all as before.
        world.kill();
        serving.abort();
        let serving = serve(&socket, &first);
        world.launch();
        server_says(&world, "True Answers").await;
        runs(&world).await;

        world.kill();
        serving.abort();
        let _serving = serve(&socket, &second);
        world.launch();
        server_says(&world, "EngineReplaced").await;
        let said = world.servers().get("local").await.unwrap().status.unwrap().conditions;
        let message = &said.iter().find(|c| c.type_ == "Reachable").unwrap().message;
        let id = message.split_once(&format!("{}=", labels::ACCEPT_ENGINE)).unwrap().1.split(' ').next().unwrap().to_owned();
        let body = Patch::Merge(annotation(labels::ACCEPT_ENGINE, &id));
        world.servers().patch("local", &PatchParams::default(), &body).await.unwrap();
        server_says(&world, "True Answers").await;
        until("the workspace to be made anew", SOON, async || {
            let all = second.containers();
            if all.keys().any(|n| n.starts_with("ds-team-w0-")) { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
    });
}

#[test]
fn a_server_let_go_and_registered_again_takes_its_bridge_back() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let before = world.page("w0").await;
        world.servers().delete("local", &DeleteParams::default()).await.unwrap();
        let body = Patch::Merge(annotation(labels::ABANDON, "true"));
        world.servers().patch("local", &PatchParams::default(), &body).await.unwrap();
        until("the server to go", SOON, async || match world.servers().get_opt("local").await.unwrap() {
            None => Ok(()),
            Some(s) => Err(format!("{:?}", s.status.map(|s| s.message))),
        })
        .await;
        world.create(records::server("local", &world.daemon.socket())).await;
        world.at_rest().await;
        assert_eq!(world.page("w0").await, before);
    });
}
