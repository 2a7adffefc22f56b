//! Whom providers of sign-in know our users as.

use super::credentials::USER;
use super::tx::{Tx, run};
use super::{Store, StoreError};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// Somebody at a provider. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderIdentity {
    /// The provider, by the issuer it proves itself with.
    pub issuer: String,
    /// What it knows them by, for ever.
    pub subject: String,
    /// Name of the `User` they are here.
    pub user: String,
    /// What the settings called the provider.
    pub provider: String,
    /// What they are called there: for people to read.
    pub login: String,
    /// When it was noted.
    pub created_at: i64,
    /// When they last signed in by it.
    pub used_at: i64,
}

const IDENTITY: &str = "SELECT i.issuer, i.subject, r.name, i.provider, i.login, i.created_at, i.used_at \
                        FROM identities i JOIN resources r ON r.uid = i.user_uid";

fn identity(row: &AnyRow) -> Result<ProviderIdentity, StoreError> {
    Ok(ProviderIdentity {
        issuer: row.try_get(0)?,
        subject: row.try_get(1)?,
        user: row.try_get(2)?,
        provider: row.try_get(3)?,
        login: row.try_get(4)?,
        created_at: row.try_get(5)?,
        used_at: row.try_get(6)?,
    })
}

impl Tx {
    async fn add_identity(&mut self, it: &ProviderIdentity) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        let sql = format!(
            "INSERT INTO identities (issuer, subject, user_uid, provider, login, created_at, used_at) \
             SELECT $1, $2, uid, $3, $4, $5, $5 FROM resources WHERE {USER} AND name = $6 ON CONFLICT (issuer, subject) DO NOTHING"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(it.issuer.clone()).bind(it.subject.clone());
        let query = query.bind(it.provider.clone()).bind(it.login.clone()).bind(it.created_at).bind(it.user.clone());
        Ok(run!(self, query, execute)?.rows_affected() == 1)
    }

    async fn note_identity_use(&mut self, it: &ProviderIdentity) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let query =
            sqlx::query("UPDATE identities SET used_at = $1, login = $2, provider = $3 WHERE issuer = $4 AND subject = $5");
        let query = query.bind(it.used_at).bind(it.login.clone()).bind(it.provider.clone());
        run!(self, query.bind(it.issuer.clone()).bind(it.subject.clone()), execute)?;
        Ok(())
    }

    async fn remove_identity(&mut self, user: &str, issuer: &str) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        let sql = format!(
            "DELETE FROM identities WHERE issuer = $1 AND user_uid IN (SELECT uid FROM resources WHERE {USER} AND name = $2) AND \
             (EXISTS (SELECT 1 FROM credentials c WHERE c.user_uid = identities.user_uid) OR \
             EXISTS (SELECT 1 FROM identities o WHERE o.user_uid = identities.user_uid AND o.issuer <> $1))"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(issuer.to_owned()).bind(user.to_owned());
        Ok(run!(self, query, execute)?.rows_affected() > 0)
    }
}

impl Store {
    /// Who somebody at a provider is here.
    pub async fn identity(&self, issuer: &str, subject: &str) -> Result<Option<ProviderIdentity>, StoreError> {
        let sql = format!("{IDENTITY} WHERE i.issuer = $1 AND i.subject = $2");
        let (pool, issuer, subject) = (self.inner.pool.clone(), issuer.to_owned(), subject.to_owned());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(issuer).bind(subject).fetch_optional(&pool).await };
        self.aside(work).await??.as_ref().map(identity).transpose()
    }

    /// Whom providers know a user as.
    pub async fn identities_of(&self, user: &str) -> Result<Vec<ProviderIdentity>, StoreError> {
        let sql = format!("{IDENTITY} WHERE r.name = $1 AND r.kind = 'users.devsanctum.io' ORDER BY i.created_at, i.issuer");
        let (pool, user) = (self.inner.pool.clone(), user.to_owned());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(user).fetch_all(&pool).await };
        self.aside(work).await??.iter().map(identity).collect()
    }

    /// Notes who somebody at a provider is here. `false` when there is no such user, or they are somebody already.
    pub async fn add_identity(&self, it: ProviderIdentity) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.add_identity(&it).await }))).await
    }

    /// Notes that somebody signed in by a provider, and what they are called there now.
    pub async fn note_identity_use(&self, it: ProviderIdentity) -> Result<(), StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.note_identity_use(&it).await }))).await
    }

    /// Forgets whom a provider knows a user as. `false` when it knew them as nobody, or they would have no way to sign in then.
    pub async fn remove_identity(&self, user: &str, issuer: &str) -> Result<bool, StoreError> {
        let (user, issuer) = (user.to_owned(), issuer.to_owned());
        self.write(Box::new(move |tx| Box::pin(async move { tx.remove_identity(&user, &issuer).await }))).await
    }
}
