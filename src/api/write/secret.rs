//! Values of secrets: taken out of a record before anything else sees them.

use super::super::record::meta_mut;
use super::super::status::ApiError;
use super::WriteRequest;
use crate::resource::{FieldError, MAX_SECRET_KEYS, Problem};
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

    /// Sets `status.keys` to what will be held, whatever the record says of it.
    pub fn list_keys(&self, held: &[String], record: &mut Value) {
        let keys = self.keys_after(held);
        let told = record.get("status").is_some_and(|status| status.get("keys").is_some());
        if keys.is_empty() && !told {
            return;
        }
        if !record["status"].is_object() {
            record["status"] = json!({});
        }
        record["status"]["keys"] = json!(keys);
    }

    /// Refuses more keys than a secret may hold. One that holds more already may lose some.
    ///
    /// # Errors
    /// 422 with both numbers.
    pub fn refuse_too_many(&self, request: &WriteRequest, held: &[String]) -> Result<(), ApiError> {
        let after = self.keys_after(held).len();
        if after <= MAX_SECRET_KEYS || after <= held.len() {
            return Ok(());
        }
        let detail = format!("a secret holds {MAX_SECRET_KEYS} keys at most, and this would make {after}: use several secrets");
        let error = FieldError { path: "spec.data".into(), problem: Problem::Invalid, value: None, detail };
        Err(ApiError::invalid(request.served.def, &request.name, &[error]))
    }

    fn keys_after<'k>(&'k self, held: &'k [String]) -> BTreeSet<&'k str> {
        let mut keys: BTreeSet<&str> = held.iter().map(String::as_str).collect();
        for (key, value) in &self.0 {
            if value.is_some() {
                keys.insert(key);
            } else {
                keys.remove(key.as_str());
            }
        }
        keys
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

/// Keeps of the manifest what can hold no value: a field of any name may, however wrong its name.
fn redact_last_applied(record: &mut Value) {
    let meta = meta_mut(record);
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    let Some(held) = annotations.remove(LAST_APPLIED) else { return };
    let Some(Value::Object(mut applied)) = held.as_str().and_then(|text| serde_json::from_str(text).ok()) else { return };
    applied.retain(|field, _| matches!(field.as_str(), "apiVersion" | "kind" | "metadata"));
    if let Some(inner) = applied.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_object_mut) {
        inner.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.into(), Value::Object(applied).to_string().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_stays_in_the_record() {
        let annotation = format!(
            r#"{{"kind":"Secret","metadata":{{"name":"git","annotations":{{"{LAST_APPLIED}":"hunter2","a":"b"}}}},
            "spec":{{"data":{{"token":"hunter2"}},"x":"hunter2"}},"data":{{"token":"hunter2"}},"stringData":"hunter2"}}"#
        );
        let mut record = json!({
            "metadata": {"annotations": {LAST_APPLIED: annotation}},
            "spec": {"data": {"token": "hunter2", "old": null}},
        });
        let data = SecretData::take(&mut record);
        assert!(!record.to_string().contains("hunter2") && !format!("{data:?}").contains("hunter2"));
        assert_eq!(
            record["metadata"]["annotations"][LAST_APPLIED],
            r#"{"kind":"Secret","metadata":{"annotations":{"a":"b"},"name":"git"}}"#
        );
        record["status"] = json!({"keys": ["made-up"]});
        data.list_keys(&["old".into(), "other".into()], &mut record);
        assert_eq!(record["status"]["keys"], json!(["other", "token"]));
        for unreadable in ["hunter2", "[\"hunter2\"]"] {
            let mut record = json!({"metadata": {"annotations": {LAST_APPLIED: unreadable}}});
            SecretData::take(&mut record);
            assert_eq!(record, json!({"metadata": {"annotations": {}}}));
        }
    }
}
