//! What is left of a move: where it goes back, what had come; where it is done, what it was.

use super::{KIND, Mover, carry, has_moved};
use crate::controllers::events;
use crate::controllers::retry::{Class, PassError};
use crate::controllers::status::Pass;
use crate::controllers::workspace::{cleanup, site};
use crate::engine::EngineError;
use crate::resource::conditions::condition;
use crate::resource::{MoveStatus, MoveStep, Workspace, WorkspaceStatus, labels};
use kube::ResourceExt;
use std::time::Duration;

impl Mover<'_> {
    /// Gives the move up: it is where it was before, as it was.
    pub(super) async fn go_back(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let Some(it) = pass.status.moving.clone() else { return Ok(()) };
        let started = it.step == MoveStep::Starting;
        self.ctx.moves.forget(&self.uid());
        let here = match site(self.ctx, &it.from) {
            Err(e) if started => {
                let words = format!("it cannot go back to {}: {}. It stays on {} until it can", it.from, e.message, it.to);
                return Err(PassError { condition: KIND, message: words, ..e });
            }
            here => here,
        };
        self.still_mine(pass).await?;
        if let (Ok(here), Ok(there)) = (&here, site(self.ctx, &it.to)) {
            self.source_is_there((here, &there), &it).await?;
        }
        let cleared = match site(self.ctx, &it.to) {
            Ok(there) => self.clear(&there, &it, pass).await.map_err(|e| PassError::engine(KIND, &e)),
            Err(e) => Err(e),
        };
        if let Err(e) = cleared {
            if matches!(e.class, Class::Unknown(_)) {
                return Err(e);
            }
            // Something may run there, and nothing may run in both.
            if started && !is_left(self.record, &e) {
                return Err(cannot_leave(&it, e));
            }
            events::left_behind(self.ctx, self.record, &format!("what was carried to server {}: {}", it.to, e.message));
        }
        if let Ok(here) = here {
            let failed = |e: EngineError| PassError::engine(KIND, &e);
            carry::remove_helper(here.engine.as_ref(), &self.helper()).await.map_err(failed)?;
            cleanup::remove_image(here.engine.as_ref(), &it.image()).await;
        }
        if started {
            pass.status.docker_server = Some(it.from.clone());
            self.is_elsewhere(pass);
        }
        pass.status.moving = None;
        pass.save(self.record).await?;
        self.ctx.caches.reserved.leave(&self.uid());
        pass.did(format!("did not move to {}: it is on {}, as it was", it.to, it.from));
        match self.record.spec.docker_server.as_deref() {
            Some(other) if other != it.from => {
                Err(PassError::waiting(KIND, "WentBack", format!("it moves to {other} now"), Duration::ZERO))
            }
            _ => {
                pass.notice(condition(KIND, true, "WentBack", format!("it did not move to {}", it.to)));
                Ok(())
            }
        }
    }

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
fn is_left(record: &Workspace, e: &PassError) -> bool {
    let told = record.annotations().get(labels::ABANDON).is_some_and(|v| v == "true");
    e.reason == "ServerGone" || told && matches!(e.reason, "ServerUnreachable" | "EngineUnreachable" | "EngineDenied")
}

fn cannot_leave(it: &MoveStatus, e: PassError) -> PassError {
    let message = format!(
        "it cannot go back to {} before what runs on {} is removed: {}. It is tried again by itself; if that server is gone for ever, \
         set the annotation {}=true to leave it behind",
        it.from,
        it.to,
        e.message,
        labels::ABANDON
    );
    PassError { condition: KIND, message, ..e }
}

#[cfg(test)]
mod tests {
    use super::*;
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
