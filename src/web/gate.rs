//! The gate: the proxy asks it before each request to a private workspace.
//!
//! A browser that is not known at a workspace's host is sent to the panel, which knows who is signed in, and comes back with
//! a code that works once, for this workspace and this browser, and is changed for a cookie of this host alone. Who has followed a
//! share link passes without being known (see `shares.rs`).
//!
//! # Guarantees
//! - It fails closed: whatever goes wrong, nothing passes.
//! - It decides by the workspace's uid in the address that the proxy asks, never by a name that the client sent.
//! - The workspace sees none of our cookies.

use super::Web;
use super::cookies::{self, Cookies};
use super::{elsewhere, pages, proxies, shares, wake};
use crate::access::{Action, Decision, Identity, Refused, Token, Visitor, digest};
use crate::api::closed;
use crate::resource::GROUP;
use crate::store::StoreError;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;

/// The proxy waits for thirty seconds; people do not.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where codes are brought, at a workspace's host. The workspace never sees it.
pub(super) const ENTER: &str = "/.devsanctum/enter";
/// How long a browser may take to sign in, in seconds.
const NONCE_LASTS: i64 = 600;
/// How long the cookie of a workspace's host is kept, in seconds; its session may end before.
const COOKIE_LASTS: i64 = 14 * 24 * 3600;

/// The gate's routes.
pub fn router(web: Web) -> Router {
    // Of an answer that lets pass the proxy takes over what it was told to, and none of these headers.
    Router::new().route("/gate/{workspace}", any(check)).layer(map_response(closed)).with_state(web)
}

async fn check(State(web): State<Web>, Path(uid): Path<String>, headers: HeaderMap) -> Response {
    match tokio::time::timeout(PATIENCE, decide(&web, &uid, &headers)).await {
        Ok(answer) => answer,
        Err(_) => pages::trouble(StatusCode::SERVICE_UNAVAILABLE, "The gate could not decide in time. Try again."),
    }
}

/// A host as routes have it, however it was typed.
pub(super) fn canonical(host: &str) -> String {
    host.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase()
}

/// The request that the proxy asks about.
pub(super) struct Asked<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub uri: Uri,
    pub headers: &'a HeaderMap,
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Who asks, by what the proxy itself says of the connection.
pub(super) fn visitor(headers: &HeaderMap, cookies: &Cookies) -> Visitor {
    let address = proxies::last(headers).unwrap_or(std::net::IpAddr::from([0, 0, 0, 0]));
    let agent = text(headers, "user-agent").to_owned();
    let shown = |name| cookies.get(name).map(str::to_owned);
    Visitor { address, agent, known: shown(cookies::BROWSER), session: shown(cookies::SESSION) }
}

async fn decide(web: &Web, uid: &str, headers: &HeaderMap) -> Response {
    let Ok(uri) = text(headers, "x-forwarded-uri").parse::<Uri>() else {
        return pages::trouble(StatusCode::BAD_REQUEST, "The address of this request cannot be read.");
    };
    let host = canonical(text(headers, "x-forwarded-host"));
    let asked = Asked { method: text(headers, "x-forwarded-method"), host: &host, uri, headers };
    let cookies = Cookies::read(headers);
    if asked.uri.path() == ENTER {
        return enter(web, uid, &asked, &cookies).await;
    }
    // From the page that said that there is nothing: it runs now.
    if asked.uri.path() == elsewhere::SIGN_IN {
        let parameters = pages::parameters(&asked.uri);
        let to = parameters.iter().find(|(key, _)| key == "to").map_or("/", |(_, to)| to.as_str());
        return lead_to_panel(web, uid, &asked, pages::own_path(to));
    }
    // Somebody else has started it meanwhile.
    if asked.uri.path() == wake::START {
        return elsewhere::back(web, &asked);
    }
    if asked.uri.path() == shares::FOLLOW {
        return shares::follow(web, uid, &asked).await;
    }
    match from_elsewhere(web, uid, headers).await {
        Ok(false) => {}
        Ok(true) => return pages::trouble(StatusCode::FORBIDDEN, ELSEWHERE),
        Err(error) => return failed(&error),
    }
    match lets_in(web, uid, &asked, &cookies).await {
        Ok(Opens::To(user)) => pass(Some(&user), &cookies),
        Ok(Opens::ToAnybody) => pass(None, &cookies),
        Ok(Opens::NotToThem) => pages::missing(&web.panel),
        Ok(Opens::ToNobody) => send_away(web, uid, &asked),
        Err(error) => failed(&error),
    }
}

/// What a page of another host is told.
pub(super) const ELSEWHERE: &str = "A page of another host has asked for this. Open the workspace itself.";

/// Whether a page of another host has made the browser ask. SameSite cookies do not tell workspaces' hosts from each other: one could
/// ask another with the cookies of whoever reads it. The hosts of one workspace may ask each other.
///
/// What a page only has shown, a picture or a script, brings no `Origin`; browsers say then from how far it was asked, and by which
/// page. To open a page leads away from the one that asks, which learns nothing; a page in a frame does not lead away, and what lies over it
/// may be somebody else's.
pub(super) async fn from_elsewhere(web: &Web, uid: &str, headers: &HeaderMap) -> Result<bool, StoreError> {
    let far = matches!(text(headers, "sec-fetch-site"), "same-site" | "cross-site");
    let by = match headers.get(header::ORIGIN) {
        Some(origin) => Some(origin),
        None if far && (is_framed(headers) || text(headers, "sec-fetch-mode") != "navigate") => headers.get(header::REFERER),
        None => return Ok(false),
    };
    let host = by.and_then(|by| by.to_str().ok()?.parse::<Uri>().ok()).and_then(|uri| uri.host().map(canonical));
    let Some(host) = host else { return Ok(true) };
    web.directory.ask(|records| !records.leads_to(&host, uid)).await
}

/// Whether a page is asked for as a part of another.
pub(super) fn is_framed(headers: &HeaderMap) -> bool {
    matches!(text(headers, "sec-fetch-dest"), "iframe" | "frame" | "object" | "embed" | "fencedframe")
}

/// Whom a private workspace's host is open to, of those who ask.
pub(super) enum Opens {
    /// To somebody who is signed in there.
    To(String),
    /// To who has followed a share link, whoever that is.
    ToAnybody,
    /// Not to who is signed in.
    NotToThem,
    /// To nobody: it is not known who asks.
    ToNobody,
}

pub(super) async fn lets_in(web: &Web, uid: &str, asked: &Asked<'_>, cookies: &Cookies) -> Result<Opens, StoreError> {
    let now = web.clock.now();
    let session = match cookies.get(cookies::WORKSPACE) {
        Some(shown) => web.sign_in.session(shown, Some(uid), now).await?,
        None => None,
    };
    if let Some(session) = &session
        && may_open(web, &session.user, uid).await?
    {
        return Ok(Opens::To(session.user.clone()));
    }
    if let Some(shown) = cookies.get(cookies::SHARE)
        && web.shares.opens(shown, uid, asked.host, now).await?
    {
        return Ok(Opens::ToAnybody);
    }
    Ok(if session.is_some() { Opens::NotToThem } else { Opens::ToNobody })
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> Response {
    tracing::warn!(%error, "the gate could not decide");
    pages::trouble(StatusCode::SERVICE_UNAVAILABLE, "The gate cannot decide now. Try again.")
}

/// Whether somebody may open the pages of a private workspace.
pub(super) async fn may_open(web: &Web, user: &str, uid: &str) -> Result<bool, StoreError> {
    let at = web.directory.ask(|records| records.workspace(uid).map(|(project, name)| (project.to_owned(), name.to_owned())));
    let at = at.await?;
    // One that is not there is judged, too, so that nobody tells by the time which it is.
    let (is_there, (project, name)) = (at.is_some(), at.unwrap_or_default());
    let (namespace, name) = (Some(project.as_str()), Some(name.as_str()));
    let action = Action { verb: "get", group: GROUP, resource: "workspaces", subresource: "web", namespace, name };
    Ok(is_there & matches!(web.directory.judge(&Identity::person(user), &action, false).await?, (Decision::Allow(_), _)))
}

/// The proxy takes these headers over, and lets the request through. Of who comes by a share link there is nothing to say.
fn pass(user: Option<&str>, cookies: &Cookies) -> Response {
    let mut answer = StatusCode::OK.into_response();
    if let Some(others) = cookies.others() {
        answer.headers_mut().insert(header::COOKIE, others);
    }
    if let Some(Ok(user)) = user.map(HeaderValue::from_str) {
        answer.headers_mut().insert("x-ds-user", user);
    }
    answer
}

/// A page that somebody opens leads to the panel; everything else is refused.
fn send_away(web: &Web, uid: &str, asked: &Asked<'_>) -> Response {
    let mode = text(asked.headers, "sec-fetch-mode");
    let opens_a_page =
        asked.method == "GET" && (mode.is_empty() || mode == "navigate") && text(asked.headers, "accept").contains("text/html");
    if !opens_a_page {
        let words = "This workspace is private: open it in a browser and sign in.";
        return pages::trouble(StatusCode::UNAUTHORIZED, words);
    }
    lead_to_panel(web, uid, asked, asked.uri.path_and_query().map_or("/", |path| path.as_str()))
}

/// Leads to the panel, which knows who is signed in, and back to `to`. Without a uid the panel finds the host's workspace itself.
pub(super) fn lead_to_panel(web: &Web, uid: &str, asked: &Asked<'_>, to: &str) -> Response {
    let mut nonce = [0; 32];
    if let Err(error) = getrandom::fill(&mut nonce) {
        return failed(&error);
    }
    let nonce = URL_SAFE_NO_PAD.encode(nonce);
    let query =
        pages::query(&[("workspace", uid), ("host", asked.host), ("to", to), ("nonce", &URL_SAFE_NO_PAD.encode(digest(&nonce)))]);
    let mut answer = pages::redirect(&format!("{}/open?{query}", web.panel.origin()));
    answer.headers_mut().append(header::SET_COOKIE, cookies::set(cookies::NONCE, &nonce, NONCE_LASTS));
    answer
}

/// Somebody is back from the panel, with a code.
async fn enter(web: &Web, uid: &str, asked: &Asked<'_>, cookies: &Cookies) -> Response {
    let parameters = pages::parameters(&asked.uri);
    let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let nonce = cookies.get(cookies::NONCE).unwrap_or_default();
    let by = visitor(asked.headers, cookies);
    let taken = web.sign_in.take_code(get("code"), (uid, asked.host), nonce, &by, web.clock.now()).await;
    // The proxy would take a way without a host for one to us. This host is the workspace's: its router has been matched. One that
    // has opened to anybody meanwhile gets no cookie any more: its container would read it.
    match web.directory.ask(|records| records.is_private_host(asked.host, uid)).await {
        Ok(true) => {}
        Ok(false) => return pages::missing(&web.panel),
        Err(error) => return failed(&error),
    }
    if let Ok(token) = &taken {
        return let_in(web, asked.host, get("to"), token);
    }
    // A code that does not work is no reason to stay: they are asked for a new one.
    let mut answer = pages::redirect(&format!("{}{}", web.panel.of_host(asked.host), pages::own_path(get("to"))));
    let mut set = |value| answer.headers_mut().append(header::SET_COOKIE, value);
    match taken {
        Err(Refused::Link) if !nonce.is_empty() && asked.method == "GET" => {
            set(cookies::set(cookies::NONCE, "", 0));
        }
        Err(error) => {
            let (status, words) = super::panel::refused(&error);
            return pages::trouble(status, &words);
        }
        Ok(_) => {}
    }
    answer
}

/// Whose code has been taken gets a cookie of this host, and goes on.
pub(super) fn let_in(web: &Web, host: &str, to: &str, token: &Token) -> Response {
    let mut answer = pages::redirect(&format!("{}{}", web.panel.of_host(host), pages::own_path(to)));
    let set = [cookies::set(cookies::WORKSPACE, token.reveal(), COOKIE_LASTS), cookies::set(cookies::NONCE, "", 0)];
    for cookie in set {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}
