//! Records in SQL: one `resources` table and a change feed, on SQLite or PostgreSQL.
//!
//! # Guarantees
//! - A write is durable when [`Store::write`] answers, and visible to every read and watch of this process.
//! - Revisions rise without gaps in the order of commits, across all replicas on one PostgreSQL.
//! - A watch yields every change of its kind once and in order, however slow its reader is.
//! - A write that was started runs to its end, whether or not its caller waits.
//!
//! # Caveats
//! - A reader that stands still holds compaction back, up to a limit (see `compact.rs`), then it gets
//!   [`StoreError::Expired`].

mod ahead;
mod aside;
mod backup;
mod check;
mod compact;
mod credentials;
mod database;
mod feed;
mod follow;
mod identities;
mod keys;
mod leases;
mod links;
mod log;
mod outbox;
mod pending;
mod read;
mod restore;
mod rows;
mod schema;
mod seal;
mod sessions;
mod shares;
mod tables;
mod tx;
mod types;
mod watch;
mod writer;

pub use ahead::Wants;
pub use backup::{BackupInfo, backup, verify};
pub use check::Checked;
pub use credentials::{Credential, OneTime};
pub use identities::ProviderIdentity;
pub use keys::ApiKey;
pub use outbox::Outgoing;
pub use restore::{replace, unpack};
pub use sessions::Session;
pub use shares::{Share, ShareHashes};
pub use tx::Tx;
pub use types::*;

use database::{Database, Dialect};
use feed::Feed;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use rows::RECORD;
use seal::{Sealed, Sealer, secret_place};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, Row};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    instance: String,
    database: Database,
    pool: AnyPool,
    sealer: Arc<Sealer>,
    feed: Arc<Feed>,
    jobs: mpsc::Sender<Box<dyn writer::Task>>,
    closed: CancellationToken,
    tasks: TaskTracker,
    /// Where the database works, if not here.
    aside: Option<Handle>,
    // Ends the background tasks when the last clone goes without `close`.
    _end: DropGuard,
}

/// A write: reads and writes in one transaction. It runs to its end even when the caller goes away.
pub type Job<T, E> = Box<dyn for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send>;

/// A change, shared by all watchers.
pub type SharedChange = Arc<Change>;

/// Jobs that may wait for the writer before callers wait to hand theirs in.
const QUEUE: usize = 1024;
/// How long a read waits for a connection; and in a simulation.
const ACQUIRE: Duration = Duration::from_secs(30);
const STAND_STILL: Duration = Duration::from_secs(3600);
/// How long an answer is held back, at most, until the feed here has heard of it.
const CATCH_UP: Duration = Duration::from_secs(10);

impl Store {
    /// Opens (and migrates) the store. Must be called within a Tokio runtime, which then runs its tasks.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when a newer version has migrated the database, which is left as it is;
    /// [`StoreError::Sealed`] when the key is not the one its secrets are sealed with.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Self::open_with(config, None).await
    }

    async fn open_with(config: &StoreConfig, aside: Option<Handle>) -> Result<Self, StoreError> {
        let database = Database::new(&config.url)?;
        let mut look = database.connect_to_read().await?;
        let newer = schema::refuse_newer(&mut look, database.dialect).await;
        look.close().await?;
        newer?;
        let mut conn = database.connect().await?;
        schema::migrate(&mut conn, database.dialect).await?;
        let sealer = Arc::new(Sealer::new(&config.secret_key)?);
        let instance = identity(&mut conn, &sealer).await?;
        let feed = Arc::new(Feed::new(log::state(&mut conn).await?));

        let (jobs, queue) = mpsc::channel(QUEUE);
        let (closed, tasks) = (CancellationToken::new(), TaskTracker::new());
        // While a simulation stands still its time does not go on, however long a busy machine takes.
        let pool = database.read_pool(if aside.is_some() { STAND_STILL } else { ACQUIRE });
        let writer = writer::Writer { database: database.clone(), sealer: sealer.clone(), feed: feed.clone(), jobs: queue };
        tasks.spawn(writer.run(conn, closed.clone()));
        tasks.spawn(compact::run(feed.clone(), jobs.downgrade(), config.keep_changes, closed.clone()));
        if database.dialect == Dialect::Postgres {
            tasks.spawn(follow::run(database.clone(), feed.clone(), closed.clone()));
        }
        let end = closed.clone().drop_guard();
        let inner = Inner { instance, database, pool, sealer, feed, jobs, closed, tasks, aside, _end: end };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends the watches, runs the writes already handed in, and closes the database.
    pub async fn close(&self) {
        self.inner.closed.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.pool.close().await;
    }

    /// The installation's identity: a UUID made at the first start.
    pub fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// Reads one record.
    pub async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        if !key.is_possible() {
            return Ok(None);
        }
        let sql = format!("SELECT {RECORD} FROM resources WHERE kind = $1 AND namespace = $2 AND name = $3");
        let (pool, key) = (self.inner.pool.clone(), key.clone());
        let row = self
            .aside(async move {
                let query = sqlx::query(AssertSqlSafe(sql)).bind(key.kind).bind(key.namespace).bind(key.name);
                query.fetch_optional(&pool).await
            })
            .await??;
        Ok(row.as_ref().map(rows::stored).transpose()?)
    }

    /// Runs a write job on the one writer; several jobs share one commit. `Ok` means durable.
    pub async fn write<T: Send + 'static, E: From<StoreError> + Send + 'static>(&self, job: Job<T, E>) -> Result<T, E> {
        self.write_wanting(Wants::default(), job).await
    }

    /// As [`Store::write`]; what the job will ask for is read for many jobs at once.
    pub async fn write_wanting<T, E>(&self, wants: Wants, job: Job<T, E>) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let stopped = || StoreError::Database("the store is closed".into());
        let (task, answer) = writer::task(wants, job);
        self.inner.jobs.send(task).await.map_err(|_| stopped())?;
        let (result, revision) = self.aside(answer).await?.map_err(|_| stopped())?;
        self.caught_up(revision).await;
        result
    }

    /// Waits until the feed here has heard of a revision: at once where the writer tells the feed, after a
    /// moment where another replica's changes come first.
    async fn caught_up(&self, revision: i64) {
        if self.revision() < revision {
            let mut moved = self.inner.feed.subscribe();
            let _ = tokio::time::timeout(CATCH_UP, moved.wait_for(|newest| *newest >= revision)).await;
        }
    }

    /// Changes of a kind after `from`, in order, without gaps or repeats.
    ///
    /// # Errors
    /// [`StoreError::Expired`] when the change log no longer reaches back to `from`, or `from` lies in the future.
    pub async fn watch(
        &self,
        kind: KindId,
        namespace: Option<String>,
        from: i64,
    ) -> Result<BoxStream<'static, Result<WatchItem, StoreError>>, StoreError> {
        let Inner { feed, pool, closed, aside, .. } = &*self.inner;
        let source = watch::Source { feed: feed.clone(), pool: pool.clone(), closed: closed.clone(), aside: aside.clone() };
        watch::watch(source, kind, namespace, from).await
    }

    /// Has an observer shown every change from now on. A write that was answered has been shown.
    pub fn observe(&self, observer: Observer) {
        self.inner.feed.observe(observer);
    }

    /// Does database work where it is to be done.
    async fn aside<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, StoreError> {
        aside::on(self.inner.aside.as_ref(), work).await
    }

    /// The newest revision committed and visible to readers here.
    pub fn revision(&self) -> i64 {
        self.inner.feed.revision()
    }

    /// Reads a secret's value (opened); for the composition root alone, never for an API answer.
    pub async fn secret_value(&self, uid: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let query = sqlx::query("SELECT nonce, ciphertext FROM secret_values WHERE uid = $1 AND key = $2");
        let (query, pool) = (query.bind(uid.to_owned()).bind(key.to_owned()), self.inner.pool.clone());
        let Some(row) = self.aside(async move { query.fetch_optional(&pool).await }).await?? else { return Ok(None) };
        let sealed = Sealed { nonce: row.try_get(0)?, ciphertext: row.try_get(1)? };
        self.inner.sealer.open(&secret_place(uid, key), sealed).map(Some)
    }
}

/// Reads the installation's identity, and makes it at the first start. Checks the key.
async fn identity(conn: &mut AnyConnection, sealer: &Sealer) -> Result<String, StoreError> {
    const PLACE: &str = "meta|key_check";
    let read = async |conn: &mut AnyConnection| {
        sqlx::query("SELECT instance, key_nonce, key_check FROM meta WHERE one = $1").bind(1).fetch_optional(conn).await
    };
    let row = match read(conn).await? {
        Some(row) => row,
        None => {
            let sealed = sealer.seal(PLACE, b"devsanctum")?;
            // Revision 0 means "any" to Kubernetes clients, so counting starts at 1.
            let query = sqlx::query(
                "INSERT INTO meta (one, instance, revision, compacted, key_nonce, key_check) \
                 VALUES (1, $1, 1, 0, $2, $3) ON CONFLICT (one) DO NOTHING",
            );
            let instance = uuid::Uuid::new_v4().to_string();
            query.bind(instance).bind(sealed.nonce).bind(sealed.ciphertext).execute(&mut *conn).await?;
            read(conn).await?.ok_or_else(|| StoreError::Database("the meta row is gone".into()))?
        }
    };
    sealer.open(PLACE, Sealed { nonce: row.try_get(1)?, ciphertext: row.try_get(2)? })?;
    Ok(row.try_get(0)?)
}
