//! `Secret`: values a project's records may use and nobody can read back.

use super::errors::FieldErrors;
use super::kind::Rules;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Keys one secret holds at most.
pub const MAX_SECRET_KEYS: usize = 1000;

/// Named values. `data` is write-only: it is taken out of the record when it is written, kept
/// encrypted in a table of its own, and never shown again; `status.keys` says what is held.
#[derive(CustomResource, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "devsanctum.io", version = "v1", kind = "Secret", namespaced, status = "SecretStatus", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name":"Keys","type":"string","jsonPath":".status.keys"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// Values by key. Keys given replace those held; a key with a null value is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Option<String>>,
}

// Never the values.
impl std::fmt::Debug for SecretSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretSpec").field("data", &self.data.keys().collect::<Vec<_>>()).finish()
    }
}

/// What is held, without the values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretStatus {
    /// Keys held.
    pub keys: Vec<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State.
    pub conditions: Vec<Condition>,
}

impl Rules for SecretSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        for key in self.data.keys() {
            let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            if key.is_empty() || key.len() > 253 || !key.bytes().all(ok) {
                errors.invalid(format!("spec.data[{key}]"), key.as_str(), "a key is letters, digits, '.', '_' and '-'");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_printed_shows_no_value() {
        let data = BTreeMap::from([("token".to_owned(), Some("hunter2".to_owned()))]);
        let printed = format!("{:?}", Secret::new("git", SecretSpec { data }));
        assert!(printed.contains("token") && !printed.contains("hunter2"), "{printed}");
    }
}
