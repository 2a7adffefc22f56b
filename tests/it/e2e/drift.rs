//! What people do to containers, networks, volumes and routes behind our back is put right.

use super::records::IDLE;
use super::world::{World, annotation, in_world, until};
use devsanctum::resource::labels;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use std::time::Duration;

/// Bound on putting one thing right.
const SOON: Duration = Duration::from_secs(60);

/// Waits until a condition of `w0` has this reason and says this.
async fn told(world: &World<'_>, reason: &str, words: &str) {
    until(&format!("{reason} to be told"), SOON, async || {
        let all = world.workspace("w0").await.status.unwrap().conditions;
        let found = all.iter().any(|c| c.reason == reason && c.message.contains(words));
        if found { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
}

/// Makes a change, and the world equals the records again in bounded time, with the same files.
async fn mended(world: &World<'_>, what: &str, change: impl FnOnce()) {
    let before = world.page("w0").await;
    assert_eq!(before.0, 200);
    eprintln!("drift: {what}");
    world.unseen(change);
    world.at_rest_within(SOON).await;
    assert_eq!(world.page("w0").await, before, "after {what} the volume holds something else");
}

#[test]
fn a_container_killed_removed_stopped_paused_or_renamed_comes_back_once_with_its_files() {
    in_world(async |world| {
        world.with_workspaces(2).await;
        let c = world.container("w0").await;
        for args in [&["rm", "-f", &c][..], &["kill", &c], &["stop", "-t", "0", &c], &["pause", &c], &["rename", &c, "renamed"]] {
            mended(&world, args[0], || drop(world.docker(args))).await;
            if args[0] == "rm" {
                world.docker(&["exec", &c, "sh", "-c", "echo kept > /root/own"]);
            }
            assert_eq!(world.docker(&["exec", &c, "cat", "/root/own"]), "kept", "after {}", args[0]);
        }
    });
}

#[test]
fn limits_changed_by_hand_are_given_back_while_it_runs_and_while_it_does_not() {
    in_world(async |world| {
        world.with_workspaces(2).await;
        let c = world.container("w0").await;
        let what = "{{with .HostConfig}}{{.Memory}} {{.MemorySwap}} {{.NanoCpus}} {{.PidsLimit}} {{.RestartPolicy.Name}}{{end}} \
            {{.Id}} {{.State.StartedAt}}";
        let state = || world.docker(&["inspect", "--format", what, &c]);
        let given_back = async |before: &str, edit: &[&str]| {
            eprintln!("drift: {edit:?}");
            world.unseen(|| drop(world.docker(edit)));
            until("limits to be given back", SOON, async || match state() {
                now if now == before => Ok(()),
                now => Err(now),
            })
            .await;
        };
        let more = ["update", "--memory=1g", "--memory-swap=2g", "--cpus=1", "--pids-limit=-1", "--restart=always", &c];
        let edits = [&more[..], &["update", "--pids-limit=7", &c], &["update", "--restart=unless-stopped", &c]];
        let before = state();
        for edit in edits {
            given_back(&before, edit).await;
        }
        world.merge("w0", json!({"spec": {"running": false}})).await;
        world.at_rest_within(SOON).await;
        let before = state();
        for edit in edits {
            given_back(&before, edit).await;
        }
        world.at_rest_within(SOON).await;
    });
}

#[test]
fn a_network_disconnected_or_removed_comes_back() {
    in_world(async |world| {
        world.with_workspaces(2).await;
        let (net, c) = (world.bridge(), world.container("w0").await);
        mended(&world, "disconnect", || drop(world.docker(&["network", "disconnect", "-f", &net, &c]))).await;
        let members = || world.docker(&["ps", "-a", "--filter", &format!("network={net}"), "--format", "{{.Names}}"]);
        mended(&world, "network rm", || {
            for member in members().lines() {
                world.docker(&["network", "disconnect", "-f", &net, member]);
            }
            world.docker(&["network", "rm", &net]);
        })
        .await;
        mended(&world, "network rm under stopped containers", || {
            for member in members().lines() {
                // The neighbour of a proof may have ended by now; one that still ran would keep the network.
                world.docker_says(&["kill", member]);
            }
            world.docker(&["network", "rm", &net]);
        })
        .await;
        mended(&world, "probe rm", || drop(world.docker(&["rm", "-f", &format!("{net}-probe")]))).await;
    });
}

#[test]
fn a_removed_volume_is_made_anew_and_empty() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let (c, before) = (world.container("w0").await, world.page("w0").await);
        world.unseen(|| {
            world.docker(&["rm", "-f", &c]);
            world.docker(&["volume", "rm", &format!("{c}.data")]);
        });
        world.at_rest_within(SOON).await;
        assert_ne!(world.page("w0").await, before);
    });
}

#[test]
fn a_container_under_our_name_is_taken_for_ours_only_when_every_label_says_so() {
    in_world(async |mut world| {
        world.with_workspaces(1).await;
        let (c, before) = (world.container("w0").await, world.page("w0").await);
        let made_from = world.workspace("w0").await.status.unwrap().environment.unwrap();
        let format = "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}\n{{end}}";
        let own: Vec<String> = world.docker(&["inspect", "--format", format, &c]).lines().map(str::to_owned).collect();
        let impostor = |change: (&str, &str)| {
            let labels = own.iter().filter_map(|l| l.split_once('='));
            labels.map(|(k, v)| (k.to_owned(), if k == change.0 { change.1 } else { v }.to_owned())).collect::<Vec<_>>()
        };
        let put = |labels: Vec<(String, String)>| {
            world.docker(&["rm", "-f", &c]);
            let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let mut args = vec!["run", "-d", "--network=none", "--name", &c];
            pairs.iter().for_each(|pair| args.extend(["--label", pair.as_str()]));
            args.extend(IDLE);
            world.docker(&args);
        };

        // It may hold somebody's work: it goes only when somebody says so.
        world.unseen(|| put(impostor((labels::DIGEST, "0123456789abcdef"))));
        told(&world, "EnvironmentChanged", labels::RECREATE).await;
        world.merge("w0", annotation(labels::RECREATE, &made_from)).await;
        world.at_rest_within(SOON).await;
        assert_eq!(world.page("w0").await, before, "made anew on its own volume");

        world.unseen(|| put(impostor((labels::INSTANCE, "another-instance"))));
        told(&world, "NameTaken", "Rename or remove it").await;
        world.docker(&["rename", &c, "somebody-elses"]);
        world.protect("container", "somebody-elses");
        world.at_rest_within(Duration::from_secs(30)).await;
    });
}

#[test]
fn routes_deleted_or_edited_by_hand_are_put_right() {
    in_world(async |world| {
        world.with_workspaces(2).await;
        let all = world.routes().list(&ListParams::default()).await.unwrap().items;
        let route = all.iter().find(|r| r.spec.workspace == "w0").unwrap();
        let host = route.spec.host.clone();
        world.routes().delete(&route.name_any(), &DeleteParams::default()).await.unwrap();
        until("the route to be made again", SOON, async || match world.routes().get_opt(&route.name_any()).await.unwrap() {
            Some(found) if found.uid() != route.uid() && found.spec.host == host => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        world.at_rest_within(SOON).await;
        let edit = Patch::Merge(json!({"spec": {"host": "elsewhere.example.com"}}));
        world.routes().patch(&route.name_any(), &PatchParams::default(), &edit).await.unwrap();
        until("the host to be put right", SOON, async || {
            let found = world.routes().get(&route.name_any()).await.unwrap().spec.host;
            if found == host { Ok(()) } else { Err(found) }
        })
        .await;
        world.at_rest_within(SOON).await;
    });
}

#[test]
fn stopping_keeps_both_file_systems_and_starting_brings_them_back() {
    in_world(async |world| {
        world.with_workspaces(1).await;
        let (c, before) = (world.container("w0").await, world.page("w0").await);
        world.docker(&["exec", &c, "sh", "-c", "echo kept > /root/own"]);
        world.merge("w0", json!({"spec": {"running": false}})).await;
        world.at_rest().await;
        world.docker(&["start", &c]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.at_rest_within(SOON).await;
        world.merge("w0", json!({"spec": {"running": true}})).await;
        world.at_rest().await;
        assert_eq!(world.docker(&["exec", &c, "cat", "/root/own"]), "kept");
        assert_eq!(world.page("w0").await, before);
        world.merge("w0", annotation("note", "a change that concerns nobody")).await;
        world.at_rest().await;
    });
}

#[test]
fn two_workspaces_cannot_reach_each_other() {
    in_world(async |world| {
        world.with_workspaces(2).await;
        let (a, b) = (world.container("w0").await, world.container("w1").await);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let ip = world.docker(&["inspect", "--format", format, &b]);
        let request = format!("printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 {ip} 8080");
        let ask = |from: &str| world.docker_says(&["exec", from, "sh", "-c", &request]).contains("200 OK");
        assert!(ask(&b), "it reaches itself, so the question is a fair one");
        assert!(!ask(&a));
    });
}
