//! A workspace moves to another server: stopped where it is, carried over part by part, started there, and removed where it was
//! once it answers where it is.
//!
//! # Guarantees
//! - What it was stays whole, and stopped, until what it is answers. Nothing runs in both.
//! - Each step is written down before it is taken, and begins with a look: a pass that was cut off is gone on with by the next.
//! - What was carried and found the same is not carried again, unless somebody started the container meanwhile.

mod asked;
mod carry;
mod digest;
mod leave;
mod names;

pub use carry::Moves;

use super::{Site, cleanup, execute, fork, images, placement, site, wanted_of};
use crate::controllers::context::Context;
use crate::controllers::retry::{Class, PassError};
use crate::controllers::status::{Pass, still_so};
use crate::engine::ownership::Ownership;
use crate::engine::{Container, ContainerId, ContainerState, ContainerSummary, EngineError, Volume};
use crate::plan::environment::Environment;
use crate::plan::image::{Image, probe_image};
use crate::plan::moves::{Turn, turn};
use crate::plan::workspace::{Wanted, base_name};
use crate::resource::common::FolderMode;
use crate::resource::conditions::{condition, find};
use crate::resource::names::Slug;
use crate::resource::{MoveStatus, MoveStep, Project, Workspace, WorkspacePhase, WorkspaceStatus, labels};
use asked::{is_asked_away, is_emptied};
use carry::{Helper, Job, Part, Progress};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::time::Duration;

const KIND: &str = "Moved";
/// What is under way is told this often.
const AGAIN: Duration = Duration::from_secs(2);
/// How long what still runs beside it has to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Servers' records tell disk space in steps of this, in gibibytes.
const MEASURED_BY: f64 = 0.1;
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

    /// Writes down that it moves, or says why it does not and lets it go on where it is.
    async fn begin(&self, here: &str, to: &str, pass: &mut Pass<WorkspaceStatus>) -> Result<bool, PassError> {
        match self.try_begin(here, to, pass).await {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.class, Class::Unknown(_) | Class::Overtaken) || e.reason == "ApiFailed" => Err(e),
            Err(e) => {
                let words = format!("it cannot move to {to} now: {}. It goes on where it is, on {here}", e.message);
                pass.notice(condition(KIND, false, e.reason, words));
                Ok(false)
            }
        }
    }

    async fn try_begin(&self, here: &str, to: &str, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let shared = shared_folders(self.env);
        if !shared.is_empty() {
            let words = format!(
                "it has folders that it shares with other workspaces of its project, which stay where they are: {}",
                shared.join(", ")
            );
            return Err(PassError::stalled(KIND, "SharedFolders", words));
        }
        if fork::is_due(self.record) {
            return Err(PassError::waiting(KIND, "FoldersNotCopied", "its folders are still to be filled from another's", RETRY));
        }
        self.has_only_its_own(&site(self.ctx, here)?).await?;
        self.is_clear(&site(self.ctx, to)?).await?;
        let id = Slug::drawn(|| self.ctx.frame.clock.draw());
        let id = id.map_err(|e| PassError::transient(KIND, "NoRandomness", e.to_string()))?.to_string();
        placement::reserve_elsewhere(self.ctx, self.record, (self.project, self.env), (here, to), pass).await?;
        let (reserved_ram_mb, reserved_disk_gb) = (Some(self.env.min_ram_mb), Some(self.env.min_disk_gb));
        let (from, to, started_at) = (here.to_owned(), to.to_owned(), pass.now.to_string());
        pass.did(format!("moves to {to}"));
        let it = MoveStatus { id, from, to, started_at, reserved_ram_mb, reserved_disk_gb, ..MoveStatus::default() };
        pass.status.moving = Some(it);
        let saved = pass.save(self.record).await;
        if saved.is_err() {
            pass.status.moving = None;
            self.ctx.caches.reserved.leave(&self.uid());
        }
        saved
    }

    /// What is to be carried anew, or gone back to, must be there: where it is not, as by records of a backup from before the move ended,
    /// what is on the other server is the only copy.
    async fn source_is_there(&self, (here, there): (&Site, &Site), it: &MoveStatus) -> Result<(), PassError> {
        let has =
            async |at: &Site| Ok::<_, PassError>(!self.containers(at).await?.is_empty() || !self.volumes(at).await?.is_empty());
        if has(here).await? || !has(there).await? {
            return Ok(());
        }
        let words = format!(
            "there is nothing of it on {} any more, and something on {}, which is left alone: it is the only copy. If it had moved there \
             before the records were restored, remove status.move, and set status.dockerServer and spec.dockerServer to {1}",
            it.from, it.to
        );
        Err(PassError::stalled(KIND, "SourceIsGone", words))
    }

    /// Its containers on a server, but the one that copies.
    async fn containers(&self, at: &Site) -> Result<Vec<ContainerSummary>, PassError> {
        let identity = self.record.identity();
        let mut all = at.engine.containers(Some(&identity.uid)).await.map_err(|e| PassError::engine(KIND, &e))?;
        let copier = fork::copier(&base_name(&identity));
        all.retain(|c| Ownership::of_record(&c.labels, "Workspace", &identity.uid) && c.name != copier);
        Ok(all)
    }

    /// What an image has volumes for (`VOLUME`), or somebody mounted by hand, is not known to be the workspace's: it would stay behind,
    /// and be removed with the container.
    async fn has_only_its_own(&self, here: &Site) -> Result<(), PassError> {
        let own: Vec<String> = self.volumes(here).await?.into_iter().map(|v| v.name).collect();
        let mut found = Vec::new();
        for container in self.containers(here).await? {
            for (volume, path) in container.mounts.iter().filter(|(volume, _)| !own.contains(volume)) {
                let seen = here.engine.volume(volume).await.map_err(|e| PassError::engine(KIND, &e))?;
                // A folder that its container has from before it was taken out of the template is the project's, and stays that.
                if seen.and_then(|v| Ownership::read(&v.labels)).is_none_or(|o| o.kind != "Project") {
                    found.push(format!("{path} in {}", container.name));
                }
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let words = format!(
            "{} is on a volume that is none of its folders, such as an image has by VOLUME: make it a folder of its template, and make \
             its container anew",
            found.join(", ")
        );
        Err(PassError::stalled(KIND, "OtherVolumes", words))
    }

    /// What an earlier move left there is removed as belonging to no record; what is there for another reason stays.
    async fn is_clear(&self, there: &Site) -> Result<(), PassError> {
        let (uid, failed) = (self.record.identity().uid, |e: EngineError| PassError::engine(KIND, &e));
        let containers = there.engine.containers(Some(&uid)).await.map_err(failed)?.into_iter().map(|c| c.name);
        let volumes = there.engine.volumes(Some(&uid)).await.map_err(failed)?.into_iter().map(|v| v.name);
        let found: Vec<String> = containers.chain(volumes).collect();
        if found.is_empty() {
            return Ok(());
        }
        let words = format!(
            "there is something of it on {} already, which is removed with the next list where it belongs to nobody: {}",
            there.server,
            found.join(", ")
        );
        Err(PassError::waiting(KIND, "SomethingThere", words, RETRY))
    }

    /// Stops it, carries what is not carried yet, and hands it over.
    async fn go_on(&self, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
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

    /// Nothing of it runs after this. Gives its container.
    async fn halt(&self, here: &Site, pass: &mut Pass<WorkspaceStatus>) -> Result<Option<Container>, PassError> {
        self.ctx.reached(&self.uid(), None);
        let wanted = wanted_of(self.ctx, self.record, self.project, self.env, here);
        let wanted = Wanted { running: false, recreate: false, ..wanted };
        execute::settle(self.ctx, self.record, here, &wanted, pass).await?;
        self.halt_others(here, pass).await?;
        pass.status.phase = if self.record.spec.running { WorkspacePhase::Starting } else { WorkspacePhase::Stopped };
        let found = here.engine.inspect(&wanted.main.name).await.map_err(|e| PassError::engine(KIND, &e))?;
        let owner = execute::owner(self.ctx, self.record);
        Ok(found.filter(|c| owner.of(&wanted.main.role).proves(&c.labels)))
    }

    /// A companion that is not wanted any more runs until the next list, and may write.
    async fn halt_others(&self, here: &Site, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let runs = |c: &ContainerSummary| {
            !matches!(c.state, ContainerState::Created | ContainerState::Exited | ContainerState::Dead | ContainerState::Removing)
        };
        let running = async || Ok::<_, PassError>(self.containers(here).await?.into_iter().filter(runs).collect::<Vec<_>>());
        let found = running().await?;
        for container in &found {
            here.engine.stop(&container.id, GRACE).await.map_err(|e| PassError::engine(KIND, &e))?;
            pass.did(format!("stopped container {}", container.name));
        }
        if found.is_empty() || running().await?.is_empty() {
            return Ok(());
        }
        Err(PassError::waiting(KIND, "StillRuns", "a container of it still runs where it was: it is stopped first", AGAIN))
    }

    /// Files of another run are other files: what was carried before counts no more.
    async fn note_run(
        &self,
        main: Option<&Container>,
        (here, there): (&Site, &Site),
        pass: &mut Pass<WorkspaceStatus>,
    ) -> Result<(), PassError> {
        let Some(it) = pass.status.moving.clone() else { return Ok(()) };
        let run = main.map(|m| format!("{} {}", m.id.short(), m.started_at));
        // Its file system may be there by now, and nowhere else.
        let same = run == it.run || run.is_none() && it.has_file_system();
        let anew = match it.step {
            MoveStep::Stopping => it.clone(),
            _ if same => return Ok(()),
            _ => {
                self.still_mine(pass).await?;
                self.source_is_there((here, there), &it).await?;
                self.ctx.moves.forget(&self.uid());
                self.clear(there, &it, pass).await.map_err(|e| PassError::engine(KIND, &e))?;
                cleanup::remove_image(here.engine.as_ref(), &it.image()).await;
                let id = Slug::drawn(|| self.ctx.frame.clock.draw());
                let id = id.map_err(|e| PassError::transient(KIND, "NoRandomness", e.to_string()))?.to_string();
                pass.did("was started while it was carried: it is carried anew");
                MoveStatus { id, carried: Vec::new(), ..it }
            }
        };
        pass.status.moving = Some(MoveStatus { run, step: MoveStep::Copying, ..anew });
        pass.save(self.record).await
    }

    /// All that is to be carried.
    async fn parts(&self, main: Option<ContainerId>, here: &Site) -> Result<Vec<Part>, PassError> {
        let mut volumes = self.volumes(here).await?;
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(main.map(Part::FileSystem).into_iter().chain(volumes.into_iter().map(Part::Volume)).collect())
    }

    /// Its own volumes on a server.
    async fn volumes(&self, at: &Site) -> Result<Vec<Volume>, PassError> {
        let uid = self.record.identity().uid;
        let mut volumes = at.engine.volumes(Some(&uid)).await.map_err(|e| PassError::engine(KIND, &e))?;
        volumes.retain(|v| Ownership::of_record(&v.labels, "Workspace", &uid));
        Ok(volumes)
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

    fn helper(&self) -> Helper {
        let owner = execute::owner(self.ctx, self.record);
        Helper { name: carrier(&base_name(&owner.identity)), image: probe_image(&self.ctx.settings().images), owner }
    }

    /// An old copy of a record must not begin anew, or clear away, what another process has gone on with.
    async fn still_mine(&self, pass: &Pass<WorkspaceStatus>) -> Result<(), PassError> {
        let now = still_so(&self.ctx.frame.client, self.record).await?;
        let same = now.status.is_some_and(|s| s.moving == pass.status.moving && s.docker_server == pass.status.docker_server);
        if same { Ok(()) } else { Err(PassError::overtaken()) }
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

/// Folders that other workspaces of the project have, too.
fn shared_folders(env: &Environment) -> Vec<String> {
    let all = env.folders.iter().chain(env.sidecars.values().flat_map(|s| &s.folders));
    all.filter(|f| f.mode == FolderMode::Shared).map(|f| f.name.clone()).collect()
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
