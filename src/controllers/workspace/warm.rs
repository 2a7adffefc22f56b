//! Warm environments: workspaces of nobody, made by the template loop before they are asked for, whose Docker objects a new
//! workspace takes over as they are.
//!
//! A claim is two writes. The first, on the warm environment, names the workspace and its revision, and fails when another
//! was quicker. The second, on the workspace, is made over that revision alone: from then on the objects are its own. Who
//! finds the first without the second knows from the workspace's revision whether the second can still come, and the next
//! pass over that revision goes on with it.

use super::placement;
use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::{Pass, Record};
use crate::plan::environment::Environment;
use crate::plan::workspace::{WantedNetwork, base_name, shared_base, wanted};
use crate::resource::{ClaimedBy, Project, Workspace, WorkspacePhase, WorkspaceStatus};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A claim becomes true or void within a pass; its change brings the next look, and this is in case it does not.
const UNDECIDED: Duration = Duration::from_secs(2);

/// Takes over a warm environment that is what the workspace wants, where there is one. Then everything there is its own from
/// the next pass on, and this is the error that says so.
pub async fn claim(
    ctx: &Context,
    record: &Workspace,
    project: &Project,
    env: &Environment,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let asked_for = record.spec.running && record.spec.from.is_none() && record.warm_of().is_none();
    // After a restore nobody knows what was done in an environment since the backup.
    // One that was made before is somewhere, and has what it wants there.
    let was_made = pass.status.environment.is_some() || pass.status.took_over.is_some();
    if !asked_for || was_made || pass.status.docker_server.is_some() || ctx.restored().is_some() {
        return Ok(());
    }
    let by = ClaimedBy {
        namespace: record.namespace().unwrap_or_default(),
        name: record.name_any(),
        uid: record.uid().unwrap_or_default(),
        resource_version: pass.revision().unwrap_or_default().to_owned(),
    };
    let mut all = ctx.caches.workspaces.in_order(|w| is_to_be_had(w, &project.spec.template, &by));
    all.sort_by_key(|w| w.claimed_by().is_none());
    for warm in all {
        if !is_the_same(record, project, env, &warm) {
            continue;
        }
        let Some(server) = warm.server() else { continue };
        if placement::take_over(ctx, record, project, env, &warm, server).is_err() {
            continue;
        }
        let taken = take(ctx, record, &warm, by.clone(), env, pass).await;
        if !matches!(taken, Ok(true)) {
            placement::give_back(ctx, record, &warm);
        }
        if taken? {
            let what = format!("took over warm environment {}", warm.name_any());
            pass.did(&what);
            return Err(PassError::waiting("ContainerRunning", "TookOver", what, Duration::ZERO));
        }
    }
    Ok(())
}

fn is_to_be_had(w: &Workspace, template: &str, by: &ClaimedBy) -> bool {
    let of = w.warm_of().is_some_and(|(name, _)| name == template);
    let runs = w.status.as_ref().is_some_and(|s| s.phase == WorkspacePhase::Running);
    of && runs && w.claimed_by().is_none_or(|it| it == by) && w.metadata.deletion_timestamp.is_none()
}

/// Whether its container is what the workspace's would be, had it the same names.
fn is_the_same(record: &Workspace, project: &Project, env: &Environment, warm: &Workspace) -> bool {
    let shared = shared_base(&project.name_any(), &project.uid().unwrap_or_default());
    let base = base_name(&warm.identity());
    let wanted = wanted(&base, &shared, env, &record.spec.env, WantedNetwork::Own(base.clone()));
    warm.status.as_ref().and_then(|s| s.environment.as_ref()) == Some(&wanted.main.digest)
}

async fn take(
    ctx: &Context,
    record: &Workspace,
    warm: &Workspace,
    by: ClaimedBy,
    env: &Environment,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<bool, PassError> {
    if warm.claimed_by() != Some(&by) {
        let body = json!({"metadata": {"resourceVersion": warm.resource_version()}, "status": {"claimedBy": by}});
        let api = Workspace::api(&ctx.frame.client, warm.namespace().as_deref());
        let params = PatchParams { field_manager: Some("devsanctum-workspace".into()), ..PatchParams::default() };
        match api.patch_status(&warm.name_any(), &params, &Patch::Merge(body)).await {
            // Another workspace was quicker, or it is going.
            Err(kube::Error::Api(s)) if s.code == 409 || s.code == 404 => return Ok(false),
            done => drop(done?),
        }
    }
    let theirs = warm.status.clone().unwrap_or_default();
    pass.status.took_over = Some(warm.identity());
    pass.status.docker_server = theirs.docker_server;
    pass.status.reserved_ram_mb = Some(env.min_ram_mb);
    pass.status.reserved_disk_gb = Some(env.min_disk_gb);
    pass.status.container_id = theirs.container_id;
    pass.status.image = theirs.image;
    pass.status.phase = WorkspacePhase::Starting;
    pass.save(record).await?;
    Ok(true)
}

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// The objects are the workspace's.
    Made,
    /// They will never be.
    Void,
    /// Either may come.
    Open,
}

async fn outcome(ctx: &Context, warm: &Workspace, by: &ClaimedBy) -> Result<Claim, PassError> {
    let api = Workspace::api(&ctx.frame.client, Some(&by.namespace));
    let Some(now) = api.get_opt(&by.name).await?.filter(|w| w.uid().as_ref() == Some(&by.uid)) else { return Ok(Claim::Void) };
    let took_over = now.status.as_ref().and_then(|s| s.took_over.as_ref());
    Ok(match took_over {
        Some(identity) if Some(&identity.uid) == warm.uid().as_ref() => Claim::Made,
        _ if now.resource_version().as_ref() == Some(&by.resource_version) => Claim::Open,
        _ => Claim::Void,
    })
}

fn open(by: &ClaimedBy) -> PassError {
    let message = format!("workspace {}/{} is taking it over", by.namespace, by.name);
    PassError::unknown(message, UNDECIDED)
}

/// A warm environment that was claimed is no workspace any more. Nothing of it is touched until its record goes.
pub async fn give_away(ctx: &Context, warm: &Workspace, by: &ClaimedBy) -> Result<(), PassError> {
    if outcome(ctx, warm, by).await? != Claim::Open {
        remove(ctx, warm).await?;
    }
    Err(open(by))
}

/// Deletes the record of a warm environment, unless it was claimed meanwhile.
pub async fn remove(ctx: &Context, warm: &Workspace) -> Result<(), PassError> {
    let api = Workspace::api(&ctx.frame.client, warm.namespace().as_deref());
    let preconditions = Some(Preconditions { uid: warm.uid(), resource_version: warm.resource_version() });
    match api.delete(&warm.name_any(), &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Err(kube::Error::Api(s)) if s.code == 404 => Ok(()),
        done => done.map(drop).map_err(PassError::from),
    }
}

/// Whether what carries the names of a record that goes is another's by now.
pub async fn is_given_away(ctx: &Context, record: &Workspace) -> Result<bool, PassError> {
    let Some(by) = record.claimed_by() else { return Ok(false) };
    match outcome(ctx, record, by).await? {
        Claim::Made => Ok(true),
        Claim::Void => Ok(false),
        Claim::Open => Err(open(by)),
    }
}

/// The warm environments of a template that nobody has claimed.
pub fn of_template(ctx: &Context, uid: &str) -> Vec<Arc<Workspace>> {
    let waits = |w: &Workspace| w.claimed_by().is_none() && w.metadata.deletion_timestamp.is_none();
    ctx.caches.workspaces.in_order(|w| w.warm_of().is_some_and(|(_, of)| of == uid) && waits(w))
}
