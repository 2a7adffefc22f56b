//! Who tells owners what becomes of their workspaces, beside the events of their records.

use super::activity::Touched;
use async_trait::async_trait;
use serde::Serialize;
use std::sync::Arc;

/// A workspace will be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Its uid.
    pub uid: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub workspace: String,
    /// Name of the `User` it belongs to.
    pub owner: String,
    /// When it will be (RFC 3339).
    pub at: String,
    /// At which age workspaces are.
    pub after: String,
}

/// Tells owners.
#[async_trait]
pub trait Herald: Send + Sync + 'static {
    /// Tells that a workspace will be destroyed. May be called more than once for the same.
    ///
    /// # Errors
    /// In words for people. It is not announced then, and so not destroyed.
    async fn destroyed_soon(&self, notice: &Notice) -> Result<(), String>;
}

/// Nobody is told, but by events.
pub struct NoHerald;

#[async_trait]
impl Herald for NoHerald {
    async fn destroyed_soon(&self, _: &Notice) -> Result<(), String> {
        Ok(())
    }
}

/// What the lifecycle loop needs from outside.
#[derive(Clone)]
pub struct Life {
    /// Where work through this process is noted.
    pub touched: Touched,
    /// Tells owners.
    pub herald: Arc<dyn Herald>,
}

impl Default for Life {
    fn default() -> Self {
        Self { touched: Touched::default(), herald: Arc::new(NoHerald) }
    }
}
