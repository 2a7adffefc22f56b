//! What must hold at every moment, or but for a moment.

use super::world::World;
use devsanctum::engine::fake::Glance;
use devsanctum::engine::ownership::Ownership;
use devsanctum::proxy::Proxy;
use devsanctum::resource::Identity;
use devsanctum::resource::common::Visibility;
use devsanctum::store::Stored;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the records say of that, as of one revision. It is looked at hundreds of times a day, so not through the API.
#[derive(Default)]
pub struct Records {
    revision: i64,
    /// Workspaces' uids, and those that their objects bear.
    workspaces: BTreeMap<String, String>,
    /// Uids that objects of workspaces bear which are moving to another server.
    moving: BTreeSet<String>,
    /// Uids of routes that are private.
    private: BTreeSet<String>,
}

impl Records {
    /// As they are now.
    pub async fn read(&mut self, world: &World) {
        let revision = world.revision();
        if self.revision == revision {
            return;
        }
        self.moving.clear();
        let moving = &mut self.moving;
        let identity = |w: Stored| {
            let Taking { status } = serde_json::from_slice(&w.body).unwrap();
            let moves = status.as_ref().is_some_and(|s| s.moving.is_some());
            let of = status.and_then(|s| s.took_over).map_or_else(|| w.uid.clone(), |it| it.uid);
            moving.extend(moves.then(|| of.clone()));
            (w.uid, of)
        };
        self.workspaces = world.stored("workspaces.devsanctum.io").await.into_iter().map(identity).collect();
        let private = |route: &Stored| {
            let Spec { spec } = serde_json::from_slice(&route.body).unwrap();
            spec.visibility == Some(Visibility::Private)
        };
        self.private = world.stored("routes.devsanctum.io").await.into_iter().filter(private).map(|r| r.uid).collect();
        self.revision = revision;
    }
}

#[derive(Deserialize)]
struct Taking {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    took_over: Option<Identity>,
    #[serde(rename = "move")]
    moving: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Spec {
    spec: Open,
}

#[derive(Deserialize)]
struct Open {
    visibility: Option<Visibility>,
}

/// A container of this installation.
pub struct Own {
    container: Glance,
    owner: Ownership,
    /// Whether its engine can be asked.
    here: bool,
}

/// All containers of this installation.
pub fn own(world: &World) -> Vec<Own> {
    let all = world.engines.values().flat_map(|engine| {
        let here = !engine.is_away();
        engine.glance().into_iter().map(move |container| (container, here))
    });
    all.filter_map(|(container, here)| {
        let owner = Ownership::read(&container.labels).filter(|o| o.instance == world.instance())?;
        Some(Own { container, owner, here })
    })
    .collect()
}

/// What must hold at every moment: a workspace has one main container. One that moves has another where it goes to, and only one
/// of the two runs.
pub fn one_main_each(own: &[Own], records: &Records) -> Vec<String> {
    let mut mains: BTreeMap<&str, Vec<&Glance>> = BTreeMap::new();
    for it in own.iter().filter(|it| it.owner.role == "main") {
        mains.entry(&it.owner.uid).or_default().push(&it.container);
    }
    let too_many = |uid: &str, all: &[&Glance]| {
        let most = if records.moving.contains(uid) { 2 } else { 1 };
        all.len() > most || all.iter().filter(|c| c.running).count() > 1
    };
    mains
        .into_iter()
        .filter(|(uid, all)| too_many(uid, all))
        .map(|(uid, all)| format!("workspace {uid} has containers {all:?}"))
        .collect()
}

/// What must hold at every moment: nothing belongs to two workspaces.
pub fn nothing_shared(records: &Records) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let twice = records.workspaces.values().filter(|uid| !seen.insert(*uid));
    // A warm environment and who has just taken it over are one.
    let shared = twice.filter(|uid| records.workspaces.iter().filter(|(own, of)| of == uid && own != uid).count() > 1);
    shared.map(|uid| format!("what bears the uid {uid} belongs to two workspaces")).collect()
}

/// What must hold but for a moment: a container of ours has a record.
pub fn orphans(own: &[Own], records: &Records) -> Vec<String> {
    let ours = own.iter().filter(|it| it.here && it.owner.kind == "Workspace");
    let orphans = ours.filter(|it| !records.workspaces.values().any(|uid| *uid == it.owner.uid));
    orphans.map(|it| format!("container {} has no record", it.container.name)).collect()
}

/// What must hold of the routes, but for a moment: each leads to a container of its workspace that runs, and none is open
/// that its record says is private. An engine that cannot be asked keeps its routes.
pub async fn routes(world: &World, own: &[Own], records: &Records) -> Vec<String> {
    // A proxy that is down takes no table; where every other call fails, finding out takes as long as it takes.
    let blind = world.director.is_noisy() || world.engines.values().any(|e| e.is_away());
    if blind || world.proxy.live().await.is_err() {
        return Vec::new();
    }
    let mut runs = BTreeSet::new();
    for it in own.iter().filter(|it| it.container.running) {
        runs.extend(it.container.addresses.iter().map(|address| (address.to_string(), it.owner.uid.clone())));
    }
    let mut wrong = Vec::new();
    for (uid, entry) in world.proxy.routes().0 {
        let identity = records.workspaces.get(&entry.workspace_uid).unwrap_or(&entry.workspace_uid);
        if !runs.contains(&(entry.upstream.ip().to_string(), identity.clone())) {
            wrong.push(format!("{} leads to {}, which is no running container of its workspace", entry.host, entry.upstream));
        }
        if records.private.contains(&uid) && entry.visibility != Visibility::Private {
            wrong.push(format!("{} is private and open", entry.host));
        }
    }
    wrong
}
