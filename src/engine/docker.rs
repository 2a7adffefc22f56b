//! A Docker Engine over its API. Only this file and those beside it name bollard.
//!
//! # Guarantees
//! - Every call but streams has a deadline; one that ran out is [`EngineError::Unreachable`], whatever became of it.
//! - Every container is made in `docker/harden.rs` from a list of allowed settings; nothing else can be asked for.
//! - Lists hold only what carries this installation's label, checked again after the engine's own filter.
//! - An object asked for by name has exactly that name: Docker itself would also match the beginning of an id.

mod build;
mod carry;
mod connect;
mod error;
mod exec;
mod harden;
mod image;
mod listening;
mod network;
mod parts;
mod ssh;
mod stream;
mod tls;
mod translate;
mod wire;

pub use harden::CAPABILITIES;
pub(super) use wire::{Body, HttpClient};

use super::*;
use crate::resource::labels;
use bollard::errors::Error;
use bollard::query_parameters as query;
use bollard::{BollardRequest, Docker};
use futures::stream::StreamExt;
use http_body_util::BodyExt;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use wire::Wire;

/// Deadline of calls that only read.
const READ: Duration = Duration::from_secs(10);
/// Deadline of calls that change something.
const CHANGE: Duration = Duration::from_secs(60);
/// For calls whose length nobody knows: Docker must begin to answer within this.
const BEGIN: Duration = Duration::from_secs(60);
/// A pull may take hours, but not be silent for this long: Docker tells of progress many times a second.
const PROGRESS: Duration = Duration::from_secs(120);
/// Longest time a whole [`Engine::exec_output`] may take.
const EXEC_OUTPUT: Duration = Duration::from_secs(60);
/// bollard wants a timeout of its own; ours are all shorter.
const BOLLARD_TIMEOUT_SECONDS: u64 = 24 * 3600;
/// What happens to a container that can change what a controller decides. Health checks and execs are left out: they
/// come by the hundred.
const ACTIONS: [&str; 12] =
    ["create", "start", "die", "stop", "oom", "pause", "unpause", "destroy", "rename", "update", "connect", "disconnect"];

/// A Docker Engine, seen by one installation.
#[derive(Clone)]
pub struct DockerEngine {
    docker: Docker,
    wire: Wire,
    to: Option<Endpoint>,
    instance: String,
    ends: Option<Arc<tls::Ends>>,
    parts: Arc<Mutex<Option<parts::Known>>>,
}

impl DockerEngine {
    /// The engine at `endpoint`, for the installation `instance` (see [`labels::INSTANCE`]). Nothing is sent yet;
    /// [`EngineError::Invalid`] when the TLS material cannot be used.
    pub fn at(endpoint: Endpoint, instance: &str) -> Result<Self, EngineError> {
        let (client, ends) = connect::client(&endpoint)?;
        let wire = Wire::new(client, connect::base(&endpoint));
        Ok(Self { ends, ..Self::new(wire, Some(endpoint), instance)? })
    }

    /// An engine behind an HTTP client of our own: the fake's.
    pub(super) fn over(client: Arc<dyn HttpClient>, instance: &str) -> Result<Self, EngineError> {
        Self::new(Wire::new(client, "http://localhost".into()), None, instance)
    }

    fn new(wire: Wire, to: Option<Endpoint>, instance: &str) -> Result<Self, EngineError> {
        if instance.is_empty() {
            return Err(EngineError::Invalid("the installation's id is empty".into()));
        }
        let transport = wire.clone();
        let send = move |request: BollardRequest| {
            let transport = transport.clone();
            async move { transport.send(request.map(|body| body.boxed_unsync())).await }
        };
        let version = bollard::API_DEFAULT_VERSION;
        let docker = Docker::connect_with_custom_transport(send, Some(wire.base()), BOLLARD_TIMEOUT_SECONDS, version)
            .map_err(|e| error::classify(to.as_ref(), e))?;
        Ok(Self { docker, wire, to, instance: instance.to_owned(), ends: None, parts: Arc::default() })
    }

    /// Waits for an answer until the deadline, and sorts what goes wrong.
    async fn within<T>(&self, deadline: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, EngineError> {
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => answer.map_err(|e| self.classify(e)),
            Err(_) => Err(self.classify(silence(deadline))),
        }
    }

    fn classify(&self, error: Error) -> EngineError {
        let sorted = error::classify(self.to.as_ref(), error);
        let version = matches!(&sorted, EngineError::Invalid(text) if text.starts_with("client version"));
        if version || matches!(sorted, EngineError::Unreachable(_)) {
            self.wire.forget_version();
        }
        sorted
    }

    fn ours(&self, labels: &Labels, uid: Option<&str>) -> bool {
        let of = labels.get(labels::UID).map(String::as_str);
        labels.get(labels::INSTANCE) == Some(&self.instance) && (uid.is_none() || of == uid)
    }

    /// The engine-side filter for this installation's objects, or for those of one of its records.
    fn own_label(&self, uid: Option<&str>) -> HashMap<String, Vec<String>> {
        let instance = format!("{}={}", labels::INSTANCE, self.instance);
        let uid = uid.map(|uid| format!("{}={uid}", labels::UID));
        HashMap::from([("label".to_owned(), std::iter::once(instance).chain(uid).collect())])
    }

    /// Waits until a container that is being removed by someone is gone.
    async fn await_removal(&self, id: &ContainerId, conflict: EngineError) -> Result<(), EngineError> {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.inspect(id.as_str()).await?.is_none() {
                return Ok(());
            }
        }
        Err(conflict)
    }

    /// A stream of an answer's body.
    fn body(&self, answer: http::Response<hyper::body::Incoming>) -> BoxStream<'static, Result<Bytes, EngineError>> {
        let engine = self.clone();
        answer.into_body().into_data_stream().map(move |chunk| chunk.map_err(|e| engine.classify(e.into()))).boxed()
    }
}

fn silence(deadline: Duration) -> Error {
    let words = format!("no answer within {} s", deadline.as_secs());
    std::io::Error::new(std::io::ErrorKind::TimedOut, words).into()
}

/// "It is not there" is an answer to some questions.
fn absent<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::NotFound(_) | EngineError::ImageMissing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let info = match self.within(READ, self.docker.info()).await {
            Err(e) if e.cause() == Some(Cause::TlsMissing) => return Err(self.in_clear_text(e).await),
            other => other?,
        };
        let api = self.within(READ, self.wire.version()).await?;
        let components = self.components(&info).await?;
        Ok(EngineInfo {
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            api_version: api.to_string(),
            cpu_cores: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
            memory: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            components,
            authorization: info.plugins.and_then(|p| p.authorization).is_some_and(|all| !all.is_empty()),
            certificate_ends: self.ends.as_ref().and_then(|ends| ends.first()),
        })
    }

    fn listening(&self) -> Vec<SocketAddr> {
        let here = matches!(&self.to, Some(Endpoint::Unix(_)));
        if here { listening::on_this_machine() } else { Vec::new() }
    }

    async fn containers(&self, uid: Option<&str>) -> Result<Vec<ContainerSummary>, EngineError> {
        let options = query::ListContainersOptionsBuilder::new().all(true).filters(&self.own_label(uid)).build();
        let listed = self.within(READ, self.docker.list_containers(Some(options))).await?;
        let mut all = listed.into_iter().map(translate::summary).collect::<Result<Vec<_>, _>>()?;
        all.retain(|c| self.ours(&c.labels, uid));
        Ok(all)
    }

    async fn inspect(&self, name_or_id: &str) -> Result<Option<Container>, EngineError> {
        harden::check_name("container", name_or_id)?;
        let asked = self.within(READ, self.docker.inspect_container(name_or_id, None)).await;
        let several = matches!(&asked, Err(EngineError::Invalid(t) | EngineError::Failed(t)) if t.contains("multiple IDs"));
        if several {
            return Ok(None);
        }
        let found = absent(asked)?.map(translate::container).transpose()?;
        Ok(found.filter(|c| c.name == name_or_id || c.id.as_str() == name_or_id))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        let body = harden::body(spec)?;
        let options = query::CreateContainerOptionsBuilder::new().name(&spec.name).build();
        let made = self.within(CHANGE, self.docker.create_container(Some(options), body)).await?;
        ContainerId::parse(&made.id)
            .ok_or_else(|| EngineError::Failed("the engine made a container without a 64-digit id".into()))
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.within(CHANGE, self.docker.start_container(id.as_str(), None)).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = query::StopContainerOptionsBuilder::new().t(seconds).build();
        self.within(grace.saturating_add(CHANGE), self.docker.stop_container(id.as_str(), Some(options))).await
    }

    async fn unpause(&self, id: &ContainerId) -> Result<(), EngineError> {
        match self.within(CHANGE, self.docker.unpause_container(id.as_str())).await {
            Err(EngineError::Failed(text) | EngineError::Conflict(text)) if text.contains("is not paused") => Ok(()),
            other => other,
        }
    }

    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, EngineError> {
        let options = query::StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut told = std::pin::pin!(self.docker.stats(id.as_str(), Some(options)));
        let told = self.within(READ, async move { told.next().await.transpose() }).await?;
        let used = told.and_then(|told| told.cpu_stats?.cpu_usage?.total_usage);
        Ok(Duration::from_nanos(used.unwrap_or(0)))
    }

    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<(), EngineError> {
        let body = harden::update(resources)?;
        self.within(CHANGE, self.docker.update_container(id.as_str(), body)).await
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), EngineError> {
        harden::check_name("container", name)?;
        let options = query::RenameContainerOptionsBuilder::new().name(name).build();
        self.within(CHANGE, self.docker.rename_container(id.as_str(), options)).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.within(CHANGE, self.docker.remove_container(id.as_str(), Some(options))).await {
            Err(conflict @ EngineError::Conflict(_)) => self.await_removal(id, conflict).await,
            other => absent(other).map(|_| ()),
        }
    }

    async fn networks(&self, uid: Option<&str>) -> Result<Vec<Network>, EngineError> {
        let options = query::ListNetworksOptionsBuilder::new().filters(&self.own_label(uid)).build();
        let listed = self.within(READ, self.docker.list_networks(Some(options))).await?;
        Ok(listed.into_iter().map(translate::network).filter(|n| self.ours(&n.labels, uid)).collect())
    }

    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError> {
        harden::check_name("network", name)?;
        // Docker's filter also finds names that contain this one; and old engines allow one name twice.
        let filter = HashMap::from([("name", vec![name])]);
        let options = query::ListNetworksOptionsBuilder::new().filters(&filter).build();
        let listed = self.within(READ, self.docker.list_networks(Some(options))).await?;
        let mut named: Vec<_> = listed.into_iter().map(translate::network).filter(|n| n.name == name).collect();
        named.sort_by_key(|n| (!self.ours(&n.labels, None), n.id.clone()));
        Ok(named.into_iter().next())
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        let body = network::body(spec)?;
        let create = async {
            let answer = self.wire.ask(http::Method::POST, "/networks/create", Some(&body)).await?;
            let bytes = answer.into_body().collect().await?.to_bytes();
            Ok(serde_json::from_slice::<bollard::models::NetworkCreateResponse>(&bytes)?)
        };
        self.within(CHANGE, create).await.map(|made| made.id)
    }

    async fn connect(&self, network: &str, id: &ContainerId) -> Result<(), EngineError> {
        self.attach(network, id).await
    }

    async fn disconnect(&self, network: &str, id: &ContainerId) -> Result<(), EngineError> {
        harden::check_name("network", network)?;
        absent(self.detach(network, id).await).map(|_| ())
    }

    async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        harden::check_name("network", id)?;
        absent(self.within(CHANGE, self.docker.remove_network(id)).await).map(|_| ())
    }

    async fn volumes(&self, uid: Option<&str>) -> Result<Vec<Volume>, EngineError> {
        let options = query::ListVolumesOptionsBuilder::new().filters(&self.own_label(uid)).build();
        let listed = self.within(READ, self.docker.list_volumes(Some(options))).await?.volumes.unwrap_or_default();
        Ok(listed.into_iter().map(translate::volume).filter(|v| self.ours(&v.labels, uid)).collect())
    }

    async fn volume(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        harden::check_name("volume", name)?;
        let found = absent(self.within(READ, self.docker.inspect_volume(name)).await)?;
        Ok(found.map(translate::volume).filter(|v| v.name == name))
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        harden::check_name("volume", &spec.name)?;
        let request = bollard::models::VolumeCreateRequest {
            name: Some(spec.name.clone()),
            driver: Some("local".into()),
            labels: Some(spec.labels.clone().into_iter().collect()),
            ..Default::default()
        };
        let made = translate::volume(self.within(CHANGE, self.docker.create_volume(request)).await?);
        // Docker gives a volume of that name that is there, whosever it is.
        if spec.labels.iter().all(|(k, v)| made.labels.get(k) == Some(v)) {
            return Ok(());
        }
        Err(EngineError::Conflict(format!("a volume named {:?} is there already, and has other labels", spec.name)))
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        harden::check_name("volume", name)?;
        absent(self.within(CHANGE, self.docker.remove_volume(name, None::<query::RemoveVolumeOptions>)).await).map(|_| ())
    }

    async fn image(&self, reference: &str) -> Result<Option<String>, EngineError> {
        harden::check_reference(reference)?;
        Ok(absent(self.within(READ, self.docker.inspect_image(reference)).await)?.and_then(|image| image.id))
    }

    async fn layers(&self, reference: &str) -> Result<Option<Vec<String>>, EngineError> {
        harden::check_reference(reference)?;
        let found = absent(self.within(READ, self.docker.inspect_image(reference)).await)?;
        Ok(found.map(|image| image.root_fs.and_then(|fs| fs.layers).unwrap_or_default()))
    }

    async fn pull(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError> {
        self.pull_image(reference, login).await
    }

    async fn tag(&self, image: &str, name: &str) -> Result<(), EngineError> {
        self.name_image(image, name).await
    }

    async fn push(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError> {
        self.push_image(reference, login).await
    }

    async fn built_images(&self) -> Result<Vec<BuiltImage>, EngineError> {
        self.list_built().await
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.unname_image(name).await
    }

    async fn build(&self, build: &ImageBuild, said: &Said<'_>) -> Result<(), EngineError> {
        self.build_image(build, said).await
    }

    async fn commit(&self, id: &ContainerId, name: &str, labels: &Labels) -> Result<String, EngineError> {
        self.commit_container(id, name, labels).await
    }

    async fn save(&self, image: &str) -> Result<ByteStream, EngineError> {
        self.save_image(image).await
    }

    async fn load(&self, archive: ByteStream) -> Result<(), EngineError> {
        self.load_image(archive).await
    }

    async fn archive(&self, id: &ContainerId, path: &str) -> Result<ByteStream, EngineError> {
        self.read_archive(id, path).await
    }

    async fn extract(&self, id: &ContainerId, folder: &str, archive: ByteStream) -> Result<(), EngineError> {
        self.write_archive(id, folder, archive).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
        let filters = serde_json::json!({ "type": ["container", "network", "volume"], "event": ACTIONS });
        let path = format!("/events?filters={}", wire::percent_encode(&filters.to_string()));
        let answer = self.within(READ, self.wire.ask(http::Method::GET, &path, None)).await?;
        let instance = self.instance.clone();
        let read = move |line: Result<Bytes, EngineError>| match line.map(|l| serde_json::from_slice(&l)) {
            Ok(Ok(message)) => translate::event(message, &instance).map(Ok),
            Ok(Err(error)) => Some(Err(EngineError::Failed(format!("an event cannot be read: {error}")))),
            Err(error) => Some(Err(error)),
        };
        Ok(stream::lines(self.body(answer)).filter_map(move |line| std::future::ready(read(line))).boxed())
    }

    async fn exec_output(&self, id: &ContainerId, argv: &[String], limit: usize) -> Result<ExecOutput, EngineError> {
        self.collect_output(id, argv, limit).await
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        self.open_exec(id, request).await
    }

    async fn logs(
        &self,
        id: &ContainerId,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        self.open_logs(id, request).await
    }
}
