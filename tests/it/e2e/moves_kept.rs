//! What goes wrong with a move, and what is not lost by it.

use super::faults::line::{Mode, Window};
use super::moves::{SOON, at_work, command, files, held, is_gone_from, is_on, on_two, online, said, serves, to};
use super::records;
use super::world::{World, annotation, until};
use crate::support::dockerd::{Dockerd, Options, TINY};
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Template, Workspace, labels};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn one_whose_image_has_volumes_says_so_and_stays() {
    on_two(&Options::default(), false, async |world, second, _| {
        let image = "ds-test/volume:1";
        world.daemon.docker(&["create", "--name", "plain", TINY, "true"]);
        world.daemon.docker(&["commit", "--change", "VOLUME /own", "plain", image]);
        world.daemon.docker(&["rm", "plain"]);
        let templates: Api<Template> = Api::all(world.client.clone());
        templates.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": {"base": image}}))).await.unwrap();
        let before = at_work(&world, 1).await;
        let container = world.container("w0").await;
        let (code, words) = command(&world, &["move", "w0", "--to", "second"]).await;
        assert!(code == Some(1) && words.contains(&format!("/own in {container} is on a volume")), "{words}");
        assert!(words.contains("make it a folder of its template"), "{words}");
        let w = world.workspace("w0").await;
        assert_eq!((w.server(), w.spec.docker_server.as_deref(), world.page("w0").await.0), (Some("first"), Some("first"), 200));
        assert_eq!((is_gone_from(second, &w), files(world.daemon, &container)), (Ok(()), before));
    });
}

#[test]
fn what_was_carried_and_is_gone_again_is_not_made_anew_in_its_place() {
    on_two(&Options::default(), true, async |world, second, lines| {
        let lines = lines.unwrap();
        let before = at_work(&world, 1).await;
        let (container, w) = (world.container("w0").await, world.workspace("w0").await);
        // After the container that its volume is carried through, its own is made.
        let mut held_at = lines[1].trap_after(1, "POST containers/create", Window::Before);
        to(&world, "second").await;
        held_at.caught(SOON).await.unwrap();
        let [_, _, volumes, _] = held(second, &w);
        assert_eq!(volumes.len(), 1, "{volumes:?}");
        second.docker(&["volume", "rm", &volumes[0]]);
        drop(held_at);
        let words = said(&world, "CarriedIsGone").await;
        assert!(words.contains(&volumes[0]) && words.contains("devsanctum workspace move w0 --to first"), "{words}");
        assert_eq!(held(world.daemon, &w)[2], volumes, "what it was is there");
        let (code, words) = command(&world, &["move", "w0", "--to", "first"]).await;
        assert_eq!(code, Some(0), "{words}");
        is_on(&world, "first", [world.daemon, second]).await;
        assert_eq!((files(world.daemon, &container), is_gone_from(second, &w)), (before, Ok(())));
    });
}

#[test]
fn what_had_come_stays_until_what_it_was_is_seen_to_be_whole() {
    on_two(&Options::default(), true, async |world, second, lines| {
        let lines = lines.unwrap();
        let before = at_work(&world, 1).await;
        let (container, w) = (world.container("w0").await, world.workspace("w0").await);
        let mut held_at = lines[1].trap("PUT containers/*/archive", Window::After);
        to(&world, "second").await;
        held_at.caught(SOON).await.unwrap();
        lines[0].set(Mode::Refuse);
        held_at.release();
        to(&world, "first").await;
        let words = said(&world, "ServerUnreachable").await;
        assert!(words.contains("cannot go back to first") && words.contains("on second stays"), "{words}");
        let volumes = held(second, &w)[2].clone();
        assert_eq!((volumes.len(), &volumes), (1, &held(world.daemon, &w)[2]), "{words}");

        // The server comes back without it.
        for name in &held(world.daemon, &w)[1] {
            world.daemon.docker(&["rm", "-f", name]);
        }
        world.daemon.docker(&["volume", "rm", &volumes[0]]);
        lines[0].set(Mode::Good);
        let words = said(&world, "SourceIsGone").await;
        assert!(words.contains(&volumes[0]) && words.contains("devsanctum workspace move w0 --to second"), "{words}");
        assert_eq!(held(second, &w)[2], volumes, "the only copy");
        to(&world, "second").await;
        is_on(&world, "second", [world.daemon, second]).await;
        assert_eq!(files(second, &container), before);
    });
}

/// Its containers and its volumes; an image goes with those that nobody uses.
async fn goes_from(engine: &Dockerd, w: &Workspace) {
    until("what was left behind to go", SOON, async || match &held(engine, w)[..3] {
        all if all.iter().all(Vec::is_empty) => Ok(()),
        all => Err(format!("{all:?}")),
    })
    .await;
}

#[test]
fn what_is_left_behind_on_a_server_that_is_away_goes_once_that_answers_again() {
    on_two(&Options::default(), true, async |world, second, lines| {
        let lines = lines.unwrap();
        let before = at_work(&world, 1).await;
        let (container, w, engines) = (world.container("w0").await, world.workspace("w0").await, [world.daemon, second]);
        // A move that is given up.
        let mut held_at = lines[1].trap("PUT containers/*/archive", Window::After);
        to(&world, "second").await;
        held_at.caught(SOON).await.unwrap();
        lines[1].set(Mode::Refuse);
        held_at.release();
        to(&world, "first").await;
        is_on(&world, "first", engines).await;
        assert!(world.event("w0", "LeftBehind").await.contains("what was carried to server second"));
        assert_eq!((held(second, &w)[2].len(), world.workspace("w0").await.status.unwrap().left_moves.len()), (1, 1));
        lines[1].set(Mode::Good);
        goes_from(second, &w).await;
        assert_eq!(files(world.daemon, &container), before);

        // One that is done, but for what it was, whose server somebody gives up.
        online(&world, "second").await;
        let mut held_at = lines[0].trap("DELETE volumes/*", Window::Before);
        to(&world, "second").await;
        held_at.caught(SOON).await.unwrap();
        lines[0].set(Mode::Refuse);
        held_at.release();
        let words = said(&world, "OldRemains").await;
        assert!(words.contains(&format!("{}=true", labels::ABANDON)), "{words}");
        world.merge("w0", annotation(labels::ABANDON, "true")).await;
        is_on(&world, "second", engines).await;
        assert_eq!(held(world.daemon, &w)[2].len(), 1, "its volume is on both");
        lines[0].set(Mode::Good);
        goes_from(world.daemon, &w).await;
        assert_eq!((files(second, &container), world.page("w0").await.0), (before, 200));
    });
}

/// A companion of another day, which writes on.
fn companion(engine: &Dockerd, container: &str, volume: &str) {
    let said = engine.docker(&["inspect", "--format", "{{json .Config.Labels}}", container]);
    let mut all: BTreeMap<String, String> = serde_json::from_str(&said).unwrap();
    all.insert(labels::ROLE.into(), "sidecar.old".into());
    let labels: Vec<String> = all.iter().flat_map(|(key, value)| ["--label".to_owned(), format!("{key}={value}")]).collect();
    let (name, mount) = (format!("{container}_old"), format!("{volume}:/data"));
    let write = "while :; do echo more >> /data/late; sleep 0.05; done";
    let mut args = vec!["run", "-d", "--network", "none", "--name", &name, "-v", &mount];
    args.extend(labels.iter().map(String::as_str));
    args.extend([TINY, "sh", "-c", write]);
    engine.docker(&args);
}

#[test]
fn nothing_of_it_writes_while_it_is_carried_and_one_that_is_deleted_goes_from_where_it_can() {
    on_two(&Options::default(), true, async |world, second, lines| {
        let lines = lines.unwrap();
        at_work(&world, 1).await;
        let (container, w, engines) = (world.container("w0").await, world.workspace("w0").await, [world.daemon, second]);
        companion(world.daemon, &container, &held(world.daemon, &w)[2][0]);
        let mut held_at = lines[1].trap("PUT containers/*/archive", Window::Before);
        to(&world, "second").await;
        held_at.caught(SOON).await.unwrap();
        let filter = format!("label={}={}", labels::UID, w.identity().uid);
        assert_eq!(
            world.daemon.docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"]).trim(),
            "",
            "something of it runs"
        );
        held_at.release();
        is_on(&world, "second", engines).await;
        assert_eq!(is_gone_from(world.daemon, &w), Ok(()));

        let mut held_at = lines[0].trap("PUT containers/*/archive", Window::Before);
        to(&world, "first").await;
        held_at.caught(SOON).await.unwrap();
        lines[0].set(Mode::Refuse);
        held_at.release();
        said(&world, "ServerUnreachable").await;
        world.delete("w0").await;
        until("it to go from the server that answers", SOON, async || is_gone_from(second, &w)).await;
        assert!(world.workspace("w0").await.metadata.deletion_timestamp.is_some(), "the other server's is still to go");
        lines[0].set(Mode::Good);
        until("it to go from both", SOON, async || match world.workspaces().get_opt("w0").await.unwrap() {
            None => is_gone_from(world.daemon, &w),
            Some(left) => Err(format!("{:?}", left.status)),
        })
        .await;
    });
}

fn signal(signal: &str, pids: &[String]) {
    let done = std::process::Command::new("kill").arg(signal).args(pids).status().unwrap();
    assert!(done.success(), "kill {signal} {pids:?}");
}

/// Catches the container that copies in the middle, and holds all that runs in it.
async fn held_copier(world: &World<'_>) -> Vec<String> {
    let copier = || world.docker_says(&["ps", "-q", "--filter", &format!("label={}=copy", labels::ROLE)]).trim().to_owned();
    let mut id = copier();
    while id.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        id = copier();
    }
    let first = world.docker(&["inspect", "--format", "{{.State.Pid}}", &id]).trim().to_owned();
    signal("-STOP", std::slice::from_ref(&first));
    let all = world.docker(&["top", &id, "-o", "pid"]);
    let rest: Vec<String> = all.lines().skip(1).map(|l| l.trim().to_owned()).filter(|pid| *pid != first).collect();
    if !rest.is_empty() {
        signal("-STOP", &rest);
    }
    [rest, vec![first]].concat()
}

fn fork_of_w0(name: &str, running: bool) -> Value {
    let mut record = records::workspace(name);
    record["spec"]["from"] = json!("w0");
    record["spec"]["running"] = json!(running);
    record
}

#[test]
fn a_fork_and_a_move_of_what_it_copies_do_not_wait_for_each_other() {
    on_two(&Options::default(), false, async |world, second, _| {
        at_work(&world, 300).await;
        world.create(fork_of_w0("w1", true)).await;
        let pids = held_copier(&world).await;
        to(&world, "second").await;
        let words = said(&world, "OldRemains").await;
        assert!(words.contains("in use"), "{words}");
        let copied = find(&world.workspace("w1").await.status.unwrap().conditions, "FoldersCopied").cloned();
        signal("-CONT", &pids);
        serves(&world, "w1").await;
        assert_eq!(copied.map(|c| c.reason), Some("Copying".into()));
        let inside =
            |engine: &Dockerd, name: &str| engine.docker(&["exec", name, "sh", "-c", "cat /data/link; stat -c %s /data/big"]);
        let (one, other) = (world.container("w0").await, world.container("w1").await);
        assert_eq!(inside(world.daemon, &other), inside(second, &one));
        is_on(&world, "second", [world.daemon, second]).await;

        // One that was placed beside it before, and has nothing there yet, goes after it.
        world.create(fork_of_w0("w2", false)).await;
        let placed =
            json!({"status": {"phase": "STOPPED", "dockerServer": "first", "reservedRamMb": 16, "reservedDiskGb": 0.01}});
        world.workspaces().patch_status("w2", &PatchParams::default(), &Patch::Merge(placed)).await.unwrap();
        world.merge("w2", json!({"spec": {"running": true}})).await;
        serves(&world, "w2").await;
        assert_eq!(world.workspace("w2").await.server(), Some("second"));
        let other = world.container("w2").await;
        assert_eq!(inside(second, &other), inside(second, &one));
    });
}
