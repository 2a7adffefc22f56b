//! How fast and how small: the release binary beside a floor or a peer measured in the same run.
//!
//! `benches/run.sh` builds and runs all; one alone: `target/release/devsanctum-bench rollout --count 50 --runs 3`.
//! Each prints lines of one table: what, measured, beside, ratio or difference, goal.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends, saying where")]

mod access;
mod api;
mod docker;
mod environments;
mod floor;
mod gateway;
mod idle;
mod inside;
mod lifecycle;
mod many;
mod placement;
mod records;
mod repair;
mod rollout;
mod route;
mod system;
mod tool;
mod wire;

use std::process::{Command, ExitCode};

const INSIDE: &str = "DEVSANCTUM_BENCH_INSIDE";
const USAGE: &str = "usage: devsanctum-bench rollout|repair|route|gateway|idle|many|inside|environments|lifecycle|placement|api|access [--count N] [--runs N] [--seconds N] [--no-compose] [--in-flight N] [--only PART]";

/// Flags of all benches.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// Workspaces or records; each bench has its own default.
    pub count: Option<usize>,
    /// Repetitions.
    pub runs: Option<usize>,
    /// How long to look at something at rest.
    pub seconds: u64,
    /// Leave Docker Compose out.
    pub no_compose: bool,
    /// Bare calls in flight.
    pub in_flight: Option<usize>,
    /// One part of `access`: `decide`, `list`, `gate`, `hidden` or `sign-in`.
    pub only: Option<&'static str>,
}

/// Parts of a bench that can be run alone.
pub const PARTS: [&str; 5] = ["decide", "list", "gate", "hidden", "sign-in"];

fn flags(args: &[String]) -> Option<Flags> {
    let mut flags = Flags { count: None, runs: None, seconds: 60, no_compose: false, in_flight: None, only: None };
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        match flag.as_str() {
            "--count" => flags.count = Some(rest.next()?.parse().ok()?),
            "--runs" => flags.runs = Some(rest.next()?.parse().ok()?),
            "--seconds" => flags.seconds = rest.next()?.parse().ok()?,
            "--in-flight" => flags.in_flight = Some(rest.next()?.parse().ok()?),
            "--only" => {
                let part = rest.next()?;
                flags.only = Some(PARTS.into_iter().find(|known| known == part)?);
            }
            "--no-compose" => flags.no_compose = true,
            _ => return None,
        }
    }
    Some(flags)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((bench, rest)) = args.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    if std::env::var_os(INSIDE).is_none() {
        return in_own_network(&args);
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(flags) = flags(rest) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match bench.as_str() {
        "rollout" => runtime.block_on(rollout::run(flags)),
        "repair" => runtime.block_on(repair::run(flags)),
        "route" => runtime.block_on(route::run(flags)),
        "gateway" => gateway::run(flags),
        "idle" => runtime.block_on(idle::run(flags)),
        "inside" => runtime.block_on(inside::run(flags)),
        "access" => runtime.block_on(access::run(flags)),
        "environments" => runtime.block_on(environments::run(flags)),
        "lifecycle" => runtime.block_on(lifecycle::run(flags)),
        "placement" => placement::run(flags),
        "many" => runtime.block_on(many::run(flags)),
        "api" => runtime.block_on(api::run(flags)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs this program again in a network of its own, so that nothing on the machine is touched and no port is taken.
fn in_own_network(args: &[String]) -> ExitCode {
    let script = "ip link set lo up && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", script, "sh"]).arg(std::env::current_exe().unwrap()).args(args);
    let status = command.env(INSIDE, "1").status();
    let ok = status.inspect_err(|e| eprintln!("unshare: {e}; benches run as root")).is_ok_and(|s| s.success());
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
