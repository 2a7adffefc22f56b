//! The one route table: made from the records and from what was seen running, told to the proxy as a whole, and
//! compared with what the proxy says it holds.

use super::closing::Closing;
use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::events;
use crate::proxy::{LiveRoutes, ProxyError, RouteEntry, RouteTable, Spot};
use crate::resource::{Route, Workspace};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

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
    /// Told to the proxy, which cannot be asked.
    Unproved(SocketAddr, ProxyError),
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
        let (caches, begun) = (&self.ctx.caches, Instant::now());
        // Only what is somewhere, and stays, and is somebody's, has routes.
        let stays = |w: &Workspace| w.metadata.deletion_timestamp.is_none() && w.warm_of().is_none() && w.server().is_some();
        let unseen = |w: &Workspace| stays(w) && !self.ctx.upstreams.knows(w.metadata.uid.as_deref().unwrap_or_default());
        let mut open = caches.workspaces.state();
        while begun.elapsed() < FIRST_TABLE {
            // From the end, and each once: there may be many.
            while open.pop_if(|w| !caches.workspaces.get(&ObjectRef::from_obj(&**w)).is_some_and(|now| unseen(&now))).is_some() {}
            if open.is_empty() && !caches.routes.state().iter().any(|route| self.awaits_gateway(route)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a route's workspace runs beyond a gateway that may still be told to lead there.
    fn awaits_gateway(&self, route: &Route) -> bool {
        let beyond = self.ctx.beyond(route);
        beyond.is_some_and(|server| !matches!(self.ctx.gateways.state(&server), Some(Err(_))) && self.entry(route).is_none())
    }

    async fn follow(&self) {
        let mut told = self.wanted();
        self.ctx.proxy.publish(&told);
        let (mut look, mut closing) = (FIRST_LOOK, Closing::default());
        loop {
            let (live, woken) = self.ask(&mut told, &mut closing, look.min(SLOWEST)).await;
            let settled = self.compare(&told, &live);
            if let Ok(live) = &live {
                self.close(closing.taken(live));
            }
            look = if settled { AT_REST } else { (look * 2).min(SLOWEST) };
            if !woken && tokio::time::timeout(look, self.ctx.triggers.route_table.notified()).await.is_ok() {
                tokio::time::sleep(GATHER).await;
            }
            let wanted = self.wanted();
            if told != wanted {
                self.ctx.proxy.publish(&wanted);
                closing.note(&told, &wanted);
                look = FIRST_LOOK;
                told = wanted;
            }
        }
    }

    /// Asks the proxy what it serves, as soon as it serves what it was told. What was told and is no longer true is
    /// taken back meanwhile: the address may be another container's any moment, and the proxy may take its time. What is
    /// only new waits (`true`: there may be some), so that changes without end do not put off the answer without end.
    async fn ask(
        &self,
        told: &mut RouteTable,
        closing: &mut Closing,
        patience: Duration,
    ) -> (Result<LiveRoutes, ProxyError>, bool) {
        closing.asks();
        let mut answer = self.ctx.proxy.wait_live(patience);
        let mut woken = false;
        loop {
            tokio::select! {
                live = &mut answer => return (live, woken),
                () = self.ctx.triggers.route_table.notified() => {
                    tokio::time::sleep(GATHER).await;
                    woken = true;
                    let wanted = self.wanted();
                    if takes_back(told, &wanted) {
                        self.ctx.proxy.publish(&wanted);
                        closing.note(told, &wanted);
                        *told = wanted;
                    }
                }
            }
        }
    }

    /// Ends what was opened at addresses that are public no more, now that the proxy lets nobody through unasked. Where that cannot
    /// be done, it is said of the route.
    fn close(&self, closed: BTreeMap<Spot, String>) {
        if closed.is_empty() {
            return;
        }
        let mut by_server: BTreeMap<Option<String>, BTreeMap<SocketAddr, String>> = BTreeMap::new();
        for ((server, upstream), uid) in closed {
            by_server.entry(server).or_default().insert(upstream, uid);
        }
        for (server, closed) in by_server {
            let ctx = self.ctx.clone();
            tokio::spawn(async move {
                let upstreams: Vec<SocketAddr> = closed.keys().copied().collect();
                let ended = match &server {
                    None => ctx.proxy.end_connections(&upstreams).await,
                    Some(server) => ctx.gateways.cut(&ctx, server, &upstreams).await,
                };
                let Err(why) = ended else { return };
                tracing::warn!(why, "connections that were opened while a workspace was public may go on");
                for route in ctx.caches.routes.in_order(|route| closed.values().any(|uid| route.uid().as_deref() == Some(uid))) {
                    events::tell(&ctx.frame, &*route, true, "ConnectionsGoOn", format!("opened while it was public: {why}"));
                }
            });
        }
    }

    /// The table as records and running containers have it. The proxy is told the domain beside it, which can change, too.
    fn wanted(&self) -> RouteTable {
        self.ctx.proxy.serve_below(&self.ctx.settings().domain);
        // What gateways are to lead to is made of the same.
        self.ctx.gateways.poke();
        RouteTable(self.ctx.caches.routes.state().iter().filter_map(|r| Some((r.uid()?, self.entry(r)?))).collect())
    }

    fn entry(&self, route: &Route) -> Option<RouteEntry> {
        if route.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let reference = ObjectRef::new(&route.spec.workspace).within(&route.namespace()?);
        let workspace_uid = self.ctx.caches.workspaces.get(&reference)?.uid()?;
        let upstreams = &self.ctx.upstreams;
        let place = upstreams.get(&workspace_uid).filter(|_| upstreams.is_open(&workspace_uid, route.spec.port))?;
        let upstream = SocketAddr::new(place.address, route.spec.port);
        let way = match &place.beyond {
            None => None,
            Some(server) => Some(self.ctx.gateways.way(server, &workspace_uid, upstream, route.spec.protocol)?),
        };
        Some(RouteEntry {
            host: route.spec.host.clone(),
            upstream,
            protocol: route.spec.protocol,
            visibility: route.spec.visibility,
            workspace_uid,
            way,
        })
    }

    /// Notes where each route stands, and wakes those for which that is news. `true`: all is as told.
    fn compare(&self, told: &RouteTable, live: &Result<LiveRoutes, ProxyError>) -> bool {
        if let Err(e) = live {
            tracing::warn!(error = %e, "cannot compare the proxy's routes");
        }
        let routes = self.ctx.caches.routes.in_order(|_| true);
        let mut standings = self.lock();
        let mut before = std::mem::take(&mut *standings);
        for route in &routes {
            let uid = route.uid().unwrap_or_default();
            let standing = standing(told.0.get(&uid), live, &uid);
            if before.remove(&uid).as_ref() != Some(&standing) {
                self.ctx.triggers.routes.fire(route);
            }
            standings.insert(uid, standing);
        }
        !standings.values().any(|s| matches!(s, Standing::Published(_) | Standing::Unproved(..)))
    }
}

fn standing(told: Option<&RouteEntry>, live: &Result<LiveRoutes, ProxyError>, uid: &str) -> Standing {
    let Some(entry) = told else { return Standing::NoUpstream };
    match live.as_ref().map(|live| live.0.get(uid)) {
        Err(e) => Standing::Unproved(entry.upstream, e.clone()),
        Ok(Some(l)) if !l.error.is_empty() => Standing::Refused(l.error.clone()),
        Ok(Some(l)) if l.current => Standing::Live(entry.upstream),
        Ok(_) => Standing::Published(entry.upstream),
    }
}

/// Whether something that was told is no longer so.
fn takes_back(told: &RouteTable, wanted: &RouteTable) -> bool {
    told.0.iter().any(|(uid, entry)| wanted.0.get(uid) != Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::LiveRoute;
    use crate::resource::common::{Protocol, Visibility};

    fn entry(last: u8) -> RouteEntry {
        let (host, upstream) = ("a.localhost".into(), ([10, 0, 0, last], 80).into());
        let (protocol, visibility) = (Protocol::Http, Visibility::Public);
        RouteEntry { host, upstream, protocol, visibility, workspace_uid: "w".into(), way: None }
    }

    fn table<const N: usize>(entries: [(&str, RouteEntry); N]) -> RouteTable {
        RouteTable(entries.into_iter().map(|(uid, e)| (uid.to_owned(), e)).collect())
    }

    #[test]
    fn only_what_was_told_can_be_taken_back() {
        let told = table([("a", entry(1))]);
        assert!(!takes_back(&told, &told));
        assert!(!takes_back(&told, &table([("a", entry(1)), ("b", entry(2))])), "new only");
        assert!(takes_back(&told, &table([("b", entry(2))])), "gone");
        assert!(takes_back(&told, &table([("a", entry(2))])), "moved");
        let private = RouteEntry { visibility: Visibility::Private, ..entry(1) };
        assert!(takes_back(&told, &table([("a", private)])), "closed");
    }

    #[test]
    fn a_route_stands_as_the_proxy_says_or_why_it_says_nothing() {
        let e = entry(1);
        let live = |current, error: &str| Ok(LiveRoutes([("a".to_owned(), LiveRoute { current, error: error.into() })].into()));
        assert_eq!(standing(None, &live(true, ""), "a"), Standing::NoUpstream);
        assert_eq!(standing(Some(&e), &live(true, ""), "a"), Standing::Live(e.upstream));
        assert_eq!(standing(Some(&e), &live(false, ""), "a"), Standing::Published(e.upstream));
        assert_eq!(standing(Some(&e), &live(false, "no"), "a"), Standing::Refused("no".into()));
        let lost = ProxyError::Unreachable("gone".into());
        assert_eq!(standing(Some(&e), &Err(lost.clone()), "a"), Standing::Unproved(e.upstream, lost));
    }
}
