//! People arrive: by mail, by providers of sign-in, by asking; through the real Traefik, npm's oidc-provider, a server that
//! speaks as GitHub does, and a mail server.

use super::gate::{panel, set_up};
use super::world::{World, in_world, until};
use crate::support::browser::{Answer, Browser};
use crate::support::outside::{GitHub, MailServer, OidcProvider, link};
use devsanctum::resource::{Group, Invitation, Settings, User};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

const PASSWORD: &str = "correct horse battery";
const PATIENCE: Duration = Duration::from_secs(30);

fn record(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

async fn secret(world: &World<'_>, name: &str, values: Value) {
    let mut secret = record("Secret", name, json!({"data": values}));
    secret["metadata"]["namespace"] = json!("ops");
    world.create(secret).await;
}

async fn set(world: &World<'_>, spec: Value) {
    let settings: Api<Settings> = Api::all(world.client.clone());
    settings.patch("default", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

/// A project for the platform's own secrets, and who makes it.
async fn ground(world: &World<'_>) -> Browser {
    let root = set_up(world).await;
    world.create(record("Settings", "default", json!({}))).await;
    world.create(record("Project", "ops", json!({"owner": "root", "template": "plain"}))).await;
    root
}

async fn mail_set(world: &World<'_>, server: &MailServer) {
    secret(world, "smtp", json!({"username": "mailer", "password": "post horse"})).await;
    let credentials = json!({"namespace": "ops", "name": "smtp"});
    let mail = json!({"host": "127.0.0.1", "port": server.port, "security": "NONE", "from": "DevSanctum <ds@example.com>", "credentials": credentials});
    set(world, json!({"mail": mail})).await;
}

/// The newest mail to an address, once there are so many.
async fn mail(server: &MailServer, to: &str, count: usize) -> String {
    until(&format!("mail {count} to {to}"), PATIENCE, async || match server.mails(to).len() {
        n if n == count => Ok(()),
        n => Err(format!("{n} mails")),
    })
    .await;
    server.mails(to).pop().unwrap()
}

async fn user(world: &World<'_>, name: &str) -> Option<User> {
    Api::<User>::all(world.client.clone()).get_opt(name).await.unwrap()
}

async fn invitation(world: &World<'_>, name: &str) -> Invitation {
    Api::<Invitation>::all(world.client.clone()).get(name).await.unwrap()
}

fn signed_in_as(answer: &Answer, name: &str) {
    assert!(
        answer.code == 200 && answer.body.contains(&format!(">{name}</a>")),
        "{} {} {}",
        answer.code,
        answer.url,
        answer.body
    );
}

#[test]
fn people_come_by_mail() {
    in_world(async |mut world| {
        world.create(record("Template", "plain", json!({"base": "node:22"}))).await;
        let _root = ground(&world).await;
        let (server, home) = (MailServer::start(), format!("{}/", panel(&world)));
        // Nothing is lost while there is nobody to send it.
        world.create(record("Group", "devs", json!({"members": []}))).await;
        let spec = json!({"email": "Ada@example.com", "role": "USER", "groups": ["devs"]});
        world.create(record("Invitation", "ada", spec)).await;
        until("a condition that says why", PATIENCE, async || {
            let status = invitation(&world, "ada").await.status.unwrap_or_default();
            let message = status.message.unwrap_or_default();
            if message.contains("no mail server is set") { Ok(()) } else { Err(message) }
        })
        .await;
        mail_set(&world, &server).await;
        let first = mail(&server, "Ada@example.com", 1).await;
        assert!(first.contains("From: DevSanctum <ds@example.com>") && first.contains("Content-Type: text/html"), "{first}");

        // Sent anew: the link before is worth nothing. So is one that is another's, or cut short.
        let wish = json!({"metadata": {"annotations": {"devsanctum.io/resend": "1"}}});
        let api: Api<Invitation> = Api::all(world.client.clone());
        api.patch("ada", &PatchParams::default(), &Patch::Merge(wish)).await.unwrap();
        let second = link(&mail(&server, "Ada@example.com", 2).await);
        let mut browser = Browser::new(world.web);
        for dead in [link(&first), second[..second.len() - 1].to_owned(), format!("{second}x")] {
            assert_eq!(browser.open(&dead).await.code, 404, "{dead}");
        }
        let page = browser.open(&second).await;
        assert!(page.code == 200 && page.body.contains("Ada@example.com"), "{}", page.body);
        let form = |name: &'static str, password: &'static str| [("name", name), ("password", password)];
        assert_eq!(browser.submit(&second, &form("Not A Name", PASSWORD)).await.code, 422);
        assert_eq!(browser.submit(&second, &form("ada", "password")).await.code, 422, "a common password");
        assert_eq!(browser.submit(&second, &form("ada", "Ada-localhost")).await.code, 422, "a name that is known here");
        assert_eq!(browser.submit(&second, &form("root", PASSWORD)).await.code, 409, "somebody else's name");
        assert_eq!(browser.submit(&second, &form("ada", PASSWORD)).await.code, 200);
        signed_in_as(&browser.open(&home).await, "ada");
        assert_eq!(Browser::new(world.web).submit(&second, &form("eve", PASSWORD)).await.code, 404, "it works once");
        let ada = user(&world, "ada").await.unwrap();
        assert_eq!((ada.spec.email.as_str(), ada.status.unwrap().provider.as_deref()), ("Ada@example.com", Some("LOCAL")));
        let group = Api::<Group>::all(world.client.clone()).get("devs").await.unwrap();
        assert_eq!(group.spec.members.iter().map(|m| m.user.as_str()).collect::<Vec<_>>(), ["ada"]);
        let told = invitation(&world, "ada").await.status.unwrap();
        assert_eq!((told.user.as_deref(), told.times_sent, told.accepted_at.is_some()), (Some("ada"), 2, true));

        withdrawn_and_refused(&world, &server).await;
        forgotten(&world, &server).await;
        asked_for(&world, &server).await;
        refused_at_once(&world).await;
        trusted(&mut world, &server).await;
    });
}

/// An invitation that is deleted, one that was for another address, and one that the server takes later, or never.
async fn withdrawn_and_refused(world: &World<'_>, server: &MailServer) {
    let api: Api<Invitation> = Api::all(world.client.clone());
    world.create(record("Invitation", "bob", json!({"email": "bob@example.com"}))).await;
    let bobs = link(&mail(server, "bob@example.com", 1).await);
    let body = json!({"spec": {"email": "bob2@example.com"}});
    api.patch("bob", &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    let second = link(&mail(server, "bob2@example.com", 1).await);
    let mut browser = Browser::new(world.web);
    assert_eq!(browser.open(&bobs).await.code, 404, "it was for another address");
    assert_eq!(browser.open(&second).await.code, 200);
    api.delete("bob", &DeleteParams::default()).await.unwrap();
    assert_eq!(browser.open(&second).await.code, 404, "it is withdrawn");
    world.create(record("Invitation", "later", json!({"email": "later@example.com"}))).await;
    mail(server, "later@example.com", 1).await;
    world.create(record("Invitation", "never", json!({"email": "refused@example.com"}))).await;
    until("the server's own words", PATIENCE, async || {
        let message = invitation(world, "never").await.status.unwrap_or_default().message.unwrap_or_default();
        if message.contains("there is nobody of that name") { Ok(()) } else { Err(message) }
    })
    .await;
}

/// A new password for a forgotten one; nobody learns who has an account.
async fn forgotten(world: &World<'_>, server: &MailServer) {
    let (panel, before) = (panel(world), server.mails("Ada@example.com").len());
    let mut browser = Browser::new(world.web);
    let forgot = format!("{panel}/forgot");
    let known = browser.submit(&forgot, &[("email", "ada@example.com")]).await;
    let unknown = browser.submit(&forgot, &[("email", "nobody@example.com")]).await;
    assert_eq!((known.code, known.body.replace("ada@", "nobody@")), (unknown.code, unknown.body));
    let reset = link(&mail(server, "ada@example.com", 1).await);
    assert_eq!(server.mails("Ada@example.com").len(), before);
    assert!(reset.starts_with(&format!("{panel}/password/")), "{reset}");
    assert_eq!(browser.submit(&reset, &[("password", "another horse battery")]).await.code, 200);
    signed_in_as(&browser.open(&format!("{panel}/")).await, "ada");
    assert_eq!(browser.submit(&reset, &[("password", "another horse battery")]).await.code, 403, "it works once");
    let sign_in = async |password: &'static str| {
        let mut browser = Browser::new(world.web);
        browser.submit(&format!("{panel}/login"), &[("email", "ada@example.com"), ("password", password)]).await.code
    };
    assert_eq!((sign_in(PASSWORD).await, sign_in("another horse battery").await), (403, 200));
    assert!(server.mails("nobody@example.com").is_empty());
}

/// Somebody asks for an account: refused until that is open to all, and then confirmed by mail.
async fn asked_for(world: &World<'_>, server: &MailServer) {
    let panel = panel(world);
    let (register, mut browser) = (format!("{panel}/register"), Browser::new(world.web));
    let form = |name: &'static str, email: &'static str| [("name", name), ("email", email)];
    let chosen = |name: &'static str| [("name", name), ("password", PASSWORD)];
    assert_eq!(browser.open(&register).await.code, 404);
    assert_eq!(browser.submit(&register, &form("carol", "carol@example.com")).await.code, 404);
    set(world, json!({"registration": "OPEN"})).await;
    let fresh = browser.submit(&register, &form("ada", "carol@example.com")).await;
    let known = browser.submit(&register, &form("carol", "ada@example.com")).await;
    assert_eq!((fresh.code, fresh.body.replace("carol@", "ada@")), (known.code, known.body));
    let told = mail(server, "ada@example.com", 2).await;
    assert!(told.contains("You have an account already"), "{told}");
    let confirm = link(&mail(server, "carol@example.com", 1).await);
    assert!(user(world, "carol").await.is_none());
    let page = browser.open(&confirm).await;
    assert!(page.code == 200 && page.body.contains("carol@example.com"), "{}", page.body);
    assert_eq!(browser.submit(&confirm, &chosen("ada")).await.code, 409, "a name that is taken is chosen anew");
    assert_eq!(browser.submit(&confirm, &chosen("carol")).await.code, 200);
    signed_in_as(&browser.open(&format!("{panel}/")).await, "carol");
    assert_eq!(browser.submit(&confirm, &chosen("carol2")).await.code, 404, "it works once");
    set(world, json!({"registration": "INVITATION"})).await;
}

/// Has a mail sent to see what comes of it.
async fn test_mail(world: &World<'_>, to: &str) -> kube::Result<Value> {
    let body = json!({"to": to}).to_string().into_bytes();
    let asked = http::Request::post("/devsanctum/mail").header("content-type", "application/json").body(body).unwrap();
    world.client.request::<Value>(asked).await
}

/// Where the machine trusts mail servers' certificates, mail goes over STARTTLS to the one that is whose it says, and to no other.
async fn trusted(world: &mut World<'_>, other: &MailServer) {
    let own = MailServer::known_as("127.0.0.1");
    let both = tempfile::NamedTempFile::new().unwrap();
    let certificates = [own.certificate(), other.certificate()].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(both.path(), certificates.concat()).unwrap();
    world.kill();
    world.launch_with(&[], &[("SSL_CERT_FILE", both.path().display().to_string())]);
    world.ready().await;
    let before = other.mails("ada@example.com").len();
    let refused = test_mail(world, "ada@example.com").await.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "localhost's is not 127.0.0.1's: {refused}");
    assert_eq!(other.mails("ada@example.com").len(), before);
    set(world, json!({"mail": {"port": own.port, "security": "STARTTLS"}})).await;
    assert_eq!(test_mail(world, "ada@example.com").await.unwrap()["to"], "ada@example.com");
    assert_eq!(own.mails("ada@example.com").len(), 1);
}

/// A mail server that cannot be believed is not given a password.
async fn refused_at_once(world: &World<'_>) {
    let ask = async |to: &str| test_mail(world, to).await;
    assert_eq!(ask("ada@example.com").await.unwrap()["to"], "ada@example.com");
    assert!(ask("refused@example.com").await.unwrap_err().to_string().contains("there is nobody of that name"));
    set(world, json!({"mail": {"security": "STARTTLS"}})).await;
    let untrusted = ask("ada@example.com").await.unwrap_err().to_string();
    assert!(untrusted.contains("certificate"), "{untrusted}");
}

struct Town {
    hub: GitHub,
    oidc: OidcProvider,
    panel: String,
}

/// A panel with both providers.
async fn providers(world: &World<'_>) -> Town {
    let panel = panel(world);
    let hub = GitHub::default();
    let at = hub.start().await;
    let oidc = OidcProvider::start(&[&format!("{panel}/sign-in/work/callback")]);
    secret(world, "hub", json!({"clientSecret": "hush"})).await;
    secret(world, "work", json!({"clientSecret": "a secret: with / all + sorts"})).await;
    let at_secret = |name: &str| json!({"namespace": "ops", "name": name});
    let providers = json!([
        {"name": "hub", "type": "GITHUB", "label": "The Hub", "clientId": "Iv1.devsanctum", "clientSecret": at_secret("hub"), "issuer": at, "allowPrivate": true},
        {"name": "work", "type": "OIDC", "clientId": "devsanctum", "clientSecret": at_secret("work"), "issuer": oidc.issuer, "allowPrivate": true},
    ]);
    set(world, json!({"providers": providers})).await;
    Town { hub, oidc, panel }
}

/// Where the page leads that comes after a form.
fn led_to(page: &Answer) -> String {
    let at = page.body.find("url=").unwrap_or_else(|| panic!("{} {}", page.head, page.body)) + 4;
    page.body[at..].split('"').next().unwrap().replace("&amp;", "&")
}

impl Town {
    /// Sends the form that leads to a provider, and gives the address there. `way` is written as an address.
    async fn set_out(&self, browser: &mut Browser, way: &str) -> String {
        let (path, fields) = way.split_once('?').unwrap_or((way, ""));
        let fields: Vec<_> = fields.split('&').filter_map(|pair| pair.split_once('=')).collect();
        led_to(&browser.submit(&format!("{}{path}", self.panel), &fields).await)
    }

    /// Goes to GitHub as somebody, and gives the address that leads back.
    async fn to_hub(&self, browser: &mut Browser, way: &str, login: &str) -> String {
        let url = self.set_out(browser, way).await;
        let asked = browser.send("GET", &format!("{url}&login={login}"), &[], "").await;
        asked.header("location").unwrap_or_else(|| panic!("{} {}", asked.head, asked.body)).to_owned()
    }

    async fn by_hub(&self, browser: &mut Browser, way: &str, login: &str) -> Answer {
        let back = self.to_hub(browser, way, login).await;
        browser.open(&back).await
    }

    /// Signs in at the OIDC provider, through its own pages, and comes back.
    async fn by_oidc(&self, browser: &mut Browser, way: &str, login: &str) -> Answer {
        let back = self.back_from_oidc(browser, way, login).await;
        browser.open(&back).await
    }

    /// The address that leads back. The provider asks who it is, and whether they agree, unless it knows.
    async fn back_from_oidc(&self, browser: &mut Browser, way: &str, login: &str) -> String {
        let callback = format!("{}/sign-in/work/callback", self.panel);
        let there = self.set_out(browser, way).await;
        let mut answer = browser.send("GET", &there, &[("Accept", "text/html")], "").await;
        for _ in 0..20 {
            if let Some(to) = answer.header("location").map(str::to_owned) {
                if to.starts_with(&callback) {
                    return to;
                }
                let to = if to.starts_with('/') { format!("{}{to}", self.oidc.issuer) } else { to };
                answer = browser.send("GET", &to, &[("Accept", "text/html")], "").await;
                continue;
            }
            let at = answer.body.find("action=\"").unwrap_or_else(|| panic!("{} {}", answer.url, answer.body)) + 8;
            let action = answer.body[at..].split('"').next().unwrap().to_owned();
            let url = if action.starts_with('/') { format!("{}{action}", self.oidc.issuer) } else { action };
            let fields: &[_] = match answer.body.contains("name=\"login\"") {
                true => &[("prompt", "login"), ("login", login), ("password", "any")],
                false => &[("prompt", "consent")],
            };
            answer = browser.submit(&url, fields).await;
        }
        panic!("not led back: {} {}", answer.url, answer.body);
    }
}

fn address(name: &str, verified: bool) -> Value {
    json!([{"email": format!("{name}-old@example.com"), "primary": false, "verified": true}, {"email": format!("{name}@example.com"), "primary": true, "verified": verified}])
}

#[test]
fn people_come_by_providers() {
    in_world(async |world| {
        world.create(record("Template", "plain", json!({"base": "node:22"}))).await;
        let mut root = ground(&world).await;
        let town = providers(&world).await;
        let server = MailServer::start();
        mail_set(&world, &server).await;
        let home = format!("{}/", town.panel);
        town.hub.person("octo", 1, address("octo", true));

        // A stranger at an installation that is by invitation.
        let mut stranger = Browser::new(world.web);
        assert_eq!(town.by_hub(&mut stranger, "/sign-in/hub?next=/", "octo").await.code, 403);
        assert_eq!(town.by_oidc(&mut stranger, "/sign-in/work?next=/", "ivy").await.code, 403);
        assert_eq!(stranger.open(&format!("{}/sign-in/nothing", town.panel)).await.code, 404);
        assert!(user(&world, "octo").await.is_none() && user(&world, "ivy").await.is_none());
        nobody_is_sent_out_by_others(&world, &town).await;

        // Invited: their account is of the address of the invitation, whatever the provider says.
        world.create(record("Invitation", "octo", json!({"email": "octavia@example.com", "role": "ADMIN"}))).await;
        let invited = link(&mail(&server, "octavia@example.com", 1).await);
        let token = invited.rsplit('/').next().unwrap().to_owned();
        let mut octo = Browser::new(world.web);
        assert!(octo.open(&invited).await.body.contains("Go on with The Hub"));
        assert_eq!(town.by_hub(&mut octo, &format!("/sign-in/hub?invitation={token}"), "octo").await.code, 200);
        signed_in_as(&octo.open(&home).await, "octo");
        let made = user(&world, "octo").await.unwrap();
        assert_eq!(made.spec.email, "octavia@example.com");
        assert_eq!(serde_json::to_value(made.spec.role).unwrap(), "ADMIN");
        let mut again = Browser::new(world.web);
        assert_eq!(town.by_hub(&mut again, &format!("/sign-in/hub?invitation={token}"), "octo").await.code, 404, "it works once");
        known_already(&world, &town, &server).await;
        // Known by the number, whatever the name.
        town.hub.person("renamed", 1, address("else", true));
        assert_eq!(town.by_hub(&mut again, "/sign-in/hub?next=/account", "renamed").await.code, 200);
        signed_in_as(&again.open(&home).await, "octo");
        // And another who has taken the name is nobody.
        town.hub.person("octo", 2, address("octavia", true));
        assert_eq!(town.by_hub(&mut Browser::new(world.web), "/sign-in/hub", "octo").await.code, 403);

        open_to_all(&world, &town).await;
        connected(&world, &town, &mut root).await;
        swapped_and_replayed(&world, &town).await;
        // Somebody who is shut out is, by whatever way they come.
        let users: Api<User> = Api::all(world.client.clone());
        users.patch("octo", &PatchParams::default(), &Patch::Merge(json!({"spec": {"active": false}}))).await.unwrap();
        assert_eq!(town.by_hub(&mut Browser::new(world.web), "/sign-in/hub", "renamed").await.code, 403);
        let secrets = ["hush", "a secret: with", "gho_renamed"];
        assert!(!secrets.iter().any(|secret| world.log_tail().contains(secret)));
    });
}

/// Whom the provider knows as somebody here has no second account by an invitation, and nothing of it is used up.
async fn known_already(world: &World<'_>, town: &Town, server: &MailServer) {
    world.create(record("Invitation", "second", json!({"email": "second@example.com"}))).await;
    let invited = link(&mail(server, "second@example.com", 1).await);
    let way = format!("/sign-in/hub?invitation={}", invited.rsplit('/').next().unwrap());
    let before = Api::<User>::all(world.client.clone()).list(&ListParams::default()).await.unwrap().items.len();
    let mut octo = Browser::new(world.web);
    let refused = town.by_hub(&mut octo, &way, "octo").await;
    assert!(refused.code == 409 && refused.body.contains("you have an account already"), "{} {}", refused.code, refused.body);
    assert!(!octo.jar["devsanctum.localhost"].contains_key("__Host-ds_session"), "nor are they signed in by it");
    assert_eq!(Api::<User>::all(world.client.clone()).list(&ListParams::default()).await.unwrap().items.len(), before);
    assert!(invitation(world, "second").await.status.unwrap().accepted_at.is_none());
    let mut second = Browser::new(world.web);
    assert_eq!(second.submit(&invited, &[("name", "second"), ("password", PASSWORD)]).await.code, 200);
    signed_in_as(&second.open(&format!("{}/", town.panel)).await, "second");
    assert_eq!(user(world, "second").await.unwrap().spec.email, "second@example.com");
}

/// No link and no form of others begins a session: an address of ours leads to the sign-in page, and no further.
async fn nobody_is_sent_out_by_others(world: &World<'_>, town: &Town) {
    let mut browser = Browser::new(world.web);
    let attempts =
        |browser: &Browser| browser.jar.get("devsanctum.localhost").is_some_and(|jar| jar.contains_key("__Host-ds_attempt"));
    let hub = format!("{}/sign-in/hub", town.panel);
    for (asked, leads) in [
        ("?next=/account", "/login?next=%2Faccount"),
        ("", "/login?next=%2F"),
        ("?next=https://evil.example.com", "/login?next=%2F"),
        ("?invitation=abc", "/invitation/abc"),
    ] {
        let answer = browser.send("GET", &format!("{hub}{asked}"), &[("Accept", "text/html")], "").await;
        assert_eq!((answer.code, answer.header("location")), (302, Some(leads)), "{asked}");
    }
    let page = browser.open(&format!("{hub}?next=/account")).await;
    assert!(
        page.body.contains("<form method=\"post\" action=\"/sign-in/hub\">") && page.body.contains("/account"),
        "{}",
        page.body
    );
    for origin in ["http://evil.example.com", "null", "http://w.devsanctum.localhost"] {
        let headers = [("Origin", origin), ("Content-Type", "application/x-www-form-urlencoded")];
        assert_eq!(browser.send("POST", &hub, &headers, "next=%2F").await.code, 403, "{origin}");
    }
    assert!(!attempts(&browser));
    town.set_out(&mut browser, "/sign-in/hub?next=/").await;
    assert!(attempts(&browser));
}

/// Where anybody may make an account, a provider's word for an address is enough for a new one, and never for an old one.
async fn open_to_all(world: &World<'_>, town: &Town) {
    set(world, json!({"registration": "OPEN"})).await;
    let mut ivy = Browser::new(world.web);
    assert_eq!(town.by_oidc(&mut ivy, "/sign-in/work?next=/", "ivy").await.code, 200);
    signed_in_as(&ivy.open(&format!("{}/", town.panel)).await, "ivy");
    let made = user(world, "ivy").await.unwrap();
    assert_eq!((made.spec.email.as_str(), made.spec.display_name.as_deref()), ("ivy@example.com", Some("The ivy")));
    assert_eq!(made.status.unwrap().provider.as_deref(), Some("WORK"));
    assert_eq!(town.by_oidc(&mut Browser::new(world.web), "/sign-in/work", "unsure").await.code, 403, "not confirmed there");
    town.hub.person("ivy", 3, address("ivy", true));
    let refused = town.by_hub(&mut Browser::new(world.web), "/sign-in/hub", "ivy").await;
    assert_eq!(refused.code, 403, "the address is no proof");
    assert!(refused.body.contains("an account of your e-mail address here already"), "{}", refused.body);
    // A name that is taken becomes another one.
    town.hub.person("root", 4, address("rudy", true));
    assert_eq!(town.by_hub(&mut Browser::new(world.web), "/sign-in/hub", "root").await.code, 200);
    assert_eq!(user(world, "root-2").await.unwrap().spec.email, "rudy@example.com");
    let before = Api::<User>::all(world.client.clone()).list(&ListParams::default()).await.unwrap().items.len();
    town.hub.person("unsure", 5, address("unsure", false));
    assert_eq!(town.by_hub(&mut Browser::new(world.web), "/sign-in/hub", "unsure").await.code, 403);
    assert_eq!(Api::<User>::all(world.client.clone()).list(&ListParams::default()).await.unwrap().items.len(), before);
}

/// Who is signed in has a provider know them, and not any more.
async fn connected(world: &World<'_>, town: &Town, root: &mut Browser) {
    town.hub.person("the-root", 6, address("root", true));
    let connect = format!("{}/sign-in/hub/connect", town.panel);
    let url = led_to(&root.submit(&connect, &[]).await);
    let asked = root.send("GET", &format!("{url}&login=the-root"), &[], "").await;
    let back = asked.header("location").unwrap().to_owned();
    // It is only for whom it was begun.
    assert_eq!(Browser::new(world.web).open(&back).await.code, 403);
    let url = led_to(&root.submit(&connect, &[]).await);
    let asked = root.send("GET", &format!("{url}&login=the-root"), &[], "").await;
    let account = root.open(asked.header("location").unwrap()).await;
    assert!(account.code == 200 && account.body.contains("the-root"), "{} {}", account.url, account.body);
    let mut other = Browser::new(world.web);
    assert_eq!(town.by_hub(&mut other, "/sign-in/hub", "the-root").await.code, 200);
    signed_in_as(&other.open(&format!("{}/", town.panel)).await, "root");
    let issuer = town.hub_address(world).await;
    let gone = root.submit(&format!("{}/account/disconnect", town.panel), &[("issuer", &issuer)]).await;
    assert_eq!(gone.code, 302, "{}", gone.body);
    let mut octo = Browser::new(world.web);
    assert_eq!(town.by_hub(&mut octo, "/sign-in/hub", "renamed").await.code, 200);
    let kept = octo.submit(&format!("{}/account/disconnect", town.panel), &[("issuer", &issuer)]).await;
    assert!(kept.code == 403 && kept.body.contains("only way in"), "{}", kept.body);
}

impl Town {
    async fn hub_address(&self, world: &World<'_>) -> String {
        let settings = Api::<Settings>::all(world.client.clone()).get("default").await.unwrap();
        settings.spec.providers[0].issuer.clone().unwrap()
    }
}

/// States and codes of others, used ones, and answers that say they are from elsewhere.
async fn swapped_and_replayed(world: &World<'_>, town: &Town) {
    let fresh = || Browser::new(world.web);
    // Used before, and by another browser.
    let mut ivy = fresh();
    let back = town.back_from_oidc(&mut ivy, "/sign-in/work", "ivy").await;
    assert_eq!(fresh().open(&back).await.code, 403, "another browser's");
    assert_eq!(ivy.open(&back).await.code, 403, "and that used it up");
    let back = town.back_from_oidc(&mut ivy, "/sign-in/work", "ivy").await;
    assert_eq!(ivy.open(&back).await.code, 200);
    assert_eq!(ivy.open(&back).await.code, 403, "used");
    // Of another attempt of the same browser: its state with the other's code.
    let (mut one, mut two) = (fresh(), fresh());
    let first = town.back_from_oidc(&mut one, "/sign-in/work", "ivy").await;
    let second = town.back_from_oidc(&mut two, "/sign-in/work", "ivy").await;
    let part = |url: &str, name: &str| {
        let at = url.find(&format!("{name}=")).unwrap();
        url[at..].split('&').next().unwrap().to_owned()
    };
    let swapped = first.replace(&part(&first, "code"), &part(&second, "code"));
    assert_ne!(swapped, first);
    assert_eq!(one.open(&swapped).await.code, 403, "its verifier is not that code's");
    // From another issuer, to another provider's address, without a state, with an error, without a code.
    for change in [
        |url: &str| url.replace("iss=", "iss=x"),
        |url: &str| url.replace("/sign-in/work/", "/sign-in/hub/"),
        |url: &str| url.replace("state=", "state=x"),
        |url: &str| url.replace("code=", "error=access_denied&code="),
        |url: &str| url.replace("code=", "xcode="),
        |url: &str| url.replace("code=", "code=x"),
    ] {
        let mut browser = fresh();
        let back = town.back_from_oidc(&mut browser, "/sign-in/work", "ivy").await;
        let changed = change(&back);
        assert_ne!(changed, back);
        let answer = browser.open(&changed).await;
        assert!([403, 502].contains(&answer.code), "{changed}: {}", answer.code);
        assert!(!browser.jar.get("devsanctum.localhost").is_some_and(|jar| jar.contains_key("__Host-ds_session")), "{changed}");
    }
}
