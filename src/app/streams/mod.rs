//! Commands and logs in workspaces: the API's wish, the engine's hands. Any replica can serve them.

mod elsewhere;
mod programs;
mod service_log;

use crate::api::streams::{ExecRequest, ExecSession, LogRequest, StreamError, StreamTarget, WorkspaceStreams};
use crate::controllers::endpoint::endpoint;
use crate::controllers::{BuildLogs, SecretReader, Touched};
use crate::engine::{Connector, Container, ContainerState, Engine, EngineError};
use crate::plan::workspace::base_name;
use crate::resource::{DockerServer, Workspace, labels};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::{Api, Client};
use programs::Touch;
use service_log::service_log;
use std::sync::{Arc, OnceLock};

/// Commands and logs by way of the engines.
pub struct EngineStreams {
    client: Client,
    connector: Arc<dyn Connector>,
    secrets: Arc<dyn SecretReader>,
    /// What builders said to this process.
    builds: Arc<BuildLogs>,
    /// Where it is noted that somebody works.
    touched: Touched,
}

pub use elsewhere::tell_elsewhere;

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
    /// Of the same API, connections, credentials and builds as the loops; work through it is noted for them.
    pub fn new(
        client: &Client,
        connector: Arc<dyn Connector>,
        secrets: &Arc<dyn SecretReader>,
        (builds, touched): (&Arc<BuildLogs>, &Touched),
    ) -> Self {
        let (builds, touched) = (builds.clone(), touched.clone());
        Self { client: client.clone(), connector, secrets: secrets.clone(), builds, touched }
    }

    fn touch(&self, StreamTarget { namespace, name, .. }: StreamTarget) -> Touch {
        let touched = self.touched.clone();
        Arc::new(move || touched.touch(&namespace, &name))
    }

    async fn workspace(&self, StreamTarget { namespace, name, .. }: &StreamTarget) -> Result<Workspace, StreamError> {
        let workspaces: Api<Workspace> = Api::namespaced(self.client.clone(), namespace);
        let workspace = workspaces.get_opt(name).await.map_err(|e| api_failed(&e))?;
        workspace.ok_or_else(|| StreamError::NotFound(format!("workspace {namespace}/{name} does not exist")))
    }

    /// Of the image that the workspace runs or waits for.
    async fn build_log(
        &self,
        target: &StreamTarget,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        let status = self.workspace(target).await?.status.unwrap_or_default();
        let (server, image) = (status.docker_server.unwrap_or_default(), status.image.unwrap_or_default());
        let log = self.builds.of(&server, &image).ok_or_else(|| {
            StreamError::NotFound(format!(
                "no build of {image:?} on {server:?} is known: it was not built there since this control plane started (or is used as it is)"
            ))
        })?;
        let tail = request.tail_lines.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok(log.read(tail, request.follow).map(Ok).boxed())
    }

    async fn container(&self, target: &StreamTarget) -> Result<(Arc<dyn Engine>, Container), StreamError> {
        let StreamTarget { namespace, name, container } = target;
        let workspace = self.workspace(target).await?;
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
        let identity = workspace.identity();
        let base = base_name(&identity);
        let wanted = container.as_ref().map_or_else(|| base.clone(), |sidecar| format!("{base}.{sidecar}"));
        let found = engine.inspect(&wanted).await.map_err(|e| failed(&e))?;
        // A container that only has the name is not the workspace's.
        let found = found.filter(|c| c.labels.get(labels::UID) == Some(&identity.uid)).ok_or_else(waiting)?;
        Ok((engine, found))
    }

    async fn running(&self, target: &StreamTarget) -> Result<(Arc<dyn Engine>, Container), StreamError> {
        let (engine, container) = self.container(target).await?;
        if container.state != ContainerState::Running {
            return Err(StreamError::NotRunning(format!("workspace {}/{} is not running", target.namespace, target.name)));
        }
        Ok((engine, container))
    }
}

#[async_trait]
impl WorkspaceStreams for EngineStreams {
    async fn exec(&self, target: StreamTarget, request: ExecRequest) -> Result<ExecSession, StreamError> {
        let (engine, container) = self.running(&target).await?;
        programs::run(engine, &container, request, self.touch(target)).await
    }

    async fn dial(&self, target: StreamTarget, host: &str, port: u16) -> Result<ExecSession, StreamError> {
        let (engine, container) = self.running(&target).await?;
        programs::dial(engine, &container, (host, port), self.touch(target)).await
    }

    async fn log(
        &self,
        target: StreamTarget,
        request: LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        if request.build {
            return self.build_log(&target, &request).await;
        }
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

/// Streams that are set once the API they are part of stands: they need a client of it themselves.
#[derive(Default)]
pub struct LateStreams(OnceLock<EngineStreams>);

#[async_trait]
impl WorkspaceStreams for LateStreams {
    async fn exec(&self, target: StreamTarget, request: ExecRequest) -> Result<ExecSession, StreamError> {
        self.ready()?.exec(target, request).await
    }
    async fn dial(&self, target: StreamTarget, host: &str, port: u16) -> Result<ExecSession, StreamError> {
        self.ready()?.dial(target, host, port).await
    }
    async fn log(
        &self,
        target: StreamTarget,
        request: LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        self.ready()?.log(target, request).await
    }
}

impl LateStreams {
    /// They stand now; later ones change nothing.
    pub fn set(&self, streams: EngineStreams) {
        let _ = self.0.set(streams);
    }

    fn ready(&self) -> Result<&EngineStreams, StreamError> {
        self.0.get().ok_or_else(|| StreamError::Unavailable("the control plane is still starting".into()))
    }
}
