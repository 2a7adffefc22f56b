//! What runs goes on running, and is looked after, while the records around it are wrong.

use super::records;
use super::world::{World, annotation, in_world, until};
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Template, labels};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

async fn template(world: &World<'_>, spec: Value) {
    let templates: Api<Template> = Api::all(world.client.clone());
    templates.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

async fn condition(world: &World<'_>, name: &str, reason: &str) -> String {
    let mut message = String::new();
    until(&format!("{name} {reason}"), SOON, async || {
        let status = world.workspace("w0").await.status.unwrap_or_default();
        let found = find(&status.conditions, name).filter(|c| c.reason == reason);
        message = found.map(|c| c.message.clone()).ok_or_else(|| format!("{:?}", status.conditions))?;
        Ok(())
    })
    .await;
    message
}

async fn container_is(world: &World<'_>, wanted: &str) {
    let name = world.container("w0").await;
    until(&format!("the container to be {wanted}"), SOON, async || {
        let now = world.docker_says(&["inspect", "--format={{.State.Status}}", &name]);
        if now.trim() == wanted { Ok(()) } else { Err(now) }
    })
    .await;
}

async fn page_is(world: &World<'_>, wanted: &(u16, String)) {
    until("the page", SOON, async || {
        let now = world.page("w0").await;
        if now == *wanted { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

#[test]
fn an_image_that_cannot_be_had_harms_nothing_that_runs_until_it_is_needed() {
    in_world(async |mut world| {
        world.with_workspaces(1).await;
        let page = world.page("w0").await;
        template(&world, json!({"base": "registry.invalid/nothing:1"})).await;
        condition(&world, "UpToDate", "EnvironmentChanged").await;
        assert_eq!(world.page("w0").await, page);
        world.at_rest().await;
        world.docker(&["kill", &world.container("w0").await]);
        page_is(&world, &page).await;
        world.kill();
        world.restart().await;
        page_is(&world, &page).await;
        world.at_rest().await;

        // Asked for, it is looked for before anything is taken down.
        let digest = condition(&world, "UpToDate", "EnvironmentChanged").await.rsplit('=').next().unwrap().to_owned();
        world.merge("w0", annotation(labels::RECREATE, &digest)).await;
        condition(&world, "ImageReady", "ImagePullFailed").await;
        container_is(&world, "running").await;
        assert_eq!(world.page("w0").await, page);
    });
}

#[test]
fn an_environment_that_cannot_be_worked_out_stops_nothing_from_being_started_stopped_and_routed() {
    in_world(async |mut world| {
        world.with_workspaces(1).await;
        let page = world.page("w0").await;
        let option = json!({"key": "PASSWORD", "required": true});
        world.create(json!({"apiVersion": "devsanctum.io/v1", "kind": "Feature", "metadata": {"name": "needy"}, "spec": {"options": [option]}})).await;
        template(&world, json!({"features": [{"name": "needy"}]})).await;
        condition(&world, "Resolved", "OptionRequired").await;
        assert_eq!(world.page("w0").await, page);
        world.docker(&["kill", &world.container("w0").await]);
        page_is(&world, &page).await;
        world.kill();
        world.restart().await;
        page_is(&world, &page).await;
        world.merge("w0", json!({"spec": {"running": false}})).await;
        container_is(&world, "exited").await;
        until("its page to go", SOON, async || match world.page("w0").await {
            (503, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        template(&world, json!({"features": null})).await;
        world.merge("w0", json!({"spec": {"running": true}})).await;
        world.at_rest().await;
        assert_eq!(world.page("w0").await, page);
    });
}

#[test]
fn a_corrected_template_ends_a_crash_loop_at_once() {
    in_world(async |world| {
        world.ground().await;
        let good = records::template("hello")["spec"]["startCommand"].clone();
        template(&world, json!({"startCommand": ["sh", "-c", "exit 3"]})).await;
        world.create(records::workspace("w0")).await;
        condition(&world, "ContainerRunning", "CrashLoopBackOff").await;
        template(&world, json!({"startCommand": good})).await;
        // The way out is told although the container is held back.
        let digest = condition(&world, "UpToDate", "EnvironmentChanged").await.rsplit('=').next().unwrap().to_owned();
        world.merge("w0", annotation(labels::RECREATE, &digest)).await;
        world.at_rest().await;
    });
}
