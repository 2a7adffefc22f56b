//! A control plane that hangs, or is killed: private workspaces stay closed, public ones go on, and its watchdog brings it back.

use super::gate::host_of;
use super::records;
use super::world::{World, in_world, until};
use crate::support::signal;
use crate::support::traefik::request;
use serde_json::json;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that the proxy waits for the gate, and a little.
const DENIED: Duration = Duration::from_secs(31);

/// The control plane that a watchdog has started.
fn kept(watchdog: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{watchdog}/task/{watchdog}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

async fn another_than(watchdog: u32, before: u32) {
    until("another control plane", PATIENCE, async || match kept(watchdog) {
        Some(pid) if pid != before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Ways to ask for a private workspace that go on for as long as nothing is right.
async fn closed(world: &World<'_>, host: &str) -> u16 {
    let begun = Instant::now();
    let (code, _) = request(world.web, host, "/", &[("Cookie", "__Host-ds_ws=x")]).await;
    assert!(begun.elapsed() < DENIED, "{:?}", begun.elapsed());
    code
}

#[test]
fn one_that_hangs_lets_nobody_in_and_is_started_again() {
    in_world(async |mut world| {
        world.create(records::settings(crate::support::dockerd::TINY)).await;
        world.create(records::server("local", &world.daemon.socket())).await;
        world.create(records::template("hello")).await;
        world.create(records::user()).await;
        world.create(records::project("team", "hello")).await;
        for (name, visibility) in [("w0", "PRIVATE"), ("w1", "PUBLIC")] {
            let mut workspace = records::workspace(name);
            workspace["spec"]["visibility"] = json!(visibility);
            world.create(workspace).await;
        }
        let (private, public) = (host_of(&world, "w0").await, host_of(&world, "w1").await);
        let as_usual = async |world: &World<'_>| {
            until("the usual", PATIENCE, async || {
                let codes = (closed(world, &private).await, request(world.web, &public, "/", &[]).await.0);
                if codes == (401, 200) { Ok(()) } else { Err(format!("{codes:?}")) }
            })
            .await;
        };
        as_usual(&world).await;
        world.kill();
        let watchdog = world.launch_watched();
        world.ready().await;
        as_usual(&world).await;
        // It has answered its watchdog at least once by then.
        tokio::time::sleep(Duration::from_secs(6)).await;

        // Hung: nobody gets in, and nobody waits for longer than the proxy does.
        let first = kept(watchdog).unwrap();
        signal("-STOP", first);
        let begun = Instant::now();
        while kept(watchdog) == Some(first) {
            let code = closed(&world, &private).await;
            assert!(code >= 500 || kept(watchdog) != Some(first), "{code}");
            assert_eq!(request(world.web, &public, "/", &[]).await.0, 200, "public ones go on");
            assert!(begun.elapsed() < PATIENCE);
        }
        println!("hung: killed after {:?}", begun.elapsed());
        another_than(watchdog, first).await;
        world.ready().await;
        as_usual(&world).await;
        println!("hung: as usual after {:?}", begun.elapsed());

        // Killed: it comes back as well.
        let second = kept(watchdog).unwrap();
        signal("-KILL", second);
        another_than(watchdog, second).await;
        world.ready().await;
        as_usual(&world).await;

        // Told to stop, the watchdog ends what it keeps. Killed, it takes it along.
        let third = kept(watchdog).unwrap();
        world.kill();
        until("both to end", PATIENCE, async || {
            let state = std::fs::read_to_string(format!("/proc/{third}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") { Ok(()) } else { Err(state) }
        })
        .await;
    });
}
