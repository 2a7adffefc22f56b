//! What is asked at hosts that are not the panel's: the proxy leads here what is below the domain and has no route.
//!
//! # Guarantees
//! - The panel answers at its own host alone.
//! - A private workspace that does not run is, to who may not open it, as a host of nobody: in status, words, headers and cookies.

use super::cookies::{self, Cookies};
use super::gate::{self, Asked, Opens, visitor};
use super::pages::{self, Rest};
use super::{Web, shares};
use crate::resource::{Workspace, WorkspacePhase};
use crate::store::{Key, StoreError};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Where the page leads that says that there is nothing: to the panel, and back.
pub(super) const SIGN_IN: &str = "/.devsanctum/sign-in";
/// Bodies that are read to their end, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// A workspace that a host leads to, and that is there.
struct Place {
    uid: String,
    public: bool,
    rest: Rest,
    /// How it is started.
    start: String,
}

/// Lets the panel answer at its own host, and answers at all others.
pub(super) async fn by_host(State(web): State<Web>, request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = gate::canonical(named.or(request.uri().host()).unwrap_or_default());
    if host == web.panel.host {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    // A proxy whose request is not read to its end takes that for a broken connection.
    let _ = axum::body::to_bytes(body, MAX_BODY).await;
    let asked = Asked { method: parts.method.as_str(), host: &host, uri: parts.uri.clone(), headers: &parts.headers };
    match answer(&web, &asked).await {
        Ok(Some(answer)) => answer,
        Ok(None) => nothing(&asked),
        Err(error) => gate::failed(&error),
    }
}

/// What whoever asks may know; `None`: nothing.
async fn answer(web: &Web, asked: &Asked<'_>) -> Result<Option<Response>, StoreError> {
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
        return Ok(Some(resting(asked, place.rest, None)));
    }
    Ok(match gate::lets_in(web, &place.uid, asked, &cookies).await? {
        Opens::To(_) => Some(resting(asked, place.rest, Some(&place.start))),
        Opens::ToAnybody => Some(resting(asked, place.rest, None)),
        Opens::NotToThem | Opens::ToNobody => None,
    })
}

/// The workspace that a host leads to. One that is going is gone.
async fn place(web: &Web, host: &str) -> Result<Option<Place>, StoreError> {
    let at = web.directory.ask(|records| records.host(host).cloned()).await?;
    let Some(at) = at else { return Ok(None) };
    let key = Key { kind: "workspaces.devsanctum.io", namespace: at.project.clone(), name: at.workspace.clone() };
    let Some(found) = web.store.get(&key).await? else { return Ok(None) };
    let read = serde_json::from_slice::<Workspace>(&found.body);
    let workspace = read.map_err(|e| StoreError::Database(format!("a stored workspace cannot be read: {e}")))?;
    if workspace.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let phase = workspace.status.as_ref().map(|status| status.phase).unwrap_or_default();
    let rest = match phase {
        _ if !workspace.spec.running => Rest::Stopped,
        WorkspacePhase::Running => Rest::Silent,
        _ => Rest::Starting,
    };
    let start = format!("devsanctum -n {} workspace start {}", at.project, at.workspace);
    Ok(Some(Place { uid: workspace.metadata.uid.unwrap_or_default(), public: at.public, rest, start }))
}

fn reads_pages(asked: &Asked<'_>) -> bool {
    gate::text(asked.headers, "accept").contains("text/html")
}

/// For programs.
fn plain(status: StatusCode, words: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{words}\n")).into_response()
}

fn resting(asked: &Asked<'_>, rest: Rest, start: Option<&str>) -> Response {
    let mut answer =
        if reads_pages(asked) { pages::resting(rest, start) } else { plain(StatusCode::SERVICE_UNAVAILABLE, rest.words()) };
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
