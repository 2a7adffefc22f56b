//! Server-side apply and the owners of fields, over the API.

use crate::support::api::{Api, GROUP, user};
use serde_json::{Value, json};

const APPLY: &str = "application/apply-patch+yaml";

fn ada() -> String {
    format!("{GROUP}/users/ada")
}

async fn apply(api: &Api, manager: &str, config: &Value) -> (u16, Value) {
    api.call("PATCH", &format!("{}?fieldManager={manager}", ada()), APPLY, config.to_string()).await
}

/// The entries as `manager operation`.
fn managers(record: &Value) -> Vec<String> {
    let entries = record["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.map(|e| format!("{} {}", e["manager"].as_str().unwrap(), e["operation"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn an_apply_keeps_the_version_and_uid_it_names() {
    let api = super::fresh_api().await;
    let made = api.create(&format!("{GROUP}/users"), &user("ada")).await;
    let of = |field: &str, value: Value| {
        let mut config = user("ada");
        config["metadata"][field] = value;
        config
    };
    let (version, uid) = (made["metadata"]["resourceVersion"].clone(), made["metadata"]["uid"].clone());
    let stale = apply(&api, "m", &of("resourceVersion", json!("1"))).await;
    assert!(stale.0 == 409 && stale.1["message"].as_str().unwrap().contains("the object has been modified"), "{stale:?}");
    let other = apply(&api, "m", &of("uid", json!("other"))).await;
    assert!(other.0 == 409 && other.1["message"].as_str().unwrap().contains("UID in precondition: other"), "{other:?}");
    let number = apply(&api, "m", &of("resourceVersion", json!(1))).await;
    assert!(number.0 == 400 && number.1["message"].as_str().unwrap().contains("put it in quotes"), "{number:?}");
    let documents = json!({"manager": "m", "documents": [of("resourceVersion", json!("1"))]});
    assert_eq!(api.post("/devsanctum/apply", &documents).await.0, 409);
    assert_eq!(api.get(&ada()).await.1, made, "nothing was written");
    assert_eq!(apply(&api, "m", &of("resourceVersion", version.clone())).await.0, 200);
    assert_eq!(apply(&api, "m", &of("uid", uid.clone())).await.0, 200);

    assert_eq!(api.delete(&ada()).await.0, 200);
    for (field, value) in [("uid", uid), ("resourceVersion", version)] {
        let gone = apply(&api, "m", &of(field, value)).await;
        assert!(gone.0 == 409 && gone.1["message"].as_str().unwrap().contains("no existing object was found"), "{gone:?}");
    }
    assert_eq!(api.get(&ada()).await.0, 404, "what is deleted is not made anew");
    assert_eq!(apply(&api, "m", &user("ada")).await.0, 201);
}

#[tokio::test]
async fn the_last_label_goes_with_the_apply_that_names_it_no_more() {
    let api = super::fresh_api().await;
    let mut labelled = user("ada");
    labelled["metadata"]["labels"] = json!({"team": "x"});
    let (_, made) = apply(&api, "m", &labelled).await;
    assert_eq!(made["metadata"]["labels"]["team"], "x");
    let (code, bare) = apply(&api, "m", &user("ada")).await;
    assert_eq!(code, 200, "{bare}");
    assert!(bare["metadata"].get("labels").is_none(), "{bare}");
    for field in ["uid", "creationTimestamp", "generation"] {
        assert_eq!(bare["metadata"][field], made["metadata"][field], "{field}");
    }
    let (_, again) = apply(&api, "m", &user("ada")).await;
    assert_eq!(again, bare);
}

#[tokio::test]
async fn kubectl_can_move_from_client_side_to_server_side_apply() {
    let api = super::fresh_api().await;
    let mut body = user("ada");
    body["spec"]["displayName"] = json!("Ada");
    let made = api.post(&format!("{GROUP}/users?fieldManager=kubectl-client-side-apply"), &body).await.1;
    assert_eq!(managers(&made), ["kubectl-client-side-apply Update"]);
    // What `kubectl apply --server-side` sends before it applies.
    let mut entries = made["metadata"]["managedFields"].clone();
    entries[0]["manager"] = json!("kubectl");
    entries[0]["operation"] = json!("Apply");
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]);
    let (code, moved) = api.call("PATCH", &ada(), "application/json-patch+json", patch.to_string()).await;
    assert_eq!((code, managers(&moved)), (200, vec!["kubectl Apply".to_owned()]), "{moved}");
    assert_eq!(moved["metadata"]["generation"], 1);
    let (code, applied) = apply(&api, "kubectl", &user("ada")).await;
    assert_eq!(code, 200, "{applied}");
    assert!(applied["spec"].get("displayName").is_none(), "what is applied no more goes: {applied}");
    assert_eq!(managers(&applied), ["kubectl Apply"]);
}

#[tokio::test]
async fn who_sends_back_what_it_read_is_tracked_as_ever() {
    let api = super::fresh_api().await;
    api.post(&format!("{GROUP}/users?fieldManager=one"), &user("ada")).await;
    let mut read = api.get(&ada()).await.1;
    read["spec"]["displayName"] = json!("Ada");
    let (code, put) = api.put(&format!("{}?fieldManager=two", ada()), &read).await;
    assert_eq!((code, managers(&put)), (200, vec!["one Update".to_owned(), "two Update".into()]), "{put}");
    assert_eq!(put["metadata"]["managedFields"][1]["fieldsV1"], json!({"f:spec": {"f:displayName": {}}}));
    let mut without = put.clone();
    without["metadata"].as_object_mut().unwrap().remove("managedFields");
    let (_, same) = api.put(&ada(), &without).await;
    assert_eq!(same, put, "to leave them out changes nothing");
    // Neither do entries that cannot be read, nor those sent to a subresource.
    without["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply", "fieldsV1": {"nonsense": {}}}]);
    assert_eq!(api.put(&ada(), &without).await.1, put);
    without["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(managers(&api.put(&format!("{}/status", ada()), &without).await.1), managers(&put));
    assert!(managers(&api.put(&ada(), &without).await.1).is_empty(), "[{{}}] forgets all");
}

#[tokio::test]
async fn owners_of_fields_do_not_use_up_the_room_for_fields() {
    let api = super::fresh_api().await;
    let mut config = user("ada");
    let labels: serde_json::Map<_, _> = (0..40_000).map(|i| (format!("l{i}"), json!(""))).collect();
    config["metadata"]["labels"] = labels.into();
    for manager in ["m1", "m2", "m3", "m4", "m5", "m6", "m7"] {
        let (code, answer) = apply(&api, manager, &config).await;
        assert!(code == 200 || code == 201, "{manager}: {}", answer["message"]);
    }
    let (code, refused) = apply(&api, "m8", &config).await;
    assert!(code == 422 && refused["message"].as_str().unwrap().contains("metadata.managedFields: Invalid value: must not hold"));
    config["metadata"]["labels"]["l0"] = json!("x");
    let forced = format!("{}?fieldManager=m1&force=true", ada());
    assert_eq!(api.call("PATCH", &forced, APPLY, config.to_string()).await.0, 200, "the record can still be written");
    let patch = json!({"metadata": {"managedFields": [{}]}});
    let (code, cleared) = api.merge(&ada(), &patch).await;
    assert_eq!((code, cleared["metadata"].get("managedFields")), (200, None));
}
