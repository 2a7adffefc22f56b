//! What follows from a deletion, said as rules that hold at rest, and applied until they do. The server works with a
//! list of what to look at next; a look it forgets shows here.

use super::record::{BOSS, FOREGROUND, IN_USE, Record, Slot, Uid};
use super::step::Policy;
use super::world::World;
use std::collections::BTreeSet;

impl World {
    /// Deletes a record, without what follows from it for others: see [`World::settle`].
    pub fn delete(&mut self, at: Slot, policy: Policy) {
        let Some(uid) = self.records.get(&at).map(|r| r.uid) else { return };
        self.mark(at);
        match policy {
            Policy::Orphan => self.dependents(uid).into_iter().for_each(|d| self.disown(d, uid)),
            Policy::Foreground => self.dependents_first(at, &mut BTreeSet::new()),
            Policy::Unsaid | Policy::Background => {}
        }
    }

    /// Does what the rules demand until they demand nothing.
    pub fn settle(&mut self) {
        loop {
            let before = self.records.clone();
            match self.backwards {
                false => before.keys().for_each(|at| self.settle_one(*at)),
                true => before.keys().rev().for_each(|at| self.settle_one(*at)),
            }
            if before == self.records {
                return;
            }
        }
    }

    fn settle_one(&mut self, at: Slot) {
        let Some(record) = self.records.get(&at).filter(|r| r.deleting).cloned() else { return };
        if record.finalizers.iter().any(|f| f == FOREGROUND) {
            if self.is_blocked(at, &record) {
                self.dependents_that_came_late(record.uid);
            } else {
                self.edit(at, |r| r.finalizers.retain(|f| f != FOREGROUND));
            }
        }
        let in_use = self.in_use(at, record.uid);
        self.edit(at, |r| {
            r.finalizers.retain(|f| in_use || f != IN_USE);
            if in_use && !r.finalizers.iter().any(|f| f == IN_USE) {
                r.finalizers.push(IN_USE.into());
            }
        });
        if self.records.get(&at).is_some_and(|r| r.uid == record.uid && r.finalizers.is_empty()) {
            self.remove(at, record.uid);
        }
    }

    fn edit(&mut self, at: Slot, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.get_mut(&at) {
            change(record);
        }
    }

    fn mark(&mut self, at: Slot) {
        self.edit(at, |r| {
            r.generation += i64::from(!r.deleting);
            r.deleting = true;
        });
    }

    fn disown(&mut self, at: Slot, uid: Uid) {
        self.edit(at, |r| r.owners.retain(|o| o.uid != uid));
    }

    fn dependents(&self, uid: Uid) -> Vec<Slot> {
        let mut all: Vec<Slot> = self.records.iter().filter(|(_, r)| r.is_owned_by(uid)).map(|(at, _)| *at).collect();
        if self.backwards {
            all.reverse();
        }
        all
    }

    /// A dependent with another owner stays and loses this one; the others go, and whoever blocks is waited for.
    fn dependents_first(&mut self, at: Slot, done: &mut BTreeSet<Uid>) {
        let Some(uid) = self.records.get(&at).map(|r| r.uid).filter(|uid| done.insert(*uid)) else { return };
        let mut blocked = false;
        for dependent in self.dependents(uid) {
            let record = &self.records[&dependent];
            if !record.is_owned_only_by(uid) {
                self.disown(dependent, uid);
                continue;
            }
            blocked |= record.owners.iter().any(|o| o.blocks);
            self.mark(dependent);
            self.dependents_first(dependent, done);
        }
        if blocked {
            self.edit(at, |r| {
                if !r.finalizers.iter().any(|f| f == FOREGROUND) {
                    r.finalizers.push(FOREGROUND.into());
                }
            });
        }
    }

    fn dependents_that_came_late(&mut self, uid: Uid) {
        for dependent in self.dependents(uid) {
            let record = &self.records[&dependent];
            if record.deleting {
                continue;
            }
            if record.is_owned_only_by(uid) {
                self.mark(dependent);
                self.dependents_first(dependent, &mut BTreeSet::new());
            } else {
                self.disown(dependent, uid);
            }
        }
    }

    /// It waits for dependents that block, but not for one that owns it, however far up.
    fn is_blocked(&self, at: Slot, record: &Record) -> bool {
        let mut above = BTreeSet::new();
        let mut open = vec![at];
        while let Some(slot) = open.pop() {
            for owner in self.records.get(&slot).map(|r| r.owners.clone()).unwrap_or_default() {
                let there = self.records.get(&owner.slot).is_some_and(|r| r.uid == owner.uid);
                if there && above.insert(owner.uid) {
                    open.push(owner.slot);
                }
            }
        }
        let blocks = |r: &Record| r.owners.iter().any(|o| o.uid == record.uid && o.blocks);
        self.records.values().any(|r| blocks(r) && !above.contains(&r.uid))
    }

    /// True when records that would not go with it name it; the projects always name their owner.
    fn in_use(&self, at: Slot, uid: Uid) -> bool {
        if at == BOSS {
            return true;
        }
        let names = |(slot, r): (&Slot, &Record)| *slot != at && r.references(slot.kind()).contains(&at);
        self.records.iter().any(|(slot, r)| names((slot, r)) && !r.is_owned_only_by(uid))
    }

    fn remove(&mut self, at: Slot, uid: Uid) {
        self.records.remove(&at);
        for dependent in self.dependents(uid) {
            if self.records[&dependent].is_owned_only_by(uid) {
                self.mark(dependent);
            } else {
                self.disown(dependent, uid);
            }
        }
    }
}
