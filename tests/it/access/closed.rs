//! What each answer says to browsers: of the API, the panel and the gate, whoever asks and whatever comes of it.

use super::Town;
use super::matrix::{body, objects, operations, people};
use super::panel::{Browser, ORIGIN, WORDS, web};
use axum::body::Body;
use axum::response::Response;
use devsanctum::clock::SystemClock;
use devsanctum::web::gate;
use http::{HeaderMap, Request};
use tower::ServiceExt;

fn one<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let all: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    if let [only] = all[..] { only } else { panic!("{name}: {all:?}") }
}

/// `cached`: the style sheet may be kept.
fn is_closed(answer: &Response, cached: bool, what: &str) {
    let headers = answer.headers();
    assert_eq!(one(headers, "x-content-type-options"), "nosniff", "{what}");
    let policy = one(headers, "content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
    assert_eq!(one(headers, "cache-control"), if cached { "max-age=300" } else { "no-store" }, "{what}");
}

/// A page may load its style and send its forms home, and nothing else: no script, no frame, no base of somebody else's.
fn is_page(answer: &Response, what: &str) {
    is_closed(answer, false, what);
    let policy = one(answer.headers(), "content-security-policy");
    let rules: Vec<&str> = policy.split(';').map(str::trim).collect();
    let wanted = [
        "default-src 'none'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ];
    assert_eq!(rules, wanted, "{what}");
    assert_eq!(one(answer.headers(), "referrer-policy"), "same-origin", "{what}");
}

#[tokio::test]
async fn every_answer_of_the_api_is_closed_to_browsers() {
    let town = people().await;
    let mut asked = 0;
    let mut all = operations(&town).await;
    let beside = [("get", "/devsanctum/nothing"), ("get", "/nothing"), ("put", "/version"), ("get", "/readyz")];
    all.extend(beside.map(|(method, path)| (method.to_owned(), path.to_owned())));
    for (method, path) in all {
        for (_, project, name) in objects(&path).into_iter().take(2) {
            let address = path.replace("{namespace}", project).replace("{name}", name);
            let (body, media) = body(&town, &method, &address).await;
            let uri = if method == "get" { address } else { format!("{address}?dryRun=All") };
            for who in [None, Some("stranger"), Some("admin")] {
                let answer = town.answer(who, &method.to_uppercase(), &uri, &media, body.clone()).await;
                is_closed(&answer, false, &format!("{who:?} {method} {uri}: {}", answer.status()));
                asked += 1;
            }
        }
    }
    let csv = town.answer(Some("admin"), "GET", "/devsanctum/audit?format=csv", "", String::new()).await;
    is_closed(&csv, false, "CSV");
    assert!(asked > 500, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_the_panel_is_closed_and_its_pages_have_their_own_policy() {
    let town = Town::new().await;
    let mut admin = Browser::new(&town);
    let form = [("token", "set-up-token"), ("name", "admin"), ("email", "admin@example.com"), ("password", WORDS)];
    is_page(&admin.opened("/setup").await, "the set-up page");
    is_page(&admin.sent("/setup", &form, ORIGIN).await, "setting up");
    is_closed(&admin.opened("/style.css").await, true, "the style sheet");
    let nobody = admin.another();
    for path in ["/login", "/forgot", "/password/x", "/device", "/nothing", "/invitation/x", "/register", "/sign-in/x"] {
        let answer = nobody.opened(path).await;
        if answer.status().is_redirection() { is_closed(&answer, false, path) } else { is_page(&answer, path) }
    }
    for path in ["/", "/account", "/servers"] {
        is_page(&admin.opened(path).await, path);
        is_closed(&nobody.opened(path).await, false, path);
    }
    let mut other = admin.another();
    is_page(&other.sent("/login", &[("email", "x"), ("password", "y")], ORIGIN).await, "a wrong password");
    is_page(&other.sent("/login", &[], "http://evil.example.com").await, "a form of others");
    is_closed(&other.sent("/login", &[("password", "y")], ORIGIN).await, false, "no form of ours");
    is_closed(&other.sent("/device", &[("client", "a terminal")], ORIGIN).await, false, "JSON");
    is_closed(&other.sent("/account", &[], ORIGIN).await, false, "no method of ours");

    // Signed out, the browser keeps nothing of what it was shown; that it was here before it may know.
    let out = admin.sent("/logout", &[], ORIGIN).await;
    is_closed(&out, false, "signing out");
    assert_eq!(one(out.headers(), "clear-site-data"), "\"cache\", \"storage\"");
    assert!(one(out.headers(), "set-cookie").starts_with("__Host-ds_session=;"));
}

#[tokio::test]
async fn every_answer_of_the_gate_is_closed() {
    let town = Town::new().await;
    let gate = gate::router(web(&town, SystemClock::shared()));
    for (path, uri, accept) in [
        ("/gate/none", "/", "text/html"),
        ("/gate/none", "/", "application/json"),
        ("/gate/none", "/.devsanctum/enter?code=x", "text/html"),
        ("/gate/none", "/.devsanctum/share?token=x", "text/html"),
        ("/gate/none", "http://[", "text/html"),
    ] {
        let asked = Request::get(path).header("x-forwarded-uri", uri).header("x-forwarded-method", "GET");
        let asked = asked.header("x-forwarded-host", "w.example.com").header("accept", accept).body(Body::empty()).unwrap();
        let answer = gate.clone().oneshot(asked).await.unwrap();
        is_closed(&answer, false, &format!("{path} {uri} {accept}: {}", answer.status()));
    }
}
