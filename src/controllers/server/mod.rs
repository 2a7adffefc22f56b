//! The server loop: a Docker host is reached, prepared, measured and watched; one that is another machine gets a gateway.

mod bridge;
mod collect;
mod copies;
mod gateway;
mod isolation;
mod prepare;
mod resync;
mod subnet;
mod warnings;
mod watch;

pub use bridge::own_bridge;
pub use prepare::shared_network;

use super::context::Context;
use super::endpoint::endpoint;
use super::figures::Figures;
use super::reserved::{Amount, InUse};
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use crate::engine::ownership::Ownership;
use crate::engine::probe::Ticks;
use crate::engine::{Engine, EngineError, Labels};
use crate::resource::conditions::{condition, find};
use crate::resource::{DockerServer, DockerServerStatus, NetworkMode, SETTINGS_NAME, ServerPhase, labels};
use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long isolation is believed before it is proved again.
const PROVED_FOR: Duration = Duration::from_secs(3600);
/// What could not be proved or measured is tried again after this long, however seldom the server is polled: less than 300
/// times a day, since a proof makes a container.
const UNKNOWN_FOR: Duration = Duration::from_secs(400);

/// The server loop.
pub struct Servers {
    ctx: Context,
    collector: collect::Collector,
    watches: watch::Watches,
    /// When each server was last measured, and when its isolation is to be proved next.
    looked: Mutex<BTreeMap<String, Looked>>,
}

#[derive(Clone, Default)]
struct Looked {
    measured: Option<Instant>,
    /// What its processors had done by then.
    ticks: Option<Ticks>,
    prove_at: Option<Instant>,
    /// Whether the last proof could be made, and nothing was heard since by which it may be out of date.
    proved: bool,
    /// What it found out.
    found: Option<(NetworkMode, Condition)>,
    /// When somebody last asked for a test, as that is written in the record.
    tested: Option<String>,
}

impl Looked {
    /// A host that was away may have been started anew, and its firewall's rules are not what they were: what was proved is tried
    /// again as soon as what could not be.
    fn doubt(&mut self) {
        if std::mem::take(&mut self.proved) {
            self.prove_at = self.prove_at.map(|at| at - (PROVED_FOR - UNKNOWN_FOR));
        }
    }
}

#[async_trait]
impl Loop for Servers {
    type Record = DockerServer;
    const NAME: &'static str = "server";
    const FINALIZER: Option<&'static str> = Some(labels::SERVER_FINALIZER);
    const LONGEST_RETRY: Duration = Duration::from_secs(30);
    /// Each workspace placed on it wakes it, and a look costs the engine a good deal.
    const PACE: Duration = Duration::from_secs(1);

    async fn reconcile(&self, record: &DockerServer, pass: &mut Pass<DockerServerStatus>) -> Result<(), PassError> {
        let name = record.name_any();
        pass.status.last_test = record.annotations().get(labels::TESTED).cloned();
        let done = self.look_after(record, pass).await;
        // That may take seconds, in which workspaces come and go.
        pass.status.workspaces = u32::try_from(self.ctx.members(&name).len()).unwrap_or(u32::MAX);
        if !self.ctx.engines.tried(&name) {
            // Its workspaces wait for word, good or bad.
            self.ctx.engines.set(&name, None);
            self.ctx.wake_members(&name);
        }
        done
    }

    async fn cleanup(&self, record: &DockerServer, pass: &mut Pass<DockerServerStatus>) -> Result<(), PassError> {
        let name = record.name_any();
        let members = self.ctx.holders(&name);
        let abandoned = record.annotations().get(labels::ABANDON).is_some_and(|v| v == "true");
        if !members.is_empty() && !abandoned {
            self.lend(record, pass).await;
            let names: Vec<String> =
                members.iter().take(10).map(|w| format!("{}/{}", w.namespace().unwrap_or_default(), w.name_any())).collect();
            let message = format!(
                "the server goes once its {} workspaces are gone: {}. If it will never answer again, set the annotation {}=true",
                members.len(),
                names.join(", "),
                labels::ABANDON
            );
            return Err(PassError::waiting("Deleting", "WorkspacesRemain", message, Duration::from_secs(60)));
        }
        let done = self.leave(record).await;
        if let (Err(e), false) = (&done, abandoned) {
            let message = format!(
                "cannot remove the probe and network from it: {e}. If it is gone for ever, set the annotation {}=true",
                labels::ABANDON
            );
            return Err(PassError::transient("Deleting", "ServerUnreachable", message));
        }
        if done.is_err() || !members.is_empty() {
            let left = format!(
                "left behind on server {name}: the probe, the network and {} workspaces' objects (label {}={})",
                members.len(),
                labels::INSTANCE,
                self.ctx.instance
            );
            super::events::tell(&self.ctx.frame, record, true, "LeftBehind", left.clone());
            pass.did(left);
        }
        self.watches.end(&name);
        self.collector.forget(&name);
        self.ctx.engines.forget(&name);
        self.ctx.gateways.forget(&name);
        self.ctx.connector.forget(&name);
        self.ctx.frame.reports.figures.forget(&name);
        self.lock().remove(&name);
        Ok(())
    }
}

impl Servers {
    /// Its workspaces go through its engine, which a process that was started after the deletion has not reached yet.
    async fn lend(&self, record: &DockerServer, pass: &mut Pass<DockerServerStatus>) {
        let name = record.name_any();
        let had = self.ctx.engines.get(&name).is_some();
        match self.reach(record, pass).await {
            Ok(engine) => {
                self.ctx.engines.set(&name, Some(engine.clone()));
                self.watches.keep(&self.ctx, record, engine);
                if !had {
                    self.ctx.wake_members(&name);
                }
            }
            Err(e) => {
                tracing::debug!(server = name, reason = e.reason, "a server that is to go cannot be reached");
                let tried = self.ctx.engines.tried(&name);
                self.lost(&name, pass);
                if had || !tried {
                    self.ctx.wake_members(&name);
                }
            }
        }
    }

    /// The loop.
    pub fn new(ctx: Context) -> Self {
        Self { ctx, watches: watch::Watches::default(), collector: collect::Collector::default(), looked: Mutex::default() }
    }

    /// Reaches it, prepares it, proves it, measures it.
    async fn look_after(&self, record: &DockerServer, pass: &mut Pass<DockerServerStatus>) -> Result<(), PassError> {
        let name = record.name_any();
        self.trust(record, pass);
        if self.watches.has_ended(&name) {
            self.doubt(&name);
        }
        let engine = match self.reach(record, pass).await {
            Ok(engine) => engine,
            Err(e) => {
                self.lost(&name, pass);
                return Err(e);
            }
        };
        let prepared = match prepare::prepare(&self.ctx, record, &engine, pass).await {
            Ok(prepared) => prepared,
            Err(e) => {
                // What is on an engine that is another record's is not looked after by this one.
                if e.reason == "EngineTaken" {
                    pass.status.engine_id = None;
                    self.lost(&name, pass);
                }
                return Err(e);
            }
        };
        if pass.status.network_mode.is_some() {
            // Its workspaces need not wait for what was proved before to be proved again.
            self.ctx.engines.set(&name, Some(engine.clone()));
            self.watches.keep(&self.ctx, record, engine.clone());
        }
        let again = gateway::have(&self.ctx, record, &engine, &prepared, pass).await;
        self.prove(record, &prepared, engine.as_ref(), pass).await?;
        self.measure(record, &prepared, engine.as_ref(), pass).await?;
        self.collector.collect(&self.ctx, &name, engine.as_ref(), &pass.status).await;
        if pass.status.phase != ServerPhase::Online {
            pass.did("online");
        }
        pass.status.phase = ServerPhase::Online;
        pass.status.stale = false;
        self.ctx.engines.set(&name, Some(engine.clone()));
        self.watches.keep(&self.ctx, record, engine);
        let poll = humantime::parse_duration(&record.spec.poll_interval).unwrap_or(Duration::from_secs(60));
        let poll = poll.mul_f64(0.9 + 0.2 * self.ctx.frame.clock.jitter());
        let all_known = prepared.probe.is_some() && self.lock().get(&name).is_some_and(|l| l.proved);
        let poll = if all_known { poll } else { poll.min(UNKNOWN_FOR) };
        pass.requeue = Some(again.map_or(poll, |again| again.min(poll)));
        Ok(())
    }

    /// Says that the records are not believed about what is to go, for as long as that is so.
    fn trust(&self, record: &DockerServer, pass: &mut Pass<DockerServerStatus>) {
        const TRUSTED: &str = "RecordsTrusted";
        let said = record.status.as_ref().is_some_and(|s| find(&s.conditions, TRUSTED).is_some());
        match self.ctx.restored() {
            Some(at) => {
                let message = format!(
                    "the records were restored from the backup of {at}: what they do not know on this server stays. When all is as it \
                     should be, take the annotation {} off Settings/{SETTINGS_NAME}",
                    labels::RESTORED
                );
                pass.notice(condition(TRUSTED, false, "Restored", message));
            }
            None if said => pass.notice(condition(TRUSTED, true, "Released", "")),
            None => {}
        }
    }

    /// Connects and asks who it is.
    async fn reach(&self, record: &DockerServer, pass: &mut Pass<DockerServerStatus>) -> Result<Arc<dyn Engine>, PassError> {
        let endpoint = endpoint(&self.ctx.frame.client, self.ctx.secrets.as_ref(), record).await?;
        let engine = self.ctx.connector.connect(&record.name_any(), &endpoint).await.map_err(|e| PassError::reaching(&e))?;
        let info = engine.info().await.map_err(|e| PassError::reaching(&e))?;
        self.same_engine(record, &info.id, pass)?;
        warnings::warn(&self.ctx, record, &info, pass);
        pass.status.engine_version = Some(info.version);
        pass.status.cpu_cores = Some(info.cpu_cores);
        pass.status.ram_total_mb = Some(info.memory >> 20);
        pass.holds("Reachable", "Answers");
        Ok(engine)
    }

    /// An engine that has not the workspaces would be given them a second time, empty. Whether it may is a person's to say.
    fn same_engine(&self, record: &DockerServer, id: &str, pass: &mut Pass<DockerServerStatus>) -> Result<(), PassError> {
        let name = record.name_any();
        let held = pass.status.engine_id.clone().filter(|held| held != id);
        if let Some(held) = held {
            let members = self.ctx.members(&name).len();
            if members > 0 && record.annotations().get(labels::ACCEPT_ENGINE).is_none_or(|accepted| accepted != id) {
                let message = format!(
                    "another engine ({id}) answers at this address than the one that holds its {members} workspaces ({held}): nothing is \
                     done there. Correct the address; or, if the old one is gone for ever, set the annotation {}={id} to make them \
                     anew on this one, with empty folders",
                    labels::ACCEPT_ENGINE
                );
                return Err(PassError::stalled("Reachable", "EngineReplaced", message));
            }
            self.lock().remove(&name);
        }
        pass.status.engine_id = Some(id.to_owned());
        Ok(())
    }

    /// Figures stay as they were last known, marked as such.
    fn lost(&self, name: &str, pass: &mut Pass<DockerServerStatus>) {
        if pass.status.phase == ServerPhase::Online {
            pass.did("unreachable");
        }
        let known = pass.status.engine_id.is_some();
        pass.status.phase = if known { ServerPhase::Unreachable } else { ServerPhase::Offline };
        pass.status.stale = pass.status.resources_updated_at.is_some();
        self.ctx.engines.set(name, None);
        self.watches.end(name);
        self.doubt(name);
    }

    fn doubt(&self, name: &str) {
        if let Some(looked) = self.lock().get_mut(name) {
            looked.doubt();
        }
    }

    /// Proves now and then that workspaces cannot reach each other or the host, and chooses the network by it.
    async fn prove(
        &self,
        record: &DockerServer,
        prepared: &prepare::Prepared,
        engine: &dyn Engine,
        pass: &mut Pass<DockerServerStatus>,
    ) -> Result<(), PassError> {
        let name = record.name_any();
        let looked = self.proved(record, prepared.fresh);
        if let Some((mode, told)) = looked.found.filter(|_| looked.prove_at.is_some_and(|at| Instant::now() < at)) {
            // The pass that found it out may not have been let write it down.
            pass.status.network_mode = Some(mode);
            pass.notice(told);
            return Ok(());
        }
        let Some(probe) = &prepared.probe else {
            pass.status.network_mode.get_or_insert(NetworkMode::SharedBridge);
            pass.notice(condition("Isolated", false, "NotProved", prepared.missing.clone()));
            return Ok(());
        };
        let servers = self.ctx.caches.servers.state();
        let own = isolation::own_machine(record, self.ctx.api_port).await;
        let forbidden = isolation::forbidden(record, &servers, &engine.listening(), prepared.network.gateway, &own);
        let (proved, mode, told) = match isolation::prove(engine, probe, prepared, &forbidden).await {
            Ok(found) => {
                let mode = if found.neighbour { NetworkMode::PerWorkspace } else { NetworkMode::SharedBridge };
                (true, mode, found.condition())
            }
            // The server works; what is not known is said.
            Err(EngineError::Failed(words) | EngineError::Invalid(words)) => {
                let mode = pass.status.network_mode.unwrap_or(NetworkMode::SharedBridge);
                (false, mode, condition("Isolated", false, "NotProved", words))
            }
            Err(e) => return Err(PassError::engine("Isolated", &e)),
        };
        pass.status.network_mode = Some(mode);
        pass.notice(told.clone());
        let prove_at = Some(Instant::now() + if proved { PROVED_FOR } else { UNKNOWN_FOR });
        let mut all = self.lock();
        let looked = all.entry(name).or_default();
        (looked.prove_at, looked.proved, looked.found) = (prove_at, proved, Some((mode, told)));
        Ok(())
    }

    /// What the last proof said, for as long as that is believed.
    fn proved(&self, record: &DockerServer, fresh: bool) -> Looked {
        let asked = record.annotations().get(labels::TESTED);
        let mut all = self.lock();
        let looked = all.entry(record.name_any()).or_default();
        // What was proved of the network before is nothing to a new one, also when this proof is broken off; and somebody who asks
        // for a test has changed something.
        if fresh || looked.tested.as_ref() != asked {
            (looked.prove_at, looked.tested) = (None, asked.cloned());
        }
        looked.clone()
    }

    /// Reads memory and disk, no more often than asked for, and writes them down only when they moved.
    async fn measure(
        &self,
        record: &DockerServer,
        prepared: &prepare::Prepared,
        engine: &dyn Engine,
        pass: &mut Pass<DockerServerStatus>,
    ) -> Result<(), PassError> {
        let name = record.name_any();
        let poll = humantime::parse_duration(&record.spec.poll_interval).unwrap_or(Duration::from_secs(60));
        let due = self.lock().get(&name).and_then(|l| l.measured).is_none_or(|at| at.elapsed() >= poll.mul_f64(0.85));
        // The pass that measured last may not have been let write it down.
        let due = due || pass.status.stale || pass.status.resources_updated_at.is_none();
        let Some(probe) = prepared.probe.as_ref().filter(|_| due) else {
            if prepared.probe.is_none() {
                pass.notice(condition("ResourcesKnown", false, "ProbeMissing", prepared.missing.clone()));
                // Once there is one, that is not to be said until the next poll.
                self.lock().entry(name).or_default().measured = None;
            }
            return Ok(());
        };
        // What is placed or started while it is measured may not be in it.
        let by = InUse::of(self.ctx.members(&name).iter().map(AsRef::as_ref));
        let (memory, disk, ticks) = prepare::figures(engine, probe).await.map_err(|e| PassError::engine("ResourcesKnown", &e))?;
        let used = (memory.total - memory.available) >> 20;
        self.ctx.caches.reserved.measured(&name, Amount { ram_mb: used, disk_mb: disk.used >> 20 }, &by);
        let before = {
            let mut all = self.lock();
            let looked = all.entry(name.clone()).or_default();
            looked.measured = Some(Instant::now());
            std::mem::replace(&mut looked.ticks, ticks)
        };
        let cores = pass.status.cpu_cores.unwrap_or_default();
        let busy = ticks.zip(before).and_then(|(now, before)| now.busy_since(before));
        let now = Figures {
            at: pass.now,
            cpu_used: busy.map(|part| part * f64::from(cores)),
            cpu_total: cores,
            ram_used: memory.total - memory.available,
            ram_total: memory.total,
            disk_used: disk.used,
            disk_total: disk.total,
            workspaces: self.ctx.members(&name).len(),
        };
        self.ctx.frame.reports.figures.note(&name, now);
        let gib = |bytes: u64| (bytes as f64 / f64::from(1u32 << 30) * 10.0).round() / 10.0;
        let moved = pass.status.ram_used_mb.is_none_or(|before| before.abs_diff(used) * 20 > memory.total >> 20)
            || pass.status.disk_used_gb.is_none_or(|before| (before - gib(disk.used)).abs() * 50.0 > gib(disk.total));
        if moved || pass.status.stale {
            pass.status.ram_total_mb = Some(memory.total >> 20);
            pass.status.ram_used_mb = Some(used);
            pass.status.disk_total_gb = Some(gib(disk.total));
            pass.status.disk_used_gb = Some(gib(disk.used));
            pass.status.resources_updated_at = Some(pass.now.to_string());
        }
        pass.notice(condition("ResourcesKnown", true, "Measured", ""));
        Ok(())
    }

    /// Takes the probe and the shared network off a server that goes.
    async fn leave(&self, record: &DockerServer) -> Result<(), EngineError> {
        let endpoint = endpoint(&self.ctx.frame.client, self.ctx.secrets.as_ref(), record).await;
        let endpoint = endpoint.map_err(|e| EngineError::Unreachable(e.message.into()))?;
        let engine = self.ctx.connector.connect(&record.name_any(), &endpoint).await?;
        let shared = prepare::also_of(&self.ctx, record, &engine.info().await?.id).is_some();
        let of_record = |labels: &Labels| Ownership::of_record(labels, "DockerServer", &record.uid().unwrap_or_default());
        let own = |labels: &Labels| prepare::is_ours(&self.ctx, labels, record) && (!shared || of_record(labels));
        for container in engine.containers(None).await?.into_iter().filter(|c| own(&c.labels)) {
            engine.remove(&container.id).await?;
        }
        for network in engine.networks(None).await?.into_iter().filter(|n| own(&n.labels)) {
            engine.remove_network(&network.id).await?;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Looked>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_proved_of_a_host_that_was_away_is_tried_again_soon_and_no_oftener_than_what_could_not_be() {
        let proved_at = Instant::now();
        let mut looked = Looked { prove_at: Some(proved_at + PROVED_FOR), proved: true, ..Looked::default() };
        for _ in 0..3 {
            looked.doubt();
            assert_eq!((looked.prove_at, looked.proved), (Some(proved_at + UNKNOWN_FOR), false));
        }
        let mut never = Looked::default();
        never.doubt();
        assert_eq!(never.prove_at, None);
    }
}
