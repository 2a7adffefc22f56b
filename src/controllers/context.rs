//! What the loops share.

use super::caches::{Caches, InOrder};
use super::gateways::Gateways;
use super::listings::Listings;
use super::skeleton::Frame;
use super::triggers::Triggers;
use crate::engine::{Connector, Engine};
use crate::plan::environment::Library;
use crate::proxy::Proxy;
use crate::resource::common::Protocol;
use crate::resource::{FeatureSpec, Route, SETTINGS_NAME, SettingsSpec, TemplateSpec, Workspace, labels};
use async_trait::async_trait;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What all loops are given.
#[derive(Clone)]
pub struct Context {
    /// API, clock, reports, stop.
    pub frame: Frame,
    /// This installation's identity.
    pub instance: String,
    /// Copies of the records.
    pub caches: Caches,
    /// Ways to wake a loop.
    pub triggers: Triggers,
    /// Makes connections to engines.
    pub connector: Arc<dyn Connector>,
    /// Secrets' values.
    pub secrets: Arc<dyn SecretReader>,
    /// The reverse proxy.
    pub proxy: Arc<dyn Proxy>,
    /// Connected engines by server.
    pub engines: Engines,
    /// Where running workspaces are reached, as seen by this process.
    pub upstreams: Upstreams,
    /// Ways to workspaces on other machines.
    pub gateways: Gateways,
    /// Where the proxy is reached, where the settings do not say.
    pub public: super::Public,
    /// Port of the API.
    pub api_port: Option<u16>,
    /// How often everything on a server is listed although no event said so.
    pub resync: Duration,
    /// Containers as lists have just shown them.
    pub listings: Arc<Listings>,
    /// Images being pulled and built.
    pub supply: Arc<super::workspace::Supply>,
    /// What builders said.
    pub builds: Arc<super::workspace::BuildLogs>,
    /// Repositories being cloned.
    pub clones: Arc<super::workspace::Clones>,
    /// Parts of workspaces that are carried to other servers.
    pub moves: Arc<super::workspace::Moves>,
    /// Starts of containers that keep ending.
    pub restarts: Arc<super::workspace::Restarts>,
}

/// Reads secrets' values; nothing else may.
#[async_trait]
pub trait SecretReader: Send + Sync + 'static {
    /// The value of a key of the secret with this uid.
    ///
    /// # Errors
    /// In words for people.
    async fn read(&self, uid: &str, key: &str) -> Result<Option<Vec<u8>>, String>;
}

/// What came of trying to reach a server.
#[derive(Clone, Default)]
struct Tried {
    /// `None` when the last try failed.
    engine: Option<Arc<dyn Engine>>,
    /// All that is on it was listed once, or could not be.
    listed: bool,
}

/// Engines by server, as far as this process has tried them.
#[derive(Clone, Default)]
pub struct Engines(Arc<Mutex<BTreeMap<String, Tried>>>);

impl Engines {
    /// The engine of a server, if it is connected.
    pub fn get(&self, server: &str) -> Option<Arc<dyn Engine>> {
        self.lock().get(server).and_then(|t| t.engine.clone())
    }
    /// Whether this process has tried to connect to the server at all.
    pub fn tried(&self, server: &str) -> bool {
        self.lock().contains_key(server)
    }
    /// Whether all that is on the server was listed once, so that what waits for that can go on.
    pub fn listed(&self, server: &str) -> bool {
        self.lock().get(server).is_some_and(|t| t.listed)
    }
    /// Notes what came of trying.
    pub fn set(&self, server: &str, engine: Option<Arc<dyn Engine>>) {
        self.lock().entry(server.to_owned()).or_default().engine = engine;
    }
    /// Notes that the server was listed, or could not be; `true` for the first time.
    pub fn set_listed(&self, server: &str) -> bool {
        !std::mem::replace(&mut self.lock().entry(server.to_owned()).or_default().listed, true)
    }
    /// Forgets a server that is gone.
    pub fn forget(&self, server: &str) {
        self.lock().remove(server);
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Tried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where workspaces are reached, by uid. Only what this process has itself seen running is here: an address
/// remembered from before may belong to another container by now.
#[derive(Clone, Default)]
pub struct Upstreams(Arc<Mutex<BTreeMap<String, Upstream>>>);

/// Where a workspace was seen running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address on its server.
    pub address: IpAddr,
    /// The server, where that is another machine: there it means something to the gateway alone.
    pub beyond: Option<String>,
}

#[derive(Clone, Default)]
struct Upstream {
    /// Whether it was looked at.
    seen: bool,
    place: Option<Place>,
    /// Ports that gateways are to lead to, whether they are ready or not.
    ports: BTreeMap<u16, Protocol>,
    /// Ports that open when they are ready.
    probed: BTreeSet<u16>,
    /// Those of them that are, once they were asked.
    ready: Option<BTreeSet<u16>>,
}

impl Upstreams {
    /// Notes what was seen; `true` when it is news. At another address nothing is ready yet.
    pub fn set(&self, uid: &str, place: Option<Place>) -> bool {
        let mut all = self.lock();
        let it = all.entry(uid.to_owned()).or_default();
        let news = !it.seen || it.place != place;
        if it.place != place {
            it.ready = None;
        }
        (it.seen, it.place) = (true, place);
        news
    }
    /// Notes which ports gateways are to lead to.
    pub fn serves(&self, uid: &str, ports: BTreeMap<u16, Protocol>) {
        self.lock().entry(uid.to_owned()).or_default().ports = ports;
    }
    /// Those ports, and where the workspace is, where that is beyond this gateway.
    pub fn beyond(&self, server: &str, uid: &str) -> Option<(IpAddr, BTreeMap<u16, Protocol>)> {
        let all = self.lock();
        let it = all.get(uid)?;
        let place = it.place.as_ref().filter(|place| place.beyond.as_deref() == Some(server))?;
        Some((place.address, it.ports.clone()))
    }
    /// Names the ports that open when they are ready.
    pub fn guard(&self, uid: &str, probed: BTreeSet<u16>) {
        let mut all = self.lock();
        let it = all.entry(uid.to_owned()).or_default();
        if it.probed != probed {
            (it.probed, it.ready) = (probed, None);
        }
    }
    /// Notes which of them are ready; `true` when it is news.
    pub fn asked(&self, uid: &str, ready: BTreeSet<u16>) -> bool {
        let mut all = self.lock();
        let it = all.entry(uid.to_owned()).or_default();
        it.ready.replace(ready.clone()) != Some(ready)
    }
    /// Forgets a workspace that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }
    /// Where it is, if the workspace was seen running.
    pub fn get(&self, uid: &str) -> Option<Place> {
        self.lock().get(uid)?.place.clone()
    }
    /// Whether it was looked at at all.
    pub fn seen(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|it| it.seen)
    }
    /// Whether a port is open: to be routed to, where the workspace runs.
    pub fn is_open(&self, uid: &str, port: u16) -> bool {
        let all = self.lock();
        let Some(it) = all.get(uid) else { return false };
        !it.probed.contains(&port) || it.ready.as_ref().is_some_and(|ready| ready.contains(&port))
    }
    /// Whether all is known of the workspace that its routes depend on.
    pub fn knows(&self, uid: &str) -> bool {
        let known = |it: &Upstream| it.seen && (it.place.is_none() || it.probed.is_empty() || it.ready.is_some());
        self.lock().get(uid).is_some_and(known)
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Upstream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Notes where a workspace is reached now, if anywhere; the proxy is told when that is news.
    pub fn reached(&self, uid: &str, place: Option<Place>) {
        if self.upstreams.set(uid, place) {
            self.triggers.route_table.notify_one();
        }
    }

    /// Notes which of a workspace's probed ports are ready; the proxy is told when that is news.
    pub fn ready(&self, uid: &str, ports: BTreeSet<u16>) {
        if self.upstreams.asked(uid, ports) {
            self.triggers.route_table.notify_one();
        }
    }

    /// Whether a route's workspace runs, and only the port is not ready.
    pub fn waits_for_port(&self, route: &Route) -> bool {
        let uid = self.workspace_of(route);
        self.upstreams.get(&uid).is_some() && !self.upstreams.is_open(&uid, route.spec.port)
    }

    /// The server whose gateway leads to a route's workspace, where it runs on another machine and the port is open.
    pub fn beyond(&self, route: &Route) -> Option<String> {
        let uid = self.workspace_of(route);
        self.upstreams.get(&uid).filter(|_| self.upstreams.is_open(&uid, route.spec.port))?.beyond
    }

    fn workspace_of(&self, route: &Route) -> String {
        let workspace = ObjectRef::new(&route.spec.workspace).within(&route.namespace().unwrap_or_default());
        self.caches.workspaces.get(&workspace).and_then(|w| w.uid()).unwrap_or_default()
    }

    /// The workspaces placed on a server.
    pub fn members(&self, server: &str) -> Vec<Arc<Workspace>> {
        self.caches.workspaces.in_order(|w| w.server() == Some(server))
    }

    /// The workspaces placed on a server, and those that have something there because they move.
    pub fn holders(&self, server: &str) -> Vec<Arc<Workspace>> {
        self.caches.workspaces.in_order(|w| w.has_to_do_with(server))
    }

    /// Asks for a look at all workspaces that have to do with a server.
    pub fn wake_members(&self, server: &str) {
        self.holders(server).iter().for_each(|w| self.triggers.workspaces.fire(w));
    }

    /// The settings, or the defaults where none are set.
    pub fn settings(&self) -> SettingsSpec {
        self.caches.settings.get(&ObjectRef::new(SETTINGS_NAME)).map(|s| s.spec.clone()).unwrap_or_default()
    }

    /// When the backup was made that the records were restored from, until somebody has said that they are right.
    pub fn restored(&self) -> Option<String> {
        self.caches.settings.get(&ObjectRef::new(SETTINGS_NAME))?.annotations().get(labels::RESTORED).cloned()
    }

    /// Whether a server is this machine: an address on another one may be that of a stranger's container here.
    pub fn is_near(&self, server: &str) -> bool {
        self.caches.servers.get(&ObjectRef::new(server)).is_some_and(|s| s.spec.is_local())
    }

    /// Where a host is reached.
    pub fn url(&self, host: &str) -> String {
        let settings = self.settings();
        let (scheme, usual) = if settings.tls || self.public.tls { ("https", 443) } else { ("http", 80) };
        match settings.port.or(self.public.port).filter(|p| *p != usual) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }
}

impl Library for Caches {
    fn template(&self, name: &str) -> Option<TemplateSpec> {
        self.templates.get(&ObjectRef::new(name)).map(|t| t.spec.clone())
    }
    fn feature(&self, name: &str) -> Option<FeatureSpec> {
        self.features.get(&ObjectRef::new(name)).map(|f| f.spec.clone())
    }
}
