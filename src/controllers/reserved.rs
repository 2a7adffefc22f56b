//! What placed workspaces reserve on their servers, kept up to date beside the copies, so that no choice of a server has
//! to go through all records.

use crate::resource::Workspace;
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What one workspace reserves, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// Server.
    pub server: String,
    /// Memory and disk.
    pub amount: Amount,
}

/// Memory and disk, in mebibytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amount {
    /// Memory.
    pub ram_mb: u64,
    /// Disk.
    pub disk_mb: u64,
}

impl Amount {
    /// From the units of the records: mebibytes of memory, gibibytes of disk.
    pub fn new(ram_mb: u32, disk_gb: f64) -> Self {
        // Negative and absurd sizes saturate; the schema lets none through.
        Self { ram_mb: u64::from(ram_mb), disk_mb: (disk_gb * 1024.0).round() as u64 }
    }
    /// The disk in gibibytes.
    pub fn disk_gb(self) -> f64 {
        self.disk_mb as f64 / 1024.0
    }
}

/// Where a workspace is placed, if it is, and what it reserves there.
pub fn placed(w: &Workspace) -> Option<Placed> {
    // What was given away counts for whom it was given to.
    let status = w.status.as_ref().filter(|s| s.claimed_by.is_none())?;
    let amount = Amount::new(status.reserved_ram_mb.unwrap_or(0), status.reserved_disk_gb.unwrap_or(0.0));
    Some(Placed { server: w.server()?.to_owned(), amount })
}

/// All reservations: those the records show, and those just made that they will show in a moment.
#[derive(Clone, Default)]
pub struct Reserved(Arc<Mutex<Ledger>>);

#[derive(Default)]
struct Ledger {
    by_uid: HashMap<String, Placed>,
    by_server: HashMap<String, Amount>,
}

/// What is reserved on each server, while a choice is made.
pub struct Sums<'a>(&'a Ledger);

impl Sums<'_> {
    /// What is reserved on a server.
    pub fn on(&self, server: &str) -> Amount {
        self.0.by_server.get(server).copied().unwrap_or_default()
    }
}

impl Reserved {
    /// What a record shows. A placement is never undone while the record is there, so that one without any changes nothing.
    pub fn seen(&self, w: &Workspace) {
        if w.claimed_by().is_some() {
            self.gone(&w.uid().unwrap_or_default());
        }
        if let Some(placed) = placed(w) {
            self.lock().set(&w.uid().unwrap_or_default(), Some(placed));
        }
    }

    /// The workspace is gone.
    pub fn gone(&self, uid: &str) {
        self.lock().set(uid, None);
    }

    /// Chooses and reserves in one step, so that two never take the same free memory. What the workspace itself may hold
    /// already is not in its way.
    ///
    /// # Errors
    /// What `choose` says.
    pub fn reserve<E>(&self, uid: &str, choose: impl FnOnce(Sums<'_>) -> Result<Placed, E>) -> Result<Placed, E> {
        let mut ledger = self.lock();
        let before = ledger.set(uid, None);
        let chosen = choose(Sums(&ledger));
        ledger.set(uid, chosen.as_ref().ok().cloned().or(before));
        chosen
    }

    /// As [`Self::reserve`], in place of what another holds, which then holds nothing.
    ///
    /// # Errors
    /// What `choose` says.
    pub fn take_over<E>(&self, uid: &str, from: &str, choose: impl FnOnce(Sums<'_>) -> Result<Placed, E>) -> Result<Placed, E> {
        let mut ledger = self.lock();
        let held = ledger.set(from, None);
        let chosen = choose(Sums(&ledger));
        match &chosen {
            Ok(placed) => ledger.set(uid, Some(placed.clone())),
            Err(_) => ledger.set(from, held),
        };
        chosen
    }

    /// What would be reserved without these.
    pub fn without<T>(&self, uids: &[String], look: impl FnOnce(Sums<'_>) -> T) -> T {
        let mut ledger = self.lock();
        let held: Vec<_> = uids.iter().map(|uid| (uid, ledger.set(uid, None))).collect();
        let seen = look(Sums(&ledger));
        held.into_iter().for_each(|(uid, placed)| drop(ledger.set(uid, placed)));
        seen
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Sets what a workspace reserves; gives what it did before.
    fn set(&mut self, uid: &str, placed: Option<Placed>) -> Option<Placed> {
        let before = self.by_uid.remove(uid);
        if let Some(Placed { server, amount }) = &before
            && let Some(sum) = self.by_server.get_mut(server)
        {
            sum.ram_mb -= amount.ram_mb;
            sum.disk_mb -= amount.disk_mb;
        }
        if let Some(placed) = placed {
            let sum = self.by_server.entry(placed.server.clone()).or_default();
            sum.ram_mb += placed.amount.ram_mb;
            sum.disk_mb += placed.amount.disk_mb;
            self.by_uid.insert(uid.to_owned(), placed);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(server: &str, ram_mb: u32, disk_gb: f64) -> Placed {
        Placed { server: server.into(), amount: Amount::new(ram_mb, disk_gb) }
    }

    fn sum(reserved: &Reserved, server: &str) -> Amount {
        Sums(&reserved.lock()).on(server)
    }

    #[test]
    fn a_reservation_counts_once_wherever_it_was_told() {
        let reserved = Reserved::default();
        let made = reserved.reserve("u", |sums| {
            assert_eq!(sums.on("a"), Amount::default());
            Ok::<_, ()>(on("a", 512, 1.5))
        });
        assert_eq!(made, Ok(on("a", 512, 1.5)));
        let record = serde_json::json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
            "metadata": {"name": "w", "uid": "u"}, "spec": {"owner": "ada"}});
        let mut record: Workspace = serde_json::from_value(record).unwrap();
        // The copy is older than the reservation.
        reserved.seen(&record);
        assert_eq!(sum(&reserved, "a"), Amount::new(512, 1.5));
        let mut status = crate::resource::WorkspaceStatus { docker_server: Some("a".into()), ..Default::default() };
        (status.reserved_ram_mb, status.reserved_disk_gb) = (Some(512), Some(1.5));
        record.status = Some(status);
        reserved.seen(&record);
        assert_eq!(sum(&reserved, "a"), Amount::new(512, 1.5));
        reserved.gone("u");
        reserved.gone("u");
        assert_eq!(sum(&reserved, "a"), Amount::default());
    }

    #[test]
    fn what_is_taken_over_counts_once_and_what_is_looked_past_stays() {
        let reserved = Reserved::default();
        reserved.reserve("warm", |_| Ok::<_, ()>(on("a", 512, 1.0))).unwrap();
        let taken = reserved.take_over("u", "warm", |sums| {
            assert_eq!(sums.on("a"), Amount::default());
            Err::<Placed, _>("no")
        });
        assert_eq!((taken, sum(&reserved, "a")), (Err("no"), Amount::new(512, 1.0)));
        reserved.take_over("u", "warm", |_| Ok::<_, ()>(on("a", 768, 2.0))).unwrap();
        assert_eq!(sum(&reserved, "a"), Amount::new(768, 2.0));
        reserved.gone("warm");
        assert_eq!(reserved.without(&["u".into(), "nobody".into()], |sums| sums.on("a")), Amount::default());
        assert_eq!(sum(&reserved, "a"), Amount::new(768, 2.0));
    }

    #[test]
    fn a_choice_that_fails_leaves_what_was_there_and_does_not_see_its_own() {
        let reserved = Reserved::default();
        reserved.reserve("u", |_| Ok::<_, ()>(on("a", 512, 1.0))).unwrap();
        let failed = reserved.reserve("u", |sums| {
            assert_eq!(sums.on("a"), Amount::default());
            Err("full")
        });
        assert_eq!(failed, Err("full"));
        assert_eq!(sum(&reserved, "a"), Amount::new(512, 1.0));
    }
}
