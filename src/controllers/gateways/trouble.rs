//! Why a server has no gateway that works, and how long nothing is tried again.

use super::Gateways;
use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// One that ended, or could not be made, is not made anew as it was for this long, doubling up to [`LONGEST_REST`]: less than 300
/// times a day.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(400);
/// One that worked for so long since its last end begins anew.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// Why a server has no gateway that works.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// PascalCase.
    pub reason: &'static str,
    /// For people: what is wrong and what to do.
    pub words: String,
    /// What it was made of; empty where it is not at fault.
    pub digest: String,
    /// When that was seen.
    pub at: Instant,
    /// How often before, one time after the other.
    pub times: u32,
}

impl Trouble {
    /// What is wrong now.
    pub fn new(reason: &'static str, words: String, digest: &str) -> Self {
        Self { reason, words, digest: digest.to_owned(), at: Instant::now(), times: 0 }
    }

    /// How long nothing is tried again that was made of the same.
    fn rests(&self) -> Duration {
        FIRST_REST.saturating_mul(1 << self.times.min(10)).min(LONGEST_REST)
    }
}

/// The ends of a server's gateways that had answered.
pub(super) struct Ends {
    digest: String,
    times: u32,
    at: Instant,
}

impl Gateways {
    /// What was wrong with a server's gateway is so no more.
    pub fn works(&self, server: &str) {
        self.troubles().remove(server);
    }

    /// Something is wrong with a server's gateway; gives when to look again.
    pub fn fails(&self, server: &str, mut trouble: Trouble) -> Duration {
        let mut all = self.troubles();
        if let Some(before) = all.get(server) {
            // It is what was told before.
            let same = before.at == trouble.at;
            let again = (before.reason, &before.digest) == (trouble.reason, &trouble.digest);
            trouble.times = if same || !again { trouble.times } else { before.times + 1 };
        }
        let rests = trouble.rests();
        all.insert(server.to_owned(), trouble);
        rests
    }

    /// What was wrong lately with a gateway made of the same.
    pub fn held(&self, server: &str, digest: &str) -> Option<Trouble> {
        self.troubles().get(server).filter(|t| t.digest == digest && t.at.elapsed() < t.rests()).cloned()
    }

    /// Whether a gateway made of this worked when it was seen last, as far as is known.
    pub fn worked(&self, server: &str, digest: &str) -> bool {
        self.troubles().get(server).is_none_or(|t| t.digest != digest)
    }

    /// A gateway that had worked has ended. Gives what is to be told where no other is made for a while: the first end costs
    /// nothing, but one that ends again and again must not keep its host busy.
    pub fn ended(&self, server: &str, mut trouble: Trouble) -> Option<Trouble> {
        let mut all = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let same = all.get(server).filter(|ends| ends.digest == trouble.digest && ends.at.elapsed() < FORGOTTEN);
        let times = same.map_or(0, |ends| ends.times + 1);
        all.insert(server.to_owned(), Ends { digest: trouble.digest.clone(), times, at: trouble.at });
        trouble.times = times.checked_sub(1)?;
        Some(trouble)
    }

    pub(super) fn troubles(&self) -> MutexGuard<'_, BTreeMap<String, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_go_is_tried_ever_more_seldom_and_at_once_when_it_is_another() {
        let gateways = Gateways::default();
        let (mut tries, begun) = (0, Instant::now());
        while begun.elapsed() < Duration::from_secs(24 * 3600) {
            let found = gateways.held("rack", "a").unwrap_or_else(|| {
                tries += 1;
                Trouble::new("PortTaken", "taken".into(), "a")
            });
            tokio::time::advance(gateways.fails("rack", found).min(Duration::from_secs(60))).await;
        }
        assert!((100..300).contains(&tries), "{tries}");
        assert!(gateways.held("rack", "b").is_none(), "another image, say");
        assert_eq!(gateways.state("rack"), Some(Err("taken".into())));
        gateways.works("rack");
        assert!(gateways.held("rack", "a").is_none() && gateways.state("rack").is_none());
    }

    /// How long one that works at once and ends is not made anew.
    async fn ends(gateways: &Gateways, digest: &str) -> Duration {
        let begun = Instant::now();
        assert!(gateways.worked("rack", digest));
        if let Some(trouble) = gateways.ended("rack", Trouble::new("Ended", "killed".into(), digest)) {
            gateways.fails("rack", trouble);
            assert!(!gateways.worked("rack", digest) && gateways.worked("rack", "another"));
            while gateways.held("rack", digest).is_some() {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        gateways.works("rack");
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_again_and_again_after_it_answered_rests_ever_longer_and_the_first_end_costs_nothing() {
        let gateways = Gateways::default();
        let mut rests = Vec::new();
        for _ in 0..9 {
            rests.push(ends(&gateways, "a").await.as_secs());
        }
        assert_eq!(rests, [0, 10, 20, 40, 80, 160, 320, 400, 400]);
        assert_eq!(ends(&gateways, "b").await, Duration::ZERO, "another image, say");
        tokio::time::advance(FORGOTTEN).await;
        assert_eq!(ends(&gateways, "b").await, Duration::ZERO, "long ago");
    }
}
