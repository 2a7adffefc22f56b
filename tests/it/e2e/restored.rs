//! An older database comes back: what it does not know stays as it is.

use super::world::{World, annotation, in_world, until};
use crate::support::devsanctum;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Settings, labels};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

pub fn run(world: &World<'_>, words: &[&str]) -> String {
    let done = devsanctum().arg("--state-dir").arg(world.state_dir()).args(words).output().unwrap();
    assert!(done.status.success(), "{words:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn after_a_restore_the_known_run_the_deleted_come_back_and_the_unknown_are_left_alone() {
    in_world(async |mut world| {
        world.with_workspaces(2).await;
        let page = world.page("w0").await;
        let kept = world.docker_says(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &world.container("w0").await]);
        let backup = world.state_dir().join("backup");
        run(&world, &["backup", backup.to_str().unwrap()]);

        // One that the backup knows goes, and one comes that it does not know: fewer things than the usual fuse holds.
        world.delete("w1").await;
        world.gone("w1").await;
        world.create(super::records::workspace("w9")).await;
        world.at_rest().await;
        let newer = world.container("w9").await;
        world.kill();
        let told = run(&world, &["restore", backup.to_str().unwrap(), "--replace"]);
        assert!(told.contains("2 workspaces") && told.contains("left alone"), "{told}");
        world.protect("container", &newer);
        world.protect("volume", &format!("{newer}.data"));
        world.restart().await;
        let words = world.event("local", "StraysHeld").await;
        assert!(words.contains("2 of") && words.contains(&newer) && words.contains(labels::REMOVE_STRAYS), "{words}");
        world.at_rest().await;
        assert_eq!(world.page("w0").await, page, "its files are as they were");
        let now = world.docker_says(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &world.container("w0").await]);
        assert_eq!(now, kept, "it was not even started again");
        trusted(&world, "False", "Restored").await;

        // Started again it still knows, and a list that somebody asks for changes nothing.
        world.kill();
        world.restart().await;
        world.merge("w0", annotation("anything", "else")).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.at_rest().await;

        // Somebody has looked: what is not known goes, and the records are believed again.
        world.foreign.clear();
        let allow = annotation(labels::REMOVE_STRAYS, "true");
        world.servers().patch("local", &PatchParams::default(), &Patch::Merge(allow)).await.unwrap();
        world.at_rest_within(SOON).await;
        let settings: Api<Settings> = Api::all(world.client.clone());
        let release = json!({"metadata": {"annotations": {labels::RESTORED: null}}});
        settings.patch("default", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
        trusted(&world, "True", "Released").await;
    });
}

async fn trusted(world: &World<'_>, status: &str, reason: &str) {
    until(&format!("RecordsTrusted to be {status}"), SOON, async || {
        let server = world.servers().get("local").await.map_err(|e| e.to_string())?;
        let conditions = server.status.clone().unwrap_or_default().conditions;
        match find(&conditions, "RecordsTrusted") {
            Some(c) if (c.status.as_str(), c.reason.as_str()) == (status, reason) => Ok(()),
            other => Err(format!("{}: {other:?}", server.name_any())),
        }
    })
    .await;
}
