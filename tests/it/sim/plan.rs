//! What is to go wrong in one simulation. As JSON it replays the run.

use super::planted::Bug;
use serde::{Deserialize, Serialize};

/// One simulation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Name of the workload.
    pub workload: String,
    /// Chance: ids, jitter, faults.
    pub seed: u64,
    /// What does not happen after all, in a day by chance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<usize>,
    /// What is wrong with the process itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bug: Option<Bug>,
    /// Where the process ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub crashes: Vec<Crash>,
    /// Which looks at an engine show how it was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<Stale>,
    /// Which changes of records are heard of late, or never.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    /// What a process that is started anew reads first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past: Option<Past>,
}

/// Records as they were: read from a replica that has not caught up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Plural of the kind.
    pub kind: String,
    /// How many changes back; it hears of them a minute later.
    pub back: usize,
}

/// A look that is answered as an earlier one was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// Number of the call in the trace.
    pub call: usize,
    /// How many different answers back.
    pub back: usize,
}

/// A change that the process does not hear of in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Plural of the kind.
    pub kind: String,
    /// Number of the change among those of the kind that were told.
    pub event: usize,
    pub how: How,
}

/// When a change is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// It, and all of its kind after it, this many seconds late.
    Late(u64),
    /// Not at all, if another change of the same record follows within half a minute; else then.
    Unseen,
}

/// A point at which the process ends; it is started again a second later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Number of the call in the trace.
    pub call: usize,
    pub moment: Moment,
}

/// When, around a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Moment {
    /// Before it is sent.
    Before,
    /// It has taken effect, and nobody has read the answer.
    Applied,
    /// The answer was read, and nothing that follows from it was written down.
    Unrecorded,
}

impl Plan {
    /// Whether the process sees things late, or as they were.
    pub fn is_view(&self) -> bool {
        !self.stale.is_empty() || !self.held.is_empty() || self.past.is_some()
    }

    /// Whether it is a day by chance.
    pub fn is_day(&self) -> bool {
        self.workload == "day"
    }

    /// Whether it takes a day at least or has many workspaces, so that more calls are no wonder.
    pub fn is_long(&self) -> bool {
        self.is_day() || self.workload.ends_with("-for-a-day") || super::workloads::FLEETS.iter().any(|w| w.name == self.workload)
    }

    /// How many things are to go wrong.
    pub fn points(&self) -> usize {
        self.crashes.len() + self.stale.len() + self.held.len() + usize::from(self.past.is_some())
    }

    pub fn of(workload: &str, seed: u64) -> Self {
        Self { workload: workload.into(), seed, ..Self::default() }
    }

    pub fn crash(&self, call: usize, moment: Moment) -> Self {
        let mut plan = self.clone();
        plan.crashes.push(Crash { call, moment });
        plan
    }
}
