//! Where a workspace goes, once and for good.

use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::plan::environment::Environment;
use crate::plan::schedule::{Candidate, Need, place as choose};
use crate::resource::{DockerServer, Project, Workspace, WorkspacePhase, WorkspaceStatus};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Waiting for capacity ends with an event; this is in case none comes.
const RETRY: Duration = Duration::from_secs(60);

/// A placement made that the copy of the record may not show yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumed {
    /// Server.
    pub server: String,
    /// Memory reserved, in mebibytes.
    pub ram_mb: u32,
    /// Disk reserved, in gibibytes.
    pub disk_gb: f64,
}

/// The workspace's server: the one recorded, or one chosen now and recorded before anything is made there. One
/// choice at a time, so that two never take the same free memory.
pub async fn place(
    ctx: &Context,
    record: &Workspace,
    project: &Project,
    env: &Environment,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<String, PassError> {
    if let Some(server) = pass.status.docker_server.clone() {
        pass.holds("Scheduled", "Scheduled");
        pass.save(record).await?;
        return Ok(server);
    }
    let mut assumed = ctx.assumed.lock().await;
    drop_seen(ctx, &mut assumed);
    let need = Need {
        ram_mb: u64::from(env.min_ram_mb),
        disk_gb: env.min_disk_gb,
        groups: project.spec.groups.iter().map(|g| g.group.clone()).collect(),
        server: record.spec.docker_server.clone(),
    };
    let candidates = candidates(ctx, &assumed);
    let server = match choose(&need, &candidates) {
        Ok(server) => server.name.clone(),
        Err(why) => {
            pass.status.phase = WorkspacePhase::Pending;
            return Err(PassError::waiting("Scheduled", "NoEligibleServer", why, RETRY));
        }
    };
    pass.status.docker_server = Some(server.clone());
    pass.status.reserved_ram_mb = Some(env.min_ram_mb);
    pass.status.reserved_disk_gb = Some(env.min_disk_gb);
    pass.status.phase = WorkspacePhase::Starting;
    pass.save(record).await?;
    let made = Assumed { server: server.clone(), ram_mb: env.min_ram_mb, disk_gb: env.min_disk_gb };
    assumed.insert(record.uid().unwrap_or_default(), made);
    pass.did(format!("placed on {server}"));
    pass.holds("Scheduled", "Scheduled");
    Ok(server)
}

/// Forgets assumptions that the copies show by now, or whose record is gone.
fn drop_seen(ctx: &Context, assumed: &mut BTreeMap<String, Assumed>) {
    if assumed.is_empty() {
        return;
    }
    let placed = |w: &Workspace| w.status.as_ref().is_some_and(|s| s.docker_server.is_some());
    let is_assumed = |w: &Workspace| w.metadata.uid.as_ref().is_some_and(|uid| assumed.contains_key(uid));
    let pending = ctx.caches.workspaces.state_filter(|w| is_assumed(w) && !placed(w));
    let pending: BTreeSet<&String> = pending.iter().filter_map(|w| w.metadata.uid.as_ref()).collect();
    assumed.retain(|uid, _| pending.contains(uid));
}

/// All servers with what is reserved on them.
pub fn candidates(ctx: &Context, assumed: &BTreeMap<String, Assumed>) -> Vec<Candidate> {
    let mut reserved: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    let mut reserve = |server: &str, ram: u32, disk: f64| {
        // Every placed workspace comes by here: only the first one of a server is worth a copy of its name.
        match reserved.get_mut(server) {
            Some(entry) => {
                entry.0 += u64::from(ram);
                entry.1 += disk;
            }
            None => drop(reserved.insert(server.to_owned(), (u64::from(ram), disk))),
        }
    };
    for w in ctx.caches.workspaces.state() {
        let Some(status) = &w.status else { continue };
        if let Some(server) = &status.docker_server {
            reserve(server, status.reserved_ram_mb.unwrap_or(0), status.reserved_disk_gb.unwrap_or(0.0));
        }
    }
    assumed.values().for_each(|a| reserve(&a.server, a.ram_mb, a.disk_gb));
    ctx.caches.servers.state().iter().map(|s| candidate(s, reserved.get(&s.name_any()).copied().unwrap_or_default())).collect()
}

fn candidate(server: &DockerServer, (ram, disk): (u64, f64)) -> Candidate {
    let status = server.status.clone().unwrap_or_default();
    Candidate {
        name: server.name_any(),
        groups: server.spec.groups.clone(),
        phase: status.phase,
        schedulable: server.spec.schedulable && server.metadata.deletion_timestamp.is_none(),
        ram_total_mb: status.ram_total_mb,
        ram_used_mb: status.ram_used_mb,
        ram_reserved_mb: ram,
        disk_total_gb: status.disk_total_gb,
        disk_used_gb: status.disk_used_gb,
        disk_reserved_gb: disk,
    }
}
