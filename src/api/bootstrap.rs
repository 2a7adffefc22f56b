//! What must be there before the first request: the namespaces that belong to no project.

use super::facts::{Facts, put};
use super::fail;
use super::served::by_kind;
use super::status::ApiError;
use crate::clock::Clock;
use crate::resource::SYSTEM_NAMESPACE;
use crate::store::{Put, Store};
use serde_json::{Value, json};

/// Names no project may have.
pub const RESERVED: [&str; 3] = ["default", SYSTEM_NAMESPACE, "kube-system"];
/// Those of them that exist.
const EXISTING: [&str; 2] = ["default", SYSTEM_NAMESPACE];

/// Makes the reserved namespaces where they are missing. To be called at every start.
///
/// # Errors
/// When the store fails, or there are no random bytes.
pub async fn bootstrap(store: &Store, clock: &dyn Clock) -> Result<(), ApiError> {
    let now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut named = Vec::new();
    for name in EXISTING {
        named.push((name, clock.uuid().map_err(fail::no_chance)?));
    }
    store
        .write::<(), ApiError>(Box::new(move |tx| {
            Box::pin(async move {
                for (name, uid) in named {
                    let labels = json!({"kubernetes.io/metadata.name": name});
                    let Some(put) = namespace_put(name, &uid, labels, None, &now) else { continue };
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
pub fn namespace_put(name: &str, uid: &str, labels: Value, owner: Option<Value>, now: &str) -> Option<Put> {
    let served = by_kind("Namespace")?;
    let mut record = json!({
        "apiVersion": served.api_version,
        "kind": served.def.kind,
        "metadata": {
            "name": name, "uid": uid, "creationTimestamp": now, "generation": 1, "labels": labels,
        },
        "spec": {},
        "status": {"phase": "Active"},
    });
    if let Some(owner) = owner {
        record["metadata"]["ownerReferences"] = json!([owner]);
    }
    Some(put(served, record, &Facts::default(), false))
}
