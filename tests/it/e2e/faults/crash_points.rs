//! The control plane killed at each call that changes something on a real engine: before the engine sees it, and after
//! its effect. The line holds the call meanwhile, so the moment is exact and the product needs no code for it.

use super::line::Window;
use super::plan::{WORKLOADS, Workload};
use super::scene::Scene;
use crate::e2e::world::in_world;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);

/// The changes a workload makes when nothing goes wrong.
async fn changes(scene: &mut Scene<'_>, workload: Workload) -> Vec<String> {
    workload.prepare(scene).await;
    let before = scene.line.changes().len();
    workload.ask(scene).await;
    scene.well("it to be done", SOON, async || workload.done(scene).await).await;
    let made = scene.line.changes().split_off(before);
    let mut each = made.clone();
    each.sort();
    each.dedup();
    assert_eq!(each.len(), made.len(), "calls that cannot be told apart: {made:?}");
    made
}

async fn killed_at(scene: &mut Scene<'_>, workload: Workload, call: &str, window: Window) {
    let begun = Instant::now();
    workload.prepare(scene).await;
    let mut held = scene.line.trap(call, window);
    workload.ask(scene).await;
    held.caught(SOON).await.unwrap_or_else(|e| panic!("{call}: {e}"));
    scene.world.kill();
    drop(held);
    scene.world.restart().await;
    scene.well(&format!("{workload:?} killed {window:?} {call}"), SOON, async || workload.done(scene).await).await;
    scene.a_second_look_changes_nothing().await;
    println!("{workload:?} | killed {window:?} {call} | ok | {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn killed_at_any_call_that_changes_the_engine_it_ends_as_the_records_say() {
    in_world(async |world| {
        let mut scene = Scene::set(world).await;
        let all = std::env::var("DEVSANCTUM_REAL_PLANS").is_ok_and(|v| v == "all");
        let tried: Vec<_> = WORKLOADS.into_iter().filter(|w| all || *w != Workload::Remake).collect();
        let mut points = Vec::new();
        for workload in &tried {
            let made = changes(&mut scene, *workload).await;
            points.push((*workload, made));
        }
        let made = |of| points.iter().find(|(w, _)| *w == of).unwrap().1.clone();
        assert_eq!(made(Workload::Create), ["POST volumes/create", "POST containers/create", "POST containers/*/start"]);
        assert_eq!(made(Workload::Delete), ["POST containers/*/stop", "DELETE containers/*", "DELETE volumes/*"]);
        let mut played = 0;
        // In turns, so that one makes what the next one needs.
        for nth in 0..points.iter().map(|(_, made)| made.len()).max().unwrap_or_default() {
            for window in [Window::Before, Window::After] {
                for (workload, made) in &points {
                    if let Some(call) = made.get(nth) {
                        killed_at(&mut scene, *workload, call, window).await;
                        played += 1;
                    }
                }
            }
        }
        println!("proof: real crash points {played} played, 0 failed");
    });
}
