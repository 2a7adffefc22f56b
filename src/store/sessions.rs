//! Who is signed in.

use super::credentials::USER;
use super::tx::{Tx, run};
use super::{Store, StoreError};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// A session. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of what a browser shows.
    pub sha256: [u8; 32],
    /// Names it, to its holder.
    pub id: String,
    /// The panel's session it is a child of.
    pub parent: Option<[u8; 32]>,
    /// Name of the `User`.
    pub user: String,
    /// The workspace whose hosts it is for; `None` for the panel.
    pub workspace_uid: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// When it was last used, to within a minute.
    pub seen_at: i64,
    /// From when on it is worth nothing, however much it is used.
    pub expires_at: i64,
    /// The address it was made from.
    pub address: String,
    /// What the browser called itself.
    pub agent: String,
}

/// A session that goes on under another token; by their SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The one it had.
    pub from: [u8; 32],
    /// The one it has from now on.
    pub to: [u8; 32],
    /// What the browser is known by that the session is in, which stays so.
    pub browser: Option<[u8; 32]>,
}

const SESSION: &str = "SELECT s.hash, s.id, s.parent, r.name, s.workspace_uid, s.created_at, s.seen_at, s.expires_at, s.address, \
                       s.agent FROM sessions s JOIN resources r ON r.uid = s.user_uid";

fn hash(bytes: Vec<u8>) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Database("a session's hash is not 32 bytes long".into()))
}

fn session(row: &AnyRow) -> Result<Session, StoreError> {
    Ok(Session {
        sha256: hash(row.try_get(0)?)?,
        id: row.try_get(1)?,
        parent: row.try_get::<Option<Vec<u8>>, _>(2)?.map(hash).transpose()?,
        user: row.try_get(3)?,
        workspace_uid: row.try_get(4)?,
        created_at: row.try_get(5)?,
        seen_at: row.try_get(6)?,
        expires_at: row.try_get(7)?,
        address: row.try_get(8)?,
        agent: row.try_get(9)?,
    })
}

impl Tx {
    /// As [`Store::add_session`].
    pub async fn add_session(
        &mut self,
        it: &Session,
        replaced: Option<[u8; 32]>,
        verified: Option<String>,
    ) -> Result<bool, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        run!(self, sqlx::query("DELETE FROM sessions WHERE expires_at <= $1").bind(it.created_at), execute)?;
        // A child of a parent that is over is none, and none goes on after its parent.
        let query = sqlx::query(
            "INSERT INTO sessions (hash, id, parent, user_uid, workspace_uid, created_at, seen_at, expires_at, address, agent) \
             SELECT $1, $2, $3, r.uid, $4, $5, $5, CASE WHEN p.expires_at < $6 THEN p.expires_at ELSE $6 END, $7, $8 \
             FROM resources r LEFT JOIN sessions p ON p.hash = $3 \
             WHERE r.kind = 'users.devsanctum.io' AND r.namespace = '' AND r.name = $9 AND ($10 = 0 OR p.hash IS NOT NULL) \
             AND ($11 = '' OR EXISTS (SELECT 1 FROM credentials c WHERE c.user_uid = r.uid AND c.hash = $11))",
        );
        let query = query.bind(it.sha256.to_vec()).bind(it.id.clone()).bind(it.parent.map(|hash| hash.to_vec()));
        let query = query.bind(it.workspace_uid.clone()).bind(it.created_at).bind(it.expires_at).bind(it.address.clone());
        let query = query.bind(it.agent.clone()).bind(it.user.clone()).bind(i64::from(it.parent.is_some()));
        let query = query.bind(verified.unwrap_or_default());
        let added = run!(self, query, execute)?.rows_affected() == 1;
        if let Some(replaced) = replaced.filter(|_| added) {
            self.end_session(replaced).await?;
        }
        Ok(added)
    }

    /// Gives a session, and what was opened by it, another token.
    pub(super) async fn renew_session(&mut self, Renewed { from, to, .. }: Renewed) -> Result<(), StoreError> {
        for sql in ["UPDATE sessions SET hash = $2 WHERE hash = $1", "UPDATE sessions SET parent = $2 WHERE parent = $1"] {
            run!(self, sqlx::query(sql).bind(from.to_vec()).bind(to.to_vec()), execute)?;
        }
        Ok(())
    }

    async fn end_sessions_of(&mut self, user: &str, answers: &'static str) -> Result<u64, StoreError> {
        self.flush().await?;
        self.begin_writing().await?;
        let of = format!("user_uid IN (SELECT uid FROM resources WHERE {USER} AND name = $1)");
        let sql = format!("DELETE FROM sessions WHERE {of} AND workspace_uid IS NULL");
        let ended = run!(self, sqlx::query(AssertSqlSafe(sql)).bind(user.to_owned()), execute)?.rows_affected();
        let sql = format!("DELETE FROM sessions WHERE {of}");
        run!(self, sqlx::query(AssertSqlSafe(sql)).bind(user.to_owned()), execute)?;
        let sql = format!("DELETE FROM one_time WHERE {of} AND purpose = $2");
        run!(self, sqlx::query(AssertSqlSafe(sql)).bind(user.to_owned()).bind(answers), execute)?;
        Ok(ended)
    }

    async fn end_session(&mut self, sha256: [u8; 32]) -> Result<(), StoreError> {
        self.begin_writing().await?;
        run!(self, sqlx::query("DELETE FROM sessions WHERE hash = $1 OR parent = $1").bind(sha256.to_vec()), execute)?;
        Ok(())
    }

    async fn forget_sign_ins(&mut self) -> Result<(), StoreError> {
        self.begin_writing().await?;
        for sql in ["DELETE FROM sessions", "DELETE FROM one_time", "DELETE FROM outbox", "DELETE FROM shares"] {
            run!(self, sqlx::query(sql), execute)?;
        }
        Ok(())
    }

    async fn note_session_use(&mut self, sha256: [u8; 32], now: i64) -> Result<(), StoreError> {
        self.begin_writing().await?;
        let query = sqlx::query("UPDATE sessions SET seen_at = $1 WHERE seen_at < $1 AND hash = $2");
        run!(self, query.bind(now).bind(sha256.to_vec()), execute)?;
        Ok(())
    }
}

impl Store {
    /// Stores a session, whose end is its parent's at the latest, and ends the one in whose place it comes, with its children. `false`
    /// when its user, or the session it is a child of, is not there, or their password's hash is not the one that was `verified`.
    pub async fn add_session(
        &self,
        it: Session,
        replaced: Option<[u8; 32]>,
        verified: Option<String>,
    ) -> Result<bool, StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.add_session(&it, replaced, verified).await }))).await
    }

    /// Ends all sessions of a user, and what works once, is theirs and is for `answers`: how many of the panel's there were.
    pub async fn end_sessions_of(&self, user: &str, answers: &'static str) -> Result<u64, StoreError> {
        let user = user.to_owned();
        self.write(Box::new(move |tx| Box::pin(async move { tx.end_sessions_of(&user, answers).await }))).await
    }

    /// The session of this hash, whether or not it is over.
    pub async fn session(&self, sha256: [u8; 32]) -> Result<Option<Session>, StoreError> {
        let (sql, pool) = (format!("{SESSION} WHERE s.hash = $1"), self.inner.pool.clone());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(sha256.to_vec()).fetch_optional(&pool).await };
        self.aside(work).await??.as_ref().map(session).transpose()
    }

    /// The sessions of a user, the newest first.
    pub async fn sessions_of(&self, user: &str) -> Result<Vec<Session>, StoreError> {
        let sql = format!("{SESSION} WHERE r.name = $1 ORDER BY s.created_at DESC, s.id");
        let (pool, user) = (self.inner.pool.clone(), user.to_owned());
        let work = async move { sqlx::query(AssertSqlSafe(sql)).bind(user).fetch_all(&pool).await };
        self.aside(work).await??.iter().map(session).collect()
    }

    /// Ends a session, and its children with it.
    pub async fn end_session(&self, sha256: [u8; 32]) -> Result<(), StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.end_session(sha256).await }))).await
    }

    /// Notes that a session was used.
    pub async fn note_session_use(&self, sha256: [u8; 32], now: i64) -> Result<(), StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.note_session_use(sha256, now).await }))).await
    }

    /// Ends all sessions, share links, and all that works once: for a backup, since which any of them may have been ended.
    pub async fn forget_sign_ins(&self) -> Result<(), StoreError> {
        self.write(Box::new(move |tx| Box::pin(async move { tx.forget_sign_ins().await }))).await
    }
}
