//! The routes, and who may use them.

use super::audited::{SshKey, Visit};
use super::headers::closed;
use super::status::ApiError;
use super::view::json_response;
use super::{
    ApiState, atomic, audit_log, audited, discovery, handlers, keys, mail, openapi, review, secret_keys, sessions, shares,
};
use crate::access::{Identity, IdentityKind, Records};
use axum::Extension;
use axum::Router;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::{HeaderMap, StatusCode, header};
use std::net::{IpAddr, SocketAddr};

/// The whole API. A request carries its caller's [`Identity`] as an extension (inside the process) or a bearer
/// token; anonymous callers see health and version only.
pub fn router(state: ApiState) -> Router {
    let open = Router::new()
        .route("/healthz", get(live))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/version", get(discovery::version));
    let guarded = Router::new()
        .route("/api", get(discovery::core_versions))
        .route("/apis", get(discovery::groups))
        .route("/apis/{group}", get(discovery::group))
        .route("/api/{version}", get(discovery::core_resources))
        .route("/apis/{group}/{version}", get(discovery::resources))
        .route("/openapi/v2", get(openapi_v2))
        .route("/openapi/v3", get(|| async { json(openapi::v3_index()) }))
        .route("/openapi/v3/{*path}", get(openapi_v3))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(review::access))
        .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(review::access_of))
        .route("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", post(review::rules))
        .route("/apis/authentication.k8s.io/v1/selfsubjectreviews", post(review::whoami))
        .route("/api/{version}/{*rest}", any(handlers::resource))
        .route("/apis/{group}/{version}/{*rest}", any(handlers::resource))
        .route("/devsanctum/apply", post(atomic::apply))
        .route("/devsanctum/keys", get(keys::list).post(keys::create))
        .route("/devsanctum/links", post(keys::link))
        .route("/devsanctum/mail", post(mail::test))
        .route("/devsanctum/secrets", get(secret_keys::show))
        .route("/devsanctum/secrets/rotate", post(secret_keys::rotate))
        .route("/devsanctum/keys/{id}", axum::routing::delete(keys::end))
        .route("/devsanctum/users/{name}/sessions", axum::routing::delete(sessions::end))
        .route("/devsanctum/audit", get(audit_log::list))
        .route("/devsanctum/audit/verify", get(audit_log::verify))
        .route("/devsanctum/audit/prune", post(audit_log::prune))
        .route("/devsanctum/shares", get(shares::list).post(shares::create))
        .route("/devsanctum/shares/{id}", axum::routing::delete(shares::end))
        .fallback(|| async { ApiError::unknown_path() })
        .layer(from_fn(without_nul))
        .layer(from_fn_with_state(state.clone(), identify));
    open.merge(guarded).layer(map_response(closed)).with_state(state)
}

/// Puts further routes behind the same door: who is calling must be known.
pub fn guarded<S: Clone + Send + Sync + 'static>(state: &ApiState, router: Router<S>) -> Router<S> {
    router.layer(from_fn(without_nul)).layer(from_fn_with_state(state.clone(), identify)).layer(map_response(closed))
}

/// A client inside the process, speaking as `identity`. To be called inside a tokio runtime.
pub fn client(router: Router, identity: Identity) -> kube::Client {
    kube::Client::new(router.layer(Extension(identity)), "default")
}

/// As [`client`], for somebody at this address, as the audit log is to have it.
pub fn client_at(router: Router, identity: Identity, address: Option<IpAddr>) -> kube::Client {
    match address {
        Some(address) => client(router.layer(Extension(ConnectInfo(SocketAddr::new(address, 0)))), identity),
        None => client(router, identity),
    }
}

/// A client inside the process for somebody who came in by this SSH key: the audit log has it.
pub fn client_by_ssh(router: Router, identity: Identity, key: SshKey, address: Option<IpAddr>) -> kube::Client {
    client_at(router.layer(Extension(key)), identity, address)
}

/// A client inside the process by which this program does something because somebody visits: the audit log has who that is.
pub fn client_of_visit(router: Router, visit: Visit, address: IpAddr) -> kube::Client {
    client_at(router.layer(Extension(visit)), Identity::system("devsanctum"), Some(address))
}

/// Finds out who is calling. An identity that came as an extension was put there by this program itself.
async fn identify(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Identity>().is_none() {
        let header = request.headers().get(header::AUTHORIZATION).map(|v| v.as_bytes().to_vec());
        let asked = audited::Asked::of(&request);
        let identity = match state.authenticator().authenticate(header.as_deref(), state.clock().now()).await {
            Ok(identity) => identity,
            Err(error) => return audited::refused(&state, asked, None, error.into()).await,
        };
        if let Err(wait) = state.authenticator().may_ask(&identity) {
            return audited::refused(&state, asked, Some(&identity), ApiError::too_many_requests(wait)).await;
        }
        if let Err(error) = must_be_active(&state, &identity).await {
            return audited::refused(&state, asked, Some(&identity), error).await;
        }
        request.extensions_mut().insert(identity);
    }
    audited::run(&state, request, next).await
}

/// No name, id or selector holds a NUL, and PostgreSQL cannot even be asked about one.
async fn without_nul(request: Request, next: Next) -> Response {
    const NUL: &str = "%00";
    if request.uri().path().contains(NUL) {
        return ApiError::unknown_path().into_response();
    }
    if request.uri().query().is_some_and(|query| query.contains(NUL)) {
        return ApiError::bad_request("the address holds %00, a NUL character, which nothing here has: leave it out")
            .into_response();
    }
    next.run(request).await
}

/// Who was shut out is so at every door, whatever proof they still have.
async fn must_be_active(state: &ApiState, who: &Identity) -> Result<(), ApiError> {
    let active = |records: &Records| records.person(&who.name).is_some_and(|person| person.active);
    if who.kind == IdentityKind::User && !state.directory().ask(active).await? {
        return Err(ApiError::unauthorized(format!("Unauthorized: user {:?} is not active", who.name)));
    }
    Ok(())
}

async fn live(State(state): State<ApiState>) -> Response {
    health(state.health().live())
}

async fn ready(State(state): State<ApiState>) -> Response {
    health(state.health().ready())
}

fn health(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => "ok".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

fn json(body: &'static [u8]) -> Response {
    json_response(StatusCode::OK, body, &[])
}

async fn openapi_v2(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if accept.contains("protobuf") {
        return ([(header::CONTENT_TYPE, openapi::V2_PROTOBUF)], openapi::v2_protobuf()).into_response();
    }
    json(openapi::v2_json())
}

async fn openapi_v3(Path(path): Path<String>) -> Response {
    match openapi::v3_document(&path) {
        Some(document) => json(document),
        None => ApiError::unknown_path().into_response(),
    }
}
