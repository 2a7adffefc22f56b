//! The loops: observe, plan, execute. They know the records through the Kubernetes API alone, so the same code
//! runs in process, beside another replica, or against a real cluster.

mod activity;
mod caches;
mod context;
mod copy;
pub mod endpoint;
mod environments;
mod events;
mod feature;
mod figures;
mod gateways;
mod herald;
mod idle;
mod invitation;
mod lifecycle;
mod listings;
mod own_routes;
mod project;
mod registries;
mod report;
pub mod reserved;
mod retry;
mod route;
mod server;
mod skeleton;
mod status;
mod takeovers;
mod template;
mod triggers;
mod turns;
mod workspace;

pub use activity::Touched;
pub use context::SecretReader;
pub use figures::Figures;
pub use herald::{Herald, Life, NoHerald, Notice};
pub use invitation::{Courier, Invitations, invitations};
pub use report::{LoopReport, Outcome, PassObserver, PassReport, Reports};
pub use triggers::Queue;
pub use workspace::BuildLogs;

use crate::clock::Clock;
use crate::engine::{Connector, Fence};
use crate::proxy::Proxy;
use activity::Activity;
use context::{Context, Engines, Upstreams};
use futures::StreamExt;
use futures::future::BoxFuture;
use kube::Client;
use lifecycle::Lifecycles;
use skeleton::Frame;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often everything on a server is listed although no event said so.
pub const RESYNC: Duration = Duration::from_secs(60);

/// What the loops need from outside.
pub struct Parts {
    /// The API.
    pub client: Client,
    /// This installation's identity.
    pub instance: String,
    /// Makes connections to engines.
    pub connector: Arc<dyn Connector>,
    /// The reverse proxy.
    pub proxy: Arc<dyn Proxy>,
    /// Secrets' values.
    pub secrets: Arc<dyn SecretReader>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// Where passes are noted.
    pub reports: Arc<Reports>,
    /// Where the proxy is reached, where the settings do not say.
    pub public: Public,
    /// Port of the API, which no workspace is to reach.
    pub api_port: Option<u16>,
    /// How often everything on a server is listed although no event said so; [`RESYNC`] unless there is a reason.
    pub resync: Duration,
    /// Set to true once every record was seen and the first route table is published.
    pub ready: watch::Sender<bool>,
    /// Ends the loops.
    pub stop: CancellationToken,
    /// Whether the loops may act at all.
    pub fence: Fence,
    /// Where what builders say is kept.
    pub builds: Arc<BuildLogs>,
    /// What stops and destroys workspaces by itself needs.
    pub life: Life,
}

/// How people reach the proxy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Public {
    /// Its port, where the settings name none.
    pub port: Option<u16>,
    /// It speaks TLS, whatever the settings say.
    pub tls: bool,
}

/// Runs all loops until told to stop (`Ok`) or until one of them ends by itself (`Err` names it): a control plane
/// with a loop missing is worse than one that restarts.
///
/// # Errors
/// The name of the loop that ended.
pub async fn run(parts: Parts) -> Result<(), String> {
    let Parts {
        client,
        instance,
        connector,
        proxy,
        secrets,
        clock,
        reports,
        public,
        api_port,
        resync,
        ready,
        stop,
        fence,
        builds,
        life,
    } = parts;
    let (triggers, listening) = triggers::Triggers::new();
    let (caches, mut feeds, listed) = caches::start(&client, &triggers);
    let ctx = Context {
        frame: Frame { client, clock, reports, stop: stop.clone(), fence },
        instance,
        caches: caches.clone(),
        triggers,
        connector,
        secrets,
        proxy,
        engines: Engines::default(),
        upstreams: Upstreams::default(),
        gateways: gateways::Gateways::default(),
        public,
        api_port,
        resync,
        listings: Arc::default(),
        supply: Arc::default(),
        builds,
        clones: Arc::default(),
        moves: Arc::default(),
        restarts: Arc::default(),
    };
    // A loop that saw only half the records would conclude wrong things from what it does not see.
    tokio::select! {
        () = listed.all() => {}
        () = stop.cancelled() => return Ok(()),
        ended = feeds.next() => return Err(format!("the watch of {} ended", ended.unwrap_or("all kinds"))),
    }
    let triggers::Listening { workspaces, lifecycles, routes, projects, templates, features, servers } = listening;
    let table = route::Table::new(ctx.clone());
    let activity = Activity::new(ctx.clone(), life.touched);
    let lifecycle = Lifecycles::new(ctx.clone(), activity, life.herald);
    let frame = || ctx.frame.clone();
    let loops: [(&str, BoxFuture<'_, ()>); 8] = [
        ("workspace", Box::pin(skeleton::run(workspace::Workspaces::new(ctx.clone()), frame(), caches.workspaces, workspaces))),
        ("lifecycle", Box::pin(lifecycle.run(ctx.caches.workspaces.clone(), lifecycles))),
        ("route", Box::pin(skeleton::run(route::Routes(ctx.clone(), table.clone()), frame(), caches.routes, routes))),
        ("project", Box::pin(skeleton::run(project::Projects(ctx.clone()), frame(), caches.projects, projects))),
        ("template", Box::pin(skeleton::run(template::Templates(ctx.clone()), frame(), caches.templates, templates))),
        ("feature", Box::pin(skeleton::run(feature::Features(ctx.clone()), frame(), caches.features, features))),
        ("server", Box::pin(skeleton::run(server::Servers::new(ctx.clone()), frame(), caches.servers, servers))),
        ("route table", Box::pin(table.keep(ready))),
    ];
    let mut running: futures::stream::FuturesUnordered<_> = loops
        .into_iter()
        .map(|(name, run)| async move {
            run.await;
            name
        })
        .collect();
    loop {
        tokio::select! {
            ended = running.next() => match ended {
                Some(name) if !stop.is_cancelled() => return Err(format!("the {name} loop ended")),
                Some(_) => {}
                None => return Ok(()),
            },
            ended = feeds.next() => return Err(format!("the watch of {} ended", ended.unwrap_or("all kinds"))),
        }
    }
}
