//! The two databases: how to connect to each and where their SQL differs.

use super::StoreError;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Executor};
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which SQL is spoken. The statements are the same but for what stands in this file, in `leases.rs`
/// and in `migrations/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SQLite, the default.
    Sqlite,
    /// PostgreSQL 14 or newer.
    Postgres,
}

/// Where the database is.
#[derive(Clone)]
pub(super) struct Database {
    /// What it speaks.
    pub dialect: Dialect,
    /// Its address, possibly with a password: never printed.
    pub url: String,
    options: AnyConnectOptions,
}

// Waiting for another process's write lock; ours has one writer and never waits for itself.
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864";

// A commit must mean "on disk", and a writer that hangs in a transaction (a stopped process) must not keep
// the other replicas from writing for long.
const POSTGRES_SETTINGS: &str = "SET synchronous_commit = on; SET idle_in_transaction_session_timeout = '5s'; \
     SET lock_timeout = '30s'; SET statement_timeout = '60s'";

/// How long another process that opens the same file is waited for.
const OPENING: Duration = Duration::from_secs(5);

/// Two that open a new file at once are in each other's way while it is given its write-ahead log, and for that SQLite does
/// not wait by itself.
async fn set_up(conn: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let begun = Instant::now();
    loop {
        match conn.execute(SQLITE_SETTINGS).await {
            Err(e) if is_busy(&e) && begun.elapsed() < OPENING => tokio::time::sleep(Duration::from_millis(20)).await,
            done => return done.map(drop),
        }
    }
}

/// SQLITE_BUSY, in any of its extended forms.
fn is_busy(e: &sqlx::Error) -> bool {
    let code = e.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

/// The file that whoever works on a database alone has locked; none where several may at once, as on PostgreSQL.
///
/// # Errors
/// When the address cannot be read.
pub fn lock_file(url: &str) -> Result<Option<PathBuf>, StoreError> {
    let it = Database::parse(url)?;
    if it.dialect != Dialect::Sqlite {
        return Ok(None);
    }
    let file = it.file()?;
    // However it is called, it is one.
    let mut path = std::fs::canonicalize(&file).unwrap_or(file).into_os_string();
    path.push(".lock");
    Ok(Some(path.into()))
}

impl Database {
    /// Reads the address; prepares the file and its folder on SQLite.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let it = Self::parse(url)?;
        if it.dialect == Dialect::Sqlite {
            private_file(&it.file()?)?;
        }
        Ok(it)
    }

    /// As [`Database::new`], where nothing is to be made.
    pub fn existing(url: &str) -> Result<Self, StoreError> {
        let it = Self::parse(url)?;
        if it.dialect == Dialect::Sqlite && !it.file()?.exists() {
            return Err(StoreError::Backup(format!("there is no database at {}", it.file()?.display())));
        }
        Ok(it)
    }

    fn parse(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let dialect = match url.split(':').next() {
            Some("sqlite") => Dialect::Sqlite,
            Some("postgres" | "postgresql") => Dialect::Postgres,
            _ => return Err(StoreError::Database("the URL must start with sqlite: or postgres:".into())),
        };
        // The parser's own message may repeat the URL, and with it a password.
        let options: AnyConnectOptions = url
            .parse()
            .map_err(|_| StoreError::Database("the URL cannot be read: is a character in it not %-encoded?".into()))?;
        Ok(Self { dialect, url: url.to_owned(), options: options.disable_statement_logging() })
    }

    /// The database file.
    fn file(&self) -> Result<PathBuf, StoreError> {
        let options: SqliteConnectOptions = self.url.parse().map_err(StoreError::from)?;
        let path = options.get_filename();
        // sqlx turns `sqlite::memory:` into a file name that starts like this.
        if self.url.contains(":memory:") || self.url.contains("mode=memory") || path.as_os_str().is_empty() {
            return Err(StoreError::Database(
                "SQLite needs a file, for example sqlite:///var/lib/devsanctum/devsanctum.db".into(),
            ));
        }
        Ok(path.to_owned())
    }

    /// A connection for the writer, with durability asserted.
    pub async fn connect(&self) -> Result<AnyConnection, StoreError> {
        let mut conn = self.options.connect().await?;
        match self.dialect {
            Dialect::Postgres => {
                conn.execute(POSTGRES_SETTINGS).await?;
            }
            Dialect::Sqlite => {
                set_up(&mut conn).await?;
                for (pragma, want) in [("foreign_keys", 1), ("synchronous", 2)] {
                    let sql = sqlx::AssertSqlSafe(format!("SELECT CAST({pragma} AS BIGINT) FROM pragma_{pragma}"));
                    let have: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await?;
                    if have != want {
                        return Err(StoreError::Database(format!("SQLite does not honour PRAGMA {pragma}: {have}, not {want}")));
                    }
                }
                let mode: String =
                    sqlx::query_scalar("SELECT journal_mode FROM pragma_journal_mode").fetch_one(&mut conn).await?;
                if mode != "wal" {
                    return Err(StoreError::Database(format!(
                        "SQLite cannot use WAL here (journal mode {mode}): is it a network folder?"
                    )));
                }
            }
        }
        Ok(conn)
    }

    /// A connection that changes nothing: on SQLite not even on closing, when another one would tidy up the log.
    pub async fn connect_to_read(&self) -> Result<AnyConnection, StoreError> {
        let mut options = self.options.clone();
        if self.dialect == Dialect::Sqlite {
            self.roll_back().await?;
            options.database_url.query_pairs_mut().append_pair("mode", "ro");
        }
        Ok(options.connect().await?)
    }

    /// Takes back what a first start that was killed had begun, before there was a write-ahead log: it has left a rollback
    /// journal, and until somebody who may write has followed that, nobody who may only read is let in.
    async fn roll_back(&self) -> Result<(), StoreError> {
        if with_suffix(&self.file()?, "-journal").exists() {
            let mut conn = self.options.connect().await?;
            conn.execute("SELECT count(*) FROM sqlite_master").await?;
            conn.close().await?;
        }
        Ok(())
    }

    /// A few connections for reading; opened as needed.
    pub fn read_pool(&self, patience: Duration) -> AnyPool {
        let settings = match self.dialect {
            Dialect::Sqlite => "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON",
            Dialect::Postgres => "SET default_transaction_read_only = on; SET statement_timeout = '60s'",
        };
        let options = match self.dialect {
            Dialect::Sqlite => AnyPoolOptions::new().max_connections(4).test_before_acquire(false),
            Dialect::Postgres => AnyPoolOptions::new().max_connections(8),
        };
        // No idle timeout and no maximal age: their reaper would wake an idle process.
        options
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(patience)
            .after_connect(move |conn, _| Box::pin(async move { conn.execute(settings).await.map(|_| ()) }))
            .connect_lazy_with(self.options.clone())
    }

    /// Starts a batch of writes and reads the newest revision. On PostgreSQL the row lock makes the next batch wait for
    /// this one's commit, whichever replica it comes from: revisions are in commit order.
    pub fn begin(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "BEGIN IMMEDIATE; SELECT revision FROM meta WHERE one = 1",
            Dialect::Postgres => "BEGIN; SELECT revision FROM meta WHERE one = 1 FOR UPDATE",
        }
    }

    /// Ends a batch of writes, after which this is the newest revision. The notification is a hint for other replicas.
    pub fn commit(&self, revision: i64) -> String {
        let hint = match self.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => "NOTIFY devsanctum_changes; ",
        };
        format!("UPDATE meta SET revision = {revision} WHERE one = 1; {hint}COMMIT")
    }

    /// Starts a reading transaction that sees one state throughout.
    pub fn snapshot(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

/// The address of a SQLite file, whatever signs are in its name.
pub fn file_url(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut url = String::from("sqlite://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(*byte)),
            other => drop(write!(url, "%{other:02X}")),
        }
    }
    url
}

impl From<sqlx::Error> for StoreError {
    fn from(e: sqlx::Error) -> Self {
        // PostgreSQL's code for bytes that are no text; what is said to it is UTF-8, so they are a NUL.
        let nul = e.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "22021");
        if nul { Self::Nul } else { Self::Database(e.to_string()) }
    }
}

/// Makes the database file and its folder the owner's alone, before SQLite writes to them. SQLite gives
/// its `-wal` and `-shm` files the mode of the database file.
fn private_file(file: &Path) -> Result<(), StoreError> {
    let failed = |what: &Path, e: std::io::Error| StoreError::Database(format!("{}: {e}", what.display()));
    if let Some(folder) = file.parent().filter(|f| !f.as_os_str().is_empty()) {
        private_folder(folder, file).map_err(|e| failed(folder, e))?;
    }
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
    drop(open.map_err(|e| failed(file, e))?);
    for suffix in ["", "-wal", "-shm"] {
        let path = with_suffix(file, suffix);
        if path.exists() && path.metadata().map_err(|e| failed(&path, e))?.mode() & 0o077 != 0 {
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|e| failed(&path, e))?;
        }
    }
    Ok(())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A folder made here, or one that holds nothing but the database, is closed to others. A folder with other
/// things in it (a home, `/tmp`) is somebody's own affair: its mode stays, and the files' own modes protect them.
fn private_folder(folder: &Path, file: &Path) -> std::io::Result<()> {
    if !folder.exists() {
        return DirBuilder::new().recursive(true).mode(0o700).create(folder);
    }
    if folder.metadata()?.mode() & 0o077 == 0 {
        return Ok(());
    }
    let ours = |name: PathBuf| {
        ["", "-wal", "-shm", "-journal", ".lock"].iter().any(|s| with_suffix(file, s).file_name() == name.file_name())
    };
    let entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    if entries.into_iter().all(|e| ours(e.path())) {
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))
    } else {
        tracing::warn!(folder = %folder.display(), "the database's folder is open to other users and holds other files; a folder of its own with mode 0700 is safer");
        Ok(())
    }
}
