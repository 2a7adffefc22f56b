//! The schema's history, and the refusal to touch one that is newer than this program.

use super::StoreError;
use super::database::Dialect;
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, Connection, SqlSafeStr};

macro_rules! migrations {
    ($folder:literal) => {
        [
            (1, "records", include_str!(concat!("../../migrations/", $folder, "/0001_records.sql"))),
            (2, "views", include_str!(concat!("../../migrations/", $folder, "/0002_views.sql"))),
            (3, "access", include_str!(concat!("../../migrations/", $folder, "/0003_access.sql"))),
            (4, "welcome", include_str!(concat!("../../migrations/", $folder, "/0004_welcome.sql"))),
            (5, "audit", include_str!(concat!("../../migrations/", $folder, "/0005_audit.sql"))),
            (6, "seal", include_str!(concat!("../../migrations/", $folder, "/0006_seal.sql"))),
            (7, "shares", include_str!(concat!("../../migrations/", $folder, "/0007_shares.sql"))),
        ]
    };
}

/// The version from which on values are sealed with data keys.
pub(super) const ENVELOPES: i64 = 6;

/// Every migration of a dialect, in order.
fn migrator(dialect: Dialect) -> Migrator {
    let all = match dialect {
        Dialect::Sqlite => migrations!("sqlite"),
        Dialect::Postgres => migrations!("postgres"),
    };
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(all.into_iter().map(migration).collect())
}

/// The newest schema version this program knows.
fn known(migrator: &Migrator) -> i64 {
    migrator.iter().map(|m| m.version).max().unwrap_or(0)
}

/// The newest migration applied; 0 where there are none. Only reads.
pub(super) async fn version(conn: &mut AnyConnection, dialect: Dialect) -> Result<i64, StoreError> {
    let exists = match dialect {
        Dialect::Sqlite => "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
        Dialect::Postgres => {
            "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = '_sqlx_migrations'"
        }
    };
    if sqlx::query_scalar::<_, i64>(exists).fetch_one(&mut *conn).await? == 0 {
        return Ok(0);
    }
    Ok(sqlx::query_scalar::<_, i64>("SELECT coalesce(max(version), 0) FROM _sqlx_migrations").fetch_one(conn).await?)
}

/// Refuses a schema newer than this program, and tells which it is. Only reads.
pub(super) async fn refuse_newer(conn: &mut AnyConnection, dialect: Dialect) -> Result<i64, StoreError> {
    let found = version(conn, dialect).await?;
    let known = known(&migrator(dialect));
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(found) }
}

/// Makes the tables as a schema version had them, in an empty SQLite file. Within the caller's transaction.
pub(super) async fn create_at(conn: &mut AnyConnection, version: i64) -> Result<(), StoreError> {
    let made = migrator(Dialect::Sqlite).run_direct(Some(version), conn, false).await;
    made.map_err(|e| StoreError::Database(format!("making schema {version}: {e}")))
}

/// Brings the schema up to date. Two programs at once: one migrates, the other waits. On SQLite all
/// steps are one transaction; on PostgreSQL each step is, under an advisory lock.
pub(super) async fn migrate(conn: &mut AnyConnection, dialect: Dialect) -> Result<(), StoreError> {
    let run = async |conn: &mut AnyConnection| {
        migrator(dialect).run_direct(None, conn, false).await.map_err(|e| StoreError::Database(format!("migrating: {e}")))
    };
    match dialect {
        Dialect::Postgres => run(conn).await,
        Dialect::Sqlite if up_to_date(conn, dialect).await => Ok(()),
        Dialect::Sqlite => {
            let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
            run(&mut tx).await?;
            Ok(tx.commit().await?)
        }
    }
}

/// True when every migration is applied as it is known here; then nothing needs a write lock.
async fn up_to_date(conn: &mut AnyConnection, dialect: Dialect) -> bool {
    let applied = conn.list_applied_migrations("_sqlx_migrations").await.unwrap_or_default();
    let known = migrator(dialect);
    known.iter().all(|m| applied.iter().any(|a| a.version == m.version && a.checksum == m.checksum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_step_of_both_dialects() {
        for (folder, dialect) in [("sqlite", Dialect::Sqlite), ("postgres", Dialect::Postgres)] {
            let path = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let names = std::fs::read_dir(path).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
            let mut files: Vec<String> = names.collect();
            files.sort();
            let steps: Vec<String> =
                migrator(dialect).iter().map(|m| format!("{:04}_{}.sql", m.version, m.description)).collect();
            assert_eq!(files, steps, "{folder}");
        }
    }
}
