//! `devsanctum login`: from a terminal by a browser, through the real Traefik; and what kubectl makes of it.

use super::gate::{panel, person, set_up};
use super::records;
use super::ssh::ran;
use super::world::{World, in_world};
use crate::support::browser::Browser;
use crate::support::{bare, devsanctum, kubectl, open_to_others};
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// A terminal with a folder of its own.
struct Terminal {
    dir: tempfile::TempDir,
}

/// A `login` that waits.
struct Waiting {
    child: Child,
    words: Lines<BufReader<ChildStderr>>,
    address: String,
    code: String,
}

impl Terminal {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    async fn says(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = devsanctum();
        command.arg("--state-dir").arg(self.state()).args(args);
        command.env("HOME", self.dir.path()).env("KUBECONFIG", self.dir.path().join("config"));
        ran(command, b"").await
    }

    /// kubectl, with the kubeconfig of this name.
    async fn kubectl(&self, kubeconfig: &Path, args: &[&str]) -> (i32, String, String) {
        let mut command = bare(kubectl::new());
        command.env("HOME", self.dir.path()).env("KUBECONFIG", kubeconfig).args(args);
        ran(command, b"").await
    }

    async fn login(&self, panel: &str) -> Waiting {
        let mut command = Command::from(devsanctum());
        command.arg("--state-dir").arg(self.state()).args(["login", panel, "--no-browser"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut line = async || words.next_line().await.unwrap().expect("it has ended");
        let (first, second) = (line().await, line().await);
        let address = first.strip_prefix("open ").unwrap_or_else(|| panic!("{first} {second}")).to_owned();
        let code = second.strip_prefix("and allow the code ").unwrap_or_else(|| panic!("{second}"))[..9].to_owned();
        Waiting { child, words, address, code }
    }
}

impl Waiting {
    async fn end(mut self) -> (i32, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        while let Some(line) = self.words.next_line().await.unwrap() {
            err += &line;
            err.push('\n');
        }
        (self.child.wait().await.unwrap().code().unwrap_or(-1), out, err)
    }

    async fn answered(self, world: &World<'_>, browser: &mut Browser, answer: &str) -> (i32, String, String) {
        let form = [("code", self.code.as_str()), ("answer", answer)];
        let done = browser.submit(&format!("{}/device/approve", panel(world)), &form).await;
        assert_eq!(done.code, 200, "{}", done.body);
        let again = browser.submit(&format!("{}/device/approve", panel(world)), &form).await;
        assert_eq!(again.code, 404, "a code is answered once");
        self.end().await
    }
}

#[test]
fn a_terminal_signs_in_by_a_browser_and_kubectl_works_as_that_user() {
    in_world(async |world| {
        world.create(records::template("hello")).await;
        let _root = set_up(&world).await;
        let (mut ada, mut bob) = (person(&world, "ada").await, person(&world, "bob").await);
        for (name, owner) in [("of-ada", "ada"), ("of-bob", "bob")] {
            let mut project = records::project(name, "hello");
            project["spec"] = json!({"owner": owner, "template": "hello", "visibility": "PRIVATE"});
            world.create(project).await;
        }
        let (terminal, panel) = (Terminal::new(), panel(&world));

        // A browser that is not signed in is led by the sign-in page, and back.
        let waiting = terminal.login(&panel).await;
        let mut fresh = Browser::new(world.web);
        let led = fresh.open(&waiting.address).await;
        assert!(led.url.starts_with(&format!("{panel}/login?next=")) && led.body.contains("/device?code="), "{}", led.url);
        let shown = ada.open(&waiting.address).await;
        assert!(
            shown.code == 200 && shown.body.contains("devsanctum on ") && shown.body.contains(&waiting.code),
            "{}",
            shown.body
        );
        assert!(shown.body.contains("127.0.0.1"), "{}", shown.body);
        let form = [("code", waiting.code.as_str()), ("answer", "allow")];
        assert_eq!(fresh.submit(&format!("{panel}/device/approve"), &form).await.code, 302, "nobody allows nothing");
        let (code, out, err) = waiting.answered(&world, &mut ada, "allow").await;
        assert!(code == 0 && out.starts_with("signed in as ada until "), "{out}{err}");
        let (state, text) = (terminal.state(), std::fs::read_to_string(terminal.state().join("kubeconfig")).unwrap());
        for file in ["kubeconfig", "credential.json"] {
            assert_eq!(open_to_others(&state.join(file)), Vec::<String>::new());
        }
        assert!(!text.contains("dsk_"), "the key is where the kubeconfig's program finds it: {text}");

        works_as_ada(&terminal).await;
        merged(&terminal).await;
        ended(&world, &terminal, &mut ada).await;
        not_let_in(&world, &terminal, &mut bob).await;
    });
}

async fn works_as_ada(terminal: &Terminal) {
    let (code, out, err) = terminal.says(&["get", "projects", "-o", "name"]).await;
    assert!(code == 0 && out.contains("of-ada") && !out.contains("of-bob"), "{out}{err}");
    let kubeconfig = terminal.state().join("kubeconfig");
    let (code, out, err) = terminal.kubectl(&kubeconfig, &["get", "projects", "-o", "name"]).await;
    assert!(code == 0 && out.contains("of-ada") && !out.contains("of-bob"), "{out}{err}");
    let (code, out, err) = terminal.says(&["credential"]).await;
    let credential: Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && credential["status"]["token"].as_str().unwrap().starts_with("dsk_"), "{err}");
}

async fn merged(terminal: &Terminal) {
    let (code, out, err) = terminal.says(&["kubeconfig", "--merge"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let config = terminal.dir.path().join("config");
    let (code, out, err) = terminal.kubectl(&config, &["--context", "devsanctum", "get", "projects", "-o", "name"]).await;
    assert!(code == 0 && out.contains("of-ada"), "{out}{err}");
}

/// By its holder, by an administrator, and by time.
async fn ended(world: &World<'_>, terminal: &Terminal, ada: &mut Browser) {
    let (code, out, err) = terminal.says(&["logout"]).await;
    assert!(code == 0 && out.contains("ada is signed out"), "{out}{err}");
    for file in ["kubeconfig", "credential.json"] {
        assert!(!terminal.state().join(file).exists(), "{file}");
    }
    assert!(keys(world).await.is_empty());
    let (code, _, err) = terminal.kubectl(&terminal.dir.path().join("config"), &["get", "projects"]).await;
    assert!(code != 0 && err.contains("devsanctum login"), "{err}");
    let (code, _, err) = terminal.says(&["logout"]).await;
    assert!(code == 1 && err.contains("nobody is signed in here"), "{err}");

    let waiting = terminal.login(&panel(world)).await;
    let (code, out, err) = waiting.answered(world, ada, "allow").await;
    assert_eq!(code, 0, "{out}{err}");
    let path = terminal.state().join("credential.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut held: Value = serde_json::from_str(&text).unwrap();
    held["expiresAt"] = json!("2020-01-01T00:00:00Z");
    std::fs::write(&path, held.to_string()).unwrap();
    let (code, _, err) = terminal.says(&["get", "projects"]).await;
    let told = "ada's sign-in at http://devsanctum.localhost";
    assert!(code == 1 && err.contains(told) && err.contains("devsanctum login http://") && !err.contains("dsk_"), "{err}");
    let (code, _, err) = terminal.kubectl(&terminal.state().join("kubeconfig"), &["get", "projects"]).await;
    assert!(code != 0 && err.contains("devsanctum login http://"), "{err}");

    std::fs::write(&path, text).unwrap();
    for id in keys(world).await {
        let asked = http::Request::delete(format!("/devsanctum/keys/{id}")).body(vec![]).unwrap();
        world.client.request::<Value>(asked).await.unwrap();
    }
    super::world::until("the key to be over", super::world::PATIENCE, async || match terminal.says(&["get", "projects"]).await {
        (1, _, err) if err.contains("devsanctum login PANEL") => Ok(()),
        (code, out, err) => Err(format!("{code} {out}{err}")),
    })
    .await;
    let (code, out, err) = terminal.says(&["logout"]).await;
    assert!(code == 0 && !path.exists(), "one that has ended already is no trouble: {out}{err}");
}

/// Ids of all keys.
async fn keys(world: &World<'_>) -> Vec<String> {
    let told: Value = world.client.request(http::Request::get("/devsanctum/keys").body(vec![]).unwrap()).await.unwrap();
    told["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
}

/// Refused, of somebody who is no more, and into a folder that is another's.
async fn not_let_in(world: &World<'_>, terminal: &Terminal, bob: &mut Browser) {
    let panel = panel(world);
    let (code, _, err) = terminal.login(&panel).await.answered(world, bob, "refuse").await;
    assert!(code == 1 && err.contains("it was refused") && !terminal.state().join("credential.json").exists(), "{err}");
    let waiting = terminal.login(&panel).await;
    let form = [("code", waiting.code.as_str()), ("answer", "allow")];
    assert_eq!(bob.submit(&format!("{panel}/device/approve"), &form).await.code, 200);
    let own = Terminal::new();
    std::fs::create_dir(own.state()).unwrap();
    std::fs::write(own.state().join("admin.token"), "x").unwrap();
    let (code, _, err) = own.says(&["login", &panel]).await;
    assert!(code == 1 && err.contains("the folder of a control plane") && err.contains("--state-dir"), "{err}");
    std::fs::rename(own.state().join("admin.token"), own.state().join("kubeconfig")).unwrap();
    let (code, _, err) = own.says(&["login", &panel]).await;
    assert!(code == 1 && err.contains("has not written it"), "{err}");
    let (code, _, err) = Terminal::new().says(&["login", "http://panel.example.com"]).await;
    assert!(code == 2 && err.contains("--insecure-panel"), "{err}");
    let (code, out, err) = waiting.end().await;
    assert!(code == 0 && out.starts_with("signed in as bob"), "whoever allows it, it is theirs: {out}{err}");
    Api::<devsanctum::resource::Project>::all(world.client.clone()).delete("of-bob", &DeleteParams::default()).await.unwrap();
}
