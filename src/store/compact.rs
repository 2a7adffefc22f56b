//! Keeps the change log short.
//!
//! The newest `keep` changes stay, and so does whatever a live watcher of this process has yet to read, as long as
//! that is not more than [`HOLD`] times as much: a reader that stands still must not fill the disk. Where nothing
//! changes nothing is written.

use super::feed::Feed;
use super::tx::{Tx, run};
use super::writer::{self, Task};
use super::{Job, StoreError, Wants};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::WeakSender;
use tokio_util::sync::CancellationToken;

/// How many times `keep` a slow watcher can hold back.
const HOLD: i64 = 10;
/// Changes removed in one job: few, so that nobody waits long behind it.
const PIECE: i64 = 500;
/// Pause while a watcher holds compaction back, or after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Compacts whenever an eighth more than need be has gathered, until the store is closed.
pub(super) async fn run(feed: Arc<Feed>, jobs: WeakSender<Box<dyn Task>>, keep: u32, closed: CancellationToken) {
    let keep = i64::from(keep);
    let slack = (keep / 8).clamp(1, 1000);
    let mut moved = feed.subscribe();
    let work = async {
        while moved.wait_for(|newest| newest - feed.compacted() > keep + slack).await.is_ok() {
            let goal = goal(feed.revision(), feed.slowest(), keep);
            if goal <= feed.compacted() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let Some(sender) = jobs.upgrade() else { return };
            let (task, answer) = writer::task(Wants::default(), job(goal));
            if sender.send(task).await.is_err() {
                return;
            }
            drop(sender);
            match answer.await {
                Ok((Ok(compacted), _)) => feed.note_compacted(compacted),
                Ok((Err(e), _)) => {
                    tracing::warn!("the change log could not be compacted, trying again: {e}");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = closed.cancelled() => {}
    }
}

/// Up to where changes can go.
fn goal(newest: i64, slowest: Option<i64>, keep: i64) -> i64 {
    let goal = newest - keep;
    slowest.map_or(goal, |slowest| goal.min(slowest.max(newest - keep.saturating_mul(HOLD))))
}

fn job(goal: i64) -> Job<i64, StoreError> {
    Box::new(move |tx| Box::pin(async move { tx.compact(goal).await }))
}

impl Tx {
    /// Removes one piece of the log, not beyond `goal`, and answers up to where it is gone.
    async fn compact(&mut self, goal: i64) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar::<_, i64>("SELECT compacted FROM meta WHERE one = $1").bind(1);
        let compacted = run!(self, query, fetch_one)?;
        let until = goal.min(compacted + PIECE);
        if until <= compacted {
            return Ok(compacted);
        }
        self.begin_writing().await?;
        run!(self, sqlx::query("DELETE FROM changes WHERE revision <= $1").bind(until), execute)?;
        run!(self, sqlx::query("UPDATE meta SET compacted = $1 WHERE one = 1").bind(until), execute)?;
        Ok(until)
    }
}

#[cfg(test)]
mod tests {
    use super::goal;

    #[test]
    fn a_slow_watcher_holds_compaction_back_up_to_a_limit() {
        assert_eq!(goal(1000, None, 100), 900);
        assert_eq!(goal(1000, Some(950), 100), 900);
        assert_eq!(goal(1000, Some(400), 100), 400);
        assert_eq!(goal(5000, Some(400), 100), 4000);
    }
}
