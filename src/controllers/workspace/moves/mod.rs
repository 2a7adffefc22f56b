//! A workspace moves to another server: stopped where it is, carried over part by part, started there, and removed where it was
//! once it answers where it is.
//!
//! # Guarantees
//! - What it was stays whole, and stopped, until what it is answers. Nothing runs in both.
//! - Each step is written down before it is taken, and begins with a look: a pass that was cut off is gone on with by the next.
//! - What was carried and found the same is not carried again, unless somebody started the container meanwhile.

mod adopt;
mod asked;
mod begin;
mod carry;
mod digest;
mod go_back;
mod go_on;
mod names;
mod remove_old;
mod source;

pub use carry::Moves;

use super::{Site, cleanup, site};
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::{Pass, still_so};
use crate::engine::EngineError;
use crate::plan::environment::Environment;
use crate::plan::image::Image;
use crate::plan::moves::{Turn, turn};
use crate::plan::workspace::Wanted;
use crate::resource::conditions::{condition, find};
use crate::resource::labels::MOVE_TIME;
use crate::resource::names::Slug;
use crate::resource::{MoveStatus, MoveStep, Project, Workspace, WorkspaceStatus, labels};
use asked::is_asked_away;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use std::time::Duration;

const KIND: &str = "Moved";
/// What is under way is told this often.
const AGAIN: Duration = Duration::from_secs(2);
/// How long what still runs beside it has to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// What keeps it from moving, or from being rid of what it was, may have ended.
const RETRY: Duration = Duration::from_secs(30);

/// The name of the container that a volume is carried through.
pub fn carrier(base: &str) -> String {
    format!("{base}_carry")
}

/// What a pass over a workspace that may move has in its hands.
struct Mover<'a> {
    ctx: &'a Context,
    record: &'a Workspace,
    project: &'a Project,
    env: &'a Environment,
}

/// Takes a move as far as it goes in this pass. Where the workspace is to be looked after as any other, where its status says it
/// is, there is no error.
pub async fn advance(
    ctx: &Context,
    record: &Workspace,
    (project, env): (&Project, &Environment),
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let Some(here) = pass.status.docker_server.clone().filter(|_| record.warm_of().is_none()) else { return Ok(()) };
    let it = Mover { ctx, record, project, env };
    let asked = match it.asked(&here, pass.status.moving.as_ref()) {
        Ok(asked) => asked,
        Err(why) => {
            let words = format!("{here} is to be emptied, and it cannot move: {}", why.message);
            pass.notice(condition(KIND, false, why.reason, words));
            return Ok(());
        }
    };
    let next = turn(&here, asked.as_deref(), pass.status.moving.as_ref());
    // Somebody has said so: that needs no trust in the records.
    if let Turn::Begin(to) = next
        && it.adopt(&here, to, pass).await?
    {
        return Ok(());
    }
    if next != Turn::Stay && ctx.restored().is_some() {
        return it.wait_for_trust(pass);
    }
    match next {
        Turn::Stay => it.stay(pass).await,
        Turn::Begin(to) => {
            if it.begin(&here, to, pass).await? {
                return it.go_on(pass).await;
            }
            Ok(())
        }
        Turn::GoOn => it.go_on(pass).await,
        Turn::GoBack => it.go_back(pass).await,
    }
}

/// What a workspace that has just been carried should have: a container that begins with the file system of the one it had, and
/// says what that was made from.
pub fn as_carried(wanted: Wanted, status: &WorkspaceStatus) -> Wanted {
    let carried = status.moving.as_ref().filter(|m| m.step == MoveStep::Starting && m.has_file_system());
    let Some(it) = carried else { return wanted };
    let Wanted { mut main, running, .. } = wanted;
    main.image = Image::AsItIs(it.image());
    if let Some(environment) = &status.environment {
        main.digest.clone_from(environment);
    }
    Wanted { main, recreate: false, made: !running, ..wanted }
}

/// The workspace is as it should be where it is: what it was elsewhere is not needed any more. Gives when to look again.
pub async fn finish(
    ctx: &Context,
    record: &Workspace,
    (project, env): (&Project, &Environment),
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<Option<Duration>, PassError> {
    let it = Mover { ctx, record, project, env };
    match pass.status.moving.as_ref() {
        Some(moving) if moving.step == MoveStep::Starting => {
            it.is_whole(pass).await?;
            if let Some(moving) = pass.status.moving.as_mut() {
                moving.step = MoveStep::Removing;
            }
            pass.save(record).await?;
            it.remove_old(pass).await?;
        }
        Some(_) => {}
        None => {
            let refused = pass.status.docker_server.as_deref().is_some_and(|here| is_asked_away(ctx, record, here));
            return Ok(refused.then_some(RETRY));
        }
    }
    Ok(pass.status.moving.is_some().then_some(RETRY))
}

impl Mover<'_> {
    fn uid(&self) -> String {
        self.record.uid().unwrap_or_default()
    }

    /// Tells a move from others: the later one of two is the greater one.
    fn drawn_id(&self, pass: &Pass<WorkspaceStatus>) -> Result<String, PassError> {
        let chance = Slug::drawn(|| self.ctx.frame.clock.draw());
        let chance = chance.map_err(|e| PassError::transient(KIND, "NoRandomness", e.to_string()))?;
        Ok(format!("{:0width$x}-{chance}", pass.now.as_millisecond().max(0), width = MOVE_TIME))
    }

    /// Records that come from a backup may be from before a move, or from the middle of one that has ended.
    fn wait_for_trust(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let words = format!(
            "it is not moved while the records are those of a backup: take the annotation {} off the Settings when all is as it \
             should be",
            labels::RESTORED
        );
        if pass.status.moving.is_some() {
            return Err(PassError::waiting(KIND, "Restored", words, RETRY));
        }
        pass.notice(condition(KIND, false, "Restored", words));
        Ok(())
    }

    async fn stay(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        match pass.status.moving.clone() {
            Some(it) if it.step == MoveStep::Removing => return self.remove_old(pass).await,
            Some(it) => {
                self.is_whole(pass).await?;
                let words = format!(
                    "it is being started on {}; what it was on {} is kept until it answers. `devsanctum workspace move {} --to {}` goes \
                     back, without what was written since",
                    it.to,
                    it.from,
                    self.record.name_any(),
                    it.from
                );
                pass.notice(condition(KIND, false, "Starting", words));
            }
            // What was asked for once, and is not any more.
            None => {
                let said = self.record.status.as_ref().and_then(|s| find(&s.conditions, KIND));
                match said.filter(|c| c.status != "True").map(|c| c.reason.as_str()) {
                    // The pass that was rid of what it was may have ended before it said so.
                    Some("Starting" | "OldRemains") => pass.notice(has_moved(pass)),
                    Some(_) => pass.notice(condition(KIND, true, "Stays", "")),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Whether all that was carried is still there: what is not would be made anew, empty, and what it was be removed.
    async fn is_whole(&self, pass: &Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let Some(it) = &pass.status.moving else { return Ok(()) };
        // The workspace's own pass says what is wrong with its server.
        let Ok(there) = site(self.ctx, &it.to) else { return Ok(()) };
        let volumes = there.engine.volumes(Some(&self.record.identity().uid)).await.map_err(|e| PassError::engine(KIND, &e))?;
        let gone = it.gone(volumes.iter().filter(|v| carry::is_of(v, &it.id)).map(|v| v.name.as_str()).collect());
        if gone.is_empty() {
            return Ok(());
        }
        let words = format!(
            "what was carried to {} is gone again before it answered there: {}. What it was is whole, on {}: `devsanctum workspace move {} \
             --to {}` goes back to it",
            it.to,
            gone.join(", "),
            it.from,
            self.record.name_any(),
            it.from
        );
        Err(PassError::stalled(KIND, "CarriedIsGone", words))
    }

    /// An old copy of a record must not begin anew, or clear away, what another process has gone on with.
    async fn still_mine(&self, pass: &Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let now = still_so(&self.ctx.frame.client, self.record).await?;
        let same = now.status.is_some_and(|s| s.moving == pass.status.moving && s.docker_server == pass.status.docker_server);
        if same { Ok(()) } else { Err(PassError::overtaken()) }
    }

    /// What was known of its container was of the one that it had where it was.
    fn is_elsewhere(&self, pass: &mut Pass<WorkspaceStatus>) {
        self.ctx.reached(&self.uid(), None);
        self.ctx.listings.forget(&self.record.identity().uid);
        self.ctx.moves.forget(&self.uid());
        self.ctx.restarts.forget(&self.uid());
        (pass.status.container_id, pass.status.started_at, pass.status.address) = Default::default();
        // What it holds on the two is as it was: each is the other one now.
        let status = &mut pass.status;
        if let Some(it) = status.moving.as_mut().filter(|it| it.reserved_ram_mb.is_some()) {
            std::mem::swap(&mut it.reserved_ram_mb, &mut status.reserved_ram_mb);
            std::mem::swap(&mut it.reserved_disk_gb, &mut status.reserved_disk_gb);
        }
    }

    /// Removes all there is of it on a server that it is not on.
    async fn clear(&self, at: &Site, it: &MoveStatus, pass: &mut Pass<WorkspaceStatus>) -> Result<(), EngineError> {
        cleanup::remove_all(at.engine.as_ref(), &self.record.identity().uid, pass).await?;
        cleanup::remove_image(at.engine.as_ref(), &it.image()).await;
        Ok(())
    }
}

fn has_moved(pass: &Pass<WorkspaceStatus>) -> Condition {
    condition(KIND, true, "Moved", format!("it moved to {}", pass.status.docker_server.as_deref().unwrap_or_default()))
}
