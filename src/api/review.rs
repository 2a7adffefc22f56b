//! Questions a caller may ask about itself: `kubectl auth can-i`, `kubectl auth whoami`.

use super::protobuf;
use super::request::{content_type, decode, read_body};
use super::status::ApiError;
use super::view::json_response;
use crate::access::{Action, Identity, authorize};
use axum::Extension;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

async fn body(request: Request) -> Result<Value, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read_body(body).await?;
    match content_type(&parts.headers) {
        "application/vnd.kubernetes.protobuf" => protobuf::access_review(&body),
        media => decode(media, &body),
    }
}

fn created(body: &Value) -> Response {
    json_response(StatusCode::CREATED, body.to_string(), &[])
}

/// May I do this?
pub async fn access(Extension(identity): Extension<Identity>, request: Request) -> Result<Response, ApiError> {
    let mut review = body(request).await?;
    let Some(spec) = review.get_mut("spec").and_then(Value::as_object_mut) else {
        return Err(ApiError::bad_request("spec: must be an object such as {\"resourceAttributes\": {\"verb\": \"get\"}}"));
    };
    let asked = spec.remove("resourceAttributes").unwrap_or_default();
    let text = |field: &str| asked[field].as_str().unwrap_or("");
    let some = |field: &str| Some(text(field)).filter(|t| !t.is_empty());
    let action = Action {
        verb: text("verb"),
        group: text("group"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: some("namespace"),
        name: some("name"),
    };
    let answer = authorize(&identity, &action);
    let reason = answer.as_ref().err().map_or(String::new(), ToString::to_string);
    let status = json!({"allowed": answer.is_ok(), "reason": reason});
    Ok(created(&json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
        "spec": {"resourceAttributes": asked}, "status": status,
    })))
}

/// What may I do?
pub async fn rules(Extension(identity): Extension<Identity>, request: Request) -> Result<Response, ApiError> {
    let review = body(request).await?;
    let any = Action { verb: "*", group: "*", resource: "*", subresource: "", namespace: None, name: None };
    let all = authorize(&identity, &any).is_ok();
    let rules = if all { json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]) } else { json!([]) };
    let paths = if all { json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]) } else { json!([]) };
    Ok(created(&json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": review["spec"],
        "status": {"resourceRules": rules, "nonResourceRules": paths, "incomplete": false},
    })))
}

/// Who am I?
pub async fn whoami(Extension(identity): Extension<Identity>) -> Response {
    created(&json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
        "status": {"userInfo": {"username": identity.name, "groups": identity.groups}},
    }))
}
