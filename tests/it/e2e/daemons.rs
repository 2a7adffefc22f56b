//! Daemons around us die and come back.

use super::world::{World, in_world, on, until};
use crate::support::dockerd::{Dockerd, Options};
use std::process::Command;
use std::time::Duration;

#[test]
fn after_kill_9_of_dockerd_every_workspace_runs_again_with_its_files() {
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |world| {
        world.with_workspaces(3).await;
        let before = world.page("w0").await;
        daemon.kill();
        until("the server to be reported as unreachable", Duration::from_secs(20), async || {
            let phase = world.servers().get("local").await.unwrap().status.unwrap().phase;
            if format!("{phase:?}") == "Unreachable" { Ok(()) } else { Err(format!("{phase:?}")) }
        })
        .await;
        daemon.restart();
        world.at_rest().await;
        assert_eq!(world.page("w0").await, before);
    });
}

#[test]
fn a_killed_traefik_comes_back_with_all_routes() {
    in_world(async |world| {
        world.with_workspaces(2).await;
        let before = traefik(&world).expect("Traefik runs");
        assert!(Command::new("kill").args(["-KILL", &before]).status().unwrap().success());
        until("another Traefik", Duration::from_secs(15), async || match traefik(&world) {
            Some(now) if now != before => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        world.at_rest_within(Duration::from_secs(15)).await;
    });
}

/// The process of the world's Traefik.
fn traefik(world: &World<'_>) -> Option<String> {
    let pattern = world.state_dir().display().to_string();
    let pids = String::from_utf8(Command::new("pgrep").args(["-f", &pattern]).output().unwrap().stdout).unwrap();
    let is_traefik = |p: &&str| std::fs::read_link(format!("/proc/{p}/exe")).is_ok_and(|exe| exe.ends_with("traefik"));
    pids.lines().find(is_traefik).map(str::to_owned)
}
