//! `/devsanctum/shares`: share links of workspaces, which are no records. What is in a link's address is told once, when it is made.

use super::ApiState;
use super::audited::Noted;
use super::door::{self, enter};
use super::keys::note;
use super::request::{Params, decode_json};
use super::served::{Served, by_kind};
use super::status::ApiError;
use super::view::json_response;
use crate::access::{Action, Identity, IdentityKind, NewShare, SHARES, ShareError};
use crate::audit::changes;
use crate::resource::{GROUP, ServiceStatus, Workspace};
use crate::store::Share;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the audit log calls one. Its row names the workspace, and the link by its id.
const SHARE: &str = "Share";
/// Where a link is followed, at the service's own host.
const FOLLOW: &str = "/.devsanctum/share";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    project: String,
    workspace: String,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    expires_in_seconds: Option<i64>,
}

/// A workspace whose links somebody asks for.
struct Place<'a> {
    project: &'a str,
    workspace: &'a str,
}

impl Place<'_> {
    /// The workspace's record, for who may do this with its links. To everybody else it is as one that is not there.
    async fn enter(&self, state: &ApiState, who: &Identity, verb: &str) -> Result<Workspace, ApiError> {
        let kind: &'static Served = by_kind("Workspace").ok_or_else(|| ApiError::internal("there are no workspaces"))?;
        let (namespace, name) = (Some(self.project), Some(self.workspace));
        let action = Action { verb, group: GROUP, resource: "workspaces", subresource: SHARES, namespace, name };
        enter(state.directory(), who, kind, &action).await?;
        let found = state.store().get(&kind.key(self.project, self.workspace)).await?;
        let found = found.ok_or_else(|| ApiError::not_found(kind.def, self.workspace))?;
        serde_json::from_slice(&found.body).map_err(|e| ApiError::internal(format!("a stored workspace cannot be read: {e}")))
    }
}

/// The service that is meant: the first that browsers can open, where none is named. With its address.
fn service<'a>(workspace: &'a Workspace, named: Option<&str>) -> Result<(&'a ServiceStatus, &'a str), ApiError> {
    let all = workspace.status.as_ref().map(|status| status.services.as_slice()).unwrap_or_default();
    let open: Vec<_> = all.iter().filter_map(|service| Some((service, service.url.as_deref()?))).collect();
    let found = match named {
        Some(name) => open.iter().find(|(service, _)| service.name == name),
        None => open.first(),
    };
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = open.iter().map(|(service, _)| service.name.as_str()).collect();
        ApiError::unprocessable(match (named, names.as_slice()) {
            (_, []) => "the workspace has no service with an address: start it, and try again".to_owned(),
            (name, names) => format!("service: {:?} has no address; these have: {}", name.unwrap_or_default(), names.join(", ")),
        })
    })
}

/// Makes a share link.
pub async fn create(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted = decode_json(&door::read(&state, &who, body).await?)?;
    let wanted: Wanted = serde_json::from_value(wanted).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    let place = Place { project: &wanted.project, workspace: &wanted.workspace };
    note(noted.as_deref(), SHARE, |entry| {
        (entry.namespace, entry.name) = (wanted.project.clone(), wanted.workspace.clone());
    });
    let record = place.enter(&state, &who, "create").await?;
    let (service, url) = service(&record, wanted.service.as_deref())?;
    let host = url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
    let new = NewShare {
        user: (who.kind == IdentityKind::User).then(|| who.name.clone()),
        workspace_uid: record.metadata.uid.clone().unwrap_or_default(),
        service: service.name.clone(),
        host,
        port: service.port,
        lasts: wanted.expires_in_seconds.map(SignedDuration::from_secs),
    };
    let made = state.shares().make(new, state.clock().now()).await;
    let (share, link) = made.map_err(|error| match error {
        ShareError::Lasts => ApiError::bad_request(error.to_string()),
        ShareError::Store(error) => error.into(),
        other => ApiError::unprocessable(other.to_string()),
    })?;
    let mut told = shown(&share, place.project, place.workspace);
    note(noted.as_deref(), SHARE, |entry| entry.changes = changes(None, Some(&told)));
    told["url"] = json!(format!("{}{FOLLOW}?token={}", url.trim_end_matches('/'), link.reveal()));
    Ok(json_response(StatusCode::CREATED, told.to_string(), &[]))
}

/// Lists a workspace's share links that are not over.
pub async fn list(State(state): State<ApiState>, Extension(who): Extension<Identity>, uri: Uri) -> Result<Response, ApiError> {
    let asked = Params::parse(&uri)?;
    let get = |name: &str| {
        asked
            .get(name)
            .ok_or_else(|| ApiError::bad_request(format!("{name}: Required value: share links are listed by workspace")))
    };
    let place = Place { project: get("project")?, workspace: get("workspace")? };
    let record = place.enter(&state, &who, "list").await?;
    let found = state.shares().of(record.metadata.uid.as_deref().unwrap_or_default(), state.clock().now()).await?;
    let shares: Vec<Value> = found.iter().map(|share| shown(share, place.project, place.workspace)).collect();
    Ok(json_response(StatusCode::OK, json!({"shares": shares}).to_string(), &[]))
}

/// Ends a share link, and with it all that it has opened.
pub async fn end(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    // Another's and none are the same to who may not see it.
    let missing = || ApiError::not_found_request(format!("there is no share link {id:?} of yours"));
    note(noted.as_deref(), SHARE, |entry| entry.uid.clone_from(&id));
    let (share, project, workspace) = state.shares().end(&id, &who).await?.ok_or_else(missing)?;
    let told = shown(&share, &project, &workspace);
    note(noted.as_deref(), SHARE, |entry| {
        (entry.namespace, entry.name) = (project, workspace);
        entry.changes = changes(Some(&told), None);
    });
    Ok(json_response(StatusCode::OK, told.to_string(), &[]))
}

fn shown(share: &Share, project: &str, workspace: &str) -> Value {
    let time = |ms: i64| Timestamp::from_millisecond(ms).ok().map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    json!({
        "id": share.id, "project": project, "workspace": workspace, "service": share.service, "user": share.user,
        "createdAt": time(share.created_at), "expiresAt": time(share.expires_at),
    })
}
