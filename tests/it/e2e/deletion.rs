//! What is deleted leaves nothing, and nothing hangs for ever.

use super::records;
use super::world::{annotation, in_world, on, until};
use crate::support::dockerd::{Dockerd, Options, TINY};
use devsanctum::resource::{DockerServer, Project, Template, labels};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_project_waits_for_its_last_workspace_and_its_shared_folder_stays_and_is_no_namesake_s() {
    in_world(async |world| {
        world.ground().await;
        let templates: Api<Template> = Api::all(world.client.clone());
        let folders = json!([{"name": "data", "path": "/data"}, {"name": "cache", "path": "/cache", "mode": "SHARED"}]);
        let body = Patch::Merge(json!({"spec": {"folders": folders}}));
        templates.patch("hello", &PatchParams::default(), &body).await.unwrap();
        for name in ["w0", "w1"] {
            world.create(records::workspace(name)).await;
        }
        world.at_rest().await;
        let (a, b) = (world.container("w0").await, world.container("w1").await);
        world.docker(&["exec", &a, "sh", "-c", "echo shared > /cache/x"]);
        assert_eq!(world.docker(&["exec", &b, "cat", "/cache/x"]), "shared");

        let projects: Api<Project> = Api::all(world.client.clone());
        projects.delete("team", &DeleteParams::default()).await.unwrap();
        until("the project to name what remains", SOON, async || {
            let said = projects.get("team").await.unwrap().status.and_then(|s| s.message).unwrap_or_default();
            if said.contains("w0, w1") { Ok(()) } else { Err(said) }
        })
        .await;
        world.docker(&["pause", &a]);
        for name in ["w0", "w1"] {
            world.delete(name).await;
            world.gone(name).await;
        }
        until("the project to go", SOON, async || match projects.get_opt("team").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        world.at_rest().await;
        let volumes = world.objects(&["volume", "ls"], "{{.Name}}");
        assert!(volumes.len() == 1 && volumes[0].ends_with(".shared.cache"), "{volumes:?}");
        assert!(world.event("team", "FoldersRemain").await.contains(&volumes[0]));
        let mount = format!("{}:/c", volumes[0]);
        let kept = ["run", "--rm", "--network=none", "-v", &mount, TINY, "cat", "/c/x"];
        assert_eq!(world.docker(&kept), "shared");

        world.create(records::project("team", "hello")).await;
        world.create(records::workspace("w0")).await;
        world.at_rest().await;
        let fresh = world.docker_says(&["exec", &world.container("w0").await, "ls", "/cache"]);
        assert_eq!(fresh, "");
    });
}

#[test]
fn a_server_gone_for_ever_lets_go_when_told_and_says_what_it_leaves() {
    let lost = Dockerd::start(&Options::default());
    on(&lost, async |world| {
        world.with_workspaces(2).await;
        lost.kill();
        world.delete("w0").await;
        until("the way out to be told", SOON, async || {
            let said = world.workspace("w0").await.status.and_then(|s| s.message).unwrap_or_default();
            if said.contains(&format!("{}=true", labels::ABANDON)) && said.contains("container ") { Ok(()) } else { Err(said) }
        })
        .await;
        world.merge("w0", annotation(labels::ABANDON, "true")).await;
        world.gone("w0").await;
        assert!(world.event("w0", "LeftBehind").await.contains(labels::UID));

        world.servers().delete("local", &DeleteParams::default()).await.unwrap();
        until("the server to name what remains", SOON, async || {
            let said = world.servers().get("local").await.unwrap().status.and_then(|s| s.message).unwrap_or_default();
            if said.contains("team/w1") && said.contains(labels::ABANDON) { Ok(()) } else { Err(said) }
        })
        .await;
        let body = Patch::Merge(annotation(labels::ABANDON, "true"));
        world.servers().patch("local", &PatchParams::default(), &body).await.unwrap();
        let servers: Api<DockerServer> = world.servers();
        until("the server to go", SOON, async || match servers.get_opt("local").await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|s| s.map(|s| s.metadata)))),
        })
        .await;
        assert!(world.event("local", "LeftBehind").await.contains("1 workspaces"));
        world.delete("w1").await;
        world.gone("w1").await;
        assert!(world.event("w1", "LeftBehind").await.contains(labels::UID));
    });
}

#[test]
fn an_image_that_does_not_exist_harms_no_other_workspace() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let mut template = records::template("broken");
        template["spec"]["base"] = "registry.invalid/nothing:1".into();
        world.create(template).await;
        world.create(records::project("other", "broken")).await;
        let mut w = records::workspace("w9");
        w["metadata"]["namespace"] = "other".into();
        world.create(w).await;
        let others = Api::<devsanctum::resource::Workspace>::namespaced(world.client.clone(), "other");
        until("Docker's own words", SOON, async || {
            let status = others.get("w9").await.unwrap().status.unwrap_or_default();
            let said = status.conditions.iter().find(|c| c.reason == "ImagePullFailed").map(|c| c.message.clone());
            let said = said.ok_or_else(|| format!("{:?}", status.conditions))?;
            let words = said.contains("registry.invalid/nothing:1") && said.contains("lookup") && said.contains("Trying again");
            if words { Ok(()) } else { Err(said) }
        })
        .await;
        assert!(world.equals_records().await.is_ok());
        others.delete("w9", &DeleteParams::default()).await.unwrap();
        until("it to go", SOON, async || match others.get_opt("w9").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    });
}

#[test]
fn without_capacity_a_workspace_is_told_why_and_placed_by_itself_when_there_is_some() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let status = world.servers().get("local").await.unwrap().status.unwrap();
        // The least that leaves no room for another one of its kind.
        let total = status.ram_total_mb.unwrap();
        let (need, free) = (total / 2 + 64, total - status.ram_used_mb.unwrap());
        assert!(free >= need, "this test needs {need} MiB of free memory, and {free} are free: end what takes the rest");
        let templates: Api<Template> = Api::all(world.client.clone());
        let body = Patch::Merge(json!({"spec": {"minRamMb": need}}));
        templates.patch("hello", &PatchParams::default(), &body).await.unwrap();
        world.delete("w0").await;
        world.gone("w0").await;
        world.create(records::workspace("w1")).await;
        world.at_rest().await;
        world.create(records::workspace("w2")).await;
        until("need and free capacity to be told", SOON, async || {
            let said = world.workspace("w2").await.status.and_then(|s| s.message).unwrap_or_default();
            if said.contains(&format!("it needs {need} MiB RAM")) && said.contains("local: free:") { Ok(()) } else { Err(said) }
        })
        .await;
        world.delete("w1").await;
        world.at_rest_within(SOON).await;
    });
}
