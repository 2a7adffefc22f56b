//! Docker's HTTP API: networks and volumes.

use super::answers::{Refusal, done, ok, reply};
use super::control::FakeEngine;
use super::events::filters;
use super::networks::network_json;
use super::volumes::volume_json;
use axum::Router;
use axum::extract::{Extension, Json, Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::HashMap;

pub(super) type Params = Query<HashMap<String, String>>;
pub(super) type Fake = Extension<FakeEngine>;

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
        .route("/build", post(super::build::build))
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
