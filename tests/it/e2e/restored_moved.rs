//! An older database comes back, by which a workspace is on a server that it has moved away from: it is in one place, and whole.

use super::faults::line::Mode;
use super::moves::{SOON, at_work, command, files, held, is_gone_from, is_on, on_two, to};
use super::restored::run;
use super::world::{World, annotation, until};
use crate::support::dockerd::Options;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Settings, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

/// What its loop says of the record as it is now.
async fn waits(world: &World<'_>, reason: &str) -> String {
    let mut words = String::new();
    until(&format!("word of {reason}"), SOON, async || {
        let w = world.workspace("w0").await;
        let all = w.status.unwrap_or_default().conditions;
        let of_now = |c: &&Condition| c.reason == reason && c.observed_generation == w.metadata.generation;
        let said = find(&all, "ContainerRunning").filter(of_now);
        words = said.map(|c| c.message.clone()).ok_or_else(|| format!("{all:?}"))?;
        Ok(())
    })
    .await;
    words
}

/// A list of the second server, by which even what people let go is gone.
async fn listed(world: &World<'_>) {
    let allow = annotation(labels::REMOVE_STRAYS, "true");
    world.servers().patch("second", &PatchParams::default(), &Patch::Merge(allow)).await.unwrap();
    until("the permission to be spent", SOON, async || {
        let server = world.servers().get("second").await.map_err(|e| e.to_string())?;
        if server.annotations().contains_key(labels::REMOVE_STRAYS) { Err("it is there".into()) } else { Ok(()) }
    })
    .await;
}

#[test]
fn one_that_moved_after_the_backup_is_not_made_anew_empty_and_its_only_copy_is_kept_and_taken_up() {
    on_two(&Options::default(), true, async |mut world, second, lines| {
        let lines = lines.unwrap();
        let before = at_work(&world, 1).await;
        let (container, w) = (world.container("w0").await, world.workspace("w0").await);
        let backup = world.state_dir().join("backup");
        run(&world, &["backup", backup.to_str().unwrap()]);
        to(&world, "second").await;
        is_on(&world, "second", [world.daemon, second]).await;
        let there = || second.docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &container]);
        let (runs, page) = (there(), world.page("w0").await);
        world.kill();
        run(&world, &["restore", backup.to_str().unwrap(), "--replace"]);

        // Its server does not answer at first.
        lines[1].set(Mode::Refuse);
        world.restart().await;
        let words = waits(&world, "MayBeElsewhere").await;
        assert!(words.contains("(second)") && words.contains(labels::RESTORED), "{words}");
        lines[1].set(Mode::Good);
        let words = waits(&world, "DataElsewhere").await;
        assert!(words.contains(&format!("elsewhere alone: on second: {container}, {container}.data")), "{words}");
        assert!(words.contains("devsanctum workspace move w0 --to second"), "{words}");

        // Whatever is let go, and once the records are believed again.
        listed(&world).await;
        assert!(world.event("second", "OnlyCopyHeld").await.contains("team/w0 (by its record on first)"));
        let settings: Api<Settings> = Api::all(world.client.clone());
        let release = json!({"metadata": {"annotations": {labels::RESTORED: null}}});
        settings.patch("default", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
        listed(&world).await;
        world.merge("w0", json!({"spec": {"kept": true}})).await;
        waits(&world, "DataElsewhere").await;
        assert_eq!((there(), is_gone_from(world.daemon, &w)), (runs.clone(), Ok(())));

        let (code, words) = command(&world, &["move", "w0", "--to", "second"]).await;
        assert_eq!(code, Some(0), "{words}");
        is_on(&world, "second", [world.daemon, second]).await;
        assert_eq!((there(), world.page("w0").await, files(second, &container)), (runs, page, before), "it was not even stopped");
        assert_eq!((is_gone_from(world.daemon, &w), held(second, &w)[2].len()), (Ok(()), 1));
    });
}
