//! The panel's place in this program: its address, and the token that the first administrator is made with.

use super::{Config, StateDir, in_state, listen};
use crate::access::{Directory, Records, Shares, SignIn, digest};
use crate::api::ApiState;
use crate::clock::Clock;
use crate::proxy::PanelRoute;
use crate::store::Store;
use crate::web::panel::{self, Panel};
use crate::web::{Accounts, ApiAddress, PanelUrl, Trusted, Waking, Web, client_address};
use axum::Router;
use axum::middleware::from_fn_with_state;
use std::future::IntoFuture;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// Holds the set-up token until there is an administrator.
pub const SETUP: &str = "setup.token";
/// Where the panel is, where nothing else is said.
const HOST: &str = "devsanctum.localhost";

/// A panel that has its address, and serves nobody yet.
pub struct Door {
    listener: TcpListener,
    setup: Option<[u8; 32]>,
    /// How Traefik reaches it.
    pub route: PanelRoute,
    /// What it works with, and the gate.
    pub web: Web,
}

/// Takes the address.
///
/// # Errors
/// In words for people.
pub async fn open(config: &Config, state: &StateDir, store: &Store, clock: Arc<dyn Clock>) -> Result<Door, String> {
    let listener = listen(config.panel, "--panel")?;
    let upstream = listener.local_addr().map_err(|e| e.to_string())?;
    let panel = config.panel_url.clone().unwrap_or_else(|| local(config));
    if config.external_traefik.is_none() {
        config.front.check(config.web, &panel)?;
    }
    let route = PanelRoute { host: panel.host.clone(), upstream };
    let directory = Arc::new(Directory::new(store.clone()));
    let sign_in = Arc::new(SignIn::new(store.clone(), directory.clone()).at(&panel.host));
    let shares = Arc::new(Shares::new(store.clone(), directory.clone()));
    let trusted = Trusted(config.front.trusted_proxies.clone().into());
    let web = Web { sign_in, shares, directory, store: store.clone(), clock, panel, trusted };
    Ok(Door { listener, setup: setup_token(state, &web).await?, route, web })
}

/// Where the panel is, where nothing else is said.
fn local(config: &Config) -> PanelUrl {
    let (scheme, usual) = if config.front.ends_tls() { ("https", 443) } else { ("http", 80) };
    PanelUrl { scheme: scheme.into(), host: HOST.into(), port: Some(config.web.port()).filter(|port| *port != usual) }
}

/// The token that the first administrator is made with; none once there is one who has a password.
async fn setup_token(state: &StateDir, web: &Web) -> Result<Option<[u8; 32]>, String> {
    let administrators = web.directory.ask(Records::administrators).await.map_err(|e| e.to_string())?;
    for name in administrators {
        if web.sign_in.has_password(&name).await.map_err(|e| e.to_string())? {
            let _ = std::fs::remove_file(state.file(SETUP));
            return Ok(None);
        }
    }
    Ok(Some(digest(&state.token(SETUP).map_err(|e| in_state(state, SETUP, &e))?)))
}

impl Door {
    /// Serves in the background until `stop`.
    ///
    /// # Errors
    /// When the address cannot be listened on after all.
    pub fn serve(self, api: Router, state: &ApiState, reached: ApiAddress, stop: CancellationToken) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("the panel cannot listen: {e}");
        self.listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(failed)?;
        let accounts = Arc::new(Accounts::over(api.clone()));
        let setup = Arc::new(Mutex::new(self.setup));
        let trusted = from_fn_with_state(self.web.trusted.clone(), client_address);
        let (audit, waking) = (state.ledger().clone(), Waking::new(state.starts().clone()));
        let routes = panel::router(Panel { web: self.web, api, accounts, setup, audit, reached, waking }).layer(trusted);
        tokio::spawn(async move {
            tokio::select! {
                ended = axum::serve(listener, routes).into_future() => tracing::error!(?ended, "the panel stopped"),
                () = stop.cancelled() => {}
            }
        });
        Ok(())
    }
}
