//! The one route table: made from the records and from what was seen running, told to the proxy as a whole, and
//! compared with what the proxy says it holds.

use crate::controllers::context::Context;
use crate::proxy::{LiveRoutes, RouteEntry, RouteTable};
use crate::resource::Route;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(5);
/// The proxy is given this long to take up a change before others are gathered, doubling up to [`SLOWEST`].
const FIRST_LOOK: Duration = Duration::from_millis(250);
const SLOWEST: Duration = Duration::from_secs(2);
/// At rest the proxy is asked this seldom, in case somebody changed it.
const AT_REST: Duration = Duration::from_secs(30);
/// After this long the first table is told although not every workspace was seen: one dead server must not keep
/// all other routes down.
const FIRST_TABLE: Duration = Duration::from_secs(20);

/// Where a route stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not looked at yet.
    Unknown,
    /// Its workspace was not seen running.
    NoUpstream,
    /// Told to the proxy.
    Published(SocketAddr),
    /// The proxy says it serves it.
    Live(SocketAddr),
    /// The proxy says what is wrong with it.
    Refused(String),
}

/// The route table.
pub struct Table {
    ctx: Context,
    standings: Mutex<BTreeMap<String, Standing>>,
}

impl Table {
    /// An empty table; nothing is told to the proxy yet.
    pub fn new(ctx: Context) -> Arc<Self> {
        Arc::new(Self { ctx, standings: Mutex::default() })
    }

    /// Where a route stands, by the uid of its record.
    pub fn standing(&self, uid: &str) -> Standing {
        self.lock().get(uid).cloned().unwrap_or(Standing::Unknown)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the proxy's table as the records say, until told to stop.
    pub async fn keep(self: Arc<Self>, ready: watch::Sender<bool>) {
        tokio::select! {
            () = self.ctx.frame.stop.cancelled() => {}
            () = async {
                self.first().await;
                // Nobody may be listening any more, which is fine.
                let _ = ready.send(true);
                self.follow().await;
            } => {}
        }
    }

    /// Waits until every workspace was looked at: a table told too early would take down routes that work.
    async fn first(&self) {
        let caches = &self.ctx.caches;
        let begun = Instant::now();
        let unseen =
            || caches.workspaces.state().iter().any(|w| !self.ctx.upstreams.knows(&w.uid().unwrap_or_default()) && placed(w));
        while unseen() && begun.elapsed() < FIRST_TABLE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn follow(&self) {
        let mut told: Option<RouteTable> = None;
        let mut look = FIRST_LOOK;
        loop {
            let wanted = self.wanted();
            if told.as_ref() != Some(&wanted) {
                self.ctx.proxy.publish(&wanted);
                look = FIRST_LOOK;
                told = Some(wanted);
            }
            let settled = self.compare(told.as_ref().unwrap_or(&RouteTable::default()), look).await;
            look = if settled { AT_REST } else { (look * 2).min(SLOWEST) };
            if tokio::time::timeout(look, self.ctx.triggers.route_table.notified()).await.is_ok() {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// The table as records and running containers have it.
    fn wanted(&self) -> RouteTable {
        RouteTable(self.ctx.caches.routes.state().iter().filter_map(|r| Some((r.uid()?, self.entry(r)?))).collect())
    }

    fn entry(&self, route: &Route) -> Option<RouteEntry> {
        if route.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let reference = ObjectRef::new(&route.spec.workspace).within(&route.namespace()?);
        let workspace_uid = self.ctx.caches.workspaces.get(&reference)?.uid()?;
        let address = self.ctx.upstreams.get(&workspace_uid)?;
        Some(RouteEntry {
            host: route.spec.host.clone(),
            upstream: SocketAddr::new(address, route.spec.port),
            protocol: route.spec.protocol,
            visibility: route.spec.visibility,
            workspace_uid,
        })
    }

    /// Asks the proxy what it serves, and wakes the routes whose standing changed. `true`: all is as told.
    async fn compare(&self, told: &RouteTable, patience: Duration) -> bool {
        let live = match self.ctx.proxy.wait_live(patience).await {
            Ok(live) => live,
            Err(e) => {
                tracing::warn!(error = %e, "cannot compare the proxy's routes");
                LiveRoutes::default()
            }
        };
        let mut settled = true;
        for route in self.ctx.caches.routes.state() {
            let uid = route.uid().unwrap_or_default();
            let standing = match (told.0.get(&uid), live.0.get(&uid)) {
                (None, _) => Standing::NoUpstream,
                (Some(_), Some(l)) if !l.error.is_empty() => Standing::Refused(l.error.clone()),
                (Some(e), Some(l)) if l.current => Standing::Live(e.upstream),
                (Some(e), _) => Standing::Published(e.upstream),
            };
            settled &= !matches!(standing, Standing::Published(_));
            if self.lock().insert(uid, standing.clone()) != Some(standing) {
                self.ctx.triggers.routes.fire(&route);
            }
        }
        settled
    }
}

fn placed(w: &crate::resource::Workspace) -> bool {
    w.metadata.deletion_timestamp.is_none() && w.status.as_ref().is_some_and(|s| s.docker_server.is_some())
}
