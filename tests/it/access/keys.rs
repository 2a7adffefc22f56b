//! API keys: shown once, kept as hashes, for less than their holder may do, and over at once.

use super::Town;
use crate::support::api::{GROUP, record};
use devsanctum::access::Scope;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const KEYS: &str = "/devsanctum/keys";

async fn keys(town: &Town, who: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (code, text) = town.raw(Some(who), method, &format!("{KEYS}{path}"), "application/json", body).await;
    (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn scope(verbs: &[&str], kinds: &[&str], projects: &[&str]) -> Scope {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Scope { verbs: own(verbs), kinds: own(kinds), projects: own(projects) }
}

#[tokio::test]
async fn people_make_see_and_end_their_own() {
    let mut town = Town::new().await;
    let (code, made) = keys(&town, "deployer", "POST", "", json!({"name": "laptop", "expiresInSeconds": 3600})).await;
    assert_eq!(code, 201, "{made}");
    let text = made["key"].as_str().unwrap().to_owned();
    assert!(text.starts_with("dsk_") && text.len() > 50, "{text}");
    let (_, listed) = keys(&town, "deployer", "GET", "", Value::Null).await;
    let listed = listed["keys"].as_array().unwrap().clone();
    let laptop = listed.iter().find(|k| k["name"] == "laptop").unwrap();
    assert!(listed.len() == 2 && laptop["key"].is_null() && laptop["expiresAt"].is_string(), "{listed:?}");
    assert!(!town.api.database_holds(&text).await, "only its hash is kept");
    let secret = text.splitn(3, '_').nth(2).unwrap();
    assert!(!town.api.database_holds(secret).await);

    town.keys.insert("laptop".into(), text);
    assert_eq!(town.get("laptop", "projects/team").await.0, 200);
    let id = made["id"].as_str().unwrap().to_owned();
    // Nobody waits for that to be noted.
    let begun = std::time::Instant::now();
    loop {
        let (_, listed) = keys(&town, "deployer", "GET", "", Value::Null).await;
        let laptop = listed["keys"].as_array().unwrap().iter().find(|k| k["id"] == id.as_str()).unwrap().clone();
        if laptop["lastUsedAt"].is_string() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{laptop}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Others cannot see it, and cannot tell it from none.
    let (code, why) = keys(&town, "reader", "DELETE", &format!("/{id}"), Value::Null).await;
    let (none_code, none) = keys(&town, "reader", "DELETE", "/000000000000", Value::Null).await;
    assert_eq!((code, none_code), (404, 404));
    assert_eq!(why["message"].as_str().unwrap().replace(&id, "000000000000"), none["message"].as_str().unwrap());
    assert_eq!(keys(&town, "reader", "GET", "?user=deployer", Value::Null).await.0, 403);
    assert_eq!(keys(&town, "reader", "POST", "", json!({"name": "x", "user": "owner"})).await.0, 403);

    assert_eq!(keys(&town, "deployer", "DELETE", &format!("/{id}"), Value::Null).await.0, 200);
    // A key is remembered for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(town.get("laptop", "projects/team").await.0, 401);
}

#[tokio::test]
async fn administrators_make_and_end_keys_for_others() {
    let town = Town::new().await;
    let (code, made) = keys(&town, "admin", "POST", "", json!({"name": "ci", "user": "owner"})).await;
    assert_eq!((code, &made["user"]), (201, &json!("owner")));
    let (_, all) = keys(&town, "admin", "GET", "?user=owner", Value::Null).await;
    assert_eq!(all["keys"].as_array().unwrap().len(), 2);
    assert_eq!(keys(&town, "admin", "DELETE", &format!("/{}", made["id"].as_str().unwrap()), Value::Null).await.0, 200);
    let (code, why) = keys(&town, "admin", "POST", "", json!({"name": "ci", "user": "nobody"})).await;
    assert_eq!(code, 422, "{why}");
    for wrong in [
        json!({"name": ""}),
        json!({"name": "x".repeat(65)}),
        json!({"name": "a\nb"}),
        json!({"name": "x", "expiresInSeconds": 0}),
        json!({"name": "x", "expiresInSeconds": -5}),
        json!({"name": "x", "expiresInSeconds": 99_999_999_999i64}),
        json!({"name": "x", "expiresInSeconds": 365 * 24 * 3600 + 1}),
        json!({"name": "x", "scope": {"verbs": ["Get all"]}}),
        json!({"name": "x", "scope": {"hosts": []}}),
        json!({"name": "x", "more": 1}),
        json!({}),
        json!([]),
    ] {
        assert_eq!(keys(&town, "owner", "POST", "", wrong.clone()).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn no_key_outlives_a_year_whoever_makes_it() {
    let town = Town::new().await;
    let (year, now) = (365 * 24 * 3600, Timestamp::now());
    for who in ["owner", "admin"] {
        let (code, why) = keys(&town, who, "POST", "", json!({"name": "x", "expiresInSeconds": year + 1})).await;
        let told = why["message"].as_str().unwrap();
        assert!(code == 400 && told.contains("at most a year (31536000)") && told.contains("make a new key"), "{why}");
        for wanted in [json!({"name": "said", "expiresInSeconds": year}), json!({"name": "left out"})] {
            let (code, made) = keys(&town, who, "POST", "", wanted).await;
            assert_eq!(code, 201, "{made}");
            let lasts = made["expiresAt"].as_str().unwrap().parse::<Timestamp>().unwrap().duration_since(now).as_secs();
            assert!((year - 1..year + 3600).contains(&lasts), "{made}");
        }
    }
}

#[tokio::test]
async fn a_scope_takes_away_and_gives_nothing() {
    let mut town = Town::new().await;
    town.key("reads", "owner", scope(&["get", "list", "watch"], &[], &[]), None).await;
    town.key("routes", "owner", scope(&[], &["routes"], &[]), None).await;
    town.key("open", "other", scope(&[], &[], &["open"]), None).await;
    town.key("wide", "reader", scope(&["get", "list", "create", "delete"], &["workspaces"], &["team", "else"]), None).await;
    let own = "namespaces/team/workspaces/of-owner";
    assert_eq!(town.get("reads", own).await.0, 200);
    let (code, why) = town.ask("reads", "PATCH", own, &json!({"spec": {"pinned": true}})).await;
    assert!(code == 403 && why["message"].as_str().unwrap().contains("scope"), "{why}");
    assert_eq!(town.get("routes", own).await.0, 403);
    assert_eq!(town.names("routes", "namespaces/team/routes").await, ["web"]);
    assert_eq!(town.names("open", "workspaces").await, ["hidden", "shown"]);
    assert_eq!(town.names("open", "projects").await, ["open"]);
    assert_eq!(town.get("open", "namespaces/else/workspaces/of-other").await.0, 403);
    let new = record("Workspace", "mine", json!({"owner": "reader"}));
    assert_eq!(town.ask("wide", "POST", "namespaces/team/workspaces", &new).await.0, 403, "its holder may only read");
    assert_eq!(town.get("wide", "namespaces/else/workspaces/of-other").await.0, 404);
    // It makes no key that may more than it.
    assert_eq!(keys(&town, "reads", "GET", "", Value::Null).await.0, 403);
    assert_eq!(keys(&town, "wide", "POST", "", json!({"name": "more"})).await.0, 403);
    // Nor does it get to more by another door: a password of anybody's, or SSH, which knows no scope.
    town.key("makes", "admin", scope(&["create"], &[], &[]), None).await;
    let link =
        town.answer(Some("makes"), "POST", "/devsanctum/links", "application/json", json!({"user": "owner"}).to_string()).await;
    assert_eq!(link.status(), 403);
    for (key, user) in [("writes", "owner"), ("writes-all", "admin")] {
        town.key(key, user, scope(&["get", "patch"], &[], &[]), None).await;
        let known =
            json!({"spec": {"sshKeys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"]}});
        let (code, why) = town.ask(key, "PATCH", &format!("users/{user}"), &known).await;
        assert!(code == 403 && why["message"].as_str().unwrap().contains("spec.sshKeys"), "{key}: {why}");
        assert_eq!(
            town.ask(key, "PATCH", &format!("users/{user}"), &json!({"spec": {"displayName": "x"}})).await.0,
            200,
            "{key}"
        );
    }
}

/// As Kubernetes answers; others, and the platform's own parts, go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_asks_too_often_is_told_to_wait() {
    let town = Town::new().await;
    let ask = async |who: &str, method: &str| {
        let path = if method == "GET" { "/api" } else { KEYS };
        town.answer(Some(who), method, path, "application/json", "{}".into()).await
    };
    let mut asked = 0;
    let answer = loop {
        let all = (0..50).map(|_| ask("reader", "GET"));
        let refused = futures::future::join_all(all).await.into_iter().find(|answer| answer.status() != 200);
        asked += 50;
        if let Some(refused) = refused {
            break refused;
        }
        assert!(asked < 20_000, "no end to it");
    };
    assert!(asked >= 2_000, "{asked}");
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    let told: Value = serde_json::from_slice(&axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap()).unwrap();
    assert_eq!(
        (&told["kind"], &told["reason"], &told["details"]["retryAfterSeconds"]),
        (&json!("Status"), &json!("TooManyRequests"), &json!(1))
    );
    assert_eq!(ask("owner", "GET").await.status(), 200, "others go on");
    // What would change something has a row, of which so many are written in a minute.
    let rows = async || super::panel::rows(&town).await.into_iter().filter(|row| row.entry.code == 429).count();
    assert_eq!(rows().await, 0, "reads have none");
    let mut refused = 0;
    while refused < 200 {
        let all = (0..50).map(|_| ask("reader", "POST"));
        refused += futures::future::join_all(all).await.into_iter().filter(|answer| answer.status() == 429).count();
    }
    assert!((1..=240).contains(&rows().await), "{}", rows().await);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(ask("reader", "GET").await.status(), 200, "and they go on, too");
}

#[tokio::test]
async fn keys_end_with_their_time_their_user_and_their_users_leave() {
    let mut town = Town::new().await;
    town.key("short", "owner", Scope::default(), Some(SignedDuration::from_millis(300))).await;
    assert_eq!(town.get("short", "projects/team").await.0, 200);
    tokio::time::sleep(Duration::from_millis(1400)).await;
    let (code, why) = town.get("short", "projects/team").await;
    assert!(code == 401 && why["message"].as_str().unwrap().contains("has expired"), "{why}");
    assert_eq!(town.get("disabled", "projects").await.0, 401);
    // Shut out at once, and let in again.
    let active = |yes: bool| json!({"spec": {"active": yes}});
    town.api.merge(&format!("{GROUP}/users/reader"), &active(false)).await;
    assert_eq!(town.get("reader", "projects/team").await.0, 401);
    town.api.merge(&format!("{GROUP}/users/reader"), &active(true)).await;
    assert_eq!(town.get("reader", "projects/team").await.0, 200);
    // A user of the same name is another one.
    town.api.delete(&format!("{GROUP}/users/stranger")).await;
    town.put("", "users", "User", "stranger", json!({"email": "stranger@example.com"})).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(town.get("stranger", "projects").await.0, 401);
    assert!(town.api.store.check().await.unwrap().findings.is_empty());
}
