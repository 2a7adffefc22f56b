//! A pass over one record, and its single quiet status write.

use super::retry::PassError;
use crate::resource::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::core::object::HasStatus;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::fmt::Debug;
use std::time::Duration;

/// What every status of a kind with a loop has.
pub trait RecordStatus: Clone + Default + PartialEq + Serialize + Send + Sync + 'static {
    /// Conditions.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// Generation the conditions speak of.
    fn set_observed_generation(&mut self, generation: Option<i64>);
    /// What to know or do, in words.
    fn set_message(&mut self, message: Option<String>);
}

/// A record a loop can look after.
pub trait Record:
    Resource<DynamicType = ()> + HasStatus<Status = Self::S> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
    /// Its status.
    type S: RecordStatus;
    /// The API of its kind, in a namespace if the kind has them.
    fn api(client: &Client, namespace: Option<&str>) -> Api<Self>;
}

macro_rules! records {
    ($($kind:ident $status:ident $scope:ident;)*) => {$(
        impl RecordStatus for crate::resource::$status {
            fn conditions_mut(&mut self) -> &mut Vec<Condition> { &mut self.conditions }
            fn set_observed_generation(&mut self, generation: Option<i64>) { self.observed_generation = generation; }
            fn set_message(&mut self, message: Option<String>) { self.message = message; }
        }
        impl Record for crate::resource::$kind {
            type S = crate::resource::$status;
            fn api(client: &Client, namespace: Option<&str>) -> Api<Self> { $scope(client, namespace) }
        }
    )*};
}
records! {
    DockerServer DockerServerStatus cluster;
    Template TemplateStatus cluster;
    Feature FeatureStatus cluster;
    Invitation InvitationStatus cluster;
    Project ProjectStatus cluster;
    Workspace WorkspaceStatus namespaced;
    Route RouteStatus namespaced;
}

fn cluster<K: Record>(client: &Client, _namespace: Option<&str>) -> Api<K> {
    Api::all(client.clone())
}

fn namespaced<K: Record + Resource<Scope = NamespaceResourceScope>>(client: &Client, namespace: Option<&str>) -> Api<K> {
    Api::namespaced(client.clone(), namespace.unwrap_or_default())
}

/// Holds back what an old copy of a record would have made or changed: it may be going, or be otherwise, by now.
///
/// Gives the record as it is now, whose status may be another one.
///
/// # Errors
/// When it is not as it was read, or cannot be read.
pub async fn still_so<K: Record>(client: &Client, record: &K) -> Result<K, PassError> {
    let now = K::api(client, record.namespace().as_deref()).get_opt(&record.name_any()).await?;
    let same = |now: &K| (&now.meta().uid, now.meta().generation) == (&record.meta().uid, record.meta().generation);
    now.filter(same).ok_or_else(|| {
        PassError::unknown(format!("the {} has changed since it was read", K::kind(&()).to_lowercase()), Duration::from_secs(1))
    })
}

/// One pass over a record: the status being made, the conditions found, what was done.
pub struct Pass<S> {
    /// The status to be. Conditions and message are the skeleton's; everything else is the loop's.
    pub status: S,
    /// Look again after this long although all is well.
    pub requeue: Option<Duration>,
    /// What was done, for the report.
    pub actions: Vec<String>,
    /// The time of the pass.
    pub now: Timestamp,
    saved: S,
    found: Vec<Condition>,
    notices: Vec<Condition>,
    generation: Option<i64>,
    revision: Option<String>,
    write: Writer,
}

struct Writer {
    client: Client,
    manager: String,
}

impl<S: RecordStatus> Pass<S> {
    /// Begins a pass over `record`.
    pub fn begin<K: Record<S = S>>(record: &K, client: Client, manager: &str, now: Timestamp) -> Self {
        let status = record.status().cloned().unwrap_or_default();
        Self {
            saved: status.clone(),
            status,
            requeue: None,
            actions: Vec::new(),
            now,
            found: Vec::new(),
            notices: Vec::new(),
            generation: record.meta().generation,
            revision: record.resource_version(),
            write: Writer { client, manager: format!("devsanctum-{manager}") },
        }
    }

    /// Notes a condition that holds.
    pub fn holds(&mut self, kind: &'static str, reason: &'static str) {
        self.set(conditions::condition(kind, true, reason, ""));
    }

    /// Notes a condition.
    pub fn set(&mut self, condition: Condition) {
        self.found.retain(|c| c.type_ != condition.type_);
        self.found.push(condition);
    }

    /// Notes a condition that `Ready` does not depend on.
    pub fn notice(&mut self, condition: Condition) {
        self.notices.retain(|c| c.type_ != condition.type_);
        self.notices.push(condition);
    }

    /// Notes why the pass failed.
    pub fn fail(&mut self, e: &PassError) {
        self.set(conditions::condition(e.condition, false, e.reason, e.message.clone()));
    }

    /// Whether the record does not say this already.
    pub fn is_news(&self, e: &PassError) -> bool {
        let mut saved = self.saved.clone();
        let known = conditions::find(saved.conditions_mut(), e.condition);
        known.is_none_or(|c| c.reason != e.reason || c.message != e.message)
    }

    /// How long the record has said already that this condition has this status.
    pub fn lasted(&self, condition: &str, status: &str) -> Duration {
        let mut saved = self.saved.clone();
        let known = conditions::find(saved.conditions_mut(), condition).filter(|c| c.status == status);
        known.map_or(Duration::ZERO, |c| self.now.duration_since(c.last_transition_time.0).unsigned_abs())
    }

    /// Something was done.
    pub fn did(&mut self, action: impl Into<String>) {
        self.actions.push(action.into());
    }

    /// Writes the status as it is now, before effects that depend on it. Refused when the record has moved on, so
    /// that a pass over an old copy can never act on it.
    pub async fn save<K: Record<S = S>>(&mut self, record: &K) -> Result<(), PassError> {
        if self.saved == self.status {
            return Ok(());
        }
        let (old, new) = (to_value(&self.saved)?, to_value(&self.status)?);
        let Some(diff) = merge_patch(&old, &new) else { return Ok(()) };
        let api: Api<K> = K::api(&self.write.client, record.namespace().as_deref());
        let body = json!({"metadata": {"resourceVersion": self.revision}, "status": diff});
        let params = PatchParams { field_manager: Some(self.write.manager.clone()), ..PatchParams::default() };
        let written = api.patch_status(&record.name_any(), &params, &Patch::Merge(body)).await?;
        self.revision = written.resource_version();
        self.saved = self.status.clone();
        Ok(())
    }

    /// Ends the pass: computes `Ready` and the message, and writes the status if anything but times changed.
    pub async fn end<K: Record<S = S>>(&mut self, record: &K) -> Result<(), PassError> {
        let found = std::mem::take(&mut self.found);
        let known = std::mem::take(self.status.conditions_mut());
        // `Ready` itself can be what failed; otherwise it follows from what this pass found.
        let ready = conditions::find(&found, conditions::READY).cloned().unwrap_or_else(|| conditions::summarise(&found));
        self.status.set_message((ready.status != "True").then(|| ready.message.clone()));
        let mut all: Vec<Condition> = found.into_iter().filter(|c| c.type_ != conditions::READY).collect();
        all.push(ready);
        all.append(&mut self.notices);
        *self.status.conditions_mut() = conditions::merge(&known, all, self.generation, self.now);
        self.status.set_observed_generation(self.generation);
        self.save(record).await
    }

    /// The revision of the record after this pass's writes.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, PassError> {
    serde_json::to_value(value).map_err(|e| PassError::transient("Ready", "StatusUnwritable", e.to_string()))
}

/// The merge patch that turns `old` into `new`; `None` when they are equal.
fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(a), Value::Object(b)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for key in a.keys().filter(|k| !b.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in b {
        match a.get(key) {
            None => drop(patch.insert(key.clone(), value.clone())),
            Some(before) => drop(merge_patch(before, value).map(|diff| patch.insert(key.clone(), diff))),
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_names_only_what_differs() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1], "g": 0});
        let new = json!({"a": 1, "b": {"c": 1, "d": 3}, "e": [1, 2], "f": {}});
        assert_eq!(merge_patch(&old, &new), Some(json!({"g": null, "b": {"d": 3}, "e": [1, 2], "f": {}})));
        assert_eq!(merge_patch(&new, &new), None);
    }
}
