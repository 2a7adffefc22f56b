//! What a server has of workspaces that are on another one by their records: what is nowhere else stays.

use crate::controllers::caches::InOrder;
use crate::controllers::context::Context;
use crate::controllers::copy::Copy;
use crate::engine::ownership::Ownership;
use crate::engine::{ContainerState, ContainerSummary, Engine, Volume};
use crate::plan::resync::Owned;
use crate::resource::{DockerServer, Workspace};
use futures::future::join_all;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long what runs in two places has to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Names told at the most.
const TOLD: usize = 10;

/// Workspaces that have something on a server that they are not on.
#[derive(Default)]
pub struct Copies {
    /// The uids of those that are whole where their records say, and where that is.
    pub spare: BTreeMap<String, String>,
    /// Those that are not, or of which that is not known.
    pub only: Vec<Arc<Workspace>>,
    /// The uids of those of them that have a container where their records say: none runs in both.
    pub twice: BTreeSet<String>,
}

/// Asks the servers that they are on.
pub async fn copies(
    ctx: &Context,
    all: &[Owned],
    known: &BTreeSet<String>,
    (containers, volumes): (&[ContainerSummary], &[Volume]),
) -> Copies {
    let mut found = Copies::default();
    let uids: BTreeSet<&str> = all.iter().map(|o| o.uid.as_str()).filter(|uid| !known.contains(*uid)).collect();
    if uids.is_empty() {
        return found;
    }
    let look = async |w: Arc<Workspace>| {
        let (uid, there) = (w.identity().uid, w.server()?.to_owned());
        let here = Copy::of(&uid, containers, volumes);
        let home = match ctx.engines.get(&there) {
            Some(engine) if !here.is_empty() => Copy::on(engine.as_ref(), &uid).await.ok(),
            _ => None,
        };
        Some((w, there, here, home))
    };
    let held = ctx.caches.workspaces.in_order(|w| uids.contains(w.identity().uid.as_str()));
    for (w, there, here, home) in join_all(held.into_iter().map(look)).await.into_iter().flatten() {
        let left = w.status.as_ref().map(|s| s.left_moves.as_slice()).unwrap_or_default();
        if here.is_empty() || home.as_ref().is_some_and(|home| here.is_spare(home, left)) {
            found.spare.insert(w.identity().uid, there);
            continue;
        }
        if home.is_some_and(|home| home.has_container()) {
            found.twice.insert(w.identity().uid);
        }
        found.only.push(w);
    }
    found
}

/// Stops what runs of them here: nothing runs in both.
pub async fn stop(engine: &dyn Engine, containers: &[ContainerSummary], twice: &BTreeSet<String>) {
    let is_twice = |c: &&ContainerSummary| {
        c.state == ContainerState::Running && Ownership::read(&c.labels).is_some_and(|o| twice.contains(&o.uid))
    };
    for container in containers.iter().filter(is_twice) {
        match engine.stop(&container.id, GRACE).await {
            Ok(()) => tracing::warn!(name = container.name, "stopped what runs on its own server by now"),
            Err(error) => tracing::warn!(%error, name = container.name, "it runs in two places, and could not be stopped"),
        }
    }
}

/// Says what stays, and why.
pub fn tell(ctx: &Context, record: &DockerServer, only: &[Arc<Workspace>]) {
    let server = record.name_any();
    let each = |w: &Arc<Workspace>| {
        format!("{}/{} (by its record on {})", w.namespace().unwrap_or_default(), w.name_any(), w.server().unwrap_or("no server"))
    };
    let names: Vec<String> = only.iter().take(TOLD).map(each).collect();
    let words = format!(
        "what is here of {} workspaces stays, and is stopped where they run on their own servers, as it may be the only copy: those have \
         not all of it, or nothing tells that theirs is the later one, or they cannot be asked now: {}. Set spec.dockerServer of those that are to run here to {server:?}, once what is not wanted of them is removed \
         from the other one; or remove what is here, by hand",
        only.len(),
        names.join(", ")
    );
    tracing::warn!(server, "{words}");
    crate::controllers::events::tell(&ctx.frame, record, true, "OnlyCopyHeld", words);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::FakeEngine;
    use crate::engine::{Attach, ContainerSpec};

    #[tokio::test]
    async fn what_runs_in_two_places_is_stopped_here_and_nothing_else_is() {
        let fake = FakeEngine::new(1);
        fake.add_image("base:1");
        let engine = fake.engine("i").unwrap();
        for (name, uid) in [("both", "b"), ("other", "o")] {
            let (instance, kind, role) = ("i".into(), "Workspace".into(), "main".into());
            let own = Ownership { instance, uid: uid.into(), kind, namespace: Some("team".into()), name: name.into(), role };
            let spec = ContainerSpec {
                name: name.into(),
                image: "base:1".into(),
                command: None,
                workdir: None,
                env: BTreeMap::new(),
                labels: own.labels(),
                mounts: BTreeMap::new(),
                attach: Attach::None,
                hostname: None,
                memory: 1 << 20,
                nano_cpus: 1,
                pids: 1,
            };
            let id = engine.create(&spec).await.unwrap();
            engine.start(&id).await.unwrap();
        }
        let listed = engine.containers(None).await.unwrap();
        stop(&engine, &listed, &BTreeSet::from(["b".to_owned()])).await;
        let state = async |name: &str| engine.inspect(name).await.unwrap().unwrap().state;
        assert_eq!((state("both").await, state("other").await), (ContainerState::Exited, ContainerState::Running));
    }
}
