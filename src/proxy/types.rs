//! What is asked of and told by a proxy.

use super::gateway::Way;
use crate::resource::common::{Protocol, Visibility};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// One route, ready to be rendered. All strings have passed the validators of `resource::names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Host name.
    pub host: String,
    /// Address of the service.
    pub upstream: SocketAddr,
    /// What the service speaks.
    pub protocol: Protocol,
    /// Who may pass.
    pub visibility: Visibility,
    /// `metadata.uid` of the workspace, for the gate.
    pub workspace_uid: String,
    /// The way there, where it is on another machine: `upstream` means something to its gateway alone.
    pub way: Option<Arc<Way>>,
}

/// Where connections to a service stand open: the server whose gateway leads there (none: this machine), and the address.
pub type Spot = (Option<String>, SocketAddr);

impl RouteEntry {
    /// Where connections to it stand open.
    pub fn spot(&self) -> Spot {
        (self.way.as_ref().map(|way| way.server.clone()), self.upstream)
    }

    /// Whether its upgraded connections go through the control plane, which ends them when the right to them ends.
    pub fn is_carried(&self) -> bool {
        self.visibility == Visibility::Private && self.protocol != Protocol::Tcp
    }
}

/// All routes by the uid of their record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable(pub BTreeMap<String, RouteEntry>);

/// Routes as the proxy reports them, by the uid of their record: digest of what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveRoutes(pub BTreeMap<String, LiveRoute>);

/// A route as the proxy reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRoute {
    /// The proxy serves it exactly as published (host, upstream, visibility).
    pub current: bool,
    /// The proxy's words about what is wrong with it; empty when fine.
    pub error: String,
}

/// What went to a workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that are over, by uid of the route.
    pub requests: BTreeMap<String, u64>,
    /// Bytes over each connection that stands open, both ways; which it is, is told by its ends.
    pub connections: BTreeMap<String, u64>,
}

/// What can go wrong at a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// No answer.
    #[error("the proxy does not answer: {0}")]
    Unreachable(String),
    /// It is too old, or set up in a way we cannot work with.
    #[error("the proxy cannot be used: {0}")]
    Unusable(String),
}
