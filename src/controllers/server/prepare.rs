//! What every server has of ours besides workspaces: the shared bridge, and a small probe container.

use super::super::context::Context;
use super::super::retry::PassError;
use super::super::status::{Pass, still_so};
use super::super::workspace::have_one;
use super::subnet;
use crate::engine::ownership::Ownership;
use crate::engine::probe::{
    Disk, Memory, OUTPUT_LIMIT, Ticks, disk_command, memory_command, parse_disk, parse_memory, parse_ticks,
};
use crate::engine::{
    Attach, Container, ContainerId, ContainerSpec, ContainerState, Engine, EngineError, Labels, Network, NetworkSpec,
};
use crate::plan::image::{Image, probe_image};
use crate::resource::names::bridges;
use crate::resource::{DockerServer, DockerServerStatus};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The server, prepared.
pub struct Prepared {
    /// The probe, if its image could be had.
    pub probe: Option<ContainerId>,
    /// Why there is none.
    pub missing: String,
    /// The shared bridge.
    pub network: Network,
    /// Image of the probe.
    pub image: String,
    /// The bridge was made just now.
    pub fresh: bool,
    /// Whose these are.
    pub owner: Ownership,
}

/// Name of an installation's shared bridge, the same on every server.
pub fn shared_network(instance: &str) -> String {
    format!("ds-{}", short(instance))
}

fn short(instance: &str) -> &str {
    instance.get(..8).unwrap_or(instance)
}

/// Makes the bridge and the probe where they are missing.
pub async fn prepare(
    ctx: &Context,
    record: &DockerServer,
    engine: &Arc<dyn Engine>,
    pass: &mut Pass<DockerServerStatus>,
) -> Result<Prepared, PassError> {
    let owner = Ownership {
        instance: ctx.instance.clone(),
        uid: record.uid().unwrap_or_default(),
        kind: "DockerServer".into(),
        namespace: None,
        name: record.name_any(),
        role: "network".into(),
    };
    let (network, fresh) = network(ctx, engine.as_ref(), record, &owner, pass).await?;
    let image = probe_image(&ctx.settings().images);
    if let Err(e) = have_one(ctx, &record.name_any(), engine, &Image::AsItIs(image.clone())).await {
        if e.reason == "Pulling" && pass.status.network_mode.is_none() {
            return Err(PassError { condition: "Prepared", ..e });
        }
        let missing = format!(
            "the probe's image cannot be had ({}): memory in use, disk and isolation are not known. Load it, or set \
             spec.images.probe in Settings",
            e.message
        );
        pass.holds("Prepared", "WithoutProbe");
        return Ok(Prepared { probe: None, missing, network, image, fresh, owner });
    }
    let role = Ownership { role: "probe".into(), ..owner.clone() };
    let probe = probe(ctx, engine.as_ref(), record, &image, &network, &role, pass).await?;
    pass.holds("Prepared", "Prepared");
    Ok(Prepared { probe: Some(probe), missing: String::new(), network, image, fresh, owner })
}

/// Whether a server-wide object is this record's, or was that of a record which is gone: one deleted while its server
/// did not answer leaves its bridge behind, with workspaces on it.
pub fn is_ours(ctx: &Context, found: &Labels, record: &DockerServer) -> bool {
    let Some(owner) = Ownership::read(found) else { return false };
    let another = |s: &DockerServer| s.uid().as_ref() == Some(&owner.uid) && s.uid() != record.uid();
    owner.instance == ctx.instance && owner.kind == "DockerServer" && !ctx.caches.servers.state().iter().any(|s| another(s))
}

async fn network(
    ctx: &Context,
    engine: &dyn Engine,
    record: &DockerServer,
    owner: &Ownership,
    pass: &mut Pass<DockerServerStatus>,
) -> Result<(Network, bool), PassError> {
    let instance = &ctx.instance;
    let name = shared_network(instance);
    let failed = |e: EngineError| PassError::engine("Prepared", &e);
    let engine_id = pass.status.engine_id.clone().unwrap_or_default();
    let ours = |n: Network| match whose(ctx, record, owner, &n, &engine_id) {
        Some(not_ours) => Err(not_ours),
        None => Ok(n),
    };
    if let Some(found) = engine.network(&name).await.map_err(failed)? {
        return Ok((ours(found)?, false));
    }
    still_so(&ctx.frame.client, record).await?;
    let (subnets, routed) = subnet::candidates(record.spec.is_local());
    let mut last = None;
    for subnet in subnets {
        let spec = NetworkSpec {
            name: name.clone(),
            labels: owner.labels(),
            subnet: Some(subnet.into()),
            bridge: Some(bridges(instance)),
            inter_container: false,
        };
        match engine.create_network(&spec).await {
            Ok(_) | Err(EngineError::Conflict(_)) => {
                pass.did(format!("created network {name}"));
                let found = engine.network(&name).await.map_err(failed)?;
                let gone = || PassError::transient("Prepared", "ObjectVanished", "the shared network is gone again");
                // Another record may have been quicker.
                return Ok((ours(found.ok_or_else(gone)?)?, true));
            }
            // Another network on this host may use the subnet.
            Err(e @ (EngineError::Invalid(_) | EngineError::Failed(_))) => last = Some(e),
            Err(e) => return Err(failed(e)),
        }
    }
    let mut message = "no subnet for the workspaces' shared bridge is free on the server".to_owned();
    if !routed.is_empty() {
        message.push_str(&format!("; routes of this host (`ip route`) lead to {}", routed.join(", ")));
    }
    message.extend(last.map(|e| format!("; {e}")));
    Err(PassError::transient("Prepared", "NoSubnet", message))
}

/// Another record that says this engine is its own.
pub fn also_of(ctx: &Context, record: &DockerServer, engine_id: &str) -> Option<Arc<DockerServer>> {
    let says = |s: &DockerServer| s.status.as_ref().and_then(|s| s.engine_id.as_deref()) == Some(engine_id);
    ctx.caches.servers.state().into_iter().find(|s| s.uid() != record.uid() && says(s))
}

/// Why the bridge is not this record's, if it is not. Two records for one engine would each take for strays what is the other's. One
/// engine they are where the bridge is another's, or was left behind by one that is gone and both find it on an engine of one id; the
/// id alone does not tell, for machines that were made as copies of one have the same.
fn whose(ctx: &Context, record: &DockerServer, own: &Ownership, found: &Network, engine_id: &str) -> Option<PassError> {
    let other = match is_ours(ctx, &found.labels, record) {
        true if own.proves(&found.labels) => return None,
        true => also_of(ctx, record, engine_id)?,
        false => {
            let owner = Ownership::read(&found.labels).filter(|o| o.instance == ctx.instance);
            let owner = owner.and_then(|o| ctx.caches.servers.state().into_iter().find(|s| s.uid().as_ref() == Some(&o.uid)));
            let Some(owner) = owner else { return Some(taken("network", &found.name)) };
            owner
        }
    };
    let message = format!(
        "this engine is that of server {} already, and one record is enough for it: delete this one, or correct its host",
        other.name_any()
    );
    Some(PassError::stalled("Prepared", "EngineTaken", message))
}

pub(super) fn taken(what: &str, name: &str) -> PassError {
    let message = format!(
        "a {what} named {name:?} is there that is not this server record's; it is left alone. Rename or remove it to go on"
    );
    PassError::stalled("Prepared", "NameTaken", message)
}

async fn probe(
    ctx: &Context,
    engine: &dyn Engine,
    record: &DockerServer,
    image: &str,
    network: &Network,
    owner: &Ownership,
    pass: &mut Pass<DockerServerStatus>,
) -> Result<ContainerId, PassError> {
    let name = format!("{}-probe", network.name);
    let failed = |e: EngineError| PassError::engine("Prepared", &e);
    let found = engine.inspect(&name).await.map_err(failed)?;
    if let Some(c) = &found {
        if !is_ours(ctx, &c.labels, record) {
            return Err(taken("container", &name));
        }
        // Made by a process that ended before it could start it.
        if c.state == ContainerState::Created && owner.proves(&c.labels) && c.networks.contains_key(&network.name) {
            engine.start(&c.id).await.map_err(failed)?;
            pass.did("started the probe");
            return Ok(c.id.clone());
        }
        if usable(c, network) && owner.proves(&c.labels) {
            return Ok(c.id.clone());
        }
    }
    still_so(&ctx.frame.client, record).await?;
    if let Some(broken) = found {
        engine.remove(&broken.id).await.map_err(failed)?;
    }
    let id = engine.create(&spec(name, image, &network.name, owner)).await.map_err(failed)?;
    engine.start(&id).await.map_err(failed)?;
    pass.did("started the probe");
    Ok(id)
}

fn usable(c: &Container, network: &Network) -> bool {
    c.state == ContainerState::Running && c.networks.get(&network.name).is_some_and(Option::is_some)
}

/// A small container that only waits to be asked.
pub fn spec(name: String, image: &str, network: &str, owner: &Ownership) -> ContainerSpec {
    let wait = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"];
    ContainerSpec {
        name,
        image: image.to_owned(),
        command: Some(wait.map(String::from).to_vec()),
        workdir: None,
        env: BTreeMap::new(),
        labels: owner.labels(),
        mounts: BTreeMap::new(),
        attach: Attach::Network(network.to_owned()),
        hostname: None,
        memory: 32 << 20,
        nano_cpus: 500_000_000,
        pids: 128,
    }
}

/// Reads memory, disk, and what the processors did, through the probe.
pub async fn figures(engine: &dyn Engine, probe: &ContainerId) -> Result<(Memory, Disk, Option<Ticks>), EngineError> {
    let read = |command: Vec<String>| async move {
        let out = engine.exec_output(probe, &command, OUTPUT_LIMIT).await?;
        Ok::<_, EngineError>(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let memory = read(memory_command()).await?;
    Ok((parse_memory(&memory)?, parse_disk(&read(disk_command()).await?)?, parse_ticks(&memory)))
}
