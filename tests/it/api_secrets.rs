//! Secrets: what is sent is held, and never told.

use crate::support::api::{Api, GROUP};
use serde_json::{Value, json};

fn secrets() -> String {
    format!("{GROUP}/namespaces/team/secrets")
}

fn secret(data: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": {"name": "git"}, "spec": {"data": data}})
}

/// A project with a secret `git` whose `token` is `good`; its uid.
async fn with_secret(api: &Api) -> String {
    api.project().await;
    let made = api.create(&secrets(), &secret(json!({"token": "good"}))).await;
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn secrets_are_never_readable() {
    let api = super::fresh_api().await;
    api.project().await;
    let path = format!("{GROUP}/namespaces/team/secrets");
    let canary = "hunter2-canary";
    let mut secret = json!({
        "apiVersion": "devsanctum.io/v1", "kind": "Secret", "spec": {"data": {"token": canary, "other": canary}},
        "metadata": {"name": "git", "annotations": {"kubectl.kubernetes.io/last-applied-configuration":
            format!("{{\"spec\":{{\"data\":{{\"token\":\"{canary}\"}}}},\"stringData\":{{\"token\":\"{canary}\"}}}}")}},
    });
    secret["data"] = json!({"token": canary});
    secret["stringData"] = json!({"token": canary});
    secret["spec"]["stringData"] = json!(canary);
    let mut seen = vec![api.post(&format!("{path}?dryRun=All"), &secret).await.1];
    let made = api.create(&path, &secret).await;
    assert_eq!(made["status"]["keys"], json!(["other", "token"]));
    let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(api.store.secret_value(&uid, "token").await.unwrap().unwrap(), canary.as_bytes());
    let one = format!("{path}/git");
    seen.extend([made, api.get(&one).await.1, api.get(&path).await.1]);
    let (code, less) = api.merge(&one, &json!({"spec": {"data": {"other": null, "new": canary}}})).await;
    assert_eq!((code, &less["status"]["keys"]), (200, &json!(["new", "token"])), "{less}");
    seen.push(less);
    let patch = json!([{"op": "add", "path": "/spec/data/json", "value": canary}]);
    let (code, more) = api.call("PATCH", &one, "application/json-patch+json", patch.to_string()).await;
    assert_eq!((code, &more["status"]["keys"]), (200, &json!(["json", "new", "token"])), "{more}");
    seen.push(more.clone());
    secret["metadata"] = json!({"name": "git"});
    secret["spec"]["data"] = json!({"applied": canary});
    let apply = format!("{one}?fieldManager=me");
    let (code, applied) = api.call("PATCH", &apply, "application/apply-patch+yaml", secret.to_string()).await;
    assert_eq!((code, &applied["status"]["keys"]), (200, &json!(["applied", "json", "new", "token"])), "{applied}");
    seen.push(applied);
    secret["spec"]["data"] = json!({"token": {"nested": canary}});
    seen.push(api.post(&path, &secret).await.1);
    let bad = format!("kind: Secret\nspec: {{data: {{token: {canary}}}\n");
    seen.push(api.call("POST", &path, "application/yaml", bad).await.1);
    let status = api.merge(&format!("{one}/status"), &json!({"spec": {"data": {"token": canary}}, "data": canary})).await;
    assert_eq!(status.0, 200, "{status:?}");
    seen.push(status.1);
    for answer in &seen {
        assert!(!answer.to_string().contains(canary), "{answer}");
    }
    assert_eq!(api.delete(&one).await.0, 200);
    assert!(api.store.secret_value(&uid, "token").await.unwrap().is_none());
    assert!(api.database_holds("\"name\":\"git\"").await, "the search finds what is there");
    assert!(!api.database_holds(canary).await, "the database holds no plain value");
}

#[tokio::test]
async fn a_write_of_the_status_changes_no_value_and_no_key() {
    let api = super::fresh_api().await;
    let uid = with_secret(&api).await;
    let status = format!("{}/git/status", secrets());
    let evil = json!({"spec": {"data": {"token": "evil", "more": "evil"}}, "status": {"keys": ["other"]}});
    let mut answers = vec![api.merge(&status, &evil).await];
    let mut whole = api.get(&status).await.1;
    whole["spec"]["data"] = json!({"token": "evil"});
    whole["status"]["keys"] = json!([]);
    answers.push(api.put(&status, &whole).await);
    let patch = json!([{"op": "add", "path": "/spec/data/token", "value": "evil"}, {"op": "remove", "path": "/status/keys"}]);
    answers.push(api.call("PATCH", &status, "application/json-patch+json", patch.to_string()).await);
    let mut config = secret(json!({"token": "evil"}));
    config["status"] = json!({"keys": ["other"]});
    let apply = format!("{status}?fieldManager=me&force=true");
    answers.push(api.call("PATCH", &apply, "application/apply-patch+yaml", config.to_string()).await);
    for (code, answer) in answers {
        assert_eq!((code, &answer["status"]["keys"]), (200, &json!(["token"])), "{answer}");
        assert_eq!(answer["metadata"]["generation"], 1, "{answer}");
    }
    assert_eq!(api.store.secret_value(&uid, "token").await.unwrap().unwrap(), b"good");
    assert!(api.store.secret_value(&uid, "more").await.unwrap().is_none());
    let (code, more) = api.merge(&format!("{}/git", secrets()), &json!({"spec": {"data": {"b": "1"}}})).await;
    assert_eq!((code, &more["status"]["keys"]), (200, &json!(["b", "token"])), "the keys are those really held");
}

#[tokio::test]
async fn a_secret_holds_a_bounded_number_of_keys() {
    let api = super::fresh_api().await;
    api.project().await;
    let keys = |count: usize| (0..count).map(|i| (format!("k{i}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let (code, refused) = api.post(&secrets(), &secret(keys(1001).into())).await;
    assert!(code == 422 && refused["message"].as_str().unwrap().contains("spec.data: Invalid value: a secret holds 1000 keys"));
    api.create(&secrets(), &secret(keys(1000).into())).await;
    let path = format!("{}/git", secrets());
    let more = api.merge(&path, &json!({"spec": {"data": {"more": "v"}}})).await;
    assert!(more.0 == 422 && more.1["message"].as_str().unwrap().contains("would make 1001"), "{more:?}");
    assert_eq!(api.merge(&path, &json!({"spec": {"data": {"k0": "other"}}})).await.0, 200);
    assert_eq!(api.merge(&path, &json!({"spec": {"data": {"k0": null, "more": "v"}}})).await.0, 200);
}
