//! Workspaces that move from one server to another.

use super::faults::line::{Line, Mode, Window};
use super::records;
use super::world::{World, on, until};
use crate::support::devsanctum;
use crate::support::dockerd::{Dockerd, Options, TINY};
use devsanctum::resource::conditions::{READY, find, holds};
use devsanctum::resource::{MoveStep, Template, Workspace, labels};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const SOON: Duration = Duration::from_secs(120);
/// The link between the two engines' network namespaces (RFC 5737).
const HERE: &str = "192.0.2.1";
const THERE: &str = "192.0.2.2";

/// Mebibytes in the volume that is moved; set `DEVSANCTUM_TEST_MOVE_MB` for more.
fn megabytes(usual: u64) -> u64 {
    std::env::var("DEVSANCTUM_TEST_MOVE_MB").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A world with a second engine, whose containers are reached over a link between the two.
pub fn on_two(options: &Options, lines: bool, test: impl AsyncFnOnce(World<'_>, &Dockerd, Option<[Line; 2]>)) {
    let (first, second) = (Dockerd::start(&Options::default()), Dockerd::start(options));
    second.tiny_image();
    on(&first, async |world| {
        let namespace = format!("--net=/proc/{}/ns/net", second.pid());
        run("ip", &["link", "add", "ds-here", "type", "veth", "peer", "name", "ds-there", "netns", &second.pid().to_string()]);
        run("ip", &["address", "add", &format!("{HERE}/30"), "dev", "ds-here"]);
        run("ip", &["link", "set", "ds-here", "up"]);
        run("nsenter", &[&namespace, "ip", "address", "add", &format!("{THERE}/30"), "dev", "ds-there"]);
        run("nsenter", &[&namespace, "ip", "link", "set", "ds-there", "up"]);
        let lines = lines.then(|| [Line::start(&first.socket()), Line::start(&second.socket())]);
        let server = |nth: usize, name: &str, engine: &Dockerd| {
            let mut record = records::server(name, &engine.socket());
            if let Some(lines) = &lines {
                record["spec"] = json!({"host": "127.0.0.1", "port": lines[nth].address.port(), "pollInterval": "5s"});
            }
            record
        };
        world.create(records::settings(TINY)).await;
        world.create(server(0, "first", &first)).await;
        online(&world, "first").await;
        // It takes another subnet: the first one's is routed here by now.
        world.create(server(1, "second", &second)).await;
        online(&world, "second").await;
        let subnet = second.docker(&["network", "inspect", &world.bridge(), "--format", "{{(index .IPAM.Config 0).Subnet}}"]);
        run("ip", &["route", "add", &subnet, "via", THERE]);
        run("nsenter", &[&namespace, "iptables", "-I", "FORWARD", "-i", "ds-there", "-j", "ACCEPT"]);
        world.create(records::user()).await;
        world.create(records::template("hello")).await;
        world.create(records::project("team", "hello")).await;
        test(world, &second, lines).await;
    });
}

pub async fn online(world: &World<'_>, name: &str) {
    until(&format!("{name} to be online"), SOON, async || {
        let status = world.servers().get(name).await.unwrap().status.unwrap_or_default();
        if holds(&status.conditions, READY) { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await;
}

/// A workspace on the first server, at work.
pub async fn at_work(world: &World<'_>, mebibytes: u64) -> Vec<String> {
    let mut record = records::workspace("w0");
    record["spec"]["dockerServer"] = json!("first");
    world.create(record).await;
    serves(world, "w0").await;
    let work = format!(
        "mkdir -p /own /data/a/b && echo own > /own/file && chown 1234:99 /own/file && echo deep > /data/a/b/c && ln -s a/b/c /data/link && \
         chmod 640 /data/a/b/c && rm /etc/group && dd if=/dev/urandom of=/data/big bs=64k count={} && \
         dd if=/dev/urandom of=/own/big bs=64k count=16",
        mebibytes * 16
    );
    let container = world.container("w0").await;
    world.daemon.docker(&["exec", &container, "sh", "-c", &work]);
    files(world.daemon, &container)
}

/// All files, with who may what, and what is in them.
pub fn files(engine: &Dockerd, container: &str) -> Vec<String> {
    let look = "find /own /data -exec stat -c '%n %F %u %g %a %Y' {} + ; find /own /data -type f -exec sha256sum {} + ; ls /etc";
    let said = engine.docker(&["exec", container, "sh", "-c", look]);
    let mut all: Vec<String> = said.lines().map(str::to_owned).collect();
    all.sort();
    all
}

pub async fn serves(world: &World<'_>, name: &str) {
    until(&format!("the page of {name}"), SOON, async || match world.page(name).await.0 {
        200 => Ok(()),
        code => Err(format!("{code} {:?}", world.workspace(name).await.status.unwrap_or_default().message)),
    })
    .await;
}

/// What an engine holds of a workspace: containers that run, containers, volumes, images it was moved as.
pub fn held(engine: &Dockerd, w: &Workspace) -> [Vec<String>; 4] {
    let filter = format!("label={}={}", labels::UID, w.identity().uid);
    let role = format!("label={}=main", labels::ROLE);
    let list = |args: &[&str]| engine.docker(args).lines().map(str::to_owned).collect::<Vec<_>>();
    [
        list(&["ps", "--filter", &filter, "--filter", &role, "--format", "{{.Names}}"]),
        list(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]),
        list(&["volume", "ls", "--filter", &filter, "--format", "{{.Name}}"]),
        list(&["images", "devsanctum/moved", "--format", "{{.Repository}}:{{.Tag}}"]),
    ]
}

pub fn is_gone_from(engine: &Dockerd, w: &Workspace) -> Result<(), String> {
    let held = held(engine, w);
    if held.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{held:?}")) }
}

/// Waits until it is wholly on a server, and runs in one place at most meanwhile.
pub async fn is_on(world: &World<'_>, name: &str, engines: [&Dockerd; 2]) {
    until(&format!("it to be on {name}"), SOON, async || {
        let w = world.workspace("w0").await;
        let running = engines.map(|e| held(e, &w)[0].len());
        assert!(running.iter().sum::<usize>() <= 1, "it runs in both: {running:?}");
        let status = w.status.clone().unwrap_or_default();
        let there = w.server() == Some(name) && w.moving().is_none() && holds(&status.conditions, READY);
        if !there {
            return Err(format!("{:?} {:?}", status.moving, status.message));
        }
        let page = world.page("w0").await;
        if page.0 == 200 { Ok(()) } else { Err(format!("{page:?}")) }
    })
    .await;
}

pub async fn said(world: &World<'_>, reason: &str) -> String {
    let mut words = String::new();
    until(&format!("word of {reason}"), SOON, async || {
        let all = world.workspace("w0").await.status.unwrap_or_default().conditions;
        words =
            find(&all, "Moved").filter(|c| c.reason == reason).map(|c| c.message.clone()).ok_or_else(|| format!("{all:?}"))?;
        Ok(())
    })
    .await;
    words
}

pub async fn command(world: &World<'_>, args: &[&str]) -> (Option<i32>, String) {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "workspace"]).args(args);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

pub async fn to(world: &World<'_>, server: &str) {
    world.merge("w0", json!({"spec": {"dockerServer": server}})).await;
}

#[test]
fn a_workspace_moves_with_all_its_files_and_leaves_nothing() {
    on_two(&Options::default(), false, async |world, second, _| {
        let before = at_work(&world, megabytes(24)).await;
        let (container, page, begun) = (world.container("w0").await, world.page("w0").await, Instant::now());
        assert_eq!(command(&world, &["move", "w0", "--to", "second"]).await, (Some(0), "workspace/w0 moved to second\n".into()));
        println!("{} MiB in its volume moved in {:.1} s", megabytes(24), begun.elapsed().as_secs_f64());
        assert_eq!(world.page("w0").await, page);
        assert_eq!(files(second, &container), before);
        let w = world.workspace("w0").await;
        assert_eq!(is_gone_from(world.daemon, &w), Ok(()));
        let [running, all, volumes, images] = held(second, &w);
        assert_eq!((running.len(), all.len(), volumes.len(), images.len()), (1, 1, 1, 1), "{all:?} {volumes:?} {images:?}");
        assert_eq!(command(&world, &["move", "w0", "--to", "second"]).await.1, "workspace/w0 is on second already\n");

        // One that is stopped stays so, and has its files when it is started.
        assert_eq!(command(&world, &["stop", "w0"]).await.0, Some(0));
        let (code, words) = command(&world, &["move", "w0", "--to", "first"]).await;
        assert_eq!(code, Some(0), "{words}");
        let w = world.workspace("w0").await;
        assert_eq!(format!("{:?}", w.status.as_ref().unwrap().phase), "Stopped");
        assert_eq!((held(world.daemon, &w)[0].len(), held(world.daemon, &w)[1].len()), (0, 1));
        assert_eq!(is_gone_from(second, &w), Ok(()));
        assert_eq!(command(&world, &["start", "w0"]).await.0, Some(0));
        assert_eq!((world.page("w0").await, files(world.daemon, &container)), (page, before));
        world.delete("w0").await;
        world.gone("w0").await;
        assert_eq!(is_gone_from(world.daemon, &w), Ok(()));
    });
}

#[test]
fn one_with_shared_folders_says_so_and_stays() {
    on_two(&Options::default(), false, async |world, second, _| {
        let templates: Api<Template> = Api::all(world.client.clone());
        let folders = json!({"spec": {"folders": [{"name": "data", "path": "/data"}, {"name": "pool", "path": "/pool", "mode": "SHARED"}]}});
        templates.patch("hello", &PatchParams::default(), &Patch::Merge(folders)).await.unwrap();
        at_work(&world, 1).await;
        let (code, words) = command(&world, &["move", "w0", "--to", "second"]).await;
        assert!(
            code == Some(1) && words.contains("stay where they are: pool") && words.contains("goes on where it is"),
            "{words}"
        );
        let w = world.workspace("w0").await;
        assert_eq!((w.server(), w.spec.docker_server.as_deref(), world.page("w0").await.0), (Some("first"), Some("first"), 200));
        assert_eq!(is_gone_from(second, &w), Ok(()));
        let (code, words) = command(&world, &["move", "w0", "--to", "nowhere"]).await;
        assert!(code == Some(1) && words.contains("nowhere"), "{words}");
        // By the same rules as any placement.
        let closed = json!({"spec": {"schedulable": false}});
        world.servers().patch("second", &PatchParams::default(), &Patch::Merge(closed)).await.unwrap();
        let plain = json!({"spec": {"folders": [{"name": "data", "path": "/data"}]}});
        templates.patch("hello", &PatchParams::default(), &Patch::Merge(plain)).await.unwrap();
        to(&world, "second").await;
        let words = said(&world, "NoEligibleServer").await;
        assert!(words.contains("second: takes no new workspaces"), "{words}");
        assert_eq!(world.page("w0").await.0, 200);
        let open = json!({"spec": {"schedulable": true}});
        world.servers().patch("second", &PatchParams::default(), &Patch::Merge(open)).await.unwrap();
        is_on(&world, "second", [world.daemon, second]).await;
    });
}

#[test]
fn killed_at_any_call_that_changes_an_engine_there_is_one_copy_and_it_is_whole() {
    on_two(&Options::default(), true, async |mut world, second, lines| {
        let lines = lines.unwrap();
        let before = at_work(&world, megabytes(1)).await;
        let (container, page) = (world.container("w0").await, world.page("w0").await);
        let engines = [world.daemon, second];
        // There and back, undisturbed: what is there to be killed at.
        let counts = || [lines[0].changes().len(), lines[1].changes().len()];
        to(&world, "second").await;
        is_on(&world, "second", engines).await;
        let had = counts();
        to(&world, "first").await;
        is_on(&world, "first", engines).await;
        let made = [0, 1].map(|n| lines[n].changes().split_off(had[n]));
        println!("from: {:?}\nto: {:?}", made[1], made[0]);
        // Each call in one of its two windows; in both where somebody asks for all.
        let all = std::env::var("DEVSANCTUM_REAL_PLANS").is_ok_and(|v| v == "all");
        let mut at = 0;
        let mut played = 0;
        for (end, calls) in [(1, &made[1]), (0, &made[0])] {
            for (nth, call) in calls.iter().enumerate() {
                let skip = calls[..nth].iter().filter(|c| *c == call).count();
                let both = [Window::Before, Window::After];
                for window in
                    both.into_iter().enumerate().filter(|(w, _)| all || (nth + w) % 2 == end % 2).map(|(_, window)| window)
                {
                    let begun = Instant::now();
                    // What is where it comes from in this list is on the side where it is now.
                    let line = if end == 1 { at } else { 1 - at };
                    let target = ["first", "second"][1 - at];
                    let mut trapped = lines[line].trap_after(skip, call, window);
                    to(&world, target).await;
                    trapped.caught(SOON).await.unwrap_or_else(|e| panic!("{call}: {e}"));
                    let w = world.workspace("w0").await;
                    world.kill();
                    drop(trapped);
                    let running = engines.map(|e| held(e, &w)[0].len());
                    assert!(running.iter().sum::<usize>() <= 1, "it runs in both: {running:?}");
                    world.restart().await;
                    is_on(&world, target, engines).await;
                    assert_eq!(is_gone_from(engines[at], &w), Ok(()), "{call} {window:?}");
                    at = 1 - at;
                    assert_eq!(files(engines[at], &container), before, "{call} {window:?}");
                    assert_eq!((world.page("w0").await, held(engines[at], &w)[1].len()), (page.clone(), 1));
                    played += 1;
                    println!("killed {window:?} {call} ({skip}) | ok | {:.1} s", begun.elapsed().as_secs_f64());
                }
            }
        }
        println!("proof: real crash points of a move {played} played, 0 failed");
    });
}

#[test]
fn killed_in_the_middle_of_a_stream_it_goes_on_and_carries_nothing_twice_that_was_there() {
    on_two(&Options::default(), false, async |mut world, second, _| {
        let before = at_work(&world, megabytes(24)).await;
        let (container, engines) = (world.container("w0").await, [world.daemon, second]);
        to(&world, "second").await;
        let mut once = None;
        for kill in 0..4 {
            until("it to be carried, or there", SOON, async || {
                let w = world.workspace("w0").await;
                let Some(it) = w.moving() else { return Ok(()) };
                let begun = it.step == MoveStep::Copying && (kill == 0 || !it.carried.is_empty()) || it.step > MoveStep::Copying;
                if begun { Ok(()) } else { Err(format!("{it:?}")) }
            })
            .await;
            tokio::time::sleep(Duration::from_millis(u64::from(getrandom::u32().unwrap()) % 400)).await;
            let moving = world.workspace("w0").await.moving().cloned();
            world.kill();
            // What was carried and found the same is not carried again.
            let image = moving.filter(|it| !it.carried.is_empty()).map(|it| (it.id, it.carried[0].clone()));
            if once.is_some() && image.is_some() {
                assert_eq!(once, image);
            }
            once = once.or(image);
            world.restart().await;
        }
        is_on(&world, "second", engines).await;
        assert_eq!(files(second, &container), before);
        assert_eq!(is_gone_from(world.daemon, &world.workspace("w0").await), Ok(()));
    });
}

#[test]
fn a_server_that_is_full_is_told_and_what_it_was_goes_on() {
    on_two(&Options { disk_mb: Some(60), ..Options::default() }, false, async |world, second, _| {
        let before = at_work(&world, 64).await;
        let (container, engines) = (world.container("w0").await, [world.daemon, second]);
        to(&world, "second").await;
        let words = said(&world, "CarryFailed").await;
        assert!(words.contains("Free disk space on second") && words.contains("stopped, and whole, on first"), "{words}");
        assert!(words.contains("devsanctum workspace move w0 --to first"), "{words}");
        let (code, words) = command(&world, &["move", "w0", "--to", "first"]).await;
        assert_eq!((code, words.as_str()), (Some(0), "workspace/w0 moved to first\n"));
        is_on(&world, "first", engines).await;
        assert_eq!(files(world.daemon, &container), before);
        let w = world.workspace("w0").await;
        assert_eq!(is_gone_from(second, &w), Ok(()));
        assert_eq!(held(world.daemon, &w)[1].len(), 1);
    });
}

#[test]
fn a_server_that_goes_away_in_the_middle_leaves_it_where_it_was() {
    on_two(&Options::default(), true, async |world, second, lines| {
        let lines = lines.unwrap();
        let before = at_work(&world, 1).await;
        let (container, engines) = (world.container("w0").await, [world.daemon, second]);
        let mut held_at = lines[1].trap("PUT containers/*/archive", Window::Before);
        to(&world, "second").await;
        held_at.caught(SOON).await.unwrap();
        lines[1].set(Mode::Refuse);
        held_at.release();
        let words = said(&world, "ServerUnreachable").await;
        assert!(words.contains("server \"second\" does not answer") && words.contains("whole, on first"), "{words}");
        assert_eq!(command(&world, &["move", "w0", "--to", "first"]).await.0, Some(0));
        is_on(&world, "first", engines).await;
        assert_eq!(files(world.daemon, &container), before);
        // What was left there goes once it is back.
        let w = world.workspace("w0").await;
        assert!(is_gone_from(second, &w).is_err());
        lines[1].set(Mode::Good);
        until("the second server to be rid of it", SOON, async || {
            let [_, containers, volumes, _] = held(second, &w);
            if containers.is_empty() && volumes.is_empty() { Ok(()) } else { Err(format!("{containers:?} {volumes:?}")) }
        })
        .await;

        // Somebody starts it while it is carried, and works.
        let mut held_at = lines[1].trap("PUT containers/*/archive", Window::After);
        to(&world, "second").await;
        held_at.caught(SOON).await.unwrap();
        // It is stopped again at once, where that is seen.
        let late = world.unseen(|| {
            world.daemon.docker(&["start", &container]);
            world.daemon.docker(&["exec", &container, "sh", "-c", "echo late > /data/late; echo late > /own/late"]);
            files(world.daemon, &container)
        });
        held_at.release();
        is_on(&world, "second", engines).await;
        assert_eq!(files(second, &container), late);
        assert_eq!(is_gone_from(world.daemon, &w), Ok(()));
    });
}

#[test]
fn what_does_not_answer_there_can_go_back() {
    on_two(&Options::default(), false, async |world, second, _| {
        let before = at_work(&world, 1).await;
        let (container, engines) = (world.container("w0").await, [world.daemon, second]);
        // Nothing of its service is heard from there.
        let namespace = format!("--net=/proc/{}/ns/net", second.pid());
        run("nsenter", &[&namespace, "iptables", "-I", "FORWARD", "-i", "ds-there", "-j", "DROP"]);
        to(&world, "second").await;
        let words = said(&world, "Starting").await;
        assert!(words.contains("on first is kept until it answers"), "{words}");
        let w = world.workspace("w0").await;
        until("it to run there", SOON, async || match held(second, &w)[0].len() {
            1 => Ok(()),
            n => Err(n.to_string()),
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = world.workspace("w0").await;
        assert_eq!(
            (now.moving().map(|it| it.step), held(world.daemon, &w)[1].len()),
            (Some(MoveStep::Starting), 1),
            "it is kept"
        );
        let (code, words) = command(&world, &["move", "w0", "--to", "first"]).await;
        assert_eq!(code, Some(0), "{words}");
        is_on(&world, "first", engines).await;
        assert_eq!(files(world.daemon, &container), before);
        assert_eq!(is_gone_from(second, &w), Ok(()));
        // One that is deleted in the middle leaves nothing in either.
        to(&world, "second").await;
        said(&world, "Starting").await;
        world.delete("w0").await;
        world.gone("w0").await;
        assert_eq!((is_gone_from(world.daemon, &w), is_gone_from(second, &w)), (Ok(()), Ok(())));
    });
}

/// Against `docker save | docker load`, and a volume through `tar`, between the same two engines.
#[test]
#[ignore = "a measurement; the machine should be quiet"]
fn how_fast_it_moves() {
    on_two(&Options::default(), false, async |world, second, _| {
        at_work(&world, megabytes(24)).await;
        let (container, w) = (world.container("w0").await, world.workspace("w0").await);
        let begun = Instant::now();
        assert_eq!(command(&world, &["move", "w0", "--to", "second"]).await.0, Some(0));
        let moved = begun.elapsed();
        let carried =
            format!("{:?}", world.events("w0").await.iter().filter(|(_, n)| n.contains("carried ")).collect::<Vec<_>>());
        let volume = held(second, &w)[2][0].clone();
        // By hand, back: stopped first, as it must be.
        let begun = Instant::now();
        second.docker(&["stop", "-t", "10", &container]);
        second.docker(&["commit", &container, "ds-test/by-hand:1"]);
        pipe(second, world.daemon, "docker -H unix://$FROM save ds-test/by-hand:1 | docker -H unix://$TO load");
        world.daemon.docker(&["volume", "create", &volume]);
        let tar = format!(
            "docker -H unix://$FROM run --rm --network none -v {volume}:/v {TINY} tar -C /v -cf - . | \
             docker -H unix://$TO run --rm -i --network none -v {volume}:/v {TINY} tar -C /v -xf -"
        );
        pipe(second, world.daemon, &tar);
        world.daemon.docker(&["run", "-d", "--network", "none", "--name", "by-hand", "ds-test/by-hand:1", "sleep", "1000"]);
        let by_hand = begun.elapsed();
        world.daemon.docker(&["rm", "-f", "by-hand"]);
        world.daemon.docker(&["volume", "rm", &volume]);
        println!(
            "{} MiB: moved in {:.2} s, by hand {:.2} s: {:.2} times as fast\n{carried}",
            megabytes(24),
            moved.as_secs_f64(),
            by_hand.as_secs_f64(),
            by_hand.as_secs_f64() / moved.as_secs_f64()
        );
    });
}

fn pipe(from: &Dockerd, to: &Dockerd, script: &str) {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]).env("FROM", from.socket()).env("TO", to.socket());
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}
