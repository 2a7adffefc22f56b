//! The leanest HTTP/1.1 client there is: on two cores, what the client costs is taken from the server.

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A kept-alive connection.
pub struct Wire<S> {
    stream: S,
    head: String,
    buffer: Vec<u8>,
}

/// How to reach an API.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub token: String,
    tls: TlsConnector,
}

impl Target {
    pub fn new(address: SocketAddr, ca_pem: &[u8], token: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { address, token: token.to_owned(), tls: TlsConnector::from(Arc::new(config)) }
    }

    pub async fn connect(&self) -> std::io::Result<Wire<TlsStream<TcpStream>>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await?;
        let head = format!("Host: 127.0.0.1\r\nAuthorization: Bearer {}\r\n", self.token);
        Ok(Wire { stream, head, buffer: Vec::with_capacity(16384) })
    }
}

/// A plain connection for one virtual host.
pub async fn plain(to: SocketAddr, host: &str) -> std::io::Result<Wire<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(Wire { stream, head: format!("Host: {host}\r\n"), buffer: Vec::new() })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Sends this header with each request from now on.
    pub fn with(&mut self, header: &str) {
        self.head.push_str(header);
        self.head.push_str("\r\n");
    }

    /// One request; code and body. Answers with `Content-Length` or `chunked`.
    pub async fn call(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
        self.send(method, path, body).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let code = text.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
        let length = text.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|l| l.trim().parse::<usize>().ok());
        match length {
            Some(length) => {
                while self.buffer.len() < head + length {
                    self.more().await?;
                }
            }
            None => {
                while text.contains("chunked") && !self.buffer.ends_with(b"\r\n0\r\n\r\n") {
                    self.more().await?;
                }
            }
        }
        Ok((code, self.buffer.split_off(head)))
    }

    /// Sends a request without waiting for the answer.
    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<()> {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        let text = format!("{method} {path} HTTP/1.1\r\n{}{length}\r\n{body}", self.head);
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    /// Reads whatever comes next of a stream that does not end.
    pub async fn read_some(&mut self) -> std::io::Result<&[u8]> {
        self.buffer.clear();
        self.more().await?;
        Ok(&self.buffer)
    }

    async fn more(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

/// Asks until the host answers 200.
pub async fn until_ok(web: SocketAddr, host: &str, between: Duration) {
    let mut wire = None;
    loop {
        if wire.is_none() {
            wire = plain(web, host).await.ok();
        }
        if let Some(w) = &mut wire {
            match w.call("GET", "/", "").await {
                Ok((200, _)) => return,
                Ok(_) => {}
                Err(_) => wire = None,
            }
        }
        tokio::time::sleep(between).await;
    }
}
