//! The whole control plane on a paused clock: the real API, store and loops, and engines in memory behind the real client.

mod chance;
mod world;

use crate::e2e::records;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::time::Duration;
use world::World;

/// The image all workspaces are made of.
pub const IMAGE: &str = crate::support::dockerd::TINY;

fn api(client: &kube::Client, record: &Value) -> Api<DynamicObject> {
    let kind = record["kind"].as_str().unwrap();
    let plural = devsanctum::resource::kind(kind).unwrap().plural.clone();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("devsanctum.io", "v1", kind), &plural);
    match record["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn create(client: &kube::Client, record: Value) {
    let object = serde_json::from_value(record.clone()).unwrap();
    api(client, &record).create(&PostParams::default(), &object).await.unwrap();
}

async fn phases(client: &kube::Client) -> Vec<String> {
    let any = api(client, &json!({"kind": "Workspace", "metadata": {"namespace": "team"}}));
    let all = any.list(&ListParams::default()).await.unwrap();
    all.items.iter().map(|w| w.data["status"]["phase"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Five workspaces on two servers, and an hour of rest: the loops bring them up and then only look.
#[test]
fn five_workspaces_run_in_a_simulated_hour() {
    let world = World::new(1, &["s1", "s2"]);
    let phases = world.run(async |client| {
        create(&client, records::settings(IMAGE)).await;
        for server in ["s1", "s2"] {
            create(&client, records::server(server, std::path::Path::new("/nowhere/docker.sock"))).await;
        }
        create(&client, records::user()).await;
        create(&client, records::template("page")).await;
        create(&client, records::project("team", "page")).await;
        for i in 0..5 {
            create(&client, records::workspace(&format!("w{i}"))).await;
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
        phases(&client).await
    });
    assert_eq!(phases, ["RUNNING"; 5]);
    let calls = world.trace.lines();
    let effects = |name: &str| calls.iter().filter(|line| line.split(' ').nth(2) == Some(name)).count();
    // Five and the probes of two servers, each with the neighbour that proves the isolation once.
    assert_eq!((effects("create"), effects("create_volume")), (9, 5), "{calls:#?}");
    let late = |line: &&String| line.split_once('.').and_then(|(s, _)| s.parse::<u64>().ok()).is_some_and(|s| s > 60);
    let looks = [
        "containers",
        "networks",
        "volumes",
        "network",
        "inspect",
        "info",
        "image",
        "ping",
        "exec",
        "exec_start",
        "exec_inspect",
        "version",
    ];
    let acts: Vec<_> = calls.iter().filter(late).filter(|line| !looks.contains(&line.split(' ').nth(2).unwrap())).collect();
    assert_eq!(acts, Vec::<&String>::new());
}
