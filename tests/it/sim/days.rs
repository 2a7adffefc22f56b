//! Days of an installation in which people work and all kinds of things go wrong, by chance.
//!
//! A day is drawn from its seed: what people do, what breaks, when the process ends. Most of what breaks is mended after
//! minutes, some only after hours. In the last two hours nothing breaks any more, and then the world must be as the records
//! say, and stay so without another act. What must always hold is looked at all day. In long runs a day that fails is played
//! again without ever more of what happened, until all that is left is needed.
//!
//! Each commit plays 1,000 days; `DEVSANCTUM_SEEDS` says how many, `DEVSANCTUM_FIRST_SEED` from which one on.

use super::chance::SplitMix;
use super::child::{self, Asked};
use super::director::Noise;
use super::hands::Hands;
use super::plan::Plan;
use super::strangers::is_ours;
use super::world::World;
use devsanctum::proxy::ProxyError;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// From the first record to the last fault.
const BUSY: Duration = Duration::from_secs(22 * 3600);
/// Then nothing goes wrong any more, for as long as the oracles wait and this; the longest wait after failures is 500 seconds.
const CALM: Duration = Duration::from_secs(1800);
/// Longest time between two things that happen, in seconds.
const BETWEEN: usize = 3600;
const NAMES: [&str; 8] = ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"];
/// Workspaces there are at least.
const AT_LEAST: usize = 5;

/// When something happens, by chance.
fn times(seed: u64) -> Vec<Duration> {
    let (mut chance, mut at, mut all) = (SplitMix(seed), Duration::from_secs(60), Vec::new());
    while at < BUSY {
        all.push(at);
        at += Duration::from_secs(chance.below(BETWEEN) as u64);
    }
    all
}

/// A day. It goes on where it was when the process was started anew.
pub async fn day(hands: &Hands<'_>) {
    let world = hands.world;
    if world.plan.seed.is_multiple_of(3) && !world.once("warm") {
        hands.merge("Template", "page", json!({"spec": {"warm": 1}})).await;
    }
    for name in &NAMES[..AT_LEAST] {
        hands.workspace_once(name).await;
    }
    let times = times(world.plan.seed);
    while let Some(at) = times.get(world.happened.load(Ordering::Relaxed)) {
        let before = world.happened.load(Ordering::Relaxed).checked_sub(1);
        if let Some(mended) = before.map(|n| times[n] + lasts(world.plan.seed, n)).filter(|mended| mended < at) {
            until(world, mended).await;
            mend(world);
        }
        until(world, *at).await;
        let nth = world.happened.fetch_add(1, Ordering::Relaxed);
        if !world.plan.without.contains(&nth) {
            happen(hands, SplitMix(world.plan.seed ^ (nth as u64 + 1).wrapping_mul(0x9e37_79b9))).await;
        }
    }
    mend(world);
    until(world, BUSY + CALM).await;
}

async fn until(world: &World, at: Duration) {
    tokio::time::sleep(at.saturating_sub(world.clock.elapsed())).await;
}

/// How long what breaks stays so, if nothing else happens first.
fn lasts(seed: u64, nth: usize) -> Duration {
    let mut chance = SplitMix(seed.rotate_left(32) ^ nth as u64);
    let longest = if chance.below(8) == 0 { 2 * 3600 } else { 600 };
    Duration::from_secs(chance.below(longest) as u64)
}

/// All that is broken works again.
fn mend(world: &World) {
    for engine in world.engines.values() {
        engine.set_refusing(false);
        engine.set_silent(false);
        engine.set_latency(Duration::from_millis(20));
    }
    world.proxy.set_failure(None);
    world.director.noise(Noise::default());
}

/// One thing, by chance.
async fn happen(hands: &Hands<'_>, mut chance: SplitMix) {
    match chance.below(10) {
        0..=2 => people(hands, chance).await,
        3..=6 => machines(hands.world, chance),
        _ => calls(hands.world, chance),
    }
}

/// What people do.
async fn people(hands: &Hands<'_>, mut chance: SplitMix) {
    let mut all = hands.list("Workspace").await;
    all.retain(|w| w["metadata"]["namespace"] == "team");
    let names: Vec<&str> = all.iter().filter_map(|w| w["metadata"]["name"].as_str()).collect();
    let staying = all.iter().filter(|w| w["metadata"]["deletionTimestamp"].is_null()).count();
    let name = NAMES[chance.below(NAMES.len())];
    match (names.contains(&name), chance.below(6)) {
        (false, _) => hands.workspace(name).await,
        (true, 0 | 1) if staying > AT_LEAST => hands.delete("Workspace", name).await,
        (true, 2) => hands.merge("Workspace", name, json!({"spec": {"running": false}})).await,
        (true, 3) => {
            let colour = format!("c{}", chance.below(1000));
            hands.merge("Template", "page", json!({"spec": {"env": {"COLOUR": colour}}})).await;
        }
        (true, 4) => {
            let visibility = ["PUBLIC", "PRIVATE"][chance.below(2)];
            hands.merge("Workspace", name, json!({"spec": {"visibility": visibility}})).await;
        }
        (true, _) => hands.merge("Workspace", name, json!({"spec": {"running": true}})).await,
    }
}

/// What machines and other people do to engines and the proxy.
fn machines(world: &World, mut chance: SplitMix) {
    let engines: Vec<_> = world.engines.values().collect();
    let engine = engines[chance.below(engines.len())];
    let mut ours = engine.glance();
    ours.retain(|c| is_ours(&c.labels, world.instance()));
    ours.sort_by(|a, b| a.name.cmp(&b.name));
    let Some(name) = ours.get(chance.below(ours.len().max(1))).map(|c| &c.name) else { return };
    match chance.below(13) {
        0 | 1 => drop(engine.kill(name)),
        2 => drop(engine.exit(name, 1)),
        3 => drop(engine.oom_kill(name)),
        4 => drop(engine.remove(name)),
        5 => drop(engine.pause(name)),
        6 => {
            for network in engine.networks().iter().filter(|n| n.starts_with("ds-")) {
                engine.remove_network(network);
            }
        }
        7 => engine.restart_daemon(),
        8 => engine.set_refusing(true),
        9 => engine.set_silent(true),
        10 => drop(engine.update(name, &more())),
        11 => world.proxy.set_failure(Some(ProxyError::Unreachable("it is down".into()))),
        _ => world.proxy.forget(),
    }
}

/// What somebody lets a container have beyond its limits.
pub fn more() -> Value {
    let restarts = json!({"Name": "unless-stopped"});
    json!({"Memory": 1 << 30, "MemorySwap": 2 << 30, "NanoCpus": 2_000_000_000, "PidsLimit": 9999, "RestartPolicy": restarts})
}

/// What goes wrong with calls, from now until something else does; or nothing does any more.
fn calls(world: &World, mut chance: SplitMix) {
    match chance.below(8) {
        0 | 1 => world.director.crash_in(chance.below(20)),
        2 => world.director.noise(Noise { engines: 20, ..Noise::default() }),
        3 => world.director.noise(Noise { api: 20, ..Noise::default() }),
        4 => world.director.noise(Noise { engines: 60, api: 10, ..Noise::default() }),
        5 => world.engines.values().for_each(|e| e.set_latency(Duration::from_millis(20 + chance.below(3000) as u64))),
        _ => mend(world),
    }
}

/// Plays a day; a failure is made as small as can be.
fn play(seed: u64) -> Result<usize, String> {
    let plan = Plan::of("day", seed);
    let wrong = |plan: &Plan| child::play(&Asked { plan: plan.clone(), reference: None, outcome: None });
    let told = wrong(&plan);
    if told.wrong.is_empty() {
        return Ok(told.calls);
    }
    // That is dozens of days: for long runs, and for `make sim`'s user to ask for.
    let smaller = match std::env::var("DEVSANCTUM_SEEDS") {
        Ok(_) => minimised(plan, |plan| !wrong(plan).wrong.is_empty()),
        Err(_) => plan,
    };
    let told = wrong(&smaller);
    let left = times(seed).len() - smaller.without.len();
    Err(format!(
        "day {seed}, {left} things that happened:\n    {}\n    again: {}",
        told.wrong.join("\n    "),
        child::again(&smaller)
    ))
}

/// Leaves out ever smaller parts of what happens, as long as the day fails without them.
fn minimised(mut plan: Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let mut part = times(plan.seed).len() / 2;
    while part > 0 {
        let left: Vec<usize> = (0..times(plan.seed).len()).filter(|n| !plan.without.contains(n)).collect();
        for some in left.chunks(part) {
            let mut fewer = plan.clone();
            fewer.without.extend(some);
            if fails(&fewer) {
                plan = fewer;
            }
        }
        part /= 2;
    }
    plan
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Tests that share the seeds, so that they run side by side.
const PARTS: u64 = 4;

fn part(nth: u64) {
    let (first, count) = (number("DEVSANCTUM_FIRST_SEED", 1), number("DEVSANCTUM_SEEDS", 1000));
    let (mut played, mut calls, mut failed) = (0, 0, Vec::new());
    for seed in (first..first + count).filter(|s| s % PARTS == nth) {
        played += 1;
        match play(seed) {
            Ok(n) => calls += n,
            Err(e) => failed.push(e),
        }
        if failed.len() == 3 {
            break;
        }
    }
    println!("proof: days {played} played, {} failed, {calls} calls", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn days_by_chance_a() {
    part(0);
}

#[test]
fn days_by_chance_b() {
    part(1);
}

#[test]
fn days_by_chance_c() {
    part(2);
}

#[test]
fn days_by_chance_d() {
    part(3);
}
