//! The panel's page of servers, for administrators: how each is, and what it had in use in the last day.

use super::chart::{Chart, moment};
use super::pages::{page, top, trouble};
use super::panel::{Panel, to_login};
use crate::access::{Action, Identity};
use crate::api::client;
use crate::resource::{DockerServer, GROUP};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::BTreeMap;

const GIB: f64 = (1u32 << 30) as f64;

/// What a server had in use at a moment, as `/devsanctum/status` tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    at: Timestamp,
    cpu_used: Option<f64>,
    cpu_total: f64,
    ram_used: f64,
    ram_total: f64,
    disk_used: f64,
    disk_total: f64,
    workspaces: f64,
}

/// Who may not see them is not told of any.
#[derive(Deserialize)]
struct Told {
    figures: Option<BTreeMap<String, Vec<Figures>>>,
}

/// Whether somebody may see them: whoever may see the platform's own state.
pub async fn may_see(panel: &Panel, user: &str) -> bool {
    let action =
        Action { verb: "get", group: GROUP, resource: "platform", subresource: "", namespace: None, name: Some("status") };
    let judged = panel.web.directory.judge(&Identity::person(user), &action, false).await;
    judged.is_ok_and(|(decision, _)| decision.is_allowed())
}

/// Answers for `/servers`.
pub async fn show(State(panel): State<Panel>, headers: HeaderMap) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/servers") };
    let not_theirs = || trouble(StatusCode::FORBIDDEN, "Servers are for administrators to see.");
    if !may_see(&panel, &session.user).await {
        return not_theirs();
    }
    match found(client(panel.api.clone(), Identity::person(&session.user))).await {
        Ok((servers, Told { figures: Some(figures) })) => {
            page(StatusCode::OK, "Servers", false, false, &content(&session.user, &servers, &figures))
        }
        Ok(_) => not_theirs(),
        Err(error) => {
            tracing::warn!(%error, "servers could not be listed for the panel");
            trouble(StatusCode::SERVICE_UNAVAILABLE, "Servers cannot be listed now. Try again.")
        }
    }
}

async fn found(own: Client) -> kube::Result<(Vec<DockerServer>, Told)> {
    let servers = Api::<DockerServer>::all(own.clone()).list(&ListParams::default()).await?.items;
    let asked = Request::get("/devsanctum/status").body(Vec::new()).map_err(kube::Error::HttpError)?;
    Ok((servers, own.request(asked).await?))
}

fn content(user: &str, servers: &[DockerServer], figures: &BTreeMap<String, Vec<Figures>>) -> Markup {
    html! {
        (top(user))
        h2 { "Servers" }
        @for (nth, server) in servers.iter().enumerate() { (card(nth, server, figures.get(&server.name_any()))) }
        @if servers.is_empty() { p.soft.card { "None yet. `devsanctum server add` registers one." } }
        p.soft { "As this control plane has measured them in the last day; " code { "devsanctum server figures" } " prints the same." }
        p.soft { a href="/" { "Your workspaces" } }
    }
}

fn card(nth: usize, server: &DockerServer, kept: Option<&Vec<Figures>>) -> Markup {
    let status = server.status.clone().unwrap_or_default();
    let name = server.name_any();
    html! {
        section.card {
            h3 {
                (name) " " span.soft { (format!("{:?}", status.phase).to_lowercase()) }
                @if let Some(first) = kept.and_then(|kept| kept.first()) { span.soft { ", measured since " (moment(first.at)) } }
            }
            @if let Some(message) = &status.message { p.warn { (message) } }
            @match kept.filter(|kept| !kept.is_empty()) {
                Some(kept) => div.charts { @for chart in charts(nth, &name, kept) { (chart.draw()) } },
                None => p.soft { "Not measured since this control plane was started; of several replicas only the one that leads measures." },
            }
        }
    }
}

fn charts<'a>(nth: usize, of: &'a str, kept: &[Figures]) -> [Chart<'a>; 4] {
    let chart = |what: &str, name, value: &dyn Fn(&Figures) -> Option<f64>, all, (digits, unit)| {
        let points = kept.iter().filter_map(|one| Some((one.at, value(one)?))).collect();
        Chart { id: format!("server-{nth}-{what}"), name, of, points, all, digits, unit }
    };
    let last = |all: fn(&Figures) -> f64| kept.last().map(all);
    [
        chart("cpu", "Processor", &|one| one.cpu_used, last(|one| one.cpu_total), (1, "cores")),
        chart("memory", "Memory", &|one| Some(one.ram_used / GIB), last(|one| one.ram_total / GIB), (1, "GiB")),
        chart("disk", "Disk", &|one| Some(one.disk_used / GIB), last(|one| one.disk_total / GIB), (1, "GiB")),
        chart("workspaces", "Workspaces", &|one| Some(one.workspaces), None, (0, "")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_server_has_its_figures_or_says_that_there_are_none() {
        let server = |name: &str| -> DockerServer {
            let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": name},
                "spec": {"host": "unix:///x"}, "status": {"phase": "ONLINE"}});
            serde_json::from_value(record).unwrap()
        };
        let one = |minute: u32, cpu: serde_json::Value, n: u32| {
            json!({"at": format!("2026-01-01T12:{minute:02}:00Z"), "cpuUsed": cpu, "cpuTotal": 8, "ramUsed": 1u64 << 30,
                "ramTotal": 4u64 << 30, "diskUsed": 9u64 << 30, "diskTotal": 10u64 << 30, "workspaces": n})
        };
        let told = json!({"figures": {"rack": [one(0, json!(null), 3), one(15, json!(1.25), 5)]}});
        let told: Told = serde_json::from_value(told).unwrap();
        let page = content("root", &[server("rack"), server("spare")], &told.figures.unwrap()).into_string();
        for words in [
            "<strong>Processor</strong> now 1.2 of 8.0 cores<br><span class=\"soft\">min 1.2, max 1.2</span>",
            "<strong>Memory</strong> now 1.0 of 4.0 GiB",
            "<strong>Disk</strong> now 9.0 of 10.0 GiB",
            "<strong>Workspaces</strong> now 5<br><span class=\"soft\">min 3, max 5</span>",
            "Not measured since",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert_eq!((page.matches("<svg").count(), page.matches("online").count()), (4, 2), "{page}");
    }
}
