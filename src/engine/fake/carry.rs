//! Images and files that go from one engine to another, as the fake packs them.

use super::answers::{Outcome, Refusal, ok, reply};
use super::http_objects::{Fake, Params};
use super::images::tagged;
use super::networks::text_map;
use super::world::{FakeImage, World, digest};
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Where the names of an image are in what is saved of it, and its own description.
const MANIFEST: &str = "manifest.json";
const CONFIG: &str = "config.json";

type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn router() -> Router {
    Router::new()
        .route("/commit", post(commit))
        .route("/images/load", post(load))
        .route("/containers/{id}/archive", get(archive).put(extract))
}

impl World {
    fn commit(&mut self, asked: &str, name: &str, labels: BTreeMap<String, String>) -> Outcome<String> {
        let container = self.container(asked)?;
        let (mut all, files) = (container.labels.clone(), container.files.clone());
        all.extend(labels);
        let id = format!("sha256:{}", digest(&format!("commit/{}", self.new_id())));
        self.images.insert(tagged(name), FakeImage::new(id.clone(), all, files));
        Ok(id)
    }

    /// The files at a path in a container, by their names below it. Only volumes and files that were written are there.
    fn files_at(&mut self, asked: &str, path: &str) -> Outcome<Files> {
        let container = self.container(asked)?;
        let id = container.id.clone();
        if let Some(volume) = container.mounts.iter().find(|(_, at)| *at == path).map(|(name, _)| name.clone()) {
            return Ok(self.volumes.get(&volume).map(|v| v.files.clone()).unwrap_or_default());
        }
        let below = |(name, bytes): (&String, &Vec<u8>)| {
            let rest = name.strip_prefix(path).filter(|rest| rest.starts_with('/'))?;
            Some((rest.to_owned(), bytes.clone()))
        };
        let found: Files = container.files.iter().filter_map(below).collect();
        if found.is_empty() {
            return Err(Refusal(404, format!("Could not find the file {path} in container {id}")));
        }
        Ok(found)
    }
}

async fn commit(Extension(fake): Fake, Query(params): Params, request: Request) -> Response {
    let text = |key: &str| params.get(key).cloned().unwrap_or_default();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = format!("{}:{}", text("repo"), text("tag"));
    match fake.world().commit(&text("container"), &name, text_map(&body["Labels"])) {
        Ok(id) => reply(StatusCode::CREATED, &json!({ "Id": id })),
        Err(refusal) => refusal.into_response(),
    }
}

/// What [`load`] takes.
pub(super) fn save(world: &World, name: &str) -> Response {
    let Some(image) = world.image(name) else {
        return Refusal(404, format!("No such image: {}", tagged(name))).into_response();
    };
    let about = json!({ "id": image.id, "labels": image.labels, "layer": image.layer });
    let names: Vec<String> = [tagged(name)].into_iter().chain(world.also_saved_as.clone()).collect();
    let manifest = json!([{ "Config": CONFIG, "RepoTags": names, "Layers": [] }]);
    let mut files: Files = image.files.iter().map(|(path, bytes)| (format!("layer{path}"), bytes.clone())).collect();
    files.insert(CONFIG.to_owned(), about.to_string().into_bytes());
    files.insert(MANIFEST.to_owned(), manifest.to_string().into_bytes());
    packed(None, &files).map_or_else(broken, |bytes| Body::from(bytes).into_response())
}

async fn load(Extension(fake): Fake, request: Request) -> Response {
    let Ok(bytes) = axum::body::to_bytes(request.into_body(), usize::MAX).await else {
        return Refusal(500, "unexpected EOF".into()).into_response();
    };
    let loaded = unpacked(&bytes).ok().and_then(|mut files| {
        let manifest: Value = serde_json::from_slice(&files.remove(MANIFEST)?).ok()?;
        let about: Value = serde_json::from_slice(&files.remove(CONFIG)?).ok()?;
        let files = files.into_iter().filter_map(|(name, b)| Some((name.strip_prefix("layer")?.to_owned(), b))).collect();
        let text = |key: &str| about[key].as_str().map(str::to_owned);
        let mut world = fake.world();
        let id = if world.own_ids { format!("sha256:{}", digest(&format!("own/{}", text("id")?))) } else { text("id")? };
        let image = FakeImage { id, layer: text("layer")?, labels: text_map(&about["labels"]), files };
        let names: Vec<String> = serde_json::from_value(manifest[0]["RepoTags"].clone()).ok()?;
        world.images.extend(names.iter().map(|name| (name.clone(), image.clone())));
        names.into_iter().next()
    });
    match loaded {
        Some(name) => ok(&json!({ "stream": format!("Loaded image: {name}\n") })),
        None => ok(&json!({ "errorDetail": { "message": "unexpected EOF" }, "error": "unexpected EOF" })),
    }
}

async fn archive(Extension(fake): Fake, Path(asked): Path<String>, Query(params): Params) -> Response {
    let path = params.get("path").map_or("/", String::as_str).trim_end_matches('/');
    match fake.world().files_at(&asked, path) {
        Ok(files) => {
            let top = path.rsplit('/').next().unwrap_or_default();
            let named = files.into_iter().map(|(name, bytes)| (format!("{top}{name}"), bytes)).collect();
            packed(Some(top), &named).map_or_else(broken, |bytes| Body::from(bytes).into_response())
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn extract(Extension(fake): Fake, Path(asked): Path<String>, Query(params): Params, request: Request) -> Response {
    let folder = params.get("path").map_or("/", String::as_str).trim_end_matches('/').to_owned();
    let id = match fake.world().container(&asked) {
        Ok(container) => container.id.clone(),
        Err(refusal) => return refusal.into_response(),
    };
    let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await;
    let Some(files) = bytes.ok().and_then(|bytes| unpacked(&bytes).ok()) else {
        return Refusal(500, "unexpected EOF".into()).into_response();
    };
    let mut world = fake.world();
    for (name, bytes) in files {
        world.write_file(&id, &format!("{folder}/{name}"), bytes);
    }
    StatusCode::OK.into_response()
}

/// An archive of these files, below a folder where one is named.
fn packed(folder: Option<&str>, files: &Files) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, bytes)
    };
    if let Some(folder) = folder {
        add(&format!("{folder}/"), tar::EntryType::Directory, &[])?;
    }
    for (name, bytes) in files {
        add(name, tar::EntryType::Regular, bytes)?;
    }
    archive.into_inner()
}

fn unpacked(bytes: &[u8]) -> io::Result<Files> {
    let mut files = Files::new();
    // An archive that was cut off ends without its mark; the empty one is two blocks of it.
    if bytes.len() < 1024 || bytes[bytes.len() - 1024..].iter().any(|b| *b != 0) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let (name, mut content) = (entry.path()?.display().to_string(), Vec::new());
            entry.read_to_end(&mut content)?;
            files.insert(name, content);
        }
    }
    Ok(files)
}

fn broken(error: io::Error) -> Response {
    Refusal(500, error.to_string()).into_response()
}
