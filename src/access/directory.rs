//! The records that decisions are made from, in memory, as they are now: a write that was answered is in them.

use super::records::{KINDS, Records};
use super::{Action, Decision, Identity, IdentityKind, decide, explain};
use crate::store::{Change, ChangeType, ListQuery, Observed, Store, StoreError, Stored};
use k8s_openapi::jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

/// How often it is looked whether an API key is still there that something lasting hangs on: nothing tells of its end.
pub(super) const LOOK_AT_KEY: Duration = Duration::from_secs(2);
/// How long a question waits for records that are being read anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// Changes kept for a reading.
const HELD: usize = 10_000;

#[derive(Default)]
struct Known {
    records: Records,
    /// Changes that came while the records were being read; `None` when they are complete.
    meanwhile: Option<Vec<Change>>,
    /// Times that changes were not told.
    gaps: u64,
}

/// Follows the store from the first question on.
pub struct Directory {
    store: Store,
    known: Arc<Shared>,
    /// Held while the records are read.
    reading: Mutex<bool>,
}

struct Shared {
    known: RwLock<Known>,
    /// Moves with each change, and says whether the records are complete.
    moved: watch::Sender<(u64, bool)>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, complete: bool) {
        self.moved.send_modify(|(count, told)| (*count, *told) = (*count + 1, complete));
    }

    /// Called by the store for each change, in order.
    fn observe(&self, seen: Observed<'_>) {
        match seen {
            Observed::Change(change) if KINDS.contains(&change.record.key.kind) => {
                let mut known = self.write();
                match &mut known.meanwhile {
                    // Nobody has asked for long: who does so next reads all anew.
                    Some(changes) if changes.len() >= HELD => {
                        changes.clear();
                        known.gaps += 1;
                    }
                    Some(changes) => changes.push(change.clone()),
                    None => {
                        apply(&mut known.records, change);
                        drop(known);
                        self.tell(true);
                    }
                }
            }
            Observed::Change(_) => {}
            // Some changes were not told: until all is read anew, nothing is decided.
            Observed::Gap => {
                let mut known = self.write();
                (known.meanwhile, known.gaps) = (Some(Vec::new()), known.gaps + 1);
                drop(known);
                self.tell(false);
            }
        }
    }
}

fn apply(records: &mut Records, change: &Change) {
    match change.kind {
        ChangeType::Deleted => records.remove(&change.record.key),
        ChangeType::Added | ChangeType::Modified => records.put(&change.record.key, &change.record.body),
    }
}

impl Directory {
    /// Reads nothing yet.
    pub fn new(store: Store) -> Self {
        let known = RwLock::new(Known { meanwhile: Some(Vec::new()), ..Known::default() });
        let known = Arc::new(Shared { known, moved: watch::Sender::new((0, false)) });
        Self { store, known, reading: Mutex::new(false) }
    }

    /// Asks the records as they are now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn ask<T>(&self, ask: impl FnOnce(&Records) -> T) -> Result<T, StoreError> {
        if self.known.read().meanwhile.is_some() {
            let reading = tokio::time::timeout(PATIENCE, self.complete());
            reading.await.map_err(|_| StoreError::Database("users, groups and projects could not be read in time".into()))??;
        }
        Ok(self.now(ask))
    }

    /// Decides whether `who` may do `action`, and says why: always for a refusal, for the rest where `reasons` are asked for.
    ///
    /// # Errors
    /// When the records cannot be read: nobody may then do anything but the platform and its administrators.
    pub async fn judge(&self, who: &Identity, action: &Action<'_>, reasons: bool) -> Result<(Decision, String), StoreError> {
        let judge = |records: &Records| {
            let decision = decide(who, action, records);
            let why = if decision.is_allowed() && !reasons { String::new() } else { explain(who, action, decision, records) };
            (decision, why)
        };
        // They need no records to be judged, and are most of all callers.
        if who.kind == IdentityKind::User { self.ask(judge).await } else { Ok(judge(&Records::default())) }
    }

    /// Asks the records as they are now, or as they were last known. For who has asked before.
    pub fn now<T>(&self, ask: impl FnOnce(&Records) -> T) -> T {
        ask(&self.known.read().records)
    }

    /// Waits until `who` may no longer do `action`, or the API key they came by is there no more.
    pub async fn lost(&self, who: &Identity, action: &Action<'_>) {
        if who.kind != IdentityKind::User {
            return std::future::pending().await;
        }
        let (mut moved, mut look) = (self.moved(), Instant::now() + LOOK_AT_KEY);
        while self.judge(who, action, false).await.is_ok_and(|(decision, _)| decision.is_allowed()) {
            tokio::select! {
                moved = moved.changed() => {
                    if moved.is_err() {
                        return;
                    }
                }
                () = sleep_until(look), if who.key.is_some() => {
                    look = Instant::now() + LOOK_AT_KEY;
                    if !self.has_key(who).await {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the API key is still good that `who` came by; where that cannot be read, it was.
    pub async fn has_key(&self, who: &Identity) -> bool {
        let Some(key) = &who.key else { return true };
        match self.store.api_key(key).await {
            Ok(found) => found.is_some_and(|key| key.expires_at.is_none_or(|at| at > Timestamp::now().as_millisecond())),
            Err(error) => {
                tracing::warn!(%error, key, "an API key that something hangs on could not be looked up");
                true
            }
        }
    }

    /// Wakes when the records change; `false` while they are not complete.
    pub fn moved(&self) -> watch::Receiver<(u64, bool)> {
        self.known.moved.subscribe()
    }

    /// Reads the records, unless somebody else has meanwhile.
    async fn complete(&self) -> Result<(), StoreError> {
        let mut observing = self.reading.lock().await;
        if !std::mem::replace(&mut *observing, true) {
            let known = Arc::downgrade(&self.known);
            self.store.observe(Box::new(move |seen| {
                if let Some(known) = known.upgrade() {
                    known.observe(seen);
                }
            }));
        }
        while self.known.read().meanwhile.is_some() {
            let gaps = self.known.read().gaps;
            let (found, revisions) = self.list().await?;
            let mut known = self.known.write();
            if known.gaps != gaps {
                continue;
            }
            let changes = known.meanwhile.take().unwrap_or_default();
            known.records = Records::default();
            found.iter().for_each(|stored| known.records.put(&stored.key, &stored.body));
            for change in changes.iter().filter(|c| revisions.get(c.record.key.kind).is_none_or(|at| c.record.revision > *at)) {
                apply(&mut known.records, change);
            }
            drop(known);
            self.known.tell(true);
        }
        Ok(())
    }

    /// All records of the kinds, and the revision that each kind was read at.
    async fn list(&self) -> Result<(Vec<Stored>, HashMap<&'static str, i64>), StoreError> {
        let (mut found, mut revisions) = (Vec::new(), HashMap::new());
        for kind in KINDS {
            let page = self.store.list(&ListQuery { kind, ..ListQuery::default() }).await?;
            revisions.insert(kind, page.revision);
            found.extend(page.items);
        }
        Ok((found, revisions))
    }
}
