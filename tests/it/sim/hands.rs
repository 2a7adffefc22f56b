//! What people do: to records through the API, to engines behind the control plane's back.

use super::chance::EPOCH;
use super::world::World;
use crate::e2e::records;
use devsanctum::proxy::Traffic;
use devsanctum::resource::{GROUP, kind};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The image all workspaces are made of.
pub const IMAGE: &str = crate::support::dockerd::TINY;

/// A person at a keyboard. What was done before is not done again: a person is asked once more when the process ended
/// while they worked.
pub struct Hands<'w> {
    pub client: kube::Client,
    pub world: &'w World,
}

/// The records of one kind, in a project or in none.
pub fn api(client: &kube::Client, of: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let plural = kind(of).unwrap().plural.clone();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", of), &plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Whether a call did what it was to do, or it was done before.
fn fine<T>(result: Result<T, kube::Error>, done: u16) {
    match result {
        Ok(_) => {}
        Err(kube::Error::Api(s)) if s.code == done => {}
        Err(e) => panic!("{e}"),
    }
}

impl Hands<'_> {
    pub async fn create(&self, record: Value) {
        let namespace = record["metadata"]["namespace"].as_str();
        let all = api(&self.client, record["kind"].as_str().unwrap(), namespace);
        let object = serde_json::from_value(record.clone()).unwrap();
        fine(all.create(&PostParams::default(), &object).await, 409);
    }

    /// What all workloads begin with.
    pub async fn ground(&self) {
        self.create(records::settings(IMAGE)).await;
        for server in self.world.engines.keys() {
            let mut record = records::server(server, Path::new("/nowhere/docker.sock"));
            record["spec"]["pollInterval"] = json!(format!("{}s", self.world.poll().as_secs()));
            self.create(record).await;
        }
        self.create(records::user()).await;
        self.create(records::template("page")).await;
        self.create(records::project("team", "page")).await;
    }

    pub async fn workspace(&self, name: &str) {
        self.create(records::workspace(name)).await;
    }

    /// As [`Hands::workspace`], in the life of the installation once.
    pub async fn workspace_once(&self, name: &'static str) {
        if !self.world.once(name) {
            self.workspace(name).await;
        }
    }

    pub async fn merge(&self, of: &str, name: &str, patch: Value) {
        let namespace = NAMESPACED.contains(&of).then_some("team");
        api(&self.client, of, namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete(&self, of: &str, name: &str) {
        let namespace = NAMESPACED.contains(&of).then_some("team");
        fine(api(&self.client, of, namespace).delete(name, &DeleteParams::default()).await, 404);
    }

    pub async fn get(&self, of: &str, name: &str) -> Value {
        let namespace = NAMESPACED.contains(&of).then_some("team");
        serde_json::to_value(api(&self.client, of, namespace).get(name).await.unwrap()).unwrap()
    }

    /// All records of a kind.
    pub async fn list(&self, of: &str) -> Vec<Value> {
        let all = api(&self.client, of, None).list(&ListParams::default()).await.unwrap();
        all.items.into_iter().map(|r| serde_json::to_value(r).unwrap()).collect()
    }

    /// Name of a workspace's container.
    pub async fn container(&self, name: &str) -> String {
        let uid = self.get("Workspace", name).await["metadata"]["uid"].as_str().unwrap().to_owned();
        format!("ds-team-{name}-{}", &uid[..8])
    }

    /// Id of a container by its name.
    pub fn container_id(&self, server: &str, name: &str) -> Option<String> {
        self.world.engines[server].inspected().get(name).and_then(|c| c["Id"].as_str().map(str::to_owned))
    }

    /// So many requests went to a workspace by now.
    pub fn visited(&self, uid: &str, requests: u64) {
        let traffic = Traffic { requests: [("r".to_owned(), requests)].into(), ..Traffic::default() };
        self.world.proxy.set_traffic(uid, traffic);
    }

    /// A connection stands open to a workspace, over which a hundred bytes went each second until now.
    pub fn talked(&self, uid: &str) {
        let open = [("1 2".to_owned(), 100 * self.world.clock.elapsed().as_secs())].into();
        self.world.proxy.set_traffic(uid, Traffic { connections: open, ..Traffic::default() });
    }

    /// What a step expects.
    pub fn sees(&self, holds: bool, what: &str) {
        if !holds {
            self.world.director.broke(format!("it does not hold that {what}"));
        }
    }

    /// The time of day so many minutes after the installation was made, as schedules have it, in UTC.
    pub fn time_of_day(minute: u64) -> String {
        let at = Timestamp::from_second(EPOCH).unwrap() + Duration::from_secs(60 * minute);
        at.strftime("%H:%M").to_string()
    }

    /// Waits until it was made so many minutes ago.
    pub async fn until(&self, minute: u64) {
        let left = Duration::from_secs(60 * minute).saturating_sub(self.world.clock.elapsed());
        tokio::time::sleep(left).await;
    }

    pub async fn wait(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// Kinds of which all records here are in the project `team`.
const NAMESPACED: [&str; 2] = ["Workspace", "Route"];
