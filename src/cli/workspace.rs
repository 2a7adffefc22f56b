//! `workspace`: started, stopped, brought to its template as it is now, moved to another server.

use super::args::{OneWorkspace, WorkspaceArgs, WorkspaceCommand};
use super::connect::Context;
use super::failure::{Failure, TIMED_OUT};
use super::{logs, relocate, target, ui, why_pending};
use crate::resource::conditions::{READY, holds};
use crate::resource::{KindDef, Workspace, WorkspacePhase, WorkspaceStatus, labels};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const MANAGER: &str = "devsanctum-workspace-command";
/// A workspace waited for is looked at this often.
pub const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long one that is woken may take: its image may have to be built first.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs `workspace`.
///
/// # Errors
/// When there is no such workspace, or it is not so in time.
pub async fn run(context: &Context, args: WorkspaceArgs) -> Result<(), Failure> {
    match &args.command {
        WorkspaceCommand::Start(one) => change(context, one, "started", json!({"spec": {"running": true}}), None).await,
        WorkspaceCommand::Stop(one) => change(context, one, "stopped", json!({"spec": {"running": false}}), None).await,
        WorkspaceCommand::Update(one) => update(context, one).await,
        WorkspaceCommand::Move(args) => relocate::run(context, args).await,
        WorkspaceCommand::WhyPending(args) => why_pending::run(context, &args.workspace).await,
    }
}

fn named<'a>(context: &'a Context, name: &'a str) -> Result<Named<'a>, Failure> {
    Ok(Named { context, def: target::kind("workspace")?, name: logs::workspace(name)? })
}

async fn update(context: &Context, one: &OneWorkspace) -> Result<(), Failure> {
    let it = named(context, &one.workspace)?;
    let Some(latest) = it.read().await?.status.and_then(|s| s.latest_environment) else {
        return ui::say(&format!("workspace/{} is up to date\n", it.name));
    };
    change(context, one, "updated", json!({"metadata": {"annotations": {labels::RECREATE: latest}}}), Some(&latest)).await
}

async fn change(context: &Context, one: &OneWorkspace, verb: &str, patch: Value, latest: Option<&str>) -> Result<(), Failure> {
    let it = named(context, &one.workspace)?;
    it.read().await?;
    let changed = it.change(&patch).await?;
    if one.wait {
        it.wait(one, &changed, latest).await?;
    }
    ui::say(&format!("workspace/{} {verb}\n", it.name))
}

/// A workspace by its name.
pub struct Named<'a> {
    /// Where it is.
    pub context: &'a Context,
    /// Its kind.
    pub def: &'static KindDef,
    /// Its name.
    pub name: &'a str,
}

impl Named<'_> {
    /// The record.
    ///
    /// # Errors
    /// When there is none.
    pub async fn read(&self) -> Result<Workspace, Failure> {
        let found = self.context.get(self.def, Some(&self.context.namespace), self.name).await?;
        let missing =
            || Failure::new(format!("workspace {:?} does not exist in project {:?}", self.name, self.context.namespace));
        Ok(serde_json::from_value(found.ok_or_else(missing)?)?)
    }

    /// Changes the record.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn change(&self, patch: &Value) -> Result<Workspace, Failure> {
        let changed = self.context.merge(self.def, Some(&self.context.namespace), self.name, patch, MANAGER).await?;
        Ok(serde_json::from_value(changed?)?)
    }

    /// Waits until the workspace is as it should be now, telling what it waits for.
    ///
    /// # Errors
    /// When it is not so in time.
    pub async fn wait(&self, one: &OneWorkspace, changed: &Workspace, latest: Option<&str>) -> Result<(), Failure> {
        let there = |now: &Workspace| arrived(now, changed.metadata.generation, latest);
        self.until(there, one.timeout, "is not there").await
    }

    /// Waits until something is so, telling what it waits for.
    async fn until(&self, there: impl Fn(&Workspace) -> bool, patience: Duration, not: &str) -> Result<(), Failure> {
        let (begun, mut told) = (Instant::now(), String::new());
        loop {
            let now = self.read().await?;
            if there(&now) {
                return Ok(());
            }
            let message = now.status.and_then(|s| s.message).unwrap_or_default();
            if begun.elapsed() > patience {
                let words = format!("workspace {:?} {not} after {}", self.name, humantime::format_duration(patience));
                let words = if message.is_empty() { words } else { format!("{words}: {message}") };
                return Err(Failure { code: TIMED_OUT, ..Failure::new(words) });
            }
            if message != told && !message.is_empty() {
                ui::progress(&message);
                told = message;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Starts a workspace that is stopped, and waits until commands run in it; `false` where it is not stopped.
///
/// # Errors
/// When it may not be started, or does not run in time.
pub async fn woken(context: &Context, name: &str) -> Result<bool, Failure> {
    let it = Named { context, def: target::kind("workspace")?, name };
    if it.read().await?.spec.running {
        return Ok(false);
    }
    ui::note(&format!("workspace {name:?} is stopped: starting it"));
    let changed = it.change(&json!({"spec": {"running": true}})).await?;
    let there = |now: &Workspace| {
        let seen = |s: &WorkspaceStatus| s.observed_generation >= changed.metadata.generation;
        now.status.as_ref().is_some_and(|s| seen(s) && holds(&s.conditions, "ContainerRunning"))
    };
    it.until(there, PATIENCE, "does not run").await?;
    Ok(true)
}

/// Whether what was asked for is so, and it stands or runs as it should: of this generation of the record, and from this environment where one is named.
pub fn arrived(now: &Workspace, generation: Option<i64>, latest: Option<&str>) -> bool {
    let Some(status) = &now.status else { return false };
    let seen = status.observed_generation >= generation;
    // The container of one that is stopped is made when it is started.
    let made = !now.spec.running || latest.is_none_or(|latest| status.environment.as_deref() == Some(latest));
    let there = if now.spec.running { holds(&status.conditions, READY) } else { status.phase == WorkspacePhase::Stopped };
    seen && made && there
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(running: bool, status: Value) -> Workspace {
        let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "web", "generation": 2},
            "spec": {"owner": "ada", "running": running}, "status": status});
        serde_json::from_value(record).expect("a workspace")
    }

    #[test]
    fn what_is_said_of_an_older_record_does_not_count() {
        let ready = json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let of = |generation: i64| json!({"observedGeneration": generation, "conditions": ready, "environment": "a"});
        assert!(!arrived(&workspace(true, of(1)), Some(2), None));
        assert!(arrived(&workspace(true, of(2)), Some(2), None));
        assert!(!arrived(&workspace(true, of(2)), Some(2), Some("b")));
        assert!(arrived(&workspace(true, of(2)), Some(2), Some("a")));
        assert!(!arrived(&workspace(false, of(2)), Some(2), None), "it does not stand still yet");
        let stopped = json!({"observedGeneration": 2, "phase": "STOPPED", "environment": "a"});
        assert!(arrived(&workspace(false, stopped), Some(2), Some("b")));
    }
}
