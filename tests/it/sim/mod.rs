//! The whole control plane on a paused clock: the real API, store and loops, and engines in memory behind the real client.
//! One seed is one run; what goes wrong, and when, is a [`plan::Plan`]; what must hold all the same is in [`oracles`].

mod chance;
mod child;
mod days;
mod director;
mod hands;
mod history;
mod lasting;
mod late;
mod moments;
mod oracles;
mod picture;
mod plan;
mod planted;
mod points;
mod settled;
mod strangers;
mod track_record;
mod views;
mod workloads;
mod world;

use child::Asked;
use plan::Plan;

/// One seed is one run, and another seed is another one.
#[test]
fn one_seed_is_one_run() {
    let digest = |workload: &str, seed| {
        let told = child::play(&Asked { plan: Plan::of(workload, seed), reference: None, outcome: None });
        assert_eq!(told.wrong, Vec::<String>::new(), "{workload}");
        told.digest
    };
    for workload in ["five-on-two", "server-gone", "day"] {
        assert_eq!(digest(workload, 2), digest(workload, 2), "{workload}");
    }
    assert_ne!(digest("five-on-two", 1), digest("five-on-two", 2));
}

/// Plays these as they are: each looks by itself at what came of it.
fn play_alone(workloads: &[workloads::Workload]) {
    let mut failed = Vec::new();
    for workload in workloads {
        let told = child::play(&Asked { plan: Plan::of(workload.name, 1), reference: None, outcome: None });
        println!("{}: {} calls, {:?}", workload.name, told.calls, told.wrong);
        failed.extend(told.wrong.into_iter().map(|wrong| format!("{}: {wrong}", workload.name)));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What cannot be done is tried ever more seldom, without end and without another word in the records.
#[test]
fn errors_that_last_are_borne_quietly() {
    play_alone(&workloads::LASTING);
    println!("proof: errors for a day {} played, 0 failed", workloads::LASTING.len());
}

/// A container's own file system outlives what passes by itself, and what people do to it short of removing it; and what can be made
/// is made.
#[test]
fn containers_are_kept_where_they_can_be() {
    play_alone(&workloads::CONTAINERS);
}

/// One server of many that hangs, with much to be done on it, keeps nothing on another one waiting.
#[test]
fn a_server_that_hangs_holds_up_no_other() {
    play_alone(&workloads::FLEETS);
}

/// Plays what `make sim` was given: a plan, or a seed.
#[test]
#[ignore = "for `make sim`"]
fn again() {
    let plan = std::env::var("PLAN").expect("PLAN must be set: the plan as the failure printed it");
    let plan: Plan = serde_json::from_str(&plan).expect("PLAN must be a plan as JSON");
    let folder = tempfile::tempdir().unwrap();
    let faultless = Plan::of(&plan.workload, plan.seed);
    // A day has no like without faults.
    let reference = (!plan.is_day()).then(|| points::Reference::of(&faultless, folder.path()).file);
    let told = child::play(&Asked { plan, reference, outcome: None });
    eprintln!("{} calls, {} starts, {} ms, trace {}", told.calls, told.starts, told.millis, told.digest);
    assert!(told.wrong.is_empty(), "{:#?}", told.wrong);
}
