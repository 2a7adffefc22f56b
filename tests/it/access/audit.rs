//! The audit log: exactly one row for each request that would change something, whoever sends it and whatever is answered.

use super::Town;
use super::matrix::{body, objects, operations, people};
use crate::support::api::{GROUP, record};
use devsanctum::access::Scope;
use devsanctum::audit::Row;
use devsanctum::store::AuditQuery;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

/// The newest row; its number is how many there are.
async fn last(town: &Town) -> Option<Row> {
    let asked = AuditQuery { limit: 1, ..AuditQuery::default() };
    town.api.store.audit_rows(asked).await.unwrap().pop()
}

async fn count(town: &Town) -> i64 {
    last(town).await.map_or(0, |row| row.seq)
}

/// The rows after a number, the oldest first.
async fn since(town: &Town, seq: i64) -> Vec<Row> {
    town.api.store.audit_rows(AuditQuery { after: Some(seq), limit: 1000, ..AuditQuery::default() }).await.unwrap()
}

/// The only row after a number.
#[track_caller]
fn only(rows: Vec<Row>) -> Row {
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().unwrap()
}

/// What opens a way into a workspace is a request like those that change something, though it is a GET.
fn changes(method: &str, path: &str) -> bool {
    let way_in = ["exec", "terminal", "portforward"].iter().any(|last| path.ends_with(last));
    (method != "get" || way_in) && !path.ends_with("reviews")
}

fn verb(method: &str, path: &str) -> &'static str {
    match (method, path.contains("{name}")) {
        _ if path.ends_with("/prune") => "prune",
        _ if path.ends_with("/apply") => "apply",
        ("put", _) => "update",
        ("patch", _) => "patch",
        ("delete", true) => "delete",
        ("delete", false) => "deletecollection",
        _ => "create",
    }
}

/// Driven by the OpenAPI documents and by what stands beside them in the matrix: a new operation without a row fails.
#[tokio::test]
async fn every_operation_has_its_row_and_reads_have_none() {
    let town = people().await;
    let (mut mutating, mut reading, mut of_nobody) = (0, 0, 0);
    let mut all = operations(&town).await;
    let beside = [("post", "apply"), ("post", "keys"), ("delete", "keys/{name}"), ("post", "links"), ("post", "nothing")];
    all.extend(beside.map(|(method, path)| (method.to_owned(), format!("/devsanctum/{path}"))));
    // What is there is deleted last.
    all.sort_by_key(|(method, path)| (method == "delete", path.contains("/users")));
    for (method, path) in all {
        for (what, project, name) in objects(&path) {
            let address = path.replace("{namespace}", project).replace("{name}", name);
            let (body, media) = body(&town, &method, &address).await;
            for who in [None, Some("stranger"), Some("deployer"), Some("expired"), Some("admin")] {
                let anonymous = who.is_none_or(|who| who == "expired");
                // Of these only so many are written in a minute.
                if anonymous && changes(&method, &path) {
                    of_nobody += 1;
                    if of_nobody > 100 {
                        continue;
                    }
                }
                let before = count(&town).await;
                let body = body.replace("SELF", who.unwrap_or("x"));
                let (code, answer) = town.raw(who, &method.to_uppercase(), &address, &media, body).await;
                let rows = since(&town, before).await;
                let at = format!("{who:?} {method} {path} of {what}: {code}, {rows:?}");
                if !changes(&method, &path) {
                    reading += 1;
                    assert_eq!(rows.len(), 0, "{at}");
                    continue;
                }
                mutating += 1;
                let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
                let deleted = answer["items"].as_array().map_or(0, Vec::len);
                assert_eq!(rows.len(), deleted.max(1), "{at}");
                for row in &rows {
                    let it = &row.entry;
                    let created = row.entry.code == 201 && code == 201 || it.code == i64::from(code);
                    assert!(created && it.verb == verb(&method, &path), "{at}");
                    // In the end their users are deleted, and their keys with them.
                    let gone = method == "delete" && path.contains("/users") && code == 401;
                    let known = if anonymous { "" } else { who.unwrap() };
                    assert!(it.actor == known || gone && it.actor.is_empty(), "{at}");
                    let refused = code >= 400;
                    assert!(refused != it.reason.is_empty(), "{at}");
                    assert!(path.starts_with("/devsanctum/") || !it.kind.is_empty(), "{at}");
                    // What nobody sent is not read.
                    let unread = (anonymous || gone) && path.starts_with("/devsanctum/");
                    assert!(it.namespace == project || project.is_empty() || unread, "{at}");
                    assert!(name.is_empty() || it.name == name || unread, "{at}");
                    // What is about no record, for there was none, says nothing of one.
                    let of_none = it.verb == "deletecollection" && deleted == 0;
                    assert_eq!(it.changes.starts_with('['), !refused && !of_none, "{at}");
                }
            }
        }
    }
    let found = town.api.store.verify_audit(None).await.unwrap();
    assert_eq!((found.findings, found.wrong), (vec![], 0));
    println!(
        "proof: mutating requests with exactly their row in the audit log {mutating} played, 0 failed; {reading} reads have none"
    );
    assert!(mutating > 700 && reading > 300, "{mutating} {reading}");
}

#[tokio::test]
async fn a_row_says_who_and_how_and_what_they_were() {
    let mut town = Town::new().await;
    let scope = Scope { projects: vec!["team".into()], ..Scope::default() };
    town.key("ci", "manager", scope, None).await;
    let own = "namespaces/team/workspaces/of-owner";
    let seq = count(&town).await;
    assert_eq!(town.ask("ci", "PATCH", own, &json!({"spec": {"pinned": true}})).await.0, 200);
    let row = only(since(&town, seq).await);
    let it = row.entry;
    assert_eq!((it.actor.as_str(), it.how.as_str(), it.role.as_str()), ("manager", "key", "USER, MANAGE"));
    assert!(town.text("ci").starts_with(&format!("dsk_{}_", it.proof)), "the key's id, and not the key: {}", it.proof);
    assert_eq!(
        (it.verb.as_str(), it.kind.as_str(), it.namespace.as_str(), it.name.as_str()),
        ("patch", "Workspace", "team", "of-owner")
    );
    assert!(it.code == 200 && !it.uid.is_empty() && it.address.is_empty() && it.at > 1_700_000_000_000, "{it:?}");
    let changed: Value = serde_json::from_str(&it.changes).unwrap();
    assert!(changed.as_array().unwrap().contains(&json!({"path": "/spec/pinned", "old": false, "new": true})), "{changed}");

    for (who, path, code, role, words) in [
        ("reader", own, 403, "USER, READ", "READ in project"),
        ("stranger", own, 404, "USER", "NotFound"),
        ("admin", "namespaces/team/workspaces/nothing", 404, "ADMIN", "NotFound"),
        ("owner", "projects/team", 422, "USER, OWNER", "Invalid: spec.template"),
    ] {
        let seq = count(&town).await;
        let patch = json!({"spec": {"pinned": true, "template": "Not A Name"}});
        let patch = if code == 422 { json!({"spec": {"template": "Not A Name"}}) } else { patch };
        assert_eq!(town.ask(who, "PATCH", path, &patch).await.0, code, "{who}");
        let it = only(since(&town, seq).await).entry;
        assert_eq!((it.code, it.role.as_str()), (code.into(), role), "{it:?}");
        assert!(it.reason.contains(words) && !it.reason.contains("Not A Name") && it.changes.is_empty(), "{it:?}");
    }
    // Nobody is asked where they come from: the connection says it, and here there is none.
    let seq = count(&town).await;
    let request = Request::delete(format!("{GROUP}/users/reader"))
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-real-ip", "203.0.113.9");
    let request =
        request.header("authorization", format!("Bearer {}", town.text("reader"))).body(axum::body::Body::empty()).unwrap();
    town.api.open.clone().oneshot(request).await.unwrap();
    assert_eq!(only(since(&town, seq).await).entry.address, "");
    // A conflict, and the administrator's token.
    let seq = count(&town).await;
    assert_eq!(
        town.api.post(&format!("{GROUP}/users"), &record("User", "reader", json!({"email": "x@example.com"}))).await.0,
        409
    );
    let it = only(since(&town, seq).await).entry;
    assert_eq!((it.actor.as_str(), it.how.as_str(), it.role.as_str(), it.code), ("admin", "admin-token", "ADMIN", 409));
}

#[tokio::test]
async fn a_row_says_what_was_done_that_is_done_to_no_record() {
    let town = Town::new().await;
    for (path, body, kind, name) in [
        ("/devsanctum/mail", json!({"to": "ada@example.com"}), "Mail", "ada@example.com"),
        ("/devsanctum/secrets/rotate", json!({}), "SecretKey", ""),
    ] {
        for who in ["stranger", "admin"] {
            let seq = count(&town).await;
            let (code, answer) = town.raw(Some(who), "POST", path, "application/json", body.to_string()).await;
            let it = only(since(&town, seq).await).entry;
            assert_eq!((it.kind.as_str(), it.actor.as_str(), it.code), (kind, who, i64::from(code)), "{answer}");
            assert!(it.name == name || name.is_empty() && (code == 202) != it.name.is_empty(), "{it:?} {answer}");
        }
    }
}

#[tokio::test]
async fn dry_runs_reads_and_the_platform_itself_leave_none() {
    let town = Town::new().await;
    let seq = count(&town).await;
    let new = record("User", "new", json!({"email": "new@example.com"}));
    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}).to_string();
    let users = format!("{GROUP}/users");
    assert_eq!(town.api.post(&format!("{users}?dryRun=All"), &new).await.0, 201);
    assert_eq!(town.api.merge(&format!("{users}/reader?dryRun=All"), &json!({"spec": {"name": "R"}})).await.0, 200);
    assert_eq!(town.api.call("DELETE", &format!("{users}/stranger"), "application/json", body.clone()).await.0, 200);
    assert_eq!(town.api.call("DELETE", &format!("{GROUP}/namespaces/open/workspaces"), "application/json", body).await.0, 200);
    let documents = json!({"manager": "me", "dryRun": true, "documents": [new]});
    assert_eq!(town.api.post("/devsanctum/apply", &documents).await.0, 200);
    assert_eq!(town.api.get(&users).await.0, 200);
    let api = kube::Api::<devsanctum::resource::User>::all(town.api.client());
    let user: devsanctum::resource::User = serde_json::from_value(new).unwrap();
    api.create(&Default::default(), &user).await.unwrap();
    assert_eq!(since(&town, seq).await, []);
    // What looks like one, and is none.
    for (method, path, body) in [
        ("POST", "/devsanctum/keys?dryRun=All", json!({"name": "x", "user": "reader"})),
        ("POST", "/devsanctum/links?dryRun=All", json!({"user": "reader"})),
        ("GET", &*format!("{GROUP}/namespaces/team/workspaces/of-owner/exec?command=id&dryRun=All"), Value::Null),
        ("POST", &*format!("{users}?dryRun=all"), json!({})),
    ] {
        let seq = count(&town).await;
        town.api.call(method, path, "application/json", body.to_string()).await;
        only(since(&town, seq).await);
    }
}

#[tokio::test]
async fn several_documents_have_a_row_each_or_one_for_all_that_was_refused() {
    let town = Town::new().await;
    let group = |name: &str, members: Value| json!({"apiVersion": "devsanctum.io/v1", "kind": "Group", "metadata": {"name": name}, "spec": {"members": members}});
    let apply = async |documents: Value| {
        let seq = count(&town).await;
        let (code, answer) =
            town.api.post("/devsanctum/apply", &json!({"manager": "me", "force": true, "documents": documents})).await;
        (code, answer, since(&town, seq).await)
    };
    let (code, answer, rows) =
        apply(json!([group("one", json!([])), group("readers", json!([])), group("one", json!([]))])).await;
    assert_eq!(code, 200, "{answer}");
    let told: Vec<_> = rows.iter().map(|r| (r.entry.verb.as_str(), r.entry.name.as_str(), r.entry.code)).collect();
    assert_eq!(told, [("apply", "one", 201), ("apply", "readers", 200), ("apply", "one", 200)]);
    assert!(rows[1].entry.changes.contains("reader") && rows[2].entry.changes == "[]", "{rows:?}");
    let (code, _, rows) = apply(json!([group("two", json!([])), group("three", json!([{"user": "nobody-there"}]))])).await;
    let it = only(rows).entry;
    assert!(code == 422 && it.code == 422 && it.reason.contains("documents[1]"), "{it:?}");
}

#[tokio::test]
async fn a_request_whose_row_cannot_be_written_does_nothing() {
    let town = Town::new().await;
    town.api.sql("ALTER TABLE audit RENAME TO elsewhere").await;
    let new = record("User", "new", json!({"email": "new@example.com"}));
    let users = format!("{GROUP}/users");
    for (method, path, body) in [
        ("POST", users.clone(), new.to_string()),
        ("DELETE", format!("{users}/former"), String::new()),
        ("POST", "/devsanctum/keys".into(), json!({"name": "x", "user": "reader"}).to_string()),
        ("POST", "/devsanctum/links".into(), json!({"user": "reader"}).to_string()),
        ("POST", "/devsanctum/nothing".into(), String::new()),
    ] {
        let (code, answer) = town.api.call(method, &path, "application/json", body).await;
        assert!(code >= 500, "{method} {path}: {code} {answer}");
        assert!(answer["key"].is_null() && answer["path"].is_null(), "{answer}");
    }
    let (code, answer) = town.raw(Some("stranger"), "DELETE", &format!("{users}/former"), "", String::new()).await;
    assert!(code >= 500, "a refusal, too: {answer}");
    assert_eq!(town.api.get(&format!("{users}/new")).await.0, 404);
    assert_eq!(town.api.get(&format!("{users}/former")).await.0, 200, "reading goes on");
    town.api.sql("ALTER TABLE elsewhere RENAME TO audit").await;
}

#[tokio::test]
async fn no_secret_is_in_any_row() {
    let town = Town::new().await;
    let canary = "hunter2-canary";
    let secrets = format!("{GROUP}/namespaces/team/secrets");
    let secret = |name: &str, data: Value| {
        let mut secret = record("Secret", name, json!({"data": data}));
        let copy = json!({"spec": {"data": {"token": canary}}}).to_string();
        secret["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": copy});
        secret["stringData"] = json!({"token": canary});
        secret
    };
    let seq = count(&town).await;
    let git = format!("{secrets}/git");
    let patch = json!([{"op": "add", "path": "/spec/data/json", "value": canary}]).to_string();
    let test = json!([{"op": "test", "path": "/spec/data/json", "value": canary}]).to_string();
    let new = secret("new", json!({"token": canary}));
    let calls = [
        ("POST", &*secrets, "application/json", new.to_string()),
        ("POST", &secrets, "application/json", secret("bad", json!({"token": {"nested": canary}})).to_string()),
        ("POST", &secrets, "application/json", secret("Bad Name", json!({"a b": canary})).to_string()),
        ("POST", &secrets, "application/yaml", format!("kind: Secret\nspec: {{data: {{token: {canary}}}\n")),
        ("POST", &*format!("{GROUP}/users"), "application/json", secret("u", json!({"token": canary})).to_string()),
        ("PATCH", &git, "application/merge-patch+json", json!({"spec": {"data": {"token": canary}}}).to_string()),
        ("PATCH", &git, "application/json-patch+json", patch),
        ("PATCH", &git, "application/json-patch+json", test),
        (
            "PATCH",
            &*format!("{git}?fieldManager=me"),
            "application/apply-patch+yaml",
            secret("git", json!({"t": canary})).to_string(),
        ),
        (
            "PATCH",
            &*format!("{git}/status"),
            "application/merge-patch+json",
            json!({"spec": {"data": {"t": canary}}}).to_string(),
        ),
        (
            "POST",
            "/devsanctum/apply",
            "application/json",
            json!({"manager": "me", "documents": [new, {"kind": canary}]}).to_string(),
        ),
        ("DELETE", &git, "", String::new()),
        ("DELETE", &secrets, "", String::new()),
    ];
    let sent = calls.len();
    for (method, path, media, body) in calls {
        town.api.call(method, path, media, body).await;
    }
    let key =
        town.api.post("/devsanctum/keys", &json!({"name": "x", "user": "reader"})).await.1["key"].as_str().unwrap().to_owned();
    let link = town.api.post("/devsanctum/links", &json!({"user": "reader"})).await.1["path"].as_str().unwrap().to_owned();
    let bearer = Request::post(&secrets).header("authorization", format!("Bearer {canary}")).body(axum::body::Body::empty());
    assert_eq!(town.api.open.clone().oneshot(bearer.unwrap()).await.unwrap().status(), 401);
    let rows = since(&town, seq).await;
    assert!(rows.len() >= sent + 2, "{}", rows.len());
    let parts = [canary, key.splitn(3, '_').nth(2).unwrap(), link.rsplit('/').next().unwrap()];
    for row in &rows {
        let text = format!("{row:?}");
        assert!(parts.iter().all(|part| !text.contains(part)), "{text}");
    }
    let merged = rows.iter().find(|r| r.entry.verb == "patch" && r.entry.code == 200).unwrap();
    assert!(merged.entry.changes.contains("/metadata/generation"), "that it changed is told: {merged:?}");
}

#[tokio::test]
async fn administrators_read_filter_page_and_cut_it() {
    let town = Town::new().await;
    let get = async |who: &str, query: &str| {
        let (code, text) = town.raw(Some(who), "GET", &format!("/devsanctum/audit{query}"), "", String::new()).await;
        (code, serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text)))
    };
    town.ask("reader", "DELETE", "namespaces/team/workspaces/of-owner", &Value::Null).await;
    town.ask("owner", "DELETE", "namespaces/team/workspaces/of-former", &Value::Null).await;
    assert_eq!(get("owner", "").await.0, 403);
    let named = |list: &Value| -> Vec<String> {
        list["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| format!("{} {} {}", r["user"].as_str().unwrap(), r["name"].as_str().unwrap(), r["code"]))
            .collect()
    };
    let (_, list) = get("admin", "?verb=delete&kind=Workspace").await;
    assert_eq!(named(&list), ["owner of-former 200", "reader of-owner 403"]);
    for (query, expected) in [
        ("?verb=delete&outcome=refused", vec!["reader of-owner 403"]),
        ("?verb=delete&outcome=allowed", vec!["owner of-former 200"]),
        ("?verb=delete&outcome=403", vec!["reader of-owner 403"]),
        ("?user=owner", vec!["owner of-former 200"]),
        ("?namespace=team&name=of-owner&verb=delete", vec!["reader of-owner 403"]),
        ("?verb=delete&until=2020-01-01T00:00:00Z", vec![]),
        ("?verb=delete&since=2020-01-01T00:00:00Z&limit=1", vec!["owner of-former 200"]),
    ] {
        assert_eq!(named(&get("admin", query).await.1), expected, "{query}");
    }
    for bad in ["?since=yesterday", "?limit=0", "?limit=5000", "?outcome=x", "?users=owner", "?format=xml", "?before=x"] {
        let (code, why) = get("admin", bad).await;
        assert!(code == 400 && !why["message"].as_str().unwrap().is_empty(), "{bad}: {why}");
    }
    // Page by page, in both directions, it is all of it.
    let all = since(&town, 0).await.len();
    for (begin, onward) in [("", "before"), ("&after=0", "after")] {
        let (mut seen, mut query) = (Vec::new(), format!("?limit=7{begin}"));
        loop {
            let (_, page) = get("admin", &query).await;
            seen.extend(page["rows"].as_array().unwrap().iter().map(|row| row["seq"].as_i64().unwrap()));
            let Some(next) = page["next"][onward].as_i64() else { break };
            query = format!("?limit=7&{onward}={next}");
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..=all as i64).collect::<Vec<_>>(), "{onward}");
    }
    // What a spreadsheet would run is a text.
    town.raw(Some("admin"), "POST", "/devsanctum/links", "application/json", json!({"user": "=cmd|' /C calc'!A0"}).to_string())
        .await;
    let (_, csv) = get("admin", "?format=csv&kind=PasswordLink").await;
    let csv = csv.as_str().unwrap();
    assert!(csv.starts_with("seq,time,user,") && csv.lines().count() == 2 && csv.contains(",\"'=cmd|' /C calc'!A0\","), "{csv}");

    let found = get("admin", "/verify").await.1;
    assert_eq!((&found["intact"], &found["rows"]), (&json!(true), &json!(all + 1)));
    let prune = async |who: &str, before: &str| {
        let body = json!({"before": before}).to_string();
        town.raw(Some(who), "POST", "/devsanctum/audit/prune", "application/json", body).await
    };
    assert_eq!(prune("owner", "2999-01-01T00:00:00Z").await.0, 403);
    let (code, answer) = prune("admin", "2999-01-01T00:00:00Z").await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &answer["pruned"]), (200, &json!(all + 2)), "with the row of the refusal");
    let it = only(since(&town, 0).await);
    assert_eq!((it.entry.verb.as_str(), it.entry.actor.as_str(), it.entry.code), ("prune", "admin", 200));
    let found = get("admin", "/verify").await.1;
    assert_eq!((&found["intact"], &found["prunedUpTo"]), (&json!(true), &json!(all + 2)), "{found}");
    // Nothing that is left hangs on that one.
    let found = get("admin", &format!("/verify?head={}", answer["upTo"]["hash"].as_str().unwrap())).await.1;
    assert!(found["intact"] == false && found["findings"][0]["message"].as_str().unwrap().contains("pruned up to"), "{found}");
    let found = get("admin", &format!("/verify?head={}", "ab".repeat(32))).await.1;
    assert_eq!((&found["intact"], &found["wrong"]), (&json!(false), &json!(1)));
}

#[tokio::test]
async fn nobody_cannot_fill_it_and_names_are_cut() {
    let town = Town::new().await;
    let seq = count(&town).await;
    for _ in 0..150 {
        assert_eq!(town.raw(None, "DELETE", &format!("{GROUP}/users/reader"), "", String::new()).await.0, 401);
    }
    assert_eq!(since(&town, seq).await.len(), 120);
    let seq = count(&town).await;
    let path = format!("{GROUP}/users/{}", "x".repeat(5000));
    town.raw(Some("stranger"), "DELETE", &path, "", String::new()).await;
    let body = json!({"user": "a\u{0}b\u{1b}[2J\n"}).to_string();
    town.raw(Some("admin"), "POST", "/devsanctum/links", "application/json", body).await;
    let rows = since(&town, seq).await;
    assert!(rows.len() == 2 && rows[0].entry.name.chars().count() == 254, "{rows:?}");
    assert!(!rows[1].entry.name.chars().any(char::is_control), "{rows:?}");
}
