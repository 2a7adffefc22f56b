//! A host that opens to everybody. From then on browsers bring to its container what they hold of it: that must be worth nothing.

use super::super::served::by_kind;
use super::super::status::ApiError;
use super::super::write::WriteRequest;
use crate::resource::RouteSpec;
use crate::resource::common::Visibility;
use crate::store::Tx;
use serde::Deserialize;
use serde_json::Value;

fn route(record: &Value) -> Option<RouteSpec> {
    RouteSpec::deserialize(record.get("spec")?).ok()
}

/// Ends the sessions at a workspace's hosts, and the share links of this one, in the transaction in which it opens.
///
/// # Errors
/// The store's own.
pub async fn forget_visitors(tx: &mut Tx, request: &WriteRequest, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    if by_kind("Route").is_none_or(|routes| routes.id != request.served.id) {
        return Ok(());
    }
    let Some(now) = route(new).filter(|now| now.visibility == Visibility::Public) else { return Ok(()) };
    let was_open = |before: RouteSpec| {
        before.visibility == Visibility::Public && (before.host, before.workspace) == (now.host.clone(), now.workspace.clone())
    };
    if old.and_then(route).is_some_and(was_open) {
        return Ok(());
    }
    let Some(workspaces) = by_kind("Workspace") else { return Ok(()) };
    if let Some(workspace) = tx.get(&workspaces.key(&request.namespace, &now.workspace)).await? {
        tx.end_visits(&workspace.uid, &now.host).await?;
    }
    Ok(())
}
