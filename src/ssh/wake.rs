//! A workspace that is stopped is started for who comes in.

use super::connection::Caller;
use super::{Gateway, no_workspace};
use crate::api::{SshKey, Stopped, client_by_ssh};
use crate::resource::Workspace;
use crate::resource::conditions::find;
use kube::Api;
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
    let key = SshKey(caller.fingerprint.clone());
    let own = client_by_ssh(gateway.api.clone(), caller.who.clone(), key, caller.address);
    let workspaces: Api<Workspace> = Api::namespaced(own.clone(), project);
    let (begun, mut told, mut said, mut has_run) = (Instant::now(), String::new(), false, false);
    loop {
        let found = workspaces.get_opt(name).await.map_err(|e| e.to_string())?;
        let record = found.ok_or_else(|| no_workspace(name, project))?;
        if !record.spec.running {
            let may_start = gateway.may(caller, "patch", "").await;
            may_start.map_err(|e| format!("workspace {name:?} is stopped, and you may not start it: {e}"))?;
            if has_run {
                return Err(format!("workspace {name:?} was stopped again meanwhile"));
            }
            if !std::mem::replace(&mut said, true) {
                tell(format!("workspace {name:?} is stopped: starting it"));
            }
            let uid = record.metadata.uid.clone().unwrap_or_default();
            let stopped = Stopped { project: project.clone(), name: name.clone(), uid };
            // Another connection may be starting it: then this one waits as that one does.
            has_run = gateway.starts.start(own.clone(), stopped, MANAGER).await.map_err(|e| e.to_string())?;
        } else if runs(&record) {
            return Ok(());
        } else {
            has_run = true;
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

fn runs(record: &Workspace) -> bool {
    let Some(status) = &record.status else { return false };
    let seen = status.observed_generation >= record.metadata.generation;
    seen && find(&status.conditions, "ContainerRunning").is_some_and(|c| c.status == "True")
}
