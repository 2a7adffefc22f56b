//! Requests that would make the API panic, stand still or answer 500.

use crate::support::api::{GROUP, user, workspace, workspaces};
use serde_json::{Value, json};
use std::time::Duration;

fn feature(name: &str, needs: &[String]) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": "Feature", "metadata": {"name": name}, "spec": {"requires": needs}})
}

#[tokio::test]
async fn a_review_that_is_none_is_refused() {
    let api = super::fresh_api().await;
    for kind in ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"] {
        let group = if kind == "selfsubjectreviews" { "authentication" } else { "authorization" };
        let path = format!("/apis/{group}.k8s.io/v1/{kind}");
        for body in [json!([]), json!({}), json!({"spec": "x"}), json!({"spec": []}), json!({"spec": {"resourceAttributes": 1}})]
        {
            let (code, answer) = api.post(&path, &body).await;
            assert!(code < 500, "{kind} {body}: {answer}");
        }
    }
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(api.post(path, &json!({"spec": "x"})).await.0, 400);
    let asked = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "users"}}});
    let (code, answer) = api.post(path, &asked).await;
    assert_eq!((code, &answer["spec"], &answer["status"]["allowed"]), (201, &asked["spec"], &json!(true)));
}

#[tokio::test]
async fn a_name_with_a_nul_is_no_record() {
    let api = super::fresh_api().await;
    api.project().await;
    for (kind, namespace, name) in [("User", None, "a\0"), ("Workspace", Some("te\0am"), "a"), ("Workspace", Some("team"), "\0")]
    {
        let mut document = if kind == "User" { user("x") } else { workspace("x") };
        document["metadata"] = json!({"name": name, "namespace": namespace});
        let documents = json!({"manager": "m", "documents": [document]});
        let (code, answer) = api.post("/devsanctum/apply", &documents).await;
        assert!(code == 422 && answer["message"].as_str().unwrap().contains("NUL"), "{answer}");
    }
    let token = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, r#"{"rv":1,"ns":"","name":"\u0000"}"#);
    assert_eq!(api.get(&format!("{GROUP}/users?limit=1&continue={token}")).await.0, 400);
}

#[tokio::test]
async fn an_address_with_a_nul_is_of_nothing_at_any_door() {
    let api = super::fresh_api().await;
    api.project().await;
    let team = format!("{GROUP}/namespaces/team");
    let paths = [
        format!("{GROUP}/users/%00"),
        format!("{GROUP}/namespaces/te%00am/workspaces"),
        format!("{team}/workspaces/a%00b"),
        format!("{team}/workspaces/a%00b/log"),
        "/devsanctum/keys/%00".into(),
        "/devsanctum/shares/a%00".into(),
        "/devsanctum/users/%00/sessions".into(),
        "/openapi/v3/%00".into(),
    ];
    for (path, method) in paths.iter().flat_map(|path| ["GET", "DELETE"].map(|method| (path, method))) {
        let (code, answer) = api.call(method, path, "", axum::body::Body::empty()).await;
        assert_eq!((code, &answer["reason"]), (404, &json!("NotFound")), "{method} {path}: {answer}");
    }
    let queries = [
        format!("{GROUP}/users?fieldSelector=metadata.name=%00"),
        format!("{GROUP}/users?fieldSelector=metadata.name=a%00b&watch=true"),
        format!("{team}/workspaces?fieldSelector=metadata.namespace=%00"),
        format!("{GROUP}/users?labelSelector=a=%00"),
        format!("{GROUP}/users?limit=1&continue=%00"),
        "/devsanctum/keys?user=%00".into(),
        "/devsanctum/shares?project=team&workspace=%00".into(),
        "/devsanctum/audit?user=%00".into(),
        "/devsanctum/audit?name=a%00b".into(),
    ];
    for path in queries {
        let (code, answer) = api.get(&path).await;
        let told = answer["message"].as_str().unwrap_or_default();
        assert!(code == 400 && told.contains("NUL") && told.contains("leave it out"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn an_id_with_a_nul_in_a_body_is_nobodys() {
    let api = super::fresh_api().await;
    api.project().await;
    for (path, body) in [
        ("/devsanctum/keys", json!({"name": "x", "user": "a\0b"})),
        ("/devsanctum/links", json!({"user": "\0"})),
        ("/devsanctum/shares", json!({"project": "te\0am", "workspace": "web"})),
        ("/devsanctum/shares", json!({"project": "team", "workspace": "\0"})),
    ] {
        let (code, answer) = api.post(path, &body).await;
        assert!((400..500).contains(&code), "{path} {body}: {answer}");
    }
    api.create(&workspaces(), &workspace("after")).await;
}

#[tokio::test]
async fn thousands_of_unknown_names_are_refused_at_once() {
    let api = super::fresh_api().await;
    let path = format!("{GROUP}/features");
    for i in 0..20 {
        api.create(&path, &feature(&format!("f{i}"), &[])).await;
    }
    let names: Vec<String> = (0..90_000).map(|i| format!("unknown-{i}")).collect();
    let body = feature("greedy", &names);
    let answer = tokio::time::timeout(Duration::from_secs(20), api.post(&path, &body)).await;
    let (code, refused) = answer.expect("the writer is held for a moment only");
    assert_eq!((code, refused["details"]["causes"].as_array().unwrap().len()), (422, 50));
    let text = refused["message"].as_str().unwrap();
    assert!(text.contains("\"unknown-49\": no Feature of this name; there are: f0, f1, f10, f11, f12 and 15 more"), "{text}");
    let owner =
        |i: usize| json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "name": format!("u{i}"), "uid": format!("u{i}")});
    let mut owned = user("ada");
    owned["metadata"]["ownerReferences"] = (0..5_000).map(owner).collect();
    let (code, refused) = api.post(&format!("{GROUP}/users"), &owned).await;
    assert_eq!((code, refused["details"]["causes"].as_array().unwrap().len()), (422, 50));
}

#[tokio::test]
async fn all_projects_together_can_only_be_read() {
    let api = super::fresh_api().await;
    api.project().await;
    api.create(&workspaces(), &workspace("web")).await;
    let everywhere = format!("{GROUP}/workspaces");
    let (code, refused) = api.delete(&everywhere).await;
    assert!(code == 405 && refused["message"].as_str().unwrap().contains("namespaces/NAMESPACE"), "{refused}");
    assert_eq!(api.post(&everywhere, &workspace("other")).await.0, 405);
    let (code, list) = api.get(&everywhere).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 1));
    assert_eq!(api.delete(&workspaces()).await.0, 200);
    assert_eq!(api.get(&everywhere).await.1["items"], json!([]));
}
