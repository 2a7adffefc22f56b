//! How often a container that keeps ending is started again: at once at first, then ever more seldom, so that a
//! workspace whose program fails costs its server nothing. And which of them their engine cannot start any more, or not make, or
//! not limit as it should.

use crate::engine::{Container, ContainerId, ContainerState, Resources};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Starts in quick succession that are nobody's fault: somebody kills it by hand, a daemon restarts.
const FREE: u32 = 5;
/// First wait after those; doubles with each further start.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A container that stayed up this long is well again.
const WELL: Duration = Duration::from_secs(60);

/// A container is given up when its engine refused so many starts in a row, since something of its id is there …
const REFUSALS: u32 = 5;
/// … over at least this long. One that is still clearing up after the last run says the same, and is done within seconds.
const REFUSED_FOR: Duration = Duration::from_secs(120);

/// An engine does not give a limit when so many tries have come to the same. Of one, somebody may have changed it meanwhile.
const TRIES: u32 = 3;

/// By workspace and container.
type Of<T> = Mutex<BTreeMap<String, BTreeMap<String, T>>>;

/// Starts by workspace and container.
#[derive(Default)]
pub struct Restarts {
    runs: Of<Run>,
    refused: Of<Refused>,
    taken: Of<u32>,
    given: Of<Given>,
}

/// What a container may use right after it was given its limits, and how often that was so.
struct Given {
    id: ContainerId,
    resources: Resources,
    times: u32,
}

/// Starts refused in a row.
struct Refused {
    /// Of which container, and when it last ran: one that has run since was not stuck.
    id: ContainerId,
    started_at: String,
    count: u32,
    first: Instant,
    last: Instant,
}

impl Refused {
    fn of(&self, found: &Container) -> bool {
        self.id == found.id && self.started_at == found.started_at
    }
}

impl Given {
    fn of(&self, found: &Container) -> bool {
        self.id == found.id && found.resources == Some(self.resources)
    }
}

/// Whether an engine refuses to start a container in the words that are said when something of its id was left behind: that its
/// task (or its folder) exists (moby#36145, #39630, #50040). systemd clears up its units by itself.
fn is_left_behind(id: &ContainerId, words: &str) -> bool {
    words.contains(id.as_str()) && words.contains("exist") && !words.contains(".scope already exists")
}

fn lock<T>(of: &Of<T>) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, T>>> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
struct Run {
    count: u32,
    last: Instant,
}

impl Run {
    fn wait(self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(n) => FIRST_WAIT.saturating_mul(1 << n.min(10)).min(LONGEST_WAIT),
        }
    }
}

impl Restarts {
    /// Whether a container that ended may be started again now; if so, the start is counted.
    ///
    /// # Errors
    /// How often it was started in a row, and how long to wait.
    pub fn allow(&self, uid: &str, container: &str, now: Instant) -> Result<(), (u32, Duration)> {
        let mut all = lock(&self.runs);
        let run = all.entry(uid.to_owned()).or_default().entry(container.to_owned()).or_insert(Run { count: 0, last: now });
        let since = now.saturating_duration_since(run.last);
        if since >= run.wait() + WELL {
            run.count = 0;
        }
        if let Some(left) = run.wait().checked_sub(since).filter(|left| !left.is_zero()) {
            return Err((run.count, left));
        }
        *run = Run { count: run.count.saturating_add(1), last: now };
        Ok(())
    }

    /// Forgets a container that is made anew.
    pub fn forget_one(&self, uid: &str, container: &str) {
        lock(&self.runs).get_mut(uid).and_then(|of| of.remove(container));
        lock(&self.refused).get_mut(uid).and_then(|of| of.remove(container));
        lock(&self.given).get_mut(uid).and_then(|of| of.remove(container));
    }

    /// Forgets how the containers of a workspace ran, that was stopped on purpose.
    pub fn forget(&self, uid: &str) {
        lock(&self.runs).remove(uid);
        lock(&self.refused).remove(uid);
        lock(&self.taken).remove(uid);
    }

    /// Forgets a workspace that is gone.
    pub fn gone(&self, uid: &str) {
        self.forget(uid);
        lock(&self.given).remove(uid);
    }

    /// Notes what a container may use after it was given its limits, and that is something else. (Without swap accounting, say,
    /// Docker drops the limit of swap, and says so to nobody but who asks.)
    pub fn gives(&self, uid: &str, found: &Container) {
        let Some(resources) = found.resources else { return };
        let mut all = lock(&self.given);
        let begin = || Given { id: found.id.clone(), resources, times: 0 };
        let given = all.entry(uid.to_owned()).or_default().entry(found.name.clone()).or_insert_with(begin);
        if !given.of(found) {
            *given = begin();
        }
        given.times = given.times.saturating_add(1);
    }

    /// Whether what it may use is what its engine makes of its limits: giving them once more would change nothing.
    pub fn is_all_it_gives(&self, uid: &str, found: &Container) -> bool {
        let all = lock(&self.given);
        all.get(uid).and_then(|of| of.get(&found.name)).is_some_and(|given| given.of(found) && given.times >= TRIES)
    }

    /// Notes that the name of what was to be made was taken, though nothing was seen under it; gives how often in a row.
    pub fn taken(&self, uid: &str, what: &str) -> u32 {
        let mut all = lock(&self.taken);
        let count = all.entry(uid.to_owned()).or_default().entry(what.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Notes that it was made.
    pub fn made(&self, uid: &str, what: &str) {
        lock(&self.taken).get_mut(uid).and_then(|of| of.remove(what));
    }

    /// Notes that a container, as it was found before, could not be started, and what its engine said.
    pub fn refused(&self, uid: &str, found: &Container, words: &str, now: Instant) {
        let mut all = lock(&self.refused);
        let of = all.entry(uid.to_owned()).or_default();
        if !is_left_behind(&found.id, words) {
            of.remove(&found.name);
            return;
        }
        let begin = || Refused { id: found.id.clone(), started_at: found.started_at.clone(), count: 0, first: now, last: now };
        let refused = of.entry(found.name.clone()).or_insert_with(begin);
        if !refused.of(found) {
            *refused = begin();
        }
        (refused.count, refused.last) = (refused.count.saturating_add(1), now);
    }

    /// Whether a container ended and its engine cannot start it any more. Its own file system is given up then, so this takes
    /// more than one word of the engine.
    pub fn is_stuck(&self, uid: &str, found: &Container) -> bool {
        let all = lock(&self.refused);
        let refused = all.get(uid).and_then(|of| of.get(&found.name)).filter(|r| r.of(found));
        found.state == ContainerState::Exited
            && is_left_behind(&found.id, &found.error)
            && refused.is_some_and(|r| r.count >= REFUSALS && r.last.saturating_duration_since(r.first) >= REFUSED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ContainerSummary;

    fn ended(error: &str) -> Container {
        let summary = ContainerSummary {
            id: ContainerId::parse(&"5e".repeat(32)).unwrap(),
            name: "main".into(),
            labels: BTreeMap::new(),
            state: ContainerState::Exited,
            networks: BTreeMap::new(),
            mounts: BTreeMap::new(),
        };
        Container { error: error.replace("ID", &"5e".repeat(32)), ..summary.into() }
    }

    #[test]
    fn only_words_of_its_own_id_left_behind_for_good_are_about_a_stuck_container() {
        let left = |words: &str| is_left_behind(&ended("").id, &ended(words).error);
        assert!(left("task ID: already exists"));
        assert!(left("mkdir /run/containerd/moby/ID: file exists"));
        assert!(!left(""));
        assert!(!left("exec: \"/x\": no such file or directory"));
        assert!(!left("endpoint with name a already exists in network b"));
        assert!(!left("Unit docker-ID.scope already exists."), "systemd clears it up by itself");
    }

    #[test]
    fn a_container_is_stuck_only_when_its_start_was_refused_often_and_for_long() {
        let (restarts, begun) = (Restarts::default(), Instant::now());
        let found = ended("task ID: already exists");
        let refused = |found: &Container, seconds| {
            restarts.refused("u", found, &found.error, begun + Duration::from_secs(seconds));
            restarts.is_stuck("u", found)
        };
        assert!(!restarts.is_stuck("u", &found));
        assert!(!(0..119).step_by(2).any(|at| refused(&found, at)), "an engine may take a while to clear up");
        assert!(refused(&found, 120));
        // It ran meanwhile: it could be started.
        let ran = Container { started_at: "2026-01-01T00:00:00Z".into(), ..found.clone() };
        assert!(!restarts.is_stuck("u", &ran));
        assert!(!refused(&ran, 200) && !refused(&ran, 400), "twice is not often");
        let other = ended("no space left on device");
        restarts.refused("u", &Container { started_at: ran.started_at.clone(), ..other.clone() }, &other.error, begun);
        assert!(![500, 700, 710, 720].into_iter().any(|at| refused(&ran, at)), "another failure in between");
        assert!(refused(&ran, 730));
        restarts.forget("u");
        assert!(!restarts.is_stuck("u", &ran));
    }

    #[test]
    fn what_an_engine_makes_of_limits_is_all_it_gives_until_it_is_changed() {
        let (restarts, memory) = (Restarts::default(), 64 << 20);
        let may = |swap| Container { resources: Some(Resources { swap, ..Resources::limited(memory, 1, 8) }), ..ended("") };
        for _ in 0..2 {
            restarts.gives("u", &may(true));
            assert!(!restarts.is_all_it_gives("u", &may(true)), "somebody may have changed it again");
        }
        restarts.gives("u", &may(true));
        assert!(restarts.is_all_it_gives("u", &may(true)));
        assert!(!restarts.is_all_it_gives("v", &may(true)) && !restarts.is_all_it_gives("u", &may(false)));
        restarts.forget("u");
        assert!(restarts.is_all_it_gives("u", &may(true)), "it has the same limits when it is stopped");
        restarts.forget_one("u", "main");
        assert!(!restarts.is_all_it_gives("u", &may(true)), "it is made anew");
    }

    #[test]
    fn names_that_are_taken_are_counted_until_what_they_are_for_is_made() {
        let restarts = Restarts::default();
        assert_eq!([restarts.taken("u", "main"), restarts.taken("u", "main"), restarts.taken("u", "other")], [1, 2, 1]);
        restarts.forget_one("u", "main");
        assert_eq!(restarts.taken("u", "main"), 3, "it is forgotten before each try to make it");
        restarts.made("u", "main");
        assert_eq!(restarts.taken("u", "main"), 1);
    }

    #[test]
    fn a_container_that_keeps_ending_is_started_ever_more_seldom() {
        let (restarts, begun) = (Restarts::default(), Instant::now());
        let mut now = begun;
        let mut starts = 0;
        while now < begun + Duration::from_secs(24 * 3600) {
            match restarts.allow("u", "main", now) {
                Ok(()) => starts += 1,
                Err((_, wait)) => now += wait,
            }
        }
        assert!(starts < 310, "{starts} starts in a day");
    }

    #[test]
    fn a_few_kills_are_mended_at_once_and_forgotten_when_it_stays_up() {
        let (restarts, begun) = (Restarts::default(), Instant::now());
        let at = |seconds| restarts.allow("u", "main", begun + Duration::from_secs(seconds)).is_ok();
        assert!((0..5).all(at), "the first ones are free");
        assert!(!at(5));
        assert!((200..205).all(at), "it stayed up for long enough");
        restarts.forget("u");
        assert!(at(206));
    }
}
