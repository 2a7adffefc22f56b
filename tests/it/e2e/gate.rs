//! People sign in, and are let in to private workspaces: through the real Traefik, with the requests of browsers.

use super::records;
use super::ssh::ran;
use super::world::{PATIENCE, World, in_world, until};
use crate::support::bare;
use crate::support::browser::Browser;
use crate::support::source::root;
use crate::support::traefik::request;
use serde_json::json;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub const PASSWORD: &str = "correct horse battery";

/// Everything but people: a server, a template whose container writes down all that is asked of it, a project.
async fn ground(world: &World<'_>) {
    world.create(records::settings(crate::support::dockerd::TINY)).await;
    world.create(records::server("local", &world.daemon.socket())).await;
    let mut template = records::template("hello");
    // It answers with what it was sent, and keeps it.
    let script = "trap 'exit 0' TERM; mkdir -p /tmp/www/cgi-bin; cd /tmp/www; \
                  printf '#!/bin/sh\\necho Content-Type: text/plain; echo; echo user=$HTTP_X_DS_USER cookies=$HTTP_COOKIE; \
                  echo seen >> /tmp/seen\\n' > cgi-bin/echo; chmod +x cgi-bin/echo; echo page > index.html; : > /tmp/seen; \
                  httpd -p 8080 -h /tmp/www; while :; do sleep 3600 & wait; done";
    template["spec"]["startCommand"] = json!(["sh", "-c", script]);
    world.create(template).await;
}

pub fn panel(world: &World<'_>) -> String {
    format!("http://devsanctum.localhost:{}", world.web.port())
}

pub async fn set_up(world: &World<'_>) -> Browser {
    let mut browser = Browser::new(world.web);
    let panel = panel(world);
    until("the panel", Duration::from_secs(30), async || {
        match request(world.web, "devsanctum.localhost", "/setup", &[]).await.0 {
            200 => Ok(()),
            code => Err(code.to_string()),
        }
    })
    .await;
    let token = std::fs::read_to_string(world.state_dir().join("setup.token")).unwrap();
    let own = [("name", "root"), ("email", "root@example.com"), ("password", PASSWORD)];
    let with = |token| [own.as_slice(), &[("token", token)]].concat();
    let url = format!("{panel}/setup");
    assert_eq!(browser.submit(&url, &with("guessed")).await.code, 403);
    let done = browser.submit(&url, &with(&token)).await;
    assert_eq!(done.code, 200, "{}", done.body);
    assert_eq!(browser.submit(&url, &with(&token)).await.code, 403, "it works once");
    // Where from is what the proxy says of its connection.
    let asked = http::Request::get("/devsanctum/audit?verb=set-up").body(vec![]).unwrap();
    let told: serde_json::Value = world.client.request(asked).await.unwrap();
    let codes: Vec<i64> = told["rows"].as_array().unwrap().iter().filter_map(|row| row["code"].as_i64()).collect();
    assert_eq!((codes, &told["rows"][1]["address"]), (vec![403, 200, 403], &json!("127.0.0.1")), "{told}");
    browser
}

/// Makes a user and signs them in by the link that an administrator is given.
pub async fn person(world: &World<'_>, name: &str) -> Browser {
    world.create(json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": name}, "spec": {"email": format!("{name}@example.com")}})).await;
    let body = json!({"user": name}).to_string().into_bytes();
    let asked = http::Request::post("/devsanctum/links").header("content-type", "application/json").body(body).unwrap();
    let link: serde_json::Value = world.client.request(asked).await.unwrap();
    let url = format!("{}{}", panel(world), link["path"].as_str().unwrap());
    let mut browser = Browser::new(world.web);
    assert_eq!(browser.submit(&url, &[("password", "password")]).await.code, 403, "a common password leaves the link as it is");
    assert_eq!(browser.submit(&url, &[("password", PASSWORD)]).await.code, 200);
    assert_eq!(Browser::new(world.web).submit(&url, &[("password", PASSWORD)]).await.code, 403, "a link works once");
    browser
}

/// What the workspace's container has been asked.
fn seen(world: &World<'_>, container: &str) -> usize {
    world.daemon.docker(&["exec", container, "cat", "/tmp/seen"]).lines().count()
}

#[test]
fn private_workspaces_open_to_their_people_alone() {
    in_world(async |world| {
        ground(&world).await;
        let _root = set_up(&world).await;
        let (mut ada, mut bob) = (person(&world, "ada").await, person(&world, "bob").await);
        let mut project = records::project("team", "hello");
        project["spec"]["visibility"] = json!("PRIVATE");
        world.create(project).await;
        let mut workspace = records::workspace("w0");
        workspace["spec"]["visibility"] = json!("PRIVATE");
        world.create(workspace).await;
        let host = host_of(&world, "w0").await;
        let (base, page) = (format!("http://{host}:{}", world.web.port()), "/cgi-bin/echo?a=b");
        until("its gate", Duration::from_secs(30), async || match request(world.web, &host, page, &[]).await.0 {
            401 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        let container = world.container("w0").await;

        // Nobody: programs are refused, pages lead to the panel. The workspace is asked nothing.
        for headers in [
            &[][..],
            &[("Accept", "application/json")],
            &[("Accept", "text/html"), ("Sec-Fetch-Mode", "cors")],
            &[("Sec-Fetch-Mode", "websocket"), ("Connection", "Upgrade"), ("Upgrade", "websocket")],
            &[("X-Ds-User", "ada")],
            &[("Cookie", "__Host-ds_ws=x")],
            &[("X-Forwarded-Host", "devsanctum.localhost")],
        ] {
            assert_eq!(request(world.web, &host, page, headers).await.0, 401, "{headers:?}");
        }
        let mut stranger = Browser::new(world.web);
        let asked = stranger.open(&format!("{base}{page}")).await;
        assert!(
            asked.url.starts_with(&format!("{}/login?next=", panel(&world))) && asked.code == 200,
            "{} {}",
            asked.code,
            asked.url
        );
        assert_eq!(seen(&world, &container), 0);

        // Its owner is led in, lands where they wanted, and what is ours stays ours.
        let own = ada.open(&format!("{base}{page}")).await;
        assert_eq!((own.code, own.url.as_str()), (200, format!("{base}{page}").as_str()), "{}", own.body);
        assert!(own.body.contains("user=ada cookies="), "{}", own.body);
        for name in ["content-security-policy", "x-content-type-options", "cache-control"] {
            assert_eq!(own.header(name), None, "what a workspace answers is its own: {}", own.head);
        }
        ada.jar.get_mut(&host).unwrap().insert("app".into(), "theirs".into());
        let own = ada.send("GET", &format!("{base}{page}"), &[], "").await;
        assert!(own.body.contains("user=ada cookies=app=theirs\n"), "{}", own.body);
        let spoofed = ada.send("GET", &format!("{base}{page}"), &[("X-DS-User", "root"), ("X_DS_User", "root")], "").await;
        assert!(spoofed.body.contains("user=ada "), "{}", spoofed.body);

        // What a page of another workspace shows, a picture or a script, browsers ask for without an Origin.
        let referer = format!("{base}/");
        for (site, mode, dest, referer, code) in [
            ("same-site", "no-cors", "image", None, 403),
            ("cross-site", "no-cors", "script", None, 403),
            ("same-site", "no-cors", "image", Some("http://other.localhost/"), 403),
            ("same-site", "no-cors", "image", Some(referer.as_str()), 200),
            ("same-site", "navigate", "document", None, 200),
            ("same-site", "navigate", "iframe", None, 403),
            ("cross-site", "navigate", "object", Some("http://other.localhost/"), 403),
            ("same-site", "navigate", "iframe", Some(referer.as_str()), 200),
            ("same-origin", "navigate", "iframe", None, 200),
            ("same-origin", "no-cors", "image", None, 200),
            ("none", "navigate", "document", None, 200),
        ] {
            let mut headers = vec![("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)];
            headers.extend(referer.map(|referer| ("Referer", referer)));
            let asked = ada.send("GET", &format!("{base}{page}"), &headers, "").await;
            assert_eq!(asked.code, code, "{headers:?}: {}", asked.body);
        }

        // While it is open to anybody its container reads what browsers hold: that is worth nothing when it is private again.
        let held = format!("__Host-ds_ws={}", ada.jar[&host]["__Host-ds_ws"]);
        assert_eq!(request(world.web, &host, page, &[("Cookie", &held)]).await.0, 200);
        for (visibility, answer) in [("PUBLIC", 200), ("PRIVATE", 401)] {
            world.merge("w0", json!({"spec": {"visibility": visibility}})).await;
            until("its visibility", Duration::from_secs(30), async || match request(world.web, &host, page, &[]).await.0 {
                code if code == answer => Ok(()),
                code => Err(code.to_string()),
            })
            .await;
            if visibility == "PUBLIC" {
                let query = format!("workspace=&host={host}&to=/&nonce={}", "A".repeat(43));
                let code = ada.open(&format!("{}/open?{query}", panel(&world))).await;
                assert_eq!(code.code, 404, "no code is brought to it: {}", code.url);
            }
        }
        // Sessions are remembered for a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(request(world.web, &host, page, &[("Cookie", &held)]).await.0, 401);
        assert_eq!(ada.open(&format!("{base}{page}")).await.code, 200, "she is let in anew");

        // Somebody else with an account is not, nor is who has stolen a cookie of another host.
        let before = seen(&world, &container);
        let other = bob.open(&format!("{base}{page}")).await;
        assert_eq!(other.code, 404, "{}", other.body);
        let cookie = format!("__Host-ds_ws={}", ada.jar["devsanctum.localhost"]["__Host-ds_session"]);
        assert_eq!(request(world.web, &host, page, &[("Cookie", &cookie)]).await.0, 401, "the panel's is worth nothing here");
        let cookie = format!("__Host-ds_session={}", ada.jar[&host]["__Host-ds_ws"]);
        let (_, home) = request(world.web, "devsanctum.localhost", "/", &[("Cookie", &cookie)]).await;
        assert!(!home.contains("Your workspaces"), "nor is a workspace's at the panel: {home}");
        assert_eq!(seen(&world, &container), before);

        codes_work_once(&world, &mut ada, &host).await;
        // A form of a workspace's own is not taken for the panel's.
        for (origin, site) in
            [(base.as_str(), "same-site"), ("null", "cross-site"), ("https://devsanctum.localhost", "same-origin")]
        {
            let headers = [("Origin", origin), ("Sec-Fetch-Site", site), ("Content-Type", "application/x-www-form-urlencoded")];
            assert_eq!(ada.send("POST", &format!("{}/logout", panel(&world)), &headers, "x=1").await.code, 403, "{origin}");
        }
        assert_eq!(ada.send("POST", &format!("{}/logout", panel(&world)), &[], "x=1").await.code, 403, "without an origin");

        // Signed out of the panel, they are out of the workspace.
        assert_eq!(ada.submit(&format!("{}/logout", panel(&world)), &[("x", "1")]).await.code, 302);
        let begun = Instant::now();
        until("signed out", Duration::from_secs(5), async || {
            match ada.send("GET", &format!("{base}{page}"), &[], "").await.code {
                401 => Ok(()),
                code => Err(code.to_string()),
            }
        })
        .await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let back = ada
            .submit(&format!("{}/login", panel(&world)), &[("email", "Ada@Example.com"), ("password", PASSWORD), ("next", "/")])
            .await;
        assert_eq!(back.code, 200, "{}", back.body);
        assert_eq!(ada.open(&format!("{base}{page}")).await.code, 200);
        shut_out_at_once(&world, &mut ada, &format!("{base}{page}")).await;
    });
}

/// What Chromium makes of it: cookies over plain http on `localhost`, forms that lead elsewhere, scripts of workspaces.
#[test]
fn a_real_browser_signs_in_and_a_workspaces_page_takes_nothing_from_it() {
    in_world(async |world| {
        ground(&world).await;
        let _root = set_up(&world).await;
        let _ada = person(&world, "ada").await;
        world.create(records::project("team", "hello")).await;
        let mut workspace = records::workspace("w0");
        workspace["spec"]["visibility"] = json!("PRIVATE");
        world.create(workspace).await;
        let host = host_of(&world, "w0").await;
        until("its gate", Duration::from_secs(60), async || match request(world.web, &host, "/", &[]).await.0 {
            401 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        let url = format!("http://{host}:{}/cgi-bin/echo?a=b", world.web.port());
        let pictures = std::env::var("DEVSANCTUM_PICTURES").unwrap_or_else(|_| root().join("target/tmp").display().to_string());
        let mut command = bare(root().join("target/tools/node/bin/node"));
        command.arg(root().join("scripts/sign-in.mjs")).args(["--url", &url, "--panel", &panel(&world), "--text", "user=ada"]);
        command.args(["--email", "ada@example.com", "--password", PASSWORD, "--out", &pictures]);
        command.env("HOME", "/root").stdin(Stdio::null());
        let (code, out, words) = ran(command, b"").await;
        assert_eq!(code, 0, "{out}{words}");
    });
}

pub async fn host_of(world: &World<'_>, name: &str) -> String {
    let found = std::cell::RefCell::new(String::new());
    until("an address", Duration::from_secs(60), async || {
        let services = world.workspace(name).await.status.unwrap_or_default().services;
        let url = services.first().and_then(|s| s.url.clone()).ok_or("none")?;
        *found.borrow_mut() = url.trim_start_matches("http://").split(':').next().unwrap().to_owned();
        Ok(())
    })
    .await;
    found.into_inner()
}

/// A code is for one browser, one workspace, and one time.
async fn codes_work_once(world: &World<'_>, ada: &mut Browser, host: &str) {
    let base = format!("http://{host}:{}", world.web.port());
    let headers = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")];
    let mut fresh = Browser::new(world.web);
    fresh.jar.insert("devsanctum.localhost".into(), ada.jar["devsanctum.localhost"].clone());
    let to_panel = fresh.send("GET", &format!("{base}/x"), &headers, "").await;
    let open = to_panel.header("location").unwrap().to_owned();
    let to_host = fresh.send("GET", &open, &headers, "").await.header("location").unwrap().to_owned();
    assert!(to_host.starts_with(&format!("{base}/.devsanctum/enter?code=")), "{to_host}");
    // Another browser, which was given the address: the code is gone then.
    let mut thief = Browser::new(world.web);
    assert_eq!(thief.send("GET", &to_host, &headers, "").await.code, 403);
    let late = fresh.send("GET", &to_host, &headers, "").await;
    assert!(late.code == 302 && !fresh.jar[host].contains_key("__Host-ds_ws"), "{}", late.head);
    // A second one works, once.
    let code = fresh.send("GET", &open, &headers, "").await.header("location").unwrap().to_owned();
    assert!(!fresh.jar[host].contains_key("__Host-ds_nonce"));
    assert_eq!(fresh.send("GET", &code, &headers, "").await.code, 403, "its browser was forgotten with the code before");
    assert!(fresh.open(&format!("{base}/")).await.body.contains("page"));
    // Nobody is led to a host that is not the workspace's.
    for host in ["evil.example.com", "devsanctum.localhost", "x.localhost"] {
        let elsewhere = open
            .replace(&format!("host={}", base.trim_start_matches("http://").split(':').next().unwrap()), &format!("host={host}"));
        assert_ne!(elsewhere, open);
        assert_eq!(fresh.send("GET", &elsewhere, &headers, "").await.code, 404, "{host}");
    }
}

/// What takes somebody's access away takes it away at the gate.
async fn shut_out_at_once(world: &World<'_>, ada: &mut Browser, page: &str) {
    let turn = async |active: bool| {
        let body = json!({"spec": {"active": active}});
        let users: kube::Api<devsanctum::resource::User> = kube::Api::all(world.client.clone());
        users.patch("ada", &Default::default(), &kube::api::Patch::Merge(body)).await.unwrap();
    };
    turn(false).await;
    let code = ada.send("GET", page, &[], "").await.code;
    assert_eq!(code, 401, "at once: the record decides, not a cache");
    // Theirs is stopped for that, and is not started again by itself.
    until("it to be stopped", PATIENCE, async || {
        let now = world.workspace("w0").await;
        if now.spec.running { Err("it runs".into()) } else { Ok(()) }
    })
    .await;
    turn(true).await;
    world.merge("w0", json!({"spec": {"running": true}})).await;
    until("their page", PATIENCE, async || match ada.send("GET", page, &[], "").await.code {
        200 => Ok(()),
        code => Err(code.to_string()),
    })
    .await;
    // Public for a while, and private again.
    world.merge("w0", json!({"spec": {"visibility": "PUBLIC"}})).await;
    let host = page.trim_start_matches("http://").split(':').next().unwrap().to_owned();
    let becomes = async |wanted: u16| {
        until("the change", Duration::from_secs(10), async || match request(world.web, &host, "/", &[]).await.0 {
            code if code == wanted => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
    };
    becomes(200).await;
    world.merge("w0", json!({"spec": {"visibility": "PRIVATE"}})).await;
    let begun = Instant::now();
    becomes(401).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
