//! What is taken from somebody is taken at once: from their requests, and from connections that stand open, through the real
//! Traefik. `DEVSANCTUM_TRIALS=100` tries each way a hundred times, and the slowest is told.

use super::gate::{host_of, panel, person, set_up};
use super::records;
use super::world::{World, in_world, until};
use crate::support::browser::Browser;
use crate::support::traefik::request;
use devsanctum::resource::{Group, Project, User};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PASSWORDS: [&str; 2] = ["correct horse battery", "another horse battery"];
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A service that says what it was sent, and then everything again that it is told.
pub async fn ground(world: &World<'_>) {
    world.create(records::settings(crate::support::dockerd::TINY)).await;
    world.create(records::server("local", &world.daemon.socket())).await;
    world.create(echo()).await;
}

/// The template of such a service.
pub fn echo() -> Value {
    let mut template = records::template("echo");
    let script = r#"cat > /tmp/echo <<'END'
upgrade=; seen=
while IFS= read -r line; do
  line=$(printf %s "$line" | tr -d '\r')
  [ -n "$line" ] || break
  case $line in [Uu]pgrade:*) upgrade=yes ;; [Cc]ookie:*|[Xx]-[Dd][Ss]*) seen="$seen|$line" ;; esac
done
if [ -n "$upgrade" ]; then
  printf 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n%s\n' "$seen"
  exec cat
fi
printf 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes'
END
trap 'exit 0' TERM
nc -ll -p 8080 -e sh /tmp/echo & wait"#;
    template["spec"]["startCommand"] = json!(["sh", "-c", script]);
    template
}

/// A connection that was upgraded, as its browser has it.
pub struct Socket(TcpStream);

impl Socket {
    /// What it is answered with, and the connection where that is 101.
    pub async fn open(world: &World<'_>, browser: &Browser, host: &str) -> (u16, String, Self) {
        Self::open_from(world, browser, host, "").await
    }

    async fn open_from(world: &World<'_>, browser: &Browser, host: &str, more: &str) -> (u16, String, Self) {
        let jar = browser.jar.get(host).into_iter().flatten();
        let cookies: Vec<String> = jar.map(|(name, value)| format!("{name}={value}")).chain(["own=1".to_owned()]).collect();
        let text = format!(
            "GET /socket HTTP/1.1\r\nHost: {host}:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-DS-User: root\r\nX_DS_User: root\r\n{more}Cookie: {}\r\n\r\n",
            world.web.port(),
            cookies.join("; ")
        );
        let mut stream = TcpStream::connect(world.web).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut socket = Self(stream);
        let head = socket.until("\r\n\r\n").await;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        if code == 101 {
            let ours = ["content-security-policy", "x-content-type-options", "cache-control"];
            assert!(!ours.iter().any(|name| head.to_lowercase().contains(name)), "what a workspace answers is its own: {head}");
        }
        let first = if code == 101 { socket.until("\n").await } else { String::new() };
        (code, first, socket)
    }

    /// What is said up to and with this ending.
    pub async fn until(&mut self, ending: &str) -> String {
        let mut said = Vec::new();
        let read = async {
            while !said.ends_with(ending.as_bytes()) {
                match self.0.read_u8().await {
                    Ok(byte) => said.push(byte),
                    Err(_) => break,
                }
            }
        };
        let _ = timeout(PATIENCE, read).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    pub async fn echoes(&mut self, word: &str) -> bool {
        self.0.write_all(format!("{word}\n").as_bytes()).await.is_ok() && self.until("\n").await == format!("{word}\n")
    }

    /// Waits until it is cut.
    pub async fn end(&mut self) {
        let mut rest = [0; 64];
        let ended = async { while self.0.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
        timeout(PATIENCE, ended).await.expect("the connection is cut");
    }
}

struct Trial<'w, 'd> {
    world: &'w World<'d>,
    host: String,
    /// Which of the passwords is hers now.
    password: usize,
    /// Where she was signed in when she set it.
    elsewhere: Option<Browser>,
}

impl Trial<'_, '_> {
    fn url(&self) -> String {
        format!("http://{}:{}/", self.host, self.world.web.port())
    }

    async fn patch<K>(&self, name: &str, spec: Value)
    where
        K: Clone + DeserializeOwned + Debug + kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>,
    {
        let api: Api<K> = Api::all(self.world.client.clone());
        api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    }

    /// Takes away, and gives back: how long requests and a connection went on.
    async fn measure(&mut self, way: &str, browser: &mut Browser) -> (Duration, Duration) {
        let opened = browser.open(&self.url()).await;
        assert_eq!((opened.code, opened.body.as_str()), (200, "yes"), "{way}");
        let (code, _, mut socket) = Socket::open(self.world, browser, &self.host).await;
        assert!(code == 101 && socket.echoes(way).await, "{way}: {code}");
        let begun = Instant::now();
        self.take(way, browser).await;
        let requests = async {
            while request_as(self.world, browser, &self.host).await == 200 {}
            begun.elapsed()
        };
        let connection = async {
            socket.end().await;
            begun.elapsed()
        };
        let took = tokio::join!(requests, connection);
        self.give_back(way).await;
        took
    }

    async fn take(&mut self, way: &str, browser: &Browser) {
        let mut same = Browser::new(self.world.web);
        same.jar.clone_from(&browser.jar);
        match way {
            "signed out" => {
                let answer = same.submit(&format!("{}/logout", panel(self.world)), &[]).await;
                assert_eq!(answer.code, 302);
            }
            // By a link, which is no guess: those are counted.
            "another password" => {
                let body = json!({"user": "ada"}).to_string().into_bytes();
                let asked =
                    http::Request::post("/devsanctum/links").header("content-type", "application/json").body(body).unwrap();
                let link: Value = self.world.client.request(asked).await.unwrap();
                let url = format!("{}{}", panel(self.world), link["path"].as_str().unwrap());
                self.password = 1 - self.password;
                let mut elsewhere = Browser::new(self.world.web);
                assert_eq!(elsewhere.submit(&url, &[("password", PASSWORDS[self.password])]).await.code, 200);
                self.elsewhere = Some(elsewhere);
            }
            "signed out by an administrator" => {
                let asked = http::Request::delete("/devsanctum/users/ada/sessions").body(Vec::new()).unwrap();
                let told: Value = self.world.client.request(asked).await.unwrap();
                assert_eq!(told["user"], "ada");
            }
            "not active" => self.patch::<User>("ada", json!({"active": false})).await,
            "out of the group" => self.patch::<Group>("leads", json!({"members": []})).await,
            "a lesser role" => self.patch::<Project>("team", json!({"groups": [{"group": "leads", "role": "DEPLOY"}]})).await,
            other => panic!("{other}"),
        }
    }

    async fn give_back(&self, way: &str) {
        match way {
            "not active" => self.patch::<User>("ada", json!({"active": true})).await,
            "out of the group" => self.patch::<Group>("leads", json!({"members": [{"user": "ada"}]})).await,
            "a lesser role" => self.patch::<Project>("team", json!({"groups": [{"group": "leads", "role": "MANAGE"}]})).await,
            _ => {}
        }
    }
}

pub async fn request_as(world: &World<'_>, browser: &Browser, host: &str) -> u16 {
    let jar = browser.jar.get(host).into_iter().flatten();
    let cookies: Vec<String> = jar.map(|(name, value)| format!("{name}={value}")).collect();
    request(world.web, host, "/", &[("Cookie", &cookies.join("; "))]).await.0
}

/// How often each way is tried.
pub fn trials() -> usize {
    std::env::var("DEVSANCTUM_TRIALS").map_or(3, |n| n.parse().unwrap())
}

/// Tells the slowest.
pub fn told(way: &str, requests: &[Duration], connections: &[Duration]) {
    let slowest = |all: &[Duration]| all.iter().max().copied().unwrap_or_default();
    let (trials, requests, connections) = (requests.len(), slowest(requests), slowest(connections));
    println!("revoked: {way}: {trials} trials, requests {requests:?}, connections {connections:?}");
}

#[test]
fn what_is_taken_away_is_taken_at_once() {
    in_world(async |world| {
        ground(&world).await;
        let _root = set_up(&world).await;
        let mut ada = person(&world, "ada").await;
        world.create(json!({"apiVersion": "devsanctum.io/v1", "kind": "Group", "metadata": {"name": "leads"}, "spec": {"members": [{"user": "ada"}]}})).await;
        let mut project = records::project("team", "echo");
        project["spec"]["owner"] = json!("root");
        project["spec"]["visibility"] = json!("PRIVATE");
        project["spec"]["groups"] = json!([{"group": "leads", "role": "MANAGE"}]);
        world.create(project).await;
        let mut workspace = records::workspace("w0");
        workspace["spec"]["owner"] = json!("root");
        workspace["spec"]["visibility"] = json!("PRIVATE");
        world.create(workspace).await;
        let host = host_of(&world, "w0").await;
        until("its gate", PATIENCE, async || match request(world.web, &host, "/", &[]).await.0 {
            401 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        let mut trial = Trial { world: &world, host, password: 0, elsewhere: None };

        // What a connection is to those who may not have it, and what the workspace sees of one that may.
        let (code, _, mut refused) = Socket::open(&world, &Browser::new(world.web), &trial.host).await;
        assert_eq!(code, 401, "{}", refused.until("</html>").await);
        let mut stranger = person(&world, "eve").await;
        let _ = stranger.open(&trial.url()).await;
        let (code, _, mut refused) = Socket::open(&world, &stranger, &trial.host).await;
        assert_eq!(code, 401, "she was never let in: {} {:?}", refused.until("</html>").await, stranger.jar);
        assert_eq!(ada.open(&trial.url()).await.code, 200);
        let (code, seen, mut socket) = Socket::open(&world, &ada, &trial.host).await;
        assert_eq!(code, 101);
        let mut seen: Vec<String> = seen.trim().split('|').skip(1).map(str::to_lowercase).collect();
        seen.sort();
        assert_eq!(seen, ["cookie: own=1", "x-ds-user: ada"]);
        assert!(socket.echoes("hello").await && socket.echoes(&"x".repeat(100_000)).await);

        // A page of another host cannot ask with her cookies, whichever way; her own hosts can.
        let shown = ada.jar[&trial.host].iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        for (origin, codes) in [
            (format!("http://{}:{}", trial.host, world.web.port()), (200, 101)),
            ("http://other.localhost".into(), (403, 403)),
            (panel(&world), (403, 403)),
            ("null".into(), (403, 403)),
        ] {
            let plain = request(world.web, &trial.host, "/", &[("Cookie", &shown), ("Origin", &origin)]).await.0;
            let upgraded = Socket::open_from(&world, &ada, &trial.host, &format!("Origin: {origin}\r\n")).await.0;
            assert_eq!((plain, upgraded), codes, "{origin}");
        }

        let trials = trials();
        for way in [
            "signed out",
            "signed out by an administrator",
            "another password",
            "not active",
            "out of the group",
            "a lesser role",
        ] {
            let (mut requests, mut connections) = (Vec::new(), Vec::new());
            for _ in 0..trials {
                let (request, connection) = trial.measure(way, &mut ada).await;
                requests.push(request);
                connections.push(connection);
                match (trial.elsewhere.take(), way) {
                    (Some(elsewhere), _) => ada = elsewhere,
                    (None, "signed out" | "signed out by an administrator") => ada = trial.signed_in_known(&ada).await,
                    _ => {}
                }
            }
            told(way, &requests, &connections);
        }
        // One that is not of this workspace any more: it is gone.
        assert_eq!(ada.open(&trial.url()).await.code, 200);
        let (code, _, mut socket) = Socket::open(&world, &ada, &trial.host).await;
        assert_eq!(code, 101);
        world.merge("w0", json!({"spec": {"running": false}})).await;
        socket.end().await;
    });
}

impl Trial<'_, '_> {
    /// Signs in by the browser that was signed in before, which has guesses of its own.
    async fn signed_in_known(&self, before: &Browser) -> Browser {
        let mut browser = Browser::new(self.world.web);
        let host = "devsanctum.localhost".to_owned();
        let known = before.jar.get(&host).and_then(|jar| jar.get("__Host-ds_browser")).cloned();
        browser.jar.entry(host).or_default().extend(known.map(|token| ("__Host-ds_browser".to_owned(), token)));
        let login = format!("{}/login", panel(self.world));
        let form = [("email", "ada@example.com"), ("password", PASSWORDS[self.password])];
        let answer = browser.submit(&login, &form).await;
        assert_eq!(answer.code, 200, "{}", answer.body);
        browser
    }
}
