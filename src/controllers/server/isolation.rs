//! The proof that workspaces are kept apart: tried from inside, with a neighbour that listens.

use super::prepare::{Prepared, spec};
use crate::engine::ownership::Ownership;
use crate::engine::probe::{OUTPUT_LIMIT, parse_reach, reach_command};
use crate::engine::{ContainerId, Engine, EngineError};
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
    /// Services of the host, or the metadata address.
    pub host: Vec<SocketAddr>,
    bridge: String,
}

impl Found {
    /// The condition that says so. Host services are the operator's to close: Docker's API has no way to.
    pub fn condition(&self) -> Condition {
        if self.host.is_empty() {
            let how = if self.neighbour { "a network for each workspace" } else { "the shared bridge" };
            return condition("Isolated", true, "Proved", format!("kept apart by {how}"));
        }
        let open: Vec<String> = self.host.iter().map(ToString::to_string).collect();
        let message = format!(
            "workspaces can reach {} of the host. Close it on the host: iptables -I INPUT -i {b} -m conntrack --ctstate NEW -j DROP; \
             iptables -I DOCKER-USER -i {b} -d 169.254.0.0/16 -j DROP",
            open.join(", "),
            b = self.bridge
        );
        condition("Isolated", false, "HostReachable", message)
    }
}

/// Tries a neighbour, the host and the metadata address from the probe.
pub async fn prove(engine: &dyn Engine, probe: &ContainerId, prepared: &Prepared) -> Result<Found, EngineError> {
    let name = format!("{}-neighbour", prepared.network.name);
    let owner = Ownership { role: "neighbour".into(), ..prepared.owner.clone() };
    if let Some(left_over) = engine.inspect(&name).await?.filter(|c| owner.proves(&c.labels)) {
        engine.remove(&left_over.id).await?;
    }
    let mut peer = spec(name.clone(), &prepared.image, &prepared.network.name, &owner);
    let listen = format!("while :; do nc -l -p {NEIGHBOUR_PORT} </dev/null >/dev/null; done");
    peer.command = Some(vec!["sh".into(), "-c".into(), listen]);
    let id = engine.create(&peer).await?;
    let tried = try_all(engine, probe, &id, prepared).await;
    engine.remove(&id).await?;
    let open = tried?;
    let subnets = &prepared.network.subnets;
    let (neighbours, host): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|a| a.port() == NEIGHBOUR_PORT && !is_gateway(a, prepared) && !subnets.is_empty());
    Ok(Found { neighbour: !neighbours.is_empty(), host, bridge: bridge_of(prepared) })
}

fn is_gateway(address: &SocketAddr, prepared: &Prepared) -> bool {
    Some(address.ip()) == prepared.network.gateway
}

fn bridge_of(prepared: &Prepared) -> String {
    prepared.network.options.get("com.docker.network.bridge.name").cloned().unwrap_or_else(|| "ds+".into())
}

async fn try_all(
    engine: &dyn Engine,
    probe: &ContainerId,
    peer: &ContainerId,
    prepared: &Prepared,
) -> Result<Vec<SocketAddr>, EngineError> {
    engine.start(peer).await?;
    let seen = engine.inspect(peer.as_str()).await?;
    let neighbour = seen.and_then(|c| c.networks.get(&prepared.network.name).copied().flatten());
    let Some(neighbour) = neighbour else {
        return Err(EngineError::Failed("the neighbour for the isolation proof has no address".into()));
    };
    // The neighbour must be listening, or silence would prove nothing: it is asked from its own side first.
    await_listening(engine, peer).await?;
    let mut targets = vec![SocketAddr::new(neighbour, NEIGHBOUR_PORT), METADATA];
    if let Some(gateway) = prepared.network.gateway {
        targets.extend(HOST_PORTS.iter().map(|p| SocketAddr::new(gateway, *p)));
    }
    reach(engine, probe, &targets).await
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
