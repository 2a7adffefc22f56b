//! The way to one service through the gateway of its server.

use super::Identity;
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};
use tower::Service;

/// Longest time until a gateway has let somebody in.
const PATIENCE: Duration = Duration::from_secs(5);
/// Finds a gateway that went away without a word under a quiet connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What a gateway closes because nobody listens behind it, it closes this soon, beside the way there and back.
const CLOSES: Duration = Duration::from_millis(50);

/// How a service on another machine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Name of the server's record.
    pub server: String,
    /// Where its gateway listens: host and port.
    pub gateway: String,
    /// What is said in the handshake: by it the gateway knows where to lead.
    pub name: String,
    /// Who comes.
    pub identity: Arc<Identity>,
}

/// A connection through a gateway.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Way {
    /// The gateway's address.
    pub fn url(&self) -> String {
        format!("https://{}", self.gateway)
    }

    /// What connects to [`Way::url`], and on to the service.
    ///
    /// # Errors
    /// When the name is none.
    pub fn connector(&self) -> io::Result<HttpsConnector<HttpConnector>> {
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.identity.tls.clone()).https_only();
        Ok(builder.with_server_name_resolver(FixedServerNameResolver::new(name)).enable_http1().wrap_connector(tcp()))
    }

    /// Connects.
    ///
    /// # Errors
    /// When the gateway does not answer within seconds, is another's, or does not let us in.
    pub async fn connect(&self) -> io::Result<impl Stream + use<>> {
        let to: Uri = self.url().parse().map_err(io::Error::other)?;
        let connected = timeout(PATIENCE, self.connector()?.call(to)).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{} does not answer", self.gateway));
        connected.map_err(late)?.map(TokioIo::new).map_err(|e| io::Error::new(kind(e.as_ref()), with_causes(e.as_ref())))
    }

    /// Whether the service takes connections. A gateway says that it does not by hanging up, and nothing else.
    ///
    /// # Errors
    /// When it does not, or the gateway cannot be reached.
    pub async fn reaches(&self) -> io::Result<()> {
        let begun = Instant::now();
        let mut stream = self.connect().await?;
        let there_and_back = begun.elapsed();
        match timeout(there_and_back + CLOSES, stream.read_u8()).await {
            // It stands open, or has spoken first.
            Err(_) | Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "its gateway finds nobody listening")),
        }
    }

    /// The status that the service answers a GET with. It is not followed anywhere else.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn answers(&self, host: &str, path: &str) -> io::Result<u16> {
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = http::Request::get(path).header(http::header::HOST, host).body(String::new()).map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(|e| io::Error::other(with_causes(&e)))?;
        Ok(answer.status().as_u16())
    }
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(PATIENCE));
    connector.set_keepalive(Some(KEEPALIVE));
    // What is typed goes out at once.
    connector.set_nodelay(true);
    connector
}

/// What kind of error the system says that it is.
fn kind(error: &(dyn std::error::Error + 'static)) -> io::ErrorKind {
    let mut causes = std::iter::successors(Some(error), |e| e.source());
    causes.find_map(|e| Some(e.downcast_ref::<io::Error>()?.kind())).unwrap_or(io::ErrorKind::Other)
}

/// The cause that helps, such as "connection refused", is one or two levels down.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        next = cause.source();
    }
    words
}
