//! What a write job works with.

use super::ahead::Free;
use super::database::Dialect;
use super::keyring::Keyring;
use super::links::Links;
use super::pending::{Pending, Row};
use super::rows::{self, RECORD};
use super::{Change, ChangeType, Key, KindId, Put, StoreError, Stored};
use crate::audit::Entry;
use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use std::collections::HashMap;
use std::sync::Arc;

/// What a write job works with: reads see what the job itself has written so far.
///
/// A job must await nothing but its `Tx`: all other writes wait for it. After a database error the job has
/// failed, whatever it answers: its writes are taken back.
pub struct Tx {
    pub(super) conn: AnyConnection,
    pub(super) dialect: Dialect,
    pub(super) ring: Arc<Keyring>,
    /// The newest revision given out, by this batch or before it.
    pub(super) revision: i64,
    /// Changes made by this batch so far.
    pub(super) changes: Vec<Change>,
    /// Rows of the audit log that this batch is to write at its end.
    pub(super) noted: Vec<Entry>,
    /// Writes held back, of earlier jobs of this batch and of this job.
    pub(super) earlier: Pending,
    pub(super) mine: Pending,
    /// Records as earlier jobs of this batch left them, and as this job knows them.
    pub(super) known: HashMap<Key, Option<Seen>>,
    pub(super) seen: HashMap<Key, Option<Seen>>,
    /// Claims read ahead.
    pub(super) free: Free,
    /// This batch has written something to the database.
    pub(super) wrote: bool,
    /// This job has, after a savepoint.
    pub(super) touched: bool,
    /// A savepoint stands open, of this job or an earlier one.
    pub(super) savepoint: bool,
    /// Writing what earlier jobs held back has begun and not ended: if it stays so, the batch is lost.
    pub(super) unsure: bool,
    /// The first database error of this job.
    pub(super) broken: Option<String>,
}

/// A record as this job knows it.
#[derive(Clone)]
pub(super) struct Seen {
    stored: Stored,
    links: String,
}

/// Runs a statement on the connection and remembers its failure.
macro_rules! run {
    ($tx:expr, $query:expr, $how:ident) => {{
        match $query.$how(&mut $tx.conn).await {
            Ok(found) => Ok(found),
            Err(e) => {
                $tx.broken.get_or_insert_with(|| e.to_string());
                Err(StoreError::from(e))
            }
        }
    }};
}
pub(super) use run;

impl Tx {
    /// Reads one record.
    pub async fn get(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        Ok(self.find(key).await?.map(|seen| seen.stored))
    }

    /// All records of a kind, in one namespace or everywhere, ordered by namespace and name.
    pub async fn list(&mut self, kind: KindId, namespace: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        self.flush().await?;
        let within = if namespace.is_some() { "AND namespace = $2" } else { "" };
        let sql = format!("SELECT {RECORD} FROM resources WHERE kind = $1 {within} ORDER BY namespace, name");
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(kind);
        if let Some(namespace) = namespace {
            query = query.bind(namespace);
        }
        all(run!(self, query, fetch_all)?)
    }

    /// The first `most` records of a kind in a namespace by name, without what is in them.
    pub async fn keys(&mut self, kind: KindId, namespace: &str, most: usize) -> Result<Vec<Key>, StoreError> {
        self.flush().await?;
        let query =
            sqlx::query("SELECT kind, namespace, name FROM resources WHERE kind = $1 AND namespace = $2 ORDER BY name LIMIT $3");
        let query = query.bind(kind).bind(namespace).bind(i64::try_from(most).unwrap_or(i64::MAX));
        run!(self, query, fetch_all)?.iter().map(|row| Ok(key_at(row)?)).collect()
    }

    /// Number of records of a kind in a namespace.
    pub async fn count(&mut self, kind: KindId, namespace: &str) -> Result<u64, StoreError> {
        self.flush().await?;
        let query = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM resources WHERE kind = $1 AND namespace = $2");
        Ok(run!(self, query.bind(kind).bind(namespace), fetch_one)?.unsigned_abs())
    }

    /// Records that name `uid` as an owner, ordered by kind, namespace and name.
    pub async fn dependents(&mut self, uid: &str) -> Result<Vec<Stored>, StoreError> {
        self.flush().await?;
        let query = sqlx::query(
            "SELECT r.uid, r.kind, r.namespace, r.name, r.revision, r.body FROM owners o JOIN resources r ON r.uid = o.uid \
             WHERE o.owner_uid = $1 ORDER BY r.kind, r.namespace, r.name",
        );
        all(run!(self, query.bind(uid), fetch_all)?)
    }

    /// Records that refer to `key` (as given in [`Put::references`]), ordered by kind, namespace and name.
    pub async fn referrers(&mut self, key: &Key) -> Result<Vec<Key>, StoreError> {
        self.flush().await?;
        let query = sqlx::query(
            "SELECT r.kind, r.namespace, r.name FROM refs f JOIN resources r ON r.uid = f.uid \
             WHERE f.kind = $1 AND f.namespace = $2 AND f.name = $3 ORDER BY r.kind, r.namespace, r.name",
        );
        let query = query.bind(key.kind).bind(key.namespace.as_str()).bind(key.name.as_str());
        run!(self, query, fetch_all)?.iter().map(|row| Ok(key_at(row)?)).collect()
    }

    /// Records of one kind that refer to `key`, as [`Self::referrers`], whole.
    pub async fn referring(&mut self, kind: KindId, key: &Key) -> Result<Vec<Stored>, StoreError> {
        self.flush().await?;
        let query = sqlx::query(
            "SELECT r.uid, r.kind, r.namespace, r.name, r.revision, r.body FROM refs f JOIN resources r ON r.uid = f.uid \
             WHERE f.kind = $1 AND f.namespace = $2 AND f.name = $3 AND r.kind = $4 ORDER BY r.namespace, r.name",
        );
        let query = query.bind(key.kind).bind(key.namespace.as_str()).bind(key.name.as_str()).bind(kind);
        all(run!(self, query, fetch_all)?)
    }

    /// Who holds a claimed value.
    pub async fn claim_holder(&mut self, scope: &str, value: &str) -> Result<Option<Key>, StoreError> {
        if self.is_free(scope, value).await? {
            return Ok(None);
        }
        let query = sqlx::query(
            "SELECT r.kind, r.namespace, r.name FROM claims c JOIN resources r ON r.uid = c.uid \
             WHERE c.scope = $1 AND c.value = $2",
        );
        let row = run!(self, query.bind(scope).bind(value), fetch_optional)?;
        Ok(row.as_ref().map(key_at).transpose()?)
    }

    /// Writes a record: gives it the next revision, sets `metadata.resourceVersion`, replaces its owners,
    /// references and claims, and appends to the change feed.
    ///
    /// # Errors
    /// [`StoreError::Claimed`] when another record holds one of the claims: nothing has been written then.
    pub async fn put(&mut self, put: Put) -> Result<Stored, StoreError> {
        check_texts(&put)?;
        let before = self.find(&put.key).await?;
        if before.as_ref().is_some_and(|b| b.stored.uid != put.uid) {
            return Err(StoreError::Database(format!("{:?} is there with another uid: delete it first", put.key)));
        }
        let links = Links::of(&put);
        let (held, wanted) = (before.as_ref().map_or("", |b| b.links.as_str()), links.text());
        if held != wanted {
            self.check_claims(&put.uid, held, &links).await?;
        }
        if self.earlier.deletes(&put.uid) || self.mine.deletes(&put.uid) {
            self.flush().await?;
        }
        let held = held.to_owned();
        let stored = self.next(put.key, put.uid, put.body)?;
        self.seen.insert(stored.key.clone(), Some(Seen { stored: stored.clone(), links: wanted.clone() }));
        self.mine.put(Row { stored: stored.clone(), at: Timestamp::now().to_string(), links: wanted, held });
        let kind = if before.is_some() { ChangeType::Modified } else { ChangeType::Added };
        let previous = before.filter(|_| put.tell_previous).map(|b| b.stored.body);
        self.changes.push(Change { kind, record: stored.clone(), previous });
        Ok(stored)
    }

    /// Removes a record; `body` is its last state, told to watchers with a new revision.
    ///
    /// # Errors
    /// When there is no such record.
    pub async fn delete(&mut self, key: &Key, body: Value) -> Result<Stored, StoreError> {
        let Some(before) = self.find(key).await? else {
            return Err(StoreError::Database(format!("{key:?} is not there, so it cannot be deleted")));
        };
        let stored = self.next(key.clone(), before.stored.uid, body)?;
        self.mine.delete(&stored.uid);
        self.changes.push(Change { kind: ChangeType::Deleted, record: stored.clone(), previous: None });
        self.seen.insert(key.clone(), None);
        Ok(stored)
    }

    async fn find(&mut self, key: &Key) -> Result<Option<Seen>, StoreError> {
        if let Some(seen) = self.seen.get(key).or_else(|| self.known.get(key)) {
            return Ok(seen.clone());
        }
        if !key.is_possible() {
            return Ok(None);
        }
        let query =
            sqlx::query("SELECT uid, revision, body, links FROM resources WHERE kind = $1 AND namespace = $2 AND name = $3");
        let query = query.bind(key.kind).bind(key.namespace.as_str()).bind(key.name.as_str());
        let row = run!(self, query, fetch_optional)?;
        let found = row.map(|row| seen(key, &row)).transpose()?;
        self.seen.insert(key.clone(), found.clone());
        Ok(found)
    }

    /// Gives a record the next revision and says so in its body.
    fn next(&mut self, key: Key, uid: String, mut body: Value) -> Result<Stored, StoreError> {
        let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Err(StoreError::Database(format!("{key:?} has no metadata object, so it cannot be written")));
        };
        self.revision += 1;
        metadata.insert("resourceVersion".into(), Value::String(self.revision.to_string()));
        Ok(Stored { key, uid, revision: self.revision, body: Bytes::from(body.to_string()) })
    }
}

/// Refuses texts that PostgreSQL could not keep, before they spoil other jobs' batch: it takes no NUL and nothing
/// too long for an index.
fn check_texts(put: &Put) -> Result<(), StoreError> {
    let ok = |t: &str| t.len() <= 512 && !t.contains('\0');
    let key = |k: &Key| ok(k.kind) && ok(&k.namespace) && ok(&k.name);
    let owners = put.owners.iter().all(|o| ok(o));
    let claims = put.claims.iter().all(|(scope, value)| ok(scope) && ok(value));
    if key(&put.key) && ok(&put.uid) && owners && claims && put.references.iter().all(key) {
        return Ok(());
    }
    Err(StoreError::Database("names, uids and claimed values take 512 bytes at most, and no NUL".into()))
}

/// A body as text. It was made from a `String` or read from a text column.
pub(super) fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap_or_default()
}

pub(super) fn seen(key: &Key, row: &AnyRow) -> Result<Seen, sqlx::Error> {
    let body = Bytes::copy_from_slice(row.try_get::<&str, _>(2)?.as_bytes());
    let stored = Stored { key: key.clone(), uid: row.try_get(0)?, revision: row.try_get(1)?, body };
    Ok(Seen { stored, links: row.try_get(3)? })
}

fn key_at(row: &AnyRow) -> Result<Key, sqlx::Error> {
    Ok(Key { kind: rows::kind_id(row.try_get(0)?), namespace: row.try_get(1)?, name: row.try_get(2)? })
}

fn all(found: Vec<AnyRow>) -> Result<Vec<Stored>, StoreError> {
    Ok(found.iter().map(rows::stored).collect::<Result<_, _>>()?)
}
