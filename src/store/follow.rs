//! Follows the change log on PostgreSQL, where other replicas write to it too.
//!
//! A notification says that there is something new; asking every second makes sure. Revisions are in commit order
//! (see `database.rs`), so reading on from the newest one known misses nothing.

use super::database::Database;
use super::feed::Feed;
use super::{StoreError, log};
use futures::StreamExt;
use sqlx::Connection;
use sqlx::postgres::PgListener;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the log is looked at without a notification, and the pause after a failure.
const EVERY: Duration = Duration::from_secs(1);
/// Longest that the log is waited for.
const ANSWERS_IN: Duration = Duration::from_secs(10);

/// Tells the feed what others write, until the store is closed.
pub(super) async fn run(database: Database, feed: Arc<Feed>, closed: CancellationToken) {
    let work = async {
        loop {
            if let Err(e) = follow(&database, &feed).await {
                tracing::warn!("the change log cannot be followed, trying again: {e}");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = closed.cancelled() => {}
    }
}

/// Follows until the database fails.
async fn follow(database: &Database, feed: &Feed) -> Result<(), StoreError> {
    let mut listener = PgListener::connect(&database.url).await?;
    listener.listen("devsanctum_changes").await?;
    let mut hints = listener.into_stream();
    let mut conn = database.connect_to_read().await?;
    loop {
        let looked = async {
            let state = log::state(&mut conn).await?;
            log::catch_up(feed, state.revision, &mut conn).await?;
            Ok::<_, StoreError>(state)
        };
        // A database that went away without a word keeps a connection waiting for a quarter of an hour.
        let late = |_| StoreError::Database("the database does not answer".into());
        let state = tokio::time::timeout(ANSWERS_IN, looked).await.map_err(late)??;
        feed.note_compacted(state.compacted);
        match tokio::time::timeout(EVERY, hints.next()).await {
            // Time to look without a hint.
            Err(_) => {}
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(e))) => {
                let _ = conn.close().await;
                return Err(e.into());
            }
            Ok(None) => return Ok(()),
        }
    }
}
