//! When a workspace is stopped and destroyed by itself, as one pure function.
//!
//! # Guarantees
//! - Nothing is stopped before it was without work for the whole time, nor destroyed before its age is reached *and* that was
//!   announced for [`notice`]: whatever was changed, and however long nobody was there to announce it.
//! - Pinned: neither. Kept: not destroyed.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long before it is destroyed that is announced, at most.
const NOTICE: Duration = Duration::from_secs(24 * 3600);
/// How long before it stops that is told, at most.
const WARNING: Duration = Duration::from_secs(10 * 60);
/// Activity is told within this of when it was, at most.
pub const COARSEST: Duration = Duration::from_secs(60);
/// It is looked for no more often than this.
const FINEST: Duration = Duration::from_secs(1);

/// What is laid down for a workspace; `None` is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// It stops after this long without work.
    pub stop_after: Option<Duration>,
    /// It is destroyed at this age.
    pub destroy_after: Option<Duration>,
}

/// What is known of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it was made.
    pub created: Timestamp,
    /// It is up, and is wanted to be.
    pub up: bool,
    /// It has a time to stop already.
    pub timed: bool,
    /// Last work seen in it.
    pub last_activity: Option<Timestamp>,
    /// When it was announced that it will be destroyed.
    pub announced: Option<Timestamp>,
    /// Neither stopped nor destroyed.
    pub pinned: bool,
    /// Not destroyed.
    pub kept: bool,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Last work: one that has just come up, or was unpinned, is not idle yet.
    pub last_activity: Option<Timestamp>,
    /// When it is to stop.
    pub stop_at: Option<Timestamp>,
    /// When it is to be destroyed.
    pub destroy_at: Option<Timestamp>,
    /// When that was announced: now, where it is news.
    pub announced: Option<Timestamp>,
}

/// How long it is announced that a workspace will be destroyed at this age.
pub fn notice(destroy_after: Duration) -> Duration {
    NOTICE.min(destroy_after / 2)
}

/// How long before a workspace stops for want of work that is told.
pub fn warning(stop_after: Duration) -> Duration {
    WARNING.min(stop_after / 4)
}

/// How exactly the time of activity is known, and so how often it is looked for.
pub fn resolution(stop_after: Duration) -> Duration {
    (stop_after / 4).clamp(FINEST, COARSEST)
}

/// Works out when a workspace stops and goes.
pub fn times(life: &Life, terms: &Terms, now: Timestamp) -> Times {
    let stop_after = terms.stop_after.filter(|_| life.up && !life.pinned);
    let begins = stop_after.is_some() && (!life.timed || life.last_activity.is_none());
    let last_activity = if begins { Some(now) } else { life.last_activity };
    let stop_at = stop_after.map(|after| later(last_activity.unwrap_or(now), after));
    let Some(after) = terms.destroy_after.filter(|_| !life.pinned && !life.kept) else {
        return Times { last_activity, stop_at, destroy_at: None, announced: None };
    };
    let (of_age, notice) = (later(life.created, after), notice(after));
    let announced = (later(now, notice) >= of_age).then(|| life.announced.unwrap_or(now).min(now));
    let destroy_at = announced.map_or(of_age, |at| of_age.max(later(at, notice)));
    Times { last_activity, stop_at, destroy_at: Some(destroy_at), announced }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
