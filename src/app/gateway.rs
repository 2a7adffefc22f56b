//! The SSH gateway's place in this program: its address, its key, its API.

use super::config::Listen;
use super::{StateDir, in_state, listen};
use crate::access::Identity;
use crate::api::streams::WorkspaceStreams;
use crate::api::{ApiState, client};
use crate::ssh::{self, Gateway, Keys, Limits};
use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use russh::keys::PrivateKey;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the host's key is made from; made at the first start.
const SEED: &str = "ssh_host.key";

/// Where the gateway listens, and how callers know that it is this one.
#[derive(Clone, Debug)]
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public key, as a line of `known_hosts` has it.
    pub key: String,
}

/// A gateway that has its address, and serves nobody yet.
pub struct Door {
    listener: TcpListener,
    key: PrivateKey,
    /// What callers are told of it.
    pub served: Served,
}

/// Takes the address and reads the host's key.
///
/// # Errors
/// In words for people: what could not be had.
pub fn open(at: Listen, state: &StateDir) -> Result<Option<Door>, String> {
    let Listen::At(address) = at else { return Ok(None) };
    let listener = listen(address, "--ssh (or --ssh off)")?;
    let seed = state.token(SEED).map_err(|e| in_state(state, SEED, &e))?;
    let seed: Option<[u8; 32]> = URL_SAFE_NO_PAD.decode(seed).ok().and_then(|bytes| bytes.try_into().ok());
    let key = ssh::host_key(&seed.ok_or_else(|| format!("{} is not a key of 32 bytes", state.file(SEED).display()))?);
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let served = Served { address, key: key.public_key().to_openssh().map_err(|e| e.to_string())? };
    Ok(Some(Door { listener, key, served }))
}

impl Door {
    /// Serves in the background until `stop`.
    ///
    /// # Errors
    /// When the address cannot be listened on after all.
    pub fn serve(
        self,
        routes: Router,
        streams: Arc<dyn WorkspaceStreams>,
        api: &ApiState,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("the SSH gateway cannot listen: {e}");
        self.listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(failed)?;
        let (directory, audit) = (api.directory().clone(), api.ledger().clone());
        let keys = Keys::follow(client(routes.clone(), Identity::system("devsanctum")), stop.clone());
        let (starts, limits) = (api.starts().clone(), Limits::default());
        let gateway = Gateway { keys, api: routes, streams, directory, audit, starts, limits };
        tokio::spawn(ssh::serve(listener, self.key, gateway, stop));
        Ok(())
    }
}
