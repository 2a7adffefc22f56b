//! Discovery: which groups, versions and kinds there are.

use super::served::{Served, served};
use super::status::ApiError;
use super::view::json_response;
use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

const READ_WRITE: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Groups that only answer questions: kind, plural.
const REVIEWS: [(&str, &[(&str, &str)]); 2] = [
    (
        "authorization.k8s.io",
        &[("SelfSubjectAccessReview", "selfsubjectaccessreviews"), ("SelfSubjectRulesReview", "selfsubjectrulesreviews")],
    ),
    ("authentication.k8s.io", &[("SelfSubjectReview", "selfsubjectreviews")]),
];

fn ok(body: &Value) -> Response {
    json_response(StatusCode::OK, body.to_string(), &[])
}

/// `/version`: the Kubernetes version whose API this follows, and our own.
pub async fn version() -> Response {
    let own = env!("CARGO_PKG_VERSION");
    ok(&json!({
        "major": "1", "minor": "33", "gitVersion": format!("v1.33.0+devsanctum-{own}"), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    }))
}

/// `/api`.
pub async fn core_versions() -> Response {
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]);
    ok(&json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}))
}

/// `/apis`.
pub async fn groups() -> Response {
    let groups: Vec<Value> = group_names().into_iter().map(describe).collect();
    ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/GROUP`.
pub async fn group(Path(name): Path<String>) -> Result<Response, ApiError> {
    let known = group_names().into_iter().find(|g| *g == name).ok_or_else(ApiError::unknown_path)?;
    let mut group = describe(known);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Ok(ok(&group))
}

/// `/api/v1`.
pub async fn core_resources(Path(version): Path<String>) -> Result<Response, ApiError> {
    list("", &version)
}

/// `/apis/GROUP/VERSION`.
pub async fn resources(Path((group, version)): Path<(String, String)>) -> Result<Response, ApiError> {
    list(&group, &version)
}

fn group_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in served().iter().map(|s| s.def.group).chain(REVIEWS.iter().map(|(g, _)| *g)) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn describe(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

fn list(group: &str, version: &str) -> Result<Response, ApiError> {
    let mut resources: Vec<Value> = Vec::new();
    for kind in served().iter().filter(|s| s.def.group == group && s.def.version == version) {
        resources.push(resource(kind));
        resources.extend(subresources(kind));
    }
    for (_, kinds) in REVIEWS.iter().filter(|(g, _)| *g == group && version == "v1") {
        let review = |(kind, plural): &(&str, &str)| json!({"name": plural, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind, "verbs": ["create"]});
        resources.extend(kinds.iter().map(review));
    }
    if resources.is_empty() {
        return Err(ApiError::unknown_path());
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(ok(&json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources})))
}

fn resource(kind: &Served) -> Value {
    let def = kind.def;
    let mut resource = json!({
        "name": def.plural, "singularName": def.singular, "namespaced": def.namespaced, "kind": def.kind, "verbs": READ_WRITE,
    });
    if !def.short_names.is_empty() {
        resource["shortNames"] = json!(def.short_names);
    }
    if !def.categories.is_empty() {
        resource["categories"] = json!(def.categories);
    }
    resource
}

fn subresources(kind: &Served) -> Vec<Value> {
    let def = kind.def;
    let part = |name: &str, verbs: &[&str]| {
        json!({
            "name": format!("{}/{name}", def.plural), "singularName": "", "namespaced": def.namespaced, "kind": def.kind, "verbs": verbs,
        })
    };
    let mut parts = Vec::new();
    if def.has_status {
        parts.push(part("status", &["get", "patch", "update"]));
    }
    if def.kind == "Workspace" {
        parts.push(part("exec", &["create", "get"]));
        parts.push(part("log", &["get"]));
        parts.push(part("portforward", &["create", "get"]));
        parts.push(part("terminal", &["create", "get"]));
    }
    parts
}
