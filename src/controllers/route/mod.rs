//! The route loop: says of each route whether the proxy really serves it. The table itself is kept in one place,
//! [`Table`], since a proxy takes all routes at once.

mod closing;
mod table;

pub use table::Table;

use super::context::Context;
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use crate::proxy::ProxyError;
use crate::resource::{Route, RouteStatus};
use async_trait::async_trait;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;
use table::Standing;

/// In case the table's news is missed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The route loop.
pub struct Routes(pub Context, pub Arc<Table>);

#[async_trait]
impl Loop for Routes {
    type Record = Route;
    const NAME: &'static str = "route";

    async fn reconcile(&self, record: &Route, pass: &mut Pass<RouteStatus>) -> Result<(), PassError> {
        pass.status.url = Some(self.0.url(&record.spec.host));
        let standing = self.1.standing(&record.uid().unwrap_or_default());
        pass.status.upstream = match &standing {
            Standing::Live(upstream) | Standing::Published(upstream) | Standing::Unproved(upstream, _) => {
                Some(upstream.to_string())
            }
            _ => None,
        };
        pass.holds("Accepted", "Accepted");
        let waiting = |reason, message: String| Err(PassError::waiting("Programmed", reason, message, LOOK_AGAIN));
        match standing {
            Standing::Live(_) => {
                pass.holds("Programmed", "Live");
                Ok(())
            }
            Standing::Published(_) => waiting("Pending", "the proxy has been told and has not taken it up yet".into()),
            Standing::Unproved(_, e @ ProxyError::Unreachable(_)) => waiting("ProxyUnreachable", e.to_string()),
            Standing::Unproved(_, e @ ProxyError::Unusable(_)) => waiting("ProxyUnusable", e.to_string()),
            Standing::Refused(words) => waiting("Refused", format!("the proxy refuses it: {words}")),
            Standing::NoUpstream if self.0.waits_for_port(record) => {
                let message = format!("port {} is not ready yet: its readiness probe says so", record.spec.port);
                waiting("ServiceNotReady", message)
            }
            Standing::NoUpstream if self.0.beyond(record).is_some() => {
                let message = format!(
                    "the gateway of {}, which it goes through, does not lead there yet: see the server's condition GatewayReady",
                    self.0.beyond(record).unwrap_or_default()
                );
                waiting("GatewayNotReady", message)
            }
            Standing::NoUpstream => {
                waiting("WorkspaceNotRunning", format!("workspace {:?} is not running", record.spec.workspace))
            }
            // The table wakes it as soon as there is something to say.
            Standing::Unknown => Err(PassError::unknown("the route table is being made", LOOK_AGAIN)),
        }
    }
}
