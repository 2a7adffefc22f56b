//! A folder of files, served as a mirror of releases and packages would.

use super::serve;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode, header};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Serves a folder wherever the network namespace of this thread is reached.
pub struct FileHost {
    pub address: SocketAddr,
    /// It listens for as long as this is held.
    _open: tokio::sync::oneshot::Sender<()>,
}

impl FileHost {
    pub fn start(root: PathBuf) -> Self {
        let root = Arc::new(root);
        let answer = move |request: Request<Body>| {
            let root = root.clone();
            async move { file(&root, &request) }
        };
        let (address, open) = serve::everywhere(Router::new().fallback(answer));
        Self { address, _open: open }
    }
}

/// A file; npm's documents get the address they were asked at for the tarballs in them.
fn file(root: &Path, request: &Request<Body>) -> Response {
    let path = Path::new(request.uri().path().trim_start_matches('/'));
    if path.components().any(|c| !matches!(c, Component::Normal(_))) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Ok(bytes) = std::fs::read(root.join(path)) else { return StatusCode::NOT_FOUND.into_response() };
    if path.extension().is_some() || !path.starts_with("npm") {
        return bytes.into_response();
    }
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap().replace("http://REGISTRY/", &format!("http://{host}/npm/"));
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
