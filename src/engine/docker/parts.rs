//! What an engine works with, and what answers where TLS was looked for.

use super::wire::Wire;
use super::{DockerEngine, READ, connect};
use crate::engine::{Cause, Endpoint, EngineError, Told};
use bollard::models::{Commit, SystemInfo};
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// What an engine works with, and what it said of itself when it was asked for that.
pub(super) type Known = (Vec<String>, BTreeMap<String, String>);

impl DockerEngine {
    /// Versions of `containerd`, `runc` and the like. Asked for again only where the engine says something else of itself than
    /// before, so that a look at rest costs nothing more.
    pub(super) async fn components(&self, info: &SystemInfo) -> Result<BTreeMap<String, String>, EngineError> {
        let id = |commit: &Option<Commit>| commit.as_ref().and_then(|c| c.id.clone()).unwrap_or_default();
        let itself = vec![info.server_version.clone().unwrap_or_default(), id(&info.containerd_commit), id(&info.runc_commit)];
        let known = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, parts)) = known.filter(|(said, _)| *said == itself) {
            return Ok(parts);
        }
        let told = self.within(READ, self.docker.version()).await?;
        let all = told.components.unwrap_or_default().into_iter();
        let parts: BTreeMap<String, String> =
            all.filter(|c| c.name != "Engine").map(|c| (c.name, c.version)).filter(|(_, version)| !version.is_empty()).collect();
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = Some((itself, parts.clone()));
        Ok(parts)
    }

    /// Where TLS was looked for and something else answers: whether that is an engine which everybody may use. It is asked for its
    /// version alone, and shown nothing of ours.
    pub(super) async fn in_clear_text(&self, otherwise: EngineError) -> EngineError {
        let Some(Endpoint::Tls { host, port, .. }) = &self.to else { return otherwise };
        let plain = Endpoint::Tcp { host: host.clone(), port: *port };
        let Ok((client, _)) = connect::client(&plain) else { return otherwise };
        let wire = Wire::new(client, connect::base(&plain));
        if self.within(READ, wire.version()).await.is_err() {
            return otherwise;
        }
        let words = "a Docker Engine answers there in plain HTTP, without TLS: whoever reaches it owns the host. Start dockerd with \
             --tlsverify (`devsanctum server certs` makes what it needs)";
        EngineError::Denied(Told::of(Cause::TlsMissing, words))
    }
}
