//! Workspaces of who is deactivated stop, pinned or worked in as they may be: nobody has a right to be in them but by theirs.

use super::verdict::LONGEST;
use super::{AGAIN, Lifecycles, params};
use crate::controllers::events;
use crate::resource::{User, Workspace};
use kube::ResourceExt;
use kube::api::{Api, Patch};
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use std::time::Duration;

impl Lifecycles {
    /// Whether its owner is deactivated, by the copies.
    pub(super) fn is_nobodys(&self, record: &Workspace) -> bool {
        self.ctx.caches.users.get(&ObjectRef::new(&record.spec.owner)).is_some_and(|owner| !owner.spec.active)
    }

    /// Stops it, if that is so by the records themselves.
    pub(super) async fn send_home(&self, record: &Workspace) -> Result<Duration, kube::Error> {
        let Some(now) = self.anew(record).await?.filter(|now| now.spec.running) else { return Ok(LONGEST) };
        let owner = Api::<User>::all(self.ctx.frame.client.clone()).get_opt(&now.spec.owner).await?;
        if owner.is_none_or(|owner| owner.spec.active) {
            return Ok(AGAIN);
        }
        let body = json!({"metadata": {"resourceVersion": now.resource_version()}, "spec": {"running": false}});
        self.api(&now).patch(&now.name_any(), &params(), &Patch::Merge(body)).await?;
        let note = format!("stopped: its owner, {}, is deactivated; its files are kept", now.spec.owner);
        tracing::info!(workspace = now.name_any(), namespace = now.namespace(), note, "lifecycle");
        events::tell(&self.ctx.frame, &now, true, "OwnerDeactivated", note);
        Ok(LONGEST)
    }
}
