//! TLS at the managed Traefik, with a certificate of one's own and with one that it orders; and proxies before it.

use super::gate::host_of;
use super::records;
use super::world::{PATIENCE, World, in_world, until};
use crate::support::acme::Authority;
use crate::support::ports::free_address;
use crate::support::traefik::request;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const DOMAIN: &str = "ws.example";
const PANEL: &str = "panel.example";

/// An authority of one's own, that makes certificates.
struct Own(rcgen::Issuer<'static, rcgen::KeyPair>, String);

impl Own {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(rcgen::Issuer::new(params, key), pem)
    }

    /// Writes a certificate, and gives it.
    fn write(&self, dir: &Path, names: &[&str]) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        let made = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(dir.join("web.key"), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("web.crt"), made.pem()).unwrap();
        made.der().to_vec()
    }
}

/// Who believes one authority alone, and finds all hosts at one address.
struct Caller {
    client: reqwest::Client,
    port: u16,
}

impl Caller {
    fn new(trusted: &str, web: SocketAddr, hosts: &[&str]) -> Self {
        let trusted = reqwest::Certificate::from_pem(trusted.as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).tls_info(true).http1_only();
        builder = builder.redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(10)).pool_max_idle_per_host(0);
        for host in hosts {
            builder = builder.resolve(host, web);
        }
        Self { client: builder.build().unwrap(), port: web.port() }
    }

    async fn get(&self, host: &str, path: &str, headers: HeaderMap) -> reqwest::Result<reqwest::Response> {
        self.client.get(format!("https://{host}:{}{path}", self.port)).headers(headers).send().await
    }

    async fn answers(&self, host: &str, path: &str) -> reqwest::Response {
        let mut found = None;
        until(&format!("{host}{path}"), PATIENCE, async || {
            let answer = self.get(host, path, HeaderMap::new()).await.map_err(|e| format!("{e:?}"))?;
            found = Some(answer.error_for_status().map_err(|e| e.to_string())?);
            Ok(())
        })
        .await;
        found.unwrap()
    }
}

fn shown(answer: &reqwest::Response) -> Vec<u8> {
    let info = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    info.peer_certificate().unwrap().to_vec()
}

/// A server, a template, a project, and two workspaces below a domain that is not this machine's own.
async fn ground(world: &World<'_>) -> [String; 2] {
    let mut settings = records::settings(crate::support::dockerd::TINY);
    settings["spec"]["domain"] = json!(DOMAIN);
    world.create(settings).await;
    world.create(records::server("local", &world.daemon.socket())).await;
    world.create(records::user()).await;
    world.create(records::template("hello")).await;
    world.create(records::project("team", "hello")).await;
    world.create(records::workspace("open")).await;
    let mut shut = records::workspace("shut");
    shut["spec"]["visibility"] = json!("PRIVATE");
    world.create(shut).await;
    [host_of(world, "open").await, host_of(world, "shut").await]
}

#[test]
fn with_a_certificate_all_is_tls_and_a_new_one_is_shown_without_a_restart() {
    in_world(async |mut world| {
        let [open, shut] = ground(&world).await;
        let (own, dir) = (Own::new(), tempfile::tempdir().unwrap());
        let names = [PANEL, "*.ws.example"];
        let first = own.write(dir.path(), &names);
        let (cert, key) = (dir.path().join("web.crt"), dir.path().join("web.key"));
        let (redirect, port) = (free_address(), world.web.port());
        world.kill();
        let panel = format!("https://{PANEL}:{port}");
        let flags = ["--panel-url", &panel, "--web-cert", cert.to_str().unwrap(), "--web-key", key.to_str().unwrap()];
        let redirect_flag = redirect.to_string();
        let more = ["--web-redirect", &redirect_flag, "--trusted-proxies", "127.0.0.0/8"];
        world.launch_with(&[&flags[..], &more[..]].concat(), &[]);
        world.ready().await;

        let caller = Caller::new(&own.1, world.web, &[PANEL, &open, &shut]);
        let answer = caller.answers(&open, "/").await;
        assert_eq!(shown(&answer), first);
        assert_eq!(answer.headers()["strict-transport-security"], "max-age=63072000; includeSubDomains");
        let url = world.workspace("open").await.status.unwrap().services[0].url.clone();
        assert_eq!(url, Some(format!("https://{open}:{port}")));
        let page = caller.answers(PANEL, "/login").await;
        assert!(page.headers().contains_key("strict-transport-security"));
        // The gate, by a request and by what is to be upgraded; nobody is asked in clear text.
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
        let upgrade: HeaderMap = upgrade.into_iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        for headers in [HeaderMap::new(), upgrade] {
            let answer = caller.get(&shut, "/", headers).await.unwrap();
            assert_eq!(answer.status(), 401);
            assert!(answer.headers().contains_key("strict-transport-security"));
        }
        only_websockets(&caller, &open, &shut).await;
        assert_ne!(request(world.web, &open, "/", &[]).await.0, 200, "plain HTTP where TLS is spoken");
        sent_on(redirect, &open, port).await;
        seen_through_proxies(&world, &caller).await;

        let second = own.write(dir.path(), &names);
        until("the new certificate", PATIENCE, async || match shown(&caller.answers(&open, "/").await) {
            now if now == second => Ok(()),
            now => Err(format!("the first one: {}", now == first)),
        })
        .await;
    });
}

/// Within what is upgraded to something else, such as HTTP/2, anybody could say who they are. Older Traefiks hand `h2c` on,
/// and all hand on others.
async fn only_websockets(caller: &Caller, open: &str, shut: &str) {
    let asked = async |host: &str, upgrades: &[&'static str]| {
        let mut headers: HeaderMap = [("connection".parse().unwrap(), "Upgrade".parse().unwrap())].into_iter().collect();
        for to in upgrades {
            headers.append("upgrade", to.parse().unwrap());
        }
        let answer = caller.get(host, "/", headers).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for host in [open, shut] {
        for upgrades in [&["h2c"][..], &["h2c", "websocket"], &["websocket, h2c"], &["H2C"], &["TLS/1.0"], &["webs"]] {
            let (code, page) = asked(host, upgrades).await;
            assert!(code == 400 && page.contains("Only WebSockets get through"), "{host} {upgrades:?}: {code} {page}");
        }
    }
    // The service knows of no WebSockets, and answers as to any request.
    assert_eq!((asked(open, &["WebSocket"]).await.0, asked(shut, &["WebSocket"]).await.0), (200, 401));
}

/// Plain HTTP leads to the same address by https.
async fn sent_on(redirect: SocketAddr, host: &str, port: u16) {
    let client = reqwest::Client::builder().no_proxy().resolve(host, redirect);
    let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = client.get(format!("http://{host}:{}/a?b=c", redirect.port())).send().await.unwrap();
    assert!(matches!(answer.status().as_u16(), 301 | 308), "{}", answer.status());
    assert_eq!(answer.headers()["location"], format!("https://{host}:{port}/a?b=c"));
}

/// Who is told of is the one whom the proxies that are trusted have seen, and not who that one says to be.
async fn seen_through_proxies(world: &World<'_>, caller: &Caller) {
    let origin = format!("https://{PANEL}:{}", caller.port);
    let form = caller.client.post(format!("{origin}/login")).header("origin", &origin);
    let form = form.header("x-forwarded-for", "198.51.100.1, 203.0.113.7, 127.0.0.9");
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("email=x@example.com&password=guessed");
    assert_eq!(form.send().await.unwrap().status(), 403);
    let asked = http::Request::get("/devsanctum/audit?limit=1").body(vec![]).unwrap();
    let told: Value = world.client.request(asked).await.unwrap();
    assert_eq!(told["rows"][0]["address"], "203.0.113.7", "{told}");
}

#[test]
fn a_resolver_orders_one_certificate_for_all_workspaces_by_dns() {
    in_world(async |mut world| {
        let [open, shut] = ground(&world).await;
        let authority = Authority::start().await;
        let config = authority.resolver("dns");
        world.kill();
        let panel = format!("https://panel.{DOMAIN}:{}", world.web.port());
        let flags = ["--panel-url", &panel, "--web-resolver", "dns", "--traefik-config", config.to_str().unwrap()];
        let env = ["--traefik-env", "LEGO_CA_CERTIFICATES,HTTPREQ_ENDPOINT"];
        world.launch_with(&[&flags[..], &env[..]].concat(), &authority.env());
        world.ready().await;
        let of_panel = format!("panel.{DOMAIN}");
        let caller = Caller::new(authority.trusted(), world.web, &[&of_panel, &open, &shut]);
        caller.answers(&open, "/").await;
        caller.answers(&of_panel, "/login").await;
        assert_eq!(caller.get(&shut, "/", HeaderMap::new()).await.unwrap().status(), 401);
        assert_eq!(authority.proved(), [format!("_acme-challenge.{DOMAIN}.")], "one order for all of them");
        let kept = world.state_dir().join("traefik/acme.json");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(kept).unwrap().permissions());
        assert_eq!(mode & 0o077, 0);
    });
}

/// What a control plane says that does not start.
fn refused(args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = crate::support::devsanctum();
    command.arg("--state-dir").arg(dir.path()).args(["serve", "--listen", "127.0.0.1:0", "--ssh", "off"]).args(args);
    let said = command.output().unwrap();
    assert!(!said.status.success(), "{args:?}");
    String::from_utf8_lossy(&said.stderr).into_owned()
}

#[test]
fn what_would_be_served_in_clear_text_or_with_the_wrong_certificate_is_not() {
    let (own, dir) = (Own::new(), tempfile::tempdir().unwrap());
    own.write(dir.path(), &["other.example"]);
    let (cert, key) = (dir.path().join("web.crt"), dir.path().join("web.key"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let web = free_address().to_string();
    for (args, words) in [
        (&["--web", "0.0.0.0:18080"][..], "clear text"),
        (&["--web", &web, "--web-cert", cert, "--web-key", key, "--panel-url", "http://panel.example"], "https://"),
        (&["--web", &web, "--web-cert", cert, "--web-key", key, "--panel-url", "https://panel.example"], "not for panel.example"),
        (&["--web", &web, "--web-cert", key, "--web-key", cert, "--panel-url", "https://panel.example"], "web.key"),
        (&["--web", &web, "--web-cert", cert], "--web-key"),
        (&["--web", &web, "--trusted-proxies", "everybody"], "--trusted-proxies"),
        (&["--web", &web, "--tls-cert", cert, "--tls-key", cert], "--tls-cert"),
    ] {
        let said = refused(args);
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
