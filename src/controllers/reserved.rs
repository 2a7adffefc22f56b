//! What placed workspaces reserve on their servers, kept up to date beside the copies, so that no choice of a server has
//! to go through all records.

use crate::plan::schedule::Candidate;
use crate::resource::conditions::holds;
use crate::resource::labels::is_suspended;
use crate::resource::{DockerServer, Workspace, WorkspacePhase};
use kube::ResourceExt;
use std::collections::{HashMap, HashSet};
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
    fn add(&mut self, other: Self) {
        self.ram_mb += other.ram_mb;
        self.disk_mb += other.disk_mb;
    }
    fn take(&mut self, other: Self) {
        self.ram_mb -= other.ram_mb;
        self.disk_mb -= other.disk_mb;
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

/// What a workspace that moves reserves on the server that it is not on: where it goes to, or where it was.
pub fn moving(w: &Workspace) -> Option<Placed> {
    let (here, it) = (placed(w)?, w.moving()?);
    let server = if it.to == here.server { it.from.clone() } else { it.to.clone() };
    let amount = it.reserved_ram_mb.zip(it.reserved_disk_gb).map_or(here.amount, |(ram, disk)| Amount::new(ram, disk));
    Some(Placed { server, amount })
}

/// What is reserved on a second server has a name of its own in the ledger.
pub fn elsewhere(uid: &str) -> String {
    format!("{uid}{MOVE}")
}
const MOVE: &str = "/move";

/// All reservations: those the records show, and those just made that they will show in a moment.
#[derive(Clone, Default)]
pub struct Reserved(Arc<Mutex<Ledger>>);

#[derive(Default)]
struct Ledger {
    by_uid: HashMap<String, Entry>,
    by_server: HashMap<String, Held>,
}

/// A reservation, and which part of it is in no measurement yet.
#[derive(Clone)]
struct Entry {
    placed: Placed,
    unmeasured: Amount,
    /// A record has shown it: one that does not show it any more takes it away.
    shown: bool,
}

/// What is known of a server while a choice is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All that is reserved.
    pub reserved: Amount,
    /// Of that, what those hold that used nothing yet when the server was last measured: it comes on top of what was.
    pub unmeasured: Amount,
    /// What was in use then, if this process has measured it.
    pub used: Option<Amount>,
}

/// Whose use is in a measurement, by uid.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    /// Those that ran: their memory is.
    pub ram: HashSet<String>,
    /// Those that ran at any time: their disk is.
    pub disk: HashSet<String>,
}

impl InUse {
    /// What the records tell. Of one that starts, memory counts once its container runs: it may never come to answer.
    pub fn of<'a>(members: impl IntoIterator<Item = &'a Workspace>) -> Self {
        let mut all = Self::default();
        for w in members {
            let Some((uid, status)) = w.uid().zip(w.status.as_ref()) else { continue };
            let runs = match status.phase {
                WorkspacePhase::Running => true,
                WorkspacePhase::Starting => holds(&status.conditions, "ContainerRunning"),
                _ => false,
            };
            if runs {
                all.ram.insert(uid.clone());
            }
            if status.started_at.is_some() {
                all.disk.insert(uid);
            }
        }
        all
    }
}

/// What is reserved on each server, while a choice is made.
pub struct Sums<'a>(&'a Ledger);

impl Sums<'_> {
    /// What is reserved on a server, and what was measured there.
    pub fn on(&self, server: &str) -> Held {
        self.0.by_server.get(server).copied().unwrap_or_default()
    }

    /// How many workspaces on a server are on their way to another one.
    pub fn leaving(&self, server: &str) -> usize {
        let all = &self.0.by_uid;
        let on_it = |uid: &str| all.get(uid).is_some_and(|entry| entry.placed.server == server);
        all.keys().filter_map(|key| key.strip_suffix(MOVE)).filter(|uid| on_it(uid)).count()
    }

    /// Servers, as the choice of one sees them.
    pub fn candidates<'s>(&self, servers: impl IntoIterator<Item = &'s DockerServer>) -> Vec<Candidate> {
        servers
            .into_iter()
            .map(|server| candidate(server, self.on(server.metadata.name.as_deref().unwrap_or_default())))
            .collect()
    }
}

fn candidate(server: &DockerServer, held: Held) -> Candidate {
    let status = server.status.as_ref();
    Candidate {
        name: server.name_any(),
        groups: server.spec.groups.clone(),
        phase: status.map(|s| s.phase).unwrap_or_default(),
        schedulable: server.spec.schedulable
            && !server.spec.evacuate
            && server.metadata.deletion_timestamp.is_none()
            && !is_suspended(server),
        ram_total_mb: status.and_then(|s| s.ram_total_mb),
        // The record has only what moved much.
        ram_used_mb: held.used.map(|used| used.ram_mb).or_else(|| status?.ram_used_mb),
        ram_reserved_mb: held.reserved.ram_mb,
        ram_unmeasured_mb: held.unmeasured.ram_mb,
        disk_total_gb: status.and_then(|s| s.disk_total_gb),
        disk_used_gb: held.used.map(Amount::disk_gb).or_else(|| status?.disk_used_gb),
        disk_reserved_gb: held.reserved.disk_gb(),
        disk_unmeasured_gb: held.unmeasured.disk_gb(),
    }
}

impl Reserved {
    /// What a record shows. A placement is never undone while the record is there, so that one without any changes nothing.
    pub fn seen(&self, w: &Workspace) {
        if w.claimed_by().is_some() {
            self.gone(&w.uid().unwrap_or_default());
        }
        let Some(placed) = placed(w) else { return };
        let (uid, mut ledger) = (w.uid().unwrap_or_default(), self.lock());
        let there = elsewhere(&uid);
        // What one that moves holds on one server it held there, by the other name, before it was handed over.
        let before = [&uid, &there].map(|key| ledger.by_uid.get(key).cloned());
        let of = |server: &str| before.iter().flatten().find(|e| e.placed.server == server).map(|e| e.unmeasured);
        // Of one that this process has not placed, what it uses is in the figures, until the next ones tell better.
        let unmeasured = of(&placed.server).unwrap_or_default();
        ledger.set(&uid, Some(Entry { placed, unmeasured, shown: true }));
        match moving(w) {
            Some(placed) => {
                let unmeasured = of(&placed.server).unwrap_or(placed.amount);
                ledger.set(&there, Some(Entry { placed, unmeasured, shown: true }));
            }
            // A copy from before it was reserved does not show it yet.
            None if before[1].as_ref().is_some_and(|e| e.shown) => drop(ledger.set(&there, None)),
            None => {}
        }
    }

    /// A server was measured while these used it.
    pub fn measured(&self, server: &str, used: Amount, by: &InUse) {
        let mut ledger = self.lock();
        let held = ledger.by_server.entry(server.to_owned()).or_default();
        held.used = Some(used);
        held.unmeasured = Amount::default();
        let Ledger { by_uid, by_server } = &mut *ledger;
        let Some(held) = by_server.get_mut(server) else { return };
        for (uid, entry) in by_uid.iter_mut().filter(|(_, e)| e.placed.server == server) {
            let Amount { ram_mb, disk_mb } = entry.placed.amount;
            entry.unmeasured.ram_mb = if by.ram.contains(uid) { 0 } else { ram_mb };
            entry.unmeasured.disk_mb = if by.disk.contains(uid) { 0 } else { disk_mb };
            held.unmeasured.add(entry.unmeasured);
        }
    }

    /// The workspace is gone.
    pub fn gone(&self, uid: &str) {
        self.lock().set(uid, None);
        self.leave(uid);
    }

    /// The workspace does not move after all.
    pub fn leave(&self, uid: &str) {
        self.lock().set(&elsewhere(uid), None);
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
        ledger.set(uid, chosen.as_ref().ok().cloned().map(Entry::new).or(before));
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
            // It uses already what the other used.
            Ok(placed) => {
                let unmeasured = held.map_or(placed.amount, |held| held.unmeasured);
                ledger.set(uid, Some(Entry { placed: placed.clone(), unmeasured, shown: false }))
            }
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

impl Entry {
    /// One that uses nothing yet.
    fn new(placed: Placed) -> Self {
        Self { unmeasured: placed.amount, placed, shown: false }
    }
}

impl Ledger {
    /// Sets what a workspace reserves; gives what it did before.
    fn set(&mut self, uid: &str, entry: Option<Entry>) -> Option<Entry> {
        let before = self.by_uid.remove(uid);
        if let Some(Entry { placed, unmeasured, .. }) = &before
            && let Some(held) = self.by_server.get_mut(&placed.server)
        {
            held.reserved.take(placed.amount);
            held.unmeasured.take(*unmeasured);
        }
        if let Some(entry) = entry {
            let held = self.by_server.entry(entry.placed.server.clone()).or_default();
            held.reserved.add(entry.placed.amount);
            held.unmeasured.add(entry.unmeasured);
            self.by_uid.insert(uid.to_owned(), entry);
        }
        before
    }
}

#[cfg(test)]
#[path = "reserved_tests.rs"]
mod tests;
