//! The real binary on real engines and a real Traefik, while something goes wrong.
//!
//! A plan is what is asked for, what goes wrong, and when. The questions are the same for all: is what is wrong told in
//! words that help, are other workspaces served meanwhile, is there in the end exactly what the records ask for, is what
//! is somebody else's as it was, and does a second look change nothing?

mod crash_points;
mod fault;
pub mod line;
mod plan;
mod request;
mod scene;

use super::world::on;
use crate::support::dockerd::Dockerd;
use futures::FutureExt;
use plan::{Ground, Plan};
use scene::Scene;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// What came of a plan.
struct Row {
    plan: Plan,
    took: Duration,
    failure: Option<String>,
}

/// Plays all plans of a ground, in one world as long as they go well, and prints what came of them.
fn play(ground: Ground) {
    let mut left: VecDeque<Plan> = ground.plans().into();
    let mut rows = Vec::new();
    while !left.is_empty() {
        let own = ground.engine();
        on(own.as_ref().unwrap_or_else(|| Dockerd::shared()), async |world| {
            let mut scene = Scene::set(world).await;
            while let Some(plan) = left.pop_front() {
                let begun = Instant::now();
                let played = AssertUnwindSafe(scene.play(plan)).catch_unwind().await;
                let failure = played.err().map(words);
                let failed = failure.is_some();
                rows.push(Row { plan, took: begun.elapsed(), failure });
                if failed {
                    // So that what is cleaned up with answers; whether it can be put right is not the question any more.
                    let _ = AssertUnwindSafe(plan.fault.heal(&mut scene)).catch_unwind().await;
                    break;
                }
            }
        });
    }
    report(ground, &rows);
}

fn words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "it panicked".into())
}

fn report(ground: Ground, rows: &[Row]) {
    let line = |row: &Row| {
        let Plan { fault, workload, moment, .. } = row.plan;
        let outcome = row.failure.as_ref().map_or("ok", |_| "FAILED");
        format!("{ground:?} | {fault:?} | {workload:?} | {moment:?} | {outcome} | {:.1} s\n", row.took.as_secs_f64())
    };
    let table: String = rows.iter().map(line).collect();
    println!("{} plans:\n{table}", rows.len());
    let failed: Vec<_> = rows.iter().filter_map(|r| Some((r.plan, r.failure.as_ref()?))).collect();
    println!("proof: real plans {} played, {} failed", rows.len(), failed.len());
    assert!(failed.is_empty(), "{table}{failed:#?}");
}

#[test]
fn whatever_happens_on_the_way_to_the_engine_or_is_done_by_hand_the_records_come_true() {
    play(Ground::Shared);
}

#[test]
fn whatever_happens_to_the_engine_the_records_come_true() {
    play(Ground::Own);
}

#[test]
fn an_engine_that_lets_containers_go_on_without_it_finds_them_as_they_were() {
    play(Ground::LiveRestore);
}

#[test]
fn a_full_disk_is_told_and_harms_nothing_that_runs() {
    play(Ground::SmallDisk);
}
