//! HTTP to an engine below bollard: API version, and the requests whose stream bollard would open late or misread.
//!
//! Over a custom transport bollard sends paths without a version, which means "the engine's newest". Here every
//! path gets the version both sides speak, so that a newer engine answers as we expect.

use super::error::Misfit;
use crate::engine::{ByteStream, Cause, Told};
use bollard::errors::Error;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::connect::Connect;
use hyper_util::client::legacy::{Client, Error as LegacyError};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Oldest API we speak: Docker Engine 20.10.
const OLDEST: ApiVersion = ApiVersion(1, 41);
/// Newest API we speak: what bollard's models are made from.
const NEWEST: ApiVersion = ApiVersion(1, 53);
/// No error message is longer.
const MAX_MESSAGE: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body.
pub(in crate::engine) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Sends one HTTP request.
pub(in crate::engine) trait HttpClient: Send + Sync {
    /// Sends it; the answer's body is still to be read.
    fn request(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Incoming>, LegacyError>>;
}

impl<C: Connect + Clone + Send + Sync + 'static> HttpClient for Client<C, Body> {
    fn request(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Incoming>, LegacyError>> {
        Box::pin(Client::request(self, request))
    }
}

/// Version of Docker's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(u16, u16);

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// An HTTP client, the address before the path, and the API version agreed on.
#[derive(Clone)]
pub(super) struct Wire {
    client: Arc<dyn HttpClient>,
    base: String,
    version: Arc<Mutex<Option<ApiVersion>>>,
}

impl Wire {
    pub(super) fn new(client: Arc<dyn HttpClient>, base: String) -> Self {
        Self { client, base, version: Arc::default() }
    }

    /// What stands before the path, such as `https://host:2376`.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The API version both sides speak; asked for once.
    pub(super) async fn version(&self) -> Result<ApiVersion, Error> {
        let known = *self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = known {
            return Ok(version);
        }
        let request = Request::get(format!("{}/_ping", self.base)).body(empty())?;
        let answer = self.client.request(request).await?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
        let (told, itself) = (header("api-version").and_then(ApiVersion::parse), header("server").unwrap_or("it").to_owned());
        let missing = answer.status() == http::StatusCode::NOT_FOUND;
        if !missing {
            refuse_errors(answer).await?;
        }
        let Some(told) = told else {
            let words = "what answers there is no Docker Engine (it does not answer /_ping as one does); correct host and port";
            return Err(misfit(Cause::NotDocker, words));
        };
        if told < OLDEST {
            let words = format!("{itself} speaks API {told}; Docker Engine 20.10 (API {OLDEST}) or newer is needed: upgrade it");
            return Err(misfit(Cause::ApiTooOld, words));
        }
        let version = told.min(NEWEST);
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
        Ok(version)
    }

    /// Asks for the version again at the next call: another engine may answer there by then.
    pub(super) fn forget_version(&self) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sends a request whose path has no version yet. Whatever the answer's status, it is an answer.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let version = self.version().await?;
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
        head.uri = format!("{}/v{version}{path}", self.base).parse::<Uri>()?;
        Ok(self.client.request(Request::from_parts(head, body)).await?)
    }

    /// Sends a request of our own; an answer with an error status is an error.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        json: Option<&serde_json::Value>,
    ) -> Result<Response<Incoming>, Error> {
        self.ask_upgrading(method, path, json, false).await
    }

    /// Sends a tar archive as it comes; an answer with an error status is an error.
    pub(super) async fn put(&self, method: Method, path: &str, archive: ByteStream) -> Result<Response<Incoming>, Error> {
        let builder = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let frames = archive.map(|chunk| chunk.map(Frame::data).map_err(BoxError::from));
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        refuse_errors(self.send(builder.header(http::header::CONTENT_TYPE, "application/x-tar").body(body)?).await?).await
    }

    /// As [`Wire::ask`], asking for a raw connection after the answer's head.
    pub(super) async fn ask_upgrading(
        &self,
        method: Method,
        path: &str,
        json: Option<&serde_json::Value>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Error> {
        let mut builder = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if upgrade {
            builder = builder.header(http::header::CONNECTION, "Upgrade").header(http::header::UPGRADE, "tcp");
        }
        let body = match json {
            Some(value) => {
                builder = builder.header(http::header::CONTENT_TYPE, "application/json");
                full(Bytes::from(serde_json::to_vec(value)?))
            }
            None => empty(),
        };
        refuse_errors(self.send(builder.body(body)?).await?).await
    }
}

fn misfit(cause: Cause, words: impl Into<String>) -> Error {
    io::Error::other(Misfit(Told::of(cause, words))).into()
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> Body {
    full(Bytes::new())
}

/// Turns an error status into the error bollard would give, with Docker's words.
async fn refuse_errors(answer: Response<Incoming>) -> Result<Response<Incoming>, Error> {
    let status = answer.status();
    if status.is_success() || status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let body = Limited::new(answer.into_body(), MAX_MESSAGE).collect().await.map_err(io::Error::other)?.to_bytes();
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|v| v.get("message").and_then(|m| m.as_str()).map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    Err(Error::DockerResponseServerError { status_code: status.as_u16(), message })
}

/// Writes a value into a query string.
pub(super) fn percent_encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let encode = |b: u8| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(encode).collect()
}
