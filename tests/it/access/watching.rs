//! A watch tells its reader what they may see, also when that changes.

use super::Town;
use crate::support::api::GROUP;
use axum::body::Body;
use devsanctum::access::Scope;
use futures::StreamExt;
use http::Request;
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

/// Lines of a watch as they come.
struct Watch(futures::stream::BoxStream<'static, Value>);

impl Watch {
    async fn begin(town: &Town, who: &str, path: &str) -> Self {
        let uri = format!("{GROUP}/{path}");
        let key = format!("Bearer {}", town.text(who));
        let request = Request::builder().uri(uri).header("authorization", key).body(Body::empty()).unwrap();
        let response = town.api.open.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let lines = response.into_body().into_data_stream().map(|bytes| serde_json::from_slice(&bytes.unwrap()).unwrap());
        Self(lines.boxed())
    }

    /// What comes next: of what type, and its name or code.
    async fn next(&mut self) -> Option<(String, String)> {
        let line = tokio::time::timeout(Duration::from_secs(5), self.0.next()).await.expect("a line in time")?;
        let object = &line["object"];
        let what = object["metadata"]["name"].as_str().map_or_else(|| object["code"].to_string(), str::to_owned);
        Some((line["type"].as_str().unwrap().to_owned(), what))
    }
}

fn told(kind: &str, what: &str) -> Option<(String, String)> {
    Some((kind.to_owned(), what.to_owned()))
}

#[tokio::test]
async fn a_watch_tells_what_its_reader_sees() {
    let town = Town::new().await;
    let mut watch =
        Watch::begin(&town, "reader", &format!("workspaces?watch=true&resourceVersion={}", town.api.store.revision())).await;
    let spec = |owner: &str| json!({"owner": owner});
    town.put("else", "workspaces", "Workspace", "unseen", spec("other")).await;
    town.put("team", "workspaces", "Workspace", "seen", spec("owner")).await;
    assert_eq!(watch.next().await, told("ADDED", "seen"));
    town.api.merge(&format!("{GROUP}/namespaces/open/workspaces/hidden"), &json!({"spec": {"pinned": true}})).await;
    town.api.merge(&format!("{GROUP}/namespaces/open/workspaces/shown"), &json!({"spec": {"pinned": true}})).await;
    assert_eq!(watch.next().await, told("MODIFIED", "shown"));
    town.api.delete(&format!("{GROUP}/namespaces/else/workspaces/unseen")).await;
    town.api.delete(&format!("{GROUP}/namespaces/open/workspaces/shown")).await;
    assert_eq!(watch.next().await.unwrap().1, "shown", "a visitor is told that it goes");
}

#[tokio::test]
async fn who_loses_a_role_begins_anew_with_what_is_left() {
    let town = Town::new().await;
    let from = format!("workspaces?watch=true&resourceVersion={}", town.api.store.revision());
    let (mut reader, mut owner) = (Watch::begin(&town, "reader", &from).await, Watch::begin(&town, "owner", &from).await);
    town.api.merge(&format!("{GROUP}/groups/readers"), &json!({"spec": {"members": []}})).await;
    town.put("team", "workspaces", "Workspace", "later", json!({"owner": "owner"})).await;
    assert_eq!(reader.next().await, told("ERROR", "410"));
    assert_eq!(reader.next().await, None);
    assert_eq!(owner.next().await, told("ADDED", "later"), "others' watches go on");
    assert_eq!(town.names("reader", "workspaces").await, ["shown"]);
    // Who gains one, too.
    let mut stranger = Watch::begin(&town, "stranger", &from).await;
    town.api.merge(&format!("{GROUP}/groups/readers"), &json!({"spec": {"members": [{"user": "stranger"}]}})).await;
    assert_eq!(stranger.next().await, told("ERROR", "410"));
    assert!(town.names("stranger", "workspaces").await.contains(&"later".to_owned()));
}

#[tokio::test]
async fn a_watch_ends_with_the_key_it_was_begun_by_however_much_it_has_to_tell() {
    let mut town = Town::new().await;
    town.key("stolen", "reader", Scope::default(), None).await;
    town.key("short", "reader", Scope::default(), Some(SignedDuration::from_secs(1))).await;
    let from = format!("workspaces?watch=true&timeoutSeconds=99999999&resourceVersion={}", town.api.store.revision());
    let mut watches = [Watch::begin(&town, "stolen", &from).await, Watch::begin(&town, "short", &from).await];
    let keys = town.api.store.api_keys(Some("reader")).await.unwrap();
    let stolen = keys.iter().find(|key| key.label == "stolen").unwrap();
    assert!(town.api.store.remove_api_key(&stolen.id).await.unwrap());
    let until = std::time::Instant::now() + Duration::from_secs(5);
    let mut ended = 0;
    while ended < watches.len() && std::time::Instant::now() < until {
        town.api
            .merge(
                &format!("{GROUP}/namespaces/team/workspaces/of-owner"),
                &json!({"metadata": {"labels": {"n": format!("{:?}", until.elapsed())}}}),
            )
            .await;
        ended = 0;
        for watch in &mut watches {
            ended +=
                usize::from(watch.next().await.is_none_or(|(kind, what)| (kind.as_str(), what.as_str()) == ("ERROR", "410")));
        }
    }
    assert_eq!(ended, 2, "they go on");
    let mut own = Watch::begin(&town, "reader", &from).await;
    assert_eq!(own.next().await.unwrap().1, "of-owner", "by another key");
}

#[tokio::test]
async fn what_is_shown_or_hidden_to_visitors_moves_their_watch() {
    let town = Town::new().await;
    let from = format!("workspaces?watch=true&resourceVersion={}", town.api.store.revision());
    let mut watch = Watch::begin(&town, "stranger", &from).await;
    town.api.merge(&format!("{GROUP}/namespaces/open/workspaces/shown"), &json!({"spec": {"visibility": "PRIVATE"}})).await;
    assert_eq!(watch.next().await, told("ERROR", "410"));
    assert_eq!(town.names("stranger", "workspaces").await, [""; 0]);
}
