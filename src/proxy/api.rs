//! The way to Traefik's API.

use super::{async_trait, cut, traffic};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Longest time an answer may take.
pub const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Where Traefik is, and how it is asked.
#[async_trait]
pub trait TraefikApi: Send + Sync + 'static {
    /// Its address, for people.
    fn address(&self) -> &str;
    /// Status and body of an answer; an error says in words why there is none within [`API_TIMEOUT`].
    async fn get(&self, path: &str) -> Result<(u16, Bytes), String>;
    /// Whether an address takes connections from where Traefik is.
    async fn reaches(&self, upstream: SocketAddr) -> io::Result<()> {
        tokio::net::TcpStream::connect(upstream).await.map(drop)
    }
    /// Ends what stands open from where Traefik is to these addresses; an error says what goes on, why, and what can be done.
    async fn end_connections(&self, upstreams: &[SocketAddr]) -> Result<(), String> {
        cut::end(upstreams).await
    }
    /// Bytes over each connection that stands open from where Traefik is, by its far and near ends; an error says why that is not known.
    async fn open_connections(&self) -> Result<BTreeMap<SocketAddr, BTreeMap<String, u64>>, String> {
        traffic::open_connections().await
    }
}

/// A Traefik at an address.
pub struct HttpApi {
    address: String,
    client: reqwest::Client,
}

impl HttpApi {
    /// The API at a URL such as `http://127.0.0.1:8090`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(url: &str) -> Result<Self, String> {
        // Set up by the program as a rule; a second installation is the only way this fails.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(API_TIMEOUT).no_proxy().build();
        Ok(Self { address: url.trim_end_matches('/').into(), client: client.map_err(|e| with_causes(&e))? })
    }
}

#[async_trait]
impl TraefikApi for HttpApi {
    fn address(&self) -> &str {
        &self.address
    }

    async fn get(&self, path: &str) -> Result<(u16, Bytes), String> {
        let lost = |e: reqwest::Error| with_causes(&e);
        let answer = self.client.get(format!("{}{path}", self.address)).send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        Ok((status, answer.bytes().await.map_err(lost)?))
    }
}

/// reqwest hides the cause that helps, such as "connection refused", one or two levels down.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source()).map(|e| format!(": {e}"));
    std::iter::once(error.to_string()).chain(causes).collect()
}
