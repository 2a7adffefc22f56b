//! Deletion: finalizers, owners, and records in use.

use crate::support::api::{Api, GROUP, project, route, routes, template, user, workspace, workspaces};
use serde_json::{Value, json};
use std::time::Duration;

const IN_USE: &str = "devsanctum.io/in-use";

async fn exists(api: &Api, path: &str) -> bool {
    api.get(path).await.0 == 200
}

fn owned_by(owner: &Value, mut record: Value, blocks: bool) -> Value {
    record["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": blocks,
    }]);
    record
}

#[tokio::test]
async fn a_finalizer_holds_a_record_and_may_only_be_taken_off() {
    let api = super::fresh_api().await;
    let mut body = user("ada");
    body["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    api.create(&format!("{GROUP}/users"), &body).await;
    let path = format!("{GROUP}/users/ada");
    let (code, waiting) = api.delete(&path).await;
    assert_eq!((code, waiting["kind"].as_str()), (200, Some("User")));
    assert_eq!(waiting["metadata"]["generation"], 2);
    let at = waiting["metadata"]["deletionTimestamp"].clone();
    assert!(at.is_string());
    let (_, again) = api.delete(&path).await;
    assert_eq!(again["metadata"]["resourceVersion"], waiting["metadata"]["resourceVersion"], "deleted once");
    let (code, refused) = api.merge(&path, &json!({"metadata": {"finalizers": ["example.com/a", "example.com/c"]}})).await;
    assert_eq!(code, 422, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("no new finalizers can be added"));
    assert_eq!(api.merge(&path, &json!({"metadata": {"finalizers": ["example.com/b"]}})).await.0, 200);
    assert!(exists(&api, &path).await);
    assert_eq!(api.merge(&path, &json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert!(!exists(&api, &path).await);
}

#[tokio::test]
async fn preconditions_guard_a_deletion() {
    let api = super::fresh_api().await;
    let made = api.create(&format!("{GROUP}/users"), &user("ada")).await;
    let path = format!("{GROUP}/users/ada");
    let with =
        async |pre: Value| api.call("DELETE", &path, "application/json", json!({"preconditions": pre}).to_string()).await.0;
    assert_eq!(with(json!({"uid": "other"})).await, 409);
    assert_eq!(with(json!({"resourceVersion": "1"})).await, 409);
    assert_eq!(with(json!({"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]})).await, 200);
    assert_eq!(api.delete(&path).await.0, 404);
}

#[tokio::test]
async fn preconditions_guard_each_of_a_collection() {
    let api = super::fresh_api().await;
    let made = api.create(&format!("{GROUP}/users"), &user("ada")).await;
    api.create(&format!("{GROUP}/users"), &user("eve")).await;
    let body = json!({"preconditions": {"uid": made["metadata"]["uid"]}}).to_string();
    assert_eq!(api.call("DELETE", &format!("{GROUP}/users"), "application/json", body.clone()).await.0, 409);
    assert!(exists(&api, &format!("{GROUP}/users/ada")).await && exists(&api, &format!("{GROUP}/users/eve")).await);
    let one = format!("{GROUP}/users?fieldSelector=metadata.name%3Dada");
    assert_eq!(api.call("DELETE", &one, "application/json", body).await.0, 200);
    assert!(!exists(&api, &format!("{GROUP}/users/ada")).await);
}

#[tokio::test]
async fn background_takes_dependents_along_after_the_owner() {
    let api = super::fresh_api().await;
    api.project().await;
    let owner = api.create(&workspaces(), &workspace("web")).await;
    api.create(&routes(), &owned_by(&owner, route("own", "web"), true)).await;
    let mut held = owned_by(&owner, route("held", "web"), false);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    api.create(&routes(), &held).await;
    assert_eq!(api.delete(&format!("{}/web", workspaces())).await.0, 200);
    assert!(!exists(&api, &format!("{}/web", workspaces())).await, "records of its own do not keep it in use");
    assert!(!exists(&api, &format!("{}/own", routes())).await);
    let (_, held) = api.get(&format!("{}/held", routes())).await;
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "its finalizer is honoured: {held}");
}

#[tokio::test]
async fn foreground_waits_for_dependents_that_block() {
    let api = super::fresh_api().await;
    api.project().await;
    let owner = api.create(&workspaces(), &workspace("web")).await;
    let mut blocking = owned_by(&owner, route("own", "web"), true);
    blocking["metadata"]["finalizers"] = json!(["example.com/a"]);
    api.create(&routes(), &blocking).await;
    let path = format!("{}/web", workspaces());
    let (_, waiting) = api.delete(&format!("{path}?propagationPolicy=Foreground")).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert!(api.get(&format!("{}/own", routes())).await.1["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(api.merge(&format!("{}/own", routes()), &json!({"metadata": {"finalizers": []}})).await.0, 200);
    assert!(!exists(&api, &path).await && !exists(&api, &format!("{}/own", routes())).await);
}

#[tokio::test]
async fn a_dependent_that_comes_while_its_owner_goes_goes_too() {
    let api = super::fresh_api().await;
    let (users, at) = (format!("{GROUP}/users"), |name: &str| format!("{GROUP}/users/{name}"));
    let owner = api.create(&users, &user("owner")).await;
    let held = |name: &str| {
        let mut record = owned_by(&owner, user(name), true);
        record["metadata"]["finalizers"] = json!(["example.com/a"]);
        record
    };
    api.create(&users, &held("first")).await;
    api.create(&users, &user("moved")).await;
    delete_in(&api, &at("owner"), "Foreground").await;
    api.create(&users, &owned_by(&owner, user("late"), true)).await;
    assert!(!exists(&api, &at("late")).await);
    add_owner(&api, "moved", &owner).await;
    assert!(!exists(&api, &at("moved")).await);
    api.create(&users, &held("last")).await;
    for name in ["first", "last"] {
        assert!(exists(&api, &at("owner")).await);
        assert!(api.get(&at(name)).await.1["metadata"]["deletionTimestamp"].is_string());
        api.merge(&at(name), &json!({"metadata": {"finalizers": []}})).await;
    }
    assert!(!exists(&api, &at("owner")).await);
}

/// Makes one user also owned by another, beside the owners it has.
async fn add_owner(api: &Api, name: &str, owner: &Value) {
    let path = format!("{GROUP}/users/{name}");
    let mut record = api.get(&path).await.1;
    let reference = owned_by(owner, user(name), true)["metadata"]["ownerReferences"][0].clone();
    let mut owners = record["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    owners.push(reference);
    record["metadata"]["ownerReferences"] = owners.into();
    assert_eq!(api.put(&path, &record).await.0, 200);
}

async fn delete_in(api: &Api, path: &str, how: &str) -> Value {
    let answer = tokio::time::timeout(Duration::from_secs(20), api.delete(&format!("{path}?propagationPolicy={how}"))).await;
    let (code, answer) = answer.expect("a deletion ends");
    assert_eq!(code, 200, "{answer}");
    answer
}

#[tokio::test]
async fn owners_in_a_circle_go_together() {
    let api = super::fresh_api().await;
    let path = |name: &str| format!("{GROUP}/users/{name}");
    for how in ["Foreground", "Background", "Orphan"] {
        let own = api.create(&format!("{GROUP}/users"), &user("own")).await;
        add_owner(&api, "own", &own).await;
        delete_in(&api, &path("own"), how).await;
        assert!(!exists(&api, &path("own")).await, "{how}");
    }
    for how in ["Foreground", "Background"] {
        let mut made = Vec::new();
        for name in ["a", "b", "c"] {
            made.push(api.create(&format!("{GROUP}/users"), &user(name)).await);
        }
        for (name, owner) in [("b", &made[0]), ("c", &made[1]), ("a", &made[2])] {
            add_owner(&api, name, owner).await;
        }
        delete_in(&api, &path("b"), how).await;
        for name in ["a", "b", "c"] {
            assert!(!exists(&api, &path(name)).await, "{how}: {name}");
        }
    }
}

#[tokio::test]
async fn a_circle_of_owners_still_waits_for_what_hangs_on_it() {
    let api = super::fresh_api().await;
    let users = format!("{GROUP}/users");
    let a = api.create(&users, &user("a")).await;
    let b = api.create(&users, &owned_by(&a, user("b"), true)).await;
    add_owner(&api, "a", &b).await;
    let mut held = owned_by(&a, user("held"), true);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    api.create(&users, &held).await;
    delete_in(&api, &format!("{users}/a"), "Foreground").await;
    assert!(exists(&api, &format!("{users}/a")).await);
    assert_eq!(api.merge(&format!("{users}/held"), &json!({"metadata": {"finalizers": null}})).await.0, 200);
    for name in ["a", "b", "held"] {
        assert!(!exists(&api, &format!("{users}/{name}")).await, "{name}");
    }
}

#[tokio::test]
async fn foreground_does_not_wait_for_a_dependent_another_owner_keeps() {
    let api = super::fresh_api().await;
    let users = format!("{GROUP}/users");
    let (a, b) = (api.create(&users, &user("a")).await, api.create(&users, &user("b")).await);
    api.create(&users, &owned_by(&a, user("only"), true)).await;
    api.create(&users, &owned_by(&a, user("shared"), true)).await;
    add_owner(&api, "shared", &b).await;
    delete_in(&api, &format!("{users}/a"), "Foreground").await;
    assert!(!exists(&api, &format!("{users}/a")).await && !exists(&api, &format!("{users}/only")).await);
    let (_, shared) = api.get(&format!("{users}/shared")).await;
    assert_eq!(shared["metadata"]["ownerReferences"][0]["uid"], b["metadata"]["uid"]);
    assert_eq!(shared["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_dependent_that_comes_late_and_has_another_owner_is_not_waited_for() {
    let api = super::fresh_api().await;
    let users = format!("{GROUP}/users");
    let (a, b) = (api.create(&users, &user("a")).await, api.create(&users, &user("b")).await);
    let mut held = owned_by(&a, user("held"), true);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    api.create(&users, &held).await;
    delete_in(&api, &format!("{users}/a"), "Foreground").await;
    api.create(&users, &owned_by(&b, user("late"), true)).await;
    add_owner(&api, "late", &a).await;
    let (_, late) = api.get(&format!("{users}/late")).await;
    assert_eq!(late["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1), "{late}");
    api.merge(&format!("{users}/held"), &json!({"metadata": {"finalizers": null}})).await;
    assert!(!exists(&api, &format!("{users}/a")).await && exists(&api, &format!("{users}/late")).await);
}

#[tokio::test]
async fn a_record_that_owns_itself_beside_others_loses_itself() {
    let api = super::fresh_api().await;
    let users = format!("{GROUP}/users");
    let a = api.create(&users, &user("a")).await;
    for how in ["Foreground", "Orphan"] {
        let mut own = owned_by(&a, user("own"), true);
        own["metadata"]["finalizers"] = json!(["example.com/a"]);
        let own = api.create(&users, &own).await;
        add_owner(&api, "own", &own).await;
        let waiting = delete_in(&api, &format!("{users}/own"), how).await;
        assert_eq!(waiting["metadata"]["ownerReferences"][0]["name"], "a");
        assert_eq!(waiting["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1), "{how}: {waiting}");
        api.merge(&format!("{users}/own"), &json!({"metadata": {"finalizers": null}})).await;
    }
}

#[tokio::test]
async fn an_owner_goes_when_its_dependent_lets_go() {
    let api = super::fresh_api().await;
    let users = format!("{GROUP}/users");
    let lets_go = [json!({"ownerReferences": null}), json!({"ownerReferences": "unblocked"})];
    for (i, change) in lets_go.into_iter().enumerate() {
        let (owner, name) = (format!("owner{i}"), format!("held{i}"));
        let made = api.create(&users, &user(&owner)).await;
        let mut held = owned_by(&made, user(&name), true);
        held["metadata"]["finalizers"] = json!(["example.com/a"]);
        api.create(&users, &held).await;
        delete_in(&api, &format!("{users}/{owner}"), "Foreground").await;
        assert!(exists(&api, &format!("{users}/{owner}")).await);
        let patch = match change["ownerReferences"].as_str() {
            Some(_) => {
                json!({"metadata": {"ownerReferences": owned_by(&made, user(&name), false)["metadata"]["ownerReferences"]}})
            }
            None => json!({"metadata": change}),
        };
        assert_eq!(api.merge(&format!("{users}/{name}"), &patch).await.0, 200);
        assert!(!exists(&api, &format!("{users}/{owner}")).await, "{patch}");
    }
}

#[tokio::test]
async fn a_dependent_that_stays_never_names_what_is_gone() {
    let api = super::fresh_api().await;
    api.project().await;
    let web = api.create(&workspaces(), &workspace("web")).await;
    let other = api.create(&workspaces(), &workspace("other")).await;
    let mut shared = owned_by(&web, route("shared", "web"), false);
    let second = owned_by(&other, route("shared", "web"), false)["metadata"]["ownerReferences"][0].clone();
    shared["metadata"]["ownerReferences"].as_array_mut().unwrap().push(second);
    api.create(&routes(), &shared).await;
    let (web, route) = (format!("{}/web", workspaces()), format!("{}/shared", routes()));
    delete_in(&api, &web, "Background").await;
    let (_, waiting) = api.get(&web).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!([IN_USE]), "the route stays and names it");
    // With its other owner gone the route belongs to the workspace alone, and goes with it.
    delete_in(&api, &format!("{}/other", workspaces()), "Background").await;
    assert!(!exists(&api, &web).await && !exists(&api, &route).await);
}

#[tokio::test]
async fn what_waits_for_dependents_goes_when_they_are_orphaned_after_all() {
    let api = super::fresh_api().await;
    let users = format!("{GROUP}/users");
    let owner = api.create(&users, &user("owner")).await;
    let mut held = owned_by(&owner, user("held"), true);
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    api.create(&users, &held).await;
    let (_, waiting) = api.delete(&format!("{users}/owner?propagationPolicy=Foreground")).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(api.delete(&format!("{users}/owner?propagationPolicy=Orphan")).await.0, 200);
    assert!(!exists(&api, &format!("{users}/owner")).await);
    let (_, left) = api.get(&format!("{users}/held")).await;
    assert!(left["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty), "{left}");
}

#[tokio::test]
async fn orphaned_dependents_stay_without_their_owner() {
    let api = super::fresh_api().await;
    let owner = api.create(&format!("{GROUP}/users"), &user("ada")).await;
    api.create(&format!("{GROUP}/users"), &owned_by(&owner, user("bob"), true)).await;
    assert_eq!(api.delete(&format!("{GROUP}/users/ada?propagationPolicy=Orphan")).await.0, 200);
    let (code, bob) = api.get(&format!("{GROUP}/users/bob")).await;
    assert_eq!(code, 200);
    assert!(bob["metadata"].get("ownerReferences").is_none(), "{bob}");
}

#[tokio::test]
async fn a_dependent_with_another_owner_stays() {
    let api = super::fresh_api().await;
    let a = api.create(&format!("{GROUP}/users"), &user("a")).await;
    let b = api.create(&format!("{GROUP}/users"), &user("b")).await;
    let mut both = owned_by(&a, user("c"), false);
    let other = owned_by(&b, user("c"), false)["metadata"]["ownerReferences"][0].clone();
    both["metadata"]["ownerReferences"].as_array_mut().unwrap().push(other);
    api.create(&format!("{GROUP}/users"), &both).await;
    api.delete(&format!("{GROUP}/users/a")).await;
    let (_, c) = api.get(&format!("{GROUP}/users/c")).await;
    assert_eq!(c["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    api.delete(&format!("{GROUP}/users/b")).await;
    assert!(!exists(&api, &format!("{GROUP}/users/c")).await);
}

#[tokio::test]
async fn an_owner_must_exist() {
    let api = super::fresh_api().await;
    let a = api.create(&format!("{GROUP}/users"), &user("a")).await;
    let mut wrong = owned_by(&a, user("b"), false);
    wrong["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    assert_eq!(api.post(&format!("{GROUP}/users"), &wrong).await.0, 422);
}

fn permutations(items: Vec<String>) -> Vec<Vec<String>> {
    if items.len() <= 1 {
        return vec![items];
    }
    let mut all = Vec::new();
    for i in 0..items.len() {
        let mut rest = items.clone();
        let first = rest.remove(i);
        all.extend(permutations(rest).into_iter().map(|p| [vec![first.clone()], p].concat()));
    }
    all
}

#[tokio::test]
async fn deleting_a_set_ends_clean_in_every_order() {
    let api = super::fresh_api().await;
    let paths = vec![
        format!("{GROUP}/users/ada"),
        format!("{GROUP}/templates/base"),
        format!("{GROUP}/projects/team"),
        format!("{}/web", workspaces()),
        format!("{}/web", routes()),
    ];
    for order in permutations(paths.clone()) {
        api.project().await;
        api.create(&workspaces(), &workspace("web")).await;
        api.create(&routes(), &route("web", "web")).await;
        for path in &order {
            assert_eq!(api.delete(path).await.0, 200, "{order:?}");
        }
        for path in &paths {
            assert!(!exists(&api, path).await, "{path} is left after {order:?}");
        }
        assert!(!exists(&api, "/api/v1/namespaces/team").await);
    }
}

#[tokio::test]
async fn a_record_in_use_waits_for_its_last_user() {
    let api = super::fresh_api().await;
    api.project().await;
    api.create(&format!("{GROUP}/templates"), &template("other")).await;
    let path = format!("{GROUP}/templates/base");
    let (_, waiting) = api.delete(&path).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!([IN_USE]));
    let refused = api.post(&format!("{GROUP}/projects"), &project("more")).await;
    assert_eq!(refused.0, 422);
    assert!(refused.1["message"].as_str().unwrap().contains("Template \"base\" is being deleted"), "{refused:?}");
    // Its user stays writable, and taking the finalizer off by hand does not help.
    assert_eq!(api.merge(&format!("{GROUP}/projects/team"), &json!({"spec": {"description": "x"}})).await.0, 200);
    api.merge(&path, &json!({"metadata": {"finalizers": []}})).await;
    assert_eq!(api.get(&path).await.1["metadata"]["finalizers"], json!([IN_USE]));
    assert_eq!(api.merge(&format!("{GROUP}/projects/team"), &json!({"spec": {"template": "other"}})).await.0, 200);
    assert!(!exists(&api, &path).await, "it goes with the last record that named it");
}

#[tokio::test]
async fn a_project_waits_for_its_workspaces_and_takes_no_new_ones() {
    let api = super::fresh_api().await;
    api.project().await;
    let mut held = workspace("web");
    held["metadata"]["finalizers"] = json!(["devsanctum.io/workspace"]);
    api.create(&workspaces(), &held).await;
    let path = format!("{GROUP}/projects/team");
    assert!(api.delete(&path).await.1["metadata"]["deletionTimestamp"].is_string());
    assert!(api.get(&format!("{}/web", workspaces())).await.1["metadata"].get("deletionTimestamp").is_none());
    assert_eq!(api.get("/api/v1/namespaces/team").await.1["status"]["phase"], "Terminating");
    let (code, refused) = api.post(&workspaces(), &workspace("new")).await;
    assert_eq!(code, 403, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("because it is being terminated"));
    api.delete(&format!("{}/web", workspaces())).await;
    assert!(exists(&api, &path).await);
    api.merge(&format!("{}/web", workspaces()), &json!({"metadata": {"finalizers": null}})).await;
    assert!(!exists(&api, &path).await);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let api = super::fresh_api().await;
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut body = user(name);
        body["metadata"]["labels"] = json!({"l": label});
        api.create(&format!("{GROUP}/users"), &body).await;
    }
    assert_eq!(api.delete(&format!("{GROUP}/users?labelSelector=l%3Dx")).await.0, 200);
    let (_, left) = api.get(&format!("{GROUP}/users")).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}
