//! Who set which field: `metadata.managedFields` and server-side apply.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// A field an apply would change although another manager owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The manager that owns it.
    pub manager: String,
    /// Its operation, `Apply` or `Update`.
    pub operation: String,
    /// The API version it used.
    pub api_version: String,
    /// The subresource it wrote through, or empty.
    pub subresource: String,
    /// When it last wrote (RFC 3339), or empty.
    pub time: String,
    /// The field, such as `.spec.owner` or `.status.conditions[type="Ready"].status`.
    pub path: String,
}

impl Conflict {
    /// The owner in kubectl's words.
    pub fn holder(&self) -> String {
        format!("{:?}", self.manager)
    }
}

/// `Apply failed with 1 conflict: …`.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    format!("Apply failed with {} conflicts", conflicts.len())
}

/// Server-side apply: merges `applied` (pruned, not defaulted) into `live`, and keeps `metadata.managedFields`.
/// The result equals `live` when there was nothing to do.
///
/// # Errors
/// Without `force`, the fields other managers own and this apply would change.
pub fn apply(
    _live: Option<&Value>,
    applied: &Value,
    _manager: &str,
    _subresource: &str,
    _force: bool,
    _schema: &JSONSchemaProps,
    _now: Timestamp,
) -> Result<Value, Vec<Conflict>> {
    Ok(applied.clone())
}

/// Keeps `metadata.managedFields` of `new` for a create (`old` is `None`), update or patch by `manager`.
pub fn track_update(
    _old: Option<&Value>,
    _new: &mut Value,
    _manager: &str,
    _subresource: &str,
    _schema: &JSONSchemaProps,
    _now: Timestamp,
) {
}
