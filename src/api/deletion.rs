//! Deletion: owner references, finalizers, and records that others still refer to.
//!
//! Everything that follows from a deletion happens in the same transaction. A [`Sweep`] holds what is still
//! to be looked at; each step looks at a record afresh. Only where owners stand in a circle does the order of steps
//! decide who waits for whom; all go in the end.

use super::facts::{Facts, facts, put};
use super::fail;
use super::record::{self, FOREGROUND};
use super::served::{Served, by_id, by_kind};
use super::status::ApiError;
use crate::resource::FieldErrors;
use crate::resource::labels::IN_USE_FINALIZER;
use crate::store::{Key, Stored, Tx};
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// What happens to the records that name a deleted one as their owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    #[default]
    Background,
    /// They are deleted first; it waits for those that block it.
    Foreground,
    /// They stay and lose their owner.
    Orphan,
}

enum Step {
    /// Delete a record, if it still has this uid.
    Delete(Key, String, Propagation),
    /// Look whether a record being deleted can go now.
    Settle(Key),
}

/// A deletion and all that follows from it.
pub struct Sweep<'t> {
    tx: &'t mut Tx,
    steps: VecDeque<Step>,
    /// Records a queued step will settle: one look after all that happened before it is enough.
    unsettled: BTreeSet<Key>,
    /// Uids whose dependents were asked to go first: owners may stand in a circle.
    descended: BTreeSet<String>,
    now: String,
}

impl<'t> Sweep<'t> {
    /// An empty sweep; `now` is RFC 3339.
    pub fn new(tx: &'t mut Tx, now: &str) -> Self {
        Self { tx, steps: VecDeque::new(), unsettled: BTreeSet::new(), descended: BTreeSet::new(), now: now.to_owned() }
    }

    /// Asks for a record's deletion.
    pub fn delete(mut self, record: &Stored, how: Propagation) -> Self {
        self.steps.push_back(Step::Delete(record.key.clone(), record.uid.clone(), how));
        self
    }

    /// Asks to look at records that may be able to go now.
    pub fn settle(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.settle_later(keys);
        self
    }

    fn settle_later(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if self.unsettled.insert(key.clone()) {
                self.steps.push_back(Step::Settle(key));
            }
        }
    }

    /// Does it all.
    ///
    /// # Errors
    /// When the store fails; then the transaction must not be committed.
    pub async fn run(mut self) -> Result<(), ApiError> {
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Delete(key, uid, how) => self.delete_one(key, &uid, how).await?,
                Step::Settle(key) => {
                    self.unsettled.remove(&key);
                    self.settle_one(key).await?;
                }
            }
        }
        Ok(())
    }

    async fn delete_one(&mut self, key: Key, uid: &str, how: Propagation) -> Result<(), ApiError> {
        if self.tx.get(&key).await?.is_none_or(|stored| stored.uid != uid) {
            return Ok(());
        }
        let blocked = match how {
            Propagation::Orphan => {
                self.orphan_dependents(uid).await?;
                false
            }
            Propagation::Foreground => self.descended.insert(uid.to_owned()) && self.delete_dependents_first(uid).await?,
            Propagation::Background => false,
        };
        // Not before: a record may be its own dependent, and have lost an owner just now.
        let Some((served, mut record)) = self.load(&key).await? else { return Ok(()) };
        let before = record.clone();
        mark_deleted(&mut record, &self.now);
        if blocked {
            record::add_finalizer(&mut record, FOREGROUND);
        }
        // One that waited for dependents may have lost them just now.
        if record::finalizers(&record).contains(&FOREGROUND) {
            self.settle_later([key.clone()]);
        }
        if self.in_use(&key, uid).await? {
            record::add_finalizer(&mut record, IN_USE_FINALIZER);
        }
        self.store_or_remove(served, &before, record).await?;
        if served.def.kind == "Project" && !record::is_deleting(&before) {
            self.namespace_ends(&key.name).await?;
        }
        Ok(())
    }

    /// Shows on a project's namespace, where it is still there, that the project is being deleted.
    async fn namespace_ends(&mut self, name: &str) -> Result<(), ApiError> {
        let Some(key) = by_kind("Namespace").map(|served| served.key("", name)) else { return Ok(()) };
        let Some((served, mut namespace)) = self.load(&key).await? else { return Ok(()) };
        namespace["status"] = json!({"phase": "Terminating"});
        let facts = facts(served, "", &namespace, &mut FieldErrors::default());
        self.tx.put(put(served, namespace, &facts, true)).await?;
        Ok(())
    }

    async fn settle_one(&mut self, key: Key) -> Result<(), ApiError> {
        let Some((served, mut record)) = self.load(&key).await? else { return Ok(()) };
        if !record::is_deleting(&record) {
            return Ok(());
        }
        let before = record.clone();
        let uid = record::meta_str(&record, "uid").to_owned();
        if record::finalizers(&record).contains(&FOREGROUND) {
            if self.is_blocked(&record, &uid).await? {
                self.delete_newcomers(&key, &uid).await?;
            } else {
                record::remove_finalizer(&mut record, FOREGROUND);
            }
        }
        // Also put back: a caller may have taken it off although others still refer to the record.
        if self.in_use(&key, &uid).await? {
            record::add_finalizer(&mut record, IN_USE_FINALIZER);
        } else {
            record::remove_finalizer(&mut record, IN_USE_FINALIZER);
        }
        self.store_or_remove(served, &before, record).await
    }

    async fn load(&mut self, key: &Key) -> Result<Option<(&'static Served, Value)>, ApiError> {
        let Some(served) = by_id(key.kind) else { return Ok(None) };
        match self.tx.get(key).await? {
            Some(stored) => Ok(Some((served, record::parse(&stored.body).map_err(fail::damaged)?))),
            None => Ok(None),
        }
    }

    async fn store_or_remove(&mut self, served: &'static Served, before: &Value, record: Value) -> Result<(), ApiError> {
        let facts = facts(served, record::meta_str(&record, "namespace"), &record, &mut FieldErrors::default());
        if record::finalizers(&record).is_empty() {
            return self.remove(served, record, facts).await;
        }
        if *before != record {
            self.tx.put(put(served, record, &facts, false)).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, served: &'static Served, record: Value, facts: Facts) -> Result<(), ApiError> {
        let (namespace, name) = (record::meta_str(&record, "namespace").to_owned(), record::meta_str(&record, "name").to_owned());
        let uid = record::meta_str(&record, "uid").to_owned();
        self.settle_later(owner_refs(&record).filter_map(owner_key(&namespace)));
        self.tx.delete(&served.key(&namespace, &name), record).await?;
        if served.id == "namespaces" {
            self.empty_namespace(&name).await?;
        }
        for dependent in self.tx.dependents(&uid).await? {
            self.leave(dependent, &uid).await?;
        }
        self.settle_later(facts.references.into_iter().map(|(_, key)| key));
        Ok(())
    }

    /// An owner is gone: a dependent with another owner stays, the others go too.
    async fn leave(&mut self, dependent: Stored, uid: &str) -> Result<(), ApiError> {
        let record = record::parse(&dependent.body).map_err(fail::damaged)?;
        if record::owners(&record).iter().all(|o| o.uid == uid) {
            self.steps.push_back(Step::Delete(dependent.key, dependent.uid, Propagation::Background));
            return Ok(());
        }
        self.disown(record, dependent.key.kind, uid).await
    }

    async fn orphan_dependents(&mut self, uid: &str) -> Result<(), ApiError> {
        for dependent in self.tx.dependents(uid).await? {
            // A project's namespace cannot outlive its project.
            if dependent.key.kind != "namespaces" {
                let record = record::parse(&dependent.body).map_err(fail::damaged)?;
                self.disown(record, dependent.key.kind, uid).await?;
            }
        }
        Ok(())
    }

    async fn disown(&mut self, mut record: Value, kind: &str, uid: &str) -> Result<(), ApiError> {
        let Some(served) = by_id(kind) else { return Ok(()) };
        record::remove_owner(&mut record, uid);
        // It may be the last owner now that one of the others waits for.
        self.settle_later(owner_refs(&record).filter_map(owner_key(record::meta_str(&record, "namespace"))));
        let facts = facts(served, record::meta_str(&record, "namespace"), &record, &mut FieldErrors::default());
        self.tx.put(put(served, record, &facts, false)).await?;
        Ok(())
    }

    /// Deletes the dependents, but for those another owner keeps; true when one of them blocks its owner.
    async fn delete_dependents_first(&mut self, uid: &str) -> Result<bool, ApiError> {
        let mut blocked = false;
        for dependent in self.tx.dependents(uid).await? {
            if dependent.key.kind == "namespaces" {
                continue;
            }
            let record = record::parse(&dependent.body).map_err(fail::damaged)?;
            let owners = record::owners(&record);
            if owners.iter().any(|o| o.uid != uid) {
                self.disown(record, dependent.key.kind, uid).await?;
                continue;
            }
            blocked |= owners.iter().any(|o| o.block_owner_deletion);
            self.steps.push_back(Step::Delete(dependent.key, dependent.uid, Propagation::Foreground));
        }
        Ok(blocked)
    }

    /// Deletes dependents that came after their owner's deletion began: it would wait for them for ever. Those another
    /// owner keeps lose this one.
    async fn delete_newcomers(&mut self, key: &Key, uid: &str) -> Result<(), ApiError> {
        for dependent in self.tx.dependents(uid).await? {
            let record = record::parse(&dependent.body).map_err(fail::damaged)?;
            if record::is_deleting(&record) || dependent.key.kind == "namespaces" {
                continue;
            }
            if record::owners(&record).iter().any(|o| o.uid != uid) {
                self.disown(record, dependent.key.kind, uid).await?;
                self.settle_later([key.clone()]);
            } else {
                self.steps.push_back(Step::Delete(dependent.key, dependent.uid, Propagation::Foreground));
            }
        }
        Ok(())
    }

    async fn is_blocked(&mut self, owner: &Value, uid: &str) -> Result<bool, ApiError> {
        let mut blocking = BTreeSet::new();
        for dependent in self.tx.dependents(uid).await? {
            let record = record::parse(&dependent.body).map_err(fail::damaged)?;
            if record::owners(&record).iter().any(|o| o.uid == uid && o.block_owner_deletion) {
                blocking.insert(dependent.uid);
            }
        }
        if blocking.is_empty() {
            return Ok(false);
        }
        // In a circle of owners each would wait for the next: one that owns this record, however far up, does not hold it.
        let above = self.owners_above(owner).await?;
        Ok(!blocking.is_subset(&above))
    }

    /// The uids of a record's owners, of their owners, and so on.
    async fn owners_above(&mut self, record: &Value) -> Result<BTreeSet<String>, ApiError> {
        let mut above = BTreeSet::new();
        let mut open = vec![record.clone()];
        while let Some(record) = open.pop() {
            let namespace = record::meta_str(&record, "namespace");
            for owner in owner_refs(&record) {
                let Some(uid) = owner["uid"].as_str().filter(|uid| !above.contains(*uid)) else { continue };
                let Some(key) = owner_key(namespace)(owner) else { continue };
                if let Some(stored) = self.tx.get(&key).await?.filter(|stored| stored.uid == uid) {
                    open.push(record::parse(&stored.body).map_err(fail::damaged)?);
                    above.insert(stored.uid);
                }
            }
        }
        Ok(above)
    }

    /// True when records that would not go with it refer to this one.
    async fn in_use(&mut self, key: &Key, uid: &str) -> Result<bool, ApiError> {
        let mut referrers: BTreeSet<Key> = self.tx.referrers(key).await?.into_iter().filter(|r| r != key).collect();
        if referrers.is_empty() {
            return Ok(false);
        }
        for dependent in self.tx.dependents(uid).await? {
            // One that another owner keeps would stay, and name a record that is gone.
            if referrers.contains(&dependent.key) {
                let record = record::parse(&dependent.body).map_err(fail::damaged)?;
                if record::owners(&record).iter().all(|o| o.uid == uid) {
                    referrers.remove(&dependent.key);
                }
            }
        }
        Ok(!referrers.is_empty())
    }

    /// Events and leases go with their namespace; everything else in it has held its project until now.
    async fn empty_namespace(&mut self, namespace: &str) -> Result<(), ApiError> {
        for kind in ["events", "leases.coordination.k8s.io"] {
            for stored in self.tx.list(kind, Some(namespace)).await? {
                let body = record::parse(&stored.body).map_err(fail::damaged)?;
                self.tx.delete(&stored.key, body).await?;
            }
        }
        Ok(())
    }
}

/// The owners of a record whose owners change, before and after: one of them may have waited for that, or be about to go
/// and take the record along.
pub fn moved_owners(old: &Value, new: &Value) -> Vec<Key> {
    if owner_refs(old).eq(owner_refs(new)) {
        return Vec::new();
    }
    [old, new].into_iter().flat_map(|r| owner_refs(r).filter_map(owner_key(record::meta_str(r, "namespace")))).collect()
}

fn owner_refs(record: &Value) -> impl Iterator<Item = &Value> {
    record["metadata"].get("ownerReferences").and_then(Value::as_array).into_iter().flatten()
}

/// Where an owner lies, seen from a record in `namespace`.
fn owner_key(namespace: &str) -> impl Fn(&Value) -> Option<Key> {
    move |owner| Some(by_kind(owner["kind"].as_str()?)?.key(namespace, owner["name"].as_str()?))
}

fn mark_deleted(record: &mut Value, now: &str) {
    if record::is_deleting(record) {
        return;
    }
    let meta = record::meta_mut(record);
    meta.insert("deletionTimestamp".into(), now.into());
    meta.insert("deletionGracePeriodSeconds".into(), json!(0));
    let generation = meta.get("generation").and_then(Value::as_i64).unwrap_or(0);
    meta.insert("generation".into(), json!(generation + 1));
}
