//! What is not provably ours is never touched; what belongs to a deleted record goes, unless there is too much of it.

use super::records::IDLE;
use super::world::{annotation, in_world, until};
use devsanctum::resource::labels;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use sqlx::Connection;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn look_alikes_are_never_touched_and_a_stray_of_a_deleted_record_goes() {
    in_world(async |mut world| {
        world.with_workspaces(2).await;
        let (uid, instance) = (world.workspace("w0").await.uid().unwrap(), world.instance.clone());
        let gone = "99999999-0000-0000-0000-000000000000";
        world.add_foreign("ds-team-w9-12345678", &[]);
        world.add_foreign("ds-partial-a", &[(labels::INSTANCE, &instance), (labels::UID, &uid)]);
        world.add_foreign("ds-partial-b", &[(labels::INSTANCE, &instance), (labels::UID, gone), (labels::ROLE, "main")]);
        let all = |instance: &str, uid: &str| {
            let pairs = [
                (labels::INSTANCE, instance),
                (labels::UID, uid),
                (labels::KIND, "Workspace"),
                (labels::NAMESPACE, "team"),
                (labels::NAME, "w9"),
                (labels::ROLE, "main"),
            ];
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        let other = all("another-instance", gone);
        world.add_foreign("ds-other", &other.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>());
        let label = |k: &str, v: &str| format!("{k}={v}");
        let (of, part) = (label(labels::INSTANCE, &instance), label(labels::UID, &uid));
        world.docker(&["volume", "create", "--label", &of, "--label", &part, "ds-partial-volume"]);
        world.protect("volume", "ds-partial-volume");

        let stray = all(&instance, gone).map(|(k, v)| label(&k, &v));
        let mut args = vec!["run", "-d", "--network=none", "--name", "ds-stray"];
        stray.iter().for_each(|pair| args.extend(["--label", pair.as_str()]));
        args.extend(IDLE);
        world.docker(&args);
        world.at_rest_within(SOON).await;
        assert!(world.event("local", "StrayRemoved").await.contains("ds-stray"));

        world.delete("w0").await;
        world.gone("w0").await;
        world.at_rest_within(SOON).await;
    });
}

#[test]
fn too_many_strays_blow_the_fuse_and_nothing_is_removed_until_somebody_allows_it() {
    in_world(async |mut world| {
        world.with_workspaces(5).await;
        let team = |all: Vec<String>| all.into_iter().filter(|c| c.starts_with("ds-team-")).collect::<Vec<_>>();
        let before = team(world.objects(&["ps", "-a"], "{{.Names}} {{.State}}"));
        world.kill();
        let url = format!("sqlite://{}", world.state_dir().join("db/devsanctum.db").display());
        let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("DELETE FROM resources WHERE kind IN ('workspaces.devsanctum.io', 'routes.devsanctum.io')")
            .execute(&mut database)
            .await
            .unwrap();
        database.close().await.unwrap();
        world.restart().await;
        let words = world.event("local", "TooManyStrays").await;
        assert!(words.contains("nothing was removed") && words.contains(labels::REMOVE_STRAYS), "{words}");
        assert_eq!(team(world.objects(&["ps", "-a"], "{{.Names}} {{.State}}")), before);

        let allow = annotation(labels::REMOVE_STRAYS, "true");
        world.servers().patch("local", &PatchParams::default(), &Patch::Merge(allow)).await.unwrap();
        world.at_rest_within(SOON).await;
        until("the permission to be taken off", SOON, async || {
            let left = world.servers().get("local").await.unwrap().annotations().clone();
            if left.contains_key(labels::REMOVE_STRAYS) { Err(format!("{left:?}")) } else { Ok(()) }
        })
        .await;
    });
}
