//! A record's project: its namespace.

use super::super::bootstrap::namespace_put;
use super::super::facts::is_reserved;
use super::super::fail;
use super::super::record::{Head, meta_str};
use super::super::served::{Served, by_kind};
use super::super::status::ApiError;
use super::super::write::WriteRequest;
use super::Subject;
use crate::resource::{GROUP, SYSTEM_NAMESPACE, labels};
use crate::store::{Put, Tx};
use serde_json::{Value, json};

/// A new record's namespace must exist: a project that stays, or one of the reserved ones.
pub async fn check_namespace(tx: &mut Tx, subject: &Subject<'_>) -> Result<(), ApiError> {
    let (def, namespace) = (subject.request.served.def, subject.key.namespace.as_str());
    if subject.old.is_some() {
        return Ok(());
    }
    if def.kind == "Namespace" {
        let why = format!("namespaces follow projects: create the Project {:?} instead", subject.key.name);
        return Err(ApiError::forbidden(def, &subject.key.name, why));
    }
    if !def.namespaced {
        return Ok(());
    }
    if def.group != GROUP {
        return match by_kind("Namespace") {
            Some(n) if tx.get(&n.key("", namespace)).await?.is_none() => Err(ApiError::not_found(n.def, namespace)),
            _ => Ok(()),
        };
    }
    if is_reserved(namespace) {
        // The platform's own secrets, such as certificates of servers, belong to no project; nor do warm environments.
        if def.kind == "Secret" || (def.kind == "Workspace" && namespace == SYSTEM_NAMESPACE && is_of_a_template(subject.new)) {
            return Ok(());
        }
        let why = format!("namespace {namespace:?} is reserved and belongs to no project: use a project's name as namespace");
        return Err(ApiError::forbidden(def, &subject.key.name, why));
    }
    project_stays(tx, subject).await
}

fn is_of_a_template(record: &Value) -> bool {
    let owners = record.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|o| o["kind"] == "Template" && o["controller"] == true)
}

async fn project_stays(tx: &mut Tx, subject: &Subject<'_>) -> Result<(), ApiError> {
    let (def, namespace) = (subject.request.served.def, subject.key.namespace.as_str());
    let (Some(project), Some(spaces)) = (by_kind("Project"), by_kind("Namespace")) else { return Ok(()) };
    let Some(stored) = tx.get(&project.key("", namespace)).await? else {
        return Err(ApiError::not_found(spaces.def, namespace));
    };
    let head: Head = serde_json::from_slice(&stored.body).map_err(fail::damaged)?;
    if head.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    Err(ApiError::forbidden(def, &subject.key.name, why))
}

/// The namespace that comes with a new project.
///
/// # Errors
/// When there are no random bytes.
pub fn namespace_of(served: &Served, project: &Value, request: &WriteRequest) -> Result<Option<Put>, ApiError> {
    if served.def.group != GROUP || served.def.kind != "Project" {
        return Ok(None);
    }
    let (name, uid) = (meta_str(project, "name"), meta_str(project, "uid"));
    let owner = json!({
        "apiVersion": served.api_version, "kind": served.def.kind, "name": name, "uid": uid, "controller": true,
    });
    let labels = json!({labels::KIND: served.def.kind, labels::NAME: name, "kubernetes.io/metadata.name": name});
    let own = request.clock.uuid().map_err(fail::no_chance)?;
    Ok(namespace_put(name, &own, labels, Some(owner), &request.time()))
}
