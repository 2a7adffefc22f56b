//! A workspace that is stopped is started for who comes to it, by whichever door.
//!
//! # Guarantees
//! However many come to one at once in this process, it is started once, and the audit log has one row of it.

use crate::resource::Workspace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The workspaces that are being started at this moment. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Starts(Arc<Mutex<BTreeSet<String>>>);

/// A workspace that somebody has found stopped.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its uid: another one of that name is not started for them.
    pub uid: String,
}

/// Whoever is first starts it; until it is dropped.
struct First {
    starts: Starts,
    uid: String,
}

impl Drop for First {
    fn drop(&mut self) {
        self.starts.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.uid);
    }
}

impl Starts {
    fn first(&self, uid: &str) -> Option<First> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(uid.to_owned()).then(|| First { starts: self.clone(), uid: uid.to_owned() })
    }

    /// Has it run, as the one whose client this is and with this field manager. `false` where there was nothing to do: it runs, or
    /// somebody else is starting it.
    ///
    /// # Errors
    /// What the API answers to who may not, or cannot.
    pub async fn start(&self, own: Client, stopped: Stopped, manager: &'static str) -> Result<bool, kube::Error> {
        let Some(first) = self.first(&stopped.uid) else { return Ok(false) };
        let workspaces = Api::<Workspace>::namespaced(own, &stopped.project);
        // Who has come leaves as they like, and the next one must not begin before this has ended.
        let started = tokio::spawn(async move {
            let _first = first;
            // They may have found it stopped before somebody else had started it.
            if workspaces.get(&stopped.name).await?.spec.running {
                return Ok(false);
            }
            let running = Patch::Merge(json!({"metadata": {"uid": stopped.uid}, "spec": {"running": true}}));
            let params = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
            workspaces.patch(&stopped.name, &params, &running).await.map(|_| true)
        });
        started.await.unwrap_or_else(|error| Err(kube::Error::Service(Box::new(error))))
    }
}
