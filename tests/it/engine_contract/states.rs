//! What is told of a container in each state.

use super::lab::Lab;
use devsanctum::engine::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub async fn a_container_never_started_has_no_times_and_no_code(lab: &Lab) {
    let id = lab.engine.create(&lab.spec("a")).await.unwrap();
    let found = lab.inspect(&id).await;
    assert_eq!((found.started_at.as_str(), found.exit_code, found.error.as_str()), ("0001-01-01T00:00:00Z", 0, ""));
    let (_, shown) = lab.ask("GET", &format!("/containers/{}/json", id.as_str()), None).await;
    assert_eq!((&shown["State"]["FinishedAt"], &shown["RestartCount"]), (&"0001-01-01T00:00:00Z".into(), &0.into()));
    assert_eq!((&shown["State"]["Running"], &shown["State"]["Paused"]), (&false.into(), &false.into()));
}

pub async fn a_failed_start_is_forgotten_with_the_next_one(lab: &Lab) {
    let main = lab.engine.create(&lab.spec("a")).await.unwrap();
    let beside = ContainerSpec { attach: Attach::Container(main.clone()), ..lab.spec("b") };
    let id = lab.engine.create(&beside).await.unwrap();
    lab.engine.start(&id).await.unwrap_err();
    let failed = lab.inspect(&id).await;
    assert!(failed.error.contains("non running container") && failed.exit_code == 128, "{failed:?}");
    assert_eq!(failed.state, ContainerState::Created);
    lab.engine.start(&main).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    let found = lab.inspect(&id).await;
    assert_eq!((found.state, found.exit_code, found.error.as_str()), (ContainerState::Running, 0, ""));
}

/// Companions are started anew when their container is: by comparing these times as text.
pub async fn a_later_start_sorts_after_an_earlier_one(lab: &Lab) {
    let (one, two) = (lab.run(&lab.spec("a")).await, lab.run(&lab.spec("b")).await);
    assert!(lab.inspect(&one).await.started_at < lab.inspect(&two).await.started_at);
    lab.engine.stop(&one, Duration::ZERO).await.unwrap();
    lab.engine.start(&one).await.unwrap();
    assert!(lab.inspect(&one).await.started_at > lab.inspect(&two).await.started_at);
}

pub async fn labels_and_variables_come_back_as_they_were(lab: &Lab) {
    let odd = "a=b \"c\" 'd' \\ \u{e4}\u{1f600} {{.Id}} $HOME\n;`x`";
    let mut labels = lab.labels("a");
    labels.insert("devsanctum.io/odd".into(), odd.into());
    labels.insert("devsanctum.io/empty".into(), String::new());
    let spec = ContainerSpec { labels: labels.clone(), env: BTreeMap::from([("ODD".into(), odd.into())]), ..lab.spec("a") };
    let id = lab.engine.create(&spec).await.unwrap();
    assert_eq!(lab.inspect(&id).await.labels, labels);
    assert_eq!(lab.engine.containers(None).await.unwrap()[0].labels, labels);
    let (_, shown) = lab.ask("GET", &format!("/containers/{}/json", id.as_str()), None).await;
    let variables = shown["Config"]["Env"].as_array().unwrap();
    assert!(variables.contains(&format!("ODD={odd}").into()), "{variables:?}");
}

pub async fn every_state_is_listed(lab: &Lab) {
    lab.engine.create(&lab.spec("created")).await.unwrap();
    lab.run(&lab.spec("running")).await;
    lab.run(&lab.spec("paused")).await;
    lab.pause(&lab.name("paused"));
    let id = lab.run(&lab.script("exited", "exit 0")).await;
    lab.ended(&id).await;
    let mut listed = lab.engine.containers(None).await.unwrap();
    // Newest first.
    let names: Vec<_> = listed.iter().map(|c| c.name.clone()).collect();
    assert_eq!(names, ["exited", "paused", "running", "created"].map(|n| lab.name(n)));
    listed.reverse();
    let states: Vec<_> = listed.iter().map(|c| c.state).collect();
    use ContainerState::*;
    assert_eq!(states, [Created, Running, Paused, Exited]);
    let (_, running) = lab.ask("GET", "/containers/json", None).await;
    let ours = |c: &&serde_json::Value| c["Names"][0].as_str().is_some_and(|n| n.contains(&format!("{}-", lab.instance)));
    assert_eq!(running.as_array().unwrap().iter().filter(ours).count(), 2);
}

pub async fn a_program_that_listens_ends_at_once_and_well(lab: &Lab) {
    let id = lab.run(&lab.script("a", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    lab.engine.stop(&id, Duration::from_secs(30)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(lab.inspect(&id).await.exit_code, 0);
}

pub async fn running_out_of_memory_is_told_until_the_next_end(lab: &Lab) {
    let id = lab.run_out_of_memory("a").await;
    let found = lab.ended(&id).await;
    assert_eq!((found.exit_code, found.oom_killed), (137, true));
    lab.engine.start(&id).await.unwrap();
    let found = lab.inspect(&id).await;
    assert_eq!((found.state, found.oom_killed), (ContainerState::Running, true), "of the run before");
    lab.kill(&lab.name("a"));
    assert!(!lab.ended(&id).await.oom_killed);
}

pub async fn a_name_is_free_again_after_a_removal(lab: &Lab) {
    let spec = lab.spec("a");
    let first = lab.run(&spec).await;
    lab.engine.remove(&first).await.unwrap();
    let second = lab.run(&spec).await;
    assert_ne!(first, second);
    // What was meant for the first one does not hit the second.
    lab.engine.remove(&first).await.unwrap();
    assert!(matches!(lab.engine.stop(&first, Duration::ZERO).await, Err(EngineError::NotFound(_))));
    assert_eq!(lab.inspect(&second).await.state, ContainerState::Running);
}

pub async fn what_failed_to_start_can_be_removed(lab: &Lab) {
    let spec = ContainerSpec { command: Some(vec!["/no-such-program".into()]), ..lab.spec("a") };
    let id = lab.engine.create(&spec).await.unwrap();
    lab.engine.start(&id).await.unwrap_err();
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    lab.engine.remove(&id).await.unwrap();
    lab.run(&lab.spec("a")).await;
}
