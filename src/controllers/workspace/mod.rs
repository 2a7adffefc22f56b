//! The workspace loop: a record becomes a running, routed container, and stays so.

mod cleanup;
mod elsewhere;
mod execute;
mod fork;
mod images;
mod kept;
mod moves;
mod observe;
mod placement;
mod repositories;
mod restarts;
mod routes;
mod warm;

pub use fork::{copier, is_due};
pub use images::{BuildLogs, Supply, have_one};
pub use moves::{Moves, carrier};
pub use repositories::Clones;
pub use restarts::Restarts;
pub use warm::{of_template, remove};

use super::context::{Context, Place};
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use super::turns::{self, Turn, Turns};
use crate::engine::Engine;
use crate::plan::environment::Environment;
use crate::plan::workspace::{Wanted, WantedNetwork, base_name, shared_base, wanted};
use crate::resource::conditions::{condition, unknown};
use crate::resource::names::Slug;
use crate::resource::{DockerServer, NetworkMode, Project, Workspace, WorkspacePhase, WorkspaceStatus, labels};
use async_trait::async_trait;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Containers are compared with their records by their server's full list, each minute. What a list does not show,
/// whether services still take connections, is asked this often.
const RESYNC: Duration = Duration::from_secs(3600);
/// A server that comes back, or was listed, wakes its workspaces; this is in case nobody does.
const SOME_TIME: Duration = Duration::from_secs(15);

/// The workspace loop: what it works with, and the turns of its passes.
pub struct Workspaces(Context, Turns);

#[async_trait]
impl Loop for Workspaces {
    type Record = Workspace;
    const NAME: &'static str = "workspace";
    const FINALIZER: Option<&'static str> = Some(labels::WORKSPACE_FINALIZER);
    /// Of many servers: how many on one is another matter ([`Turns`](super::turns::Turns)).
    const CONCURRENCY: u16 = 512;

    async fn reconcile(&self, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        if let Some(by) = record.claimed_by() {
            return warm::give_away(&self.0, record, by).await;
        }
        if let Some(server) = pass.status.docker_server.as_deref().and_then(|s| self.0.caches.servers.get(&ObjectRef::new(s))) {
            known(&self.0, &server)?;
        }
        let turn = self.turn(record)?;
        let (project, env) = match self.environment(record) {
            Ok(found) => found,
            Err(why) => {
                kept::keep(&self.0, record, pass).await?;
                return Err(why);
            }
        };
        pass.holds("Resolved", "Resolved");
        // One that nobody has yet is not reached by anybody.
        let is_warm = record.warm_of().is_some();
        if !is_warm {
            self.name_it(pass)?;
        }
        if !record.spec.running && pass.status.docker_server.is_none() {
            stopped(&self.0, record, pass);
            return Ok(());
        }
        moves::advance(&self.0, record, (&project, &env), pass).await?;
        warm::claim(&self.0, record, &project, &env, pass).await?;
        let server = placement::place(&self.0, record, &project, &env, pass).await?;
        let _turn = turn.map_or_else(|| self.first_turn(&server, record), Ok)?;
        let site = site(&self.0, &server).inspect_err(|why| unseen(why, pass))?;
        let wanted = moves::as_carried(wanted_of(&self.0, record, &project, &env, &site), &pass.status);
        fork::fill(&self.0, record, (&project, &env), &site, &wanted, pass).await?;
        self.0.upstreams.guard(&record.uid().unwrap_or_default(), routes::probed(&env));
        if !site.near && !is_warm {
            self.0.upstreams.serves(&record.uid().unwrap_or_default(), routes::served(&env));
        }
        let settled = execute::settle(&self.0, record, &site, &wanted, pass).await?;
        if !record.spec.running {
            stopped(&self.0, record, pass);
            pass.requeue = moves::finish(&self.0, record, (&project, &env), pass).await?;
            return Ok(());
        }
        let again =
            repositories::have(&self.0, record, &env, &site, repositories::is_kept(&env, &wanted, &settled.volumes), pass);
        if !is_warm {
            routes::publish(&self.0, record, &env, pass).await?;
        }
        if !site.near && !env.ports.is_empty() && !is_warm {
            has_gateway(&self.0, &server)?;
        }
        if site.near || !is_warm {
            routes::answering(&self.0, record, &env, &site, pass).await?;
            pass.holds("ServicesAnswering", "Answering");
        }
        if !is_warm {
            routes::live(&self.0, record, pass)?;
        }
        pass.status.phase = WorkspacePhase::Running;
        if let Some(held) = settled.held {
            return Err(held);
        }
        let moves_on = moves::finish(&self.0, record, (&project, &env), pass).await?;
        let resync = self.next_look(settled.listed);
        pass.requeue = Some([again, moves_on].into_iter().flatten().fold(resync, Duration::min));
        Ok(())
    }

    async fn observe(&self, record: &Workspace) -> Result<(), PassError> {
        let _turn = self.turn(record)?;
        if let Ok((_, env)) = self.environment(record) {
            routes::close(&self.0, record, &env).await?;
        }
        match record.server() {
            Some(server) => kept::look(&self.0, record, &site(&self.0, server)?).await,
            None => Ok(()),
        }
    }

    async fn cleanup(&self, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let _turn = self.turn(record)?;
        if warm::is_given_away(&self.0, record).await? {
            cleanup::forget(&self.0, &record.uid().unwrap_or_default());
            return Ok(());
        }
        cleanup::destroy(&self.0, record, pass).await
    }
}

/// A workspace stopped on purpose; its files are kept.
fn stopped(ctx: &Context, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) {
    ctx.restarts.forget(&record.uid().unwrap_or_default());
    pass.status.phase = WorkspacePhase::Stopped;
    let why = "stopped as asked, its files are kept; set spec.running to true to start it";
    for kind in ["ContainerRunning", "ServicesAnswering", "Routed"] {
        pass.set(condition(kind, false, "Stopped", why));
    }
}

/// What runs on a server that cannot be asked: nobody knows whether it does.
fn unseen(why: &PassError, pass: &mut Pass<WorkspaceStatus>) {
    if matches!(why.reason, "ServerUnreachable" | "ServerGone") && pass.status.container_id.is_some() {
        for kind in ["ContainerRunning", "ServicesAnswering"] {
            pass.set(unknown(kind, why.reason, why.message.clone()));
        }
    }
}

/// The address of a container on another machine may be that of a stranger's container on this one: what leads there is the gateway
/// on that machine, or nothing.
fn has_gateway(ctx: &Context, server: &str) -> Result<(), PassError> {
    let why = match ctx.gateways.state(server) {
        Some(Ok(())) => return Ok(()),
        Some(Err(why)) => format!("does not answer ({why})"),
        None => "is not there yet".to_owned(),
    };
    let message = format!(
        "it runs on {server}, which is another machine, and the gateway there, which its routes go through, {why}: the condition \
         GatewayReady of the server says more. `devsanctum exec` reaches it meanwhile"
    );
    Err(PassError::waiting("Routed", "NoGateway", message, SOME_TIME))
}

/// Where a workspace lives.
pub struct Site {
    /// Its server.
    pub server: String,
    /// That server's engine.
    pub engine: Arc<dyn Engine>,
    /// The network workspaces share there, or that each has its own.
    pub network: NetworkMode,
    /// The addresses of its containers lead to them from here.
    pub near: bool,
}

impl Site {
    /// Where a container with this address is reached.
    pub fn place(&self, address: Option<IpAddr>) -> Option<Place> {
        address.map(|address| Place { address, beyond: (!self.near).then(|| self.server.clone()) })
    }

    /// The network of the workspace whose objects' names begin with `base`.
    pub fn network_of(&self, ctx: &Context, base: &str) -> WantedNetwork {
        match self.network {
            NetworkMode::SharedBridge => WantedNetwork::Shared(super::server::shared_network(&ctx.instance)),
            NetworkMode::PerWorkspace => WantedNetwork::Own(base.to_owned()),
        }
    }
}

/// The server so named, if it can be used now.
fn site(ctx: &Context, server: &str) -> Result<Site, PassError> {
    let Some(record) = ctx.caches.servers.get(&ObjectRef::new(server)) else {
        let message = format!(
            "server {server:?}, which holds this workspace, is no longer registered; register it again or delete the workspace"
        );
        return Err(PassError::stalled("Scheduled", "ServerGone", message));
    };
    known(ctx, &record)?;
    let Some(engine) = ctx.engines.get(server) else {
        if labels::is_suspended(&*record) {
            let message = format!("server {server:?} is suspended (annotation {}): nothing is done on it", labels::SUSPEND);
            return Err(PassError::waiting("Scheduled", "ServerSuspended", message, SOME_TIME));
        }
        let message = format!("server {server:?} does not answer; see `describe dockerserver {server}`");
        return Err(PassError::waiting("Scheduled", "ServerUnreachable", message, SOME_TIME));
    };
    let Some(network) = record.status.as_ref().and_then(|s| s.network_mode) else {
        let message = format!("server {server:?} is still being prepared");
        return Err(PassError::waiting("Scheduled", "ServerNotReady", message, Duration::from_secs(5)));
    };
    Ok(Site { server: server.to_owned(), engine, network, near: ctx.is_near(server) })
}

/// Just after a start, what the records say of a server's workspaces is likelier true than that it does not answer; and
/// its first list saves asking about each of its containers.
fn known(ctx: &Context, server: &DockerServer) -> Result<(), PassError> {
    let name = server.name_any();
    if !ctx.engines.tried(&name) && !labels::is_suspended(server) {
        return Err(PassError::unknown(format!("server {name:?} was not tried yet"), SOME_TIME));
    }
    if ctx.engines.get(&name).is_some() && !ctx.engines.listed(&name) {
        return Err(PassError::unknown(format!("server {name:?} is being listed"), SOME_TIME));
    }
    Ok(())
}

/// What the workspace should have on its server.
fn wanted_of(ctx: &Context, record: &Workspace, project: &Project, env: &Environment, site: &Site) -> Wanted {
    let namespace = record.namespace().unwrap_or_default();
    let base = base_name(&record.identity());
    let shared = shared_base(&namespace, &project.uid().unwrap_or_default());
    let wanted = wanted(&base, &shared, env, &record.spec.env, site.network_of(ctx, &base));
    let recreate = record.annotations().get(labels::RECREATE) == Some(&wanted.main.digest);
    Wanted { running: record.spec.running, recreate, ..wanted }
}

impl Workspaces {
    /// With what all loops have.
    pub fn new(ctx: Context) -> Self {
        let turns = Turns::new(ctx.triggers.workspaces.clone(), ctx.caches.workspaces.clone());
        Self(ctx, turns)
    }

    /// When to look again although nothing happens, spread so that a fleet is not looked at all at once. What somebody started
    /// while no control plane ran is not told by a list, but by a closer look soon after.
    fn next_look(&self, listed: bool) -> Duration {
        let jitter = self.0.frame.clock.jitter();
        let usual = RESYNC.mul_f64(0.75 + 0.5 * jitter);
        if listed { usual.min(self.0.resync.mul_f64(0.5 + jitter)) } else { usual }
    }

    /// A turn on the server that it is on, if it is on one.
    fn turn(&self, record: &Workspace) -> Result<Option<Turn>, PassError> {
        let Some(server) = record.server() else { return Ok(None) };
        let turn = self.1.take(server, record);
        // What it says of itself goes on being so.
        turn.map(Some).ok_or_else(|| PassError::unknown(turns::busy(server), turns::IN_CASE))
    }

    /// A turn on the server that it has just been placed on.
    fn first_turn(&self, server: &str, record: &Workspace) -> Result<Turn, PassError> {
        let turn = self.1.take(server, record);
        turn.ok_or_else(|| PassError::waiting("Scheduled", "ServerBusy", turns::busy(server), turns::IN_CASE))
    }

    fn environment(&self, record: &Workspace) -> Result<(Arc<Project>, Arc<Environment>), PassError> {
        let name = record.namespace().unwrap_or_default();
        match self.0.caches.environments.of(&self.0.caches, record) {
            Some(found) => found.map_err(|e| PassError::stalled("Resolved", e.reason, e.message)),
            None => Err(PassError::stalled("Resolved", "ProjectNotFound", format!("project {name:?} does not exist"))),
        }
    }

    /// Draws the workspace's public name; it is written together with the placement, before anything uses it.
    fn name_it(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        if pass.status.slug.is_none() {
            let slug = Slug::drawn(|| self.0.frame.clock.draw())
                .map_err(|e| PassError::transient("Ready", "NoRandomness", e.to_string()))?;
            pass.status.slug = Some(slug.to_string());
        }
        Ok(())
    }
}
