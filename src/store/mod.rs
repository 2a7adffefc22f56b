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
mod audit;
mod backup;
mod check;
mod compact;
mod credentials;
mod database;
mod envelope;
mod feed;
mod follow;
mod identities;
mod keyring;
mod keys;
mod leases;
mod links;
mod log;
mod outbox;
mod pending;
mod read;
mod restore;
mod rotate;
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
pub use audit::AuditQuery;
pub use backup::{BackupInfo, backup, verify};
pub use check::Checked;
pub use credentials::{Credential, OneTime};
pub use database::{file_url, lock_file};
pub use identities::ProviderIdentity;
pub use keyring::{KeySource, SecretKeys};
pub use keys::ApiKey;
pub use outbox::Outgoing;
pub use restore::{replace, unpack};
pub use rotate::{KeyReport, KeyUse, Progress, Rotate, Rotation, Step};
pub use sessions::{Renewed, Session};
pub use shares::{Share, ShareHashes};
pub use tx::Tx;
pub use types::*;

use database::{Database, Dialect};
use feed::Feed;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use keyring::Keyring;
use rows::RECORD;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection};
use std::collections::BTreeSet;
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
    ring: Arc<Keyring>,
    rotating: rotate::Rotating,
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
    /// [`StoreError::KeyMissing`] when a key is not given that its secrets want. Nothing is changed then.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Self::open_with(config, None).await
    }

    async fn open_with(config: &StoreConfig, aside: Option<Handle>) -> Result<Self, StoreError> {
        let database = Database::new(&config.url)?;
        let mut look = database.connect_to_read().await?;
        let ring = Arc::new(Keyring::new(&config.secret_keys));
        let fits = keys_fit(&mut look, database.dialect, &ring).await;
        look.close().await?;
        if fits? {
            // First there is a key, then something that wants it.
            ring.make(&BTreeSet::new())?;
        }
        let mut conn = database.connect().await?;
        schema::migrate(&mut conn, database.dialect).await?;
        let instance = identity(&mut conn).await?;
        envelope::adopt(&mut conn, &database, &ring).await?;
        let feed = Arc::new(Feed::new(log::state(&mut conn).await?));

        let (jobs, queue) = mpsc::channel(QUEUE);
        let (closed, tasks) = (CancellationToken::new(), TaskTracker::new());
        // While a simulation stands still its time does not go on, however long a busy machine takes.
        let pool = database.read_pool(if aside.is_some() { STAND_STILL } else { ACQUIRE });
        let writer = writer::Writer { database: database.clone(), ring: ring.clone(), feed: feed.clone(), jobs: queue };
        tasks.spawn(writer.run(conn, closed.clone()));
        tasks.spawn(compact::run(feed.clone(), jobs.downgrade(), config.keep_changes, closed.clone()));
        if database.dialect == Dialect::Postgres {
            tasks.spawn(follow::run(database.clone(), feed.clone(), closed.clone()));
        }
        let end = closed.clone().drop_guard();
        let rotating = rotate::Rotating::default();
        let inner = Inner { instance, database, pool, ring, rotating, feed, jobs, closed, tasks, aside, _end: end };
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
}

/// Refuses a newer schema, and keys that are not the database's, before anything is written. True when the database is
/// new and there is no key yet.
async fn keys_fit(look: &mut AnyConnection, dialect: Dialect, ring: &Keyring) -> Result<bool, StoreError> {
    let version = schema::refuse_newer(look, dialect).await?;
    let none = ring.all().is_empty();
    let used = version > 0 && sqlx::query_scalar::<_, i64>("SELECT count(*) FROM meta").fetch_one(&mut *look).await? > 0;
    if used {
        let held = envelope::Held::read(look, version >= schema::ENVELOPES).await?;
        held.verify(ring)?;
        if none {
            return Err(ring.missing(&[]));
        }
    }
    Ok(none)
}

/// Reads the installation's identity, and makes it at the first start.
async fn identity(conn: &mut AnyConnection) -> Result<String, StoreError> {
    let read = async |conn: &mut AnyConnection| {
        sqlx::query_scalar("SELECT instance FROM meta WHERE one = $1").bind(1).fetch_optional(conn).await
    };
    if let Some(instance) = read(conn).await? {
        return Ok(instance);
    }
    // Revision 0 means "any" to Kubernetes clients, so counting starts at 1.
    let query = sqlx::query(
        "INSERT INTO meta (one, instance, revision, compacted, key_nonce, key_check) \
         VALUES (1, $1, 1, 0, $2, $2) ON CONFLICT (one) DO NOTHING",
    );
    query.bind(uuid::Uuid::new_v4().to_string()).bind(Vec::<u8>::new()).execute(&mut *conn).await?;
    read(conn).await?.ok_or_else(|| StoreError::Database("the meta row is gone".into()))
}
