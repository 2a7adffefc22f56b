//! Who visits a workspace that is stopped has it started: through the real Traefik, by hand and with a real browser.

use super::gate::{PASSWORD, host_of, panel, person, set_up};
use super::records;
use super::ssh::ran;
use super::world::{World, in_world, until};
use crate::support::browser::{Answer, Browser};
use crate::support::source::root;
use crate::support::traefik::request;
use crate::support::{bare, devsanctum};
use devsanctum::resource::WorkspacePhase;
use serde_json::json;
use std::process::Stdio;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: [(&str, &str); 2] = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
/// As the page that waits asks anew.
const ANEW: [(&str, &str); 3] = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "same-origin")];

fn at(world: &World<'_>, host: &str, path: &str) -> String {
    format!("http://{host}:{}{path}", world.web.port())
}

/// Ada, who may deploy, Bob, who may see the project, and workspaces that have run once.
async fn ground(world: &World<'_>, workspaces: &[(&str, &str, bool)]) -> (Browser, Browser) {
    world.create(records::settings(crate::support::dockerd::TINY)).await;
    world.create(records::server("local", &world.daemon.socket())).await;
    world.create(records::template("hello")).await;
    let _root = set_up(world).await;
    let people = (person(world, "ada").await, person(world, "bob").await);
    let group = |name: &str, member: &str| json!({"apiVersion": "devsanctum.io/v1", "kind": "Group", "metadata": {"name": name}, "spec": {"members": [{"user": member}]}});
    world.create(group("deployers", "ada")).await;
    world.create(group("readers", "bob")).await;
    let mut project = records::project("team", "hello");
    project["spec"]["owner"] = json!("root");
    project["spec"]["visibility"] = json!("PRIVATE");
    project["spec"]["groups"] = json!([{"group": "deployers", "role": "DEPLOY"}, {"group": "readers", "role": "READ"}]);
    world.create(project).await;
    for (name, visibility, wakes) in workspaces {
        let mut workspace = records::workspace(name);
        workspace["spec"]["visibility"] = json!(visibility);
        workspace["spec"]["wakeOnVisit"] = json!(wakes);
        world.create(workspace).await;
    }
    for (name, ..) in workspaces {
        phase(world, name, WorkspacePhase::Running).await;
    }
    people
}

async fn phase(world: &World<'_>, name: &str, wanted: WorkspacePhase) {
    until(&format!("{name} to be {wanted:?}"), PATIENCE, async || {
        let status = world.workspace(name).await.status.unwrap_or_default();
        if status.phase == wanted { Ok(()) } else { Err(format!("{:?} {:?}", status.phase, status.message)) }
    })
    .await;
}

async fn stop(world: &World<'_>, names: &[&str]) {
    for name in names {
        world.merge(name, json!({"spec": {"running": false}})).await;
    }
    for name in names {
        phase(world, name, WorkspacePhase::Stopped).await;
        let host = host_of(world, name).await;
        until("its page", PATIENCE, async || match request(world.web, &host, "/", &[]).await.0 {
            404 | 503 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
    }
}

/// As a page does that waits: asks anew until it is led to the workspace.
async fn lands(browser: &mut Browser, url: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = browser.send("GET", url, &ANEW, "").await;
        match answer.code {
            200 => return answer,
            302 => assert_eq!(answer.header("location"), Some(url)),
            // The workspace itself: a small server, and more visitors than it has processes. Traefik says so in two ways: whether
            // it hung up before its answer, or in the midst of that.
            502 => {}
            500 if answer.body == "Internal Server Error" => {}
            503 => assert!(answer.body.contains("http-equiv=\"refresh\""), "{}", answer.body),
            code => panic!("{code}: {}", answer.body),
        }
        assert!(begun.elapsed() < PATIENCE, "{url}: {}", answer.body);
    }
}

#[test]
fn who_may_starts_a_workspace_by_its_page_and_lands_where_they_wanted_to_go() {
    in_world(async |world| {
        let (mut ada, mut bob) = ground(&world, &[("w0", "PRIVATE", false), ("w1", "PUBLIC", false)]).await;
        let (shut, open) = (host_of(&world, "w0").await, host_of(&world, "w1").await);
        until("the gate", PATIENCE, async || match ada.open(&at(&world, &shut, "/")).await.code {
            200 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        let body = json!({"project": "team", "workspace": "w0"}).to_string().into_bytes();
        let asked = http::Request::post("/devsanctum/shares").header("content-type", "application/json").body(body).unwrap();
        let share: serde_json::Value = world.client.request(asked).await.unwrap();
        let mut guest = Browser::new(world.web);
        assert_eq!(guest.open(share["url"].as_str().unwrap()).await.code, 200);
        stop(&world, &["w0", "w1"]).await;
        let deep = at(&world, &shut, "/index.html?a=b");
        let button = "action=\"/.devsanctum/start?to=%2Findex.html%3Fa%3Db\"";
        let seen = ada.send("GET", &deep, &PAGE, "").await;
        assert!(seen.code == 503 && seen.body.contains(button), "{}", seen.body);
        let seen = guest.send("GET", &deep, &PAGE, "").await;
        assert!(seen.code == 503 && !seen.body.contains("<form") && seen.body.contains("Whoever it belongs to"), "{}", seen.body);

        let start = at(&world, &shut, "/.devsanctum/start?to=%2Findex.html%3Fa%3Db");
        let origin = |host: &str| format!("http://{host}:{}", world.web.port());
        let other = [("Origin", origin(&open)), ("Sec-Fetch-Site", "same-site".to_owned())];
        let other = other.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(ada.send("POST", &start, &other, "x=1").await.code, 403, "a page of another workspace");
        assert_eq!(ada.send("GET", &start, &PAGE, "").await.code, 405, "a link");
        assert_eq!(guest.submit(&start, &[("x", "1")]).await.code, 503, "who has a link");
        assert_eq!(bob.submit(&start, &[("x", "1")]).await.code, 404);
        assert!(!world.workspace("w0").await.spec.running);
        let begun = ada.submit(&start, &[("x", "1")]).await;
        assert_eq!((begun.code, begun.header("location")), (303, Some(deep.as_str())), "{}", begun.body);
        assert!(lands(&mut ada, &deep).await.body.contains("w0"));
        // Who presses it late finds it running.
        let late = ada.submit(&start, &[("x", "1")]).await;
        assert_eq!((late.code, late.header("location")), (303, Some(deep.as_str())));
        let asked = http::Request::get("/devsanctum/audit?verb=patch&name=w0").body(vec![]).unwrap();
        let told: serde_json::Value = world.client.request(asked).await.unwrap();
        let row = told["rows"].as_array().unwrap().iter().find(|row| row["user"] == "ada").unwrap_or_else(|| panic!("{told}"));
        assert_eq!((&row["code"], &row["how"], &row["address"]), (&json!(200), &json!("session"), &json!("127.0.0.1")), "{row}");
        // A command starts it, too.
        stop(&world, &["w0"]).await;
        let mut command = devsanctum();
        command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "exec", "w0", "--", "echo", "woken"]);
        let (code, out, words) = ran(command, b"").await;
        assert_eq!((code, out.as_str()), (0, "woken\n"), "{words}");
        assert!(words.contains("is stopped: starting it"), "{words}");

        // One that is open to anybody is started at the panel: its container reads what its visitors show there.
        let deep = at(&world, &open, "/index.html?c");
        let mut stranger = Browser::new(world.web);
        let seen = stranger.send("GET", &deep, &PAGE, "").await;
        let way = format!("{}/start?host={open}&amp;to=%2Findex.html%3Fc", panel(&world));
        assert!(seen.code == 503 && seen.body.contains(&way) && !seen.body.contains("w1"), "{}", seen.body);
        assert_eq!(
            stranger.submit(&at(&world, &open, "/.devsanctum/start"), &[("x", "1")]).await.code,
            503,
            "nothing is done here"
        );
        let way = way.replace("&amp;", "&");
        assert!(stranger.open(&way).await.url.contains("/login?next="), "they sign in first");
        assert_eq!(bob.open(&way).await.code, 404, "who may not learns nothing");
        let page = ada.open(&way).await;
        assert!(page.code == 200 && page.body.contains("w1 is stopped"), "{}", page.body);
        let fields = [("host", open.as_str()), ("to", "/index.html?c")];
        assert_eq!(bob.submit(&format!("{}/start", panel(&world)), &fields).await.code, 404);
        assert!(!world.workspace("w1").await.spec.running);
        let done = ada.submit(&format!("{}/start", panel(&world)), &fields).await;
        assert!(done.code == 200 && done.body.contains(&format!("url={deep}")), "{}", done.body);
        assert!(lands(&mut stranger, &deep).await.body.contains("w1"));
    });
}

#[test]
fn one_that_wakes_by_itself_is_started_once_for_all_who_come_and_for_pages_alone() {
    in_world(async |world| {
        ground(&world, &[("w0", "PUBLIC", true)]).await;
        let host = host_of(&world, "w0").await;
        stop(&world, &["w0"]).await;
        let url = at(&world, &host, "/index.html");
        let mut stranger = Browser::new(world.web);
        for (what, headers) in [
            ("a page that is left open", &[("Accept", "*/*"), ("Sec-Fetch-Mode", "cors")][..]),
            ("a picture", &[("Accept", "text/html"), ("Sec-Fetch-Mode", "no-cors")]),
            ("one fetched in case", &[("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Purpose", "prefetch")]),
            ("a program", &[]),
        ] {
            let answer = stranger.send("GET", &url, headers, "").await;
            assert_eq!((answer.code, answer.header("retry-after")), (503, Some("60")), "{what}: {}", answer.body);
        }
        assert_eq!(stranger.send("POST", &url, &PAGE, "x=1").await.code, 503);
        assert!(!world.workspace("w0").await.spec.running);
        let before = world.workspace("w0").await.metadata.generation.unwrap();
        let visits = (0..200).map(|_| {
            let (web, url) = (world.web, url.clone());
            tokio::spawn(async move {
                let mut visitor = Browser::new(web);
                let first = visitor.send("GET", &url, &PAGE, "").await;
                assert!(matches!(first.code, 200 | 503), "{}: {}", first.code, first.body);
                lands(&mut visitor, &url).await.body
            })
        });
        // A client of a WebSocket is answered when it is of use to come again.
        let socket = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
        let socket = [&socket[..], &[("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]].concat();
        let waits = async {
            until("it to be woken", PATIENCE, async || match world.workspace("w0").await.spec.running {
                true => Ok(()),
                false => Err("not yet".into()),
            })
            .await;
            request(world.web, &host, "/", &socket).await
        };
        let (landed, waited) = tokio::join!(futures::future::join_all(visits), waits);
        assert!(landed.iter().all(|body| body.as_ref().unwrap().contains("w0")));
        assert_ne!(waited.0, 0, "{}", waited.1);
        let after = world.workspace("w0").await.metadata.generation.unwrap();
        assert_eq!(after, before + 1, "it was started once");
        let asked = http::Request::get("/devsanctum/audit?verb=patch&name=w0").body(vec![]).unwrap();
        let told: serde_json::Value = world.client.request(asked).await.unwrap();
        let rows: Vec<_> = told["rows"].as_array().unwrap().iter().filter(|row| row["how"] == "anonymous").collect();
        assert!(rows.len() == 1 && rows[0]["code"] == 200 && rows[0]["address"] == "127.0.0.1", "{told}");
        let container = world.container("w0").await;
        assert_eq!(world.docker(&["ps", "-q", "--filter", &format!("name={container}")]).lines().count(), 1);
    });
}

/// What Chromium makes of it: forms, redirects, pages that ask anew.
#[test]
fn a_real_browser_wakes_workspaces_and_lands_on_their_pages() {
    in_world(async |world| {
        let all = [("w0", "PRIVATE", false), ("w1", "PUBLIC", false), ("w2", "PUBLIC", true)];
        ground(&world, &all).await;
        stop(&world, &["w0", "w1", "w2"]).await;
        let pictures = std::env::var("DEVSANCTUM_PICTURES").unwrap_or_else(|_| root().join("target/tmp").display().to_string());
        let mut command = bare(root().join("target/tools/node/bin/node"));
        command.arg(root().join("scripts/wake.mjs")).args(["--panel", &panel(&world), "--out", &pictures, "--text", "-"]);
        command.args(["--email", "ada@example.com", "--password", PASSWORD]);
        for (flag, name) in [("--private", "w0"), ("--public", "w1"), ("--by-itself", "w2")] {
            command.args([flag, &at(&world, &host_of(&world, name).await, "/index.html?deep=link")]);
        }
        command.env("HOME", "/root").stdin(Stdio::null());
        let (code, out, words) = ran(command, b"").await;
        assert_eq!(code, 0, "{out}{words}");
        eprintln!("{out}");
    });
}
