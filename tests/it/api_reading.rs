//! Lists, watches, tables, and metadata alone.

use crate::support::api::{Api, GROUP, user};
use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::Request;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tower::ServiceExt;

fn users() -> String {
    format!("{GROUP}/users")
}

fn labelled(name: &str, label: &str) -> Value {
    let mut body = user(name);
    body["metadata"]["labels"] = json!({"team": label});
    body
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

/// The lines of a watch.
struct Lines {
    body: BodyDataStream,
    rest: Vec<u8>,
}

impl Lines {
    async fn open(api: &Api, query: &str, accept: &str) -> Result<Self, (u16, Value)> {
        let uri = format!("{}?watch=true&{query}", users());
        let request = Request::builder().uri(uri).header("accept", accept).body(Body::empty()).unwrap();
        let response = api.router.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        if code != 200 {
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            return Err((code, serde_json::from_slice(&bytes).unwrap()));
        }
        Ok(Self { body: response.into_body().into_data_stream(), rest: Vec::new() })
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await.expect("no line in time");
            self.rest.extend_from_slice(&chunk?.unwrap());
        }
    }

    /// Type and name of the next line.
    async fn told(&mut self) -> (String, String) {
        let line = self.next().await.expect("the watch has ended");
        (line["type"].as_str().unwrap().into(), line["object"]["metadata"]["name"].as_str().unwrap_or("").into())
    }
}

fn told(kind: &str, name: &str) -> (String, String) {
    (kind.into(), name.into())
}

#[tokio::test]
async fn selectors_choose_by_label_and_field() {
    let api = super::fresh_api().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        api.create(&users(), &labelled(name, label)).await;
    }
    let found = async |query: &str| {
        let (code, list) = api.get(&format!("{}?{query}", users())).await;
        assert_eq!(code, 200, "{list}");
        names(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found("labelSelector=team%3Dx").await, ["a", "c"]);
    assert_eq!(found("labelSelector=team%21%3Dx").await, ["b"]);
    assert_eq!(found("fieldSelector=metadata.name%3Db").await, ["b"]);
    assert_eq!(found("fieldSelector=metadata.name%3Db&labelSelector=team%3Dx").await, Vec::<String>::new());
    assert_eq!(found("labelSelector=team%3Dx&limit=1").await, ["a"]);
    assert_eq!(api.get(&format!("{}?fieldSelector=spec.nothing%3Db", users())).await.0, 400);
    assert_eq!(api.get(&format!("{}?labelSelector=%3D%3D", users())).await.0, 400);
}

#[tokio::test]
async fn pages_and_a_watch_from_the_first_lose_nothing() {
    let api = super::fresh_api().await;
    for i in 0..25 {
        api.create(&users(), &user(&format!("u{i:02}"))).await;
    }
    let (_, first) = api.get(&format!("{}?limit=10", users())).await;
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert_eq!(first["metadata"]["remainingItemCount"], 15);
    let mut seen: BTreeSet<String> = names(&first).into_iter().map(Into::into).collect();
    let mut token = first["metadata"]["continue"].as_str().map(str::to_owned);
    // What changes between the pages: one before the cursor comes, one after it goes, one changes.
    api.create(&users(), &user("u00b")).await;
    api.delete(&format!("{}/u20", users())).await;
    api.merge(&format!("{}/u21", users()), &json!({"spec": {"displayName": "x"}})).await;
    while let Some(next) = token {
        let (code, page) = api.get(&format!("{}?limit=10&continue={next}", users())).await;
        assert_eq!((code, page["metadata"]["resourceVersion"].as_str()), (200, Some(revision.as_str())));
        seen.extend(names(&page).into_iter().map(String::from));
        token = page["metadata"]["continue"].as_str().map(str::to_owned);
    }
    let mut lines = Lines::open(&api, &format!("resourceVersion={revision}"), "*/*").await.ok().unwrap();
    for _ in 0..3 {
        match lines.told().await {
            (kind, name) if kind == "DELETED" => seen.remove(&name),
            (_, name) => seen.insert(name),
        };
    }
    let (_, all) = api.get(&users()).await;
    assert_eq!(seen, names(&all).into_iter().map(String::from).collect());
    assert_eq!(api.get(&format!("{}?limit=10&continue=nonsense", users())).await.0, 400);
}

#[tokio::test]
async fn a_watch_tells_every_change_in_order() {
    let api = super::fresh_api().await;
    api.create(&users(), &user("old")).await;
    let mut lines = Lines::open(&api, "", "*/*").await.ok().unwrap();
    assert_eq!(lines.told().await, told("ADDED", "old"));
    api.create(&users(), &user("new")).await;
    api.merge(&format!("{}/new", users()), &json!({"spec": {"displayName": "x"}})).await;
    api.delete(&format!("{}/new", users())).await;
    let mut last = 0;
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        let line = lines.next().await.unwrap();
        assert_eq!(line["type"], kind);
        let revision: i64 = line["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(revision > last);
        last = revision;
    }
    api.shutdown.cancel();
    assert!(lines.next().await.is_none(), "a stop ends watches");
}

#[tokio::test]
async fn an_object_enters_and_leaves_a_selected_watch() {
    let api = super::fresh_api().await;
    let mut lines = Lines::open(&api, "labelSelector=team%3Dx", "*/*").await.ok().unwrap();
    api.create(&users(), &labelled("a", "y")).await;
    let label = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    api.merge(&format!("{}/a", users()), &label("x")).await;
    assert_eq!(lines.told().await, told("ADDED", "a"));
    api.merge(&format!("{}/a", users()), &json!({"spec": {"displayName": "x"}})).await;
    assert_eq!(lines.told().await, told("MODIFIED", "a"));
    let (_, left) = api.merge(&format!("{}/a", users()), &label("z")).await;
    let gone = lines.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(gone["object"]["metadata"]["labels"]["team"], "x", "as it last matched");
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
    api.merge(&format!("{}/a", users()), &label("x")).await;
    assert_eq!(lines.told().await, told("ADDED", "a"));
    api.delete(&format!("{}/a", users())).await;
    assert_eq!(lines.told().await, told("DELETED", "a"));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let api = super::fresh_api().await;
    for name in ["a", "b"] {
        api.create(&users(), &user(name)).await;
    }
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&api, query, "*/*").await.ok().unwrap();
    assert_eq!(lines.told().await, told("ADDED", "a"));
    assert_eq!(lines.told().await, told("ADDED", "b"));
    let end = lines.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(end["object"]["metadata"]["resourceVersion"], api.store.revision().to_string());
    api.create(&users(), &user("c")).await;
    assert_eq!(lines.told().await, told("ADDED", "c"));
    let refused = Lines::open(&api, "sendInitialEvents=true", "*/*").await.err().unwrap();
    assert_eq!(refused.0, 422);
}

#[tokio::test]
async fn bookmarks_tell_how_far_other_kinds_have_moved() {
    let api = super::fresh_api().await;
    let query = format!("resourceVersion={}&allowWatchBookmarks=true", api.store.revision());
    let mut lines = Lines::open(&api, &query, "*/*").await.ok().unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let template = json!({"apiVersion": "devsanctum.io/v1", "kind": "Template", "metadata": {"name": "t"}, "spec": {}});
    api.create(&format!("{GROUP}/templates"), &template).await;
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "User");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], api.store.revision().to_string());
}

#[tokio::test]
async fn a_version_that_is_gone_is_410() {
    let api = super::fresh_api().await;
    let refused = Lines::open(&api, "resourceVersion=999999", "*/*").await.err().unwrap();
    assert_eq!((refused.0, refused.1["reason"].as_str()), (410, Some("Expired")));
    assert_eq!(api.get(&format!("{}?resourceVersion=1&resourceVersionMatch=Exact", users())).await.0, 410);
    assert_eq!(api.get(&format!("{}?resourceVersion=x", users())).await.0, 400);
}

#[tokio::test]
async fn pages_of_what_is_selected_have_each_once_and_end() {
    let api = super::fresh_api().await;
    let mut wanted = Vec::new();
    for n in 0..1200 {
        let name = format!("u{n:04}");
        let mut one = user(&name);
        if n % 150 == 149 || (600..603).contains(&n) {
            one["metadata"]["labels"] = json!({"some": "of-them"});
            wanted.push(name);
        }
        api.create(&users(), &one).await;
    }
    for limit in [1, 2, 3, wanted.len() - 1, wanted.len(), 500, 5000] {
        let (mut names, mut more, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (code, page) = api.get(&format!("{}?labelSelector=some%3Dof-them&limit={limit}{more}", users())).await;
            assert_eq!(code, 200, "{page}");
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit && page["metadata"]["remainingItemCount"].is_null(), "{page}");
            names.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["metadata"]["continue"].as_str() {
                Some(token) => more = format!("&continue={token}"),
                None => break,
            }
        }
        assert_eq!(names, wanted, "limit {limit}");
        assert!(pages <= wanted.len() / limit + 1, "limit {limit}: {pages} pages");
    }
    let (_, none) = api.get(&format!("{}?labelSelector=none%3Dat-all&limit=1", users())).await;
    assert!(none["items"].as_array().unwrap().is_empty() && none["metadata"]["continue"].is_null(), "{none}");
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let api = super::fresh_api().await;
    let mut lines = Lines::open(&api, "timeoutSeconds=1", "*/*").await.ok().unwrap();
    assert!(lines.next().await.is_none());
    // As if it were not said.
    let mut lines = Lines::open(&api, "timeoutSeconds=0", "*/*").await.ok().unwrap();
    assert!(tokio::time::timeout(std::time::Duration::from_millis(1500), lines.next()).await.is_err(), "it goes on");
}

#[tokio::test]
async fn tables_and_metadata_are_served_where_asked() {
    let api = super::fresh_api().await;
    api.create(&users(), &user("ada")).await;
    let ask = async |path: String, accept: &str| {
        let request = Request::builder().uri(path).header("accept", accept).body(Body::empty()).unwrap();
        let response = api.router.clone().oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (code, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let as_table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, table) = ask(users(), as_table).await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "ada");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let (_, full) = ask(format!("{}?includeObject=Object", users()), as_table).await;
    assert_eq!(full["rows"][0]["object"]["spec"]["email"], "ada@example.com");
    let (_, one) = ask(format!("{}/ada", users()), as_table).await;
    assert_eq!(one["rows"].as_array().map(Vec::len), Some(1));
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (_, list) = ask(users(), partial).await;
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"]),
        (&json!("PartialObjectMetadataList"), &json!("PartialObjectMetadata"))
    );
    assert!(list["items"][0].get("spec").is_none());
    assert_eq!(ask(users(), "application/vnd.kubernetes.protobuf").await.0, 406);
    assert_eq!(ask(users(), "application/vnd.kubernetes.protobuf,application/json").await.0, 200);

    let mut lines = Lines::open(&api, "", as_table).await.ok().unwrap();
    assert_eq!(lines.next().await.unwrap()["object"]["rows"][0]["cells"][0], "ada");
    let mut lines = Lines::open(&api, "", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").await.ok().unwrap();
    assert_eq!(lines.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn discovery_names_every_kind() {
    let api = super::fresh_api().await;
    let (_, groups) = api.get("/apis").await;
    let found: Vec<_> = groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert!(["devsanctum.io", "events.k8s.io", "coordination.k8s.io", "authorization.k8s.io"].iter().all(|g| found.contains(g)));
    assert_eq!(api.get("/apis/devsanctum.io").await.1["preferredVersion"]["groupVersion"], "devsanctum.io/v1");
    let (_, kinds) = api.get("/apis/devsanctum.io/v1").await;
    let list = kinds["resources"].as_array().unwrap();
    let workspace = list.iter().find(|r| r["name"] == "workspaces").unwrap();
    assert_eq!((&workspace["shortNames"], &workspace["categories"]), (&json!(["ws"]), &json!(["all"])));
    assert!(["workspaces/status", "workspaces/exec", "workspaces/log"].iter().all(|n| list.iter().any(|r| r["name"] == *n)));
    assert_eq!(api.get("/api/v1").await.1["resources"][0]["kind"], "Namespace");
    assert_eq!(api.get("/apis/apps/v1").await.0, 404);
    assert_eq!(api.get("/version").await.1["major"], "1");
    let discovery = kube::discovery::Discovery::new(api.client()).run().await.unwrap();
    assert!(discovery.groups().count() >= 4);
    let ask = json!({"spec": {"resourceAttributes": {"verb": "create", "group": "devsanctum.io", "resource": "workspaces"}}});
    let (code, review) = api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &ask).await;
    assert_eq!((code, &review["status"]["allowed"]), (201, &json!(true)));
    let (_, me) = api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await;
    assert_eq!(me["status"]["userInfo"]["username"], "admin");
}
