//! Many workspaces at rest on a real engine: what the control plane uses and writes.

use super::system::{self, System};
use super::tool::{cpu_seconds, memory_mb, note, print_of, row};
use super::{Flags, docker, records, rollout};
use std::time::{Duration, Instant};

/// Given before looking, so that what follows a rollout is over.
const SETTLE: Duration = Duration::from_secs(15);

pub async fn run(flags: Flags) {
    let count = flags.count.unwrap_or(200);
    let daemon = docker::start();
    let dir = system::state();
    let system = System::with_engine(dir.path(), &daemon).await;
    system.apply(&(0..count).map(|i| records::workspace(&format!("w{i}"))).collect::<Vec<_>>());
    system.await_running(count).await;
    look(&system, &format!("{count} workspaces"), flags.seconds, "≤ 1 %", "≤ 64 MB").await;
}

/// Looks at a system at rest.
pub async fn look(system: &System, what: &str, seconds: u64, cpu_goal: &str, memory_goal: &str) {
    tokio::time::sleep(SETTLE).await;
    let folder = system.dir.join("db");
    let passes = passes(system).await;
    let (revision, print) = (rollout::revision(system).await, print_of(&folder));
    let (ours, traefik) = (system.pid(), system.traefik());
    let (before, before_traefik, begun) = (cpu_seconds(ours), cpu_seconds(traefik), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let share = |now: f64, then: f64| (now - then) / begun.elapsed().as_secs_f64() * 100.0;
    let (cpu, cpu_traefik) = (share(cpu_seconds(ours), before), share(cpu_seconds(traefik), before_traefik));
    let (rss, peak) = memory_mb(ours);
    let writes = rollout::revision(system).await - revision;
    let files = if print_of(&folder) == print { "files untouched" } else { "files touched" };
    let passes = self::passes(system).await - passes;
    row(
        &format!("{what} at rest {seconds} s: CPU"),
        &format!("{cpu:.2} % of a core"),
        &format!("Traefik {cpu_traefik:.2} %"),
        "",
        cpu_goal,
    );
    row(
        &format!("{what} at rest: memory"),
        &format!("{rss:.0} MB"),
        &format!("peak {peak:.0} MB, Traefik {:.0} MB", memory_mb(traefik).0),
        "",
        memory_goal,
    );
    row(&format!("{what} at rest {seconds} s: writes"), &format!("{writes}, {files}"), "", "", "0");
    note(&format!("{passes} passes meanwhile"));
}

async fn passes(system: &System) -> u64 {
    let status = system.status().await;
    status["loops"].as_array().into_iter().flatten().filter_map(|l| l["passes"].as_u64()).sum()
}
