//! The port to the reverse proxy: which hosts lead where.
//!
//! [`TraefikProxy`] is the real one: [`render`] makes the configuration, [`Feed`] hands it out, [`live`] compares what
//! Traefik holds. [`ManagedTraefik`] runs a Traefik of our own. [`FakeProxy`] is for tests of what stands above;
//! [`FakeTraefik`] stands for Traefik itself, below.

pub mod api;
pub mod certificate;
mod cut;
pub mod dynamic;
pub mod fake;
pub mod fake_traefik;
mod fallback;
pub mod feed;
pub mod gateway;
pub mod live;
pub mod managed;
mod probe;
mod process;
pub mod render;
mod ss;
pub mod static_config;
pub mod traefik;
mod traffic;
mod types;

pub use api::TraefikApi;
pub use dynamic::CertificateFiles;
pub use fake::FakeProxy;
pub use fake_traefik::FakeTraefik;
pub use feed::{Feed, Pace};
pub use managed::{ManagedError, ManagedStatus, ManagedTraefik};
pub use render::{Certificate, NO_UPGRADE_HEADER, PanelRoute, RenderSettings};
pub use static_config::{Earlier, ManagedSettings};
pub use traefik::TraefikProxy;
pub use types::*;

use crate::resource::common::Protocol;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A reverse proxy that is told all routes at once and says which ones it holds.
#[async_trait]
pub trait Proxy: Send + Sync + 'static {
    /// Publishes the whole table. The first call lets the proxy serve at all: before it, the proxy keeps what it
    /// had. Quick; does not wait for the proxy.
    fn publish(&self, table: &RouteTable);
    /// From the next answer on, hosts below this domain that no route has lead to the control plane. Quick, too.
    fn serve_below(&self, _domain: &str) {}
    /// Which routes the proxy itself reports as live now.
    async fn live(&self) -> Result<LiveRoutes, ProxyError>;
    /// Waits until the proxy holds what was published last, at most `patience`, then answers as [`Proxy::live`].
    async fn wait_live(&self, patience: Duration) -> Result<LiveRoutes, ProxyError>;
    /// Ends connections that stand open to these addresses, for what was public there is not any more. Where nothing is open there is
    /// nothing to do.
    ///
    /// # Errors
    /// Says which go on, why, and what can be done.
    async fn end_connections(&self, _upstreams: &[SocketAddr]) -> Result<(), String> {
        Ok(())
    }
    /// What went through it to workspaces so far, by their uid; those of the table published last are in it. Two answers are to be
    /// compared: a count that is lower than it was has begun anew.
    ///
    /// # Errors
    /// Says what cannot be told, and what to do.
    async fn traffic(&self) -> Result<BTreeMap<String, Traffic>, String>;
    /// Whether an address takes connections from where the proxy is: on this machine.
    async fn reaches(&self, upstream: SocketAddr) -> io::Result<()> {
        tokio::net::TcpStream::connect(upstream).await.map(drop)
    }
    /// The status an address answers a GET with, likewise. It is not followed anywhere else.
    async fn answers(&self, upstream: SocketAddr, protocol: Protocol, path: &str) -> io::Result<u16> {
        probe::get(upstream, protocol, path).await
    }
}
