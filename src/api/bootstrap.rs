//! What must be there before the first request: the namespaces that belong to no project.

use super::facts::{Facts, put};
use super::served::by_kind;
use super::status::ApiError;
use crate::store::{Put, Store};
use serde_json::{Value, json};

/// Names no project may have.
pub const RESERVED: [&str; 3] = ["default", "devsanctum-system", "kube-system"];
/// Those of them that exist.
const EXISTING: [&str; 2] = ["default", "devsanctum-system"];

/// Makes the reserved namespaces where they are missing. To be called at every start.
///
/// # Errors
/// When the store fails.
pub async fn bootstrap(store: &Store) -> Result<(), ApiError> {
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    store
        .write::<(), ApiError>(Box::new(move |tx| {
            Box::pin(async move {
                for name in EXISTING {
                    let labels = json!({"kubernetes.io/metadata.name": name});
                    let Some(put) = namespace_put(name, labels, None, &now) else { continue };
                    if tx.get(&put.key).await?.is_none() {
                        tx.put(put).await?;
                    }
                }
                Ok(())
            })
        }))
        .await
}

/// A namespace ready for the store.
pub fn namespace_put(name: &str, labels: Value, owner: Option<Value>, now: &str) -> Option<Put> {
    let served = by_kind("Namespace")?;
    let mut record = json!({
        "apiVersion": served.api_version,
        "kind": served.def.kind,
        "metadata": {
            "name": name, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now, "generation": 1, "labels": labels,
        },
        "spec": {},
        "status": {"phase": "Active"},
    });
    if let Some(owner) = owner {
        record["metadata"]["ownerReferences"] = json!([owner]);
    }
    Some(put(served, record, &Facts::default(), false))
}
