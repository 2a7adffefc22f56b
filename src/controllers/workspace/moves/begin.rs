//! Whether a workspace may begin to move, and that it does.

use super::{KIND, Mover, RETRY};
use crate::controllers::copy::Copy;
use crate::controllers::retry::{Class, PassError};
use crate::controllers::status::Pass;
use crate::controllers::workspace::{Site, elsewhere, fork, placement, site};
use crate::engine::EngineError;
use crate::plan::environment::Environment;
use crate::resource::common::FolderMode;
use crate::resource::conditions::condition;
use crate::resource::{MoveStatus, WorkspaceStatus};

impl Mover<'_> {
    /// Writes down that it moves, or says why it does not and lets it go on where it is.
    pub(super) async fn begin(&self, here: &str, to: &str, pass: &mut Pass<WorkspaceStatus>) -> Result<bool, PassError> {
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
        let home = site(self.ctx, here)?;
        self.has_only_its_own(&home).await?;
        self.is_clear(&site(self.ctx, to)?).await?;
        let uid = self.record.identity().uid;
        // Nothing would be carried, and it would begin there, empty.
        if Copy::on(home.engine.as_ref(), &uid).await.map_err(|e| PassError::engine(KIND, &e))?.is_empty() {
            elsewhere::refuse(self.ctx, self.record, &home, pass).await?;
        }
        let id = self.drawn_id(pass)?;
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
            "there is something of it on {} already, which is removed with the next list where it is no copy that may be the only one (event \
             OnlyCopyHeld of that server), and else by hand: {}",
            there.server,
            found.join(", ")
        );
        Err(PassError::waiting(KIND, "SomethingThere", words, RETRY))
    }
}

/// Folders that other workspaces of the project have, too.
fn shared_folders(env: &Environment) -> Vec<String> {
    let all = env.folders.iter().chain(env.sidecars.values().flat_map(|s| &s.folders));
    all.filter(|f| f.mode == FolderMode::Shared).map(|f| f.name.clone()).collect()
}
