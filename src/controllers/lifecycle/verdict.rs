//! What is to be done with a workspace now, what its record is to say, and when to look again: pure, but for how long it has been idle,
//! which is remembered.

use crate::controllers::idle::{Idleness, Told};
use crate::plan::lifecycle::{COARSEST, Life, Terms, Times, notice, resolution, times, warning};
use crate::plan::timetable::{Timetable, Turn};
use crate::resource::{Project, Settings, Workspace, WorkspacePhase, WorkspaceStatus, after};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// A schedule stops nobody who has worked within this time, or within what it takes to stop for want of work where that is less.
pub(super) const QUIET: Duration = Duration::from_secs(15 * 60);
/// One that is being brought up or stopped is left alone until it is: its own loop writes it then.
pub(super) const UNDER_WAY: Duration = Duration::from_secs(15);
/// Longest sleep: records move it sooner.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// What is to be done with a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Destroy,
    /// Nobody works in it.
    Stop,
    /// Its schedule says so.
    Turn(Turn, Timestamp),
    Nothing,
}

/// What settings and project lay down.
#[derive(Clone, Debug, Default)]
pub(super) struct LaidDown {
    pub terms: Terms,
    pub table: Option<Timetable>,
}

/// What a schedule comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scheduled {
    /// The last moment that was carried out; now, where a schedule has just been given.
    pub done: Option<Timestamp>,
    /// What is to be done now, and of which moment that is.
    pub turn: Option<(Turn, Timestamp)>,
    /// While somebody works in it: when to ask again.
    pub again: Option<Timestamp>,
    pub start_at: Option<Timestamp>,
    pub stop_at: Option<Timestamp>,
}

/// How a workspace stands.
pub(super) struct Verdict {
    pub times: Times,
    pub scheduled: Scheduled,
    pub due: Due,
}

pub(super) fn status(record: &Workspace) -> WorkspaceStatus {
    record.status.clone().unwrap_or_default()
}

/// A project's word goes before the settings'. What is not there says nothing.
pub(super) fn laid_down(project: Option<&Project>, settings: Option<&Settings>) -> LaidDown {
    let (own, all) = (project.map(|p| p.spec.lifecycle.clone()).unwrap_or_default(), settings.map(|s| s.spec.lifecycle.clone()));
    let all = all.unwrap_or_default();
    let of = |own: Option<String>, all: &str| after(own.as_deref().unwrap_or(all));
    let terms =
        Terms { stop_after: of(own.stop_after, &all.stop_after), destroy_after: of(own.destroy_after, &all.destroy_after) };
    LaidDown { terms, table: own.schedule.or(all.schedule).as_ref().and_then(Timetable::read) }
}

fn life(record: &Workspace, last_activity: Option<Timestamp>) -> Life {
    let status = status(record);
    let timed = status.stop_at.is_some();
    Life {
        created: record.creation_timestamp().map(|t| t.0).unwrap_or(Timestamp::MAX),
        up: record.spec.running && (timed || status.phase == WorkspacePhase::Running),
        timed,
        last_activity,
        announced: status.destroy_announced_at.as_deref().and_then(read),
        pinned: record.spec.pinned,
        kept: record.spec.kept,
    }
}

pub(super) fn judge(
    idleness: &mut Idleness,
    record: &Workspace,
    seen: Option<Instant>,
    rules: &LaidDown,
    (wall, now): (Timestamp, Instant),
) -> Verdict {
    let last = status(record).last_activity_at.as_deref().and_then(read);
    let told = Told { last, generation: record.metadata.generation };
    let uid = record.metadata.uid.as_deref().unwrap_or_default();
    let last = idleness.last(uid, told, seen, (wall, now));
    let times = times(&life(record, last), &rules.terms, wall);
    if times.last_activity != last {
        idleness.begin(uid, told.generation, (wall, now));
    }
    let scheduled = scheduled(record, rules, times.last_activity, wall);
    let is_over = |at: Option<Timestamp>| at.is_some_and(|at| at <= wall);
    let due = match (is_over(times.destroy_at), scheduled.turn, is_over(times.stop_at)) {
        (true, ..) => Due::Destroy,
        (false, Some((turn, at)), _) => Due::Turn(turn, at),
        (false, None, true) => Due::Stop,
        (false, None, false) => Due::Nothing,
    };
    Verdict { times, scheduled, due }
}

/// What a schedule comes to now. Of moments that nobody was there to carry out, the last one counts.
fn scheduled(record: &Workspace, rules: &LaidDown, last_activity: Option<Timestamp>, wall: Timestamp) -> Scheduled {
    let Some(table) = &rules.table else { return Scheduled::default() };
    let (running, pinned) = (record.spec.running, record.spec.pinned);
    let done = status(record).scheduled_at.as_deref().and_then(read);
    let mut found = Scheduled {
        done: done.or(Some(wall)),
        start_at: table.next(wall, Turn::Start).filter(|_| !running),
        stop_at: table.next(wall, Turn::Stop).filter(|_| running && !pinned),
        ..Scheduled::default()
    };
    let Some((at, turn)) = table.last(wall).filter(|(at, _)| done.is_some_and(|done| *at > done)) else { return found };
    let is_done = match turn {
        Turn::Start => running,
        Turn::Stop => !running || pinned,
    };
    let quiet = SignedDuration::try_from(rules.terms.stop_after.map_or(QUIET, |after| after.min(QUIET))).unwrap_or_default();
    let idle_at = last_activity.and_then(|last| last.checked_add(quiet).ok()).filter(|at| turn == Turn::Stop && *at > wall);
    match (is_done, idle_at) {
        (true, _) => found.done = Some(at),
        (false, Some(again)) => (found.again, found.stop_at) = (Some(again), Some(again)),
        (false, None) => found.turn = Some((turn, at)),
    }
    found
}

/// When it is told that a workspace will stop for want of work.
pub(super) fn warn_at(times: &Times, terms: Terms) -> Option<Timestamp> {
    times.stop_at.zip(terms.stop_after).map(|(at, after)| at - SignedDuration::try_from(warning(after)).unwrap_or_default())
}

/// When to look again although nothing happens.
pub(super) fn wait(record: &Workspace, Verdict { times, scheduled, .. }: &Verdict, terms: Terms, wall: Timestamp) -> Duration {
    let notice_at = times.destroy_at.zip(terms.destroy_after).filter(|_| times.announced.is_none());
    let notice_at = notice_at.map(|(at, after)| at - SignedDuration::try_from(notice(after)).unwrap_or_default());
    let warn_at = warn_at(times, terms).filter(|at| *at > wall);
    let all = [times.stop_at, warn_at, times.destroy_at, notice_at, scheduled.start_at, scheduled.stop_at, scheduled.again];
    let next = all.into_iter().flatten().min();
    let coming_up = record.spec.running && times.stop_at.is_none() && terms.stop_after.is_some() && !record.spec.pinned;
    let longest = if coming_up { UNDER_WAY } else { LONGEST };
    let until = |at: Timestamp| Duration::try_from(at.duration_since(wall)).unwrap_or_default();
    // Never busy: what is due is looked at a moment later.
    next.map_or(longest, until).clamp(Duration::from_millis(10), longest)
}

/// What the record is to say otherwise; nothing where it is true within [`resolution`].
pub(super) fn told(
    record: &Workspace,
    Verdict { times, scheduled, .. }: &Verdict,
    requests: Option<u64>,
    terms: Terms,
) -> Option<serde_json::Value> {
    let status = status(record);
    let resolution = terms.stop_after.map_or(COARSEST, resolution);
    // Looks are this far apart, and a moment.
    let fine = resolution.saturating_sub(Duration::from_secs(1)).max(resolution / 2);
    let fine = SignedDuration::try_from(fine).unwrap_or_default();
    let second = SignedDuration::from_secs(1);
    // The schedule may stop it before it is idle for long enough.
    let stop_at = times.stop_at.into_iter().chain(scheduled.stop_at).min();
    let all = [
        ("lastActivityAt", &status.last_activity_at, times.last_activity, fine),
        ("stopAt", &status.stop_at, stop_at, fine),
        ("startAt", &status.start_at, scheduled.start_at, second),
        ("scheduledAt", &status.scheduled_at, scheduled.done, second),
        ("destroyAt", &status.destroy_at, times.destroy_at, second),
        ("destroyAnnouncedAt", &status.destroy_announced_at, times.announced, second),
    ];
    let differs = |(_, told, new, by): &(&str, &Option<String>, Option<Timestamp>, SignedDuration)| match (
        told.as_deref().and_then(read),
        new,
    ) {
        (Some(told), Some(new)) => new.duration_since(told).abs() > *by,
        (told, new) => told.is_some() != new.is_some(),
    };
    if !all.iter().any(differs) {
        return None;
    }
    let times = all.iter().map(|(name, _, new, _)| ((*name).to_owned(), json!(new.map(write))));
    let mut changes: serde_json::Map<_, _> = times.collect();
    changes.insert("requests".into(), json!(requests.or(status.requests)));
    Some(changes.into())
}

fn read(at: &str) -> Option<Timestamp> {
    at.parse().ok()
}

/// Whole seconds, and never an earlier one.
pub(super) fn write(at: Timestamp) -> String {
    let part = at.subsec_nanosecond() > 0;
    let at = at.checked_add(SignedDuration::from_secs(i64::from(part))).unwrap_or(at);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
