//! Turns on servers: of the passes over workspaces on one server, so many are at work at once. A server that hangs holds those
//! and no others, so that what is on the rest of a fleet goes on.
//!
//! # Guarantees
//! Who finds no turn stands in line, once however often they come, and is asked for again when one is free; those who have gone
//! meanwhile are passed over.

use super::triggers::Trigger;
use crate::resource::Workspace;
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Passes at work on one server at once. More bring nothing: its heavy calls wait for each other anyway.
pub const ON_A_SERVER: usize = 64;
/// Who is in line is asked for; this is in case who was asked for instead needed no turn any more.
pub const IN_CASE: Duration = Duration::from_secs(60);

/// Why somebody waits for a turn.
pub fn busy(server: &str) -> String {
    format!("{ON_A_SERVER} other workspaces are at work on server {server:?}; this one is in line")
}

/// The turns on all servers.
#[derive(Clone)]
pub struct Turns {
    lines: Arc<Mutex<HashMap<String, Line>>>,
    trigger: Trigger<Workspace>,
    store: Store<Workspace>,
}

/// A server's.
#[derive(Default)]
struct Line {
    busy: usize,
    waiting: VecDeque<ObjectRef<Workspace>>,
    /// The same, to be found.
    known: HashSet<ObjectRef<Workspace>>,
}

impl Line {
    fn join(&mut self, record: ObjectRef<Workspace>) {
        if self.known.insert(record.clone()) {
            self.waiting.push_back(record);
        }
    }

    /// The first that are there still, for as many places as have become free.
    fn next(&mut self, store: &Store<Workspace>) -> Vec<ObjectRef<Workspace>> {
        // Where nobody is left who would ask for more, all that can be are asked for.
        let places = if self.busy == 0 { ON_A_SERVER } else { 1 };
        let mut next = Vec::new();
        while next.len() < places
            && let Some(first) = self.waiting.pop_front()
        {
            self.known.remove(&first);
            next.extend(store.get(&first).map(|_| first));
        }
        next
    }
}

/// A turn on a server, until it is dropped.
pub struct Turn {
    of: Turns,
    server: String,
}

impl Turns {
    /// No turn is taken yet. Who may take one is asked for by `trigger`, where `store` has it.
    pub fn new(trigger: Trigger<Workspace>, store: Store<Workspace>) -> Self {
        Self { lines: Arc::default(), trigger, store }
    }

    /// A turn for a record on a server. Where there is none, the record is asked for again when it can be.
    pub fn take(&self, server: &str, record: &Workspace) -> Option<Turn> {
        let mut lines = self.lock();
        let line = lines.entry(server.to_owned()).or_default();
        if line.busy == ON_A_SERVER {
            line.join(ObjectRef::from_obj(record));
            return None;
        }
        line.busy += 1;
        Some(Turn { of: self.clone(), server: server.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.of.lock();
        let Some(line) = lines.get_mut(&self.server) else { return };
        line.busy -= 1;
        let next = line.next(&self.of.store);
        if line.busy == 0 && line.waiting.is_empty() {
            lines.remove(&self.server);
        }
        drop(lines);
        next.iter().for_each(|r| self.of.trigger.fire_named(r.namespace.as_deref(), &r.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::triggers::Asked;
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    struct Town {
        turns: Turns,
        asked: Asked<Workspace>,
        all: Vec<Workspace>,
    }

    impl Town {
        fn of(count: usize) -> Self {
            let (store, mut writer) = reflector::store();
            let mut all = Vec::new();
            for n in 0..count {
                let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
                    "metadata": {"name": format!("w{n}"), "namespace": "team"}, "spec": {"owner": "ada"}});
                let one: Workspace = serde_json::from_value(record).unwrap();
                writer.apply_watcher_event(&watcher::Event::Apply(one.clone()));
                all.push(one);
            }
            let (trigger, asked) = Trigger::new();
            Self { turns: Turns::new(trigger, store), asked, all }
        }

        fn take(&self, n: usize) -> Option<Turn> {
            self.turns.take("s1", &self.all[n])
        }

        /// Who has been asked for since.
        fn asked(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.asked.refs.try_recv().ok()).map(|r| r.name).collect()
        }
    }

    #[test]
    fn who_finds_no_turn_is_asked_for_when_there_is_one_and_stands_in_line_once() {
        let mut town = Town::of(ON_A_SERVER + 3);
        let mut busy: Vec<_> = (0..ON_A_SERVER).map(|n| town.take(n).expect("a turn")).collect();
        for n in [ON_A_SERVER, ON_A_SERVER + 1, ON_A_SERVER, ON_A_SERVER + 2] {
            assert!(town.take(n).is_none());
        }
        assert!(town.turns.take("s2", &town.all[0]).is_some(), "another server has turns of its own");
        assert!(town.asked().is_empty());
        busy.pop();
        assert_eq!(town.asked(), [format!("w{ON_A_SERVER}")]);
        let next = town.take(ON_A_SERVER).expect("a turn");
        drop(next);
        busy.pop();
        assert_eq!(town.asked(), [format!("w{}", ON_A_SERVER + 1), format!("w{}", ON_A_SERVER + 2)]);
    }

    #[test]
    fn who_is_gone_and_who_does_not_come_keep_nobody_in_line() {
        let mut town = Town::of(ON_A_SERVER + 4);
        let busy: Vec<_> = (0..ON_A_SERVER).map(|n| town.take(n).expect("a turn")).collect();
        let mut gone = town.all[0].clone();
        gone.metadata.name = Some("gone".into());
        assert!(town.turns.take("s1", &gone).is_none());
        for n in ON_A_SERVER..ON_A_SERVER + 4 {
            assert!(town.take(n).is_none());
        }
        drop(busy);
        let all: Vec<String> = (ON_A_SERVER..ON_A_SERVER + 4).map(|n| format!("w{n}")).collect();
        assert_eq!(town.asked(), all);
        assert!(town.turns.lock().is_empty(), "of a server on which nobody is at work nothing is kept");
    }
}
