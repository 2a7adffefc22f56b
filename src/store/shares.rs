//! Share links: by which anybody who has one opens a service of a private workspace, for a while.

use super::tx::{Tx, run};
use super::{Store, StoreError};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// A share link, without what it is proved by. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Names it.
    pub id: String,
    /// Name of the `User` who made it; `None`: the holder of the administrator token.
    pub user: Option<String>,
    /// The workspace it is of; of another one of the same name it is not.
    pub workspace_uid: String,
    /// Name of the service it opens.
    pub service: String,
    /// The service's own host when it was made.
    pub host: String,
    /// The service's port when it was made.
    pub port: u16,
    /// When it was made.
    pub created_at: i64,
    /// From when on it is worth nothing.
    pub expires_at: i64,
}

/// What a share link is known by.
#[derive(Clone, Copy, Debug)]
pub struct ShareHashes {
    /// SHA-256 of what is in its address.
    pub link: [u8; 32],
    /// SHA-256 of what a browser shows that has followed it.
    pub shown: [u8; 32],
}

const SHARE: &str = "SELECT s.id, r.name, s.workspace_uid, s.service, s.host, s.port, s.created_at, s.expires_at \
                     FROM shares s LEFT JOIN resources r ON r.uid = s.user_uid";

fn share(row: &AnyRow) -> Result<Share, StoreError> {
    let port: i64 = row.try_get(5)?;
    Ok(Share {
        id: row.try_get(0)?,
        user: row.try_get(1)?,
        workspace_uid: row.try_get(2)?,
        service: row.try_get(3)?,
        host: row.try_get(4)?,
        port: u16::try_from(port).map_err(|_| StoreError::Database(format!("a share link's port is {port}")))?,
        created_at: row.try_get(6)?,
        expires_at: row.try_get(7)?,
    })
}

impl Tx {
    /// Stores a share link by its hashes. `false` when its workspace or its user is not there, or there are `most` already.
    pub async fn add_share(&mut self, it: &Share, hashes: ShareHashes, most: i64) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        run!(self, sqlx::query("DELETE FROM shares WHERE expires_at <= $1").bind(it.created_at), execute)?;
        // Of a workspace that is there and does not have too many; by a user who is there, where it is a user's.
        let query = sqlx::query(
            "INSERT INTO shares (id, user_uid, workspace_uid, service, host, port, link_hash, shown_hash, created_at, expires_at) \
             SELECT $1, u.uid, w.uid, $2, $3, $4, $5, $6, $7, $8 FROM resources w \
             LEFT JOIN resources u ON u.kind = 'users.devsanctum.io' AND u.namespace = '' AND u.name = $9 \
             WHERE w.kind = 'workspaces.devsanctum.io' AND w.uid = $10 AND ($9 = '' OR u.uid IS NOT NULL) \
             AND (SELECT count(*) FROM shares s WHERE s.workspace_uid = w.uid) < $11",
        );
        let query = query.bind(it.id.clone()).bind(it.service.clone()).bind(it.host.clone()).bind(i64::from(it.port));
        let query = query.bind(hashes.link.to_vec()).bind(hashes.shown.to_vec()).bind(it.created_at).bind(it.expires_at);
        let query = query.bind(it.user.clone().unwrap_or_default()).bind(it.workspace_uid.clone()).bind(most);
        Ok(run!(self, query, execute)?.rows_affected() == 1)
    }

    /// Ends what browsers hold of a workspace: its sessions, and the share links that open this host.
    pub async fn end_visits(&mut self, workspace_uid: &str, host: &str) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let sessions = sqlx::query("DELETE FROM sessions WHERE workspace_uid = $1").bind(workspace_uid.to_owned());
        run!(self, sessions, execute)?;
        let shares = sqlx::query("DELETE FROM shares WHERE workspace_uid = $1 AND host = $2");
        run!(self, shares.bind(workspace_uid.to_owned()).bind(host.to_owned()), execute)?;
        Ok(())
    }

    async fn remove_share(&mut self, id: &str) -> Result<bool, StoreError> {
        self.begin_writing().await?;
        Ok(run!(self, sqlx::query("DELETE FROM shares WHERE id = $1").bind(id), execute)?.rows_affected() == 1)
    }
}

impl Store {
    /// The share link in whose address this is, whether or not it is over.
    pub async fn share_by_link(&self, sha256: [u8; 32]) -> Result<Option<Share>, StoreError> {
        self.share_where("s.link_hash = $1", sha256.to_vec()).await
    }

    /// The share link that a browser has followed which shows this, whether or not it is over.
    pub async fn share_by_shown(&self, sha256: [u8; 32]) -> Result<Option<Share>, StoreError> {
        self.share_where("s.shown_hash = $1", sha256.to_vec()).await
    }

    /// The share link of this id, whether or not it is over.
    pub async fn share(&self, id: &str) -> Result<Option<Share>, StoreError> {
        self.share_where("s.id = $1", id.to_owned()).await
    }

    async fn share_where<T>(&self, which: &'static str, value: T) -> Result<Option<Share>, StoreError>
    where
        T: Send + sqlx::Encode<'static, sqlx::Any> + sqlx::Type<sqlx::Any> + 'static,
    {
        let (sql, pool) = (format!("{SHARE} WHERE {which}"), self.inner.pool.clone());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(value).fetch_optional(&pool).await };
        self.aside(work).await??.as_ref().map(share).transpose()
    }

    /// The share links of a workspace that are not over at `now`, the oldest first.
    pub async fn shares_of(&self, workspace_uid: &str, now: i64) -> Result<Vec<Share>, StoreError> {
        let sql = format!("{SHARE} WHERE s.workspace_uid = $1 AND s.expires_at > $2 ORDER BY s.created_at, s.id");
        let (pool, uid) = (self.inner.pool.clone(), workspace_uid.to_owned());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(uid).bind(now).fetch_all(&pool).await };
        self.aside(work).await??.iter().map(share).collect()
    }

    /// Ends a share link; `false` when there was none.
    pub async fn remove_share(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(Box::new(move |tx| Box::pin(async move { tx.remove_share(&id).await }))).await
    }
}
