//! Passwords, sessions, links and codes, as the panel and the gate use them.

use super::Town;
use crate::support::api::GROUP;
use devsanctum::access::{Directory, LINK, Password, Refused, SignIn, SignedIn, Visitor, digest};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WORDS: &str = "correct horse battery";

fn at(address: &str) -> Visitor {
    Visitor { address: address.parse::<IpAddr>().unwrap(), agent: "a browser\r\nof sorts".into(), known: None, session: None }
}

fn words(text: &str) -> Password {
    text.to_owned().into()
}

fn over(town: &Town) -> SignIn {
    SignIn::new(town.api.store.clone(), Arc::new(Directory::new(town.api.store.clone())))
}

async fn sign(people: &SignIn, email: &str, text: &str, by: &Visitor, now: Timestamp) -> Result<SignedIn, Refused> {
    people.sign_in(email, words(text), by, now).await
}

#[tokio::test]
async fn the_same_answer_for_all_who_do_not_get_in() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(WORDS), None, now).await.unwrap();
    people.set_password("disabled", words(WORDS), None, now).await.unwrap();
    let mut said = Vec::new();
    for (n, (email, text)) in [
        ("reader@example.com", "wrong horse battery"),
        ("nobody@example.com", WORDS),
        ("disabled@example.com", WORDS),
        // Somebody who has no password yet.
        ("owner@example.com", WORDS),
        ("reader@example.com", ""),
        ("", ""),
        ("reader", WORDS),
    ]
    .into_iter()
    .enumerate()
    {
        let begun = Instant::now();
        let refused = sign(&people, email, text, &at(&format!("192.0.2.{n}")), now).await.unwrap_err();
        said.push((refused.to_string(), begun.elapsed()));
    }
    let (first, _) = said[0].clone();
    assert!(said.iter().all(|(words, _)| *words == first), "{said:?}");
    // Each took the work of a hash.
    let shortest = said.iter().map(|(_, took)| *took).min().unwrap();
    assert!(shortest > Duration::from_millis(5), "{said:?}");
    let signed_in = sign(&people, " Reader@Example.com ", WORDS, &at("192.0.2.9"), now).await.unwrap();
    assert_eq!(signed_in.user, "reader");
    for secret in [WORDS, signed_in.session.reveal(), signed_in.browser.reveal()] {
        assert!(!town.api.database_holds(secret).await, "only hashes are kept");
    }
    assert!(town.api.store.check().await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn nobody_is_shut_out_of_their_own_account() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(WORDS), None, now).await.unwrap();
    let own = sign(&people, "reader@example.com", WORDS, &at("192.0.2.1"), now).await.unwrap();
    let mut refused = 0;
    for n in 0..30 {
        let by = at(&format!("198.51.{n}.1"));
        refused += u32::from(matches!(sign(&people, "reader@example.com", "guess", &by, now).await, Err(Refused::TooMany(_))));
    }
    assert!(refused >= 19, "{refused}");
    let elsewhere = sign(&people, "reader@example.com", WORDS, &at("203.0.113.1"), now).await;
    assert!(matches!(elsewhere, Err(Refused::TooMany(_))), "{elsewhere:?}");
    let known = Visitor { known: Some(own.browser.reveal().to_owned()), ..at("203.0.113.1") };
    assert!(sign(&people, "reader@example.com", WORDS, &known, now).await.is_ok());
    // What one account knows a browser by is nothing to another.
    people.set_password("owner", words(WORDS), None, now).await.unwrap();
    for n in 0..12 {
        let _ = sign(&people, "owner@example.com", "guess", &at(&format!("198.51.100.{n}")), now).await;
    }
    assert!(matches!(sign(&people, "owner@example.com", WORDS, &known, now).await, Err(Refused::TooMany(_))));
}

#[tokio::test]
async fn sessions_end_in_all_the_ways_there_are() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(WORDS), None, now).await.unwrap();
    let begin = async || sign(&people, "reader@example.com", WORDS, &at("192.0.2.1"), now).await.unwrap();
    let (one, two, three) = (begin().await, begin().await, begin().await);
    let session = async |shown: &SignedIn, now: Timestamp| people.session(shown.session.reveal(), None, now).await.unwrap();
    let held = session(&one, now).await.unwrap();
    assert_eq!((held.user.as_str(), held.agent.as_str()), ("reader", "a browserof sorts"));
    assert!(people.session("guessed", None, now).await.unwrap().is_none());
    assert!(people.session(one.session.reveal(), Some("w"), now).await.unwrap().is_none(), "it is the panel's");
    // A day without use, two weeks with.
    let hours = |n: i64| now + SignedDuration::from_hours(n);
    assert!(session(&two, hours(25)).await.is_none());
    let mut last = 0;
    for n in (0..400).step_by(20) {
        if session(&three, hours(n)).await.is_some() {
            last = n;
        }
    }
    assert!((300..=14 * 24).contains(&last), "{last} h");
    // By hand, and by a new password, which keeps the one it was set in.
    let (four, five) = (begin().await, begin().await);
    people.sign_out(&session(&four, now).await.unwrap()).await.unwrap();
    assert!(session(&four, now).await.is_none());
    let own = session(&five, now).await.unwrap();
    let wrong = people.change_password(&own, words("not it"), words("another horse"), &at("192.0.2.1"), now).await;
    assert!(matches!(wrong, Err(Refused::Wrong)));
    let common = people.change_password(&own, words(WORDS), words("password"), &at("192.0.2.1"), now).await;
    assert!(matches!(common, Err(Refused::Password(_))));
    let renewed = people.change_password(&own, words(WORDS), words("another horse"), &at("192.0.2.1"), now).await.unwrap();
    assert!(session(&five, now).await.is_none(), "its token was changed");
    let session_now = async || people.session(renewed.reveal(), None, now).await.unwrap();
    assert_eq!(session_now().await.unwrap().id, own.id, "and the session goes on");
    assert!(session(&one, now).await.is_none(), "signed out elsewhere");
    assert!(sign(&people, "reader@example.com", WORDS, &at("192.0.2.2"), now).await.is_err());
    assert_eq!(people.sessions_of("reader").await.unwrap().len(), 1);
    // A user who goes takes theirs along.
    town.api.delete(&format!("{}/users/reader", crate::support::api::GROUP)).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(session_now().await.is_none());
}

/// With what was opened by it; and whose session it was does not matter.
#[tokio::test]
async fn signing_in_ends_the_session_that_the_browser_had() {
    use base64::Engine;
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(WORDS), None, now).await.unwrap();
    people.set_password("owner", words(WORDS), None, now).await.unwrap();
    let by = |session: Option<&SignedIn>| {
        let session = session.map(|signed_in| signed_in.session.reveal().to_owned());
        Visitor { session, ..at("192.0.2.1") }
    };
    let is_there = async |shown: &SignedIn| people.session(shown.session.reveal(), None, now).await.unwrap().is_some();
    let (first, elsewhere) = (
        sign(&people, "reader@example.com", WORDS, &by(None), now).await.unwrap(),
        sign(&people, "reader@example.com", WORDS, &by(None), now).await.unwrap(),
    );
    let session = people.session(first.session.reveal(), None, now).await.unwrap().unwrap();
    let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest("a nonce"));
    let code = people.code(&session, ("w-1", "team.example.com"), &nonce, now).await.unwrap();
    let host = people.take_code(code.reveal(), ("w-1", "team.example.com"), "a nonce", &by(None), now).await.unwrap();
    assert!(people.session(host.reveal(), Some("w-1"), now).await.unwrap().is_some());
    assert!(sign(&people, "reader@example.com", "not it at all", &by(Some(&first)), now).await.is_err());
    assert!(is_there(&first).await, "who does not get in ends nothing");
    let second = sign(&people, "owner@example.com", WORDS, &by(Some(&first)), now).await.unwrap();
    assert!(!is_there(&first).await && is_there(&second).await && is_there(&elsewhere).await);
    assert!(people.session(host.reveal(), Some("w-1"), now).await.unwrap().is_none());
    // By a link, and by what else leads in.
    let link = people.link("reader", LINK, now).await.unwrap();
    let third = people.take_link(link.reveal(), words(WORDS), &by(Some(&second)), now).await.unwrap();
    assert!(!is_there(&second).await && is_there(&third).await);
    let fourth = people.welcome("reader", &by(Some(&third)), now).await.unwrap();
    assert!(!is_there(&third).await && is_there(&fourth).await);
    // A new password keeps what was opened by the session that it was set in.
    let session = people.session(fourth.session.reveal(), None, now).await.unwrap().unwrap();
    let code = people.code(&session, ("w-1", "team.example.com"), &nonce, now).await.unwrap();
    let host = people.take_code(code.reveal(), ("w-1", "team.example.com"), "a nonce", &by(None), now).await.unwrap();
    let renewed = people.change_password(&session, words(WORDS), words("another horse"), &by(None), now).await.unwrap();
    assert!(!is_there(&fourth).await);
    assert!(people.session(host.reveal(), Some("w-1"), now).await.unwrap().is_some());
    let session = people.session(renewed.reveal(), None, now).await.unwrap().unwrap();
    people.sign_out(&session).await.unwrap();
    assert!(people.session(host.reveal(), Some("w-1"), now).await.unwrap().is_none(), "it hangs on the new token");
}

/// However late it is opened: the panel's session is over after two weeks, and what was opened by it.
#[tokio::test]
async fn a_session_at_a_workspace_ends_with_the_panels_at_the_latest() {
    use base64::Engine;
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(WORDS), None, now).await.unwrap();
    let panel = sign(&people, "reader@example.com", WORDS, &at("192.0.2.1"), now).await.unwrap();
    let parent = people.session(panel.session.reveal(), None, now).await.unwrap().unwrap();
    let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest("a nonce"));
    let late = now + SignedDuration::from_hours(13 * 24);
    let code = people.code(&parent, ("w-1", "team.example.com"), &nonce, late).await.unwrap();
    let host = people.take_code(code.reveal(), ("w-1", "team.example.com"), "a nonce", &at("192.0.2.1"), late).await.unwrap();
    let child = people.session(host.reveal(), Some("w-1"), late).await.unwrap().unwrap();
    assert_eq!(child.expires_at, parent.expires_at);
    let over_at = Timestamp::from_millisecond(parent.expires_at).unwrap();
    assert!(people.session(host.reveal(), Some("w-1"), over_at).await.unwrap().is_none());
}

/// The browser in which somebody changes their password keeps guesses of its own, and no other does.
#[tokio::test]
async fn a_browser_is_known_after_the_password_was_changed_in_it() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(WORDS), None, now).await.unwrap();
    let begin = async || sign(&people, "reader@example.com", WORDS, &at("192.0.2.1"), now).await.unwrap();
    let (own, other) = (begin().await, begin().await);
    let known = async |shown: &SignedIn| {
        let sha256 = digest(shown.browser.reveal());
        town.api.store.is_known(sha256, "browser", "reader", now.as_millisecond()).await.unwrap()
    };
    let link = people.link("reader", LINK, now).await.unwrap();
    let session = people.session(own.session.reveal(), None, now).await.unwrap().unwrap();
    let by = Visitor { known: Some(own.browser.reveal().to_owned()), ..at("192.0.2.1") };
    people.change_password(&session, words(WORDS), words("another horse"), &by, now).await.unwrap();
    assert_eq!((known(&own).await, known(&other).await), (true, false));
    assert!(matches!(people.take_link(link.reveal(), words("third horse"), &by, now).await, Err(Refused::Link)));
    // What opens the account is no browser, whatever it is shown as.
    let own = sign(&people, "reader@example.com", "another horse", &by, now).await.unwrap();
    let session = people.session(own.session.reveal(), None, now).await.unwrap().unwrap();
    let shown = people.link("reader", LINK, now).await.unwrap();
    let by_link = Visitor { known: Some(shown.reveal().to_owned()), ..at("192.0.2.1") };
    people.change_password(&session, words("another horse"), words(WORDS), &by_link, now).await.unwrap();
    assert!(matches!(people.take_link(shown.reveal(), words("third horse"), &by, now).await, Err(Refused::Link)));
    // Who sets it from elsewhere does not say that any browser is to be trusted.
    people.set_password("reader", words("fourth horse"), None, now).await.unwrap();
    assert!(!known(&own).await);
}

#[tokio::test]
async fn administrators_end_somebodys_sessions_and_leave_the_account() {
    use base64::Engine;
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    for user in ["reader", "owner"] {
        people.set_password(user, words(WORDS), None, now).await.unwrap();
    }
    let begin = async |user: &str| sign(&people, &format!("{user}@example.com"), WORDS, &at("192.0.2.1"), now).await.unwrap();
    let (one, two, owners) = (begin("reader").await, begin("reader").await, begin("owner").await);
    // Another process: what is remembered here of a session is so for a second.
    let there = async |shown: &str, of: Option<&str>| over(&town).session(shown, of, now).await.unwrap().is_some();
    let session = people.session(one.session.reveal(), None, now).await.unwrap().unwrap();
    let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest("a nonce"));
    let code = async || people.code(&session, ("w-1", "team.example.com"), &nonce, now).await.unwrap();
    let host =
        people.take_code(code().await.reveal(), ("w-1", "team.example.com"), "a nonce", &at("192.0.2.1"), now).await.unwrap();
    let late = code().await;
    let terminal = people.begin_device("a terminal", &at("192.0.2.1"), now).await.unwrap();
    people.answer_device(&terminal.user, "reader", true, &at("192.0.2.1"), now).await.unwrap();
    let ask = async |who: &str, user: &str| {
        town.raw(Some(who), "DELETE", &format!("/devsanctum/users/{user}/sessions"), "", String::new()).await
    };
    assert_eq!(ask("reader", "reader").await.0, 403, "an administrator does");
    assert_eq!(ask("owner", "reader").await.0, 404, "whom they may not see");
    assert_eq!(ask("admin", "nobody").await.0, 404);
    assert!(there(one.session.reveal(), None).await);
    let (code, told) = ask("admin", "reader").await;
    assert_eq!((code, told.as_str()), (200, r#"{"sessions":2,"user":"reader"}"#));
    for shown in [&one, &two] {
        assert!(!there(shown.session.reveal(), None).await);
    }
    assert!(!there(host.reveal(), Some("w-1")).await && there(owners.session.reveal(), None).await);
    assert!(people.take_code(late.reveal(), ("w-1", "team.example.com"), "a nonce", &at("192.0.2.1"), now).await.is_err());
    let polled = people.poll_device(terminal.device.reveal(), now).await.unwrap();
    assert!(matches!(polled, devsanctum::access::Polled::Pending), "what was allowed is taken back: {polled:?}");
    // The account is as it was.
    begin("reader").await;
    assert_eq!(town.get("reader", "projects/team").await.0, 200, "API keys go on");
    let rows = super::panel::rows(&town).await;
    let row = rows.iter().rev().find(|row| row.entry.kind == "Session" && row.entry.code == 200).unwrap();
    assert_eq!((row.entry.verb.as_str(), row.entry.actor.as_str(), row.entry.name.as_str()), ("delete", "admin", "reader"));
}

#[tokio::test]
async fn a_link_sets_one_password_once() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    let (first, second) = (people.link("reader", LINK, now).await.unwrap(), people.link("reader", LINK, now).await.unwrap());
    let by = at("192.0.2.1");
    assert!(matches!(people.take_link(first.reveal(), words("short"), &by, now).await, Err(Refused::Password(_))));
    let late = now + SignedDuration::from_hours(49);
    assert!(matches!(people.take_link(first.reveal(), words(WORDS), &by, late).await, Err(Refused::Link)));
    assert_eq!(people.take_link(first.reveal(), words(WORDS), &by, now).await.unwrap().user, "reader");
    assert!(matches!(people.take_link(first.reveal(), words("another horse"), &by, now).await, Err(Refused::Link)));
    assert!(
        matches!(people.take_link(second.reveal(), words("another horse"), &by, now).await, Err(Refused::Link)),
        "nor an older one"
    );
    assert!(matches!(people.link("nobody", LINK, now).await, Err(Refused::Link)));
    let link = people.link("disabled", LINK, now).await.unwrap();
    assert!(matches!(people.take_link(link.reveal(), words(WORDS), &by, now).await, Err(Refused::Link)));
}

/// Whichever way it is set: at once, by a link, in the place of another. By who confirms an address: `arriving`.
#[tokio::test]
async fn no_password_is_made_of_names_that_are_known_here() {
    let (town, now, by) = (Town::new().await, Timestamp::now(), at("192.0.2.1"));
    let people = over(&town).at("panel.acme.example");
    let shown = serde_json::json!({"spec": {"displayName": "Grace Hopper"}});
    town.api.merge(&format!("{}/users/reader", crate::support::api::GROUP), &shown).await;
    let link = people.link("reader", LINK, now).await.unwrap();
    for bad in ["reader-2026", "Hopper, Grace", "acme.panel-1", "DevSanctum-1", "gracepassword"] {
        assert!(matches!(people.set_password("reader", words(bad), None, now).await, Err(Refused::Password(_))), "{bad}");
        assert!(matches!(people.take_link(link.reveal(), words(bad), &by, now).await, Err(Refused::Password(_))), "{bad}");
        // Names of others are no words of theirs.
        let fits = people.fits(&words(bad), "carol", "carol@example.com", None).is_ok();
        assert_eq!(fits, !bad.to_lowercase().contains("acme") && !bad.contains("Dev"), "{bad}");
    }
    let signed_in = people.take_link(link.reveal(), words(WORDS), &by, now).await.unwrap();
    let session = people.session(signed_in.session.reveal(), None, now).await.unwrap().unwrap();
    let changed = people.change_password(&session, words(WORDS), words("reader-2026"), &by, now).await;
    assert!(matches!(changed, Err(Refused::Password(_))), "{changed:?}");
}

#[tokio::test]
async fn a_code_is_for_one_browser_one_host_and_one_time() {
    use base64::Engine;
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(WORDS), None, now).await.unwrap();
    let by = at("192.0.2.1");
    let panel = sign(&people, "reader@example.com", WORDS, &by, now).await.unwrap();
    let session = people.session(panel.session.reveal(), None, now).await.unwrap().unwrap();
    let nonce = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest("a nonce"));
    let code = async || people.code(&session, ("w-1", "team.example.com"), &nonce, now).await.unwrap();
    let take = async |code: &str, (workspace, host): (&str, &str), nonce: &str, later: i64| {
        people.take_code(code, (workspace, host), nonce, &at("198.51.100.9"), now + SignedDuration::from_secs(later)).await
    };
    let own = ("w-1", "team.example.com");
    for (place, nonce, later) in [
        (("w-2", "team.example.com"), "a nonce", 0),
        // Another host of the same workspace, which may be open to anybody.
        (("w-1", "b.example.com"), "a nonce", 0),
        (own, "another", 0),
        (own, "", 0),
        (own, "a nonce", 31),
    ] {
        let code = code().await;
        assert!(take(code.reveal(), place, nonce, later).await.is_err(), "{place:?} {nonce} {later}");
        if later == 0 {
            assert!(take(code.reveal(), own, "a nonce", 0).await.is_err(), "it is gone with the first try");
        }
    }
    let good = code().await;
    let token = take(good.reveal(), own, "a nonce", 29).await.unwrap();
    assert!(take(good.reveal(), own, "a nonce", 29).await.is_err());
    let at_workspace = async |uid: &str| people.session(token.reveal(), Some(uid), now).await.unwrap();
    assert_eq!(at_workspace("w-1").await.unwrap().user, "reader");
    assert!(at_workspace("w-2").await.is_none());
    assert_eq!(at_workspace("w-1").await.unwrap().address, "192.0.2.1", "from where they signed in, whoever brings the code");
    for bad in ["", "x", &format!("{nonce} {nonce}"), &format!("{nonce} "), &nonce[1..]] {
        assert!(people.code(&session, ("w-1", "team.example.com"), bad, now).await.is_err(), "{bad:?}");
    }
    assert!(people.session(token.reveal(), None, now).await.unwrap().is_none(), "it is no session of the panel's");
    // What is held of a host ends when that opens to everybody: nothing is made of it afterwards.
    let opened = code().await;
    let visible = async |to: &str| {
        let path = format!("{GROUP}/namespaces/team/routes/web");
        assert_eq!(town.api.merge(&path, &json!({"spec": {"visibility": to}})).await.0, 200);
    };
    visible("PUBLIC").await;
    assert!(take(opened.reveal(), own, "a nonce", 0).await.is_err());
    visible("PRIVATE").await;
    let token = take(code().await.reveal(), own, "a nonce", 0).await.unwrap();
    let at_workspace = async |uid: &str| people.session(token.reveal(), Some(uid), now).await.unwrap();
    assert!(at_workspace("w-1").await.is_some());
    // It ends with the one it came of, and is not made after that.
    let late = code().await;
    people.sign_out(&session).await.unwrap();
    assert!(at_workspace("w-1").await.is_none());
    assert!(take(late.reveal(), own, "a nonce", 0).await.is_err());
}
