//! A server is emptied: what is on it moves to others.

use super::moves::{at_work, files, is_gone_from, on_two, serves};
use super::rack::{merge, server};
use super::records;
use super::world::{World, until};
use crate::support::devsanctum;
use crate::support::dockerd::Options;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{MoveStep, Workspace};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);

async fn all(world: &World<'_>) -> Vec<Workspace> {
    world.workspaces().list(&ListParams::default()).await.unwrap().items
}

/// Where each one is.
async fn places(world: &World<'_>) -> BTreeMap<String, String> {
    all(world).await.iter().map(|w| (w.name_any(), w.server().unwrap_or_default().to_owned())).collect()
}

/// Runs `server drain … --move`; gives how it ended, what it said, and how many were carried at once.
async fn drain(world: &World<'_>, name: &str, timeout: &str) -> (Option<i32>, String, usize) {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["server", "drain", name, "--move", "--timeout", timeout]);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap());
    let mut most = 0;
    while !done.is_finished() {
        let carried = |w: &&Workspace| w.moving().is_some_and(|it| matches!(it.step, MoveStep::Stopping | MoveStep::Copying));
        most = all(world).await.iter().filter(carried).count().max(most);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let done = done.await.unwrap();
    (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap(), most)
}

#[test]
fn a_server_is_emptied_to_where_there_is_room_two_at_a_time() {
    on_two(&Options::default(), false, async |world, second, _| {
        // One that was asked to be there, and three that happen to be.
        let before = at_work(&world, 1).await;
        merge(&world, "dockerservers/second", json!({"spec": {"schedulable": false}})).await;
        for name in ["w1", "w2", "w3"] {
            world.create(records::workspace(name)).await;
        }
        for name in ["w1", "w2", "w3"] {
            serves(&world, name).await;
        }
        merge(&world, "dockerservers/second", json!({"spec": {"schedulable": true}})).await;
        world.merge("w3", json!({"spec": {"running": false}})).await;
        until("one to be stopped", SOON, async || {
            let phase = format!("{:?}", world.workspace("w3").await.status.unwrap_or_default().phase);
            if phase == "Stopped" { Ok(()) } else { Err(phase) }
        })
        .await;
        let container = world.container("w0").await;
        assert_eq!(places(&world).await.values().filter(|s| *s == "first").count(), 4);

        let (code, said, at_once) = drain(&world, "first", "3m").await;
        assert!(code == Some(0) && said.contains("dockerserver/first is empty: 4 workspaces moved"), "{said}");
        assert!((1..=2).contains(&at_once), "{at_once} at once");
        assert_eq!(places(&world).await.values().filter(|s| *s == "second").count(), 4);
        for w in all(&world).await {
            assert_eq!(is_gone_from(world.daemon, &w), Ok(()));
        }
        assert_eq!(files(second, &container), before);
        for name in ["w0", "w1", "w2"] {
            serves(&world, name).await;
        }
        assert_eq!(format!("{:?}", world.workspace("w3").await.status.unwrap().phase), "Stopped");
        let (code, said) = server(&world, &["remove", "first"]);
        assert!(code == Some(0), "nothing of anybody is on it: {said}");

        // With nowhere to go they stay where they are, and at work.
        let (code, said, _) = drain(&world, "second", "5s").await;
        assert!(code == Some(4) && said.contains("still 4 of 4") && said.contains("second: takes no new workspaces"), "{said}");
        serves(&world, "w0").await;
        // One that is asked for there says that it is in the way.
        world.merge("w0", json!({"spec": {"dockerServer": "second"}})).await;
        until("it to say so", SOON, async || {
            let all = world.workspace("w0").await.status.unwrap_or_default().conditions;
            let found = find(&all, "Moved").filter(|c| c.reason == "AskedForHere" && c.message.contains("spec.dockerServer"));
            found.map(drop).ok_or_else(|| format!("{all:?}"))
        })
        .await;
        assert_eq!(server(&world, &["undrain", "second"]).0, Some(0));
        until("them to be told that they may stay", SOON, async || {
            let waits = |w: &Workspace| {
                let status = w.status.clone().unwrap_or_default();
                find(&status.conditions, "Moved").is_some_and(|c| c.status != "True")
            };
            let left: Vec<String> = all(&world).await.iter().filter(|w| waits(w)).map(|w| w.name_any()).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    });
}
