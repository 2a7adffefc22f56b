//! Mistakes made with an engine.

use super::Bug;
use async_trait::async_trait;
use bytes::Bytes;
use devsanctum::engine::*;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An engine that is used wrongly.
pub struct Wrong {
    pub inner: Arc<dyn Engine>,
    pub bug: Bug,
    pub seen: Mutex<BTreeMap<String, Option<Container>>>,
    /// Ids and names of what this process has made.
    pub made: Arc<Mutex<BTreeSet<String>>>,
}

type Result<T> = std::result::Result<T, EngineError>;

impl Wrong {
    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    /// What to do when a name is taken shows only where nobody has looked before.
    fn ignores_names(&self) -> bool {
        matches!(self.bug, Bug::CreatesUnderAnotherName | Bug::AdoptsByName | Bug::EvictsByName)
    }

    /// Whether it leaves alone what another process made.
    fn leaves(&self, bug: Bug, what: &str) -> bool {
        self.is(bug) && !self.made.lock().unwrap().contains(what)
    }

    fn makes(&self, what: &str) {
        self.made.lock().unwrap().insert(what.to_owned());
    }

    fn spec(&self, spec: &ContainerSpec) -> ContainerSpec {
        let mut spec = spec.clone();
        let main = spec.labels.values().any(|v| v == "main");
        match self.bug {
            Bug::ForgetsLabels if main => spec.labels.clear(),
            Bug::WrongLimit if main => spec.memory *= 2,
            Bug::ForgetsMounts => spec.mounts.clear(),
            Bug::ForgetsEnv => drop(spec.env.remove("COLOUR")),
            Bug::WrongNetwork if matches!(spec.attach, Attach::Container(_)) => spec.attach = Attach::None,
            _ => {}
        }
        spec
    }

    fn listed<T>(&self, found: Result<Vec<T>>) -> Result<Vec<T>> {
        match found {
            Err(_) if self.is(Bug::IgnoresListErrors) => Ok(Vec::new()),
            found => found,
        }
    }

    async fn id_of(&self, name: &str) -> Result<ContainerId> {
        let found = self.inner.inspect(name).await?;
        found.map(|c| c.id).ok_or_else(|| EngineError::NotFound(name.into()))
    }
}

#[async_trait]
impl Engine for Wrong {
    async fn info(&self) -> Result<EngineInfo> {
        self.inner.info().await
    }
    async fn containers(&self, uid: Option<&str>) -> Result<Vec<ContainerSummary>> {
        self.listed(self.inner.containers(uid).await)
    }
    async fn inspect(&self, name: &str) -> Result<Option<Container>> {
        if self.is(Bug::LooksOnce)
            && let Some(seen) = self.seen.lock().unwrap().get(name)
        {
            return Ok(seen.clone());
        }
        let found = match self.inner.inspect(name).await {
            Err(_) if self.is(Bug::IgnoresListErrors) => None,
            found => found?,
        };
        if self.ignores_names() && found.as_ref().is_some_and(|c| c.labels.is_empty()) {
            return Ok(None);
        }
        if found.as_ref().is_some_and(|c| c.state == ContainerState::Created && self.leaves(Bug::SeesOnlyItsOwn, c.id.as_str())) {
            return Ok(None);
        }
        if found.as_ref().is_some_and(|c| c.state == ContainerState::Running) {
            self.seen.lock().unwrap().insert(name.to_owned(), found.clone());
        }
        Ok(found)
    }
    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let made = match self.inner.create(&self.spec(spec)).await {
            Err(EngineError::Conflict(_)) if self.is(Bug::CreatesUnderAnotherName) => {
                self.inner.create(&ContainerSpec { name: format!("{}-2", spec.name), ..spec.clone() }).await
            }
            Err(EngineError::Conflict(_)) if self.is(Bug::AdoptsByName) => {
                let id = self.id_of(&spec.name).await?;
                self.inner.stop(&id, Duration::ZERO).await?;
                Ok(id)
            }
            Err(EngineError::Conflict(_)) if self.is(Bug::EvictsByName) => {
                self.inner.remove(&self.id_of(&spec.name).await?).await?;
                self.inner.create(spec).await
            }
            Ok(id) if self.is(Bug::CreatesTwice) => {
                self.inner.remove(&id).await?;
                self.inner.create(spec).await
            }
            made => made,
        };
        made.inspect(|id| self.makes(id.as_str()))
    }
    async fn start(&self, id: &ContainerId) -> Result<()> {
        if self.leaves(Bug::StartsOnlyItsOwn, id.as_str()) {
            return Ok(());
        }
        self.inner.start(id).await?;
        if self.is(Bug::StartsTwice) {
            self.inner.stop(id, Duration::ZERO).await?;
            self.inner.start(id).await?;
        }
        Ok(())
    }
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        match self.bug {
            Bug::ForgetsToStop => return Ok(()),
            Bug::StopsOnlyItsOwn if self.leaves(self.bug, id.as_str()) => return Ok(()),
            Bug::StopsByRemoving => return self.inner.remove(id).await,
            Bug::StopsOthers => {
                for other in self.inner.containers(None).await? {
                    self.inner.stop(&other.id, Duration::ZERO).await?;
                }
            }
            _ => {}
        }
        self.inner.stop(id, grace).await
    }
    async fn unpause(&self, id: &ContainerId) -> Result<()> {
        self.inner.unpause(id).await
    }
    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration> {
        self.inner.cpu_time(id).await
    }
    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        match self.bug {
            Bug::LeavesLimits => Ok(()),
            Bug::WrongLimit => self.inner.update(id, &Resources { memory: resources.memory * 2, ..*resources }).await,
            _ => self.inner.update(id, resources).await,
        }
    }
    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        self.inner.rename(id, name).await
    }
    async fn remove(&self, id: &ContainerId) -> Result<()> {
        if self.is(Bug::LeavesContainers) || self.leaves(Bug::RemovesOnlyItsOwn, id.as_str()) {
            return Ok(());
        }
        let volumes = match self.bug {
            Bug::RemovesFolders => self.inner.inspect(id.as_str()).await?.map(|c| c.mounts).unwrap_or_default(),
            _ => BTreeMap::new(),
        };
        self.inner.remove(id).await?;
        for volume in volumes.keys() {
            self.inner.remove_volume(volume).await?;
        }
        Ok(())
    }
    async fn networks(&self, uid: Option<&str>) -> Result<Vec<Network>> {
        self.listed(self.inner.networks(uid).await)
    }
    async fn network(&self, name: &str) -> Result<Option<Network>> {
        self.inner.network(name).await
    }
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        self.inner.create_network(spec).await.inspect(|id| self.makes(id))
    }
    async fn connect(&self, network: &str, id: &ContainerId) -> Result<()> {
        self.inner.connect(network, id).await
    }
    async fn disconnect(&self, network: &str, id: &ContainerId) -> Result<()> {
        self.inner.disconnect(network, id).await
    }
    async fn remove_network(&self, id: &str) -> Result<()> {
        let leaves = self.is(Bug::LeavesNetworks) || self.leaves(Bug::RemovesOnlyItsNetworks, id);
        if leaves { Ok(()) } else { self.inner.remove_network(id).await }
    }
    async fn volumes(&self, uid: Option<&str>) -> Result<Vec<Volume>> {
        self.listed(self.inner.volumes(uid).await)
    }
    async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        match self.inner.volume(name).await? {
            None if self.is(Bug::ForgetsVolumes) => Ok(Some(Volume { name: name.into(), labels: Labels::new() })),
            found => Ok(found),
        }
    }
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        if self.is(Bug::ForgetsVolumes) {
            return Ok(());
        }
        self.inner.create_volume(spec).await.inspect(|()| self.makes(&spec.name))
    }
    async fn remove_volume(&self, name: &str) -> Result<()> {
        let leaves = self.is(Bug::LeavesVolumes) || self.leaves(Bug::RemovesOnlyItsVolumes, name);
        if leaves { Ok(()) } else { self.inner.remove_volume(name).await }
    }
    async fn image(&self, reference: &str) -> Result<Option<String>> {
        self.inner.image(reference).await
    }
    async fn layers(&self, reference: &str) -> Result<Option<Vec<String>>> {
        self.inner.layers(reference).await
    }
    async fn build(&self, build: &ImageBuild, said: &Said<'_>) -> Result<()> {
        self.inner.build(build, said).await
    }
    async fn pull(&self, reference: &str, login: Option<&Login>) -> Result<()> {
        if self.is(Bug::BelievesPulls) { Ok(()) } else { self.inner.pull(reference, login).await }
    }
    async fn tag(&self, image: &str, name: &str) -> Result<()> {
        self.inner.tag(image, name).await
    }
    async fn push(&self, reference: &str, login: Option<&Login>) -> Result<()> {
        self.inner.push(reference, login).await
    }
    async fn built_images(&self) -> Result<Vec<BuiltImage>> {
        self.inner.built_images().await
    }
    async fn remove_image(&self, name: &str) -> Result<()> {
        self.inner.remove_image(name).await
    }
    async fn commit(&self, id: &ContainerId, name: &str, labels: &Labels) -> Result<String> {
        self.inner.commit(id, name, labels).await
    }
    async fn save(&self, image: &str) -> Result<ByteStream> {
        self.inner.save(image).await
    }
    async fn load(&self, archive: ByteStream) -> Result<()> {
        self.inner.load(archive).await
    }
    async fn archive(&self, id: &ContainerId, path: &str) -> Result<ByteStream> {
        self.inner.archive(id, path).await
    }
    async fn extract(&self, id: &ContainerId, folder: &str, archive: ByteStream) -> Result<()> {
        self.inner.extract(id, folder, archive).await
    }
    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent>>> {
        let events = self.inner.events().await?;
        Ok(match self.bug {
            Bug::Deaf => futures::stream::pending().boxed(),
            Bug::Echoes => events
                .flat_map(|event| {
                    let again = event.clone();
                    let echo = futures::stream::unfold(again, |event| async {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        Some((event.clone(), event))
                    });
                    futures::stream::iter([event]).chain(echo)
                })
                .boxed(),
            _ => events,
        })
    }
    async fn exec_output(&self, id: &ContainerId, argv: &[String], limit: usize) -> Result<ExecOutput> {
        self.inner.exec_output(id, argv, limit).await
    }
    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecSession> {
        self.inner.exec(id, request).await
    }
    async fn logs(&self, id: &ContainerId, request: &LogRequest) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.inner.logs(id, request).await
    }
}
