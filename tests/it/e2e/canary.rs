//! A token in a credential, and everything in which it must not be.

use super::records;
use super::repositories::{condition, ground, inside, secret};
use super::world::{World, on, until};
use crate::support::dockerd::{Dockerd, Options};
use crate::support::git::GitHost;
use crate::support::{bare, devsanctum};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CANARY: &str = "canary-b81d60f7ee93";
/// In the arguments of a process that is started to be seen.
const CONTROL: &str = "control-5c09e2";
const SOON: Duration = Duration::from_secs(30);

/// Looks at the arguments and variables of every process of the machine, again and again.
struct Watch {
    end: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    /// Notes what any of these words is in.
    fn begin(words: &'static [&'static str]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let until = end.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !until.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    for file in ["cmdline", "environ"] {
                        let text = std::fs::read(process.path().join(file)).unwrap_or_default();
                        let text = String::from_utf8_lossy(&text).replace('\0', " ");
                        seen.extend(words.iter().filter(|w| text.contains(**w)).map(|w| format!("{w} in {file}: {text:.400}")));
                    }
                }
            }
            seen
        });
        Self { end, thread }
    }

    fn end(self) -> BTreeSet<String> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The token, as it is and as an encoding of it.
fn is_in(bytes: &[u8]) -> bool {
    let encoded = BASE64_STANDARD.encode(format!("x{CANARY}"));
    let words = [CANARY.to_owned(), BASE64_STANDARD.encode(CANARY), encoded[4..encoded.len() - 4].to_owned()];
    words.iter().any(|w| bytes.windows(w.len()).any(|b| b == w.as_bytes()))
}

/// Files below a folder that hold it.
fn files_with_it(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with_it(&entry.path()));
        } else if kind.is_file() && std::fs::read(entry.path()).is_ok_and(|bytes| is_in(&bytes)) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// All that the API tells.
async fn told(world: &World<'_>) -> String {
    let ours = ["templates", "features", "projects", "workspaces", "routes", "secrets", "users", "settings", "dockerservers"];
    let mut paths: Vec<String> = ours.iter().map(|kind| format!("/apis/devsanctum.io/v1/{kind}")).collect();
    paths.extend(["/apis/events.k8s.io/v1/events", "/api/v1/namespaces", "/devsanctum/status", "/metrics"].map(str::to_owned));
    let mut all = String::new();
    for path in paths {
        let asked = world.client.request_text(http::Request::get(&path).body(vec![]).unwrap()).await;
        all += &asked.unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    for args in [&["get", "secrets", "-n", "team", "-o", "yaml"][..], &["describe", "secret", "git", "-n", "team"]] {
        let done = devsanctum().arg("--state-dir").arg(world.state_dir()).args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        all += &String::from_utf8_lossy(&done.stdout);
    }
    all
}

/// What the engine tells and keeps of a workspace.
async fn kept_by_the_engine(world: &World<'_>) {
    let container = world.container("w0").await;
    let id = world.docker(&["inspect", "-f", "{{.Id}}", &container]);
    let image = world.workspace("w0").await.status.unwrap().image.unwrap();
    let now = bare("date").arg("+%s").output().unwrap().stdout;
    let events = ["events", "--since", "10m", "--until", String::from_utf8_lossy(&now).trim()].map(str::to_owned);
    let events = world.docker(&events.each_ref().map(String::as_str));
    assert!(events.contains("exec_create") && events.contains("git clone"), "what is run inside is not told: {events:.2000}");
    let snapshot = "ds-test/canary-snapshot:1";
    world.docker(&["commit", &container, snapshot]);
    let layers = world.daemon.try_docker(&["save", snapshot]).stdout;
    world.docker(&["rmi", snapshot]);
    // The container's own layer is among them.
    assert!(layers.windows(8).any(|b| b == b"w0-layer"), "the container's layer is not there");
    for (what, bytes) in [
        ("inspect", world.docker(&["inspect", &container, &image]).into_bytes()),
        ("history", world.docker(&["history", "--no-trunc", &image]).into_bytes()),
        ("logs", world.docker(&["logs", &container]).into_bytes()),
        ("events", events.into_bytes()),
        ("layers", layers),
        ("its log", std::fs::read(world.daemon.data().parent().unwrap().join("log")).unwrap()),
    ] {
        assert!(!is_in(&bytes), "it is in {what}");
    }
    assert_eq!(files_with_it(&world.daemon.data().join("containers").join(&id)), Vec::<String>::new());
    for volume in world.objects(&["volume", "ls"], "{{.Name}}") {
        let folder = world.daemon.data().join("volumes").join(volume);
        assert_eq!(files_with_it(&folder), Vec::<String>::new());
    }
}

#[test]
fn a_token_is_in_no_argument_record_file_layer_log_or_event() {
    // One of its own: an engine keeps 256 events, and others' would take the place of those that are looked for.
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |world| {
        let host = GitHost::start();
        host.repository("web.git", &["main"]);
        host.ask_for(CANARY);
        let names = ["r0", "r1", "r2", "r3"];
        let all = names.map(|name| json!({"name": name, "url": "web.git", "credentials": {"name": "git"}}));
        ground(&world, &host, json!(all)).await;
        let watch = Watch::begin(&[CANARY, CONTROL, "git-remote-http"]);
        let mut control = bare("sh").args(["-c", "sleep 3; :", CONTROL]).spawn().unwrap();
        secret(&world, json!({"token": CANARY})).await;
        world.create(records::workspace("w0")).await;
        condition(&world, "Cloned").await;
        control.wait().unwrap();
        let seen = watch.end();
        for word in [CONTROL, "git-remote-http"] {
            assert!(seen.iter().any(|s| s.starts_with(word)), "nobody looked closely enough to see {word}");
        }
        let with_it: Vec<_> = seen.iter().filter(|s| s.starts_with(CANARY)).collect();
        assert!(with_it.is_empty(), "{with_it:#?}");

        assert_eq!(inside(&world, "echo w0-layer >/w0-layer").await, "");
        assert!(!is_in(told(&world).await.as_bytes()), "the API tells it");
        assert_eq!(files_with_it(world.state_dir()), Vec::<String>::new());
        kept_by_the_engine(&world).await;
        let looks = format!("for d in /*; do case $d in /proc | /sys | /dev) ;; *) grep -rlF {CANARY} $d ;; esac; done | sort");
        let found = inside(&world, &looks).await;
        assert_eq!(found.lines().collect::<Vec<_>>(), names.map(|n| format!("/run/devsanctum/git/{n}")));
        until("the workspace to be served", SOON, async || match world.page("w0").await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    });
}
