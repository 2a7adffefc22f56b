//! Connections to private workspaces that are upgraded, WebSockets for the most part: they go through here, so that they end
//! when the right to them does. The proxy asks its gate once, when a connection begins, and never again.
//!
//! # Guarantees
//! - Whoever gets through is whom the gate would let through at this moment, by the same decision.
//! - A connection ends within seconds when its session ends, when its user may not open the workspace any more, or when its
//!   host leads to another workspace.
//! - The workspace sees none of our cookies, and no identity but the one that was decided on. Nobody speaks anything but a WebSocket
//!   to it: within HTTP/2, say, headers would be said that nobody here sees.

use super::cookies::{self, Cookies};
use super::gate::{Asked, ELSEWHERE, Opens, canonical, failed, from_elsewhere, lets_in};
use super::held::{HeldConnections, Holder};
use super::{Web, pages, unverified};
use crate::access::digest;
use crate::api::Place;
use crate::store::StoreError;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::Service;

/// How often it is looked whether the session is still there; changes of records are heard of at once.
const LOOK: Duration = Duration::from_secs(2);
/// The least time between two looks: records change often, and each look asks the store.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long a workspace may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a service may say why it does not want a connection.
const REFUSAL: usize = 64 << 10;
/// Times in a row that nobody can be asked, after which a connection ends.
const DOUBTS: u32 = 3;

const OTHER_UPGRADE: &str =
    "Only WebSockets get through to a workspace: ask for one by 'Upgrade: websocket', or for no upgrade at all.";

/// Where a private host leads.
#[derive(Clone)]
pub struct Upstream {
    /// Uid of its workspace.
    pub workspace_uid: String,
    /// Where it is asked: `http://` or `https://`, and an address.
    pub url: String,
    /// What connects there.
    pub connector: HttpsConnector<HttpConnector>,
}

impl Upstream {
    /// A service that is reached at its own address. With `tls` it speaks that, by a certificate of its own.
    pub fn at(workspace_uid: String, address: SocketAddr, tls: bool) -> Self {
        let scheme = if tls { "https" } else { "http" };
        Self { workspace_uid, url: format!("{scheme}://{address}"), connector: unverified::connector() }
    }
}

/// Says where a private host leads, as the proxy was told.
pub type Leads = Arc<dyn Fn(&str) -> Option<Upstream> + Send + Sync>;

#[derive(Clone)]
struct Sockets {
    web: Web,
    leads: Leads,
    held: HeldConnections,
}

/// Takes whatever the proxy sends here.
pub fn router(web: Web, leads: Leads) -> Router {
    Router::new().fallback(any(pass)).with_state(Sockets { web, leads, held: HeldConnections::default() })
}

/// What is answered to who asks for another upgrade than one to a WebSocket.
pub fn refused() -> Response {
    pages::trouble(StatusCode::BAD_REQUEST, OTHER_UPGRADE)
}

/// What a connection hangs on.
struct Right {
    host: String,
    upstream: Upstream,
    /// What the browser has shown.
    shown: HeaderMap,
    /// Who is signed in; nobody where a share link was followed.
    user: Option<String>,
    /// Taken by it.
    _place: Place<Holder>,
}

impl Sockets {
    /// Whom a host is open to that has this upstream, of those who show this.
    async fn opens(&self, host: &str, upstream: &Upstream, shown: &HeaderMap) -> Result<Opens, StoreError> {
        let asked = Asked { method: "GET", host, uri: Uri::from_static("/"), headers: shown };
        lets_in(&self.web, &upstream.workspace_uid, &asked, &Cookies::read(shown)).await
    }

    /// Whether a connection may go on. Where that cannot be told, it may for a moment.
    async fn holds(&self, right: &Right, doubts: &mut u32) -> bool {
        let leads = (self.leads)(&right.host);
        if leads.is_none_or(|leads| leads.workspace_uid != right.upstream.workspace_uid) {
            return false;
        }
        match self.opens(&right.host, &right.upstream, &right.shown).await {
            Ok(opens) => {
                *doubts = 0;
                match opens {
                    Opens::To(user) => right.user.as_ref() == Some(&user),
                    Opens::ToAnybody => right.user.is_none(),
                    Opens::NotToThem | Opens::ToNobody => false,
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection's right could not be looked up");
                *doubts += 1;
                *doubts < DOUBTS
            }
        }
    }

    /// Waits until a connection is to end.
    async fn lost(&self, right: &Right) {
        let (mut moved, mut doubts) = (self.web.directory.moved(), 0);
        loop {
            let looked = Instant::now();
            if !self.holds(right, &mut doubts).await {
                return;
            }
            tokio::select! {
                _ = moved.changed() => sleep_until(looked + BETWEEN).await,
                () = sleep(LOOK) => {}
            }
        }
    }
}

async fn pass(State(sockets): State<Sockets>, request: Request) -> Response {
    if !asks_for_a_websocket(request.headers()) {
        return refused();
    }
    let host = canonical(request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default());
    let missing = || pages::missing(&sockets.web.panel);
    let Some(upstream) = (sockets.leads)(&host) else { return missing() };
    match from_elsewhere(&sockets.web, &upstream.workspace_uid, request.headers()).await {
        Ok(false) => {}
        Ok(true) => return pages::trouble(StatusCode::FORBIDDEN, ELSEWHERE),
        Err(error) => return failed(&error),
    }
    let mut shown = HeaderMap::new();
    shown.extend(request.headers().get_all(header::COOKIE).iter().map(|cookie| (header::COOKIE, cookie.clone())));
    let user = match sockets.opens(&host, &upstream, &shown).await {
        Ok(Opens::To(user)) => Some(user),
        Ok(Opens::ToAnybody) => None,
        Ok(Opens::NotToThem) => return missing(),
        Ok(Opens::ToNobody) => {
            return pages::trouble(StatusCode::UNAUTHORIZED, "This workspace is private: open it in a browser and sign in.");
        }
        Err(error) => return failed(&error),
    };
    let cookies = Cookies::read(&shown);
    let link = || Holder::Link(digest(cookies.get(cookies::SHARE).unwrap_or_default()));
    let holder = user.clone().map_or_else(link, Holder::User);
    let Some(place) = sockets.held.place(&holder) else {
        return pages::trouble(StatusCode::TOO_MANY_REQUESTS, &holder.no_place());
    };
    match relay(sockets, request, Right { host, upstream, shown, user, _place: place }, &cookies).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "a workspace did not take a connection");
            pages::trouble(StatusCode::BAD_GATEWAY, "The workspace does not answer.")
        }
    }
}

/// Whether a request asks to be upgraded to a WebSocket, and to nothing else.
fn asks_for_a_websocket(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::UPGRADE).iter();
    let (first, more) = (lines.next(), lines.next());
    more.is_none() && first.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Asks the workspace as the browser did; where both agree to speak otherwise, carries what they say.
async fn relay(sockets: Sockets, mut request: Request, right: Right, cookies: &Cookies) -> Result<Response, Broken> {
    let Upstream { url, mut connector, .. } = right.upstream.clone();
    let stream = timeout(PATIENCE, connector.call(url.parse()?)).await??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection.with_upgrades());
    let browser = hyper::upgrade::on(&mut request);
    let mut answer = timeout(PATIENCE, sender.send_request(forwarded(request, right.user.as_deref(), cookies)?)).await??;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        // As long as it is carried somebody has a place, so it is no longer than a refusal is.
        let (mut parts, body) = answer.into_parts();
        parts.headers.remove(header::TRANSFER_ENCODING);
        let body = timeout(PATIENCE, to_bytes(Body::new(body), REFUSAL)).await??;
        return Ok(Response::from_parts(parts, Body::from(body)));
    }
    let workspace = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        let (Ok(browser), Ok(workspace)) = tokio::join!(browser, workspace) else { return };
        let (mut browser, mut workspace) = (TokioIo::new(browser), TokioIo::new(workspace));
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut browser, &mut workspace) => {}
            () = sockets.lost(&right) => tracing::info!(user = right.user.as_deref().unwrap_or("anybody"), host = right.host, "a connection was cut"),
        }
    });
    Ok(answer.map(|_| Body::empty()).into_response())
}

/// The request as the workspace is to see it.
fn forwarded(request: Request, user: Option<&str>, cookies: &Cookies) -> Result<Request, Broken> {
    let (mut parts, body) = request.into_parts();
    parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    parts.version = axum::http::Version::HTTP_11;
    parts.extensions.clear();
    // What programs read as one of ours however it is spelt.
    let ours: Vec<_> =
        parts.headers.keys().filter(|name| name.as_str().replace('_', "-").starts_with("x-ds-")).cloned().collect();
    ours.iter().for_each(|name| drop(parts.headers.remove(name)));
    parts.headers.remove(header::COOKIE);
    if let Some(others) = cookies.others() {
        parts.headers.insert(header::COOKIE, others);
    }
    if let Some(user) = user {
        parts.headers.insert("x-ds-user", HeaderValue::from_str(user)?);
    }
    Ok(Request::from_parts(parts, body))
}
