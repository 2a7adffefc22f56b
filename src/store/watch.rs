//! One watcher: a place in the feed that moves on.

use super::feed::Feed;
use super::log::{self, Asked};
use super::{KindId, SharedChange, StoreError, WatchItem, aside};
use futures::stream::{self, BoxStream, StreamExt};
use sqlx::AnyPool;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Least time between two [`WatchItem::Position`]s of one stream.
const POSITION_EVERY: Duration = Duration::from_secs(5);
/// Pause before the database is asked again after it has failed.
const RETRY: Duration = Duration::from_secs(1);

/// What all watchers of a store share.
#[derive(Clone)]
pub(super) struct Source {
    pub feed: Arc<Feed>,
    pub pool: AnyPool,
    /// Where the database works, if not here.
    pub aside: Option<Handle>,
    /// Ends the streams with the store.
    pub closed: CancellationToken,
}

struct Watcher {
    source: Source,
    kind: KindId,
    namespace: Option<String>,
    moved: watch::Receiver<i64>,
    /// Everything up to here has been looked at; compaction leaves the rest.
    place: Arc<AtomicI64>,
    found: VecDeque<SharedChange>,
    /// Newest revision the consumer knows of.
    told: i64,
    /// When a position may be told again; `None` for at once.
    position_at: Option<Instant>,
    over: bool,
}

/// Starts a stream of changes after `from`.
pub(super) async fn watch(
    source: Source,
    kind: KindId,
    namespace: Option<String>,
    from: i64,
) -> Result<BoxStream<'static, Result<WatchItem, StoreError>>, StoreError> {
    let place = source.feed.place(from);
    if from < source.feed.compacted() {
        return Err(StoreError::Expired(from));
    }
    if from > source.feed.revision() {
        // A list may be a moment ahead of the feed. A revision that does not exist yet comes from a database that
        // has been put back to an older state: its changes would be missed.
        let pool = source.pool.clone();
        let newest = async move { Ok::<_, StoreError>(log::state(&mut *pool.acquire().await?).await?.revision) };
        if from > aside::on(source.aside.as_ref(), newest).await?? {
            return Err(StoreError::Expired(from));
        }
    }
    let moved = source.feed.subscribe();
    let found = VecDeque::new();
    let it = Watcher { source, kind, namespace, moved, place, found, told: from, position_at: None, over: false };
    Ok(stream::unfold(it, |mut it| async move { it.next().await.map(|item| (item, it)) }).boxed())
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<WatchItem, StoreError>> {
        while !self.over {
            if let Some(change) = self.found.pop_front() {
                self.told = change.record.revision;
                return Some(Ok(WatchItem::Change(change)));
            }
            let newest = *self.moved.borrow_and_update();
            if self.at() < newest {
                if let Err(e) = self.look(newest).await {
                    self.over = true;
                    return Some(Err(e));
                }
                continue;
            }
            if self.at() > self.told && self.position_at.is_none_or(|at| Instant::now() >= at) {
                self.told = self.at();
                self.position_at = Some(Instant::now() + POSITION_EVERY);
                return Some(Ok(WatchItem::Position(self.told)));
            }
            self.wait().await;
        }
        None
    }

    fn at(&self) -> i64 {
        self.place.load(Ordering::Acquire)
    }

    /// Finds the next changes, in memory or in the log, and moves on.
    async fn look(&mut self, newest: i64) -> Result<(), StoreError> {
        let from = self.at();
        let (found, complete) = match self.source.feed.after(from, self.kind, self.namespace.as_deref()) {
            Some(found) => found,
            None => {
                let asked = Asked { kind: self.kind, namespace: self.namespace.clone(), after: from, until: newest };
                let work = log::read(self.source.pool.clone(), asked);
                match aside::on(self.source.aside.as_ref(), work).await? {
                    Err(StoreError::Database(e)) if !self.source.closed.is_cancelled() => {
                        // A watch outlives an outage of the database: it has lost nothing.
                        tracing::warn!(kind = self.kind, "a watch waits for the database: {e}");
                        tokio::time::sleep(RETRY).await;
                        return Ok(());
                    }
                    other => other?,
                }
            }
        };
        self.found.extend(found);
        self.place.store(complete, Ordering::Release);
        Ok(())
    }

    /// Waits for the feed to move, or for the time to tell a position.
    async fn wait(&mut self) {
        let due = self.position_at.filter(|_| self.at() > self.told);
        let position = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            moved = self.moved.changed() => self.over |= moved.is_err(),
            () = position => {}
            () = self.source.closed.cancelled() => self.over = true,
        }
    }
}
