//! What the `exec` and `log` subresources of a workspace need from whoever runs its containers.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Which container of which workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamTarget {
    /// Project.
    pub namespace: String,
    /// Workspace.
    pub name: String,
    /// A sidecar's name; `None` for the main container.
    pub container: Option<String>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// Program and arguments; never empty.
    Command(Vec<String>),
    /// The user's own shell: as at a login, or with a line to carry out.
    Shell(Option<String>),
    /// The server of SSH's file transfer protocol.
    Sftp,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// What to run.
    pub run: Run,
    /// Variables over the container's.
    pub env: BTreeMap<String, String>,
    /// The caller will send input.
    pub stdin: bool,
    /// The caller wants the output.
    pub stdout: bool,
    /// The caller wants the error output; with a terminal there is none of its own.
    pub stderr: bool,
    /// Run on a terminal.
    pub tty: bool,
}

impl ExecRequest {
    /// With input and both outputs, and no terminal.
    pub fn piped(run: Run) -> Self {
        Self { run, env: BTreeMap::new(), stdin: true, stdout: true, stderr: true, tty: false }
    }
}

/// What a caller sends to a running command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes for its standard input.
    Stdin(Bytes),
    /// Its standard input ends.
    CloseStdin,
    /// The terminal has a new size, in characters.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// What a running command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Bytes of its standard output.
    Stdout(Bytes),
    /// Bytes of its error output.
    Stderr(Bytes),
    /// It ended, with this exit code. Nothing follows.
    Exit(i64),
    /// It could not be run on to its end, and why. Nothing follows.
    Failed(String),
}

/// A running command. Dropping it gives the command up: it is sent SIGHUP, as when a terminal is closed.
pub struct ExecSession {
    /// To the command.
    pub input: mpsc::Sender<ExecInput>,
    /// From the command; ends after [`ExecOutput::Exit`] or [`ExecOutput::Failed`].
    pub output: BoxStream<'static, ExecOutput>,
}

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// What was said while the workspace's image was built, in place of what the workspace writes.
    pub build: bool,
    /// Only what this service of the workspace writes.
    pub service: Option<String>,
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Only this many lines from the end.
    pub tail_lines: Option<u64>,
    /// Only lines of the last this many seconds.
    pub since_seconds: Option<u64>,
    /// Put the time before every line.
    pub timestamps: bool,
}

/// Why a stream cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There is no such workspace or container.
    #[error("{0}")]
    NotFound(String),
    /// It exists but has no running container now.
    #[error("{0}")]
    NotRunning(String),
    /// Nothing in the container takes the connection.
    #[error("{0}")]
    Refused(String),
    /// The Docker server cannot be reached now.
    #[error("{0}")]
    Unavailable(String),
}

/// Runs commands in workspaces and reads their logs.
#[async_trait]
pub trait WorkspaceStreams: Send + Sync {
    /// Starts a command.
    ///
    /// # Errors
    /// When the container does not exist, does not run, or cannot be reached.
    async fn exec(&self, target: StreamTarget, request: ExecRequest) -> Result<ExecSession, StreamError>;

    /// Connects to a port from inside the container, as a program in it would. Input and standard output are the
    /// connection's two directions.
    ///
    /// # Errors
    /// As for [`Self::exec`], and [`StreamError::Refused`] when nothing answers there.
    async fn dial(&self, target: StreamTarget, host: &str, port: u16) -> Result<ExecSession, StreamError>;

    /// Opens a log, as text.
    ///
    /// # Errors
    /// As for [`Self::exec`].
    async fn log(
        &self,
        target: StreamTarget,
        request: LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError>;
}

/// For a control plane without Docker at hand: says so.
pub struct NoStreams;

impl NoStreams {
    fn refuse<T>() -> Result<T, StreamError> {
        Err(StreamError::Unavailable("this control plane runs without its Docker side".into()))
    }
}

#[async_trait]
impl WorkspaceStreams for NoStreams {
    async fn exec(&self, _: StreamTarget, _: ExecRequest) -> Result<ExecSession, StreamError> {
        Self::refuse()
    }

    async fn dial(&self, _: StreamTarget, _: &str, _: u16) -> Result<ExecSession, StreamError> {
        Self::refuse()
    }

    async fn log(&self, _: StreamTarget, _: LogRequest) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        Self::refuse()
    }
}
