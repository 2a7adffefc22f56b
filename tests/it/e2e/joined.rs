//! A host from bare to `ONLINE` by what is documented alone, and its certificates made anew under running workspaces.

use super::rack::{runs, says_its_name, server, with_workspace};
use super::records;
use super::world::{World, on, until};
use crate::support::dockerd::{Dockerd, TINY};
use crate::support::machine::Machine;
use crate::support::{bare, devsanctum};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// An address of the host that is not a loopback one (RFC 5737).
const ADDRESS: &str = "192.0.2.9";
const SOON: Duration = Duration::from_secs(60);
/// systemd does not run here: as much of it as the script asks for. What the unit says is in `/run/argv`.
const SYSTEMCTL: &str = r#"#!/bin/sh
case "$1 ${2:-}" in
"cat docker.service" | "daemon-reload ") ;;
"show docker.service")
  [ "$4" = Environment ] || echo "ExecStart={ path=/usr/sbin/dockerd ; argv[]=$(cat /run/argv) ; ignore_errors=no ; pid=0 }"
  ;;
"restart docker.service")
  [ -e /run/docker.pid ] || exec echo restarted
  kill "$(cat /run/docker.pid)"
  while [ -e /run/docker.pid ]; do sleep 0.1; done
  setsid $(sed -n 's/ \$DOCKER_OPTS//; s/^ExecStart=\(..*\)/\1/p' /etc/systemd/system/docker.service.d/devsanctum.conf) >>/run/dockerd.log 2>&1 </dev/null &
  ;;
*) exit 1 ;;
esac
"#;
/// An engine in which two containers run; whether it is in a swarm is in a file.
const DOCKER: &str = r#"#!/bin/sh
case "$3" in
*Swarm*) cat /run/swarm ;;
*) echo false2 ;;
esac
"#;
const OVERRIDE: &str = "/etc/systemd/system/docker.service.d/devsanctum.conf";

/// Runs `server certs`, and gives what it said.
fn make(certs: &Path, days: &str) -> String {
    let mut command = devsanctum();
    command.args(["server", "certs", "--host", &format!("rack.example,{ADDRESS}"), "--days", days, "--out"]).arg(certs);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// The line that is to be pasted.
fn join(certs: &Path) -> String {
    let done = devsanctum().args(["server", "join-command"]).arg(certs).output().unwrap();
    let line = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && line.trim_end().lines().count() == 1, "{line}");
    // A terminal that takes lines whole takes no longer ones (N_TTY_BUF_SIZE).
    assert!(line.len() < 4096, "{} bytes", line.len());
    line
}

/// Puts a program of the machine's own before others.
fn stand_in(machine: &Machine, name: &str, program: &str) {
    std::fs::create_dir_all(machine.folder("/run/bin")).unwrap();
    let path = machine.folder(&format!("/run/bin/{name}"));
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs `set-up.sh` on the machine, under its systemd.
fn set_up(machine: &Machine, certs: &Path, unit: &str) -> Output {
    std::fs::write(machine.folder("/run/argv"), unit).unwrap();
    let script = std::fs::File::open(certs.join("set-up.sh")).unwrap();
    machine.command("sh").args(["-c", "PATH=/run/bin:$PATH exec sh"]).stdin(script).output().unwrap()
}

fn mode(machine: &Machine, path: &str) -> u32 {
    std::fs::metadata(machine.folder(path)).unwrap().permissions().mode() & 0o777
}

fn condition(world_said: &Value, kind: &str) -> String {
    let all = world_said["status"]["conditions"].as_array().unwrap();
    let found = all.iter().find(|c| c["type"] == kind);
    found.map(|c| format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap())).unwrap_or_default()
}

async fn rack(world: &World<'_>) -> Value {
    serde_json::to_value(world.servers().get("rack").await.unwrap()).unwrap()
}

/// When the workspace's container was started, and as which process.
async fn run_of(world: &World<'_>) -> String {
    let name = world.container("w0").await;
    world.docker_says(&[
        "inspect",
        "-f",
        "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}} {{.State.Running}}",
        &name,
    ])
}

#[test]
fn a_bare_host_is_online_by_one_pasted_line_and_gets_new_certificates_while_its_workspaces_run() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("rack");
    assert!(make(&certs, "10").contains("server join-command"));
    let machine = Machine::start();
    let said = machine.ok(&["sh", "-c", &join(&certs)]);
    assert!(said.contains("start dockerd anew"), "{said}");
    assert_eq!(mode(&machine, "/etc/docker/devsanctum"), 0o700);
    assert_eq!(mode(&machine, "/etc/docker/devsanctum/server-key.pem"), 0o600);
    let daemon = std::fs::read_to_string(machine.folder("/etc/docker/daemon.json")).unwrap();
    assert_eq!(daemon, std::fs::read_to_string(certs.join("daemon.json")).unwrap());
    // By what lies there alone: no flag is given.
    machine.ok(&["sh", "-c", "setsid dockerd >/run/dockerd.log 2>&1 </dev/null &"]);

    let daemon = Dockerd::of_others(&machine.folder("/run/docker.sock"), machine.init());
    on(&daemon, async |world| {
        assert!(bare("ip").args(["address", "add", ADDRESS, "dev", "lo"]).status().unwrap().success());
        world.create(records::settings(TINY)).await;
        let add = || server(&world, &["add", "rack", "--host", ADDRESS, "--certs", certs.to_str().unwrap()]);
        let (code, said) = add();
        assert!(code == Some(0) && said.contains("dockerserver/rack is ONLINE"), "{said}");
        assert!(said.contains("ExpiresSoon") && said.contains("the first of its certificates ends on"), "{said}");
        assert!(world.event("rack", "ExpiresSoon").await.contains("server certs"));
        with_workspace(&world).await;
        let (before, server_before) = (run_of(&world).await, rack(&world).await);

        // By the same authority: our new certificate is taken by the engine as it runs.
        make(&certs, "365");
        let (code, said) = add();
        assert!(code == Some(0) && said.contains("is ONLINE"), "{said}");
        assert_eq!(run_of(&world).await, before);
        // And the engine's: it is started anew with it.
        stand_in(&machine, "systemctl", SYSTEMCTL);
        let done = set_up(&machine, &certs, "/usr/sbin/dockerd -H fd:// $DOCKER_OPTS");
        assert!(done.status.success() && done.stdout.is_empty(), "{done:?}");
        until("the new certificates to be seen", SOON, async || {
            let now = rack(&world).await;
            let later = now["status"]["certificateExpiresAt"].as_str() > server_before["status"]["certificateExpiresAt"].as_str();
            let well = now["status"]["phase"] == "ONLINE" && condition(&now, "CertificatesCurrent") == "True Current";
            if later && well { Ok(()) } else { Err(now["status"].to_string()) }
        })
        .await;
        runs(&world).await;
        assert_eq!(run_of(&world).await, before, "no workspace was restarted");
        says_its_name(&world);
        world.delete("w0").await;
        world.gone("w0").await;
    });
}

#[test]
fn a_host_whose_engine_is_set_up_otherwise_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("rack");
    make(&certs, "10");
    let machine = Machine::start();
    stand_in(&machine, "systemctl", SYSTEMCTL);
    stand_in(&machine, "docker", DOCKER);
    let write = |path: &str, text: &str| std::fs::write(machine.folder(path), text).unwrap();
    let daemon = machine.folder("/etc/docker/daemon.json");
    let refused = |unit: &str, told: &str| {
        let done = set_up(&machine, &certs, unit);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(told), "{unit}: {done:?}");
        assert!(!String::from_utf8_lossy(&done.stdout).contains("restarted"), "{done:?}");
        assert!(!machine.folder(OVERRIDE).exists(), "{unit}");
    };
    const PLAIN: &str = "/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS";
    // Nothing is changed at all where the engine could not be started again.
    write("/run/swarm", "active");
    refused(PLAIN, "docker swarm leave");
    assert!(!machine.folder("/etc/docker").exists());
    write("/run/swarm", "inactive");
    for (unit, told) in [
        ("/usr/sbin/dockerd -H fd:// --data-root=/srv/docker", "--data-root=/srv/docker"),
        ("/usr/sbin/dockerd --data-root /srv/docker -H fd://", "--data-root"),
        ("/usr/sbin/dockerd -H tcp://0.0.0.0:2375", "-H tcp://0.0.0.0:2375"),
    ] {
        refused(unit, told);
        assert!(!daemon.exists(), "{unit}");
    }
    write("/etc/default/docker", "DOCKER_OPTS=\"--data-root /srv/docker\"\n");
    refused(PLAIN, "docker.service has $DOCKER_OPTS");
    write("/etc/default/docker", "#DOCKER_OPTS=\"--dns 8.8.8.8\"\nDOCKER_OPTS=\"\"\n");
    write("/etc/docker/daemon.json", "{}\n");
    refused(PLAIN, "systemctl edit");
    assert_eq!(std::fs::read_to_string(&daemon).unwrap(), "{}\n");

    std::fs::remove_file(&daemon).unwrap();
    let done = set_up(&machine, &certs, PLAIN);
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && said.contains("what runs here stops\nrestarted"), "{said}");
    let unit = std::fs::read_to_string(machine.folder(OVERRIDE)).unwrap();
    assert!(unit.ends_with("dockerd --containerd=/run/containerd/containerd.sock $DOCKER_OPTS\n"), "{unit}");
    assert!(daemon.exists());
}
