//! What a container may use, and what others do to that.

use super::lab::Lab;
use devsanctum::engine::*;
use serde_json::{Value, json};
use std::time::Duration;

fn limits(spec: &ContainerSpec) -> Resources {
    Resources::limited(spec.memory, spec.nano_cpus, spec.pids)
}

/// As somebody with `docker update`.
async fn edit(lab: &Lab, id: &ContainerId, resources: Value) {
    let (status, answer) = lab.ask("POST", &format!("/containers/{}/update", id.as_str()), Some(&resources)).await;
    assert_eq!(status, 200, "{answer}");
}

fn more() -> Value {
    json!({"Memory": 128 << 20, "MemorySwap": 256 << 20, "NanoCpus": 1_000_000_000, "PidsLimit": 999})
}

pub async fn a_container_has_the_limits_it_was_made_with(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.engine.create(&spec).await.unwrap();
    assert_eq!(lab.inspect(&id).await.resources, Some(limits(&spec)));
    lab.engine.start(&id).await.unwrap();
    assert_eq!(lab.inspect(&id).await.resources, Some(limits(&spec)));
}

pub async fn limits_that_somebody_changed_are_seen_and_given_back_to_what_runs(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    let before = lab.inspect(&id).await;
    edit(lab, &id, more()).await;
    let (memory, nano_cpus) = (128 << 20, 1_000_000_000);
    let seen = Resources { memory, swap: true, nano_cpus, pids: 999, restarts: false };
    assert_eq!(lab.inspect(&id).await.resources, Some(seen));
    lab.engine.update(&id, &limits(&spec)).await.unwrap();
    assert_eq!(lab.inspect(&id).await, before, "it was not started anew");
    lab.engine.update(&id, &limits(&spec)).await.unwrap();
    assert_eq!(lab.inspect(&id).await, before);
}

pub async fn limits_are_given_back_to_what_does_not_run(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.engine.create(&spec).await.unwrap();
    edit(lab, &id, more()).await;
    lab.engine.update(&id, &limits(&spec)).await.unwrap();
    assert_eq!(lab.inspect(&id).await.resources, Some(limits(&spec)));
    lab.engine.start(&id).await.unwrap();
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    edit(lab, &id, json!({"PidsLimit": 999})).await;
    lab.engine.update(&id, &limits(&spec)).await.unwrap();
    assert_eq!(lab.inspect(&id).await.resources, Some(limits(&spec)));
}

pub async fn what_its_engine_was_told_to_start_by_itself_is_seen_and_taken_back(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    for name in ["always", "unless-stopped", "on-failure"] {
        edit(lab, &id, json!({"RestartPolicy": {"Name": name}})).await;
        assert_eq!(lab.inspect(&id).await.resources, Some(Resources { restarts: true, ..limits(&spec) }), "{name}");
        lab.engine.update(&id, &limits(&spec)).await.unwrap();
        assert_eq!(lab.inspect(&id).await.resources, Some(limits(&spec)), "{name}");
    }
}

pub async fn limits_that_an_engine_cannot_give_are_refused_and_change_nothing(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    let cores = lab.engine.info().await.unwrap().cpu_cores;
    let much = Resources { nano_cpus: (u64::from(cores) + 1) * 1_000_000_000, ..limits(&spec) };
    let error = lab.engine.update(&id, &much).await.unwrap_err();
    assert!(matches!(&error, EngineError::Invalid(t) if t.contains("CPUs available")), "{error:?}");
    let none = Resources { memory: 0, ..limits(&spec) };
    assert!(matches!(lab.engine.update(&id, &none).await, Err(EngineError::Invalid(_))));
    let path = format!("/containers/{}/update", id.as_str());
    let (status, words) = lab.refusal("POST", &path, Some(&json!({"Memory": 1 << 30}))).await;
    let why = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time";
    assert_eq!((status, words), (409, format!("Cannot update container {}: {why}", id.as_str())));
    assert_eq!(lab.inspect(&id).await.resources, Some(limits(&spec)));
    lab.engine.remove(&id).await.unwrap();
    assert!(matches!(lab.engine.update(&id, &limits(&spec)).await, Err(EngineError::NotFound(_))));
}

pub async fn a_change_of_limits_is_told(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let since = lab.now();
    edit(lab, &id, json!({"PidsLimit": 999})).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let events = lab.events(&since).await;
    let told: Vec<_> = events.iter().filter(|e| e["Actor"]["ID"] == id.as_str()).collect();
    assert_eq!(told.iter().map(|e| e["Action"].as_str().unwrap()).collect::<Vec<_>>(), ["update"]);
    assert_eq!(told[0]["Actor"]["Attributes"]["devsanctum.io/instance"], lab.instance.as_str());
}
