//! Commands and logs in workspaces: the API's wish, the engine's hands. Any replica can serve them.

use crate::api::streams::{
    ExecInput, ExecOutput, ExecRequest, ExecSession, LogRequest, StreamError, StreamTarget, WorkspaceStreams,
};
use crate::controllers::SecretReader;
use crate::controllers::endpoint::endpoint;
use crate::engine::{Connector, Container, ContainerId, ContainerState, Engine, EngineError, ExecChunk, ExecControl};
use crate::image::SERVICE_LOGS;
use crate::plan::workspace::base_name;
use crate::resource::{DockerServer, Workspace, labels};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::{Api, Client, ResourceExt};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Chunks under way in either direction.
const BUFFER: usize = 32;

/// Commands and logs by way of the engines.
pub struct EngineStreams {
    /// The API.
    pub client: Client,
    /// Connections to engines.
    pub connector: Arc<dyn Connector>,
    /// Credentials of engines.
    pub secrets: Arc<dyn SecretReader>,
}

fn failed(e: &EngineError) -> StreamError {
    match e {
        EngineError::NotFound(words) => StreamError::NotFound(words.clone()),
        EngineError::Conflict(words) => StreamError::NotRunning(words.clone()),
        e => StreamError::Unavailable(e.to_string()),
    }
}

fn api_failed(e: &kube::Error) -> StreamError {
    StreamError::Unavailable(e.to_string())
}

impl EngineStreams {
    async fn container(&self, target: &StreamTarget) -> Result<(Arc<dyn Engine>, Container), StreamError> {
        let StreamTarget { namespace, name, container } = target;
        let workspaces: Api<Workspace> = Api::namespaced(self.client.clone(), namespace);
        let workspace = workspaces.get_opt(name).await.map_err(|e| api_failed(&e))?;
        let workspace = workspace.ok_or_else(|| StreamError::NotFound(format!("workspace {namespace}/{name} does not exist")))?;
        let placed = workspace.status.as_ref().and_then(|s| s.docker_server.clone());
        let waiting =
            || StreamError::NotRunning(format!("workspace {namespace}/{name} has no container yet; see `devsanctum describe`"));
        let server = placed.ok_or_else(waiting)?;
        let servers: Api<DockerServer> = Api::all(self.client.clone());
        let record = servers.get_opt(&server).await.map_err(|e| api_failed(&e))?;
        let record = record.ok_or_else(|| StreamError::Unavailable(format!("server {server:?} is no longer registered")))?;
        let endpoint = endpoint(&self.client, self.secrets.as_ref(), &record).await;
        let endpoint = endpoint.map_err(|e| StreamError::Unavailable(e.message))?;
        let engine = self.connector.connect(&server, &endpoint).await.map_err(|e| failed(&e))?;
        let uid = workspace.uid().unwrap_or_default();
        let base = base_name(namespace, name, &uid);
        let wanted = container.as_ref().map_or_else(|| base.clone(), |sidecar| format!("{base}.{sidecar}"));
        let found = engine.inspect(&wanted).await.map_err(|e| failed(&e))?;
        // A container that only has the name is not the workspace's.
        let found = found.filter(|c| c.labels.get(labels::UID) == Some(&uid)).ok_or_else(waiting)?;
        Ok((engine, found))
    }
}

#[async_trait]
impl WorkspaceStreams for EngineStreams {
    async fn exec(&self, target: StreamTarget, request: ExecRequest) -> Result<ExecSession, StreamError> {
        let (engine, container) = self.container(&target).await?;
        if container.state != ContainerState::Running {
            return Err(StreamError::NotRunning(format!("workspace {}/{} is not running", target.namespace, target.name)));
        }
        let ask =
            crate::engine::ExecRequest { argv: request.command, tty: request.tty, stdin: request.stdin, ..Default::default() };
        let session = engine.exec(&container.id, &ask).await.map_err(|e| failed(&e))?;
        let (input, from_caller) = mpsc::channel(BUFFER);
        let control: Arc<dyn ExecControl> = Arc::from(session.control);
        tokio::spawn(feed(from_caller, session.input, control.clone()));
        let output = session.output.map(|chunk| match chunk {
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
        Ok(ExecSession { input, output: output.chain(end).boxed() })
    }

    async fn log(
        &self,
        target: StreamTarget,
        request: LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        let (engine, container) = self.container(&target).await?;
        if let Some(service) = &request.service {
            return service_log(engine.as_ref(), &container.id, service, &request).await;
        }
        let ask = crate::engine::LogRequest {
            follow: request.follow,
            tail: request.tail_lines.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            since_seconds: request.since_seconds.and_then(|n| i64::try_from(n).ok()),
            timestamps: request.timestamps,
        };
        let log = engine.logs(&container.id, &ask).await.map_err(|e| failed(&e))?;
        Ok(log.map(|chunk| chunk.map_err(|e| failed(&e))).boxed())
    }
}

/// Says which services have logs where the one asked for has none.
const FIND: &str = r#"[ -e "$1/$2/current" ] && exit
echo "there is no log of a service '$2'; there are: $(ls "$1" 2>/dev/null | tr '\n' ' ')" >&2
exit 1"#;
/// Prints a log; one that is followed until nobody listens any more, which is when the input ends.
const PRINT: &str = r#"log=$1/$2/current
[ "$4" = follow ] || exec tail -n "$3" "$log"
tail -n "$3" -F "$log" 2>/dev/null &
cat >/dev/null
kill $!"#;

async fn service_log(
    engine: &dyn Engine,
    id: &ContainerId,
    service: &str,
    request: &LogRequest,
) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
    let find = ["/bin/sh", "-c", FIND, "log", SERVICE_LOGS, service].map(str::to_owned);
    let found = engine.exec_output(id, &find, 4096).await.map_err(|e| failed(&e))?;
    if found.code != 0 {
        return Err(StreamError::NotFound(String::from_utf8_lossy(&found.stderr).trim().to_owned()));
    }
    let lines = request.tail_lines.map_or_else(|| "+1".to_owned(), |n| n.to_string());
    let how = if request.follow { "follow" } else { "once" };
    let argv = ["/bin/sh", "-c", PRINT, "log", SERVICE_LOGS, service, &lines, how].map(str::to_owned).to_vec();
    let ask = crate::engine::ExecRequest { argv, stdin: request.follow, ..Default::default() };
    let session = engine.exec(id, &ask).await.map_err(|e| failed(&e))?;
    // Held for as long as somebody reads.
    let input = session.input;
    let all = session.output.map(move |chunk| {
        let _ = &input;
        match chunk {
            Ok(ExecChunk::Stdout(bytes) | ExecChunk::Stderr(bytes)) => Ok(bytes),
            Err(e) => Err(failed(&e)),
        }
    });
    Ok(all.boxed())
}

/// Streams that are set once the API they are part of stands: they need a client of it themselves.
#[derive(Default)]
pub struct LateStreams(pub OnceLock<EngineStreams>);

#[async_trait]
impl WorkspaceStreams for LateStreams {
    async fn exec(&self, target: StreamTarget, request: ExecRequest) -> Result<ExecSession, StreamError> {
        self.ready()?.exec(target, request).await
    }
    async fn log(
        &self,
        target: StreamTarget,
        request: LogRequest,
    ) -> Result<futures::stream::BoxStream<'static, Result<bytes::Bytes, StreamError>>, StreamError> {
        self.ready()?.log(target, request).await
    }
}

impl LateStreams {
    fn ready(&self) -> Result<&EngineStreams, StreamError> {
        self.0.get().ok_or_else(|| StreamError::Unavailable("the control plane is still starting".into()))
    }
}

/// Passes on what the caller sends, until the caller goes.
async fn feed(mut from: mpsc::Receiver<ExecInput>, to: Pin<Box<dyn AsyncWrite + Send>>, control: Arc<dyn ExecControl>) {
    let mut to = Some(to);
    while let Some(input) = from.recv().await {
        match input {
            ExecInput::Stdin(bytes) => {
                let Some(open) = &mut to else { continue };
                if open.write_all(&bytes).await.is_err() || open.flush().await.is_err() {
                    to = None;
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
