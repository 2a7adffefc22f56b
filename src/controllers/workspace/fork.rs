//! A workspace that begins as a copy of another: its folders are filled once, before anything runs in it.

use super::images::have_one;
use super::observe::Owner;
use super::{Site, execute, wanted_of};
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::{Pass, still_so};
use crate::engine::{Attach, Container, ContainerSpec, ContainerState, EngineError, LogRequest, VolumeSpec};
use crate::plan::environment::Environment;
use crate::plan::image::{Image, probe_image};
use crate::plan::workspace::{Wanted, WantedVolume};
use crate::resource::{Project, Workspace, WorkspaceStatus};
use futures::TryStreamExt;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "FoldersCopied";
const ROLE: &str = "copy";
/// An event tells of the end; this is in case none does.
const AGAIN: Duration = Duration::from_secs(5);
/// What was begun before is begun again; what was done is not done twice, whoever starts the container again.
const SCRIPT: &str = include_str!("fork.sh");

/// The name of the container that copies.
pub fn copier(base: &str) -> String {
    format!("{base}_copy")
}

/// Whether the workspace's folders are still to be filled.
pub fn is_due(record: &Workspace) -> bool {
    record.spec.from.is_some() && record.status.as_ref().is_none_or(|s| s.forked_from.is_none())
}

/// The server of the workspace that it is to be a copy of: volumes do not leave theirs.
pub fn server(ctx: &Context, record: &Workspace) -> Result<Option<String>, PassError> {
    let Some(from) = record.spec.from.as_deref().filter(|_| is_due(record)) else { return Ok(None) };
    let source = source(ctx, record, from)?;
    let never = || {
        let message =
            format!("workspace {from:?}, which it is to be a copy of, has never run: there is nothing to copy. Start it once");
        PassError::stalled(KIND, "SourceEmpty", message)
    };
    source.server().map(|s| Some(s.to_owned())).ok_or_else(never)
}

fn source(ctx: &Context, record: &Workspace, from: &str) -> Result<Arc<Workspace>, PassError> {
    let found = ctx.caches.workspaces.get(&ObjectRef::new(from).within(&record.namespace().unwrap_or_default()));
    let found = found.filter(|w| w.uid() != record.uid() && w.metadata.deletion_timestamp.is_none()).ok_or_else(|| {
        let message =
            format!("there is no other workspace {from:?} in its project, which it is to be a copy of: correct spec.from");
        PassError::stalled(KIND, "SourceNotFound", message)
    })?;
    // Who may copy it was judged when the record was written, and of the one that had the name then.
    let named = record.status.as_ref().and_then(|status| status.source.clone());
    let is_it = named.map_or(found.spec.owner == record.spec.owner, |named| found.uid() == Some(named));
    if !is_it {
        let message = format!(
            "workspace {from:?} is not the one that it was to be a copy of, which is gone: take spec.from off, or delete it and make it anew"
        );
        return Err(PassError::stalled(KIND, "SourceIsAnother", message));
    }
    Ok(found)
}

/// Fills the folders of a workspace that is to run and whose container was not made yet. Until that is done, this is the error
/// that says so.
pub async fn fill(
    ctx: &Context,
    record: &Workspace,
    (project, env): (&Project, &Environment),
    site: &Site,
    wanted: &Wanted,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let Some(from) = record.spec.from.as_deref() else { return Ok(()) };
    if pass.status.forked_from.is_some() {
        // The pass that saw it done may have ended before it said so.
        pass.holds(KIND, "Copied");
        return Ok(());
    }
    if !wanted.running {
        return Ok(());
    }
    let failed = |e: EngineError| PassError::engine(KIND, &e);
    let owner = execute::owner(ctx, record);
    let source = source(ctx, record, from)?;
    if site.engine.inspect(&wanted.main.name).await.map_err(failed)?.is_some() {
        // It was there before it was asked to be a copy: what it holds is not written over.
        pass.status.forked_from = source.uid();
        pass.holds(KIND, "Copied");
        return Ok(());
    }
    let copy = Copy { ctx, site, owner: &owner, name: copier(&wanted.main.name) };
    match site.engine.inspect(&copy.name).await.map_err(failed)? {
        // What is being copied already is where it was when that began, wherever the other has moved to since.
        None if source.server() != Some(&site.server) => return Err(elsewhere(ctx, record, from, site, pass).await),
        None => {
            still_due(ctx, record).await?;
            super::elsewhere::refuse(ctx, record, site, pass).await?;
            let of_source = wanted_of(ctx, &source, project, env, site);
            let pairs = copy.pairs(wanted, &of_source, &source).await?;
            if pairs.is_empty() {
                pass.status.forked_from = source.uid();
                pass.holds(KIND, "Copied");
                pass.save(record).await?;
                pass.did(format!("{from} has no folders of its own to copy"));
                return Ok(());
            }
            copy.begin(&pairs).await?;
        }
        Some(found) if !owner.of(ROLE).proves(&found.labels) => {
            let message = format!("a container named {:?} is there that is not this workspace's; rename or remove it", copy.name);
            return Err(PassError::transient(KIND, "NameTaken", message));
        }
        Some(found) if found.state == ContainerState::Exited && found.exit_code == 0 => {
            pass.status.forked_from = source.uid();
            pass.holds(KIND, "Copied");
            pass.save(record).await?;
            site.engine.remove(&found.id).await.map_err(failed)?;
            pass.did(format!("copied the folders of {from}"));
            return Ok(());
        }
        Some(found) => copy.go_on(&found).await?,
    }
    Err(PassError::waiting(KIND, "Copying", format!("copying the folders of {from}"), AGAIN))
}

/// The other is not where this one is to be: it has moved, or this one was asked to be somewhere else. One that has nothing on its
/// server yet goes to where the other is now.
async fn elsewhere(ctx: &Context, record: &Workspace, from: &str, site: &Site, pass: &mut Pass<WorkspaceStatus>) -> PassError {
    if record.spec.docker_server.is_some() {
        let message = format!("workspace {from:?} is on another server than {}: leave spec.dockerServer out", site.server);
        return PassError::stalled(KIND, "SourceElsewhere", message);
    }
    let (uid, failed) = (record.identity().uid, |e: EngineError| PassError::engine(KIND, &e));
    let containers = match site.engine.containers(Some(&uid)).await.map_err(failed) {
        Ok(found) => found.len(),
        Err(e) => return e,
    };
    match site.engine.volumes(Some(&uid)).await.map_err(failed) {
        Ok(volumes) if containers + volumes.len() > 0 => {
            let message = format!(
                "workspace {from:?} has moved to another server than {}, where a part of it was copied to: delete this one, and make it anew",
                site.server
            );
            return PassError::stalled(KIND, "SourceElsewhere", message);
        }
        Ok(_) => {}
        Err(e) => return e,
    }
    let status = &mut pass.status;
    (status.docker_server, status.reserved_ram_mb, status.reserved_disk_gb) = Default::default();
    if let Err(e) = pass.save(record).await {
        return e;
    }
    ctx.caches.reserved.gone(&record.uid().unwrap_or_default());
    pass.did(format!("is placed anew: {from} has moved"));
    PassError::waiting(KIND, "SourceMoved", format!("it goes to the server that workspace {from:?} has moved to"), Duration::ZERO)
}

/// Holds back what an old copy of a record would do: folders that were filled may have been written to since.
async fn still_due(ctx: &Context, record: &Workspace) -> Result<(), PassError> {
    if is_due(&still_so(&ctx.frame.client, record).await?) {
        return Ok(());
    }
    Err(PassError::unknown("its folders have been filled since the record was read", AGAIN))
}

struct Copy<'a> {
    ctx: &'a Context,
    site: &'a Site,
    owner: &'a Owner,
    name: String,
}

impl Copy<'_> {
    /// The volumes that are copied, and those that they are copied to. None where the workspaces have no folders of their own,
    /// or where the other has run without them.
    async fn pairs<'w>(
        &self,
        wanted: &'w Wanted,
        of_source: &'w Wanted,
        source: &Workspace,
    ) -> Result<Vec<(&'w WantedVolume, &'w WantedVolume)>, PassError> {
        let (theirs, mut pairs, mut missing) = (execute::owner(self.ctx, source), Vec::new(), false);
        for volume in wanted.volumes.iter().filter(|v| !v.shared) {
            let Some(from) = of_source.volumes.iter().find(|v| v.role == volume.role) else { continue };
            // Docker would make one that is not there.
            let found = self.site.engine.volume(&from.name).await.map_err(|e| PassError::engine(KIND, &e))?;
            if found.is_some_and(|f| theirs.of_volume(from).proves(&f.labels)) {
                pairs.push((from, volume));
            } else {
                missing = true;
            }
        }
        let has_run = source.status.as_ref().is_some_and(|s| s.started_at.is_some());
        if pairs.is_empty() && missing && !has_run {
            let message = format!("workspace {:?}, which it is to be a copy of, has not started yet", source.name_any());
            return Err(PassError::waiting(KIND, "SourceEmpty", message, AGAIN));
        }
        Ok(pairs)
    }

    /// Makes the volumes and a container that has both sides, and starts it.
    async fn begin(&self, pairs: &[(&WantedVolume, &WantedVolume)]) -> Result<(), PassError> {
        let (engine, failed) = (&self.site.engine, |e: EngineError| PassError::engine(KIND, &e));
        let image = probe_image(&self.ctx.settings().images);
        have_one(self.ctx, &self.site.server, engine, &Image::AsItIs(image.clone())).await?;
        let mut mounts = BTreeMap::new();
        for (i, (from, to)) in pairs.iter().enumerate() {
            self.make(to).await.map_err(failed)?;
            mounts.insert(from.name.clone(), format!("/from/{i}"));
            mounts.insert(to.name.clone(), format!("/to/{i}"));
        }
        let id = engine.create(&self.spec(image, mounts)).await.map_err(failed)?;
        engine.start(&id).await.map_err(failed)
    }

    async fn make(&self, volume: &WantedVolume) -> Result<(), EngineError> {
        let labels = self.owner.of_volume(volume).labels();
        self.site.engine.create_volume(&VolumeSpec { name: volume.name.clone(), labels }).await
    }

    fn spec(&self, image: String, mounts: BTreeMap<String, String>) -> ContainerSpec {
        ContainerSpec {
            name: self.name.clone(),
            image,
            command: Some(["sh", "-c", SCRIPT, "copy"].map(str::to_owned).to_vec()),
            workdir: None,
            env: BTreeMap::new(),
            labels: self.owner.of(ROLE).labels(),
            mounts,
            attach: Attach::None,
            hostname: None,
            memory: 128 << 20,
            nano_cpus: 1_000_000_000,
            pids: 32,
        }
    }

    /// One that has not ended well is made anew, in the words of what went wrong.
    async fn go_on(&self, found: &Container) -> Result<(), PassError> {
        let (engine, failed) = (&self.site.engine, |e: EngineError| PassError::engine(KIND, &e));
        match found.state {
            ContainerState::Running | ContainerState::Restarting | ContainerState::Removing => Ok(()),
            ContainerState::Created => engine.start(&found.id).await.map_err(failed),
            ContainerState::Paused => engine.unpause(&found.id).await.map_err(failed),
            ContainerState::Exited | ContainerState::Dead => {
                let log = engine.logs(&found.id, &LogRequest { tail: Some(3), ..LogRequest::default() }).await;
                let said = match log {
                    Ok(log) => log.try_collect::<Vec<_>>().await.unwrap_or_default().concat(),
                    Err(_) => Vec::new(),
                };
                engine.remove(&found.id).await.map_err(failed)?;
                let message = format!(
                    "its folders could not be copied (exit code {}): {}. Trying again by itself",
                    found.exit_code,
                    String::from_utf8_lossy(&said).trim()
                );
                Err(PassError::transient(KIND, "CopyFailed", message))
            }
        }
    }
}

#[cfg(test)]
#[path = "fork_tests.rs"]
mod tests;
