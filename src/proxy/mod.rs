//! The port to the reverse proxy: which hosts lead where.

mod types;

pub use types::*;

use async_trait::async_trait;

/// A reverse proxy that is told all routes at once and says which ones it holds.
#[async_trait]
pub trait Proxy: Send + Sync + 'static {
    /// Publishes the whole table. The first call lets the proxy serve at all: before it, the proxy keeps what it
    /// had. Quick; does not wait for the proxy.
    fn publish(&self, table: &RouteTable);
    /// Which routes the proxy itself reports as live now.
    async fn live(&self) -> Result<LiveRoutes, ProxyError>;
}
