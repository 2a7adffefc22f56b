//! Docker's HTTP API: networks, volumes and images.

use super::answers::{Refusal, done, ok, reply};
use super::control::FakeEngine;
use super::events::filters;
use super::networks::network_json;
use super::volumes::{tagged, volume_json};
use axum::Router;
use axum::extract::{Extension, Json, Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::HashMap;

type Params = Query<HashMap<String, String>>;
type Fake = Extension<FakeEngine>;

pub(super) fn router() -> Router {
    Router::new()
        .route("/networks", get(networks))
        .route("/networks/create", post(create_network))
        .route("/networks/{id}", get(network).delete(remove_network))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
        .route("/volumes", get(volumes))
        .route("/volumes/create", post(create_volume))
        .route("/volumes/{name}", get(volume).delete(remove_volume))
        .route("/images/create", post(pull))
        .route("/build", post(super::build::build))
        .route("/images/{*path}", get(image))
}

async fn networks(Extension(fake): Fake, Query(params): Params) -> Response {
    ok(&fake.world().network_list(&filters(params.get("filters").map(String::as_str))))
}

async fn create_network(Extension(fake): Fake, Json(body): Json<Value>) -> Response {
    match fake.world().create_network(&body) {
        Ok(id) => reply(StatusCode::CREATED, &json!({ "Id": id, "Warning": "" })),
        Err(refusal) => refusal.into_response(),
    }
}

async fn network(Extension(fake): Fake, Path(asked): Path<String>) -> Response {
    let world = fake.world();
    let missing = || Refusal(404, format!("network {asked} not found")).into_response();
    world.network_named(&asked).map_or_else(missing, |n| ok(&network_json(n)))
}

async fn remove_network(Extension(fake): Fake, Path(asked): Path<String>) -> Response {
    done(fake.world().remove_network(&asked))
}

async fn connect(Extension(fake): Fake, Path(network): Path<String>, Json(body): Json<Value>) -> Response {
    let container = body["Container"].as_str().unwrap_or_default();
    let joined = fake.world().connect(&network, container);
    joined.map_or_else(IntoResponse::into_response, |()| StatusCode::OK.into_response())
}

async fn disconnect(Extension(fake): Fake, Path(network): Path<String>, Json(body): Json<Value>) -> Response {
    let container = body["Container"].as_str().unwrap_or_default();
    let left = fake.world().disconnect(&network, container, body["Force"] == true);
    left.map_or_else(IntoResponse::into_response, |()| StatusCode::OK.into_response())
}

async fn volumes(Extension(fake): Fake, Query(params): Params) -> Response {
    ok(&fake.world().volume_list(&filters(params.get("filters").map(String::as_str))))
}

async fn create_volume(Extension(fake): Fake, Json(body): Json<Value>) -> Response {
    reply(StatusCode::CREATED, &fake.world().create_volume(&body))
}

async fn volume(Extension(fake): Fake, Path(name): Path<String>) -> Response {
    let world = fake.world();
    let missing = || Refusal(404, format!("get {name}: no such volume")).into_response();
    world.volumes.get(&name).map_or_else(missing, |v| ok(&volume_json(&name, v)))
}

async fn remove_volume(Extension(fake): Fake, Path(name): Path<String>) -> Response {
    done(fake.world().remove_volume(&name))
}

/// A pull: lines of progress, and the words of an error in the stream, with status 200.
async fn pull(Extension(fake): Fake, Query(params): Params) -> Response {
    let name = params.get("fromImage").cloned().unwrap_or_default();
    let tag = params.get("tag").cloned().unwrap_or_default();
    let joint = if tag.contains(':') { '@' } else { ':' };
    let reference = if tag.is_empty() { tagged(&name) } else { format!("{name}{joint}{tag}") };
    let mut world = fake.world();
    if let Some(words) = world.broken.get(&reference) {
        let begun = json!({ "status": format!("Pulling from {name}"), "id": tag });
        let failed = json!({ "errorDetail": { "message": words }, "error": words });
        return format!("{begun}\r\n{failed}\r\n").into_response();
    }
    if !world.registry.contains(&reference) {
        let words = format!("manifest for {reference} not found: manifest unknown: manifest unknown");
        return Refusal(404, words).into_response();
    }
    world.learn_image(&reference);
    let lines = [json!({ "status": format!("Pulling from {name}"), "id": tag }), json!({ "status": "Download complete" })];
    lines.map(|l| format!("{l}\r\n")).concat().into_response()
}

async fn image(Extension(fake): Fake, Path(path): Path<String>) -> Response {
    let reference = path.strip_suffix("/json").unwrap_or(&path);
    let world = fake.world();
    let name = tagged(reference);
    let missing = || Refusal(404, format!("no such image: {name}: No such image: {name}")).into_response();
    world.image(reference).map_or_else(missing, |id| ok(&json!({ "Id": id, "RepoTags": [tagged(reference)] })))
}
