//! Ways to wake the loops, and what is asked of them and not begun.

use super::caches::{Cached, InOrder};
use crate::resource::{DockerServer, Feature, Project, Route, Template, Workspace};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};

/// Records that a loop was asked to look at and has not begun with; each counts once however often it was asked for.
#[derive(Clone, Default)]
pub struct Queue(Arc<Mutex<HashSet<String>>>);

impl Queue {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }
    /// A look at the record has begun, or there is no such record.
    pub fn begun(&self, namespace: Option<&str>, name: &str) {
        self.lock().remove(&key(namespace, name));
    }
    fn asked(&self, namespace: Option<&str>, name: &str) {
        self.lock().insert(key(namespace, name));
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

/// A way to wake one loop.
pub struct Trigger<K: Cached> {
    refs: UnboundedSender<ObjectRef<K>>,
    queue: Queue,
}

/// What a loop listens to.
pub struct Asked<K: Cached> {
    /// Records to look at.
    pub refs: UnboundedReceiver<ObjectRef<K>>,
    /// Those of them not begun.
    pub queue: Queue,
}

impl<K: Cached> Clone for Trigger<K> {
    fn clone(&self) -> Self {
        Self { refs: self.refs.clone(), queue: self.queue.clone() }
    }
}

impl<K: Cached> Trigger<K> {
    /// A trigger and what its loop listens to.
    pub fn new() -> (Self, Asked<K>) {
        let ((refs, asked), queue) = (unbounded(), Queue::default());
        (Self { refs, queue: queue.clone() }, Asked { refs: asked, queue })
    }
    /// Asks for a look at one record.
    pub fn fire(&self, record: &K) {
        self.fire_ref(ObjectRef::from_obj(record));
    }
    /// Asks for a look at a record by name.
    pub fn fire_named(&self, namespace: Option<&str>, name: &str) {
        let reference = ObjectRef::new(name);
        self.fire_ref(match namespace {
            Some(ns) => reference.within(ns),
            None => reference,
        });
    }
    /// Asks for a look at all records of a cache.
    pub fn fire_all(&self, store: &Store<K>) {
        store.in_order(|_| true).iter().for_each(|r| self.fire(r));
    }
    fn fire_ref(&self, reference: ObjectRef<K>) {
        self.queue.asked(reference.namespace.as_deref(), &reference.name);
        // The receiver goes first only when the process ends.
        let _ = self.refs.unbounded_send(reference);
    }
}

/// Where to say which record to look at.
#[derive(Clone)]
pub struct Triggers {
    /// Workspaces.
    pub workspaces: Trigger<Workspace>,
    /// When workspaces stop and go.
    pub lifecycles: Trigger<Workspace>,
    /// Routes.
    pub routes: Trigger<Route>,
    /// Projects.
    pub projects: Trigger<Project>,
    /// Templates.
    pub templates: Trigger<Template>,
    /// Features.
    pub features: Trigger<Feature>,
    /// Servers.
    pub servers: Trigger<DockerServer>,
    /// The route table must be looked at.
    pub route_table: Arc<Notify>,
    /// Full lists of all servers are called for.
    pub lists: watch::Sender<()>,
}

/// What the loops listen to.
pub struct Listening {
    /// Workspaces.
    pub workspaces: Asked<Workspace>,
    /// When workspaces stop and go.
    pub lifecycles: Asked<Workspace>,
    /// Routes.
    pub routes: Asked<Route>,
    /// Projects.
    pub projects: Asked<Project>,
    /// Templates.
    pub templates: Asked<Template>,
    /// Features.
    pub features: Asked<Feature>,
    /// Servers.
    pub servers: Asked<DockerServer>,
}

impl Triggers {
    /// All triggers and what listens to them.
    pub fn new() -> (Self, Listening) {
        let (workspaces, w) = Trigger::new();
        let (lifecycles, l) = Trigger::new();
        let (routes, r) = Trigger::new();
        let (projects, p) = Trigger::new();
        let (templates, t) = Trigger::new();
        let (features, f) = Trigger::new();
        let (servers, s) = Trigger::new();
        let (route_table, lists) = (Arc::new(Notify::new()), watch::Sender::new(()));
        let all = Self { workspaces, lifecycles, routes, projects, templates, features, servers, route_table, lists };
        (all, Listening { workspaces: w, lifecycles: l, routes: r, projects: p, templates: t, features: f, servers: s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_asked_for_twice_waits_once() {
        let (trigger, asked) = Trigger::<Workspace>::new();
        trigger.fire_named(Some("team"), "a");
        trigger.fire_named(Some("team"), "a");
        trigger.fire_named(Some("team"), "b");
        assert_eq!(asked.queue.count(), 2);
        asked.queue.begun(Some("team"), "a");
        asked.queue.begun(None, "b");
        assert_eq!(asked.queue.count(), 1);
    }
}
