//! What each role may do, what of a record, and how a refusal is worded.

use super::Town;
use crate::support::api::record;
use devsanctum::access::Scope;
use serde_json::{Value, json};

const TEAM: &str = "namespaces/team/workspaces";

#[tokio::test]
async fn a_list_shows_what_its_reader_may_see() {
    let town = Town::new().await;
    let all = town.names("reader", "workspaces").await;
    assert!(all.contains(&"of-owner".to_owned()) && all.contains(&"shown".to_owned()), "{all:?}");
    assert!(!all.contains(&"of-other".to_owned()) && !all.contains(&"hidden".to_owned()), "{all:?}");
    assert_eq!(town.names("stranger", "workspaces").await, ["shown"]);
    assert_eq!(town.names("stranger", "projects").await, ["open"]);
    assert_eq!(town.names("reader", "projects").await, ["open", "team"]);
    assert_eq!(town.names("other", "projects").await, ["else", "open"]);
    assert_eq!(town.names("stranger", TEAM).await, [""; 0], "of a project that is hidden, as of one that is not there");
    assert_eq!(town.names("stranger", "namespaces/nowhere/workspaces").await, [""; 0]);
    assert_eq!(town.names("deployer", "users").await, ["deployer", "disabled", "lead"]);
    assert_eq!(town.names("deployer", "groups").await, ["devs"]);
    assert_eq!(town.names("deployer", "dockerservers").await, ["for-all", "for-devs"]);
    assert_eq!(town.names("manager", "secrets").await, ["git"]);
    assert_eq!(town.names("deployer", "secrets").await, [""; 0]);
    assert_eq!(town.names("admin", "workspaces").await.len(), 10);
    // In pages, too: a page is full of what is seen, whatever lies between.
    let (_, page) = town.get("reader", "workspaces?limit=7").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 7);
    let rest = format!("workspaces?limit=7&continue={}", page["metadata"]["continue"].as_str().unwrap());
    assert_eq!(town.names("reader", &rest).await, ["of-reader"]);
}

#[tokio::test]
async fn a_refusal_says_what_it_takes() {
    let town = Town::new().await;
    let (code, why) = town.ask("deployer", "DELETE", &format!("{TEAM}/of-owner"), &Value::Null).await;
    let message = why["message"].as_str().unwrap();
    assert_eq!(code, 403, "{why}");
    assert_eq!(
        message,
        "workspaces.devsanctum.io \"of-owner\" is forbidden: User \"deployer\" cannot delete resource \"workspaces\" in API group \
         \"devsanctum.io\" in the namespace \"team\": it takes MANAGE in the project, or DEPLOY and that the workspace is theirs: \
         deployer has DEPLOY in project \"team\", by group \"devs\""
    );
    let (code, why) = town.ask("reader", "POST", TEAM, &record("Workspace", "mine", json!({"owner": "reader"}))).await;
    assert_eq!(code, 403);
    assert!(why["message"].as_str().unwrap().contains("it takes DEPLOY in the project: reader has READ"), "{why}");
}

#[tokio::test]
async fn somebody_who_deploys_manages_their_own() {
    let town = Town::new().await;
    let own = format!("{TEAM}/of-deployer");
    assert_eq!(town.ask("deployer", "PATCH", &own, &json!({"spec": {"running": false, "pinned": true}})).await.0, 200);
    for (patch, field) in [
        (json!({"spec": {"owner": "owner"}}), "spec.owner"),
        (json!({"metadata": {"finalizers": null}}), ""),
        (json!({"metadata": {"finalizers": ["example.com/held"]}}), "metadata.finalizers"),
        (json!({"metadata": {"labels": {"devsanctum.io/uid": "x"}}}), "metadata.labels[devsanctum.io/uid]"),
        (json!({"metadata": {"annotations": {"devsanctum.io/abandon": "true"}}}), "metadata.annotations[devsanctum.io/abandon]"),
    ] {
        let (code, why) = town.ask("deployer", "PATCH", &own, &patch).await;
        let expected = if field.is_empty() { 200 } else { 403 };
        assert_eq!(code, expected, "{patch}: {why}");
        assert!(field.is_empty() || why["message"].as_str().unwrap().contains(field), "{patch}: {why}");
    }
    let suspend = json!({"metadata": {"annotations": {"devsanctum.io/suspend": "true"}, "labels": {"mine": "yes"}}});
    assert_eq!(town.ask("deployer", "PATCH", &own, &suspend).await.0, 200);
    // For somebody else: not with DEPLOY, but with MANAGE.
    let others = record("Workspace", "for-reader", json!({"owner": "reader"}));
    let (code, why) = town.ask("deployer", "POST", TEAM, &others).await;
    assert_eq!(code, 403);
    assert!(why["message"].as_str().unwrap().contains("spec.owner: must be \"deployer\""), "{why}");
    assert_eq!(town.ask("manager", "POST", TEAM, &others).await.0, 201);
    // Nobody's quota is used up where they see nothing.
    let (code, why) = town.ask("manager", "POST", TEAM, &record("Workspace", "for-other", json!({"owner": "other"}))).await;
    assert!(code == 403 && why["message"].as_str().unwrap().contains("spec.owner: \"other\" has no role"), "{why}");
    let given = town.ask("owner", "PATCH", &format!("{TEAM}/of-owner"), &json!({"spec": {"owner": "stranger"}})).await;
    assert!(given.0 == 403, "{}", given.1);
    // A fork has the other's files.
    let fork = |from: &str| record("Workspace", "copy", json!({"owner": "deployer", "from": from}));
    for from in ["of-owner", "nothing"] {
        let (code, why) = town.ask("deployer", "POST", TEAM, &fork(from)).await;
        assert!(code == 403 && why["message"].as_str().unwrap().contains("spec.from"), "{from}: {why}");
    }
    let (code, copy) = town.ask("deployer", "POST", TEAM, &fork("of-deployer")).await;
    assert_eq!(code, 201, "{copy}");
    let (_, source) = town.get("deployer", &own).await;
    assert_eq!(copy["status"]["source"], source["metadata"]["uid"], "it is a copy of this one, whoever has its name later");
    assert_eq!(town.ask("deployer", "POST", TEAM, &record("Workspace", "new", json!({"owner": "deployer"}))).await.0, 201);
    assert_eq!(town.ask("deployer", "DELETE", &format!("{TEAM}/new"), &Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_member_may_pin_their_own_and_no_more() {
    let town = Town::new().await;
    let own = format!("{TEAM}/of-reader");
    assert_eq!(town.ask("reader", "PATCH", &own, &json!({"spec": {"pinned": true}})).await.0, 200);
    let (code, why) = town.ask("reader", "PATCH", &own, &json!({"spec": {"pinned": false, "visibility": "PUBLIC"}})).await;
    assert_eq!(code, 403);
    assert!(why["message"].as_str().unwrap().contains("spec.visibility"), "{why}");
    // Who suspends one takes it from those who may stop and close it.
    for switch in ["suspend", "recreate"] {
        let patch = json!({"metadata": {"annotations": {(format!("devsanctum.io/{switch}")): "true"}}});
        let (code, why) = town.ask("reader", "PATCH", &own, &patch).await;
        assert!(code == 403 && why["message"].as_str().unwrap().contains(switch), "{why}");
    }
    let label = json!({"metadata": {"annotations": {"example.com/mine": "yes"}}});
    assert_eq!(town.ask("reader", "PATCH", &own, &label).await.0, 200);
    assert_eq!(town.ask("reader", "PATCH", &format!("{TEAM}/of-owner"), &json!({"spec": {"pinned": true}})).await.0, 403);
    assert_eq!(town.ask("reader", "DELETE", &own, &Value::Null).await.0, 403);
}

#[tokio::test]
async fn a_projects_settings_take_manage_and_its_end_its_owner() {
    let town = Town::new().await;
    let patch = |spec: Value| json!({"spec": spec});
    let describe = patch(json!({"description": "ours"}));
    for (who, code) in [("reader", 403), ("deployer", 403), ("lead", 403), ("manager", 200), ("owner", 200), ("other", 404)] {
        assert_eq!(town.ask(who, "PATCH", "projects/team", &describe).await.0, code, "{who}");
    }
    assert_eq!(town.ask("manager", "PATCH", "projects/team", &patch(json!({"owner": "manager"}))).await.0, 403);
    assert_eq!(town.ask("manager", "DELETE", "projects/team", &Value::Null).await.0, 403);
    // A quota that whoever it binds could raise would be none.
    let quota = |most: Value| patch(json!({"quota": {"running": most}}));
    for (most, code) in [(json!(5), 200), (json!(3), 200), (json!(4), 403), (Value::Null, 403)] {
        assert_eq!(town.ask("owner", "PATCH", "projects/team", &quota(most.clone())).await.0, code, "{most}");
    }
    assert_eq!(town.ask("admin", "PATCH", "projects/team", &quota(Value::Null)).await.0, 200);
    assert_eq!(town.ask("owner", "PATCH", "users/owner", &patch(json!({"quota": {"running": 99}}))).await.0, 403);
    // What a group may use comes with it, so only its members lend it.
    let groups = |more: &str| {
        patch(json!({"groups": [{"group": "readers", "role": "DEPLOY"}, {"group": "devs", "role": "DEPLOY"},
            {"group": "leads", "role": "MANAGE"}, {"group": more, "role": "READ"}]}))
    };
    let (code, why) = town.ask("manager", "PATCH", "projects/team", &groups("elsewhere")).await;
    assert_eq!(code, 403);
    assert!(why["message"].as_str().unwrap().contains("\"elsewhere\" is no group of yours"), "{why}");
    town.put("", "groups", "Group", "more", json!({"members": [{"user": "manager"}]})).await;
    assert_eq!(town.ask("manager", "PATCH", "projects/team", &groups("more")).await.0, 200);
    assert_eq!(town.ask("reader", "POST", TEAM, &record("Workspace", "now", json!({"owner": "reader"}))).await.0, 201, "at once");
    // Everybody makes projects of their own.
    let mine = |owner: &str| record("Project", "mine", json!({"owner": owner, "template": "base"}));
    assert_eq!(town.ask("stranger", "POST", "projects", &mine("owner")).await.0, 403);
    assert_eq!(town.ask("stranger", "POST", "projects", &mine("stranger")).await.0, 201);
    assert_eq!(town.ask("stranger", "DELETE", "projects/mine", &Value::Null).await.0, 200);
    assert_eq!(town.ask("owner", "DELETE", "projects/team", &Value::Null).await.0, 200);
}

#[tokio::test]
async fn a_groups_manager_changes_its_members_alone() {
    let town = Town::new().await;
    let members = json!({"spec": {"members": [{"user": "deployer"}, {"user": "lead", "role": "MANAGER"}]}});
    assert_eq!(town.ask("deployer", "PATCH", "groups/devs", &members).await.0, 403);
    assert_eq!(town.ask("lead", "PATCH", "groups/devs", &members).await.0, 200);
    assert_eq!(town.ask("lead", "PATCH", "groups/devs", &json!({"spec": {"description": "mine"}})).await.0, 403);
    assert_eq!(town.ask("lead", "DELETE", "groups/devs", &Value::Null).await.0, 403);
    assert_eq!(town.ask("lead", "PATCH", "groups/leads", &members).await.0, 404);
    // Their own record is a person's to dress, not to promote.
    let own = "users/deployer";
    assert_eq!(town.ask("deployer", "PATCH", own, &json!({"spec": {"displayName": "Dee"}})).await.0, 200);
    for spec in [json!({"role": "ADMIN"}), json!({"active": false}), json!({"email": "root@example.com"})] {
        assert_eq!(town.ask("deployer", "PATCH", own, &json!({"spec": spec})).await.0, 403, "{spec}");
    }
    assert_eq!(town.ask("deployer", "PATCH", "users/lead", &json!({"spec": {"displayName": "x"}})).await.0, 403);
}

/// What somebody may not see is not named to them, and named by them it is as what is not there.
#[tokio::test]
async fn refusals_name_nothing_that_is_not_theirs_to_see() {
    let mut town = Town::new().await;
    let said = async |town: &Town, who: &str, path: &str, method: &str, body: &Value| {
        let (code, why) = town.ask(who, method, path, body).await;
        (code, why["message"].as_str().unwrap_or_default().to_owned())
    };
    let on = |server: &str| record("Workspace", "new", json!({"owner": "deployer", "dockerServer": server}));
    let mut words = Vec::new();
    for server in ["for-others", "nowhere"] {
        let (code, why) = said(&town, "deployer", TEAM, "POST", &on(server)).await;
        assert!(code == 422 && why.contains("no DockerServer of this name; there are: for-all, for-devs"), "{why}");
        assert!(!why.replace(&format!("{server:?}"), "").contains("for-others"), "{why}");
        words.push(why.replace(server, "…"));
    }
    assert_eq!(words[0], words[1]);
    let (code, why) = said(&town, "admin", TEAM, "POST", &on("nowhere")).await;
    assert!(code == 422 && why.contains("for-all, for-devs, for-others"), "{why}");
    // Who is in no group of theirs, as a project is given away.
    for owner in ["other", "nobody"] {
        let (code, why) = said(&town, "owner", "projects/team", "PATCH", &json!({"spec": {"owner": owner}})).await;
        assert!(code == 422 && why.contains("no User of this name; there are: owner"), "{why}");
    }
    assert_eq!(
        said(&town, "owner", "projects/team", "PATCH", &json!({"spec": {"owner": "manager"}})).await.0,
        200,
        "a role there"
    );
    // Nor who has a value that is taken already.
    let host = "mine.example.com";
    let at = |name: &str, owner: &str| record("Workspace", name, json!({"owner": owner, "routeDomain": host}));
    assert_eq!(town.ask("other", "POST", "namespaces/else/workspaces", &at("secret-name", "other")).await.0, 201);
    let (code, why) = said(&town, "deployer", TEAM, "POST", &at("new", "deployer")).await;
    assert!(code == 422 && why.contains("another record, which you may not see, already has it"), "{why}");
    let (_, why) = said(&town, "admin", TEAM, "POST", &at("new", "deployer")).await;
    assert!(why.contains("Workspace \"secret-name\" in project \"else\" already has it"), "{why}");
    // A key that is for workspaces alone still makes them, with a server and an owner that its holder may name.
    town.key("narrow", "deployer", Scope { kinds: vec!["workspaces".into()], ..Scope::default() }, None).await;
    assert_eq!(said(&town, "narrow", TEAM, "POST", &on("for-devs")).await.0, 201);
}

#[tokio::test]
async fn several_documents_at_once_are_judged_one_by_one() {
    let town = Town::new().await;
    let at = |mut record: Value, project: &str| {
        record["metadata"]["namespace"] = json!(project);
        record
    };
    let apply = async |who: &str, documents: Value| {
        let body = json!({"manager": "test", "documents": documents}).to_string();
        let (code, text) = town.raw(Some(who), "POST", "/devsanctum/apply", "application/json", body).await;
        (code, serde_json::from_str::<Value>(&text).unwrap())
    };
    let project = record("Project", "both", json!({"owner": "stranger", "template": "base"}));
    let inside = at(record("Workspace", "w", json!({"owner": "stranger"})), "both");
    let (code, done) = apply("stranger", json!([project, inside])).await;
    assert_eq!(code, 200, "what a request makes for its caller is theirs within it: {done}");
    // Nobody gets into a project that is there by saying that they make it.
    let taken = record("Project", "else", json!({"owner": "stranger", "template": "base"}));
    let (code, why) = apply("stranger", json!([taken, at(record("Workspace", "w", json!({"owner": "stranger"})), "else")])).await;
    assert!(code >= 400, "{why}");
    assert_eq!(town.names("other", "namespaces/else/workspaces").await, ["of-other"]);
    let (code, _) = apply("reader", json!([at(record("Workspace", "w", json!({"owner": "reader"})), "team")])).await;
    assert!(code >= 400);
    assert!(!town.names("reader", TEAM).await.contains(&"w".to_owned()));
}

#[tokio::test]
async fn kubectl_is_told_the_truth() {
    let town = Town::new().await;
    let can = async |who: &str, verb: &str, name: &str| {
        let attributes =
            json!({"verb": verb, "group": "devsanctum.io", "resource": "workspaces", "namespace": "team", "name": name});
        let body = json!({"spec": {"resourceAttributes": attributes}}).to_string();
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let (_, text) = town.raw(Some(who), "POST", path, "application/json", body).await;
        serde_json::from_str::<Value>(&text).unwrap()["status"].clone()
    };
    let yes = can("deployer", "delete", "of-deployer").await;
    assert_eq!(yes["allowed"], true);
    assert_eq!(
        yes["reason"],
        "deployer has DEPLOY in project \"team\", by group \"devs\", and the workspace is their own or new"
    );
    assert_eq!(can("deployer", "delete", "of-owner").await["allowed"], false);
    let hidden = can("other", "get", "of-owner").await;
    assert_eq!((&hidden["allowed"], &hidden["reason"]), (&json!(false), &json!("it does not exist, or is not theirs to see")));
    // About others only administrators ask.
    let body = json!({"spec": {"user": "deployer", "resourceAttributes": {"verb": "get", "group": "devsanctum.io", "resource": "settings"}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let ask = async |who: &str| town.raw(Some(who), "POST", path, "application/json", body.to_string()).await;
    assert_eq!(ask("deployer").await.0, 403);
    let (code, text) = ask("admin").await;
    assert!(code == 201 && text.contains("\"allowed\":false") && text.contains("only administrators may"), "{text}");
    // And all at once.
    let body = json!({"spec": {"namespace": "team"}}).to_string();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (_, text) = town.raw(Some("deployer"), "POST", path, "application/json", body).await;
    let rules: Value = serde_json::from_str(&text).unwrap();
    let of = |plural: &str| {
        let all = rules["status"]["resourceRules"].as_array().unwrap();
        all.iter().find(|r| r["resources"][0] == plural).map(|r| r["verbs"].clone()).unwrap_or_default()
    };
    assert_eq!(of("workspaces"), json!(["get", "list", "watch", "create", "update", "patch", "delete"]));
    assert_eq!(of("routes"), json!(["get", "list", "watch"]));
    assert_eq!(of("settings"), Value::Null);
}
