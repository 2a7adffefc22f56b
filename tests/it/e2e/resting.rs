//! What is answered at an address whose workspace does not run, or is not there: through the real Traefik.

use super::gate::{host_of, panel, person, set_up};
use super::records;
use super::world::{World, in_world, until};
use crate::support::browser::{Answer, Browser};
use crate::support::traefik::request;
use serde_json::json;
use std::time::Duration;

const PAGE: [(&str, &str); 2] = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
/// As long as the workspaces' hosts are, so that what is answered is, too.
const NOBODY: &str = "nobody";

fn at(world: &World<'_>, host: &str, path: &str) -> String {
    format!("http://{host}:{}{path}", world.web.port())
}

async fn answers(world: &World<'_>, host: &str, wanted: u16) {
    until("the change", Duration::from_secs(60), async || match request(world.web, host, "/", &[]).await.0 {
        code if code == wanted => Ok(()),
        code => Err(format!("{host}: {code}, not {wanted}")),
    })
    .await;
}

/// All that is answered but what is of the moment: the date, and chance.
fn lasting(answer: &Answer, host: &str) -> (String, String) {
    let mut lines: Vec<String> = answer.head.replace(host, "HOST").lines().map(str::to_owned).collect();
    lines.retain(|line| !line.to_lowercase().starts_with("date:"));
    for line in &mut lines {
        for mark in ["nonce=", "__Host-ds_nonce="] {
            if let Some((before, rest)) = line.clone().split_once(mark) {
                let end = rest.find(['&', ';']).unwrap_or(rest.len());
                *line = format!("{before}{mark}…{}", &rest[end..]);
            }
        }
    }
    lines.sort();
    (lines.join("\n"), answer.body.replace(host, "HOST"))
}

#[test]
fn an_address_says_how_its_workspace_is_to_those_who_may_know() {
    in_world(async |world| {
        world.create(records::settings(crate::support::dockerd::TINY)).await;
        world.create(records::server("local", &world.daemon.socket())).await;
        world.create(records::template("hello")).await;
        let _root = set_up(&world).await;
        let (mut ada, mut bob) = (person(&world, "ada").await, person(&world, "bob").await);
        let mut project = records::project("team", "hello");
        project["spec"]["visibility"] = json!("PRIVATE");
        world.create(project).await;
        let mut shut = records::workspace("w0");
        shut["spec"]["visibility"] = json!("PRIVATE");
        world.create(shut).await;
        world.create(records::workspace("w1")).await;
        let (shut, open) = (host_of(&world, "w0").await, host_of(&world, "w1").await);
        answers(&world, &shut, 401).await;
        answers(&world, &open, 200).await;
        assert_eq!(ada.open(&at(&world, &shut, "/")).await.code, 200);
        let body = json!({"project": "team", "workspace": "w0"}).to_string().into_bytes();
        let asked = http::Request::post("/devsanctum/shares").header("content-type", "application/json").body(body).unwrap();
        let share: serde_json::Value = world.client.request(asked).await.unwrap();
        let mut guest = Browser::new(world.web);
        assert_eq!(guest.open(share["url"].as_str().unwrap()).await.code, 200);
        nobody_is_there(&world).await;

        for name in ["w0", "w1"] {
            world.merge(name, json!({"spec": {"running": false}})).await;
        }
        answers(&world, &open, 503).await;
        answers(&world, &shut, 404).await;
        // A public one, to anybody; nothing of its name.
        let mut stranger = Browser::new(world.web);
        let stopped = stranger.send("GET", &at(&world, &open, "/"), &PAGE, "").await;
        assert!(stopped.code == 503 && stopped.body.contains("This workspace is stopped"), "{}", stopped.body);
        assert_eq!(stopped.header("retry-after"), Some("60"));
        assert!(!stopped.body.contains("http-equiv") && !stopped.body.contains("team"), "{}", stopped.body);
        assert!(request(world.web, &open, "/", &[]).await.1.contains("This workspace is stopped.\n"), "to programs, in a line");
        // A private one, to who may open it: those who are known there, and who has its link.
        let own = ada.send("GET", &at(&world, &shut, "/x?y"), &PAGE, "").await;
        assert!(own.code == 503 && own.body.contains("devsanctum -n team workspace start w0"), "{}", own.body);
        let guests = guest.send("GET", &at(&world, &shut, "/"), &PAGE, "").await;
        assert!(guests.code == 503 && !guests.body.contains("w0"), "{}", guests.body);
        told_apart_by_nobody_else(&world, &mut bob, &shut).await;
        // Who signs in sees it, where they were.
        let mut fresh = Browser::new(world.web);
        fresh.jar.insert("devsanctum.localhost".into(), ada.jar["devsanctum.localhost"].clone());
        assert_eq!(fresh.open(&at(&world, &shut, "/x?y")).await.code, 404);
        let led = fresh.open(&at(&world, &shut, "/.devsanctum/sign-in?to=%2Fx%3Fy")).await;
        assert_eq!((led.code, led.url), (503, at(&world, &shut, "/x?y")), "{}", led.body);

        world.merge("w0", json!({"spec": {"running": true}})).await;
        until("it to run", Duration::from_secs(60), async || match ada.open(&at(&world, &shut, "/")).await {
            page if page.code == 200 => Ok(()),
            page => Err(page.body),
        })
        .await;
        // The page that said that there is nothing may stand open for long.
        let late = fresh.open(&at(&world, &shut, "/.devsanctum/sign-in?to=%2F%3Fz")).await;
        assert_eq!((late.code, late.url), (200, at(&world, &shut, "/?z")), "{}", late.body);
        world.delete("w1").await;
        world.gone("w1").await;
        answers(&world, &open, 404).await;
    });
}

/// Hosts of nobody: below the domain they are ours, the panel is not at them, and others are not our business.
async fn nobody_is_there(world: &World<'_>) {
    let host = format!("{NOBODY}.localhost");
    let mut browser = Browser::new(world.web);
    for path in ["/", "/login", "/style.css", "/setup"] {
        let none = browser.send("GET", &at(world, &host, path), &PAGE, "").await;
        assert!(none.code == 404 && none.body.contains("There is nothing here"), "{path}: {}", none.body);
        assert!(none.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
    }
    for host in [NOBODY.to_uppercase() + ".LocalHost", format!("x.y.{NOBODY}.localhost"), format!("{host}.")] {
        let (code, words) = request(world.web, &host, "/", &[]).await;
        assert!(code == 404 && words.contains("There is nothing here, or it is not yours to open."), "{host}: {words}");
    }
    for host in ["nobody.example.com", "127.0.0.1", "localhost", "xlocalhost", "a.localhost.example.com"] {
        assert_eq!(request(world.web, host, "/", &[]).await, (404, "404 page not found\n".into()), "{host}");
    }
    assert_eq!(request(world.web, "DevSanctum.localhost.", "/login", &[]).await.0, 200, "the panel, however it is typed");
}

/// A private workspace that is stopped is as one that is not there: to strangers, to programs, to accounts that may not.
async fn told_apart_by_nobody_else(world: &World<'_>, bob: &mut Browser, shut: &str) {
    let (_, domain) = shut.split_once('.').unwrap();
    let nobody = format!("{}.{domain}", "n".repeat(shut.len() - domain.len() - 1));
    let mut compared = 0;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/a?b=c"),
        ("HEAD", "/"),
        ("POST", "/"),
        ("OPTIONS", "/"),
        ("GET", "/.devsanctum/enter?code=x&to=/"),
        ("GET", "/.devsanctum/share?token=x"),
        ("POST", "/.devsanctum/share?token=x"),
        ("GET", "/.devsanctum/sign-in?to=%2Fx"),
        ("GET", "/.devsanctum/other"),
    ] {
        for headers in [&[][..], &PAGE, &[("Cookie", "__Host-ds_nonce=x; __Host-ds_ws=y; __Host-ds_share=z")]] {
            let ask = async |host: &str| {
                lasting(&Browser::new(world.web).send(method, &at(world, host, path), headers, "").await, host)
            };
            assert_eq!(ask(shut).await, ask(&nobody).await, "{method} {path} {headers:?}");
            compared += 1;
        }
    }
    assert!(compared >= 30);
    let mut ends = Vec::new();
    for host in [shut, &nobody] {
        let led = bob.open(&at(world, host, "/.devsanctum/sign-in?to=%2F")).await;
        assert!(led.code == 404 && led.url.starts_with(&panel(world)), "{}", led.url);
        ends.push(lasting(&led, host));
    }
    assert_eq!(ends[0], ends[1]);
}
