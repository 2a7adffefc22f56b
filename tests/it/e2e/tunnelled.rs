//! An engine behind SSH: nothing of it listens on the network.

use super::rack::{merge, reachable, says_its_name, server, with_workspace};
use super::records;
use super::world::{World, on, until};
use crate::support::dockerd::{Dockerd, Options, TINY};
use crate::support::ssh::key;
use crate::support::ssh_host::SshHost;
use russh::keys::ssh_key::LineEnding;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
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

#[test]
fn an_engine_behind_ssh_runs_workspaces_and_says_what_is_wrong_with_the_way_there() {
    let daemon = Dockerd::start(&Options::default());
    on(&daemon, async |world| {
        let ours = key(1);
        let lets_in = ours.public_key().clone();
        let start = |seed| SshHost::start(AT, key(seed), lets_in.clone());
        let site = start(2);
        world.create(records::settings(TINY)).await;
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
        let (code, said) = add(&other, "3s");
        assert!(code == Some(4) && said.contains("SshKeyRefused") && said.contains("authorized_keys"), "{said}");
        let (code, said) = add(&private, "60s");
        assert!(code == Some(0) && said.contains("dockerserver/rack is ONLINE"), "{said}");

        with_workspace(&world).await;
        says_its_name(&world);
        let sessions = site.sessions.load(Ordering::Relaxed);
        assert!(sessions <= 3, "one connection carries all; there were {sessions}");
        world.delete("w0").await;
        world.gone("w0").await;

        host(&world, "ssh://ops@127.0.0.1:2022/nowhere/docker.sock").await;
        reachable(&world, "False SocketMissing").await;
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
