//! Values of secrets: taken out of a record before anything else sees them.

use super::super::record::meta_mut;
use super::super::status::ApiError;
use crate::store::Tx;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Values to keep, and keys to forget (`None`). Never printed.
#[derive(Clone, Default)]
pub struct SecretData(BTreeMap<String, Option<String>>);

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretData({} keys)", self.0.len())
    }
}

impl SecretData {
    /// Takes the values out of `spec.data`, and out of the copy of the manifest that `kubectl apply` keeps in an
    /// annotation. What does not have the right shape stays for the schema to refuse.
    pub fn take(record: &mut Value) -> Self {
        let data = record.get_mut("spec").and_then(Value::as_object_mut).and_then(|spec| {
            let fits = spec.get("data")?.as_object()?.values().all(|v| v.is_string() || v.is_null());
            if fits { spec.remove("data") } else { None }
        });
        redact_last_applied(record);
        let taken = data.and_then(|d| serde_json::from_value(d).ok());
        Self(taken.unwrap_or_default())
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The record with `spec.data` as it was sent, for the kind's own rules.
    pub fn shown_to_rules(&self, record: &Value) -> Value {
        let mut whole = record.clone();
        let keys: BTreeMap<&str, &str> = self.0.keys().map(|k| (k.as_str(), "")).collect();
        if let Some(spec) = whole.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("data".into(), json!(keys));
        }
        whole
    }

    /// Sets `status.keys` to what will be held.
    pub fn list_keys(&self, old: Option<&Value>, record: &mut Value) {
        let held = old.and_then(|o| o["status"]["keys"].as_array()).into_iter().flatten().filter_map(Value::as_str);
        let mut keys: BTreeSet<&str> = held.collect();
        for (key, value) in &self.0 {
            if value.is_some() {
                keys.insert(key);
            } else {
                keys.remove(key.as_str());
            }
        }
        if !record["status"].is_object() {
            record["status"] = json!({});
        }
        record["status"]["keys"] = json!(keys);
    }

    /// Keeps the values.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep(&self, tx: &mut Tx, uid: &str) -> Result<(), ApiError> {
        for (key, value) in &self.0 {
            tx.put_secret(uid, key, value.as_ref().map(String::as_bytes)).await?;
        }
        Ok(())
    }
}

fn redact_last_applied(record: &mut Value) {
    let meta = meta_mut(record);
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    let Some(text) = annotations.get(LAST_APPLIED).and_then(Value::as_str) else { return };
    let redacted = serde_json::from_str::<Value>(text).ok().and_then(|mut applied| {
        applied.get_mut("spec")?.as_object_mut()?.remove("data");
        Some(applied.to_string())
    });
    match redacted {
        Some(text) => annotations.insert(LAST_APPLIED.into(), text.into()),
        None => annotations.remove(LAST_APPLIED),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_stays_in_the_record() {
        let applied = r#"{"spec":{"data":{"token":"hunter2"}}}"#;
        let mut record = json!({
            "metadata": {"annotations": {LAST_APPLIED: applied}},
            "spec": {"data": {"token": "hunter2", "old": null}},
        });
        let data = SecretData::take(&mut record);
        assert!(!record.to_string().contains("hunter2") && !format!("{data:?}").contains("hunter2"));
        data.list_keys(Some(&json!({"status": {"keys": ["old", "other"]}})), &mut record);
        assert_eq!(record["status"]["keys"], json!(["other", "token"]));
    }
}
