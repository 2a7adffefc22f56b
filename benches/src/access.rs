//! What it costs to ask who may do what: one decision, a list that is filtered, and a request through the gate.

use super::records::{self, record};
use super::system::{self, System};
use super::tool::{median, ms, note, quantile, row, spread};
use super::wire::{Wire, plain};
use super::{Flags, docker};
use devsanctum::access::{Action, Identity, Records, decide};
use devsanctum::resource::Workspace;
use devsanctum::store::Key;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const GROUPS: usize = 1_000;
const PASSWORD: &str = "correct horse battery";
/// Who signs in with the right password.
const PEOPLE: usize = 40;
/// Times that the load changes.
const TURNS: usize = 9;

pub async fn run(flags: Flags) {
    let wanted = |part| flags.only.is_none_or(|only| only == part);
    if wanted("decide") {
        deciding();
    }
    if wanted("list") {
        listing(flags.count.unwrap_or(10_000), flags.runs.unwrap_or(15)).await;
    }
    if wanted("gate") {
        gate(flags.seconds.min(20)).await;
    }
    if wanted("hidden") {
        hidden(flags.count.unwrap_or(1_000)).await;
    }
    if wanted("sign-in") {
        signing_in(flags.seconds.min(30)).await;
    }
}

/// Somebody in a thousand groups, all of which have a role in the project.
fn deciding() {
    let mut all = Records::default();
    let mut put = |kind: &'static str, value: &Value| {
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        all.put(&Key { kind, namespace: String::new(), name }, value.to_string().as_bytes());
    };
    put("users.devsanctum.io", &record("User", "ada", json!({"email": "ada@example.com"})));
    let groups: Vec<String> = (0..GROUPS).map(|i| format!("g{i}")).collect();
    for group in &groups {
        put("groups.devsanctum.io", &record("Group", group, json!({"members": [{"user": "ada"}]})));
    }
    let roles: Vec<Value> = groups.iter().map(|group| json!({"group": group, "role": "READ"})).collect();
    put("projects.devsanctum.io", &record("Project", "team", json!({"owner": "bob", "template": "t", "groups": roles})));
    let ada = Identity::person("ada");
    let (group, resource, namespace, name) = ("devsanctum.io", "workspaces", Some("team"), Some("w"));
    let action = Action { verb: "get", group, resource, subresource: "", namespace, name };
    assert!(decide(&ada, &action, &all).is_allowed());
    let mut took = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        for _ in 0..50 {
            black_box(decide(black_box(&ada), black_box(&action), &all));
        }
        took.push(begun.elapsed().as_secs_f64() / 50.0 * 1e6);
    }
    let measured = format!("p50 {:.1} µs, p99 {:.1} µs (n=200 × 50)", median(&took), quantile(&took, 0.99));
    row(&format!("one decision, {GROUPS} groups on both sides"), &measured, "", "", "≤ 20 µs");
}

/// All workspaces, as the administrator and as somebody whose every record is judged.
async fn listing(count: usize, runs: usize) {
    let dir = system::state();
    let system = System::start(dir.path()).await;
    system.apply(&records::ground(true));
    let mut wire = system.target.connect().await.unwrap();
    for i in 0..count {
        let path = "/apis/devsanctum.io/v1/namespaces/bench/workspaces";
        let (code, answer) = wire.call("POST", path, &records::workspace(&format!("w{i}")).to_string()).await.unwrap();
        assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
    }
    let reader = record("User", "reader", json!({"email": "reader@example.com"}));
    let group = record("Group", "readers", json!({"members": [{"user": "reader"}]}));
    system.apply(&[reader, group]);
    let role = json!({"spec": {"groups": [{"group": "readers", "role": "READ"}]}});
    let projects: kube::Api<devsanctum::resource::Project> = kube::Api::all(system.client.clone());
    projects.patch("bench", &PatchParams::default(), &Patch::Merge(role)).await.unwrap();
    let mut reader = person(&system, "reader").await;
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        all.push(list(&mut wire, count).await);
        seen.push(list(&mut reader, count).await);
    }
    let ratio = format!("× {:.2}", median(&seen) / median(&all));
    let what = format!("list of {count} workspaces, each judged");
    row(&what, &spread(&seen, "ms"), &format!("administrator {}", spread(&all, "ms")), &ratio, "≤ × 1.1");
}

/// A connection of somebody's own, by an API key.
async fn person(system: &System, user: &str) -> Wire<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let mut wire = system.target.connect().await.unwrap();
    let asked = json!({"name": "bench", "user": user}).to_string();
    let (_, answer) = wire.call("POST", "/devsanctum/keys", &asked).await.unwrap();
    let key: Value = serde_json::from_slice(&answer).unwrap();
    let mut theirs = system.target.clone();
    theirs.token = key["key"].as_str().unwrap().to_owned();
    theirs.connect().await.unwrap()
}

/// What is asked for by who may not see it, there and not there, by turns: how long each takes, in milliseconds.
async fn hidden(count: usize) {
    let dir = system::state();
    let system = System::start(dir.path()).await;
    system.apply(&records::ground(false));
    let stranger = record("User", "stranger", json!({"email": "stranger@example.com"}));
    let mut private = record("Project", "private", json!({"owner": "ada", "template": "plain"}));
    private["spec"]["visibility"] = json!("PRIVATE");
    system.apply(&[stranger, private]);
    let mut wire = system.target.connect().await.unwrap();
    let at = "/apis/devsanctum.io/v1/namespaces";
    let mut workspace = records::workspace("there");
    workspace["metadata"]["namespace"] = json!("private");
    let (code, answer) = wire.call("POST", &format!("{at}/private/workspaces"), &workspace.to_string()).await.unwrap();
    assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
    let mut stranger = person(&system, "stranger").await;
    let asked = [
        ("a workspace of a project", format!("{at}/private/workspaces/there"), format!("{at}/privatf/workspaces/there")),
        ("a project", "/apis/devsanctum.io/v1/projects/private".into(), "/apis/devsanctum.io/v1/projects/privatf".into()),
        ("a secret", format!("{at}/private/secrets/there"), format!("{at}/privatf/secrets/there")),
    ];
    for (what, there, missing) in asked {
        let (mut hidden, mut none) = (Vec::new(), Vec::new());
        for turn in 0..count {
            for second in [turn % 2 == 0, turn % 2 != 0] {
                let (path, took) = if second { (&missing, &mut none) } else { (&there, &mut hidden) };
                let (code, lasted) = loop {
                    let begun = Instant::now();
                    match stranger.call("GET", path, "").await.unwrap() {
                        // Nobody may ask more often; who waits is not measured.
                        (429, _) => tokio::time::sleep(Duration::from_millis(20)).await,
                        (code, _) => break (code, begun.elapsed()),
                    }
                };
                took.push(ms(lasted));
                assert_eq!(code, 404, "{path}");
            }
        }
        let measured = format!("p50 {:.4} ms (n={count})", median(&hidden));
        let beside = format!("none there p50 {:.4} ms", median(&none));
        let ratio = format!("× {:.3}", median(&hidden) / median(&none));
        row(&format!("{what} that is hidden"), &measured, &beside, &ratio, "× 0.9 to 1.1");
    }
}

async fn list<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, count: usize) -> f64 {
    let begun = Instant::now();
    let (code, body) = wire.call("GET", "/apis/devsanctum.io/v1/workspaces", "").await.unwrap();
    let took = ms(begun.elapsed());
    assert_eq!((code, body.windows(8).filter(|w| w == b"\"spec\":{").count()), (200, count));
    took
}

/// One request over a connection of its own: its head, and what cookies it sets.
async fn ask(to: std::net::SocketAddr, head: &str, body: &str) -> (String, Vec<String>) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    stream.write_all(format!("{head}\r\nConnection: close\r\n{length}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    let set = head.lines().filter(|line| line.to_lowercase().starts_with("set-cookie: ")).map(|line| &line[12..]);
    let cookies = set.filter_map(|cookie| Some(cookie.split(';').next()?.to_owned())).collect();
    (head, cookies)
}

fn location(head: &str) -> (String, String) {
    let line = head.lines().find(|line| line.to_lowercase().starts_with("location: ")).unwrap_or_else(|| panic!("{head}"));
    let rest = line[10..].trim_start_matches("http://");
    let (authority, path) = rest.split_at(rest.find('/').unwrap());
    (authority.to_owned(), path.to_owned())
}

/// Sets somebody's password by a link; the cookies they have then.
async fn with_password(system: &System, user: &str) -> Vec<String> {
    let mut wire = system.target.connect().await.unwrap();
    let (_, answer) = wire.call("POST", "/devsanctum/links", &json!({"user": user}).to_string()).await.unwrap();
    let link: Value = serde_json::from_slice(&answer).unwrap();
    let panel = system.status().await["panel"].as_str().unwrap().to_owned();
    let authority = panel.trim_start_matches("http://");
    let form = format!("password={}", PASSWORD.replace(' ', "+"));
    let path = link["path"].as_str().unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nOrigin: {panel}\r\nContent-Type: application/x-www-form-urlencoded"
    );
    let (head, session) = ask(system.panel, &head, &form).await;
    assert!(head.contains(" 200 "), "{head}");
    session
}

/// The cookie of a workspace's host, got as a browser gets it.
async fn cookie(system: &System, host: &str) -> String {
    let session = with_password(system, "ada").await;
    let page = "Accept: text/html\r\nSec-Fetch-Mode: navigate";
    let port = system.web.port();
    let (head, nonce) = ask(system.web, &format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n{page}"), "").await;
    let (to, path) = location(&head);
    let shown = session.join("; ");
    let (head, _) = ask(system.web, &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{page}\r\nCookie: {shown}"), "").await;
    let (to, path) = location(&head);
    let shown = nonce.join("; ");
    let (_, own) = ask(system.web, &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n{page}\r\nCookie: {shown}"), "").await;
    own.into_iter().find(|cookie| cookie.starts_with("__Host-ds_ws=")).expect("a cookie of the workspace's host")
}

/// Requests at a steady pace, by turns to a private and to a public workspace of the same sort.
async fn gate(seconds: u64) {
    let daemon = docker::start();
    let dir = system::state();
    let system = System::with_engine(dir.path(), &daemon).await;
    system.apply(&[records::workspace("open"), records::workspace("shut")]);
    let hosts = system.await_running(2).await;
    let workspaces: kube::Api<Workspace> = kube::Api::namespaced(system.client.clone(), "bench");
    let private = json!({"spec": {"visibility": "PRIVATE"}});
    workspaces.patch("shut", &PatchParams::default(), &Patch::Merge(private)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cookie = cookie(&system, &hosts["shut"]).await;
    let uid = workspaces.get("shut").await.unwrap().metadata.uid.unwrap();
    in_process(&system, &uid, &hosts["shut"], &cookie, seconds).await;
    let mut open = plain(system.web, &hosts["open"]).await.unwrap();
    let mut shut = plain(system.web, &hosts["shut"]).await.unwrap();
    shut.with(&format!("Cookie: {cookie}"));
    let (mut gated, mut free) = (Vec::new(), Vec::new());
    let mut every = tokio::time::interval(Duration::from_micros(3_333));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        for (wire, took) in [(&mut open, &mut free), (&mut shut, &mut gated)] {
            every.tick().await;
            let at = Instant::now();
            let (code, _) = wire.call("GET", "/", "").await.unwrap();
            assert_eq!(code, 200);
            took.push(ms(at.elapsed()));
        }
    }
    note(&format!("gate: p99 {:.2} ms gated, {:.2} ms open", quantile(&gated, 0.99), quantile(&free, 0.99)));
    let measured = format!("p50 {:.2} ms (n={})", median(&gated), gated.len());
    let beside = format!("no gate p50 {:.2} ms", median(&free));
    let more = format!("{:+.2} ms", median(&gated) - median(&free));
    row("a request to a private workspace, 300/s", &measured, &beside, &more, "≤ +3 ms");
}

/// The gate itself, asked as Traefik asks it, a thousand times a second.
async fn in_process(system: &System, uid: &str, host: &str, cookie: &str, seconds: u64) {
    const CONNECTIONS: usize = 4;
    let feed = devsanctum::proxy::Earlier::read(&system.dir).unwrap().feed;
    let asking = (0..CONNECTIONS).map(|n| {
        let head = format!(
            "Cookie: {cookie}\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Uri: /\r\nX-Forwarded-For: 192.0.2.1"
        );
        let path = format!("/gate/{uid}");
        tokio::spawn(async move {
            let mut wire = plain(feed, &feed.to_string()).await.unwrap();
            wire.with(&head);
            tokio::time::sleep(Duration::from_millis(n as u64)).await;
            let mut every = tokio::time::interval(Duration::from_millis(CONNECTIONS as u64));
            let (begun, mut took) = (Instant::now(), Vec::new());
            while begun.elapsed() < Duration::from_secs(seconds) {
                // From when it was due: what waits behind a slow one is slow as well.
                let due = every.tick().await;
                let (code, _) = wire.call("GET", &path, "").await.unwrap();
                assert_eq!(code, 200);
                took.push(ms(due.elapsed()));
            }
            took
        })
    });
    let mut took = Vec::new();
    for asked in futures::future::join_all(asking).await {
        took.extend(asked.unwrap());
    }
    let measured = format!("p99 {:.2} ms, p50 {:.2} ms (n={})", quantile(&took, 0.99), median(&took), took.len());
    row("the gate in process, 1,000/s", &measured, "", "", "p99 ≤ 5 ms");
}

/// What two hundred times a second is asked of the panel meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Nothing,
    /// Its form: what so many connections and pages cost by themselves, here and there.
    Pages,
    SignIns,
}

/// How long a loop takes to see to a change of a record: by itself, beside two hundred pages a second, and beside as many attempts to
/// sign in, every tenth with the right password.
async fn signing_in(seconds: u64) {
    let dir = system::state();
    let system = System::start(dir.path()).await;
    system.apply(&records::ground(false));
    let people: Vec<String> = (0..PEOPLE).map(|n| format!("right{n}")).collect();
    let accounts: Vec<Value> =
        people.iter().map(|name| record("User", name, json!({"email": format!("{name}@example.com")}))).collect();
    system.apply(&accounts);
    for name in &people {
        with_password(&system, name).await;
    }
    let templates: kube::Api<devsanctum::resource::Template> = kube::Api::all(system.client.clone());
    let origin = system.status().await["panel"].as_str().unwrap().to_owned();
    let mut took = [Load::Nothing, Load::Pages, Load::SignIns].map(|load| (load, Vec::new(), Vec::new()));
    for turn in 0..TURNS {
        let (load, took, answers) = &mut took[turn % 3];
        let stop = Instant::now() + Duration::from_millis(seconds * 3_000 / TURNS as u64);
        let attempts = tokio::spawn(attempts(*load, turn, system.panel, origin.clone(), stop));
        while Instant::now() < stop {
            took.push(seen_to(&templates).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answers.extend(attempts.await.unwrap());
    }
    let [(_, quiet, _), (_, pages, _), (_, busy, answers)] = took;
    let p99 = |all: &[f64]| quantile(all, 0.99);
    let count = |wanted: u16| answers.iter().filter(|code| **code == wanted).count();
    note(&format!(
        "sign-ins: {} attempts, {} wrong, {} signed in, {} told to wait",
        answers.len(),
        count(403),
        count(200),
        count(429)
    ));
    let beside = |what: &str, all: &[f64]| format!("{what} p99 {:.1} ms, p50 {:.1} ms", p99(all), median(all));
    for (what, all) in [("nothing", &quiet), ("200 pages/s", &pages)] {
        let measured = format!("p99 {:.1} ms, p50 {:.1} ms (n={})", p99(&busy), median(&busy), busy.len());
        let ratio = format!("× {:.2}", p99(&busy) / p99(all));
        row("a change seen to, 200 sign-ins/s", &measured, &beside(what, all), &ratio, "≤ × 1.2");
    }
}

async fn seen_to(templates: &kube::Api<devsanctum::resource::Template>) -> f64 {
    let body = json!({"spec": {"description": format!("{:?}", Instant::now())}});
    let begun = Instant::now();
    let changed = templates.patch("plain", &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    loop {
        let now = templates.get("plain").await.unwrap();
        if now.status.and_then(|s| s.observed_generation) >= changed.metadata.generation {
            return ms(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Passwords from many networks, or asking for the form, at the panel as the proxy would bring them; the codes they are answered with.
async fn attempts(load: Load, turn: usize, panel: std::net::SocketAddr, origin: String, stop: Instant) -> Vec<u16> {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    let (mut asked, mut n) = (Vec::new(), u32::try_from(turn).unwrap() << 16);
    while load != Load::Nothing && Instant::now() < stop {
        every.tick().await;
        n += 1;
        let [_, a, b, c] = n.to_be_bytes();
        let (what, form) = match load {
            Load::SignIns if n.is_multiple_of(10) => {
                let person = n as usize / 10 % PEOPLE;
                ("POST", format!("email=right{person}%40example.com&password={}", PASSWORD.replace(' ', "+")))
            }
            Load::SignIns => ("POST", format!("email=person{n}%40example.com&password=a+guess+of+{n}")),
            _ => ("GET", String::new()),
        };
        let head = format!(
            "{what} /login HTTP/1.1\r\nHost: devsanctum.localhost\r\nOrigin: {origin}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nX-Forwarded-For: 10.{a}.{b}.{c}"
        );
        asked.push(tokio::spawn(async move { ask(panel, &head, &form).await.0 }));
    }
    let mut codes = Vec::new();
    for answer in asked {
        let head = answer.await.unwrap();
        codes.push(head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0));
    }
    codes
}
