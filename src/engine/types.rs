//! What is asked of and told by an engine.

use super::cause::Told;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use tokio::io::AsyncWrite;

/// A container's 64-digit id. Deletion asks for one, so that nothing is ever deleted by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Reads an id as the engine gives it.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        hex.then(|| Self(text.to_owned()))
    }
    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first 12 digits, as `docker ps` shows them.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// Where an engine listens.
#[derive(Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket on this machine.
    Unix(std::path::PathBuf),
    /// TCP without any security.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// TCP with TLS and a client certificate; all PEM, never written to disk.
    Tls {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Certificate of the authority the engine's certificate must come from.
        ca: Vec<u8>,
        /// Our certificate.
        cert: Vec<u8>,
        /// Our key.
        key: Vec<u8>,
    },
    /// A socket on another machine, through SSH.
    Ssh(SshEndpoint),
}

/// A socket on another machine, and what to get there with; it does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct SshEndpoint {
    /// Whom to be there.
    pub user: String,
    /// Host name or address.
    pub host: String,
    /// Port of SSH.
    pub port: u16,
    /// Path of the engine's socket.
    pub socket: String,
    /// Our private key, as OpenSSH has it.
    pub key: Vec<u8>,
    /// What the host is known by: lines of `known_hosts`.
    pub known_hosts: Vec<u8>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Tls { host, port, .. } => write!(f, "tls://{host}:{port}"),
            Self::Ssh(SshEndpoint { user, host, port, .. }) => write!(f, "ssh://{user}@{host}:{port}"),
        }
    }
}

/// Labels of a Docker object.
pub type Labels = BTreeMap<String, String>;

/// Who an engine is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineInfo {
    /// The engine's identity.
    pub id: String,
    /// Version, such as `20.10.24`.
    pub version: String,
    /// API version, such as `1.41`.
    pub api_version: String,
    /// Logical cores.
    pub cpu_cores: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Versions of what it works with, as it says them: `containerd`, `runc`, …
    pub components: BTreeMap<String, String>,
    /// Whether plugins of its decide what callers may do.
    pub authorization: bool,
    /// When the first of its and our certificates ends, in seconds since 1970; none without TLS.
    pub certificate_ends: Option<i64>,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Runs.
    Running,
    /// Frozen by `docker pause`.
    Paused,
    /// Between two runs.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Its removal failed half-way. It cannot be started again, only removed.
    Dead,
}

/// A container in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSummary {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without Docker's leading slash.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Whether it runs.
    pub state: ContainerState,
    /// Networks it is attached to, by network name: its address there, if it has one now.
    pub networks: BTreeMap<String, Option<IpAddr>>,
    /// Volumes mounted, by name: where.
    pub mounts: BTreeMap<String, String>,
}

impl From<ContainerSummary> for Container {
    /// What a list tells. How the last run ended, when this one began, whose network it shares and what it may use are not in it.
    fn from(listed: ContainerSummary) -> Self {
        let ContainerSummary { id, name, labels, state, networks, mounts } = listed;
        let (exit_code, error, oom_killed, started_at, network_of, resources) = Default::default();
        Self { id, name, labels, state, exit_code, error, oom_killed, started_at, networks, mounts, network_of, resources }
    }
}

/// A container, inspected.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without Docker's leading slash.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Whether it runs.
    pub state: ContainerState,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// The engine's words about a failed start; empty otherwise.
    pub error: String,
    /// Killed for using more memory than allowed.
    pub oom_killed: bool,
    /// When it last started (RFC 3339), as the engine says it; changes with every start.
    pub started_at: String,
    /// Networks it is attached to, by network name: its address there, if it has one now.
    pub networks: BTreeMap<String, Option<IpAddr>>,
    /// Volumes mounted, by name: where.
    pub mounts: BTreeMap<String, String>,
    /// Container whose network it shares, where it does.
    pub network_of: Option<String>,
    /// What it may use.
    pub resources: Option<Resources>,
}

/// What a container may use, and whether its engine starts it again by itself: what `docker update` changes. 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: u64,
    /// It may use swap beside its memory.
    pub swap: bool,
    /// CPU in billionths of a core.
    pub nano_cpus: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Its engine starts it again by itself.
    pub restarts: bool,
}

impl Resources {
    /// With these limits, and as every container is made: without swap, and started by us alone.
    pub fn limited(memory: u64, nano_cpus: u64, pids: u32) -> Self {
        Self { memory, swap: false, nano_cpus, pids, restarts: false }
    }
}

/// What network a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A network by name.
    Network(String),
    /// The network namespace of another container, as in a pod.
    Container(ContainerId),
    /// None at all.
    None,
    /// Its host's: for the gateway of a server alone, by its labels ([`labels::GATEWAY`](crate::resource::labels::GATEWAY)).
    Host,
}

/// Folder that every container has in its memory: for what must never lie on a disk. It is empty after each start.
pub const IN_MEMORY: &str = "/run/devsanctum";

/// A container to create. There is deliberately no way to say privileged, host mounts, devices or published ports, and no
/// host namespace but the gateway's network: every container is hardened the same way by the adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// Its name; never empty.
    pub name: String,
    /// Image to run.
    pub image: String,
    /// Command in place of the image's own.
    pub command: Option<Vec<String>>,
    /// Folder it begins in, in place of the image's own.
    pub workdir: Option<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Labels, ownership included.
    pub labels: Labels,
    /// Volumes by name: where they are mounted.
    pub mounts: BTreeMap<String, String>,
    /// Its network.
    pub attach: Attach,
    /// Host name inside.
    pub hostname: Option<String>,
    /// Memory in bytes.
    pub memory: u64,
    /// CPU in billionths of a core.
    pub nano_cpus: u64,
    /// Processes and threads.
    pub pids: u32,
}

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// Gateway address on the host, where it has one.
    pub gateway: Option<IpAddr>,
}

/// A bridge network to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Labels, ownership included.
    pub labels: Labels,
    /// Subnet such as `10.213.0.0/16`; the engine's own choice where left out.
    pub subnet: Option<String>,
    /// Name of the host's bridge interface (15 characters at most), for firewall rules.
    pub bridge: Option<String>,
    /// Let containers on it talk to each other.
    pub inter_container: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// A volume to create.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Labels, ownership included.
    pub labels: Labels,
}

/// An image to build.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBuild {
    /// The name it gets.
    pub tag: String,
    /// The build context: a `Dockerfile`, and what it copies.
    pub files: Vec<crate::image::File>,
    /// The image's labels. Containers made from it have them too, so none may say whose a container is.
    pub labels: Labels,
    /// The network that what is run while building is on; the engine's default one where none is given.
    pub network: Option<String>,
    /// What to sign in with at the registry that the image begins with is at.
    pub login: Option<Login>,
}

/// A name and a password at a registry. It does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Host of the registry, with its port: `registry.example.com:5000`, or `docker.io`.
    pub host: String,
    /// Name.
    pub username: String,
    /// Password, or a token.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}@{})", self.username, self.host)
    }
}

/// An image that this installation built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its id.
    pub id: String,
    /// Its names, with tags. None where it is the last step of a build that went wrong or was broken off.
    pub names: Vec<String>,
}

/// Something happened on an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineEvent {
    /// `container`, `network` or `volume`.
    pub kind: String,
    /// `start`, `die`, `destroy`, `disconnect`, …
    pub action: String,
    /// Labels of the object, as far as the engine tells them.
    pub labels: Labels,
    /// Name of the object.
    pub name: String,
}

/// What a command said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecOutput {
    /// Exit code.
    pub code: i64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A command to run with its streams attached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecRequest {
    /// Program and arguments; no shell is involved.
    pub argv: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Attach standard input.
    pub stdin: bool,
    /// Environment over the container's.
    pub env: Vec<String>,
    /// User in place of the container's, by name or number.
    pub user: Option<String>,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecChunk {
    /// Of standard output (and of both, with a terminal).
    Stdout(Bytes),
    /// Of standard error.
    Stderr(Bytes),
}

/// A command running with its streams attached.
pub struct ExecSession {
    /// Its output; ends with the command.
    pub output: BoxStream<'static, Result<ExecChunk, EngineError>>,
    /// Its input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Size and end of it.
    pub control: Box<dyn ExecControl>,
}

/// Size and end of a running command.
#[async_trait]
pub trait ExecControl: Send + Sync {
    /// Tells the terminal its size.
    async fn resize(&self, columns: u16, rows: u16) -> Result<(), EngineError>;
    /// Its exit code, once its output has ended.
    async fn exit_code(&self) -> Result<i64, EngineError>;
}

/// What part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRequest {
    /// Go on as it grows.
    pub follow: bool,
    /// Last lines only.
    pub tail: Option<u32>,
    /// Only what is newer than this many seconds ago.
    pub since_seconds: Option<i64>,
    /// Begin each line with its time.
    pub timestamps: bool,
}

/// What can go wrong at an engine. Its words are kept, for people to read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// No answer, or none in time: nothing is known about the effect.
    #[error("the engine does not answer: {0}")]
    Unreachable(Told),
    /// TLS, permission or what answers there stands in the way.
    #[error("the engine cannot be worked with: {0}")]
    Denied(Told),
    /// The name is taken, or the object is in a state that does not allow this (in use, paused, not running).
    #[error("{0}")]
    Conflict(String),
    /// The object is not there.
    #[error("{0}")]
    NotFound(String),
    /// The image is not on the server.
    #[error("{0}")]
    ImageMissing(String),
    /// The engine understood and said no; the request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The engine failed inside.
    #[error("{0}")]
    Failed(String),
}

impl EngineError {
    /// What stands in the way, where that has a name.
    pub fn cause(&self) -> Option<super::cause::Cause> {
        match self {
            Self::Unreachable(told) | Self::Denied(told) => told.cause,
            _ => None,
        }
    }

    /// The error's class, for metrics: `unreachable`, `denied`, …
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Denied(_) => "denied",
            Self::Conflict(_) => "conflict",
            Self::NotFound(_) => "not_found",
            Self::ImageMissing(_) => "image_missing",
            Self::Invalid(_) => "invalid",
            Self::Failed(_) => "failed",
        }
    }
}
