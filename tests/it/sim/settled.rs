//! Whether the world is as the records say: exactly what they ask for, nothing else of ours, and nobody else's touched.

use super::hands::Hands;
use super::strangers::is_ours;
use super::world::World;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// In what the world differs from the records.
pub async fn differences(hands: &Hands<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let (workspaces, routes) = (hands.list("Workspace").await, hands.list("Route").await);
    let servers = hands.list("DockerServer").await;
    let (projects, templates) = (hands.list("Project").await, hands.list("Template").await);
    let clones = projects.iter().any(|p| p["spec"]["repositories"].as_array().is_some_and(|all| !all.is_empty()));
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for server in &servers {
        let status = text(&server["status"]["phase"]);
        if status != "ONLINE" {
            wrong.push(format!("server {} is {status}", text(&server["metadata"]["name"])));
        }
        let base = format!("ds-{}", &hands.world.instance()[..8]);
        let own = wanted.entry(text(&server["metadata"]["name"])).or_default();
        own.extend([format!("container {base}-probe running"), format!("network {base}")]);
    }
    for record in &workspaces {
        let meta = &record["metadata"];
        let (name, runs) = (text(&meta["name"]), record["spec"]["running"] == true);
        let (phase, is) = if runs { ("RUNNING", "running") } else { ("STOPPED", "exited") };
        if record["status"]["phase"] != phase {
            wrong.push(format!("{name} is {}: {}", record["status"]["phase"], record["status"]["message"]));
        }
        // One that began with a warm environment has that one's objects.
        let it = Some(&record["status"]["tookOver"]).filter(|it| it.is_object()).unwrap_or(meta);
        let base = format!("ds-{}-{}-{}", text(&it["namespace"]), text(&it["name"]), &text(&it["uid"])[..8]);
        if record["status"]["claimedBy"].is_object() {
            wrong.push(format!("{name} was claimed and is still there"));
        }
        let Some(own) = wanted.get_mut(text(&record["status"]["dockerServer"])) else {
            wrong.push(format!("{name} is on no server"));
            continue;
        };
        own.extend([format!("container {base} {is}"), format!("volume {base}.data")]);
        if record["status"]["latestEnvironment"].is_null() {
            wrong.extend(unlimited(hands.world, &base, &templates, &servers));
        }
        own.extend((clones && text(&meta["namespace"]) == "team").then(|| format!("volume {base}.workspace")));
        let volume = format!("{base}.data");
        if !runs && !found(hands.world, &base) {
            // One that never ran need not have been made; where it was removed by hand, what was written stays.
            own.remove(&format!("container {base} {is}"));
            if !hands.world.engines.values().any(|e| e.volumes().contains(&volume)) {
                own.remove(&format!("volume {volume}"));
            }
        }
    }
    for (server, engine) in &hands.world.engines {
        let mut there: BTreeSet<String> = engine
            .inspected()
            .iter()
            .filter(|(_, c)| {
                is_ours(&serde_json::from_value(c["Config"]["Labels"].clone()).unwrap_or_default(), hands.world.instance())
            })
            // One that was made and not started before it was to stop has as much to say as one that ran.
            .map(|(name, c)| format!("container {name} {}", text(&c["State"]["Status"]).replace("created", "exited")))
            .collect();
        there.extend(engine.networks().into_iter().filter(|n| n.starts_with("ds-")).map(|n| format!("network {n}")));
        there.extend(engine.volumes().into_iter().filter(|v| v.starts_with("ds-")).map(|v| format!("volume {v}")));
        let wanted = wanted.remove(server.as_str()).unwrap_or_default();
        wrong.extend(wanted.difference(&there).map(|w| format!("{server}: there is no {w}")));
        wrong.extend(there.difference(&wanted).map(|t| format!("{server}: nobody asked for {t}")));
    }
    wrong.extend(routed(hands.world, &workspaces, &routes));
    wrong
}

fn found(world: &World, container: &str) -> bool {
    world.engines.values().any(|e| e.containers().contains_key(container))
}

/// What a container may use that it should not. All workspaces are of one template.
fn unlimited(world: &World, container: &str, templates: &[Value], servers: &[Value]) -> Vec<String> {
    let (limits, cores) = (&templates[0]["spec"]["limits"], servers[0]["status"]["cpuCores"].as_f64().unwrap());
    let memory = limits["memoryMb"].as_u64().unwrap() << 20;
    let cpus = (limits["cpu"].as_f64().unwrap().min(cores) * 1e9) as u64;
    let should = json!({
        "Memory": memory, "MemorySwap": memory, "NanoCpus": cpus, "PidsLimit": limits["pids"], "RestartPolicy": {"Name": "no"},
    });
    let all = world.engines.values().filter_map(|e| e.inspected().remove(container)).map(|mut c| c["HostConfig"].take());
    // An engine that does not count swap has -1 there, whatever it was told.
    let as_counted = |mut host: Value| {
        if host["MemorySwap"] == -1 {
            host["MemorySwap"] = memory.into();
        }
        host
    };
    let differs =
        |host: Value| should.as_object().unwrap().iter().find(|(key, value)| host[key.as_str()] != **value).map(|d| d.0.clone());
    all.map(as_counted).filter_map(differs).map(|key| format!("{container} has another {key} than it should")).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Each route of a workspace that runs is served, as open as its record says, and no other.
fn routed(world: &World, workspaces: &[Value], routes: &[Value]) -> Vec<String> {
    let runs = |route: &Value| {
        let of = |w: &&Value| {
            w["metadata"]["name"] == route["spec"]["workspace"] && w["metadata"]["namespace"] == route["metadata"]["namespace"]
        };
        workspaces.iter().find(of).is_some_and(|w| w["spec"]["running"] == true)
    };
    let wanted: BTreeSet<String> = routes
        .iter()
        .filter(|r| runs(r))
        .map(|r| format!("{} {}", text(&r["spec"]["host"]), text(&r["spec"]["visibility"])))
        .collect();
    let served = world.proxy.routes().0.into_values();
    let served: BTreeSet<String> =
        served.map(|e| format!("{} {}", e.host, serde_json::to_value(e.visibility).unwrap().as_str().unwrap())).collect();
    let missing = wanted.difference(&served).map(|r| format!("the proxy does not serve {r}"));
    missing.chain(served.difference(&wanted).map(|r| format!("the proxy serves {r}"))).collect()
}
