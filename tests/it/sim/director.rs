//! Hears every call of the process to the world outside, numbers them, and ends the process where the plan says.

use super::chance::{SimClock, SplitMix};
use super::history::History;
use super::plan::{Crash, How, Moment, Plan};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// One call, as the trace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub at: Duration,
    /// `api`, `proxy` or the server's name.
    pub whom: String,
    /// `create`, `PATCH`, `publish`…
    pub name: String,
    pub what: String,
    /// The answer's status, when it is there.
    pub status: Option<u16>,
    /// Different answers that the same look had before.
    pub earlier: usize,
}

impl Call {
    /// Whether it is there to change something.
    pub fn acts(&self) -> bool {
        match self.whom.as_str() {
            "api" => self.name != "GET",
            "proxy" => true,
            _ => !LOOKS.contains(&self.name.as_str()),
        }
    }

    /// Without what differs from run to run when a plan has changed its course.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.whom, self.name, self.what)
    }
}

/// Calls to an engine that change nothing, or nothing that counts.
const LOOKS: [&str; 14] = [
    "containers",
    "networks",
    "volumes",
    "network",
    "volume",
    "inspect",
    "info",
    "image",
    "ping",
    "exec",
    "exec_start",
    "exec_inspect",
    "version",
    "events",
];

/// A process that was told how records were hears of the changes since this many seconds later.
const BEHIND: u64 = 60;
/// A workload needs some hundreds of calls, a day some thousands: with so many, there is no end to it.
const MOST_CALLS: usize = 2_000;
const MOST_CALLS_OF_DAYS: usize = 100_000;
/// Answers that are kept of each look.
const EARLIER: usize = 4;

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Goes,
    /// It, or its answer, never arrives: the process is dead.
    Lost,
    /// It is answered with an error; when that comes before it is done, nothing happens.
    Fails,
    /// The connection breaks.
    Breaks,
    /// It is answered as an earlier one was.
    Answers(Answer),
}

/// Status and body.
pub type Answer = (u16, Vec<u8>);

/// How many calls of a hundred go wrong, by chance: before they are done or after.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    pub engines: u64,
    pub api: u64,
    /// All fail in the same way, before they are done.
    pub alike: bool,
    /// Calls in which this does not occur go well.
    pub only: &'static str,
}

/// Hears every call.
pub struct Director {
    clock: Arc<SimClock>,
    state: Mutex<State>,
    died: Notify,
    acts: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    trace: Vec<Call>,
    /// By whom and the caller's own number.
    open: BTreeMap<(String, u64), usize>,
    plan: Plan,
    events: BTreeMap<String, usize>,
    /// The last different answers to each look.
    answers: BTreeMap<(String, String), VecDeque<Answer>>,
    past: BTreeMap<String, History>,
    /// A kind of which the process was told how it was.
    behind: Option<String>,
    dead: bool,
    /// The process is to end before its next write to the API.
    armed: bool,
    hit: Vec<(usize, String)>,
    broken: Vec<String>,
    chance: SplitMix,
    noise: Noise,
    /// Calls that go wrong after they are done.
    late: BTreeMap<usize, Fate>,
}

impl Director {
    pub fn new(clock: Arc<SimClock>, plan: &Plan) -> Arc<Self> {
        let state = State { plan: plan.clone(), chance: SplitMix(!plan.seed), ..State::default() };
        Arc::new(Self { clock, state: Mutex::new(state), died: Notify::new(), acts: watch::channel(0).0 })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A call has arrived.
    pub fn asked(&self, whom: &str, number: u64, name: &str, what: &str) -> Fate {
        let mut state = self.lock();
        if state.dead {
            return Fate::Lost;
        }
        let (at, nth) = (self.clock.elapsed(), state.trace.len());
        if nth >= if state.plan.is_long() { MOST_CALLS_OF_DAYS } else { MOST_CALLS } {
            let last: Vec<String> = state.trace.iter().rev().take(6).map(Call::label).collect();
            super::child::give_up(&format!("{nth} calls and no end, the last ones {}", last.join(", ")));
        }
        let call = Call { at, whom: whom.into(), name: name.into(), what: what.into(), status: None, earlier: 0 };
        let (acts, label) = (call.acts(), call.label());
        let writes = whom == "api" && acts;
        if acts {
            self.acts.send_modify(|n| *n += 1);
        }
        state.trace.push(call);
        state.open.insert((whom.into(), number), nth);
        let due = state.plan.crashes.iter().any(|c| c.call == nth && c.moment == Moment::Before);
        if due {
            state.hit.push((nth, label));
        }
        if due || (state.armed && writes) {
            return self.die(&mut state);
        }
        state.fate(nth)
    }

    /// A call was done; its answer has not left.
    pub fn done(&self, whom: &str, number: u64, status: u16, body: &[u8]) -> Fate {
        let mut state = self.lock();
        let Some(nth) = state.open.remove(&(whom.to_owned(), number)) else { return Fate::Goes };
        state.trace[nth].status = Some(status);
        if state.dead {
            return Fate::Lost;
        }
        let due = state.plan.crashes.iter().find(|c| c.call == nth && c.moment != Moment::Before).map(|c| c.moment);
        if due.is_some() {
            let label = state.trace[nth].label();
            state.hit.push((nth, label));
        }
        match due {
            Some(Moment::Applied) => self.die(&mut state),
            Some(Moment::Unrecorded) => {
                state.armed = true;
                Fate::Goes
            }
            _ => state.late.remove(&nth).or_else(|| state.answer(nth, status, body)).unwrap_or(Fate::Goes),
        }
    }

    /// Whether changes of records are counted and may be held back. A day has too many of them.
    pub fn follows(&self) -> bool {
        !self.lock().plan.is_day()
    }

    /// A change of a record is about to be told: how it is to be held back, if at all.
    pub fn told(&self, kind: &str, event: &Value) -> Option<How> {
        let mut state = self.lock();
        state.past.entry(kind.to_owned()).or_default().changed(event);
        if state.behind.as_deref() == Some(kind) {
            state.behind = None;
            return Some(How::Late(BEHIND));
        }
        let count = state.events.entry(kind.to_owned()).or_default();
        let nth = *count;
        *count += 1;
        let found = state.plan.held.iter().position(|h| h.kind == kind && h.event == nth)?;
        let how = state.plan.held[found].how;
        state.hit.push((nth, format!("{kind} {how:?}")));
        Some(how)
    }

    /// All records of a kind are about to be told: how they were, if that is what a new process is to be told.
    pub fn listed(&self, kind: &str, list: &Value) -> Option<Value> {
        let mut state = self.lock();
        let past = state.plan.past.clone().filter(|p| p.kind == kind && !state.hit.is_empty());
        let history = state.past.entry(kind.to_owned()).or_default();
        let old = past.and_then(|past| history.list(list, past.back));
        match &old {
            Some(_) => {
                state.plan.past = None;
                state.behind = Some(kind.to_owned());
                state.hit.push((0, format!("{kind} as they were")));
            }
            None => history.listed(list),
        }
        old
    }

    /// How many changes were told, by kind.
    pub fn events(&self) -> BTreeMap<String, usize> {
        self.lock().events.clone()
    }

    /// From now on, calls go wrong by chance.
    pub fn noise(&self, noise: Noise) {
        self.lock().noise = noise;
    }

    /// Whether calls go wrong by chance now.
    pub fn is_noisy(&self) -> bool {
        let noise = self.lock().noise;
        noise.engines + noise.api > 0
    }

    /// The process ends at a call to come, before it is done or after.
    pub fn crash_in(&self, calls: usize) {
        let mut state = self.lock();
        let moment = [Moment::Before, Moment::Applied, Moment::Unrecorded][state.chance.below(3)];
        let call = state.trace.len() + calls;
        state.plan.crashes.push(Crash { call, moment });
    }

    fn die(&self, state: &mut State) -> Fate {
        state.dead = true;
        self.died.notify_one();
        Fate::Lost
    }

    /// Waits until the plan ends the process.
    pub async fn death(&self) {
        self.died.notified().await;
    }

    /// A new process begins.
    pub fn revive(&self) {
        let mut state = self.lock();
        (state.dead, state.armed) = (false, false);
        state.open.clear();
    }

    /// All is done: a process that was only to end before a write that did not come ends now.
    pub fn rest(&self) {
        let mut state = self.lock();
        if state.armed && !state.dead {
            self.die(&mut state);
        }
    }

    /// Something does not hold that always must.
    pub fn broke(&self, what: String) {
        let mut state = self.lock();
        if !state.broken.contains(&what) {
            state.broken.push(what);
        }
    }

    pub fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    pub fn trace(&self) -> Vec<Call> {
        self.lock().trace.clone()
    }

    pub fn calls(&self) -> usize {
        self.lock().trace.len()
    }

    /// Ticks whenever a call is there to change something.
    pub fn acts(&self) -> watch::Receiver<u64> {
        self.acts.subscribe()
    }

    /// The plan's points that were come to, and what was called there.
    pub fn hit(&self) -> Vec<(usize, String)> {
        self.lock().hit.clone()
    }
}

impl State {
    /// Notes what a look was answered; gives what it is to be answered instead.
    fn answer(&mut self, nth: usize, status: u16, body: &[u8]) -> Option<Fate> {
        if body.is_empty() {
            return None;
        }
        let call = &mut self.trace[nth];
        let before = self.answers.entry((call.whom.clone(), call.what.clone())).or_default();
        call.earlier = before.iter().filter(|(_, old)| old != body).count();
        let back = self.plan.stale.iter().find(|s| s.call == nth).map(|s| s.back);
        let old = back.and_then(|back| before.iter().rev().filter(|(_, old)| old != body).nth(back - 1).cloned());
        if before.back().is_none_or(|(_, last)| last != body) {
            before.push_back((status, body.to_vec()));
            if before.len() > EARLIER {
                before.pop_front();
            }
        }
        let old = old?;
        let label = self.trace[nth].label();
        self.hit.push((nth, label));
        Some(Fate::Answers(old))
    }

    /// What becomes of a call while there is noise.
    fn fate(&mut self, nth: usize) -> Fate {
        let share = if self.trace[nth].whom == "api" { self.noise.api } else { self.noise.engines };
        if share == 0 || !self.trace[nth].what.contains(self.noise.only) || self.chance.next() % 100 >= share {
            return Fate::Goes;
        }
        if self.noise.alike {
            return Fate::Fails;
        }
        let fate = if self.chance.below(2) == 0 { Fate::Fails } else { Fate::Breaks };
        if self.chance.below(2) == 0 {
            return fate;
        }
        self.late.insert(nth, fate);
        Fate::Goes
    }
}

/// The trace in one number: equal for equal runs.
pub fn digest(trace: &[Call]) -> String {
    let mut hash = Sha256::new();
    for call in trace {
        hash.update(format!("{call:?}\n"));
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}
