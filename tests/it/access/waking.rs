//! A visit that wakes a workspace is in the audit log as every start is: once, by who came first.

use super::panel::{Browser, rows};
use super::{Town, shares};
use crate::support::api::GROUP;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use devsanctum::access::{Directory, SignIn, Visitor, digest};
use devsanctum::audit::Entry;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// A workspace that is stopped, and wakes.
async fn sleeps(town: &Town, project: &str, name: &str) -> Value {
    let path = format!("{GROUP}/namespaces/{project}/workspaces/{name}");
    let (code, record) = town.api.merge(&path, &json!({"spec": {"running": false, "wakeOnVisit": true}})).await;
    assert_eq!(code, 200, "{record}");
    record
}

/// One that is open to anybody, at `open.example.com`.
async fn open_to_anybody(town: &Town) -> Value {
    let public = json!({"spec": {"visibility": "PUBLIC"}});
    let (code, told) = town.api.merge(&format!("{GROUP}/namespaces/open/routes/web"), &public).await;
    assert_eq!(code, 200, "{told}");
    sleeps(town, "open", "shown").await
}

/// What the log has gained since so many rows, and how often the workspace was changed since.
async fn gained(town: &Town, seen: usize, before: &Value) -> (Vec<Entry>, i64) {
    let (project, name) = (before["metadata"]["namespace"].as_str().unwrap(), before["metadata"]["name"].as_str().unwrap());
    let (_, now) = town.api.get(&format!("{GROUP}/namespaces/{project}/workspaces/{name}")).await;
    let generation = |record: &Value| record["metadata"]["generation"].as_i64().unwrap();
    let gained = rows(town).await.split_off(seen).into_iter().map(|row| row.entry).collect();
    (gained, generation(&now) - generation(before))
}

fn said(entry: &Entry) -> [&str; 7] {
    [&entry.actor, &entry.how, &entry.address, &entry.verb, &entry.namespace, &entry.name, &entry.reason]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_visit_it_is_started_once_and_has_one_row() {
    let town = Town::new().await;
    let browser = Browser::new(&town);
    let before = open_to_anybody(&town).await;
    let seen = rows(&town).await.len();
    let visits = (0..200).map(|_| {
        let visitor = browser.another();
        tokio::spawn(async move { visitor.visits("open.example.com", "").await })
    });
    let codes = futures::future::join_all(visits).await;
    assert!(codes.iter().all(|code| *code.as_ref().unwrap() == 503), "{codes:?}");
    let (gained, changes) = gained(&town, seen, &before).await;
    assert_eq!((gained.len(), changes), (1, 1), "{gained:?}");
    let words = "for a visit, by the platform";
    assert_eq!(said(&gained[0]), ["", "anonymous", "192.0.2.7", "patch", "open", "shown", words]);
    assert!(gained[0].code == 200 && gained[0].changes.contains("/spec/running"), "{gained:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_signed_in_there_is_the_one_who_woke_it() {
    let (town, now) = (Town::new().await, Timestamp::now());
    shares::serve(&town, "of-owner").await;
    let (host, uid) = ("of-owner.example.com", shares::uid(&town, "of-owner").await);
    let people = SignIn::new(town.api.store.clone(), Arc::new(Directory::new(town.api.store.clone())));
    let by = Visitor { address: "192.0.2.7".parse().unwrap(), agent: "a browser".into(), known: None, session: None };
    let signed_in = people.welcome("owner", &by, now).await.unwrap();
    let session = people.session(signed_in.session.reveal(), None, now).await.unwrap().unwrap();
    let nonce = URL_SAFE_NO_PAD.encode(digest("a nonce"));
    let code = people.code(&session, (&uid, host), &nonce, now).await.unwrap();
    let token = people.take_code(code.reveal(), (&uid, host), "a nonce", &by, now).await.unwrap();
    let before = sleeps(&town, "team", "of-owner").await;
    let (browser, seen) = (Browser::new(&town), rows(&town).await.len());
    assert_eq!(browser.visits(host, "").await, 404, "nobody is told of it, and nobody wakes it");
    assert_eq!(gained(&town, seen, &before).await, (vec![], 0));
    assert_eq!(browser.visits(host, &format!("__Host-ds_ws={}", token.reveal())).await, 503);
    let (gained, changes) = gained(&town, seen, &before).await;
    assert_eq!((gained.len(), changes), (1, 1), "{gained:?}");
    let words = "for a visit, by the platform";
    assert_eq!(said(&gained[0]), ["owner", "session", "192.0.2.7", "patch", "team", "of-owner", words]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_refused_has_a_row_that_says_why() {
    let town = Town::new().await;
    let browser = Browser::new(&town);
    let before = open_to_anybody(&town).await;
    let none = json!({"spec": {"quota": {"running": 0}}});
    let (code, told) = town.api.merge(&format!("{GROUP}/projects/open"), &none).await;
    assert_eq!(code, 200, "{told}");
    let seen = rows(&town).await.len();
    for _ in 0..5 {
        assert_eq!(browser.visits("open.example.com", "").await, 503);
    }
    let (gained, changes) = gained(&town, seen, &before).await;
    assert_eq!((gained.len(), changes), (1, 0), "it is not tried again for a while: {gained:?}");
    assert!(gained[0].code == 403 && gained[0].reason.contains("quota"), "{gained:?}");
}
