//! Gateways: how services on other machines are reached. On each such server runs a small proxy of ours, HAProxy, which takes mutual
//! TLS alone and leads, by the name in the handshake, to the addresses that it was given, and to nothing else.
//!
//! [`Authority`] vouches for both ends. [`config`] is what HAProxy is started with; [`Admin`] tells it where names lead, asks what
//! stands open, and ends that. [`Way`] is how one service is reached.
//!
//! # Guarantees
//! - A name that the gateway was not given leads nowhere, and no name leads past what it was given.
//! - Each server has a domain of its own, which its gateway's certificate is for: no gateway passes for another's.
//! - Whoever shows a certificate that is not a client's of the same authority is refused in the handshake.

mod admin;
mod authority;
mod haproxy;
mod way;

pub use admin::Admin;
pub use authority::{Authority, Identity};
pub use haproxy::{Listening, MAP_LINE, Session, config};
pub use way::Way;

use crate::resource::common::Protocol;
use std::net::SocketAddr;

/// Whether this process may act at all.
pub type Fence = std::sync::Arc<dyn Fn() -> bool + Send + Sync>;

/// What a client certificate says whose holder may tell a gateway what to do.
pub const CONTROL: &str = "devsanctum-control";
/// What the proxy's client certificate says.
pub const PROXY: &str = "devsanctum-proxy";
/// Name within a server's domain under which the gateway itself is told what to do.
pub const ADMIN: &str = "admin";

/// The domain of the gateway on the server with this uid. `.internal` is nobody's (ICANN has set it aside).
pub fn domain(server_uid: &str) -> String {
    format!("{server_uid}.gateway.internal")
}

/// The name of a workspace's port within the domain of its server. What speaks TLS itself has a name of its own: the gateway
/// speaks it, too.
pub fn label(workspace_uid: &str, port: u16, protocol: Protocol) -> String {
    let kind = if protocol == Protocol::Https { 's' } else { 'p' };
    format!("{kind}{port}-{workspace_uid}")
}

/// Where a name leads, as a gateway's map has it.
pub fn target(address: SocketAddr, protocol: Protocol) -> String {
    let tls = if protocol == Protocol::Https { "tls" } else { "" };
    format!("{}/{}/{tls}", address.ip(), address.port())
}
