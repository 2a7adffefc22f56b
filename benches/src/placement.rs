//! The choice of a server for one workspace, among many that hold many.

use super::Flags;
use super::tool::row;
use devsanctum::controllers::reserved::{Amount, Placed, Reserved};
use devsanctum::plan::schedule::{Need, place};
use devsanctum::resource::{DockerServer, Workspace};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

const SERVERS: usize = 1000;
const MEMORY_MB: usize = 65_536;

pub fn run(flags: Flags) {
    let (workspaces, runs) = (flags.count.unwrap_or(10_000), flags.runs.unwrap_or(1000));
    let servers: Vec<Arc<DockerServer>> = (0..SERVERS).map(|n| Arc::new(server(n))).collect();
    let reserved = Reserved::default();
    (0..workspaces).for_each(|n| reserved.seen(&workspace(n)));
    let need = Need { ram_mb: 512, disk_gb: 2.0, groups: vec!["group-3".into()], server: None };
    let amount = Amount::new(512, 2.0);
    let mut took: Vec<f64> = (0..runs)
        .map(|run| {
            let begun = Instant::now();
            let chosen = reserved.reserve(&format!("new-{run}"), |sums| {
                let candidates = sums.candidates(servers.iter().map(|s| &**s));
                place(&need, &candidates).map(|c| Placed { server: c.name.clone(), amount })
            });
            assert!(chosen.is_ok(), "{chosen:?}");
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    row(
        &format!("a server chosen among {SERVERS} that hold {workspaces} workspaces"),
        &format!("{:.0} µs (p99 {:.0} µs, n={runs})", at(0.5), at(0.99)),
        "",
        "",
        "≤ 1 ms",
    );
}

fn server(n: usize) -> DockerServer {
    let spec = json!({"host": format!("10.0.{}.{}", n / 250, n % 250), "groups": [format!("group-{}", n % 7), format!("group-{}", n % 3)]});
    let conditions: Vec<_> = ["Isolated", "Prepared", "Reachable", "Ready", "ResourcesKnown"]
        .map(|kind| json!({"type": kind, "status": "True", "reason": "Ok", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
        .to_vec();
    let status = json!({"phase": "ONLINE", "ramTotalMb": MEMORY_MB, "ramUsedMb": 4096 + n, "diskTotalGb": 1000.0, "diskUsedGb": 50.0,
        "conditions": conditions});
    let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": format!("server-{n:04}")},
        "spec": spec, "status": status});
    serde_json::from_value(record).unwrap()
}

fn workspace(n: usize) -> Workspace {
    let status =
        json!({"dockerServer": format!("server-{:04}", n % SERVERS), "reservedRamMb": 256 + n % 1024, "reservedDiskGb": 2.0});
    let metadata = json!({"name": format!("w{n}"), "namespace": "bench", "uid": format!("uid-{n}")});
    let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": metadata, "spec": {"owner": "ada"}, "status": status});
    serde_json::from_value(record).unwrap()
}
