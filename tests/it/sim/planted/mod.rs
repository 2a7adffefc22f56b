//! Wrong versions, for testing the harness: each is a small mistake that a control plane can make, put in where it meets
//! the world. The oracles must find all but two, and all of them in long runs; what found each is printed. Some do harm only
//! when the process is started anew, or sees things as they were: what finds these is the harness, not the workload.
//!
//! A new one is a variant, a line in [`ALL`] with the workloads in which it does harm, and the mistake itself in
//! [`engine`], [`records`] or [`proxy`].

pub mod engine;
pub mod proxy;
pub mod records;

use super::child::{self, Asked};
use super::plan::{Moment, Plan};
use super::points::{Reference, number, points};
use super::views;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Bug {
    // At an engine.
    /// A name that is taken: makes the container under another one.
    CreatesUnderAnotherName,
    /// A name that is taken: takes what is there for its own.
    AdoptsByName,
    /// A name that is taken: removes what is there.
    EvictsByName,
    /// Makes a container once more when it is started.
    CreatesTwice,
    /// Containers do not say whose they are.
    ForgetsLabels,
    /// The memory limit is doubled.
    WrongLimit,
    /// Does not give a container its limits back.
    LeavesLimits,
    /// Folders are not mounted.
    ForgetsMounts,
    /// Variables are left out.
    ForgetsEnv,
    /// A companion has a network of its own.
    WrongNetwork,
    /// Volumes are left to Docker, and belong to nobody.
    ForgetsVolumes,
    /// Removes the folders with the container.
    RemovesFolders,
    /// Does not remove folders.
    LeavesVolumes,
    /// Does not remove networks.
    LeavesNetworks,
    /// Does not remove containers.
    LeavesContainers,
    /// Does not wait for a container to stop, and never stops it.
    ForgetsToStop,
    /// Removes where it should stop.
    StopsByRemoving,
    /// Stops whatever else runs there.
    StopsOthers,
    /// Believes an image is there once it has asked for it.
    BelievesPulls,
    /// Starts, ends and starts again.
    StartsTwice,
    /// Takes an error in a list for an empty list.
    IgnoresListErrors,
    /// Never hears of events.
    Deaf,
    /// Hears of the same event again and again.
    Echoes,
    /// Looks once, and believes what it saw for ever.
    LooksOnce,
    // At the records.
    /// Does not let go of a record.
    KeepsFinalizers,
    /// Does not hold a record while it clears up.
    ForgetsFinalizers,
    /// Writes the status without what was there.
    ClobbersStatus,
    /// Draws the same name each time.
    DrawsTheSame,
    /// Claims a warm environment without a look at who has.
    ClaimsBlindly,
    // At the proxy.
    /// Never takes a route back.
    KeepsRoutes,
    /// Opens what is private.
    OpensPrivate,
    /// Looks again at once instead of later.
    Hot,
    // Only after the process was started anew: it does for what it made itself, and says that it did for the rest.
    StartsOnlyItsOwn,
    StopsOnlyItsOwn,
    RemovesOnlyItsOwn,
    RemovesOnlyItsVolumes,
    RemovesOnlyItsNetworks,
    /// What was made and never started by another process is nothing.
    SeesOnlyItsOwn,
    /// Keeps the routes that were there when it began.
    KeepsEarlierRoutes,
    // Only where it sees things as they were.
    /// Before it makes something it asks whether the record is still so, and is told what it was told at the start.
    NeverLooksAgain,
}

/// Each mistake, and workloads in which it does harm.
pub const ALL: [(Bug, &[&str]); 40] = [
    (Bug::CreatesUnderAnotherName, &["squatted", "create"]),
    (Bug::AdoptsByName, &["squatted"]),
    (Bug::EvictsByName, &["squatted"]),
    (Bug::CreatesTwice, &["create"]),
    (Bug::ForgetsLabels, &["create"]),
    (Bug::WrongLimit, &["create"]),
    (Bug::LeavesLimits, &["edited"]),
    (Bug::ForgetsMounts, &["create"]),
    (Bug::ForgetsEnv, &["recreate"]),
    (Bug::WrongNetwork, &["companion"]),
    (Bug::ForgetsVolumes, &["create", "delete"]),
    (Bug::RemovesFolders, &["recreate", "removed"]),
    (Bug::LeavesVolumes, &["delete"]),
    (Bug::LeavesNetworks, &["server-gone"]),
    (Bug::LeavesContainers, &["delete"]),
    (Bug::ForgetsToStop, &["stop-start"]),
    (Bug::StopsByRemoving, &["stop-start"]),
    (Bug::StopsOthers, &["five-on-two", "stop-start", "delete"]),
    (Bug::BelievesPulls, &["pull"]),
    (Bug::StartsTwice, &["create"]),
    (Bug::IgnoresListErrors, &["failing"]),
    (Bug::Deaf, &["killed", "removed"]),
    (Bug::Echoes, &["create"]),
    (Bug::LooksOnce, &["killed", "removed"]),
    (Bug::KeepsFinalizers, &["delete"]),
    (Bug::ForgetsFinalizers, &["delete", "project-gone"]),
    (Bug::ClobbersStatus, &["stop-start", "killed"]),
    (Bug::DrawsTheSame, &["five-on-two"]),
    (Bug::ClaimsBlindly, &["warm-two"]),
    (Bug::KeepsRoutes, &["private-route", "delete"]),
    (Bug::OpensPrivate, &["private-route"]),
    (Bug::Hot, &["create"]),
    (Bug::StartsOnlyItsOwn, &["create"]),
    (Bug::StopsOnlyItsOwn, &["stop-start"]),
    (Bug::RemovesOnlyItsOwn, &["delete"]),
    (Bug::RemovesOnlyItsVolumes, &["delete"]),
    (Bug::RemovesOnlyItsNetworks, &["server-gone"]),
    (Bug::SeesOnlyItsOwn, &["create"]),
    (Bug::KeepsEarlierRoutes, &["private-route", "delete"]),
    (Bug::NeverLooksAgain, &["delete", "private-route"]),
];

/// Points, and then views, tried of each workload where the mistake does no harm without faults; long runs go on to all the others.
const POINTS: usize = 24;
const VIEWS: usize = 96;
/// Mistakes that may be missed where not all are tried.
const MISSED: usize = 2;

/// Whether this is a long run.
fn thorough() -> bool {
    number("DEVSANCTUM_POINTS") == Some(1)
}

/// About so many of these, spread evenly, or all the others.
fn spread(plans: Vec<Plan>, some: usize, others: bool) -> impl Iterator<Item = Plan> {
    let one_in = (plans.len() / some).max(1);
    plans.into_iter().enumerate().filter(move |(nth, _)| nth.is_multiple_of(one_in) != others).map(|(_, plan)| plan)
}

/// The first thing that is wrong with a plan's run. A point may be another call where the mistake has changed the course of
/// things.
fn wrong(plan: Plan, reference: &Reference) -> Option<String> {
    let told = child::play(&Asked { plan, reference: Some(reference.file.clone()), outcome: None });
    told.wrong.into_iter().find(|w| !w.starts_with("the plan")).map(|w| w.chars().take(200).collect())
}

/// What finds a mistake, if anything does: some plans of each workload or, with `others`, the rest of them.
fn found(bug: Bug, workloads: &[&str], references: &BTreeMap<&str, Reference>, others: bool) -> Option<String> {
    for name in workloads {
        let reference = &references[name];
        let sound = Plan { bug: Some(bug), ..Plan::of(name, 1) };
        let ends = points(&reference.outcome).into_iter().filter(|(_, moment)| *moment != Moment::Before);
        let ends = spread(ends.map(|(call, moment)| sound.crash(call, moment)).collect(), POINTS, others);
        let views = views::plans(&sound, &reference.outcome).into_iter().map(|(_, plan)| plan).collect();
        let views = spread(views, VIEWS, others);
        let faultless = (!others).then_some(sound);
        for (tried, plan) in faultless.into_iter().chain(ends).chain(views).enumerate() {
            if let Some(wrong) = wrong(plan, reference) {
                return Some(format!("in {name}, after {tried} {}faults: {wrong}", if others { "further " } else { "" }));
            }
        }
    }
    None
}

#[test]
fn planted_bugs_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut references = BTreeMap::new();
    for name in ALL.iter().flat_map(|(_, workloads)| workloads.iter()) {
        references.entry(*name).or_insert_with(|| {
            let own = folder.path().join(name);
            std::fs::create_dir(&own).unwrap();
            Reference::of(&Plan::of(name, 1), &own)
        });
    }
    let mut missed = Vec::new();
    for (bug, workloads) in ALL {
        let further = || thorough().then(|| found(bug, workloads, &references, true)).flatten();
        match found(bug, workloads, &references, false).or_else(further) {
            Some(how) => println!("{bug:?}: {how}"),
            None => missed.push(bug),
        }
    }
    println!("proof: planted bugs to be found {} played, {} failed", ALL.len(), missed.len());
    assert!(missed.len() <= if thorough() { 0 } else { MISSED }, "{missed:?}");
}
