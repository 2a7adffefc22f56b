//! Where a workspace should be: on the server that was asked for, or on any other one where its own is to be emptied.

use super::{KIND, Mover, RETRY};
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::workspace::placement;
use crate::resource::{MoveStatus, Workspace};
use kube::runtime::reflector::ObjectRef;

/// Whether a server is to be emptied.
pub(super) fn is_emptied(ctx: &Context, server: &str) -> bool {
    ctx.caches.servers.get(&ObjectRef::new(server)).is_some_and(|s| s.spec.evacuate)
}

/// Whether a workspace that does not move should be elsewhere than `here`.
pub(super) fn is_asked_away(ctx: &Context, record: &Workspace, here: &str) -> bool {
    record.warm_of().is_none() && record.spec.docker_server.as_ref().map_or_else(|| is_emptied(ctx, here), |asked| asked != here)
}

impl Mover<'_> {
    /// The server that it should be on; none where it may be where it is. The error says why it stays on one that is to be emptied.
    pub(super) fn asked(&self, here: &str, under_way: Option<&MoveStatus>) -> Result<Option<String>, PassError> {
        match (&self.record.spec.docker_server, under_way) {
            (Some(asked), None) if asked == here && is_emptied(self.ctx, here) => {
                let words = "its own spec.dockerServer asks for it: take that off, or name another server there";
                Err(PassError::waiting(KIND, "AskedForHere", words, RETRY))
            }
            (Some(asked), _) => Ok(Some(asked.clone())),
            // Where it goes was chosen when it began.
            (None, Some(it)) => Ok(Some(it.to.clone()).filter(|_| is_emptied(self.ctx, &it.from))),
            (None, None) if is_emptied(self.ctx, here) => placement::another(self.ctx, (self.project, self.env)).map(Some),
            (None, None) => Ok(None),
        }
    }
}
