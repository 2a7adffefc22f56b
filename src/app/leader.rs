//! One replica acts, the others serve. Whoever holds the lease runs the loops.

use crate::store::Store;
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const LEASE: &str = "controllers";

/// Runs `work` whenever this replica holds the lease, until `stop`. `work` is given a token that ends it; it is
/// dropped, whatever it is doing, before another replica can have the lease.
///
/// # Errors
/// What `work` failed with.
pub async fn lead<F>(
    store: Store,
    holder: String,
    ttl: Duration,
    stop: CancellationToken,
    work: impl Fn(CancellationToken) -> F,
) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    while !stop.is_cancelled() {
        if !matches!(store.lease(LEASE, &holder, ttl).await, Ok(true)) {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(ttl / 3) => continue,
            }
        }
        tracing::info!(holder, "leading");
        let own = stop.child_token();
        tokio::select! {
            done = work(own.clone()) => {
                let _ = store.release(LEASE, &holder).await;
                return done;
            }
            () = lost(&store, &holder, ttl) => {
                own.cancel();
                tracing::warn!(holder, "lost the lead");
            }
        }
    }
    Ok(())
}

/// Ends when the lease could not be renewed for two thirds of its time: the rest is the margin in which the work
/// is dropped before anyone else may begin.
async fn lost(store: &Store, holder: &str, ttl: Duration) {
    let mut renewed = tokio::time::Instant::now();
    while renewed.elapsed() < ttl * 2 / 3 {
        tokio::time::sleep(ttl / 6).await;
        match tokio::time::timeout(ttl / 6, store.lease(LEASE, holder, ttl)).await {
            Ok(Ok(true)) => renewed = tokio::time::Instant::now(),
            Ok(Ok(false)) => return,
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
