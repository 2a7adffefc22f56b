//! Backups: every row of every table at one moment, in one SQLite file, whichever database it comes from.
//!
//! # Guarantees
//! - The file is of one committed revision, however much is being written meanwhile.
//! - It is complete, on disk and read back when [`backup`] answers; until then it has another name.
//! - It holds the schema version of its database, so that any later program can restore it into either database.
//! - It does not hold the key that seals secrets' values.

use super::StoreError;
use super::database::{Database, Dialect, file_url};
use super::{schema, tables};
use k8s_openapi::jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, Connection, Executor, Row};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Version of what is written here beside the tables.
const FORMAT: i64 = 1;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupInfo {
    /// When it was made (RFC 3339).
    pub at: String,
    /// Version of the program that made it.
    pub program: String,
    /// Version of the schema.
    pub schema: i64,
    /// The installation's identity.
    pub instance: String,
    /// The revision it is of.
    pub revision: i64,
    /// How many records it holds.
    pub records: i64,
}

/// Writes all of a database to a new file that is its owner's alone. The database is only read, and may be in use.
///
/// # Errors
/// When there is no database, it is of a newer version, or the file is there already or cannot be written.
pub async fn backup(url: &str, file: &Path) -> Result<BackupInfo, StoreError> {
    let database = Database::existing(url)?;
    let mut from = database.connect_to_read().await?;
    let written = write(database.dialect, database.snapshot(), &mut from, file).await;
    let _ = from.close().await;
    written
}

/// The file while it is being written: goes with the value, unless it has got its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn write(
    dialect: Dialect,
    snapshot: &'static str,
    from: &mut AnyConnection,
    file: &Path,
) -> Result<BackupInfo, StoreError> {
    let failed = |e: std::io::Error| StoreError::Backup(format!("{}: {e}", file.display()));
    if file.symlink_metadata().is_ok() {
        return Err(StoreError::Backup(format!("{} is there already: name another file", file.display())));
    }
    let name = file.file_name().ok_or_else(|| StoreError::Backup(format!("{} is no name for a file", file.display())))?;
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(failed)?;
    let part = Part(folder.join(format!(".{}.{}.part", name.display(), uuid::Uuid::new_v4())));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part.0).map_err(failed)?;
    let mut into = connect(&part.0, "rw").await?;
    // It has no readers yet, and no use if this does not end well.
    into.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").await?;
    let mut reading = from.begin_with(snapshot).await?;
    let mut writing = into.begin().await?;
    copy(dialect, &mut reading, &mut writing).await?;
    writing.commit().await?;
    into.close().await?;
    reading.rollback().await?;
    let info = verify(&part.0).await?;
    File::open(&part.0).and_then(|f| f.sync_all()).map_err(failed)?;
    std::fs::rename(&part.0, folder.join(name)).map_err(failed)?;
    File::open(&folder).and_then(|f| f.sync_all()).map_err(failed)?;
    Ok(info)
}

/// Copies all tables, and notes what they are and their checksum.
async fn copy(dialect: Dialect, from: &mut AnyConnection, into: &mut AnyConnection) -> Result<(), StoreError> {
    let version = schema::refuse_newer(from, dialect).await?;
    if version == 0 {
        return Err(StoreError::Backup("there is nothing to back up: no control plane has used this database".into()));
    }
    schema::create_at(into, version).await?;
    let (at, program) = (Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), env!("CARGO_PKG_VERSION"));
    let mut digest = begin_digest(FORMAT, &at, program, version);
    for table in tables::of_file(into).await? {
        table.copy(from, Some(into), &mut digest).await?;
    }
    into.execute(
        "CREATE TABLE backup (format BIGINT NOT NULL, at TEXT NOT NULL, program TEXT NOT NULL, schema BIGINT NOT NULL, sha256 BLOB NOT NULL)",
    )
    .await?;
    let query = sqlx::query("INSERT INTO backup (format, at, program, schema, sha256) VALUES ($1, $2, $3, $4, $5)");
    query.bind(FORMAT).bind(at).bind(program).bind(version).bind(digest.finalize().to_vec()).execute(into).await?;
    Ok(())
}

fn begin_digest(format: i64, at: &str, program: &str, schema: i64) -> Sha256 {
    Sha256::new_with_prefix(format!("devsanctum backup {format} {at:?} {program:?} {schema}\n"))
}

/// Reads a backup whole, and says what it is.
///
/// # Errors
/// When it is no backup, is damaged (each row counts towards a checksum), or was made by a newer version.
pub async fn verify(file: &Path) -> Result<BackupInfo, StoreError> {
    let words = |what: &str| StoreError::Backup(format!("{} {what}", file.display()));
    let file = file.canonicalize().map_err(|e| words(&format!("cannot be read: {e}")))?;
    let damaged = |e: StoreError| match e {
        StoreError::Database(e) => words(&format!("is no backup, or is damaged: {e}")),
        other => other,
    };
    let mut conn = connect(&file, "ro").await.map_err(damaged)?;
    let length = file.metadata().map_err(|e| words(&format!("cannot be read: {e}")))?.len();
    let read = read(&mut conn, length).await.map_err(damaged);
    let _ = conn.close().await;
    let (info, good) = read?;
    if good { Ok(info) } else { Err(words("is damaged: what it holds is not what was written (checksum)")) }
}

async fn read(conn: &mut AnyConnection, length: u64) -> Result<(BackupInfo, bool), StoreError> {
    let noted = sqlx::query("SELECT format, at, program, schema, sha256 FROM backup").fetch_one(&mut *conn).await?;
    let (format, at, program): (i64, String, String) = (noted.try_get(0)?, noted.try_get(1)?, noted.try_get(2)?);
    if format > FORMAT {
        return Err(StoreError::Backup(format!("the backup was made by a newer version ({program}): install that version")));
    }
    let schema = schema::refuse_newer(conn, Dialect::Sqlite).await?;
    let mut digest = begin_digest(format, &at, &program, schema);
    for table in tables::of_file(conn).await? {
        table.copy(conn, None, &mut digest).await?;
    }
    let sum: Vec<u8> = noted.try_get(4)?;
    let sound: String =
        sqlx::query_scalar("SELECT CAST(integrity_check AS TEXT) FROM pragma_integrity_check").fetch_one(&mut *conn).await?;
    // SQLite takes what is missing at the end of a file for zeros, which it may have been.
    let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let whole: i64 = sqlx::query_scalar(pages).fetch_one(&mut *conn).await?;
    let sound = sound == "ok" && u64::try_from(whole).is_ok_and(|whole| whole == length);
    let good = noted.try_get::<i64, _>(3)? == schema && digest.finalize().as_slice() == sum && sound;
    let (instance, revision) = sqlx::query_as("SELECT instance, revision FROM meta").fetch_one(&mut *conn).await?;
    let records = sqlx::query_scalar("SELECT count(*) FROM resources").fetch_one(&mut *conn).await?;
    Ok((BackupInfo { at, program, schema, instance, revision, records }, good))
}

/// Opens a SQLite file as it is.
pub(super) async fn connect(file: &Path, mode: &str) -> Result<AnyConnection, StoreError> {
    sqlx::any::install_default_drivers();
    Ok(AnyConnection::connect(&format!("{}?mode={mode}", file_url(file))).await?)
}
