//! The proxy and what feeds it.

use super::{Config, StateDir, in_state, listen};
use crate::proxy::feed::Connection;
use crate::proxy::{ManagedSettings, ManagedTraefik, RenderSettings, TraefikProxy};
use crate::web::gate;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Name of Traefik's entry point for workspaces.
const ENTRY_POINT: &str = "web";

/// The proxy, its feed, and the Traefik we run.
pub struct Proxying {
    /// The proxy.
    pub proxy: Arc<TraefikProxy>,
    managed: Option<ManagedTraefik>,
}

impl Proxying {
    /// Serves the feed and the gate, and starts a Traefik unless there is one already.
    ///
    /// # Errors
    /// In words for people.
    pub async fn start(config: &Config, state: &StateDir, feed: TcpListener, stop: CancellationToken) -> Result<Self, String> {
        let token = state.token("feed.token").map_err(|e| in_state(state, "feed.token", &e))?;
        let address = feed.local_addr().map_err(|e| e.to_string())?;
        let api = free_port(config.traefik_api)?;
        let api_url = config.external_traefik.clone().unwrap_or_else(|| format!("http://{api}"));
        let settings = RenderSettings {
            entry_points: vec![ENTRY_POINT.into()],
            gate_url: format!("http://{address}"),
            tls: None,
            default_certificate: None,
        };
        let proxy = Arc::new(TraefikProxy::new(&api_url, token.clone(), settings).map_err(|e| e.to_string())?);
        let held = stop.clone();
        let until_stopped = middleware::from_fn(move |request, next| until_stopped(held.clone(), request, next));
        let routes = proxy.feed().router().merge(gate::router()).layer(until_stopped);
        feed.set_nonblocking(true).map_err(|e| e.to_string())?;
        let feed = tokio::net::TcpListener::from_std(feed).map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            let service = routes.into_make_service_with_connect_info::<Connection>();
            tokio::select! {
                ended = axum::serve(feed, service).into_future() => tracing::error!(?ended, "the proxy's feed stopped"),
                () = stop.cancelled() => {}
            }
        });
        let mut managed = None;
        if config.external_traefik.is_none() {
            let settings = ManagedSettings {
                binary: config.traefik.clone(),
                state_dir: state.path().to_owned(),
                entry_points: BTreeMap::from([(ENTRY_POINT.to_owned(), config.web)]),
                api,
                feed_url: format!("http://{address}/traefik/config"),
                token,
                metrics: false,
                extra: BTreeMap::new(),
                env: BTreeMap::new(),
            };
            managed = Some(ManagedTraefik::start(settings, proxy.feed()).await.map_err(|e| e.to_string())?);
        }
        Ok(Self { proxy, managed })
    }

    /// Ends the Traefik that was started.
    pub async fn stop(self) {
        if let Some(managed) = self.managed {
            managed.stop().await;
        }
    }
}

/// Traefik does not end while its poll is held: it would have to be killed, and stopping would take seconds.
async fn until_stopped(stop: CancellationToken, request: Request, next: Next) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        () = stop.cancelled() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Port 0 means a free one: it is taken and given back, since Traefik must bind it itself.
fn free_port(address: SocketAddr) -> Result<SocketAddr, String> {
    if address.port() != 0 {
        return Ok(address);
    }
    listen(address, "--traefik-api")?.local_addr().map_err(|e| e.to_string())
}
