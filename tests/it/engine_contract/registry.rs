//! A registry with a few images, where the engine under test can reach it.

use super::lab::Lab;
use crate::support::bare;
use crate::support::docker_registry::within;
use crate::support::dockerd::Dockerd;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is asked for, by digest or by the name of a manifest.
type Blobs = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// With the value, the registry goes.
pub struct Registry {
    address: SocketAddr,
    blobs: Blobs,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Registry {
    pub async fn start(lab: &Lab) -> Self {
        let blobs = Blobs::default();
        if lab.fake_engine().is_some() {
            return Self { address: ([127, 0, 0, 1], 5000).into(), blobs, serving: None };
        }
        let listener = within(Dockerd::shared(), || TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let routes = Router::new()
            .route("/v2/", get(|| async { "{}" }))
            .route("/v2/lab/{name}/manifests/{tag}", get(manifest))
            .route("/v2/lab/{name}/blobs/{digest}", get(blob))
            .with_state(Arc::clone(&blobs));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, blobs, serving: Some(serving) }
    }

    /// The name of an image in it.
    pub fn reference(&self, lab: &Lab, name: &str) -> String {
        format!("{}/lab/{}-{name}:1", self.address, lab.instance)
    }

    /// Puts an image into it: one that can be had, or one whose layer is not what its manifest says.
    pub fn publish(&self, lab: &Lab, name: &str, whole: bool) -> String {
        let reference = self.reference(lab, name);
        if let Some(fake) = lab.fake_engine() {
            match whole {
                true => fake.publish_image(&reference),
                false => fake.publish_broken_image(&reference, "filesystem layer verification failed for digest sha256:0"),
            }
            return reference;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hello"), &reference).unwrap();
        let layer = bare("tar").arg("-C").arg(dir.path()).args(["-cf", "-", "hello"]).output().unwrap().stdout;
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}, "history": [{"created_by": "lab"}]});
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| -> Value {
            json!({"mediaType": format!("application/vnd.docker.{kind}"), "size": bytes.len(), "digest": digest(bytes)})
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part("container.image.v1+json", &config),
            "layers": [part("image.rootfs.diff.tar", &layer)]});
        let mut blobs = self.blobs.lock().unwrap();
        let served = if whole { layer.clone() } else { vec![b'x'; layer.len()] };
        blobs.insert(digest(&layer), served);
        blobs.insert(digest(&config), config);
        blobs.insert(format!("{}-{name}", lab.instance), manifest.to_string().into_bytes());
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.take().inspect(tokio::task::JoinHandle::abort);
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

async fn manifest(State(blobs): State<Blobs>, Path((name, _)): Path<(String, String)>) -> Response {
    let all = blobs.lock().unwrap();
    match all.get(&name) {
        Some(found) => (
            [
                (header::CONTENT_TYPE, MANIFEST.to_owned()),
                (header::HeaderName::from_static("docker-content-digest"), digest(found)),
            ],
            found.clone(),
        )
            .into_response(),
        None => {
            let errors = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {}}]});
            (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], errors.to_string()).into_response()
        }
    }
}

async fn blob(State(blobs): State<Blobs>, Path((_, digest)): Path<(String, String)>) -> Response {
    match blobs.lock().unwrap().get(&digest) {
        Some(found) => ([(header::CONTENT_TYPE, "application/octet-stream")], found.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
