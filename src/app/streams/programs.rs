//! Programs started in a running container for somebody who listens.

use super::failed;
use crate::api::streams::{ExecInput, ExecOutput, ExecRequest, ExecSession, Run, StreamError};
use crate::engine::{Container, ContainerId, Engine, ExecChunk, ExecControl};
use crate::resource::labels;
use futures::StreamExt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Chunks under way in either direction.
const BUFFER: usize = 32;
/// Names a session in the environment of what it started, so that it can be found there.
const SESSION: &str = "DEVSANCTUM_SESSION";
/// What [`DIAL`] says on its error output once a connection stands.
const CONNECTED: &[u8] = b"connected\n";
/// What a person types at a terminal to say that no more comes.
const END_OF_TRANSMISSION: u8 = 4;
/// Longest time that telling a program takes.
const HANGING_UP: Duration = Duration::from_secs(60);
/// Pieces of data that may come before word of the connection: so many are a connection.
const EARLY: usize = 64;
/// Most words kept on why a connection cannot be had, in bytes.
const WORDS: usize = 1024;

const SHELL: &str = include_str!("shell.sh");
const SFTP: &str = include_str!("sftp.sh");
const DIAL: &str = include_str!("dial.sh");
const HANG_UP: &str = include_str!("hang_up.sh");

fn script(script: &str, name: &str, arguments: &[&str]) -> Vec<String> {
    ["/bin/sh", "-c", script, name].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

fn argv(run: Run) -> Vec<String> {
    match run {
        Run::Command(argv) => argv,
        Run::Shell(None) => script(SHELL, "shell", &[]),
        Run::Shell(Some(line)) => script(SHELL, "shell", &[&line]),
        Run::Sftp => script(SFTP, "sftp", &[]),
    }
}

/// Called for each piece of data, either way.
pub type Touch = Arc<dyn Fn() + Send + Sync>;

/// Runs a program as the workspace's user. What nobody listens to any more is told so.
///
/// # Errors
/// What the engine says.
pub async fn run(
    engine: Arc<dyn Engine>,
    container: &Container,
    request: ExecRequest,
    touch: Touch,
) -> Result<ExecSession, StreamError> {
    let session = uuid::Uuid::new_v4().to_string();
    let variables = request.env.iter().map(|(name, value)| format!("{name}={value}"));
    let ask = crate::engine::ExecRequest {
        argv: argv(request.run),
        tty: request.tty,
        stdin: request.stdin,
        env: variables.chain([format!("{SESSION}={session}")]).collect(),
        user: container.labels.get(labels::USER).cloned(),
    };
    let running = engine.exec(&container.id, &ask).await.map_err(|e| failed(&e))?;
    let (input, from_caller) = mpsc::channel(BUFFER);
    let control: Arc<dyn ExecControl> = Arc::from(running.control);
    let _gone = fed(feed(from_caller, running.input, control.clone(), ask.tty, touch.clone()));
    let mut line = Line { engine, container: container.id.clone(), user: ask.user, session, ended: false, _gone };
    let output = running.output.map(|chunk| match chunk {
        Ok(ExecChunk::Stdout(bytes)) => ExecOutput::Stdout(bytes),
        Ok(ExecChunk::Stderr(bytes)) => ExecOutput::Stderr(bytes),
        Err(e) => ExecOutput::Failed(e.to_string()),
    });
    let end = futures::stream::once(async move {
        match control.exit_code().await {
            Ok(code) => ExecOutput::Exit(code),
            Err(e) => ExecOutput::Failed(e.to_string()),
        }
    });
    let output = output.chain(end).inspect(move |said| {
        if matches!(said, ExecOutput::Stdout(_) | ExecOutput::Stderr(_)) {
            touch();
        }
        line.heard(said);
    });
    Ok(ExecSession { input, output: output.boxed() })
}

/// Connects to a port from inside.
///
/// # Errors
/// When nothing answers there, in the words of what tried.
pub async fn dial(
    engine: Arc<dyn Engine>,
    container: &Container,
    (host, port): (&str, u16),
    touch: Touch,
) -> Result<ExecSession, StreamError> {
    let argv = script(DIAL, "dial", &[host, &port.to_string()]);
    let mut session = run(engine, container, ExecRequest::piped(Run::Command(argv)), touch).await?;
    let (mut words, mut early) = (Vec::new(), Vec::new());
    while let Some(said) = session.output.next().await {
        match said {
            ExecOutput::Stderr(bytes) if words.len() < WORDS => words.extend_from_slice(&bytes),
            ExecOutput::Exit(_) => break,
            ExecOutput::Failed(why) => return Err(StreamError::Unavailable(why)),
            // The two outputs come in any order: who is called may speak first.
            ExecOutput::Stdout(_) => early.push(said),
            ExecOutput::Stderr(_) => {}
        }
        if words.split_inclusive(|b| *b == b'\n').any(|line| line == CONNECTED) || early.len() > EARLY {
            session.output = futures::stream::iter(early).chain(session.output).boxed();
            return Ok(session);
        }
    }
    let words = String::from_utf8_lossy(&words);
    Err(StreamError::Refused(format!("nothing takes a connection to {host}:{port} in the workspace: {}", words.trim())))
}

/// To a program that was started. Dropped before it has ended, the program is sent SIGHUP: an engine lets it go on.
struct Line {
    engine: Arc<dyn Engine>,
    container: ContainerId,
    user: Option<String>,
    session: String,
    ended: bool,
    /// Once nobody listens nothing more is sent either: a program may not read, and what is written to it never come to an end.
    _gone: DropGuard,
}

impl Line {
    fn heard(&mut self, said: &ExecOutput) {
        self.ended |= matches!(said, ExecOutput::Exit(_));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        let (engine, id, user) = (self.engine.clone(), self.container.clone(), self.user.take());
        let argv = script(HANG_UP, "hang_up", &[&self.session]);
        runtime.spawn(async move {
            let ask = crate::engine::ExecRequest { argv, user, ..Default::default() };
            let mut hanging_up = match engine.exec(&id, &ask).await {
                Ok(session) => session,
                Err(error) => return tracing::debug!(%error, "a program that nobody listens to could not be told so"),
            };
            let all = async { while hanging_up.output.next().await.is_some() {} };
            let _ = tokio::time::timeout(HANGING_UP, all).await;
        });
    }
}

/// Feeds a program for as long as this is held.
fn fed(feeding: impl Future<Output = ()> + Send + 'static) -> DropGuard {
    let gone = CancellationToken::new();
    let held = gone.clone().drop_guard();
    tokio::spawn(async move { gone.run_until_cancelled(feeding).await });
    held
}

/// Passes on what the caller sends, until the caller goes.
async fn feed(
    mut from: mpsc::Receiver<ExecInput>,
    to: Pin<Box<dyn AsyncWrite + Send>>,
    control: Arc<dyn ExecControl>,
    tty: bool,
    touch: Touch,
) {
    let mut to = Some(to);
    while let Some(input) = from.recv().await {
        touch();
        match input {
            ExecInput::Stdin(bytes) => {
                let Some(open) = &mut to else { continue };
                if open.write_all(&bytes).await.is_err() || open.flush().await.is_err() {
                    to = None;
                }
            }
            // A terminal's input does not end; its user says so. (The engine would take the output away with the input.)
            ExecInput::CloseStdin if tty => {
                if let Some(open) = &mut to {
                    let _ = open.write_all(&[END_OF_TRANSMISSION]).await;
                    let _ = open.flush().await;
                }
            }
            ExecInput::CloseStdin => {
                if let Some(mut open) = to.take() {
                    let _ = open.shutdown().await;
                }
            }
            ExecInput::Resize { width, height } => {
                let _ = control.resize(width, height).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::process::{Command, Stdio};

    struct NoTerminal;

    #[async_trait::async_trait]
    impl ExecControl for NoTerminal {
        async fn resize(&self, _: u16, _: u16) -> Result<(), crate::engine::EngineError> {
            Ok(())
        }

        async fn exit_code(&self) -> Result<i64, crate::engine::EngineError> {
            Ok(0)
        }
    }

    #[tokio::test]
    async fn a_program_that_reads_nothing_is_fed_no_longer_than_somebody_is_there() {
        use tokio::io::AsyncReadExt;
        let (input, from_caller) = mpsc::channel(BUFFER);
        let (to, mut program) = tokio::io::duplex(16);
        let held = fed(feed(from_caller, Box::pin(to), Arc::new(NoTerminal), false, Arc::new(|| {})));
        input.send(ExecInput::Stdin(vec![b'x'; 100].into())).await.expect("taken");
        let mut first = [0; 1];
        program.read_exact(&mut first).await.expect("the first of it");
        // It is written to, and does not read: only the caller's end can end that.
        drop(held);
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), program.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.len() < 99, "its input ends, and it is told no more: {}", rest.len());
        assert!(input.send(ExecInput::CloseStdin).await.is_err(), "nobody takes anything any more");
    }

    /// A folder with these programs of this machine, and nothing else.
    fn with(programs: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, path) in programs {
            assert!(Path::new(path).exists(), "{path}");
            std::os::unix::fs::symlink(path, folder.path().join(name)).expect("a link");
        }
        folder
    }

    fn dial(path: &Path, port: u16) -> Command {
        let argv = script(DIAL, "dial", &["localhost", &port.to_string()]);
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().env("PATH", path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn the_real_script_connects_with_whatever_there_is() {
        let bash = [("bash", "/bin/bash"), ("cat", "/bin/cat")];
        let python = [("python3", "/usr/bin/python3")];
        let nc = [("nc", "/bin/busybox"), ("sleep", "/bin/sleep")];
        for programs in [&bash[..], &python, &nc] {
            let folder = with(programs);
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut line = String::new();
                BufReader::new(stream.try_clone().expect("a copy")).read_line(&mut line).expect("a line");
                write!(stream, "you said {line}").expect("an answer");
            });
            let mut child = dial(folder.path(), port).spawn().expect("sh");
            let (mut input, mut errors) = (child.stdin.take().expect("input"), child.stderr.take().expect("errors"));
            let mut connected = vec![0; CONNECTED.len()];
            errors.read_exact(&mut connected).expect("word of the connection");
            assert_eq!(connected, CONNECTED, "{programs:?}");
            input.write_all(b"hello\n").expect("written");
            serving.join().expect("served");
            // Its input is still open: what ends it is the end of the connection.
            let ended = child.wait_with_output().expect("its end");
            assert_eq!(String::from_utf8_lossy(&ended.stdout), "you said hello\n", "{programs:?}");
            drop(input);

            let refused = dial(folder.path(), port).output().expect("sh");
            assert!(!refused.status.success() && !refused.stderr.ends_with(CONNECTED), "{programs:?}: {refused:?}");
        }
        let nothing = with(&[]);
        let told = dial(nothing.path(), 1).output().expect("sh");
        assert!(String::from_utf8_lossy(&told.stderr).contains("none of bash, python3 and nc"), "{told:?}");
    }
}
