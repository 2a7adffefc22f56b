//! All rows of all tables, as any schema version has them: what a backup is made of.
//!
//! The tables' names and columns are read from a SQLite file, so that a database which an older program has made can be
//! copied as it is. Both dialects have the same tables and columns at the same version.

use super::StoreError;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

/// Rows written at a time.
const PIECE: usize = 50;

/// A table.
pub(super) struct Table {
    /// Its name.
    pub name: String,
    columns: Vec<(String, Kind)>,
    /// Columns of its primary key, in their order: the order of the rows.
    key: Vec<String>,
}

#[derive(Clone, Copy)]
enum Kind {
    Int,
    Text,
    Bytes,
}

enum Cell {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// The tables of a SQLite file, those that others refer to before those that refer; without what migrations and
/// backups note for themselves.
pub(super) async fn of_file(conn: &mut AnyConnection) -> Result<Vec<Table>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND name NOT IN ('_sqlx_migrations', 'backup') ORDER BY rowid",
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut tables = Vec::new();
    for name in names {
        let sql = "SELECT CAST(name AS TEXT), CAST(type AS TEXT), CAST(pk AS BIGINT) FROM pragma_table_info($1) ORDER BY cid";
        let found = sqlx::query_as::<_, (String, String, i64)>(sql).bind(name.clone()).fetch_all(&mut *conn).await?;
        let mut key: Vec<_> =
            found.iter().filter(|(_, _, place)| *place > 0).map(|(name, _, place)| (*place, name.clone())).collect();
        key.sort();
        let columns =
            found.into_iter().map(|(name, kind, _)| Ok((name, Kind::read(&kind)?))).collect::<Result<_, StoreError>>()?;
        tables.push(Table { name, columns, key: key.into_iter().map(|(_, name)| name).collect() });
    }
    Ok(tables)
}

impl Kind {
    fn read(declared: &str) -> Result<Self, StoreError> {
        match declared {
            "INTEGER" | "BIGINT" => Ok(Self::Int),
            "TEXT" => Ok(Self::Text),
            "BLOB" => Ok(Self::Bytes),
            other => Err(StoreError::Database(format!("a column of type {other:?} cannot be copied"))),
        }
    }
}

impl Table {
    /// Copies all rows, in the order of the key, and adds them to the digest; without a goal they are only read.
    pub async fn copy(
        &self,
        from: &mut AnyConnection,
        mut into: Option<&mut AnyConnection>,
        digest: &mut Sha256,
    ) -> Result<u64, StoreError> {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let sql = format!("SELECT {} FROM {} ORDER BY {}", names.join(", "), self.name, self.key.join(", "));
        let (mut count, mut piece) = (0, Vec::with_capacity(PIECE));
        digest.update(format!("table {}\n", self.name));
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(from);
        while let Some(row) = rows.try_next().await? {
            let cells = self.cells(&row)?;
            cells.iter().for_each(|cell| cell.add_to(digest));
            count += 1;
            if let Some(into) = into.as_deref_mut() {
                piece.push(cells);
                if piece.len() == PIECE {
                    self.insert(into, &piece).await?;
                    piece.clear();
                }
            }
        }
        if let (Some(into), false) = (into, piece.is_empty()) {
            self.insert(into, &piece).await?;
        }
        digest.update(format!("{count} rows\n"));
        Ok(count)
    }

    fn cells(&self, row: &AnyRow) -> Result<Vec<Cell>, sqlx::Error> {
        let cell = |(at, (_, kind)): (usize, &(String, Kind))| {
            Ok(match kind {
                Kind::Int => Cell::Int(row.try_get(at)?),
                Kind::Text => Cell::Text(row.try_get(at)?),
                Kind::Bytes => Cell::Bytes(row.try_get(at)?),
            })
        };
        self.columns.iter().enumerate().map(cell).collect()
    }

    async fn insert(&self, into: &mut AnyConnection, rows: &[Vec<Cell>]) -> Result<(), StoreError> {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let places = super::links::placeholders(rows.len(), names.len());
        let sql = format!("INSERT INTO {} ({}) VALUES {places}", self.name, names.join(", "));
        let query = rows.iter().flatten().fold(sqlx::query(AssertSqlSafe(sql)), |query, cell| match cell {
            Cell::Int(value) => query.bind(*value),
            Cell::Text(value) => query.bind(value.clone()),
            Cell::Bytes(value) => query.bind(value.clone()),
        });
        query.execute(into).await?;
        Ok(())
    }
}

impl Cell {
    /// Kind and length go before the value, so that no two different rows read the same.
    fn add_to(&self, digest: &mut Sha256) {
        let mut add = |kind: u8, value: &[u8]| {
            digest.update([kind]);
            digest.update((value.len() as u64).to_be_bytes());
            digest.update(value);
        };
        match self {
            Self::Int(None) | Self::Text(None) | Self::Bytes(None) => add(b'0', b""),
            Self::Int(Some(value)) => add(b'i', &value.to_be_bytes()),
            Self::Text(Some(value)) => add(b't', value.as_bytes()),
            Self::Bytes(Some(value)) => add(b'b', value),
        }
    }
}
