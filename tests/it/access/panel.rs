//! What the audit log says of signing in and of all else that is done at the panel.

use super::Town;
use crate::support::api::GROUP;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use devsanctum::access::{Directory, Shares, SignIn, digest};
use devsanctum::api::Ledger;
use devsanctum::audit::{Entry, Row};
use devsanctum::clock::{Clock, SystemClock};
use devsanctum::store::AuditQuery;
use devsanctum::web::panel::{Panel, router};
use devsanctum::web::{Accounts, ApiAddress, Waking, Web, gate};
use http::Request;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

pub(super) const ORIGIN: &str = "http://devsanctum.localhost";
pub(super) const WORDS: &str = "correct horse battery";

/// A browser at the panel, without cookies but the one of its session.
pub(super) struct Browser {
    panel: Router,
    pub session: String,
}

/// What panel and gate work with.
pub(super) fn web(town: &Town, clock: Arc<dyn Clock>) -> Web {
    let store = town.api.store.clone();
    let directory = Arc::new(Directory::new(store.clone()));
    let sign_in = Arc::new(SignIn::new(store.clone(), directory.clone()));
    let shares = Arc::new(Shares::new(store.clone(), directory.clone()));
    Web { sign_in, directory, shares, store, clock, panel: ORIGIN.parse().unwrap(), trusted: Default::default() }
}

impl Browser {
    pub fn new(town: &Town) -> Self {
        Self::by(town, SystemClock::shared())
    }

    /// At a panel that has this time.
    pub fn by(town: &Town, clock: Arc<dyn Clock>) -> Self {
        let web = web(town, clock);
        let accounts = Arc::new(Accounts::over(town.api.open.clone()));
        let setup = Arc::new(Mutex::new(Some(digest("set-up-token"))));
        let audit = Ledger::new(web.store.clone(), web.directory.clone(), web.clock.clone());
        let reached = ApiAddress {
            server: "https://127.0.0.1:6443".into(),
            certificate_authority: "PEM".into(),
            tls_server_name: Some("localhost".into()),
        };
        Self {
            panel: router(Panel { web, api: town.api.open.clone(), accounts, setup, audit, reached, waking: Waking::default() }),
            session: String::new(),
        }
    }

    /// Another browser at the same panel.
    pub fn another(&self) -> Self {
        Self { panel: self.panel.clone(), session: String::new() }
    }

    /// The whole answer to a page that is opened.
    pub async fn opened(&self, path: &str) -> Response {
        let request = Request::get(path)
            .header("host", ORIGIN.trim_start_matches("http://"))
            .header("cookie", format!("__Host-ds_session={}", self.session))
            .body(Body::empty());
        self.panel.clone().oneshot(request.unwrap()).await.unwrap()
    }

    /// Opens a page: the code, where it leads, and the page.
    pub async fn get(&mut self, path: &str) -> (u16, String, String) {
        let answer = self.opened(path).await;
        let to = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
        let code = answer.status().as_u16();
        (code, to, String::from_utf8_lossy(&to_bytes(answer.into_body(), usize::MAX).await.unwrap()).into_owned())
    }

    /// Opens a page at a workspace's host, as the proxy hands it on: the code.
    pub async fn visits(&self, host: &str, cookie: &str) -> u16 {
        let request = Request::get("/").header("host", host).header("accept", "text/html").header("sec-fetch-mode", "navigate");
        let request = request.header("x-forwarded-for", "203.0.113.9, 192.0.2.7").header("cookie", cookie);
        self.panel.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    /// The whole answer to a form, from the panel's own page or another.
    pub async fn sent(&mut self, path: &str, form: &[(&str, &str)], origin: &str) -> Response {
        let encode = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = Request::post(path)
            .header("host", ORIGIN.trim_start_matches("http://"))
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            // The proxy adds the last one; what stands before it is what the browser said.
            .header("x-forwarded-for", "203.0.113.9, 192.0.2.7")
            .header("cookie", format!("__Host-ds_session={}", self.session))
            .body(Body::from(body.join("&")));
        let answer = self.panel.clone().oneshot(request.unwrap()).await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            if let Some(rest) = cookie.to_str().unwrap().strip_prefix("__Host-ds_session=") {
                rest.split(';').next().unwrap().clone_into(&mut self.session);
            }
        }
        answer
    }

    /// Sends a form, from the panel's own page or another; the code, and the page.
    pub async fn send(&mut self, path: &str, form: &[(&str, &str)], origin: &str) -> (u16, String) {
        let answer = self.sent(path, form, origin).await;
        let code = answer.status().as_u16();
        (code, String::from_utf8_lossy(&to_bytes(answer.into_body(), usize::MAX).await.unwrap()).into_owned())
    }

    pub async fn form(&mut self, path: &str, form: &[(&str, &str)]) -> u16 {
        self.send(path, form, ORIGIN).await.0
    }
}

pub async fn rows(town: &Town) -> Vec<Row> {
    town.api.store.audit_rows(AuditQuery { after: Some(0), limit: 1000, ..AuditQuery::default() }).await.unwrap()
}

/// What the one row says that came of the latest request.
pub async fn told(town: &Town, seen: &mut usize) -> Entry {
    let rows = rows(town).await;
    assert_eq!(rows.len(), *seen + 1, "{:?}", &rows[*seen..]);
    *seen += 1;
    rows.into_iter().next_back().unwrap().entry
}

pub fn words(it: &Entry) -> (&str, &str, &str, i64) {
    (&it.verb, &it.actor, &it.name, it.code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_and_all_that_is_done_there_has_its_row() {
    let town = Town::new().await;
    let mut seen = rows(&town).await.len();
    let mut admin = Browser::new(&town);
    let set_up = |token: &'static str| [("token", token), ("name", "admin"), ("email", "admin@example.com"), ("password", WORDS)];
    assert_eq!(admin.form("/setup", &set_up("guessed")).await, 403);
    let it = told(&town, &mut seen).await;
    assert_eq!((words(&it), it.how.as_str(), it.address.as_str()), (("set-up", "", "", 403), "anonymous", "192.0.2.7"));
    let named = [&set_up("set-up-token")[..3], &[("password", "admin-2026")]].concat();
    assert_eq!(admin.form("/setup", &named).await, 422, "a password made of their name");
    assert_eq!(words(&told(&town, &mut seen).await), ("set-up", "", "", 422));
    assert_eq!(admin.form("/setup", &set_up("set-up-token")).await, 200);
    let it = told(&town, &mut seen).await;
    assert_eq!((words(&it), it.how.as_str(), it.role.as_str()), (("set-up", "admin", "admin", 200), "setup-token", "ADMIN"));
    assert_eq!(it.proof.len(), 12, "the session's id: {it:?}");

    // A link, and what comes of it.
    let (code, link) =
        town.raw(Some("admin"), "POST", "/devsanctum/links", "application/json", json!({"user": "reader"}).to_string()).await;
    assert_eq!(code, 201);
    let it = told(&town, &mut seen).await;
    assert_eq!((words(&it), it.kind.as_str()), (("create", "admin", "reader", 201), "PasswordLink"));
    let path = serde_json::from_str::<serde_json::Value>(&link).unwrap()["path"].as_str().unwrap().to_owned();
    let mut reader = Browser::new(&town);
    assert_eq!(reader.form(&path, &[("password", "password")]).await, 403);
    assert_eq!(words(&told(&town, &mut seen).await), ("set-password", "", "", 403));
    assert_eq!(reader.form(&path, &[("password", WORDS)]).await, 200);
    let it = told(&town, &mut seen).await;
    assert_eq!((words(&it), it.how.as_str(), it.role.as_str()), (("set-password", "reader", "reader", 200), "link", "USER"));
    assert_eq!(reader.form(&path, &[("password", WORDS)]).await, 403, "a link works once");
    told(&town, &mut seen).await;
    // Not at an address of the panel: the link is in no row all the same.
    reader.form(&format!("{path}/"), &[]).await;
    assert_eq!(words(&told(&town, &mut seen).await), ("post", "reader", "", 404));

    // Signing in, and not.
    let mut other = Browser::new(&town);
    assert_eq!(other.form("/login", &[("email", "reader@example.com"), ("password", "hunter2-canary")]).await, 403);
    let it = told(&town, &mut seen).await;
    assert_eq!((words(&it), it.how.as_str()), (("sign-in", "", "reader", 403), "anonymous"));
    assert!(it.reason.contains("do not fit together"), "{it:?}");
    // People type their password into the wrong field.
    assert_eq!(other.form("/login", &[("email", "hunter2-canary"), ("password", "x")]).await, 403);
    assert_eq!(words(&told(&town, &mut seen).await), ("sign-in", "", "", 403));
    assert_eq!(other.form("/login", &[("password", "x")]).await, 422, "no form of ours");
    assert_eq!(words(&told(&town, &mut seen).await), ("sign-in", "", "", 422));
    assert_eq!(other.form("/login", &[("email", "Reader@Example.com"), ("password", WORDS)]).await, 200);
    let signed_in = told(&town, &mut seen).await;
    assert_eq!((words(&signed_in), signed_in.how.as_str()), (("sign-in", "reader", "reader", 200), "password"));

    // At the account.
    assert_eq!(other.form("/account/password", &[("old", "hunter2-canary"), ("password", WORDS)]).await, 200);
    let it = told(&town, &mut seen).await;
    assert_eq!((words(&it), it.how.as_str()), (("change-password", "reader", "reader", 403), "session"));
    assert_eq!(it.proof, signed_in.proof, "by the session that began there");
    let better = "a better battery staple";
    let mut before = other.another();
    before.session.clone_from(&other.session);
    assert_eq!(other.form("/account/password", &[("old", WORDS), ("password", better)]).await, 200);
    assert!(before.session != other.session && before.get("/account").await.0 == 302, "the browser has another token");
    assert_eq!(other.get("/account").await.0, 200);
    assert_eq!(words(&told(&town, &mut seen).await), ("change-password", "reader", "reader", 200));
    let end = format!("/account/sessions/{}/end", signed_in.proof);
    assert_eq!(other.send(&end, &[], "http://evil.example.com").await.0, 403);
    let it = told(&town, &mut seen).await;
    assert_eq!(words(&it), ("end-session", "reader", signed_in.proof.as_str(), 403));
    assert!(it.reason.contains("not sent by the panel"), "{it:?}");
    assert_eq!(other.form(&end, &[]).await, 302);
    assert_eq!(words(&told(&town, &mut seen).await), ("end-session", "reader", signed_in.proof.as_str(), 302));
    let session = admin.session.clone();
    assert_eq!(admin.form("/logout", &[]).await, 302);
    let it = told(&town, &mut seen).await;
    assert_eq!((it.verb.as_str(), it.actor.as_str(), it.code), ("sign-out", "admin", 302));

    let token = path.rsplit('/').next().unwrap();
    for row in rows(&town).await {
        let text = format!("{row:?}");
        for secret in ["hunter2-canary", WORDS, better, "set-up-token", token, &session] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(town.api.store.verify_audit(None).await.unwrap().wrong, 0);
}

/// A clock that goes as the system's, and is put on by hand.
struct Later(AtomicI64);

impl Later {
    fn by_minutes(&self, minutes: i64) {
        self.0.fetch_add(minutes * 60, Ordering::SeqCst);
    }
}

impl Clock for Later {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn draw(&self) -> Result<[u8; 16], getrandom::Error> {
        SystemClock.draw()
    }
}

/// Whoever finds a browser that somebody has left does not change how they sign in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_signs_somebody_in_is_changed_after_a_new_proof_alone() {
    let town = Town::new().await;
    let clock = Arc::new(Later(AtomicI64::new(0)));
    let mut admin = Browser::by(&town, clock.clone());
    let form = [("token", "set-up-token"), ("name", "admin"), ("email", "admin@example.com"), ("password", WORDS)];
    assert_eq!(admin.form("/setup", &form).await, 200);
    let sign_in = [("email", "admin@example.com"), ("password", WORDS), ("next", "/account")];
    let mut other = admin.another();
    assert_eq!(other.form("/login", &sign_in).await, 200);
    let sessions = async || town.api.store.sessions_of("admin").await.unwrap();
    let all = sessions().await;
    assert_eq!(all.len(), 2);
    let end = all.iter().map(|session| format!("/account/sessions/{}/end", session.id)).collect::<Vec<_>>();
    clock.by_minutes(16);
    let mut seen = rows(&town).await.len();
    let disconnect = [("issuer", "https://github.com")];
    for (path, form) in
        [(end[0].as_str(), &[][..]), (&end[1], &[]), ("/sign-in/hub/connect", &[]), ("/account/disconnect", &disconnect)]
    {
        let (code, page) = admin.send(path, form, ORIGIN).await;
        assert!(code == 403 && page.contains("more than 15 minutes ago"), "{path}: {code} {page}");
        assert!(page.contains("action=\"/login\"") && page.contains("value=\"/account\""), "it leads back: {page}");
        let it = told(&town, &mut seen).await;
        assert!((it.actor.as_str(), it.code) == ("admin", 403) && it.reason.contains("new proof"), "{it:?}");
    }
    assert_eq!(sessions().await.len(), 2);
    // The old password is a proof, and nobody needs one to see or to leave.
    assert_eq!(admin.get("/account").await.0, 200);
    assert_eq!(admin.form("/account/password", &[("old", "not it"), ("password", "another horse")]).await, 200);
    // Signed in anew, in the place of the session that was.
    let before = admin.session.clone();
    let (code, page) = admin.send("/login", &sign_in, ORIGIN).await;
    assert!(code == 200 && page.contains("url=/account") && admin.session != before, "{code} {page}");
    assert_eq!(sessions().await.len(), 2);
    let others = digest(&other.session);
    let others = sessions().await.into_iter().find(|session| session.sha256 == others).unwrap();
    assert_eq!(admin.form(&format!("/account/sessions/{}/end", others.id), &[]).await, 302);
    assert_eq!(sessions().await.len(), 1);
    assert_eq!(admin.form("/sign-in/hub/connect", &[]).await, 404, "there is no such provider, and no other objection");
    assert_eq!(admin.form("/account/disconnect", &disconnect).await, 302);
}

/// A key lasts a month, and nothing at the panel shows it or ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_let_in_after_a_new_proof_alone() {
    let town = Town::new().await;
    let clock = Arc::new(Later(AtomicI64::new(0)));
    let mut admin = Browser::by(&town, clock.clone());
    let form = [("token", "set-up-token"), ("name", "admin"), ("email", "admin@example.com"), ("password", WORDS)];
    assert_eq!(admin.form("/setup", &form).await, 200);
    clock.by_minutes(16);
    let mut terminal = admin.another();
    let mut begin = async || {
        let (code, begun) = terminal.send("/device", &[("client", "a terminal")], "").await;
        let begun: serde_json::Value = serde_json::from_str(&begun).unwrap();
        assert_eq!(code, 200, "{begun}");
        begun["user_code"].as_str().unwrap().to_owned()
    };
    let (one, two) = (begin().await, begin().await);
    let mut seen = rows(&town).await.len();
    let (code, page) = admin.send("/device/approve", &[("code", &one), ("answer", "allow")], ORIGIN).await;
    assert!(code == 403 && page.contains("more than 15 minutes ago"), "{code} {page}");
    let back = format!("value=\"/device?code={one}\"");
    assert!(page.contains("action=\"/login\"") && page.contains(&back), "it leads back: {page}");
    let it = told(&town, &mut seen).await;
    assert!(words(&it) == ("allow", "admin", "", 403) && it.reason.contains("new proof"), "{it:?}");
    // Nobody needs one to keep something out.
    assert_eq!(admin.form("/device/approve", &[("code", &two), ("answer", "refuse")]).await, 200);
    let sign_in = [("email", "admin@example.com"), ("password", WORDS)];
    assert_eq!(admin.form("/login", &sign_in).await, 200);
    assert_eq!(admin.form("/device/approve", &[("code", &one), ("answer", "allow")]).await, 200, "its code is as it was");
}

/// What the database says is for the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_shows_the_databases_words() {
    let town = Town::new().await;
    let mut admin = Browser::new(&town);
    let form = [("token", "set-up-token"), ("name", "admin"), ("email", "admin@example.com"), ("password", WORDS)];
    // What everything is done with is not there, but the audit log and the records.
    let tables = ["sessions", "one_time", "credentials"];
    let away = async |away: bool| {
        let renamed = tables.map(|table| {
            let (from, to) = if away { ("", "_x") } else { ("_x", "") };
            format!("ALTER TABLE {table}{from} RENAME TO {table}{to};")
        });
        town.api.sql(&renamed.concat()).await;
    };
    let plain = |what: &str, code: u16, page: &str| {
        let lower = page.to_lowercase();
        let inside = ["no such table", "sqlite", "does not exist", "relation", "database", "one_time", "error returned"];
        assert!(code >= 400 && !inside.iter().any(|word| lower.contains(word)), "{what}: {code} {page}");
        assert!(code != 503 || page.contains("That cannot be done now."), "{what}: {code} {page}");
    };
    away(true).await;
    let (code, page) = admin.send("/setup", &form, ORIGIN).await;
    plain("/setup", code, &page);
    away(false).await;
    let mut code = 500;
    // The store's connection is made anew after a failure.
    while code >= 500 {
        code = admin.form("/setup", &form).await;
    }
    assert_eq!(code, 200);
    let id = town.api.store.sessions_of("admin").await.unwrap()[0].id.clone();
    let gate = gate::router(web(&town, SystemClock::shared()));
    for path in
        ["/account", "/logout", "/login", "/account/password", "/account/disconnect", "/account/sessions/ID/end", "/password/x"]
    {
        let path = path.replace("ID", &id);
        let form = [("email", "admin@example.com"), ("password", WORDS), ("old", WORDS), ("issuer", "x")];
        let mut answer = (302, String::new());
        // Who is signed in is remembered for a second, which lets them come so far; a slow machine gets another try.
        for _ in 0..60 {
            for _ in 0..100 {
                if admin.get("/").await.0 == 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            away(true).await;
            answer = if path == "/account" {
                let (code, _, page) = admin.get(&path).await;
                (code, page)
            } else {
                admin.send(&path, &form, ORIGIN).await
            };
            away(false).await;
            if answer.0 != 302 {
                break;
            }
        }
        plain(&path, answer.0, &answer.1);
    }
    away(true).await;
    let asked =
        Request::get("/gate/none").header("x-forwarded-uri", "/.devsanctum/enter?code=x").header("x-forwarded-method", "GET");
    let answer = gate.oneshot(asked.body(Body::empty()).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    plain("the gate", code, &String::from_utf8_lossy(&to_bytes(answer.into_body(), usize::MAX).await.unwrap()));
    away(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_signed_in_whose_row_cannot_be_written() {
    let town = Town::new().await;
    let mut browser = Browser::new(&town);
    let form = [("token", "set-up-token"), ("name", "admin"), ("email", "admin@example.com"), ("password", WORDS)];
    town.api.sql("ALTER TABLE audit RENAME TO elsewhere").await;
    let (code, page) = browser.send("/setup", &form, ORIGIN).await;
    assert!(code == 500 && browser.session.is_empty(), "{code} {page}");
    town.api.sql("ALTER TABLE elsewhere RENAME TO audit").await;
    let mut code = 500;
    // The store's connection is made anew after a failure.
    while code >= 500 {
        code = browser.form("/login", &[("email", "admin@example.com"), ("password", WORDS)]).await;
    }
    assert!(code == 200 && !browser.session.is_empty(), "{code}");
}

/// The picture's address is a person's to choose, and this program would ask it from where it stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_is_fetched_from_nowhere_that_only_this_machine_reaches() {
    let town = Town::new().await;
    let mut reader = Browser::new(&town);
    let asked = json!({"user": "reader"}).to_string();
    let (_, link) = town.raw(Some("admin"), "POST", "/devsanctum/links", "application/json", asked).await;
    let path = serde_json::from_str::<serde_json::Value>(&link).unwrap()["path"].as_str().unwrap().to_owned();
    assert_eq!(reader.form(&path, &[("password", WORDS)]).await, 200);
    assert_eq!(reader.get("/account/picture").await.0, 404, "there is none");
    assert!(!reader.get("/account").await.2.contains("<img"));
    let neighbour = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    neighbour.set_nonblocking(true).unwrap();
    let port = neighbour.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433"] {
        let patch = json!({"spec": {"avatarUrl": format!("https://{host}:{port}/me.png")}}).to_string();
        let (code, said) =
            town.raw(Some("reader"), "PATCH", &format!("{GROUP}/users/reader"), "application/merge-patch+json", patch).await;
        assert_eq!(code, 200, "{said}");
        assert_eq!(reader.get("/account/picture").await.0, 404, "{host}");
        assert!(neighbour.accept().is_err(), "{host} was asked");
    }
    assert!(reader.get("/account").await.2.contains("<img class=\"picture\" src=\"/account/picture\""));
    let stranger = reader.another();
    assert_eq!(stranger.opened("/account/picture").await.status(), 404);
}
