//! Values that nobody may read back, of every kind there is, and everything in which none of them may be: each is planted where it is
//! used, and then looked for in all that is kept, told and handed out.

use super::gate::{host_of, panel, set_up};
use super::records;
use super::repositories::{condition, ground};
use super::world::{World, on, until};
use crate::support::browser::Browser;
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::git::GitHost;
use crate::support::outside::{MailServer, link};
use crate::support::{bare, devsanctum};
use base64::prelude::{BASE64_STANDARD, Engine};
use devsanctum::resource::{Project, Settings, Template};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// What was planted: its name, and what it is.
#[derive(Default)]
struct Planted {
    all: BTreeMap<&'static str, String>,
    folder: Option<tempfile::TempDir>,
}

impl Planted {
    /// One of our own making, for a place that takes any text.
    fn make(&mut self, name: &'static str) -> String {
        let value = format!("canary{:016x}{}", fastrand::u64(..), name.len());
        self.note(name, &value)
    }

    /// One that was made for us.
    fn note(&mut self, name: &'static str, value: &str) -> String {
        assert!(value.len() >= 10, "{name} is too short to be looked for: {value:?}");
        assert!(self.all.insert(name, value.to_owned()).is_none(), "{name} was planted before");
        value.to_owned()
    }

    /// How each may be written: as it is, in hexadecimal digits, and as base64 has it at any place of a longer text.
    fn words(&self) -> BTreeMap<String, &'static str> {
        let mut words = BTreeMap::new();
        for (name, value) in &self.all {
            words.insert(value.clone(), *name);
            words.insert(value.bytes().map(|b| format!("{b:02x}")).collect(), *name);
            for before in 0..3 {
                let text = BASE64_STANDARD.encode([vec![0; before], value.as_bytes().to_vec()].concat());
                // What else its first and last letters would say is not known.
                let (from, to) = ((before * 8).div_ceil(6), (before + value.len()) * 8 / 6);
                words.insert(text[from..to].to_owned(), *name);
            }
        }
        words
    }

    /// Which of them are in this.
    fn inside(&self, bytes: &[u8]) -> BTreeSet<&'static str> {
        let words = self.words();
        let folder = self.folder.as_ref().unwrap().path().join("words");
        std::fs::write(&folder, words.keys().map(|word| format!("{word}\n")).collect::<String>()).unwrap();
        let mut command = bare("grep");
        command.args(["-aoFf"]).arg(&folder).env("LC_ALL", "C");
        let mut grep = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, bytes) = (grep.stdin.take().unwrap(), bytes.to_vec());
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let found = grep.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        assert!(found.status.code() < Some(2), "grep fails");
        String::from_utf8_lossy(&found.stdout).lines().map(|word| words[word]).collect()
    }

    /// Which are in the files below a folder, by the file's path in it.
    fn files(&self, folder: &Path) -> BTreeMap<String, BTreeSet<&'static str>> {
        let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
        while let Some(at) = open.pop() {
            for entry in std::fs::read_dir(at).unwrap().flatten() {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    let held = self.inside(&std::fs::read(entry.path()).unwrap_or_default());
                    if !held.is_empty() {
                        found.insert(entry.path().strip_prefix(folder).unwrap().display().to_string(), held);
                    }
                }
            }
        }
        found
    }
}

fn secret(namespace: &str, name: &str, data: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "spec": {"data": data}})
}

async fn post(world: &World<'_>, path: &str, body: Value) -> Value {
    let asked = http::Request::post(path).header("content-type", "application/json").body(body.to_string().into_bytes()).unwrap();
    world.client.request(asked).await.unwrap()
}

/// A key as programs write it, and a line of it that is its own.
fn private_key(planted: &mut Planted, name: &'static str) -> String {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    planted.note(name, key.lines().nth(1).unwrap());
    key
}

/// Secrets that the platform uses, each where it is used.
async fn secrets(world: &World<'_>, planted: &mut Planted, mail: &MailServer, git: &GitHost) {
    let token = planted.make("git token");
    git.ask_for(&token);
    ground(world, git, json!([{"name": "web", "url": "web.git", "credentials": {"name": "git"}}])).await;
    world.create(secret("team", "git", json!({"token": token}))).await;
    let (plain, other) = (planted.make("value of a secret"), planted.make("value that was replaced"));
    world.create(secret("team", "app", json!({"password": other, "url": format!("postgres://app:{plain}@db/app")}))).await;
    let replaced = json!({"spec": {"data": {"password": planted.make("value that replaced it")}}});
    let api: Api<devsanctum::resource::Secret> = Api::namespaced(world.client.clone(), "team");
    api.patch("app", &PatchParams::default(), &Patch::Merge(replaced)).await.unwrap();
    let deploy = private_key(planted, "deploy key");
    world.create(secret("team", "deploy", json!({"sshKey": deploy}))).await;
    let sync = planted.make("token of a RepoSync");
    world.create(secret("ops", "sync", json!({"token": sync}))).await;
    world.create(secret("ops", "registry", json!({"username": "builder", "password": planted.make("registry password")}))).await;
    world
        .create(secret("ops", "smtp", json!({"username": "mailer", "password": planted.note("mail password", "post horse")})))
        .await;
    world.create(secret("ops", "github", json!({"clientSecret": planted.make("GitHub client secret")}))).await;
    world.create(secret("ops", "work", json!({"clientSecret": planted.make("OIDC client secret")}))).await;
    let key = private_key(planted, "engine client key");
    world.create(secret("ops", "engine", json!({"ca": "none", "cert": "none", "key": key}))).await;
    let of = |name: &str| json!({"namespace": "ops", "name": name});
    let spec = json!({
        "images": {"probe": TINY},
        "registries": [{"host": "127.0.0.1:5000", "credentials": of("registry")}],
        "mail": {"host": "127.0.0.1", "port": mail.port, "security": "NONE", "from": "ds@example.com", "credentials": of("smtp")},
        "providers": [
            {"name": "github", "type": "GITHUB", "label": "GitHub", "clientId": "Iv1.devsanctum", "clientSecret": of("github")},
            {"name": "work", "type": "OIDC", "label": "Work", "issuer": "https://127.0.0.1:1/", "clientId": "ds", "clientSecret": of("work"), "allowPrivate": true},
        ],
    });
    let settings: Api<Settings> = Api::all(world.client.clone());
    settings.patch("default", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    let far = json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": "far"},
        "spec": {"host": "127.0.0.1", "port": 1, "tls": {"enabled": true, "secret": of("engine")}}});
    world.create(far).await;
    let sync = json!({"apiVersion": "devsanctum.io/v1", "kind": "RepoSync", "metadata": {"name": "library"},
        "spec": {"url": "http://127.0.0.1:1/library.git", "credentials": of("sync")}});
    world.create(sync).await;
    // It is built, with whatever the builder is told.
    let templates: Api<Template> = Api::all(world.client.clone());
    let built = json!({"spec": {"dockerfile": "RUN echo layer > /layer"}});
    templates.patch("hello", &PatchParams::default(), &Patch::Merge(built)).await.unwrap();
}

/// What people are given, and what they type.
async fn people(world: &World<'_>, planted: &mut Planted, mail: &MailServer) {
    let panel = panel(world);
    let user = json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": "eve"}, "spec": {"email": "eve@example.com"}});
    world.create(user).await;
    let made = post(world, "/devsanctum/links", json!({"user": "eve"})).await;
    let path = made["path"].as_str().unwrap();
    planted.note("password link", path.rsplit('/').next().unwrap());
    let password = planted.make("password");
    let mut eve = Browser::new(world.web);
    assert_eq!(eve.submit(&format!("{panel}{path}"), &[("password", &password)]).await.code, 200);
    let wrong = planted.make("wrong password");
    let typed = planted.make("password typed as an address");
    for form in [[("email", "eve@example.com"), ("password", &wrong)], [("email", &typed), ("password", &wrong)]] {
        assert_eq!(Browser::new(world.web).submit(&format!("{panel}/login"), &form).await.code, 403);
    }
    let second = planted.make("second password");
    let form = [("old", password.as_str()), ("password", second.as_str())];
    assert_eq!(eve.submit(&format!("{panel}/account/password"), &form).await.code, 200);
    let jar = eve.jar["devsanctum.localhost"].clone();
    planted.note("session", &jar["__Host-ds_session"]);
    planted.note("known browser", &jar["__Host-ds_browser"]);
    let key = post(world, "/devsanctum/keys", json!({"name": "ci", "user": "eve"})).await;
    planted.note("API key", key["key"].as_str().unwrap());
    let invitation = json!({"apiVersion": "devsanctum.io/v1", "kind": "Invitation", "metadata": {"name": "bob"}, "spec": {"email": "bob@example.com"}});
    world.create(invitation).await;
    until("a mail", SOON, async || if mail.mails("bob@example.com").is_empty() { Err("none".into()) } else { Ok(()) }).await;
    planted.note("invitation", link(&mail.mails("bob@example.com")[0]).rsplit('/').next().unwrap());

    let projects: Api<Project> = Api::all(world.client.clone());
    let owned = json!({"spec": {"owner": "eve"}});
    projects.patch("team", &PatchParams::default(), &Patch::Merge(owned)).await.unwrap();
    let host = host_of(world, "w0").await;
    until("the way in", SOON, async || match eve.open(&format!("http://{host}:{}/", world.web.port())).await {
        page if page.code == 200 => Ok(()),
        page => Err(format!("{} {}", page.code, page.url)),
    })
    .await;
    planted.note("cookie of a workspace", &eve.jar[&host]["__Host-ds_ws"]);
    let share = post(world, "/devsanctum/shares", json!({"project": "team", "workspace": "w0"})).await;
    let url = share["url"].as_str().unwrap();
    planted.note("share link", url.split_once("token=").unwrap().1);
    let mut guest = Browser::new(world.web);
    assert_eq!(guest.open(url).await.code, 200);
    planted.note("cookie of a share link", &guest.jar[&host]["__Host-ds_share"]);
}

/// What this machine's state folder has of its own. Each has a file that it may be in.
fn own(world: &World<'_>, planted: &mut Planted) {
    for (name, file) in [("administrator token", "admin.token"), ("feed token", "feed.token"), ("key of secrets", "secret.key")] {
        let text = std::fs::read_to_string(world.state_dir().join(file)).unwrap();
        planted.note(name, text.trim());
    }
}

/// Lists of all kinds there are, and all else that an administrator can read.
async fn told(world: &World<'_>) -> String {
    let get = async |path: &str| {
        let asked = world.client.request_text(http::Request::get(path).body(vec![]).unwrap()).await;
        asked.unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let discovered: Value = serde_json::from_str(&get("/apis/devsanctum.io/v1").await).unwrap();
    let kinds = discovered["resources"].as_array().unwrap().iter().filter_map(|kind| kind["name"].as_str());
    let mut paths: Vec<String> =
        kinds.filter(|name| !name.contains('/')).map(|name| format!("/apis/devsanctum.io/v1/{name}")).collect();
    assert!(paths.len() >= 12, "{paths:?}");
    let others = [
        "/apis/events.k8s.io/v1/events",
        "/api/v1/namespaces",
        "/devsanctum/status",
        "/devsanctum/keys",
        "/devsanctum/audit",
        "/devsanctum/secrets",
        "/devsanctum/shares?project=team&workspace=w0",
        "/metrics",
    ];
    paths.extend(others.map(str::to_owned));
    let mut all = String::new();
    for path in paths {
        all += &get(&path).await;
    }
    for args in [
        &["audit", "list", "-o", "csv"][..],
        &["get", "secrets", "-n", "team", "-o", "yaml"],
        &["describe", "secret", "app", "-n", "team"],
    ] {
        let done = devsanctum().arg("--state-dir").arg(world.state_dir()).args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        all += &String::from_utf8_lossy(&done.stdout);
    }
    for known in ["\"keys\":", "set-password", "eve@example.com", "Invitation"] {
        assert!(all.contains(known), "{known} is not told: not all was read");
    }
    all
}

/// What Traefik is handed, and what it says it holds.
async fn of_traefik(world: &World<'_>, planted: &Planted) -> String {
    let at = world.traefik();
    let feed = format!("Bearer {}", planted.all["feed token"]);
    let get = async |at: std::net::SocketAddr, path: &str, more: &[(&str, &str)]| {
        let (code, text) = crate::support::traefik::request(at, &at.to_string(), path, more).await;
        assert_eq!(code, 200, "{path}");
        text
    };
    let handed = get(at.feed, "/traefik/config", &[("Authorization", feed.as_str())]).await;
    let held = get(at.api, "/api/rawdata", &[]).await;
    assert!(handed.contains("ds-gate-") && held.contains("ds-gate-"), "{handed:.500} {held:.500}");
    handed + &held
}

/// What the engine tells and keeps: of every thing, and of every layer.
async fn of_docker(world: &World<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let ids = |list: &[&str]| world.docker(list).split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let inspect = |kind: &str, ids: BTreeSet<String>| {
        assert!(!ids.is_empty(), "no {kind}");
        let args: Vec<&str> = ["inspect", "--type", kind].into_iter().chain(ids.iter().map(String::as_str)).collect();
        world.docker(&args).into_bytes()
    };
    let container = world.container("w0").await;
    let image = world.workspace("w0").await.status.unwrap().image.unwrap();
    let snapshot = "ds-test/canary-all:1";
    world.docker(&["commit", &container, snapshot]);
    let layers = world.daemon.try_docker(&["save", snapshot, &image]).stdout;
    world.docker(&["rmi", snapshot]);
    assert!(layers.windows(10).any(|b| b == b"echo layer"), "what was built is not there");
    let volumes = ids(&["volume", "ls", "-q"]);
    let mut all = vec![
        ("containers", inspect("container", ids(&["ps", "-aq"]))),
        ("networks", inspect("network", ids(&["network", "ls", "-q"]))),
        ("images", inspect("image", ids(&["images", "-q"]))),
        ("history", world.docker(&["history", "--no-trunc", &image]).into_bytes()),
        ("container's log", world.docker(&["logs", &container]).into_bytes()),
        ("layers", layers),
        ("engine's log", std::fs::read(world.daemon.data().parent().unwrap().join("log")).unwrap()),
    ];
    if !volumes.is_empty() {
        all.push(("volumes", inspect("volume", volumes)));
    }
    all
}

#[test]
fn what_nobody_may_read_back_is_in_nothing_that_is_kept_or_told() {
    // All that is on an engine is looked at: on one that others use, things come and go meanwhile.
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |world| {
        let mut planted = Planted { folder: Some(tempfile::tempdir().unwrap()), ..Planted::default() };
        let setup = std::fs::read_to_string(world.state_dir().join("setup.token")).unwrap();
        planted.note("set-up token", setup.trim());
        let root = set_up(&world).await;
        planted.note("administrator's session", &root.jar["devsanctum.localhost"]["__Host-ds_session"]);
        let (mail, git) = (MailServer::start(), GitHost::start());
        git.repository("web.git", &["main"]);
        world.create(json!({"apiVersion": "devsanctum.io/v1", "kind": "Template", "metadata": {"name": "plain"}, "spec": {"base": "node:22"}})).await;
        let ops = json!({"apiVersion": "devsanctum.io/v1", "kind": "Project", "metadata": {"name": "ops"}, "spec": {"owner": "root", "template": "plain"}});
        world.create(ops).await;
        secrets(&world, &mut planted, &mail, &git).await;
        let mut workspace = records::workspace("w0");
        workspace["spec"]["visibility"] = json!("PRIVATE");
        world.create(workspace).await;
        condition(&world, "Cloned").await;
        people(&world, &mut planted, &mail).await;
        own(&world, &mut planted);
        assert!(planted.all.len() >= 25, "{}", planted.all.len());

        // Whoever looks would see each, however it is written.
        let every: BTreeSet<&str> = planted.all.keys().copied().collect();
        for text in [
            planted.all.values().cloned().collect::<Vec<_>>().join(" "),
            planted
                .words()
                .into_keys()
                .filter(|word| !planted.all.values().any(|value| value == word))
                .collect::<Vec<_>>()
                .join("\n"),
            planted.all.values().map(|value| BASE64_STANDARD.encode(format!("user:{value}:"))).collect::<Vec<_>>().join("\n"),
        ] {
            assert_eq!(planted.inside(text.as_bytes()), every);
        }

        let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        let mut look = |what: &str, bytes: &[u8]| {
            // A container may have said nothing.
            assert!(what == "container's log" || bytes.len() > 20, "{what} is empty: {bytes:?}");
            let held = planted.inside(bytes);
            if !held.is_empty() {
                found.insert(what.to_owned(), held);
            }
        };
        look("the API", told(&world).await.as_bytes());
        look("Traefik", of_traefik(&world, &planted).await.as_bytes());
        for (what, bytes) in of_docker(&world).await {
            look(what, &bytes);
        }
        let backup = planted.folder.as_ref().unwrap().path().join("backup");
        let done = devsanctum().arg("--state-dir").arg(world.state_dir()).arg("backup").arg(&backup).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        look("a backup", &std::fs::read(&backup).unwrap());
        assert_eq!(found, BTreeMap::new());

        // Of the state folder's files, those alone that are there to hold one.
        let files = planted.files(world.state_dir());
        let allowed = [
            ("admin.token", &["administrator token"][..]),
            ("kubeconfig", &["administrator token"]),
            ("feed.token", &["feed token"]),
            ("traefik/traefik.yml", &["feed token"]),
            ("secret.key", &["key of secrets"]),
            ("setup.token", &["set-up token"]),
        ];
        let more: BTreeMap<_, _> = files
            .iter()
            .filter(|(file, held)| !allowed.iter().any(|(own, may)| own == file && held.iter().all(|name| may.contains(name))))
            .collect();
        assert!(more.is_empty(), "{more:#?}");
        assert!(files.contains_key("admin.token") && files.contains_key("secret.key"), "{files:#?}");
        // Both logs are among them; Traefik's has errors alone, if there were any.
        assert!(std::fs::metadata(world.state_dir().join("log")).is_ok_and(|meta| meta.len() > 1_000));
        assert!(world.state_dir().join("traefik/traefik.log").is_file());

        // Git's token is where git looks for it, in the container it was made for, and nowhere else there.
        let token = &planted.all["git token"];
        let looks = format!("for d in /*; do case $d in /proc | /sys | /dev) ;; *) grep -rlF {token} $d ;; esac; done | sort");
        assert_eq!(super::repositories::inside(&world, &looks).await, "/run/devsanctum/git/web");
        println!("canaries: {} planted: {}", every.len(), every.into_iter().collect::<Vec<_>>().join(", "));
    });
}
