//! One replica acts, the others serve. Whoever holds the lease runs the loops.

use crate::engine::Fence;
use crate::proxy::{Proxy, RouteTable};
use crate::store::Store;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

const LEASE: &str = "controllers";

/// A name that no other replica has.
pub fn name() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What [`lead`] needs to know.
pub struct Candidate {
    /// Where the lease lies.
    pub store: Store,
    /// Who this replica is; unique.
    pub holder: String,
    /// How long a lease lasts that is not renewed.
    pub ttl: Duration,
    /// Ends everything.
    pub stop: CancellationToken,
    /// Told whether this replica leads.
    pub leads: watch::Sender<bool>,
    /// Until when it does.
    pub until: Until,
    /// Told an empty table once another leads: addresses seen while this one led may be other containers' by now.
    pub proxy: Arc<dyn Proxy>,
}

/// Does `work` where this is the only replica there can be; else as [`lead`].
///
/// # Errors
/// What `work` failed with.
pub async fn alone_or_lead<F>(alone: bool, candidate: Candidate, work: impl Fn(CancellationToken) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    if alone {
        candidate.leads.send_replace(true);
        return work(candidate.stop).await;
    }
    lead(candidate, work).await
}

/// The moment after which the lead may be another's. Counted from before the last renewal was asked for: the
/// database counts from later.
#[derive(Clone)]
pub struct Until(Arc<Mutex<Instant>>);

impl Until {
    /// The lead is not ours yet.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
    /// For all that the work starts and that is not polled through it; open where there are no replicas.
    pub fn fence(&self, replicated: bool) -> Fence {
        let until = self.clone();
        Arc::new(move || !replicated || until.holds())
    }
    fn holds(&self) -> bool {
        Instant::now() < self.get()
    }
    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn set(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Runs `work` whenever this replica holds the lease, until `stop`. `work` is given a token that ends it; it is
/// dropped, whatever it is doing, before another replica can have the lease.
///
/// # Guarantees
/// `work` is not polled once two thirds of the lease have passed without a renewal: not by a replica that the
/// database does not answer, nor by one that was stopped for a while and wakes up. Tasks that `work` has started are
/// polled on their own, and may be first after such a pause: they must ask the fence before they act.
///
/// # Errors
/// What `work` failed with.
pub async fn lead<F>(candidate: Candidate, work: impl Fn(CancellationToken) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    let Candidate { store, holder, ttl, stop, leads, until, proxy } = candidate;
    // At first the lead may be held in the name of this replica's own life before, which runs out by then.
    let mut foreign = Instant::now() + ttl;
    while !stop.is_cancelled() {
        let asked = Instant::now();
        let ours = asked + ttl * 2 / 3;
        let held = timeout_at(ours, store.lease(LEASE, &holder, ttl)).await;
        if matches!(held, Ok(Ok(false))) && Instant::now() >= foreign {
            proxy.publish(&RouteTable::default());
        }
        if !matches!(held, Ok(Ok(true))) {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(ttl / 6) => continue,
            }
        }
        tracing::info!(holder, "leading");
        until.set(ours);
        leads.send_replace(true);
        let own = stop.child_token();
        let done = tokio::select! {
            biased;
            () = lost(&store, &holder, ttl, &until) => None,
            done = while_ours(&until, work(own.clone())) => done,
        };
        // Tasks that the work has started end by this, or with what the work held.
        own.cancel();
        until.set(Instant::now());
        foreign = Instant::now();
        leads.send_replace(false);
        match done {
            Some(done) => {
                let _ = store.release(LEASE, &holder).await;
                return done;
            }
            None => tracing::warn!(holder, "lost the lead"),
        }
    }
    Ok(())
}

/// Polls `work` only while the lead is ours; `None` once it may not be.
async fn while_ours<F: Future>(until: &Until, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|context| {
        if !until.holds() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

/// Renews the lease; ends when another has it or it could not be renewed in time.
async fn lost(store: &Store, holder: &str, ttl: Duration, until: &Until) {
    loop {
        sleep(ttl / 6).await;
        let asked = Instant::now();
        match timeout_at(until.get(), store.lease(LEASE, holder, ttl)).await {
            Ok(Ok(true)) if asked < until.get() => until.set(asked + ttl * 2 / 3),
            Ok(Err(_)) => {}
            Ok(Ok(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
