//! The panel's first page: somebody's workspaces, what becomes of them by itself, and what has happened to them.

use super::pages::{page, top, trouble};
use super::panel::{Panel, to_login};
use super::servers;
use crate::access::Identity;
use crate::api::client;
use crate::resource::{Workspace, WorkspacePhase, WorkspaceStatus};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use maud::{Markup, html};
use std::collections::BTreeSet;

/// What has happened, at the most.
const SHOWN: usize = 10;
/// That a workspace stops is of interest when it is near.
const SOON: SignedDuration = SignedDuration::from_mins(30);

/// What has happened to one of them.
struct Happened {
    at: Timestamp,
    workspace: String,
    note: String,
    is_warning: bool,
    /// The workspace's uid, and the reason.
    what: (String, String),
}

/// Answers for `/`.
pub async fn show(State(panel): State<Panel>, headers: HeaderMap) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/") };
    let own = client(panel.api.clone(), Identity::person(&session.user));
    match found(own, &session.user).await {
        Ok((workspaces, happened)) => {
            let sees_servers = servers::may_see(&panel, &session.user).await;
            let content = content(&session.user, &workspaces, &happened, sees_servers, panel.web.clock.now());
            page(StatusCode::OK, "Your workspaces", false, false, &content)
        }
        Err(error) => {
            tracing::warn!(%error, "workspaces could not be listed for the panel");
            trouble(StatusCode::SERVICE_UNAVAILABLE, "Your workspaces cannot be listed now. Try again.")
        }
    }
}

async fn found(own: Client, user: &str) -> kube::Result<(Vec<Workspace>, Vec<Happened>)> {
    let mut workspaces = Api::<Workspace>::all(own.clone()).list(&ListParams::default()).await?.items;
    workspaces.retain(|w| w.spec.owner == user);
    if workspaces.is_empty() {
        return Ok((workspaces, Vec::new()));
    }
    // A page without what happened is better than none.
    let happened = events(own, &workspaces).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "events could not be listed for the panel");
        Vec::new()
    });
    Ok((workspaces, happened))
}

async fn events(own: Client, workspaces: &[Workspace]) -> kube::Result<Vec<Happened>> {
    let projects: BTreeSet<String> = workspaces.iter().filter_map(ResourceExt::namespace).collect();
    let about = ListParams::default().fields("involvedObject.kind=Workspace");
    let mut all = Vec::new();
    for project in projects {
        all.extend(Api::<Event>::namespaced(own.clone(), &project).list(&about).await?.items);
    }
    Ok(newest(all, workspaces))
}

/// What happened last to these, the newest first; of what happened again and again, the last time.
fn newest(events: Vec<Event>, workspaces: &[Workspace]) -> Vec<Happened> {
    let uids: BTreeSet<&str> = workspaces.iter().filter_map(|w| w.metadata.uid.as_deref()).collect();
    let mut all: Vec<Happened> = events
        .into_iter()
        .filter(|event| event.involved_object.uid.as_deref().is_some_and(|uid| uids.contains(uid)))
        .filter_map(|event| {
            let series = event.series.and_then(|series| series.last_observed_time).map(|t| t.0);
            Some(Happened {
                at: series.or(event.last_timestamp.map(|t| t.0)).or(event.event_time.map(|t| t.0))?,
                what: (event.involved_object.uid.clone()?, event.reason.unwrap_or_default()),
                workspace: event.involved_object.name?,
                note: event.message.unwrap_or_default(),
                is_warning: event.type_.as_deref() == Some("Warning"),
            })
        })
        .collect();
    all.sort_by_key(|it| std::cmp::Reverse(it.at));
    let mut told = BTreeSet::new();
    all.retain(|it| told.insert(it.what.clone()));
    all.truncate(SHOWN);
    all
}

fn content(user: &str, workspaces: &[Workspace], happened: &[Happened], sees_servers: bool, now: Timestamp) -> Markup {
    html! {
        (top(user))
        h2 { "Your workspaces" }
        ul.rows.card {
            @for workspace in workspaces { (row(workspace, now)) }
            @if workspaces.is_empty() { li.soft { "None yet. `devsanctum apply` makes one." } }
        }
        @if !happened.is_empty() {
            h2 { "What happened" }
            ul.rows.card {
                @for it in happened {
                    li {
                        span { strong { (it.workspace) } " " span class=[it.is_warning.then_some("warn")] { (it.note) } }
                        span.soft { (spoken(now.duration_since(it.at))) " ago" }
                    }
                }
            }
        }
        @if sees_servers { p { a href="/servers" { "Servers" } } }
    }
}

fn row(workspace: &Workspace, now: Timestamp) -> Markup {
    let status = workspace.status.clone().unwrap_or_default();
    html! {
        li {
            span { strong { (workspace.name_any()) } " " span.soft { (workspace.namespace().unwrap_or_default()) } }
            span {
                @if status.phase == WorkspacePhase::Running {
                    @for service in &status.services {
                        @if let Some(url) = service.url.as_deref().filter(|url| url.starts_with("http")) {
                            a href=(url) rel="noopener" { (service.name) } " "
                        }
                    }
                }
                span.soft { (format!("{:?}", status.phase).to_lowercase()) }
            }
            @for (words, is_warning) in coming(workspace, &status, now) {
                span.line class=(if is_warning { "warn" } else { "soft" }) { (words) }
            }
        }
    }
}

/// What becomes of it by itself, and whether it is to be heeded.
fn coming(workspace: &Workspace, status: &WorkspaceStatus, now: Timestamp) -> Vec<(String, bool)> {
    let left = |at: &Option<String>| at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()).map(|at| at.duration_since(now));
    let mut all = Vec::new();
    if let Some(left) = left(&status.destroy_at).filter(|_| status.destroy_announced_at.is_some()) {
        let (name, project) = (workspace.name_any(), workspace.namespace().unwrap_or_default());
        let keep = format!("to keep it: devsanctum -n {project} edit workspace {name}, and set spec.kept to true");
        all.push((format!("Will be destroyed in {}, with all files in it; {keep}.", spoken(left)), true));
    }
    if let Some(left) = left(&status.stop_at).filter(|left| *left <= SOON) {
        all.push((format!("Stops in {} unless somebody works in it; its files are kept.", spoken(left)), true));
    }
    if let Some(left) = left(&status.start_at) {
        all.push((format!("Its schedule starts it in {}.", spoken(left)), false));
    }
    if let Some(message) = status.message.as_ref().filter(|_| workspace.spec.running) {
        all.push((message.clone(), true));
    }
    all
}

/// The two largest units of a time; what is over counts as nothing left.
fn spoken(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn workspace(status: Value) -> Workspace {
        let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "spec": {"owner": "ada"}, "status": status,
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"}});
        serde_json::from_value(record).unwrap()
    }

    fn told(status: Value) -> Vec<String> {
        let it = workspace(status);
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        coming(&it, it.status.as_ref().unwrap(), now).into_iter().map(|(words, _)| words).collect()
    }

    #[test]
    fn what_is_near_or_final_is_told_and_the_rest_is_not() {
        assert_eq!(told(json!({"stopAt": "2026-01-01T13:59:00Z", "destroyAt": "2026-01-05T12:00:00Z"})), Vec::<String>::new());
        let near = told(json!({"stopAt": "2026-01-01T12:10:00Z", "destroyAt": "2026-01-02T11:30:00Z",
            "destroyAnnouncedAt": "2026-01-01T11:30:00Z"}));
        assert!(
            near[0].starts_with("Will be destroyed in 23 h 30 min, with all files") && near[0].contains("-n shop edit"),
            "{near:?}"
        );
        assert_eq!(near[1], "Stops in 10 min unless somebody works in it; its files are kept.");
        assert_eq!(told(json!({"startAt": "2026-01-03T13:00:00Z", "message": "no server"})).len(), 2);
    }

    #[test]
    fn what_happened_is_the_newest_of_these_workspaces() {
        let event = |uid: &str, minute: usize| -> Event {
            let event = json!({"metadata": {}, "involvedObject": {"kind": "Workspace", "name": "web", "uid": uid}, "type": "Warning",
                "message": format!("{minute}"), "lastTimestamp": format!("2026-01-01T12:{minute:02}:00Z"),
                "reason": format!("R{}", minute.min(13))});
            serde_json::from_value(event).unwrap()
        };
        let events = (0..15).map(|m| event("u", m)).chain([event("of a former one", 59)]).collect();
        let found = newest(events, &[workspace(json!({}))]);
        assert_eq!(
            found.iter().map(|it| it.note.clone()).collect::<Vec<_>>(),
            (4..15).rev().filter(|m| *m != 13).map(|m| m.to_string()).collect::<Vec<_>>(),
            "what happened twice is told once"
        );
    }
}
