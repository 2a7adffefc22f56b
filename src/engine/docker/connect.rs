//! How an engine is reached: a local socket, TCP, TCP with mutual TLS, or a socket through SSH.

use super::wire::{Body, HttpClient};
use super::{ssh, tls};
use crate::engine::{Endpoint, EngineError};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// An unused connection is kept this long. Shorter than the idle limits of common firewalls and NATs.
const IDLE: Duration = Duration::from_secs(30);
/// Less than a call may take, so that one that cannot connect says so.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Finds a peer that went away without a word under a quiet event stream.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// PEM material of a connection, as it stands in its [`Endpoint`].
#[derive(Clone, Copy)]
pub(super) struct TlsIdentity<'a> {
    /// Certificates of the authorities that may sign the engine's certificate.
    pub(super) ca: &'a [u8],
    /// Our client certificate, with its chain.
    pub(super) cert: &'a [u8],
    /// The key to it.
    pub(super) key: &'a [u8],
}

/// Whom to trust and who we are, where there is TLS.
pub(super) fn identity(endpoint: &Endpoint) -> Option<TlsIdentity<'_>> {
    match endpoint {
        Endpoint::Tls { ca, cert, key, .. } => Some(TlsIdentity { ca, cert, key }),
        _ => None,
    }
}

/// What stands before the path in a request's address. Sockets have no host; any name will do.
pub(super) fn base(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(_) | Endpoint::Ssh(_) => "http://localhost".to_owned(),
        Endpoint::Tcp { host, port } => format!("http://{}:{port}", bracketed(host)),
        Endpoint::Tls { host, port, .. } => format!("https://{}:{port}", bracketed(host)),
    }
}

/// An IPv6 address as it stands in a URL.
fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

/// An HTTP client, and with TLS when its certificates end.
pub(super) type Connected = (Arc<dyn HttpClient>, Option<Arc<tls::Ends>>);

/// Makes the HTTP client; with TLS, it tells when the certificates end. Opens no connection yet.
pub(super) fn client(endpoint: &Endpoint) -> Result<Connected, EngineError> {
    Ok(match endpoint {
        Endpoint::Unix(path) => (pooled(unix_connector(path.clone())), None),
        Endpoint::Ssh(to) => (pooled(ssh_connector(Arc::new(ssh::Host::new(to)?))), None),
        Endpoint::Tcp { .. } => (pooled(tcp_connector()), None),
        Endpoint::Tls { ca, cert, key, .. } => {
            let (config, ends) = tls::client_config(TlsIdentity { ca, cert, key })?;
            let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config);
            (pooled(builder.https_only().enable_http1().wrap_connector(tcp_connector())), Some(ends))
        }
    })
}

fn tcp_connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_nodelay(true);
    connector
}

fn unix_connector(path: PathBuf) -> impl Connect + Clone + Send + Sync + 'static {
    tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    })
}

fn ssh_connector(host: Arc<ssh::Host>) -> impl Connect + Clone + Send + Sync + 'static {
    tower::service_fn(move |_: http::Uri| {
        let host = Arc::clone(&host);
        Box::pin(async move { host.open().await.map(TokioIo::new) })
    })
}

fn pooled<C: Connect + Clone + Send + Sync + 'static>(connector: C) -> Arc<dyn HttpClient> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
    let client: Client<C, Body> = builder.build(connector);
    Arc::new(client)
}
