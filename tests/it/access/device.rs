//! Terminals that ask to be let in, and the keys that come of it.

use super::Town;
use super::panel::{Browser, told, words};
use devsanctum::access::{DEVICE, Directory, INTERVAL, Polled, Refused, SignIn, Visitor};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const WORDS: &str = "correct horse battery";

fn at(address: &str) -> Visitor {
    Visitor { address: address.parse().unwrap(), agent: "devsanctum".into(), known: None, session: None }
}

fn over(town: &Town) -> SignIn {
    SignIn::new(town.api.store.clone(), Arc::new(Directory::new(town.api.store.clone())))
}

#[tokio::test]
async fn codes_work_once_and_for_who_has_allowed_them() {
    let (town, now, by) = (Town::new().await, Timestamp::now(), at("192.0.2.1"));
    let people = over(&town);
    let codes = people.begin_device("devsanctum on\r\nlaptop", &by, now).await.unwrap();
    let (device, user) = (codes.device.reveal(), codes.user.as_str());
    for secret in [device, user, &user.replace('-', "")] {
        assert!(!town.api.database_holds(secret).await, "only hashes are kept");
    }
    let asking = people.asking(&user.to_lowercase(), &by, now).await.unwrap();
    assert_eq!((asking.client.as_str(), asking.address.as_str()), ("devsanctum onlaptop", "192.0.2.1"));
    assert_eq!(people.poll_device(device, now).await.unwrap(), Polled::Pending);
    assert_eq!(people.poll_device(device, now + INTERVAL / 2).await.unwrap(), Polled::SlowDown);
    assert_eq!(people.poll_device("another", now).await.unwrap(), Polled::Expired);
    assert_eq!(people.poll_device(user, now).await.unwrap(), Polled::Expired, "what people see is not what terminals show");
    assert!(matches!(people.answer_device(device, "reader", true, &by, now).await, Err(Refused::Link)));
    people.answer_device(user, "reader", true, &by, now).await.unwrap();
    for (late, allow) in [("admin", true), ("reader", false)] {
        assert!(matches!(people.answer_device(user, late, allow, &by, now).await, Err(Refused::Link)), "{late}");
    }
    assert!(matches!(people.asking(user, &by, now).await, Err(Refused::Link)));
    let mut later = now + INTERVAL * 2;
    let allowed = Polled::Allowed { user: "reader".into(), client: "devsanctum onlaptop".into() };
    assert_eq!(people.poll_device(device, later).await.unwrap(), allowed);
    later += INTERVAL;
    assert_eq!(people.poll_device(device, later).await.unwrap(), Polled::Expired, "it works once");
    assert!(town.api.store.check().await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn codes_are_refused_and_run_out() {
    let (town, now, by) = (Town::new().await, Timestamp::now(), at("192.0.2.1"));
    let people = over(&town);
    let begin = async || people.begin_device("x", &by, now).await.unwrap();
    let refused = begin().await;
    people.answer_device(&refused.user, "reader", false, &by, now).await.unwrap();
    assert_eq!(people.poll_device(refused.device.reveal(), now).await.unwrap(), Polled::Denied);
    assert_eq!(people.poll_device(refused.device.reveal(), now + INTERVAL).await.unwrap(), Polled::Expired);

    // Ten minutes, and not a moment more, whether or not somebody has answered.
    let (open, answered, over) = (begin().await, begin().await, now + DEVICE);
    people.answer_device(&answered.user, "reader", true, &by, over - SignedDuration::from_secs(1)).await.unwrap();
    assert!(people.asking(&open.user, &by, over - SignedDuration::from_secs(1)).await.is_ok());
    assert!(matches!(people.asking(&open.user, &by, over).await, Err(Refused::Link)));
    assert!(matches!(people.answer_device(&open.user, "reader", true, &by, over).await, Err(Refused::Link)));
    for device in [&open.device, &answered.device] {
        assert_eq!(people.poll_device(device.reveal(), over).await.unwrap(), Polled::Expired);
    }

    // Who may not come in, and who is nobody.
    let (shut_out, nobody, changed) = (begin().await, begin().await, begin().await);
    people.answer_device(&shut_out.user, "disabled", true, &by, now).await.unwrap();
    assert_eq!(people.poll_device(shut_out.device.reveal(), now).await.unwrap(), Polled::Denied);
    assert!(matches!(people.answer_device(&nobody.user, "nobody", true, &by, now).await, Err(Refused::Link)));
    people.answer_device(&changed.user, "reader", true, &by, now).await.unwrap();
    people.set_password("reader", WORDS.to_owned().into(), None, now).await.unwrap();
    assert_eq!(people.poll_device(changed.device.reveal(), now).await.unwrap(), Polled::Pending, "it goes with the password");
}

#[tokio::test]
async fn codes_are_not_to_be_guessed_or_made_without_end() {
    let (town, now, by) = (Town::new().await, Timestamp::now(), at("192.0.2.1"));
    let people = over(&town);
    let mut tries = 0;
    while !matches!(people.asking("BCDF-GHJK", &by, now).await, Err(Refused::TooMany(_))) {
        tries += 1;
        assert!(tries < 100);
    }
    assert!(matches!(people.begin_device("x", &by, now).await, Err(Refused::TooMany(_))));
    assert!(matches!(people.answer_device("BCDF-GHJK", "reader", true, &by, now).await, Err(Refused::TooMany(_))));
    assert!(people.begin_device("x", &at("198.51.100.1"), now).await.is_ok());
}

fn read(answer: (u16, String)) -> (u16, Value) {
    (answer.0, serde_json::from_str(&answer.1).unwrap_or(Value::String(answer.1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_let_in_by_whoever_is_signed_in_at_the_panel() {
    let mut town = Town::new().await;
    over(&town).set_password("reader", WORDS.to_owned().into(), None, Timestamp::now()).await.unwrap();
    let mut terminal = Browser::new(&town);
    // Of the same panel, which knows the same codes.
    let (mut stranger, mut reader) = (terminal.another(), terminal.another());
    assert_eq!(reader.form("/login", &[("email", "reader@example.com"), ("password", WORDS)]).await, 200);
    let mut seen = super::panel::rows(&town).await.len();

    // Terminals come from no page.
    let asked = terminal.send("/device", &[("client", "devsanctum on laptop")], "http://elsewhere.example.com").await;
    let (code, begun) = read(asked);
    assert_eq!((code, &begun["expires_in"], &begun["interval"]), (200, &json!(600), &json!(2)), "{begun}");
    assert_eq!(words(&told(&town, &mut seen).await), ("ask", "", "", 200));
    let text = |field: &str| begun[field].as_str().unwrap().to_owned();
    let (device, user) = (text("device_code"), text("user_code"));
    assert_eq!(text("verification_uri_complete"), format!("http://devsanctum.localhost/device?code={user}"));
    assert_eq!(terminal.form("/device", &[("other", "x")]).await, 400);
    told(&town, &mut seen).await;
    assert_eq!(terminal.form("/device", &[("client", &"x".repeat(20_000))]).await, 400, "too much");
    told(&town, &mut seen).await;

    let poll = [("device_code", device.as_str())];
    let error = |(code, answer): (u16, Value)| (code, answer["error"].as_str().unwrap_or_default().to_owned());
    assert_eq!(error(read(terminal.send("/device/token", &poll, "").await)), (400, "authorization_pending".into()));
    assert_eq!(error(read(terminal.send("/device/token", &poll, "").await)), (400, "slow_down".into()));
    assert_eq!(error(read(terminal.send("/device/token", &[("device_code", "x")], "").await)), (400, "expired_token".into()));

    // Who is nobody yet goes by the sign-in page; another's page sends nothing.
    let page = format!("/device?code={user}");
    let (code, location, _) = stranger.get(&page).await;
    assert!(code == 302 && location.starts_with("/login?next=%2Fdevice%3Fcode%3D"), "{code} {location}");
    let allow = [("code", user.as_str()), ("answer", "allow")];
    assert_eq!(stranger.form("/device/approve", &allow).await, 302);
    assert_eq!(words(&told(&town, &mut seen).await), ("answer", "", "", 302));
    assert_eq!(reader.send("/device/approve", &allow, "http://evil.example.com").await.0, 403);
    assert_eq!(words(&told(&town, &mut seen).await), ("answer", "reader", "", 403));
    let (code, _, shown) = reader.get(&page).await;
    assert!(
        code == 200 && shown.contains("devsanctum on laptop") && shown.contains("192.0.2.7") && shown.contains(&user),
        "{shown}"
    );
    assert_eq!(reader.get("/device?code=BCDF-GHJK").await.0, 404);
    assert_eq!(reader.form("/device/approve", &allow).await, 200);
    let row = told(&town, &mut seen).await;
    assert_eq!((words(&row), row.kind.as_str()), (("allow", "reader", "", 200), "DeviceCode"));
    assert_eq!(row.reason, "devsanctum on laptop at 192.0.2.7");
    assert_eq!(reader.form("/device/approve", &allow).await, 404, "it works once");
    told(&town, &mut seen).await;

    // The terminal was told to wait.
    let given = loop {
        let (code, answer) = read(terminal.send("/device/token", &poll, "").await);
        match answer["error"].as_str() {
            Some("slow_down") => tokio::time::sleep(INTERVAL.unsigned_abs()).await,
            _ => break (code, answer),
        }
    };
    let (code, given) = given;
    assert_eq!((code, &given["user"], &given["server"]), (200, &json!("reader"), &json!("https://127.0.0.1:6443")), "{given}");
    assert_eq!((&given["certificate_authority"], &given["tls_server_name"]), (&json!("PEM"), &json!("localhost")));
    let key = given["access_token"].as_str().unwrap().to_owned();
    let row = told(&town, &mut seen).await;
    assert_eq!((words(&row), row.how.as_str()), (("create", "reader", key.split('_').nth(1).unwrap(), 200), "device"));
    assert_eq!(error(read(terminal.send("/device/token", &poll, "").await)), (400, "expired_token".into()), "once");
    for row in super::panel::rows(&town).await {
        let text = format!("{row:?}");
        assert!(![&key, &device, &user].into_iter().any(|secret| text.contains(secret.as_str())), "{text}");
    }

    // It is a key as any other: listed, and ended, by its holder.
    town.keys.insert("laptop".into(), key.clone());
    let (code, list) = town.raw(Some("laptop"), "GET", "/devsanctum/keys", "application/json", String::new()).await;
    assert!(code == 200 && list.contains("devsanctum on laptop"), "{code} {list}");
    let id = format!("/devsanctum/keys/{}", key.split('_').nth(1).unwrap());
    assert_eq!(town.raw(Some("laptop"), "DELETE", &id, "application/json", String::new()).await.0, 200);
    let mut code = 200;
    // What was asked of it a moment ago may be remembered for a second.
    while code == 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        code = town.raw(Some("laptop"), "GET", "/devsanctum/keys", "application/json", String::new()).await.0;
    }
    assert_eq!(code, 401);
}
