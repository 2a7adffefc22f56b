//! What is asked at hosts that are not the panel's: the proxy leads here what is below the domain and has no route.
//!
//! # Guarantees
//! - The panel answers at its own host alone.
//! - A private workspace that does not run is, to who may not open it, as a host of nobody: in status, words, headers and cookies.

use super::cookies::{self, Cookies};
use super::gate::{self, Asked, Opens, visitor};
use super::pages::{self, Rest, Ways};
use super::panel::Panel;
use super::{Web, shares, wake};
use crate::access::Identity;
use crate::resource::{Workspace, WorkspacePhase};
use crate::store::{Key, StoreError};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// Where the page leads that says that there is nothing: to the panel, and back.
pub(super) const SIGN_IN: &str = "/.devsanctum/sign-in";
/// Bodies that are read to their end, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// A workspace that a host leads to, and that is there.
#[derive(Clone)]
pub(super) struct Place {
    pub uid: String,
    pub public: bool,
    pub rest: Rest,
    pub project: String,
    pub workspace: String,
    /// What its record says to know or do.
    pub message: Option<String>,
    /// Any visitor starts it.
    pub wake_on_visit: bool,
}

/// Lets the panel answer at its own host, and answers at all others.
pub(super) async fn by_host(State(panel): State<Panel>, request: Request, next: Next) -> Response {
    let web = &panel.web;
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = gate::canonical(named.or(request.uri().host()).unwrap_or_default());
    if host == web.panel.host {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    // A proxy whose request is not read to its end takes that for a broken connection.
    let _ = axum::body::to_bytes(body, MAX_BODY).await;
    let asked = Asked { method: parts.method.as_str(), host: &host, uri: parts.uri.clone(), headers: &parts.headers };
    match answer(&panel, &asked).await {
        Ok(Some(answer)) => answer,
        Ok(None) => nothing(&asked),
        Err(error) => gate::failed(&error),
    }
}

/// What whoever asks may know; `None`: nothing.
async fn answer(panel: &Panel, asked: &Asked<'_>) -> Result<Option<Response>, StoreError> {
    let web = &panel.web;
    let parameters = pages::parameters(&asked.uri);
    let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let safe = matches!(asked.method, "GET" | "HEAD");
    if asked.uri.path() == SIGN_IN && safe {
        return Ok(Some(gate::lead_to_panel(web, "", asked, pages::own_path(get("to")))));
    }
    let Some(place) = place(web, asked.host).await? else { return Ok(None) };
    let cookies = Cookies::read(asked.headers);
    match asked.uri.path() {
        gate::ENTER if safe => {
            let (nonce, by) = (cookies.get(cookies::NONCE).unwrap_or_default(), visitor(asked.headers, &cookies));
            let taken = web.sign_in.take_code(get("code"), (&place.uid, asked.host), nonce, &by, web.clock.now()).await;
            let private = web.directory.ask(|records| records.is_private_host(asked.host, &place.uid)).await?;
            return Ok(taken.ok().filter(|_| private).map(|token| gate::let_in(web, asked.host, get("to"), &token)));
        }
        shares::FOLLOW if safe => {
            return Ok(Some(shares::follow(web, &place.uid, asked).await).filter(|answer| answer.status().is_redirection()));
        }
        _ => {}
    }
    if place.public {
        return visited(panel, asked, place, None).await.map(Some);
    }
    match gate::lets_in(web, &place.uid, asked, &cookies).await? {
        Opens::To(user) if asked.uri.path() == wake::START => Ok(Some(started(panel, asked, &place, &user).await?)),
        Opens::To(user) => visited(panel, asked, place, Some(&user)).await.map(Some),
        Opens::ToAnybody => visited(panel, asked, place, None).await.map(Some),
        Opens::NotToThem | Opens::ToNobody => Ok(None),
    }
}

/// Somebody comes who may open it.
async fn visited(panel: &Panel, asked: &Asked<'_>, mut place: Place, user: Option<&str>) -> Result<Response, StoreError> {
    let mut trouble = None;
    if place.rest == Rest::Stopped && place.wake_on_visit && wake::opens_a_page(asked) {
        match wake::start_for_anybody(panel, user, address(asked), &place).await {
            Ok(()) => place.rest = Rest::Starting,
            Err(why) => trouble = Some(why),
        }
    }
    let place = match wake::waited(panel, asked, place).await? {
        Ok(place) => place,
        Err(answer) => return Ok(answer),
    };
    if !reads_pages(asked) {
        return Ok(again(plain(StatusCode::SERVICE_UNAVAILABLE, place.rest.words()), place.rest));
    }
    let to = if asked.method == "GET" { asked.uri.path_and_query().map_or("/", |path| path.as_str()) } else { "/" };
    let to = pages::own_path(to);
    let command = user.map(|_| format!("devsanctum -n {} workspace start {}", place.project, place.workspace));
    let ways = match user {
        Some(user) if wake::may_start(panel, user, &place).await? => {
            Ways::Button(format!("{}?{}", wake::START, pages::query(&[("to", to)])))
        }
        Some(_) => Ways::None,
        None if place.public => {
            Ways::Panel(format!("{}/start?{}", panel.web.panel.origin(), pages::query(&[("host", asked.host), ("to", to)])))
        }
        None => Ways::None,
    };
    let told = user.and(trouble.or(place.message.clone()));
    Ok(again(pages::resting(place.rest, &ways, command.as_deref(), told.as_deref()), place.rest))
}

/// Somebody has pressed the button of a private workspace's page.
async fn started(panel: &Panel, asked: &Asked<'_>, place: &Place, user: &str) -> Result<Response, StoreError> {
    if asked.method != "POST" {
        return Ok(pages::trouble(StatusCode::METHOD_NOT_ALLOWED, "A workspace is started by the button of its page."));
    }
    if gate::from_elsewhere(&panel.web, &place.uid, asked.headers).await? {
        return Ok(pages::trouble(StatusCode::FORBIDDEN, gate::ELSEWHERE));
    }
    Ok(match wake::start(panel, Identity::person(user), address(asked), place).await {
        Ok(()) => back(&panel.web, asked),
        Err(why) => pages::trouble(StatusCode::FORBIDDEN, &why),
    })
}

fn address(asked: &Asked<'_>) -> IpAddr {
    visitor(asked.headers, &Cookies::read(asked.headers)).address
}

/// Leads back to where the button's page was.
pub(super) fn back(web: &Web, asked: &Asked<'_>) -> Response {
    let parameters = pages::parameters(&asked.uri);
    let to = parameters.iter().find(|(key, _)| key == "to").map_or("/", |(_, to)| to.as_str());
    let to = format!("{}{}", web.panel.of_host(asked.host), pages::own_path(to));
    pages::redirect_from_form(&to)
}

/// The workspace that a host leads to. One that is going is gone.
pub(super) async fn place(web: &Web, host: &str) -> Result<Option<Place>, StoreError> {
    let at = web.directory.ask(|records| records.host(host).cloned()).await?;
    let Some(at) = at else { return Ok(None) };
    let key = Key { kind: "workspaces.devsanctum.io", namespace: at.project.clone(), name: at.workspace.clone() };
    let Some(found) = web.store.get(&key).await? else { return Ok(None) };
    let read = serde_json::from_slice::<Workspace>(&found.body);
    let workspace = read.map_err(|e| StoreError::Database(format!("a stored workspace cannot be read: {e}")))?;
    if workspace.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let status = workspace.status.unwrap_or_default();
    let phase = status.phase;
    let rest = match phase {
        _ if !workspace.spec.running => Rest::Stopped,
        WorkspacePhase::Running => Rest::Silent,
        _ => Rest::Starting,
    };
    Ok(Some(Place {
        uid: workspace.metadata.uid.unwrap_or_default(),
        public: at.public,
        rest,
        project: at.project,
        workspace: at.workspace,
        message: status.message,
        wake_on_visit: workspace.spec.wake_on_visit,
    }))
}

fn reads_pages(asked: &Asked<'_>) -> bool {
    gate::text(asked.headers, "accept").contains("text/html")
}

/// For programs.
fn plain(status: StatusCode, words: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{words}\n")).into_response()
}

fn again(mut answer: Response, rest: Rest) -> Response {
    answer.headers_mut().insert(header::RETRY_AFTER, rest.again().into());
    answer
}

fn nothing(asked: &Asked<'_>) -> Response {
    if !reads_pages(asked) {
        return plain(StatusCode::NOT_FOUND, "There is nothing here, or it is not yours to open.");
    }
    // What is ours is no place to come back to.
    let own = asked.method != "GET" || asked.uri.path().starts_with("/.devsanctum/");
    let to = if own { "/" } else { asked.uri.path_and_query().map_or("/", |path| path.as_str()) };
    pages::nothing_here(&format!("{SIGN_IN}?{}", pages::query(&[("to", to)])))
}
