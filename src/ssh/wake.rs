//! A workspace that is stopped is started for who comes in.

use super::connection::Caller;
use super::{Gateway, no_workspace};
use crate::api::client_at;
use crate::resource::Workspace;
use crate::resource::conditions::find;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

const MANAGER: &str = "devsanctum-ssh";
/// Longest wait: its image may have to be built first.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits until the workspace's container runs, starting it where it is stopped, and tells the caller what it waits for.
///
/// # Errors
/// In words for the caller.
pub async fn awake(gateway: &Gateway, caller: &Caller, tell: Option<UnboundedSender<String>>) -> Result<(), String> {
    let tell = |words: String| tell.as_ref().map(|to| to.send(words));
    let (name, project) = (&caller.target.name, &caller.target.namespace);
    // As the caller: what they do to a record is judged, and written down, as anywhere.
    let own = client_at(gateway.api.clone(), caller.who.clone(), caller.address);
    let workspaces: Api<Workspace> = Api::namespaced(own, project);
    let (begun, mut told, mut started) = (Instant::now(), String::new(), false);
    loop {
        let found = workspaces.get_opt(name).await.map_err(|e| e.to_string())?;
        let record = found.ok_or_else(|| no_workspace(name, project))?;
        if !record.spec.running {
            let may_start = gateway.may(caller, "patch", "").await;
            may_start.map_err(|e| format!("workspace {name:?} is stopped, and you may not start it: {e}"))?;
            if std::mem::replace(&mut started, true) {
                return Err(format!("workspace {name:?} was stopped again meanwhile"));
            }
            tell(format!("workspace {name:?} is stopped: starting it"));
            let start = Patch::Merge(json!({"metadata": {"uid": record.metadata.uid}, "spec": {"running": true}}));
            workspaces.patch(name, &params(), &start).await.map_err(|e| e.to_string())?;
        } else if runs(&record) {
            return Ok(());
        }
        let message = record.status.and_then(|s| s.message).unwrap_or_default();
        if begun.elapsed() > PATIENCE {
            return Err(format!("workspace {name:?} does not run: {message}"));
        }
        if message != told && !message.is_empty() {
            tell(message.clone());
            told = message;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

fn runs(record: &Workspace) -> bool {
    let Some(status) = &record.status else { return false };
    let seen = status.observed_generation >= record.metadata.generation;
    seen && find(&status.conditions, "ContainerRunning").is_some_and(|c| c.status == "True")
}
