//! What was measured of servers in the last day, by this process: records tell the last figures alone, so that none is written for
//! each that moves.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Between those that are kept.
const APART: SignedDuration = SignedDuration::from_mins(15);
/// A day of them.
const KEPT: usize = 96;

/// A server's figures at a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// When they were read.
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    /// Processor time in use since the look before, in cores; `None` for the first.
    pub cpu_used: Option<f64>,
    /// Cores.
    pub cpu_total: u32,
    /// Memory in use, in bytes; caches not counted.
    pub ram_used: u64,
    /// Memory, in bytes.
    pub ram_total: u64,
    /// Disk in use under Docker's data folder, in bytes.
    pub disk_used: u64,
    /// That disk, in bytes.
    pub disk_total: u64,
    /// Workspaces placed there.
    pub workspaces: usize,
}

fn rfc3339<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

/// Figures by server, the newest last.
#[derive(Default)]
pub struct History(Mutex<BTreeMap<String, VecDeque<Figures>>>);

impl History {
    /// Notes what was measured. The newest is there, and before it one each quarter of an hour.
    pub fn note(&self, server: &str, new: Figures) {
        let mut all = self.lock();
        let kept = all.entry(server.to_owned()).or_default();
        let mut newest = kept.iter().rev().map(|one| one.at);
        if let (Some(last), Some(before)) = (newest.next(), newest.next())
            && last.duration_since(before) < APART
        {
            kept.pop_back();
        }
        kept.push_back(new);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// Forgets a server that is gone.
    pub fn forget(&self, server: &str) {
        self.lock().remove(server);
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Vec<Figures>> {
        self.lock().iter().map(|(server, kept)| (server.clone(), kept.iter().cloned().collect())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, VecDeque<Figures>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_there_and_a_day_before_it() {
        let history = History::default();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |minute: i64| begun + SignedDuration::from_mins(minute);
        for minute in 0..=(40 * 60) {
            let (at, ram_used) = (at(minute), u64::try_from(minute).unwrap());
            let (cpu_used, cpu_total) = (Some(0.5), 1);
            let now = Figures { at, cpu_used, cpu_total, ram_used, ram_total: 1, disk_used: 0, disk_total: 1, workspaces: 0 };
            history.note("rack", now);
        }
        let kept: Vec<Timestamp> = history.all()["rack"].iter().map(|one| one.at).collect();
        assert_eq!((kept.len(), kept[KEPT - 1]), (KEPT, at(40 * 60)));
        assert!(kept[..KEPT - 1].windows(2).all(|two| two[1].duration_since(two[0]) == APART), "{kept:?}");
        assert!(kept[KEPT - 1].duration_since(kept[0]) > SignedDuration::from_hours(23), "{kept:?}");
        history.forget("rack");
        assert!(history.all().is_empty());
    }
}
