//! Writes held back until the batch ends or a query must see them.
//!
//! Most jobs read a record or two and write one. Held back, a whole batch of them costs a few statements with many
//! rows in place of a few statements each, and a job that fails is forgotten rather than rolled back.

use super::links::{self, Links};
use super::tx::{Tx, run, text};
use super::{StoreError, Stored};
use sqlx::{AssertSqlSafe, Executor};
use std::collections::BTreeMap;

/// What is to become of each record, by uid.
#[derive(Default)]
pub(super) struct Pending(BTreeMap<String, Op>);

enum Op {
    Put(Box<Row>),
    Delete,
}

/// A record as it is to be.
pub(super) struct Row {
    pub stored: Stored,
    /// When it was written (RFC 3339).
    pub at: String,
    /// Its links as text, as they are to be ...
    pub links: String,
    /// ... and as the database has them.
    pub held: String,
}

impl Pending {
    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when the record is to be deleted.
    pub fn deletes(&self, uid: &str) -> bool {
        matches!(self.0.get(uid), Some(Op::Delete))
    }

    /// True when what is held back may give or take a claim of this value: a query about it must see that first.
    pub fn may_concern(&self, value: &str) -> bool {
        // A value without signs that JSON escapes stands in the links' text as it is.
        let plain = value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        self.0.values().any(|op| match op {
            Op::Put(row) => !plain || row.links.contains(value) || row.held.contains(value),
            Op::Delete => true,
        })
    }

    /// Writes a record, in place of what was to be written of it before.
    pub fn put(&mut self, mut row: Row) {
        let uid = row.stored.uid.clone();
        if let Some(Op::Put(before)) = self.0.remove(&uid) {
            row.held = before.held;
        }
        self.0.insert(uid, Op::Put(Box::new(row)));
    }

    /// Deletes a record.
    pub fn delete(&mut self, uid: &str) {
        self.0.insert(uid.to_owned(), Op::Delete);
    }

    /// Takes over what a job wants to write.
    pub fn append(&mut self, job: Self) {
        for (uid, op) in job.0 {
            match op {
                Op::Put(row) => self.put(*row),
                Op::Delete => self.delete(&uid),
            }
        }
    }
}

/// Cuts rows into pieces of no more sizes than a connection keeps prepared statements of.
pub(super) fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    rows.chunks(10)
}

impl Tx {
    /// Writes everything held back, so that a query sees it.
    pub(super) async fn flush(&mut self) -> Result<(), StoreError> {
        self.flush_earlier().await?;
        if self.mine.is_empty() {
            return Ok(());
        }
        self.savepoint().await?;
        let mine = std::mem::take(&mut self.mine);
        self.write(mine).await
    }

    /// True when it is known that nobody holds the claim. Otherwise the database is to be asked; what is held back has
    /// been written by then, if the answer would not be right without. Records with unlike claims, as almost all are,
    /// stay together in few statements.
    pub(super) async fn is_free(&mut self, scope: &str, value: &str) -> Result<bool, StoreError> {
        if self.earlier.may_concern(value) || self.mine.may_concern(value) {
            self.flush().await?;
            return Ok(false);
        }
        Ok(self.free.contains(scope, value))
    }

    /// Must come before a statement that writes at once: makes it possible to take back this job's writes alone.
    pub(super) async fn begin_writing(&mut self) -> Result<(), StoreError> {
        self.flush_earlier().await?;
        self.savepoint().await
    }

    /// Writes what earlier jobs hold back.
    pub(super) async fn flush_earlier(&mut self) -> Result<(), StoreError> {
        if self.earlier.is_empty() {
            return Ok(());
        }
        (self.wrote, self.unsure) = (true, true);
        let earlier = std::mem::take(&mut self.earlier);
        self.write(earlier).await?;
        self.unsure = false;
        Ok(())
    }

    async fn savepoint(&mut self) -> Result<(), StoreError> {
        if self.touched {
            return Ok(());
        }
        let sql = if self.savepoint { "RELEASE SAVEPOINT job; SAVEPOINT job" } else { "SAVEPOINT job" };
        if let Err(e) = self.conn.execute(sql).await {
            self.broken.get_or_insert_with(|| e.to_string());
            return Err(e.into());
        }
        (self.savepoint, self.touched, self.wrote) = (true, true, true);
        Ok(())
    }

    /// Deletes come first: a name may have passed from a deleted record to a new one.
    async fn write(&mut self, pending: Pending) -> Result<(), StoreError> {
        self.free.forget();
        let mut rows = Vec::new();
        for (uid, op) in pending.0 {
            match op {
                Op::Put(row) => rows.push(*row),
                Op::Delete => {
                    run!(self, sqlx::query("DELETE FROM resources WHERE uid = $1").bind(uid), execute)?;
                }
            }
        }
        for piece in pieces(&rows) {
            self.write_rows(piece).await?;
        }
        let read = |r: &Row| (r.stored.uid.clone(), Links::read(&r.held), Links::read(&r.links));
        let changed: Vec<_> = rows.iter().filter(|r| r.held != r.links).map(read).collect();
        self.replace_links(&changed).await
    }

    async fn write_rows(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        // The condition keeps a uid from passing to another name; then fewer rows are written than asked for.
        let sql = format!(
            "INSERT INTO resources (uid, kind, namespace, name, revision, updated_at, links, body) VALUES {} \
             ON CONFLICT (uid) DO UPDATE SET revision = excluded.revision, updated_at = excluded.updated_at, \
             links = excluded.links, body = excluded.body WHERE resources.kind = excluded.kind \
             AND resources.namespace = excluded.namespace AND resources.name = excluded.name",
            links::placeholders(rows.len(), 8)
        );
        let query = rows.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            let it = &row.stored;
            let query = query.bind(it.uid.as_str()).bind(it.key.kind).bind(it.key.namespace.as_str()).bind(it.key.name.as_str());
            query.bind(it.revision).bind(row.at.as_str()).bind(row.links.as_str()).bind(text(&it.body))
        });
        let written = run!(self, query, execute)?.rows_affected();
        if written != rows.len() as u64 {
            let uids: Vec<_> = rows.iter().map(|r| r.stored.uid.as_str()).collect();
            return Err(StoreError::Database(format!("one of these uids is in use under another name: {}", uids.join(", "))));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Pending, Row, pieces};
    use crate::store::{Key, Stored};

    #[test]
    fn pieces_hold_every_row_once() {
        let rows: Vec<_> = (0..61).collect();
        let sizes: Vec<_> = pieces(&rows).map(<[i32]>::len).collect();
        assert_eq!(sizes, [10, 10, 10, 10, 10, 10, 1]);
        assert_eq!(pieces(&rows).flatten().copied().collect::<Vec<_>>(), rows);
    }

    fn row(uid: &str, held: &str, links: &str) -> Row {
        let key = Key { kind: "users.devsanctum.io", namespace: String::new(), name: uid.into() };
        let stored = Stored { key, uid: uid.into(), revision: 1, body: bytes::Bytes::new() };
        Row { stored, at: String::new(), links: links.into(), held: held.into() }
    }

    #[test]
    fn a_claim_given_or_taken_by_what_is_held_back_is_noticed() {
        let mut pending = Pending::default();
        assert!(!pending.may_concern("ada@example.com"));
        pending.put(row("a", "", r#"{"c":[["email","ada@example.com"]]}"#));
        pending.put(row("b", r#"{"c":[["email","old@example.com"]]}"#, ""));
        assert!(pending.may_concern("ada@example.com"), "given");
        assert!(pending.may_concern("old@example.com"), "taken");
        assert!(!pending.may_concern("eve@example.com"));
        assert!(pending.may_concern("a\"b"), "escaped in the text, so not to be found there");
        pending.delete("c");
        assert!(pending.may_concern("eve@example.com"), "a record to be deleted may hold it");
    }
}
