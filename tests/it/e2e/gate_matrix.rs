//! Everybody, with every method, at private and public workspaces that run, are stopped, or are gone: through the real Traefik. And
//! sixty ways to look like somebody else. The containers' own logs say what has reached them.

use super::gate::{host_of, panel, person, set_up};
use super::records;
use super::world::{World, in_world, until};
use crate::support::browser::Browser;
use devsanctum::resource::{Group, User};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Who there is, and whether a private workspace of ada's is open to them.
const SUBJECTS: [(&str, bool); 10] = [
    ("nobody", false),
    ("stranger", false),
    ("reader", false),
    ("deployer", false),
    ("former", false),
    ("disabled", false),
    ("signed-out", false),
    ("manager", true),
    ("ada", true),
    ("root", true),
];
const METHODS: [&str; 8] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "CONNECT", "WEBSOCKET"];

async fn ground(world: &World<'_>) {
    world.create(records::settings(crate::support::dockerd::TINY)).await;
    world.create(records::server("local", &world.daemon.socket())).await;
    let mut template = records::template("hello");
    // It says what it is asked for, one line each.
    let script = "mkdir -p /tmp/www; echo page > /tmp/www/index.html; exec httpd -f -vv -p 8080 -h /tmp/www 2>&1";
    template["spec"]["startCommand"] = json!(["sh", "-c", script]);
    world.create(template).await;
}

/// What a raw request is answered with; 0 for nothing at all.
async fn raw(to: SocketAddr, text: &str) -> u16 {
    let Ok(mut stream) = TcpStream::connect(to).await else { return 0 };
    let _ = stream.write_all(text.as_bytes()).await;
    // A connection that was upgraded stays open: the head is enough.
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") && stream.read_buf(&mut answer).await.is_ok_and(|n| n > 0) {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await;
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Asks with this method, as a browser with this jar.
async fn ask(world: &World<'_>, browser: &Browser, host: &str, method: &str, path: &str) -> u16 {
    let cookies: Vec<String> =
        browser.jar.get(host).into_iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    let cookies = if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
    let (method, more) = match method {
        "WEBSOCKET" => (
            "GET",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        ),
        "POST" | "PUT" => (method, "Content-Length: 0\r\nConnection: close\r\n"),
        method => (method, "Connection: close\r\n"),
    };
    raw(world.web, &format!("{method} {path} HTTP/1.1\r\nHost: {host}:{}\r\n{cookies}{more}\r\n", world.web.port())).await
}

/// The cells that a workspace's container has been asked for.
fn reached(world: &World<'_>, container: &str) -> BTreeSet<usize> {
    let log = world.docker_says(&["logs", container]);
    let cells = log.split("url:/cell-").skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    cells.collect()
}

/// Groups, a private project, a private and a public workspace of ada's. Four people manage the project, of whom one will stay.
async fn town(world: &World<'_>) {
    let members = |names: &[&str]| json!({"members": names.iter().map(|name| json!({"user": name})).collect::<Vec<_>>()});
    for (name, spec) in [
        ("readers", members(&["reader"])),
        ("devs", members(&["deployer"])),
        ("leads", members(&["manager", "former", "disabled", "signed-out"])),
    ] {
        world.create(json!({"apiVersion": "devsanctum.io/v1", "kind": "Group", "metadata": {"name": name}, "spec": spec})).await;
    }
    let mut project = records::project("team", "hello");
    project["spec"]["visibility"] = json!("PRIVATE");
    project["spec"]["groups"] = json!([
        {"group": "readers", "role": "READ"}, {"group": "devs", "role": "DEPLOY"}, {"group": "leads", "role": "MANAGE"},
    ]);
    world.create(project).await;
    let mut shut = records::workspace("w0");
    shut["spec"]["visibility"] = json!("PRIVATE");
    world.create(shut).await;
    world.create(records::workspace("w1")).await;
}

/// What was theirs is taken from three of them, each in another way.
async fn take_away(world: &World<'_>, signed_out: &mut Browser) {
    let merge = |spec: Value| kube::api::Patch::Merge(json!({"spec": spec}));
    let groups: kube::Api<Group> = kube::Api::all(world.client.clone());
    let stay = ["manager", "disabled", "signed-out"].map(|user| json!({"user": user}));
    let left = merge(json!({"members": stay}));
    groups.patch("leads", &Default::default(), &left).await.unwrap();
    let users: kube::Api<User> = kube::Api::all(world.client.clone());
    users.patch("disabled", &Default::default(), &merge(json!({"active": false}))).await.unwrap();
    assert_eq!(signed_out.submit(&format!("{}/logout", panel(world)), &[("x", "1")]).await.code, 302);
    // Of a session that was ended, an answer may be remembered for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Running,
    Stopped,
    Gone,
}

/// Asks everything of both workspaces; how many cells that were.
async fn play(world: &World<'_>, browsers: &[Browser], hosts: [&str; 2], from: usize, state: State) -> usize {
    let running = state == State::Running;
    let (mut cell, mut allowed, mut must) = (from, BTreeSet::new(), BTreeSet::new());
    for (private, host) in [(true, hosts[0]), (false, hosts[1])] {
        for ((name, may), browser) in SUBJECTS.iter().zip(browsers) {
            for method in METHODS {
                cell += 1;
                let code = ask(world, browser, host, method, &format!("/cell-{cell}")).await;
                let what = format!("{name} {method} private={private} {state:?}: {code}");
                if !running {
                    // That one is stopped is said to those alone whom it would be open to.
                    let told = state == State::Stopped && (*may || !private);
                    let expected = if told { 503 } else { 404 };
                    assert!(code == expected || (method == "CONNECT" && code >= 400), "{what}");
                } else if method == "CONNECT" {
                    assert!(code >= 400, "{what}");
                } else if private && !may {
                    assert_eq!(code, if *name == "former" { 404 } else { 401 }, "{what}");
                } else {
                    allowed.insert(cell);
                    if matches!(method, "GET" | "HEAD" | "POST" | "WEBSOCKET") {
                        assert!(matches!(code, 404 | 501), "{what}");
                        must.insert(cell);
                    }
                }
            }
        }
    }
    if running {
        let mut seen = BTreeSet::new();
        for name in ["w0", "w1"] {
            seen.extend(reached(world, &world.container(name).await));
        }
        seen.retain(|seen| *seen > from);
        assert!(seen.is_subset(&allowed), "reached, and should not have been: {:?}", seen.difference(&allowed));
        assert!(must.is_subset(&seen), "not reached, and should have been: {:?}", must.difference(&seen));
    }
    cell - from
}

/// Lines that ask for other upgrades than to a WebSocket.
const OTHER_UPGRADES: [&str; 6] = [
    "Upgrade: h2c",
    "Upgrade: foo",
    "Upgrade: websocket, h2c",
    "Upgrade: h2c,websocket",
    "Upgrade: foo\r\nUpgrade: websocket",
    "Upgrade: websocketx",
];

fn upgraded(path: &str, host: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n{lines}\r\nX-DS-User: root\r\n\r\n")
}

/// Requests to a private workspace that look like somebody else's, or like something else.
fn spoofs(host: &str, port: u16, open: &str, theirs: &Browser) -> Vec<String> {
    let line = |path: &str, host: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n")
    };
    let own = format!("{host}:{port}");
    let mut all = Vec::new();
    for name in [
        "X-DS-User",
        "x-ds-user",
        "X_DS_User",
        "X-Ds-User",
        "X-DS-Groups",
        "X-Remote-User",
        "X-Forwarded-User",
        "Remote-User",
        "X-Auth-Request-User",
    ] {
        for value in ["ada", "root", "system:masters"] {
            all.push(line("/cell-1", &own, &format!("{name}: {value}\r\n")));
        }
    }
    for (name, value) in [
        ("X-Forwarded-Host", open),
        ("X-Forwarded-Host", "devsanctum.localhost"),
        ("X_Forwarded_Host", open),
        ("X-Forwarded-Uri", "/.devsanctum/enter"),
        ("X-Forwarded-Uri", "/healthz"),
        ("X-Forwarded-Method", "OPTIONS"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Prefix", "/gate"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Server", "panel"),
        ("Forwarded", "for=127.0.0.1;host=devsanctum.localhost"),
        ("X-Original-URL", "/healthz"),
        ("X-Original-Uri", "/"),
        ("X-Rewrite-URL", "/"),
        ("X-HTTP-Method-Override", "OPTIONS"),
        ("X-Real-Ip", "127.0.0.1"),
        ("Connection", "X-Forwarded-Host"),
        ("Connection", "X-Forwarded-Uri, X-Forwarded-Method"),
        ("Connection", "Cookie"),
        ("Connection", "X-DS-User"),
        ("Authorization", "Bearer dsk_000000000000_guess"),
        ("Authorization", "Basic YWRhOmFkYQ=="),
        ("Proxy-Authorization", "Basic YWRhOmFkYQ=="),
        ("Cookie", "__Host-ds_ws="),
        ("Cookie", "__Host-ds_ws=guess"),
        ("Cookie", "__Host-ds_ws=a; __Host-ds_ws=b"),
        ("Cookie", "__host-ds_ws=x"),
        ("Cookie", "ds_ws=x; __Host-ds_session=x"),
        ("Origin", "http://devsanctum.localhost"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Te", "trailers"),
    ] {
        all.push(line("/cell-1", &own, &format!("{name}: {value}\r\n")));
    }
    // The cookies of somebody's other hosts, here.
    for cookie in theirs.jar.values().flat_map(|jar| jar.values()) {
        all.push(line("/cell-1", &own, &format!("Cookie: __Host-ds_ws={cookie}\r\n")));
        all.push(line("/cell-1", &own, &format!("Cookie: __Host-ds_ws={cookie}; __Host-ds_ws={cookie}\r\n")));
    }
    all.push(line("/cell-1", &own, &format!("Cookie: {}\r\n", "a=b; ".repeat(1600))));
    for (path, host) in [
        ("/cell-1", host.to_uppercase()),
        ("/cell-1", format!("{host}.")),
        ("/cell-1", format!("{host}:80")),
        ("/cell-1", format!("{host}:0{port}")),
        ("//cell-1", own.clone()),
        ("/%2e%2e/cell-1", own.clone()),
        ("/.devsanctum/../cell-1", own.clone()),
        ("/.devsanctum/enter?code=x&to=/cell-1", own.clone()),
        ("/.devsanctum/enter/cell-1", own.clone()),
        ("/;/cell-1", own.clone()),
        ("/gate/x/cell-1", own.clone()),
    ] {
        all.push(line(path, &host, ""));
    }
    // Within what is upgraded to something else than a WebSocket, anything could be said.
    for to in OTHER_UPGRADES {
        all.push(upgraded("/cell-1", &own, to));
    }
    // Absolute forms, a host twice, and an older protocol.
    all.push(line(&format!("http://{open}:{port}/cell-1"), &own, ""));
    all.push(line(&format!("http://{own}/cell-1"), &format!("{open}:{port}"), ""));
    all.push(line("/cell-1", &own, &format!("Host: {open}\r\n")));
    all.push(format!("GET /cell-1 HTTP/1.0\r\nHost: {own}\r\n\r\n"));
    all
}

#[test]
fn nobody_reaches_what_is_not_theirs_however_they_ask() {
    in_world(async |world| {
        ground(&world).await;
        let mut browsers = Vec::new();
        for (name, _) in SUBJECTS {
            browsers.push(match name {
                "nobody" => Browser::new(world.web),
                "root" => set_up(&world).await,
                name => person(&world, name).await,
            });
        }
        town(&world).await;
        let (shut, open) = (host_of(&world, "w0").await, host_of(&world, "w1").await);
        for (host, answer) in [(&shut, 401), (&open, 200)] {
            until("the routes", Duration::from_secs(60), async || match ask(&world, &browsers[0], host, "GET", "/").await {
                code if code == answer => Ok(()),
                code => Err(code.to_string()),
            })
            .await;
        }
        let url = format!("http://{shut}:{}/", world.web.port());
        for ((name, _), browser) in SUBJECTS.iter().zip(&mut browsers) {
            let got = browser.open(&url).await;
            let in_reach = ["former", "disabled", "signed-out", "manager", "ada", "root"].contains(name);
            assert_eq!(got.code == 200 && got.body.contains("page"), in_reach, "{name}: {} {}", got.code, got.url);
        }
        take_away(&world, &mut browsers[6]).await;

        let mut cells = play(&world, &browsers, [&shut, &open], 1000, State::Running).await;
        let container = world.container("w0").await;
        let spoofs = spoofs(&shut, world.web.port(), &open, &browsers[1]);
        let mut codes = std::collections::BTreeMap::<u16, usize>::new();
        for text in &spoofs {
            let code = raw(world.web, text).await;
            assert!(!(200..300).contains(&code) || text.contains(&format!("http://{open}")), "{code}: {text}");
            *codes.entry(code).or_default() += 1;
        }
        assert!(!reached(&world, &container).contains(&1), "one of {} has come through", spoofs.len());

        // Nor does a public one see what is upgraded to something else.
        for lines in OTHER_UPGRADES {
            assert_eq!(raw(world.web, &upgraded("/cell-2", &open, lines)).await, 400, "{lines:?}");
        }
        assert!(!reached(&world, &world.container("w1").await).contains(&2));

        for name in ["w0", "w1"] {
            world.merge(name, json!({"spec": {"running": false}})).await;
        }
        for host in [&shut, &open] {
            until("no route", Duration::from_secs(30), async || match ask(&world, &browsers[8], host, "GET", "/").await {
                503 => Ok(()),
                code => Err(code.to_string()),
            })
            .await;
        }
        cells += play(&world, &browsers, [&shut, &open], 2000, State::Stopped).await;
        for name in ["w0", "w1"] {
            world.delete(name).await;
            world.gone(name).await;
        }
        cells += play(&world, &browsers, [&shut, &open], 3000, State::Gone).await;
        println!("proof: cells of the gate matrix {cells} played, 0 failed; {} spoofs: {codes:?}", spoofs.len());
        assert!(cells >= 300 && spoofs.len() >= 60, "{cells} {}", spoofs.len());
    });
}
