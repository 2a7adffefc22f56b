//! What workspaces reach of a host is found, and the rules that are printed close it.

use super::fleet::{NAMES, Rack, project, workspace};
use super::isolation::{becomes, moved};
use super::moves::online;
use super::rack::server;
use super::records;
use super::repositories::host_address;
use super::world::{World, on, until};
use crate::engine_tls::{authority, server_pem};
use crate::support::bare;
use crate::support::dockerd::{Dockerd, Options, TINY};
use devsanctum::resource::conditions::find;
use serde_json::json;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

/// An address of the host on another network than the workspaces' (RFC 5737).
const ELSEWHERE: &str = "192.0.2.7";
const METADATA: &str = "169.254.169.254";
const AZURE: &str = "168.63.129.16";
const ALIBABA: &str = "100.100.100.200";
/// Where another server would be.
const OTHER: &str = "198.51.100.7";
const ENGINE: u16 = 2376;

/// Whether a connection from inside a workspace is taken.
async fn reaches(world: &World<'_>, from: &str, target: (&str, u16)) -> bool {
    takes(world.daemon, &world.container(from).await, target)
}

/// The same, by its container.
fn takes(daemon: &Dockerd, container: &str, (host, port): (&str, u16)) -> bool {
    let try_it = format!("nc -z -w 1 {host} {port} </dev/null || nc -w 1 {host} {port} -e true </dev/null && echo open");
    String::from_utf8_lossy(&daemon.try_docker(&["exec", container, "sh", "-c", &try_it]).stdout).contains("open")
}

/// All rules of the host.
fn firewall() -> String {
    let all = [["-S"].as_slice(), &["-t", "raw", "-S"]].map(|args| bare("iptables").args(args).output().unwrap().stdout);
    String::from_utf8(all.concat()).unwrap()
}

/// Workspaces' interfaces, as rules name them.
fn interfaces(world: &World<'_>) -> String {
    format!("ds{}+", &world.instance[..8])
}

/// Runs a script on the host, as a person would who pipes it into `sh`; `word` is its argument.
fn sh(script: &str, word: &str) -> String {
    piped(script, &["sh", "-s", word])
}

fn piped(script: &str, command: &[&str]) -> String {
    let mut child =
        bare(command[0]).args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn what_is_open_on_a_host_is_found_and_the_printed_rules_close_it() {
    let ca = authority("engine authority");
    let pem = server_pem(&ca, ELSEWHERE, false);
    let daemon = Dockerd::start(&Options { tls: Some((pem.path().to_owned(), ENGINE)), ..Options::default() });
    on(&daemon, async |mut world| {
        for address in [ELSEWHERE, METADATA, AZURE, ALIBABA] {
            let added = bare("ip").args(["address", "add", &format!("{address}/32"), "dev", "lo"]).status().unwrap();
            assert!(added.success());
        }
        // A service on all addresses, one on the other network alone, and credentials of clouds.
        let listeners = ["0.0.0.0:47110", "192.0.2.7:47111", "169.254.169.254:80", "168.63.129.16:32526", "100.100.100.200:80"];
        let listeners = listeners.map(|at| TcpListener::bind(at).unwrap());
        world.with_workspaces(2).await;
        let gateway = host_address(&world).await;
        let neighbour = world.workspace("w1").await.status.unwrap().address.unwrap();
        let open = [
            (gateway.as_str(), 47110),
            (&gateway, ENGINE),
            (ELSEWHERE, ENGINE),
            (ELSEWHERE, 47110),
            (ELSEWHERE, 47111),
            (METADATA, 80),
            (AZURE, 32526),
            (ALIBABA, 80),
        ];
        for target in open {
            assert!(reaches(&world, "w0", target).await, "{target:?} is open, so the question is a fair one");
        }
        assert!(!reaches(&world, "w0", (&neighbour, 8080)).await);
        // The control plane, the proxy and its API are on loopback: they answer nobody else, rules or none.
        for port in [world.api().port(), world.web.port(), world.traefik().api.port()] {
            assert!(!reaches(&world, "w0", (&gateway, port)).await, "{port}");
        }

        becomes(&world, "False HostReachable: workspaces can reach", "SharedBridge").await;
        let (code, said) = server(&world, &["test", "local"]);
        assert_eq!(code, Some(0), "{said}");
        for found in [&*format!("{gateway}:47110"), &format!("{gateway}:{ENGINE}"), "192.0.2.7:47111"] {
            assert!(said.contains(found), "{found} is not in: {said}");
        }
        for found in ["169.254.169.254:80", "168.63.129.16:32526", "100.100.100.200:80"] {
            assert!(said.contains(found), "{found} is not in: {said}");
        }
        // Another server's engine is closed while there is one, and open again by the next print.
        let rack = json!({"host": OTHER, "port": ENGINE});
        world
            .create(json!({"apiVersion": "devsanctum.io/v1", "kind": "DockerServer", "metadata": {"name": "rack"}, "spec": rack}))
            .await;
        let (code, rules) = server(&world, &["harden", "--print", "local"]);
        assert!(code == Some(0) && rules.contains(OTHER), "{rules}");
        sh(&rules, "close");
        assert!(firewall().contains(OTHER));
        let (code, said) = server(&world, &["remove", "rack", "--force"]);
        assert_eq!(code, Some(0), "{said}");
        // And so are rules that an earlier version has set one by one.
        let old = format!("-t raw -I PREROUTING -i {} -d {OTHER} -p tcp --dport 2376 -j DROP", interfaces(&world));
        assert!(bare("iptables").args(old.split(' ')).status().unwrap().success());
        let (code, rules) = server(&world, &["harden", "--print", "local"]);
        assert_eq!(code, Some(0), "{rules}");
        assert!(sh(&rules, "close").contains("closed to workspaces"));
        assert!(!firewall().contains(OTHER), "{}", firewall());
        assert_eq!(sh(&rules, "close"), "", "twice is once");
        let (code, said) = server(&world, &["test", "local"]);
        assert!(code == Some(0) && said.contains("Proved"), "{said}");
        for target in open {
            assert!(!reaches(&world, "w0", target).await, "{target:?} is closed");
        }
        assert_eq!(world.page("w0").await.0, 200, "the proxy reaches workspaces as before");

        // Where each workspace has a network of its own, the rules are for those as well.
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0").unwrap();
        world.kill();
        world.restart().await;
        becomes(&world, "True Proved: kept apart by a network for each workspace", "PerWorkspace").await;
        moved(&world, &["w0", "w1"]).await;
        for target in open {
            assert!(!reaches(&world, "w0", target).await, "{target:?} is closed");
        }
        sh(&rules, "open");
        for target in open {
            assert!(reaches(&world, "w0", target).await, "what was put in is taken out: {target:?}");
        }
        assert!(!firewall().contains(&interfaces(&world)), "{}", firewall());
        assert_eq!(sh(&rules, "open"), "", "twice is once");
        drop(listeners);
    });
}

/// A machine of the fleet, what a workspace on it tries to reach, and from where.
struct Place<'a> {
    rack: &'a Rack,
    /// One that tries, and its neighbour's address.
    from: String,
    neighbour: String,
    open: Vec<(String, u16)>,
}

impl<'a> Place<'a> {
    /// A service on every address of the machine, a cloud's credentials among them; and the way to the other machines.
    fn prepare(rack: &Rack) {
        let there = |words: &str| {
            piped(
                "",
                &[
                    &["nsenter", "--target", &rack.daemon.pid().to_string(), "--net", "--"],
                    &*words.split(' ').collect::<Vec<_>>(),
                ]
                .concat(),
            )
        };
        there("ip link set lo up");
        there(&format!("ip address add {METADATA}/32 dev lo"));
        there(&format!("ip route add default via {}", rack.uplink()));
        rack.daemon.docker(&["run", "-d", "--network", "host", TINY, "httpd", "-f", "-p", "80"]);
    }

    fn of(rack: &'a Rack, racks: &[Rack]) -> Self {
        let names: Vec<String> = rack.containers().into_keys().collect();
        let inspect = |format: &str, name: &str| rack.daemon.docker(&["inspect", "--format", format, name]).trim().to_owned();
        let address = |name: &str| inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name);
        let gateway = inspect("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", &names[0]);
        let mut open = vec![(gateway.clone(), 80), (gateway, ENGINE), (METADATA.to_owned(), 80), (rack.uplink(), SERVED)];
        open.extend(racks.iter().map(|one| (one.host(), ENGINE)));
        Self { rack, from: names[0].clone(), neighbour: address(&names[1]), open }
    }

    /// What it reaches of what it tries.
    fn reached(&self) -> Vec<&(String, u16)> {
        self.open.iter().filter(|(host, port)| takes(&self.rack.daemon, &self.from, (host, *port))).collect()
    }
}

/// Where something answers on the control plane's machine, on the networks that lead to the others.
const SERVED: u16 = 47110;

/// Waits until the proof of isolation says this of a server.
async fn proved(world: &World<'_>, name: &str, wanted: &str) {
    until(&format!("{name} to be {wanted}"), Duration::from_secs(90), async || {
        let _ = server(world, &["test", name]);
        let status = world.servers().get(name).await.unwrap().status.unwrap_or_default();
        let found = find(&status.conditions, "Isolated").map(|c| format!("{} {}: {}", c.status, c.reason, c.message));
        if found.as_ref().is_some_and(|now| now.starts_with(wanted)) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[test]
fn on_each_server_of_a_fleet_what_is_open_is_found_and_closed() {
    let here = Dockerd::start(&Options::default());
    let racks: Vec<Rack> = (0..NAMES.len()).map(Rack::start).collect();
    on(&here, async |world| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let served = TcpListener::bind(("0.0.0.0", SERVED)).unwrap();
        world.create(records::settings(TINY)).await;
        world.create(records::user()).await;
        for rack in &racks {
            rack.plug_in();
            Place::prepare(rack);
            world.create(rack.secret.clone()).await;
            world.create(rack.server()).await;
        }
        project(&world, "team", 16).await;
        for (n, rack) in racks.iter().enumerate() {
            online(&world, rack.name).await;
            for name in [format!("a{n}"), format!("b{n}")] {
                let mut one = workspace("team", &name);
                one["spec"]["dockerServer"] = json!(rack.name);
                world.create(one).await;
            }
        }
        until("two workspaces on each server", Duration::from_secs(120), async || {
            let counts: Vec<usize> = racks.iter().map(|rack| rack.containers().len()).collect();
            let serve = |rack: &Rack| rack.containers().keys().all(|own| takes(&rack.daemon, own, ("127.0.0.1", 8080)));
            if counts == [2, 2, 2] && racks.iter().all(serve) { Ok(()) } else { Err(format!("{counts:?}")) }
        })
        .await;
        let places: Vec<Place<'_>> = racks.iter().map(|rack| Place::of(rack, &racks)).collect();
        for place in &places {
            assert_eq!(
                place.reached().len(),
                place.open.len(),
                "{}: all is open, so the question is a fair one",
                place.rack.name
            );
            assert!(!takes(&place.rack.daemon, &place.from, (&place.neighbour, 8080)), "{}", place.rack.name);
            proved(&world, place.rack.name, "False HostReachable").await;
            let (_, said) = server(&world, &["test", place.rack.name]);
            let (gateway, port) = &place.open[1];
            for found in [format!("{gateway}:{port}"), format!("{METADATA}:80"), format!("{}:{ENGINE}", place.rack.host())] {
                assert!(said.contains(&found), "{found} is not in: {said}");
            }
            let (code, rules) = server(&world, &["harden", "--print", place.rack.name]);
            assert_eq!(code, Some(0), "{rules}");
            let pid = place.rack.daemon.pid().to_string();
            piped(&rules, &["nsenter", "--target", &pid, "--net", "--", "sh", "-s", "close"]);
            assert_eq!(place.reached(), Vec::<&(String, u16)>::new(), "{}", place.rack.name);
            assert!(!takes(&place.rack.daemon, &place.from, (&place.neighbour, 8080)), "{}", place.rack.name);
            proved(&world, place.rack.name, "True Proved").await;
        }
        eprintln!("{} targets closed on {} servers", places.iter().map(|p| p.open.len()).sum::<usize>(), places.len());
        drop(served);
    });
}
