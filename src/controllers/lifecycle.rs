//! The lifecycle loop: stops workspaces that nobody works in, and destroys those of age, by editing what is desired. The workspace loop
//! does the rest.
//!
//! # Guarantees
//! - Nothing is stopped unless a look for work that began after its time was up has found none. Where nothing can be seen, nothing stops.
//! - Nothing is destroyed that was not announced; see [`crate::plan::lifecycle`].
//! - What is desired is read anew before either, and the write is refused if it has changed since.
//! - It writes only its own times; a record for which nothing is laid down is not written at all.

use super::activity::Activity;
use super::context::Context;
use super::events;
use super::herald::{Herald, Notice};
use super::idle::{Idleness, TOLERANCE, Told};
use super::skeleton::Frame;
use super::triggers::Asked;
use crate::plan::lifecycle::{COARSEST, Life, Terms, Times, notice, resolution, times};
use crate::resource::{Project, SETTINGS_NAME, Settings, Workspace, WorkspacePhase, WorkspaceStatus, after, labels};
use futures::StreamExt;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

const MANAGER: &str = "devsanctum-lifecycle";
const CONCURRENCY: u16 = 16;
/// One that is being brought up or stopped is left alone until it is: its own loop writes it then.
const UNDER_WAY: Duration = Duration::from_secs(15);
/// A new one that is not up after this long is told its times all the same.
const LATE: Duration = Duration::from_secs(120);
/// What failed, or was overtaken, is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// So is what is due while nothing can be seen.
const BLIND: Duration = Duration::from_secs(30);
/// Longest sleep: records move it sooner.
const LONGEST: Duration = Duration::from_secs(3600);

/// The loop.
pub struct Lifecycles {
    ctx: Context,
    activity: Activity,
    herald: Arc<dyn Herald>,
    idleness: Mutex<Idleness>,
    /// Something is timed that was not.
    timed: Notify,
}

/// What is to be done with a workspace.
enum Due {
    Destroy,
    Stop,
    Nothing,
}

/// The clock on the wall, and the one that is never set.
#[derive(Clone, Copy)]
struct Clocks(Timestamp, Instant);

impl Clocks {
    fn read(frame: &Frame) -> Self {
        Self(frame.clock.now(), Instant::now())
    }
    /// Whether they went differently far since; from now on they are compared with these.
    fn were_set(&mut self, now: Self) -> bool {
        let (wall, other) = (now.0.duration_since(self.0), now.1.duration_since(self.1));
        *self = now;
        (wall - SignedDuration::try_from(other).unwrap_or_default()).abs() > TOLERANCE
    }
}

/// How a workspace stands.
struct Verdict {
    times: Times,
    due: Due,
}

impl Lifecycles {
    /// Knows nothing yet.
    pub fn new(ctx: Context, activity: Activity, herald: Arc<dyn Herald>) -> Arc<Self> {
        Arc::new(Self { ctx, activity, herald, idleness: Mutex::default(), timed: Notify::new() })
    }

    /// Runs until told to stop.
    pub async fn run(self: Arc<Self>, store: Store<Workspace>, asked: Asked<Workspace>) {
        let Asked { refs, queue } = asked;
        let Frame { stop, reports, .. } = self.ctx.frame.clone();
        reports.watch("lifecycle", queue.clone());
        let looking = self.clone();
        let controller = Controller::for_shared_stream(futures::stream::pending(), store)
            .reconcile_on(refs)
            .with_config(Config::default().concurrency(CONCURRENCY))
            .graceful_shutdown_on(async move { stop.cancelled().await })
            .run(
                move |record: Arc<Workspace>, it: Arc<Self>| {
                    queue.begun(record.namespace().as_deref(), &record.name_any());
                    async move { Ok::<_, Infallible>(it.look_after(&record).await) }
                },
                |_, e: &Infallible, _| match *e {},
                self,
            )
            .for_each(|_| futures::future::ready(()));
        tokio::select! {
            () = controller => {}
            never = looking.keep_looking() => match never {},
        }
    }

    /// Looks for work as often as the shortest term wants, and not at all where nothing stops by itself.
    async fn keep_looking(&self) -> Infallible {
        let (mut told, mut clocks) = (None, Clocks::read(&self.ctx.frame));
        loop {
            let shortest = self.ctx.caches.workspaces.state().iter().filter_map(|w| self.looked_for(w)).min();
            if timeout(shortest.map_or(LONGEST, resolution), self.timed.notified()).await.is_ok() || shortest.is_none() {
                continue;
            }
            // A record that tells a time of before is mended while it is known by how much.
            if clocks.were_set(Clocks::read(&self.ctx.frame)) {
                self.ctx.triggers.lifecycles.fire_all(&self.ctx.caches.workspaces);
            }
            let found = self.activity.look().await.err();
            if let Some(why) = found.as_ref().filter(|why| told.as_ref() != Some(*why)) {
                tracing::warn!(why, "work in workspaces cannot be seen: none is stopped for want of it");
            }
            told = found;
        }
    }

    /// After how long a workspace stops, if it is one that does.
    fn looked_for(&self, record: &Workspace) -> Option<Duration> {
        let timed = record.spec.running && record.status.as_ref().is_some_and(|s| s.stop_at.is_some());
        self.terms(record).stop_after.filter(|_| timed)
    }

    /// What is laid down for it, by the copies.
    fn terms(&self, record: &Workspace) -> Terms {
        let project = self.ctx.caches.projects.get(&ObjectRef::new(&record.namespace().unwrap_or_default()));
        let settings = self.ctx.caches.settings.get(&ObjectRef::new(SETTINGS_NAME));
        terms(project.as_deref(), settings.as_deref())
    }

    async fn look_after(&self, record: &Workspace) -> Action {
        let uid = record.uid().unwrap_or_default();
        if record.metadata.deletion_timestamp.is_some() {
            self.lock().forget(&uid);
            return Action::await_change();
        }
        if labels::is_suspended(record) || record.warm_of().is_some() || record.claimed_by().is_some() {
            return Action::await_change();
        }
        let terms = self.terms(record);
        let wait = match self.judge(record, terms) {
            Verdict { due: Due::Nothing, times } => self.tell(record, &times, terms).await,
            Verdict { due: Due::Destroy, .. } => self.end(record).await,
            Verdict { due: Due::Stop, times } => match self.activity.look().await {
                Ok(()) => self.end(record).await,
                Err(why) => {
                    self.blind(record, &times, &why);
                    Ok(BLIND)
                }
            },
        };
        Action::requeue(wait.unwrap_or_else(|error| {
            tracing::debug!(record = record.name_any(), %error, "the lifecycle loop tries again");
            AGAIN
        }))
    }

    fn judge(&self, record: &Workspace, terms: Terms) -> Verdict {
        let seen = self.activity.last(record.metadata.uid.as_deref().unwrap_or_default());
        judge(&mut self.lock(), record, seen, terms, (self.ctx.frame.clock.now(), Instant::now()))
    }

    /// Writes the times, where they are others, and gives when to look again.
    async fn tell(&self, record: &Workspace, times: &Times, terms: Terms) -> Result<Duration, kube::Error> {
        if self.is_under_way(record) {
            return Ok(UNDER_WAY);
        }
        let new = told(record, times, self.activity.requests(&record.uid().unwrap_or_default()), terms);
        if let Some(changes) = new {
            let announced = times.announced.is_some() && status(record).destroy_announced_at.is_none();
            if announced && !self.announce(record, times, terms).await {
                return Ok(BLIND);
            }
            let body = json!({"metadata": {"resourceVersion": record.resource_version()}, "status": changes});
            self.api(record).patch_status(&record.name_any(), &params(), &Patch::Merge(body)).await?;
            if times.stop_at.is_some() && status(record).stop_at.is_none() {
                self.timed.notify_one();
            }
        }
        Ok(wait(record, times, terms, self.ctx.frame.clock.now()))
    }

    /// Stops or destroys what is due still, by what the records say now.
    async fn end(&self, record: &Workspace) -> Result<Duration, kube::Error> {
        let client = self.ctx.frame.client.clone();
        let namespace = record.namespace().unwrap_or_default();
        let now = self.api(record).get_opt(&record.name_any()).await?.filter(|now| now.uid() == record.uid());
        let Some(now) = now.filter(|now| now.metadata.deletion_timestamp.is_none() && !labels::is_suspended(now)) else {
            return Ok(LONGEST);
        };
        let project = Api::<Project>::all(client.clone()).get_opt(&namespace).await?;
        let settings = Api::<Settings>::all(client).get_opt(SETTINGS_NAME).await?;
        let terms = terms(project.as_ref(), settings.as_ref());
        let Verdict { times, due } = self.judge(&now, terms);
        match due {
            Due::Nothing => return Ok(AGAIN),
            Due::Stop => self.stop(&now, &times, terms).await?,
            Due::Destroy => self.destroy(&now, terms).await?,
        }
        Ok(LONGEST)
    }

    async fn stop(&self, record: &Workspace, times: &Times, terms: Terms) -> Result<(), kube::Error> {
        let body = json!({"metadata": {"resourceVersion": record.resource_version()}, "spec": {"running": false}});
        self.api(record).patch(&record.name_any(), &params(), &Patch::Merge(body)).await?;
        let (last, after) = (times.last_activity.map(write).unwrap_or_default(), spoken(terms.stop_after));
        let note = format!("stopped: nobody has worked in it since {last}, and it stops after {after}; its files are kept");
        tracing::info!(workspace = record.name_any(), namespace = record.namespace(), note, "lifecycle");
        events::tell(&self.ctx.frame, record, false, "StoppedIdle", note);
        Ok(())
    }

    async fn destroy(&self, record: &Workspace, terms: Terms) -> Result<(), kube::Error> {
        let only = Preconditions { uid: record.uid(), resource_version: record.resource_version() };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        self.api(record).delete(&record.name_any(), &params).await?;
        let after = spoken(terms.destroy_after);
        let note = format!("destroyed: workspaces are after {after}, and it was neither kept nor pinned");
        tracing::info!(workspace = record.name_any(), namespace = record.namespace(), note, "lifecycle");
        events::tell(&self.ctx.frame, record, false, "DestroyedOfAge", note);
        Ok(())
    }

    /// Whether it could be told.
    async fn announce(&self, record: &Workspace, times: &Times, terms: Terms) -> bool {
        let (at, after) = (times.destroy_at.map(write).unwrap_or_default(), spoken(terms.destroy_after));
        let note = format!(
            "will be destroyed at {at}, files and all, as workspaces are after {after}; set spec.kept to true to keep it, or \
             spec.pinned for it not to be stopped either"
        );
        let notice = Notice {
            uid: record.uid().unwrap_or_default(),
            project: record.namespace().unwrap_or_default(),
            workspace: record.name_any(),
            owner: record.spec.owner.clone(),
            at,
            after,
        };
        if let Err(why) = self.herald.destroyed_soon(&notice).await {
            tracing::warn!(
                workspace = notice.workspace,
                project = notice.project,
                why,
                "it is not destroyed until its owner is told"
            );
            return false;
        }
        events::tell(&self.ctx.frame, record, true, "DestroyedSoon", note);
        true
    }

    /// It is to stop, and nobody can say whether it is worked in.
    fn blind(&self, record: &Workspace, times: &Times, why: &str) {
        let at = times.stop_at.map(write).unwrap_or_default();
        let note = format!("should have stopped at {at}, but whether somebody works in it cannot be seen: {why}");
        events::tell(&self.ctx.frame, record, true, "ActivityUnknown", note);
    }

    fn is_under_way(&self, record: &Workspace) -> bool {
        let phase = status(record).phase;
        if !record.spec.running {
            return status(record).stop_at.is_some() && phase != WorkspacePhase::Stopped;
        }
        let age = record.creation_timestamp().map(|t| self.ctx.frame.clock.now().duration_since(t.0));
        phase != WorkspacePhase::Running && age.is_some_and(|age| age.unsigned_abs() < LATE)
    }

    fn api(&self, record: &Workspace) -> Api<Workspace> {
        Api::namespaced(self.ctx.frame.client.clone(), &record.namespace().unwrap_or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idleness> {
        self.idleness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(
    idleness: &mut Idleness,
    record: &Workspace,
    seen: Option<Instant>,
    terms: Terms,
    (wall, now): (Timestamp, Instant),
) -> Verdict {
    let last = status(record).last_activity_at.as_deref().and_then(read);
    let told = Told { last, generation: record.metadata.generation };
    let uid = record.metadata.uid.as_deref().unwrap_or_default();
    let last = idleness.last(uid, told, seen, (wall, now));
    let times = times(&life(record, last), &terms, wall);
    if times.last_activity != last {
        idleness.begin(uid, told.generation, (wall, now));
    }
    let is_over = |at: Option<Timestamp>| at.is_some_and(|at| at <= wall);
    let due = match (is_over(times.destroy_at), is_over(times.stop_at)) {
        (true, _) => Due::Destroy,
        (false, true) => Due::Stop,
        (false, false) => Due::Nothing,
    };
    Verdict { times, due }
}

/// When to look again although nothing happens.
fn wait(record: &Workspace, times: &Times, terms: Terms, wall: Timestamp) -> Duration {
    let notice_at = times.destroy_at.zip(terms.destroy_after).filter(|_| times.announced.is_none());
    let notice_at = notice_at.map(|(at, after)| at - SignedDuration::try_from(notice(after)).unwrap_or_default());
    let next = [times.stop_at, times.destroy_at, notice_at].into_iter().flatten().min();
    let coming_up = record.spec.running && times.stop_at.is_none() && terms.stop_after.is_some() && !record.spec.pinned;
    let longest = if coming_up { UNDER_WAY } else { LONGEST };
    let until = |at: Timestamp| Duration::try_from(at.duration_since(wall)).unwrap_or_default();
    // Never busy: what is due is looked at a moment later.
    next.map_or(longest, until).clamp(Duration::from_millis(10), longest)
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

fn status(record: &Workspace) -> WorkspaceStatus {
    record.status.clone().unwrap_or_default()
}

/// A project's word goes before the settings'. What is not there says nothing.
fn terms(project: Option<&Project>, settings: Option<&Settings>) -> Terms {
    let (own, all) = (project.map(|p| p.spec.lifecycle.clone()).unwrap_or_default(), settings.map(|s| s.spec.lifecycle.clone()));
    let all = all.unwrap_or_default();
    let of = |own: Option<String>, all: &str| after(own.as_deref().unwrap_or(all));
    Terms { stop_after: of(own.stop_after, &all.stop_after), destroy_after: of(own.destroy_after, &all.destroy_after) }
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

/// What the record is to say otherwise; nothing where it is true within [`resolution`].
fn told(record: &Workspace, times: &Times, requests: Option<u64>, terms: Terms) -> Option<serde_json::Value> {
    let status = status(record);
    let resolution = terms.stop_after.map_or(COARSEST, resolution);
    // Looks are this far apart, and a moment.
    let fine = resolution.saturating_sub(Duration::from_secs(1)).max(resolution / 2);
    let fine = SignedDuration::try_from(fine).unwrap_or_default();
    let differs = |told: &Option<String>, new: Option<Timestamp>, by: SignedDuration| match (told.as_deref().and_then(read), new)
    {
        (Some(told), Some(new)) => new.duration_since(told).abs() > by,
        (told, new) => told.is_some() != new.is_some(),
    };
    let second = SignedDuration::from_secs(1);
    let other = differs(&status.last_activity_at, times.last_activity, fine)
        || differs(&status.stop_at, times.stop_at, fine)
        || differs(&status.destroy_at, times.destroy_at, second)
        || differs(&status.destroy_announced_at, times.announced, second);
    other.then(|| {
        json!({
            "lastActivityAt": times.last_activity.map(write), "stopAt": times.stop_at.map(write),
            "destroyAt": times.destroy_at.map(write), "destroyAnnouncedAt": times.announced.map(write),
            "requests": requests.or(status.requests),
        })
    })
}

fn read(at: &str) -> Option<Timestamp> {
    at.parse().ok()
}

/// Whole seconds, and never an earlier one.
fn write(at: Timestamp) -> String {
    let part = at.subsec_nanosecond() > 0;
    let at = at.checked_add(SignedDuration::from_secs(i64::from(part))).unwrap_or(at);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn spoken(after: Option<Duration>) -> String {
    after.map(|after| humantime::format_duration(after).to_string()).unwrap_or_default()
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
