//! What is on the engine under the names a workspace wants, and whether it is provably its own.

use super::Restarts;
use crate::controllers::retry::PassError;
use crate::engine::ownership::Ownership;
use crate::engine::{Container, ContainerState, Engine, Resources};
use crate::plan::workspace::{Seen, SeenContainer, State, Wanted, WantedContainer, WantedNetwork, WantedVolume};
use crate::resource::{Identity, labels};
use futures::future::try_join_all;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whose objects are looked for.
#[derive(Clone, Debug)]
pub struct Owner {
    /// This installation.
    pub instance: String,
    /// The record's uid.
    pub record: String,
    /// What its objects are called by.
    pub identity: Identity,
    /// Its project.
    pub project: String,
    /// Its project's uid.
    pub project_uid: String,
}

impl Owner {
    /// An object of the workspace in this role.
    pub fn of(&self, role: &str) -> Ownership {
        Ownership {
            instance: self.instance.clone(),
            uid: self.identity.uid.clone(),
            kind: "Workspace".into(),
            namespace: Some(self.identity.namespace.clone()),
            name: self.identity.name.clone(),
            role: role.to_owned(),
        }
    }

    /// A volume: the workspace's own, or a folder that all workspaces of the project share.
    pub fn of_volume(&self, volume: &WantedVolume) -> Ownership {
        let own = self.of(&volume.role);
        if !volume.shared {
            return own;
        }
        let (uid, namespace) = (self.project_uid.clone(), Some(self.project.clone()));
        Ownership { uid, namespace, kind: "Project".into(), name: self.project.clone(), ..own }
    }
}

/// What was found.
pub struct Observed {
    /// For the plan.
    pub seen: Seen,
    /// The containers themselves, by name.
    pub containers: BTreeMap<String, Container>,
}

impl Observed {
    /// The main container, if it is there and the workspace's own.
    pub fn main(&self, wanted: &Wanted) -> Option<&Container> {
        let ours = self.seen.containers.get(&wanted.main.name).is_some_and(|c| c.ours);
        self.containers.get(&wanted.main.name).filter(|_| ours)
    }

    /// Where the main container is reached, if it is running on its network.
    pub fn address(&self, wanted: &Wanted) -> Option<IpAddr> {
        let main = self.main(wanted).filter(|m| m.state == ContainerState::Running)?;
        main.networks.get(wanted.network.name()).copied().flatten()
    }
}

/// Looks. What a list has `listed` is believed of a container that runs alone: companions depend on when it started,
/// which no list tells.
pub async fn observe(
    engine: &dyn Engine,
    owner: &Owner,
    wanted: &Wanted,
    listed: Option<Container>,
    restarts: &Restarts,
    cores: Option<u32>,
) -> Result<Observed, PassError> {
    let failed = |e| PassError::engine("ContainerRunning", &e);
    let main = match listed.filter(|c| c.name == wanted.main.name && wanted.sidecars.is_empty()) {
        Some(listed) => Some(listed),
        None => engine.inspect(&wanted.main.name).await.map_err(failed)?,
    };
    let mut seen = Seen::default();
    // A running main container that mounts all its volumes proves that they are there.
    let mounted =
        |name: &String| main.as_ref().is_some_and(|m| m.state == ContainerState::Running && m.mounts.contains_key(name));
    let unproven = wanted.volumes.iter().filter(|v| !mounted(&v.name));
    let looked = try_join_all(unproven.map(|v| async move { engine.volume(&v.name).await.map(|found| (v, found)) }))
        .await
        .map_err(failed)?;
    for (v, found) in looked {
        if let Some(found) = found {
            seen.volumes.insert(v.name.clone(), owner.of_volume(v).proves(&found.labels));
        }
    }
    seen.volumes.extend(wanted.volumes.iter().filter(|v| mounted(&v.name)).map(|v| (v.name.clone(), true)));
    if let WantedNetwork::Own(name) = &wanted.network {
        seen.network = engine.network(name).await.map_err(failed)?.map(|n| owner.of("network").proves(&n.labels));
    }
    if let Some(main) = &main {
        let network = wanted.network.name();
        let on = main.networks.get(network).is_some_and(|ip| ip.is_some() || main.state != ContainerState::Running);
        let others = main.networks.keys().filter(|n| *n != network).cloned().collect();
        seen.containers
            .insert(main.name.clone(), SeenContainer { others, ..view(main, owner, &wanted.main, on, restarts, cores) });
    }
    let sidecars = try_join_all(wanted.sidecars.iter().map(|s| async move { engine.inspect(&s.name).await.map(|c| (s, c)) }));
    let mut containers = BTreeMap::new();
    for (spec, found) in sidecars.await.map_err(failed)? {
        let Some(c) = found else { continue };
        let joined = main.as_ref().is_some_and(|m| c.network_of.as_deref() == Some(m.id.as_str()));
        seen.containers.insert(c.name.clone(), view(&c, owner, spec, joined, restarts, cores));
        containers.insert(c.name.clone(), c);
    }
    containers.extend(main.map(|m| (m.name.clone(), m)));
    Ok(Observed { seen, containers })
}

/// What a container may use on a server with so many cores. A limit above the cores it has an engine refuses, and more than
/// all of them is no limit anyway.
pub fn resources(wanted: &WantedContainer, cores: Option<u32>) -> Resources {
    // A limit is at most 1,024 cores (schema), so this cannot overflow.
    let cpus = (wanted.limits.cpu * 1e9) as u64;
    let cpus = cores.filter(|n| *n > 0).map_or(cpus, |n| cpus.min(u64::from(n) * 1_000_000_000));
    Resources::limited(u64::from(wanted.limits.memory_mb) << 20, cpus, wanted.limits.pids)
}

/// Whether a container may use what it should. One that was made from other records than there are now is as it was made.
fn is_limited(found: &Container, owner: &Owner, wanted: &WantedContainer, restarts: &Restarts, cores: Option<u32>) -> bool {
    let outdated = found.labels.get(labels::DIGEST) != Some(&wanted.digest);
    let known = cores.is_some_and(|n| n > 0);
    let Some(has) = found.resources.filter(|_| known && !outdated) else { return true };
    has == resources(wanted, cores) || restarts.is_all_it_gives(&owner.record, found)
}

fn view(
    found: &Container,
    owner: &Owner,
    wanted: &WantedContainer,
    attached: bool,
    restarts: &Restarts,
    cores: Option<u32>,
) -> SeenContainer {
    let state = match found.state {
        ContainerState::Running => State::Running,
        ContainerState::Paused => State::Paused,
        ContainerState::Exited if restarts.is_stuck(&owner.record, found) => State::Stuck,
        // A removal failed half-way: it can be removed, and nothing else.
        ContainerState::Dead => State::Stuck,
        ContainerState::Created | ContainerState::Exited => State::Stopped,
        ContainerState::Restarting | ContainerState::Removing => State::Busy,
    };
    SeenContainer {
        id: found.id.as_str().to_owned(),
        ours: owner.of(&wanted.role).proves(&found.labels),
        digest: found.labels.get(labels::DIGEST).cloned().unwrap_or_default(),
        state,
        attached,
        others: Vec::new(),
        limited: is_limited(found, owner, wanted, restarts, cores),
        started_at: found.started_at.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::environment::HardLimits;
    use crate::plan::image::Image;

    #[test]
    fn a_limit_is_at_most_the_cores_that_the_server_has() {
        let cpus = |cpu, cores| {
            let wanted = WantedContainer {
                name: "a".into(),
                role: "main".into(),
                image: Image::AsItIs("a:1".into()),
                command: None,
                workdir: None,
                user: None,
                env: BTreeMap::new(),
                mounts: BTreeMap::new(),
                limits: HardLimits { cpu, memory_mb: 64, pids: 8 },
                digest: String::new(),
            };
            resources(&wanted, cores).nano_cpus
        };
        assert_eq!(cpus(2.0, Some(1)), 1_000_000_000);
        assert_eq!(cpus(0.5, Some(1)), 500_000_000);
        assert_eq!(cpus(2.0, Some(64)), 2_000_000_000);
        assert_eq!(cpus(2.0, None), 2_000_000_000);
        assert_eq!(cpus(2.0, Some(0)), 2_000_000_000, "an engine that does not tell has some");
    }
}
