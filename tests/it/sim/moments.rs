//! What must hold at every moment, or but for a moment.

use super::hands::Hands;
use super::oracles::STRANGER;
use super::world::World;
use devsanctum::engine::fake::Glance;
use devsanctum::engine::ownership::Ownership;
use devsanctum::proxy::Proxy;
use devsanctum::resource::common::Visibility;
use devsanctum::resource::labels;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the records say of that, as of one revision. It is looked at thousands of times a day, mostly with no change since.
#[derive(Default)]
pub struct Records {
    revision: i64,
    /// Workspaces' uids.
    workspaces: BTreeSet<String>,
    /// Uids of routes that are private.
    private: BTreeSet<String>,
}

impl Records {
    /// As they are now.
    pub async fn read(&mut self, hands: &Hands<'_>) {
        let revision = hands.world.revision();
        if self.revision == revision {
            return;
        }
        let uid = |record: &Value| record["metadata"]["uid"].as_str().map(str::to_owned);
        self.workspaces = hands.list("Workspace").await.iter().filter_map(uid).collect();
        let routes = hands.list("Route").await;
        self.private = routes.iter().filter(|r| r["spec"]["visibility"] == "PRIVATE").filter_map(uid).collect();
        self.revision = revision;
    }
}

/// What must hold at every moment.
pub fn always(world: &World) -> Vec<String> {
    let mains = world.engines.values().flat_map(|engine| one_main_each(engine.glance()));
    let strangers = world.engines.values().flat_map(|engine| engine.tally()).filter_map(|((_, name, action), count)| {
        let touched = name == STRANGER && (action == "destroy" || action == "rename" || (action == "start" && count > 1));
        touched.then(|| format!("a stranger's container had {count} × {action}"))
    });
    mains.chain(strangers).collect()
}

/// A workspace has one main container.
fn one_main_each(containers: Vec<Glance>) -> Vec<String> {
    let mut mains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in containers {
        if let Some(owner) = Ownership::read(&container.labels)
            && owner.role == "main"
        {
            mains.entry(owner.uid).or_default().push(container.name);
        }
    }
    mains
        .into_iter()
        .filter(|(_, all)| all.len() > 1)
        .map(|(uid, all)| format!("workspace {uid} has containers {all:?}"))
        .collect()
}

/// What must hold but for a moment: a container of ours has a record.
pub fn orphans(world: &World, records: &Records) -> Vec<String> {
    let here = world.engines.values().filter(|e| !e.is_away()).flat_map(|engine| engine.glance());
    let is = |container: &Glance, label: &str, value: &str| container.labels.get(label).is_some_and(|v| v == value);
    let ours = here.filter(|c| is(c, labels::KIND, "Workspace") && is(c, labels::INSTANCE, world.instance()));
    let known = |c: &Glance| c.labels.get(labels::UID).is_some_and(|uid| records.workspaces.contains(uid));
    ours.filter(|c| !known(c)).map(|c| format!("container {} has no record", c.name)).collect()
}

/// What must hold of the routes, but for a moment: each leads to a container of its workspace that runs, and none is open
/// that its record says is private. An engine that cannot be asked keeps its routes.
pub async fn routes(world: &World, records: &Records) -> Vec<String> {
    // A proxy that is down takes no table; where every other call fails, finding out takes as long as it takes.
    let blind = world.director.is_noisy() || world.engines.values().any(|e| e.is_away());
    if blind || world.proxy.live().await.is_err() {
        return Vec::new();
    }
    let mut runs = BTreeSet::new();
    for container in world.engines.values().flat_map(|e| e.glance()).filter(|c| c.running) {
        let uid = container.labels.get(labels::UID).cloned().unwrap_or_default();
        runs.extend(container.addresses.iter().map(|address| (address.to_string(), uid.clone())));
    }
    let mut wrong = Vec::new();
    for (uid, entry) in world.proxy.routes().0 {
        if !runs.contains(&(entry.upstream.ip().to_string(), entry.workspace_uid.clone())) {
            wrong.push(format!("{} leads to {}, which is no running container of its workspace", entry.host, entry.upstream));
        }
        if records.private.contains(&uid) && entry.visibility != Visibility::Private {
            wrong.push(format!("{} is private and open", entry.host));
        }
    }
    wrong
}
