//! Statuses and words of the answers that the adapter reads.

use super::lab::Lab;
use devsanctum::engine::*;
use serde_json::json;
use std::time::Duration;

const GONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub async fn a_start_of_what_runs_and_a_stop_of_what_ended_change_nothing(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let path = |action: &str| format!("/containers/{}/{action}", id.as_str());
    assert_eq!(lab.ask("POST", &path("start"), None).await.0, 304);
    let before = lab.inspect(&id).await;
    assert_eq!(lab.ask("POST", &path("stop?t=0"), None).await.0, 204);
    assert_eq!(lab.ask("POST", &path("stop?t=0"), None).await.0, 304);
    assert_eq!(lab.ask("POST", &path("start"), None).await.0, 204);
    assert_ne!(lab.inspect(&id).await.started_at, before.started_at);
}

pub async fn nothing_can_be_done_with_a_container_that_is_not_there(lab: &Lab) {
    let (exec, update) = (json!({"Cmd": ["true"]}), json!({"PidsLimit": 9}));
    for (method, action, body) in [
        ("GET", "/json", None),
        ("POST", "/start", None),
        ("POST", "/stop", None),
        ("POST", "/kill", None),
        ("POST", "/pause", None),
        ("POST", "/unpause", None),
        ("POST", "/update", Some(&update)),
        ("POST", "/exec", Some(&exec)),
        ("GET", "/logs?stdout=1", None),
        ("DELETE", "", None),
        ("DELETE", "?force=1&v=1", None),
    ] {
        let (status, words) = lab.refusal(method, &format!("/containers/{GONE}{action}"), body).await;
        let before = if action == "/kill" { format!("Cannot kill container: {GONE}: ") } else { String::new() };
        assert_eq!((status, words), (404, format!("{before}No such container: {GONE}")), "{method} {action}");
    }
}

pub async fn nothing_can_be_done_with_a_network_that_is_not_there(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let whom = json!({"Container": id.as_str()});
    let gone = lab.name("gone");
    for (method, action, body) in
        [("GET", "", None), ("DELETE", "", None), ("POST", "/connect", Some(&whom)), ("POST", "/disconnect", Some(&whom))]
    {
        let (status, words) = lab.refusal(method, &format!("/networks/{gone}{action}"), body).await;
        assert!(status == 404 && words.contains(&format!("network {gone} not found")), "{method} {action}: {status} {words}");
    }
}

pub async fn a_volume_an_image_and_a_command_that_are_not_there_are_told_as_such(lab: &Lab) {
    let gone = lab.name("gone");
    for method in ["GET", "DELETE"] {
        let (status, words) = lab.refusal(method, &format!("/volumes/{gone}"), None).await;
        assert!(status == 404 && words.contains("no such volume"), "{method}: {status} {words}");
    }
    let (status, words) = lab.refusal("GET", &format!("/images/{gone}:1/json"), None).await;
    assert_eq!((status, words), (404, format!("no such image: {gone}:1: No such image: {gone}:1")));
    let start = json!({"Detach": true});
    for (method, action, body) in [("GET", "json", None), ("POST", "start", Some(&start)), ("POST", "resize?h=1&w=1", None)] {
        let (status, words) = lab.refusal(method, &format!("/exec/{GONE}/{action}"), body).await;
        assert!(status == 404 && words.starts_with("No such exec instance"), "{method} {action}: {status} {words}");
    }
}

pub async fn what_runs_is_removed_only_by_force(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let path = format!("/containers/{}", id.as_str());
    let (status, words) = lab.refusal("DELETE", &path, None).await;
    assert!(status == 409 && words.contains("cannot remove a running container"), "{status} {words}");
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Running);
    assert_eq!(lab.ask("DELETE", &format!("{path}?force=1"), None).await.0, 204);
}

pub async fn what_does_not_run_cannot_be_killed_or_frozen(lab: &Lab) {
    let id = lab.engine.create(&lab.spec("a")).await.unwrap();
    for action in ["kill", "pause"] {
        let (status, words) = lab.refusal("POST", &format!("/containers/{}/{action}", id.as_str()), None).await;
        assert!(status == 409 && words.contains("is not running"), "{action}: {status} {words}");
    }
}

pub async fn what_is_frozen_cannot_be_frozen_again(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let pause = format!("/containers/{}/pause", id.as_str());
    assert_eq!(lab.ask("POST", &pause, None).await.0, 204);
    let (status, words) = lab.refusal("POST", &pause, None).await;
    assert!(status == 409 && words.contains("is already paused"), "{status} {words}");
    // A frozen one can be stopped and removed as it is.
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Exited);
}

pub async fn a_version_that_is_too_new_is_refused(lab: &Lab) {
    let (status, body) = lab.ask_bytes("/v9.99/info", "GET", None).await;
    assert!(status == 400 && String::from_utf8_lossy(&body).contains("client version 9.99 is too new"), "{status} {body:?}");
}

pub async fn who_asks_is_told_the_version(lab: &Lab) {
    let (status, body) = lab.ask_bytes("/_ping", "GET", None).await;
    assert_eq!((status, &body[..]), (200, &b"OK"[..]));
    let told = lab.ask("GET", "/version", None).await.1["ApiVersion"].as_str().unwrap().to_owned();
    assert_eq!(lab.engine.info().await.unwrap().api_version, told);
}

pub async fn a_path_that_means_nothing_is_not_found(lab: &Lab) {
    let (status, words) = lab.refusal("GET", "/nonsense", None).await;
    assert_eq!((status, words.as_str()), (404, "page not found"));
}
