//! The fake's images, and the registry they come from and go to.

use super::answers::{Outcome, Refusal, done, ok, reply};
use super::events::{filters, has_label};
use super::http_objects::{Fake, Params};
use super::world::{FakeImage, World, digest};
use axum::Router;
use axum::extract::{Extension, Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const UNKNOWN: &str = "manifest unknown: manifest unknown";

impl FakeImage {
    pub(super) fn new(id: String, labels: BTreeMap<String, String>, files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { layer: format!("sha256:{}", digest(&format!("layer/{id}"))), id, labels, files }
    }
}

impl World {
    /// Puts an image on the server and gives its id.
    pub(super) fn learn_image(&mut self, reference: &str) -> String {
        self.learn_labelled(reference, BTreeMap::new())
    }

    pub(super) fn learn_labelled(&mut self, reference: &str, labels: BTreeMap<String, String>) -> String {
        let id = format!("sha256:{}", digest(&format!("image/{reference}")));
        self.images.insert(tagged(reference), FakeImage::new(id.clone(), labels, BTreeMap::new()));
        id
    }

    /// The last step of a build that went wrong stays as an image of no name, until another build goes on from it.
    pub(super) fn leave_unnamed(&mut self, id: &str, labels: BTreeMap<String, String>) {
        self.images.insert(id.to_owned(), FakeImage::new(id.to_owned(), labels, BTreeMap::new()));
    }

    pub(super) fn image(&self, reference: &str) -> Option<&FakeImage> {
        let by_id = || self.images.values().find(|image| image.id == reference);
        self.images.get(&tagged(reference)).or_else(by_id)
    }

    fn tag_image(&mut self, image: &str, name: &str) -> Outcome<()> {
        let found = self.image(image).cloned().ok_or_else(|| Refusal(404, format!("No such image: {}", tagged(image))))?;
        self.images.insert(tagged(name), found);
        Ok(())
    }

    fn remove_image(&mut self, name: &str) -> Outcome<()> {
        let name = tagged(name);
        let Some(id) = self.images.get(&name).map(|image| image.id.clone()) else {
            return Err(Refusal(404, format!("No such image: {name}")));
        };
        let names = self.images.values().filter(|image| image.id == id).count();
        if let Some(user) = self.containers.values().find(|c| names == 1 && c.image == id) {
            let words = format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {} is using it",
                user.id
            );
            return Err(Refusal(409, words));
        }
        self.images.remove(&name);
        Ok(())
    }

    fn image_list(&self, wanted: &BTreeMap<String, Vec<String>>) -> Value {
        let labels = wanted.get("label").cloned().unwrap_or_default();
        let ids: BTreeSet<&String> = self.images.values().map(|image| &image.id).collect();
        let shown = ids.into_iter().filter_map(|id| {
            let names: Vec<&String> = self.images.iter().filter(|(_, image)| image.id == *id).map(|(name, _)| name).collect();
            let image = self.images.get(*names.first()?)?;
            labels.iter().all(|l| has_label(&image.labels, l)).then(|| image_json(image, &names))
        });
        shown.collect()
    }

    /// Whether the registry of a reference lets somebody in who asks with this header.
    fn lets_in(&self, reference: &str, headers: &HeaderMap) -> Result<(), String> {
        let host = reference.split('/').next().unwrap_or_default();
        let Some(wanted) = self.logins.get(host) else { return Ok(()) };
        let text = headers.get("X-Registry-Auth").map(|v| v.as_bytes()).unwrap_or_default();
        let bytes = URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)).unwrap_or_default();
        let given: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match (given["username"].as_str(), given["password"].as_str()) {
            (Some(user), Some(password)) if (user, password) == (&wanted.0, &wanted.1) => Ok(()),
            (None, _) => Err("no basic auth credentials".into()),
            _ => Err("unauthorized: authentication required".into()),
        }
    }
}

/// A reference with its tag written out.
pub(super) fn tagged(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

fn image_json(image: &FakeImage, names: &[&String]) -> Value {
    let names: Vec<_> = names.iter().filter(|name| ***name != image.id).collect();
    json!({ "Id": image.id, "ParentId": "", "RepoTags": names, "RepoDigests": [], "Created": 0, "Size": 0, "SharedSize": -1,
        "VirtualSize": 0, "Labels": image.labels, "Containers": -1 })
}

pub(super) fn router() -> Router {
    Router::new()
        .route("/images/create", post(pull))
        .route("/images/json", get(list))
        .route("/images/{*path}", get(image).post(act).delete(remove))
}

/// A pull: lines of progress, and the words of an error in the stream, with status 200.
async fn pull(Extension(fake): Fake, Query(params): Params, headers: HeaderMap) -> Response {
    let name = params.get("fromImage").cloned().unwrap_or_default();
    let tag = params.get("tag").cloned().unwrap_or_default();
    let joint = if tag.contains(':') { '@' } else { ':' };
    let reference = if tag.is_empty() { tagged(&name) } else { format!("{name}{joint}{tag}") };
    let mut world = fake.world();
    if let Err(words) = world.lets_in(&reference, &headers) {
        return Refusal(500, format!("Get \"http://{reference}\": {words}")).into_response();
    }
    if let Some(words) = world.broken.get(&reference) {
        let begun = json!({ "status": format!("Pulling from {name}"), "id": tag });
        return lines(&[begun, failed(words)]);
    }
    let Some(labels) = world.registry.get(&reference).cloned() else {
        return Refusal(404, format!("manifest for {reference} not found: {UNKNOWN}")).into_response();
    };
    world.learn_labelled(&reference, labels);
    lines(&[json!({ "status": format!("Pulling from {name}"), "id": tag }), json!({ "status": "Download complete" })])
}

/// A push, or another name.
async fn act(Extension(fake): Fake, Path(path): Path<String>, Query(params): Params, headers: HeaderMap) -> Response {
    if let Some(image) = path.strip_suffix("/tag") {
        let text = |key: &str| params.get(key).cloned().unwrap_or_default();
        let named = fake.world().tag_image(image, &format!("{}:{}", text("repo"), text("tag")));
        return named.map_or_else(IntoResponse::into_response, |()| StatusCode::CREATED.into_response());
    }
    let Some(name) = path.strip_suffix("/push") else { return Refusal(404, "page not found".into()).into_response() };
    let reference = format!("{name}:{}", params.get("tag").map_or("latest", String::as_str));
    let mut world = fake.world();
    let Some(image) = world.image(&reference).cloned() else {
        return lines(&[failed(&format!("An image does not exist locally with the tag: {name}"))]);
    };
    match world.lets_in(&reference, &headers) {
        Err(words) => lines(&[json!({ "status": format!("The push refers to repository [{name}]") }), failed(&words)]),
        Ok(()) => {
            world.registry.insert(reference, image.labels);
            lines(&[json!({ "status": "Pushed" })])
        }
    }
}

fn failed(words: &str) -> Value {
    json!({ "errorDetail": { "message": words }, "error": words })
}

fn lines(all: &[Value]) -> Response {
    all.iter().map(|line| format!("{line}\r\n")).collect::<String>().into_response()
}

async fn list(Extension(fake): Fake, Query(params): Params) -> Response {
    ok(&fake.world().image_list(&filters(params.get("filters").map(String::as_str))))
}

async fn image(Extension(fake): Fake, Path(path): Path<String>) -> Response {
    let world = fake.world();
    if let Some(name) = path.strip_suffix("/get") {
        return super::carry::save(&world, name);
    }
    let reference = path.strip_suffix("/json").unwrap_or(&path);
    let name = tagged(reference);
    let missing = || Refusal(404, format!("no such image: {name}: No such image: {name}")).into_response();
    let shown = |image: &FakeImage| {
        let layers = json!({ "Type": "layers", "Layers": [image.layer] });
        ok(&json!({ "Id": image.id, "RepoTags": [tagged(reference)], "RootFS": layers }))
    };
    world.image(reference).map_or_else(missing, shown)
}

async fn remove(Extension(fake): Fake, Path(name): Path<String>) -> Response {
    match fake.world().remove_image(&name) {
        Ok(()) => reply(StatusCode::OK, &json!([{ "Untagged": tagged(&name) }])),
        refused => done(refused),
    }
}
