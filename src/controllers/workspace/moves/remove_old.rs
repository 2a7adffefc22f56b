//! A move is done: what it was goes.

use super::{KIND, Mover, has_moved};
use crate::controllers::events;
use crate::controllers::retry::{Class, PassError};
use crate::controllers::status::Pass;
use crate::controllers::workspace::{cleanup, site};
use crate::resource::conditions::condition;
use crate::resource::{MoveStatus, Workspace, WorkspaceStatus, labels};
use kube::ResourceExt;

impl Mover<'_> {
    /// Removes what it was. What goes wrong with that is in nobody's way but the old server's.
    pub(super) async fn remove_old(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let Some(it) = pass.status.moving.clone() else { return Ok(()) };
        self.still_mine(pass).await?;
        let removed = match site(self.ctx, &it.from) {
            _ if self.ctx.restored().is_some() => return self.keep_old(&it, "the records are those of a backup", pass),
            Ok(old) => {
                let removed = self.clear(&old, &it, pass).await.map_err(|e| PassError::engine(KIND, &e));
                if let (Ok(()), Some(image)) = (&removed, &pass.status.moved_image) {
                    cleanup::remove_image(old.engine.as_ref(), image).await;
                }
                removed
            }
            Err(e) => Err(e),
        };
        match removed {
            // Just after a start nothing is known of the server; the next look knows.
            Err(e) if matches!(e.class, Class::Unknown(_)) => return Ok(()),
            Err(e) if !is_left(self.record, &e) => return self.keep_old(&it, &e.message, pass),
            Err(e) => events::left_behind(self.ctx, self.record, &format!("what it was on server {}: {}", it.from, e.message)),
            Ok(()) => {}
        }
        pass.status.moved_image = it.has_file_system().then(|| it.image());
        pass.status.moving = None;
        pass.save(self.record).await?;
        self.ctx.caches.reserved.leave(&self.uid());
        pass.did(format!("moved from {} to {}", it.from, it.to));
        pass.notice(has_moved(pass));
        Ok(())
    }

    fn keep_old(&self, it: &MoveStatus, why: &str, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let words = format!(
            "it is on {}, and what it was on {} cannot be removed: {why}. It is tried again by itself; if that server is gone for ever, \
             set the annotation {}=true to leave it behind",
            it.to,
            it.from,
            labels::ABANDON
        );
        pass.notice(condition(KIND, false, "OldRemains", words));
        Ok(())
    }
}

/// What is on a server that is gone is left there; on one that does not answer, where somebody says so. One that answers, and refuses,
/// has it still.
pub(super) fn is_left(record: &Workspace, e: &PassError) -> bool {
    let told = record.annotations().get(labels::ABANDON).is_some_and(|v| v == "true");
    e.reason == "ServerGone" || told && matches!(e.reason, "ServerUnreachable" | "EngineUnreachable" | "EngineDenied")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;
    use serde_json::json;

    #[test]
    fn only_what_is_on_a_server_that_does_not_answer_is_left_behind_when_told() {
        let of = |told: &str| -> Workspace {
            let annotations = json!({ labels::ABANDON: told });
            let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
                "metadata": {"name": "w", "annotations": annotations}, "spec": {"owner": "ada"}});
            serde_json::from_value(record).unwrap()
        };
        let left = |told: &str, e: &EngineError| is_left(&of(told), &PassError::engine(KIND, e));
        let (silent, refuses) = (EngineError::Unreachable("gone".into()), EngineError::Conflict("volume is in use".into()));
        assert_eq!([left("true", &silent), left("true", &refuses), left("false", &silent)], [true, false, false]);
        assert!(is_left(&of("false"), &PassError::stalled(KIND, "ServerGone", "")));
    }
}
