//! How long workspaces have been without work, by a clock that is never set.
//!
//! Records tell it by the wall clock, which is set, and goes on while a machine sleeps, when nobody can work. What was seen by this
//! process is counted by a clock that does neither; where the two disagree, the record is told another time.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Clocks that are this far apart were not set.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// What a record says.
#[derive(Clone, Copy, Default)]
pub struct Told {
    /// When it was last worked in.
    pub last: Option<Timestamp>,
    /// Its generation: who edits it is there.
    pub generation: Option<i64>,
}

#[derive(Clone, Copy)]
struct Idle {
    generation: Option<i64>,
    /// What the record said, and what it is to say: whole seconds may be written.
    told: Timestamp,
    given: Timestamp,
    /// How long it had been idle at that moment.
    idle: Duration,
    at: Instant,
}

impl Idle {
    fn is_of(&self, last: Timestamp) -> bool {
        last == self.told || last.duration_since(self.given).abs() <= SignedDuration::from_secs(1)
    }
}

/// All that were looked at.
#[derive(Default)]
pub struct Idleness(HashMap<String, Idle>);

impl Idleness {
    /// When a workspace was last worked in, as the wall clock has it now; `seen` is when this process saw it.
    pub fn last(
        &mut self,
        uid: &str,
        Told { last, generation }: Told,
        seen: Option<Instant>,
        (wall, now): (Timestamp, Instant),
    ) -> Option<Timestamp> {
        let before = self.0.get(uid).copied();
        let edited = before.is_some_and(|before| before.generation != generation);
        let by_record = last.map(|last| match before.filter(|before| before.is_of(last)) {
            Some(before) => before.idle + now.duration_since(before.at),
            None => Duration::try_from(wall.duration_since(last)).unwrap_or_default(),
        });
        let by_sight = seen.map(|seen| now.duration_since(seen));
        let by_edit = edited.then_some(Duration::ZERO);
        let idle = [by_record, by_sight, by_edit].into_iter().flatten().min()?;
        let found = SignedDuration::try_from(idle).ok().and_then(|idle| wall.checked_sub(idle).ok()).unwrap_or(wall);
        // Never an earlier time than was found.
        let given = last.filter(|last| (SignedDuration::ZERO..=TOLERANCE).contains(&last.duration_since(found))).unwrap_or(found);
        self.0.insert(uid.to_owned(), Idle { generation, told: last.unwrap_or(found), given, idle, at: now });
        Some(given)
    }

    /// A workspace begins to be timed, as if it was worked in now.
    pub fn begin(&mut self, uid: &str, generation: Option<i64>, (wall, now): (Timestamp, Instant)) {
        self.0.insert(uid.to_owned(), Idle { generation, told: wall, given: wall, idle: Duration::ZERO, at: now });
    }

    /// Forgets a workspace that is gone.
    pub fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const HOUR: Duration = Duration::from_secs(3600);

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn says(last: i64) -> Told {
        Told { last: Some(wall(last)), generation: Some(1) }
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_as_it_does_and_not_as_the_clock_on_the_wall_says() {
        let mut idleness = Idleness::default();
        let mut ask = |told, seen, at| idleness.last("w", says(told), seen, (wall(at), Instant::now()));
        assert_eq!(ask(0, None, 3600), Some(wall(0)), "what the record says, at first");
        advance(HOUR).await;
        assert_eq!(ask(0, None, 7200), Some(wall(0)));
        // The clock is set on by a day, and back by three.
        assert_eq!(ask(0, None, 7200 + 86_400), Some(wall(86_400)), "idle for two hours still");
        assert_eq!(ask(86_400, None, 7200 - 2 * 86_400), Some(wall(-2 * 86_400)));
        // The machine slept for a night.
        advance(HOUR).await;
        assert_eq!(ask(-172_800, None, 10_800 - 172_800 + 30_000), Some(wall(30_000 - 172_800)));
        // Somebody works.
        let seen = Some(Instant::now());
        advance(HOUR).await;
        assert_eq!(ask(0, seen, 100_000), Some(wall(96_400)));
        assert_eq!(ask(96_400, seen, 100_000), Some(wall(96_400)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_record_says_later_counts() {
        let mut idleness = Idleness::default();
        let now = Instant::now();
        assert_eq!(idleness.last("w", Told::default(), None, (wall(0), now)), None);
        let mut ask = |told: Told| idleness.last("w", told, None, (wall(0), now));
        assert_eq!(ask(says(-100)), Some(wall(-100)));
        assert_eq!(ask(says(-10)), Some(wall(-10)), "another replica has seen it");
        assert_eq!(ask(says(500)), Some(wall(0)), "told by a clock that was ahead");
        assert_eq!(ask(says(-100)), Some(wall(-100)));
        assert_eq!(ask(Told { generation: Some(2), ..says(-100) }), Some(wall(0)), "somebody edits it");
    }
}
