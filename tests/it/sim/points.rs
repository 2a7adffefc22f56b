//! The process ends at every point of every workload, is started again, and all must be as if it never had.
//!
//! Each commit plays a part of the points, spread evenly; `DEVSANCTUM_POINTS=3` plays one in three, `1` all of them, and
//! `DEVSANCTUM_DOUBLES=N` ends the process a second time at N further points.

use super::chance::SplitMix;
use super::child::{self, Asked};
use super::oracles::Outcome;
use super::plan::{Moment, Plan};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static POINTS: Part = Part::new("points", 8, 800);
/// A second end comes within this many calls of the first.
const SOON: usize = 60;
/// Chance is the same for all: what differs is where the process ends.
const SEED: u64 = 1;

/// A workload's run without faults, and where its outcome lies.
pub struct Reference {
    pub outcome: Outcome,
    pub file: PathBuf,
}

impl Reference {
    /// Plays the plan without faults. It must end well.
    pub fn of(plan: &Plan, folder: &Path) -> Self {
        let file = folder.join("reference.json");
        let told = child::play(&Asked { plan: plan.clone(), reference: None, outcome: Some(file.clone()) });
        assert!(told.wrong.is_empty(), "{} without faults: {:#?}", plan.workload, told.wrong);
        let outcome = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        Self { outcome, file }
    }
}

/// Every point at which a process that does this can end.
pub fn points(reference: &Outcome) -> Vec<(usize, Moment)> {
    let mut all = Vec::new();
    for (call, made) in reference.calls.iter().enumerate().take(reference.busy) {
        let moments: &[_] = match (made.acts, made.done) {
            (true, true) => &[Moment::Before, Moment::Applied, Moment::Unrecorded],
            (true, false) => &[Moment::Before],
            // Before it is read, a look has changed nothing.
            (false, true) => &[Moment::Unrecorded],
            (false, false) => &[],
        };
        all.extend(moments.iter().map(|m| (call, *m)));
    }
    all
}

/// What of all plans of a kind each commit plays, and what was played in this run.
pub struct Part {
    what: &'static str,
    one_in: usize,
    at_least: usize,
    played: AtomicUsize,
    ended: AtomicUsize,
}

impl Part {
    /// One in so many; of all workloads together at least so many.
    pub const fn new(what: &'static str, one_in: usize, at_least: usize) -> Self {
        Self { what, one_in, at_least, played: AtomicUsize::new(0), ended: AtomicUsize::new(0) }
    }

    /// Plays a part of a workload's plans, and all of them when asked to.
    pub fn play(&self, workload: &str, plans: impl Fn(&Plan, &Reference) -> Vec<(String, Plan)>) {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::of(workload, SEED);
        let reference = Reference::of(&plan, folder.path());
        let all = plans(&plan, &reference);
        let one_in = number("DEVSANCTUM_POINTS").unwrap_or(self.one_in);
        let (mut played, mut failed) = (0, Vec::new());
        for (label, plan) in all.iter().step_by(one_in) {
            let told = child::play(&Asked { plan: plan.clone(), reference: Some(reference.file.clone()), outcome: None });
            // One that came to nothing proves nothing.
            played += usize::from(told.hit >= plan.points() || !told.wrong.is_empty());
            if !told.wrong.is_empty() {
                failed.push(format!("{label}\n    {}\n    again: {}", told.wrong.join("\n    "), child::again(plan)));
            }
        }
        let of = all.len().div_ceil(one_in);
        println!("proof: {} {played} played, {} failed, of {of} in {workload}", self.what, failed.len());
        self.add(played);
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    /// The last workload of all tells whether it was enough, unless somebody asked for fewer.
    fn add(&self, played: usize) {
        let all = self.played.fetch_add(played, Relaxed) + played;
        let last = self.ended.fetch_add(1, Relaxed) + 1 == super::workloads::ALL.len();
        if last && number("DEVSANCTUM_POINTS").is_none() {
            assert!(all >= self.at_least, "only {all} {} were played, not {}", self.what, self.at_least);
        }
    }
}

/// A number somebody set.
pub fn number(name: &str) -> Option<usize> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Ends the process a second time, soon after it was started again, until it was ended twice this many times.
fn play_doubles(workload: &str, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::of(workload, SEED);
    let reference = Reference::of(&plan, folder.path());
    let (all, mut chance) = (points(&reference.outcome), SplitMix(count as u64));
    let (mut hit, mut failed) = (0, Vec::new());
    // Some end before the second point is reached.
    for _ in 0..4 * count {
        if hit == count {
            break;
        }
        let (call, moment) = all[chance.below(all.len())];
        let (later, again) = all[chance.below(all.len())];
        let plan = plan.crash(call, moment).crash(call + 1 + later % SOON, again);
        let told = child::play(&Asked { plan: plan.clone(), reference: Some(reference.file.clone()), outcome: None });
        hit += usize::from(told.hit == 2);
        if !told.wrong.is_empty() {
            failed.push(format!("{}\n    again: {}", told.wrong.join("\n    "), child::again(&plan)));
        }
    }
    println!("proof: double points {hit} played, {} failed, of {count} in {workload}", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(hit, count, "{workload}: too few were ended twice");
}

fn play(workload: &str) {
    POINTS.play(workload, |plan, reference| {
        let label = |call: usize, moment| format!("{moment:?} {}", reference.outcome.calls[call].label);
        points(&reference.outcome).into_iter().map(|(call, m)| (label(call, m), plan.crash(call, m))).collect()
    });
    if let Some(all) = number("DEVSANCTUM_DOUBLES") {
        play_doubles(workload, all.div_ceil(super::workloads::ALL.len()));
    }
}

/// A test for each workload.
macro_rules! each_workload {
    ($play:ident) => {
        $crate::sim::points::each_workload! { $play
            create = "create"
            five_on_two = "five-on-two"
            stop_start = "stop-start"
            delete = "delete"
            delete_at_once = "delete-at-once"
            recreate = "recreate"
            companion = "companion"
            killed = "killed"
            edited = "edited"
            removed = "removed"
            no_network = "no-network"
            squatted = "squatted"
            pull = "pull"
            built = "built"
            repository = "repository"
            fork = "fork"
            warm = "warm"
            warm_two = "warm-two"
            daemon_restart = "daemon-restart"
            failing = "failing"
            private_route = "private-route"
            project_gone = "project-gone"
            by_itself = "by-itself"
            talked_over = "talked-over"
            on_schedule = "on-schedule"
            server_gone = "server-gone"
            moved = "moved"
        }
    };
    ($play:ident $($test:ident = $name:literal)*) => {
        $(#[test]
        fn $test() {
            $play($name);
        })*

        #[test]
        fn no_workload_is_left_out() {
            let named: Vec<&str> = $crate::sim::workloads::ALL.iter().map(|w| w.name).collect();
            assert_eq!(named, [$($name),*]);
        }
    };
}
pub(super) use each_workload;

each_workload!(play);
