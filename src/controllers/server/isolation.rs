//! The proof that workspaces are kept apart: tried from inside, with a neighbour that listens.

use super::prepare::{Prepared, spec};
use crate::engine::ownership::Ownership;
use crate::engine::probe::{MAX_TARGETS, OUTPUT_LIMIT, parse_reach, reach_command};
use crate::engine::{ContainerId, Engine, EngineError, NetworkSpec};
use crate::resource::DockerServer;
use crate::resource::conditions::condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Port the neighbour listens on.
const NEIGHBOUR_PORT: u16 = 8080;
/// Where cloud providers serve credentials: all but two of them, Azure's own channel to its hosts (WireServer, HostGAPlugin), and Alibaba's.
const METADATA: [SocketAddr; 4] = [
    metadata([169, 254, 169, 254], 80),
    metadata([168, 63, 129, 16], 80),
    metadata([168, 63, 129, 16], 32526),
    metadata([100, 100, 100, 200], 80),
];

const fn metadata([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// Ports of a host that matter most, where it cannot be asked what listens: ssh, web, Docker and Swarm, databases, what manages
/// and measures hosts, and our own.
const HOST_PORTS: [u16; 26] = [
    22, 53, 80, 111, 443, 2222, 2375, 2376, 2377, 3000, 3306, 4243, 5000, 5432, 6379, 6443, 8000, 8080, 8443, 8888, 9000, 9090,
    9100, 9323, 10250, 27017,
];
/// Names are looked up for so long.
const LOOKED_UP_IN: Duration = Duration::from_secs(2);
/// Tried in one command; the neighbour comes on top.
const AT_ONCE: usize = MAX_TARGETS - 1;

/// What could be reached.
pub struct Found {
    /// A neighbour on the shared bridge.
    pub neighbour: bool,
    /// A neighbour on another network.
    across: bool,
    /// Services of the host, of other engines, or the metadata address.
    host: Vec<SocketAddr>,
    server: String,
}

/// What no workspace of a server may reach, besides its neighbours: cloud metadata, all that listens on the host as far as that is
/// known, the ports that matter most where it is not, other servers' engines, and the control plane's machine.
pub fn forbidden(
    server: &DockerServer,
    others: &[Arc<DockerServer>],
    listening: &[SocketAddr],
    gateway: Option<IpAddr>,
    control_plane: &[SocketAddr],
) -> Vec<SocketAddr> {
    let spec = &server.spec;
    let address = |s: &DockerServer| {
        let at = s.spec.at().and_then(|(host, port)| Some(SocketAddr::new(host.parse().ok()?, port)));
        at.filter(|at| !at.ip().is_loopback())
    };
    let own = [gateway, address(server).map(|at| at.ip())].into_iter().flatten();
    let ports = HOST_PORTS.into_iter().chain(spec.at().map(|(_, port)| port));
    let usual = own.flat_map(|host| ports.clone().map(move |port| SocketAddr::new(host, port)));
    // An address of zeros is all of the host's. Workspaces have no IPv6, so of what listens there alone nothing is asked.
    let told = listening.iter().filter_map(|at| match at.ip() {
        ip if ip.is_unspecified() => Some(SocketAddr::new(gateway?, at.port())),
        ip => ip.is_ipv4().then_some(*at),
    });
    let engines = others.iter().filter(|s| s.metadata.name != server.metadata.name && !s.spec.is_local());
    let engines = engines.filter_map(|s| address(s));
    let all: BTreeSet<SocketAddr> =
        usual.chain(told).chain(engines).chain(control_plane.iter().copied()).chain(METADATA).collect();
    all.into_iter().collect()
}

/// What of the control plane's own machine a server on another one is not to reach: the API, and the ports that matter most, at the
/// address that this machine has on the way there.
pub async fn own_machine(server: &DockerServer, api: Option<u16>) -> Vec<SocketAddr> {
    let Some(at) = server.spec.at().filter(|_| !server.spec.is_local()) else { return Vec::new() };
    let own = async {
        let way = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
        // Nothing is sent: the system only chooses the way.
        way.connect(at).await.ok()?;
        way.local_addr().ok().map(|own| own.ip()).filter(|own| !own.is_loopback())
    };
    let Ok(Some(own)) = timeout(LOOKED_UP_IN, own).await else { return Vec::new() };
    HOST_PORTS.into_iter().chain(api).map(|port| SocketAddr::new(own, port)).collect()
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
        let mut open: Vec<String> = self.host.iter().take(20).map(ToString::to_string).collect();
        let more = self.host.len() - open.len();
        open.extend((more > 0).then(|| format!("{more} more")));
        let message = format!(
            "workspaces can reach {}. Run what `devsanctum server harden --print {}` prints on the host as root, and then \
             `devsanctum server test {1}`",
            open.join(", "),
            self.server
        );
        condition("Isolated", false, "HostReachable", message)
    }
}

/// Tries a neighbour and what is forbidden from the probe. Where the neighbour answers, it is tried on a network of its own: that is
/// what workspaces get then.
pub async fn prove(
    engine: &dyn Engine,
    probe: &ContainerId,
    prepared: &Prepared,
    forbidden: &[SocketAddr],
) -> Result<Found, EngineError> {
    let (with_it, more) = forbidden.split_at(forbidden.len().min(AT_ONCE));
    let Reached { neighbour, others: mut host } =
        with_neighbour(engine, probe, prepared, &prepared.network.name, with_it).await?;
    for targets in more.chunks(MAX_TARGETS) {
        host.extend(reach(engine, probe, targets).await?);
    }
    // Whenever a network is made, Docker Engine takes its rules between networks out for some milliseconds: what is reached
    // once is not yet open.
    let across =
        neighbour && on_another_network(engine, probe, prepared).await? && on_another_network(engine, probe, prepared).await?;
    Ok(Found { neighbour, across, host, server: prepared.owner.name.clone() })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, host: &str) -> DockerServer {
        let spec = serde_json::from_value(serde_json::json!({"host": host})).unwrap();
        DockerServer::new(name, spec)
    }

    fn asked(host: &str, listening: &[&str]) -> Vec<String> {
        let listening: Vec<SocketAddr> = listening.iter().map(|a| a.parse().unwrap()).collect();
        let hosts = [host, "10.0.0.8", "rack.example", "ssh://root@10.0.0.9:2022", "ssh://root@127.0.0.1"];
        let others = hosts.map(|host| Arc::new(server(host, host)));
        let gateway = Some(IpAddr::from([10, 213, 0, 1]));
        forbidden(&others[0], &others, &listening, gateway, &["192.0.2.1:6443".parse().unwrap()])
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn all_that_listens_on_this_machine_is_asked_for_at_the_address_it_listens_at() {
        let asked = asked("unix:///var/run/docker.sock", &["0.0.0.0:4711", "10.0.0.7:4712", "[::]:4713", "[fd00::1]:4714"]);
        for target in
            ["10.213.0.1:4711", "10.0.0.7:4712", "10.213.0.1:4713", "10.213.0.1:22", "10.0.0.8:2376", "169.254.169.254:80"]
        {
            assert!(asked.iter().any(|a| a == target), "{target}: {asked:?}");
        }
        assert!(!asked.iter().any(|a| a.ends_with(":4714")), "{asked:?}");
    }

    #[test]
    fn another_host_is_asked_at_its_own_address_as_well_and_so_are_other_engines() {
        let asked = asked("10.0.0.7", &[]);
        for target in ["10.213.0.1:2376", "10.0.0.7:2376", "10.0.0.7:22", "10.0.0.8:2376", "10.0.0.9:2022", "192.0.2.1:6443"] {
            assert!(asked.iter().any(|a| a == target), "{target}: {asked:?}");
        }
        assert!(!asked.iter().any(|a| a == "10.0.0.8:22" || a.starts_with("127.")), "{asked:?}");
    }

    #[test]
    fn a_host_behind_ssh_is_asked_at_its_own_address_and_port() {
        let asked = asked("ssh://root@10.0.0.7:2022", &[]);
        for target in ["10.213.0.1:2022", "10.0.0.7:2022", "10.0.0.7:22", "168.63.129.16:32526", "100.100.100.200:80"] {
            assert!(asked.iter().any(|a| a == target), "{target}: {asked:?}");
        }
    }
}
