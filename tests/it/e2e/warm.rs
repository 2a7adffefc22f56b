//! Environments that run before anybody asks for them.

use super::records;
use super::world::{World, in_world, until};
use crate::support::devsanctum;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Settings, Template, Workspace, labels};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn templates(world: &World<'_>) -> Api<Template> {
    Api::all(world.client.clone())
}

async fn template(world: &World<'_>, spec: Value) {
    templates(world).patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

/// Waits until this many environments are ready to be given away.
async fn warm(world: &World<'_>, wanted: u32) {
    until(&format!("{wanted} warm environments"), SOON, async || {
        let status = templates(world).get("hello").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        let whole = find(&status.conditions, "Warm").is_some_and(|c| c.status == "True");
        if status.warm_ready == Some(wanted) && whole { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

async fn environments(world: &World<'_>) -> Vec<Workspace> {
    let api: Api<Workspace> = Api::namespaced(world.client.clone(), "devsanctum-system");
    api.list(&ListParams::default()).await.unwrap().items
}

/// Ids of containers that nobody has yet.
async fn containers(world: &World<'_>) -> BTreeSet<String> {
    environments(world).await.into_iter().filter_map(|w| w.status?.container_id).collect()
}

fn took_over(w: &Workspace) -> Option<String> {
    Some(w.status.as_ref()?.took_over.as_ref()?.name.clone())
}

async fn answers(world: &World<'_>, name: &str) -> String {
    let mut page = String::new();
    until(&format!("{name}'s page"), SOON, async || match world.page(name).await {
        (200, text) => {
            page = text;
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    page
}

async fn says(world: &World<'_>, args: &[&str]) -> String {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team"]).args(args);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
}

#[test]
fn a_workspace_begins_with_what_runs_already_and_keeps_it() {
    in_world(async |world| {
        world.ground().await;
        template(&world, json!({"warm": 2})).await;
        warm(&world, 2).await;
        world.at_rest().await;
        let before = containers(&world).await;
        assert_eq!(before.len(), 2);
        assert!(world.routes().list(&ListParams::default()).await.unwrap().items.is_empty(), "nobody can reach them");

        // As many at once as there are, and two more: each has one of its own.
        for i in 0..4 {
            world.create(records::workspace(&format!("w{i}"))).await;
        }
        let mut ids = BTreeSet::new();
        let mut claimed = Vec::new();
        for i in 0..4 {
            let name = format!("w{i}");
            answers(&world, &name).await;
            let w = world.workspace(&name).await;
            let id = w.status.as_ref().unwrap().container_id.clone().unwrap();
            assert_eq!(took_over(&w).is_some(), before.contains(&id), "{name}");
            claimed.extend(took_over(&w).map(|_| name));
            ids.insert(id);
        }
        assert_eq!((ids.len(), claimed.len()), (4, 2), "{claimed:?}");
        assert!(ids.is_superset(&before));
        let mine = &claimed[0];
        assert!(world.event(mine, "Reconciled").await.contains("took over warm environment hello-"));

        // Others take their place, and it all stays so.
        warm(&world, 2).await;
        world.at_rest().await;
        assert!(containers(&world).await.is_disjoint(&ids));

        // It is a workspace like any other: commands, logs, death, a stop, a restart of the control plane.
        let page = answers(&world, mine).await;
        assert_eq!(says(&world, &["exec", mine, "--", "cat", "/data/index.html"]).await.trim(), page.trim());
        world.daemon.docker(&["kill", &world.container(mine).await]);
        world.at_rest_within(SOON).await;
        assert_eq!(answers(&world, mine).await, page);
        world.merge(mine, json!({"spec": {"running": false}})).await;
        world.at_rest_within(SOON).await;
        world.merge(mine, json!({"spec": {"running": true}})).await;
        assert_eq!(answers(&world, mine).await, page);
        world.daemon.docker(&["rm", "-f", &world.container(mine).await]);
        world.at_rest_within(SOON).await;
        assert_eq!(answers(&world, mine).await, page);
        let forked = says(&world, &["fork", mine, "w9"]).await;
        assert_eq!(forked, format!("workspace/w9 forked from workspace/{mine}\n"));
        assert_eq!(answers(&world, "w9").await, page);
        world.delete("w9").await;
        world.gone("w9").await;

        // Nothing of it is left when it goes.
        let base = world.container(mine).await;
        world.delete(mine).await;
        world.gone(mine).await;
        let left = world.docker_says(&["volume", "ls", "-q"]);
        assert!(!left.contains(&base), "{left}");
        world.at_rest_within(SOON).await;
    });
}

#[test]
fn only_what_is_the_same_is_given_away_and_what_is_old_goes() {
    in_world(async |mut world| {
        world.ground().await;
        template(&world, json!({"warm": 1})).await;
        warm(&world, 1).await;
        let first = containers(&world).await;

        // Its own environment is another one.
        let mut other = records::workspace("w0");
        other["spec"]["env"] = json!({"COLOUR": "green"});
        world.create(other).await;
        answers(&world, "w0").await;
        assert_eq!(took_over(&world.workspace("w0").await), None);
        assert_eq!(containers(&world).await, first);

        // Killed in the middle of it all, it goes on.
        world.create(records::workspace("w1")).await;
        world.kill();
        world.restart().await;
        answers(&world, "w1").await;
        warm(&world, 1).await;
        world.at_rest_within(SOON).await;
        let second = containers(&world).await;

        // A template that has changed has others; the workspace stays as it is, and says so.
        template(&world, json!({"env": {"COLOUR": "blue"}})).await;
        until("another environment", SOON, async || {
            let now = containers(&world).await;
            if now.len() == 1 && now.is_disjoint(&second) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        warm(&world, 1).await;
        world.at_rest_within(SOON).await;
        let status = world.workspace("w1").await.status.unwrap();
        assert!(find(&status.conditions, "UpToDate").is_some_and(|c| c.status == "False"), "{:?}", status.conditions);

        // Folders that a project shares cannot be known before.
        let data = json!({"name": "data", "path": "/data", "mode": "SHARED"});
        template(&world, json!({"folders": [data]})).await;
        until("the pool to be empty", SOON, async || {
            let status = templates(&world).get("hello").await.unwrap().status.unwrap_or_default();
            let said = find(&status.conditions, "Warm").map(|c| (c.reason.clone(), c.message.clone()));
            let told = said.as_ref().is_some_and(|(r, m)| r == "SharedFolder" && m.contains("\"data\""));
            if told && environments(&world).await.is_empty() { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;

        // A template's are its own: they go with it, and nothing else does.
        let alone = records::template("alone");
        let mut alone: Value = serde_json::from_value(alone).unwrap();
        alone["spec"]["warm"] = json!(1);
        world.create(alone).await;
        until("one of another template", SOON, async || match containers(&world).await.len() {
            1 => Ok(()),
            n => Err(n.to_string()),
        })
        .await;
        templates(&world).delete("alone", &DeleteParams::default()).await.unwrap();
        until("it to go", SOON, async || match environments(&world).await.is_empty() {
            true => Ok(()),
            false => Err("it is there".into()),
        })
        .await;
        answers(&world, "w1").await;
    });
}

#[test]
fn what_nobody_has_gives_way_to_a_workspace() {
    in_world(async |world| {
        world.ground().await;
        world.create(records::workspace("w0")).await;
        world.at_rest().await;
        let server = world.servers().get("local").await.unwrap().status.unwrap();
        let most = server.ram_total_mb.unwrap();
        // Two of these are more than the server has.
        template(&world, json!({"minRamMb": most * 6 / 10, "warm": 1})).await;
        warm(&world, 1).await;
        let mut other = records::workspace("w1");
        other["spec"]["env"] = json!({"COLOUR": "green"});
        world.create(other).await;
        answers(&world, "w1").await;
        assert_eq!(took_over(&world.workspace("w1").await), None);
        let told = world.events("w1").await;
        assert!(told.iter().any(|(_, note)| note.contains("removed warm environment hello-0 to make room")), "{told:?}");
        // The next one waits, and says for what.
        until("word of it", SOON, async || {
            let status = templates(&world).get("hello").await.unwrap().status.unwrap_or_default();
            let said = find(&status.conditions, "Warm").filter(|c| c.reason == "Filling").map(|c| c.message.clone());
            if said.as_ref().is_some_and(|m| m.contains("no server can take it")) { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await;
        world.delete("w1").await;
        warm(&world, 1).await;
        world.at_rest_within(SOON).await;
    });
}

#[test]
fn a_restore_gives_nobody_what_may_be_somebodys() {
    in_world(async |mut world| {
        world.ground().await;
        template(&world, json!({"warm": 1})).await;
        warm(&world, 1).await;
        let run = |world: &World<'_>, words: &[&str]| {
            let done = devsanctum().arg("--state-dir").arg(world.state_dir()).args(words).output().unwrap();
            assert!(done.status.success(), "{words:?}: {done:?}");
        };
        let backup = world.state_dir().join("backup").display().to_string();
        run(&world, &["backup", &backup]);
        // Somebody works in it since.
        world.create(records::workspace("w0")).await;
        answers(&world, "w0").await;
        let theirs = world.container("w0").await;
        assert!(took_over(&world.workspace("w0").await).is_some());
        world.kill();
        run(&world, &["restore", &backup, "--replace"]);
        world.protect("container", &theirs);
        world.protect("volume", &format!("{theirs}.data"));
        world.restart().await;
        world.event("local", "StraysHeld").await;
        world.create(records::workspace("w1")).await;
        answers(&world, "w1").await;
        assert_eq!(took_over(&world.workspace("w1").await), None);
        assert!(environments(&world).await.is_empty(), "none is made by records that nobody has looked at");

        // Somebody has: then there are new ones, and the old one is still there.
        let settings: Api<Settings> = Api::all(world.client.clone());
        let release = json!({"metadata": {"annotations": {labels::RESTORED: null}}});
        settings.patch("default", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
        until("a new one", SOON, async || match environments(&world).await.first().map(ResourceExt::name_any) {
            Some(_) => Ok(()),
            None => Err("none".into()),
        })
        .await;
    });
}
