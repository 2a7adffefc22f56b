//! Passwords' hashes, and what works once: links to set a password, codes between hosts.

use super::tx::{Tx, run};
use super::{Renewed, Store, StoreError};
use sqlx::Row;

/// What somebody proves themselves by.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Name of the `User`.
    pub user: String,
    /// Argon2id, as a PHC string.
    pub hash: String,
}

/// Something that works once. Times are milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct OneTime {
    /// SHA-256 of what is shown.
    pub sha256: [u8; 32],
    /// What it is for; one for something else does not work.
    pub purpose: &'static str,
    /// Name of the `User` it is of; of nobody yet where empty.
    pub user: String,
    /// What else it says.
    pub body: String,
    /// From when on it is worth nothing.
    pub expires_at: i64,
}

/// Which rows of `resources` are users.
pub(super) const USER: &str = "kind = 'users.devsanctum.io' AND namespace = ''";

impl Tx {
    /// Sets a password's hash and ends all sessions of its user but one. `false` when there is no such user.
    async fn set_credential(&mut self, of: &Credential, now: i64, keep: Option<Renewed>) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        let sql = format!(
            "INSERT INTO credentials (user_uid, hash, changed_at) SELECT uid, $1, $2 FROM resources WHERE {USER} AND name = $3 \
             ON CONFLICT (user_uid) DO UPDATE SET hash = excluded.hash, changed_at = excluded.changed_at"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(of.hash.clone()).bind(now).bind(of.user.clone());
        if run!(self, query, execute)?.rows_affected() == 0 {
            return Ok(false);
        }
        self.end_old_ways(&of.user, keep).await?;
        Ok(true)
    }

    /// As `set_credential`; `false`, too, when the hash is not the one that was verified.
    async fn change_credential(&mut self, of: &Credential, verified: &str, now: i64, keep: Renewed) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        let sql = format!(
            "UPDATE credentials SET hash = $1, changed_at = $2 \
             WHERE user_uid IN (SELECT uid FROM resources WHERE {USER} AND name = $3) AND hash = $4"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(of.hash.clone()).bind(now).bind(of.user.clone());
        if run!(self, query.bind(verified.to_owned()), execute)?.rows_affected() == 0 {
            return Ok(false);
        }
        self.end_old_ways(&of.user, Some(keep)).await?;
        Ok(true)
    }

    /// Ends what was opened by a password that is another by now, but for one session, and what would set it.
    async fn end_old_ways(&mut self, user: &str, keep: Option<Renewed>) -> Result<(), StoreError> {
        let sql = format!(
            "DELETE FROM sessions WHERE user_uid IN (SELECT uid FROM resources WHERE {USER} AND name = $1) AND hash <> $2 \
             AND (parent IS NULL OR parent <> $2)"
        );
        let kept = keep.map_or_else(Vec::new, |kept| kept.from.to_vec());
        run!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(user.to_owned()).bind(kept), execute)?;
        if let Some(kept) = keep {
            self.renew_session(kept).await?;
        }
        // A link to set a password is worth nothing once one is set.
        let sql = format!(
            "DELETE FROM one_time WHERE user_uid IN (SELECT uid FROM resources WHERE {USER} AND name = $1) AND hash <> $2"
        );
        let known = keep.and_then(|kept| kept.browser).map_or_else(Vec::new, |hash| hash.to_vec());
        run!(self, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(user.to_owned()).bind(known), execute)?;
        Ok(())
    }

    async fn renew_hash(&mut self, of: &Credential, verified: &str) -> Result<bool, StoreError> {
        self.begin_writing().await?;
        let sql = format!(
            "UPDATE credentials SET hash = $1 WHERE user_uid IN (SELECT uid FROM resources WHERE {USER} AND name = $2) \
             AND hash = $3"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(of.hash.clone()).bind(of.user.clone());
        Ok(run!(self, query.bind(verified.to_owned()), execute)?.rows_affected() == 1)
    }

    async fn add_one_time(&mut self, it: &OneTime, now: i64) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        run!(self, sqlx::query("DELETE FROM one_time WHERE expires_at <= $1").bind(now), execute)?;
        let sql = match it.user.as_str() {
            "" => "INSERT INTO one_time (hash, purpose, body, expires_at) SELECT $1, $2, $3, $4 WHERE $5 = ''".to_owned(),
            _ => format!(
                "INSERT INTO one_time (hash, purpose, user_uid, body, expires_at) \
                 SELECT $1, $2, uid, $3, $4 FROM resources WHERE {USER} AND name = $5"
            ),
        };
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(it.sha256.to_vec()).bind(it.purpose);
        let query = query.bind(it.body.clone()).bind(it.expires_at).bind(it.user.clone());
        Ok(run!(self, query, execute)?.rows_affected() == 1)
    }

    async fn remove_one_time(&mut self, purpose: &'static str, body: &str) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let query = sqlx::query("DELETE FROM one_time WHERE purpose = $1 AND body = $2 AND user_uid IS NULL");
        run!(self, query.bind(purpose).bind(body.to_owned()), execute)?;
        Ok(())
    }

    async fn take_one_time(
        &mut self,
        sha256: [u8; 32],
        purpose: &'static str,
        now: i64,
    ) -> Result<Option<(String, String)>, StoreError> {
        self.begin_writing().await?;
        let query = sqlx::query(
            "SELECT coalesce(r.name, ''), o.body FROM one_time o LEFT JOIN resources r ON r.uid = o.user_uid \
             WHERE o.hash = $1 AND o.purpose = $2 AND o.expires_at > $3",
        );
        let query = query.bind(sha256.to_vec()).bind(purpose).bind(now);
        let Some(row) = run!(self, query, fetch_optional)? else { return Ok(None) };
        let found = (row.try_get(0)?, row.try_get(1)?);
        run!(self, sqlx::query("DELETE FROM one_time WHERE hash = $1").bind(sha256.to_vec()), execute)?;
        Ok(Some(found))
    }
}

impl Store {
    /// What the user proves themselves by whose login address this is, in lower case.
    pub async fn credential_by_email(&self, email: &str) -> Result<Option<Credential>, StoreError> {
        let query = sqlx::query(
            "SELECT r.name, c.hash FROM claims e JOIN credentials c ON c.user_uid = e.uid JOIN resources r ON r.uid = e.uid \
             WHERE e.scope = 'email' AND e.value = $1",
        );
        self.credential(query.bind(email.to_owned())).await
    }

    /// The user whose login address this is, in lower case.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<String>, StoreError> {
        let query =
            sqlx::query("SELECT r.name FROM claims e JOIN resources r ON r.uid = e.uid WHERE e.scope = 'email' AND e.value = $1");
        let (query, pool) = (query.bind(email.to_owned()), self.inner.pool.clone());
        let row = self.aside(async move { query.fetch_optional(&pool).await }).await??;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// What this user proves themselves by.
    pub async fn credential_of(&self, user: &str) -> Result<Option<Credential>, StoreError> {
        let query = sqlx::query(
            "SELECT r.name, c.hash FROM resources r JOIN credentials c ON c.user_uid = r.uid \
             WHERE r.kind = 'users.devsanctum.io' AND r.namespace = '' AND r.name = $1",
        );
        self.credential(query.bind(user.to_owned())).await
    }

    async fn credential(
        &self,
        query: sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>,
    ) -> Result<Option<Credential>, StoreError> {
        let pool = self.inner.pool.clone();
        let row = self.aside(async move { query.fetch_optional(&pool).await }).await??;
        row.map(|row| Ok(Credential { user: row.try_get(0)?, hash: row.try_get(1)? })).transpose()
    }

    /// Sets a password's hash and ends all sessions of its user but one, which gets another token, all links to set it, and what
    /// the user's other browsers are known by.
    /// `false` when there is no such user.
    pub async fn set_credential(&self, of: Credential, now: i64, keep: Option<Renewed>) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.set_credential(&of, now, keep).await }))).await
    }

    /// As [`Store::set_credential`], for who has proved themselves by the password whose hash is `verified`: `false`, too, when it
    /// is another by now.
    pub async fn change_credential(&self, of: Credential, verified: String, now: i64, keep: Renewed) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.change_credential(&of, &verified, now, keep).await }))).await
    }

    /// Puts another hash of the same password in the place of the one that was `verified`; `false` when it is not there any more.
    pub async fn renew_hash(&self, of: Credential, verified: String) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.renew_hash(&of, &verified).await }))).await
    }

    /// Stores something that works once. `false` when there is no such user.
    pub async fn add_one_time(&self, it: OneTime, now: i64) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.add_one_time(&it, now).await }))).await
    }

    /// Whether this is of this user, without taking it: for what works more than once.
    pub async fn is_known(&self, sha256: [u8; 32], purpose: &'static str, user: &str, now: i64) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "SELECT 1 FROM one_time o JOIN resources r ON r.uid = o.user_uid \
             WHERE o.hash = $1 AND o.purpose = $2 AND r.name = $3 AND o.expires_at > $4",
        );
        let (query, pool) = (query.bind(sha256.to_vec()).bind(purpose).bind(user.to_owned()).bind(now), self.inner.pool.clone());
        Ok(self.aside(async move { query.fetch_optional(&pool).await }).await??.is_some())
    }

    /// What something says that works once, without taking it.
    pub async fn peek_one_time(&self, sha256: [u8; 32], purpose: &'static str, now: i64) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT body FROM one_time WHERE hash = $1 AND purpose = $2 AND expires_at > $3");
        let (query, pool) = (query.bind(sha256.to_vec()).bind(purpose).bind(now), self.inner.pool.clone());
        let row = self.aside(async move { query.fetch_optional(&pool).await }).await??;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Whose something is that works once, without taking it.
    pub async fn holder_of_one_time(
        &self,
        sha256: [u8; 32],
        purpose: &'static str,
        now: i64,
    ) -> Result<Option<String>, StoreError> {
        let query = sqlx::query(
            "SELECT r.name FROM one_time o JOIN resources r ON r.uid = o.user_uid \
             WHERE o.hash = $1 AND o.purpose = $2 AND o.expires_at > $3",
        );
        let (query, pool) = (query.bind(sha256.to_vec()).bind(purpose).bind(now), self.inner.pool.clone());
        let row = self.aside(async move { query.fetch_optional(&pool).await }).await??;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Ends what says this and works once, of nobody.
    pub async fn remove_one_time(&self, purpose: &'static str, body: &str) -> Result<(), StoreError> {
        let body = body.to_owned();
        self.write(Box::new(move |tx| Box::pin(async move { tx.remove_one_time(purpose, &body).await }))).await
    }

    /// Takes something that works once: whose it is, and what it says. Nobody gets it a second time.
    pub async fn take_one_time(
        &self,
        sha256: [u8; 32],
        purpose: &'static str,
        now: i64,
    ) -> Result<Option<(String, String)>, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.take_one_time(sha256, purpose, now).await }))).await
    }
}
