//! The newest changes in memory, for all watchers of this process.
//!
//! There is no queue per watcher that could overrun: a watcher keeps its own place and takes what comes after
//! it from here, or from the change log when it has fallen too far behind. It is only told that there is more.

use super::log::State;
use super::{Change, KindId, Observed, Observer, SharedChange};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;

/// Changes kept in memory at most, by number and by size in bytes.
const KEEP: usize = 4096;
const KEEP_BYTES: usize = 4 << 20;
/// Changes a watcher looks through at a time, so that nobody holds the lock for long.
const LOOK: usize = 1024;

/// The newest changes, and who reads them.
pub(super) struct Feed {
    ring: Mutex<Ring>,
    newest: watch::Sender<i64>,
    compacted: AtomicI64,
    watchers: Mutex<Vec<Weak<AtomicI64>>>,
    observers: Mutex<Vec<Observer>>,
}

struct Ring {
    /// All changes after `start`, without gaps.
    changes: VecDeque<SharedChange>,
    start: i64,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(change: &Change) -> usize {
    change.record.body.len() + change.previous.as_ref().map_or(0, |b| b.len())
}

impl Feed {
    /// An empty feed that goes on from where the log stands.
    pub fn new(state: State) -> Self {
        Self {
            ring: Mutex::new(Ring { changes: VecDeque::new(), start: state.revision, bytes: 0 }),
            newest: watch::Sender::new(state.revision),
            compacted: AtomicI64::new(state.compacted),
            watchers: Mutex::default(),
            observers: Mutex::default(),
        }
    }

    /// The newest revision told.
    pub fn revision(&self) -> i64 {
        *self.newest.borrow()
    }

    /// Changes up to this revision are gone from the log.
    pub fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// Takes note that changes up to `revision` are gone from the log.
    pub fn note_compacted(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
    }

    /// Has an observer called with each change from now on, before its revision is told.
    pub fn observe(&self, observer: Observer) {
        let _ring = lock(&self.ring);
        lock(&self.observers).push(observer);
    }

    fn show(&self, seen: Observed<'_>) {
        lock(&self.observers).iter().for_each(|observer| observer(seen));
    }

    /// Wakes when the newest revision moves.
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// Tells changes that follow right upon each other. Those already told are left out; `false` when there is a
    /// gap before the rest, which then is not told.
    pub fn publish(&self, changes: Vec<Change>) -> bool {
        let mut ring = lock(&self.ring);
        let told = self.revision();
        let mut next = told + 1;
        for change in changes.into_iter().skip_while(|c| c.record.revision <= told) {
            if change.record.revision != next {
                break;
            }
            next += 1;
            self.show(Observed::Change(&change));
            ring.bytes += size(&change);
            ring.changes.push_back(Arc::new(change));
        }
        while (ring.changes.len() > KEEP || ring.bytes > KEEP_BYTES)
            && let Some(oldest) = ring.changes.pop_front()
        {
            ring.bytes -= size(&oldest);
            ring.start = oldest.record.revision;
        }
        if next > told + 1 {
            self.newest.send_replace(next - 1);
        }
        next > told + 1
    }

    /// Goes on from `revision`, leaving out what lies before it: watchers find that out from the log.
    pub fn skip_to(&self, revision: i64) {
        let mut ring = lock(&self.ring);
        if revision > self.revision() {
            *ring = Ring { changes: VecDeque::new(), start: revision, bytes: 0 };
            self.show(Observed::Gap);
            self.newest.send_replace(revision);
        }
    }

    /// Changes of a kind after `from`, and the revision up to which they are complete. `None` when memory does not
    /// reach back that far.
    pub fn after(&self, from: i64, kind: KindId, namespace: Option<&str>) -> Option<(Vec<SharedChange>, i64)> {
        let ring = lock(&self.ring);
        if from < ring.start {
            return None;
        }
        let first = ring.changes.partition_point(|c| c.record.revision <= from);
        let wanted = |c: &&SharedChange| c.record.key.kind == kind && namespace.is_none_or(|n| c.record.key.namespace == n);
        let looked = ring.changes.range(first..).take(LOOK);
        let complete = looked.clone().next_back().map_or(from, |c| c.record.revision);
        Some((looked.filter(wanted).cloned().collect(), complete))
    }

    /// A place in the feed that compaction respects for as long as it is held.
    pub fn place(&self, from: i64) -> Arc<AtomicI64> {
        let place = Arc::new(AtomicI64::new(from));
        let mut watchers = lock(&self.watchers);
        // Watches that have ended are cleared away before room is made for more.
        if watchers.len() == watchers.capacity() {
            watchers.retain(|w| w.strong_count() > 0);
        }
        watchers.push(Arc::downgrade(&place));
        place
    }

    /// The place of the watcher furthest behind.
    pub fn slowest(&self) -> Option<i64> {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|w| w.strong_count() > 0);
        watchers.iter().filter_map(Weak::upgrade).map(|w| w.load(Ordering::Acquire)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_that_have_ended_take_no_room() {
        let feed = Feed::new(State { revision: 1, compacted: 0 });
        let held = feed.place(1);
        for _ in 0..10_000 {
            drop(feed.place(1));
        }
        assert!(lock(&feed.watchers).len() <= 8, "{}", lock(&feed.watchers).len());
        assert_eq!((feed.slowest(), held.load(Ordering::Relaxed)), (Some(1), 1));
    }
}
