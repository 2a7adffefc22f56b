//! From a record to a page, and from a changed template to its image, beside the engine doing the same by itself.

use super::docker::{Dockerd, TINY};
use super::system::{self, System};
use super::tool::{median, ms, note, row, spread};
use super::wire::{Wire, until_ok};
use super::{Flags, docker, records};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const WORKSPACES: &str = "/apis/devsanctum.io/v1/namespaces/bench/workspaces";
const OFTEN: Duration = Duration::from_millis(3);

pub async fn run(flags: Flags) {
    let runs = flags.runs.unwrap_or(20);
    let daemon = docker::start();
    let dir = system::state();
    let system = System::with_engine(dir.path(), &daemon).await;
    let mut wire = system.target.connect().await.unwrap();
    let bridge = bridge(&daemon);
    pages(&system, &daemon, &mut wire, &bridge, runs).await;
    claims(&system, &mut wire, runs).await;
    rebuilds(&system, &daemon, &mut wire, &bridge, runs.clamp(1, 10)).await;
}

/// The network that workspaces share.
fn bridge(daemon: &Dockerd) -> String {
    let all = daemon.docker(&["network", "ls", "--format", "{{.Name}}"]);
    all.lines().find(|name| name.starts_with("ds-")).expect("the workspaces' network").to_owned()
}

/// From the wish to a page, of an image that is there.
async fn pages<S: AsyncRead + AsyncWrite + Unpin>(
    system: &System,
    daemon: &Dockerd,
    wire: &mut Wire<S>,
    bridge: &str,
    runs: usize,
) {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let (name, host) = (format!("p{run}"), format!("p{run}.example.com"));
        ours.push(page(system, wire, &name, &host).await);
        assert_eq!(wire.call("DELETE", &format!("{WORKSPACES}/{name}"), "").await.unwrap().0, 200);
        gone(wire, &name).await;

        let begun = Instant::now();
        let limits = ["--memory", "64m", "--cpus", "1", "--pids-limit", "64", "--security-opt", "no-new-privileges"];
        let run = [&["run", "-d", "--network", bridge, "-v", "bare:/home"][..], &limits, &[TINY, "sh", "-c", records::SERVE]];
        let id = daemon.docker(&run.concat());
        let address = daemon.docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id.trim()]);
        until_ok(format!("{}:8080", address.trim()).parse().unwrap(), &host, OFTEN).await;
        bare.push(ms(begun.elapsed()));
        daemon.docker(&["rm", "-fv", id.trim()]);
        daemon.docker(&["volume", "rm", "bare"]);
    }
    let more = median(&ours) - median(&bare);
    row(
        "workspace created → 200 through Traefik",
        &spread(&ours, "ms"),
        &format!("docker run → 200 {}", spread(&bare, "ms")),
        &format!("{more:+.0} ms"),
        "≤ docker run + 150 ms",
    );
}

/// Milliseconds from a workspace's creation to its page.
async fn page<S: AsyncRead + AsyncWrite + Unpin>(system: &System, wire: &mut Wire<S>, name: &str, host: &str) -> f64 {
    let mut record = records::workspace(name);
    record["spec"]["routeDomain"] = json!(host);
    let begun = Instant::now();
    let (code, answer) = wire.call("POST", WORKSPACES, &record.to_string()).await.unwrap();
    assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
    until_ok(system.web, host, OFTEN).await;
    ms(begun.elapsed())
}

/// From the wish to a page, of an environment that runs already.
async fn claims<S: AsyncRead + AsyncWrite + Unpin>(system: &System, wire: &mut Wire<S>, runs: usize) {
    merge(system, &json!({"spec": {"warm": 1}})).await;
    let mut took = Vec::new();
    for run in 0..runs {
        while template(system).await["status"]["warmReady"] != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let name = format!("c{run}");
        took.push(page(system, wire, &name, &format!("{name}.example.com")).await);
        let (_, answer) = wire.call("GET", &format!("{WORKSPACES}/{name}"), "").await.unwrap();
        let record: Value = serde_json::from_slice(&answer).unwrap();
        assert!(record["status"]["tookOver"].is_object(), "it did not begin with a warm environment: {record}");
        assert_eq!(wire.call("DELETE", &format!("{WORKSPACES}/{name}"), "").await.unwrap().0, 200);
        gone(wire, &name).await;
    }
    merge(system, &json!({"spec": {"warm": null}})).await;
    row("workspace created → 200, of a warm environment", &spread(&took, "ms"), "", "", "≤ 300 ms");
}

async fn template(system: &System) -> Value {
    let request = http::Request::get("/apis/devsanctum.io/v1/templates/plain").body(Vec::new());
    system.client.request(request.unwrap()).await.unwrap()
}

async fn gone<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, name: &str) {
    while wire.call("GET", &format!("{WORKSPACES}/{name}"), "").await.unwrap().0 != 404 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One more step in a template whose other steps are built already.
async fn rebuilds<S: AsyncRead + AsyncWrite + Unpin>(
    system: &System,
    daemon: &Dockerd,
    wire: &mut Wire<S>,
    bridge: &str,
    runs: usize,
) {
    let work = "head -c 300000000 /dev/zero | sha256sum >/dev/null";
    let first = format!("RUN {work}\nRUN {work} && true\n");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut named = named(daemon);
    for run in 0..=runs {
        let (name, step) = (format!("b{run}"), |whose: &str| format!("{first}RUN {work} && echo {whose} {run} > /step\n"));
        let patch = json!({"spec": {"dockerfile": step("ours")}});
        let begun = Instant::now();
        merge(system, &patch).await;
        let (code, answer) = wire.call("POST", WORKSPACES, &records::workspace(&name).to_string()).await.unwrap();
        assert_eq!(code, 201, "{}", String::from_utf8_lossy(&answer));
        let took = ms(named.recv().await.unwrap() - begun);
        // One that runs would be looked at when the template changes again.
        assert_eq!(wire.call("DELETE", &format!("{WORKSPACES}/{name}"), "").await.unwrap().0, 200);
        gone(wire, &name).await;

        let context = tempfile::tempdir().unwrap();
        let text = format!("FROM {TINY}\n{}", step("bare"));
        std::fs::write(context.path().join("Dockerfile"), text).unwrap();
        let tag = format!("bare:{run}");
        let begun = Instant::now();
        daemon.docker(&["build", "-q", "--network", bridge, "-t", &tag, &context.path().display().to_string()]);
        // The first makes the steps that later ones find.
        if run > 0 {
            ours.push(took);
            bare.push(ms(begun.elapsed()));
        }
    }
    note("the same steps on the same engine, built before but for the last one");
    row(
        "template changed by a step → its image",
        &spread(&ours, "ms"),
        &format!("docker build {}", spread(&bare, "ms")),
        &format!("× {:.2}", median(&ours) / median(&bare)),
        "≤ 1.1 × docker build",
    );
}

async fn merge(system: &System, patch: &Value) {
    let request = http::Request::patch("/apis/devsanctum.io/v1/templates/plain")
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes());
    system.client.request::<Value>(request.unwrap()).await.unwrap();
}

/// The moments when an image gets a name that workspaces' images have, as the engine tells them.
fn named(daemon: &Dockerd) -> UnboundedReceiver<Instant> {
    let (tell, told) = unbounded_channel();
    let mut command = Command::new("docker");
    command.arg("-H").arg(format!("unix://{}", daemon.socket().display()));
    command.args(["events", "--filter", "type=image", "--filter", "event=tag", "--format", "{{.Actor.Attributes.name}}"]);
    // It ends with the engine.
    let mut events = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::spawn(move || {
        for name in BufReader::new(events.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if name.starts_with("devsanctum/env:") && tell.send(Instant::now()).is_err() {
                break;
            }
        }
        let _ = events.wait();
    });
    told
}
