//! From the client to the fake without a socket: every connection is a pipe in memory with a real HTTP server behind.

use super::answers::{Refusal, refuse};
use super::control::FakeEngine;
use super::faults::{Call, Fault, call_name};
use super::http::router;
use crate::engine::docker::{Body, HttpClient};
use axum::body::Body as AxumBody;
use axum::response::IntoResponse;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use tower::ServiceExt;

/// Bytes on their way in one direction.
const PIPE: usize = 64 * 1024;

/// Built once: half of the connections carry one call.
static ROUTES: LazyLock<axum::Router> = LazyLock::new(router);

/// The client's end of a pipe.
struct Pipe(TokioIo<tokio::io::DuplexStream>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: hyper::rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl hyper::rt::Write for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// An HTTP client whose connections all end in the fake.
pub(super) fn client(fake: &FakeEngine) -> Arc<dyn HttpClient> {
    let fake = fake.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let fake = fake.clone();
        let connect: BoxFuture<'static, io::Result<Pipe>> = Box::pin(async move { open(&fake) });
        connect
    });
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    Arc::new(client)
}

fn open(fake: &FakeEngine) -> io::Result<Pipe> {
    if fake.faults().refusing {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (ours, theirs) = tokio::io::duplex(PIPE);
    tokio::spawn(converse(fake.clone(), theirs));
    Ok(Pipe(TokioIo::new(ours)))
}

/// Serves one connection to its end.
async fn converse(fake: FakeEngine, stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) {
    let serve = hyper::service::service_fn(move |request: Request<Incoming>| {
        let fake = fake.clone();
        async move { answer(&fake, request).await }
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
    // An error is a fault that broke the connection, or a client that left: both are as planned.
    let _ = server.with_upgrades().await;
}

/// Serves the fake on a socket, as dockerd would. Ends when the listener fails.
pub(super) async fn listen(fake: FakeEngine, listener: tokio::net::UnixListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(fake.clone(), stream));
    }
}

/// Answers, or breaks the connection by an error.
async fn answer(fake: &FakeEngine, request: Request<Incoming>) -> Result<Response<AxumBody>, io::Error> {
    let mut request = match without_version(request.map(AxumBody::new)) {
        Ok(request) => request,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    request.extensions_mut().insert(fake.clone());
    let name = call_name(request.method(), request.uri().path());
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let (latency, silent, planned, number) = {
        let mut faults = fake.faults();
        let planned = faults.count(&name);
        (faults.latency, faults.silent, planned, faults.count)
    };
    let listener = fake.listener();
    let tell = |done| listener.as_ref().and_then(|tell| tell(&Call { number, name: &name, path: &path, done }));
    let fault = tell(None).or(planned);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    if silent || fault == Some(Fault::Silence) {
        std::future::pending::<()>().await;
    }
    match fault {
        Some(Fault::Status(status, message)) => return Ok(refuse(status, &message)),
        Some(Fault::LostRequest) => return Err(io::ErrorKind::ConnectionReset.into()),
        _ => {}
    }
    let Ok(mut answer) = ROUTES.clone().oneshot(request).await;
    let mut late = None;
    if listener.is_some() {
        let status = answer.status().as_u16();
        let body = if LOOKS.contains(&name.as_str()) { take_body(&mut answer).await } else { Vec::new() };
        late = tell(Some((status, &body)));
        if !body.is_empty() {
            *answer.body_mut() = AxumBody::from(body);
        }
    }
    match late.or(fault) {
        Some(Fault::StatusAfter(status, message)) => Ok(refuse(status, &message)),
        Some(Fault::LostAnswer) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Answer(status, body)) => {
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            *answer.body_mut() = AxumBody::from(body);
            Ok(answer)
        }
        _ => Ok(answer),
    }
}

/// Calls whose answers a listener is shown: short ones that end.
const LOOKS: [&str; 7] = ["containers", "inspect", "networks", "network", "volumes", "volume", "info"];

async fn take_body(answer: &mut Response<AxumBody>) -> Vec<u8> {
    let body = std::mem::take(answer.body_mut());
    axum::body::to_bytes(body, usize::MAX).await.map(|b| b.to_vec()).unwrap_or_default()
}

/// Takes the `/v1.41` off a path; a newer version is refused as Docker 20.10 does.
fn without_version(request: Request<AxumBody>) -> Result<Request<AxumBody>, Refusal> {
    let (mut head, body) = request.into_parts();
    let whole = head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    if let Some((version, rest)) = whole.strip_prefix("/v").and_then(|v| v.split_once('/')) {
        let minor = version.strip_prefix("1.").and_then(|m| m.parse::<u16>().ok()).unwrap_or(u16::MAX);
        if minor > 41 {
            let words = format!("client version {version} is too new. Maximum supported API version is 1.41");
            return Err(Refusal(400, words));
        }
        let shorter = format!("/{rest}").parse();
        head.uri = shorter.map_err(|_| Refusal(400, "bad path".into()))?;
    }
    Ok(Request::from_parts(head, body))
}
