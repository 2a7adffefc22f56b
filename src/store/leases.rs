//! Leases and tokens: small facts that are no records.

use super::database::Dialect;
use super::tx::{Tx, run};
use super::{Store, StoreError};
use sqlx::AssertSqlSafe;
use std::time::Duration;

/// Milliseconds since 1970 by the database's own clock, so that replicas need not agree on theirs. SQLite's is ours.
pub(super) fn now(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        Dialect::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    }
}

impl Tx {
    async fn lease(&mut self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.begin_writing().await?;
        let now = now(self.dialect);
        let sql = format!(
            "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, {now} + $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE leases.holder = excluded.holder OR leases.expires_at <= {now}"
        );
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 4);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(name).bind(holder).bind(ttl);
        Ok(run!(self, query, execute)?.rows_affected() == 1)
    }

    async fn release(&mut self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.begin_writing().await?;
        run!(self, sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2").bind(name).bind(holder), execute)?;
        Ok(())
    }

    async fn set_token(&mut self, name: &str, sha256: [u8; 32]) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let query =
            sqlx::query("INSERT INTO tokens (name, hash) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET hash = excluded.hash");
        run!(self, query.bind(name).bind(sha256.to_vec()), execute)?;
        Ok(())
    }
}

impl Store {
    /// Takes or renews a lease for `ttl`; `true` while `holder` has it.
    pub async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(Box::new(move |tx| Box::pin(async move { tx.lease(&name, &holder, ttl).await }))).await
    }

    /// Gives a lease back. Another holder's lease stays.
    pub async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(Box::new(move |tx| Box::pin(async move { tx.release(&name, &holder).await }))).await
    }

    /// Stores a token's hash under a name, replacing the one held (the administrator token).
    pub async fn set_token(&self, name: &str, sha256: [u8; 32]) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write(Box::new(move |tx| Box::pin(async move { tx.set_token(&name, sha256).await }))).await
    }

    /// The name a token's hash stands under.
    pub async fn token_holder(&self, sha256: [u8; 32]) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar("SELECT name FROM tokens WHERE hash = $1").bind(sha256.to_vec());
        let pool = self.inner.pool.clone();
        Ok(self.aside(async move { query.fetch_optional(&pool).await }).await??)
    }
}
