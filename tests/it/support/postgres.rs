//! A real PostgreSQL for the whole test binary, with a fresh database for each test.

use super::bare;
use super::ports::free_address;
use super::watchdog::Watchdog;
use sqlx::{Connection, Executor};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

/// A running server; stopped and removed with the last test that holds it.
pub struct Postgres {
    port: u16,
    folder: Watchdog,
}

/// How a server is made to fail.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    /// Told to stop at once, as at a failing of the machine's power: nothing is put in order.
    Immediate,
    /// One of its processes is killed that works for a client: it ends all others and recovers by itself.
    Backend,
    /// All of its processes are killed.
    Everything,
}

/// A database of one test.
pub struct Database {
    /// Its address.
    pub url: String,
    _server: Arc<Postgres>,
}

/// Where the server's programs are, newest first.
fn programs() -> PathBuf {
    let all = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL's server must be installed for these tests");
    let version = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    let newest = all.flatten().map(|e| e.path()).max_by_key(version);
    newest.expect("no version in /usr/lib/postgresql").join("bin")
}

/// A command that does not run as root, which PostgreSQL refuses.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = bare(program);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// The user `postgres`, where we are root.
fn postgres_user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|l| l.starts_with("postgres:")).expect("there must be a user postgres");
    let mut fields = line.split(':').skip(2).map(|f| f.parse().expect("a number"));
    Some((fields.next()?, fields.next()?))
}

impl Postgres {
    /// The server of this test binary; started when first asked for.
    fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Mutex<Weak<Postgres>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    fn start() -> Self {
        // SIGINT is the server's "fast shutdown". Its children end with it.
        let folder = Watchdog::asking("ds-postgres-", "data/postmaster.pid", "INT");
        if let Some((uid, gid)) = postgres_user() {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).expect("chown");
        }
        let data = folder.path().join("data");
        let init = command(&programs().join("initdb"), folder.path())
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "--pgdata"])
            .arg(&data)
            .status();
        assert!(init.expect("initdb").success(), "initdb failed");
        let server = Self { port: free_address().port(), folder };
        server.launch();
        server
    }

    fn launch(&self) {
        let mut server = command(&programs().join("postgres"), self.folder.path())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200"])
            // In its folder, not in /dev/shm, where one that is killed would leave it.
            .args(["-c", "dynamic_shared_memory_type=mmap"])
            // What is killed here is a program: the kernel keeps what it has written, on the disk or not.
            .args(["-c", "fsync=off"])
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(self.folder.path().join("data"))
            .process_group(0)
            .spawn()
            .expect("postgres");
        // Nobody asks how it ended, but it must not stay a zombie that looks alive.
        std::thread::spawn(move || server.wait());
    }

    /// A server of a test's own, to be ill-treated.
    pub async fn private() -> Arc<Self> {
        let server = tokio::task::spawn_blocking(Self::start).await.expect("the server starts");
        Arc::new(server)
    }

    fn pid(&self) -> String {
        let file = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).expect("a pid file");
        file.lines().next().expect("a pid").trim().to_owned()
    }

    /// Makes it fail. It does not answer then, or not for a moment; see [`Postgres::recover`].
    pub fn crash(&self, how: Crash) {
        let pid = self.pid();
        let children = children(&pid);
        // Those that are to be gone when this has worked: after the loss of one process the server ends all it has.
        let all = [std::slice::from_ref(&pid), &children].concat();
        let (signal, to, gone) = match how {
            Crash::Immediate => ("-QUIT", vec![pid], all),
            Crash::Everything => ("-KILL", all.clone(), all),
            Crash::Backend => {
                let serves = |pid: &&String| {
                    std::fs::read(format!("/proc/{pid}/cmdline"))
                        .is_ok_and(|c| String::from_utf8_lossy(&c).contains("127.0.0.1("))
                };
                let Some(one) = children.iter().find(serves).cloned() else { return };
                ("-KILL", vec![one], children)
            }
        };
        // One may have ended meanwhile.
        bare("kill").arg(signal).args(to).stderr(Stdio::null()).status().expect("kill");
        let begun = Instant::now();
        while gone.iter().any(|pid| Path::new("/proc").join(pid).exists()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "PostgreSQL does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again, where it does not by itself, and waits until it answers.
    pub async fn recover(&self, how: Crash) {
        if !matches!(how, Crash::Backend) {
            self.launch();
        }
        connect(&self.url("postgres")).await.close().await.expect("closes");
    }

    /// Makes a fresh database.
    pub async fn database(self: &Arc<Self>) -> Database {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut conn = connect(&self.url("postgres")).await;
        conn.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database");
        conn.close().await.expect("closes");
        Database { url: self.url(&name), _server: self.clone() }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// Processes that this one has started.
fn children(pid: &str) -> Vec<String> {
    let found = bare("pgrep").args(["-P", pid]).output().expect("pgrep").stdout;
    String::from_utf8_lossy(&found).split_whitespace().map(str::to_owned).collect()
}

/// Makes a fresh database on the server that all tests share.
pub async fn database() -> Database {
    let server = tokio::task::spawn_blocking(Postgres::shared).await.expect("the server starts");
    server.database().await
}

/// Connects, waiting for the server to be up.
async fn connect(url: &str) -> sqlx::PgConnection {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        match sqlx::PgConnection::connect(url).await {
            Ok(conn) => return conn,
            Err(e) if Instant::now() > limit => panic!("PostgreSQL does not answer: {e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
