//! What workspaces reach of a host is found, and the rules that are printed close it.

use super::isolation::{becomes, moved};
use super::rack::server;
use super::repositories::host_address;
use super::world::{World, on};
use crate::engine_tls::{authority, server_pem};
use crate::support::bare;
use crate::support::dockerd::{Dockerd, Options};
use serde_json::json;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

/// An address of the host on another network than the workspaces' (RFC 5737).
const ELSEWHERE: &str = "192.0.2.7";
const METADATA: &str = "169.254.169.254";
const AZURE: &str = "168.63.129.16";
const ALIBABA: &str = "100.100.100.200";
/// Where another server would be.
const OTHER: &str = "198.51.100.7";
const ENGINE: u16 = 2376;

/// Whether a connection from inside a workspace is taken.
async fn reaches(world: &World<'_>, from: &str, (host, port): (&str, u16)) -> bool {
    let from = world.container(from).await;
    let try_it = format!("nc -z -w 1 {host} {port} </dev/null || nc -w 1 {host} {port} -e true </dev/null && echo open");
    world.docker_says(&["exec", &from, "sh", "-c", &try_it]).contains("open")
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
    let mut child =
        bare("sh").args(["-s", word]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
