//! The controllers' view of the records: one watch a kind, one copy in memory, and the rules for which change
//! wakes which loop.

use super::environments::Environments;
use super::gateways::GATEWAYS;
use super::own_routes::OwnRoutes;
use super::reserved::{Reserved, moving, placed};
use super::takeovers::Takeovers;
use super::triggers::Triggers;
use crate::resource::{
    DockerServer, Feature, Project, Repository, Route, SYSTEM_NAMESPACE, Secret, Settings, Template, User, Workspace,
    WorkspacePhase,
};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use tokio::sync::watch;

/// A kind the controllers keep a copy of.
pub trait Cached: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Cached for K {}

/// Reading a copy in the order of names; it has its records in another order in each process, and what is done should
/// not depend on that.
pub trait InOrder<K> {
    /// The records wanted, by namespace and name.
    fn in_order(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>>;
}

impl<K: Cached> InOrder<K> for Store<K> {
    fn in_order(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let mut all = self.state_filter(wanted);
        all.sort_by(|a, b| {
            let (a, b) = (a.meta(), b.meta());
            (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name))
        });
        all
    }
}

/// Copies of all records the loops look at.
#[derive(Clone)]
pub struct Caches {
    /// Workspaces.
    pub workspaces: Store<Workspace>,
    /// Routes.
    pub routes: Store<Route>,
    /// Projects.
    pub projects: Store<Project>,
    /// Templates.
    pub templates: Store<Template>,
    /// Features.
    pub features: Store<Feature>,
    /// Servers.
    pub servers: Store<DockerServer>,
    /// Settings.
    pub settings: Store<Settings>,
    /// Secrets, which have no values in them.
    pub secrets: Store<Secret>,
    /// People.
    pub users: Store<User>,
    /// Which routes a workspace owns.
    pub own_routes: OwnRoutes,
    /// What workspaces reserve on servers.
    pub reserved: Reserved,
    /// What workspaces' environments are.
    pub environments: Environments,
    /// Who has taken over which warm environment.
    pub takeovers: Takeovers,
}

/// Whether a record is there, as the copy has it by now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    There,
    /// Only what it says of others is another.
    Restated,
    Gone,
}

/// What a change of a record may have changed for others; two equal prints mean nothing of interest did.
fn fingerprint(meta: &ObjectMeta, more: impl Hash) -> Print {
    let mut hasher = DefaultHasher::new();
    (&meta.uid, meta.generation, &meta.finalizers, &meta.annotations, &meta.labels).hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    more.hash(&mut hasher);
    Print { of: hasher.finish(), says: 0 }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Print {
    of: u64,
    /// A part of the status that its own loop works out anew when it is another one: it may have been worked out beside an
    /// old copy.
    says: u64,
}

/// Kinds whose records have all been read once. kube's own `wait_until_ready` wakes only the last of several
/// waiters, so it is not used beside a `Controller`, which waits too.
#[derive(Clone)]
pub struct Listed(watch::Sender<usize>);

impl Listed {
    /// Waits until every kind has been read.
    pub async fn all(&self) {
        // The sender is held here, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|n| *n >= KINDS).await;
    }
}

/// How many kinds [`Caches`] holds.
const KINDS: usize = 9;

/// Takes off what no loop reads: who owns which field, and what was applied last, are most of a record's weight.
fn slim<K: Cached>(record: &mut K) {
    let meta = record.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Keeps a copy of a kind up to date until the watch ends, telling `wake` of each record whose print changed or
/// that is gone.
async fn feed<K: Cached>(
    client: Client,
    mut writer: Writer<K>,
    listed: Listed,
    print: impl Fn(&K) -> Print,
    wake: impl Fn(&K, Is),
) {
    let mut first = true;
    let mut prints: HashMap<String, Print> = HashMap::new();
    let mut before = Vec::new();
    let store = writer.as_reader();
    let mut events = watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff().modify(slim).boxed();
    let changed = |record: &K, prints: &mut HashMap<String, Print>| {
        let new = print(record);
        match prints.insert(record.uid().unwrap_or_default(), new) {
            Some(old) if old == new => {}
            Some(old) if old.of == new.of => wake(record, Is::Restated),
            _ => wake(record, Is::There),
        }
    };
    let gone = |record: &K, prints: &mut HashMap<String, Print>| {
        if prints.remove(&record.uid().unwrap_or_default()).is_some() {
            wake(record, Is::Gone);
        }
    };
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(e) => {
                tracing::warn!(kind = %K::kind(&()), error = %e, "watch failed; trying again");
                continue;
            }
        };
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::Apply(record) => changed(record, &mut prints),
            watcher::Event::Delete(record) => gone(record, &mut prints),
            watcher::Event::Init => before = store.in_order(|_| true),
            watcher::Event::InitApply(_) => {}
            // Only now does the copy hold what the list brought, and no longer what went while nobody watched.
            watcher::Event::InitDone => {
                let now = store.in_order(|_| true);
                let left: HashSet<_> = now.iter().filter_map(|r| r.meta().uid.as_deref()).collect();
                let went = |r: &&Arc<K>| r.meta().uid.as_deref().is_none_or(|uid| !left.contains(uid));
                std::mem::take(&mut before).iter().filter(went).for_each(|r| gone(r, &mut prints));
                now.iter().for_each(|r| changed(r, &mut prints));
                if std::mem::take(&mut first) {
                    listed.0.send_modify(|n| *n += 1);
                }
            }
        }
    }
}

/// Futures that keep the copies; each ends only with its watch, and names it.
pub type Feeds = FuturesUnordered<BoxFuture<'static, &'static str>>;

/// Begins to copy all kinds.
pub fn start(client: &Client, triggers: &Triggers) -> (Caches, Feeds, Listed) {
    use kube::runtime::reflector::store;
    let (workspaces, w) = store::<Workspace>();
    let (routes, r) = store::<Route>();
    let (projects, p) = store::<Project>();
    let (templates, t) = store::<Template>();
    let (features, f) = store::<Feature>();
    let (servers, s) = store::<DockerServer>();
    let (settings, g) = store::<Settings>();
    let (secrets, k) = store::<Secret>();
    let (users, u) = store::<User>();
    let (own_routes, reserved, environments) = (OwnRoutes::default(), Reserved::default(), Environments::default());
    let caches = Caches {
        workspaces,
        routes,
        projects,
        templates,
        features,
        servers,
        settings,
        secrets,
        users,
        own_routes,
        reserved,
        environments,
        takeovers: Takeovers::default(),
    };
    let listed = Listed(watch::Sender::new(0));
    let feeds = Feeds::new();
    let start = Start { client, triggers, caches: &caches, listed: &listed, feeds: &feeds };
    start.feed("workspaces", w, |x| fingerprint(&x.metadata, (placed(x), moving(x), warmth(x))), workspace_changed);
    start.feed("routes", r, |x| fingerprint(&x.metadata, (programmed(x), owners(x))), route_changed);
    start.feed("projects", p, |x| Print { says: members(x), ..fingerprint(&x.metadata, ()) }, project_changed);
    start.feed(
        "templates",
        t,
        |x| fingerprint(&x.metadata, ()),
        |on, caches, x, _| {
            caches.environments.forget();
            on.templates.fire(x);
            on.templates.fire_all(&caches.templates);
            on.workspaces.fire_all(&caches.workspaces);
            on.lists.send_replace(());
        },
    );
    start.feed(
        "features",
        f,
        |x| fingerprint(&x.metadata, ()),
        |on, caches, x, _| {
            caches.environments.forget();
            on.features.fire(x);
            on.features.fire_all(&caches.features);
            on.templates.fire_all(&caches.templates);
            on.workspaces.fire_all(&caches.workspaces);
            on.lists.send_replace(());
        },
    );
    // A value that is another leaves nothing but another version.
    start.feed("secrets", k, |x| fingerprint(&x.metadata, &x.metadata.resource_version), secret_changed);
    start.feed("users", u, |x| fingerprint(&x.metadata, ()), user_changed);
    start.feed("servers", s, |x| fingerprint(&x.metadata, capacity(x)), server_changed);
    start.feed(
        "settings",
        g,
        |x| fingerprint(&x.metadata, ()),
        |on, caches, _, _| {
            caches.environments.forget();
            on.workspaces.fire_all(&caches.workspaces);
            on.lifecycles.fire_all(&caches.workspaces);
            on.templates.fire_all(&caches.templates);
            on.servers.fire_all(&caches.servers);
            on.routes.fire_all(&caches.routes);
            on.lists.send_replace(());
        },
    );
    (caches, feeds, listed)
}

struct Start<'a> {
    client: &'a Client,
    triggers: &'a Triggers,
    caches: &'a Caches,
    listed: &'a Listed,
    feeds: &'a Feeds,
}

impl Start<'_> {
    fn feed<K: Cached>(
        &self,
        name: &'static str,
        writer: Writer<K>,
        print: fn(&K) -> Print,
        wake: fn(&Triggers, &Caches, &K, Is),
    ) {
        let (client, on, caches, listed) = (self.client.clone(), self.triggers.clone(), self.caches.clone(), self.listed.clone());
        self.feeds.push(Box::pin(async move {
            feed(client, writer, listed, print, move |x, is| wake(&on, &caches, x, is)).await;
            name
        }));
    }
}

fn owners(r: &Route) -> Vec<&str> {
    r.owner_references().iter().map(|o| o.uid.as_str()).collect()
}

/// How many workspaces a project says it has.
fn members(p: &Project) -> u64 {
    p.status.as_ref().map_or(0, |s| s.workspaces.into())
}

fn programmed(r: &Route) -> bool {
    r.status.as_ref().is_some_and(|s| crate::resource::conditions::holds(&s.conditions, "Programmed"))
}

/// What of a server's status workspaces depend on. Memory in use moves all the time and is not part of it: those
/// that wait for memory look again by themselves.
fn capacity(s: &DockerServer) -> String {
    s.status.as_ref().map(|s| format!("{:?}{:?}{:?}", s.phase, s.network_mode, s.ram_total_mb)).unwrap_or_default()
}

/// Of a warm environment: how far it is, which its template tells.
fn warmth(w: &Workspace) -> Option<(bool, Option<&str>)> {
    let status = w.status.as_ref().filter(|_| w.warm_of().is_some())?;
    Some((status.phase == WorkspacePhase::Running, status.message.as_deref()))
}

/// A workspace's own status writes wake nobody, except that its placement counts on a server, and what they say of a warm
/// environment concerns others.
fn workspace_changed(on: &Triggers, caches: &Caches, w: &Workspace, is: Is) {
    match is {
        Is::There | Is::Restated => {
            caches.reserved.seen(w);
            caches.takeovers.seen(w);
        }
        Is::Gone => {
            caches.reserved.gone(&w.uid().unwrap_or_default());
            caches.takeovers.gone(w);
        }
    }
    on.workspaces.fire(w);
    on.lifecycles.fire(w);
    if let Some((template, _)) = w.warm_of() {
        on.templates.fire_named(None, template);
    }
    let taken = w.status.as_ref().and_then(|s| s.took_over.as_ref()).map(|t| ObjectRef::new(&t.name).within(&t.namespace));
    if let Some(warm) = taken.and_then(|t| caches.workspaces.get(&t)) {
        on.workspaces.fire(&warm);
    }
    on.route_table.notify_one();
    if let Some(project) = w.namespace() {
        on.projects.fire_named(None, &project);
    }
    let elsewhere = moving(w).map(|it| it.server);
    for server in w.server().into_iter().chain(elsewhere.as_deref()) {
        on.servers.fire_named(None, server);
    }
    if w.metadata.deletion_timestamp.is_some() {
        wake_waiting(on, caches);
    }
}

/// Capacity may have appeared: those without a server look again.
fn wake_waiting(on: &Triggers, caches: &Caches) {
    caches.workspaces.in_order(|w| w.server().is_none()).iter().for_each(|w| on.workspaces.fire(w));
}

fn route_changed(on: &Triggers, caches: &Caches, r: &Route, is: Is) {
    match is {
        Is::There | Is::Restated => caches.own_routes.seen(r),
        Is::Gone => caches.own_routes.gone(r),
    }
    on.routes.fire(r);
    on.route_table.notify_one();
    on.workspaces.fire_named(r.namespace().as_deref(), &r.spec.workspace);
}

fn project_changed(on: &Triggers, caches: &Caches, p: &Project, is: Is) {
    on.projects.fire(p);
    if is == Is::Restated {
        return;
    }
    caches.environments.forget();
    // Companions that are not wanted any more are found by a list.
    on.lists.send_replace(());
    let members = caches.workspaces.in_order(|w| w.metadata.namespace == p.metadata.name);
    for member in members {
        on.workspaces.fire(&member);
        on.lifecycles.fire(&member);
    }
}

fn server_changed(on: &Triggers, caches: &Caches, s: &DockerServer, _: Is) {
    on.servers.fire(s);
    if s.annotations().contains_key(crate::resource::labels::REMOVE_STRAYS) {
        on.lists.send_replace(());
    }
    let name = s.name_any();
    let wants = |w: &Workspace| w.server().is_none() || w.spec.docker_server.as_ref() == Some(&name);
    let concerned = caches.workspaces.in_order(|w| wants(w) || w.has_to_do_with(&name));
    concerned.iter().for_each(|w| on.workspaces.fire(w));
    // No warm environment holds a server that is to go.
    caches.templates.in_order(|t| t.spec.warm.is_some()).iter().for_each(|t| on.templates.fire(t));
}

/// The workspaces of who may not be there any more, or may again.
fn user_changed(on: &Triggers, caches: &Caches, u: &User, _: Is) {
    let theirs = caches.workspaces.in_order(|w| Some(&w.spec.owner) == u.metadata.name.as_ref());
    theirs.iter().for_each(|w| on.lifecycles.fire(w));
}

/// Workspaces that clone with it, and servers that are reached with it.
fn secret_changed(on: &Triggers, caches: &Caches, s: &Secret, _: Is) {
    let (namespace, name) = (s.namespace().unwrap_or_default(), s.name_any());
    let names = |r: &Repository| r.credentials.as_ref().is_some_and(|c| c.name == name);
    let project = caches.projects.get(&ObjectRef::new(&namespace)).filter(|p| p.spec.repositories.iter().any(names));
    if project.is_some() {
        let members = caches.workspaces.in_order(|w| w.metadata.namespace.as_ref() == Some(&namespace));
        members.iter().for_each(|w| on.workspaces.fire(w));
    }
    let with = |d: &DockerServer| {
        let ssh = d.spec.ssh.as_ref().map(|s| &s.secret);
        d.spec.tls.secret.iter().chain(ssh).any(|s| s.name == name)
    };
    caches.servers.in_order(with).iter().for_each(|server| on.servers.fire(server));
    if (namespace.as_str(), name.as_str()) == (SYSTEM_NAMESPACE, GATEWAYS) {
        on.servers.fire_all(&caches.servers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn template(name: &str) -> Value {
        let meta = json!({"name": name, "uid": name, "resourceVersion": "1", "generation": 1});
        json!({"apiVersion": "devsanctum.io/v1", "kind": "Template", "metadata": meta, "spec": {"base": "b"}})
    }

    fn listing(names: &[&str]) -> Value {
        let items: Vec<Value> = names.iter().map(|n| template(n)).collect();
        json!({"apiVersion": "devsanctum.io/v1", "kind": "TemplateList", "metadata": {"resourceVersion": "1"}, "items": items})
    }

    /// Lists two records; a watch that has fallen behind; then a list without the second.
    fn client() -> Client {
        let lists = Arc::new(AtomicUsize::new(0));
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let lists = lists.clone();
                async move {
                    let watching = request.uri().query().is_some_and(|q| q.contains("watch="));
                    let answer = match (watching, lists.load(Ordering::Relaxed)) {
                        (false, n) => {
                            lists.store(n + 1, Ordering::Relaxed);
                            listing(if n == 0 { &["stays", "goes"] } else { &["stays"] })
                        }
                        (true, 1) => {
                            json!({"type": "ERROR", "object": {"code": 410, "message": "too old", "reason": "Expired", "status": "Failure"}})
                        }
                        (true, _) => std::future::pending().await,
                    };
                    Ok::<_, std::convert::Infallible>(Response::new(Body::from(format!("{answer}\n").into_bytes())))
                }
            }),
            "default",
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_goes_while_nobody_watches_is_told_once() {
        let (_, writer) = kube::runtime::reflector::store::<Template>();
        let told = Arc::new(Mutex::new(Vec::new()));
        let wake = {
            let told = told.clone();
            move |t: &Template, is: Is| told.lock().unwrap().push((t.name_any(), is == Is::There))
        };
        let feeding = feed(client(), writer, Listed(watch::Sender::new(0)), |t| fingerprint(&t.metadata, ()), wake);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(60), feeding).await;
        let mut told = told.lock().unwrap().clone();
        told.sort();
        assert_eq!(told, [("goes".into(), false), ("goes".into(), true), ("stays".into(), true)]);
    }
}
