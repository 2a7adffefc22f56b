//! The list under `metadata.managedFields`: one entry for each manager, operation and subresource.

use super::Conflict;
use super::compare::Changes;
use super::field_set::FieldSet;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

/// More `Update` managers than this are folded into one, oldest first: a client that changes its name with each
/// write must not grow the record without end.
const MAX_UPDATERS: usize = 10;
/// The manager they are folded into.
const FOLDED: &str = "ancient-changes";

/// Who wrote, through which door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manager<'a> {
    pub name: &'a str,
    pub operation: &'static str,
    pub api_version: &'a str,
    pub subresource: &'a str,
}

/// Where entries come from: what this server wrote need not be checked again at every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Store,
    Client,
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// The entry as it is stored, but for its fields: most entries go through a write untouched.
    head: Map<String, Value>,
    pub fields: FieldSet,
}

impl Entry {
    fn new(manager: &Manager, fields: FieldSet, now: Timestamp) -> Self {
        let mut entry = Self { head: Map::new(), fields };
        entry.put("manager", manager.name.into());
        entry.put("operation", manager.operation.into());
        entry.put("apiVersion", manager.api_version.into());
        entry.put("subresource", manager.subresource.into());
        entry.put("fieldsType", "FieldsV1".into());
        entry.put("time", rfc3339(now));
        entry
    }

    fn text(&self, key: &str) -> &str {
        self.head.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn put(&mut self, key: &str, text: String) {
        match self.head.get_mut(key) {
            Some(held) => *held = text.into(),
            None if text.is_empty() => {}
            None => drop(self.head.insert(key.to_owned(), text.into())),
        }
    }

    /// An applier is the same whichever version it applies with, an updater is not.
    fn is(&self, manager: &Manager) -> bool {
        self.text("manager") == manager.name
            && self.text("operation") == manager.operation
            && self.text("subresource") == manager.subresource
            && (manager.operation == "Apply" || self.text("apiVersion") == manager.api_version)
    }

    fn is_update(&self) -> bool {
        self.text("operation") == "Update"
    }

    fn read(value: Value, source: Source) -> Option<Self> {
        const KNOWN: [&str; 6] = ["apiVersion", "fieldsType", "manager", "operation", "subresource", "time"];
        let Value::Object(mut head) = value else { return None };
        let fields = head.remove("fieldsV1")?;
        if source == Source::Store {
            return Some(Self { head, fields: FieldSet::stored(fields)? });
        }
        head.retain(|key, value| KNOWN.contains(&key.as_str()) && !value.is_null());
        let entry = Self { head, fields: FieldSet::parse(fields)? };
        let well_formed = entry.head.values().all(Value::is_string) && ["Apply", "Update"].contains(&entry.text("operation"));
        well_formed.then_some(entry)
    }

    fn into_value(mut self) -> Value {
        self.head.insert("fieldsV1".into(), self.fields.into_value());
        Value::Object(self.head)
    }

    fn conflicts(&self, changed: &FieldSet) -> impl Iterator<Item = Conflict> {
        self.fields.intersection(changed).paths().into_iter().map(|path| Conflict {
            manager: self.text("manager").to_owned(),
            operation: self.text("operation").to_owned(),
            api_version: self.text("apiVersion").to_owned(),
            subresource: self.text("subresource").to_owned(),
            time: self.text("time").to_owned(),
            path,
        })
    }
}

/// All managers of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    /// Reads the entries of a record; one that cannot be read spoils them all, as in Kubernetes.
    pub fn read(list: Value, source: Source) -> Option<Self> {
        let Value::Array(list) = list else { return None };
        list.into_iter().map(|entry| Entry::read(entry, source)).collect::<Option<_>>().map(Self)
    }

    /// The entries a stored record carries.
    pub fn of(record: &Value) -> Self {
        record.pointer("/metadata/managedFields").and_then(|list| Self::read(list.clone(), Source::Store)).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one manager's entry out.
    pub fn take(&mut self, manager: &Manager) -> Option<Entry> {
        let at = self.0.iter().position(|entry| entry.is(manager))?;
        Some(self.0.remove(at))
    }

    /// Gives a manager exactly these fields, as of `now`.
    pub fn set(&mut self, manager: &Manager, fields: FieldSet, now: Timestamp) {
        if !fields.is_empty() {
            self.0.push(Entry::new(manager, fields, now));
        }
    }

    /// Gives a manager these fields beside those it has, as of `now`.
    pub fn add(&mut self, manager: &Manager, fields: FieldSet, now: Timestamp) {
        match self.0.iter_mut().find(|entry| entry.is(manager)) {
            None => self.set(manager, fields, now),
            Some(entry) if !fields.is_empty() => {
                entry.fields.union(&fields);
                entry.put("time", rfc3339(now));
            }
            Some(_) => {}
        }
    }

    /// Every field owned by anyone.
    pub fn owned(&self) -> FieldSet {
        let mut all = FieldSet::default();
        self.0.iter().for_each(|entry| all.union(&entry.fields));
        all
    }

    /// The owners of fields that are about to change.
    pub fn conflicts(&self, changed: &FieldSet) -> Vec<Conflict> {
        self.0.iter().flat_map(|entry| entry.conflicts(changed)).collect()
    }

    /// Takes changed fields from all managers but `writer`, removed fields from all, and drops managers left with none.
    pub fn release(&mut self, changes: &Changes, writer: &Manager) {
        for entry in &mut self.0 {
            if !entry.is(writer) {
                entry.fields.subtract(&changes.changed);
            }
            entry.fields.subtract(&changes.removed);
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    fn fold(&mut self) {
        while self.0.iter().filter(|entry| entry.is_update()).count() > MAX_UPDATERS {
            let foldable = |(_, e): &(usize, &Entry)| e.is_update() && e.text("manager") != FOLDED;
            let all = self.0.iter().enumerate().filter(foldable);
            let Some((at, _)) = all.min_by(|a, b| a.1.text("time").cmp(b.1.text("time"))) else { return };
            let mut oldest = self.0.remove(at);
            let version = oldest.text("apiVersion").to_owned();
            let folded = Manager { name: FOLDED, operation: "Update", api_version: &version, subresource: "" };
            match self.0.iter_mut().find(|entry| entry.is(&folded)) {
                Some(entry) => entry.fields.union(&oldest.fields),
                None => {
                    oldest.put("manager", FOLDED.into());
                    oldest.head.remove("subresource");
                    self.0.push(oldest);
                }
            }
        }
    }

    /// The stored form: appliers first, then by time and name.
    pub fn into_value(mut self) -> Value {
        self.fold();
        let order = |key: &'static str| move |a: &Entry, b: &Entry| a.text(key).cmp(b.text(key));
        let (operation, time, manager, subresource) = (order("operation"), order("time"), order("manager"), order("subresource"));
        self.0
            .sort_by(|a, b| operation(a, b).then_with(|| time(a, b)).then_with(|| manager(a, b)).then_with(|| subresource(a, b)));
        Value::Array(self.0.into_iter().map(Entry::into_value).collect())
    }

    /// Writes the entries into a record.
    pub fn store(self, record: &mut Value) {
        let Some(record) = record.as_object_mut() else { return };
        let metadata = record.entry("metadata").or_insert_with(|| json!({}));
        let Some(metadata) = metadata.as_object_mut() else { return };
        match self.is_empty() {
            true => metadata.remove("managedFields"),
            false => metadata.insert("managedFields".into(), self.into_value()),
        };
    }
}

fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
