//! Commands in containers, and logs. bollard opens these streams late and takes a terminal's control bytes for
//! frame headers, so they are read here.

use super::{BEGIN, DockerEngine, EXEC_OUTPUT, READ, stream};
use crate::engine::{ContainerId, EngineError, ExecChunk, ExecControl, ExecOutput, ExecRequest, ExecSession, LogRequest};
use async_trait::async_trait;
use bollard::models::ExecConfig;
use bollard::query_parameters::ResizeExecOptionsBuilder;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http::Method;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// The engine records the exit code a moment after the output ends.
const EXIT_CODE_WAIT: Duration = Duration::from_secs(5);
/// Output is read in pieces of up to this many bytes.
const PIECE: usize = 64 << 10;
const EXIT_CODE_PAUSE: Duration = Duration::from_millis(20);

impl DockerEngine {
    pub(super) async fn open_exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        if request.argv.first().is_none_or(String::is_empty) {
            return Err(EngineError::Invalid("there is no command to run".into()));
        }
        let config = ExecConfig {
            attach_stdin: Some(request.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(request.tty),
            env: Some(request.env.clone()),
            cmd: Some(request.argv.clone()),
            user: request.user.clone(),
            privileged: Some(false),
            ..Default::default()
        };
        let made = self.within(READ, self.docker.create_exec(id.as_str(), config)).await?;
        let path = format!("/exec/{}/start", made.id);
        let body = serde_json::json!({ "Detach": false, "Tty": request.tty });
        let opened = async {
            let answer = self.wire.ask_upgrading(Method::POST, &path, Some(&body), true).await?;
            Ok(hyper::upgrade::on(answer).await?)
        };
        let (reader, writer) = tokio::io::split(TokioIo::new(self.within(BEGIN, opened).await?));
        let engine = self.clone();
        let chunks =
            ReaderStream::with_capacity(reader, PIECE).map(move |chunk| chunk.map_err(|e| engine.classify(e.into()))).boxed();
        Ok(ExecSession {
            output: stream::output(chunks, request.tty),
            input: Box::pin(writer),
            control: Box::new(Control { engine: self.clone(), exec: made.id }),
        })
    }

    pub(super) async fn collect_output(
        &self,
        id: &ContainerId,
        argv: &[String],
        limit: usize,
    ) -> Result<ExecOutput, EngineError> {
        let request = ExecRequest { argv: argv.to_vec(), ..Default::default() };
        let collect = async {
            let mut session = self.open_exec(id, &request).await?;
            let mut collected = ExecOutput::default();
            while let Some(chunk) = session.output.next().await {
                let room = limit.saturating_sub(collected.stdout.len() + collected.stderr.len());
                match chunk? {
                    ExecChunk::Stdout(bytes) => collected.stdout.extend_from_slice(&bytes[..bytes.len().min(room)]),
                    ExecChunk::Stderr(bytes) => collected.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]),
                }
            }
            collected.code = session.control.exit_code().await?;
            Ok(collected)
        };
        let late = |_| EngineError::Failed(format!("'{}' did not end within {} s", argv.join(" "), EXEC_OUTPUT.as_secs()));
        tokio::time::timeout(EXEC_OUTPUT, collect).await.map_err(late)?
    }

    pub(super) async fn open_logs(
        &self,
        id: &ContainerId,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        // Only the container's settings tell engines before API 1.42 how its log is sent.
        let inspected = self.within(READ, self.docker.inspect_container(id.as_str(), None)).await?;
        let tty = inspected.config.and_then(|c| c.tty).unwrap_or_default();
        let mut path = format!(
            "/containers/{}/logs?stdout=true&stderr=true&follow={}&timestamps={}",
            id.as_str(),
            request.follow,
            request.timestamps
        );
        if let Some(lines) = request.tail {
            path.push_str(&format!("&tail={lines}"));
        }
        if let Some(seconds) = request.since_seconds {
            // The API takes a time, not a length; clocks that differ shift it by as much.
            let from = jiff::Timestamp::now().as_second().saturating_sub(seconds);
            path.push_str(&format!("&since={from}"));
        }
        let answer = self.within(BEGIN, self.wire.ask(Method::GET, &path, None)).await?;
        let plain = |chunk| match chunk {
            Ok(ExecChunk::Stdout(bytes) | ExecChunk::Stderr(bytes)) => Ok(bytes),
            Err(error) => Err(error),
        };
        Ok(stream::output(self.body(answer), tty).map(plain).boxed())
    }
}

struct Control {
    engine: DockerEngine,
    exec: String,
}

#[async_trait]
impl ExecControl for Control {
    async fn resize(&self, columns: u16, rows: u16) -> Result<(), EngineError> {
        let size = ResizeExecOptionsBuilder::new().w(i32::from(columns)).h(i32::from(rows)).build();
        self.engine.within(READ, self.engine.docker.resize_exec(&self.exec, size)).await
    }

    async fn exit_code(&self) -> Result<i64, EngineError> {
        let wait = async {
            loop {
                let state = self.engine.within(READ, self.engine.docker.inspect_exec(&self.exec)).await?;
                if let (Some(false), Some(code)) = (state.running, state.exit_code) {
                    return Ok(code);
                }
                tokio::time::sleep(EXIT_CODE_PAUSE).await;
            }
        };
        let late = |_| EngineError::Failed("the command's output ended, but the command did not".into());
        tokio::time::timeout(EXIT_CODE_WAIT, wait).await.map_err(late)?
    }
}
