//! `/devsanctum/users/{name}/sessions`: who is signed in, which is no record. An administrator ends all of somebody's at once.

use super::ApiState;
use super::audited::Noted;
use super::door::enter;
use super::keys::note;
use super::served::{Served, by_kind};
use super::status::ApiError;
use super::view::json_response;
use crate::access::{Action, Identity};
use crate::audit::changes;
use crate::resource::GROUP;
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

/// Ends all sessions of a user, with what hangs on them. Their account and their API keys stay as they are.
pub async fn end(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    Path(user): Path<String>,
) -> Result<Response, ApiError> {
    note(noted.as_deref(), "Session", |entry| entry.name.clone_from(&user));
    let kind: &'static Served = by_kind("User").ok_or_else(|| ApiError::internal("there are no users"))?;
    let name = Some(user.as_str());
    let action = Action { verb: "delete", group: GROUP, resource: "users", subresource: "sessions", namespace: None, name };
    enter(state.directory(), &who, kind, &action).await?;
    if state.store().get(&kind.key("", &user)).await?.is_none() {
        return Err(ApiError::not_found(kind.def, &user));
    }
    let told = json!({"user": user, "sessions": state.sign_in().sign_out_everywhere(&user).await?});
    note(noted.as_deref(), "Session", |entry| entry.changes = changes(Some(&told), None));
    Ok(json_response(StatusCode::OK, told.to_string(), &[]))
}
