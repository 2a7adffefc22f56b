//! What is left when the daemon is killed.

use super::lab::Lab;
use devsanctum::engine::*;
use futures::stream::StreamExt;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

pub async fn after_a_crash_all_that_ran_has_ended_with_137_and_nothing_is_started(lab: &Lab) {
    let before = lab.engine.info().await.unwrap();
    let volume = VolumeSpec { name: lab.name("v"), labels: lab.labels("v") };
    lab.engine.create_volume(&volume).await.unwrap();
    let mounts = [(volume.name.clone(), "/data".to_owned())].into();
    let runs = lab.run(&ContainerSpec { mounts, ..lab.spec("a") }).await;
    lab.sh(&runs, "echo kept > /data/x").await;
    let made = lab.engine.create(&lab.spec("b")).await.unwrap();
    let ended = lab.run(&lab.script("c", "exit 3")).await;
    lab.ended(&ended).await;
    let started_at = lab.inspect(&runs).await.started_at;
    let mut events = lab.engine.events().await.unwrap();
    lab.crash();
    let over = async { while let Some(Ok(_)) = events.next().await {} };
    tokio::time::timeout(SOON, over).await.expect("the events end");

    let found = lab.inspect(&runs).await;
    assert_eq!((found.state, found.exit_code, found.oom_killed), (ContainerState::Exited, 137, false));
    assert_eq!((&found.started_at, &found.labels), (&started_at, &lab.labels("a")));
    assert_eq!(lab.inspect(&made).await.state, ContainerState::Created);
    let was = lab.inspect(&ended).await;
    assert_eq!((was.state, was.exit_code), (ContainerState::Exited, 3));
    assert_eq!(lab.engine.info().await.unwrap().id, before.id);
    assert_eq!(lab.engine.volumes(None).await.unwrap().len(), 1);
    lab.engine.start(&runs).await.unwrap();
    assert_eq!(lab.sh(&runs, "cat /data/x").await.stdout, b"kept\n");
}

pub async fn with_live_restore_containers_go_on_without_the_daemon(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    lab.sh(&id, "echo kept > /tmp/x").await;
    let before = lab.inspect(&id).await;
    let mut events = lab.engine.events().await.unwrap();
    lab.crash_alone();
    let over = async { while let Some(Ok(_)) = events.next().await {} };
    tokio::time::timeout(SOON, over).await.expect("the events end");
    assert_eq!(lab.inspect(&id).await, before);
    assert_eq!(lab.sh(&id, "cat /tmp/x").await.stdout, b"kept\n");
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(lab.inspect(&id).await.exit_code, 137);
}
