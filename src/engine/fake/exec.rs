//! Programs of the fake's containers as they run: main processes, commands and their streams, logs.

use super::answers::{Outcome, Refusal};
use super::control::FakeEngine;
use super::shell::{self, Step};
use super::world::{FakeExec, Life, World};
use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One frame on a connection without a terminal.
pub(super) fn frame(stderr: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![1 + u8::from(stderr), 0, 0, 0];
    frame.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(bytes);
    frame
}

impl World {
    pub(super) fn create_exec(&mut self, asked: &str, body: &Value) -> Outcome<String> {
        let container = self.find(asked).ok_or_else(|| Refusal::no_container(asked))?.to_owned();
        match self.containers[&container].life {
            Life::Running => {}
            Life::Paused => {
                let words = format!("Container {container} is paused, unpause the container before exec");
                return Err(Refusal(409, words));
            }
            Life::Created | Life::Exited | Life::Dead => {
                return Err(Refusal(409, format!("Container {container} is not running")));
            }
        }
        let words = body["Cmd"].as_array().into_iter().flatten();
        let argv = words.filter_map(|w| w.as_str().map(str::to_owned)).collect();
        let id = self.new_id();
        let tty = body["Tty"] == true;
        let stdin = body["AttachStdin"] == true;
        let user = body["User"].as_str().filter(|u| !u.is_empty()).unwrap_or("0").to_owned();
        let exec = FakeExec { container, argv, tty, user, stdin, running: false, exit_code: None, size: (0, 0) };
        self.execs.insert(id.clone(), exec);
        Ok(id)
    }

    pub(super) fn exec_json(&self, id: &str) -> Outcome<Value> {
        let exec = self.execs.get(id).ok_or_else(|| Refusal(404, format!("No such exec instance: {id}")))?;
        Ok(json!({ "ID": id, "Running": exec.running, "ExitCode": exec.exit_code, "ContainerID": exec.container }))
    }

    /// What a step prints, and whether to standard error; `None` for steps that take time or end the program.
    fn printed(&mut self, container: &str, size: (u16, u16), step: &Step) -> Option<(bool, Vec<u8>)> {
        let text = match step {
            Step::Out(bytes) => return Some((false, bytes.clone())),
            Step::Err(bytes) => return Some((true, bytes.clone())),
            Step::Write(path, bytes) => {
                self.write_file(container, path, bytes.clone());
                String::new()
            }
            Step::Cat(path) => match self.read_file(container, path) {
                Some(bytes) => return Some((false, bytes)),
                None => return Some((true, format!("cat: can't open '{path}': No such file or directory\n").into_bytes())),
            },
            Step::Size => format!("{} {}\n", size.1, size.0),
            Step::Meminfo => {
                format!("MemTotal: {} kB\nMemAvailable: {} kB\n", self.memory >> 10, self.memory_available >> 10)
            }
            Step::Disk => {
                let (total, free) = (self.disk.0 >> 10, self.disk.1 >> 10);
                let head = "Filesystem 1024-blocks Used Available Capacity Mounted on\n";
                format!("{head}overlay {total} {} {free} 1% /\n", total.saturating_sub(free))
            }
            Step::Reach(targets) => {
                let open = targets.iter().filter(|t| self.reachable.contains(*t));
                open.map(|(a, p)| format!("open {a} {p}\n")).chain(["done\n".to_owned()]).collect()
            }
            Step::User => "0\n".to_owned(),
            Step::Folder => {
                let folder = self.containers.get(container).and_then(|c| c.config["WorkingDir"].as_str());
                format!("{}\n", folder.filter(|f| !f.is_empty()).unwrap_or("/"))
            }
            Step::Clone { head, branch } => match self.read_file(container, head) {
                Some(found) => format!("there {}\n", String::from_utf8_lossy(&found)),
                None => {
                    self.write_file(container, head, branch.clone().into_bytes());
                    format!("cloned {branch}\n")
                }
            },
            Step::CopyFolders => {
                self.copy_folders(container);
                String::new()
            }
            Step::CatInput | Step::Sleep(_) | Step::RunOn | Step::Exit(_) => return None,
        };
        Some((false, text.into_bytes()))
    }
}

/// Runs a container's main process on, to its next pause or end. Sets a timer only for a sleep.
pub(super) fn run_main(fake: FakeEngine, id: String, run: u64, mut steps: VecDeque<Step>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        while let Some(step) = steps.pop_front() {
            if let Step::Sleep(time) = step {
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    run_main(fake, id, run, steps).await;
                });
                return;
            }
            let mut world = fake.world();
            if !world.containers.get(&id).is_some_and(|c| c.run == run && !matches!(c.life, Life::Exited | Life::Dead)) {
                return;
            }
            match step {
                Step::RunOn | Step::CatInput => return,
                Step::Exit(code) => return world.finish(&id, code),
                step => {
                    if let Some((stderr, text)) = world.printed(&id, (0, 0), &step) {
                        text.split_inclusive(|b| *b == b'\n').for_each(|line| world.log(&id, stderr, line.to_vec()));
                    }
                }
            }
        }
        let mut world = fake.world();
        if world.containers.get(&id).is_some_and(|c| c.run == run) {
            world.finish(&id, 0);
        }
    })
}

/// Runs a command over its connection, then notes its exit code and closes.
pub(super) async fn run_exec(fake: FakeEngine, id: String, connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite) {
    let Some((container, argv, tty, user)) = fake.world().execs.get_mut(&id).map(|exec| {
        exec.running = true;
        (exec.container.clone(), exec.argv.clone(), exec.tty, exec.user.clone())
    }) else {
        return;
    };
    let (mut input, mut output) = tokio::io::split(connection);
    let steps = fake.scripted(&container, &argv).or_else(|| shell::program(&argv, false).ok());
    let told = |step| if step == Step::User { Step::Out(format!("{user}\n").into_bytes()) } else { step };
    let steps: Option<VecDeque<Step>> = steps.map(|all| all.into_iter().map(told).collect());
    let code = match steps {
        Some(steps) => {
            let end = ended(&fake, &container);
            tokio::select! {
                code = run_steps(&fake, &id, &container, tty, steps, &mut input, &mut output) => code.unwrap_or(129),
                () = end => 137,
            }
        }
        None => {
            let program = argv.first().cloned().unwrap_or_default();
            let words =
                format!("OCI runtime exec failed: exec failed: \"{program}\": executable file not found in $PATH: unknown\r\n");
            // The client may have left; the exit code stays.
            let _ = output.write_all(&if tty { words.into_bytes() } else { frame(false, words.as_bytes()) }).await;
            126
        }
    };
    if let Some(exec) = fake.world().execs.get_mut(&id) {
        exec.running = false;
        exec.exit_code = Some(code);
    }
    let _ = output.shutdown().await;
}

/// Waits for a container's run to end: its commands end with it.
async fn ended(fake: &FakeEngine, container: &str) {
    let Some((mut changed, run)) = fake.watch(container) else { return };
    loop {
        let over =
            fake.world().containers.get(container).is_none_or(|c| matches!(c.life, Life::Exited | Life::Dead) || c.run != run);
        if over || changed.changed().await.is_err() {
            return;
        }
    }
}

async fn run_steps(
    fake: &FakeEngine,
    id: &str,
    container: &str,
    tty: bool,
    steps: VecDeque<Step>,
    input: &mut (impl tokio::io::AsyncRead + Unpin),
    output: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> io::Result<i64> {
    let wrap = |stderr: bool, bytes: &[u8]| if tty { crlf(bytes) } else { frame(stderr, bytes) };
    for step in steps {
        match step {
            Step::Exit(code) => return Ok(code),
            Step::RunOn => std::future::pending().await,
            Step::Sleep(time) => tokio::time::sleep(time).await,
            Step::CatInput if !fake.world().execs.get(id).is_some_and(|e| e.stdin) => {}
            Step::CatInput => {
                let mut buffer = [0; 1024];
                loop {
                    match input.read(&mut buffer).await? {
                        0 => break,
                        n => output.write_all(&wrap(false, &buffer[..n])).await?,
                    }
                }
            }
            step => {
                let printed = {
                    let mut world = fake.world();
                    let size = world.execs.get(id).map_or((0, 0), |e| e.size);
                    let missing = matches!(&step, Step::Cat(path) if world.read_file(container, path).is_none());
                    world.printed(container, size, &step).map(|p| (p, missing))
                };
                if let Some(((stderr, bytes), missing)) = printed {
                    if !bytes.is_empty() {
                        output.write_all(&wrap(stderr, &bytes)).await?;
                    }
                    if missing {
                        return Ok(1);
                    }
                }
            }
        }
    }
    Ok(0)
}

/// A terminal ends lines with both.
fn crlf(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|b| if *b == b'\n' { vec![b'\r', b'\n'] } else { vec![*b] }).collect()
}

/// What part of a log is wanted.
pub(super) struct LogQuery {
    pub(super) follow: bool,
    pub(super) tail: Option<usize>,
    pub(super) since: i64,
    pub(super) timestamps: bool,
}

/// A container's log in frames; with `follow` until the run ends.
pub(super) fn log_stream(fake: FakeEngine, id: String, query: LogQuery) -> impl Stream<Item = Result<Vec<u8>, io::Error>> {
    let (len, watch) = {
        let watch = fake.watch(&id).map(|(w, _)| w);
        (fake.world().containers.get(&id).map_or(0, |c| c.log_dropped + c.log.len() as u64), watch)
    };
    let first = query.tail.map_or(0, |tail| len.saturating_sub(tail as u64));
    stream::unfold((fake, id, first, watch), move |(fake, id, mut at, mut watch)| {
        let (follow, since, timestamps) = (query.follow, query.since, query.timestamps);
        async move {
            loop {
                let (next, running) = {
                    let world = fake.world();
                    let container = world.containers.get(&id)?;
                    at = at.max(container.log_dropped);
                    let chunk = usize::try_from(at - container.log_dropped).ok().and_then(|i| container.log.get(i).cloned());
                    (chunk, matches!(container.life, Life::Running | Life::Paused))
                };
                if let Some(chunk) = next {
                    at += 1;
                    if chunk.at.as_second() < since {
                        continue;
                    }
                    let mut line = if timestamps { format!("{} ", chunk.at).into_bytes() } else { Vec::new() };
                    line.extend(chunk.text);
                    return Some((Ok(frame(chunk.stderr, &line)), (fake, id, at, watch)));
                }
                if !follow || !running {
                    return None;
                }
                watch.as_mut()?.changed().await.ok()?;
            }
        }
    })
}
