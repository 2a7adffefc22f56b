//! `examples/node-postgres`, as a person would use it: applied once, opened in a browser, worked in, stopped and started.

use super::records;
use super::repositories::host_address;
use super::ssh::{Desk, gateway, ran, user};
use super::world::{World, on, until};
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::files::FileHost;
use crate::support::git::{GitHost, git};
use crate::support::source::root;
use crate::support::{bare, devsanctum};
use devsanctum::resource::WorkspacePhase;
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);
/// An image is built of a release of 90 MB.
const LATER: Duration = Duration::from_secs(300);

/// Puts the stand-ins for official images on the engine.
fn load_images(daemon: &Dockerd) {
    for name in ["node-22-bookworm-slim", "postgres-17-bookworm"] {
        let file = root().join(format!("target/tools/images/{name}.tar"));
        assert!(file.exists(), "no {}: scripts/test-environment.sh makes it", file.display());
        daemon.docker(&["load", "-i", &file.display().to_string()]);
    }
    daemon.docker(&["tag", "postgres:17-bookworm", "postgres:17"]);
}

/// The application's repository.
fn repository(host: &GitHost) {
    let there = host.repository("guest-book.git", &[]);
    let work = tempfile::tempdir().unwrap();
    let copied = bare("cp").arg("-r").arg(root().join("examples/node-postgres/app/.")).arg(work.path()).status();
    assert!(copied.unwrap().success());
    git(work.path(), &["init"]);
    git(work.path(), &["add", "."]);
    git(work.path(), &["commit", "-m", "A guest book"]);
    git(work.path(), &["push", &there.display().to_string(), "main"]);
}

/// The version of the release that was made for this test.
fn release() -> String {
    let all = std::fs::read_dir(root().join("target/tools/code-server")).unwrap().flatten();
    let mut names = all.filter_map(|e| e.file_name().into_string().ok());
    let name = names.find(|n| n.ends_with(".tar.gz")).expect("scripts/test-environment.sh makes a release");
    name.trim_start_matches("code-server-").split('-').next().unwrap().to_owned()
}

/// The example as it is, but for where things come from.
fn example(world: &World<'_>, into: &Path, git: &str, mirror: &str) {
    let folder = root().join("examples/node-postgres");
    std::fs::copy(folder.join("library.yaml"), into.join("library.yaml")).unwrap();
    let mut text = std::fs::read_to_string(folder.join("guest-book.yaml")).unwrap();
    let url = format!("http://{mirror}/code-server/code-server-{{version}}-linux-{{arch}}.tar.gz");
    let options = format!("    - name: code-server\n      options:\n        version: {}\n        url: {url}\n", release());
    for (of, by) in [
        ("unix:///var/run/docker.sock", format!("unix://{}", world.daemon.socket().display())),
        ("https://git.example.com/team/guest-book.git", format!("http://{git}/guest-book.git")),
        ("    - name: code-server\n", options),
        ("name: guest-book\n", "name: team\n".to_owned()),
        ("namespace: guest-book\n", "namespace: team\n".to_owned()),
        ("name: dev\n", "name: w0\n".to_owned()),
    ] {
        assert!(text.contains(of), "{of}");
        text = text.replace(of, &by);
    }
    text.push_str(&format!("  env:\n    NPM_CONFIG_REGISTRY: http://{mirror}/npm/\n"));
    std::fs::write(into.join("guest-book.yaml"), text).unwrap();
}

async fn phase(world: &World<'_>, wanted: WorkspacePhase, patience: Duration) {
    until(&format!("{wanted:?}"), patience, async || {
        let status = world.workspace("w0").await.status.unwrap_or_default();
        let message = status.message.as_deref().unwrap_or_default();
        assert!(!message.contains("cannot be built"), "{message}");
        if status.phase == wanted { Ok(()) } else { Err(format!("{:?} {:?}", status.phase, status.message)) }
    })
    .await;
}

/// Waits for a page with these words.
async fn page_with(world: &World<'_>, words: &str) {
    until(&format!("a page with {words:?}"), SOON, async || match world.page("w0").await {
        (200, page) if page.contains(words) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn inside(world: &World<'_>, script: &str) -> String {
    world.docker_says(&["exec", &world.container("w0").await, "sh", "-c", &format!("{script} 2>&1")]).trim().to_owned()
}

/// Kills a service in the workspace and waits until another process of it runs.
async fn comes_back(world: &World<'_>, service: &str) {
    let pid = inside(world, &format!("s6-svstat -o pid /run/service/{service}")).await;
    inside(world, &format!("kill -9 {pid}")).await;
    until(&format!("{service} to come back"), SOON, async || {
        let status = inside(world, &format!("s6-svstat -o up,pid /run/service/{service}")).await;
        if status.starts_with("true ") && !status.ends_with(&format!(" {pid}")) { Ok(()) } else { Err(status) }
    })
    .await;
}

/// Opens the editor in a real browser, with a file of the repository; the picture is kept where one is asked for.
async fn editor_is_drawn(world: &World<'_>) {
    let services = world.workspace("w0").await.status.unwrap().services;
    let url = services.iter().find(|s| s.name == "code").and_then(|s| s.url.clone()).expect("the editor's address");
    let picture =
        std::env::var("DEVSANCTUM_PICTURE").unwrap_or_else(|_| root().join("target/tmp/editor.png").display().to_string());
    let mut command = bare(root().join("target/tools/node/bin/node"));
    command.arg(root().join("scripts/ide-shot.mjs")).arg("--url").arg(format!("{url}/?folder=/workspace/app"));
    command.args(["--file", "server.js", "--open", "--resolve", "MAP *.localhost 127.0.0.1", "--out", &picture]);
    command.env("HOME", "/root").stdin(Stdio::null());
    let (code, out, words) = ran(command, b"").await;
    assert_eq!(code, 0, "{out}{words}");
}

/// A shell and files over OpenSSH's own clients.
async fn ssh_works(world: &World<'_>) {
    let desk = Desk::new();
    user(world, json!({"sshKeys": [desk.key("id", "ed25519")]})).await.unwrap();
    let at = gateway(world).await;
    let mut shell = desk.client("ssh", &at, "id");
    shell.args([&format!("w0.team@{}", at.address.ip()), "whoami; pwd; git -C app log --format=%s; node -p 1+1"]);
    let (code, said, words) = ran(shell, b"").await;
    assert_eq!((code, said.as_str()), (0, "node\n/workspace\nA guest book\n2\n"), "{words}");
    let mut files = desk.client("sftp", &at, "id");
    files.args(["-b", "-", &format!("w0.team@{}", at.address.ip())]);
    let fetched = desk.file("server.js");
    let script = format!("get app/server.js {}\nput {} app/mine.js\n", fetched.display(), fetched.display());
    let (code, said, words) = ran(files, script.as_bytes()).await;
    assert_eq!(code, 0, "{said}{words}");
    assert_eq!(std::fs::read(fetched).unwrap(), std::fs::read(root().join("examples/node-postgres/app/server.js")).unwrap());
}

/// A terminal, with a terminal on this side as a person has one.
async fn terminal_works(world: &World<'_>) {
    let line =
        format!("{} --state-dir {} -n team terminal w0", devsanctum().get_program().display(), world.state_dir().display());
    let mut script = bare("timeout");
    script.args(["60", "script", "-qfec", &line, "/dev/null"]).env("SHELL", "/bin/sh").env("TERM", "xterm");
    let mut running = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let done = tokio::task::spawn_blocking(move || {
        let mut keys = running.stdin.take().unwrap();
        keys.write_all(b"echo $(whoami) $(pwd) $(git -C app log --format=%f); exit $((3+4))\n").unwrap();
        let mut screen = String::new();
        running.stdout.take().unwrap().read_to_string(&mut screen).unwrap();
        (running.wait().unwrap().code(), screen)
    });
    let (code, screen) = done.await.unwrap();
    assert_eq!(code, Some(7), "{screen}");
    assert!(screen.contains("node /workspace A-guest-book"), "{screen}");
}

#[test]
fn the_guest_book_is_a_place_to_work_in() {
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |world| {
        load_images(&daemon);
        world.create(records::settings(TINY)).await;
        world.create(records::server("local", &daemon.socket())).await;
        let (git, mirror) = (GitHost::start(), FileHost::start(root().join("target/tools")));
        repository(&git);
        let gateway = host_address(&world).await;
        let dir = tempfile::tempdir().unwrap();
        let at = |port: u16| format!("{gateway}:{port}");
        example(&world, dir.path(), &at(git.address.port()), &at(mirror.address.port()));
        let mut apply = devsanctum();
        apply.arg("--state-dir").arg(world.state_dir()).args(["apply", "-f"]).arg(dir.path());
        let (code, said, words) = ran(apply, b"").await;
        assert_eq!(code, 0, "{said}{words}");
        phase(&world, WorkspacePhase::Running, LATER).await;
        page_with(&world, "Guest book").await;

        let host = super::equality::host(&world.workspace("w0").await).unwrap();
        let mut post = bare("curl");
        let note = ["-d", "author=Ada", "-d", "text=It+works+<b>well</b>", "-H"];
        post.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(note).arg(format!("Host: {host}"));
        post.arg(format!("http://{}/notes", world.web));
        assert_eq!(ran(post, b"").await.1, "303");
        page_with(&world, "It works &lt;b&gt;well").await;

        editor_is_drawn(&world).await;
        terminal_works(&world).await;
        ssh_works(&world).await;
        for service in ["app", "code-server"] {
            comes_back(&world, service).await;
        }
        page_with(&world, "It works").await;
        let database = daemon.docker(&["ps", "-q", "--filter", "ancestor=postgres:17"]);
        daemon.docker(&["kill", database.trim()]);
        page_with(&world, "It works").await;

        world.merge("w0", json!({"spec": {"running": false}})).await;
        phase(&world, WorkspacePhase::Stopped, SOON).await;
        world.merge("w0", json!({"spec": {"running": true}})).await;
        phase(&world, WorkspacePhase::Running, SOON).await;
        page_with(&world, "It works").await;
        assert_eq!(inside(&world, "cmp /workspace/app/server.js /workspace/app/mine.js && id -un").await, "root");
        assert!(inside(&world, "stat -c %U /workspace/app/mine.js").await == "node");
    });
}
