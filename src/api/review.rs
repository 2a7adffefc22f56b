//! Questions about what somebody may do: `kubectl auth can-i`, `kubectl auth whoami`, `devsanctum auth why`.

use super::ApiState;
use super::door::refusal;
use super::protobuf;
use super::request::{content_type, decode, read_body};
use super::served::served;
use super::status::ApiError;
use super::view::json_response;
use crate::access::{Action, Decision, Identity, IdentityKind, decide};
use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

/// Where Kubernetes has these reviews.
const GROUP: &str = "authorization.k8s.io/v1";
/// What can be done to a kind as a whole, and to one of its records.
const VERBS: [(&str, bool); 8] = [
    ("get", true),
    ("list", false),
    ("watch", false),
    ("create", false),
    ("update", true),
    ("patch", true),
    ("delete", true),
    ("deletecollection", false),
];
/// A name no record has: with it, `decide` says what somebody may do to their own.
const ANY: &str = "*";

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
pub async fn access(
    State(state): State<ApiState>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, ApiError> {
    let review = body(request).await?;
    answer(&state, "SelfSubjectAccessReview", &identity, &review).await
}

/// May somebody else? Only administrators are told.
pub async fn access_of(
    State(state): State<ApiState>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, ApiError> {
    only_administrators(&state, &identity, "subjectaccessreviews").await?;
    let review = body(request).await?;
    let Some(user) = review["spec"]["user"].as_str().filter(|user| !user.is_empty()) else {
        return Err(ApiError::bad_request("spec.user: Required value: name the User that is asked about"));
    };
    answer(&state, "SubjectAccessReview", &Identity::person(user), &review).await
}

async fn only_administrators(state: &ApiState, who: &Identity, resource: &str) -> Result<(), ApiError> {
    let group = "authorization.k8s.io";
    let action = Action { verb: "create", group, resource, subresource: "", namespace: None, name: None };
    match state.directory().judge(who, &action, false).await? {
        (Decision::Allow(_), _) => Ok(()),
        (_, why) => Err(ApiError::forbidden_request(refusal(who, &action, &why))),
    }
}

async fn answer(state: &ApiState, kind: &str, who: &Identity, review: &Value) -> Result<Response, ApiError> {
    let Some(spec) = review["spec"].as_object() else {
        return Err(ApiError::bad_request("spec: must be an object such as {\"resourceAttributes\": {\"verb\": \"get\"}}"));
    };
    let asked = spec.get("resourceAttributes").unwrap_or(&Value::Null);
    let text = |field: &str| asked[field].as_str().unwrap_or("");
    let some = |field: &str| Some(text(field)).filter(|t| !t.is_empty());
    let (verb, group, resource, subresource) = (text("verb"), text("group"), text("resource"), text("subresource"));
    let action = Action { verb, group, resource, subresource, namespace: some("namespace"), name: some("name") };
    let (decision, reason) = state.directory().judge(who, &action, true).await?;
    Ok(created(&json!({
        "kind": kind, "apiVersion": GROUP, "metadata": {}, "spec": spec,
        "status": {"allowed": decision.is_allowed(), "reason": reason},
    })))
}

/// What may I do?
pub async fn rules(
    State(state): State<ApiState>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, ApiError> {
    let review = body(request).await?;
    let namespace = review["spec"]["namespace"].as_str().filter(|n| !n.is_empty());
    let rules = state.directory().ask(|records| {
        if decide(&identity, &everything(), records).is_allowed() {
            return vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})];
        }
        let of_kind = |s: &&super::served::Served| {
            let may = |(verb, named): &(&'static str, bool)| {
                let namespace = namespace.filter(|_| s.def.namespaced);
                let (group, resource, name) = (s.def.group, s.def.plural.as_str(), named.then_some(ANY));
                let action = Action { verb, group, resource, subresource: "", namespace, name };
                decide(&identity, &action, records).is_allowed().then_some(*verb)
            };
            let verbs: Vec<_> = VERBS.iter().filter_map(may).collect();
            (!verbs.is_empty()).then(|| json!({"verbs": verbs, "apiGroups": [s.def.group], "resources": [s.def.plural]}))
        };
        served().iter().filter_map(|s| of_kind(&s)).collect()
    });
    let rules = rules.await?;
    let paths = if identity.kind == IdentityKind::User { json!([]) } else { json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]) };
    Ok(created(&json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": GROUP, "metadata": {}, "spec": review["spec"],
        "status": {"resourceRules": rules, "nonResourceRules": paths, "incomplete": false},
    })))
}

fn everything() -> Action<'static> {
    Action { verb: "*", group: "*", resource: "*", subresource: "", namespace: None, name: None }
}

/// Who am I?
pub async fn whoami(State(state): State<ApiState>, Extension(identity): Extension<Identity>) -> Result<Response, ApiError> {
    let mut groups = identity.groups.clone();
    if identity.kind == IdentityKind::User {
        let of_records =
            |records: &crate::access::Records| records.groups_of(&identity.name).map(str::to_owned).collect::<Vec<_>>();
        groups.extend(state.directory().ask(of_records).await?);
    }
    Ok(created(&json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
        "status": {"userInfo": {"username": identity.name, "groups": groups}},
    })))
}
