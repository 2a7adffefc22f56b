//! Workspaces that are not brought to where their records say, and go on as they are: suspended ones, and those whose
//! environment cannot be worked out because a record they depend on is wrong.

use super::{Site, execute, fork, moves, site};
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::engine::ownership::Ownership;
use crate::engine::{ContainerState, ContainerSummary, EngineError};
use crate::plan::workspace::base_name;
use crate::resource::{Workspace, WorkspacePhase, WorkspaceStatus};
use std::time::Duration;
use tokio::time::Instant;

/// How long a container has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Notes where the workspace is reached, if what runs under its name is provably its own. Changes nothing.
pub async fn look(ctx: &Context, record: &Workspace, site: &Site) -> Result<(), PassError> {
    let owner = execute::owner(ctx, record);
    let base = base_name(&owner.identity);
    let main = match ctx.listings.take(&owner.identity.uid).filter(|c| c.name == base) {
        Some(listed) => Some(listed),
        None => site.engine.inspect(&base).await.map_err(|e| PassError::engine("ContainerRunning", &e))?,
    };
    let main = main.filter(|c| c.state == ContainerState::Running && owner.of("main").proves(&c.labels));
    let network = site.network_of(ctx, &base);
    let address = main.and_then(|c| c.networks.get(network.name()).copied().flatten());
    ctx.reached(&owner.record, site.place(address));
    Ok(())
}

/// Keeps what there is, where the environment is not known: nothing is made or removed, but it is started, stopped and
/// routed as ever.
pub async fn keep(ctx: &Context, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
    let Some(server) = pass.status.docker_server.clone() else { return Ok(()) };
    let (site, owner) = (site(ctx, &server)?, execute::owner(ctx, record));
    let failed = |e| PassError::engine("ContainerRunning", &e);
    let mut own = site.engine.containers(Some(&owner.identity.uid)).await.map_err(failed)?;
    let base = base_name(&owner.identity);
    let helpers = [fork::copier(&base), moves::carrier(&base)];
    own.retain(|c| Ownership::of_record(&c.labels, "Workspace", &owner.identity.uid) && !helpers.contains(&c.name));
    // Companions live in the main container's network: it is started first and stopped last.
    own.sort_by_key(|c| (c.name == base) != record.spec.running);
    let main = own.iter().find(|c| c.name == base && c.state == ContainerState::Running && record.spec.running);
    let network = site.network_of(ctx, &base);
    let address = main.and_then(|c| c.networks.get(network.name()).copied().flatten());
    ctx.reached(&owner.record, site.place(address));
    pass.status.address = address.map(|a| a.to_string());
    for c in &own {
        let done = set_running(ctx, &site, &owner.record, c, record.spec.running).await.map_err(failed)?;
        done.into_iter().for_each(|did| pass.did(format!("{did} container {}", c.name)));
    }
    if !record.spec.running {
        pass.status.phase = WorkspacePhase::Stopped;
    }
    Ok(())
}

async fn set_running(
    ctx: &Context,
    site: &Site,
    uid: &str,
    c: &ContainerSummary,
    wanted: bool,
) -> Result<Option<&'static str>, EngineError> {
    let engine = &site.engine;
    match (wanted, c.state) {
        (true, ContainerState::Paused) => engine.unpause(&c.id).await.map(|()| Some("thawed")),
        (true, ContainerState::Created | ContainerState::Exited) => {
            if ctx.restarts.allow(uid, &c.name, Instant::now()).is_err() {
                return Ok(None);
            }
            engine.start(&c.id).await.map(|()| Some("started"))
        }
        (false, ContainerState::Paused | ContainerState::Running) => {
            engine.unpause(&c.id).await?;
            engine.stop(&c.id, GRACE).await.map(|()| Some("stopped"))
        }
        _ => Ok(None),
    }
}
