use super::*;
use crate::engine::docker::DockerEngine;
use crate::engine::*;
use crate::resource::labels;
use futures::stream::StreamExt;
use std::collections::BTreeMap;
use tokio::time::Instant;

fn new() -> (FakeEngine, DockerEngine) {
    let fake = FakeEngine::new(1);
    fake.add_image("base:1");
    let engine = fake.engine("i").unwrap();
    (fake, engine)
}

fn spec(name: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: "base:1".into(),
        command: None,
        workdir: None,
        env: BTreeMap::new(),
        labels: Labels::from([(labels::INSTANCE.to_owned(), "i".to_owned())]),
        mounts: BTreeMap::new(),
        attach: Attach::None,
        hostname: None,
        memory: 1 << 20,
        nano_cpus: 1,
        pids: 1,
    }
}

async fn run(engine: &DockerEngine, name: &str) -> ContainerId {
    let id = engine.create(&spec(name)).await.unwrap();
    engine.start(&id).await.unwrap();
    id
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_world() {
    let mut worlds = Vec::new();
    for _ in 0..2 {
        let (_, engine) = new();
        let id = run(&engine, "a").await;
        worlds.push(engine.inspect(id.as_str()).await.unwrap().unwrap());
    }
    assert_eq!(worlds[0], worlds[1]);
    let other = FakeEngine::new(2);
    other.add_image("base:1");
    assert_ne!(other.engine("i").unwrap().create(&spec("a")).await.unwrap(), worlds[0].id);
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_half_can_only_be_removed() {
    let (fake, engine) = new();
    let id = run(&engine, "a").await;
    assert!(fake.remove_half("a"));
    assert_eq!(engine.inspect("a").await.unwrap().unwrap().state, ContainerState::Dead);
    assert_eq!(engine.containers(None).await.unwrap()[0].state, ContainerState::Dead);
    assert!(matches!(engine.start(&id).await, Err(EngineError::Conflict(t)) if t.contains("cannot be started")));
    assert!(matches!(engine.create(&spec("a")).await, Err(EngineError::Conflict(_))), "it has its name still");
    engine.remove(&id).await.unwrap();
    engine.create(&spec("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_fault_leaves_what_it_says() {
    let (fake, engine) = new();
    let cases = [
        (Fault::Status(500, "no".into()), false),
        (Fault::StatusAfter(500, "no".into()), true),
        (Fault::LostAnswer, true),
        (Fault::LostRequest, false),
        (Fault::Hang, true),
    ];
    for (at, (fault, happens)) in cases.into_iter().enumerate() {
        let name = format!("c{at}");
        fake.plan_fault("create", 0, fault.clone());
        let error = engine.create(&spec(&name)).await.unwrap_err();
        let answered = matches!(fault, Fault::Status(..) | Fault::StatusAfter(..));
        assert_eq!(matches!(error, EngineError::Failed(_)), answered, "{fault:?}: {error:?}");
        assert_eq!(matches!(error, EngineError::Unreachable(_)), !answered, "{fault:?}: {error:?}");
        assert_eq!(engine.inspect(&name).await.unwrap().is_some(), happens, "{fault:?}");
    }
    assert_eq!(fake.calls()["create"], 5);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_says_nothing_is_unreachable_after_the_deadline() {
    let (fake, engine) = new();
    let id = run(&engine, "a").await;
    fake.set_silent(true);
    let begun = Instant::now();
    assert!(matches!(engine.containers(None).await, Err(EngineError::Unreachable(_))));
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert!(matches!(engine.inspect(id.as_str()).await, Err(EngineError::Unreachable(_))));
    assert!(matches!(engine.create(&spec("b")).await, Err(EngineError::Unreachable(_))));
    assert_eq!(begun.elapsed().as_secs(), 80);
    fake.set_silent(false);
    assert_eq!(engine.containers(None).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_of_dockerd_nothing_runs_and_nothing_is_restarted() {
    let (fake, engine) = new();
    let id = run(&engine, "a").await;
    let mut events = engine.events().await.unwrap();
    fake.restart_daemon();
    assert!(events.next().await.is_none());
    let found = engine.inspect(id.as_str()).await.unwrap().unwrap();
    assert_eq!((found.state, found.exit_code), (ContainerState::Exited, 137));
    fake.set_refusing(true);
    assert!(matches!(fake.engine("i").unwrap().info().await, Err(EngineError::Unreachable(_))));
}

#[tokio::test(start_paused = true)]
async fn the_ring_remembers_256_events() {
    let (fake, engine) = new();
    let _keep = run(&engine, "a").await;
    for _ in 0..150 {
        fake.pause("a");
        let id = engine.inspect("a").await.unwrap().unwrap().id;
        engine.unpause(&id).await.unwrap();
    }
    assert_eq!(fake.world().events.listen(Some(jiff::Timestamp::UNIX_EPOCH)).0.len(), 256);
    assert_eq!(fake.world().events.listen(None).0.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pull_brings_what_is_published() {
    let (fake, engine) = new();
    fake.publish_image("lib/x");
    assert!(matches!(engine.pull("lib/y", None).await, Err(EngineError::NotFound(t)) if t.contains("manifest unknown")));
    assert_eq!(engine.image("lib/x").await, Ok(None));
    engine.pull("lib/x", None).await.unwrap();
    assert!(engine.image("lib/x:latest").await.unwrap().is_some());
    fake.remove_image("lib/x");
    assert!(matches!(
        engine.create(&ContainerSpec { image: "lib/x".into(), ..spec("a") }).await,
        Err(EngineError::ImageMissing(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn an_out_of_memory_kill_is_told() {
    let (fake, engine) = new();
    let id = run(&engine, "a").await;
    assert!(fake.oom_kill("a"));
    let found = engine.inspect(id.as_str()).await.unwrap().unwrap();
    assert_eq!((found.exit_code, found.oom_killed), (137, true));
    engine.start(&id).await.unwrap();
    assert!(fake.kill("a"));
    assert!(!engine.inspect(id.as_str()).await.unwrap().unwrap().oom_killed);
}

#[tokio::test(start_paused = true)]
async fn commands_can_be_answered_by_the_test() {
    let (fake, engine) = new();
    let id = run(&engine, "a").await;
    fake.on_exec(|name, argv| {
        (name == "a" && argv[0] == "git").then(|| ExecOutput { code: 128, stderr: b"no".to_vec(), ..Default::default() })
    });
    let clone = engine.exec_output(&id, &["git".to_owned()], 100).await.unwrap();
    assert_eq!((clone.code, clone.stderr.as_slice()), (128, &b"no"[..]));
    assert_eq!(engine.exec_output(&id, &["echo".to_owned(), "x".to_owned()], 100).await.unwrap().stdout, b"x\n");
}

#[tokio::test(start_paused = true)]
async fn a_command_ends_with_its_container() {
    let (fake, engine) = new();
    let id = run(&engine, "a").await;
    let request = ExecRequest { argv: vec!["sleep".into(), "infinity".into()], ..Default::default() };
    let mut session = engine.exec(&id, &request).await.unwrap();
    fake.kill("a");
    assert!(session.output.next().await.is_none());
}

#[tokio::test]
async fn ten_thousand_containers_fit() {
    let (_, engine) = new();
    let network = NetworkSpec {
        name: "wide".into(),
        labels: spec("x").labels,
        subnet: Some("10.213.0.0/16".into()),
        bridge: None,
        inter_container: false,
    };
    engine.create_network(&network).await.unwrap();
    let made = futures::stream::iter(0..10_000).map(|i| {
        let engine = engine.clone();
        async move {
            let attach = Attach::Network("wide".into());
            let id = engine.create(&ContainerSpec { attach, ..spec(&format!("c{i}")) }).await.unwrap();
            engine.start(&id).await.unwrap();
        }
    });
    made.buffer_unordered(16).collect::<Vec<_>>().await;
    let listed = engine.containers(None).await.unwrap();
    assert_eq!(listed.len(), 10_000);
    let addresses: std::collections::BTreeSet<_> = listed.iter().filter_map(|c| c.networks["wide"]).collect();
    assert_eq!(addresses.len(), 10_000);
}
