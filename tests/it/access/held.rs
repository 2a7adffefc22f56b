//! A request whose body takes its time is judged when it is done, not when it began: by what its sender may then.

use super::Town;
use crate::support::api::{GROUP, record};
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use devsanctum::access::Scope;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::future::join_all;
use http::{Method, Request};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// A request that has been let in, and whose body is still to come.
struct Held {
    body: UnboundedSender<Result<Bytes, Infallible>>,
    answer: JoinHandle<(u16, String)>,
}

impl Held {
    /// `path` is of a record, or from the root.
    async fn begin(town: &Town, who: &str, method: &str, path: &str) -> Self {
        let (body, chunks) = unbounded();
        // Whoever reads this has been let in.
        let (began, begun) = tokio::sync::oneshot::channel();
        let first = futures::stream::once(async move {
            let _ = began.send(());
            Ok::<_, Infallible>(Bytes::new())
        });
        let body_of = Body::from_stream(futures::StreamExt::chain(first, chunks));
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let uri = if path.starts_with('/') { path.to_owned() } else { format!("{GROUP}/{path}") };
        let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(uri);
        let request = request.header("authorization", format!("Bearer {}", town.text(who))).header("content-type", media);
        let asked = town.api.open.clone().oneshot(request.body(body_of).unwrap());
        let answer = tokio::spawn(async move {
            let answer = asked.await.unwrap();
            let code = answer.status().as_u16();
            (code, String::from_utf8_lossy(&to_bytes(answer.into_body(), usize::MAX).await.unwrap()).into_owned())
        });
        begun.await.unwrap();
        Self { body, answer }
    }

    async fn end(self, body: Value) -> (u16, String) {
        if !body.is_null() {
            self.body.unbounded_send(Ok(body.to_string().into())).unwrap();
        }
        drop(self.body);
        self.answer.await.unwrap()
    }
}

#[tokio::test]
async fn what_was_begun_with_a_right_is_not_done_without_it() {
    let town = Town::new().await;
    let change = async |path: &str, spec: Value| {
        let (code, said) = town.api.merge(&format!("{GROUP}/{path}"), &json!({"spec": spec})).await;
        assert_eq!(code, 200, "{said}");
    };
    // Each is let in, loses what let it in, and goes on.
    let invite = Held::begin(&town, "admin", "POST", "invitations").await;
    let group = Held::begin(&town, "manager", "PATCH", "projects/team").await;
    let secret = Held::begin(&town, "manager", "PUT", "namespaces/team/secrets/git").await;
    let gone = Held::begin(&town, "manager", "DELETE", "namespaces/team/workspaces/of-owner").await;
    let all = Held::begin(&town, "manager", "DELETE", "namespaces/team/secrets").await;
    let made = Held::begin(&town, "deployer", "POST", "namespaces/team/workspaces").await;
    change("users/admin", json!({"role": "USER"})).await;
    change("groups/leads", json!({"members": []})).await;
    change("users/deployer", json!({"active": false})).await;
    let invitation = record("Invitation", "back", json!({"email": "admin@example.org", "role": "ADMIN"}));
    assert_eq!(invite.end(invitation).await.0, 403);
    assert_eq!(group.end(json!({"spec": {"groups": [{"group": "leads", "role": "MANAGE"}]}})).await.0, 404);
    assert_eq!(secret.end(record("Secret", "git", json!({"data": {"token": "another"}}))).await.0, 404);
    assert_eq!(gone.end(Value::Null).await.0, 404);
    let (code, deleted) = all.end(Value::Null).await;
    assert!(code == 200 && deleted.contains("\"items\":[]"), "of what they see now, nothing: {deleted}");
    assert_eq!(made.end(record("Workspace", "late", json!({"owner": "deployer"}))).await.0, 401);
    for (path, code) in [
        ("invitations/back", 404),
        ("namespaces/team/secrets/git", 200),
        ("namespaces/team/workspaces/of-owner", 200),
        ("namespaces/team/workspaces/late", 404),
    ] {
        assert_eq!(town.api.get(&format!("{GROUP}/{path}")).await.0, code, "{path}");
    }
}

#[tokio::test]
async fn a_key_that_ended_meanwhile_does_nothing() {
    let mut town = Town::new().await;
    town.key("stolen", "manager", Scope::default(), None).await;
    let changed = json!({"spec": {"description": "mine"}});
    let applied = record("Project", "team", changed["spec"].clone());
    let doors = [
        ("PATCH", "projects/team", changed),
        ("POST", "/devsanctum/apply", json!({"manager": "thief", "force": true, "documents": [applied]})),
        ("POST", "/devsanctum/keys", json!({"label": "for later"})),
    ];
    let mut held = Vec::new();
    for (method, path, body) in doors {
        held.push((Held::begin(&town, "stolen", method, path).await, body));
    }
    let keys = town.api.store.api_keys(Some("manager")).await.unwrap();
    let stolen = keys.iter().find(|key| key.label == "stolen").unwrap();
    assert!(town.api.store.remove_api_key(&stolen.id).await.unwrap());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for (held, body) in held {
        let (code, said) = held.end(body).await;
        assert_eq!(code, 401, "{said}");
    }
    assert!(town.api.get(&format!("{GROUP}/projects/team")).await.1["spec"]["description"].is_null());
    assert!(town.api.store.api_keys(Some("manager")).await.unwrap().iter().all(|key| key.label != "for later"));
}

#[tokio::test]
async fn what_is_somebody_elses_by_then_is_not_deleted() {
    let town = Town::new().await;
    let path = "namespaces/team/workspaces/x";
    // One that is not there could be their own.
    let gone = Held::begin(&town, "deployer", "DELETE", path).await;
    town.put("team", "workspaces", "Workspace", "x", json!({"owner": "lead"})).await;
    assert_eq!(gone.end(Value::Null).await.0, 403);
    assert_eq!(town.api.get(&format!("{GROUP}/{path}")).await.0, 200);
    let own = Held::begin(&town, "lead", "DELETE", path).await;
    assert_eq!(own.end(Value::Null).await.0, 200, "who still may does");
}

/// Writes that come at once share a transaction, and who may what is known from what was there before.
#[tokio::test]
async fn what_somebody_else_makes_in_the_same_moment_is_not_changed() {
    let town = Town::new().await;
    let own = json!({"spec": {"groups": [{"group": "readers", "role": "MANAGE"}]}});
    for n in 0..10 {
        let path = format!("projects/new-{n}");
        let body = record("Project", &format!("new-{n}"), json!({"owner": "lead", "template": "base"}));
        let patched = join_all((0..40).map(|_| town.ask("reader", "PATCH", &path, &own)));
        let (made, patched) = tokio::join!(town.ask("lead", "POST", "projects", &body), patched);
        assert_eq!(made.0, 201, "{}", made.1);
        assert!(patched.iter().all(|(code, _)| [403, 404].contains(code)), "{patched:?}");
        assert_eq!(town.get("lead", &path).await.1["spec"]["groups"], Value::Null);
    }
}
