//! How a pass fails, and when it is tried again: the one place that decides.

use crate::engine::EngineError;
use std::time::Duration;

/// First wait after a transient failure.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait after transient failures: with the jitter, less than 300 tries a day.
const LONGEST: Duration = Duration::from_secs(400);
/// First wait after the record was changed meanwhile; the longest is 64 times that.
const OVERTAKEN: Duration = Duration::from_millis(200);
/// A stalled record is looked at again this seldom, in case what is wrong lies outside the records.
const STALLED: Duration = Duration::from_secs(600);

/// What has to happen before another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A person must change a record.
    Stalled,
    /// Something is under way; look again after this long.
    Waiting(Duration),
    /// Nothing is known yet, so nothing is said about it; look again after this long.
    Unknown(Duration),
    /// The record was changed meanwhile. That change brings the next pass; in case it is long in coming, look again ever
    /// more seldom.
    Overtaken,
    /// Something failed that may work next time.
    Transient,
}

/// Why a pass could not bring its record to where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassError {
    /// Type of the condition this failure makes false.
    pub condition: &'static str,
    /// PascalCase.
    pub reason: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// When to try again.
    pub class: Class,
}

impl PassError {
    /// A person must change a record.
    pub fn stalled(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), class: Class::Stalled }
    }
    /// Something is under way.
    pub fn waiting(condition: &'static str, reason: &'static str, message: impl Into<String>, after: Duration) -> Self {
        Self { condition, reason, message: message.into(), class: Class::Waiting(after) }
    }
    /// Nothing is known yet: the record goes on saying what it says.
    pub fn unknown(message: impl Into<String>, after: Duration) -> Self {
        Self { condition: "Ready", reason: "NotKnownYet", message: message.into(), class: Class::Unknown(after) }
    }
    /// Something failed that may work next time.
    pub fn transient(condition: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), class: Class::Transient }
    }
    /// An engine's answer, kept in its own words.
    pub fn engine(condition: &'static str, e: &EngineError) -> Self {
        let reason = match e {
            EngineError::Unreachable(_) => "EngineUnreachable",
            EngineError::Denied(_) => "EngineDenied",
            EngineError::Conflict(_) => "NameTaken",
            EngineError::NotFound(_) => "ObjectVanished",
            EngineError::ImageMissing(_) => "ImageMissing",
            EngineError::Invalid(_) => "EngineRefused",
            EngineError::Failed(_) => "EngineFailed",
        };
        Self::transient(condition, reason, e.to_string())
    }
    /// Why a server's engine cannot be reached or worked with, by its own name where it has one.
    pub fn reaching(e: &EngineError) -> Self {
        let general = Self::engine("Reachable", e);
        Self { reason: e.cause().map_or(general.reason, crate::engine::Cause::reason), ..general }
    }
    /// The record is another one than was read.
    pub fn overtaken() -> Self {
        let (reason, message) = ("RecordMovedOn", "the record changed meanwhile".to_owned());
        Self { condition: "Ready", reason, message, class: Class::Overtaken }
    }
    /// Our own API's answer. A conflict means the record moved on: its change brings the next pass.
    pub fn api(e: &kube::Error) -> Self {
        match e {
            kube::Error::Api(s) if s.code == 409 => Self::overtaken(),
            e => Self::transient("Ready", "ApiFailed", e.to_string()),
        }
    }
}

impl From<kube::Error> for PassError {
    fn from(e: kube::Error) -> Self {
        Self::api(&e)
    }
}

/// When to try again after `attempts` failures in a row; `jitter` in 0..1 keeps records apart that failed together.
pub fn delay(class: Class, attempts: u32, jitter: f64) -> Duration {
    let base = match class {
        Class::Waiting(after) | Class::Unknown(after) => return after,
        Class::Stalled => STALLED,
        Class::Overtaken => OVERTAKEN.saturating_mul(1 << attempts.min(6)),
        Class::Transient => FIRST.saturating_mul(1 << attempts.min(20)).min(LONGEST),
    };
    base.mul_f64(0.75 + 0.5 * jitter)
}

/// How long what is done beside the passes, for an engine to answer at length, waits after so many failures.
pub fn beside(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_secs(300);
    FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_failures_back_off_to_a_limit() {
        let at = |n| delay(Class::Transient, n, 0.5);
        assert_eq!(at(0), Duration::from_millis(500));
        assert_eq!(at(1), Duration::from_secs(1));
        assert_eq!(at(40), LONGEST);
    }

    #[test]
    fn a_permanent_error_is_tried_less_than_300_times_a_day() {
        let mut spent = Duration::ZERO;
        let mut tries = 0;
        while spent < Duration::from_secs(24 * 3600) {
            spent += delay(Class::Transient, tries, 0.0);
            tries += 1;
        }
        assert!(tries < 300, "{tries}");
    }

    #[test]
    fn a_copy_that_does_not_catch_up_is_tried_ever_more_seldom() {
        let within_a_minute = (0..).scan(Duration::ZERO, |spent, n| {
            *spent += delay(Class::Overtaken, n, 0.5);
            (*spent < Duration::from_secs(60)).then_some(())
        });
        assert!(within_a_minute.count() < 12);
    }

    #[test]
    fn jitter_spreads_but_never_hurries_below_three_quarters() {
        assert!(delay(Class::Transient, 3, 0.0) >= Duration::from_secs(3));
        assert!(delay(Class::Transient, 3, 1.0) <= Duration::from_secs(5));
    }
}
