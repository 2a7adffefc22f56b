//! Where the shared bridge does not keep workspaces apart, each gets a network of its own.

use super::world::{World, on, until};
use crate::support::bare;
use crate::support::dockerd::{Dockerd, Options};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// The server's condition about isolation, and the network it chose.
async fn isolated(world: &World<'_>) -> (String, String) {
    let status = world.servers().get("local").await.unwrap().status.unwrap_or_default();
    let found = status.conditions.iter().find(|c| c.type_ == "Isolated");
    (found.map(|c| format!("{} {}: {}", c.status, c.reason, c.message)).unwrap_or_default(), format!("{:?}", status.network_mode))
}

pub async fn becomes(world: &World<'_>, condition: &str, mode: &str) {
    until(&format!("isolation {condition} by {mode}"), SOON, async || {
        let now = isolated(world).await;
        if now.0.starts_with(condition) && now.1.contains(mode) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

/// Waits until each is on its own network and on no other.
pub async fn moved(world: &World<'_>, names: &[&str]) {
    for name in names {
        let own = world.container(name).await;
        until(&format!("{name} to be on its own network alone"), SOON, async || {
            let format = "{{range $name, $at := .NetworkSettings.Networks}}{{$name}} {{end}}";
            let on = world.docker_says(&["inspect", "--format", format, &own]);
            if on.trim() == own { Ok(()) } else { Err(on) }
        })
        .await;
    }
}

async fn serving(world: &World<'_>, names: &[&str]) {
    for name in names {
        until(&format!("the page of {name}"), SOON, async || {
            let (code, body) = world.page(name).await;
            if code == 200 && body.starts_with(name) { Ok(()) } else { Err(format!("{code} {body:?}")) }
        })
        .await;
    }
}

/// Whether one workspace's page can be had from inside another.
async fn reaches(world: &World<'_>, from: &str, to: &str) -> bool {
    let (from, to) = (world.container(from).await, world.workspace(to).await.status.unwrap().address.unwrap());
    let request = format!("printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 {to} 8080");
    world.docker_says(&["exec", &from, "sh", "-c", &request]).contains("200 OK")
}

#[test]
fn workspaces_get_networks_of_their_own_where_bridged_traffic_passes_no_firewall() {
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |mut world| {
        world.with_workspaces(1).await;
        becomes(&world, "True Proved: kept apart by the shared bridge", "SharedBridge").await;
        // As on hosts where somebody tuned the bridge for speed: ICC=false means nothing any more.
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0").unwrap();
        world.kill();
        world.restart().await;
        becomes(&world, "True Proved: kept apart by a network for each workspace", "PerWorkspace").await;
        world.create(super::records::workspace("w1")).await;
        moved(&world, &["w0", "w1"]).await;
        serving(&world, &["w0", "w1"]).await;
        let own = [world.container("w0").await, world.container("w1").await];
        let networks = world.objects(&["network", "ls"], "{{.Name}}");
        assert!(own.iter().all(|n| networks.contains(n)) && networks.len() == 3, "{networks:?}");
        assert!(reaches(&world, "w1", "w1").await, "it reaches itself, so the question is a fair one");
        assert!(!reaches(&world, "w0", "w1").await);
        // Its own network is drift like any other thing.
        world.unseen(|| {
            world.docker(&["network", "disconnect", "-f", &own[0], &own[0]]);
            world.docker(&["network", "rm", &own[0]]);
        });
        serving(&world, &["w0", "w1"]).await;
        // Nor does a network join it that somebody attached by hand.
        world.docker(&["network", "connect", &own[1], &own[0]]);
        moved(&world, &["w0", "w1"]).await;
        for name in ["w0", "w1"] {
            world.delete(name).await;
            world.gone(name).await;
        }
        assert_eq!(world.objects(&["network", "ls"], "{{.Name}}"), vec![world.bridge()]);
    });
}

#[test]
fn the_shared_bridge_takes_no_subnet_that_the_host_has() {
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |world| {
        // As an engine leaves it whose data somebody removed; it might as well be a VPN.
        for words in ["link add left type bridge", "address add 10.213.0.1/16 dev left", "link set left up"] {
            assert!(bare("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
        }
        world.with_workspaces(1).await;
        serving(&world, &["w0"]).await;
        let address = world.workspace("w0").await.status.unwrap().address.unwrap();
        assert!(address.starts_with("10.214."), "{address}");
    });
}

#[test]
fn an_engine_without_a_firewall_is_said_to_isolate_nothing() {
    let daemon = Dockerd::start(&Options { no_firewall: true, ..Options::default() });
    on(&daemon, async |world| {
        world.ground().await;
        becomes(&world, "False NeighbourReachable: workspaces can reach each other", "PerWorkspace").await;
        // The proof leaves nothing behind.
        let left = world.objects(&["network", "ls"], "{{.Name}}");
        assert_eq!(left, vec![world.bridge()]);
    });
}
