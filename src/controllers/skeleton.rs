//! The shape of every loop, written once: load → deleting → finalizer → suspended → ordered steps → one quiet
//! status write → when to look again.
//!
//! # Guarantees
//! A record is never in two passes at once. A pass over a copy older than the last write of the loop itself is put
//! off until the copy has caught up. A panic fails one pass, not the loop. Errors back off per record.
//!
//! # Caveats
//! A pass can be cut at any `.await` when the process ends; every step must bear being done again.

use super::report::{Outcome, PassReport, Reports};
use super::retry::{Class, PassError, delay};
use super::status::{Pass, Record};
use super::triggers::{Asked, Queue};
use crate::clock::Clock;
use crate::engine::Fence;
use crate::resource::labels;
use async_trait::async_trait;
use futures::{FutureExt, Stream, StreamExt};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a copy of a record is given to catch up with our own write.
const CATCH_UP: Duration = Duration::from_millis(20);

/// What is particular to one kind.
#[async_trait]
pub trait Loop: Send + Sync + 'static {
    /// The kind.
    type Record: Record;
    /// Its name in metrics and field managers.
    const NAME: &'static str;
    /// Holds a record until `cleanup` has let it go.
    const FINALIZER: Option<&'static str> = None;
    /// Passes at once.
    const CONCURRENCY: u16 = 64;
    /// Longest wait after transient failures.
    const LONGEST_RETRY: Duration = Duration::from_secs(500);
    /// A record found as it should be is looked at again no sooner than this: for kinds that many others wake.
    const PACE: Duration = Duration::ZERO;

    /// Brings the world to where the record says, and notes what was found.
    async fn reconcile(&self, record: &Self::Record, pass: &mut Pass<<Self::Record as Record>::S>) -> Result<(), PassError>;

    /// Looks at what a suspended record stands for, and changes nothing.
    async fn observe(&self, _record: &Self::Record) -> Result<(), PassError> {
        Ok(())
    }

    /// Clears up after a record being deleted; `Ok` lets it go. May run more than once, and without any
    /// `reconcile` before it.
    async fn cleanup(&self, _record: &Self::Record, _pass: &mut Pass<<Self::Record as Record>::S>) -> Result<(), PassError> {
        Ok(())
    }
}

/// What every loop is given.
#[derive(Clone)]
pub struct Frame {
    /// The API.
    pub client: Client,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// Where passes are noted.
    pub reports: Arc<Reports>,
    /// Ends the loops, after running passes have ended.
    pub stop: CancellationToken,
    /// Whether the loops may act at all.
    pub fence: Fence,
}

struct Running<L: Loop> {
    it: L,
    frame: Frame,
    /// Failures in a row, by record.
    attempts: Mutex<HashMap<String, u32>>,
    /// Revision each record had after our own last write.
    written: Mutex<HashMap<String, u64>>,
    /// The copy of a record over which its status was refused.
    overtaken: Mutex<HashMap<String, Option<String>>>,
    /// When each record was last found as it should be; kept where there is a pace.
    settled: Mutex<HashMap<String, Instant>>,
    queue: Queue,
}

/// Runs a loop over the records of `store`, looking at those that are asked for. Ends when told to stop.
pub async fn run<L: Loop>(it: L, frame: Frame, store: Store<L::Record>, asked: Asked<L::Record>) {
    let Asked { refs, queue } = asked;
    frame.reports.watch(L::NAME, queue.clone());
    let (attempts, written, overtaken, settled) = Default::default();
    let running = Running { it, frame, attempts, written, overtaken, settled, queue };
    drive(Arc::new(running), store, refs).await;
}

async fn drive<L: Loop>(
    running: Arc<Running<L>>,
    store: Store<L::Record>,
    refs: impl Stream<Item = ObjectRef<L::Record>> + Send + 'static,
) {
    let (stop, kept) = (running.frame.stop.clone(), running.clone());
    Controller::for_shared_stream(futures::stream::pending(), store)
        .reconcile_on(refs)
        .with_config(Config::default().concurrency(L::CONCURRENCY))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(pass_over::<L>, |_, e: &std::convert::Infallible, _| match *e {}, running)
        .for_each(|done| {
            // Asked for, and gone meanwhile: an error to the controller, and nothing to anybody.
            if let Err(Error::ObjectNotFound(gone)) = done {
                kept.queue.begun(gone.namespace.as_deref(), &gone.name);
                kept.forget(&key(gone.namespace.as_deref(), &gone.name));
            }
            futures::future::ready(())
        })
        .await;
}

async fn pass_over<L: Loop>(record: Arc<L::Record>, running: Arc<Running<L>>) -> Result<Action, std::convert::Infallible> {
    running.queue.begun(record.meta().namespace.as_deref(), record.meta().name.as_deref().unwrap_or_default());
    if running.is_stale(&record) {
        return Ok(Action::requeue(CATCH_UP));
    }
    let begun = Instant::now();
    let name = key_of(&*record);
    if let Some(wait) = running.too_soon(&record, &name) {
        return Ok(Action::requeue(wait));
    }
    let mut pass = Pass::begin(&*record, running.frame.client.clone(), L::NAME, running.frame.clock.now());
    let work = AssertUnwindSafe(running.work(&record, &mut pass)).catch_unwind().await;
    let result = work.unwrap_or_else(|_| Err(PassError::transient("Ready", "Panicked", "this pass hit a bug; see the log")));
    running.remember(&name, pass.revision());
    let (outcome, reason) = match &result {
        Ok(()) => (Outcome::Settled, String::new()),
        Err(e) => {
            tracing::debug!(kind = L::NAME, record = name, reason = e.reason, message = e.message, "not settled");
            let outcome = match e.class {
                Class::Stalled => Outcome::Stalled,
                Class::Waiting(_) | Class::Unknown(_) | Class::Overtaken => Outcome::Waiting,
                Class::Transient => Outcome::Failed,
            };
            (outcome, format!("{}: {}", e.reason, e.message))
        }
    };
    let requeue = running.next(&name, &result, pass.requeue);
    let at = running.frame.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let millis = begun.elapsed().as_secs_f64() * 1000.0;
    running.frame.reports.note(L::NAME, PassReport { record: name, at, outcome, reason, actions: pass.actions, millis });
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

fn key(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |ns| format!("{ns}/{name}"))
}

fn key_of<K: Record>(record: &K) -> String {
    key(record.meta().namespace.as_deref(), &record.name_any())
}

type PassOf<L> = Pass<<<L as Loop>::Record as Record>::S>;

impl<L: Loop> Running<L> {
    async fn work(&self, record: &L::Record, pass: &mut PassOf<L>) -> Result<(), PassError> {
        if record.meta().deletion_timestamp.is_some() {
            return self.clean_up(record, pass).await;
        }
        if labels::is_suspended(record) {
            return self.it.observe(record).await;
        }
        let held = self.hold(record).await?;
        let record = held.as_ref().unwrap_or(record);
        if held.is_some() {
            *pass = Pass::begin(record, self.frame.client.clone(), L::NAME, self.frame.clock.now());
        }
        let result = self.it.reconcile(record, pass).await;
        self.fenced()?;
        if let Err(e) = &result {
            if matches!(e.class, Class::Unknown(_)) {
                return result;
            }
            pass.fail(e);
        }
        self.tell(record, pass, &result);
        let ended = pass.end(record).await;
        self.unless_overtaken(record, ended).and(result)
    }

    /// A status that was refused because the copy is old is not in order because the next pass finds nothing to write in that
    /// same copy: what is in the record may be otherwise.
    fn unless_overtaken(&self, record: &L::Record, ended: Result<(), PassError>) -> Result<(), PassError> {
        let (name, revision) = (key_of(record), record.resource_version());
        let mut overtaken = lock(&self.overtaken);
        match &ended {
            Err(e) if e.class == Class::Overtaken => drop(overtaken.insert(name, revision)),
            Ok(()) if overtaken.get(&name) == Some(&revision) => return Err(PassError::overtaken()),
            _ => drop(overtaken.remove(&name)),
        }
        ended
    }

    async fn clean_up(&self, record: &L::Record, pass: &mut PassOf<L>) -> Result<(), PassError> {
        let Some(finalizer) = L::FINALIZER.filter(|f| record.finalizers().iter().any(|g| g == f)) else {
            return Ok(());
        };
        let cleaned = self.it.cleanup(record, pass).await;
        self.fenced()?;
        if let Err(e) = cleaned {
            if matches!(e.class, Class::Unknown(_)) {
                return Err(e);
            }
            pass.fail(&e);
            return pass.end(record).await.and(Err(e));
        }
        let rest: Vec<&String> = record.finalizers().iter().filter(|f| *f != finalizer).collect();
        let body = json!({"metadata": {"finalizers": rest, "resourceVersion": pass.revision()}});
        match self.patch(record, body).await {
            Err(kube::Error::Api(s)) if s.code == 404 => Ok(()),
            done => done.map(drop).map_err(PassError::from),
        }
    }

    /// What a pass found after the lead was lost is not worth writing down: another process knows better.
    fn fenced(&self) -> Result<(), PassError> {
        if (self.frame.fence)() { Ok(()) } else { Err(PassError::unknown("this process no longer leads", CATCH_UP)) }
    }

    /// An event for what was done, and for what is newly in the way.
    fn tell(&self, record: &L::Record, pass: &PassOf<L>, result: &Result<(), PassError>) {
        match result {
            Err(e) if !matches!(e.class, Class::Waiting(_) | Class::Overtaken) && pass.is_news(e) => {
                super::events::tell(&self.frame, record, true, e.reason, e.message.clone());
            }
            _ if !pass.actions.is_empty() => {
                super::events::tell(&self.frame, record, false, "Reconciled", pass.actions.join(", "));
            }
            _ => {}
        }
    }

    /// Adds the finalizer where it is missing, before anything is done that would need cleaning up.
    async fn hold(&self, record: &L::Record) -> Result<Option<L::Record>, PassError> {
        let Some(finalizer) = L::FINALIZER.filter(|f| !record.finalizers().iter().any(|g| g == f)) else {
            return Ok(None);
        };
        let all: Vec<&str> = record.finalizers().iter().map(String::as_str).chain([finalizer]).collect();
        let body = json!({"metadata": {"finalizers": all, "resourceVersion": record.resource_version()}});
        Ok(Some(self.patch(record, body).await?))
    }

    async fn patch(&self, record: &L::Record, body: serde_json::Value) -> Result<L::Record, kube::Error> {
        let api: Api<L::Record> = L::Record::api(&self.frame.client, record.namespace().as_deref());
        let params = PatchParams { field_manager: Some(format!("devsanctum-{}", L::NAME)), ..PatchParams::default() };
        api.patch(&record.name_any(), &params, &Patch::Merge(body)).await
    }

    fn is_stale(&self, record: &L::Record) -> bool {
        let revision = record.resource_version().and_then(|r| r.parse::<u64>().ok()).unwrap_or(0);
        let mut written = lock(&self.written);
        match written.get(&key_of(record)) {
            Some(ours) if revision < *ours => true,
            Some(_) => {
                // The copy has caught up; nothing left to compare with.
                written.remove(&key_of(record));
                false
            }
            None => false,
        }
    }

    /// How much longer a record that was in order a moment ago can wait. One that is to go does not.
    fn too_soon(&self, record: &L::Record, name: &str) -> Option<Duration> {
        if L::PACE.is_zero() || record.meta().deletion_timestamp.is_some() {
            return None;
        }
        let settled = *lock(&self.settled).get(name)?;
        (settled + L::PACE).checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
    }

    fn remember(&self, name: &str, revision: Option<&str>) {
        if let Some(revision) = revision.and_then(|r| r.parse().ok()) {
            lock(&self.written).insert(name.to_owned(), revision);
        }
    }

    /// The record is gone.
    fn forget(&self, name: &str) {
        lock(&self.attempts).remove(name);
        lock(&self.overtaken).remove(name);
        lock(&self.written).remove(name);
        lock(&self.settled).remove(name);
    }

    fn next(&self, name: &str, result: &Result<(), PassError>, requeue: Option<Duration>) -> Option<Duration> {
        let mut attempts = lock(&self.attempts);
        if !L::PACE.is_zero() {
            let mut settled = lock(&self.settled);
            match result {
                Ok(()) => settled.insert(name.to_owned(), Instant::now()),
                Err(_) => settled.remove(name),
            };
        }
        match result {
            Ok(()) => {
                attempts.remove(name);
                requeue
            }
            Err(e) => {
                let counter = attempts.entry(name.to_owned()).or_insert(0);
                let wait = delay(e.class, *counter, self.frame.clock.jitter()).min(L::LONGEST_RETRY.max(Duration::from_secs(1)));
                *counter = if matches!(e.class, Class::Transient | Class::Overtaken) { counter.saturating_add(1) } else { 0 };
                Some(wait)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::triggers::Trigger;
    use super::*;
    use crate::clock::SystemClock;
    use crate::resource::{Template, TemplateStatus};
    use kube::client::Body;
    use kube::runtime::{reflector, watcher};
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Idle;

    #[async_trait]
    impl Loop for Idle {
        type Record = Template;
        const NAME: &str = "idle";
        async fn reconcile(&self, _: &Template, _: &mut Pass<TemplateStatus>) -> Result<(), PassError> {
            Ok(())
        }
    }

    fn record(revision: &str) -> Template {
        let meta = json!({"name": "a", "uid": "u", "resourceVersion": revision});
        let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Template", "metadata": meta, "spec": {"base": "b"}});
        serde_json::from_value(record).unwrap()
    }

    /// A loop over one record, with what wakes it and the writer of its copy.
    type Driven<L> = (Arc<Running<L>>, Trigger<Template>, reflector::store::Writer<Template>, tokio::task::JoinHandle<()>);

    fn start<L: Loop<Record = Template>>(it: L) -> Driven<L> {
        let answer = |_: http::Request<Body>| async {
            let body = serde_json::to_vec(&record("2")).unwrap();
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(body)))
        };
        let client = Client::new(tower::service_fn(answer), "default");
        let (stop, fence): (_, Fence) = (CancellationToken::new(), Arc::new(|| true));
        let frame = Frame { client, clock: Arc::new(SystemClock), reports: Arc::default(), stop, fence };
        let (trigger, asked) = Trigger::<Template>::new();
        let (attempts, written, overtaken, settled) = Default::default();
        let running = Arc::new(Running { it, frame, attempts, written, overtaken, settled, queue: asked.queue });
        let (store, mut writer) = reflector::store();
        for event in [watcher::Event::Init, watcher::Event::InitApply(record("1")), watcher::Event::InitDone] {
            writer.apply_watcher_event(&event);
        }
        let driving = tokio::spawn(drive(running.clone(), store, asked.refs));
        (running, trigger, writer, driving)
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_record_that_is_gone() {
        let (running, trigger, mut writer, driving) = start(Idle);
        let until_kept = async |kept: usize| {
            while lock(&running.written).len() != kept {
                trigger.fire(&record("1"));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let long = Duration::from_secs(10);
        tokio::time::timeout(long, until_kept(1)).await.expect("what was written is remembered");
        writer.apply_watcher_event(&watcher::Event::Delete(record("2")));
        tokio::time::timeout(long, until_kept(0)).await.expect("and forgotten");
        running.frame.stop.cancel();
        driving.await.unwrap();
    }

    /// Counts its looks; the second finds something wrong.
    struct Paced(AtomicUsize);

    #[async_trait]
    impl Loop for Paced {
        type Record = Template;
        const NAME: &str = "paced";
        const PACE: Duration = Duration::from_secs(60);
        async fn reconcile(&self, _: &Template, _: &mut Pass<TemplateStatus>) -> Result<(), PassError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                1 => Err(PassError::waiting("Ready", "Wrong", "on purpose", Duration::from_secs(3600))),
                _ => Ok(()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_in_order_is_looked_at_once_in_a_while_however_often_it_is_asked_for() {
        let (running, trigger, mut writer, _driving) = start(Paced(AtomicUsize::new(0)));
        // Newer than what the loop itself writes.
        writer.apply_watcher_event(&watcher::Event::Apply(record("3")));
        let ask = async |times: u32| {
            for _ in 0..times {
                trigger.fire(&record("3"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        ask(50).await;
        assert_eq!(running.it.0.load(Ordering::Relaxed), 1);
        tokio::time::sleep(Paced::PACE).await;
        assert_eq!(running.it.0.load(Ordering::Relaxed), 2, "what was asked for meanwhile is not forgotten");
        ask(1).await;
        assert_eq!(running.it.0.load(Ordering::Relaxed), 3, "what is wrong is looked at as soon as it is asked for");
    }
}
