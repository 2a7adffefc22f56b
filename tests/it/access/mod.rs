//! Who may do what, asked of the real API as people with API keys.

mod arriving;
mod audit;
mod closed;
mod device;
mod held;
mod keys;
mod matrix;
mod meanwhile;
mod panel;
mod roles;
mod shares;
mod sign_in;
mod sockets;
mod terminals;
mod times;
mod waking;
mod watching;

use crate::support::api::{Api, GROUP, record};
use axum::body::{Body, to_bytes};
use axum::response::Response;
use devsanctum::access::{NewKey, Scope, issue};
use http::{Method, Request};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tower::ServiceExt;

/// Everybody there is, and what they are in the private project `team`, but for `other`, who owns `else` and `open`.
const PEOPLE: [&str; 10] = ["stranger", "reader", "deployer", "manager", "lead", "owner", "former", "disabled", "admin", "other"];

/// An installation with people, groups and projects in which everything that is to be decided is there.
pub struct Town {
    pub api: Api,
    /// API keys by the names of their holders.
    keys: BTreeMap<String, String>,
}

impl Town {
    pub async fn new() -> Self {
        let api = super::fresh_api().await;
        let mut town = Self { api, keys: BTreeMap::new() };
        town.settle().await;
        for name in PEOPLE {
            town.key(name, name, Scope::default(), None).await;
        }
        town
    }

    async fn settle(&self) {
        for name in PEOPLE {
            let role = if name == "admin" { "ADMIN" } else { "USER" };
            let spec = json!({"email": format!("{name}@example.com"), "role": role, "active": name != "disabled"});
            self.put("", "users", "User", name, spec).await;
        }
        for (group, members) in [
            ("readers", json!([{"user": "reader"}])),
            ("devs", json!([{"user": "deployer"}, {"user": "lead", "role": "MANAGER"}, {"user": "disabled"}])),
            ("leads", json!([{"user": "manager"}])),
            ("elsewhere", json!([{"user": "other", "role": "MANAGER"}])),
        ] {
            self.put("", "groups", "Group", group, json!({"members": members})).await;
        }
        self.put("", "templates", "Template", "base", json!({"base": "node:20"})).await;
        self.put("", "features", "Feature", "tools", json!({"packages": ["git"]})).await;
        let roles = json!([
            {"group": "readers", "role": "READ"}, {"group": "devs", "role": "DEPLOY"}, {"group": "leads", "role": "MANAGE"},
        ]);
        for (name, owner, visibility, groups) in [
            ("team", "owner", "PRIVATE", roles),
            ("else", "other", "PRIVATE", json!([{"group": "elsewhere", "role": "READ"}])),
            ("open", "other", "PUBLIC", json!([])),
        ] {
            let spec = json!({"owner": owner, "template": "base", "visibility": visibility, "groups": groups});
            self.put("", "projects", "Project", name, spec).await;
        }
        for (project, name, owner, visibility) in [
            ("team", "of-reader", "reader", "PRIVATE"),
            ("team", "of-deployer", "deployer", "PRIVATE"),
            ("team", "of-lead", "lead", "PRIVATE"),
            ("team", "of-manager", "manager", "PRIVATE"),
            ("team", "of-owner", "owner", "PRIVATE"),
            ("team", "of-former", "former", "PRIVATE"),
            ("team", "of-disabled", "disabled", "PRIVATE"),
            ("else", "of-other", "other", "PRIVATE"),
            ("open", "shown", "other", "PUBLIC"),
            ("open", "hidden", "other", "PRIVATE"),
        ] {
            self.put(project, "workspaces", "Workspace", name, json!({"owner": owner, "visibility": visibility})).await;
        }
        for (project, workspace) in [("team", "of-owner"), ("else", "of-other"), ("open", "shown")] {
            let spec = json!({"host": format!("{project}.example.com"), "workspace": workspace, "port": 3000});
            self.put(project, "routes", "Route", "web", spec).await;
            self.put(project, "secrets", "Secret", "git", json!({"data": {"token": "canary"}})).await;
        }
        for (server, groups) in [("for-all", json!([])), ("for-devs", json!(["devs"])), ("for-others", json!(["elsewhere"]))] {
            self.put("", "dockerservers", "DockerServer", server, json!({"host": server, "groups": groups})).await;
        }
        self.put("", "invitations", "Invitation", "guest", json!({"email": "guest@example.com"})).await;
        self.put("", "reposyncs", "RepoSync", "all", json!({"url": "https://git.example.com/all.git"})).await;
        self.put("", "settings", "Settings", "default", json!({})).await;
    }

    /// Makes a record, as the administrator.
    pub async fn put(&self, project: &str, plural: &str, kind: &str, name: &str, spec: Value) {
        let space = if project.is_empty() { String::new() } else { format!("namespaces/{project}/") };
        self.api.create(&format!("{GROUP}/{space}{plural}"), &record(kind, name, spec)).await;
    }

    /// Gives somebody a key, which is known by a name from then on.
    pub async fn key(&mut self, called: &str, user: &str, scope: Scope, lasts: Option<SignedDuration>) {
        let made = NewKey { user: user.into(), label: called.into(), scope, lasts };
        let (_, text) = issue(&self.api.store, made, Timestamp::now()).await.unwrap();
        self.keys.insert(called.into(), text);
    }

    /// What a key says.
    pub fn text(&self, called: &str) -> &str {
        &self.keys[called]
    }

    /// The whole answer to a request as somebody; `None` is nobody.
    pub async fn answer(&self, who: Option<&str>, method: &str, path: &str, media: &str, body: String) -> Response {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        if let Some(who) = who {
            request = request.header("authorization", format!("Bearer {}", self.keys[who]));
        }
        let request = request.header("content-type", media).body(Body::from(body)).unwrap();
        self.api.open.clone().oneshot(request).await.unwrap()
    }

    /// A request as somebody; `None` is nobody.
    pub async fn raw(&self, who: Option<&str>, method: &str, path: &str, media: &str, body: String) -> (u16, String) {
        let response = self.answer(who, method, path, media, body).await;
        let code = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (code, String::from_utf8_lossy(&bytes).into_owned())
    }

    pub async fn ask(&self, who: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (code, text) = self.raw(Some(who), method, &format!("{GROUP}/{path}"), media, body).await;
        (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, who: &str, path: &str) -> (u16, Value) {
        self.ask(who, "GET", path, &Value::Null).await
    }

    /// The names in a list.
    pub async fn names(&self, who: &str, path: &str) -> Vec<String> {
        let (code, list) = self.get(who, path).await;
        assert_eq!(code, 200, "{who} {path}: {list}");
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect()
    }
}
