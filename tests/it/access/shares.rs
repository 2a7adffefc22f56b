//! Share links: made by who may change a workspace, kept as hashes, for one service, and over at the next request.

use super::Town;
use crate::support::api::GROUP;
use devsanctum::access::{Directory, Shares};
use devsanctum::store::Session;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

const SHARES: &str = "/devsanctum/shares";

pub(super) async fn ask(town: &Town, who: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (code, text) = town.raw(Some(who), method, &format!("{SHARES}{path}"), "application/json", body).await;
    (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub(super) fn of(workspace: &str) -> Value {
    json!({"project": "team", "workspace": workspace})
}

/// Gives a workspace two services for browsers, and one for other programs; the first's host is `<name>.example.com`.
pub(super) async fn serve(town: &Town, name: &str) {
    for (port, number) in [("web", 3000), ("admin", 4000)] {
        let host = if port == "web" { format!("{name}.example.com") } else { format!("{name}-{port}.example.com") };
        let spec = json!({"host": host, "workspace": name, "port": number});
        town.put("team", "routes", "Route", &format!("{name}-{port}"), spec).await;
    }
    let services = json!([
        {"name": "web", "port": 3000, "protocol": "HTTP", "url": format!("http://{name}.example.com:8080")},
        {"name": "admin", "port": 4000, "protocol": "HTTP", "url": format!("http://{name}-admin.example.com:8080")},
        {"name": "db", "port": 5432, "protocol": "TCP"},
    ]);
    let (code, answer) = town
        .api
        .merge(&format!("{GROUP}/namespaces/team/workspaces/{name}/status"), &json!({"status": {"services": services}}))
        .await;
    assert_eq!(code, 200, "{answer}");
}

pub(super) async fn uid(town: &Town, name: &str) -> String {
    let (_, record) = town.api.get(&format!("{GROUP}/namespaces/team/workspaces/{name}")).await;
    record["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// A link that somebody makes: its id, and what is in its address.
pub(super) async fn link(town: &Town, who: &str, wanted: Value) -> (String, String) {
    let (code, made) = ask(town, who, "POST", "", wanted).await;
    assert_eq!(code, 201, "{who}: {made}");
    let (_, token) = made["url"].as_str().unwrap().split_once("/.devsanctum/share?token=").expect("an address");
    (made["id"].as_str().unwrap().to_owned(), token.to_owned())
}

pub(super) fn shares(town: &Town) -> Shares {
    Shares::new(town.api.store.clone(), Arc::new(Directory::new(town.api.store.clone())))
}

#[tokio::test]
async fn who_may_change_a_workspace_shares_it_and_nobody_else() {
    let town = Town::new().await;
    for name in ["of-reader", "of-deployer", "of-owner", "of-former"] {
        serve(&town, name).await;
    }
    for (who, may) in [
        ("stranger", &[][..]),
        ("reader", &[]),
        ("deployer", &["of-deployer"]),
        ("lead", &[]),
        ("manager", &["of-reader", "of-deployer", "of-owner", "of-former"]),
        ("owner", &["of-reader", "of-deployer", "of-owner", "of-former"]),
        ("former", &[]),
        ("disabled", &[]),
        ("admin", &["of-reader", "of-deployer", "of-owner", "of-former"]),
        ("other", &[]),
    ] {
        for name in ["of-reader", "of-deployer", "of-owner", "of-former"] {
            let (code, said) = ask(&town, who, "POST", "", of(name)).await;
            let (listing, _) = ask(&town, who, "GET", &format!("?project=team&workspace={name}"), Value::Null).await;
            let refused = match who {
                "disabled" => 401,
                "reader" | "deployer" | "lead" => 403,
                _ => 404,
            };
            let expected = if may.contains(&name) { (201, 200) } else { (refused, refused) };
            assert_eq!((code, listing), expected, "{who} {name}: {said}");
        }
    }
    // Of a workspace that is there and one that is not, who may see neither is told the same.
    let same = |text: &Value, name: &str| text.to_string().replace(name, "N");
    let (there, none) =
        (ask(&town, "other", "POST", "", of("of-owner")).await, ask(&town, "other", "POST", "", of("nothing")).await);
    assert_eq!((there.0, same(&there.1, "of-owner")), (none.0, same(&none.1, "nothing")));
    let (code, why) = ask(&town, "owner", "POST", "", of("nothing")).await;
    assert_eq!(code, 404, "{why}");
    // Another's link and none are the same to who may not end it.
    let (id, _) = link(&town, "owner", of("of-owner")).await;
    for who in ["reader", "deployer", "stranger", "other"] {
        let (one, other) = (
            ask(&town, who, "DELETE", &format!("/{id}"), Value::Null).await,
            ask(&town, who, "DELETE", "/000000000000", Value::Null).await,
        );
        assert_eq!((one.0, other.0), (404, 404));
        assert_eq!(same(&one.1, &id), same(&other.1, "000000000000"));
    }
    assert_eq!(ask(&town, "manager", "DELETE", &format!("/{id}"), Value::Null).await.0, 200);
    assert_eq!(ask(&town, "manager", "DELETE", &format!("/{id}"), Value::Null).await.0, 404);
    assert!(town.api.store.check().await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_link_that_is_wanted_is_said() {
    let town = Town::new().await;
    let (code, why) = ask(&town, "owner", "POST", "", of("of-owner")).await;
    assert!(code == 422 && why["message"].as_str().unwrap().contains("start it"), "{why}");
    serve(&town, "of-owner").await;
    let with = |more: Value| {
        let mut wanted = of("of-owner");
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wanted
    };
    for (more, expected) in [
        (json!({"expiresInSeconds": 0}), 400),
        (json!({"expiresInSeconds": -1}), 400),
        (json!({"expiresInSeconds": 30 * 24 * 3600 + 1}), 400),
        (json!({"expiresInSeconds": i64::MAX}), 400),
        (json!({"expiresInSeconds": 30 * 24 * 3600}), 201),
        (json!({"service": "admin"}), 201),
        (json!({"service": "db"}), 422),
        (json!({"service": "nothing"}), 422),
        (json!({"host": "evil.example.com"}), 400),
    ] {
        let (code, said) = ask(&town, "owner", "POST", "", with(more.clone())).await;
        assert_eq!(code, expected, "{more}: {said}");
    }
    assert_eq!(ask(&town, "owner", "POST", "", json!([])).await.0, 400);
    assert_eq!(ask(&town, "owner", "GET", "", Value::Null).await.0, 400);
    // What is open to anybody needs no link.
    let route = format!("{GROUP}/namespaces/team/routes/of-owner-web");
    assert_eq!(town.api.merge(&route, &json!({"spec": {"visibility": "PUBLIC"}})).await.0, 200);
    let (code, why) = ask(&town, "owner", "POST", "", of("of-owner")).await;
    assert!(code == 422 && why["message"].as_str().unwrap().contains("public"), "{why}");
    // A hundred of one workspace, and no more.
    let mut codes = Vec::new();
    for _ in 0..100 {
        codes.push(ask(&town, "owner", "POST", "", with(json!({"service": "admin"}))).await.0);
    }
    assert_eq!((codes[0], codes[99]), (201, 422), "{codes:?}");
}

#[tokio::test]
async fn a_link_opens_one_service_of_one_workspace_for_as_long_as_it_lasts() {
    let (town, now) = (Town::new().await, Timestamp::now());
    serve(&town, "of-owner").await;
    serve(&town, "of-reader").await;
    let (shares, own, others) = (shares(&town), uid(&town, "of-owner").await, uid(&town, "of-reader").await);
    let (id, token) = link(&town, "owner", of("of-owner")).await;
    let (_, short) = link(&town, "owner", json!({"project": "team", "workspace": "of-owner", "expiresInSeconds": 60})).await;
    // Several browsers, each as often as they like.
    let mut shown = String::new();
    for _ in 0..3 {
        shown = shares.follow(&token, &own, "of-owner.example.com", now).await.unwrap().expect("it works").0;
    }
    assert_ne!(shown, token);
    for secret in [&token, &shown] {
        assert!(!town.api.database_holds(secret).await, "only hashes are kept");
    }
    let (_, listed) = ask(&town, "owner", "GET", "?project=team&workspace=of-owner", Value::Null).await;
    assert_eq!(listed["shares"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains(&token) && !listed.to_string().contains("url"), "{listed}");

    let opens = async |shown: &str, uid: &str, host: &str, now: Timestamp| shares.opens(shown, uid, host, now).await.unwrap();
    assert!(opens(&shown, &own, "of-owner.example.com", now).await);
    // A host of a project's own that leads to the same service is the service's, too.
    town.put("team", "routes", "Route", "more", json!({"host": "more.example.com", "workspace": "of-owner", "port": 3000})).await;
    assert!(opens(&shown, &own, "more.example.com", now).await);
    for (uid, host, why) in [
        (&own, "of-owner-admin.example.com", "another service"),
        (&own, "of-reader.example.com", "another workspace's host"),
        (&others, "of-reader.example.com", "another workspace"),
        (&others, "of-owner.example.com", "another workspace at this host"),
        (&own, "nowhere.example.com", "a host of nobody"),
        (&own, "", "no host"),
    ] {
        assert!(!opens(&shown, uid, host, now).await, "{why}");
        assert!(shares.follow(&token, uid, host, now).await.unwrap().is_none(), "{why}");
    }
    assert!(!opens(&token, &own, "of-owner.example.com", now).await, "what is in the address is no cookie");
    assert!(shares.follow(&shown, &own, "of-owner.example.com", now).await.unwrap().is_none(), "nor the other way round");
    // Nothing of it is a key, or a session.
    assert_eq!(town.api.store.api_keys(None).await.unwrap().len(), super::PEOPLE.len());
    assert!(town.api.store.sessions_of("owner").await.unwrap().is_empty());

    let at = |hours: i64| now + SignedDuration::from_hours(hours);
    let shorter = shares.follow(&short, &own, "of-owner.example.com", now).await.unwrap().unwrap().0;
    assert!(!opens(&shorter, &own, "of-owner.example.com", at(1)).await, "a minute");
    assert!(opens(&shown, &own, "of-owner.example.com", at(23)).await);
    assert!(!opens(&shown, &own, "of-owner.example.com", at(25)).await, "a day, where nothing else is said");
    // Ended, at the next question.
    assert_eq!(ask(&town, "owner", "DELETE", &format!("/{id}"), Value::Null).await.0, 200);
    assert!(!opens(&shown, &own, "of-owner.example.com", now).await);
    assert!(shares.follow(&token, &own, "of-owner.example.com", now).await.unwrap().is_none());
}

#[tokio::test]
async fn a_link_ends_with_its_makers_right_its_workspace_and_its_service() {
    let (town, now) = (Town::new().await, Timestamp::now());
    serve(&town, "of-deployer").await;
    let (shares, own, host) = (shares(&town), uid(&town, "of-deployer").await, "of-deployer.example.com");
    let mut shown = Vec::new();
    for who in ["deployer", "manager", "admin"] {
        let (_, token) = link(&town, who, of("of-deployer")).await;
        shown.push(shares.follow(&token, &own, host, now).await.unwrap().unwrap().0);
    }
    // The holder of the administrator token is no user.
    let wanted = of("of-deployer");
    let (code, made) = town.api.post(SHARES, &wanted).await;
    assert!(code == 201 && made["user"].is_null(), "{made}");
    let token = made["url"].as_str().unwrap().split_once("token=").unwrap().1.to_owned();
    shown.push(shares.follow(&token, &own, host, now).await.unwrap().unwrap().0);
    let open = async || {
        let mut all = Vec::new();
        for shown in &shown {
            all.push(shares.opens(shown, &own, host, now).await.unwrap());
        }
        all
    };
    assert_eq!(open().await, [true; 4]);
    let change = async |path: &str, spec: Value| {
        let (code, said) = town.api.merge(&format!("{GROUP}/{path}"), &json!({"spec": spec})).await;
        assert_eq!(code, 200, "{said}");
    };
    // A former member.
    change("groups/leads", json!({"members": []})).await;
    assert_eq!(open().await, [true, false, true, true]);
    // Somebody who was shut out, and is let in again.
    change("users/deployer", json!({"active": false})).await;
    assert_eq!(open().await, [false, false, true, true]);
    change("users/deployer", json!({"active": true})).await;
    assert_eq!(open().await, [true, false, true, true]);
    // A role that is less than it was; no administrator any more.
    change("projects/team", json!({"groups": [{"group": "devs", "role": "READ"}]})).await;
    change("users/admin", json!({"role": "USER"})).await;
    assert_eq!(open().await, [false, false, false, true]);
    change("users/admin", json!({"role": "ADMIN"})).await;
    // The service's host leads to another port; and back.
    change("namespaces/team/routes/of-deployer-web", json!({"port": 4001})).await;
    assert_eq!(open().await, [false; 4]);
    change("namespaces/team/routes/of-deployer-web", json!({"port": 3000})).await;
    assert_eq!(open().await, [false, false, true, true]);
    // Its maker is gone: so is the link, whoever is called so next.
    town.api.delete(&format!("{GROUP}/users/admin")).await;
    assert_eq!(open().await, [false, false, false, true]);
    // A workspace of the same name is another one.
    for port in ["web", "admin"] {
        town.api.delete(&format!("{GROUP}/namespaces/team/routes/of-deployer-{port}")).await;
    }
    assert_eq!(open().await, [false; 4], "nothing leads there");
    let workspace = format!("{GROUP}/namespaces/team/workspaces/of-deployer");
    let (code, said) = town.api.delete(&workspace).await;
    assert_eq!(code, 200, "{said}");
    // As its controller does when nothing of it is left.
    town.api.merge(&workspace, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(town.api.get(&workspace).await.0, 404);
    town.put("team", "workspaces", "Workspace", "of-deployer", json!({"owner": "deployer"})).await;
    serve(&town, "of-deployer").await;
    let new = uid(&town, "of-deployer").await;
    assert_ne!(new, own);
    for shown in &shown {
        assert!(!shares.opens(shown, &own, host, now).await.unwrap() && !shares.opens(shown, &new, host, now).await.unwrap());
    }
    assert!(town.api.store.check().await.unwrap().findings.is_empty());
}

/// What a browser holds of a host reaches the container behind it once the host is open to anybody.
#[tokio::test]
async fn a_host_that_opens_to_anybody_ends_what_browsers_hold_of_it() {
    let (town, now) = (Town::new().await, Timestamp::now());
    serve(&town, "of-deployer").await;
    let (shares, own) = (shares(&town), uid(&town, "of-deployer").await);
    let route = |port: &str| format!("{GROUP}/namespaces/team/routes/of-deployer-{port}");
    let visibility = async |port: &str, visibility: &str| {
        let (code, said) = town.api.merge(&route(port), &json!({"spec": {"visibility": visibility}})).await;
        assert_eq!(code, 200, "{said}");
    };
    let session = async |uid: &str, hash: u8| {
        let session = Session {
            sha256: [hash; 32],
            id: format!("s-{hash}"),
            parent: None,
            user: "reader".into(),
            workspace_uid: Some(uid.to_owned()),
            created_at: now.as_millisecond(),
            seen_at: now.as_millisecond(),
            expires_at: now.as_millisecond() + 60_000,
            address: String::new(),
            agent: String::new(),
        };
        assert!(town.api.store.add_session(session, None, None).await.unwrap());
    };
    let there = async |hash: u8| town.api.store.session([hash; 32]).await.unwrap().is_some();
    session(&own, 1).await;
    session(&uid(&town, "of-owner").await, 2).await;
    let admin = json!({"project": "team", "workspace": "of-deployer", "service": "admin"});
    let ((_, web), (_, admin)) = (link(&town, "deployer", of("of-deployer")).await, link(&town, "deployer", admin).await);
    let opens = async |token: &str, host: &str| shares.follow(token, &own, host, now).await.unwrap().is_some();
    // Another port, and what stays as it is, end nothing.
    town.api.merge(&route("web"), &json!({"metadata": {"labels": {"a": "b"}}})).await;
    visibility("web", "PRIVATE").await;
    assert!(there(1).await && opens(&web, "of-deployer.example.com").await);
    visibility("web", "PUBLIC").await;
    assert!(!there(1).await, "it could be shown at the other port, which is private");
    assert!(there(2).await, "of another workspace");
    visibility("web", "PRIVATE").await;
    assert!(!opens(&web, "of-deployer.example.com").await && opens(&admin, "of-deployer-admin.example.com").await);
    // One that is made anew, open.
    session(&own, 3).await;
    town.api.delete(&route("web")).await;
    assert!(there(3).await);
    let spec = json!({"host": "of-deployer.example.com", "workspace": "of-deployer", "port": 3000, "visibility": "PUBLIC"});
    town.put("team", "routes", "Route", "of-deployer-web", spec).await;
    assert!(!there(3).await);
}

#[tokio::test]
async fn a_restored_backup_has_no_links() {
    let (town, now) = (Town::new().await, Timestamp::now());
    serve(&town, "of-owner").await;
    let (_, token) = link(&town, "owner", of("of-owner")).await;
    let (shares, own) = (shares(&town), uid(&town, "of-owner").await);
    assert!(shares.follow(&token, &own, "of-owner.example.com", now).await.unwrap().is_some());
    // What a restore does to what it has unpacked.
    town.api.store.forget_sign_ins().await.unwrap();
    assert!(shares.follow(&token, &own, "of-owner.example.com", now).await.unwrap().is_none());
    assert!(shares.of(&own, now).await.unwrap().is_empty());
}
