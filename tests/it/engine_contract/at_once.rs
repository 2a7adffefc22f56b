//! Answers that nobody waits for, and calls at the same time.

use super::lab::Lab;
use devsanctum::engine::*;
use std::time::{Duration, Instant};

/// Waits until it is so.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} never came true");
}

pub async fn a_start_whose_answer_was_lost_happened(lab: &Lab) {
    let id = lab.engine.create(&lab.spec("a")).await.unwrap();
    lab.ask_and_leave("POST", &format!("/containers/{}/start", id.as_str()), None).await;
    until("the start", async || lab.inspect(&id).await.state == ContainerState::Running).await;
}

pub async fn a_removal_whose_answer_was_lost_happened(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    lab.ask_and_leave("DELETE", &format!("/containers/{}?force=1", id.as_str()), None).await;
    until("the removal", async || lab.engine.inspect(id.as_str()).await.unwrap().is_none()).await;
}

pub async fn a_stop_goes_on_without_who_asked_for_it(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    lab.ask_and_leave("POST", &format!("/containers/{}/stop?t=1", id.as_str()), None).await;
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Running);
    assert_eq!(lab.ended(&id).await.exit_code, 137);
}

pub async fn a_volume_and_a_network_whose_answers_were_lost_are_there(lab: &Lab) {
    let (volume, network) = (lab.name("v"), lab.name("n"));
    let labels = lab.labels("a");
    lab.ask_and_leave("POST", "/volumes/create", Some(&serde_json::json!({"Name": volume, "Labels": labels}))).await;
    let network_body = serde_json::json!({"Name": network, "Labels": labels, "CheckDuplicate": true});
    lab.ask_and_leave("POST", "/networks/create", Some(&network_body)).await;
    until("the volume", async || lab.engine.volume(&volume).await.unwrap().is_some_and(|v| v.labels == labels)).await;
    until("the network", async || lab.engine.network(&network).await.unwrap().is_some_and(|n| n.labels == labels)).await;
}

pub async fn of_two_creates_of_one_name_one_wins(lab: &Lab) {
    let spec = lab.spec("a");
    let (one, two) = tokio::join!(lab.engine.create(&spec), lab.engine.create(&spec));
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert!(matches!(&lost, Err(EngineError::Conflict(_))), "{lost:?}");
    assert_eq!(lab.engine.inspect(&spec.name).await.unwrap().unwrap().id, won.unwrap());
    assert_eq!(lab.engine.containers(None).await.unwrap().len(), 1);
}

pub async fn two_starts_at_once_are_one(lab: &Lab) {
    let id = lab.engine.create(&lab.spec("a")).await.unwrap();
    let (one, two) = tokio::join!(lab.engine.start(&id), lab.engine.start(&id));
    assert_eq!((one, two), (Ok(()), Ok(())));
    let first = lab.inspect(&id).await;
    lab.engine.start(&id).await.unwrap();
    assert_eq!((first.state, lab.inspect(&id).await.started_at), (ContainerState::Running, first.started_at));
}

pub async fn two_removals_at_once_are_both_fine(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let (one, two) = tokio::join!(lab.engine.remove(&id), lab.engine.remove(&id));
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(lab.engine.inspect(id.as_str()).await, Ok(None));
}

pub async fn a_removal_does_not_wait_for_a_stop(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let begun = Instant::now();
    lab.ask_and_leave("POST", &format!("/containers/{}/stop?t=30", id.as_str()), None).await;
    lab.engine.remove(&id).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(lab.engine.inspect(id.as_str()).await, Ok(None));
}
