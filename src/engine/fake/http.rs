//! Docker's HTTP API over the fake's world.

use super::answers::{Refusal, done, ok, reply};
use super::control::FakeEngine;
use super::events::{filters, moment};
use super::exec::{LogQuery, log_stream, run_exec, run_main};
use super::shell;
use super::world::Life;
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures::stream::{self, StreamExt};
use http::{StatusCode, header};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

type Params = Query<HashMap<String, String>>;
type Fake = Extension<FakeEngine>;

/// A request's body; all of it is ours and small.
async fn body(request: Request) -> Value {
    let bytes = axum::body::to_bytes(request.into_body(), 4 << 20).await.unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn is_true(params: &HashMap<String, String>, key: &str) -> bool {
    params.get(key).is_some_and(|v| v == "true" || v == "1")
}

/// All routes, without their version. A request carries its engine.
pub(super) fn router() -> Router {
    Router::new()
        .route("/_ping", any(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/events", get(events))
        .route("/containers/json", get(list))
        .route("/containers/create", post(create))
        .route("/containers/{id}/json", get(inspect))
        .route("/containers/{id}/start", post(start))
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/logs", get(logs))
        .route("/containers/{id}/stats", get(stats))
        .route("/containers/{id}/exec", post(create_exec))
        .route("/containers/{id}/update", post(update))
        .route("/containers/{id}/{action}", post(act))
        .route("/containers/{id}", axum::routing::delete(remove))
        .route("/exec/{id}/start", post(start_exec))
        .route("/exec/{id}/resize", post(resize_exec))
        .route("/exec/{id}/json", get(inspect_exec))
        .merge(super::http_objects::router())
        .merge(super::images::router())
        .merge(super::carry::router())
        .fallback(|| async { Refusal(404, "page not found".into()) })
}

async fn ping() -> Response {
    ([(header::HeaderName::from_static("api-version"), "1.41"), (header::SERVER, "Docker/20.10.24 (linux)")], "OK")
        .into_response()
}

async fn version() -> Response {
    ok(&json!({ "Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64" }))
}

async fn info(Extension(fake): Fake) -> Response {
    let world = fake.world();
    ok(&json!({
        "ID": format!("FAKE:{:016X}", world.seed),
        "Name": "fake",
        "Containers": world.containers.len(),
        "NCPU": world.cores,
        "MemTotal": world.memory,
        "ServerVersion": "20.10.24",
        "OSType": "linux",
    }))
}

async fn events(Extension(fake): Fake, Query(params): Params) -> Response {
    let wanted = filters(params.get("filters").map(String::as_str));
    let at = |key: &str| params.get(key).and_then(|text| moment(text));
    let (past, listener, now) = {
        let world = fake.world();
        let (past, listener) = world.events.listen(at("since"));
        (past, listener, world.time())
    };
    let until = at("until");
    let passed = |e: &&super::events::Event| e.passes(&wanted) && until.is_none_or(|until| e.at <= until);
    let begin: Vec<_> = past.iter().filter(passed).map(|e| Ok::<_, io::Error>(e.line())).collect();
    let over = async move {
        match until {
            Some(until) => tokio::time::sleep(until.duration_since(now).try_into().unwrap_or_default()).await,
            None => std::future::pending().await,
        }
    };
    let live = stream::unfold((listener, wanted), |(mut listener, wanted)| async move {
        loop {
            match listener.recv().await {
                Ok(event) if event.passes(&wanted) => return Some((Ok(event.line()), (listener, wanted))),
                // Docker drops what a slow listener did not take.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Body::from_stream(stream::iter(begin).chain(live.take_until(Box::pin(over)))).into_response()
}

async fn list(Extension(fake): Fake, Query(params): Params) -> Response {
    let wanted = filters(params.get("filters").map(String::as_str));
    ok(&fake.world().container_list(is_true(&params, "all"), &wanted))
}

async fn create(Extension(fake): Fake, Query(params): Params, request: Request) -> Response {
    let body = body(request).await;
    match fake.world().create(params.get("name").map(String::as_str), body) {
        Ok(id) => reply(StatusCode::CREATED, &json!({ "Id": id, "Warnings": [] })),
        Err(refusal) => refusal.into_response(),
    }
}

async fn inspect(Extension(fake): Fake, Path(asked): Path<String>) -> Response {
    let world = fake.world();
    let found = world.find(&asked).and_then(|id| world.containers.get(id));
    found.map_or_else(|| Refusal::no_container(&asked).into_response(), |c| ok(&c.inspected()))
}

async fn start(Extension(fake): Fake, Path(asked): Path<String>) -> Response {
    let started = fake.world().start(&asked);
    match started {
        Ok(None) => StatusCode::NOT_MODIFIED.into_response(),
        Err(refusal) => refusal.into_response(),
        Ok(Some((id, run))) => {
            let command = fake.world().containers.get(&id).map(super::world::FakeContainer::command);
            let steps = shell::program(&command.unwrap_or_default(), true).unwrap_or_default();
            run_main(fake, id, run, steps).await;
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

async fn stop(Extension(fake): Fake, Path(asked): Path<String>, Query(params): Params) -> Response {
    let grace = params.get("t").and_then(|t| t.parse().ok()).unwrap_or(10);
    let (id, run) = {
        let mut world = fake.world();
        let Some(id) = world.find(&asked).map(str::to_owned) else {
            return Refusal::no_container(&asked).into_response();
        };
        let container = &world.containers[&id];
        if !matches!(container.life, Life::Running | Life::Paused) {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let run = container.run;
        // It runs, so the signal arrives.
        let _ = world.kill(&id, "TERM");
        (id, run)
    };
    let same_run = |fake: &FakeEngine| {
        fake.world().containers.get(&id).is_some_and(|c| c.run == run && matches!(c.life, Life::Running | Life::Paused))
    };
    if same_run(&fake) {
        // dockerd goes on with a stop whose client has left; so the wait is not tied to this request.
        let (engine, id) = (fake.clone(), id.clone());
        let wait = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(grace)).await;
            let mut world = engine.world();
            if world.containers.get(&id).is_some_and(|c| c.run == run) {
                world.finish(&id, 137);
            }
        });
        let _ = wait.await;
    }
    fake.world().tell_of_container("stop", &id, &[]);
    StatusCode::NO_CONTENT.into_response()
}

async fn stats(Extension(fake): Fake, Path(asked): Path<String>) -> Response {
    let mut world = fake.world();
    let now = world.time();
    let container = match world.container(&asked) {
        Ok(container) => container,
        Err(refusal) => return refusal.into_response(),
    };
    let since = container.started.filter(|_| container.life == Life::Running).map(|at| now.duration_since(at));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length of time")]
    let used = (since.unwrap_or_default().as_secs_f64() * container.load * 1e9) as u64;
    ok(&json!({ "cpu_stats": { "cpu_usage": { "total_usage": used } } }))
}

async fn act(Extension(fake): Fake, Path((asked, action)): Path<(String, String)>, Query(params): Params) -> Response {
    let mut world = fake.world();
    done(match action.as_str() {
        "kill" => world.kill(&asked, params.get("signal").map_or("KILL", String::as_str)),
        "pause" => world.set_paused(&asked, true),
        "unpause" => world.set_paused(&asked, false),
        "rename" => world.rename(&asked, params.get("name").map_or("", String::as_str)),
        _ => Err(Refusal(404, "page not found".into())),
    })
}

async fn update(Extension(fake): Fake, Path(asked): Path<String>, request: Request) -> Response {
    let body = body(request).await;
    let updated = fake.world().update(&asked, &body);
    updated.map_or_else(IntoResponse::into_response, |()| ok(&json!({ "Warnings": null })))
}

async fn remove(Extension(fake): Fake, Path(asked): Path<String>, Query(params): Params) -> Response {
    done(fake.world().remove(&asked, is_true(&params, "force")))
}

async fn logs(Extension(fake): Fake, Path(asked): Path<String>, Query(params): Params) -> Response {
    let Some(id) = fake.world().find(&asked).map(str::to_owned) else {
        return Refusal::no_container(&asked).into_response();
    };
    let query = LogQuery {
        follow: is_true(&params, "follow"),
        tail: params.get("tail").and_then(|t| t.parse().ok()),
        since: params.get("since").and_then(|s| s.parse().ok()).unwrap_or(i64::MIN),
        timestamps: is_true(&params, "timestamps"),
    };
    Body::from_stream(log_stream(fake, id, query)).into_response()
}

async fn create_exec(Extension(fake): Fake, Path(asked): Path<String>, request: Request) -> Response {
    let body = body(request).await;
    match fake.world().create_exec(&asked, &body) {
        Ok(id) => reply(StatusCode::CREATED, &json!({ "Id": id })),
        Err(refusal) => refusal.into_response(),
    }
}

async fn start_exec(Extension(fake): Fake, Path(id): Path<String>, mut request: Request) -> Response {
    if let Err(refusal) = fake.world().exec_json(&id) {
        return refusal.into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // An error here is a client that left before the command began.
        if let Ok(connection) = upgrade.await {
            run_exec(fake, id, hyper_util::rt::TokioIo::new(connection)).await;
        }
    });
    let head = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
    (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

async fn resize_exec(Extension(fake): Fake, Path(id): Path<String>, Query(params): Params) -> Response {
    let number = |key: &str| params.get(key).and_then(|v| v.parse().ok()).unwrap_or_default();
    let mut world = fake.world();
    let Some(exec) = world.execs.get_mut(&id) else {
        return Refusal(404, format!("No such exec instance: {id}")).into_response();
    };
    exec.size = (number("w"), number("h"));
    StatusCode::OK.into_response()
}

async fn inspect_exec(Extension(fake): Fake, Path(id): Path<String>) -> Response {
    fake.world().exec_json(&id).map_or_else(IntoResponse::into_response, |exec| ok(&exec))
}
