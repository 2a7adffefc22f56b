//! Networks: making them, and attaching containers to them anew.

use super::{CHANGE, DockerEngine, READ, harden};
use crate::engine::{ContainerId, Engine, EngineError, NetworkSpec};
use bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest};

/// What Docker says of a container that is attached already.
const THERE: &str = "already exists in network";

/// Written by hand because bollard's model has lost `CheckDuplicate`: without it, engines before 25 make a second
/// network of the same name.
pub(super) fn body(spec: &NetworkSpec) -> Result<serde_json::Value, EngineError> {
    harden::check_name("network", &spec.name)?;
    let mut options = serde_json::json!({
        "com.docker.network.bridge.enable_icc": spec.inter_container.to_string(),
    });
    if let Some(bridge) = &spec.bridge {
        harden::check_name("bridge", bridge)?;
        if bridge.len() > 15 {
            return Err(EngineError::Invalid(format!("'{bridge}' is too long for a network interface (15 characters)")));
        }
        options["com.docker.network.bridge.name"] = bridge.as_str().into();
    }
    let mut body = serde_json::json!({
        "Name": spec.name,
        "CheckDuplicate": true,
        "Driver": "bridge",
        "EnableIPv6": false,
        "Internal": false,
        "Attachable": false,
        "Labels": spec.labels,
        "Options": options,
    });
    if let Some(subnet) = &spec.subnet {
        subnet.parse::<ipnet::Ipv4Net>().map_err(|_| EngineError::Invalid(format!("'{subnet}' is not an IPv4 subnet")))?;
        body["IPAM"] = serde_json::json!({ "Driver": "default", "Config": [{ "Subnet": subnet }] });
    }
    Ok(body)
}

impl DockerEngine {
    /// Attaches a container to the network that has this name now. A container that was attached to an earlier
    /// network of the name still holds that one's id, and Docker would refuse to start it.
    pub(super) async fn attach(&self, network: &str, id: &ContainerId) -> Result<(), EngineError> {
        let Some(current) = self.network(network).await? else {
            return Err(EngineError::NotFound(format!("network {network} not found")));
        };
        let inspected = self.within(READ, self.docker.inspect_container(id.as_str(), None)).await?;
        let mut attached = inspected.network_settings.and_then(|n| n.networks).unwrap_or_default();
        if let Some(endpoint) = attached.remove(network) {
            // Before its first start a container knows its network by name only.
            let of = endpoint.network_id.unwrap_or_default();
            if of == current.id {
                return Ok(());
            }
            if !of.is_empty() {
                self.detach(&current.id, id).await?;
            }
        }
        let request = NetworkConnectRequest { container: id.as_str().to_owned(), endpoint_config: None };
        match self.within(CHANGE, self.docker.connect_network(&current.id, request)).await {
            Err(EngineError::Denied(told)) if told.contains(THERE) => Ok(()),
            Err(EngineError::Failed(text)) if text.contains(THERE) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn detach(&self, network: &str, id: &ContainerId) -> Result<(), EngineError> {
        let request = NetworkDisconnectRequest { container: id.as_str().to_owned(), force: Some(true) };
        match self.within(CHANGE, self.docker.disconnect_network(network, request)).await {
            Err(EngineError::Failed(text)) if text.contains("is not connected to") => Ok(()),
            other => other,
        }
    }
}
