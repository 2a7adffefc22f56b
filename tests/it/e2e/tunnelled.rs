//! An engine behind SSH: nothing of it listens on the network.

use super::rack::{merge, reachable, says_its_name, server, with_workspace};
use super::records;
use super::world::{World, on, until};
use crate::support::devsanctum;
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::image::{image_with, program};
use crate::support::ssh::key;
use crate::support::ssh_host::SshHost;
use russh::keys::ssh_key::LineEnding;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const HAPROXY: &str = "ds-test/haproxy:1";
/// Nobody else is in the daemon's network namespace, so any port is free.
const AT: &str = "127.0.0.1:2022";

async fn host(world: &World<'_>, host: &str) {
    merge(world, "dockerservers/rack", json!({"spec": {"host": host}})).await;
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Somebody starts a command that has much to say, and does not read it: all others go on.
async fn unread(world: &World<'_>) {
    let much = "n=0; while :; do n=$((n+1)); echo $n >/tmp/n; head -c 65536 /dev/zero; done";
    let mut exec = devsanctum();
    exec.arg("--state-dir").arg(world.state_dir()).args(["exec", "-n", "team", "w0", "--", "sh", "-c", much]);
    let mut child = exec.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let container = world.container("w0").await;
    let said = || world.docker_says(&["exec", &container, "cat", "/tmp/n"]);
    until("the command to be held up", SOON, async || {
        let before = said();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = said();
        if before == now && !now.is_empty() { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
    })
    .await;
    let (code, told) = server(world, &["test", "rack", "--timeout", "30s"]);
    assert!(code == Some(0) && told.contains("dockerserver/rack is ONLINE"), "{told}");
    says_its_name(world);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_engine_behind_ssh_runs_workspaces_and_says_what_is_wrong_with_the_way_there() {
    let daemon = Dockerd::start(&Options::default());
    image_with(&daemon, HAPROXY, &[program("haproxy")]);
    on(&daemon, async |world| {
        let ours = key(1);
        let lets_in = ours.public_key().clone();
        let start = |seed| SshHost::start(AT, key(seed), lets_in.clone());
        let site = start(2);
        let mut settings = records::settings(TINY);
        settings["spec"]["images"]["gateway"] = json!(HAPROXY);
        world.create(settings).await;
        let folder = tempfile::tempdir().unwrap();
        let known = format!("[127.0.0.1]:2022 {}\n", key(2).public_key().to_openssh().unwrap());
        let known = write(folder.path(), "hosts", &known);
        let private = write(folder.path(), "key", &ours.to_openssh(LineEnding::LF).unwrap());
        let other = write(folder.path(), "other", &key(9).to_openssh(LineEnding::LF).unwrap());
        let address = format!("ssh://ops@127.0.0.1:2022{}", daemon.socket().display());
        let add = |key: &str, timeout: &str| {
            let words = ["add", "rack", "--host", &address, "--ssh-key", key, "--known-hosts", &known, "--timeout", timeout];
            server(&world, &words)
        };
        let (code, said) = server(&world, &["add", "rack", "--host", &address]);
        assert!(code == Some(1) && said.contains("ssh-keyscan"), "{said}");
        let (code, said) = server(&world, &["add", "rack", "--host", "10.0.0.7", "--ssh-key", &private, "--known-hosts", &known]);
        assert!(code == Some(2) && said.contains("--ssh-key is for"), "{said}");
        let (code, said) = server(&world, &["add", "rack", "--host", "unix:///x", "--certs", folder.path().to_str().unwrap()]);
        assert!(code == Some(2) && said.contains("--certs is for"), "{said}");
        // Waiting would mend nothing.
        let (code, said) = add(&other, "1h");
        assert!(code == Some(1) && said.contains("SshKeyRefused") && said.contains("authorized_keys"), "{said}");
        let (code, said) = add(&private, "60s");
        assert!(code == Some(0) && said.contains("dockerserver/rack is ONLINE"), "{said}");

        with_workspace(&world).await;
        says_its_name(&world);
        unread(&world).await;
        // What nobody uses is closed; events are told on one that stays.
        until("the connections to be closed", SOON * 2, async || match site.callers.load(Ordering::Relaxed) {
            few if few <= 4 => Ok(()),
            many => Err(many.to_string()),
        })
        .await;
        // Its routes lead through a gateway, which is at the host's own address.
        merge(&world, "templates/plain", json!({"spec": {"ports": [{"name": "web", "port": 8080}]}})).await;
        until("the page", SOON, async || match world.page("w0").await {
            (200, body) if body.starts_with("w0 ") => Ok(()),
            other => Err(format!("{other:?} {:?}", world.servers().get("rack").await.unwrap().status.map(|s| s.conditions))),
        })
        .await;
        world.delete("w0").await;
        world.gone("w0").await;

        host(&world, "ssh://ops@127.0.0.1:2022/nowhere/docker.sock").await;
        reachable(&world, "False SocketMissing").await;
        host(&world, "ssh://ops@127.0.0.1:2022/forbidden/docker.sock").await;
        reachable(&world, "False SshForwardingRefused").await;
        host(&world, &address).await;
        reachable(&world, "True Answers").await;
        // The host goes away, and another one is in its place: it is told from the one that is known.
        drop(site);
        reachable(&world, "False ConnectionRefused").await;
        until("the port to be free", SOON, async || std::net::TcpListener::bind(AT).map(drop).map_err(|e| e.to_string())).await;
        let stranger = start(3);
        reachable(&world, "False SshHostKeyUnknown").await;
        drop(stranger);
        until("the port to be free", SOON, async || std::net::TcpListener::bind(AT).map(drop).map_err(|e| e.to_string())).await;
        let _back = start(2);
        reachable(&world, "True Answers").await;
    });
}
