//! Simulations in processes of their own, in which all chance is given: so that one seed is one run, and a failure can be
//! had again.
//!
//! Hash maps and tokio draw random bytes of their own; a library that is loaded before the C library gives them the same
//! ones each time (`chance.c`), and addresses are not randomised.

use super::oracles::{self, Outcome};
use super::plan::Plan;
use super::workloads;
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Instant;

/// What a child is asked to do.
const ASKED: &str = "DEVSANCTUM_SIM";
/// The seed of the chance that libraries draw (`chance.c`).
const SEED: &str = "DEVSANCTUM_SIM_SEED";
/// What its answer begins with.
const TOLD: &str = "simulated: ";

/// A simulation that takes longer, in seconds, will not end.
const LONGEST: &str = "900";
/// What `timeout` ends with then.
const ENDED: i32 = 124;

/// A plan to play and, to judge it by, a file with the outcome without faults.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    pub plan: Plan,
    pub reference: Option<PathBuf>,
    /// Where to put the whole outcome.
    pub outcome: Option<PathBuf>,
}

/// What a child tells.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Told {
    pub wrong: Vec<String>,
    pub digest: String,
    pub calls: usize,
    pub starts: u64,
    /// Points of the plan that were come to.
    pub hit: usize,
    /// CPU time would be better; this is wall.
    pub millis: u128,
}

/// The library with the chance of all simulations.
static CHANCE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (library, part) = (folder.join("chance.so"), folder.join(format!("chance.{}.so", std::process::id())));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sim/chance.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&part).arg(source).arg("-ldl").status();
    assert!(built.expect("a C compiler").success());
    std::fs::rename(part, &library).unwrap();
    library
});

/// Processors on which no simulation of ours runs.
static FREE: LazyLock<Mutex<Vec<usize>>> = LazyLock::new(|| {
    let ours = rustix::thread::sched_getaffinity(None).unwrap();
    Mutex::new((0..CpuSet::MAX_CPU).filter(|cpu| ours.is_set(*cpu)).collect())
});

/// A processor of a simulation's own, if one is free: its threads wait for each other all the time, and wake each other
/// quicker there.
struct Processor(Option<usize>);

impl Processor {
    fn take() -> Self {
        Self(FREE.lock().unwrap().pop())
    }

    fn words(&self) -> Vec<String> {
        self.0.map(|cpu| vec!["taskset".into(), "-c".into(), cpu.to_string()]).unwrap_or_default()
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        FREE.lock().unwrap().extend(self.0);
    }
}

/// Plays a plan in a process of its own.
pub fn play(asked: &Asked) -> Told {
    let (mut command, processor) = (Command::new("timeout"), Processor::take());
    command.arg(LONGEST).args(processor.words()).args(["setarch", "-R"]).arg(std::env::current_exe().unwrap());
    command.args(["sim::child::a_simulation", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ASKED, serde_json::to_string(asked).unwrap()).env(SEED, asked.plan.seed.to_string());
    command.env("LD_PRELOAD", &*CHANCE).env("RUST_BACKTRACE", "0");
    let output = command.stdin(Stdio::null()).output().expect("timeout, of coreutils");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().find_map(|l| Some(l.split_once(TOLD)?.1));
    told.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_else(|| {
        if output.status.code() == Some(ENDED) {
            return Told { wrong: vec![format!("bounded: not ended after {LONGEST} s")], ..Told::default() };
        }
        let said = format!("it ended with {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        Told { wrong: vec![said], ..Told::default() }
    })
}

/// The command that plays a plan again.
pub fn again(plan: &Plan) -> String {
    format!("make sim PLAN='{}'", serde_json::to_string(plan).unwrap())
}

/// Ends this process, which is a simulation's, for good.
pub fn give_up(why: &str) -> ! {
    println!("{TOLD}{}", serde_json::to_string(&Told { wrong: vec![format!("bounded: {why}")], ..Told::default() }).unwrap());
    std::process::exit(0)
}

/// The child's side.
#[test]
#[ignore = "one simulation, for the tests that ask for it"]
fn a_simulation() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    // Its stack lies at the same place in each run, whatever the environment is, and nothing else runs yet: hash maps are
    // seeded by both.
    std::thread::spawn(move || {
        drop(kube::runtime::scheduler::<u8, _>(futures::stream::pending()));
        let asked: Asked = serde_json::from_str(&asked).unwrap();
        // kube waits by it after failures, and it would begin with the time of day.
        fastrand::seed(asked.plan.seed);
        simulate(asked);
    })
    .join()
    .unwrap();
}

fn simulate(asked: Asked) {
    let begun = Instant::now();
    let workload = workloads::named(&asked.plan.workload).expect("the name of a workload");
    let found = oracles::play(&asked.plan, workload);
    let reference = asked.reference.map(|path| serde_json::from_slice::<Outcome>(&std::fs::read(path).unwrap()).unwrap());
    let wrong = oracles::judge(&asked.plan, reference.as_ref().unwrap_or(&found), &found);
    if let Some(path) = &asked.outcome {
        std::fs::write(path, serde_json::to_vec(&found).unwrap()).unwrap();
    }
    let millis = begun.elapsed().as_millis();
    let told = Told { wrong, digest: found.digest, calls: found.calls.len(), starts: found.starts, hit: found.hit.len(), millis };
    println!("{TOLD}{}", serde_json::to_string(&told).unwrap());
}
