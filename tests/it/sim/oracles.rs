//! What must hold: at every step, and at the end.

use super::director::Call;
use super::hands::Hands;
use super::picture::{self, Picture};
use super::plan::Plan;
use super::settled;
use super::workloads::Workload;
use super::world::World;
use devsanctum::engine::ownership::Ownership;
use devsanctum::proxy::Proxy;
use devsanctum::resource::common::Visibility;
use devsanctum::resource::labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Lines told of each oracle.
const LINES: usize = 12;
/// Name of a container that is nobody's business.
pub const STRANGER: &str = "stranger";
/// Nothing may be written for this long once all is settled.
const REST: Duration = Duration::from_secs(1800);

/// What one simulation came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub picture: Picture,
    /// How often each object was made, started, ended and removed.
    pub tally: BTreeMap<String, u64>,
    /// In what the world is not as the records say.
    pub unsettled: Vec<String>,
    /// What was called while all should have been at rest, other than looks.
    pub unrest: Vec<String>,
    /// Looks in that time.
    pub looks: usize,
    /// Steps at which something did not hold that always must.
    pub broken: Vec<String>,
    /// The plan's points that were come to.
    pub hit: Vec<(usize, String)>,
    /// Every call: its label, whether it acts, and how many different answers it had before; and how many calls there were
    /// when the last step had been done.
    pub calls: Vec<(String, bool, usize)>,
    pub busy: usize,
    /// How many changes of records the process was told before that, by kind.
    pub events: BTreeMap<String, usize>,
    pub digest: String,
    /// Times the process was started.
    pub starts: u64,
}

/// Plays a plan to its end.
pub fn play(plan: &Plan, workload: &Workload) -> Outcome {
    let world = World::new(plan, workload);
    let (picture, tally, busy, from, events, unsettled) = world.play(workload, async |hands| {
        let (busy, events) = (world.director.calls(), world.director.events());
        tokio::time::sleep(world.resync() * 2).await;
        world.director.rest();
        let from = world.director.calls();
        tokio::time::sleep(REST).await;
        let (picture, tally) = picture::take(hands).await;
        (picture, tally, busy, from, events, settled::differences(hands).await)
    });
    let trace = world.director.trace();
    let (acts, looks): (Vec<&Call>, Vec<&Call>) = trace[from..].iter().partition(|c| c.acts());
    Outcome {
        picture,
        tally,
        unsettled,
        unrest: unrest(&acts),
        looks: looks.len(),
        broken: world.director.broken(),
        hit: world.director.hit(),
        calls: trace.iter().map(|c| (c.label(), c.acts(), c.earlier)).collect(),
        events,
        busy,
        digest: super::director::digest(&trace),
        starts: world.starts.load(std::sync::atomic::Ordering::Relaxed),
    }
}

/// What was done that need not have been. Isolation is proved again each hour, with a container made for that.
fn unrest(acts: &[&Call]) -> Vec<String> {
    let mut proving = Vec::new();
    let mut all = Vec::new();
    for call in acts {
        match call.name.as_str() {
            "create" if call.what.contains("-neighbour&") => proving.extend(["start", "remove"]),
            name => match proving.iter().position(|p| *p == name) {
                Some(at) => drop(proving.remove(at)),
                None => all.push(call.label()),
            },
        }
    }
    all
}

/// What was made or removed more often than without faults, by a process that saw things late: it may start something
/// needlessly, or make a companion that is not wanted any more, but no workspace or volume twice.
fn needless(reference: &Outcome, found: &Outcome) -> Vec<String> {
    let lasting = |name: &str| (name.ends_with(" create") || name.ends_with(" destroy")) && !name.contains(".side ");
    let (reference, found) = (anywhere(&reference.tally), anywhere(&found.tally));
    let more = found.iter().filter(|(name, n)| lasting(name) && **n > reference.get(*name).copied().unwrap_or(0));
    more.map(|(name, n)| format!("{name}: {n}; it is {:?} without faults", reference.get(name))).collect()
}

/// Counts without the server.
fn anywhere(tally: &BTreeMap<String, u64>) -> BTreeMap<&str, u64> {
    let mut all = BTreeMap::new();
    for (name, n) in tally {
        *all.entry(name.split_once(' ').map_or(name.as_str(), |(_, rest)| rest)).or_default() += n;
    }
    all
}

/// What is wrong with a run, compared with the one without faults.
pub fn judge(plan: &Plan, reference: &Outcome, found: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    // What is wrong at all is told; of much of it, the first lines do.
    let mut note =
        |oracle: &str, lines: Vec<String>| wrong.extend(lines.into_iter().take(LINES).map(|l| format!("{oracle}: {l}")));
    // What is seen late may place a workspace on the other server; that all is in order there is for the other oracles.
    if !(plan.is_view() && plan.workload == "five-on-two") {
        note("end state", picture::differences(&reference.picture, &found.picture));
    }
    // Where a workspace goes while it is being made, how far it had got is a matter of a moment.
    let races = plan.workload == "delete-at-once";
    note(
        "counts",
        if plan.is_view() || races { needless(reference, found) } else { picture::differences(&reference.tally, &found.tally) },
    );
    note("always", found.broken.clone());
    note("settled", found.unsettled.clone());
    note("rest", found.unrest.clone());
    if found.looks > reference.looks * 2 + 20 {
        note("bounded looks", vec![format!("{} in half an hour at rest; {} without faults", found.looks, reference.looks)]);
    }
    if found.hit.len() < plan.stale.len() + plan.held.len() {
        note("the plan", vec!["what was to be seen late was never looked at".into()]);
    }
    for crash in &plan.crashes {
        let expected = reference.calls.get(crash.call).map(|(label, ..)| label.as_str());
        match found.hit.iter().find(|(at, _)| *at == crash.call) {
            None if plan.crashes.len() > 1 => {}
            None => note("the plan", vec![format!("point {} was not come to", crash.call)]),
            Some((_, label)) if plan.crashes.len() == 1 && Some(label.as_str()) != expected => {
                note("the plan", vec![format!("point {} is {label}; it is {expected:?} without faults", crash.call)]);
            }
            Some(_) => {}
        }
    }
    wrong
}

/// What must hold at every moment.
pub fn always(world: &World) -> Vec<String> {
    let mains = world.engines.values().flat_map(|engine| one_main_each(&engine.inspected()));
    let strangers = world.engines.values().flat_map(|engine| engine.tally()).filter_map(|((_, name, action), count)| {
        let touched = name == STRANGER && (action == "destroy" || action == "rename" || (action == "start" && count > 1));
        touched.then(|| format!("a stranger's container had {count} × {action}"))
    });
    mains.chain(strangers).collect()
}

/// A workspace has one main container.
fn one_main_each(world: &BTreeMap<String, Value>) -> Vec<String> {
    let mut mains: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, container) in world {
        let labels = serde_json::from_value(container["Config"]["Labels"].clone()).unwrap_or_default();
        if let Some(owner) = Ownership::read(&labels)
            && owner.role == "main"
        {
            mains.entry(owner.uid).or_default().push(name);
        }
    }
    mains
        .into_iter()
        .filter(|(_, all)| all.len() > 1)
        .map(|(uid, all)| format!("workspace {uid} has containers {all:?}"))
        .collect()
}

/// What must hold but for a moment: a container of ours has a record.
pub async fn orphans(hands: &Hands<'_>) -> Vec<String> {
    let uids: BTreeSet<String> =
        hands.list("Workspace").await.into_iter().filter_map(|w| w["metadata"]["uid"].as_str().map(str::to_owned)).collect();
    let mut wrong = Vec::new();
    for engine in hands.world.engines.values().filter(|e| !e.is_away()) {
        for (name, container) in engine.inspected() {
            let labels = &container["Config"]["Labels"];
            let uid = labels[labels::UID].as_str().unwrap_or_default();
            if labels[labels::KIND] == "Workspace" && labels[labels::INSTANCE] == hands.world.instance() && !uids.contains(uid) {
                wrong.push(format!("container {name} has no record"));
            }
        }
    }
    wrong
}

/// What must hold of the routes, but for a moment: each leads to a container of its workspace that runs, and none is open
/// that its record says is private. An engine that cannot be asked keeps its routes.
pub async fn routes(hands: &Hands<'_>) -> Vec<String> {
    let world = hands.world;
    // A proxy that is down takes no table; where every other call fails, finding out takes as long as it takes.
    if world.director.is_noisy() || world.proxy.live().await.is_err() {
        return Vec::new();
    }
    let mut runs = BTreeSet::new();
    for engine in world.engines.values() {
        if engine.is_away() {
            return Vec::new();
        }
        for container in engine.inspected().values().filter(|c| c["State"]["Running"] == true) {
            let uid = container["Config"]["Labels"][labels::UID].as_str().unwrap_or_default();
            for network in container["NetworkSettings"]["Networks"].as_object().into_iter().flatten() {
                runs.insert((network.1["IPAddress"].as_str().unwrap_or_default().to_owned(), uid.to_owned()));
            }
        }
    }
    let table = world.proxy.routes().0;
    if table.is_empty() {
        return Vec::new();
    }
    let private: BTreeSet<String> = hands
        .list("Route")
        .await
        .into_iter()
        .filter(|r| r["spec"]["visibility"] == "PRIVATE")
        .filter_map(|r| r["metadata"]["uid"].as_str().map(str::to_owned))
        .collect();
    let mut wrong = Vec::new();
    for (uid, entry) in table {
        if !runs.contains(&(entry.upstream.ip().to_string(), entry.workspace_uid.clone())) {
            wrong.push(format!("{} leads to {}, which is no running container of its workspace", entry.host, entry.upstream));
        }
        if private.contains(&uid) && entry.visibility != Visibility::Private {
            wrong.push(format!("{} is private and open", entry.host));
        }
    }
    wrong
}
