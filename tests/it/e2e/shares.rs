//! Share links: people without an account open one service of a private workspace, through the real Traefik, and nothing else.

use super::gate::{host_of, panel, person, set_up};
use super::records;
use super::world::{World, in_world, until};
use crate::support::browser::Browser;
use crate::support::devsanctum;
use crate::support::traefik::request;
use serde_json::{Value, json};
use std::time::Duration;

/// Two services: both write down what they are asked, the first answers with who asks, too.
async fn ground(world: &World<'_>) {
    world.create(records::settings(crate::support::dockerd::TINY)).await;
    world.create(records::server("local", &world.daemon.socket())).await;
    let mut template = records::template("hello");
    let script = "trap 'exit 0' TERM; mkdir -p /tmp/www/cgi-bin; cd /tmp/www; \
                  printf '#!/bin/sh\\necho Content-Type: text/plain; echo; echo user=$HTTP_X_DS_USER cookies=$HTTP_COOKIE from=$HTTP_REFERER\\n' \
                  > cgi-bin/echo; chmod +x cgi-bin/echo; echo page > index.html; httpd -p 8080 -h /tmp/www; \
                  httpd -vv -f -p 9090 -h /tmp/www 2>/tmp/asked & while :; do sleep 3600 & wait; done";
    template["spec"]["startCommand"] = json!(["sh", "-c", script]);
    template["spec"]["ports"] = json!([{"name": "web", "port": 8080}, {"name": "admin", "port": 9090}]);
    world.create(template).await;
}

/// What the command line prints, told to do this in `team`; `Err` with what it complains of.
fn say(world: &World<'_>, words: &[&str]) -> Result<String, String> {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "share"]).args(words);
    let done = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

async fn private(world: &World<'_>, name: &str) -> String {
    let mut workspace = records::workspace(name);
    workspace["spec"]["visibility"] = json!("PRIVATE");
    world.create(workspace).await;
    let host = host_of(world, name).await;
    let admin = admin_of(&host);
    for host in [&host, &admin] {
        until("its gate", Duration::from_secs(60), async || match request(world.web, host, "/", &[]).await.0 {
            401 => Ok(()),
            code => Err(format!("{host}: {code}")),
        })
        .await;
    }
    host
}

/// The host of a workspace's second service.
fn admin_of(host: &str) -> String {
    let (slug, domain) = host.split_once('.').unwrap();
    format!("{slug}-admin.{domain}")
}

const PAGE: [(&str, &str); 2] = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];

/// What the first service answers who comes by a link.
const NOBODY: &str = "user= cookies= from=\n";

#[test]
fn a_share_link_opens_one_service_to_whoever_has_it_until_it_is_ended() {
    in_world(async |world| {
        ground(&world).await;
        let _root = set_up(&world).await;
        let (_ada, mut bob) = (person(&world, "ada").await, person(&world, "bob").await);
        let mut project = records::project("team", "hello");
        project["spec"]["visibility"] = json!("PRIVATE");
        world.create(project).await;
        let (host, other) = (private(&world, "w0").await, private(&world, "w1").await);
        let at = |host: &str| format!("http://{host}:{}", world.web.port());
        let link = say(&world, &["ws/w0", "--for", "2h"]).unwrap();
        assert!(link.starts_with(&format!("{}/.devsanctum/share?token=", at(&host))), "{link}");
        let path = link.strip_prefix(&at(&host)).unwrap();

        // What looks at links before people do takes nothing from it.
        let mut guest = Browser::new(world.web);
        assert_eq!(Browser::new(world.web).send("HEAD", &link, &[], "").await.code, 302);
        let led = guest.send("GET", &link, &PAGE, "").await;
        assert_eq!((led.code, led.header("location")), (302, Some(format!("{}/", at(&host)).as_str())), "{}", led.head);
        assert_eq!(led.header("referrer-policy"), Some("no-referrer"));
        let cookie = led.header("set-cookie").unwrap();
        assert!(cookie.starts_with("__Host-ds_share=") && cookie.contains("; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(!path.contains(&guest.jar[&host]["__Host-ds_share"]), "the cookie is not the link");
        assert!(guest.open(&format!("{}/", at(&host))).await.body.contains("page"));
        let deeper = guest.open(&format!("{link}&to=%2Fcgi-bin%2Fecho%3Fa%3Db")).await;
        assert_eq!(deeper.url, format!("{}/cgi-bin/echo?a=b", at(&host)));
        assert!(deeper.body.contains(NOBODY), "{}", deeper.body);
        let elsewhere = guest.send("GET", &format!("{link}&to=%2F%2Fevil.example.com"), &PAGE, "").await;
        assert_eq!(elsewhere.header("location"), Some(format!("{}/", at(&host)).as_str()));
        assert_eq!(guest.send("POST", &link, &PAGE, "x=1").await.code, 405);
        // The service is told nothing of who it is, whatever they say they are.
        let echo = format!("{}/cgi-bin/echo", at(&host));
        let spoofed = guest.send("GET", &echo, &[("X-DS-User", "ada"), ("X-Ds-User", "root")], "").await;
        assert!(spoofed.body.contains(NOBODY), "{}", spoofed.body);
        guest.jar.get_mut(&host).unwrap().insert("app".into(), "theirs".into());
        let own = guest.send("GET", &echo, &[], "").await;
        assert!(own.body.contains("user= cookies=app=theirs from=\n"), "{}", own.body);
        // Another browser, and somebody whose account may not.
        assert_eq!(bob.open(&format!("{}/", at(&host))).await.code, 404);
        assert!(bob.open(&link).await.body.contains("page"));
        assert!(bob.send("GET", &echo, &[], "").await.body.contains(NOBODY), "whoever comes by the link");

        nothing_else(&world, &guest, &host, &other, path).await;
        its_maker_and_its_end(&world, &mut guest, &host, &link).await;
    });
}

/// Not the workspace's other service, not another workspace, not the panel; with the link's text, and with its cookie.
async fn nothing_else(world: &World<'_>, guest: &Browser, host: &str, other: &str, path: &str) {
    let token = path.split_once("token=").unwrap().1;
    let shown = &guest.jar[host]["__Host-ds_share"];
    for elsewhere in [&admin_of(host), other, &admin_of(other)] {
        let mut browser = Browser::new(world.web);
        let url = format!("http://{elsewhere}:{}", world.web.port());
        let refused = browser.send("GET", &format!("{url}{path}"), &PAGE, "").await;
        assert!(refused.code == 403 && browser.jar[elsewhere].is_empty(), "{elsewhere}: {}", refused.head);
        for value in [shown, token] {
            for name in ["__Host-ds_share", "__Host-ds_ws", "__Host-ds_session"] {
                let cookie = format!("{name}={value}");
                let code = request(world.web, elsewhere, "/", &[("Cookie", &cookie)]).await.0;
                assert_eq!(code, 401, "{elsewhere} {name}");
            }
        }
    }
    for (name, value) in [("__Host-ds_share", token), ("__Host-ds_ws", shown), ("__Host-ds_share", "x")] {
        let cookie = format!("{name}={value}");
        assert_eq!(request(world.web, host, "/", &[("Cookie", &cookie)]).await.0, 401, "{name}");
    }
    let twice = format!("__Host-ds_share={shown}; __Host-ds_share={shown}");
    assert_eq!(request(world.web, host, "/", &[("Cookie", &twice)]).await.0, 401);
    for name in ["__Host-ds_session", "__Host-ds_share", "__Host-ds_ws"] {
        let cookie = format!("{name}={shown}");
        let (code, _) = request(world.web, "devsanctum.localhost", "/account", &[("Cookie", &cookie)]).await;
        assert_eq!(code, 302, "the panel asks who that is");
    }
    assert_eq!(request(world.web, "devsanctum.localhost", path, &[]).await.0, 404);
    let asked = world.docker_says(&["exec", &world.container("w0").await, "cat", "/tmp/asked"]);
    assert!(!asked.contains("url:"), "the other service was asked: {asked}");
}

/// One of ada's ends as she is shut out; one is ended; both at the next request.
async fn its_maker_and_its_end(world: &World<'_>, guest: &mut Browser, host: &str, link: &str) {
    let body = json!({"name": "laptop", "user": "ada"}).to_string().into_bytes();
    let asked = http::Request::post("/devsanctum/keys").header("content-type", "application/json").body(body).unwrap();
    let key: Value = world.client.request(asked).await.unwrap();
    let file = world.state_dir().join("ada.token");
    std::fs::write(&file, key["key"].as_str().unwrap()).unwrap();
    let own = say(world, &["ws/w0", "--service", "admin", "--token-file", file.to_str().unwrap()]).unwrap();
    let admin = admin_of(host);
    assert!(own.starts_with(&format!("http://{admin}:{}/", world.web.port())), "{own}");
    assert!(guest.open(&own).await.body.contains("page"));
    let page = format!("http://{admin}:{}/", world.web.port());
    let users: kube::Api<devsanctum::resource::User> = kube::Api::all(world.client.clone());
    let turn = async |active: bool| {
        let body = json!({"spec": {"active": active}});
        users.patch("ada", &Default::default(), &kube::api::Patch::Merge(body)).await.unwrap();
    };
    // Another's by now, so that it runs on.
    world.merge("w0", json!({"spec": {"owner": "bob"}})).await;
    turn(false).await;
    assert_eq!(guest.send("GET", &page, &[], "").await.code, 401, "its maker was shut out");
    turn(true).await;
    assert_eq!(guest.send("GET", &page, &[], "").await.code, 200);

    let listed = say(world, &["list", "ws/w0"]).unwrap();
    let rows: Vec<Vec<&str>> = listed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[0][1], rows[1][1], rows[1][2]), (2, "web", "admin", "ada"), "{listed}");
    let web = format!("http://{host}:{}/", world.web.port());
    assert_eq!(guest.send("GET", &web, &[], "").await.code, 200);
    say(world, &["end", rows[0][0]]).unwrap();
    assert_eq!(guest.send("GET", &web, &[], "").await.code, 401, "it was ended");
    assert_eq!(guest.send("GET", &page, &[], "").await.code, 200, "the other was not");
    let late = guest.send("GET", link, &PAGE, "").await;
    assert!(late.code == 403 && late.body.contains("does not work"), "{}", late.body);
    // A page leads to where they can sign in, as for anybody.
    let asked = guest.open(&web).await;
    assert!(asked.url.starts_with(&format!("{}/login?next=", panel(world))), "{}", asked.url);
    assert!(say(world, &["end", rows[0][0]]).unwrap_err().contains("no share link"));
    assert!(say(world, &["ws/w0", "--for", "31d"]).unwrap_err().contains("30 days"));
}
