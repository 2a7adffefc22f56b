//! Creating, changing and refusing records over the API.

use crate::support::api::{GROUP, project, route, routes, template, user, workspace, workspaces};
use axum::body::Body;
use serde_json::{Value, json};

fn message(answer: &(u16, Value)) -> String {
    format!("{} {}", answer.0, answer.1["message"].as_str().unwrap_or(""))
}

#[tokio::test]
async fn a_record_lives_as_on_a_real_api_server() {
    let api = super::fresh_api().await;
    api.project().await;
    let mut body = workspace("web");
    body["status"] = json!({"phase": "RUNNING"});
    let made = api.create(&workspaces(), &body).await;
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["namespace"], "team");
    assert_eq!(made["spec"]["branch"], "main", "defaults are filled in");
    assert!(made.get("status").is_none_or(|s| s["phase"] != "RUNNING"), "status is not for the creator");
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    let path = format!("{}/web", workspaces());
    assert_eq!(api.post(&workspaces(), &workspace("web")).await.0, 409);

    let mut next = made.clone();
    next["spec"]["running"] = json!(false);
    next["status"] = json!({"phase": "STOPPED"});
    next["metadata"]["uid"] = made["metadata"]["uid"].clone();
    let (code, stopped) = api.put(&path, &next).await;
    assert_eq!((code, &stopped["metadata"]["generation"]), (200, &json!(2)), "{stopped}");
    assert!(stopped.get("status").is_none_or(|s| s["phase"] != "STOPPED"));
    let stale = api.put(&path, &next).await;
    assert_eq!(
        message(&stale),
        "409 Operation cannot be fulfilled on workspaces.devsanctum.io \"web\": the object has been modified; please apply \
         your changes to the latest version and try again"
    );
    next["metadata"]["resourceVersion"].take();
    assert_eq!(api.put(&path, &next).await.0, 422, "an update names its version");

    let (_, same) = api.put(&path, &stopped).await;
    assert_eq!(same["metadata"]["resourceVersion"], stopped["metadata"]["resourceVersion"], "nothing changed");
    let (_, labelled) = api.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled["metadata"]["generation"], 2, "labels are no intent");
    let (code, status) =
        api.merge(&format!("{path}/status"), &json!({"spec": {"running": true}, "status": {"phase": "STOPPED"}})).await;
    assert_eq!(code, 200, "{status}");
    assert_eq!((&status["spec"]["running"], &status["status"]["phase"]), (&json!(false), &json!("STOPPED")));
    assert_eq!(status["metadata"]["generation"], 2, "status is no intent");
    assert_eq!(api.get(&format!("{path}/status")).await.1, status);
}

#[tokio::test]
async fn what_the_server_sets_cannot_be_set_by_callers() {
    let api = super::fresh_api().await;
    let mut body = user("ada");
    body["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    body["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    body["metadata"]["generation"] = json!(99);
    let made = api.create(&format!("{GROUP}/users"), &body).await;
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made["metadata"].get("deletionTimestamp").is_none());
    assert_ne!(made["metadata"]["uid"], body["metadata"]["uid"]);
    let path = format!("{GROUP}/users/ada");
    let patch = json!({"metadata": {"creationTimestamp": null, "generation": 7, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(api.merge(&path, &patch).await.1, made);
    let other = api.merge(&path, &json!({"metadata": {"uid": "other"}})).await;
    assert_eq!(other.0, 409, "{other:?}");
    let mut versioned = user("eve");
    versioned["metadata"]["resourceVersion"] = json!("1");
    assert_eq!(api.post(&format!("{GROUP}/users"), &versioned).await.0, 400);
}

#[tokio::test]
async fn what_is_empty_in_metadata_is_as_if_it_were_not_there() {
    let api = super::fresh_api().await;
    let mut body = user("ada");
    body["metadata"]["labels"] = json!({});
    body["metadata"]["finalizers"] = json!([]);
    let made = api.create(&format!("{GROUP}/users"), &body).await;
    let path = format!("{GROUP}/users/ada");
    let hollow = [
        json!({"labels": {"team": null}}),
        json!({"labels": {}, "annotations": {}}),
        json!({"finalizers": [], "ownerReferences": []}),
    ];
    for metadata in hollow {
        assert_eq!(api.merge(&path, &json!({"metadata": metadata})).await, (200, made.clone()), "nothing changes");
    }
    api.merge(&path, &json!({"metadata": {"labels": {"team": "x"}}})).await;
    let (_, bare) = api.merge(&path, &json!({"metadata": {"labels": {"team": null}}})).await;
    assert!(bare["metadata"].get("labels").is_none(), "{bare}");
}

#[tokio::test]
async fn names_are_generated_where_asked() {
    let api = super::fresh_api().await;
    let mut body = user("x");
    body["metadata"] = json!({"generateName": "guest-"});
    let made = api.create(&format!("{GROUP}/users"), &body).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("guest-") && name.len() == 11, "{name}");
    body["metadata"] = json!({});
    assert_eq!(api.post(&format!("{GROUP}/users"), &body).await.0, 422);
    let mut named = user("y");
    named["metadata"]["generateName"] = json!("guest-");
    assert_eq!(api.create(&format!("{GROUP}/users"), &named).await["metadata"]["name"], "y");
    named["spec"]["email"] = json!("z@example.com");
    let again = api.post(&format!("{GROUP}/users"), &named).await;
    assert_eq!((again.0, again.1["reason"].as_str()), (409, Some("AlreadyExists")), "a name given is the name meant: {again:?}");
}

#[tokio::test]
async fn dry_run_writes_nothing() {
    let api = super::fresh_api().await;
    api.project().await;
    let before = api.store.revision();
    let (code, made) = api.post(&format!("{}?dryRun=All", workspaces()), &workspace("web")).await;
    assert_eq!((code, &made["metadata"]["name"]), (201, &json!("web")), "{made}");
    assert!(made["metadata"].get("resourceVersion").is_none());
    let path = format!("{GROUP}/users/ada?dryRun=All");
    let (_, shown) = api.merge(&path, &json!({"spec": {"displayName": "Ada"}})).await;
    assert_eq!(shown["spec"]["displayName"], "Ada");
    assert_eq!(api.delete(&format!("{GROUP}/templates/base?dryRun=All")).await.0, 200);
    assert_eq!(api.store.revision(), before);
    assert_eq!(api.get(&format!("{}/web", workspaces())).await.0, 404);
    assert!(api.get(&format!("{GROUP}/users/ada")).await.1["spec"].get("displayName").is_none());
    for misspelt in ["all", "", "All&dryRun=Server"] {
        assert_eq!(api.post(&format!("{}?dryRun={misspelt}", workspaces()), &workspace("web")).await.0, 400, "{misspelt}");
    }
    let path = format!("{GROUP}/users/ada");
    for (body, code) in [(json!(["all"]), 400), (json!(["All", "Server"]), 400), (json!(["All"]), 200)] {
        let body = json!({"dryRun": body}).to_string();
        assert_eq!(api.call("DELETE", &path, "application/json", body.clone()).await.0, code, "{body}");
    }
    assert_eq!(api.get(&path).await.0, 200);
}

#[tokio::test]
async fn bad_input_is_refused_in_words_that_help() {
    let api = super::fresh_api().await;
    api.project().await;
    api.create(&workspaces(), &workspace("web")).await;
    api.create(&routes(), &route("web", "web")).await;
    let strict = format!("{}?fieldValidation=Strict", workspaces());
    let mut unknown = workspace("a");
    unknown["spec"]["branhc"] = json!("main");
    assert_eq!(
        message(&api.post(&strict, &unknown).await),
        "400 Workspace in version \"v1\" cannot be handled as a Workspace: strict decoding error: unknown field \"spec.branhc\", \
         did you mean \"spec.branch\"?"
    );
    let mut taken = route("other", "web");
    taken["spec"]["host"] = json!("web.example.com");
    assert_eq!(
        message(&api.post(&routes(), &taken).await),
        "422 Route.devsanctum.io \"other\" is invalid: spec.host: Duplicate value: \"web.example.com\": Route \"web\" in \
         project \"team\" already has it"
    );
    let mut nobody = workspace("a");
    nobody["spec"]["owner"] = json!("bob");
    assert_eq!(
        message(&api.post(&workspaces(), &nobody).await),
        "422 Workspace.devsanctum.io \"a\" is invalid: spec.owner: Not found: \"bob\": no User of this name; there are: ada"
    );
    let mut server = workspace("a");
    server["spec"]["dockerServer"] = json!("one");
    assert_eq!(
        message(&api.post(&workspaces(), &server).await),
        "422 Workspace.devsanctum.io \"a\" is invalid: spec.dockerServer: Not found: \"one\": there is no DockerServer yet: \
         create it first"
    );
    assert_eq!(
        message(&api.post(&format!("{GROUP}/namespaces/nowhere/workspaces"), &workspace("a")).await),
        "404 namespaces \"nowhere\" not found"
    );
    let mut kind = workspace("a");
    kind["kind"] = json!("Route");
    assert_eq!(
        message(&api.post(&workspaces(), &kind).await),
        "400 the kind in the body (\"Route\") is not the one in the address (\"Workspace\"): make them the same"
    );
    let media = api.call("POST", &workspaces(), "application/vnd.kubernetes.protobuf", "k8s\0").await;
    assert_eq!(media.0, 415);
    assert!(message(&media).contains("kubectl apply -f"), "{media:?}");
    assert_eq!(api.call("POST", &workspaces(), "application/json", "{").await.0, 400);
    assert_eq!(api.call("POST", &workspaces(), "application/json", vec![b' '; 4 * 1024 * 1024]).await.0, 413);
    assert_eq!(api.call("POST", &workspaces(), "application/json", "[]").await.0, 400);
    assert_eq!(api.call("POST", &workspaces(), "application/yaml", b"a: \xff".to_vec()).await.0, 400);
    assert_eq!(api.call("PATCH", &format!("{}/web", workspaces()), "application/strategic-merge-patch+json", "{}").await.0, 415);
}

#[tokio::test]
async fn wrong_types_and_ports_out_of_range_are_named() {
    let api = super::fresh_api().await;
    api.project().await;
    api.create(&workspaces(), &workspace("web")).await;
    for (port, words) in [(json!(0), "spec.port"), (json!(65536), "spec.port"), (json!("x"), "spec.port")] {
        let mut bad = route("r", "web");
        bad["spec"]["port"] = port;
        let answer = api.post(&routes(), &bad).await;
        assert!(answer.0 == 422 && message(&answer).contains(words), "{answer:?}");
    }
    let mut injected = route("r", "web");
    injected["spec"]["host"] = json!("a.b`) || Host(`x");
    assert_eq!(api.post(&routes(), &injected).await.0, 422);
    let mut label = route("r", "web");
    label["metadata"]["labels"] = json!({"a": "x`) || y"});
    let answer = api.post(&routes(), &label).await;
    assert!(message(&answer).contains("metadata.labels[a]"), "{answer:?}");
    let mut typed = route("r", "web");
    typed["metadata"]["labels"] = json!("x");
    assert_eq!(api.post(&routes(), &typed).await.0, 422);
    let mut name = route("r", "web");
    name["metadata"]["name"] = json!("a`) || Host(`x");
    assert_eq!(api.post(&routes(), &name).await.0, 422);
}

#[tokio::test]
async fn yaml_bodies_are_read() {
    let api = super::fresh_api().await;
    let yaml = "apiVersion: devsanctum.io/v1\nkind: User\nmetadata: {name: ada}\nspec:\n  email: ada@example.com\n";
    let (code, made) = api.call("POST", &format!("{GROUP}/users"), "application/yaml", yaml).await;
    assert_eq!((code, &made["spec"]["email"]), (201, &json!("ada@example.com")), "{made}");
}

#[tokio::test]
async fn rules_across_records_hold() {
    let api = super::fresh_api().await;
    api.project().await;
    let mut twin = user("eve");
    twin["spec"]["email"] = json!("ADA@example.com");
    assert_eq!(api.post(&format!("{GROUP}/users"), &twin).await.0, 422, "e-mail is unique without regard to case");
    assert_eq!(api.post(&format!("{GROUP}/projects"), &project("default")).await.0, 422);
    let settings =
        |name: &str| json!({"apiVersion": "devsanctum.io/v1", "kind": "Settings", "metadata": {"name": name}, "spec": {}});
    assert_eq!(api.post(&format!("{GROUP}/settings"), &settings("other")).await.0, 422);
    api.create(&format!("{GROUP}/settings"), &settings("default")).await;

    let extends = |name: &str, parent: &str| {
        let mut t = template(name);
        t["spec"] = json!({"extends": parent});
        t
    };
    api.create(&format!("{GROUP}/templates"), &extends("child", "base")).await;
    let two = api.post(&format!("{GROUP}/templates"), &extends("grandchild", "child")).await;
    assert!(message(&two).contains("one level only"), "{two:?}");
    api.create(&format!("{GROUP}/templates"), &template("root")).await;
    let upwards = api.merge(&format!("{GROUP}/templates/base"), &json!({"spec": {"extends": "root"}})).await;
    assert!(message(&upwards).contains("template \"child\" extends this one"), "{upwards:?}");
}

#[tokio::test]
async fn features_cannot_require_each_other() {
    let api = super::fresh_api().await;
    let feature = |name: &str, needs: &[&str]| json!({"apiVersion": "devsanctum.io/v1", "kind": "Feature", "metadata": {"name": name}, "spec": {"requires": needs}});
    let path = format!("{GROUP}/features");
    assert_eq!(api.post(&path, &feature("self", &["self"])).await.0, 422);
    api.create(&path, &feature("a", &[])).await;
    api.create(&path, &feature("b", &["a"])).await;
    api.create(&path, &feature("c", &["b"])).await;
    let cycle = api.merge(&format!("{path}/a"), &json!({"spec": {"requires": ["c"]}})).await;
    assert_eq!(
        message(&cycle),
        "422 Feature.devsanctum.io \"a\" is invalid: spec.requires: Invalid value: \"c\": features may not require each other: \
         a → c → b → a"
    );
}

#[tokio::test]
async fn a_group_keeps_a_manager() {
    let api = super::fresh_api().await;
    api.create(&format!("{GROUP}/users"), &user("ada")).await;
    let path = format!("{GROUP}/groups");
    let group = json!({"apiVersion": "devsanctum.io/v1", "kind": "Group", "metadata": {"name": "g"}, "spec": {"members": []}});
    api.create(&path, &group).await;
    let members = |role: &str| json!({"spec": {"members": [{"user": "ada", "role": role}]}});
    assert_eq!(api.merge(&format!("{path}/g"), &members("MEMBER")).await.0, 200);
    assert_eq!(api.merge(&format!("{path}/g"), &members("MANAGER")).await.0, 200);
    let last = api.merge(&format!("{path}/g"), &members("MEMBER")).await;
    assert!(last.0 == 422 && message(&last).contains("at least one member must stay MANAGER"), "{last:?}");
}

#[tokio::test]
async fn a_quota_is_counted_when_it_is_used() {
    let api = super::fresh_api().await;
    api.project().await;
    let quota = json!({"spec": {"quota": {"workspaces": 2, "running": 1}}});
    assert_eq!(api.merge(&format!("{GROUP}/projects/team"), &quota).await.0, 200);
    api.create(&workspaces(), &workspace("a")).await;
    let mut stopped = workspace("b");
    assert_eq!(api.post(&workspaces(), &stopped).await.0, 403);
    stopped["spec"]["running"] = json!(false);
    api.create(&workspaces(), &stopped).await;
    let start = api.merge(&format!("{}/b", workspaces()), &json!({"spec": {"running": true}})).await;
    assert_eq!(
        message(&start),
        "403 workspaces.devsanctum.io \"b\" is forbidden: exceeded quota of project \"team\" (spec.quota): requested: running=1, \
         used: running=1, limited: running=1: stop one, or have the quota raised"
    );
    stopped["metadata"]["name"] = json!("c");
    assert_eq!(api.post(&workspaces(), &stopped).await.0, 403);
}

#[tokio::test]
async fn a_project_brings_its_namespace_and_takes_it_along() {
    let api = super::fresh_api().await;
    api.project().await;
    let (code, namespace) = api.get("/api/v1/namespaces/team").await;
    assert_eq!((code, &namespace["metadata"]["ownerReferences"][0]["kind"]), (200, &json!("Project")));
    assert_eq!(api.delete("/api/v1/namespaces/team").await.0, 403);
    let own = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "own"}});
    assert_eq!(api.post("/api/v1/namespaces", &own).await.0, 403);
    assert_eq!(api.delete(&format!("{GROUP}/projects/team")).await.0, 200);
    assert_eq!(api.get("/api/v1/namespaces/team").await.0, 404);
    let (_, left) = api.get("/api/v1/namespaces").await;
    let names: Vec<_> = left["items"].as_array().unwrap().iter().map(|n| n["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "devsanctum-system"]);
}

#[tokio::test]
async fn anonymous_callers_see_only_health_and_version() {
    use http::Request;
    use tower::ServiceExt;
    let api = super::fresh_api().await;
    let code = async |path: &str, token: Option<&str>| {
        let mut request = Request::builder().uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        api.open.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(code(path, None).await, 200, "{path}");
    }
    for path in ["/api", "/apis", "/openapi/v2", "/openapi/v3", "/api/v1/namespaces", "/apis/devsanctum.io/v1/users", "/x"] {
        assert_eq!(code(path, None).await, 401, "{path}");
        assert_eq!(code(path, Some("wrong")).await, 401, "{path}");
    }
    use sha2::Digest;
    api.store.set_token("admin", sha2::Sha256::digest(b"right").into()).await.unwrap();
    assert_eq!(code("/api/v1/namespaces", Some("right")).await, 200);
}
