//! How often a container that keeps ending is started again: at once at first, then ever more seldom, so that a
//! workspace whose program fails costs its server nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
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

/// Starts by workspace and container.
#[derive(Default)]
pub struct Restarts(Mutex<BTreeMap<String, BTreeMap<String, Run>>>);

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
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(uid).and_then(|of| of.remove(container));
    }

    /// Forgets a workspace that is gone, or was stopped on purpose.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
