//! The port to a Docker Engine: what the controllers may ask of it, in our own words.
//!
//! Rules every implementation keeps: objects are created under the name given and with the ownership labels
//! given; nothing is deleted by name; an answer that did not come is [`EngineError::Unreachable`], never "not
//! there".

mod cause;
pub mod docker;
pub mod fake;
pub mod ownership;
pub mod pool;
pub mod probe;
mod types;

pub use cause::{Cause, Told};
pub use types::*;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::net::SocketAddr;
use std::time::Duration;

/// A Docker Engine.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Who it is: version, identity, cores, memory.
    async fn info(&self) -> Result<EngineInfo, EngineError>;
    /// Where programs of its host listen, besides on loopback, as far as that can be known: on this machine alone.
    fn listening(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// All containers of this installation, running or not, by its instance label; with `uid`, those of one record.
    async fn containers(&self, uid: Option<&str>) -> Result<Vec<ContainerSummary>, EngineError>;
    /// One container by name or id.
    async fn inspect(&self, name_or_id: &str) -> Result<Option<Container>, EngineError>;
    /// Creates a container; [`EngineError::Conflict`] when the name is taken, [`EngineError::ImageMissing`] when
    /// the image is not on the server.
    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, EngineError>;
    /// Starts a container; fine when it runs already.
    async fn start(&self, id: &ContainerId) -> Result<(), EngineError>;
    /// Stops a container, killing it after `grace`; fine when it is stopped already.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError>;
    /// Takes a container out of `docker pause`.
    async fn unpause(&self, id: &ContainerId) -> Result<(), EngineError>;
    /// Processor time that a container has used since it was started, of all cores together; none while it does not run.
    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, EngineError>;
    /// Gives a container, running or not, these limits; swap and restarts by its engine are never allowed, whatever is said of
    /// them. An engine whose kernel lacks one of the limits may take it, and go on without.
    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<(), EngineError>;
    /// Gives a container another name; [`EngineError::Conflict`] when it is taken.
    async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), EngineError>;
    /// Removes a container by id, running or not; fine when it is gone already.
    async fn remove(&self, id: &ContainerId) -> Result<(), EngineError>;

    /// All networks of this installation; with `uid`, those of one record.
    async fn networks(&self, uid: Option<&str>) -> Result<Vec<Network>, EngineError>;
    /// One network by name.
    async fn network(&self, name: &str) -> Result<Option<Network>, EngineError>;
    /// Creates a bridge network and gives its id.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError>;
    /// Attaches a container to a network by name; a stale attachment to a network of that name that is no more is
    /// taken off first. Fine when it is attached already.
    async fn connect(&self, network: &str, id: &ContainerId) -> Result<(), EngineError>;
    /// Takes a container off a network by name; fine when it is not on it.
    async fn disconnect(&self, network: &str, id: &ContainerId) -> Result<(), EngineError>;
    /// Removes a network by id; fine when it is gone already.
    async fn remove_network(&self, id: &str) -> Result<(), EngineError>;

    /// All volumes of this installation; with `uid`, those of one record.
    async fn volumes(&self, uid: Option<&str>) -> Result<Vec<Volume>, EngineError>;
    /// One volume by name.
    async fn volume(&self, name: &str) -> Result<Option<Volume>, EngineError>;
    /// Creates a volume; fine when it is there already, and [`EngineError::Conflict`] when one of that name has other labels.
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<(), EngineError>;
    /// Removes a volume; fine when it is gone already. (Docker knows volumes by name alone.)
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// Whether an image is on the server; gives its id.
    async fn image(&self, reference: &str) -> Result<Option<String>, EngineError>;
    /// The digests of an image's layers, if it is on the server: the same on every engine, which ids of images are not (an engine
    /// with containerd's image store goes by another digest than one without).
    async fn layers(&self, reference: &str) -> Result<Option<Vec<String>>, EngineError>;
    /// Pulls an image. Ends when it is on the server.
    async fn pull(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError>;
    /// Gives an image on the server another name (`repository:tag`); one that had it before loses it.
    async fn tag(&self, image: &str, name: &str) -> Result<(), EngineError>;
    /// Pushes an image to the registry that is in its name.
    async fn push(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError>;
    /// All images on the server that this installation built.
    async fn built_images(&self) -> Result<Vec<BuiltImage>, EngineError>;
    /// Takes a name off an image, and removes the image with its last one; [`EngineError::Conflict`] when a container is made of
    /// it, fine when it is gone already.
    async fn remove_image(&self, name: &str) -> Result<(), EngineError>;

    /// Builds an image, pulling what it begins with where that is not there. What the builder says is given to `said` line by
    /// line; where it fails, its last word is the error.
    async fn build(&self, build: &ImageBuild, said: &Said<'_>) -> Result<(), EngineError>;

    /// Makes an image of a container's own file system, under this name, and gives its id. Volumes are not in it. `labels` are the
    /// image's in place of the container's of the same names.
    async fn commit(&self, id: &ContainerId, name: &str, labels: &Labels) -> Result<String, EngineError>;
    /// An image with all its layers, as another engine's [`Engine::load`] takes it.
    async fn save(&self, image: &str) -> Result<ByteStream, EngineError>;
    /// Takes an image that was saved, under the names that the archive says, whatever they are. The engine itself compares each
    /// layer with its digest: an image of the same layers has the same files.
    async fn load(&self, archive: ByteStream) -> Result<(), EngineError>;
    /// What is at a path in a container, running or not, as a tar archive whose names begin with the path's last part. Volumes
    /// that are mounted there are in it.
    async fn archive(&self, id: &ContainerId, path: &str) -> Result<ByteStream, EngineError>;
    /// Unpacks a tar archive into a folder of a container, running or not, with its owners and modes.
    async fn extract(&self, id: &ContainerId, folder: &str, archive: ByteStream) -> Result<(), EngineError>;

    /// Events of this installation's containers, networks and volumes, from now on. A hint only: the stream may
    /// end or miss events at any time.
    async fn events(&self) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError>;

    /// Runs a command in a container and collects its output (at most `limit` bytes).
    async fn exec_output(&self, id: &ContainerId, argv: &[String], limit: usize) -> Result<ExecOutput, EngineError>;
    /// Starts a command in a container with its streams attached.
    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> Result<ExecSession, EngineError>;
    /// A container's log.
    async fn logs(
        &self,
        id: &ContainerId,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError>;
}

/// Bytes as they come. An error ends them.
pub type ByteStream = BoxStream<'static, Result<Bytes, EngineError>>;

/// Takes what a builder says, a line at a time.
pub type Said<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// Whether this process may act now. Asked right before each call that changes something: a process that was stopped
/// for a while goes on in the middle of what it did, and another may have the lead by then.
pub type Fence = std::sync::Arc<dyn Fn() -> bool + Send + Sync>;

/// Makes connections to engines; the same settings give the same connection.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Connects to the engine of the server so named and asks who it is.
    async fn connect(&self, server: &str, endpoint: &Endpoint) -> Result<std::sync::Arc<dyn Engine>, EngineError>;
    /// Drops the connection of a server that is gone.
    fn forget(&self, server: &str);
}
