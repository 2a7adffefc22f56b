//! What is carried, where it is: looked at, brought to a halt, and listed.

use super::carry::{self, Part};
use super::{AGAIN, GRACE, KIND, Mover};
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::controllers::workspace::{Site, cleanup, execute, fork, wanted_of};
use crate::engine::ownership::Ownership;
use crate::engine::{Container, ContainerId, ContainerState, ContainerSummary, Volume};
use crate::plan::workspace::{Wanted, base_name};
use crate::resource::{MoveStatus, MoveStep, WorkspacePhase, WorkspaceStatus, labels};
use kube::ResourceExt;
use std::collections::BTreeSet;

/// Its containers and volumes on a server.
type Held = (Vec<ContainerSummary>, Vec<Volume>);

impl Mover<'_> {
    /// What is to be carried anew, or gone back to, must be there: where something of it is not, as by records of a backup from before
    /// the move ended, what is on the other server (where that can be asked) is the only copy.
    pub(super) async fn source_is_whole(&self, here: &Site, there: Option<&Held>, it: &MoveStatus) -> Result<(), PassError> {
        let (containers, volumes) = self.held(here).await?;
        let is_empty = volumes.is_empty() && containers.is_empty();
        let has = |name: &str| volumes.iter().any(|v| v.name == name);
        let mut gone: BTreeSet<&str> = it.gone(volumes.iter().map(|v| v.name.as_str()).collect()).into_iter().collect();
        let is_main = |c: &ContainerSummary| c.labels.get(labels::ROLE).is_some_and(|role| role == "main");
        gone.extend(Some("its container").filter(|_| it.has_file_system() && !containers.iter().any(is_main)));
        if let Some((there, came)) = there {
            let is_missing = |v: &&Volume| (is_empty || carry::is_of(v, &it.id)) && !has(&v.name);
            gone.extend(came.iter().filter(is_missing).map(|v| v.name.as_str()));
            gone.extend(there.iter().filter(|_| is_empty).map(|c| c.name.as_str()));
        }
        let is_before = matches!(it.step, MoveStep::Stopping | MoveStep::Copying);
        if is_before && there.is_some_and(|(containers, _)| containers.iter().any(is_main)) {
            let words = format!(
                "its container is on {} already, which is made once all is carried: the records are from before that, and it may have \
                 been worked in since. Nothing of it is removed. To go on there, remove status.move, and set status.dockerServer and \
                 spec.dockerServer to {0}; to go back to {}, remove that container by hand",
                it.to, it.from
            );
            return Err(PassError::stalled(KIND, "SourceIsGone", words));
        }
        if gone.is_empty() {
            return Ok(());
        }
        let words = format!(
            "this is not on {} any more: {}. What is of it on {} is left alone, as the only copy: `devsanctum workspace move {} --to {2}` \
             goes on to there. If it had moved there before the records were restored, remove status.move, and set status.dockerServer \
             and spec.dockerServer to {2}",
            it.from,
            gone.into_iter().collect::<Vec<_>>().join(", "),
            it.to,
            self.record.name_any()
        );
        Err(PassError::stalled(KIND, "SourceIsGone", words))
    }

    /// All there is of it on a server.
    pub(super) async fn held(&self, at: &Site) -> Result<Held, PassError> {
        Ok((self.containers(at).await?, self.volumes(at).await?))
    }

    /// Its containers on a server, but the one that copies.
    pub(super) async fn containers(&self, at: &Site) -> Result<Vec<ContainerSummary>, PassError> {
        let identity = self.record.identity();
        let mut all = at.engine.containers(Some(&identity.uid)).await.map_err(|e| PassError::engine(KIND, &e))?;
        let copier = fork::copier(&base_name(&identity));
        all.retain(|c| Ownership::of_record(&c.labels, "Workspace", &identity.uid) && c.name != copier);
        Ok(all)
    }

    /// Its own volumes on a server.
    pub(super) async fn volumes(&self, at: &Site) -> Result<Vec<Volume>, PassError> {
        let uid = self.record.identity().uid;
        let mut volumes = at.engine.volumes(Some(&uid)).await.map_err(|e| PassError::engine(KIND, &e))?;
        volumes.retain(|v| Ownership::of_record(&v.labels, "Workspace", &uid));
        Ok(volumes)
    }

    /// What an image has volumes for (`VOLUME`), or somebody mounted by hand, is not known to be the workspace's: it would stay behind,
    /// and be removed with the container.
    pub(super) async fn has_only_its_own(&self, here: &Site) -> Result<(), PassError> {
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

    /// Nothing of it runs after this. Gives its container.
    pub(super) async fn halt(&self, here: &Site, pass: &mut Pass<WorkspaceStatus>) -> Result<Option<Container>, PassError> {
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
    pub(super) async fn halt_others(&self, here: &Site, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
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
    pub(super) async fn note_run(
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
                self.source_is_whole(here, Some(&self.held(there).await?), &it).await?;
                self.ctx.moves.forget(&self.uid());
                self.clear(there, &it, pass).await.map_err(|e| PassError::engine(KIND, &e))?;
                cleanup::remove_image(here.engine.as_ref(), &it.image()).await;
                let id = self.drawn_id(pass)?;
                pass.did("was started while it was carried: it is carried anew");
                MoveStatus { id, carried: Vec::new(), ..it }
            }
        };
        pass.status.moving = Some(MoveStatus { run, step: MoveStep::Copying, ..anew });
        pass.save(self.record).await
    }

    /// All that is to be carried.
    pub(super) async fn parts(&self, main: Option<ContainerId>, here: &Site) -> Result<Vec<Part>, PassError> {
        let mut volumes = self.volumes(here).await?;
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(main.map(Part::FileSystem).into_iter().chain(volumes.into_iter().map(Part::Volume)).collect())
    }
}
