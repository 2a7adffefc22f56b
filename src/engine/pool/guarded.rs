//! An engine whose heavy calls wait for a free place, whose changes are fenced, and whose calls are all measured.

use crate::engine::*;
use futures::StreamExt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Heavy calls in flight at once for each core of the engine. More brings no more throughput, only waiting inside
/// dockerd (measured: the knee is at twice the cores).
const PER_CORE: usize = 2;
/// Places until the engine has told its cores.
const DEFAULT_PLACES: usize = 4;
/// Stops in flight at once. They have places of their own: a container that ignores its signal holds one for the
/// whole grace period, and must not keep others from starting.
const STOPS: usize = 32;

/// Told of every call to an engine.
pub trait CallMetrics: Send + Sync + 'static {
    /// A call ended. `call` is the port's method; `outcome` is `ok` or the error's class in small letters;
    /// `waited` is the time spent waiting for a free place, `took` that of the call itself.
    fn observe(&self, server: &str, call: &'static str, outcome: &'static str, waited: Duration, took: Duration);
}

/// Tells nobody.
pub struct NoMetrics;

impl CallMetrics for NoMetrics {
    fn observe(&self, _: &str, _: &'static str, _: &'static str, _: Duration, _: Duration) {}
}

/// An engine with a limit on heavy calls (create, start, stop, remove, connect), a fence before those that change
/// something, and a measure on all.
pub struct Guarded {
    server: String,
    inner: Arc<dyn Engine>,
    metrics: Arc<dyn CallMetrics>,
    fence: Fence,
    places: Semaphore,
    stops: Semaphore,
    limit: AtomicUsize,
}

impl Guarded {
    /// Guards `inner`, the engine of the server so named.
    pub fn new(server: &str, inner: Arc<dyn Engine>, metrics: Arc<dyn CallMetrics>, fence: Fence) -> Self {
        Self {
            server: server.to_owned(),
            inner,
            metrics,
            fence,
            places: Semaphore::new(DEFAULT_PLACES),
            stops: Semaphore::new(STOPS),
            limit: AtomicUsize::new(DEFAULT_PLACES),
        }
    }

    /// How many heavy calls may be in flight.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    fn resize(&self, cores: u32) {
        let wanted = PER_CORE.saturating_mul(cores.clamp(1, 1024) as usize);
        let had = self.limit.swap(wanted, Ordering::Relaxed);
        if wanted > had {
            self.places.add_permits(wanted - had);
        }
        // Places in use cannot be taken back at once; those missing are made up for as they come free.
        let missing = had.saturating_sub(wanted);
        let missing = missing - self.places.forget_permits(missing);
        self.limit.fetch_add(missing, Ordering::Relaxed);
    }

    async fn read<T>(&self, call: &'static str, future: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        self.measured(call, Duration::ZERO, future).await
    }

    async fn heavy<T>(&self, call: &'static str, future: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        self.placed(&self.places, call, future).await
    }

    async fn placed<T>(
        &self,
        places: &Semaphore,
        call: &'static str,
        future: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let begun = Instant::now();
        // The semaphore is never closed.
        let _place: Option<SemaphorePermit<'_>> = places.acquire().await.ok();
        self.measured(call, begun.elapsed(), self.fenced(future)).await
    }

    /// A call that changes something: not begun once another may have the lead.
    async fn fenced<T>(&self, future: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        if !(self.fence)() {
            return Err(leads_no_more());
        }
        future.await
    }

    /// What changes something for as long as it comes: no more of it once another may have the lead.
    fn while_leading(&self, archive: ByteStream) -> ByteStream {
        let fence = Arc::clone(&self.fence);
        archive.map(move |chunk| if fence() { chunk } else { Err(leads_no_more()) }).boxed()
    }

    async fn measured<T>(
        &self,
        call: &'static str,
        waited: Duration,
        future: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let begun = Instant::now();
        let answer = future.await;
        let outcome = answer.as_ref().map_or_else(|e| e.class(), |_| "ok");
        self.metrics.observe(&self.server, call, outcome, waited, begun.elapsed());
        answer
    }
}

fn leads_no_more() -> EngineError {
    EngineError::Unreachable("this process no longer leads; another one acts".into())
}

type Stream<T> = BoxStream<'static, Result<T, EngineError>>;

#[async_trait]
impl Engine for Guarded {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let info = self.read("info", self.inner.info()).await?;
        if info.cpu_cores > 0 {
            self.resize(info.cpu_cores);
        }
        Ok(info)
    }
    fn listening(&self) -> Vec<SocketAddr> {
        self.inner.listening()
    }
    async fn containers(&self, uid: Option<&str>) -> Result<Vec<ContainerSummary>, EngineError> {
        self.read("containers", self.inner.containers(uid)).await
    }
    async fn inspect(&self, name_or_id: &str) -> Result<Option<Container>, EngineError> {
        self.read("inspect", self.inner.inspect(name_or_id)).await
    }
    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        self.heavy("create", self.inner.create(spec)).await
    }
    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.heavy("start", self.inner.start(id)).await
    }
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        self.placed(&self.stops, "stop", self.inner.stop(id, grace)).await
    }
    async fn unpause(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.read("unpause", self.fenced(self.inner.unpause(id))).await
    }
    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, EngineError> {
        self.read("cpu_time", self.inner.cpu_time(id)).await
    }
    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<(), EngineError> {
        self.heavy("update", self.inner.update(id, resources)).await
    }
    async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), EngineError> {
        self.read("rename", self.fenced(self.inner.rename(id, name))).await
    }
    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.heavy("remove", self.inner.remove(id)).await
    }
    async fn networks(&self, uid: Option<&str>) -> Result<Vec<Network>, EngineError> {
        self.read("networks", self.inner.networks(uid)).await
    }
    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError> {
        self.read("network", self.inner.network(name)).await
    }
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        self.heavy("create_network", self.inner.create_network(spec)).await
    }
    async fn connect(&self, network: &str, id: &ContainerId) -> Result<(), EngineError> {
        self.heavy("connect", self.inner.connect(network, id)).await
    }
    async fn disconnect(&self, network: &str, id: &ContainerId) -> Result<(), EngineError> {
        self.heavy("disconnect", self.inner.disconnect(network, id)).await
    }
    async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        self.heavy("remove_network", self.inner.remove_network(id)).await
    }
    async fn volumes(&self, uid: Option<&str>) -> Result<Vec<Volume>, EngineError> {
        self.read("volumes", self.inner.volumes(uid)).await
    }
    async fn volume(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        self.read("volume", self.inner.volume(name)).await
    }
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), EngineError> {
        self.heavy("create_volume", self.inner.create_volume(spec)).await
    }
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.heavy("remove_volume", self.inner.remove_volume(name)).await
    }
    async fn image(&self, reference: &str) -> Result<Option<String>, EngineError> {
        self.read("image", self.inner.image(reference)).await
    }
    async fn layers(&self, reference: &str) -> Result<Option<Vec<String>>, EngineError> {
        self.read("layers", self.inner.layers(reference)).await
    }
    async fn pull(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError> {
        self.read("pull", self.fenced(self.inner.pull(reference, login))).await
    }
    async fn tag(&self, image: &str, name: &str) -> Result<(), EngineError> {
        self.read("tag", self.fenced(self.inner.tag(image, name))).await
    }
    async fn push(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError> {
        self.read("push", self.fenced(self.inner.push(reference, login))).await
    }
    async fn built_images(&self) -> Result<Vec<BuiltImage>, EngineError> {
        self.read("built_images", self.inner.built_images()).await
    }
    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.read("remove_image", self.fenced(self.inner.remove_image(name))).await
    }
    async fn build(&self, build: &ImageBuild, said: &Said<'_>) -> Result<(), EngineError> {
        self.read("build", self.fenced(self.inner.build(build, said))).await
    }
    async fn commit(&self, id: &ContainerId, name: &str, labels: &Labels) -> Result<String, EngineError> {
        self.read("commit", self.fenced(self.inner.commit(id, name, labels))).await
    }
    async fn save(&self, image: &str) -> Result<ByteStream, EngineError> {
        self.read("save", self.inner.save(image)).await
    }
    async fn load(&self, archive: ByteStream) -> Result<(), EngineError> {
        self.read("load", self.fenced(self.inner.load(self.while_leading(archive)))).await
    }
    async fn archive(&self, id: &ContainerId, path: &str) -> Result<ByteStream, EngineError> {
        self.read("archive", self.inner.archive(id, path)).await
    }
    async fn extract(&self, id: &ContainerId, folder: &str, archive: ByteStream) -> Result<(), EngineError> {
        self.read("extract", self.fenced(self.inner.extract(id, folder, self.while_leading(archive)))).await
    }
    async fn events(&self) -> Result<Stream<EngineEvent>, EngineError> {
        self.read("events", self.inner.events()).await
    }
    async fn exec_output(&self, id: &ContainerId, argv: &[String], limit: usize) -> Result<ExecOutput, EngineError> {
        self.read("exec_output", self.inner.exec_output(id, argv, limit)).await
    }
    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        self.read("exec", self.inner.exec(id, request)).await
    }
    async fn logs(&self, id: &ContainerId, request: &LogRequest) -> Result<Stream<Bytes>, EngineError> {
        self.read("logs", self.inner.logs(id, request)).await
    }
}
