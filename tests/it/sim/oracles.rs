//! What must hold: at every step, and at the end.

use super::director::Call;
use super::picture::{self, Picture};
use super::plan::Plan;
use super::settled;
use super::strangers;
use super::workloads::Workload;
use super::world::World;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Lines told of each oracle.
const LINES: usize = 12;
/// Nothing may be written for this long once all is settled.
const REST: Duration = Duration::from_secs(1800);
/// In a day a thing that cannot be done is tried this often, looked at this often, and the records are changed this often; an
/// engine that is away is asked for this often.
const TRIES: usize = 300;
const LOOKS: usize = 4 * TRIES;
const WRITES: usize = 20;
const PINGS: usize = 3000;
/// Longest time a proof of isolation takes where nothing is wrong. One may be under way at any moment, with its container.
const PROVING: Duration = Duration::from_secs(60);
/// Calls a proof of isolation takes, and what else comes between, at the most.
const PROOF: usize = 100;

/// A call that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    pub label: String,
    pub acts: bool,
    /// How many different answers it had before.
    pub earlier: usize,
    /// Whether it was done; one that the engine refused was not.
    pub done: bool,
}

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
    /// Every call, and how many there were when the last step had been done.
    pub calls: Vec<Made>,
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
        // A day has no like without faults to be compared with.
        let (picture, tally) = if plan.is_day() { Default::default() } else { picture::take(hands).await };
        let mut unsettled = settled::differences(hands).await;
        if unsettled.iter().any(|difference| difference.contains("-neighbour")) {
            tokio::time::sleep(PROVING).await;
            unsettled = settled::differences(hands).await;
        }
        (picture, tally, busy, from, events, unsettled)
    });
    strangers::touched(&world.engines, world.instance()).into_iter().for_each(|touched| world.director.broke(touched));
    let trace = world.director.trace();
    Outcome {
        picture,
        tally,
        unsettled,
        unrest: unrest(&trace, from),
        looks: trace[from..].iter().filter(|c| !c.acts()).count(),
        broken: world.director.broken(),
        hit: world.director.hit(),
        calls: trace.iter().map(made).collect(),
        events,
        busy,
        digest: super::director::digest(&trace),
        starts: world.starts.load(std::sync::atomic::Ordering::Relaxed),
    }
}

fn made(call: &Call) -> Made {
    Made { label: call.label(), acts: call.acts(), earlier: call.earlier, done: call.status.is_some() }
}

/// What was done from then on that need not have been. Isolation is proved again each hour, with a container made for that; a
/// proof may have begun before.
fn unrest(trace: &[Call], from: usize) -> Vec<String> {
    let mut proving = Vec::new();
    let mut all = Vec::new();
    for (nth, call) in trace.iter().enumerate().skip(from.saturating_sub(PROOF)).filter(|(_, call)| call.acts()) {
        match call.name.as_str() {
            "create" if call.what.contains("-neighbour&") => proving.extend(["start", "remove"]),
            name => match proving.iter().position(|p| *p == name) {
                Some(at) => drop(proving.remove(at)),
                None if nth < from => {}
                None => all.push(call.label()),
            },
        }
    }
    all
}

/// What was called too often on a day on which something could not be done.
pub fn tried_too_often(day: &[Call]) -> Vec<String> {
    let mut tries: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for call in day {
        let most = match call.whom.as_str() {
            "api" if call.acts() && call.status.is_some_and(|s| s < 400) => WRITES,
            _ if call.acts() => TRIES,
            _ if ["ping", "info"].contains(&call.name.as_str()) => PINGS,
            _ => LOOKS,
        };
        // Filters and the like do not make another call of it.
        let what = call.what.split('?').next().unwrap_or_default();
        *tries.entry((format!("{} {} {what}", call.whom, call.name), most)).or_insert(0) += 1;
    }
    let often = tries.into_iter().filter(|((_, most), n)| n > most);
    often.map(|((call, most), n)| format!("{call} was called {n} times in a day, and not at most {most} times")).collect()
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

/// What is carried to another server is begun again where it was broken off: the volume there, and what it is carried through.
fn is_carried_anew(line: &str) -> bool {
    line.contains("_carry") || line.contains("s1 ") && line.contains(".data")
}

/// Of a workspace that is seen so late that it is placed where it is asked to be by then, and never moves.
fn never_moves(plan: &Plan, found: &Outcome) -> bool {
    plan.workload == "moved"
        && plan.is_view()
        && !found.tally.keys().any(|object| object.starts_with("s2 container ds-team-w0-<uid8 ") && object.ends_with("> create"))
}

/// What a move leaves to be seen.
fn is_of_a_move(line: &str) -> bool {
    ["conditions[Moved]", "status.movedImage", "devsanctum/moved:"].iter().any(|word| line.contains(word))
        || line.starts_with("s2 ")
}

/// What is wrong with a run, compared with the one without faults.
pub fn judge(plan: &Plan, reference: &Outcome, found: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    // What is wrong at all is told; of much of it, the first lines do.
    let mut note =
        |oracle: &str, lines: Vec<String>| wrong.extend(lines.into_iter().take(LINES).map(|l| format!("{oracle}: {l}")));
    // What is seen late may place a workspace on the other server, or have it begin without a warm environment; and which of two
    // gets which is a matter of a moment. That all is in order then is for the other oracles.
    let warm = ["warm", "warm-two"].contains(&plan.workload.as_str());
    let elsewhere = (plan.is_view() && (warm || plan.workload == "five-on-two")) || plan.workload == "warm-two";
    let unmoved = never_moves(plan, found);
    if !elsewhere {
        let lines = picture::differences(&reference.picture, &found.picture);
        note("end state", lines.into_iter().filter(|line| !(unmoved && is_of_a_move(line))).collect());
    }
    // Where a workspace goes while it is being made, how far it had got is a matter of a moment.
    let races = plan.workload == "delete-at-once";
    let may_be_cold = plan.is_view() && warm;
    note(
        "counts",
        if may_be_cold {
            Vec::new()
        } else if plan.workload == "moved" {
            let lines = picture::differences(&reference.tally, &found.tally);
            lines.into_iter().filter(|line| !(is_carried_anew(line) || unmoved && is_of_a_move(line))).collect()
        } else if plan.is_view() || races {
            needless(reference, found)
        } else {
            picture::differences(&reference.tally, &found.tally)
        },
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
        let expected = reference.calls.get(crash.call).map(|made| made.label.as_str());
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
