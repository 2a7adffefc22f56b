//! Where a workspace goes: a server is chosen once, and again only where it is to move.

mod room;

use super::fork;
use crate::controllers::context::Context;
use crate::controllers::reserved::{Amount, Placed, Sums, elsewhere, placed};
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::plan::environment::Environment;
use crate::plan::schedule::{Candidate, Need, place as choose};
use crate::resource::{Project, Workspace, WorkspacePhase, WorkspaceStatus};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::time::Duration;

/// Waiting for capacity ends with an event; this is in case none comes.
const RETRY: Duration = Duration::from_secs(60);
/// No server can take it.
const NOWHERE: &str = "NoEligibleServer";
/// Of those that leave a server that is to be emptied, as many are stopped at a time.
const LEAVE_AT_ONCE: usize = 2;
/// Giving way ends as soon as the other is placed.
const SOON: Duration = Duration::from_secs(5);

/// The workspace's server: the one recorded, or one chosen now and recorded before anything is made there.
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
    let server = record.spec.docker_server.clone().or(fork::server(ctx, record)?);
    let need = need(project, env, server);
    let uid = record.uid().unwrap_or_default();
    let amount = Amount::new(env.min_ram_mb, env.min_disk_gb);
    let chosen = ctx.caches.reserved.reserve(&uid, |sums| {
        let candidates = candidates(ctx, &sums);
        if let Some(other) = record.warm_of().and_then(|_| room::waiting(ctx, &candidates)) {
            let why = format!("it gives way to workspace {other}, which waits for a server");
            return Err(PassError::waiting("Scheduled", "GivesWay", why, SOON));
        }
        let chosen = choose(&need, &candidates).map(|c| Placed { server: c.name.clone(), amount });
        chosen.map_err(|why| PassError::waiting("Scheduled", NOWHERE, why, RETRY))
    });
    let server = match chosen {
        Ok(chosen) => chosen.server,
        Err(why) => {
            pass.status.phase = WorkspacePhase::Pending;
            return Err(if record.warm_of().is_some() { why } else { room::make(ctx, &need, why, pass).await? });
        }
    };
    pass.status.docker_server = Some(server.clone());
    pass.status.reserved_ram_mb = Some(env.min_ram_mb);
    pass.status.reserved_disk_gb = Some(env.min_disk_gb);
    pass.status.phase = WorkspacePhase::Starting;
    let saved = pass.save(record).await;
    confirm(ctx, record, saved.is_ok());
    saved?;
    pass.did(format!("placed on {server}"));
    pass.holds("Scheduled", "Scheduled");
    Ok(server)
}

/// What a workspace needs of a server.
fn need(project: &Project, env: &Environment, server: Option<String>) -> Need {
    let groups = project.spec.groups.iter().map(|g| g.group.clone()).collect();
    Need { ram_mb: u64::from(env.min_ram_mb), disk_gb: env.min_disk_gb, groups, server }
}

/// Reserves on the server of a warm environment, in place of what that one holds there, by the same rules as anywhere.
///
/// # Errors
/// Why the workspace cannot be there.
pub fn take_over(
    ctx: &Context,
    record: &Workspace,
    project: &Project,
    env: &Environment,
    warm: &Workspace,
    server: &str,
) -> Result<(), String> {
    if record.spec.docker_server.as_deref().is_some_and(|asked| asked != server) {
        return Err("another server was asked for".into());
    }
    let need = need(project, env, Some(server.to_owned()));
    let amount = Amount::new(env.min_ram_mb, env.min_disk_gb);
    let (uid, from) = (record.uid().unwrap_or_default(), warm.uid().unwrap_or_default());
    let taken = ctx
        .caches
        .reserved
        .take_over(&uid, &from, |sums| choose(&need, &candidates(ctx, &sums)).map(|c| Placed { server: c.name.clone(), amount }));
    taken.map(drop)
}

/// The server that a workspace would go to now, whatever its record asks for.
///
/// # Errors
/// Why there is none.
pub fn another(ctx: &Context, (project, env): (&Project, &Environment)) -> Result<String, PassError> {
    let need = need(project, env, None);
    let chosen = ctx.caches.reserved.without(&[], |sums| choose(&need, &candidates(ctx, &sums)).map(|c| c.name.clone()));
    chosen.map_err(|why| PassError::waiting("Moved", NOWHERE, why, RETRY))
}

/// Reserves on another server, by the same rules as anywhere, what the workspace goes on holding where it is. Those that nobody asked
/// to be there wait for their turn.
///
/// # Errors
/// Why it cannot be had.
pub async fn reserve_elsewhere(
    ctx: &Context,
    record: &Workspace,
    (project, env): (&Project, &Environment),
    (here, to): (&str, &str),
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let need = need(project, env, Some(to.to_owned()));
    let amount = Amount::new(env.min_ram_mb, env.min_disk_gb);
    let chosen = ctx.caches.reserved.reserve(&elsewhere(&record.uid().unwrap_or_default()), |sums| {
        if record.spec.docker_server.is_none() && sums.leaving(here) >= LEAVE_AT_ONCE {
            let why = format!("{LEAVE_AT_ONCE} others are on their way from {here}: it waits for its turn");
            return Err(PassError::waiting("Moved", "WaitsItsTurn", why, RETRY));
        }
        let chosen = choose(&need, &candidates(ctx, &sums)).map(|c| Placed { server: c.name.clone(), amount });
        chosen.map_err(|why| PassError::waiting("Moved", NOWHERE, why, RETRY))
    });
    match chosen {
        Ok(_) => Ok(()),
        Err(why) if why.reason == NOWHERE => Err(room::make(ctx, &need, why, pass).await?),
        Err(why) => Err(why),
    }
}

/// Nothing came of it: each holds what its copy says.
pub fn give_back(ctx: &Context, record: &Workspace, warm: &Workspace) {
    confirm(ctx, record, false);
    if let Some(warm) = ctx.caches.workspaces.get(&ObjectRef::from_obj(warm)).filter(|w| w.metadata.uid == warm.metadata.uid) {
        ctx.caches.reserved.seen(&warm);
    }
}

/// What was reserved counts only if it was written down, for a record that is still there. The copy says what counts
/// otherwise.
fn confirm(ctx: &Context, record: &Workspace, saved: bool) {
    let copy = ctx.caches.workspaces.get(&ObjectRef::from_obj(record)).filter(|w| w.metadata.uid == record.metadata.uid);
    match copy {
        Some(_) if saved => {}
        Some(w) if placed(&w).is_some() => ctx.caches.reserved.seen(&w),
        _ => ctx.caches.reserved.gone(&record.uid().unwrap_or_default()),
    }
}

/// All servers with what is reserved on them.
fn candidates(ctx: &Context, sums: &Sums<'_>) -> Vec<Candidate> {
    sums.candidates(ctx.caches.servers.state().iter().map(|s| &**s))
}
