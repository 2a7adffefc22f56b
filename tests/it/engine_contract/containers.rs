//! The life of containers.

use super::lab::Lab;
use devsanctum::engine::*;
use std::time::Duration;

const NO_GRACE: Duration = Duration::ZERO;

pub async fn it_tells_who_it_is(lab: &Lab) {
    let info = lab.engine.info().await.unwrap();
    let numbers = |version: &str| -> Vec<u32> { version.split('.').take(2).map(|n| n.parse().unwrap()).collect() };
    assert!(!info.id.is_empty() && numbers(&info.version) >= vec![20, 10], "{info:?}");
    assert!(numbers(&info.api_version) >= vec![1, 41], "{info:?}");
    assert!(info.cpu_cores > 0 && info.memory > 1 << 30, "{info:?}");
}

pub async fn a_created_container_is_listed_and_inspected_alike(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.engine.create(&spec).await.unwrap();
    let found = lab.engine.inspect(&spec.name).await.unwrap().unwrap();
    assert_eq!((&found.id, &found.name, &found.labels), (&id, &spec.name, &spec.labels));
    assert_eq!(found.state, ContainerState::Created);
    assert_eq!(lab.inspect(&id).await, found);
    let listed = lab.engine.containers(None).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, &listed[0].name, &listed[0].labels), (&id, &spec.name, &spec.labels));
    assert_eq!(listed[0].state, ContainerState::Created);
}

pub async fn a_running_container_is_listed_with_all_that_a_look_needs(lab: &Lab) {
    let (network, volume) = (lab.network_spec("n"), lab.name("v"));
    lab.engine.create_network(&network).await.unwrap();
    lab.engine.create_volume(&VolumeSpec { name: volume.clone(), labels: lab.labels("v") }).await.unwrap();
    let spec = ContainerSpec {
        attach: Attach::Network(network.name.clone()),
        mounts: [(volume, "/data".to_owned())].into(),
        ..lab.spec("a")
    };
    let id = lab.run(&spec).await;
    let inspected = Container { started_at: String::new(), resources: None, ..lab.inspect(&id).await };
    let listed = lab.engine.containers(None).await.unwrap().remove(0);
    assert_eq!(Container::from(listed), inspected);
    assert!(inspected.networks[&network.name].is_some() && inspected.mounts == spec.mounts, "{inspected:?}");
}

pub async fn a_taken_name_is_a_conflict(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.engine.create(&spec).await.unwrap();
    let error = lab.engine.create(&spec).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains(&spec.name) && t.contains(id.as_str())), "{error}");
}

pub async fn a_create_whose_answer_was_lost_takes_the_name(lab: &Lab) {
    let spec = lab.spec("a");
    lab.create_and_lose(&spec).await;
    for _ in 0..100 {
        match lab.engine.create(&spec).await {
            Err(EngineError::Conflict(_)) => return,
            Err(other) => panic!("{other}"),
            // The lost request came second. That is luck: take this one away and look again.
            Ok(id) => lab.engine.remove(&id).await.unwrap(),
        }
        lab.create_and_lose(&spec).await;
    }
    panic!("the lost create never happened");
}

pub async fn an_empty_name_or_a_missing_limit_is_refused_before_the_call(lab: &Lab) {
    let spec = lab.spec("a");
    let wrong = [
        ContainerSpec { name: String::new(), ..spec.clone() },
        ContainerSpec { memory: 0, ..spec.clone() },
        ContainerSpec { nano_cpus: 0, ..spec.clone() },
        ContainerSpec { pids: 0, ..spec },
    ];
    for spec in wrong {
        assert!(matches!(lab.engine.create(&spec).await, Err(EngineError::Invalid(_))));
    }
    assert!(lab.engine.containers(None).await.unwrap().is_empty());
}

pub async fn more_cores_than_there_are_are_refused(lab: &Lab) {
    let cores = u64::from(lab.engine.info().await.unwrap().cpu_cores);
    let all = ContainerSpec { nano_cpus: cores * 1_000_000_000, ..lab.spec("a") };
    let error = lab.engine.create(&ContainerSpec { nano_cpus: all.nano_cpus + 1, ..all.clone() }).await.unwrap_err();
    assert!(matches!(&error, EngineError::Invalid(t) if t.to_lowercase().contains("range of cpus")), "{error}");
    lab.engine.create(&all).await.unwrap();
}

pub async fn a_missing_image_is_told_as_such(lab: &Lab) {
    let spec = ContainerSpec { image: "ds-test/not-here:1".into(), ..lab.spec("a") };
    let error = lab.engine.create(&spec).await.unwrap_err();
    assert_eq!(error, EngineError::ImageMissing("No such image: ds-test/not-here:1".into()));
}

pub async fn starting_twice_is_fine(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let first = lab.inspect(&id).await;
    assert_eq!(first.state, ContainerState::Running);
    lab.engine.start(&id).await.unwrap();
    assert_eq!(lab.inspect(&id).await.started_at, first.started_at);
}

pub async fn stopping_twice_is_fine(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    lab.engine.stop(&id, NO_GRACE).await.unwrap();
    lab.engine.stop(&id, NO_GRACE).await.unwrap();
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Exited);
}

pub async fn a_container_that_ignores_its_signal_is_killed_after_the_grace(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let begun = std::time::Instant::now();
    lab.engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(900));
    assert_eq!(lab.inspect(&id).await.exit_code, 137);
}

pub async fn a_killed_container_has_exit_code_137(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    lab.kill(&spec.name);
    let found = lab.ended(&id).await;
    assert_eq!((found.exit_code, found.oom_killed), (137, false));
}

pub async fn an_exit_code_is_kept(lab: &Lab) {
    let id = lab.run(&lab.script("a", "exit 3")).await;
    assert_eq!(lab.ended(&id).await.exit_code, 3);
}

pub async fn every_start_has_its_own_time(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let first = lab.inspect(&id).await.started_at;
    lab.engine.stop(&id, NO_GRACE).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    assert_ne!(lab.inspect(&id).await.started_at, first);
}

pub async fn removing_ends_what_runs_and_is_fine_when_it_is_gone(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    lab.engine.remove(&id).await.unwrap();
    lab.engine.remove(&id).await.unwrap();
    assert_eq!(lab.engine.inspect(&spec.name).await, Ok(None));
    assert_eq!(lab.engine.inspect(id.as_str()).await, Ok(None));
}

pub async fn starting_what_is_gone_is_not_found(lab: &Lab) {
    let gone = ContainerId::parse(&"0".repeat(64)).unwrap();
    assert!(matches!(lab.engine.start(&gone).await, Err(EngineError::NotFound(_))));
    assert!(matches!(lab.engine.stop(&gone, NO_GRACE).await, Err(EngineError::NotFound(_))));
}

pub async fn a_program_that_is_not_there_fails_the_start_with_its_name(lab: &Lab) {
    let spec = ContainerSpec { command: Some(vec!["/no-such-program".into()]), ..lab.spec("a") };
    let id = lab.engine.create(&spec).await.unwrap();
    let error = lab.engine.start(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::Invalid(t) if t.contains("/no-such-program")), "{error:?}");
    let found = lab.inspect(&id).await;
    assert_ne!(found.state, ContainerState::Running);
    assert!(found.error.contains("/no-such-program"), "{found:?}");
    assert_eq!(found.exit_code, 127);
}

pub async fn the_beginning_of_an_id_is_no_name(lab: &Lab) {
    let id = lab.engine.create(&lab.spec("a")).await.unwrap();
    // Fewer digits may begin another's id too, and dockerd says so.
    for asked in [id.short(), &id.as_str()[..63]] {
        assert_eq!(lab.engine.inspect(asked).await, Ok(None), "{asked}");
    }
}

pub async fn processor_time_is_told_of_what_works_and_of_what_waits(lab: &Lab) {
    let idle = lab.run(&lab.spec("a")).await;
    let mut spec = lab.spec("b");
    spec.command = Some(["sh", "-c", "while :; do :; done"].map(str::to_owned).to_vec());
    let busy = lab.run(&spec).await;
    lab.is_busy(&spec.name);
    let used = async |id: &ContainerId| {
        let before = lab.engine.cpu_time(id).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        lab.engine.cpu_time(id).await.unwrap() - before
    };
    // Its limit is less than a core.
    let (works, waits) = (used(&busy).await, used(&idle).await);
    assert!(works > Duration::from_millis(200) && waits < Duration::from_millis(100), "{works:?} {waits:?}");
    lab.engine.stop(&busy, Duration::ZERO).await.unwrap();
    assert_eq!(lab.engine.cpu_time(&busy).await, Ok(Duration::ZERO));
    lab.engine.remove(&busy).await.unwrap();
    assert!(matches!(lab.engine.cpu_time(&busy).await, Err(EngineError::NotFound(_))));
}

pub async fn a_renamed_container_is_not_found_by_its_old_name(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    lab.rename(&spec.name, &lab.name("b"));
    assert_eq!(lab.engine.inspect(&spec.name).await, Ok(None));
    assert_eq!(lab.inspect(&id).await.name, lab.name("b"));
}

pub async fn a_container_is_given_its_name_back_with_its_files(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    assert_eq!(lab.sh(&id, "echo kept > /tmp/x").await.code, 0);
    lab.rename(&spec.name, &lab.name("b"));
    lab.engine.rename(&id, &spec.name).await.unwrap();
    assert_eq!(lab.engine.inspect(&spec.name).await.unwrap().unwrap().id, id);
    assert_eq!(lab.engine.inspect(&lab.name("b")).await, Ok(None));
    assert_eq!(lab.sh(&id, "cat /tmp/x").await.stdout, b"kept\n");
    assert!(matches!(lab.engine.rename(&id, &spec.name).await, Err(EngineError::Invalid(_))), "it has that name");
}

pub async fn a_name_that_another_container_has_is_not_given(lab: &Lab) {
    let (a, b) = (lab.run(&lab.spec("a")).await, lab.run(&lab.spec("b")).await);
    let error = lab.engine.rename(&b, &lab.name("a")).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains(a.as_str())), "{error}");
    assert_eq!(lab.inspect(&b).await.name, lab.name("b"));
    let gone = ContainerId::parse(&"0".repeat(64)).unwrap();
    assert!(matches!(lab.engine.rename(&gone, &lab.name("c")).await, Err(EngineError::NotFound(_))));
}

pub async fn foreign_containers_are_not_listed(lab: &Lab) {
    let mut others = lab.labels("u");
    others.insert("devsanctum.io/instance".into(), format!("{}x", lab.instance));
    lab.add_foreign(&lab.name("forged"), &others);
    lab.add_foreign(&lab.name("plain"), &Labels::new());
    assert_eq!(lab.engine.containers(None).await, Ok(vec![]));
    let seen = lab.engine.inspect(&lab.name("plain")).await.unwrap().unwrap();
    assert!(!seen.labels.contains_key("devsanctum.io/instance"));
}

pub async fn a_uid_narrows_the_list(lab: &Lab) {
    let (a, _) = (lab.engine.create(&lab.spec("a")).await.unwrap(), lab.engine.create(&lab.spec("b")).await.unwrap());
    let found: Vec<_> = lab.engine.containers(Some("a")).await.unwrap().into_iter().map(|c| c.id).collect();
    assert_eq!(found, [a]);
    assert_eq!(lab.engine.containers(None).await.unwrap().len(), 2);
}

pub async fn files_survive_a_stop(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    assert_eq!(lab.sh(&id, "echo kept > /tmp/x").await.code, 0);
    lab.engine.stop(&id, NO_GRACE).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    assert_eq!(lab.sh(&id, "cat /tmp/x").await.stdout, b"kept\n");
}

pub async fn a_paused_container_is_told_and_can_be_resumed(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    lab.engine.unpause(&id).await.unwrap();
    lab.pause(&spec.name);
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Paused);
    assert_eq!(lab.engine.containers(None).await.unwrap()[0].state, ContainerState::Paused);
    lab.engine.unpause(&id).await.unwrap();
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Running);
}

pub async fn a_paused_container_does_not_start(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    lab.pause(&spec.name);
    let error = lab.engine.start(&id).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains("unpause")), "{error:?}");
}
