//! Database work on another runtime.
//!
//! Under a paused clock tokio moves time on whenever nothing can run: while a database worked, time would fly. With
//! [`Store::open_aside`] the calling thread stands still meanwhile, so that a simulation sees reads and writes that take
//! no time at all. Nothing else needs it.

use super::{Store, StoreConfig, StoreError};
use std::sync::mpsc;
use tokio::runtime::Handle;

impl Store {
    /// As [`Store::open`], with all work on the given runtime, which must run on other threads. Callers block.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_aside(config: &StoreConfig, runtime: &Handle) -> Result<Self, StoreError> {
        let (config, aside) = (config.clone(), Some(runtime.clone()));
        stand_still(runtime, async move { Self::open_with(&config, aside).await })?
    }
}

/// Does the work here, or on the other runtime if there is one.
pub(super) async fn on<T: Send + 'static>(
    aside: Option<&Handle>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, StoreError> {
    match aside {
        None => Ok(work.await),
        Some(runtime) => stand_still(runtime, work),
    }
}

fn stand_still<T: Send + 'static>(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> Result<T, StoreError> {
    let (done, answer) = mpsc::channel();
    runtime.spawn(async move {
        // Nobody is left to hear it when the simulation has ended.
        let _ = done.send(work.await);
    });
    answer.recv().map_err(|_| StoreError::Database("the runtime of the database has ended".into()))
}
