//! The proof that workspaces are kept apart: tried from inside, with a neighbour that listens.

use super::prepare::{Prepared, spec};
use crate::engine::ownership::Ownership;
use crate::engine::probe::{OUTPUT_LIMIT, parse_reach, reach_command};
use crate::engine::{ContainerId, Engine, EngineError, NetworkSpec};
use crate::resource::conditions::condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Port the neighbour listens on.
const NEIGHBOUR_PORT: u16 = 8080;
/// The address cloud providers serve credentials at.
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// Ports of a host that matter most: ssh, web, Docker, databases, and our own.
const HOST_PORTS: [u16; 12] = [22, 80, 443, 2375, 2376, 3306, 5432, 6379, 6443, 8080, 8443, 9000];

/// What could be reached.
pub struct Found {
    /// A neighbour on the shared bridge.
    pub neighbour: bool,
    /// A neighbour on another network.
    across: bool,
    /// Services of the host, or the metadata address.
    host: Vec<SocketAddr>,
    bridge: String,
}

impl Found {
    /// The condition that says so. Host services are the operator's to close: Docker's API has no way to.
    pub fn condition(&self) -> Condition {
        if self.across {
            let message = "workspaces can reach each other, even from one network to another: the engine's firewall rules are not \
                 in force. Start dockerd with iptables (its default) and let nothing flush its chains";
            return condition("Isolated", false, "NeighbourReachable", message);
        }
        if self.host.is_empty() {
            let how = if self.neighbour { "a network for each workspace" } else { "the shared bridge" };
            return condition("Isolated", true, "Proved", format!("kept apart by {how}"));
        }
        let open: Vec<String> = self.host.iter().map(ToString::to_string).collect();
        let message = format!(
            "workspaces can reach {} of the host. Close it on the host: iptables -I INPUT -i {b} -m conntrack --ctstate NEW -j DROP; \
             iptables -t raw -I PREROUTING -i {b} -d 169.254.0.0/16 -j DROP",
            open.join(", "),
            b = self.bridge
        );
        condition("Isolated", false, "HostReachable", message)
    }
}

/// Tries a neighbour, the host and the metadata address from the probe. Where the neighbour answers, it is tried on a
/// network of its own: that is what workspaces get then.
pub async fn prove(engine: &dyn Engine, probe: &ContainerId, prepared: &Prepared) -> Result<Found, EngineError> {
    let mut others = vec![METADATA];
    if let Some(gateway) = prepared.network.gateway {
        others.extend(HOST_PORTS.iter().map(|p| SocketAddr::new(gateway, *p)));
    }
    let Reached { neighbour, others: host } = with_neighbour(engine, probe, prepared, &prepared.network.name, &others).await?;
    // Whenever a network is made, Docker Engine takes its rules between networks out for some milliseconds: what is reached
    // once is not yet open.
    let across =
        neighbour && on_another_network(engine, probe, prepared).await? && on_another_network(engine, probe, prepared).await?;
    Ok(Found { neighbour, across, host, bridge: bridge_of(prepared) })
}

struct Reached {
    neighbour: bool,
    others: Vec<SocketAddr>,
}

/// Tries a neighbour on a network made for this, and removes that again.
async fn on_another_network(engine: &dyn Engine, probe: &ContainerId, prepared: &Prepared) -> Result<bool, EngineError> {
    let owner = Ownership { role: "neighbour".into(), ..prepared.owner.clone() };
    let name = format!("{}-neighbour", prepared.network.name);
    if let Some(left_over) = engine.network(&name).await?.filter(|n| owner.proves(&n.labels)) {
        engine.remove_network(&left_over.id).await?;
    }
    let spec = NetworkSpec { name: name.clone(), labels: owner.labels(), subnet: None, bridge: None, inter_container: true };
    let id = engine.create_network(&spec).await?;
    let reached = with_neighbour(engine, probe, prepared, &name, &[]).await;
    engine.remove_network(&id).await?;
    Ok(reached?.neighbour)
}

/// Tries a listening neighbour on this network, and what else is asked for.
async fn with_neighbour(
    engine: &dyn Engine,
    probe: &ContainerId,
    prepared: &Prepared,
    network: &str,
    others: &[SocketAddr],
) -> Result<Reached, EngineError> {
    let name = format!("{}-neighbour", prepared.network.name);
    let owner = Ownership { role: "neighbour".into(), ..prepared.owner.clone() };
    if let Some(left_over) = engine.inspect(&name).await?.filter(|c| owner.proves(&c.labels)) {
        engine.remove(&left_over.id).await?;
    }
    let mut peer = spec(name.clone(), &prepared.image, network, &owner);
    let listen = format!("while :; do nc -l -p {NEIGHBOUR_PORT} </dev/null >/dev/null; done");
    peer.command = Some(vec!["sh".into(), "-c".into(), listen]);
    let id = engine.create(&peer).await?;
    let tried = try_all(engine, probe, &id, network, others).await;
    engine.remove(&id).await?;
    tried
}

fn bridge_of(prepared: &Prepared) -> String {
    prepared.network.options.get("com.docker.network.bridge.name").cloned().unwrap_or_else(|| "ds+".into())
}

async fn try_all(
    engine: &dyn Engine,
    probe: &ContainerId,
    peer: &ContainerId,
    network: &str,
    others: &[SocketAddr],
) -> Result<Reached, EngineError> {
    engine.start(peer).await?;
    let seen = engine.inspect(peer.as_str()).await?;
    let Some(address) = seen.and_then(|c| c.networks.get(network).copied().flatten()) else {
        return Err(EngineError::Failed("the neighbour for the isolation proof has no address".into()));
    };
    // The neighbour must be listening, or silence would prove nothing: it is asked from its own side first.
    await_listening(engine, peer).await?;
    let neighbour = SocketAddr::new(address, NEIGHBOUR_PORT);
    let targets: Vec<SocketAddr> = others.iter().copied().chain([neighbour]).collect();
    let (found, others): (Vec<_>, Vec<_>) = reach(engine, probe, &targets).await?.into_iter().partition(|a| *a == neighbour);
    Ok(Reached { neighbour: !found.is_empty(), others })
}

async fn await_listening(engine: &dyn Engine, peer: &ContainerId) -> Result<(), EngineError> {
    let itself = [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), NEIGHBOUR_PORT)];
    for _ in 0..20 {
        if !reach(engine, peer, &itself).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(EngineError::Failed(
        "the neighbour for the isolation proof does not listen: is the probe's image a busybox with nc?".into(),
    ))
}

async fn reach(engine: &dyn Engine, from: &ContainerId, targets: &[SocketAddr]) -> Result<Vec<SocketAddr>, EngineError> {
    let out = engine.exec_output(from, &reach_command(targets)?, OUTPUT_LIMIT).await?;
    parse_reach(&String::from_utf8_lossy(&out.stdout))
}
