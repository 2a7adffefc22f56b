//! From Docker's models to the port's.

use crate::engine::{
    Container, ContainerId, ContainerState, ContainerSummary, EngineError, EngineEvent, Labels, Network, Resources, Volume,
};
use crate::resource::labels;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum as Inspected, ContainerSummary as DockerSummary,
    ContainerSummaryStateEnum as Listed, EndpointSettings, EventMessage, HostConfig, IpamConfig, MountPoint,
    Network as DockerNetwork, RestartPolicyNameEnum, Volume as DockerVolume,
};
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

fn id(text: Option<&str>) -> Result<ContainerId, EngineError> {
    text.and_then(ContainerId::parse)
        .ok_or_else(|| EngineError::Failed("the engine told of a container without a 64-digit id".into()))
}

fn plain_name(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

/// A container in a list. Docker lists links as further names with two slashes; its own name has one.
pub(super) fn summary(from: DockerSummary) -> Result<ContainerSummary, EngineError> {
    let names = from.names.unwrap_or_default();
    let own = names.iter().map(|n| plain_name(n)).find(|n| !n.contains('/')).unwrap_or_default();
    Ok(ContainerSummary {
        id: id(from.id.as_deref())?,
        name: own,
        labels: sorted(from.labels),
        state: match from.state {
            Some(Listed::RUNNING | Listed::STOPPING) => ContainerState::Running,
            Some(Listed::PAUSED) => ContainerState::Paused,
            Some(Listed::RESTARTING) => ContainerState::Restarting,
            Some(Listed::REMOVING) => ContainerState::Removing,
            Some(Listed::EXITED) => ContainerState::Exited,
            Some(Listed::DEAD) => ContainerState::Dead,
            Some(Listed::CREATED | Listed::EMPTY) | None => ContainerState::Created,
        },
        networks: addresses(from.network_settings.and_then(|n| n.networks)),
        mounts: volumes(from.mounts),
    })
}

/// Volumes among what is mounted.
fn volumes(mounts: Option<Vec<MountPoint>>) -> BTreeMap<String, String> {
    let named = |m: MountPoint| match m.typ.as_deref() {
        Some("volume") => Some((m.name?, m.destination?)),
        _ => None,
    };
    mounts.unwrap_or_default().into_iter().filter_map(named).collect()
}

/// Docker says "" where a container has no address, as when it does not run.
fn addresses(networks: Option<HashMap<String, EndpointSettings>>) -> BTreeMap<String, Option<IpAddr>> {
    let address = |endpoint: EndpointSettings| endpoint.ip_address.and_then(|text| text.parse().ok());
    networks.unwrap_or_default().into_iter().map(|(name, endpoint)| (name, address(endpoint))).collect()
}

/// A container, inspected.
pub(super) fn container(from: ContainerInspectResponse) -> Result<Container, EngineError> {
    let state = from.state.unwrap_or_default();
    let config = from.config.unwrap_or_default();
    let host = from.host_config.unwrap_or_default();
    Ok(Container {
        id: id(from.id.as_deref())?,
        name: plain_name(&from.name.unwrap_or_default()),
        labels: sorted(config.labels),
        state: match state.status {
            Some(Inspected::RUNNING | Inspected::STOPPING) => ContainerState::Running,
            Some(Inspected::PAUSED) => ContainerState::Paused,
            Some(Inspected::RESTARTING) => ContainerState::Restarting,
            Some(Inspected::REMOVING) => ContainerState::Removing,
            Some(Inspected::EXITED) => ContainerState::Exited,
            Some(Inspected::DEAD) => ContainerState::Dead,
            Some(Inspected::CREATED | Inspected::EMPTY) | None => ContainerState::Created,
        },
        exit_code: state.exit_code.unwrap_or_default(),
        error: state.error.unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or_default(),
        started_at: state.started_at.unwrap_or_default(),
        networks: addresses(from.network_settings.and_then(|n| n.networks)),
        mounts: volumes(from.mounts),
        network_of: host.network_mode.as_deref().and_then(|m| m.strip_prefix("container:")).map(str::to_owned),
        resources: Some(resources(&host)),
    })
}

/// What is below 0, or not there, is no limit.
fn resources(host: &HostConfig) -> Resources {
    let policy = host.restart_policy.as_ref().and_then(|p| p.name);
    Resources {
        memory: number(host.memory),
        swap: host.memory_swap != host.memory,
        nano_cpus: number(host.nano_cpus),
        pids: number(host.pids_limit),
        restarts: !matches!(policy, None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO)),
    }
}

fn number<N: TryFrom<i64> + Default>(told: Option<i64>) -> N {
    told.and_then(|n| N::try_from(n).ok()).unwrap_or_default()
}

/// A network.
pub(super) fn network(from: DockerNetwork) -> Network {
    let pools = from.ipam.and_then(|i| i.config).unwrap_or_default();
    let told = pools.iter().filter_map(|p| p.gateway.as_deref()).find_map(|g| g.parse().ok());
    // An engine that was told the subnet does not say the gateway it chose: the first address (libnetwork's default).
    let first = |p: &IpamConfig| p.subnet.as_deref()?.parse::<Ipv4Net>().ok()?.hosts().next().map(IpAddr::from);
    let gateway = told.or_else(|| pools.iter().find_map(first));
    Network {
        id: from.id.unwrap_or_default(),
        name: from.name.unwrap_or_default(),
        labels: sorted(from.labels),
        options: sorted(from.options),
        subnets: pools.into_iter().filter_map(|p| p.subnet).collect(),
        gateway,
    }
}

/// A volume.
pub(super) fn volume(from: DockerVolume) -> Volume {
    Volume { name: from.name, labels: from.labels.into_iter().collect() }
}

/// An event of this installation, or `None` for one that is not ours to see.
///
/// Docker gives a container's labels with its events, but none with those of networks and volumes. So those events
/// are passed on whatever object they are of, without labels. `connect` and `disconnect` carry the container's id
/// as their name: that is whose world changed.
pub(super) fn event(from: EventMessage, instance: &str) -> Option<EngineEvent> {
    let kind = from.typ.map(|t| t.to_string()).unwrap_or_default();
    let action = from.action.unwrap_or_default();
    let actor = from.actor.unwrap_or_default();
    let mut attributes = actor.attributes.unwrap_or_default();
    let name = match (kind.as_str(), action.as_str()) {
        ("network", "connect" | "disconnect") => attributes.remove("container"),
        ("volume", _) => actor.id,
        _ => attributes.remove("name"),
    }
    .unwrap_or_default();
    let labels: Labels = attributes.into_iter().filter(|(k, _)| k.starts_with(labels::PREFIX)).collect();
    if kind == "container" && labels.get(labels::INSTANCE).map(String::as_str) != Some(instance) {
        return None;
    }
    Some(EngineEvent { kind, action, labels, name })
}
