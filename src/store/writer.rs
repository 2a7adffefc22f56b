//! The one task that writes.
//!
//! Jobs arrive over a channel; those that are waiting share one transaction and one flush to disk (group
//! commit). A job that fails or panics is taken back alone. Callers are answered after the commit, and the
//! feed is told before them. A caller that goes away changes nothing: its job runs here.

use super::ahead::Free;
use super::database::{Database, Dialect};
use super::feed::Feed;
use super::keyring::Keyring;
use super::pending::Pending;
use super::tx::Tx;
use super::{Job, StoreError, Wants, audit, log};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use std::collections::HashMap;
use std::future::Future;
use std::mem::take;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Jobs sharing one commit at most. PostgreSQL keeps 64 subtransactions in its cheap cache.
const BATCH: usize = 60;

/// Longest that a connection to PostgreSQL is waited for.
const CONNECTS_IN: Duration = Duration::from_secs(10);
/// Longest that a batch takes there, above what the server itself lets a statement and a lock take. Where its machine went away without a
/// word, a connection waits for a quarter of an hour, and nothing is written meanwhile.
const ANSWERS_IN: Duration = Duration::from_secs(120);

/// What PostgreSQL answers, if it does in time. Whether the batch is kept is not known then, as where a connection breaks.
async fn in_time<T>(
    dialect: Dialect,
    time: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    if dialect == Dialect::Sqlite {
        return work.await;
    }
    let late = |_| Err(StoreError::Database("the database does not answer".into()));
    tokio::time::timeout(time, work).await.unwrap_or_else(late)
}

/// A job whose types the writer need not know.
pub(super) trait Task: Send {
    /// Runs it; `true` keeps what it has written.
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool>;
    /// Tells that what it answered cannot be kept.
    fn fail(&mut self, error: &str);
    /// What it will ask for.
    fn wants(&self) -> &Wants;
    /// Answers the caller: its batch has ended with this newest revision.
    fn answer(self: Box<Self>, revision: i64);
}

/// A job, its result and who waits for it.
struct Waiting<T, E> {
    job: Option<Job<T, E>>,
    wants: Wants,
    result: Option<Result<T, E>>,
    caller: oneshot::Sender<(Result<T, E>, i64)>,
}

/// The caller's end of a job.
pub(super) type Answer<T, E> = oneshot::Receiver<(Result<T, E>, i64)>;

/// Wraps a job for the writer.
pub(super) fn task<T, E>(wants: Wants, job: Job<T, E>) -> (Box<dyn Task>, Answer<T, E>)
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let (caller, answer) = oneshot::channel();
    (Box::new(Waiting { job: Some(job), wants, result: None, caller }), answer)
}

impl<T: Send, E: From<StoreError> + Send> Task for Waiting<T, E> {
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool> {
        Box::pin(async move {
            let Some(job) = self.job.take() else { return false };
            let run = async { job(&mut *tx).await };
            let result = AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!("a write job panicked; its writes are taken back");
                Err(StoreError::Database("the write failed inside this program (a panic; see its log)".into()).into())
            });
            let result = match tx.broken.clone() {
                // The job may have carried on after a database error, but its transaction could not.
                Some(e) if result.is_ok() => Err(StoreError::Database(e).into()),
                _ => result,
            };
            self.result.insert(result).is_ok()
        })
    }

    fn fail(&mut self, error: &str) {
        self.result = Some(Err(StoreError::Database(error.to_owned()).into()));
    }

    fn wants(&self) -> &Wants {
        &self.wants
    }

    fn answer(self: Box<Self>, revision: i64) {
        if let Some(result) = self.result {
            // The caller may have gone; its write stands all the same.
            let _ = self.caller.send((result, revision));
        }
    }
}

/// The writer: everything it needs to write and to start again after the database has failed.
pub(super) struct Writer {
    pub database: Database,
    pub ring: Arc<Keyring>,
    pub feed: Arc<Feed>,
    pub jobs: mpsc::Receiver<Box<dyn Task>>,
}

impl Writer {
    /// Takes jobs until the store is closed, and then those that were handed in before.
    pub async fn run(mut self, conn: AnyConnection, closed: CancellationToken) {
        let mut conn = Some(conn);
        loop {
            let first = tokio::select! {
                biased;
                first = self.jobs.recv() => first,
                () = closed.cancelled(), if !self.jobs.is_closed() => {
                    self.jobs.close();
                    continue;
                }
            };
            let Some(first) = first else { break };
            let mut tasks = vec![first];
            let dialect = self.database.dialect;
            let connected = match conn.take() {
                Some(conn) => Ok(conn),
                None => in_time(dialect, CONNECTS_IN, self.database.connect()).await,
            };
            let outcome = match connected {
                Ok(it) => in_time(dialect, ANSWERS_IN, self.batch(it, &mut tasks)).await,
                Err(e) => Err(e),
            };
            let revision = match outcome {
                Ok((it, revision)) => {
                    conn = Some(it);
                    revision
                }
                Err(e) => {
                    tracing::error!("writing failed: {e}");
                    tasks.iter_mut().for_each(|t| t.fail(&e.to_string()));
                    // What is in the queue fails with it only if the database stays away.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    self.feed.revision()
                }
            };
            tasks.into_iter().for_each(|t| t.answer(revision));
        }
        if let Some(conn) = conn {
            let _ = conn.close().await;
        }
    }

    /// Runs the waiting jobs in one transaction. An error means that the connection is closed and nothing of
    /// this batch is known to be kept.
    async fn batch(&mut self, conn: AnyConnection, tasks: &mut Vec<Box<dyn Task>>) -> Result<(AnyConnection, i64), StoreError> {
        let mut tx = Tx {
            conn,
            dialect: self.database.dialect,
            ring: self.ring.clone(),
            revision: 0,
            changes: Vec::new(),
            noted: Vec::new(),
            earlier: Pending::default(),
            mine: Pending::default(),
            known: HashMap::new(),
            seen: HashMap::new(),
            free: Free::default(),
            wrote: false,
            touched: false,
            savepoint: false,
            unsure: false,
            broken: None,
        };
        match self.write_all(&mut tx, tasks).await {
            Ok(()) => {
                let Tx { conn, revision, changes, .. } = tx;
                // On PostgreSQL another replica's changes may have to come first; the follower sees to that.
                self.feed.publish(changes);
                Ok((conn, revision))
            }
            Err(e) => {
                // Closing takes the transaction back. Whether a failed COMMIT was one is found out from the
                // change log: the feed is brought up to date by the next batch.
                let _ = tx.conn.close().await;
                Err(e)
            }
        }
    }

    async fn write_all(&mut self, tx: &mut Tx, tasks: &mut Vec<Box<dyn Task>>) -> Result<(), StoreError> {
        self.begin(tx).await?;
        let mut done = 0;
        loop {
            // Jobs that came meanwhile ride along.
            while tasks.len() < BATCH
                && let Ok(more) = self.jobs.try_recv()
            {
                tasks.push(more);
            }
            let new = &mut tasks[done..];
            if new.is_empty() {
                break;
            }
            tx.read_ahead(&new.iter().map(|t| t.wants()).collect::<Vec<_>>()).await?;
            for task in new {
                self.run_one(tx, task).await?;
            }
            done = tasks.len();
        }
        tx.flush_earlier().await?;
        if !tx.noted.is_empty() {
            tx.wrote = true;
            audit::append(&mut tx.conn, take(&mut tx.noted)).await?;
        }
        if tx.wrote {
            log::append(&mut tx.conn, &tx.changes).await?;
            tx.conn.execute(AssertSqlSafe(self.database.commit(tx.revision))).await?;
        } else {
            tx.conn.execute("ROLLBACK").await?;
        }
        Ok(())
    }

    async fn begin(&self, tx: &mut Tx) -> Result<(), StoreError> {
        // Not `fetch_one`, which sees the first statement's answer only.
        let found = tx.conn.fetch_all(self.database.begin()).await?;
        let newest = found.first().ok_or_else(|| StoreError::Database("the table meta is empty".into()))?.try_get(0)?;
        tx.revision = newest;
        // Only after a failed commit, or when another process has written, and what follows the log has not told of it yet: whoever
        // decides by the feed is to know of all that was before this write.
        log::catch_up(&self.feed, newest, &mut tx.conn).await
    }

    /// Runs one job and, if it fails, takes back what it wrote and nothing else.
    async fn run_one(&self, tx: &mut Tx, task: &mut Box<dyn Task>) -> Result<(), StoreError> {
        let (revision, changes, noted) = (tx.revision, tx.changes.len(), tx.noted.len());
        tx.touched = false;
        let kept = task.run(tx).await && !tx.unsure;
        let (seen, mine, broken) = (take(&mut tx.seen), take(&mut tx.mine), tx.broken.take());
        if kept {
            tx.known.extend(seen);
            tx.earlier.append(mine);
            return Ok(());
        }
        tx.revision = revision;
        tx.changes.truncate(changes);
        tx.noted.truncate(noted);
        if tx.unsure {
            return Err(StoreError::Database(broken.unwrap_or_else(|| "a write was cut off".into())));
        }
        if tx.touched {
            tx.conn.execute("ROLLBACK TO SAVEPOINT job").await?;
            return Ok(());
        }
        let Some(broken) = broken else { return Ok(()) };
        if tx.wrote || !tx.earlier.is_empty() {
            // A read failed before this job had a savepoint: PostgreSQL has given up the whole transaction.
            return Err(StoreError::Database(broken));
        }
        tx.conn.execute("ROLLBACK").await?;
        // Between the two another replica may write: nothing read before is known any more.
        tx.known.clear();
        tx.free.forget();
        self.begin(tx).await
    }
}
