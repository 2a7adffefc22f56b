//! How somebody comes to an account by themselves, and what strangers can do on that way.

use super::Town;
use super::panel::{Browser, ORIGIN, WORDS, rows};
use crate::support::api::GROUP;
use devsanctum::access::{Directory, Invited, SignIn};
use devsanctum::web::{Accounts, NewAccount};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

fn over(town: &Town) -> SignIn {
    SignIn::new(town.api.store.clone(), Arc::new(Directory::new(town.api.store.clone())))
}

async fn set(town: &Town, spec: Value) {
    let (code, said) = town.api.merge(&format!("{GROUP}/settings/default"), &json!({"spec": spec})).await;
    assert_eq!(code, 200, "{said}");
}

/// Whoever fills in the form may be another than whose address it is: only who has the mail says by which password they come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_asked_for_has_the_password_of_who_confirms_it() {
    let town = Town::new().await;
    let (people, now) = (over(&town), Timestamp::now());
    set(&town, json!({"registration": "OPEN"})).await;
    let mut mallory = Browser::new(&town);
    let asked = [("name", "victim"), ("email", "victim@example.com"), ("password", "mallory's own words")];
    assert!(!mallory.get("/register").await.2.contains("type=\"password\""));
    assert_eq!(mallory.form("/register", &asked).await, 200);
    let mail = town.api.store.outgoing(10).await.unwrap().pop().unwrap();
    assert_eq!((mail.purpose.as_str(), mail.recipient.as_str()), ("confirm", "victim@example.com"));
    assert!(!mail.body.contains("argon2"), "{}", mail.body);
    let token = people.confirmation(&serde_json::from_str(&mail.body).unwrap(), now).await.unwrap();
    assert!(!town.api.database_holds("argon2").await, "nobody has a password yet");
    let (path, mut victim) = (format!("/confirm/{}", token.reveal()), mallory.another());
    assert!(victim.get(&path).await.2.contains("type=\"password\""));
    for (password, code) in [("", 422), ("password", 422), ("Victim-2026", 422)] {
        assert_eq!(victim.form(&path, &[("name", "victim"), ("password", password)]).await, code, "{password:?}");
    }
    assert_eq!(victim.form(&path, &[("name", "victim")]).await, 422, "the button alone");
    assert_eq!(town.get("admin", "users/victim").await.0, 404, "nothing is made before");
    assert_eq!(victim.form(&path, &[("name", "victim"), ("password", WORDS)]).await, 200);
    assert!(!victim.session.is_empty());
    let sign_in = async |password: &str| {
        let form = [("email", "victim@example.com"), ("password", password)];
        mallory.another().form("/login", &form).await
    };
    assert_eq!((sign_in("mallory's own words").await, sign_in(WORDS).await), (403, 200));
    assert_eq!(victim.form(&path, &[("name", "victim2"), ("password", WORDS)]).await, 404, "it works once");
}

/// What comes to the address that providers send people back to may be anybody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_was_not_sent_to_a_provider_fills_the_audit_log() {
    let town = Town::new().await;
    let (mut browser, before) = (Browser::new(&town), rows(&town).await.len());
    let mut codes = Vec::new();
    for n in 0..200 {
        codes.push(browser.get(&format!("/sign-in/words-of-mine-{n}/callback?state=x&code=y")).await.0);
    }
    let told = rows(&town).await.split_off(before);
    assert!(told.len() <= 120, "{} rows", told.len());
    assert!(told.iter().all(|row| row.entry.how == "anonymous" && row.entry.actor.is_empty()), "{told:?}");
    assert!(!format!("{told:?}").contains("words-of-mine"));
    assert_eq!((codes[0], codes[199]), (403, 429));
}

/// A provider's client that needs no network to be sent to.
async fn hub(town: &Town) {
    town.put("team", "secrets", "Secret", "hub", json!({"data": {"clientSecret": "hush"}})).await;
    let secret = json!({"namespace": "team", "name": "hub"});
    set(town, json!({"providers": [{"name": "hub", "type": "GITHUB", "clientId": "Iv1.devsanctum", "clientSecret": secret}]}))
        .await;
}

/// The way of an invitation by a provider is ten minutes long, and the database keeps what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_that_goes_by_a_provider_is_kept_as_a_hash() {
    let town = Town::new().await;
    hub(&town).await;
    let (_, guest) = town.get("admin", "invitations/guest").await;
    let uid = guest["metadata"]["uid"].as_str().unwrap().to_owned();
    let invited = Invited { uid, email: "guest@example.com".into() };
    let token = over(&town).invite(&invited, Timestamp::now()).await.unwrap();
    let mut browser = Browser::new(&town);
    let (code, page) = browser.send("/sign-in/hub", &[("invitation", token.reveal())], ORIGIN).await;
    assert!(code == 200 && page.contains("https://github.com/login/oauth/authorize"), "{code} {page}");
    assert!(!town.api.database_holds(token.reveal()).await);
    assert_eq!(browser.get(&format!("/invitation/{}", token.reveal())).await.0, 200);
}

/// However the first administrator came by their password: the token that makes one is worth nothing then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_up_is_over_once_an_administrator_has_a_password() {
    let town = Town::new().await;
    let mut browser = Browser::new(&town);
    assert_eq!(browser.get("/setup").await.0, 200);
    let form = |name: &'static str, email: &'static str| {
        [("token", "set-up-token"), ("name", name), ("email", email), ("password", WORDS)]
    };
    // Another replica, or a link that was made with the administrator's token.
    over(&town).set_password("admin", WORDS.to_owned().into(), None, Timestamp::now()).await.unwrap();
    let (code, page) = browser.send("/setup", &form("second", "second@example.com"), ORIGIN).await;
    assert!(code == 403 && page.contains("has been set up"), "{code} {page}");
    assert_eq!(browser.get("/setup").await.0, 404);
    assert_eq!(town.get("admin", "users/second").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_set_up_at_once_one_does() {
    let town = Town::new().await;
    let browser = Browser::new(&town);
    let names = ["one", "two", "three", "four"];
    let tries = names.map(|name| {
        let (mut browser, email) = (browser.another(), format!("{name}@example.com"));
        async move {
            let form = [("token", "set-up-token"), ("name", name), ("email", email.as_str()), ("password", WORDS)];
            browser.form("/setup", &form).await
        }
    });
    let codes = futures::future::join_all(tries).await;
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 1, "{codes:?}");
    let mut made = 0;
    for name in names {
        made += usize::from(town.get("admin", &format!("users/{name}")).await.0 == 200);
    }
    assert_eq!(made, 1);
}

/// Names without a letter of ours are all called the same here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_a_name_whatever_they_are_called_elsewhere() {
    let town = Town::new().await;
    let accounts = Accounts::over(town.api.open.clone());
    let make = async |n: usize| {
        let email = format!("li-{n}@example.org");
        let new = NewAccount { name: "", email: &email, display_name: None, invitation: None };
        accounts.make_called("李", &new).await
    };
    let mut names = Vec::new();
    for n in 0..23 {
        names.push(make(n).await.unwrap_or_else(|why| panic!("{n}: {why:?}")));
    }
    assert_eq!(names[..3], ["user", "user-2", "user-3"]);
    // Those who come at the same moment want the same one.
    let at_once = futures::future::join_all((100..108).map(make)).await;
    names.extend(at_once.into_iter().map(|made| made.unwrap()));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 31);
    let why = format!("{:?}", make(0).await.unwrap_err());
    assert!(why.starts_with("AddressTaken"), "{why}");
    // In the words of who may not learn whose it is.
    assert!(!why.contains("user"), "{why}");
}
