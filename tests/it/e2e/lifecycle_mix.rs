//! Twenty workspaces with every mix of what keeps one and what is done in it, by terms of seconds: each stops, stays or goes as SPEC
//! says, and when.

use super::gate::host_of;
use super::lifecycle::{lay_down, stopped, up, workspaces};
use super::records;
use super::revoked::{Socket, ground};
use super::world::{PATIENCE, World, in_world, until};
use crate::support::browser::Browser;
use crate::support::traefik::request;
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const STOP_AFTER: i64 = 12;
const KEEPING: [&str; 4] = ["plain", "kept", "pinned", "both"];
const DOING: [&str; 5] = ["idle", "pinged", "visited", "talked", "builds"];
/// A build that nobody looks at, and that leaves the processors to others most of the time.
const BUILD: &str = "while :; do i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; sleep 0.1; done";

/// Names of all that are kept so and in which that is done.
fn of(keeping: &[&str], doing: &[&str]) -> BTreeSet<String> {
    keeping.iter().flat_map(|how| doing.iter().map(move |what| format!("{how}-{what}"))).collect()
}

/// Those that are there, and those of them that are wanted to run.
async fn there(world: &World<'_>) -> [BTreeSet<String>; 2] {
    let all = world.workspaces().list(&ListParams::default()).await.unwrap().items;
    let names = |running: bool| all.iter().filter(|w| w.spec.running || !running).map(ResourceExt::name_any).collect();
    [names(false), names(true)]
}

/// What somebody has begun to do, by the names of the workspaces.
type Begun = RefCell<BTreeSet<String>>;

/// Over a connection that stands open, a word of this length goes and comes back each second; where it is cut, over another.
async fn talks_on(world: &World<'_>, name: &str, length: usize, begun: &Begun) {
    let host = host_of(world, name).await;
    loop {
        // Traefik may be started anew on a busy machine.
        while TcpStream::connect(world.web).await.is_err() {
            sleep(SECOND / 4).await;
        }
        let (code, _, mut socket) = Socket::open(world, &Browser::new(world.web), &host).await;
        while code == 101 && socket.echoes(&"x".repeat(length)).await {
            begun.borrow_mut().insert(name.to_owned());
            sleep(SECOND).await;
        }
        sleep(SECOND / 4).await;
    }
}

async fn visits(world: &World<'_>, name: &str, begun: &Begun) {
    let host = host_of(world, name).await;
    loop {
        if request(world.web, &host, "/", &[]).await.0 == 200 {
            begun.borrow_mut().insert(name.to_owned());
        }
        sleep(SECOND).await;
    }
}

/// What is done in all of one way of keeping, for ever.
async fn work(world: &World<'_>, how: &str, begun: &Begun) {
    let [pinged, visited, talked, builds] = ["pinged", "visited", "talked", "builds"].map(|what| format!("{how}-{what}"));
    world.docker(&["exec", "-d", &world.container(&builds).await, "sh", "-c", BUILD]);
    begun.borrow_mut().insert(builds);
    tokio::join!(talks_on(world, &pinged, 4, begun), visits(world, &visited, begun), talks_on(world, &talked, 1500, begun));
}

#[test]
fn of_twenty_with_every_mix_each_stops_stays_or_goes_as_is_laid_down() {
    in_world(async |world| {
        ground(&world).await;
        world.create(records::user()).await;
        world.create(records::project("team", "echo")).await;
        for name in of(&KEEPING, &DOING) {
            let mut spec = json!({"kept": name.starts_with("kept") || name.starts_with("both")});
            spec["pinned"] = json!(name.starts_with("pinned") || name.starts_with("both"));
            if name.ends_with("builds") {
                spec["activeAboveCpu"] = json!(0.01);
            }
            workspaces(&world, &[&name], spec).await;
        }
        let all = of(&KEEPING, &DOING);
        up(&world, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let begun = Begun::default();
        tokio::select! {
            _ = join_all(KEEPING.iter().map(|how| work(&world, how, &begun))) => {}
            () = looks(&world, &begun) => {}
        }
    });
}

async fn looks(world: &World<'_>, begun: &Begun) {
    let (all, stays) = (of(&KEEPING, &DOING), of(&["pinned", "both"], &DOING));
    // Nothing is timed while the work in some of them has yet to begin: on a busy machine that takes longer than they have.
    until("all work to have begun", PATIENCE, async || {
        match all.difference(&begun.borrow()).filter(|n| !n.ends_with("idle")).count() {
            0 => Ok(()),
            _ => Err(format!("only {:?}", begun.borrow())),
        }
    })
    .await;
    lay_down(world, &format!("{STOP_AFTER}s"), "never").await;
    for name in of(&["plain", "kept"], &["idle", "pinged"]) {
        let after = stopped(world, &name).await;
        assert!((STOP_AFTER..STOP_AFTER + 20).contains(&after), "{name}: after {after} s");
    }
    // As long again, and some.
    sleep(SECOND * 2 * u32::try_from(STOP_AFTER).unwrap()).await;
    let worked_in = of(&["kept"], &["visited", "talked", "builds"]);
    let plain = of(&["plain"], &["visited", "talked", "builds"]);
    let runs: BTreeSet<String> = stays.union(&worked_in).cloned().collect();
    assert_eq!(there(world).await, [all, runs.union(&plain).cloned().collect()]);

    // All of them are older than that: each is told of, and goes half of that later, worked in or not.
    lay_down(world, &format!("{STOP_AFTER}s"), "30s").await;
    let mut going = Vec::new();
    for name in of(&["plain"], &DOING) {
        world.event(&name, "DestroyedSoon").await;
        let says = world.workspace(&name).await.status.and_then(|s| s.destroy_at);
        going.push((says.expect("it says when it goes").parse::<Timestamp>().unwrap(), name));
    }
    going.sort();
    for (says, name) in going {
        while Timestamp::now() + SECOND / 2 < says {
            assert!(world.workspaces().get_opt(&name).await.unwrap().is_some(), "{name} went before {says}");
            sleep(SECOND / 4).await;
        }
        world.gone(&name).await;
        let now = Timestamp::now();
        assert!(now >= says && now.duration_since(says).as_secs() < 20, "{name} said {says}, and was gone by {now}");
    }
    let left = of(&["kept", "pinned", "both"], &DOING);
    assert_eq!(there(world).await, [left, runs]);
}
