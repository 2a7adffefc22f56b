//! What somebody sees of a kind, record by record, and when that changes.

use super::directory::{Directory, LOOK_AT_KEY};
use super::records::{Records, Role};
use super::{Action, Identity, decide};
use crate::resource::common::Visibility;
use crate::resource::{GROUP, Workspace};
use crate::store::{Key, Stored};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// One person's view of one kind.
#[derive(Clone)]
pub struct Sight {
    who: Identity,
    directory: Arc<Directory>,
    group: &'static str,
    resource: &'static str,
    moved: watch::Receiver<(u64, bool)>,
    /// What they were entitled to when they began to look.
    began_with: u64,
    /// When it is looked again whether the API key they came by is still there.
    look: Instant,
}

impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sight({:?}, {})", self.who.name, self.resource)
    }
}

impl Sight {
    /// Begins to look.
    pub fn new(who: &Identity, directory: &Arc<Directory>, group: &'static str, resource: &'static str) -> Self {
        let moved = directory.moved();
        let began_with = directory.now(|records| records.entitlement(&who.name));
        let look = Instant::now() + LOOK_AT_KEY;
        Self { who: who.clone(), directory: directory.clone(), group, resource, moved, began_with, look }
    }

    /// Whether they may see this record.
    pub fn sees(&self, stored: &Stored) -> bool {
        self.directory.now(|records| self.is_seen(records, stored))
    }

    fn is_seen(&self, records: &Records, stored: &Stored) -> bool {
        let Key { namespace, name, .. } = &stored.key;
        let (group, resource) = (self.group, self.resource);
        let namespace = Some(namespace.as_str()).filter(|n| !n.is_empty());
        let action = Action { verb: "get", group, resource, subresource: "", namespace, name: Some(name) };
        if decide(&self.who, &action, records).is_allowed() {
            return true;
        }
        // One that is gone is told of as it was: to visitors, if it was public.
        let visits = records.role(&self.who.name, namespace.unwrap_or_default()) == Role::Visitor;
        let was_public = || {
            let read = serde_json::from_slice::<Workspace>(&stored.body);
            read.is_ok_and(|workspace| workspace.spec.visibility == Visibility::Public)
        };
        (group, resource) == (GROUP, "workspaces")
            && visits
            && self.who.scope.allows(&action)
            && records.workspace_owner(namespace.unwrap_or_default(), name).is_none()
            && was_public()
    }

    /// Waits until they are entitled to other things than when they began to look, or came by an API key that is there no more.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                moved = self.moved.changed() => {
                    if moved.is_err() {
                        return std::future::pending().await;
                    }
                    let (_, complete) = *self.moved.borrow_and_update();
                    if !complete || self.directory.now(|records| records.entitlement(&self.who.name)) != self.began_with {
                        return;
                    }
                }
                () = sleep_until(self.look), if self.who.key.is_some() => {
                    self.look = Instant::now() + LOOK_AT_KEY;
                    if !self.directory.has_key(&self.who).await {
                        return;
                    }
                }
            }
        }
    }
}
