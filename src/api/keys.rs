//! `/devsanctum/keys`: API keys, which are no records. What one is proved by is told once, when it is made.

use super::ApiState;
use super::audited::Noted;
use super::door::{self, refusal};
use super::request::{Params, decode_json};
use super::status::ApiError;
use super::view::json_response;
use crate::access::{API_KEYS, Action, Decision, Identity, IdentityKind, KeyError, LINK, NewKey, Refused, Scope, issue};
use crate::audit::{Entry, changes};
use crate::resource::GROUP;
use crate::store::ApiKey;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    name: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    expires_in_seconds: Option<i64>,
}

/// A key that was made for less than everything could give itself more.
fn may_give(who: &Identity, words: &str) -> Result<(), ApiError> {
    if who.scope.is_all() { Ok(()) } else { Err(ApiError::forbidden_request(words)) }
}

/// Whose keys may be made, seen or ended by whom is decided where everything is.
async fn may(state: &ApiState, who: &Identity, verb: &str, user: Option<&str>) -> Result<(), ApiError> {
    may_give(who, "API keys are not managed with a key that has a scope")?;
    let action = Action { verb, group: GROUP, resource: API_KEYS, subresource: "", namespace: None, name: user };
    match state.directory().judge(who, &action, false).await? {
        (Decision::Allow(_), _) => Ok(()),
        (_, why) => Err(ApiError::forbidden_request(refusal(who, &action, &why))),
    }
}

/// People ask about themselves, where they do not say about whom.
fn themself(who: &Identity) -> Option<String> {
    (who.kind == IdentityKind::User).then(|| who.name.clone())
}

/// Makes a key.
pub async fn create(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    body: Body,
) -> Result<Response, ApiError> {
    note(noted.as_deref(), "APIKey", |_| {});
    let wanted = decode_json(&door::read(&state, &who, body).await?)?;
    let wanted: Wanted = serde_json::from_value(wanted).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    let user = wanted.user.or_else(|| themself(&who));
    let user = user.ok_or_else(|| ApiError::bad_request("user: Required value: name the User the key is for"))?;
    may(&state, &who, "create", Some(&user)).await?;
    let lasts = wanted.expires_in_seconds.map(SignedDuration::from_secs);
    let new = NewKey { user, label: wanted.name, scope: wanted.scope, lasts };
    let (key, text) = issue(state.store(), new, state.clock().now()).await.map_err(|error| match error {
        KeyError::Wrong(why) => ApiError::bad_request(why),
        KeyError::NoRoom(_) => ApiError::unprocessable(error.to_string()),
        KeyError::Store(error) => error.into(),
    })?;
    let mut told = shown(&key);
    note(noted.as_deref(), "APIKey", |entry| {
        entry.name.clone_from(&key.id);
        entry.changes = changes(None, Some(&told));
    });
    told["key"] = json!(text);
    Ok(json_response(StatusCode::CREATED, told.to_string(), &[]))
}

/// Lists keys: one's own, a user's, or all.
pub async fn list(State(state): State<ApiState>, Extension(who): Extension<Identity>, uri: Uri) -> Result<Response, ApiError> {
    let user = Params::parse(&uri)?.get("user").map(str::to_owned).or_else(|| themself(&who));
    may(&state, &who, "list", user.as_deref()).await?;
    let keys: Vec<Value> = state.store().api_keys(user.as_deref()).await?.iter().map(shown).collect();
    Ok(json_response(StatusCode::OK, json!({"keys": keys}).to_string(), &[]))
}

/// Ends a key.
pub async fn end(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    note(noted.as_deref(), "APIKey", |entry| entry.name.clone_from(&id));
    // Another's key and none are the same to who may not see it.
    let missing = || ApiError::not_found_request(format!("there is no API key {id:?} of yours"));
    let key = state.store().api_key(&id).await?.ok_or_else(missing)?;
    may(&state, &who, "delete", Some(&key.user)).await.map_err(|e| if who.scope.is_all() { missing() } else { e })?;
    state.store().remove_api_key(&id).await?;
    note(noted.as_deref(), "APIKey", |entry| entry.changes = changes(Some(&shown(&key)), None));
    Ok(json_response(StatusCode::OK, shown(&key).to_string(), &[]))
}

/// Says in the request's row what it is about.
pub(super) fn note(noted: Option<&Noted>, kind: &str, say: impl FnOnce(&mut Entry)) {
    noted.inspect(|noted| {
        noted.about(|entry| {
            entry.kind = kind.into();
            say(entry);
        });
    });
}

fn shown(key: &ApiKey) -> Value {
    let time = |ms: Option<i64>| {
        ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    };
    json!({
        "id": key.id, "user": key.user, "name": key.label,
        "scope": serde_json::from_str::<Value>(&key.scope).unwrap_or_default(),
        "createdAt": time(Some(key.created_at)), "expiresAt": time(key.expires_at), "lastUsedAt": time(key.used_at),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForWhom {
    user: String,
}

/// Makes a link by which somebody sets their password: what an administrator gives to who is new, or has forgotten it.
pub async fn link(
    State(state): State<ApiState>,
    Extension(who): Extension<Identity>,
    noted: Option<Extension<Noted>>,
    body: Body,
) -> Result<Response, ApiError> {
    note(noted.as_deref(), "PasswordLink", |_| {});
    let asked = decode_json(&door::read(&state, &who, body).await?)?;
    let asked: ForWhom = serde_json::from_value(asked).map_err(|e| ApiError::bad_request(format!("the body: {e}")))?;
    note(noted.as_deref(), "PasswordLink", |entry| entry.name.clone_from(&asked.user));
    let name = Some(asked.user.as_str());
    may_give(&who, "passwords are not set with a key that has a scope")?;
    let action = Action { verb: "create", group: GROUP, resource: "passwordlinks", subresource: "", namespace: None, name };
    match state.directory().judge(&who, &action, false).await? {
        (Decision::Allow(_), _) => {}
        (_, why) => return Err(ApiError::forbidden_request(refusal(&who, &action, &why))),
    }
    let now = state.clock().now();
    match state.sign_in().link(&asked.user, LINK, now).await {
        Ok(token) => {
            let expires = (now + LINK).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let told = json!({"user": asked.user, "path": format!("/password/{}", token.reveal()), "expiresAt": expires});
            Ok(json_response(StatusCode::CREATED, told.to_string(), &[]))
        }
        Err(Refused::Store(error)) => Err(error.into()),
        Err(_) => Err(ApiError::unprocessable(format!("there is no user {:?}", asked.user))),
    }
}
