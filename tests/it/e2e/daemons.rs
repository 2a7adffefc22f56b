//! Daemons around us die and come back.

use super::equality::host;
use super::world::{annotation, in_world, on, until};
use crate::support::dockerd::{Dockerd, Options};
use crate::support::signal;
use crate::support::traefik::request;
use devsanctum::resource::conditions::find;
use kube::api::ListParams;
use serde_json::json;
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
        let before = world.traefik_pid().expect("Traefik runs");
        signal("-KILL", &before);
        until("another Traefik", Duration::from_secs(15), async || match world.traefik_pid() {
            Some(now) if now != before => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        world.at_rest_within(Duration::from_secs(15)).await;
    });
}

#[test]
fn what_keeps_traefik_from_starting_is_told_by_the_route() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        signal("-KILL", world.traefik_pid().expect("Traefik runs"));
        let mut taken = None;
        until("its port to be free", Duration::from_secs(5), async || {
            taken = Some(std::net::TcpListener::bind(world.web).map_err(|e| e.to_string())?);
            Ok(())
        })
        .await;
        // At rest the proxy is asked seldom; any change asks it.
        world.merge("w0", annotation("anything", "else")).await;
        until("the route to say so", Duration::from_secs(30), async || {
            let routes = world.routes().list(&ListParams::default()).await.unwrap().items;
            let conditions = routes[0].status.as_ref().unwrap().conditions.clone();
            let said = find(&conditions, "Programmed").unwrap();
            let told = said.reason == "ProxyUnreachable" && said.message.contains("address already in use");
            if told { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
        drop(taken);
        world.at_rest().await;
    });
}

#[test]
fn a_dead_upstream_is_taken_back_at_once_though_traefik_does_not_answer() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let host = host(&world.workspace("w0").await).unwrap();
        let token = std::fs::read_to_string(world.state_dir().join("feed.token")).unwrap();
        let bearer = format!("Bearer {}", token.trim());
        let feed = world.traefik().feed;
        let told = async || request(feed, "localhost", "/traefik/config", &[("Authorization", &bearer)]).await.1;
        assert!(told().await.contains(&host));
        let traefik = world.traefik_pid().expect("Traefik runs");
        signal("-STOP", &traefik);
        world.merge("w0", annotation("anything", "else")).await;
        // Now the proxy is being asked, and says nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.merge("w0", json!({"spec": {"running": false}})).await;
        until("the feed to take it back", Duration::from_secs(3), async || {
            let body = told().await;
            if body.contains(&host) { Err(body) } else { Ok(()) }
        })
        .await;
        signal("-CONT", &traefik);
        world.at_rest().await;
    });
}
