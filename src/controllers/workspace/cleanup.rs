//! A workspace goes for good, and leaves nothing.

use super::site;
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::engine::ownership::Ownership;
use crate::engine::{ContainerState, ContainerSummary, Engine, EngineError, Labels};
use crate::resource::{MoveStatus, Workspace, WorkspacePhase, WorkspaceStatus, labels};
use futures::future::try_join_all;
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::time::Duration;

/// Its files go anyway; this is for what it may still write to shared folders.
const GRACE: Duration = Duration::from_secs(2);

/// Removes everything that carries the workspace's uid, on the server it was placed on. Shared folders are the
/// project's and stay.
pub async fn destroy(ctx: &Context, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
    let (uid, identity) = (record.uid().unwrap_or_default(), record.identity());
    ctx.reached(&uid, None);
    if pass.status.phase != WorkspacePhase::Destroyed {
        pass.status.phase = WorkspacePhase::Destroyed;
        pass.save(record).await?;
    }
    // Nothing more is carried while it goes.
    ctx.moves.forget(&uid);
    // One that cannot be reached must not keep what is on the other one at work.
    let mut kept = None;
    for server in servers(&pass.status) {
        let removed = match site(ctx, &server) {
            Ok(site) => {
                let removed = remove_all(site.engine.as_ref(), &identity.uid, pass).await;
                for image in images(&pass.status) {
                    remove_image(site.engine.as_ref(), &image).await;
                }
                removed.map_err(|e| PassError::engine("Ready", &e))
            }
            Err(e) => Err(e),
        };
        if let Err(e) = removed {
            kept = kept.or(abandon(ctx, record, &server, e, pass).err());
        }
    }
    if let Some(e) = kept {
        return Err(e);
    }
    ctx.listings.forget(&identity.uid);
    forget(ctx, &uid);
    Ok(())
}

/// Forgets what this process knows of a record.
pub fn forget(ctx: &Context, uid: &str) {
    ctx.upstreams.forget(uid);
    ctx.restarts.gone(uid);
    ctx.clones.forget(uid);
    ctx.moves.forget(uid);
}

/// Where there is something of it: in the middle of a move, on two servers.
fn servers(status: &WorkspaceStatus) -> BTreeSet<String> {
    let moving = status.moving.iter().flat_map(|it| [it.from.clone(), it.to.clone()]);
    status.docker_server.iter().cloned().chain(moving).collect()
}

/// What its file system was carried as.
fn images(status: &WorkspaceStatus) -> Vec<String> {
    status.moving.iter().map(MoveStatus::image).chain(status.moved_image.clone()).collect()
}

/// Takes off an image that a file system was carried as. One that stays is collected with those that nothing uses.
pub async fn remove_image(engine: &dyn Engine, image: &str) {
    if let Err(e) = engine.remove_image(image).await {
        tracing::debug!(image, error = %e, "an image that a workspace was moved as stays for now");
    }
}

/// Removes all that carries a workspace's uid on one server.
///
/// # Errors
/// The engine's; some of it may be gone then.
pub async fn remove_all(engine: &dyn Engine, uid: &str, pass: &mut Pass<WorkspaceStatus>) -> Result<(), EngineError> {
    let own = |labels: &Labels| Ownership::of_record(labels, "Workspace", uid);
    let containers: Vec<_> = engine.containers(Some(uid)).await?.into_iter().filter(|c| own(&c.labels)).collect();
    // Where each answer is lost, what has been stopped must not be stopped again for ever.
    let runs =
        |c: &&ContainerSummary| !matches!(c.state, ContainerState::Created | ContainerState::Exited | ContainerState::Dead);
    try_join_all(containers.iter().filter(runs).map(|c| engine.stop(&c.id, GRACE))).await?;
    for container in containers {
        engine.remove(&container.id).await?;
        pass.did(format!("removed container {}", container.name));
    }
    for network in engine.networks(Some(uid)).await?.into_iter().filter(|n| own(&n.labels)) {
        engine.remove_network(&network.id).await?;
        pass.did(format!("removed network {}", network.name));
    }
    for volume in engine.volumes(Some(uid)).await?.into_iter().filter(|v| own(&v.labels)) {
        engine.remove_volume(&volume.name).await?;
        pass.did(format!("removed volume {}", volume.name));
    }
    Ok(())
}

/// A server that will never come back must not hold a record for ever, but letting go is a person's decision.
fn abandon(
    ctx: &Context,
    record: &Workspace,
    server: &str,
    e: PassError,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let left = format!(
        "container {} with its volumes and network (label {}={}) on server {server}",
        pass.status.container_id.as_deref().map_or("(not made yet)", |id| id.get(..12).unwrap_or(id)),
        labels::UID,
        record.identity().uid
    );
    let told = record.annotations().get(labels::ABANDON).is_some_and(|v| v == "true");
    if told || e.reason == "ServerGone" {
        super::super::events::left_behind(ctx, record, &left);
        pass.did(format!("left behind: {left}"));
        return Ok(());
    }
    let message = format!(
        "cannot remove {left}: {}. It is tried again by itself; if the server is gone for ever, set the annotation {}=true to let \
         go and leave it behind",
        e.message,
        labels::ABANDON
    );
    Err(PassError { condition: "Ready", message, ..e })
}
