//! The README's commands on a machine where nothing runs yet: `make up`, `make up` again, `make down`.

use crate::support::machine::Machine;
use crate::support::open_to_others;
use crate::support::source::root;
use crate::support::traefik::{PATIENCE, find_traefik};
use std::time::Instant;

const STATE: &str = "/var/lib/devsanctum";
const BINARY: &str = env!("CARGO_BIN_EXE_devsanctum");

/// A machine that `make up` can be run on: a Traefik is installed, and Debian's packages lie in a folder.
struct Host(Machine);

impl Host {
    #[track_caller]
    fn make(&self, words: &[&str]) -> String {
        let mut command = self.0.command("make");
        let path = format!("{}:{}", find_traefik().parent().unwrap().display(), std::env::var("PATH").unwrap());
        let packages = root().join("target/tools/packages");
        assert!(packages.is_dir(), "no {}: run scripts/test-tools.sh", packages.display());
        command.env("PATH", path).env("DEVSANCTUM_BINARY", BINARY).env("DEVSANCTUM_PACKAGES", packages);
        let done = command.arg("--no-print-directory").args(words).output().unwrap();
        assert!(done.status.success(), "make {words:?}: {done:#?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// What the given way of printing says of the quickstart's workspace.
    fn hello(&self, format: &str) -> String {
        self.0.ok(&[BINARY, "get", "-n", "quickstart", "workspace/hello", "-o", format]).trim().to_owned()
    }

    /// What is there: records, containers with their start, images, networks, volumes, processes and firewall rules.
    fn world(&self) -> Vec<String> {
        let started = "docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.RestartCount}}' $(docker ps -aq)";
        let kept = "docker image ls -q; docker network ls -q; docker volume ls -q";
        let ours = format!("cat {STATE}/devsanctum.pid {STATE}/dockerd.pid; pidof traefik");
        let records = [&["all", "-A"][..], &["dockerservers"], &["users,templates,projects"]].map(|what| self.records(what));
        let looks = [started, kept, &ours, "iptables -S; iptables -t raw -S"].map(|look| self.0.ok(&["sh", "-ec", look]));
        looks.into_iter().chain(records).collect()
    }

    /// Records as JSON, without what changes with what else this machine does.
    fn records(&self, what: &[&str]) -> String {
        let said = self.0.ok(&[&[BINARY, "get", "-o", "json"], what].concat());
        let mut list: serde_json::Value = serde_json::from_str(&said).unwrap();
        list["metadata"] = Default::default();
        for server in list["items"].as_array_mut().unwrap().iter_mut().filter(|r| r["kind"] == "DockerServer") {
            for kept in ["resourceVersion", "managedFields"] {
                server["metadata"][kept] = Default::default();
            }
            for figure in ["ramUsedMb", "diskUsedGb", "resourcesUpdatedAt"] {
                assert!(!server["status"][figure].take().is_null(), "no {figure}");
            }
        }
        format!("{list:#}")
    }

    /// Which of the rules are there that close this machine and cloud metadata to workspaces.
    fn closed(&self) -> [bool; 2] {
        let rules = self.0.ok(&["sh", "-ec", "iptables -S; iptables -t raw -S"]);
        ["-A INPUT -i ds", "-d 169.254.0.0/16 -j DROP"].map(|rule| rules.contains(rule))
    }

    fn page(&self, url: &str) -> Option<String> {
        let got = self.0.command("curl").args(["-fsS", "--max-time", "5", url]).output().unwrap();
        got.status.success().then(|| String::from_utf8(got.stdout).unwrap())
    }
}

/// Waits until this holds.
#[track_caller]
fn soon(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn make_up_serves_the_quickstart_changes_nothing_again_and_make_down_leaves_the_workspaces() {
    let host = Host(Machine::start());
    let said = host.make(&["up"]);
    let url = &host.hello("jsonpath={.status.services[0].url}");
    assert!(url.ends_with(".localhost") && said.contains(&format!("Workspace   {url}\n")), "{said}");
    for told in ["Ready in ", "/var/lib/devsanctum/admin.token", "Three things to try"] {
        assert!(said.contains(told), "no {told:?} in: {said}");
    }
    assert!(host.page(url).is_some_and(|page| page.starts_with("<h1>Hello from ")));
    assert_eq!(open_to_others(&host.0.folder(STATE)), Vec::<String>::new());
    assert_eq!(host.closed(), [true; 2]);

    soon("the server counts its workspace", || {
        host.0.ok(&[BINARY, "get", "dockerserver/local", "-o", "jsonpath={.status.workspaces}"]).trim() == "1"
    });
    let before = host.world();
    let again = host.make(&["up"]);
    assert!(again.contains("runs already") && again.contains(url) && !again.contains("applying"), "{again}");
    assert!(again.contains("  Sign in     http://devsanctum.localhost/setup (makes the first administrator"), "{again}");
    assert_eq!(host.world(), before);

    let container = host.hello("jsonpath={.status.containerId}");
    host.0.ok(&["docker", "kill", &container]);
    soon("the killed container answers again", || host.page(url).is_some());
    soon("it says so", || host.hello("jsonpath={.status.phase}") == "RUNNING");

    let said = host.make(&["down"]);
    assert!(said.contains("has stopped") && said.contains("goes on with its containers"), "{said}");
    assert_eq!(host.0.ok(&["docker", "inspect", "-f", "{{.State.Running}}", &container]), "true\n");
    assert_eq!(host.page(url), None);

    host.make(&["up"]);
    assert!(host.page(url).is_some());
    assert_eq!(host.hello("jsonpath={.status.containerId}"), container);

    host.make(&["down", "ALL=1"]);
    assert!(!host.0.command("docker").arg("version").output().unwrap().status.success());
    assert_eq!(host.closed(), [false; 2]);
    host.make(&["up"]);
    assert!(host.page(url).is_some());
    host.make(&["down", "ALL=1"]);
}
