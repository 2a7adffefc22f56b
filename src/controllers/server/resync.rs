//! A full list of a server's objects: wakes the workspaces that are not as their records say, and removes what
//! belongs to no record.

use super::copies::{self, copies};
use super::prepare::{is_ours, shared_network};
use crate::controllers::context::Context;
use crate::controllers::status::Record;
use crate::controllers::workspace::{carrier, copier, is_due};
use crate::engine::ownership::Ownership;
use crate::engine::{ContainerState, ContainerSummary, Engine, EngineError, Labels, Network};
use crate::plan::resync::{ObjectKind, Owned, Trust, strays};
use crate::plan::workspace::{base_name, container_names};
use crate::resource::conditions::holds;
use crate::resource::{DockerServer, NetworkMode, Workspace, labels};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a companion that is not wanted any more has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Names of the containers each record may have, by uid.
type Names = BTreeMap<String, BTreeSet<String>>;

/// Lists and compares. An error means nothing is known, and nothing is concluded from it.
pub async fn resync(ctx: &Context, server: &str, server_uid: &str, engine: &Arc<dyn Engine>) -> Result<(), EngineError> {
    let containers = engine.containers(None).await?;
    let networks = engine.networks(None).await?;
    let volumes = engine.volumes(None).await?;
    // An engine whose bridge is another record's is that one's to look after: what is there this one knows nothing of.
    let Some(record) = ctx.caches.servers.get(&ObjectRef::new(server)) else { return Ok(()) };
    let bridge = networks.iter().find(|n| n.name == shared_network(&ctx.instance));
    if bridge.is_some_and(|n| !is_ours(ctx, &n.labels, &record)) {
        ctx.triggers.servers.fire_named(None, server);
        return Ok(());
    }
    // Those that waited for this are among those looked at now, or are woken by their own change.
    ctx.engines.set_listed(server);
    let holders = ctx.holders(server);
    // One that was given away is not its own record's to look after any more, and one that only moves has nothing here that is to
    // be as its record says.
    let looked_after = |w: &&Arc<Workspace>| w.claimed_by().is_none() && w.server() == Some(server);
    let own: Vec<Arc<Workspace>> = holders.iter().filter(looked_after).cloned().collect();
    let names = names(ctx, &own);
    wake_drifted(ctx, server, &containers, &own, &names);
    wake_unprepared(ctx, server, server_uid, &containers, &networks);
    let mut all: Vec<Owned> =
        containers.iter().filter_map(|c| owned(ObjectKind::Container, c.id.as_str(), &c.name, &c.labels)).collect();
    all.extend(networks.iter().filter_map(|n| owned(ObjectKind::Network, &n.id, &n.name, &n.labels)));
    all.extend(volumes.iter().filter_map(|v| owned(ObjectKind::Volume, &v.name, &v.name, &v.labels)));
    let mut known: BTreeSet<String> = holders.iter().map(|w| w.identity().uid).collect();
    known.insert(server_uid.to_owned());
    // What is named like the shared bridge is the server loop's to judge.
    known.extend(
        networks.iter().filter(|n| n.name == shared_network(&ctx.instance)).filter_map(|n| n.labels.get(labels::UID).cloned()),
    );
    let id = |w: &Arc<Workspace>| Some((w.identity().uid, w.status.as_ref()?.container_id.clone()?));
    let mains: BTreeMap<String, String> = own.iter().filter_map(id).collect();
    let held = copies(ctx, &all, &known, (&containers, &volumes)).await;
    known.extend(held.only.iter().map(|w| w.identity().uid));
    if !held.only.is_empty() {
        copies::tell(ctx, &record, &held.only);
        // By the records of a backup nobody knows which of the two is to run.
        if ctx.restored().is_none() {
            copies::stop(engine.as_ref(), &containers, &held.twice).await;
        }
    }
    let listed: BTreeMap<String, Labels> = volumes.into_iter().map(|v| (v.name, v.labels)).collect();
    remove_strays(ctx, server, engine, &all, (&known, &names, &mains), (&listed, &held.spare)).await;
    Ok(())
}

/// An object that lacks one of our labels is foreign, whatever the others say.
fn owned(kind: ObjectKind, id: &str, name: &str, found: &Labels) -> Option<Owned> {
    let Ownership { uid, role, .. } = Ownership::read(found)?;
    Some(Owned { kind, id: id.to_owned(), name: name.to_owned(), uid, role })
}

/// What each workspace's environment asks for; one that cannot be resolved now may have anything.
fn names(ctx: &Context, members: &[Arc<Workspace>]) -> Names {
    let mut names = Names::new();
    for w in members {
        if let Some(Ok((_, env))) = ctx.caches.environments.of(&ctx.caches, w) {
            let identity = w.identity();
            let base = base_name(&identity);
            let copier = is_due(w).then(|| copier(&base));
            let carrier = w.moving().map(|_| carrier(&base));
            names.insert(identity.uid, container_names(&base, &env).into_iter().chain(copier).chain(carrier).collect());
        }
    }
    names
}

fn wake_drifted(ctx: &Context, server: &str, containers: &[ContainerSummary], members: &[Arc<Workspace>], names: &Names) {
    let by_name: BTreeMap<&str, &ContainerSummary> = containers.iter().map(|c| (c.name.as_str(), c)).collect();
    let shared = shared_network(&ctx.instance);
    let record = ctx.caches.servers.get(&ObjectRef::new(server));
    let own = record.is_some_and(|s| s.status.as_ref().and_then(|s| s.network_mode) == Some(NetworkMode::PerWorkspace));
    for w in members {
        let (record, identity) = (w.uid().unwrap_or_default(), w.identity());
        let base = base_name(&identity);
        let runs = |name: &str| by_name.get(name).is_some_and(|c| c.state == ContainerState::Running);
        let main = by_name.get(base.as_str());
        let address = main.and_then(|c| c.networks.get(if own { &base } else { &shared }).copied().flatten());
        let attached = address.is_some() && main.is_some_and(|c| c.networks.len() == 1);
        let as_wanted = if w.spec.running {
            attached && names.get(&identity.uid).is_none_or(|all| all.iter().all(|n| runs(n)))
        } else {
            !runs(&base)
        };
        let same = main.map(|c| c.id.as_str()) == w.status.as_ref().and_then(|s| s.container_id.as_deref());
        let routed = ctx.upstreams.get(&record).map(|place| place.address);
        let reached = ctx.upstreams.knows(&record) && (routed.is_none() || routed == address);
        if as_wanted && same && reached {
            continue;
        }
        if let Some(main) = main {
            ctx.listings.put(&identity.uid, (*main).clone().into());
        }
        ctx.triggers.workspaces.fire(w);
    }
}

/// The shared bridge, the probe and the gateway are the server loop's; Docker's network events do not say whose they are.
fn wake_unprepared(ctx: &Context, server: &str, server_uid: &str, containers: &[ContainerSummary], networks: &[Network]) {
    let name = shared_network(&ctx.instance);
    let bridge = networks.iter().any(|n| n.name == name);
    let probe = |c: &ContainerSummary| {
        Ownership::read(&c.labels).is_some_and(|o| o.uid == server_uid && o.role == "probe")
            && c.state == ContainerState::Running
            && c.networks.get(&name).is_some_and(Option::is_some)
    };
    let gateway = |c: &ContainerSummary| {
        Ownership::read(&c.labels).is_some_and(|o| o.uid == server_uid && o.role == labels::GATEWAY)
            && c.state == ContainerState::Running
    };
    let record = ctx.caches.servers.get(&ObjectRef::new(server));
    let said = |kind| record.as_ref().and_then(|r| r.status.as_ref()).is_some_and(|s| holds(&s.conditions, kind));
    let serves = !ctx.is_near(server) && said("GatewayReady");
    let gone = (said("ResourcesKnown") && !containers.iter().any(probe)) || (serves && !containers.iter().any(gateway));
    if !bridge || gone {
        ctx.triggers.servers.fire_named(None, server);
    }
}

async fn remove_strays(
    ctx: &Context,
    server: &str,
    engine: &Arc<dyn Engine>,
    owned: &[Owned],
    (known, names, mains): (&BTreeSet<String>, &Names, &BTreeMap<String, String>),
    (listed, spare): (&BTreeMap<String, Labels>, &BTreeMap<String, String>),
) {
    let record = ctx.caches.servers.get(&ObjectRef::new(server));
    let allow = record.as_ref().is_some_and(|r| r.annotations().get(labels::REMOVE_STRAYS).is_some_and(|v| v == "true"));
    let restored = ctx.restored();
    let trust = match &restored {
        _ if allow => Trust::Allowed,
        Some(at) => Trust::Restored(at),
        None => Trust::Usual,
    };
    let found = strays(owned, known, names, mains, trust);
    if let (Some(fuse), Some(record)) = (&found.fuse, &record) {
        tracing::error!(server, reason = fuse.reason, "{}", fuse.words);
        crate::controllers::events::tell(&ctx.frame, record.as_ref(), true, fuse.reason, fuse.words.clone());
    }
    for extra in found.extra {
        tokio::spawn(retire(ctx.clone(), server.to_owned(), engine.clone(), extra));
    }
    if !found.remove.is_empty() {
        let Some(living) = living(ctx, server, spare).await else { return };
        for stray in found.remove.iter().filter(|s| !s.uid.is_empty() && !living.contains(&s.uid)) {
            // One that somebody still uses must not keep the others here. The next list tries again.
            match remove(&ctx.instance, engine.as_ref(), stray, listed.get(&stray.name)).await {
                Ok(()) => tell(ctx, server, stray, "its record is gone"),
                Err(e) => tracing::warn!(server, name = stray.name, error = %e, "cannot remove what belongs to no record"),
            }
        }
    }
    if let Some(record) = record.filter(|_| allow) {
        spend_permission(ctx, &record).await;
    }
}

/// Looks once more: a container that is removed is what was just inspected, by its id, and a volume bears the labels that were listed:
/// a move may have made it anew meanwhile.
async fn remove(instance: &str, engine: &dyn Engine, stray: &Owned, listed: Option<&Labels>) -> Result<(), EngineError> {
    match stray.kind {
        ObjectKind::Container => {
            let still = |l: &Labels| Ownership::read(l).is_some_and(|o| o.instance == instance && o.uid == stray.uid);
            match engine.inspect(&stray.id).await?.filter(|c| still(&c.labels)) {
                Some(c) => engine.remove(&c.id).await,
                None => Ok(()),
            }
        }
        ObjectKind::Network => engine.remove_network(&stray.id).await,
        ObjectKind::Volume => match engine.volume(&stray.name).await?.filter(|v| Some(&v.labels) == listed) {
            Some(_) => engine.remove_volume(&stray.name).await,
            None => Ok(()),
        },
    }
}

/// Ends and removes a container its record does not want; beside the list, since ending takes its time. The next list
/// tries again what fails here.
async fn retire(ctx: Context, server: String, engine: Arc<dyn Engine>, extra: Owned) {
    let retired = async {
        if let Some(c) = engine.inspect(&extra.id).await?.filter(|c| c.state == ContainerState::Running && c.name == extra.name) {
            engine.stop(&c.id, GRACE).await?;
        }
        remove(&ctx.instance, engine.as_ref(), &extra, None).await
    };
    let Some(retired) = ctx.frame.stop.run_until_cancelled(retired).await else { return };
    match retired {
        Ok(()) => tell(&ctx, &server, &extra, "its record does not want it"),
        Err(e) => tracing::warn!(server, name = extra.name, error = %e, "cannot remove a container that is not wanted any more"),
    }
}

fn tell(ctx: &Context, server: &str, stray: &Owned, why: &str) {
    tracing::info!(server, name = stray.name, uid = stray.uid, why, "removed a stray");
    if let Some(record) = ctx.caches.servers.get(&ObjectRef::new(server)) {
        let note = format!("removed {:?} {} of record {}: {why}", stray.kind, stray.name, stray.uid);
        crate::controllers::events::tell(&ctx.frame, record.as_ref(), false, "StrayRemoved", note);
    }
}

/// The permission to remove many strays is for one removal.
async fn spend_permission(ctx: &Context, record: &DockerServer) {
    let body = serde_json::json!({"metadata": {"annotations": {labels::REMOVE_STRAYS: null}}});
    let api = DockerServer::api(&ctx.frame.client, None);
    if let Err(e) = api.patch(&record.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        tracing::warn!(server = record.name_any(), error = %e, "cannot take off the permission to remove strays");
    }
}

/// Uids that may have objects on the server. The copies may lag, so the API itself has the last word; `None` when it
/// does not answer. One that is elsewhere may have some here until it was seen to be whole there.
async fn living(ctx: &Context, server: &str, spare: &BTreeMap<String, String>) -> Option<BTreeSet<String>> {
    let all = ListParams::default();
    let workspaces = Api::<Workspace>::all(ctx.frame.client.clone()).list(&all).await.ok()?;
    let servers = DockerServer::api(&ctx.frame.client, None).list(&all).await.ok()?;
    let names: BTreeSet<String> = servers.items.iter().map(ResourceExt::name_any).collect();
    let is_spare = |w: &Workspace| spare.get(&w.identity().uid).is_some_and(|there| w.server() == Some(there));
    let may = |w: &Workspace| may_be_on(w, server, &names) || !is_spare(w);
    let here = workspaces.items.into_iter().filter(may).map(|w| w.identity().uid);
    Some(here.chain(servers.items.into_iter().filter_map(|s| s.uid())).collect())
}

/// Whether a workspace may have objects on this server. One whose own server's record is gone may be on any: a host that was let go
/// may come back by another name, and what is there is its only copy.
fn may_be_on(w: &Workspace, server: &str, servers: &BTreeSet<String>) -> bool {
    w.has_to_do_with(server) || w.server().is_none_or(|other| !servers.contains(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::VolumeSpec;
    use crate::engine::fake::FakeEngine;
    use serde_json::json;

    #[test]
    fn only_a_server_that_exists_can_be_where_a_workspace_is_instead() {
        let on = |server: Option<&str>| -> Workspace {
            serde_json::from_value(json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "w"},
                "spec": {"owner": "ada"}, "status": {"dockerServer": server}}))
            .unwrap()
        };
        let servers = ["here", "there"].map(str::to_owned).into();
        for (server, may) in [(None, true), (Some("here"), true), (Some("gone"), true), (Some("there"), false)] {
            assert_eq!(may_be_on(&on(server), "here", &servers), may, "{server:?}");
        }
    }

    #[tokio::test]
    async fn a_volume_that_was_made_anew_since_the_list_stays() {
        let fake = FakeEngine::new(1);
        let engine = fake.engine("i").unwrap();
        let ownership = Ownership {
            instance: "i".into(),
            uid: "u".into(),
            kind: "Workspace".into(),
            namespace: Some("team".into()),
            name: "w".into(),
            role: "folder.data".into(),
        };
        let make = async |of: &str| {
            let labels = ownership.labels().into_iter().chain([(labels::MOVE.to_owned(), of.to_owned())]).collect();
            engine.create_volume(&VolumeSpec { name: "v".into(), labels }).await.unwrap();
        };
        make("one").await;
        let listed = engine.volumes(None).await.unwrap().remove(0);
        let stray = owned(ObjectKind::Volume, "v", "v", &listed.labels).unwrap();
        engine.remove_volume("v").await.unwrap();
        make("another").await;
        remove("i", &engine, &stray, Some(&listed.labels)).await.unwrap();
        assert_eq!(fake.volumes(), ["v"], "another move's");
        let now = engine.volumes(None).await.unwrap().remove(0);
        remove("i", &engine, &stray, Some(&now.labels)).await.unwrap();
        assert!(fake.volumes().is_empty());
    }
}
