//! What a workspace is to be a copy of is named by its uid, too: another one may have the name by the time it is copied.

use super::super::served::by_kind;
use super::super::status::ApiError;
use super::super::write::WriteRequest;
use crate::store::Tx;
use serde_json::{Value, json};

/// Notes which workspace is named by a `spec.from` that is new; none where there is none of the name.
///
/// # Errors
/// The store's own.
pub async fn name_source(tx: &mut Tx, request: &WriteRequest, old: Option<&Value>, new: &mut Value) -> Result<(), ApiError> {
    let Some(workspaces) = by_kind("Workspace").filter(|served| served.id == request.served.id) else { return Ok(()) };
    let from = |record: &Value| record.pointer("/spec/from").and_then(Value::as_str).map(str::to_owned);
    let named = from(new);
    if named == old.and_then(from) {
        return Ok(());
    }
    let found = match &named {
        Some(name) => tx.get(&workspaces.key(&request.namespace, name)).await?.map(|source| source.uid),
        None => None,
    };
    if let Some(record) = new.as_object_mut() {
        let status = record.entry("status").or_insert_with(|| json!({}));
        match (status.as_object_mut(), found) {
            (Some(status), Some(uid)) => drop(status.insert("source".into(), uid.into())),
            (Some(status), None) => drop(status.remove("source")),
            (None, _) => {}
        }
    }
    Ok(())
}
