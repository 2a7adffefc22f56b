//! What the control plane says of itself, beside the API: its state, and metrics.

use super::gateway::Served;
use super::telemetry::Metrics;
use crate::access::{Action, Directory, Identity};
use crate::api::Health;
use crate::controllers::{LoopReport, Outcome, Reports};
use crate::proxy::ManagedStatus;
use crate::resource::GROUP;
use crate::store::Store;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// What a running control plane is told and asked.
pub struct App {
    /// Where records lie.
    pub store: Store,
    /// What the loops did.
    pub reports: Arc<Reports>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the loops have looked at everything once.
    pub ready: watch::Receiver<bool>,
    /// What the Traefik that is run here says, where one is.
    pub traefik: Option<watch::Receiver<ManagedStatus>>,
    /// When it started.
    pub started: Instant,
    /// Whether the loops run here.
    pub leads: watch::Receiver<bool>,
    /// There may be other replicas, of which one runs the loops; all are ready to serve.
    pub replicated: bool,
    /// Where SSH listens.
    pub ssh: Option<Served>,
    /// Where people sign in.
    pub panel: String,
}

impl Health for App {
    fn ready(&self) -> Result<(), String> {
        if self.traefik.as_ref().is_some_and(|t| !t.borrow().started) {
            return Err("Traefik has not answered yet".into());
        }
        let follows = self.replicated && !*self.leads.borrow();
        if follows || *self.ready.borrow() {
            return Ok(());
        }
        Err("not every record has been looked at yet".into())
    }
}

type Asked = (Arc<App>, Arc<Directory>);

/// `/devsanctum/status` and `/metrics`.
pub fn routes(app: Arc<App>, directory: Arc<Directory>) -> Router {
    Router::new().route("/devsanctum/status", get(status)).route("/metrics", get(metrics)).with_state((app, directory))
}

/// The platform's own state is its administrators' to see.
async fn may_see(directory: &Directory, who: &Identity) -> bool {
    let action =
        Action { verb: "get", group: GROUP, resource: "platform", subresource: "", namespace: None, name: Some("status") };
    directory.judge(who, &action, false).await.is_ok_and(|(decision, _)| decision.is_allowed())
}

async fn metrics(State((app, directory)): State<Asked>, Extension(who): Extension<Identity>) -> Response {
    if may_see(&directory, &who).await {
        return app.metrics.text(&app.reports.snapshot(), &app.reports.figures.all()).into_response();
    }
    (StatusCode::FORBIDDEN, "metrics are for administrators\n").into_response()
}

async fn status(State((app, directory)): State<Asked>, Extension(who): Extension<Identity>) -> axum::Json<Value> {
    let ssh = app.ssh.as_ref().map(|ssh| json!({"address": ssh.address.to_string(), "hostKey": ssh.key}));
    if !may_see(&directory, &who).await {
        return axum::Json(
            json!({"version": env!("CARGO_PKG_VERSION"), "ready": app.ready().is_ok(), "ssh": ssh, "panel": app.panel}),
        );
    }
    let one = |(kind, l): (&'static str, LoopReport)| {
        let failures: u64 = [Outcome::Failed, Outcome::Stalled].iter().filter_map(|o| l.passes.get(o)).sum();
        json!({
            "kind": kind,
            "passes": l.passes.values().sum::<u64>(),
            "failures": failures,
            "outcomes": l.passes,
            "lastPass": l.last_pass,
            "lastDurationMs": l.last_millis,
            "totalMs": l.total_millis,
            "queue": l.queue,
            "recent": l.recent,
        })
    };
    let loops: Vec<Value> = app.reports.snapshot().into_iter().map(one).collect();
    axum::Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": app.started.elapsed().as_secs(),
        "ready": app.ready().is_ok(),
        "instance": app.store.instance(),
        "revision": app.store.revision(),
        "database": if app.replicated { "postgres" } else { "sqlite" },
        "leads": *app.leads.borrow(),
        "ssh": ssh,
        "panel": app.panel,
        "loops": loops,
        "figures": app.reports.figures.all(),
    }))
}
