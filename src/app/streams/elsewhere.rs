//! Work through a replica that does not lead is told by the records: the one that leads does not see it.

use crate::clock::Clock;
use crate::controllers::Touched;
use crate::resource::Workspace;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(60);

/// Tells it for as long as another leads.
pub async fn tell_elsewhere(client: Client, touched: Touched, leads: watch::Receiver<bool>, clock: Arc<dyn Clock>) -> Infallible {
    loop {
        tokio::time::sleep(EVERY).await;
        if *leads.borrow() {
            continue;
        }
        for (namespace, name) in touched.take() {
            let now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let seen = Patch::Merge(json!({"status": {"lastActivityAt": now}}));
            let api: Api<Workspace> = Api::namespaced(client.clone(), &namespace);
            match api.patch_status(&name, &PatchParams::default(), &seen).await {
                Err(Error::Api(status)) if status.code == 404 => {}
                Err(error) => tracing::warn!(namespace, name, %error, "work in a workspace could not be told"),
                Ok(_) => {}
            }
        }
    }
}
