//! The SSH gateway, with OpenSSH's own clients.

use super::world::{PATIENCE, World, in_world, until};
use crate::support::image::{image_with, program};
use crate::support::{bare, devsanctum};
use devsanctum::resource::{Template, User, WorkspacePhase};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::records;
use super::ways_in::{Running, page};
use tempfile::TempDir;

/// A person's own folder, with keys in it.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a key and gives its public part.
    pub fn key(&self, name: &str, kind: &str) -> String {
        let file = self.file(name);
        let made = bare("ssh-keygen").args(["-q", "-N", "", "-C", "ada@desk", "-t", kind, "-f"]).arg(&file).status().unwrap();
        assert!(made.success());
        std::fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
    }

    /// OpenSSH's `ssh`, `scp` or `sftp`, with this key.
    pub fn client(&self, program: &str, gateway: &Gateway, key: &str) -> Command {
        let hosts = self.file("known_hosts");
        std::fs::write(&hosts, format!("devsanctum {}\n", gateway.key)).unwrap();
        let mut command = bare(program);
        command.args(["-F", "/dev/null", "-o", "HostKeyAlias=devsanctum", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
        command.args(["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20", "-o", "ExitOnForwardFailure=yes"]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", hosts.display())).arg("-i").arg(self.file(key));
        command.args([if program == "ssh" { "-p" } else { "-P" }, &gateway.address.port().to_string()]).stdin(Stdio::null());
        command
    }
}

pub struct Gateway {
    pub address: SocketAddr,
    pub key: String,
}

pub async fn gateway(world: &World<'_>) -> Gateway {
    let status: Value = world.client.request(http::Request::get("/devsanctum/status").body(vec![]).unwrap()).await.unwrap();
    let text = |name: &str| status["ssh"][name].as_str().unwrap().to_owned();
    Gateway { address: text("address").parse().unwrap(), key: text("hostKey") }
}

pub async fn user(world: &World<'_>, spec: Value) -> Result<User, kube::Error> {
    Api::<User>::all(world.client.clone()).patch("ada", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await
}

/// Runs a command to its end, with this input, while this thread goes on.
pub async fn ran(mut command: Command, input: &[u8]) -> (i32, String, String) {
    let input = input.to_vec();
    let output = tokio::task::spawn_blocking(move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        output
    });
    let output = output.await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A workspace `w0` with `sftp-server` and bash, whose user ada comes in with the key `id`.
async fn ground(world: &World<'_>, desk: &Desk) -> Gateway {
    let sftp = PathBuf::from("/usr/lib/openssh/sftp-server");
    let image = image_with(world.daemon, "ds-test/ssh:1", &[program("bash"), sftp]);
    world.ground().await;
    let templates: Api<Template> = Api::all(world.client.clone());
    let serve = "echo $HOSTNAME hello > /tmp/index.html && httpd -p 127.0.0.1:9000 -h /tmp && httpd -p 8080 -h /tmp; \
                 trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";
    let spec = json!({"base": image, "workdir": "/data", "startCommand": ["sh", "-c", serve]});
    templates.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    let key = desk.key("id", "ed25519");
    user(world, json!({"role": "ADMIN", "sshKeys": [key]})).await.unwrap();
    world.create(records::workspace("w0")).await;
    world.at_rest().await;
    gateway(world).await
}

#[test]
fn openssh_works_in_a_workspace_as_on_any_host() {
    in_world(async |world| {
        let desk = Desk::new();
        let at = ground(&world, &desk).await;
        let ssh = |args: &[&str]| {
            let mut command = desk.client("ssh", &at, "id");
            command.args(args);
            command
        };
        let there = "w0.team@127.0.0.1";

        let said = ran(ssh(&[there, "pwd; echo $HOME >&2; exit 3"]), b"").await;
        assert_eq!((said.0, said.1.as_str()), (3, "/data\n"), "{said:?}");
        // Keys are agreed on by nothing that has less than 128 bits of security.
        let by = async |exchange: &str| {
            let option = format!("KexAlgorithms={exchange}");
            ran(ssh(&["-o", option.as_str(), there, "true"]), b"").await
        };
        for weak in ["diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256"] {
            let refused = by(weak).await;
            assert!(refused.0 == 255 && refused.2.contains("no matching key exchange method"), "{weak}: {refused:?}");
        }
        assert_eq!(by("diffie-hellman-group16-sha512").await.0, 0);
        let all: Vec<u8> = (0..300_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let back = ran(ssh(&[there, "cat"]), &all).await;
        assert!(back.0 == 0 && back.1.as_bytes() == all, "{} of {} bytes came back", back.1.len(), all.len());
        let shell = ran(ssh(&["-tt", "-o", "SetEnv=COLOUR=green", there]), b"stty size; echo $TERM-$COLOUR; exit 4\n").await;
        assert!(shell.0 == 4 && shell.1.contains("-green"), "{shell:?}");

        let (from, back) = (desk.file("from"), desk.file("back"));
        std::fs::write(&from, &all).unwrap();
        let path = |p: &Path| p.display().to_string();
        let mut scp = desk.client("scp", &at, "id");
        scp.args([&path(&from), &format!("{there}:/data/new")]);
        assert_eq!(ran(scp, b"").await.0, 0);
        let mut sftp = desk.client("sftp", &at, "id");
        sftp.args(["-b", "-", there]);
        let got = ran(sftp, format!("ls -l\nget new {}\nrename new newer\n", path(&back)).as_bytes()).await;
        assert!(got.0 == 0 && got.1.contains("new"), "{got:?}");
        assert!(std::fs::read(&back).unwrap() == all, "it came back otherwise");

        let local = crate::support::ports::free_address();
        let forward = format!("{local}:localhost:9000");
        let mut forwarding = ssh(&["-N", "-L", &forward, there]);
        let _forwarding = Running(forwarding.spawn().unwrap());
        until("the page through the tunnel", PATIENCE, async || {
            let page = tokio::task::spawn_blocking(move || page(local)).await.unwrap();
            if page.ends_with("w0 hello\n") { Ok(()) } else { Err(page) }
        })
        .await;
        // Who came in, by which key and from where is told.
        let asked = http::Request::get("/devsanctum/audit?user=ada&kind=Workspace").body(vec![]).unwrap();
        let told: Value = world.client.request(asked).await.unwrap();
        let rows = told["rows"].as_array().unwrap();
        let of = |part: &str| rows.iter().filter(|row| row["subresource"] == part && row["code"] == 101).count();
        assert!(of("exec") >= 4 && of("portforward") >= 1, "{told}");
        let by = |row: &Value| row["how"] == "ssh-key" && row["address"] == "127.0.0.1" && row["name"] == "w0";
        assert!(rows.iter().all(by), "{told}");

        let refused = ran(ssh(&["-W", "localhost:9", there]), b"").await;
        assert!(refused.0 != 0 && refused.2.contains("open failed: connect failed"), "{refused:?}");

        let mut own = devsanctum();
        own.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "ssh", "w0", "--", "echo here"]);
        own.env("HOME", desk.0.path());
        std::fs::create_dir(desk.file(".ssh")).unwrap();
        let denied = ran(own, b"").await;
        assert!(denied.0 == 255 && denied.2.contains("Permission denied (publickey)"), "no key of that home: {denied:?}");
    });
}

#[test]
fn who_may_not_come_in_stays_out_and_who_no_longer_may_is_sent_away() {
    in_world(async |world| {
        let desk = Desk::new();
        let at = ground(&world, &desk).await;
        let key = std::fs::read_to_string(desk.file("id.pub")).unwrap().trim().to_owned();
        let stranger = desk.key("stranger", "ecdsa");
        let there = "w0.team@127.0.0.1";
        let ssh = |key: &str, args: &[&str]| {
            let mut command = desk.client("ssh", &at, key);
            command.args(args);
            command
        };
        let denied = ran(ssh("stranger", &[there, "id"]), b"").await;
        assert!(denied.0 == 255 && denied.2.contains("Permission denied (publickey)"), "{denied:?}");
        let nobody = ran(ssh("id", &["w9.team@127.0.0.1", "id"]), b"").await;
        assert!(nobody.0 == 255 && nobody.2.contains("there is no workspace \"w9\" in project \"team\""), "{nobody:?}");
        let nowhere = ran(ssh("id", &["w0@127.0.0.1", "id"]), b"").await;
        assert!(nowhere.0 == 255 && nowhere.2.contains("Permission denied"), "{nowhere:?}");

        // Callers who say nothing, or nothing that is SSH, are in nobody's way.
        let _silent: Vec<_> = (0..100).map(|_| TcpStream::connect(at.address).unwrap()).collect();
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0xff; 64 << 10]] {
            let mut stream = TcpStream::connect(at.address).unwrap();
            let _ = stream.write_all(garbage);
            let _ = stream.write_all(&[0x7f; 256 << 10]);
        }
        assert_eq!(ran(ssh("id", &[there, "true"]), b"").await.0, 0);

        // Another key of the same person, and one that somebody else has.
        user(&world, json!({"sshKeys": [key, stranger]})).await.unwrap();
        until("the new key", PATIENCE, async || match ran(ssh("stranger", &[there, "true"]), b"").await {
            (0, ..) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let bob = json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": "bob"},
            "spec": {"email": "bob@example.com", "sshKeys": [key]}});
        let users: Api<User> = Api::all(world.client.clone());
        let taken = users.create(&Default::default(), &serde_json::from_value(bob).unwrap()).await.unwrap_err().to_string();
        assert!(taken.contains("spec.sshKeys[0]"), "{taken}");
        let rsa = desk.key("rsa", "rsa");
        let weak = user(&world, json!({"sshKeys": [rsa]})).await.unwrap_err().to_string();
        assert!(weak.contains("spec.sshKeys[0]") && weak.contains("must be ed25519 or ecdsa"), "{weak}");

        let mut staying = ssh("stranger", &[there, "sleep 5001"]);
        let mut staying = Running(staying.spawn().unwrap());
        let container = world.container("w0").await;
        let runs = || world.docker_says(&["exec", &container, "ps"]).contains("sleep 5001");
        until("the session", PATIENCE, async || if runs() { Ok(()) } else { Err(String::new()) }).await;
        let begun = Instant::now();
        user(&world, json!({"sshKeys": [key]})).await.unwrap();
        until("the session to end", PATIENCE, async || match staying.0.try_wait().unwrap() {
            Some(_) => Ok(()),
            None => Err("it goes on".into()),
        })
        .await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        until("what it ran to end", PATIENCE, async || if runs() { Err(String::new()) } else { Ok(()) }).await;

        // No administrator, she has what is hers; and then that is somebody else's.
        user(&world, json!({"role": "USER"})).await.unwrap();
        assert_eq!(ran(ssh("id", &[there, "true"]), b"").await.0, 0);
        let bob = json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": "bob"}, "spec": {"email": "bob@example.com"}});
        world.create(bob).await;
        let mut staying = ssh("id", &[there, "sleep 5002"]);
        let mut staying = Running(staying.spawn().unwrap());
        let runs = || world.docker_says(&["exec", &container, "ps"]).contains("sleep 5002");
        until("the session", PATIENCE, async || if runs() { Ok(()) } else { Err(String::new()) }).await;
        let projects: Api<devsanctum::resource::Project> = Api::all(world.client.clone());
        let given = kube::api::Patch::Merge(json!({"spec": {"owner": "bob", "visibility": "PRIVATE"}}));
        let begun = Instant::now();
        projects.patch("team", &Default::default(), &given).await.unwrap();
        until("the session to end", PATIENCE, async || match staying.0.try_wait().unwrap() {
            Some(_) => Ok(()),
            None => Err("it goes on".into()),
        })
        .await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let hidden = ran(ssh("id", &[there, "id"]), b"").await;
        assert!(hidden.0 == 255 && hidden.2.contains("there is no workspace \"w0\" in project \"team\""), "{hidden:?}");
        user(&world, json!({"role": "ADMIN", "active": false})).await.unwrap();
        until("the refusal", PATIENCE, async || match ran(ssh("id", &[there, "id"]), b"").await {
            (255, _, words) if words.contains("Permission denied") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    });
}

#[test]
fn a_stopped_workspace_is_started_and_the_host_is_known_again() {
    in_world(async |mut world| {
        let desk = Desk::new();
        let at = ground(&world, &desk).await;
        world.merge("w0", json!({"spec": {"running": false}})).await;
        until("the stop", PATIENCE, async || match world.workspace("w0").await.status.unwrap().phase {
            WorkspacePhase::Stopped => Ok(()),
            phase => Err(format!("{phase:?}")),
        })
        .await;
        let mut ssh = desk.client("ssh", &at, "id");
        ssh.args(["w0.team@127.0.0.1", "cat; echo there"]);
        let woken = ran(ssh, b"sent early\n").await;
        assert_eq!((woken.0, woken.1.as_str()), (0, "sent early\nthere\n"), "{woken:?}");
        assert!(woken.2.contains("workspace \"w0\" is stopped: starting it"), "{woken:?}");
        assert!(world.workspace("w0").await.spec.running);

        world.kill();
        world.restart().await;
        let again = gateway(&world).await;
        assert_eq!(again.key, at.key);
        until("the same host", PATIENCE, async || {
            let mut ssh = desk.client("ssh", &again, "id");
            ssh.args(["w0.team@127.0.0.1", "echo again"]);
            match ran(ssh, b"").await {
                (0, out, _) if out == "again\n" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    });
}
