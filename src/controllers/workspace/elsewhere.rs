//! What a workspace has on another server than its record says, as after a restore from before it moved: nothing is made in its
//! place.

use super::Site;
use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::copy::Copy;
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::resource::{DockerServer, Workspace, WorkspacePhase, WorkspaceStatus, labels};
use futures::future::join_all;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// A server that answers again does not wake whom it may concern.
const RETRY: Duration = Duration::from_secs(30);
/// Just after a start each server is tried.
const SOON: Duration = Duration::from_secs(1);

/// Looks on all servers but its own before anything is made anew for one that was made before, or may have been.
///
/// # Errors
/// Where there is what is not on its own, or may be, and what to do.
pub async fn refuse(ctx: &Context, record: &Workspace, site: &Site, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
    let (restored, made) = (ctx.restored(), was_made(record));
    if restored.is_none() && !made {
        return Ok(());
    }
    // What is on both while it moves is the move's to judge.
    let is_other = |name: &str| name != site.server && !pass.status.moving.as_ref().is_some_and(|it| it.concerns(name));
    let others = ctx.caches.servers.in_order(|server| is_other(&server.name_any()));
    if others.is_empty() {
        return Ok(());
    }
    let uid = record.identity().uid;
    let untried = |name: &String| ctx.engines.get(name).is_none() && !ctx.engines.tried(name);
    // One that is going is not tried any more.
    let is_tried =
        |server: &&Arc<DockerServer>| !labels::is_suspended(&***server) && server.metadata.deletion_timestamp.is_none();
    let names = others.iter().filter(is_tried).map(|server| server.name_any());
    if let Some(name) = names.into_iter().find(untried) {
        return Err(PassError::unknown(format!("server {name:?} was not tried yet"), SOON));
    }
    let own = Copy::on(site.engine.as_ref(), &uid).await.map_err(|e| PassError::engine("ContainerRunning", &e))?;
    let looked = look(ctx, &uid, &others).await;
    let has_more = |(name, there): &(String, Option<Copy>)| {
        let names = there.as_ref()?.missing(&own).join(", ");
        Some(format!("on {name}: {names}")).filter(|_| !names.is_empty())
    };
    let found: Vec<String> = looked.iter().filter_map(has_more).collect();
    let first = looked.iter().find(|seen| has_more(seen).is_some()).map(|(name, _)| name.as_str());
    let unknown: Vec<&str> = looked.iter().filter(|(_, there)| there.is_none()).map(|(name, _)| name.as_str()).collect();
    let why = match (first, restored) {
        (Some(there), _) => is_elsewhere(record, site, there, &found.join("; ")),
        (None, Some(at)) if made && own.is_empty() && !unknown.is_empty() => may_be_elsewhere(site, &at, &unknown.join(", ")),
        _ => return Ok(()),
    };
    pass.status.phase = WorkspacePhase::Pending;
    Err(why)
}

/// What servers have of a workspace; nothing is known of one that cannot be asked.
pub async fn look(ctx: &Context, uid: &str, servers: &[Arc<DockerServer>]) -> Vec<(String, Option<Copy>)> {
    let look = async |name: String| {
        let there = match ctx.engines.get(&name) {
            Some(engine) => Copy::on(engine.as_ref(), uid).await.ok(),
            None => None,
        };
        (name, there)
    };
    join_all(servers.iter().map(|server| look(server.name_any()))).await
}

/// Whether the record says that its container was made once.
fn was_made(record: &Workspace) -> bool {
    record.status.as_ref().is_some_and(|s| s.container_id.is_some() || s.started_at.is_some() || s.environment.is_some())
}

fn is_elsewhere(record: &Workspace, site: &Site, there: &str, found: &str) -> PassError {
    let words = format!(
        "its record says that it is on {}, and this is elsewhere alone: {found}. Nothing is made in its place, and it stays there. \
         `devsanctum workspace move {} --to {there}` (or spec.dockerServer) lets it run there as it is, without a copy; or remove it \
         there by hand, for it to be made anew, empty",
        site.server,
        record.name_any()
    );
    PassError::waiting("ContainerRunning", "DataElsewhere", words, RETRY)
}

fn may_be_elsewhere(site: &Site, at: &str, unknown: &str) -> PassError {
    let words = format!(
        "there is nothing of it on {}, and the records are those of the backup of {at}: it may have moved since, to a server that cannot \
         be asked now ({unknown}). It is looked for there once that answers; to have it made anew, empty, take the annotation {} off \
         the Settings",
        site.server,
        labels::RESTORED
    );
    PassError::waiting("ContainerRunning", "MayBeElsewhere", words, RETRY)
}
