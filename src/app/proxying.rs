//! The proxy and what feeds it.

use super::{Config, StateDir, in_state, listen};
use crate::proxy::feed::Connection;
use crate::proxy::{
    Earlier, ManagedSettings, ManagedStatus, ManagedTraefik, NO_UPGRADE_HEADER, PanelRoute, RenderSettings, TraefikProxy,
};
use crate::resource::common::Protocol;
use crate::web::sockets::{self, Leads, Upstream};
use crate::web::{Web, gate};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::UPGRADE;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Name of Traefik's entry point for workspaces.
const ENTRY_POINT: &str = "web";

/// The proxy, its feed, and the Traefik we run.
pub struct Proxying {
    /// The proxy.
    pub proxy: Arc<TraefikProxy>,
    managed: Option<ManagedTraefik>,
}
impl Proxying {
    /// Serves the feed and the gate, and begins to start a Traefik unless there is one already.
    ///
    /// # Errors
    /// In words for people.
    pub fn start(
        config: &Config,
        state: &StateDir,
        panel: PanelRoute,
        web: Web,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let earlier = Earlier::read(state.path());
        let left_behind = config.external_traefik.is_none() && ManagedTraefik::is_left_behind(state.path());
        let feed = listen_again(config.feed, earlier.map(|e| e.feed), "--feed")?;
        let address = feed.local_addr().map_err(|e| e.to_string())?;
        if left_behind && earlier.is_some_and(|e| e.feed != address) {
            // Whoever listens there now has been told the token by the Traefik that was left behind.
            let _ = std::fs::remove_file(state.file("feed.token"));
        }
        let token = state.token("feed.token").map_err(|e| in_state(state, "feed.token", &e))?;
        let api = api_address(config.traefik_api, earlier.map(|e| e.api), left_behind)?;
        let api_url = config.external_traefik.clone().unwrap_or_else(|| format!("http://{api}"));
        let settings = RenderSettings {
            entry_points: vec![ENTRY_POINT.into()],
            gate_url: format!("http://{address}"),
            tls: config.front.certificate(&web.panel)?,
            hsts: web.panel.scheme == "https",
            default_certificate: None,
            panel: Some(panel),
        };
        let proxy = Arc::new(TraefikProxy::new(&api_url, token.clone(), settings).map_err(|e| e.to_string())?);
        let held = stop.clone();
        let until_stopped = middleware::from_fn(move |request, next| until_stopped(held.clone(), request, next));
        let published = proxy.feed().clone();
        let leads: Leads = Arc::new(move |host: &str| {
            let route = published.private(host)?;
            let Some(way) = route.way else {
                return Some(Upstream::at(route.workspace_uid, route.upstream, route.protocol == Protocol::Https));
            };
            // A name that cannot be said leads nowhere.
            Some(Upstream { workspace_uid: route.workspace_uid, url: way.url(), connector: way.connector().ok()? })
        });
        let own = proxy.feed().router().merge(gate::router(web.clone())).layer(until_stopped);
        let routes = by_upgrade(own, sockets::router(web, leads));
        feed.set_nonblocking(true).map_err(|e| e.to_string())?;
        let feed = tokio::net::TcpListener::from_std(feed).map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            let service = routes.into_make_service_with_connect_info::<Connection>();
            tokio::select! {
                ended = axum::serve(feed, service).into_future() => tracing::error!(?ended, "the proxy's feed stopped"),
                () = stop.cancelled() => {}
            }
        });
        tokio::spawn(config.front.clone().keep_presenting(proxy.feed().clone()));
        let mut managed = None;
        if config.external_traefik.is_none() {
            let starting = ManagedTraefik::start(managed_settings(config, state, (address, api), token)?, proxy.feed());
            proxy.run_by(starting.status());
            managed = Some(starting);
        }
        Ok(Self { proxy, managed })
    }

    /// What the Traefik that is run here says of itself.
    pub fn status(&self) -> Option<watch::Receiver<ManagedStatus>> {
        self.managed.as_ref().map(ManagedTraefik::status)
    }

    /// Waits until the Traefik that is run here, if one is, answers for the first time.
    ///
    /// # Errors
    /// In words for people, when it does not.
    pub async fn answers(&mut self) -> Result<(), String> {
        let Some(managed) = &mut self.managed else { return Ok(()) };
        managed.answers().await.map_err(|e| e.to_string())
    }

    /// Ends the Traefik that was started.
    pub async fn stop(self) {
        if let Some(managed) = self.managed {
            managed.stop().await;
        }
    }
}

/// How the Traefik that is run here is set up. It asks for its routes at `feed`, and is asked for them at `api`.
fn managed_settings(
    config: &Config,
    state: &StateDir,
    (feed, api): (SocketAddr, SocketAddr),
    token: String,
) -> Result<ManagedSettings, String> {
    Ok(ManagedSettings {
        binary: config.traefik.clone(),
        state_dir: state.path().to_owned(),
        entry_points: BTreeMap::from([(ENTRY_POINT.to_owned(), config.web)]),
        api,
        feed_url: format!("http://{feed}/traefik/config"),
        token,
        extra: config.front.extra()?,
        env: config.front.env()?,
        redirect: config.front.redirect(config.web),
        trusted: config.front.trusted_proxies.clone(),
    })
}

/// What is to be upgraded was handed on to us. Traefik asks the gate about such a request, too, and says then, as it lets no client
/// say, where that leads.
fn by_upgrade(own: Router, handed_on: Router) -> Router {
    own.layer(middleware::from_fn(move |request: Request, next: Next| {
        let handed_on = handed_on.clone();
        async move {
            let headers = request.headers();
            if headers.contains_key("x-forwarded-uri") {
                return next.run(request).await;
            }
            if headers.contains_key(NO_UPGRADE_HEADER) {
                return sockets::refused();
            }
            match headers.contains_key(UPGRADE) {
                true => handed_on.oneshot(request).await.into_response(),
                false => next.run(request).await,
            }
        }
    }))
}

/// Traefik does not end while its poll is held: it would have to be killed, and stopping would take seconds.
async fn until_stopped(stop: CancellationToken, request: Request, next: Next) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        () = stop.cancelled() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Port 0 means the one used before, so that a Traefik left behind finds us again; a free one where that is taken.
fn listen_again(address: SocketAddr, before: Option<SocketAddr>, flag: &str) -> Result<TcpListener, String> {
    match again(address, before).map(TcpListener::bind) {
        Some(Ok(listener)) => Ok(listener),
        _ => listen(address, flag),
    }
}

/// As [`listen_again`], but the address is given back, since Traefik must bind it itself. One left behind still has it.
fn api_address(address: SocketAddr, before: Option<SocketAddr>, left_behind: bool) -> Result<SocketAddr, String> {
    match again(address, before) {
        _ if address.port() != 0 => Ok(address),
        Some(before) if left_behind => Ok(before),
        before => match before.into_iter().chain(undisturbed(address)).find(|free| TcpListener::bind(free).is_ok()) {
            Some(free) => Ok(free),
            None => listen(address, "--traefik-api")?.local_addr().map_err(|e| e.to_string()),
        },
    }
}

/// Addresses whose ports the kernel gives to nobody who does not ask for them: what is given back is still free when Traefik
/// binds it, some hundred milliseconds later.
fn undisturbed(address: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    const FIRST: u16 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(FIRST);
    let begin = std::process::id().wrapping_mul(397);
    (0..32).filter_map(move |n| {
        let count = u32::from(end.checked_sub(FIRST).filter(|n| *n > 0)?);
        let port = u16::try_from(begin.wrapping_add(n) % count).ok()?;
        Some(SocketAddr::new(address.ip(), FIRST + port))
    })
}

fn again(address: SocketAddr, before: Option<SocketAddr>) -> Option<SocketAddr> {
    before.filter(|before| address.port() == 0 && before.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_used_again_when_it_is_free_and_was_not_chosen_otherwise() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let taken = TcpListener::bind(any).unwrap();
        let before = taken.local_addr().unwrap();
        let address = |listener: Result<TcpListener, String>| listener.unwrap().local_addr().unwrap();
        assert_ne!(address(listen_again(any, Some(before), "--feed")), before, "somebody else has it");
        assert_ne!(api_address(any, Some(before), false).unwrap(), before);
        assert_eq!(api_address(any, Some(before), true).unwrap(), before, "the Traefik left behind has it");
        drop(taken);
        assert_eq!(address(listen_again(any, Some(before), "--feed")), before);
        assert_eq!(api_address(any, Some(before), false).unwrap(), before);
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let given_by_the_kernel = range.split_whitespace().next().unwrap().parse().unwrap();
        assert!(api_address(any, None, false).unwrap().port() < given_by_the_kernel, "a connection could get it meanwhile");
        let chosen = address(listen_again(any, None, "--feed"));
        assert_eq!(address(listen_again(chosen, Some(before), "--feed")), chosen);
        assert_eq!(api_address(chosen, Some(before), true).unwrap(), chosen);
    }
}
