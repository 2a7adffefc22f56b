//! The lifecycle loop: stops workspaces that nobody works in, and destroys those of age, by editing what is desired. The workspace loop
//! does the rest.
//!
//! # Guarantees
//! - But for those of who is deactivated, nothing is stopped unless a look for work that began after its time was up has found none, and
//!   what stands open to it was looked at for a while. Where nothing can be seen, nothing stops.
//! - Nothing is destroyed that was not announced; see [`crate::plan::lifecycle`].
//! - What is desired is read anew before either, and the write is refused if it has changed since.
//! - It writes only its own times; a record for which nothing is laid down is not written at all.

mod owner;
mod verdict;

use super::activity::Activity;
use super::context::Context;
use super::events;
use super::herald::{Herald, Notice};
use super::idle::{Idleness, TOLERANCE};
use super::retry;
use super::skeleton::Frame;
use super::triggers::Asked;
use crate::engine::{ContainerId, EngineError};
use crate::plan::lifecycle::{Terms, Times, resolution};
use crate::plan::timetable::Turn;
use crate::resource::{Project, SETTINGS_NAME, Settings, Workspace, WorkspacePhase, labels};
use futures::StreamExt;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use serde_json::json;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use verdict::{Due, LONGEST, LaidDown, QUIET, UNDER_WAY, Verdict, laid_down, status, told, wait, warn_at, write};

const MANAGER: &str = "devsanctum-lifecycle";
const CONCURRENCY: u16 = 16;
/// How long it is looked at whether a workspace uses processor time.
const MOMENT: Duration = Duration::from_secs(5);
/// A new one that is not up after this long is told its times all the same.
const LATE: Duration = Duration::from_secs(120);
/// What was overtaken is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// A start that a quota refused: others stop in the meantime.
const REFUSED: Duration = Duration::from_secs(300);
/// So is what is due while nothing can be seen.
const BLIND: Duration = Duration::from_secs(30);

/// The loop.
pub struct Lifecycles {
    ctx: Context,
    activity: Activity,
    herald: Arc<dyn Herald>,
    idleness: Mutex<Idleness>,
    /// By uid.
    memory: Mutex<HashMap<String, Memory>>,
    /// Something is timed that is to be looked at sooner than all before.
    timed: Notify,
    /// Milliseconds from one look to the next.
    pause: AtomicU64,
}

/// What this process remembers of a workspace.
#[derive(Default)]
struct Memory {
    /// It was told that it stops soon.
    warned: bool,
    /// Its owner was told that it will be destroyed, which the copy does not say yet.
    announced: bool,
    /// Passes in a row that failed.
    failures: u32,
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

impl Lifecycles {
    /// Knows nothing yet.
    pub fn new(ctx: Context, activity: Activity, herald: Arc<dyn Herald>) -> Arc<Self> {
        Arc::new(Self {
            ctx,
            activity,
            herald,
            idleness: Mutex::default(),
            memory: Mutex::default(),
            timed: Notify::new(),
            pause: AtomicU64::new(u64::MAX),
        })
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
            // Whatever is timed while this is worked out asks for it to be worked out again.
            self.pause.store(u64::MAX, SeqCst);
            let shortest = self.ctx.caches.workspaces.state().iter().filter_map(|w| self.looked_for(w)).min();
            let pause = shortest.map_or(LONGEST, resolution);
            self.pause.store(millis(pause), SeqCst);
            if timeout(pause, self.timed.notified()).await.is_ok() || shortest.is_none() {
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
        timed.then(|| self.laid_down(record).terms.stop_after.unwrap_or(QUIET))
    }

    /// What is laid down for it, by the copies.
    fn laid_down(&self, record: &Workspace) -> LaidDown {
        let project = self.ctx.caches.projects.get(&ObjectRef::new(&record.namespace().unwrap_or_default()));
        let settings = self.ctx.caches.settings.get(&ObjectRef::new(SETTINGS_NAME));
        laid_down(project.as_deref(), settings.as_deref())
    }

    async fn look_after(&self, record: &Workspace) -> Action {
        let uid = record.uid().unwrap_or_default();
        if record.metadata.deletion_timestamp.is_some() {
            self.lock().forget(&uid);
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
            return Action::await_change();
        }
        if labels::is_suspended(record) || record.warm_of().is_some() || record.claimed_by().is_some() {
            return Action::await_change();
        }
        // Told by what the copy says, which is all that who looks for work knows of: what was written a moment ago it may not have.
        if self.looked_for(record).is_some_and(|idle| millis(resolution(idle)) < self.pause.load(SeqCst)) {
            self.timed.notify_one();
        }
        let rules = self.laid_down(record);
        let verdict = self.judge(record, &rules);
        let wait = match verdict.due {
            _ if record.spec.running && self.is_nobodys(record) => self.send_home(record).await,
            Due::Turn(Turn::Start, _) if self.is_nobodys(record) => Ok(LONGEST),
            Due::Nothing => self.tell(record, &verdict, &rules).await,
            Due::Destroy | Due::Turn(Turn::Start, _) => self.end(record).await,
            Due::Stop | Due::Turn(Turn::Stop, _) => match self.activity.look_at(&uid).await {
                Ok(()) => match self.activity.unsure(record, rules.terms.stop_after.unwrap_or(QUIET)) {
                    Some(left) => Ok(left),
                    None => self.end(record).await,
                },
                Err(why) => {
                    self.blind(record, &verdict.times, &why);
                    Ok(BLIND)
                }
            },
        };
        Action::requeue(self.next(record, wait))
    }

    /// When to look again: after failures ever more seldom.
    fn next(&self, record: &Workspace, wait: Result<Duration, kube::Error>) -> Duration {
        self.remember(record, |memory| match wait {
            Ok(wait) => {
                memory.failures = 0;
                wait
            }
            Err(error) => {
                tracing::debug!(record = record.name_any(), %error, "the lifecycle loop tries again");
                memory.failures = memory.failures.saturating_add(1);
                retry::beside(memory.failures - 1)
            }
        })
    }

    fn remember<T>(&self, record: &Workspace, with: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        with(memory.entry(record.uid().unwrap_or_default()).or_default())
    }

    fn judge(&self, record: &Workspace, rules: &LaidDown) -> Verdict {
        let seen = self.activity.last(record.metadata.uid.as_deref().unwrap_or_default());
        verdict::judge(&mut self.lock(), record, seen, rules, (self.ctx.frame.clock.now(), Instant::now()))
    }

    /// Writes the times, where they are others, and gives when to look again.
    async fn tell(&self, record: &Workspace, verdict: &Verdict, rules: &LaidDown) -> Result<Duration, kube::Error> {
        if self.is_under_way(record) {
            return Ok(UNDER_WAY);
        }
        let times = &verdict.times;
        let is_announced = times.announced.is_some() && status(record).destroy_announced_at.is_none();
        self.remember(record, |memory| memory.announced &= is_announced);
        if let Some(changes) = told(record, verdict, self.activity.requests(&record.uid().unwrap_or_default()), rules.terms) {
            if changes["scheduledAt"].is_null() && status(record).scheduled_at.is_some() {
                // A schedule that an old copy does not have yet would begin anew, and what it has due meanwhile never be done.
                let (project, settings) = self.read_anew(record).await?;
                if laid_down(project.as_ref(), settings.as_ref()).table.is_some() {
                    return Ok(AGAIN);
                }
            }
            if is_announced && !self.announce(record, times, rules.terms).await {
                return Ok(BLIND);
            }
            let body = json!({"metadata": {"resourceVersion": record.resource_version()}, "status": changes});
            self.api(record).patch_status(&record.name_any(), &params(), &Patch::Merge(body)).await?;
        }
        let wall = self.ctx.frame.clock.now();
        self.warn(record, times, warn_at(times, rules.terms).is_some_and(|at| at <= wall));
        Ok(wait(record, verdict, rules.terms, wall))
    }

    /// Tells once that a workspace will stop soon, until it is worked in.
    fn warn(&self, record: &Workspace, times: &Times, soon: bool) {
        let before = self.remember(record, |memory| std::mem::replace(&mut memory.warned, soon));
        if soon && !before {
            let at = times.stop_at.map(write).unwrap_or_default();
            let note = format!("will be stopped at {at} unless somebody works in it; its files are kept");
            events::tell(&self.ctx.frame, record, false, "StoppedSoon", note);
        }
    }

    /// What is laid down for it, by the records themselves: copies may be old.
    async fn read_anew(&self, record: &Workspace) -> Result<(Option<Project>, Option<Settings>), kube::Error> {
        let client = self.ctx.frame.client.clone();
        let project = Api::<Project>::all(client.clone()).get_opt(&record.namespace().unwrap_or_default()).await?;
        Ok((project, Api::<Settings>::all(client).get_opt(SETTINGS_NAME).await?))
    }

    /// The record itself, where anything may still be done with it.
    async fn anew(&self, record: &Workspace) -> Result<Option<Workspace>, kube::Error> {
        let now = self.api(record).get_opt(&record.name_any()).await?.filter(|now| now.uid() == record.uid());
        Ok(now.filter(|now| now.metadata.deletion_timestamp.is_none() && !labels::is_suspended(now)))
    }

    /// Does what is due still, by what the records say now.
    async fn end(&self, record: &Workspace) -> Result<Duration, kube::Error> {
        let Some(now) = self.anew(record).await? else { return Ok(LONGEST) };
        let (project, settings) = self.read_anew(record).await?;
        let rules = laid_down(project.as_ref(), settings.as_ref());
        let mut verdict = self.judge(&now, &rules);
        if matches!(verdict.due, Due::Stop | Due::Turn(Turn::Stop, _)) {
            match self.is_busy(&now).await {
                Ok(true) => {
                    self.activity.works(&now.uid().unwrap_or_default());
                    verdict = self.judge(&now, &rules);
                }
                Ok(false) => {}
                Err(why) => {
                    self.blind(&now, &verdict.times, &why.to_string());
                    return Ok(BLIND);
                }
            }
        }
        match verdict.due {
            Due::Nothing => return Ok(AGAIN),
            Due::Stop => self.stop(&now, &verdict.times, rules.terms).await?,
            // What came after the backup the records do not know: somebody may have kept it.
            Due::Destroy if settings.is_some_and(|s| s.annotations().contains_key(labels::RESTORED)) => return Ok(LONGEST),
            Due::Destroy => self.destroy(&now, rules.terms).await?,
            Due::Turn(turn, at) => match self.turn(&now, turn, at).await {
                Err(kube::Error::Api(said)) if said.code == 403 && turn == Turn::Start => {
                    let note = format!("its schedule would start it now, and may not: {}", said.message);
                    events::tell(&self.ctx.frame, &now, true, "StartRefused", note);
                    // All else goes on meanwhile.
                    return Ok(self.tell(&now, &verdict, &rules).await?.min(REFUSED));
                }
                done => done?,
            },
        }
        Ok(LONGEST)
    }

    /// Whether it uses as much processor time as its record calls work; it is looked at for a moment.
    async fn is_busy(&self, record: &Workspace) -> Result<bool, EngineError> {
        let (Some(above), Some(status)) = (record.spec.active_above_cpu, &record.status) else { return Ok(false) };
        let id = status.container_id.as_deref().and_then(ContainerId::parse);
        let (Some(id), Some(server)) = (id, record.server()) else { return Ok(false) };
        let Some(engine) = self.ctx.engines.get(server) else {
            return Err(EngineError::Unreachable(format!("server {server:?} does not answer").into()));
        };
        let (begun, before) = (Instant::now(), engine.cpu_time(&id).await?);
        sleep(MOMENT).await;
        let used = engine.cpu_time(&id).await?.saturating_sub(before);
        Ok(used.as_secs_f64() > above * begun.elapsed().as_secs_f64())
    }

    /// Carries out what a schedule has at this moment. If that this was done is not written any more, the next pass finds it done.
    async fn turn(&self, record: &Workspace, turn: Turn, at: Timestamp) -> Result<(), kube::Error> {
        let run = turn == Turn::Start;
        let body = json!({"metadata": {"resourceVersion": record.resource_version()}, "spec": {"running": run}});
        self.api(record).patch(&record.name_any(), &params(), &Patch::Merge(body)).await?;
        let (reason, note) = match turn {
            Turn::Start => ("StartedOnSchedule", "started: its schedule says so"),
            Turn::Stop => ("StoppedOnSchedule", "stopped: its schedule says so, and nobody works in it; its files are kept"),
        };
        tracing::info!(workspace = record.name_any(), namespace = record.namespace(), note, "lifecycle");
        events::tell(&self.ctx.frame, record, false, reason, note.to_owned());
        let done = json!({"status": {"scheduledAt": write(at)}});
        self.api(record).patch_status(&record.name_any(), &params(), &Patch::Merge(done)).await.map(drop)
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

    /// Whether it could be told. Once is enough, however often that this was done cannot be written.
    async fn announce(&self, record: &Workspace, times: &Times, terms: Terms) -> bool {
        if self.remember(record, |memory| memory.announced) {
            return true;
        }
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
        self.remember(record, |memory| memory.announced = true);
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

fn millis(of: Duration) -> u64 {
    of.as_millis().try_into().unwrap_or(u64::MAX)
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

fn spoken(after: Option<Duration>) -> String {
    after.map(|after| humantime::format_duration(after).to_string()).unwrap_or_default()
}
