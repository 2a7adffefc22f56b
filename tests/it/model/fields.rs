//! Who owns which field, as the documentation of server-side apply says: an independent and much smaller account than
//! the server's, of the spec's fields and the labels alone.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Fields by path (`spec.owner`, `labels.team`) with their values; `spec` and `labels` for that there are any, which is owned
/// by itself.
pub type Leaves = BTreeMap<String, Value>;

/// Fields by manager; `true` for those who apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managers(BTreeMap<(String, bool), BTreeSet<String>>);

pub fn leaves(spec: &Map<String, Value>, labels: &BTreeMap<String, String>) -> Leaves {
    let holders = ["spec"].into_iter().chain((!labels.is_empty()).then_some("labels")).map(|path| (path.to_owned(), Value::Null));
    let spec = spec.iter().map(|(key, value)| (format!("spec.{key}"), value.clone()));
    holders.chain(spec).chain(labels.iter().map(|(key, value)| (format!("labels.{key}"), value.clone().into()))).collect()
}

fn is_holder(path: &str) -> bool {
    path == "spec" || path == "labels"
}

/// The way back.
pub fn parts(leaves: Leaves) -> (Map<String, Value>, BTreeMap<String, String>) {
    let (mut spec, mut labels) = (Map::new(), BTreeMap::new());
    for (path, value) in leaves {
        match (path.strip_prefix("spec."), path.strip_prefix("labels.")) {
            (Some(field), _) => drop(spec.insert(field.to_owned(), value)),
            (_, Some(key)) => drop(labels.insert(key.to_owned(), value.as_str().unwrap_or("").to_owned())),
            _ => assert!(is_holder(&path), "{path}"),
        }
    }
    (spec, labels)
}

fn changed(before: &Leaves, after: &Leaves) -> BTreeSet<String> {
    after.iter().filter(|(path, value)| before.get(*path) != Some(value)).map(|(path, _)| path.clone()).collect()
}

fn removed(before: &Leaves, after: &Leaves) -> BTreeSet<String> {
    before.keys().filter(|path| !after.contains_key(*path)).cloned().collect()
}

impl Managers {
    /// Somebody wrote: what changed is theirs alone.
    pub fn update(&mut self, manager: &str, before: &Leaves, after: &Leaves) {
        let changed = changed(before, after);
        self.release(&changed, &removed(before, after));
        self.0.entry((manager.to_owned(), false)).or_default().extend(changed);
        self.tidy();
    }

    /// Somebody applied: answers the fields as they are then, or `None` where others are in the way.
    pub fn apply(&mut self, manager: &str, live: &Leaves, config: &Leaves, force: bool) -> Option<Leaves> {
        let own = (manager.to_owned(), true);
        let last = self.0.remove(&own).unwrap_or_default();
        let mut merged = live.clone();
        merged.extend(config.clone());
        for path in last.iter().filter(|path| !config.contains_key(*path)) {
            if !self.0.values().any(|held| held.contains(path)) {
                merged.remove(path);
            }
        }
        if !merged.keys().any(|path| path.starts_with("labels.")) {
            merged.remove("labels");
        }
        let changed = changed(live, &merged);
        if !force && self.0.values().any(|held| held.intersection(&changed).next().is_some()) {
            return None;
        }
        // Taking out the last label leaves an empty map, so who owns that there is one goes on to.
        let mut removed = removed(live, &merged);
        removed.remove("labels");
        self.release(&changed, &removed);
        let mut named: BTreeSet<String> = config.keys().filter(|path| !is_holder(path)).cloned().collect();
        if !named.iter().any(|path| path.starts_with("spec.")) {
            // Who applies an empty spec owns that it is there.
            named.insert("spec".into());
        }
        self.0.insert(own, named);
        self.tidy();
        Some(merged)
    }

    fn release(&mut self, changed: &BTreeSet<String>, removed: &BTreeSet<String>) {
        for held in self.0.values_mut() {
            held.retain(|path| !changed.contains(path) && !removed.contains(path));
        }
    }

    fn tidy(&mut self) {
        self.0.retain(|_, held| !held.is_empty());
    }

    /// Reads what the server says of spec and labels.
    pub fn told(record: &Value) -> Self {
        let mut found = Self::default();
        for entry in record["metadata"]["managedFields"].as_array().into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().unwrap_or("");
            if text("subresource") == "status" {
                continue;
            }
            let applies = text("operation") == "Apply";
            let held = found.0.entry((text("manager").to_owned(), applies)).or_default();
            for (at, prefix) in [("/f:spec", "spec"), ("/f:metadata/f:labels", "labels")] {
                let fields = entry["fieldsV1"].pointer(at).and_then(Value::as_object).into_iter().flatten();
                if entry["fieldsV1"].pointer(at) == Some(&Value::Object(Map::new())) {
                    held.insert(prefix.into());
                }
                let path = |key: &str| match key {
                    "." => Some(prefix.to_owned()),
                    key => Some(format!("{prefix}.{}", key.strip_prefix("f:")?)),
                };
                held.extend(fields.filter_map(|(key, _)| path(key)));
            }
        }
        found.tidy();
        found
    }
}
