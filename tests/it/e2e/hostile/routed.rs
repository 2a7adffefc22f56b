//! Names, hosts, ports, branches and addresses that are allowed and close to what is not: rules and clones are as intended.

use super::{SOON, files, has_environment, inspect, labelled, lines, numbered, strings};
use crate::e2e::records;
use crate::e2e::repositories::host_address;
use crate::e2e::world::{World, until};
use crate::support::git::{GitHost, image_with_git};
use crate::support::traefik::request;
use devsanctum::resource::{Workspace, conditions::holds};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const PROJECT: &str = "xn--h-a";
/// Writes down what it was started with.
const START: &str = "mkdir -p /tmp/args; i=0; for v; do printf %s \"$v\" >/tmp/args/A$i; i=$((i + 1)); done; \
    trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";
const DOMAIN: &str = "xn--pple-43d.example.com";

fn branches() -> [String; 6] {
    let fixed = ["feature/ü", "mаin", "a@b#c=d+e", "refs/heads/x", "main=--upload-pack"];
    let mut all: Vec<String> = fixed.map(str::to_owned).to_vec();
    all.push("b".repeat(200));
    all.try_into().unwrap()
}

/// Name, number and protocol of each port. Two differ in their last letter alone, and some could be read in two ways.
fn ports() -> Vec<(String, u16, &'static str)> {
    let long = "p".repeat(53);
    let name = |n: &str| n.to_owned();
    vec![
        (name("xn--80ak6aa92e"), 65535, "HTTP"),
        (format!("{long}1"), 1, "HTTP"),
        (format!("{long}2"), 2, "HTTPS"),
        (name("b-c"), 3, "HTTP"),
        (name("c"), 4, "HTTP"),
        (name("0"), 5, "TCP"),
    ]
}

async fn traefik(world: &World<'_>, what: &str) -> Vec<Value> {
    let url = format!("http://{}/api/http/{what}?per_page=1000", world.traefik().api);
    let direct = reqwest::Client::builder().no_proxy().build().unwrap();
    direct.get(url).send().await.unwrap().json().await.unwrap()
}

async fn rules(world: &World<'_>) -> BTreeSet<String> {
    let all = traefik(world, "routers").await;
    // The one that refuses other upgrades than to WebSockets is of all hosts, and leads to none of them.
    let own = all.iter().filter(|r| !r["name"].as_str().unwrap_or_default().starts_with("no-upgrades"));
    own.map(|r| format!("{} → {}", r["rule"].as_str().unwrap(), r["service"].as_str().unwrap_or_default())).collect()
}

/// Makes it all, and looks at what came of it. Gives how many values there are.
pub async fn to_where_they_belong(world: &World<'_>) -> usize {
    let before = rules(world).await;
    let host = GitHost::start();
    let branches = branches();
    host.repository("web.git", &branches.each_ref().map(String::as_str));
    std::fs::rename(host.root().join("web.git"), host.root().join("--upload-pack=x.git")).unwrap();
    let url = format!("http://{}:{}/--upload-pack=x.git", host_address(world).await, host.address.port());
    let repository = |(i, branch): (usize, &String)| json!({"name": format!("{i}--r"), "url": url, "defaultBranch": branch});
    let repositories: Vec<Value> = branches.iter().enumerate().map(repository).collect();

    let command: Vec<String> = ["sh", "-c", START, "sh"].map(str::to_owned).into_iter().chain(lines()).collect();
    let ports: Vec<Value> =
        ports().into_iter().map(|(name, port, protocol)| json!({"name": name, "port": port, "protocol": protocol})).collect();
    let mut template = records::template("routed");
    let spec = json!({
        "base": image_with_git(world.daemon), "startCommand": command, "ports": ports, "workdir": "/--upload-pack/-x",
        "folders": [], "limits": {"memoryMb": 64, "pids": 64},
    });
    template["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    world.create(template).await;
    let mut project = records::project(PROJECT, "routed");
    project["spec"]["repositories"] = json!(repositories);
    project["spec"]["portVisibility"] = json!({"a`) || Host(`b": "PUBLIC"});
    world.create(project).await;
    for (name, branch, domain) in [("a", "nirgends/ü", Some(DOMAIN)), ("a-b", branches[1].as_str(), None)] {
        let mut workspace = records::workspace(name);
        workspace["metadata"]["namespace"] = PROJECT.into();
        workspace["spec"]["branch"] = branch.into();
        workspace["spec"]["routeDomain"] = json!(domain);
        world.create(workspace).await;
    }
    let all = both(world).await;
    for w in &all {
        cloned(world, w, &branches);
    }
    routed(world, &all, before).await;
    let container = format!("ds-{PROJECT}-a-{}", &all[0].uid().unwrap()[..8]);
    let seen = inspect(world, &container);
    assert_eq!(strings(&seen["Config"]["Cmd"]), command);
    has_environment(world, &seen, &BTreeMap::new());
    labelled(world, &seen, "main", (PROJECT, "a", &all[0].uid().unwrap()), None);
    assert_eq!(files(world, &container, "/tmp/args"), numbered("A", &lines()));
    lines().len() + ports.len() + 2 * branches.len()
}

/// Both workspaces, once they have what was asked for.
async fn both(world: &World<'_>) -> Vec<Workspace> {
    let api: Api<Workspace> = Api::namespaced(world.client.clone(), PROJECT);
    let mut all = Vec::new();
    until("both workspaces", SOON, async || {
        all = vec![api.get("a").await.unwrap(), api.get("a-b").await.unwrap()];
        for w in &all {
            let conditions = w.status.clone().unwrap_or_default().conditions;
            if !["ContainerRunning", "RepositoriesReady"].iter().all(|kind| holds(&conditions, kind)) {
                return Err(format!("{conditions:?}"));
            }
        }
        Ok(())
    })
    .await;
    all
}

fn cloned(world: &World<'_>, w: &Workspace, branches: &[String; 6]) {
    let container = format!("ds-{PROJECT}-{}-{}", w.name_any(), &w.uid().unwrap()[..8]);
    let repositories = w.status.clone().unwrap().repositories;
    for (i, branch) in branches.iter().enumerate() {
        let wanted = if w.name_any() == "a" { branch } else { &branches[1] };
        assert_eq!(repositories[i].branch.as_ref(), Some(wanted));
        let file = format!("/--upload-pack/-x/{i}--r/branch");
        assert_eq!(world.docker(&["exec", &container, "cat", "--", &file]), *wanted);
    }
}

/// Traefik has a router for each port of each, of one host, and no other.
async fn routed(world: &World<'_>, all: &[Workspace], before: BTreeSet<String>) {
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for w in all {
        let status = w.status.clone().unwrap();
        let (slug, address) = (status.slug.unwrap(), status.address.unwrap());
        for (i, (name, port, protocol)) in ports().into_iter().enumerate().filter(|(_, p)| p.2 != "TCP") {
            let host = match (i, &w.spec.route_domain) {
                (0, Some(own)) => own.clone(),
                (0, None) => format!("{slug}.localhost"),
                _ => format!("{slug}-{name}.localhost"),
            };
            wanted.insert(format!("Host(`{host}`)"), format!("{}://{address}:{port}", protocol.to_lowercase()));
        }
    }
    until("the routers", SOON, async || {
        let services: BTreeMap<String, String> = traefik(world, "services")
            .await
            .iter()
            .filter_map(|s| {
                let url = s["loadBalancer"]["servers"][0]["url"].as_str()?;
                Some((s["name"].as_str()?.split('@').next()?.to_owned(), url.to_owned()))
            })
            .collect();
        let now = rules(world).await;
        let new = now.difference(&before).map(|line| line.split_once(" → ").unwrap());
        let url = |service: &str| services.get(service.split('@').next().unwrap()).cloned().unwrap_or_default();
        let found: BTreeMap<String, String> = new.map(|(rule, service)| (rule.to_owned(), url(service))).collect();
        let fine = found == wanted && before.is_subset(&now);
        if fine { Ok(()) } else { Err(format!("{wanted:?} wanted, found {found:?}")) }
    })
    .await;
    for stranger in ["a", "b", "example.com", "apple.com", "a.b,c.d"] {
        assert_eq!(request(world.web, stranger, "/", &[]).await.0, 404, "{stranger} is served");
    }
}
