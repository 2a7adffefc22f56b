//! What clients were promised, and whether it was kept.

use super::harness::*;
use devsanctum::store::{ChangeType, KindId, Store, WatchItem};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const KINDS: [(&str, KindId); 3] = [("users", USERS), ("secrets", SECRETS), ("workspaces", WORKSPACES)];

/// A record's mark; none where it is not there.
type Mark = Option<String>;

/// What is promised of each record, by the clients' own words.
#[derive(Default)]
pub struct Promises(BTreeMap<String, Promise>);

#[derive(Default)]
struct Promise {
    /// The last that was answered.
    kept: Mark,
    /// What was asked for after that: it may be so or not.
    maybe: Vec<Mark>,
}

/// How it came out.
#[derive(Debug, Default)]
pub struct Tally {
    /// Writes that were answered.
    pub answered: usize,
    /// Writes that were not, and are there.
    pub unanswered_there: usize,
    /// Writes that were not, and are not there.
    pub unanswered_gone: usize,
}

impl Promises {
    /// Takes in what a client said.
    pub fn hear(&mut self, line: &str, tally: &mut Tally) {
        let words: Vec<&str> = line.split(' ').collect();
        let &[verb @ ("sent" | "done" | "failed"), key, mark] = words.as_slice() else { return };
        let promise = self.0.entry(key.to_owned()).or_default();
        let mark = (mark != "-").then(|| mark.to_owned());
        match verb {
            "sent" => promise.maybe.push(mark),
            "done" => {
                *promise = Promise { kept: mark, maybe: vec![] };
                tally.answered += 1;
            }
            // It was asked for, and nothing is known.
            _ => {}
        }
    }

    /// Compares with what is there. From now on that is what must stay.
    pub fn settle(&mut self, mut there: BTreeMap<String, String>, tally: &mut Tally) {
        for (key, promise) in &mut self.0 {
            let found = there.remove(key);
            let kept = found == promise.kept;
            assert!(
                kept || promise.maybe.contains(&found),
                "{key}: promised {:?}, or perhaps {:?}; there is {found:?}",
                promise.kept,
                promise.maybe
            );
            match promise.maybe.is_empty() {
                true => {}
                false if kept => tally.unanswered_gone += 1,
                false => tally.unanswered_there += 1,
            }
            *promise = Promise { kept: found, maybe: vec![] };
        }
        assert!(there.is_empty(), "nobody asked for {there:?}");
        self.0.retain(|_, promise| promise.kept.is_some());
    }
}

/// All marks that are there. A secret's value is its record's mark: the two are written together. `opened` are the
/// revisions of secrets that were opened before.
pub async fn marks(store: &Store, opened: &mut BTreeSet<i64>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (plural, kind) in KINDS {
        for item in store.list(&all(kind)).await.unwrap().items {
            let (name, body) = (item.key.name.clone(), json_of(&item));
            for (key, mark) in body["metadata"]["annotations"].as_object().into_iter().flatten() {
                let key = if key == "mark" { format!("{plural}/{name}") } else { format!("{plural}/{name}#{key}") };
                found.insert(key, mark.as_str().unwrap().to_owned());
            }
            if let Some(message) = body["status"]["message"].as_str() {
                found.insert(format!("{plural}/{name}#status"), message.to_owned());
            }
            if kind == SECRETS && opened.insert(item.revision) {
                let value = store.secret_value(&item.uid, "token").await.unwrap().map(|v| String::from_utf8(v).unwrap());
                assert_eq!(value, found.get(&format!("secrets/{name}")).cloned(), "half of a write to secret {name}");
            }
        }
    }
    found
}

/// Each kind as a client knows it that has listed it once and watches from there.
#[derive(Default)]
pub struct Watched {
    from: i64,
    known: BTreeMap<KindId, BTreeMap<String, Value>>,
}

impl Watched {
    /// Lists everything.
    pub async fn begin(store: &Store) -> Self {
        let mut known = BTreeMap::new();
        for (_, kind) in KINDS {
            known.insert(kind, listed(store, kind).await);
        }
        Self { from: store.revision(), known }
    }

    /// Goes on from there by the feed alone, and must come to what a list says now.
    pub async fn go_on(&mut self, store: &Store) {
        for (kind, known) in &mut self.known {
            let now = listed(store, kind).await;
            let mut watch = store.watch(kind, None, self.from).await.unwrap();
            let mut last = self.from;
            while *known != now {
                let WatchItem::Change(change) = next(&mut watch).await.unwrap() else { continue };
                assert!(change.record.revision > last, "{} after {last}", change.record.revision);
                last = change.record.revision;
                let key = format!("{}/{}", change.record.key.namespace, change.record.key.name);
                match change.kind {
                    ChangeType::Deleted => drop(known.remove(&key)),
                    _ => drop(known.insert(key, json_of(&change.record))),
                }
            }
        }
        self.from = store.revision();
    }
}

async fn listed(store: &Store, kind: KindId) -> BTreeMap<String, Value> {
    let items = store.list(&all(kind)).await.unwrap().items;
    items.iter().map(|item| (format!("{}/{}", item.key.namespace, item.key.name), json_of(item))).collect()
}
