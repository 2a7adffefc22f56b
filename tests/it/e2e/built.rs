//! Workspaces of images that are built.

use super::records;
use super::world::{World, in_world, until};
use crate::support::devsanctum;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Settings, Template};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

async fn dockerfile(world: &World<'_>, text: &str) {
    let templates: Api<Template> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"spec": {"dockerfile": text}}));
    templates.patch("hello", &PatchParams::default(), &patch).await.unwrap();
}

/// Waits for a condition of `w0`, and gives its message.
async fn condition(world: &World<'_>, name: &str, reason: &str) -> String {
    let mut message = String::new();
    until(&format!("{name} {reason}"), SOON, async || {
        let all = world.workspace("w0").await.status.unwrap_or_default().conditions;
        let found = find(&all, name).filter(|c| c.reason == reason);
        message = found.map(|c| c.message.clone()).ok_or_else(|| format!("{all:?}"))?;
        Ok(())
    })
    .await;
    message
}

/// What a file of a workspace's own container holds.
async fn file(world: &World<'_>, workspace: &str, path: &str) -> String {
    world.docker_says(&["exec", &world.container(workspace).await, "cat", path]).trim().to_owned()
}

#[test]
fn workspaces_of_one_template_share_one_image_that_is_built_once() {
    in_world(async |world| {
        world.ground().await;
        dockerfile(&world, "ENV COLOUR=green\nRUN cat /proc/sys/kernel/random/uuid > /made && echo $COLOUR > /colour").await;
        for i in 0..5 {
            world.create(records::workspace(&format!("w{i}"))).await;
        }
        world.at_rest_within(SOON).await;
        let made = file(&world, "w0", "/made").await;
        assert_eq!(made.len(), 36);
        for i in 1..5 {
            assert_eq!(file(&world, &format!("w{i}"), "/made").await, made, "it was built again for w{i}");
        }
        assert_eq!(file(&world, "w0", "/colour").await, "green");
        assert_eq!(world.page("w0").await.0, 200);
        let image = world.workspace("w0").await.status.unwrap().image.unwrap();
        assert!(image.starts_with("devsanctum/env:"), "{image}");

        // Another environment leaves what runs alone, until somebody says so.
        dockerfile(&world, "RUN echo other > /made").await;
        let told = condition(&world, "UpToDate", "EnvironmentChanged").await;
        assert_eq!(file(&world, "w0", "/made").await, made);
        assert!(told.contains(&world.workspace("w0").await.status.unwrap().latest_environment.unwrap()), "{told}");
        assert_eq!(workspace(&world, &["update", "w0"]), "workspace/w0 updated\n");
        assert_eq!(file(&world, "w0", "/made").await, "other");
        assert_eq!(workspace(&world, &["update", "w0"]), "workspace/w0 is up to date\n");
        assert_eq!(workspace(&world, &["stop", "ws/w2"]), "workspace/w2 stopped\n");
        assert_eq!(world.docker_says(&["exec", &world.container("w2").await, "true"]), "");
        assert_eq!(workspace(&world, &["start", "w2"]), "workspace/w2 started\n");
        assert_eq!(world.page("w2").await.0, 200);
        assert_eq!(file(&world, "w1", "/made").await, made);
        world.at_rest_within(SOON).await;
    });
}

#[test]
fn a_build_that_fails_says_what_the_builder_said_and_heals_when_it_is_corrected() {
    in_world(async |world| {
        world.ground().await;
        dockerfile(&world, "RUN echo looking for it; echo there is no such thing >&2; exit 7").await;
        world.create(records::workspace("w0")).await;
        let told = condition(&world, "ImageReady", "ImageBuildFailed").await;
        for words in ["cannot be built on local", "non-zero code: 7", "\nlooking for it\n", "\nthere is no such thing\n"] {
            assert!(told.contains(words), "no {words:?} in {told}");
        }
        assert!(world.workspace("w0").await.status.unwrap().message.unwrap().contains("there is no such thing"));
        dockerfile(&world, "RUN echo found > /made").await;
        world.at_rest_within(SOON).await;
        assert_eq!(file(&world, "w0", "/made").await, "found");
    });
}

#[test]
fn what_is_run_while_building_reaches_no_neighbour_and_leaves_no_container() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let neighbour = world.workspace("w0").await.status.unwrap().address.unwrap();
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {neighbour} 8080");
        dockerfile(&world, &format!("RUN {{ {ask}; echo asked; }} > /made; hostname -i >> /made")).await;
        world.create(records::workspace("w1")).await;
        world.at_rest_within(SOON).await;
        let made = file(&world, "w1", "/made").await;
        assert!(made.starts_with("asked\n"), "it reached {neighbour}: {made}");
        // It was on a network where it could have.
        let network = |address: &str| address.split('.').take(2).collect::<Vec<_>>().join(".");
        assert_eq!(network(made.lines().nth(1).unwrap()), network(&neighbour), "{made}");
    });
}

#[test]
fn a_build_is_broken_off_when_nobody_waits_for_it_and_what_it_said_is_kept() {
    in_world(async |world| {
        world.ground().await;
        dockerfile(&world, "RUN echo at it; exec sleep 120").await;
        world.create(records::workspace("w0")).await;
        until("the builder to say so", SOON, async || match log(&world, &["w0", "--build"]).await {
            (_, said) if said.contains("\nat it\n") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let building = || world.docker_says(&["ps", "--no-trunc", "--format", "{{.Command}}"]).contains("at it");
        assert!(building());
        workspace(&world, &["stop", "w0"]);
        until("the builder to stop", SOON, async || if building() { Err("it builds".into()) } else { Ok(()) }).await;

        dockerfile(&world, "RUN echo at last").await;
        workspace(&world, &["start", "w0"]);
        world.at_rest_within(SOON).await;
        let (_, said) = log(&world, &["w0", "--build", "-f"]).await;
        assert!(said.starts_with("Step 1/3 : FROM ") && said.contains("\nat last\n"), "{said}");
        assert_eq!(log(&world, &["w0", "--build", "--tail", "1"]).await.1.lines().count(), 1);
        dockerfile(&world, "RUN echo no; exit 3").await;
        world.create(records::workspace("w1")).await;
        until("the failure", SOON, async || match log(&world, &["w1", "--build"]).await {
            (_, said) if said.ends_with("returned a non-zero code: 3\n") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    });
}

#[test]
fn images_that_nothing_uses_are_removed_and_those_in_use_stay() {
    in_world(async |world| {
        world.ground().await;
        let patch = |spec: serde_json::Value| Patch::Merge(json!({"spec": spec}));
        let settings: Api<Settings> = Api::all(world.client.clone());
        settings.patch("default", &PatchParams::default(), &patch(json!({"images": {"keep": "1s"}}))).await.unwrap();
        world.servers().patch("local", &PatchParams::default(), &patch(json!({"pollInterval": "1s"}))).await.unwrap();
        let mut images = Vec::new();
        for i in 0..3 {
            dockerfile(&world, &format!("RUN echo {} {i} > /made", world.instance)).await;
            let name = format!("w{i}");
            world.create(records::workspace(&name)).await;
            until(&format!("{name} to run"), SOON, async || match world.page(&name).await {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
            images.push(world.workspace(&name).await.status.unwrap().image.unwrap());
        }
        // The first one's goes with it; the second's container is of an older environment, and stays.
        world.delete("w0").await;
        world.delete("w2").await;
        let there = |image: &String| world.daemon.try_docker(&["image", "inspect", image]).status.success();
        until("the image to go", SOON, async || if there(&images[0]) { Err("it is there".into()) } else { Ok(()) }).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(there(&images[1]) && there(&images[2]));
        assert_eq!(world.page("w1").await.0, 200);

        // What a build that went wrong has left has no name, and goes too.
        dockerfile(&world, &format!("ENV OF={}\nRUN exit 3", world.instance)).await;
        world.create(records::workspace("w3")).await;
        until("the failure", SOON, async || match log(&world, &["w3", "--build"]).await {
            (_, said) if said.ends_with("returned a non-zero code: 3\n") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        world.delete("w3").await;
        let label = format!("label=devsanctum.io/built-by={}", world.instance);
        until("what it left to go", SOON, async || match world.docker(&["images", "-q", "-f", "dangling=true", "-f", &label]) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        })
        .await;
    });
}

/// What `devsanctum logs` prints, and how it ends.
async fn log(world: &World<'_>, args: &[&str]) -> (Option<i32>, String) {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "logs"]).args(args);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

/// What `devsanctum workspace` prints.
fn workspace(world: &World<'_>, args: &[&str]) -> String {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "workspace"]).args(args);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// What `devsanctum template render` prints, and what it complains of.
fn render(world: &World<'_>, args: &[&str]) -> (String, String) {
    let mut command = devsanctum();
    let done = command.arg("--state-dir").arg(world.state_dir()).args(["template", "render"]).args(args).output().unwrap();
    assert_eq!(done.status.success(), done.stderr.is_empty(), "{done:?}");
    (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn a_template_is_rendered_as_its_workspaces_get_it() {
    in_world(async |world| {
        world.ground().await;
        world.create(records::feature("side")).await;
        dockerfile(&world, "ENV COLOUR=green").await;
        let child = json!({"extends": "hello", "features": [{"name": "side"}], "env": {"LEVEL": "2"}, "minRamMb": 100});
        let kind = json!({"apiVersion": "devsanctum.io/v1", "kind": "Template", "metadata": {"name": "child"}, "spec": child});
        world.create(kind).await;
        let rendered = async |args: &[&str], wanted: &str| {
            let mut said = (String::new(), String::new());
            until(&format!("{wanted:?} of {args:?}"), SOON, async || {
                said = render(&world, args);
                if said.0.contains(wanted) || said.1.contains(wanted) { Ok(()) } else { Err(format!("{said:?}")) }
            })
            .await;
            said
        };
        let (text, _) = rendered(&["child"], "sidecars:").await;
        for part in ["image: devsanctum/env:", "side:", "LEVEL: \"2\"", "path: /data", "port: 8080", "minRamMb: 100"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        let (text, _) = rendered(&["child", "--dockerfile"], "FROM").await;
        assert_eq!(text.trim_end(), format!("FROM {}\nENV COLOUR=\"green\"", crate::support::dockerd::TINY));
        let templates: Api<Template> = Api::all(world.client.clone());
        let clear = Patch::Merge(json!({"spec": {"dockerfile": null}}));
        templates.patch("hello", &PatchParams::default(), &clear).await.unwrap();
        rendered(&["child", "--dockerfile"], "nothing is built for template \"child\"").await;
        let third = Patch::Merge(json!({"spec": {"features": [{"name": "side", "options": {"size": "2"}}]}}));
        templates.patch("child", &PatchParams::default(), &third).await.unwrap();
        rendered(&["child"], "cannot be rendered: feature \"side\" has no option \"size\"").await;
        assert!(render(&world, &["none"]).1.contains("template \"none\" does not exist"));
    });
}
