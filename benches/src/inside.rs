//! Ways into a workspace: over SSH and `exec`, beside the engine's own `docker exec` and `docker cp`.

use super::docker::Dockerd;
use super::system::{self, System};
use super::tool::{median, ms, note, quantile, row, spread};
use super::{Flags, docker, records};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// Bytes of a large file.
const LARGE: u64 = 1 << 30;

pub async fn run(flags: Flags) {
    let (runs, large) = (flags.runs.unwrap_or(20), flags.count.map_or(LARGE, |mb| (mb as u64) << 20));
    let daemon = docker::start();
    let dir = system::state();
    let system = System::with_engine(dir.path(), &daemon).await;
    let key = dir.path().join("id");
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let mut ada = records::ground(true).remove(1);
    ada["spec"] = json!({"email": "ada@example.com", "role": "ADMIN", "sshKeys": [public.trim()]});
    system.apply(&[ada, records::workspace("w0")]);
    system.await_running(1).await;
    let status = system.status().await;
    let port = status["ssh"]["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let ways = Ways { daemon: &daemon, system: &system, key: &key, port, container: main_container(&daemon) };
    ways.logins(runs);
    ways.echo(runs * 50).await;
    ways.files(dir.path(), large, runs.clamp(1, 3));
}

fn main_container(daemon: &Dockerd) -> String {
    daemon.docker(&["ps", "-q", "--filter", "label=devsanctum.io/role=main"]).trim().to_owned()
}

struct Ways<'a> {
    daemon: &'a Dockerd,
    system: &'a System,
    key: &'a Path,
    port: String,
    container: String,
}

/// Runs a line of shell and tells how long it took.
fn timed(mut command: Command) -> Duration {
    let begun = Instant::now();
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(done.success(), "{command:?}");
    begun.elapsed()
}

impl Ways<'_> {
    /// `sh -c LINE`, in which `$ssh`, `$docker` and `$ours` stand for the three ways.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let ssh = format!(
            "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
             -i {} -p {} w0.bench@127.0.0.1",
            self.key.display(),
            self.port
        );
        let docker = format!("docker -H unix://{}", self.daemon.socket().display());
        let ours = format!("{} --state-dir {} -n bench", system::binary().display(), self.system.dir.display());
        command.args(["-ec", line]).env("ssh", ssh).env("docker", docker).env("ours", ours).env("c", &self.container);
        command
    }

    /// How long a person waits for a prompt.
    fn logins(&self, runs: usize) {
        let (mut ssh, mut exec, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            floor.push(ms(timed(self.shell("$docker exec $c true"))));
            ssh.push(ms(timed(self.shell("$ssh true"))));
            exec.push(ms(timed(self.shell("$ours exec w0 -- true"))));
        }
        let beside = format!("docker exec {}", spread(&floor, "ms"));
        for (what, took) in [("ssh login → command done", ssh), ("devsanctum exec → command done", exec)] {
            let more = median(&took) - median(&floor);
            row(what, &spread(&took, "ms"), &beside, &format!("{more:+.0} ms"), "≤ docker exec + 150 ms");
        }
    }

    /// How long until what is typed at a terminal is seen there.
    async fn echo(&self, keys: usize) {
        let path = "/apis/devsanctum.io/v1/namespaces/bench/workspaces/w0/terminal?session=bench&columns=80&rows=24";
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let mut socket = self.system.client.connect(request).await.unwrap().into_stream();
        // Nothing but the terminal itself answers.
        socket.send(Message::binary(&b"\0exec sleep 1000\n"[..])).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut took = Vec::new();
        for n in 0..keys {
            // A line that gets too long is echoed no more.
            let key = if n % 64 == 63 { b"\0\n" } else { b"\0x" };
            while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(2), socket.next()).await {}
            let begun = Instant::now();
            socket.send(Message::binary(&key[..])).await.unwrap();
            while !matches!(socket.next().await.unwrap().unwrap(), Message::Binary(shown) if shown.len() > 1) {}
            took.push(ms(begun.elapsed()));
        }
        let p99 = quantile(&took, 0.99);
        row("terminal: typed → seen", &spread(&took, "ms"), "–", &format!("p99 {p99:.1} ms"), "p99 ≤ 20 ms");
    }

    /// How fast a large file goes in and out.
    fn files(&self, here: &Path, bytes: u64, runs: usize) {
        let file = here.join("large");
        let mut head = Command::new("head");
        head.args(["-c", &bytes.to_string(), "/dev/zero"]).stdout(std::fs::File::create(&file).unwrap());
        assert!(head.status().unwrap().success());
        let file = file.display().to_string();
        let rate = |line: &str| -> Vec<f64> {
            let line = line.replace("LARGE", &file);
            let took = (0..runs).map(|_| timed(self.shell(&line)));
            took.map(|took| bytes as f64 / 1e6 / took.as_secs_f64()).collect()
        };
        note("docker cp in and out, then the same over SSH, devsanctum exec and devsanctum cp");
        let into = rate("$docker cp LARGE $c:/home/large");
        let out = rate("$docker cp $c:/home/large - >/dev/null");
        let each = [
            ("1 file in: ssh 'cat > file'", "$ssh 'cat > /home/large' < LARGE", &into),
            ("1 file in: ssh 'cat > /dev/null'", "$ssh 'cat > /dev/null' < LARGE", &into),
            ("1 file in: devsanctum cp", "$ours cp LARGE w0:/home/large", &into),
            ("1 file out: ssh 'cat file'", "$ssh 'cat /home/large' > /dev/null", &out),
            ("1 file out: devsanctum exec", "$ours exec w0 -- cat /home/large > /dev/null", &out),
        ];
        for (what, line, floor) in each {
            let reached = rate(line);
            let ratio = format!("× {:.2}", median(&reached) / median(floor));
            let what = format!("{what}, {} MB", bytes >> 20);
            row(
                &what,
                &spread(&reached, "MB/s"),
                &format!("docker cp {}", spread(floor, "MB/s")),
                &ratio,
                "≥ 200 MB/s or ≥ × 0.8",
            );
        }
    }
}
