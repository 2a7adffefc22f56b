//! Many workspaces with a volume and a route each: from nothing to all answering through Traefik.

use super::docker::{self, Dockerd};
use super::floor::{Bare, BareTraefik, IN_FLIGHT};
use super::system::{self, System};
use super::tool::{cpu_seconds, find, median, note, row, spread};
use super::wire::until_ok;
use super::{Flags, records};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const BETWEEN: Duration = Duration::from_millis(50);

pub async fn run(flags: Flags) {
    let (count, runs) = (flags.count.unwrap_or(50), flags.runs.unwrap_or(3));
    let in_flight = flags.in_flight.unwrap_or(IN_FLIGHT);
    let daemon = docker::start();
    let (mut bare, mut ours, mut compose) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        // The order turns round, so that neither always has the warmer machine.
        if run % 2 == 0 {
            bare.push(floor(&daemon, count, in_flight).await);
        }
        ours.push(product(&daemon, count).await);
        if run % 2 == 1 {
            bare.push(floor(&daemon, count, in_flight).await);
        }
        if !flags.no_compose && (count <= 50 || run == 0) {
            compose.extend(composed(&daemon, count));
        }
    }
    let what = format!("{count} workspaces, apply to all answering");
    let ratio = median(&ours) / median(&bare);
    row(&what, &spread(&ours, "s"), &format!("bare calls {}", spread(&bare, "s")), &format!("× {ratio:.2}"), "≤ 1.10 × bare");
    if !compose.is_empty() {
        let ratio = median(&compose) / median(&ours);
        let beside = format!("compose v2 {}", spread(&compose, "s"));
        row(&what, &spread(&ours, "s"), &beside, &format!("{ratio:.2} × faster"), "≥ 2 × faster than compose");
    }
}

async fn floor(daemon: &Dockerd, count: usize, in_flight: usize) -> f64 {
    let bare = Bare::prepare(daemon).await;
    let traefik = BareTraefik::start().await;
    let before = cpu_seconds(daemon.pid());
    let begun = Instant::now();
    let made = bare.make_all(count, in_flight).await;
    let created = begun.elapsed().as_secs_f64();
    let host = |name: &String| format!("{name}.localhost");
    let routes = made.iter().map(|(name, (_, at))| (name.clone(), (host(name), SocketAddr::new(*at, 8080)))).collect();
    traefik.tell(&routes);
    for name in made.keys() {
        until_ok(traefik.web, &host(name), BETWEEN).await;
    }
    let took = begun.elapsed().as_secs_f64();
    note(&format!("bare: {took:.1} s, of it containers {created:.1} s; dockerd {:.1} CPU s", cpu_seconds(daemon.pid()) - before));
    docker::clear(daemon);
    took
}

async fn product(daemon: &Dockerd, count: usize) -> f64 {
    let dir = system::state();
    let system = System::with_engine(dir.path(), daemon).await;
    let all: Vec<Value> = (0..count).map(|i| records::workspace(&format!("w{i}"))).collect();
    let (ours, traefik) = (system.pid(), system.traefik());
    let before = [daemon.pid(), ours, traefik].map(cpu_seconds);
    let revision = revision(&system).await;
    let begun = Instant::now();
    let watching = system.await_running(count);
    // The watch begins with the first poll; applying runs beside it.
    let (hosts, applied) = tokio::join!(watching, async {
        tokio::task::block_in_place(|| system.apply(&all));
        begun.elapsed().as_secs_f64()
    });
    let running = begun.elapsed().as_secs_f64();
    for host in hosts.values() {
        until_ok(system.web, host, BETWEEN).await;
    }
    let took = begun.elapsed().as_secs_f64();
    let after = [daemon.pid(), ours, traefik].map(cpu_seconds);
    let spent: Vec<String> = before.iter().zip(after).map(|(b, a)| format!("{:.1}", a - b)).collect();
    let writes = self::revision(&system).await - revision;
    note(&format!(
        "ours: {took:.1} s, applied after {applied:.1}, all RUNNING after {running:.1}; CPU s dockerd/ours/Traefik {}; {writes} writes",
        spent.join("/")
    ));
    for one in system.status().await["loops"].as_array().into_iter().flatten() {
        note(&format!("  {} passes {} total {} ms {}", one["kind"], one["passes"], one["totalMs"], one["outcomes"]));
    }
    for (what, metric) in [("engine calls", "engine_call_seconds"), ("API requests", "api_request_seconds")] {
        note(&format!("  {what}: {}", told(&system, metric).await));
    }
    drop(system);
    docker::clear(daemon);
    took
}

/// A histogram of the product's metrics in a line: what, how often, seconds in all.
async fn told(system: &System, metric: &str) -> String {
    let (_, text) = system.target.connect().await.unwrap().call("GET", "/metrics", "").await.unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
    let counts = text.lines().filter_map(|line| Some((line.strip_prefix(&format!("devsanctum_{metric}_count"))?, value(line))));
    let lines = counts.map(|(rest, count)| {
        let labels = rest.split('}').next().unwrap_or_default();
        let sum = text.lines().find(|l| l.starts_with(&format!("devsanctum_{metric}_sum{labels}}}"))).map_or(0.0, value);
        let quoted: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
        format!("{} {count}/{sum:.1} s", quoted.join(" "))
    });
    lines.collect::<Vec<_>>().join(", ")
}

/// The newest revision of all.
pub async fn revision(system: &System) -> u64 {
    let path = "/apis/devsanctum.io/v1/settings";
    let (_, body) = system.target.connect().await.unwrap().call("GET", path, "").await.unwrap();
    let list: Value = serde_json::from_slice(&body).unwrap();
    list["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// The same isolated set by Docker Compose: a network for each, since it has no other way to keep services apart.
fn composed(daemon: &Dockerd, count: usize) -> Option<f64> {
    let Some(program) = find("DOCKER_COMPOSE", "docker-compose") else {
        note("no docker-compose in PATH: compose is left out");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..count).map(|i| format!("w{i}")).collect();
    let service = |name: &String| {
        let made = json!({
            "image": docker::TINY, "command": ["sh", "-c", records::SERVE], "networks": [name], "volumes": [format!("{name}:/home")],
            "cap_drop": ["ALL"], "cap_add": devsanctum_capabilities(), "security_opt": ["no-new-privileges"],
            "mem_limit": "64m", "memswap_limit": "64m", "cpus": 1.0, "pids_limit": 64, "hostname": name,
        });
        (name.clone(), made)
    };
    let services: serde_json::Map<String, Value> = names.iter().map(service).collect();
    let empty: serde_json::Map<String, Value> = names.iter().map(|n| (n.clone(), json!({}))).collect();
    let file = dir.path().join("compose.yaml");
    std::fs::write(&file, json!({"services": services, "networks": empty, "volumes": empty}).to_string()).unwrap();
    let mut command = Command::new(program);
    command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display())).args(["-p", "bench", "-f"]).arg(&file);
    let begun = Instant::now();
    let output = command.args(["up", "-d", "--quiet-pull"]).stdin(Stdio::null()).output().unwrap();
    let took = begun.elapsed().as_secs_f64();
    assert!(output.status.success(), "compose: {}", String::from_utf8_lossy(&output.stderr));
    note(&format!("compose: {took:.1} s"));
    docker::clear(daemon);
    Some(took)
}

/// What the product's containers may do, so that Compose's may do the same.
fn devsanctum_capabilities() -> [&'static str; 10] {
    ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"]
}
