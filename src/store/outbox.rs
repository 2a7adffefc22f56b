//! Mail that is still to be sent.

use super::tx::{Tx, run};
use super::{Store, StoreError};
use sqlx::Row;

/// Mails waiting at once, at the most.
const MOST: i64 = 10_000;

/// A mail to be sent. There is one of each purpose for a recipient. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is for.
    pub purpose: String,
    /// Whom it goes to.
    pub recipient: String,
    /// What it is made of, in JSON.
    pub body: String,
    /// When it was asked for.
    pub created_at: i64,
    /// When it is to be sent, or tried again.
    pub next_at: i64,
    /// How often that has failed.
    pub attempts: i64,
    /// How it failed last.
    pub error: String,
}

impl Tx {
    async fn put_outgoing(&mut self, it: &Outgoing) -> Result<bool, StoreError> {
        self.begin_writing().await?;
        let sql = "INSERT INTO outbox (purpose, recipient, body, created_at, next_at, attempts, error) \
                   SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM outbox) < $8 \
                   ON CONFLICT (purpose, recipient) DO UPDATE SET body = excluded.body, created_at = excluded.created_at, \
                   next_at = excluded.next_at, attempts = excluded.attempts, error = excluded.error";
        let query = sqlx::query(sql).bind(it.purpose.clone()).bind(it.recipient.clone()).bind(it.body.clone());
        let query = query.bind(it.created_at).bind(it.next_at).bind(it.attempts).bind(it.error.clone()).bind(MOST);
        Ok(run!(self, query, execute)?.rows_affected() == 1)
    }

    /// One that was asked for anew meanwhile stays as it is.
    async fn put_off_outgoing(&mut self, it: &Outgoing) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let sql =
            "UPDATE outbox SET next_at = $1, attempts = $2, error = $3 WHERE purpose = $4 AND recipient = $5 AND created_at = $6";
        let query = sqlx::query(sql).bind(it.next_at).bind(it.attempts).bind(it.error.clone());
        run!(self, query.bind(it.purpose.clone()).bind(it.recipient.clone()).bind(it.created_at), execute)?;
        Ok(())
    }

    async fn remove_outgoing(&mut self, it: &Outgoing) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let query = sqlx::query("DELETE FROM outbox WHERE purpose = $1 AND recipient = $2 AND created_at = $3");
        run!(self, query.bind(it.purpose.clone()).bind(it.recipient.clone()).bind(it.created_at), execute)?;
        Ok(())
    }
}

impl Store {
    /// Puts a mail in, in the place of one to the same recipient for the same purpose. `false` when too many wait.
    pub async fn put_outgoing(&self, it: Outgoing) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.put_outgoing(&it).await }))).await
    }

    /// Notes that a mail is to be tried again later, and why.
    pub async fn put_off_outgoing(&self, it: Outgoing) -> Result<(), StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.put_off_outgoing(&it).await }))).await
    }

    /// Takes a mail out; nothing when another one has taken its place.
    pub async fn remove_outgoing(&self, it: Outgoing) -> Result<(), StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.remove_outgoing(&it).await }))).await
    }

    /// Mails, the next first.
    pub async fn outgoing(&self, most: i64) -> Result<Vec<Outgoing>, StoreError> {
        let sql = "SELECT purpose, recipient, body, created_at, next_at, attempts, error FROM outbox ORDER BY next_at LIMIT $1";
        let pool = self.inner.pool.clone();
        let rows = self.aside(async move { sqlx::query(sql).bind(most).fetch_all(&pool).await }).await??;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Outgoing {
                purpose: row.try_get(0)?,
                recipient: row.try_get(1)?,
                body: row.try_get(2)?,
                created_at: row.try_get(3)?,
                next_at: row.try_get(4)?,
                attempts: row.try_get(5)?,
                error: row.try_get(6)?,
            })
        };
        rows.iter().map(read).collect()
    }
}
