//! API keys: who holds which, known by their hashes.

use super::tx::{Tx, run};
use super::{Store, StoreError};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// A key, without what it is proved by. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Names it; part of the key that its holder keeps.
    pub id: String,
    /// Name of the `User` it is of.
    pub user: String,
    /// What its holder calls it.
    pub label: String,
    /// What it may be used for, in JSON.
    pub scope: String,
    /// When it was made.
    pub created_at: i64,
    /// From when on it is worth nothing.
    pub expires_at: Option<i64>,
    /// When it was last used, to within a minute.
    pub used_at: Option<i64>,
}

const KEY: &str = "SELECT k.id, r.name, k.label, k.scope, k.created_at, k.expires_at, k.used_at \
                   FROM api_keys k JOIN resources r ON r.uid = k.user_uid";

fn key(row: &AnyRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.try_get(0)?,
        user: row.try_get(1)?,
        label: row.try_get(2)?,
        scope: row.try_get(3)?,
        created_at: row.try_get(4)?,
        expires_at: row.try_get(5)?,
        used_at: row.try_get(6)?,
    })
}

impl Tx {
    async fn add_key(&mut self, key: &ApiKey, sha256: [u8; 32], most: i64) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        // Of a user that is there, and does not have too many.
        let query = sqlx::query(
            "INSERT INTO api_keys (id, user_uid, label, hash, scope, created_at, expires_at) \
             SELECT $1, uid, $2, $3, $4, $5, $6 FROM resources WHERE kind = 'users.devsanctum.io' AND namespace = '' AND name = $7 \
             AND (SELECT count(*) FROM api_keys k WHERE k.user_uid = resources.uid) < $8",
        );
        let query = query.bind(key.id.clone()).bind(key.label.clone()).bind(sha256.to_vec()).bind(key.scope.clone());
        let query = query.bind(key.created_at).bind(key.expires_at).bind(key.user.clone()).bind(most);
        Ok(run!(self, query, execute)?.rows_affected() == 1)
    }

    async fn remove_key(&mut self, id: &str) -> Result<bool, StoreError> {
        self.begin_writing().await?;
        Ok(run!(self, sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(id), execute)?.rows_affected() == 1)
    }

    async fn note_key_use(&mut self, id: &str, now: i64) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let query = sqlx::query("UPDATE api_keys SET used_at = $1 WHERE id = $2 AND (used_at IS NULL OR used_at < $1)");
        run!(self, query.bind(now).bind(id), execute)?;
        Ok(())
    }
}

impl Store {
    /// Stores a key by its hash. `false` when there is no such user, or it has `most` already.
    pub async fn add_api_key(&self, key: ApiKey, sha256: [u8; 32], most: i64) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.add_key(&key, sha256, most).await }))).await
    }

    /// The key with this hash.
    pub async fn api_key_by_hash(&self, sha256: [u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        let (sql, pool) = (format!("{KEY} WHERE k.hash = $1"), self.inner.pool.clone());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(sha256.to_vec()).fetch_optional(&pool).await };
        self.aside(work).await??.as_ref().map(key).transpose()
    }

    /// The key of this id.
    pub async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let (sql, pool, id) = (format!("{KEY} WHERE k.id = $1"), self.inner.pool.clone(), id.to_owned());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(&pool).await };
        self.aside(work).await??.as_ref().map(key).transpose()
    }

    /// The keys of a user, or of all, the oldest first.
    pub async fn api_keys(&self, user: Option<&str>) -> Result<Vec<ApiKey>, StoreError> {
        let within = if user.is_some() { "WHERE r.name = $1" } else { "" };
        let sql = format!("{KEY} {within} ORDER BY k.created_at, k.id");
        let (pool, user) = (self.inner.pool.clone(), user.map(str::to_owned));
        let work = async move {
            let query = sqlx::query(AssertSqlSafe(sql));
            let query = if let Some(user) = user { query.bind(user) } else { query };
            query.fetch_all(&pool).await
        };
        self.aside(work).await??.iter().map(key).collect()
    }

    /// Ends a key; `false` when there was none.
    pub async fn remove_api_key(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(Box::new(move |tx| Box::pin(async move { tx.remove_key(&id).await }))).await
    }

    /// Notes that a key was used.
    pub async fn note_key_use(&self, id: &str, now: i64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write(Box::new(move |tx| Box::pin(async move { tx.note_key_use(&id, now).await }))).await
    }
}
