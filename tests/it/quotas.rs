//! What projects, people and groups may hold at most.

use crate::support::api::{Api, GROUP, project, record, user, workspace, workspaces};
use futures::future::join_all;
use serde_json::{Value, json};

/// Two projects: each workspace of `team` takes 512 MiB, 2 GiB and 1.5 cores; of `heavy`, with a database beside it, 1,536 MiB, 7 GiB
/// and 2 cores.
async fn world() -> Api {
    let api = super::fresh_api().await;
    for name in ["ada", "bob"] {
        api.create(&format!("{GROUP}/users"), &user(name)).await;
    }
    let parent = json!({"base": "node:20", "minRamMb": 512, "limits": {"cpu": 1.5}});
    api.create(&format!("{GROUP}/templates"), &record("Template", "parent", parent)).await;
    let base = json!({"extends": "parent", "minDiskGb": 2});
    api.create(&format!("{GROUP}/templates"), &record("Template", "base", base)).await;
    let sidecar = json!({"image": "postgres:16", "limits": {"cpu": 0.5}});
    let feature = json!({"sidecar": sidecar, "minRamMb": 512, "minDiskGb": 5});
    api.create(&format!("{GROUP}/features"), &record("Feature", "database", feature)).await;
    let needs = json!({"requires": ["database"]});
    api.create(&format!("{GROUP}/features"), &record("Feature", "reports", needs)).await;
    api.create(&format!("{GROUP}/projects"), &project("team")).await;
    let mut heavy = project("heavy");
    heavy["spec"]["features"] = json!([{"name": "reports"}]);
    heavy["spec"]["minRamMb"] = json!(1024);
    api.create(&format!("{GROUP}/projects"), &heavy).await;
    api
}

async fn limit(api: &Api, what: &str, field: &str, quota: Value) {
    let (code, answer) = api.merge(&format!("{GROUP}/{what}"), &json!({"spec": {field: quota}})).await;
    assert_eq!(code, 200, "{answer}");
}

fn of(owner: &str, name: &str) -> Value {
    let mut it = workspace(name);
    it["spec"]["owner"] = json!(owner);
    it
}

fn heavies() -> String {
    format!("{GROUP}/namespaces/heavy/workspaces")
}

fn refused(answer: (u16, Value), wanted: &str) {
    let said = answer.1["message"].as_str().unwrap_or_default();
    assert!(answer.0 == 403 && said.contains(wanted), "wanted {wanted:?}: {} {said}", answer.0);
}

#[tokio::test]
async fn a_person_s_quota_counts_what_they_hold_in_all_projects() {
    let api = world().await;
    limit(&api, "users/ada", "quota", json!({"ramMb": 2048, "cpu": 6.0, "diskGb": 9.0})).await;
    api.create(&workspaces(), &of("ada", "a")).await;
    api.create(&workspaces(), &of("bob", "b")).await;
    let asked =
        "exceeded quota of user \"ada\" (spec.quota): requested: ramMb=1536, used: ramMb=1024, limited: ramMb=2048: stop one";
    api.create(&workspaces(), &of("ada", "c")).await;
    refused(api.post(&heavies(), &of("ada", "d")).await, asked);
    assert_eq!(api.merge(&format!("{}/c", workspaces()), &json!({"spec": {"running": false}})).await.0, 200);
    let disk = "requested: diskGb=7, used: diskGb=4, limited: diskGb=9: delete one";
    refused(api.post(&heavies(), &of("ada", "d")).await, disk);
    assert_eq!(api.delete(&format!("{}/c", workspaces())).await.0, 200);
    api.create(&heavies(), &of("ada", "d")).await;
    // What is used up is not taken away: it holds for the next.
    limit(&api, "users/ada", "quota", json!({"ramMb": 1})).await;
    assert_eq!(api.merge(&format!("{}/d", heavies()), &json!({"spec": {"branch": "x"}})).await.0, 200);
    assert_eq!(api.merge(&format!("{}/d", heavies()), &json!({"spec": {"running": false}})).await.0, 200);
    let start = api.merge(&format!("{}/d", heavies()), &json!({"spec": {"running": true}})).await;
    refused(start, "requested: ramMb=1536, used: ramMb=512, limited: ramMb=1");
    // Nor does it come to somebody by being given away.
    limit(&api, "users/bob", "quota", json!({"workspaces": 1})).await;
    let given = api.merge(&format!("{}/d", heavies()), &json!({"spec": {"owner": "bob"}})).await;
    refused(given, "exceeded quota of user \"bob\" (spec.quota): requested: workspaces=1, used: workspaces=1");
}

#[tokio::test]
async fn the_settings_limit_whoever_has_no_quota_of_their_own() {
    let api = world().await;
    let settings = record("Settings", "default", json!({"userQuota": {"running": 1, "workspaces": 2}}));
    api.create(&format!("{GROUP}/settings"), &settings).await;
    api.create(&workspaces(), &of("ada", "a")).await;
    let wanted = "exceeded quota of user \"ada\" (the settings' spec.userQuota): requested: running=1, used: running=1";
    refused(api.post(&workspaces(), &of("ada", "b")).await, wanted);
    api.create(&workspaces(), &of("bob", "b")).await;
    limit(&api, "users/ada", "quota", json!({"running": 5})).await;
    api.create(&workspaces(), &of("ada", "c")).await;
    let wanted = "user \"ada\" (the settings' spec.userQuota): requested: workspaces=1, used: workspaces=2, limited: workspaces=2: delete one";
    refused(api.post(&workspaces(), &of("ada", "d")).await, wanted);
}

#[tokio::test]
async fn what_cannot_be_told_is_not_taken_for_nothing() {
    let api = world().await;
    limit(&api, "projects/heavy", "quota", json!({"ramMb": 4096})).await;
    let feature = |options: Value| json!({"spec": {"features": [{"name": "reports", "options": options}]}});
    assert_eq!(api.merge(&format!("{GROUP}/projects/heavy"), &feature(json!({"unknown": "1"}))).await.0, 200);
    refused(
        api.post(&heavies(), &of("ada", "a")).await,
        "the quota of project \"heavy\" is about what it takes, and that cannot be told: ",
    );
    // What is not sized needs no telling.
    limit(&api, "projects/heavy", "quota", json!({"ramMb": null, "workspaces": 1})).await;
    api.create(&heavies(), &of("ada", "a")).await;
    refused(api.post(&heavies(), &of("ada", "b")).await, "used: workspaces=1, limited: workspaces=1");
}

#[tokio::test]
async fn a_companion_that_does_not_say_what_it_may_use_counts_as_the_main_container() {
    let api = world().await;
    let sidecar = json!({"sidecar": {"image": "redis:7"}});
    api.create(&format!("{GROUP}/features"), &record("Feature", "cache", sidecar)).await;
    assert_eq!(api.merge(&format!("{GROUP}/projects/team"), &json!({"spec": {"features": [{"name": "cache"}]}})).await.0, 200);
    limit(&api, "projects/team", "quota", json!({"cpu": 5.9})).await;
    api.create(&workspaces(), &of("ada", "a")).await;
    refused(api.post(&workspaces(), &of("ada", "b")).await, "requested: cpu=3, used: cpu=3, limited: cpu=5.9");
}

#[tokio::test]
async fn a_group_s_quota_is_its_members_together() {
    let api = world().await;
    let members = json!([{"user": "ada"}, {"user": "bob"}]);
    let group = json!({"members": members, "quota": {"running": 2}});
    api.create(&format!("{GROUP}/groups"), &record("Group", "crew", group)).await;
    api.create(&format!("{GROUP}/users"), &user("eve")).await;
    api.create(&workspaces(), &of("ada", "a")).await;
    api.create(&heavies(), &of("bob", "b")).await;
    let wanted = "exceeded quota of group \"crew\" (spec.quota): requested: running=1, used: running=2, limited: running=2";
    refused(api.post(&workspaces(), &of("ada", "c")).await, wanted);
    api.create(&workspaces(), &of("eve", "e")).await;
    let mut stopped = of("bob", "d");
    stopped["spec"]["running"] = json!(false);
    api.create(&workspaces(), &stopped).await;
}

#[tokio::test]
async fn however_many_ask_at_once_no_quota_is_exceeded() {
    let api = world().await;
    limit(&api, "projects/team", "quota", json!({"ramMb": 512 * 5})).await;
    limit(&api, "users/ada", "quota", json!({"cpu": 1.5 * 3.0})).await;
    let asked: Vec<Value> = (0..20).map(|n| of(if n % 2 == 0 { "ada" } else { "bob" }, &format!("w{n}"))).collect();
    let path = workspaces();
    let answers = join_all(asked.iter().map(|body| api.post(&path, body))).await;
    let made: Vec<&Value> = answers.iter().filter(|(code, _)| *code == 201).map(|(_, made)| made).collect();
    let of_ada = made.iter().filter(|m| m["spec"]["owner"] == "ada").count();
    assert!(made.len() == 5 && of_ada <= 3, "{} made, {of_ada} of them ada's", made.len());
    assert!(answers.iter().all(|(code, _)| [201, 403].contains(code)));
}

#[tokio::test]
async fn amounts_are_no_less_than_nothing() {
    let api = world().await;
    for quota in [json!({"cpu": -1}), json!({"diskGb": -0.5}), json!({"ramMb": -1})] {
        let (code, answer) = api.merge(&format!("{GROUP}/users/ada"), &json!({"spec": {"quota": quota}})).await;
        assert!([400, 422].contains(&code), "{quota}: {code} {answer}");
    }
}
