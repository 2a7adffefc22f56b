//! The workspace loop: a record becomes a running, routed container, and stays so.

mod cleanup;
mod execute;
mod images;
mod observe;
mod placement;
mod restarts;
mod routes;

pub use images::Pulls;
pub use placement::Assumed;
pub use restarts::Restarts;

use super::context::Context;
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use crate::engine::Engine;
use crate::plan::environment::{Environment, resolve};
use crate::plan::workspace::{Wanted, WantedNetwork, base_name, wanted};
use crate::resource::conditions::condition;
use crate::resource::names::Slug;
use crate::resource::{NetworkMode, Project, Workspace, WorkspacePhase, WorkspaceStatus, labels};
use async_trait::async_trait;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Containers are compared with their records by their server's full list, each minute. What a list does not show,
/// whether services still take connections, is asked this often.
const RESYNC: Duration = Duration::from_secs(3600);
/// A server not tried yet is heard of when it was; this is in case it is not.
const UNTRIED: Duration = Duration::from_secs(15);

/// The workspace loop.
pub struct Workspaces(pub Context);

#[async_trait]
impl Loop for Workspaces {
    type Record = Workspace;
    const NAME: &'static str = "workspace";
    const FINALIZER: Option<&'static str> = Some(labels::WORKSPACE_FINALIZER);

    async fn reconcile(&self, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let (project, env) = match self.environment(record) {
            Ok(found) => found,
            Err(e) => {
                // What runs meanwhile keeps its routes.
                let _ = self.observe(record).await;
                return Err(e);
            }
        };
        pass.holds("Resolved", "Resolved");
        self.name_it(pass)?;
        if !record.spec.running && pass.status.docker_server.is_none() {
            stopped(pass);
            return Ok(());
        }
        let server = placement::place(&self.0, record, &project, &env, pass).await?;
        let engine = self.engine(&server)?;
        let wanted = self.wanted(record, &env, &server, pass)?;
        if record.spec.running {
            images::have(&self.0, &server, &engine, &wanted, pass).await?;
        }
        let settled = execute::settle(&self.0, record, engine.as_ref(), &wanted, pass).await;
        let main = settled.inspect_err(|e| self.unroute(record, e))?;
        up_to_date(&wanted, main.as_ref().map(|m| m.digest.as_str()), pass);
        let uid = record.uid().unwrap_or_default();
        let address = main.as_ref().and_then(|m| m.address).filter(|_| record.spec.running);
        pass.status.address = address.map(|a| a.to_string());
        let near = self.0.is_near(&server);
        self.lead_to(&uid, address.filter(|_| near));
        if !record.spec.running {
            stopped(pass);
            return Ok(());
        }
        routes::publish(&self.0, record, &env, pass).await?;
        if !near && !env.ports.is_empty() {
            return Err(no_gateway(&server));
        }
        routes::answering(&env, address).await?;
        pass.holds("ServicesAnswering", "Answering");
        routes::live(&self.0, record, pass)?;
        pass.status.phase = WorkspacePhase::Running;
        pass.requeue = Some(RESYNC.mul_f64(0.75 + 0.5 * self.0.frame.clock.jitter()));
        Ok(())
    }

    async fn observe(&self, record: &Workspace) -> Result<(), PassError> {
        let Some(server) = record.status.as_ref().and_then(|s| s.docker_server.as_deref()) else { return Ok(()) };
        let address = execute::look(&self.0, record, self.engine(server)?.as_ref()).await?;
        self.lead_to(&record.uid().unwrap_or_default(), address.filter(|_| self.0.is_near(server)));
        Ok(())
    }

    async fn cleanup(&self, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        cleanup::destroy(&self.0, record, pass).await
    }
}

/// A workspace stopped on purpose; its files are kept.
fn stopped(pass: &mut Pass<WorkspaceStatus>) {
    pass.status.phase = WorkspacePhase::Stopped;
    let why = "stopped as asked, its files are kept; set spec.running to true to start it";
    for kind in ["ContainerRunning", "ServicesAnswering", "Routed"] {
        pass.set(condition(kind, false, "Stopped", why));
    }
}

/// The address of a container on another machine may be that of a stranger's container on this one.
fn no_gateway(server: &str) -> PassError {
    let message = format!(
        "it runs on {server}, which is another machine: routes to other machines are not there yet. Use `devsanctum exec`, or a \
         server on the control plane's own machine"
    );
    PassError::stalled("Routed", "NoGateway", message)
}

/// Just after a start, what the records say of a server's workspaces is likelier true than that it does not answer.
fn untried(ctx: &Context, server: &str) -> Result<(), PassError> {
    if ctx.engines.tried(server) {
        return Ok(());
    }
    Err(PassError::unknown(format!("server {server:?} was not tried yet"), UNTRIED))
}

/// Says when the container was made from an older environment than the records now describe.
fn up_to_date(wanted: &Wanted, made_from: Option<&str>, pass: &mut Pass<WorkspaceStatus>) {
    let Some(made_from) = made_from else { return };
    pass.status.environment = Some(made_from.to_owned());
    pass.notice(if made_from == wanted.main.digest {
        condition("UpToDate", true, "UpToDate", "")
    } else {
        let message = format!(
            "its template, features or env have changed since its container was made; to make it anew (its folders stay, the rest \
             of its file system is lost) set the annotation {}={}",
            labels::RECREATE,
            wanted.main.digest
        );
        condition("UpToDate", false, "EnvironmentChanged", message)
    });
}

impl Workspaces {
    /// The address of a container that does not come up may soon be another's. One that merely cannot be asked about
    /// keeps its routes.
    fn unroute(&self, record: &Workspace, e: &PassError) {
        let unknown = matches!(e.reason, "EngineUnreachable" | "EngineDenied");
        if !unknown {
            self.lead_to(&record.uid().unwrap_or_default(), None);
        }
    }

    /// Where its routes lead from now on.
    fn lead_to(&self, uid: &str, address: Option<IpAddr>) {
        if self.0.upstreams.set(uid, address) {
            self.0.triggers.route_table.notify_one();
        }
    }

    fn environment(&self, record: &Workspace) -> Result<(Arc<Project>, Environment), PassError> {
        let name = record.namespace().unwrap_or_default();
        let Some(project) = self.0.caches.projects.get(&ObjectRef::new(&name)) else {
            return Err(PassError::stalled("Resolved", "ProjectNotFound", format!("project {name:?} does not exist")));
        };
        match resolve(&project.spec, &self.0.settings().images, &self.0.caches) {
            Ok(env) => Ok((project, env)),
            Err(e) => Err(PassError::stalled("Resolved", e.reason, e.message)),
        }
    }

    /// Draws the workspace's public name; it is written together with the placement, before anything uses it.
    fn name_it(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        if pass.status.slug.is_none() {
            let slug = Slug::random().map_err(|e| PassError::transient("Ready", "NoRandomness", e.to_string()))?;
            pass.status.slug = Some(slug.to_string());
        }
        Ok(())
    }

    fn engine(&self, server: &str) -> Result<Arc<dyn Engine>, PassError> {
        if let Some(engine) = self.0.engines.get(server) {
            return Ok(engine);
        }
        if self.0.caches.servers.get(&ObjectRef::new(server)).is_none() {
            let message = format!(
                "server {server:?}, which holds this workspace, is no longer registered; register it again or delete the workspace"
            );
            return Err(PassError::stalled("Scheduled", "ServerGone", message));
        }
        untried(&self.0, server)?;
        let message = format!("server {server:?} does not answer; see `describe dockerserver {server}`");
        Err(PassError::waiting("Scheduled", "ServerUnreachable", message, Duration::from_secs(15)))
    }

    fn wanted(
        &self,
        record: &Workspace,
        env: &Environment,
        server: &str,
        pass: &Pass<WorkspaceStatus>,
    ) -> Result<Wanted, PassError> {
        let (project, uid) = (record.namespace().unwrap_or_default(), record.uid().unwrap_or_default());
        let base = base_name(&project, &record.name_any(), &uid);
        let host = self.0.caches.servers.get(&ObjectRef::new(server));
        let network = match host.and_then(|s| s.status.as_ref().and_then(|s| s.network_mode)) {
            Some(NetworkMode::SharedBridge) => WantedNetwork::Shared(super::server::shared_network(&self.0.instance)),
            Some(NetworkMode::PerWorkspace) => WantedNetwork::Own(base.clone()),
            None => {
                let message = format!("server {server:?} is still being prepared");
                return Err(PassError::waiting("Scheduled", "ServerNotReady", message, Duration::from_secs(5)));
            }
        };
        let wanted = wanted(&base, &project, env, &record.spec.env, network);
        let recreate = record.annotations().get(labels::RECREATE) == Some(&wanted.main.digest);
        Ok(Wanted { running: record.spec.running, recorded_digest: pass.status.environment.clone(), recreate, ..wanted })
    }
}
