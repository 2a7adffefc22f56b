//! What the way through a gateway costs: one Traefik in front, the same service behind, reached directly, through HAProxy as a server's
//! gateway runs it, and through a second Traefik that does the same, in turns. As between two machines: a wire, and a processor on each
//! side of it. Then with what stands at both ends sharing all processors, where a gateway takes from Traefik what it needs; and over
//! loopback, which is an upper bound: there the direct way crosses no network, as it must where there is a gateway.

use super::Flags;
use super::floor::BareTraefik;
use super::tool::{find, free_port, median, ms, note, quantile, row, spread};
use super::wire::{plain, until_ok};
use devsanctum::proxy::gateway::{Authority, Identity, Listening, PROXY, Way, config, domain, label, target};
use devsanctum::proxy::render::render;
use devsanctum::proxy::{RenderSettings, RouteEntry, RouteTable};
use devsanctum::resource::common::{Protocol, Visibility};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DIRECT: &str = "direct";
const HAPROXY: &str = "haproxy";
const TRAEFIK: &str = "traefik";
/// Each way in each turn.
const REQUESTS: usize = 2000;
const CONNECTIONS: usize = 16;
const TURN: Duration = Duration::from_secs(2);
const SERVER: &str = "0b5c7a51-3c8f-4c56-9f5e-7d3a3c1e4f00";
/// Of a page, as a workspace's might be.
const BODY: usize = 1024;

/// What a packet takes from one machine to another in one data centre.
const WIRE: Duration = Duration::from_micros(150);

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the two ends are laid out.
struct Ground {
    name: &'static str,
    wire: bool,
    /// The processors of the end with Traefik and of the end with the service and its gateways; else all, for both.
    processors: Option<[usize; 2]>,
    /// The goals are those of what is laid out so.
    goals: bool,
}

const GROUNDS: [Ground; 3] = [
    Ground { name: "between two machines of a processor each", wire: true, processors: Some([0, 1]), goals: true },
    Ground { name: "over a wire, all on the same processors", wire: true, processors: None, goals: true },
    Ground { name: "over loopback, an upper bound", wire: false, processors: None, goals: false },
];

/// Where the service is, and where each way to it begins.
struct Far {
    upstream: SocketAddr,
    ways: Vec<(&'static str, SocketAddr)>,
    identity: Arc<Identity>,
}

pub fn run(flags: Flags) {
    let runs = flags.runs.unwrap_or(15);
    for ground in &GROUNDS {
        let [near, far] = ground.processors.map_or([None; 2], |each| each.map(Some));
        let (told, tell) = (std::sync::mpsc::channel(), tokio::sync::oneshot::channel::<()>());
        let other = std::thread::spawn(move || end(far, async move { serve(ground, told.0, tell.1).await }));
        let far = told.1.recv().unwrap();
        std::thread::scope(|s| s.spawn(|| end(near, measure(ground, &far, runs))).join().unwrap());
        drop(tell.0);
        other.join().unwrap();
    }
}

/// One end, with all its threads and programs, on its processor.
fn end<F: Future>(processor: Option<usize>, work: F) -> F::Output {
    if let Some(processor) = processor {
        let mut set = rustix::thread::CpuSet::new();
        set.set(processor);
        rustix::thread::sched_setaffinity(None, &set).unwrap();
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

/// The service and the gateways before it, until they are no longer wanted.
async fn serve(ground: &Ground, told: std::sync::mpsc::Sender<Far>, wanted: tokio::sync::oneshot::Receiver<()>) {
    let upstream = service().await;
    let dir = tempfile::tempdir().unwrap();
    let (pem, key) = Authority::make().unwrap();
    let authority = Authority::read(&pem, &key).unwrap();
    let identity = Arc::new(authority.client(PROXY).unwrap());
    let (one, other) = (free_port(), free_port());
    let _haproxy = haproxy(&dir.path().join(HAPROXY), &authority, one, upstream);
    let _traefik = traefik(&dir.path().join(TRAEFIK), &authority, other, upstream);
    let way = |(name, port)| {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        (name, if ground.wire { wire(at) } else { at })
    };
    let ways: Vec<_> = [(DIRECT, upstream.port()), (HAPROXY, one), (TRAEFIK, other)].map(way).to_vec();
    if ground.wire {
        note(&format!("{}: a wire takes {} µs each way here", ground.name, crossing(ways[0].1).await / 2));
    }
    told.send(Far { upstream, ways, identity }).unwrap();
    let _ = wanted.await;
}

/// All the ways in turns.
async fn measure(ground: &Ground, far: &Far, runs: usize) {
    let Far { upstream, ways, identity } = far;
    let front = BareTraefik::start().await;
    let entry = |(name, at): &(&str, SocketAddr)| ((*name).to_owned(), entry(name, *at, *upstream, identity));
    let settings =
        RenderSettings { entry_points: vec!["web".into()], gate_url: "http://127.0.0.1:9".into(), ..RenderSettings::default() };
    let rendered = render(&RouteTable(ways.iter().map(entry).collect()), &settings);
    front.tell_all(&serde_json::to_value(&rendered.configuration).unwrap());
    for (name, _) in ways {
        until_ok(front.web, &host(name), Duration::from_millis(20)).await;
    }
    let mut latency: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut throughput: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in 0..=runs {
        for (name, _) in ways {
            let (one, many) = (one_by_one(front.web, name).await, at_once(front.web, name).await);
            // The first turn warms up.
            if run > 0 {
                latency.entry(name).or_default().push(one);
                throughput.entry(name).or_default().push(many);
            }
        }
    }
    for (name, _) in &ways[1..] {
        tell(ground, name, &latency, &throughput);
    }
}

/// A wire to what listens there: all that goes over it, either way, is under way for so long. The kernel's own (`netem`) is a module
/// that not every kernel has; threads that sleep cost each way the same.
fn wire(to: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(to) else { continue };
            for (from, on) in [(&near, &far), (&far, &near)] {
                let _ = from.set_nodelay(true);
                let (from, on) = (from.try_clone().unwrap(), on.try_clone().unwrap());
                std::thread::spawn(move || carry(from, on));
            }
        }
    });
    address
}

fn carry(mut from: TcpStream, mut on: TcpStream) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(size) = from.read(&mut piece) {
        if size == 0 {
            break;
        }
        std::thread::sleep(WIRE);
        if on.write_all(&piece[..size]).is_err() {
            break;
        }
    }
    let _ = on.shutdown(Shutdown::Both);
}

/// How long there and back takes beyond a service that costs nothing, the median, in microseconds.
async fn crossing(through: SocketAddr) -> u128 {
    let mut wire = plain(through, "service").await.unwrap();
    let mut all = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        assert_eq!(wire.call("GET", "/", "").await.unwrap().0, 200);
        all.push(begun.elapsed().as_micros());
    }
    all.sort_unstable();
    all[all.len() / 2]
}

fn tell(ground: &Ground, name: &str, latency: &BTreeMap<&str, Vec<f64>>, throughput: &BTreeMap<&str, Vec<f64>>) {
    let per_turn = |of: &BTreeMap<&str, Vec<f64>>| {
        let each: Vec<f64> = of[name].iter().zip(&of[DIRECT]).map(|(a, b)| a / b).collect();
        (median(&each), quantile(&each, 0.0), quantile(&each, 1.0))
    };
    let (more, least, most) = per_turn(latency);
    let goal = |goal| if name == HAPROXY && ground.goals { goal } else { "" };
    let ground = ground.name;
    row(
        &format!("request through {name} as gateway {ground}, median of {REQUESTS}"),
        &spread(&latency[name], "µs"),
        &format!("direct {}", spread(&latency[DIRECT], "µs")),
        &format!("{:+.0} % ({:+.0}–{:+.0})", (more - 1.0) * 100.0, (least - 1.0) * 100.0, (most - 1.0) * 100.0),
        goal("≤ +15 %"),
    );
    let (share, least, most) = per_turn(throughput);
    row(
        &format!("requests a second through {name} as gateway {ground}, {CONNECTIONS} connections"),
        &spread(&throughput[name], "/s"),
        &format!("direct {}", spread(&throughput[DIRECT], "/s")),
        &format!("{share:.2} ({least:.2}–{most:.2})"),
        goal("≥ 0.85"),
    );
}

fn host(name: &str) -> String {
    format!("{name}.example.com")
}

/// Directly, `at` is where the service is reached; else where the gateway is.
fn entry(name: &str, at: SocketAddr, upstream: SocketAddr, identity: &Arc<Identity>) -> RouteEntry {
    let way = (name != DIRECT).then(|| {
        let name = format!("{}.{}", label(name, upstream.port(), Protocol::Http), domain(SERVER));
        Arc::new(Way { server: "rack".into(), gateway: at.to_string(), name, identity: identity.clone() })
    });
    let upstream = if way.is_none() { at } else { upstream };
    let (protocol, visibility, workspace_uid) = (Protocol::Http, Visibility::Public, name.to_owned());
    RouteEntry { host: host(name), upstream, protocol, visibility, workspace_uid, way }
}

/// A service that costs as little as can be.
async fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n{}", "x".repeat(BODY));
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while stream.read_buf(&mut asked).await.is_ok_and(|n| n > 0) {
                    if asked.ends_with(b"\r\n\r\n") {
                        asked.clear();
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                }
            });
        }
    });
    address
}

/// As a server's gateway runs it, in another folder.
fn haproxy(dir: &Path, authority: &Authority, port: u16, upstream: SocketAddr) -> Ended {
    std::fs::create_dir(dir).unwrap();
    let told = config(&Listening { port, threads: 1, ..Listening::default() });
    let leads = format!("{} {}\n", label(HAPROXY, upstream.port(), Protocol::Http), target(upstream, Protocol::Http));
    for (name, content) in [
        ("haproxy.cfg", told.replace("/run/devsanctum", &dir.display().to_string())),
        ("ca.pem", authority.pem().to_owned()),
        ("server.pem", authority.server(&domain(SERVER)).unwrap()),
        ("map", leads),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    let program = find("HAPROXY", HAPROXY).expect("no haproxy in PATH: scripts/test-tools.sh installs it");
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(dir.join("haproxy.cfg"));
    Ended(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// A second Traefik that takes the same certificates and goes by the same names.
fn traefik(dir: &Path, authority: &Authority, port: u16, upstream: SocketAddr) -> Ended {
    std::fs::create_dir(dir).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let name = format!("{}.{}", label(TRAEFIK, upstream.port(), Protocol::Http), domain(SERVER));
    let pem = authority.server(&domain(SERVER)).unwrap();
    let (certificate, key) = pem.split_at(pem.find("-----BEGIN PRIVATE KEY").unwrap());
    let told = json!({
        "tcp": {
            "routers": {"w": {"entryPoints": ["gateway"], "rule": format!("HostSNI(`{name}`)"), "service": "w", "tls": {"options": "mutual"}}},
            "services": {"w": {"loadBalancer": {"servers": [{"address": upstream.to_string()}]}}},
        },
        "tls": {
            "certificates": [{"certFile": at("cert.pem"), "keyFile": at("key.pem")}],
            "options": {"mutual": {"minVersion": "VersionTLS13", "sniStrict": true,
                "clientAuth": {"caFiles": [at("ca.pem")], "clientAuthType": "RequireAndVerifyClientCert"}}},
        },
    });
    let fixed = json!({
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false}, "log": {"level": "ERROR"},
        "entryPoints": {"gateway": {"address": format!("127.0.0.1:{port}")}},
        "providers": {"file": {"filename": at("told.yml")}},
    });
    let files = [("cert.pem", certificate), ("key.pem", key), ("ca.pem", authority.pem())];
    files.into_iter().for_each(|(name, content)| std::fs::write(dir.join(name), content).unwrap());
    for (name, content) in [("told.yml", &told), ("traefik.yml", &fixed)] {
        std::fs::write(dir.join(name), content.to_string()).unwrap();
    }
    let mut command = Command::new(find("DEVSANCTUM_TRAEFIK", TRAEFIK).unwrap());
    command.arg(format!("--configFile={}", at("traefik.yml"))).stdin(Stdio::null());
    Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// The median of one request after the other over a kept connection, in microseconds.
async fn one_by_one(web: SocketAddr, name: &str) -> f64 {
    let mut wire = plain(web, &host(name)).await.unwrap();
    let mut all = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        assert_eq!(wire.call("GET", "/", "").await.unwrap().0, 200);
        all.push(ms(begun.elapsed()));
    }
    median(&all) * 1000.0
}

/// Requests a second over several kept connections.
async fn at_once(web: SocketAddr, name: &str) -> f64 {
    let begun = Instant::now();
    let each = (0..CONNECTIONS).map(|_| {
        let host = host(name);
        tokio::spawn(async move {
            let (mut wire, mut count) = (plain(web, &host).await.unwrap(), 0u32);
            while begun.elapsed() < TURN {
                assert_eq!(wire.call("GET", "/", "").await.unwrap().0, 200);
                count += 1;
            }
            count
        })
    });
    let mut sum = 0;
    for one in each.collect::<Vec<_>>() {
        sum += one.await.unwrap();
    }
    let took = begun.elapsed();
    if sum == 0 {
        note(&format!("{name}: nothing came back"));
    }
    f64::from(sum) / took.as_secs_f64()
}
