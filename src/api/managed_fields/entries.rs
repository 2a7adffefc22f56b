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
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    pub fields: FieldSet,
}

impl Entry {
    fn new(manager: &Manager, fields: FieldSet, now: Timestamp) -> Self {
        Self {
            manager: manager.name.to_owned(),
            operation: manager.operation.to_owned(),
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: rfc3339(now),
            fields,
        }
    }

    /// An applier is the same whichever version it applies with, an updater is not.
    fn is(&self, manager: &Manager) -> bool {
        self.manager == manager.name
            && self.operation == manager.operation
            && self.subresource == manager.subresource
            && (self.operation == "Apply" || self.api_version == manager.api_version)
    }

    fn read(value: Value, source: Source) -> Option<Self> {
        let Value::Object(mut entry) = value else { return None };
        let mut text = |key: &str| match entry.remove(key) {
            None => Some(String::new()),
            Some(Value::String(text)) => Some(text),
            Some(_) => None,
        };
        let (manager, operation, api_version) = (text("manager")?, text("operation")?, text("apiVersion")?);
        let (subresource, time, _) = (text("subresource")?, text("time")?, text("fieldsType")?);
        if operation != "Apply" && operation != "Update" {
            return None;
        }
        let fields = entry.remove("fieldsV1")?;
        let fields = match source {
            Source::Store => FieldSet::stored(fields)?,
            Source::Client => FieldSet::parse(fields)?,
        };
        Some(Self { manager, operation, api_version, subresource, time, fields })
    }

    fn into_value(self) -> Value {
        let mut entry = Map::new();
        entry.insert("apiVersion".into(), self.api_version.into());
        entry.insert("fieldsType".into(), "FieldsV1".into());
        entry.insert("fieldsV1".into(), self.fields.into_value());
        entry.insert("manager".into(), self.manager.into());
        entry.insert("operation".into(), self.operation.into());
        for (key, text) in [("subresource", self.subresource), ("time", self.time)] {
            if !text.is_empty() {
                entry.insert(key.into(), text.into());
            }
        }
        Value::Object(entry)
    }

    fn conflicts(&self, changed: &FieldSet) -> impl Iterator<Item = Conflict> {
        self.fields.intersection(changed).paths().into_iter().map(|path| Conflict {
            manager: self.manager.clone(),
            operation: self.operation.clone(),
            api_version: self.api_version.clone(),
            subresource: self.subresource.clone(),
            time: self.time.clone(),
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
                entry.time = rfc3339(now);
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

    /// Takes changed and removed fields from all managers, and drops those left with none.
    pub fn release(&mut self, changes: &Changes) {
        for entry in &mut self.0 {
            entry.fields.subtract(&changes.changed);
            entry.fields.subtract(&changes.removed);
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    fn fold(&mut self) {
        let updaters = |all: &[Entry]| all.iter().filter(|e| e.operation == "Update").count();
        while updaters(&self.0) > MAX_UPDATERS {
            let oldest = |e: &&(usize, &Entry)| (e.1.time.clone(), e.0);
            let numbered: Vec<_> = self.0.iter().enumerate().filter(|(_, e)| e.operation == "Update").collect();
            let Some(at) = numbered.iter().filter(|(_, e)| e.manager != FOLDED).min_by_key(oldest).map(|(at, _)| *at) else {
                return;
            };
            let entry = self.0.remove(at);
            let same = |e: &&mut Entry| e.manager == FOLDED && e.operation == "Update" && e.api_version == entry.api_version;
            match self.0.iter_mut().find(same) {
                Some(folded) => folded.fields.union(&entry.fields),
                None => self.0.push(Entry { manager: FOLDED.into(), subresource: String::new(), ..entry }),
            }
        }
    }

    /// The stored form: appliers first, then by time and name.
    pub fn into_value(mut self) -> Value {
        self.fold();
        self.0.sort_by(|a, b| {
            let by = a.operation.cmp(&b.operation).then_with(|| a.time.cmp(&b.time));
            by.then_with(|| a.manager.cmp(&b.manager)).then_with(|| a.subresource.cmp(&b.subresource))
        });
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
