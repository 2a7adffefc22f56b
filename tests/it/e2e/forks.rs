//! Workspaces that begin as a copy of another.

use super::records;
use super::world::{World, in_world, until};
use crate::support::devsanctum;
use devsanctum::resource::Template;
use devsanctum::resource::conditions::find;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

async fn inside(world: &World<'_>, name: &str, script: &str) -> String {
    world.docker_says(&["exec", &world.container(name).await, "sh", "-c", &format!("{script} 2>&1")]).trim().to_owned()
}

async fn fork(world: &World<'_>, args: &[&str]) -> (Option<i32>, String) {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "fork"]).args(args);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

#[test]
fn a_fork_has_the_other_s_files_and_goes_its_own_way() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let number = world.page("w0").await.1;
        let work = "cd /data && mkdir -p a/b && echo deep > a/b/c && ln -s a/b/c link && chown 1234:99 a/b/c && chmod 640 a/b/c";
        assert_eq!(inside(&world, "w0", work).await, "");
        assert_eq!(fork(&world, &["w0", "w1"]).await, (Some(0), "workspace/w1 forked from workspace/w0\n".into()));
        assert_eq!(world.page("w1").await, (200, number.clone()), "the page says who was there first");
        assert_eq!(inside(&world, "w1", "cd /data && cat link && stat -c '%u %g %a' a/b/c").await, "deep\n1234 99 640");
        inside(&world, "w1", "echo mine > /data/a/b/c; echo w1 now > /data/index.html").await;
        world.at_rest_within(SOON).await;

        assert_eq!(inside(&world, "w0", "cat /data/link").await, "deep");
        let (code, words) = fork(&world, &["w0", "w1"]).await;
        assert!(code == Some(1) && words.contains("already exists"), "{words}");
        let (code, words) = fork(&world, &["nobody", "w2"]).await;
        assert!(code == Some(1) && words.contains("workspace \"nobody\" does not exist"), "{words}");

        // It is copied once: not again when its container is made anew, nor when the other is gone.
        world.delete("w0").await;
        world.gone("w0").await;
        world.daemon.docker(&["rm", "-f", &world.container("w1").await]);
        world.at_rest_within(SOON).await;
        assert_eq!(inside(&world, "w1", "cat /data/link").await, "mine");
    });
}

#[test]
fn a_fork_of_one_that_has_no_folders_of_its_own_just_starts() {
    in_world(async |world| {
        world.ground().await;
        let script = "mkdir -p /data; echo page > /data/index.html; httpd -p 8080 -h /data; while :; do sleep 3600 & wait; done";
        let templates: Api<Template> = Api::all(world.client.clone());
        let body = Patch::Merge(json!({"spec": {"folders": null, "startCommand": ["sh", "-c", script]}}));
        templates.patch("hello", &PatchParams::default(), &body).await.unwrap();
        let page = async |name: &str| match world.page(name).await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?} {:?}", world.workspace(name).await.status.unwrap_or_default().message)),
        };
        world.create(records::workspace("w0")).await;
        until("a page", SOON, async || page("w0").await).await;
        assert_eq!(fork(&world, &["w0", "w1"]).await.0, Some(0));
        until("the fork's page", SOON, async || page("w1").await).await;
        assert_eq!(world.page("w1").await, (200, "page\n".into()));
        let (one, other) = (world.workspace("w0").await, world.workspace("w1").await.status.unwrap());
        assert_eq!(
            (other.forked_from, find(&other.conditions, "FoldersCopied").unwrap().status.as_str()),
            (one.metadata.uid, "True")
        );
    });
}

#[test]
fn a_fork_of_what_is_not_there_says_so_and_one_killed_while_it_copies_goes_on() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let from = |name: &str, of: &str| {
            let mut record = records::workspace(name);
            record["spec"]["from"] = json!(of);
            record
        };
        world.create(from("w1", "nobody")).await;
        until("word of it", SOON, async || {
            let all = world.workspace("w1").await.status.unwrap_or_default().conditions;
            match find(&all, "FoldersCopied").filter(|c| c.reason == "SourceNotFound") {
                Some(c) if c.message.contains("no other workspace \"nobody\"") => Ok(()),
                _ => Err(format!("{all:?}")),
            }
        })
        .await;
        world.delete("w1").await;
        world.gone("w1").await;

        // Another one that has the name by then is not copied.
        world.create(records::workspace("w3")).await;
        until("a page", SOON, async || if world.page("w3").await.0 == 200 { Ok(()) } else { Err("none".into()) }).await;
        let mut stopped = from("w4", "w3");
        stopped["spec"]["running"] = json!(false);
        world.create(stopped).await;
        world.delete("w3").await;
        world.gone("w3").await;
        world.create(records::workspace("w3")).await;
        until("a page", SOON, async || if world.page("w3").await.0 == 200 { Ok(()) } else { Err("none".into()) }).await;
        world.merge("w4", json!({"spec": {"running": true}})).await;
        until("word of it", SOON, async || {
            let all = world.workspace("w4").await.status.unwrap_or_default().conditions;
            match find(&all, "FoldersCopied").filter(|c| c.reason == "SourceIsAnother") {
                Some(c) if c.message.contains("workspace \"w3\" is not the one") => Ok(()),
                _ => Err(format!("{all:?}")),
            }
        })
        .await;
        for name in ["w3", "w4"] {
            world.delete(name).await;
            world.gone(name).await;
        }

        // Enough to be met at it.
        inside(&world, "w0", "cd /data && mkdir many && cd many && for i in $(seq 3000); do echo $i > $i; done").await;
        world.create(from("w2", "w0")).await;
        let copier = format!("{}_copy", world.container("w2").await);
        until("the copier", SOON, async || match world.daemon.try_docker(&["kill", &copier]).status.success() {
            true => Ok(()),
            false if world.page("w2").await.0 == 200 => Ok(()),
            false => Err("it is not there".into()),
        })
        .await;
        until("the copy", SOON, async || match world.page("w2").await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?} {:?}", world.workspace("w2").await.status.unwrap_or_default().message)),
        })
        .await;
        assert_eq!(inside(&world, "w2", "ls /data/many | wc -l").await, "3000");
        assert_eq!(world.docker_says(&["ps", "-aqf", &format!("name={copier}")]), "");
        inside(&world, "w2", "echo w2 now > /data/index.html").await;
        world.at_rest_within(SOON).await;
    });
}
