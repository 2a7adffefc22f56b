//! Companions share their workspace's localhost and its fate.

use super::records;
use super::world::{World, in_world, until};
use devsanctum::resource::Project;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

async fn companion_answers(world: &World<'_>) {
    let c = world.container("w0").await;
    until("the companion to answer on localhost", SOON, async || {
        let request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 127.0.0.1 9090";
        let answer = world.docker_says(&["exec", &c, "sh", "-c", request]);
        if answer.contains("companion") { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[test]
fn a_companion_that_keeps_ending_is_held_back_and_its_workspace_goes_on_being_served() {
    in_world(async |world| {
        world.ground().await;
        let mut feature = records::feature("side");
        feature["spec"]["sidecar"]["command"] = json!(["sh", "-c", "exit 7"]);
        world.create(feature).await;
        let projects: Api<Project> = Api::all(world.client.clone());
        let body = Patch::Merge(json!({"spec": {"features": [{"name": "side"}]}}));
        projects.patch("team", &PatchParams::default(), &body).await.unwrap();
        world.create(records::workspace("w0")).await;
        let side = format!("{}.side", world.container("w0").await);
        until("the companion to be held back", SOON, async || {
            let status = world.workspace("w0").await.status.unwrap_or_default();
            let found = status.conditions.iter().find(|c| c.reason == "CrashLoopBackOff").map(|c| c.message.clone());
            let said = found.ok_or_else(|| format!("{:?}", status.conditions))?;
            if said.contains(&side) && said.contains("exit code 7") { Ok(()) } else { Err(said) }
        })
        .await;
        until("the workspace to be served all the same", SOON, async || match world.page("w0").await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        // Its route does not come and go with its companion.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(world.page("w0").await.0, 200);
        }
    });
}

#[test]
fn a_companion_follows_its_workspace_and_goes_when_it_is_not_wanted_any_more() {
    in_world(async |mut world| {
        world.ground().await;
        world.create(records::feature("side")).await;
        let projects: Api<Project> = Api::all(world.client.clone());
        let wanted = async |features: serde_json::Value| {
            let body = Patch::Merge(json!({"spec": {"features": features}}));
            projects.patch("team", &PatchParams::default(), &body).await.unwrap();
        };
        wanted(json!([{"name": "side"}])).await;
        for i in 0..2 {
            world.create(records::workspace(&format!("w{i}"))).await;
        }
        world.sidecars = 1;
        world.at_rest().await;
        companion_answers(&world).await;

        let c = world.container("w0").await;
        let side = format!("{c}.side");
        for args in [&["kill", &c][..], &["rm", "-f", &c], &["kill", &side], &["rm", "-f", &side]] {
            eprintln!("drift: {args:?}");
            world.docker(args);
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.at_rest_within(SOON).await;
            companion_answers(&world).await;
        }

        wanted(json!([])).await;
        world.sidecars = 0;
        world.at_rest_within(SOON).await;
        wanted(json!([{"name": "side"}])).await;
        world.sidecars = 1;
        world.at_rest_within(SOON).await;
        world.merge("w0", json!({"spec": {"running": false}})).await;
        world.at_rest_within(SOON).await;
    });
}
