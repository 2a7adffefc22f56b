//! The reference workloads: what people and machines do in the life of an installation. Each step is done, then two
//! minutes pass.
//!
//! A new one is a function of [`Hands`] for each step, and a line in [`ALL`].

use super::days;
use super::director::Noise;
use super::hands::{Hands, IMAGE};
use super::oracles;
use crate::e2e::records;
use devsanctum::engine::Labels;
use devsanctum::proxy::ProxyError;
use devsanctum::resource::labels;
use futures::future::BoxFuture;
use serde_json::json;
use std::time::Duration;

/// A step. It may be begun again when the process ends meanwhile.
pub type Step = for<'a> fn(&'a Hands<'a>) -> BoxFuture<'a, ()>;

/// A name, the servers there are, and what is done one after the other.
pub struct Workload {
    pub name: &'static str,
    pub servers: &'static [&'static str],
    pub steps: &'static [Step],
    /// How long a route may lead where it should not: as long as it takes to find out.
    pub patience: Duration,
}

const ONE: &[&str] = &["s1"];
const TWO: &[&str] = &["s1", "s2"];

const fn short(name: &'static str, servers: &'static [&'static str], steps: &'static [Step]) -> Workload {
    Workload { name, servers, steps, patience: Duration::from_secs(10) }
}

/// A day by chance; see [`super::days`].
const DAY: Workload = Workload { name: "day", servers: TWO, steps: &[ground, day], patience: Duration::from_secs(3600) };

/// All short ones.
pub const ALL: [Workload; 27] = [
    short("create", ONE, &[touched, one]),
    short("five-on-two", TWO, &[ground, five]),
    short("stop-start", ONE, &[ground, one, stop, start]),
    short("delete", ONE, &[ground, one, delete]),
    short("delete-at-once", ONE, &[ground, come_and_go]),
    short("recreate", ONE, &[ground, one, other_env, recreate]),
    short("companion", ONE, &[ground, companion, one, no_companion]),
    short("killed", ONE, &[ground, one, kill]),
    short("edited", ONE, &[ground, one, edit, stop, edit_again, start]),
    short("removed", ONE, &[ground, one, remove]),
    short("no-network", ONE, &[ground, one, remove_network]),
    short("squatted", ONE, &[ground, squat, unsquat]),
    short("pull", ONE, &[ground, no_image, one]),
    short("built", ONE, &[dockerfile, ground, one]),
    short("repository", ONE, &[repository, ground, one, kill]),
    short("fork", TWO, &[ground, one_on_s2, fork]),
    short("warm", ONE, &[ground, warm, one, warm_env, delete, cold]),
    short("warm-two", ONE, &[ground, warm, two]),
    short("daemon-restart", ONE, &[ground, one, daemon_down, daemon_up]),
    short("failing", ONE, &[ground, one, engine_fails, delete, engine_works]),
    short("private-route", ONE, &[ground, one, route, private, no_route]),
    short("project-gone", ONE, &[ground, one, project_gone, delete]),
    short("by-itself", ONE, &[ground, one, worked_in, idle, start, of_age]),
    short("talked-over", ONE, &[ground, one, talked_over, idle]),
    short("on-schedule", ONE, &[ground, one, on_schedule, evening, morning]),
    short("server-gone", TWO, &[ground, one_on_s2, server_gone, delete]),
    short("moved", TWO, &[ground, one_on_s2, move_to_s1]),
];

/// What is wrong, and stays so for a day. Nothing else goes wrong in these: what counts is what is tried meanwhile.
pub const LASTING: [Workload; 8] = [
    short("no-image-for-a-day", ONE, &[ground, image_missing, one, a_day, image_back]),
    short("name-taken-for-a-day", ONE, &[ground, squat, a_day, unsquat]),
    short("engine-away-for-a-day", ONE, &[ground, one, daemon_down, a_day, daemon_up]),
    short("engine-fails-for-a-day", ONE, &[ground, one, engine_always_fails, a_day, engine_works]),
    short("proxy-away-for-a-day", ONE, &[ground, proxy_down, one, a_day, proxy_up]),
    short("start-refused-for-a-day", ONE, &[ground, one, on_schedule, evening, no_room, refused]),
    short("limits-refused-for-a-day", ONE, &[ground, one, updates_refused, edit, a_day, limits_told, engine_works, an_hour]),
    short("end-not-written-for-a-day", ONE, &[ground, one, end_not_written, a_day, end_written]),
];

/// What happens to a single container. Nothing else goes wrong in these: each looks by itself what became of it, above all whether it
/// is the same one still, with its own file system.
pub const CONTAINERS: [Workload; 8] = [
    short("left-for-a-while", ONE, &[ground, one, left_for_a_while]),
    short("left-for-good", ONE, &[ground, one, left_for_good]),
    short("removed-half", ONE, &[ground, one, remove_half]),
    short("renamed", ONE, &[ground, one, rename, stop, rename, start]),
    short("few-cores", ONE, &[few_cores, ground, many_wanted, one, runs]),
    short(
        "no-swap-limits",
        ONE,
        &[swapless, ground, one, few_updates, edit, few_updates, stop, few_updates, edit_again, few_updates],
    ),
    short("name-reserved", ONE, &[ground, reserve, release]),
    short("renamed-and-squatted", ONE, &[ground, one, rename_and_squat]),
];

/// Many workspaces, and a server that hangs.
pub const FLEETS: [Workload; 1] = [short("one-hangs", TWO, &[ground, crowd_and_hang])];

/// The workload so named.
pub fn named(name: &str) -> Option<&'static Workload> {
    let others = const { &LASTING }.iter().chain(const { &CONTAINERS }).chain(const { &FLEETS });
    const { &ALL }.iter().chain(others).chain([const { &DAY }]).find(|w| w.name == name)
}

/// Steps are written as `async` blocks.
macro_rules! steps {
    ($($name:ident($hands:ident) $body:block)*) => {
        $(fn $name<'a>($hands: &'a Hands<'a>) -> BoxFuture<'a, ()> {
            Box::pin(async move $body)
        })*
    };
}

steps! {
    ground(hands) { hands.ground().await; }
    touched(hands) {
        hands.ground().await;
        // Somebody changes the server's record while it is prepared and proved: what was found then cannot be written at once.
        for n in 0..20 {
            hands.merge("DockerServer", "s1", json!({"metadata": {"annotations": {"example.com/n": n.to_string()}}})).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    day(hands) { days::day(hands).await; }
    worked_in(hands) {
        hands.merge("Project", "team", json!({"spec": {"lifecycle": {"stopAfter": "10m"}}})).await;
        let uid = hands.get("Workspace", "w0").await["metadata"]["uid"].as_str().unwrap().to_owned();
        for n in 1..=5 {
            hands.visited(&uid, n);
            hands.wait(300).await;
        }
        hands.sees(hands.get("Workspace", "w0").await["spec"]["running"] == true, "one that is worked in runs");
    }
    talked_over(hands) {
        hands.merge("Project", "team", json!({"spec": {"lifecycle": {"stopAfter": "10m"}}})).await;
        let uid = hands.get("Workspace", "w0").await["metadata"]["uid"].as_str().unwrap().to_owned();
        for _ in 0..40 {
            hands.talked(&uid);
            hands.wait(30).await;
        }
        hands.sees(hands.get("Workspace", "w0").await["spec"]["running"] == true, "one that is talked over runs");
    }
    idle(hands) {
        hands.wait(900).await;
        hands.sees(hands.get("Workspace", "w0").await["spec"]["running"] == false, "one that nobody works in is stopped");
    }
    of_age(hands) {
        hands.merge("Project", "team", json!({"spec": {"lifecycle": {"stopAfter": "never", "destroyAfter": "90m"}}})).await;
        hands.wait(3600).await;
        hands.sees(hands.list("Workspace").await.is_empty(), "one of age is destroyed");
    }
    on_schedule(hands) {
        let schedule = json!({"timeZone": "UTC", "stop": Hands::time_of_day(30), "start": Hands::time_of_day(60)});
        hands.merge("Project", "team", json!({"spec": {"lifecycle": {"stopAfter": "never", "schedule": schedule}}})).await;
    }
    evening(hands) {
        hands.until(40).await;
        hands.sees(hands.get("Workspace", "w0").await["spec"]["running"] == false, "the schedule has stopped it");
    }
    morning(hands) {
        hands.until(70).await;
        hands.sees(hands.get("Workspace", "w0").await["spec"]["running"] == true, "the schedule has started it");
    }
    no_room(hands) { hands.merge("Project", "team", json!({"spec": {"quota": {"running": 0}}})).await; }
    refused(hands) {
        hands.until(70).await;
        hands.sees(hands.get("Workspace", "w0").await["spec"]["running"] == false, "a quota is in the way of its schedule");
        hands.merge("Project", "team", json!({"spec": {"lifecycle": {"destroyAfter": "80m"}}})).await;
        hands.wait(3600).await;
        hands.sees(hands.list("Workspace").await.is_empty(), "one of age is destroyed, whatever its schedule asks for");
    }
    one(hands) { hands.workspace("w0").await; }
    two(hands) {
        for name in ["w0", "w1"] {
            hands.workspace(name).await;
        }
    }
    five(hands) {
        for name in ["w0", "w1", "w2", "w3", "w4"] {
            hands.workspace(name).await;
        }
    }
    repository(hands) {
        hands.create(records::user()).await;
        hands.create(records::template("page")).await;
        let mut project = records::project("team", "page");
        project["spec"]["repositories"] = json!([{"name": "web", "url": "https://git.example.com/web.git"}]);
        hands.create(project).await;
    }
    fork(hands) {
        let mut copy = records::workspace("w1");
        copy["spec"]["from"] = json!("w0");
        hands.create(copy).await;
    }
    warm(hands) { hands.merge("Template", "page", json!({"spec": {"warm": 2}})).await; }
    warm_env(hands) { hands.merge("Template", "page", json!({"spec": {"env": {"COLOUR": "green"}}})).await; }
    cold(hands) { hands.merge("Template", "page", json!({"spec": {"warm": null}})).await; }
    stop(hands) { hands.merge("Workspace", "w0", json!({"spec": {"running": false}})).await; }
    start(hands) { hands.merge("Workspace", "w0", json!({"spec": {"running": true}})).await; }
    delete(hands) { hands.delete("Workspace", "w0").await; }
    come_and_go(hands) {
        if !hands.world.once("come") {
            hands.workspace("w0").await;
            hands.wait(0).await;
            tokio::time::sleep(std::time::Duration::from_millis(90)).await;
        }
        hands.delete("Workspace", "w0").await;
    }
    other_env(hands) {
        // Before it runs there is nothing to be made anew.
        for _ in 0..60 {
            if hands.get("Workspace", "w0").await["status"]["phase"] == "RUNNING" {
                break;
            }
            hands.wait(10).await;
        }
        hands.merge("Template", "page", json!({"spec": {"env": {"COLOUR": "green"}}})).await;
    }
    recreate(hands) {
        // Somebody who wants it made anew waits until they are told how.
        for _ in 0..60 {
            let status = hands.get("Workspace", "w0").await["status"].to_string();
            if let Some((_, told)) = status.split_once(&format!("{}=", labels::RECREATE)) {
                let digest: String = told.chars().take_while(char::is_ascii_alphanumeric).collect();
                hands.merge("Workspace", "w0", json!({"metadata": {"annotations": {labels::RECREATE: digest}}})).await;
                return;
            }
            hands.wait(10).await;
        }
    }
    companion(hands) {
        hands.create(records::feature("side")).await;
        hands.merge("Project", "team", json!({"spec": {"features": [{"name": "side"}]}})).await;
    }
    no_companion(hands) { hands.merge("Project", "team", json!({"spec": {"features": []}})).await; }
    kill(hands) {
        let name = hands.container("w0").await;
        if !hands.world.once("kill") {
            // There is none yet where all is heard of late.
            hands.world.engines["s1"].kill(&name);
        }
    }
    remove(hands) {
        let name = hands.container("w0").await;
        if !hands.world.once("remove") {
            hands.world.engines["s1"].remove(&name);
        }
    }
    left_for_a_while(hands) {
        let (engine, name) = (&hands.world.engines["s1"], hands.container("w0").await);
        let before = hands.container_id("s1", &name);
        engine.set_left_behind(&name, true);
        engine.kill(&name);
        hands.wait(90).await;
        engine.set_left_behind(&name, false);
        hands.wait(300).await;
        hands.sees(before.is_some() && before == hands.container_id("s1", &name), "a container is started again when its engine has cleared up");
    }
    left_for_good(hands) {
        let (engine, name) = (&hands.world.engines["s1"], hands.container("w0").await);
        let before = hands.container_id("s1", &name);
        engine.set_left_behind(&name, true);
        engine.kill(&name);
        hands.wait(110).await;
        hands.sees(before.is_some() && before == hands.container_id("s1", &name), "a container is not given up at once");
        hands.wait(600).await;
        hands.sees(before != hands.container_id("s1", &name), "one that cannot be started any more is made anew");
    }
    remove_half(hands) {
        let name = hands.container("w0").await;
        let before = hands.container_id("s1", &name);
        assert!(hands.world.engines["s1"].remove_half(&name));
        hands.wait(60).await;
        let now = hands.container_id("s1", &name);
        hands.sees(now.is_some() && now != before, "what can never be started again is made anew");
    }
    few_cores(hands) { hands.world.engines["s1"].set_resources(1, (32 << 30, 32 << 30), (500 << 30, 500 << 30)); }
    many_wanted(hands) { hands.merge("Template", "page", json!({"spec": {"limits": {"cpu": 2}}})).await; }
    runs(hands) {
        let runs = hands.get("Workspace", "w0").await["status"]["phase"] == "RUNNING";
        hands.sees(runs, "a workspace may have all cores of a server that has fewer than its limit");
    }
    edit(hands) {
        let name = hands.container("w0").await;
        if !hands.world.once("edit") {
            hands.world.engines["s1"].update(&name, &days::more());
        }
    }
    edit_again(hands) {
        let name = hands.container("w0").await;
        if !hands.world.once("edit again") {
            hands.world.engines["s1"].update(&name, &json!({"RestartPolicy": {"Name": "always"}}));
        }
    }
    updates_refused(hands) { hands.world.director.noise(Noise { engines: 100, alike: true, only: "/update", ..Noise::default() }); }
    an_hour(hands) { hands.wait(3600).await; }
    limits_told(hands) {
        let status = hands.get("Workspace", "w0").await["status"].take();
        let says = |kind: &str| status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).cloned().unwrap_or_default();
        let (told, ready) = (says("UpToDate"), says("Ready"));
        let both = told["reason"] == "LimitsChanged" && ready["status"] == "True" && status["phase"] == "RUNNING";
        hands.sees(both, &format!("what cannot be limited runs, and says so: {told} {ready}"));
    }
    swapless(hands) { hands.world.engines["s1"].set_swapless(true); }
    few_updates(hands) {
        hands.wait(3600).await;
        let (engine, name) = (&hands.world.engines["s1"], hands.container("w0").await);
        let host = engine.inspected().remove(&name).unwrap_or_default()["HostConfig"].take();
        let given = (&host["Memory"], &host["MemorySwap"], &host["PidsLimit"], &host["RestartPolicy"]["Name"]);
        hands.sees(given == (&json!(32 << 20), &json!(-1), &json!(32), &json!("no")), &format!("its limits are {host}"));
        // Three times until it is known what its engine makes of them, and once after each edit.
        let updates = engine.calls().get("update").copied().unwrap_or_default();
        hands.sees(updates <= 5, &format!("limits that an engine cannot give are not given again and again: {updates} updates"));
    }
    rename(hands) {
        let name = hands.container("w0").await;
        let before = hands.container_id("s1", &name);
        assert!(hands.world.engines["s1"].rename(&name, "renamed"));
        hands.wait(60).await;
        hands.sees(before.is_some() && before == hands.container_id("s1", &name), "a renamed container gets its name back");
    }
    rename_and_squat(hands) {
        let (engine, name) = (&hands.world.engines["s1"], hands.container("w0").await);
        let before = hands.container_id("s1", &name);
        assert!(engine.rename(&name, "renamed") && engine.add_foreign(&name, &Labels::new()));
        hands.wait(600).await;
        hands.sees(before.is_some() && before == hands.container_id("s1", "renamed"), "a renamed container waits for its name");
        assert!(engine.remove(&name));
        hands.wait(600).await;
        hands.sees(before == hands.container_id("s1", &name), "a renamed container gets its name back when that is free");
    }
    remove_network(hands) {
        if !hands.world.once("remove network") {
            let engine = &hands.world.engines["s1"];
            let ours: Vec<String> = engine.networks().into_iter().filter(|n| n.starts_with("ds")).collect();
            for name in ours {
                engine.remove_network(&name);
            }
        }
    }
    squat(hands) {
        hands.workspace("w0").await;
        let name = hands.container("w0").await;
        if !hands.world.once("squat") {
            assert!(hands.world.engines["s1"].add_foreign(&name, &Labels::new()));
        }
    }
    unsquat(hands) {
        let name = hands.container("w0").await;
        if !hands.world.once("unsquat") {
            assert!(hands.world.engines["s1"].remove(&name));
        }
        // Somebody who sees that the name was taken, and has freed it, would wait for the next try; so do we.
        hands.wait(600).await;
    }
    reserve(hands) {
        hands.workspace("w0").await;
        let name = hands.container("w0").await;
        hands.sees(hands.container_id("s1", &name).is_none(), "its name is kept before it is made");
        let engine = &hands.world.engines["s1"];
        engine.set_reserved(&name, true);
        hands.wait(3600).await;
        let tries = engine.calls().get("create").copied().unwrap_or_default();
        hands.sees(tries < 100, &format!("what cannot be made is tried ever more seldom: it was tried {tries} times in an hour"));
    }
    release(hands) {
        let name = hands.container("w0").await;
        hands.world.engines["s1"].set_reserved(&name, false);
        // As for somebody who waits for the next try.
        hands.wait(600).await;
    }
    no_image(hands) {
        if !hands.world.once("no image") {
            hands.world.engines["s1"].remove_image(IMAGE);
            hands.world.engines["s1"].publish_image(IMAGE);
        }
    }
    dockerfile(hands) {
        let mut template = records::template("page");
        template["spec"]["dockerfile"] = json!("RUN echo hello");
        hands.create(template).await;
    }
    image_missing(hands) { hands.world.engines["s1"].remove_image(IMAGE); }
    image_back(hands) {
        hands.world.engines["s1"].publish_image(IMAGE);
        // As for somebody who waits for the next try.
        hands.wait(600).await;
    }
    proxy_down(hands) { hands.world.proxy.set_failure(Some(ProxyError::Unreachable("it is down".into()))); }
    proxy_up(hands) { hands.world.proxy.set_failure(None); }
    a_day(hands) {
        // The first tries come quickly.
        hands.wait(900).await;
        let from = hands.world.director.calls();
        hands.wait(24 * 3600).await;
        let wrong = oracles::tried_too_often(&hands.world.director.trace()[from..]);
        wrong.into_iter().for_each(|wrong| hands.world.director.broke(wrong));
    }
    end_not_written(hands) {
        hands.merge("Project", "team", json!({"spec": {"lifecycle": {"stopAfter": "never", "destroyAfter": "4h"}}})).await;
        hands.world.director.noise(Noise { api: 100, alike: true, only: "fieldManager=devsanctum-lifecycle", ..Noise::default() });
    }
    end_written(hands) {
        hands.sees(!hands.list("Workspace").await.is_empty(), "what is not announced is not destroyed");
        let told = hands.world.director.trace().iter().filter(|c| c.name == "POST" && c.what.contains("/events?")).count();
        hands.sees(told < 20, &format!("its end is told once, and not as often as it cannot be written: {told} events"));
        hands.world.director.noise(Noise::default());
        hands.wait(900).await;
        hands.sees(!hands.list("Workspace").await.is_empty(), "what was announced just now is not destroyed yet");
        hands.wait(2 * 3600).await;
        hands.sees(hands.list("Workspace").await.is_empty(), "one of age is destroyed");
    }
    daemon_down(hands) {
        if !hands.world.once("daemon down") {
            hands.world.engines["s1"].set_refusing(true);
            hands.world.engines["s1"].restart_daemon();
        }
    }
    daemon_up(hands) { hands.world.engines["s1"].set_refusing(false); }
    engine_fails(hands) { hands.world.director.noise(Noise { engines: 100, ..Noise::default() }); }
    engine_always_fails(hands) { hands.world.director.noise(Noise { engines: 100, alike: true, ..Noise::default() }); }
    engine_works(hands) { hands.world.director.noise(Noise::default()); }
    route(hands) {
        let spec = json!({"host": "extra.example.com", "workspace": "w0", "port": 8080, "visibility": "PUBLIC"});
        let meta = json!({"name": "extra", "namespace": "team"});
        hands.create(json!({"apiVersion": "devsanctum.io/v1", "kind": "Route", "metadata": meta, "spec": spec})).await;
    }
    private(hands) {
        hands.merge("Route", "extra", json!({"spec": {"visibility": "PRIVATE"}})).await;
        hands.merge("Workspace", "w0", json!({"spec": {"visibility": "PRIVATE"}})).await;
    }
    no_route(hands) { hands.delete("Route", "extra").await; }
    project_gone(hands) { hands.delete("Project", "team").await; }
    one_on_s2(hands) {
        let mut record = records::workspace("w0");
        record["spec"]["dockerServer"] = json!("s2");
        hands.create(record).await;
    }
    move_to_s1(hands) {
        hands.merge("Workspace", "w0", json!({"spec": {"dockerServer": "s1"}})).await;
        // As long as a try that fails is waited for.
        hands.wait(300).await;
    }
    crowd_and_hang(hands) {
        for n in 0..100 {
            let mut record = records::workspace(&format!("c{n}"));
            record["spec"]["dockerServer"] = json!("s2");
            hands.create(record).await;
        }
        // All of them have begun there.
        tokio::time::sleep(Duration::from_millis(50)).await;
        hands.world.engines["s2"].set_silent(true);
        let mut record = records::workspace("w0");
        record["spec"]["dockerServer"] = json!("s1");
        hands.create(record).await;
        hands.wait(30).await;
        let runs = hands.get("Workspace", "w0").await["status"]["phase"] == "RUNNING";
        hands.sees(runs, "a server that hangs keeps nothing on another one from being made");
        let in_line = hands.list("Workspace").await.iter().any(|w| w["status"].to_string().contains("ServerBusy"));
        hands.sees(in_line, "one that waits for its turn there says so");
        hands.wait(600).await;
        hands.world.engines["s2"].set_silent(false);
        hands.wait(900).await;
    }
    server_gone(hands) { hands.delete("DockerServer", "s2").await; }
}
