//! One task per connected server: its events wake loops at once, and a full list now and then is the guarantee.

use super::resync::resync;
use crate::controllers::context::Context;
use crate::engine::{Engine, EngineEvent};
use crate::resource::{DockerServer, labels};
use futures::StreamExt;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// First pause before an engine that would not tell its events, or not list its objects, is asked again; doubles up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// An event that does not say whose object it is about brings a list this soon.
const SOON: Duration = Duration::from_millis(200);
/// So does one that comes with everything we make ourselves, and means something only when somebody else did it.
const LATER: Duration = Duration::from_secs(10);
/// A list may take this part of the time: with many containers it is the engine's dearest answer.
const LISTING_SHARE: u32 = 20;
/// Actions that cannot change what a record should look like.
const NOISE: [&str; 9] =
    ["exec_create", "exec_start", "exec_die", "exec_detach", "attach", "detach", "resize", "top", "archive-path"];

/// Tasks by server; ended when their guard goes.
#[derive(Default)]
pub struct Watches(Mutex<BTreeMap<String, Watch>>);

struct Watch {
    engine: Arc<dyn Engine>,
    stop: CancellationToken,
    _guard: DropGuard,
    begun: Instant,
    /// Watches before this one that ended early.
    failures: u32,
}

impl Watch {
    /// How many have ended early when this one has ended now.
    fn failed(&self) -> u32 {
        if self.begun.elapsed() < LONGEST_PAUSE * 2 { self.failures + 1 } else { 0 }
    }
}

/// One failure is forgiven: engines are restarted.
fn pause(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(1 << (n - 2).min(10)).min(LONGEST_PAUSE),
    }
}

impl Watches {
    /// Watches a server through this engine, unless that is being done already.
    pub fn keep(&self, ctx: &Context, record: &DockerServer, engine: Arc<dyn Engine>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = record.name_any();
        if all.get(&name).is_some_and(|w| Arc::ptr_eq(&w.engine, &engine) && !w.stop.is_cancelled()) {
            return;
        }
        let stop = CancellationToken::new();
        let failures = all.get(&name).filter(|w| w.stop.is_cancelled()).map_or(0, Watch::failed);
        let (engine_kept, guard) = (engine.clone(), stop.clone().drop_guard());
        let watch = Watch { engine: engine_kept, stop: stop.clone(), _guard: guard, begun: Instant::now(), failures };
        all.insert(name.clone(), watch);
        let (ctx, uid) = (ctx.clone(), record.uid().unwrap_or_default());
        tokio::spawn(async move {
            let end = stop.clone();
            tokio::select! {
                () = end.cancelled() => {}
                () = follow(&ctx, &name, &uid, engine, pause(failures)) => {
                    // The engine is gone: the server loop finds out why and begins anew.
                    stop.cancel();
                    ctx.triggers.servers.fire_named(None, &name);
                }
            }
        });
    }

    /// Whether the engine has ended the watch of a server.
    pub fn has_ended(&self, server: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(server).is_some_and(|w| w.stop.is_cancelled())
    }

    /// Ends watching a server.
    pub fn end(&self, server: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}

/// Follows until the engine's events end.
async fn follow(ctx: &Context, server: &str, server_uid: &str, engine: Arc<dyn Engine>, pause: Duration) {
    tokio::time::sleep(pause).await;
    // Events first, list second: what happens in between is seen twice rather than never.
    let mut events = match engine.events().await {
        Ok(events) => events,
        Err(e) => {
            tracing::warn!(server, error = %e, "the server does not tell its events; asking again");
            not_listed(ctx, server);
            return;
        }
    };
    let mut lists = ctx.triggers.lists.subscribe();
    let mut due = Instant::now();
    let (mut failures, mut took) = (0, Duration::ZERO);
    loop {
        tokio::select! {
            // The sender is in our hands, so this cannot fail.
            Ok(()) = lists.changed() => due = due.min(Instant::now() + SOON.max(took * LISTING_SHARE)),
            () = tokio::time::sleep_until(due) => {
                let begun = Instant::now();
                let listed = resync(ctx, server, server_uid, &engine).await;
                took = begun.elapsed();
                due = Instant::now() + match listed {
                    Ok(()) => {
                        failures = 0;
                        ctx.resync.mul_f64(0.9 + 0.2 * ctx.frame.clock.jitter())
                    }
                    Err(e) => {
                        failures += 1;
                        not_listed(ctx, server);
                        tracing::warn!(server, error = %e, "cannot list the server's objects; trying again");
                        // Whether it is to be had at all is the server loop's to say.
                        ctx.triggers.servers.fire_named(None, server);
                        self::pause(failures + 1)
                    }
                };
            }
            event = events.next() => match event {
                Some(Ok(event)) => {
                    if wake(ctx, server, server_uid, &event) == Whose::Unknown {
                        let ours = matches!((event.kind.as_str(), event.action.as_str()), ("network", "connect" | "create") | ("volume", "create"));
                        let wait = if ours { LATER } else { SOON };
                        due = due.min(Instant::now() + wait.max(took * LISTING_SHARE));
                    }
                }
                Some(Err(_)) | None => return,
            },
        }
    }
}

/// Those that wait for the first list of the server go on without it.
fn not_listed(ctx: &Context, server: &str) {
    if ctx.engines.set_listed(server) {
        ctx.wake_members(server);
    }
}

#[derive(PartialEq, Eq)]
enum Whose {
    Known,
    Unknown,
}

fn wake(ctx: &Context, server: &str, server_uid: &str, event: &EngineEvent) -> Whose {
    if NOISE.iter().any(|n| event.action.starts_with(n)) {
        return Whose::Known;
    }
    let label = |key: &str| event.labels.get(key).map(String::as_str);
    match (label(labels::UID), label(labels::NAMESPACE), label(labels::NAME)) {
        (Some(uid), _, _) if uid == server_uid => {
            // Making and removing the neighbour of the isolation proof is our own doing.
            if label(labels::ROLE) != Some("neighbour") && event.action != "create" && event.action != "start" {
                ctx.triggers.servers.fire_named(None, server);
            }
            Whose::Known
        }
        (Some(uid), Some(namespace), Some(name)) => {
            ctx.listings.forget(uid);
            if let Some(holder) = ctx.caches.takeovers.holder(uid).and_then(|w| ctx.caches.workspaces.get(&w)) {
                ctx.triggers.workspaces.fire(&holder);
                return if event.action == "rename" { Whose::Unknown } else { Whose::Known };
            }
            ctx.triggers.workspaces.fire_named(Some(namespace), name);
            // Under another name, or with no record behind it, only a list tells what it is.
            let record = ctx.caches.workspaces.get(&ObjectRef::new(name).within(namespace));
            let known = record.and_then(|w| w.uid()).is_some_and(|of| of == uid);
            if known && event.action != "rename" { Whose::Known } else { Whose::Unknown }
        }
        _ => Whose::Unknown,
    }
}
