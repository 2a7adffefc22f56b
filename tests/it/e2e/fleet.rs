//! Many workspaces over three servers, each an engine in a network namespace of its own, with mutual TLS between: where they go, and
//! what becomes of them when a server cannot be reached for a while.

use super::records;
use super::world::{World, on, until};
use crate::engine_tls::{authority, client, server_pem};
use crate::support::devsanctum;
use crate::support::dockerd::{Dockerd, Options, TINY};
use devsanctum::resource::Workspace;
use devsanctum::resource::conditions::{READY, find, holds};
use futures::future::join_all;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

const PORT: u16 = 2376;
pub const NAMES: [&str; 3] = ["rack-a", "rack-b", "rack-c"];
const LONG: Duration = Duration::from_secs(300);

/// How many are asked for at once: `DEVSANCTUM_FLEET`, or few enough for every run.
fn asked() -> usize {
    std::env::var("DEVSANCTUM_FLEET").map_or(24, |n| n.parse().expect("DEVSANCTUM_FLEET must be a number"))
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().unwrap();
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An engine, and the cable from the control plane's namespace to its own (addresses of RFC 5737).
pub struct Rack {
    pub name: &'static str,
    number: usize,
    pub daemon: Dockerd,
    pub secret: Value,
    _pem: tempfile::TempDir,
}

impl Rack {
    pub fn start(number: usize) -> Self {
        let (name, ca) = (NAMES[number], authority(NAMES[number]));
        let pem = server_pem(&ca, &Self::address(number), false);
        let (cert, key) = client(&ca, false);
        let daemon = Dockerd::start(&Options { tls: Some((pem.path().to_owned(), PORT)), ..Options::default() });
        daemon.tiny_image();
        let secret = json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "devsanctum-system"},
            "spec": {"data": {"ca": ca.pem(), "cert": cert, "key": key}}});
        Self { name, number, daemon, secret, _pem: pem }
    }

    fn address(number: usize) -> String {
        format!("192.0.2.{}", 4 * number + 2)
    }

    /// Where it is, and the control plane's end of its cable.
    pub fn host(&self) -> String {
        Self::address(self.number)
    }

    pub fn uplink(&self) -> String {
        format!("192.0.2.{}", 4 * self.number + 1)
    }

    pub fn server(&self) -> Value {
        let spec = json!({"host": Self::address(self.number), "port": PORT, "pollInterval": "2s",
            "tls": {"enabled": true, "secret": {"namespace": "devsanctum-system", "name": self.name}}});
        json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": self.name}, "spec": spec})
    }

    /// Connects it with the namespace of this thread.
    pub fn plug_in(&self) {
        let (here, pid) = (format!("rack{}", self.number), self.daemon.pid().to_string());
        ip(&["link", "add", &here, "type", "veth", "peer", "name", "uplink", "netns", &pid]);
        ip(&["address", "add", &format!("{}/30", self.uplink()), "dev", &here]);
        ip(&["link", "set", &here, "up"]);
        let there = |words: &[&str]| {
            let done = Command::new("nsenter").args(["--target", &pid, "--net", "--", "ip"]).args(words).status().unwrap();
            assert!(done.success(), "{words:?}");
        };
        there(&["address", "add", &format!("{}/30", Self::address(self.number)), "dev", "uplink"]);
        there(&["link", "set", "uplink", "up"]);
    }

    /// Nothing comes through any more, and nothing says so.
    fn cut(&self, cut: bool) {
        ip(&["link", "set", &format!("rack{}", self.number), if cut { "down" } else { "up" }]);
    }

    /// Its workspaces' containers, as `docker ps` names them, with their ids.
    pub fn containers(&self) -> BTreeMap<String, String> {
        let ours = "label=devsanctum.io/kind=Workspace";
        let all = self.daemon.docker(&["ps", "-a", "--no-trunc", "--filter", ours, "--format", "{{.Names}} {{.ID}}"]);
        all.lines().filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.into(), id.into())).collect()
    }
}

async fn all(world: &World<'_>) -> Vec<Workspace> {
    Api::<Workspace>::all(world.client.clone()).list(&ListParams::default()).await.unwrap().items
}

fn name(workspace: &Workspace) -> String {
    workspace.metadata.name.clone().unwrap_or_default()
}

fn is_ready(workspace: &Workspace) -> bool {
    workspace.status.as_ref().is_some_and(|s| holds(&s.conditions, READY))
}

fn placed(all: &[Workspace]) -> BTreeMap<String, Vec<&Workspace>> {
    let mut by_server: BTreeMap<String, Vec<&Workspace>> = BTreeMap::new();
    for workspace in all {
        if let Some(server) = workspace.server() {
            by_server.entry(server.to_owned()).or_default().push(workspace);
        }
    }
    by_server
}

/// A project whose workspaces reserve this much memory; they have no ports, so nothing but their containers is waited for.
pub async fn project(world: &World<'_>, name: &str, ram_mb: u64) {
    let mut template = records::template(name);
    template["spec"]["ports"] = json!([]);
    template["spec"]["minRamMb"] = json!(ram_mb);
    world.create(template).await;
    world.create(records::project(name, name)).await;
}

pub fn workspace(project: &str, name: &str) -> Value {
    let mut it = records::workspace(name);
    it["metadata"]["namespace"] = json!(project);
    it
}

/// The least memory that one of them has, and that one of them has free: something else may run on this machine.
async fn online(world: &World<'_>, racks: &[Rack]) -> (u64, u64) {
    for rack in racks {
        world.create(rack.secret.clone()).await;
        world.create(rack.server()).await;
    }
    let mut least = (0, 0);
    until("three servers to be online and measured", LONG, async || {
        let found = world.servers().list(&ListParams::default()).await.unwrap().items;
        let total = |s: &devsanctum::resource::DockerServer| s.status.as_ref().and_then(|s| s.ram_total_mb);
        let free = |s: &devsanctum::resource::DockerServer| {
            Some(total(s)?.saturating_sub(s.status.as_ref().and_then(|s| s.ram_used_mb)?))
        };
        let ready = |s: &devsanctum::resource::DockerServer| s.status.as_ref().is_some_and(|s| holds(&s.conditions, READY));
        least = (found.iter().filter_map(total).min().unwrap_or(0), found.iter().filter_map(free).min().unwrap_or(0));
        let up = found.iter().filter(|s| ready(s) && free(s).is_some()).count();
        if up == 3 { Ok(()) } else { Err(format!("{up} of 3")) }
    })
    .await;
    least
}

/// None holds more than it has, and what is held is as even as three measurements of one machine at different moments are.
fn is_fair(all: &[Workspace], total: u64, each: u64) {
    let reserved = |w: &&Workspace| w.status.as_ref().and_then(|s| s.reserved_ram_mb).map_or(0, u64::from);
    let held: BTreeMap<String, u64> =
        placed(all).into_iter().map(|(server, held)| (server, held.iter().map(reserved).sum())).collect();
    eprintln!("reserved in MiB, of {total} each, by workspaces of {each}: {held:?}");
    let (least, most) = (held.values().min().unwrap(), held.values().max().unwrap());
    assert!(held.len() == 3 && *most <= total && most - least <= 3 * each, "{held:?}");
}

#[test]
fn a_fleet_is_filled_evenly_and_what_a_lost_server_holds_is_neither_moved_nor_made_again() {
    let here = Dockerd::start(&Options::default());
    let racks: Vec<Rack> = (0..3).map(Rack::start).collect();
    on(&here, async |world| {
        racks.iter().for_each(Rack::plug_in);
        world.create(records::settings(TINY)).await;
        world.create(records::user()).await;
        let (total, free) = online(&world, &racks).await;
        // Together they take the greater part of what there is.
        let each = free * 3 * 6 / 10 / asked() as u64;
        project(&world, "team", each).await;
        // One has less room than the others from the beginning: it gets the fewer for it.
        project(&world, "large", free / 8).await;
        let mut large = workspace("large", "large");
        large["spec"]["dockerServer"] = json!("rack-a");
        world.create(large).await;

        let begun = Instant::now();
        let wanted: Vec<Value> = (0..asked()).map(|n| workspace("team", &format!("w{n}"))).collect();
        for made in join_all(wanted.iter().map(|w| world.try_create(w))).await {
            made.unwrap();
        }
        until("a third of them to run", LONG, async || {
            let ready = all(&world).await.iter().filter(|w| is_ready(w)).count();
            if ready * 3 >= asked() { Ok(()) } else { Err(format!("{ready} run")) }
        })
        .await;
        is_fair(&all(&world).await, total, each);
        let lost = &racks[1];
        lost.cut(true);
        unknown(&world, lost).await;
        let at_the_cut = lost.containers();
        others_go_on(&world, lost).await;
        // What comes now goes where it can.
        world.create(workspace("team", "late")).await;
        until("the late one to run elsewhere", LONG, async || {
            let late = world.workspace("late").await;
            let there = is_ready(&late) && late.server() != Some(lost.name);
            if there { Ok(()) } else { Err(format!("{:?}", late.status)) }
        })
        .await;
        lost.cut(false);
        until("all of them to run", LONG, async || {
            let found = all(&world).await;
            let missing: Vec<String> = found.iter().filter(|w| !is_ready(w)).map(name).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{} do not: {missing:?}", missing.len())) }
        })
        .await;
        eprintln!("{} workspaces run on three servers after {:?}, one cut off in between", asked() + 2, begun.elapsed());
        let found = all(&world).await;
        let after = lost.containers();
        assert!(at_the_cut.iter().all(|(name, id)| after.get(name) == Some(id)), "those it had are the same ones");
        let counted: usize = racks.iter().map(|r| r.containers().len()).sum();
        assert_eq!(counted, found.len(), "each is there once");
        too_large(&world, total).await;
    });
}

/// What the lost server holds is told to be unknown, and by what.
async fn unknown(world: &World<'_>, lost: &Rack) {
    until("its workspaces to be unknown", LONG, async || {
        let found = all(world).await;
        let held = placed(&found).remove(lost.name).unwrap_or_default();
        let told = |w: &&Workspace| {
            let status = w.status.as_ref().unwrap();
            let ready = find(&status.conditions, READY).map(|c| c.reason.as_str());
            let running = find(&status.conditions, "ContainerRunning").map(|c| c.status.as_str());
            ready == Some("ServerUnreachable") && (status.container_id.is_none() || running == Some("Unknown"))
        };
        let missing: Vec<String> = held.iter().filter(|w| !told(w)).map(|w| format!("{}: {:?}", name(w), w.status)).collect();
        if missing.is_empty() && !held.is_empty() { Ok(()) } else { Err(format!("{}: {:?}", missing.len(), missing.first())) }
    })
    .await;
}

async fn others_go_on(world: &World<'_>, lost: &Rack) {
    until("the others to run", LONG, async || {
        let found = all(world).await;
        let waiting: Vec<String> = found.iter().filter(|w| w.server() != Some(lost.name) && !is_ready(w)).map(name).collect();
        if waiting.is_empty() { Ok(()) } else { Err(format!("{waiting:?}")) }
    })
    .await;
}

/// One that fits nowhere says so with numbers, server by server.
async fn too_large(world: &World<'_>, total: u64) {
    project(world, "vast", total * 2).await;
    world.create(workspace("vast", "vast")).await;
    let told = format!("it needs {} MiB RAM", total * 2);
    until("why it is not placed", LONG, async || {
        let asked = devsanctum()
            .arg("--state-dir")
            .arg(world.state_dir())
            .args(["-n", "vast", "workspace", "why-pending", "vast"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&asked.stdout).into_owned() + &String::from_utf8_lossy(&asked.stderr);
        let named = NAMES.iter().all(|name| said.lines().any(|line| line.trim().starts_with(&format!("{name}: free: "))));
        if said.contains(&told) && named { Ok(()) } else { Err(said) }
    })
    .await;
}
