//! A move is given up: what had come goes, once what it was is seen to be there whole.

use super::remove_old::is_left;
use super::{KIND, Mover, carry};
use crate::controllers::events;
use crate::controllers::retry::{Class, PassError};
use crate::controllers::status::Pass;
use crate::controllers::workspace::{cleanup, site};
use crate::engine::EngineError;
use crate::resource::conditions::condition;
use crate::resource::{MoveStatus, MoveStep, WorkspaceStatus, labels};
use std::time::Duration;

/// Moves remembered that left something behind.
const LEFT: usize = 8;

impl Mover<'_> {
    /// Gives the move up: it is where it was before, as it was.
    pub(super) async fn go_back(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let Some(it) = pass.status.moving.clone() else { return Ok(()) };
        let started = it.step == MoveStep::Starting;
        self.ctx.moves.forget(&self.uid());
        // What had come may be the only copy: nothing of it goes before what it was is seen to be there.
        let here = site(self.ctx, &it.from).map_err(|e| {
            let words = format!(
                "it cannot go back to {}: {}. What it has on {} stays until that is looked at",
                it.from, e.message, it.to
            );
            PassError { condition: KIND, message: words, ..e }
        })?;
        self.still_mine(pass).await?;
        let came = async {
            let there = site(self.ctx, &it.to)?;
            Ok::<_, PassError>((self.held(&there).await?, there))
        };
        let came = came.await;
        self.source_is_whole(&here, came.as_ref().ok().map(|(held, _)| held), &it).await?;
        let cleared = match came {
            Ok((_, there)) => self.clear(&there, &it, pass).await.map_err(|e| PassError::engine(KIND, &e)),
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
            pass.status.left_moves.push(it.id.clone());
            let most = pass.status.left_moves.len().saturating_sub(LEFT);
            pass.status.left_moves.drain(..most);
        }
        let failed = |e: EngineError| PassError::engine(KIND, &e);
        carry::remove_helper(here.engine.as_ref(), &self.helper()).await.map_err(failed)?;
        cleanup::remove_image(here.engine.as_ref(), &it.image()).await;
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
