//! Events, commands, logs.

use super::lab::Lab;
use devsanctum::engine::probe;
use devsanctum::engine::*;
use futures::stream::StreamExt;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

type Events = futures::stream::BoxStream<'static, Result<EngineEvent, EngineError>>;

/// The next event that is asked for.
async fn next(events: &mut Events, wanted: impl Fn(&EngineEvent) -> bool) -> EngineEvent {
    let find = async {
        loop {
            let event = events.next().await.expect("the stream goes on").unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(SOON, find).await.expect("the event comes")
}

pub async fn events_of_ours_are_seen_with_their_labels(lab: &Lab) {
    let mut events = lab.engine.events().await.unwrap();
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    lab.kill(&spec.name);
    lab.ended(&id).await;
    lab.engine.remove(&id).await.unwrap();
    for action in ["create", "start", "die", "destroy"] {
        let event = next(&mut events, |e| e.kind == "container" && e.action == action).await;
        assert_eq!((&event.name, &event.labels), (&spec.name, &spec.labels), "{action}");
    }
}

pub async fn events_of_foreign_containers_are_not_seen(lab: &Lab) {
    let mut events = lab.engine.events().await.unwrap();
    lab.add_foreign(&lab.name("f"), &Labels::new());
    lab.engine.create(&lab.spec("a")).await.unwrap();
    let first = next(&mut events, |e| e.kind == "container").await;
    assert_eq!(first.name, lab.name("a"));
}

pub async fn a_disconnect_tells_whose_container_it_was(lab: &Lab) {
    let network = lab.network_spec("n");
    lab.engine.create_network(&network).await.unwrap();
    let spec = ContainerSpec { attach: Attach::Network(network.name.clone()), ..lab.spec("a") };
    let id = lab.run(&spec).await;
    let mut events = lab.engine.events().await.unwrap();
    lab.disconnect(&network.name, &spec.name);
    let event = next(&mut events, |e| e.action == "disconnect" && e.name == id.as_str()).await;
    assert_eq!((event.kind.as_str(), event.labels.len()), ("network", 0));
}

pub async fn a_command_s_output_errors_and_code_are_told_apart(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let output = lab.sh(&id, "echo out; echo err >&2; exit 3").await;
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice(), output.code), (&b"out\n"[..], &b"err\n"[..], 3));
}

pub async fn output_beyond_the_limit_is_dropped(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let argv = ["sh", "-c", "echo 12345; echo 67890; exit 4"].map(str::to_owned);
    let output = lab.engine.exec_output(&id, &argv, 8).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.code), (&b"12345\n67"[..], 4));
}

pub async fn a_command_reads_its_input_to_the_end(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let request = ExecRequest { argv: vec!["cat".into()], stdin: true, ..Default::default() };
    let mut session = lab.engine.exec(&id, &request).await.unwrap();
    session.input.write_all(b"hello").await.unwrap();
    session.input.shutdown().await.unwrap();
    let mut said = Vec::new();
    while let Some(chunk) = timeout(SOON, session.output.next()).await.unwrap() {
        match chunk.unwrap() {
            ExecChunk::Stdout(bytes) => said.extend(bytes),
            ExecChunk::Stderr(bytes) => panic!("{bytes:?}"),
        }
    }
    assert_eq!(said, b"hello");
    assert_eq!(session.control.exit_code().await, Ok(0));
}

pub async fn a_command_runs_as_the_user_and_in_the_folder_asked_for(lab: &Lab) {
    let id = lab.run(&ContainerSpec { workdir: Some("/data".into()), ..lab.spec("a") }).await;
    assert_eq!(lab.sh(&id, "id -u; pwd").await.stdout, b"0\n/data\n");
    let argv = ["sh", "-c", "id -u"].map(str::to_owned).to_vec();
    let request = ExecRequest { argv, user: Some("1000".into()), ..Default::default() };
    let mut session = lab.engine.exec(&id, &request).await.unwrap();
    let said = timeout(SOON, session.output.next()).await.unwrap();
    assert_eq!(said, Some(Ok(ExecChunk::Stdout("1000\n".into()))));
}

pub async fn what_is_kept_in_memory_is_gone_with_the_run(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    lab.sh(&id, "echo kept > /data/x; echo secret > /run/devsanctum/x").await;
    assert_eq!(lab.sh(&id, "cat /data/x; cat /run/devsanctum/x").await.stdout, b"kept\nsecret\n");
    lab.engine.stop(&id, Duration::ZERO).await.unwrap();
    lab.engine.start(&id).await.unwrap();
    assert_eq!(lab.sh(&id, "cat /data/x").await.stdout, b"kept\n");
    assert_eq!(lab.sh(&id, "cat /run/devsanctum/x").await.code, 1);
}

pub async fn a_terminal_has_the_size_it_is_given(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let argv = ["sh", "-c", "sleep 1; stty size; exit 5"].map(str::to_owned).to_vec();
    let mut session = lab.engine.exec(&id, &ExecRequest { argv, tty: true, stdin: true, ..Default::default() }).await.unwrap();
    session.control.resize(132, 43).await.unwrap();
    let mut said = Vec::new();
    while let Some(chunk) = timeout(SOON, session.output.next()).await.unwrap() {
        match chunk.unwrap() {
            ExecChunk::Stdout(bytes) => said.extend(bytes),
            ExecChunk::Stderr(bytes) => panic!("{bytes:?}"),
        }
    }
    assert_eq!(String::from_utf8_lossy(&said), "43 132\r\n");
    assert_eq!(session.control.exit_code().await, Ok(5));
}

pub async fn a_command_in_a_stopped_container_is_refused(lab: &Lab) {
    let id = lab.engine.create(&lab.spec("a")).await.unwrap();
    let error = lab.engine.exec_output(&id, &["true".to_owned()], 10).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains("not running")), "{error:?}");
    let none = lab.engine.exec_output(&id, &[], 10).await;
    assert!(matches!(none, Err(EngineError::Invalid(_))));
}

pub async fn a_command_that_is_not_there_fails(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let output = lab.engine.exec_output(&id, &["no-such-program".to_owned()], 1000).await.unwrap();
    assert_eq!(output.code, 126);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no-such-program"), "{said}");
}

async fn read(lab: &Lab, id: &ContainerId, request: LogRequest) -> String {
    let chunks = lab.engine.logs(id, &request).await.unwrap();
    let all: Vec<_> = timeout(SOON, chunks.map(Result::unwrap).collect::<Vec<_>>()).await.unwrap();
    String::from_utf8(all.concat()).unwrap()
}

pub async fn the_last_lines_of_a_log_can_be_asked_for(lab: &Lab) {
    let id = lab.run(&lab.script("a", "echo one; echo two; echo three")).await;
    lab.ended(&id).await;
    assert_eq!(read(lab, &id, LogRequest::default()).await, "one\ntwo\nthree\n");
    assert_eq!(read(lab, &id, LogRequest { tail: Some(2), ..Default::default() }).await, "two\nthree\n");
    assert_eq!(read(lab, &id, LogRequest { tail: Some(0), ..Default::default() }).await, "");
}

pub async fn a_followed_log_grows_and_ends_with_the_container(lab: &Lab) {
    let id = lab.run(&lab.script("a", "echo one; sleep 1; echo two >&2")).await;
    assert_eq!(read(lab, &id, LogRequest { follow: true, ..Default::default() }).await, "one\ntwo\n");
}

pub async fn log_lines_can_begin_with_their_time(lab: &Lab) {
    let id = lab.run(&lab.script("a", "echo one")).await;
    lab.ended(&id).await;
    let line = read(lab, &id, LogRequest { timestamps: true, ..Default::default() }).await;
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(rest, "one\n");
}

pub async fn the_log_of_what_is_gone_is_not_found(lab: &Lab) {
    let gone = ContainerId::parse(&"0".repeat(64)).unwrap();
    assert!(matches!(lab.engine.logs(&gone, &LogRequest::default()).await, Err(EngineError::NotFound(_))));
}

pub async fn the_probe_s_answers_can_be_read(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let run = async |argv: Vec<String>| {
        let output = lab.engine.exec_output(&id, &argv, probe::OUTPUT_LIMIT).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let memory = probe::parse_memory(&run(probe::memory_command()).await).unwrap();
    assert!(memory.available > 0 && memory.total >= memory.available);
    let disk = probe::parse_disk(&run(probe::disk_command()).await).unwrap();
    assert!(disk.available > 0 && disk.total > disk.available);
    let reach = probe::reach_command(&["127.0.0.1:9".parse().unwrap()]).unwrap();
    assert_eq!(probe::parse_reach(&run(reach).await), Ok(vec![]));
}

pub async fn a_command_without_input_finds_its_end_at_once(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let request = ExecRequest { argv: vec!["cat".into()], ..Default::default() };
    let mut session = lab.engine.exec(&id, &request).await.unwrap();
    assert!(timeout(SOON, session.output.next()).await.unwrap().is_none());
    assert_eq!(session.control.exit_code().await, Ok(0));
}

pub async fn output_comes_while_the_command_goes_on(lab: &Lab) {
    let id = lab.run(&lab.spec("a")).await;
    let argv = ["sh", "-c", "echo one; sleep 2; echo two"].map(str::to_owned).to_vec();
    let mut session = lab.engine.exec(&id, &ExecRequest { argv, ..Default::default() }).await.unwrap();
    let begun = std::time::Instant::now();
    let first = timeout(SOON, session.output.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first, ExecChunk::Stdout("one\n".into()));
    assert!(begun.elapsed() < Duration::from_millis(1800), "{:?}", begun.elapsed());
    let second = timeout(SOON, session.output.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(second, ExecChunk::Stdout("two\n".into()));
}

pub async fn a_command_in_a_frozen_container_is_refused(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    lab.pause(&spec.name);
    let error = lab.engine.exec_output(&id, &["true".to_owned()], 10).await.unwrap_err();
    assert!(matches!(&error, EngineError::Conflict(t) if t.contains("unpause")), "{error:?}");
}

pub async fn a_command_ends_with_its_container(lab: &Lab) {
    let spec = lab.spec("a");
    let id = lab.run(&spec).await;
    let argv = ["sleep", "1000"].map(str::to_owned).to_vec();
    let mut session = lab.engine.exec(&id, &ExecRequest { argv, ..Default::default() }).await.unwrap();
    // Until it runs: one whose container ends before that says so in its output.
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.kill(&spec.name);
    assert!(timeout(SOON, session.output.next()).await.unwrap().is_none());
    assert_eq!(session.control.exit_code().await, Ok(137));
}
