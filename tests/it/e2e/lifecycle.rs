//! Workspaces stop and go by themselves: on a real engine and behind a real Traefik, by terms of seconds.

use super::gate::host_of;
use super::records;
use super::revoked::{Socket, ground};
use super::world::{PATIENCE, World, in_world, until};
use crate::support::browser::Browser;
use crate::support::devsanctum;
use crate::support::outside::MailServer;
use crate::support::traefik::request;
use devsanctum::resource::{Settings, User, WorkspacePhase, WorkspaceStatus, labels};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const STOP_AFTER: i64 = 8;

async fn set(world: &World<'_>, change: Value) {
    let settings: Api<Settings> = Api::all(world.client.clone());
    settings.patch("default", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

pub async fn lay_down(world: &World<'_>, stop: &str, destroy: &str) {
    set(world, json!({"spec": {"lifecycle": {"stopAfter": stop, "destroyAfter": destroy}}})).await;
}

fn subject(mail: &str) -> Option<String> {
    mail.lines().find_map(|line| line.strip_prefix("Subject: ")).map(|subject| subject.trim().to_owned())
}

/// Public workspaces of a template that echoes, as they are made.
pub async fn workspaces(world: &World<'_>, names: &[&str], spec: Value) {
    for name in names {
        let mut workspace = records::workspace(name);
        workspace["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        world.create(workspace).await;
    }
}

async fn status(world: &World<'_>, name: &str) -> WorkspaceStatus {
    world.workspace(name).await.status.unwrap_or_default()
}

/// They are timed from when a time is laid down: until then, none stops while another comes up.
pub async fn up(world: &World<'_>, names: &[&str]) {
    for name in names {
        until(&format!("{name} to be up"), PATIENCE, async || {
            let status = status(world, name).await;
            let is = status.phase == WorkspacePhase::Running && status.stop_at.is_none();
            if is { Ok(()) } else { Err(format!("{:?} {:?}", status.phase, status.message)) }
        })
        .await;
    }
}

/// Waits until a workspace is not wanted to run any more; gives how long after what the record tells as its last work that was.
pub async fn stopped(world: &World<'_>, name: &str) -> i64 {
    let mut last = None;
    until(&format!("{name} to be stopped"), PATIENCE, async || {
        let now = world.workspace(name).await;
        last = now.status.as_ref().and_then(|s| s.last_activity_at.clone()).or_else(|| last.clone());
        if now.spec.running { Err(format!("it runs; {last:?}, {:?}", now.status.unwrap_or_default().stop_at)) } else { Ok(()) }
    })
    .await;
    let last: Timestamp = last.unwrap().parse().unwrap();
    Timestamp::now().duration_since(last).as_secs()
}

pub async fn runs(world: &World<'_>, name: &str) -> bool {
    world.workspace(name).await.spec.running
}

/// A connection that stands open, over which a word of this length goes and comes back each second until it is cut.
pub async fn talks(world: &World<'_>, host: &str, length: usize) {
    let (code, _, mut socket) = Socket::open(world, &Browser::new(world.web), host).await;
    assert_eq!(code, 101);
    while socket.echoes(&"x".repeat(length)).await {
        sleep(SECOND).await;
    }
}

#[test]
fn who_works_in_a_workspace_keeps_it_and_one_that_is_idle_stops() {
    in_world(async |world| {
        ground(&world).await;
        world.create(records::user()).await;
        world.create(records::project("team", "echo")).await;
        let (idle, busy) = (["idle", "pinged"], ["visited", "talked", "shell"]);
        workspaces(&world, &idle, json!({})).await;
        workspaces(&world, &busy, json!({})).await;
        workspaces(&world, &["pinned"], json!({"pinned": true})).await;
        workspaces(&world, &["builds"], json!({"activeAboveCpu": 0.1})).await;
        workspaces(&world, &["rests"], json!({"activeAboveCpu": 0.1})).await;
        let hosts = futures::future::join_all(["pinged", "visited", "talked"].map(|name| host_of(&world, name))).await;
        up(&world, &["idle", "pinged", "visited", "talked", "shell", "pinned", "builds", "rests"]).await;
        world.docker(&["exec", "-d", &world.container("builds").await, "sh", "-c", "while [ ! -e /tmp/end ]; do :; done"]);

        let mut shell = devsanctum();
        shell.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "exec", "-i", "shell", "--", "cat"]);
        let mut shell = super::ways_in::Running(shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let (mut to, mut from) = (shell.0.stdin.take().unwrap(), shell.0.stdout.take().unwrap());
        let typing = async {
            loop {
                to.write_all(b"x").unwrap();
                to.flush().unwrap();
                sleep(SECOND).await;
            }
        };
        let visiting = async {
            loop {
                request(world.web, &hosts[1], "/", &[]).await;
                sleep(SECOND).await;
            }
        };
        let idling = async {
            lay_down(&world, &format!("{STOP_AFTER}s"), "never").await;
            stopped(&world, "rests").await;
            for name in idle {
                let after = stopped(&world, name).await;
                assert!((STOP_AFTER..STOP_AFTER + 20).contains(&after), "{name}: after {after} s");
                let note = world.event(name, "StoppedIdle").await;
                assert!(note.contains("8s") && note.contains("its files are kept"), "{note}");
            }
            // As long again, and some.
            sleep(Duration::from_secs(2 * STOP_AFTER.unsigned_abs())).await;
        };
        // A connection may be cut once for another reason, as when a busy machine has Traefik started anew; who talks connects again.
        let talking = async {
            for time in 0..2 {
                until("who talks to get in", PATIENCE, async || match request(world.web, &hosts[2], "/", &[]).await.0 {
                    502..=504 | 404 => Err("not yet".to_owned()),
                    _ => Ok(()),
                })
                .await;
                talks(&world, &hosts[2], 1500).await;
                let now = world.workspace("talked").await;
                assert!(time == 0 && now.spec.running, "what is talked over was cut: {now:?}\n{}", world.log_tail());
                eprintln!("the connection was cut; the log ends:\n{}", world.log_tail());
            }
        };
        tokio::select! {
            () = idling => {}
            () = typing => {}
            () = visiting => {}
            () = talking => {}
            () = async { talks(&world, &hosts[0], 4).await; std::future::pending().await } => {}
        }
        for name in busy.into_iter().chain(["builds"]) {
            assert!(runs(&world, name).await, "{name} is worked in");
        }
        assert!(runs(&world, "pinned").await && status(&world, "pinned").await.stop_at.is_none());
        // It says when somebody was there, and that is not written each second.
        let seen = status(&world, "visited").await;
        let last: Timestamp = seen.last_activity_at.unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(last).as_secs() < 12, "{last}");
        assert!(seen.requests.unwrap() > 10, "{:?}", seen.requests);

        world.docker(&["exec", &world.container("builds").await, "touch", "/tmp/end"]);
        stopped(&world, "builds").await;
        drop(to);
        let mut echoed = Vec::new();
        from.read_to_end(&mut echoed).unwrap();
        assert!(echoed.len() > 10, "what was typed came back");
        for name in busy {
            let after = stopped(&world, name).await;
            assert!(after >= STOP_AFTER, "{name}: after {after} s");
        }
        // Who starts it is there.
        until("it to be stopped", PATIENCE, async || match status(&world, "idle").await.phase {
            WorkspacePhase::Stopped => Ok(()),
            phase => Err(format!("{phase:?}")),
        })
        .await;
        let begun = Instant::now();
        world.merge("idle", json!({"spec": {"running": true}})).await;
        let after = stopped(&world, "idle").await;
        assert!(after >= STOP_AFTER && begun.elapsed().as_secs() >= STOP_AFTER.unsigned_abs());
        // What is unpinned begins to be idle.
        world.merge("pinned", json!({"spec": {"pinned": false}})).await;
        let begun = Instant::now();
        stopped(&world, "pinned").await;
        assert!(begun.elapsed().as_secs() >= STOP_AFTER.unsigned_abs());
    });
}

#[test]
fn what_is_of_age_is_announced_and_destroyed_unless_it_is_kept() {
    in_world(async |world| {
        world.ground().await;
        workspaces(&world, &["goes", "rescued"], json!({})).await;
        workspaces(&world, &["kept"], json!({"kept": true})).await;
        workspaces(&world, &["pinned"], json!({"pinned": true})).await;
        world.at_rest().await;
        let post = MailServer::start();
        let login = json!({"username": "mailer", "password": "post horse"});
        world
            .create(json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": {"name": "smtp", "namespace": "team"},
                "spec": {"data": login}}))
            .await;
        let credentials = json!({"namespace": "team", "name": "smtp"});
        let mail = json!({"host": "127.0.0.1", "port": post.port, "security": "NONE", "from": "ds@example.com", "credentials": credentials});
        set(&world, json!({"spec": {"mail": mail}, "metadata": {"annotations": {labels::RESTORED: "2026-01-01T00:00:00Z"}}}))
            .await;
        lay_down(&world, "never", "20s").await;
        let created = world.workspace("goes").await.creation_timestamp().unwrap().0;
        let note = world.event("goes", "DestroyedSoon").await;
        let announced = Instant::now();
        assert!(note.contains("spec.kept") && note.contains("20s"), "{note}");
        let says: Timestamp = status(&world, "goes").await.destroy_at.unwrap().parse().unwrap();
        world.event("rescued", "DestroyedSoon").await;
        world.merge("rescued", json!({"spec": {"kept": true}})).await;
        until("its owner to be told", PATIENCE, async || {
            let mut told: Vec<String> = post.mails("ada@example.com").iter().filter_map(|m| subject(m)).collect();
            told.sort();
            let wanted = ["goes", "rescued"].map(|name| format!("Your workspace {name} will be destroyed"));
            if told == wanted { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
        // What a restored installation does not know may be that somebody keeps it.
        while Timestamp::now() < says + 4 * SECOND {
            sleep(SECOND / 5).await;
        }
        assert!(
            world.workspaces().get_opt("goes").await.unwrap().is_some(),
            "nothing is destroyed before the restored is looked at"
        );
        set(&world, json!({"metadata": {"annotations": {labels::RESTORED: null}}})).await;
        world.gone("goes").await;
        let (now, age) = (Timestamp::now(), Timestamp::now().duration_since(created).as_secs());
        assert!(
            age >= 20 && announced.elapsed() >= Duration::from_secs(9),
            "{age} s old, {:?} after it was told",
            announced.elapsed()
        );
        assert!(now >= says && now.duration_since(says).as_secs() < 15, "said {says}, was gone by {now}");
        let left = world.docker_says(&["ps", "-a", "--format", "{{.Names}}"]);
        assert!(!left.contains("ds-team-goes-"), "{left}");
        for name in ["rescued", "kept", "pinned"] {
            let status = status(&world, name).await;
            assert!(status.destroy_at.is_none() && status.destroy_announced_at.is_none(), "{name}: {status:?}");
        }
        // An old one that is not kept any more is not gone at once.
        world.merge("kept", json!({"spec": {"kept": false}})).await;
        world.event("kept", "DestroyedSoon").await;
        lay_down(&world, "never", "7d").await;
        until("another time", PATIENCE, async || {
            let status = status(&world, "kept").await;
            let at = status.destroy_at.as_deref().map(|at| at.parse::<Timestamp>().unwrap());
            let far = at.is_some_and(|at| at.duration_since(Timestamp::now()).as_hours() > 24);
            if far && status.destroy_announced_at.is_none() { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    });
}

#[test]
fn who_worked_while_no_control_plane_ran_is_not_forgotten() {
    in_world(async |mut world| {
        world.ground().await;
        workspaces(&world, &["w0", "w1"], json!({})).await;
        up(&world, &["w0", "w1"]).await;
        lay_down(&world, "12s", "never").await;
        let host = host_of(&world, "w0").await;
        until("requests to be told", PATIENCE, async || {
            assert_eq!(request(world.web, &host, "/", &[]).await.0, 200);
            let told = status(&world, "w0").await.requests;
            if told.is_some_and(|n| n > 0) { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
        world.kill();
        // Traefik goes on.
        sleep(6 * SECOND).await;
        assert_eq!(request(world.web, &host, "/", &[]).await.0, 200);
        let worked = Instant::now();
        world.launch();
        world.ready().await;
        stopped(&world, "w1").await;
        stopped(&world, "w0").await;
        assert!(worked.elapsed() >= Duration::from_secs(12), "it was worked in {:?} before", worked.elapsed());
    });
}

#[test]
fn who_talked_over_a_connection_while_no_control_plane_ran_is_not_forgotten() {
    in_world(async |mut world| {
        ground(&world).await;
        world.create(records::user()).await;
        world.create(records::project("team", "echo")).await;
        workspaces(&world, &["talked"], json!({})).await;
        up(&world, &["talked"]).await;
        let host = host_of(&world, "talked").await;
        let (code, _, mut socket) = Socket::open(&world, &Browser::new(world.web), &host).await;
        assert_eq!(code, 101);
        lay_down(&world, "12s", "never").await;
        until("it to be timed", PATIENCE, async || status(&world, "talked").await.stop_at.map(drop).ok_or("no time".into()))
            .await;
        let ends: Timestamp = status(&world, "talked").await.stop_at.unwrap().parse().unwrap();
        let left = |until: Timestamp| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        // Not long: a Traefik that finds no control plane asks ever more seldom, and one that does not ask is started anew.
        sleep(left(ends - 2 * SECOND)).await;
        world.kill();
        let word = "x".repeat(1500);
        let talking = async {
            while socket.echoes(&word).await {
                sleep(SECOND / 2).await;
            }
        };
        // Its time is up when the next one begins, which knows nothing of what went over the connection.
        let meanwhile = async {
            sleep(left(ends + SECOND / 4)).await;
            world.launch();
            world.ready().await;
            sleep(15 * SECOND).await;
        };
        let cut = tokio::select! {
            () = talking => true,
            () = meanwhile => false,
        };
        assert!(!cut && runs(&world, "talked").await, "it was talked over all the time\n{}", world.log_tail());
        drop(socket);
        stopped(&world, "talked").await;
    });
}

#[test]
fn workspaces_of_who_is_deactivated_stop_and_do_not_start() {
    in_world(async |world| {
        world.ground().await;
        let mut bob = records::user();
        (bob["metadata"]["name"], bob["spec"]["email"]) = ("bob".into(), "bob@example.com".into());
        world.create(bob).await;
        workspaces(&world, &["hers", "worn"], json!({"pinned": true})).await;
        workspaces(&world, &["his"], json!({"owner": "bob"})).await;
        up(&world, &["hers", "worn", "his"]).await;
        let users: Api<User> = Api::all(world.client.clone());
        let active = async |is: bool| {
            users.patch("ada", &PatchParams::default(), &Patch::Merge(json!({"spec": {"active": is}}))).await.unwrap();
        };
        let sent_home = async |name: &'static str| {
            until(&format!("{name} to be stopped"), PATIENCE, async || {
                let now = world.workspace(name).await;
                let phase = now.status.unwrap_or_default().phase;
                let is = !now.spec.running && phase == WorkspacePhase::Stopped;
                if is { Ok(()) } else { Err(format!("{phase:?}")) }
            })
            .await;
        };
        active(false).await;
        sent_home("hers").await;
        sent_home("worn").await;
        assert!(world.event("hers", "OwnerDeactivated").await.contains("ada"));
        let start = json!({"spec": {"running": true}});
        let refused = async |name: &str, change: &Value| {
            let said = world.workspaces().patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
            matches!(said, Err(kube::Error::Api(s)) if s.code == 422 && s.message.contains("spec.owner") && s.message.contains("deactivated"))
        };
        assert!(refused("hers", &start).await);
        workspaces(&world, &["another"], json!({})).await;
        sent_home("another").await;
        assert_eq!(status(&world, "his").await.phase, WorkspacePhase::Running, "it is somebody else's");
        // What is no start is let through, and so is a new owner.
        world.merge("hers", json!({"spec": {"pinned": false}})).await;
        world.merge("worn", json!({"spec": {"owner": "bob", "running": true}})).await;
        world.merge("another", json!({"spec": {"owner": "bob", "running": true}})).await;
        up(&world, &["another"]).await;
        world.merge("another", json!({"spec": {"owner": "ada"}})).await;
        sent_home("another").await;
        active(true).await;
        assert!(!world.workspace("hers").await.spec.running, "it is theirs to start");
        world.merge("hers", start).await;
        up(&world, &["hers", "worn"]).await;
    });
}
