//! What passes did, for `devsanctum status` and for metrics.

use super::figures::History;
use super::triggers::Queue;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Passes kept for people to look at, per loop.
const KEPT: usize = 20;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Outcome {
    /// The record is as it should be.
    Settled,
    /// Something is under way.
    Waiting,
    /// Something failed that may work next time.
    Failed,
    /// A person must change a record.
    Stalled,
}

impl Outcome {
    /// Its label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Stalled => "stalled",
        }
    }
}

/// One pass.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassReport {
    /// Record, as `namespace/name`.
    pub record: String,
    /// When it ended (RFC 3339).
    pub at: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not settle.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What was done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// How long it took, in milliseconds.
    pub millis: f64,
}

/// A loop's passes so far.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoopReport {
    /// Passes by outcome.
    pub passes: BTreeMap<Outcome, u64>,
    /// Time spent, in milliseconds.
    pub total_millis: f64,
    /// When the last pass ended (RFC 3339).
    pub last_pass: Option<String>,
    /// How long the last pass took, in milliseconds.
    pub last_millis: f64,
    /// Records asked for and not begun.
    pub queue: usize,
    /// Passes that did something or did not settle, newest last.
    pub recent: VecDeque<PassReport>,
}

/// Told of every pass; metrics hang here.
pub trait PassObserver: Send + Sync {
    /// A pass ended.
    fn observe(&self, kind: &'static str, outcome: Outcome, took: Duration);
}

/// All loops' reports.
#[derive(Default)]
pub struct Reports {
    loops: Mutex<BTreeMap<&'static str, LoopReport>>,
    queues: Mutex<BTreeMap<&'static str, Queue>>,
    /// What was measured of servers.
    pub figures: History,
    observer: Option<Box<dyn PassObserver>>,
}

impl Reports {
    /// Reports that also tell `observer`.
    pub fn observed_by(observer: Box<dyn PassObserver>) -> Self {
        Self { observer: Some(observer), ..Self::default() }
    }

    /// Tells of a loop's queue from now on.
    pub fn watch(&self, kind: &'static str, queue: Queue) {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, queue);
    }

    /// Notes a pass.
    pub fn note(&self, kind: &'static str, report: PassReport) {
        if let Some(observer) = &self.observer {
            observer.observe(kind, report.outcome, Duration::from_secs_f64(report.millis / 1000.0));
        }
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = loops.entry(kind).or_default();
        *entry.passes.entry(report.outcome).or_default() += 1;
        entry.total_millis += report.millis;
        entry.last_millis = report.millis;
        entry.last_pass = Some(report.at.clone());
        if report.outcome != Outcome::Settled || !report.actions.is_empty() {
            entry.recent.push_back(report);
            if entry.recent.len() > KEPT {
                entry.recent.pop_front();
            }
        }
    }

    /// All loops' reports so far.
    pub fn snapshot(&self) -> BTreeMap<&'static str, LoopReport> {
        let mut all = self.loops.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (kind, queue) in self.queues.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            all.entry(kind).or_default().queue = queue.count();
        }
        all
    }
}
