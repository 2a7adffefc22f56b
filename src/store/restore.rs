//! Restoring: a backup is unpacked into a file of its own, made ready there, and put into the database in one
//! transaction. Until that commits nothing of the database has changed.

use super::backup::{connect, verify};
use super::check::{self, Checked};
use super::database::{Database, Dialect, file_url};
use super::{BackupInfo, Keyring, StoreConfig, StoreError, audit, leases, schema, tables};
use crate::audit::Entry;
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How far a restore moves the revision on. Clients may have seen revisions after the backup's; each must be told to
/// list anew, and none may find its next write fitting a state it has never seen. No installation writes this much
/// between a backup and its restore.
const SKIPPED: i64 = 1_000_000_000;

/// Unpacks a backup into a new file, at today's schema: a store with a feed that begins after all that was ever told.
/// What it says of itself is as [`verify`] finds it.
///
/// # Errors
/// As [`verify`]; when the file cannot be written.
pub async fn unpack(backup: &Path, into: &Path) -> Result<BackupInfo, StoreError> {
    let failed = |e: std::io::Error| StoreError::Backup(format!("{}: {e}", backup.display()));
    let mut from = File::open(backup).map_err(failed)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(into).map_err(failed)?;
    std::io::copy(&mut from, &mut copy).map_err(failed)?;
    let info = verify(into).await.map_err(|e| match e {
        // The copy's name says nothing to anybody.
        StoreError::Backup(words) => {
            StoreError::Backup(words.replace(&into.display().to_string(), &backup.display().to_string()))
        }
        other => other,
    })?;
    let mut conn = connect(into, "rw").await?;
    let mut tx = conn.begin().await?;
    tx.execute("DROP TABLE backup; DELETE FROM leases; DELETE FROM changes").await?;
    let sql = format!("UPDATE meta SET revision = revision + {SKIPPED}, compacted = revision + {SKIPPED} WHERE one = 1");
    tx.execute(AssertSqlSafe(sql)).await?;
    tx.commit().await?;
    conn.close().await?;
    Ok(info)
}

/// Puts the store that lies in a file into a database, in one transaction, and checks it there before that is
/// committed. Records that are there go only if `over` says so. The audit log that is there stays where it goes on from that
/// of the backup, and goes with the records where it is another one's; `note` becomes its next row, which says what was done.
///
/// # Errors
/// When the database is of a newer version, in use by a control plane, or holds records; when what was put in does not
/// pass the check. Nothing is changed then, except that an empty database has got its tables.
pub async fn replace(from: &Path, config: &StoreConfig, over: bool, note: Entry) -> Result<Checked, StoreError> {
    let database = Database::new(&config.url)?;
    let mut look = database.connect_to_read().await?;
    let newer = schema::refuse_newer(&mut look, database.dialect).await;
    look.close().await?;
    newer?;
    let ring = Keyring::new(&config.secret_keys);
    let mut conn = database.connect().await?;
    schema::migrate(&mut conn, database.dialect).await?;
    let begin = match database.dialect {
        Dialect::Sqlite => "BEGIN IMMEDIATE",
        Dialect::Postgres => "BEGIN",
    };
    let mut tx = conn.begin_with(begin).await?;
    refuse_in_use(&mut tx, database.dialect, over).await?;
    let mut source = Database::existing(&file_url(from))?.connect_to_read().await?;
    let mut all = tables::of_file(&mut source).await?;
    let here: i64 = sqlx::query_scalar("SELECT coalesce(max(revision), 0) FROM meta").fetch_one(&mut *tx).await?;
    let note = keep_audit(&mut tx, &mut source, &mut all, note).await?;
    for table in all.iter().rev() {
        tx.execute(AssertSqlSafe(format!("DELETE FROM {}", table.name))).await?;
    }
    for table in &all {
        table.copy(&mut source, Some(&mut tx), &mut Sha256::new()).await?;
    }
    let _ = source.close().await;
    // What clients saw of the records that were here is over, too, however often there was a restore.
    let sql = "UPDATE meta SET revision = $1, compacted = $1 WHERE revision < $1";
    if sqlx::query(sql).bind(here + SKIPPED).execute(&mut *tx).await?.rows_affected() > 0 {
        // What was written while it was made ready comes before the feed's beginning then.
        tx.execute("DELETE FROM changes").await?;
    }
    audit::append(&mut tx, vec![note]).await?;
    let checked = check::check(&mut tx, database.dialect, Some(&ring)).await?;
    if !checked.findings.is_empty() {
        let words = checked.findings.join("; ");
        return Err(StoreError::Backup(format!("what the backup holds does not fit together, nothing was restored: {words}")));
    }
    tx.commit().await?;
    conn.close().await?;
    Ok(checked)
}

/// Leaves the log that is there, if that of the backup is how it was once: what was done since stays told. Says of another
/// one where it ended, before it goes.
async fn keep_audit(
    here: &mut AnyConnection,
    source: &mut AnyConnection,
    all: &mut Vec<tables::Table>,
    mut note: Entry,
) -> Result<Entry, StoreError> {
    if audit::continues(here, source).await? {
        all.retain(|table| !table.name.starts_with("audit"));
        note.reason.push_str("; the log that was here goes on");
    } else if let Some(ended) = audit::end_of(here).await? {
        note.reason.push_str(&format!("; the log goes on from the backup's, the one that was here ended with {ended}"));
    }
    Ok(note)
}

/// A control plane that writes to the database would go on with what it remembers of it. On SQLite the state folder's
/// lock tells; on PostgreSQL replicas have folders of their own, and one of them leads.
async fn refuse_in_use(tx: &mut AnyConnection, dialect: Dialect, over: bool) -> Result<(), StoreError> {
    let sql = format!("SELECT count(*) FROM leases WHERE expires_at > {}", leases::now(dialect));
    if sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(&mut *tx).await? > 0 {
        let words =
            "a control plane runs on this database: stop every replica first (one that was killed holds its lease for a while)";
        return Err(StoreError::Backup(words.into()));
    }
    let records: i64 = sqlx::query_scalar("SELECT count(*) FROM resources").fetch_one(tx).await?;
    if records > 0 && !over {
        let words =
            format!("the database holds {records} records; to lose them and have the backup in their place, add --replace");
        return Err(StoreError::Backup(words));
    }
    Ok(())
}
