//! The tests themselves.

use super::lab::{A_WHILE, Answer, Lab};
use crate::support::traefik::{private, public, table};
use devsanctum::proxy::{Proxy, ProxyError, RouteTable};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);
const A: (&str, &str, &str) = ("a", "Host(`a.localhost`)", "one");
const B: (&str, &str, &str) = ("b", "Host(`b.localhost`)", "two");

pub async fn it_is_new_enough(lab: &mut Lab) {
    let (status, said) = lab.api("/api/version").await;
    assert_eq!(status, 200);
    assert_eq!(devsanctum::proxy::traefik::check_version(said["Version"].as_str().unwrap()), Ok(()));
}

pub async fn before_the_first_good_answer_every_host_is_unknown(lab: &mut Lab) {
    lab.say(Answer::Config(lab.config(&[A])));
    lab.say(Answer::Status(503));
    sleep(A_WHILE).await;
    assert_eq!(lab.get("a.localhost").await, None);
    assert_eq!(lab.held("routers", "a").await, Value::Null);
    lab.serve(&[A]).await;
}

pub async fn a_configuration_is_served_and_then_the_next_one(lab: &mut Lab) {
    lab.serve(&[A, B]).await;
    assert_eq!(lab.get("b.localhost").await.as_deref(), Some("two"));
    lab.serve(&[("a", A.1, "two")]).await;
    lab.until("b.localhost", None).await;
    assert_eq!(lab.held("routers", "b").await, Value::Null);
}

/// What is served stays while this is answered, and what is answered then is served.
async fn keeps(lab: &mut Lab, answers: &[Answer]) {
    for answer in answers {
        lab.serve(&[A]).await;
        lab.say(answer.clone());
        sleep(A_WHILE).await;
        assert_eq!(lab.get("a.localhost").await.as_deref(), Some("one"));
        assert_eq!(lab.held("routers", "a").await["status"], "enabled");
        lab.serve(&[B]).await;
        assert_eq!(lab.get("a.localhost").await, None);
    }
}

pub async fn an_error_status_keeps_what_there_is(lab: &mut Lab) {
    keeps(lab, &[Answer::Status(500), Answer::Status(204)]).await;
}

pub async fn what_cannot_be_read_keeps_what_there_is(lab: &mut Lab) {
    keeps(lab, &[Answer::Text("<html>not what was asked for</html>")]).await;
}

pub async fn an_unknown_field_keeps_what_there_is(lab: &mut Lab) {
    let mut typo = lab.config(&[B]);
    typo["http"]["routers"]["b"]["priorty"] = 1.into();
    keeps(lab, &[Answer::Config(typo)]).await;
}

pub async fn an_empty_map_keeps_what_there_is(lab: &mut Lab) {
    keeps(lab, &[Answer::Config(json!({"http": {"routers": {}}}))]).await;
}

pub async fn a_dead_provider_keeps_what_there_is_and_is_found_again(lab: &mut Lab) {
    lab.serve(&[A]).await;
    lab.kill_provider().await;
    sleep(A_WHILE).await;
    assert_eq!(lab.get("a.localhost").await.as_deref(), Some("one"));
    lab.say(Answer::Config(lab.config(&[B])));
    lab.revive().await;
    lab.until("b.localhost", Some("two")).await;
    assert_eq!(lab.get("a.localhost").await, None);
}

pub async fn an_empty_object_wipes_every_route(lab: &mut Lab) {
    lab.serve(&[A]).await;
    lab.say(Answer::Config(json!({})));
    lab.until("a.localhost", None).await;
    assert_eq!(lab.held("routers", "a").await, Value::Null);
}

/// A router beside a good one: what is said of it. The good one is served, and it is not.
async fn closed(lab: &mut Lab, change: impl FnOnce(&mut Value)) -> String {
    let mut config = lab.config(&[A, B]);
    change(&mut config["http"]);
    lab.say(Answer::Config(config));
    lab.until("a.localhost", Some("one")).await;
    assert_eq!(lab.get("b.localhost").await, None);
    let held = lab.held("routers", "b").await;
    assert_eq!(held["status"], "disabled", "{held}");
    assert_eq!(lab.held("routers", "a").await["status"], "enabled");
    assert_eq!(lab.held("routers", "a").await["error"], Value::Null);
    held["error"].to_string()
}

pub async fn a_rule_that_cannot_be_read_harms_no_other_router_and_is_told(lab: &mut Lab) {
    let said = closed(lab, |http| http["routers"]["b"]["rule"] = "Host(`b.localhost".into()).await;
    assert!(said.contains("parsing rule"), "{said}");
}

pub async fn a_router_that_names_a_missing_middleware_is_closed_and_told(lab: &mut Lab) {
    let said = closed(lab, |http| http["routers"]["b"]["middlewares"] = json!(["gate"])).await;
    assert!(said.contains(r#"middleware \"gate@http\" does not exist"#), "{said}");
}

pub async fn a_router_that_names_a_missing_service_is_closed_and_told(lab: &mut Lab) {
    let said = closed(lab, |http| http["routers"]["b"]["service"] = "nothing".into()).await;
    assert!(said.contains(r#"the service \"nothing@http\" does not exist"#), "{said}");
}

pub async fn a_router_on_an_unknown_entry_point_is_closed_and_told(lab: &mut Lab) {
    let said = closed(lab, |http| http["routers"]["b"]["entryPoints"] = json!(["elsewhere"])).await;
    assert!(said.contains("no valid entryPoint"), "{said}");
}

pub async fn a_host_is_matched_in_every_spelling(lab: &mut Lab) {
    lab.serve(&[A]).await;
    for host in ["a.localhost", "A.LocalHost", "a.localhost:8080", "a.localhost."] {
        assert_eq!(lab.get(host).await.as_deref(), Some("one"), "{host}");
    }
    for host in ["aa.localhost", "localhost", "x.a.localhost", "a.localhos"] {
        assert_eq!(lab.get(host).await, None, "{host}");
    }
}

pub async fn the_larger_priority_wins_and_a_longer_rule_without_one(lab: &mut Lab) {
    let mut config = lab.config(&[A, ("b", A.1, "two")]);
    for (a, b, wins) in [(1, 2, "two"), (2, 1, "one"), (0, 1, "one"), (0, 1000, "two")] {
        config["http"]["routers"]["a"]["priority"] = a.into();
        config["http"]["routers"]["b"]["priority"] = b.into();
        lab.say(Answer::Config(config.clone()));
        lab.until("a.localhost", Some(wins)).await;
    }
    let length = A.1.len();
    assert_eq!(lab.held("routers", "a").await["priority"], length);
}

pub async fn after_a_restart_nothing_is_held_until_the_next_good_answer(lab: &mut Lab) {
    lab.serve(&[A]).await;
    lab.say(Answer::Status(503));
    lab.restart().await;
    sleep(A_WHILE).await;
    assert_eq!(lab.get("a.localhost").await, None);
    assert_eq!(lab.held("routers", "a").await, Value::Null);
    lab.serve(&[A]).await;
}

pub async fn the_overview_counts_routers_and_what_is_wrong(lab: &mut Lab) {
    let before = lab.api("/api/overview").await.1;
    let of = |said: &Value, kind: &str, what: &str| said["http"][kind][what].as_i64().unwrap();
    closed(lab, |http| http["routers"]["b"]["service"] = "nothing".into()).await;
    let after = lab.api("/api/overview").await.1;
    let more = |kind: &str, what: &str| of(&after, kind, what) - of(&before, kind, what);
    assert_eq!((more("routers", "total"), more("routers", "errors"), more("services", "total")), (2, 1, 2), "{after}");
}

pub async fn routers_are_listed_by_name_with_their_state(lab: &mut Lab) {
    lab.serve(&[A, B]).await;
    let (status, said) = lab.api("/api/http/routers?per_page=1000").await;
    assert_eq!(status, 200);
    let ours: Vec<_> = said.as_array().unwrap().iter().filter(|r| r["provider"] == "http").collect();
    assert_eq!(ours.iter().map(|r| r["name"].as_str().unwrap()).collect::<Vec<_>>(), ["a@http", "b@http"]);
    assert_eq!((&ours[0]["rule"], &ours[0]["status"], &ours[0]["using"]), (&A.1.into(), &"enabled".into(), &json!(["web"])));
    assert_eq!(lab.api("/api/http/routers/a@http").await.1["service"], "a");
    assert_eq!(lab.api("/api/http/routers/c@http").await.0, 404);
}

pub async fn the_marker_can_be_asked_for_alone(lab: &mut Lab) {
    let path = "/api/http/middlewares/mark@http";
    assert_eq!(lab.api(path).await.0, 404);
    let mut config = lab.config(&[A]);
    let headers = json!({"headers": {"customResponseHeaders": {"X-Mark": "7"}}});
    config["http"]["middlewares"] = json!({"mark": headers});
    lab.say(Answer::Config(config));
    lab.until("a.localhost", Some("one")).await;
    let (status, said) = lab.api(path).await;
    assert_eq!((status, &said["headers"]["customResponseHeaders"]["X-Mark"]), (200, &"7".into()), "{said}");
    assert_eq!((&said["status"], &said["usedBy"]), (&"enabled".into(), &Value::Null));
}

pub async fn middlewares_are_qualified_and_services_are_not(lab: &mut Lab) {
    let mut config = lab.config(&[A]);
    config["http"]["middlewares"] = json!({"m": {"headers": {"customRequestHeaders": {"X-DS-User": ""}}}});
    config["http"]["routers"]["a"]["middlewares"] = json!(["m"]);
    lab.say(Answer::Config(config));
    lab.until("a.localhost", Some("one")).await;
    let router = lab.held("routers", "a").await;
    assert_eq!((&router["middlewares"], &router["service"]), (&json!(["m@http"]), &"a".into()), "{router}");
    assert_eq!(lab.held("middlewares", "m").await["usedBy"], json!(["a@http"]));
    assert_eq!(lab.held("services", "a").await["usedBy"], json!(["a@http"]));
}

pub async fn a_poll_that_is_held_holds_up_nothing(lab: &mut Lab) {
    lab.serve(&[A]).await;
    lab.say(Answer::Held);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(lab.get("a.localhost").await.as_deref(), Some("one"));
    lab.serve(&[B]).await;
}

pub async fn what_is_published_is_told_as_current_and_served(lab: &mut Lab) {
    lab.say(Answer::Feed);
    assert!(lab.proxy.live().await.unwrap().0.is_empty());
    lab.proxy.publish(&table([
        ("r1", public("a.localhost", lab.server("one"))),
        ("r2", private("b.localhost", lab.server("two"), "w2")),
    ]));
    let live = lab.proxy.wait_live(PATIENCE).await.unwrap();
    assert!(live.0.len() == 2 && live.0.values().all(|r| r.current && r.error.is_empty()), "{live:?}");
    assert_eq!(lab.get("a.localhost").await.as_deref(), Some("one"));
    lab.proxy.publish(&RouteTable::default());
    assert!(lab.proxy.wait_live(PATIENCE).await.unwrap().0.is_empty());
    assert_eq!(lab.get("a.localhost").await, None);
}

pub async fn a_route_that_moved_is_not_current_until_it_is_taken_up(lab: &mut Lab) {
    lab.say(Answer::Feed);
    for name in ["one", "two", "one"] {
        lab.proxy.publish(&table([("r1", public("a.localhost", lab.server(name)))]));
        let at_once = lab.proxy.live().await.unwrap();
        // It may have been taken up already; then it is served.
        if at_once.0.get("r1").is_some_and(|r| r.current) {
            assert_eq!(lab.get("a.localhost").await.as_deref(), Some(name));
        }
        assert!(lab.proxy.wait_live(PATIENCE).await.unwrap().0["r1"].current);
        assert_eq!(lab.get("a.localhost").await.as_deref(), Some(name));
    }
}

pub async fn after_a_restart_what_was_published_comes_back(lab: &mut Lab) {
    lab.say(Answer::Feed);
    lab.proxy.publish(&table([("r1", public("a.localhost", lab.server("one")))]));
    lab.proxy.wait_live(PATIENCE).await.unwrap();
    lab.restart().await;
    lab.until("a.localhost", Some("one")).await;
    assert!(lab.proxy.wait_live(PATIENCE).await.unwrap().0["r1"].current);
}

pub async fn one_that_stands_still_does_not_answer(lab: &mut Lab) {
    lab.say(Answer::Feed);
    lab.proxy.publish(&table([("r1", public("a.localhost", lab.server("one")))]));
    lab.proxy.wait_live(PATIENCE).await.unwrap();
    lab.set_silent(true);
    lab.proxy.publish(&table([("r1", public("a.localhost", lab.server("two")))]));
    let error = lab.proxy.live().await.unwrap_err();
    assert!(matches!(&error, ProxyError::Unreachable(words) if words.contains("timed out")), "{error}");
    lab.set_silent(false);
    assert!(lab.proxy.wait_live(PATIENCE).await.unwrap().0["r1"].current);
    assert_eq!(lab.get("a.localhost").await.as_deref(), Some("two"));
}

pub async fn requests_are_counted_by_workspace_and_anew_after_a_restart(lab: &mut Lab) {
    lab.say(Answer::Feed);
    let routes = [
        ("r1", public("a.localhost", lab.server("one"))),
        ("r2", public("b.localhost", lab.server("two"))),
        ("r3", private("c.localhost", lab.server("two"), "w2")),
    ];
    lab.proxy.publish(&table(routes));
    lab.proxy.wait_live(PATIENCE).await.unwrap();
    let counts = async |lab: &Lab| {
        let all = lab.proxy.traffic().await.unwrap();
        all.into_iter().map(|(uid, traffic)| (uid, traffic.requests.into_values().collect::<Vec<_>>())).collect::<Vec<_>>()
    };
    assert_eq!(counts(lab).await, [("w1".to_owned(), vec![0, 0]), ("w2".to_owned(), vec![0])]);
    for host in ["a.localhost", "b.localhost", "a.localhost", "nowhere.localhost"] {
        lab.get(host).await;
    }
    // The gate does not let this one through.
    if lab.is_real() {
        lab.get("c.localhost").await;
    }
    assert_eq!(counts(lab).await, [("w1".to_owned(), vec![2, 1]), ("w2".to_owned(), vec![0])]);
    lab.restart().await;
    lab.until("a.localhost", Some("one")).await;
    let after = counts(lab).await;
    assert!(after[0].1[0] < 2 && after[0].1[1] == 0, "{after:?}");
}
