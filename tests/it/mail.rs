//! What becomes of a mail that a mail server does not take: some of it is tried again, and some is given up. The server is a script
//! here, since none says all of this when it is wanted.

use crate::support::api::{Api, GROUP, record};
use devsanctum::access::{Directory, SignIn, Visitor};
use devsanctum::clock::SystemClock;
use devsanctum::mail::{MailError, Mailer, Message, Outbox};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What the server says to a step of a letter's way; to all others it says yes.
#[derive(Clone, Copy)]
struct Says(&'static str, &'static str);

const TAKES: Says = Says("", "");
const STEPS: [(&str, &str); 6] =
    [("", "220 here"), ("EHLO", ""), ("AUTH", "235 known"), ("MAIL", "250 yes"), ("RCPT", "250 yes"), ("DATA", "354 go on")];

async fn hear(stream: TcpStream, says: Says) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let answer = |step: &str| {
        let usual = STEPS.iter().find(|(name, _)| *name == step).map_or("250 yes", |(_, answer)| answer);
        if says.0 == step && !says.1.is_empty() { says.1.to_owned() } else { usual.to_owned() }
    };
    stream.write_all(format!("{}\r\n", answer("")).as_bytes()).await?;
    let mut line = String::new();
    while {
        line.clear();
        stream.read_line(&mut line).await? > 0
    } {
        let step = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let said = match step.as_str() {
            "EHLO" => "250-mail.example.com\r\n250 AUTH PLAIN".to_owned(),
            "QUIT" => return stream.write_all(b"221 bye\r\n").await,
            step => answer(step),
        };
        stream.write_all(format!("{said}\r\n").as_bytes()).await?;
        if step == "DATA" && said.starts_with("354") {
            while {
                line.clear();
                stream.read_line(&mut line).await? > 0
            } && line != ".\r\n"
            {}
            stream.write_all(format!("{}\r\n", answer("TEXT")).as_bytes()).await?;
        }
    }
    Ok(())
}

/// A server that says this; its port.
async fn server(says: Says) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hear(stream, says));
        }
    });
    port
}

/// An API whose mail goes there, signed in.
async fn at(api: &Api, port: u16) {
    let mail = json!({"host": "127.0.0.1", "port": port, "security": "NONE", "from": "ds@example.com",
        "credentials": {"namespace": "team", "name": "smtp"}});
    let (code, told) = api.merge(&format!("{GROUP}/settings/default"), &json!({"spec": {"mail": mail}})).await;
    assert_eq!(code, 200, "{told}");
}

async fn ground() -> Api {
    let api = Api::new().await;
    api.project().await;
    let secret = record("Secret", "smtp", json!({"data": {"username": "mailer", "password": "post horse"}}));
    api.create(&format!("{GROUP}/namespaces/team/secrets"), &secret).await;
    let (code, _) = api.get(&format!("{GROUP}/settings/default")).await;
    if code == 404 {
        api.create(&format!("{GROUP}/settings"), &record("Settings", "default", json!({}))).await;
    }
    api
}

/// What a server says, and whether it will say so of this letter for ever.
const CLASSES: [(Says, bool); 13] = [
    (Says("", "421 4.3.2 closing"), false),
    (Says("", "554 5.3.2 no service here"), false),
    (Says("AUTH", "535 5.7.8 wrong password"), false),
    (Says("AUTH", "454 4.7.0 not now"), false),
    (Says("MAIL", "530 5.7.0 sign in first"), false),
    (Says("MAIL", "452 4.3.1 no room"), false),
    (Says("RCPT", "450 4.2.1 busy"), false),
    (Says("RCPT", "451 4.7.1 come back later"), false),
    (Says("RCPT", "421 4.7.0 too many"), false),
    (Says("RCPT", "550 5.1.1 nobody of that name"), true),
    (Says("RCPT", "553 5.1.3 no such address"), true),
    (Says("TEXT", "554 5.7.1 this is spam"), true),
    (Says("TEXT", "451 4.3.0 an error here"), false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_says_of_the_letter_is_final_and_what_it_says_of_itself_or_of_us_is_not() {
    let api = ground().await;
    let mailer = Mailer::new(api.store.clone(), "https://panel.example.com".into());
    at(&api, server(TAKES).await).await;
    mailer.send("ada@example.com", &Message::test("ada")).await.unwrap();
    for (says, for_ever) in CLASSES {
        at(&api, server(says).await).await;
        let error = mailer.send("ada@example.com", &Message::test("ada")).await.unwrap_err();
        let is_final = match &error {
            MailError::Refused(..) => true,
            MailError::NotNow(..) => false,
            other => panic!("{} {}: {other}", says.0, says.1),
        };
        assert_eq!(is_final, for_ever, "{} {}: {error}", says.0, says.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_of_the_outbox_waits_for_a_server_and_is_given_up_where_it_is_refused() {
    let api = ground().await;
    let sign_in = Arc::new(SignIn::new(api.store.clone(), Arc::new(Directory::new(api.store.clone()))));
    let (stop, clock) = (CancellationToken::new(), SystemClock::shared());
    let mailer = Mailer::new(api.store.clone(), "https://panel.example.com".into());
    let outbox = Outbox { store: api.store.clone(), sign_in: sign_in.clone(), mailer, clock };
    let running = tokio::spawn(outbox.run(stop.clone()));
    let by = Visitor { address: "192.0.2.1".parse().unwrap(), agent: String::new(), known: None, session: None };
    for (n, says, stays) in [
        (0, Says("AUTH", "535 5.7.8 wrong password"), true),
        (1, Says("RCPT", "550 5.1.1 nobody of that name"), false),
        (2, Says("RCPT", "421 4.7.0 too many"), true),
    ] {
        at(&api, server(says).await).await;
        let to = format!("person-{n}@example.com");
        sign_in.apply(&format!("person-{n}"), &to, &by, Timestamp::now()).await.unwrap();
        let begun = Instant::now();
        let kept = loop {
            let found = api.store.outgoing(10).await.unwrap().into_iter().find(|mail| mail.recipient == to);
            match found {
                Some(mail) if mail.attempts == 0 => {}
                other => break other,
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{} is not tried", says.1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(kept.is_some(), stays, "{}", says.1);
        if let Some(mail) = kept {
            assert!(mail.error.contains(&says.1[4..]), "{}", mail.error);
        }
    }
    stop.cancel();
    running.await.unwrap();
}
