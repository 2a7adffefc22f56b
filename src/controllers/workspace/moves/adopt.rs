//! A workspace that is where it is asked to be already, whatever its record says.

use super::Mover;
use crate::controllers::caches::InOrder;
use crate::controllers::copy::Copy;
use crate::controllers::retry::PassError;
use crate::controllers::status::Pass;
use crate::controllers::workspace::{elsewhere, site};
use crate::resource::{DockerServer, WorkspaceStatus};
use kube::ResourceExt;

impl Mover<'_> {
    /// Whether all there is of it is on the server that somebody asks for, and nothing where its record says that it is, as by records
    /// of a backup from before it moved: then nothing is carried, and it is placed there as any other.
    pub(super) async fn adopt(&self, here: &str, to: &str, pass: &mut Pass<WorkspaceStatus>) -> Result<bool, PassError> {
        if self.record.spec.docker_server.as_deref() != Some(to) {
            return Ok(false);
        }
        let (Ok(here), Ok(there)) = (site(self.ctx, here), site(self.ctx, to)) else { return Ok(false) };
        let uid = self.record.identity().uid;
        let seen = (Copy::on(here.engine.as_ref(), &uid).await, Copy::on(there.engine.as_ref(), &uid).await);
        let (Ok(at_home), Ok(copy)) = seen else { return Ok(false) };
        if !at_home.is_empty() || copy.is_empty() {
            return Ok(false);
        }
        // A part of it may be on a third one, such as what was carried by a move that was given up.
        let is_other = |server: &DockerServer| ![&here.server, &there.server].contains(&&server.name_any());
        let others = self.ctx.caches.servers.in_order(is_other);
        let seen = elsewhere::look(self.ctx, &uid, &others).await;
        if seen.iter().any(|(_, copy)| copy.as_ref().is_some_and(|copy| !copy.is_empty())) {
            return Ok(false);
        }
        self.still_mine(pass).await?;
        self.is_elsewhere(pass);
        let status = &mut pass.status;
        (status.docker_server, status.reserved_ram_mb, status.reserved_disk_gb) = Default::default();
        pass.save(self.record).await?;
        self.ctx.caches.reserved.gone(&self.uid());
        pass.did(format!("is taken up on {to}, where all there is of it is"));
        Ok(true)
    }
}
