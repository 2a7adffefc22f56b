//! What is carried, part by part, and handed over once all of it is there.

use super::asked::is_emptied;
use super::carry::{self, Helper, Job, Moves, Part, Progress};
use super::{AGAIN, KIND, Mover, carrier};
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::controllers::workspace::{Site, execute, images, site};
use crate::engine::EngineError;
use crate::plan::image::{Image, probe_image};
use crate::plan::workspace::base_name;
use crate::resource::conditions::condition;
use crate::resource::{MoveStatus, MoveStep, Workspace, WorkspaceStatus};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::time::Duration;

/// Servers' records tell disk space in steps of this, in gibibytes.
const MEASURED_BY: f64 = 0.1;

impl Mover<'_> {
    /// Stops it, carries what is not carried yet, and hands it over.
    pub(super) async fn go_on(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let Some(it) = pass.status.moving.clone() else { return Ok(()) };
        let here = site(self.ctx, &it.from)?;
        let there = site(self.ctx, &it.to).map_err(|e| can_go_back(self.record, &it, e))?;
        let main = self.halt(&here, pass).await?;
        // Its container may have been made anew since it began.
        self.has_only_its_own(&here).await.map_err(|e| can_go_back(self.record, &it, e))?;
        self.note_run(main.as_ref(), (&here, &there), pass).await?;
        let parts = self.parts(main.map(|m| m.id), &here).await?;
        let all = parts.len();
        for (nth, part) in parts.into_iter().enumerate() {
            self.carry(part, (nth + 1, all), (&here, &there), pass).await?;
        }
        self.hand_over(&there, pass).await
    }

    /// One part: until it is there, this is the error that says how far it is.
    async fn carry(
        &self,
        part: Part,
        (nth, all): (usize, usize),
        (here, there): (&Site, &Site),
        pass: &mut Pass<WorkspaceStatus>,
    ) -> Result<(), PassError> {
        let Some(it) = pass.status.moving.clone() else { return Ok(()) };
        if it.carried.iter().any(|c| c.name == part.name()) {
            return Ok(());
        }
        let words = format!("moving to {}: carrying {}, part {nth} of {all}", it.to, part.words());
        let so_far = match self.ctx.moves.progress(&self.uid(), &it, &part) {
            Progress::Done(carried) => {
                pass.did(format!("carried {} to {}: {} bytes, {}", part.words(), it.to, carried.bytes, carried.digest));
                if let Some(moving) = pass.status.moving.as_mut() {
                    moving.carried.push(carried);
                }
                return pass.save(self.record).await;
            }
            Progress::Running(bytes) => format!("{} MiB so far", told(bytes >> 20)),
            Progress::Waits => format!("it waits for its turn: {} or {} has others under way", it.from, it.to),
            Progress::Due => {
                self.start(part, &it, (here, there), pass).await?;
                "0 MiB so far".into()
            }
            Progress::Failed(why, left) => {
                let room = if why.is_full() { format!(". Free disk space on {}", why.server) } else { String::new() };
                let words = format!("{} could not be carried: {why}{room}", part.words());
                let why = can_go_back(self.record, &it, PassError::waiting(KIND, "CarryFailed", words, left));
                is_down(pass, &why.message);
                return Err(why);
            }
        };
        let words = format!("{words}, {so_far}");
        is_down(pass, &words);
        Err(PassError::waiting(KIND, "Carrying", words, AGAIN))
    }

    async fn start(
        &self,
        part: Part,
        it: &MoveStatus,
        (here, there): (&Site, &Site),
        pass: &Pass<WorkspaceStatus>,
    ) -> Result<(), PassError> {
        let helper = self.helper();
        if matches!(part, Part::Volume(_)) {
            for at in [here, there] {
                images::have_one(self.ctx, &at.server, &at.engine, &Image::AsItIs(helper.image.clone())).await?;
            }
        }
        self.still_mine(pass).await?;
        let who = (self.record.namespace(), self.record.name_any());
        let room = self.room(&there.server);
        Moves::begin(self.ctx, &self.uid(), who, it, Job::new((here, there), it, part, helper, room));
        Ok(())
    }

    /// Bytes that were free on a server when it was last measured.
    fn room(&self, server: &str) -> Option<u64> {
        let record = self.ctx.caches.servers.get(&ObjectRef::new(server))?;
        let seen = self.ctx.caches.reserved.without(&[], |sums| sums.candidates([&*record]));
        let free = seen.first().and_then(|s| Some(s.disk_total_gb? - s.disk_used_gb?))?;
        // More than fits into a number of bytes there is nowhere.
        Some(((free.max(0.0) + MEASURED_BY) * f64::from(1 << 30)) as u64)
    }

    pub(super) fn helper(&self) -> Helper {
        let owner = execute::owner(self.ctx, self.record);
        Helper { name: carrier(&base_name(&owner.identity)), image: probe_image(&self.ctx.settings().images), owner }
    }

    /// All is there: from here on it is looked after there. What it was is not touched.
    async fn hand_over(&self, there: &Site, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let Some(mut it) = pass.status.moving.clone() else { return Ok(()) };
        self.still_mine(pass).await?;
        let failed = |e: EngineError| PassError::engine(KIND, &e);
        let mut volumes = there.engine.volumes(Some(&self.record.identity().uid)).await.map_err(failed)?;
        volumes.retain(|v| carry::is_of(v, &it.id));
        let engine = there.engine.as_ref();
        let image = if it.has_file_system() { carry::layers(engine, &it.image()).await.map_err(failed)? } else { None };
        let before = it.carried.len();
        it.carried.retain(|part| match part.name.as_str() {
            MoveStatus::FILE_SYSTEM => image.as_ref() == Some(&part.digest),
            name => volumes.iter().any(|v| v.name == name),
        });
        if it.carried.len() < before {
            self.ctx.moves.forget(&self.uid());
            pass.status.moving = Some(it);
            pass.save(self.record).await?;
            let words = "something that was carried is gone again: it is carried anew";
            return Err(PassError::waiting(KIND, "CarriedAnew", words, Duration::ZERO));
        }
        it.step = MoveStep::Starting;
        let (from, to) = (it.from.clone(), it.to.clone());
        pass.status.moving = Some(it);
        pass.status.docker_server = Some(to.clone());
        self.is_elsewhere(pass);
        pass.save(self.record).await?;
        pass.did(format!("was carried to {to}"));
        if is_emptied(self.ctx, &from) {
            // The next one's turn has come.
            self.ctx.wake_members(&from);
        }
        self.stay(pass).await
    }
}

/// What else can be done.
fn can_go_back(record: &Workspace, it: &MoveStatus, e: PassError) -> PassError {
    let message = format!(
        "it cannot move to {} now: {}. It is stopped, and whole, on {}. Trying again by itself; `devsanctum workspace move {} --to \
         {}` goes back",
        it.to,
        e.message,
        it.from,
        record.name_any(),
        it.from
    );
    PassError { condition: KIND, message, ..e }
}

/// Mebibytes in steps of about a twentieth, so that it is not told anew with each look.
fn told(mebibytes: u64) -> u64 {
    mebibytes - mebibytes % (mebibytes / 20).max(1).next_power_of_two()
}

/// Nothing of it runs meanwhile.
fn is_down(pass: &mut Pass<WorkspaceStatus>, why: &str) {
    for kind in ["ContainerRunning", "ServicesAnswering", "Routed"] {
        pass.notice(condition(kind, false, "Moving", why));
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn what_has_come_is_told_in_steps_of_about_a_twentieth() {
        assert_eq!([0, 1, 19, 21, 100, 5_000].map(told), [0, 1, 19, 21, 96, 4_864]);
        let steps: std::collections::BTreeSet<u64> = (0..100_000).map(told).collect();
        assert!(steps.len() < 300, "{}", steps.len());
    }
}
