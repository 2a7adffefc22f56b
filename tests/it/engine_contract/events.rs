//! What the engine tells of by itself, in which order and with which attributes.

use super::lab::Lab;
use devsanctum::engine::*;
use serde_json::{Value, json};
use std::time::Duration;

/// Events since then that are about a container, in order.
async fn told(lab: &Lab, since: &str, id: &ContainerId) -> Vec<Value> {
    let about = |e: &Value| e["Actor"]["ID"] == id.as_str() || e["Actor"]["Attributes"]["container"] == id.as_str();
    let mut all = lab.events(since).await;
    all.retain(about);
    all
}

fn actions(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["Action"].as_str().unwrap()).collect()
}

/// An event is told a moment after what it is about.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

pub async fn a_container_s_life_is_told_in_order(lab: &Lab) {
    let network = lab.network_spec("n");
    lab.engine.create_network(&network).await.unwrap();
    let since = lab.now();
    let spec = ContainerSpec { attach: Attach::Network(network.name.clone()), ..lab.spec("a") };
    let id = lab.run(&spec).await;
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    lab.engine.remove(&id).await.unwrap();
    a_moment().await;
    let events = told(lab, &since, &id).await;
    let kinds: Vec<_> = events.iter().map(|e| format!("{} {}", e["Type"], e["Action"]).replace('"', "")).collect();
    let life = ["container create", "network connect", "container start", "container kill"];
    assert_eq!(kinds[..4], life, "{kinds:?}");
    let rest: Vec<&str> = kinds[4..].iter().map(String::as_str).filter(|k| *k != "container kill").collect();
    assert_eq!(rest, ["container die", "network disconnect", "container stop", "container destroy"], "{kinds:?}");
    for event in events.iter().filter(|e| e["Type"] == "container") {
        let attributes = &event["Actor"]["Attributes"];
        assert_eq!((&attributes["name"], &attributes["image"]), (&json!(spec.name), &json!(spec.image)), "{event}");
        assert!(spec.labels.iter().all(|(k, v)| attributes[k] == *v), "{event}");
    }
    let of_network = events.iter().find(|e| e["Type"] == "network").unwrap();
    assert_eq!(of_network["Actor"]["Attributes"]["name"], network.name);
}

pub async fn an_end_tells_its_code_and_a_kill_its_signal(lab: &Lab) {
    let since = lab.now();
    let id = lab.run(&lab.script("a", "exit 3")).await;
    lab.ended(&id).await;
    let killed = lab.run(&lab.spec("b")).await;
    lab.kill(&lab.name("b"));
    lab.ended(&killed).await;
    a_moment().await;
    let events = told(lab, &since, &id).await;
    assert_eq!(actions(&events), ["create", "connect", "start", "die", "disconnect"], "none is a network, too");
    assert_eq!(events[1]["Actor"]["Attributes"]["name"], "none");
    assert_eq!(events[3]["Actor"]["Attributes"]["exitCode"], "3");
    let events = told(lab, &since, &killed).await;
    assert_eq!(actions(&events), ["create", "connect", "start", "kill", "die", "disconnect"]);
    assert_eq!(events[3]["Actor"]["Attributes"]["signal"], "9");
    assert_eq!(events[4]["Actor"]["Attributes"]["exitCode"], "137");
}

pub async fn running_out_of_memory_is_told_before_the_end(lab: &Lab) {
    let since = lab.now();
    let id = lab.run_out_of_memory("a").await;
    lab.ended(&id).await;
    a_moment().await;
    let mut events = told(lab, &since, &id).await;
    // The kernel may tell of it more than once.
    events.dedup_by(|a, b| a["Action"] == b["Action"]);
    // Of the beginning dockerd may not know any more: it keeps 256 events.
    assert!(actions(&events).ends_with(&["oom", "die", "disconnect"]), "{:?}", actions(&events));
}

pub async fn a_new_name_is_told_with_the_old_one(lab: &Lab) {
    let since = lab.now();
    let id = lab.run(&lab.spec("a")).await;
    lab.rename(&lab.name("a"), &lab.name("b"));
    a_moment().await;
    let events = told(lab, &since, &id).await;
    assert_eq!(actions(&events), ["create", "connect", "start", "rename"]);
    let attributes = &events[3]["Actor"]["Attributes"];
    assert_eq!((&attributes["name"], &attributes["oldName"]), (&json!(lab.name("b")), &json!(format!("/{}", lab.name("a")))));
}

pub async fn freezing_and_thawing_are_told(lab: &Lab) {
    let since = lab.now();
    let id = lab.run(&lab.spec("a")).await;
    lab.pause(&lab.name("a"));
    lab.engine.unpause(&id).await.unwrap();
    a_moment().await;
    assert_eq!(actions(&told(lab, &since, &id).await), ["create", "connect", "start", "pause", "unpause"]);
}

pub async fn networks_and_volumes_are_told_without_labels(lab: &Lab) {
    let since = lab.now();
    let (network, volume) = (lab.network_spec("n"), VolumeSpec { name: lab.name("v"), labels: lab.labels("v") });
    let id = lab.engine.create_network(&network).await.unwrap();
    lab.engine.create_volume(&volume).await.unwrap();
    lab.engine.remove_volume(&volume.name).await.unwrap();
    lab.engine.remove_network(&id).await.unwrap();
    a_moment().await;
    let mut events = lab.events(&since).await;
    events.retain(|e| e["Actor"]["ID"] == id || e["Actor"]["ID"] == volume.name);
    let kinds: Vec<_> = events.iter().map(|e| format!("{} {}", e["Type"], e["Action"]).replace('"', "")).collect();
    assert_eq!(kinds, ["network create", "volume create", "volume destroy", "network destroy"]);
    assert_eq!(events[0]["Actor"]["Attributes"], json!({"name": network.name, "type": "bridge"}));
    assert_eq!(events[1]["Actor"]["Attributes"], json!({"driver": "local"}));
}

pub async fn a_command_is_not_told(lab: &Lab) {
    let since = lab.now();
    let id = lab.run(&lab.spec("a")).await;
    lab.sh(&id, "true").await;
    a_moment().await;
    assert_eq!(actions(&told(lab, &since, &id).await), ["create", "connect", "start"]);
}

pub async fn what_is_past_can_be_asked_for_and_only_that(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    a_moment().await;
    let since = lab.now();
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    a_moment().await;
    let events = told(lab, &since, &id).await;
    assert_eq!((actions(&events).first(), actions(&events).last()), (Some(&"kill"), Some(&"stop")));
    let nanos: Vec<i64> = events.iter().map(|e| e["timeNano"].as_i64().unwrap()).collect();
    assert!(nanos.is_sorted() && nanos.iter().zip(&events).all(|(n, e)| e["time"] == n / 1_000_000_000), "{events:?}");
    assert_eq!(told(lab, &lab.now(), &id).await, Vec::<Value>::new());
}

pub async fn only_the_last_256_are_remembered(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let names = [lab.name("b"), lab.name("a")];
    for turn in 0..300 {
        let path = format!("/containers/{}/rename?name={}", id.as_str(), names[turn % 2]);
        assert_eq!(lab.ask("POST", &path, None).await.0, 204);
    }
    a_moment().await;
    let (status, body) = lab.ask_bytes(&format!("/v1.41/events?since=1&until={}", lab.now()), "GET", None).await;
    let count = body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count();
    // What others do on the same engine meanwhile takes a place, and is later than what was asked for.
    assert!(status == 200 && (240..=256).contains(&count), "{status}: {count}");
    let events = told(lab, "1", &id).await;
    assert!(events.iter().all(|e| e["Action"] == "rename"), "its beginning is forgotten");
}
