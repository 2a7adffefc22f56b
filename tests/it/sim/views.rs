//! The process sees the world as it was, or not at all: every look at an engine is answered as an earlier one was, every
//! change of a record is heard of late or, when another follows, never; a process that is started anew reads records as they
//! were.
//!
//! Each commit plays a part of these plans, spread evenly; `DEVSANCTUM_POINTS=1` plays them all.

use super::oracles::Outcome;
use super::plan::{Held, How, Moment, Past, Plan, Stale};
use super::points::Part;

static VIEWS: Part = Part::new("views", 18, 500);
/// How late changes are heard of: within a step of a workload, and over the next ones.
const LATE: [u64; 2] = [45, 200];

/// All there are for a workload.
pub fn plans(plan: &Plan, reference: &Outcome) -> Vec<(String, Plan)> {
    let mut all = Vec::new();
    for (call, made) in reference.calls.iter().enumerate().take(reference.busy) {
        for back in 1..=made.earlier {
            all.push((format!("{}, {back} back", made.label), Plan { stale: vec![Stale { call, back }], ..plan.clone() }));
        }
    }
    for (kind, count) in &reference.events {
        for event in 0..*count {
            for how in LATE.map(How::Late).into_iter().chain([How::Unseen]) {
                let held = Held { kind: kind.clone(), event, how };
                all.push((format!("{kind} {event} {how:?}"), Plan { held: vec![held], ..plan.clone() }));
            }
        }
    }
    // A process that is started anew reads the past: after each thing that was done.
    let done = reference.calls.iter().enumerate().take(reference.busy).filter(|(_, made)| made.acts && made.done);
    for (call, made) in done {
        for kind in ["workspaces", "routes", "dockerservers", "projects"] {
            for back in [1, 3] {
                let past = Some(Past { kind: kind.into(), back });
                let plan = Plan { past, ..plan.crash(call, Moment::Applied) };
                all.push((format!("{kind} {back} back, started after {}", made.label), plan));
            }
        }
    }
    all
}

fn play(workload: &str) {
    VIEWS.play(workload, |plan, reference| plans(plan, &reference.outcome));
}

super::points::each_workload!(play);
