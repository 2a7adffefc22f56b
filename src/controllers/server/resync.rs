//! A full list of a server's objects: wakes the workspaces that are not as their records say, and removes what
//! belongs to no record.

use crate::controllers::context::Context;
use crate::controllers::status::Record;
use crate::engine::{ContainerState, ContainerSummary, Engine, EngineError};
use crate::plan::resync::{ObjectKind, Owned, strays};
use crate::resource::{DockerServer, Workspace, labels};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Lists and compares. An error means nothing is known, and nothing is concluded from it.
pub async fn resync(ctx: &Context, server: &str, server_uid: &str, engine: &dyn Engine) -> Result<(), EngineError> {
    let containers = engine.containers(None).await?;
    let on = |w: &Workspace| w.status.as_ref().is_some_and(|s| s.docker_server.as_deref() == Some(server));
    let members = ctx.caches.workspaces.state_filter(|w| on(w));
    wake_drifted(ctx, &containers, &members);
    let mut owned: Vec<Owned> =
        containers.iter().map(|c| owned(ObjectKind::Container, c.id.as_str(), &c.name, &c.labels)).collect();
    let networks = engine.networks(None).await?;
    owned.extend(networks.iter().map(|n| self::owned(ObjectKind::Network, &n.id, &n.name, &n.labels)));
    let volumes = engine.volumes(None).await?;
    owned.extend(volumes.iter().map(|v| self::owned(ObjectKind::Volume, &v.name, &v.name, &v.labels)));
    let mut known: BTreeSet<String> = members.iter().filter_map(|w| w.uid()).collect();
    known.insert(server_uid.to_owned());
    remove_strays(ctx, server, engine, &owned, &known).await
}

fn owned(kind: ObjectKind, id: &str, name: &str, found: &crate::engine::Labels) -> Owned {
    let label = |key: &str| found.get(key).cloned().unwrap_or_default();
    Owned { kind, id: id.to_owned(), name: name.to_owned(), uid: label(labels::UID), role: label(labels::ROLE) }
}

fn wake_drifted(ctx: &Context, containers: &[ContainerSummary], members: &[Arc<Workspace>]) {
    let main: BTreeMap<&str, &ContainerSummary> = containers
        .iter()
        .filter(|c| c.labels.get(labels::ROLE).is_some_and(|r| r == "main"))
        .filter_map(|c| Some((c.labels.get(labels::UID)?.as_str(), c)))
        .collect();
    for w in members {
        let uid = w.uid().unwrap_or_default();
        let seen = main.get(uid.as_str());
        let running = seen.is_some_and(|c| c.state == ContainerState::Running && c.networks.values().any(Option::is_some));
        let same = seen.map(|c| c.id.as_str()) == w.status.as_ref().and_then(|s| s.container_id.as_deref());
        if running != w.spec.running || !same || !ctx.upstreams.knows(&uid) {
            ctx.triggers.workspaces.fire(w);
        }
    }
}

async fn remove_strays(
    ctx: &Context,
    server: &str,
    engine: &dyn Engine,
    owned: &[Owned],
    known: &BTreeSet<String>,
) -> Result<(), EngineError> {
    let record = ctx.caches.servers.get(&ObjectRef::new(server));
    let allow = record.as_ref().is_some_and(|r| r.annotations().get(labels::REMOVE_STRAYS).is_some_and(|v| v == "true"));
    let found = strays(owned, known, &BTreeMap::new(), allow);
    if let (Some(words), Some(record)) = (&found.fuse, &record) {
        tracing::error!(server, "{words}");
        crate::controllers::events::tell(&ctx.frame, record.as_ref(), true, "TooManyStrays", words.clone());
    }
    let kept = if found.remove.is_empty() { Some(BTreeSet::new()) } else { recorded(ctx, server).await };
    // Without an answer nothing is known, and nothing is removed.
    let Some(kept) = kept else { return Ok(()) };
    for stray in &found.remove {
        if stray.uid.is_empty() || kept.contains(&stray.uid) {
            continue;
        }
        match stray.kind {
            ObjectKind::Container => {
                // Look once more: what is removed is what was just inspected, by its id.
                if let Some(c) =
                    engine.inspect(&stray.id).await?.filter(|c| c.labels.get(labels::INSTANCE) == Some(&ctx.instance))
                {
                    engine.remove(&c.id).await?;
                }
            }
            ObjectKind::Network => engine.remove_network(&stray.id).await?,
            ObjectKind::Volume => engine.remove_volume(&stray.name).await?,
        }
        tracing::info!(server, name = stray.name, uid = stray.uid, "removed a stray");
        if let Some(record) = &record {
            told(ctx, record, stray);
        }
    }
    Ok(())
}

fn told(ctx: &Context, record: &DockerServer, stray: &Owned) {
    let note = format!("removed {:?} {} (record {} is gone)", stray.kind, stray.name, stray.uid);
    crate::controllers::events::tell(&ctx.frame, record, false, "StrayRemoved", note);
}

/// Uids that may have objects here. The copies may lag, so the API itself is asked, and after the engine was: a record
/// is there before its first object. `None` when it does not answer.
async fn recorded(ctx: &Context, server: &str) -> Option<BTreeSet<String>> {
    let all = kube::api::ListParams::default();
    let workspaces = kube::Api::<Workspace>::all(ctx.frame.client.clone()).list(&all).await.ok()?;
    let servers = DockerServer::api(&ctx.frame.client, None).list(&all).await.ok()?;
    let elsewhere = |w: &Workspace| w.status.as_ref().and_then(|s| s.docker_server.as_deref()).is_some_and(|s| s != server);
    let here = workspaces.items.iter().filter(|w| !elsewhere(w)).filter_map(ResourceExt::uid);
    Some(here.chain(servers.items.iter().filter_map(ResourceExt::uid)).collect())
}
