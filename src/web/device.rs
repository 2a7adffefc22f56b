//! Where terminals ask to be let in (RFC 8628), and where whoever is signed in at the panel answers them.

use super::panel::{Panel, by, refused, to_login};
use super::{forms, pages, signing};
use crate::access::{DEVICE, INTERVAL, KeyError, NewKey, Polled, Refused, Scope, issue};
use crate::api::{Noted, finished};
use crate::audit::changes;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form, Json};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Where a terminal asks whether it may come in.
pub const TOKEN: &str = "/device/token";
/// How long a key lasts that a terminal is given.
const KEY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How a program reaches the API.
#[derive(Clone, Debug, Serialize)]
pub struct ApiAddress {
    /// Its origin.
    pub server: String,
    /// The certificates that it is known by, in PEM.
    pub certificate_authority: String,
    /// The name in its certificate, where that has not the host of `server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
}

/// Reads a form, or JSON. Fields that others of this protocol send (`grant_type`, `scope`) are let be.
async fn read<T: DeserializeOwned>(request: Request) -> Option<T> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        return Json::<T>::from_request(request, &()).await.ok().map(|json| json.0);
    }
    Form::<T>::from_request(request, &()).await.ok().map(|form| form.0)
}

fn error(status: StatusCode, code: &str, words: &str) -> Response {
    (status, Json(json!({"error": code, "error_description": words}))).into_response()
}

fn not_now(cause: &dyn std::fmt::Display) -> Response {
    tracing::error!(%cause, "a terminal cannot be signed in");
    error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "that cannot be done now: try again")
}

#[derive(Deserialize)]
struct Client {
    #[serde(alias = "client_id")]
    client: String,
}

/// A terminal asks to be let in.
pub async fn begin(State(panel): State<Panel>, Extension(noted): Extension<Noted>, request: Request) -> Response {
    let by = by(request.headers());
    let Some(Client { client }) = read(request).await else {
        return error(StatusCode::BAD_REQUEST, "invalid_request", "the body must have \"client\": what asks, and where it is");
    };
    let web = &panel.web;
    match web.sign_in.begin_device(&client, &by, web.clock.now()).await {
        Ok(codes) => {
            let page = format!("{}/device", web.panel.origin());
            let complete = format!("{page}?{}", pages::query(&[("code", &codes.user)]));
            let (lasts, interval) = (DEVICE.as_secs(), INTERVAL.as_secs());
            let told = json!({
                "device_code": codes.device.reveal(), "user_code": codes.user, "verification_uri": page,
                "verification_uri_complete": complete, "expires_in": lasts, "interval": interval,
            });
            Json(told).into_response()
        }
        Err(Refused::Store(cause)) => not_now(&cause),
        Err(why) => {
            let (status, _) = refused(&why);
            signing::refused(&noted, status, &why.to_string(), None);
            error(status, "slow_down", &why.to_string())
        }
    }
}

#[derive(Deserialize)]
pub struct Shown {
    #[serde(default)]
    code: String,
}

/// Where a code is answered.
fn page_of(code: &str) -> String {
    format!("/device?{}", pages::query(&[("code", code)]))
}

/// Where somebody sees who asks, and answers.
pub async fn page(State(panel): State<Panel>, Query(shown): Query<Shown>, headers: HeaderMap) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login(&page_of(&shown.code)) };
    if shown.code.is_empty() {
        return forms::device_code(StatusCode::OK, None);
    }
    let web = &panel.web;
    match web.sign_in.asking(&shown.code, &by(&headers), web.clock.now()).await {
        Ok(asking) => forms::device(&session.user, &asking, &shown.code),
        Err(why) => no_code(&why),
    }
}

fn no_code(why: &Refused) -> Response {
    match why {
        Refused::Link => forms::device_code(StatusCode::NOT_FOUND, Some("There is no such code, or it does not work any more.")),
        other => {
            let (status, words) = refused(other);
            pages::trouble(status, &words)
        }
    }
}

#[derive(Deserialize)]
pub struct Answer {
    code: String,
    answer: String,
}

/// Somebody allows a terminal to be them, or refuses it. What they allow lasts longer than their session: it takes a new proof.
pub async fn answer(
    State(panel): State<Panel>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<Answer>,
) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/device") };
    let (web, allow) = (&panel.web, form.answer == "allow");
    noted.about(|entry| entry.verb = if allow { "allow" } else { "refuse" }.into());
    if allow && let Err(answer) = panel.proved_for(&page_of(&form.code), &noted, &session).await {
        return answer;
    }
    match web.sign_in.answer_device(&form.code, &session.user, allow, &by(&headers), web.clock.now()).await {
        Ok(asking) => {
            noted.about(|entry| entry.reason = format!("{} at {}", asking.client, asking.address));
            forms::device_answered(allow, &asking)
        }
        Err(why) => {
            let answer = no_code(&why);
            signing::refused(&noted, answer.status(), &why.to_string(), None);
            answer
        }
    }
}

#[derive(Deserialize)]
struct Asks {
    device_code: String,
}

/// A terminal asks whether it may, and is given a key once it may. Only then has it a row: it asks every two seconds.
pub async fn token(State(panel): State<Panel>, request: Request) -> Response {
    let by = by(request.headers());
    let Some(Asks { device_code }) = read(request).await else {
        return error(StatusCode::BAD_REQUEST, "invalid_request", "the body must have \"device_code\"");
    };
    let polled = match panel.web.sign_in.poll_device(&device_code, panel.web.clock.now()).await {
        Ok(polled) => polled,
        Err(cause) => return not_now(&cause),
    };
    let wait = |code, words| error(StatusCode::BAD_REQUEST, code, words);
    let (user, client) = match polled {
        Polled::Pending => return wait("authorization_pending", "nobody has answered yet"),
        Polled::SlowDown => return wait("slow_down", "asked too often: wait five seconds more between two questions"),
        Polled::Expired => return wait("expired_token", "the code does not work any more: begin anew"),
        Polled::Denied => return wait("access_denied", "it was refused"),
        Polled::Allowed { user, client } => (user, client),
    };
    let entry = match signing::device_key(&panel.audit, &user, &by).await {
        Ok(entry) => entry,
        Err(cause) => return not_now(&cause),
    };
    let noted = Noted::new(entry);
    finished(panel.audit.clone(), noted.clone(), Request::default(), async move |_| give(panel, noted, user, client).await).await
}

async fn give(panel: Panel, noted: Noted, user: String, client: String) -> Response {
    let now = panel.web.clock.now();
    let wanted = NewKey { user: user.clone(), label: client, scope: Scope::default(), lasts: Some(KEY) };
    match issue(&panel.web.store, wanted, now).await {
        Ok((key, text)) => {
            let expires_at = at(now + KEY);
            let shown = json!({"id": key.id, "user": user, "name": key.label, "expiresAt": expires_at});
            noted.about(|entry| {
                entry.name.clone_from(&key.id);
                entry.changes = changes(None, Some(&shown));
            });
            let mut told = json!(panel.reached);
            (told["access_token"], told["token_type"]) = (json!(text), json!("Bearer"));
            (told["user"], told["expires_at"]) = (json!(user), json!(expires_at));
            Json(told).into_response()
        }
        Err(KeyError::Store(cause)) => not_now(&cause),
        Err(why) => {
            signing::refused(&noted, StatusCode::BAD_REQUEST, &why.to_string(), None);
            error(StatusCode::BAD_REQUEST, "access_denied", &why.to_string())
        }
    }
}

fn at(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
