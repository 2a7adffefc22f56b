//! The proxy port on a real Traefik.

use crate::support::bare;
use crate::support::ports::free_address;
use crate::support::signal;
use crate::support::traefik::{Gate, PATIENCE, Rig, Upstream, find_traefik, private, public, request, spawn, started, table};
use crate::support::watchdog::Watchdog;
use axum::routing::get;
use devsanctum::proxy::{
    Certificate, ManagedError, ManagedSettings, Proxy, ProxyError, RenderSettings, RouteEntry, RouteTable, TraefikProxy,
};
use devsanctum::resource::common::Protocol;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Asks until a host answers this status, and then for how long it took.
async fn until(rig: &Rig, host: &str, status: u16) -> Duration {
    let start = Instant::now();
    while rig.get(host).await.0 != status {
        assert!(start.elapsed() < PATIENCE, "{host} never answered {status}: {:?}", rig.get(host).await);
        sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn a_published_route_answers_in_every_spelling_of_its_host_and_others_are_404() {
    let (rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    assert!(rig.proxy.live().await.unwrap().0.is_empty());
    rig.route(&table([("r1", public("abc.localhost", app.address))])).await;
    for host in ["abc.localhost", "ABC.LocalHost", "abc.localhost:8080", "abc.localhost."] {
        assert_eq!(rig.get(host).await, (200, "app".into()), "{host}");
    }
    for host in ["abd.localhost", "localhost", "x.abc.localhost", "127.0.0.1", "abc.localhost`"] {
        assert!(matches!(rig.get(host).await.0, 404 | 400), "{host}");
    }
    assert_eq!(app.requests(), 4);
    rig.route(&RouteTable::default()).await;
    assert_eq!(rig.get("abc.localhost").await.0, 404);
}

#[tokio::test]
async fn a_route_is_reported_current_only_once_traefik_serves_it_so() {
    let rig = Rig::start(free_address()).await;
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    rig.route(&table([("r1", public("a.localhost", one.address))])).await;
    for turn in 0..10 {
        let (name, to) = if turn % 2 == 0 { ("two", &two) } else { ("one", &one) };
        rig.proxy.publish(&table([("r1", public("a.localhost", to.address))]));
        assert!(!rig.proxy.live().await.unwrap().0["r1"].current);
        assert!(rig.proxy.wait_live(PATIENCE).await.unwrap().0["r1"].current);
        assert_eq!(rig.get("a.localhost").await, (200, name.into()));
    }
}

#[tokio::test]
async fn many_waiters_are_told_together() {
    let (rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    let mut table = RouteTable::default();
    let waiters = (0..50).map(|n| {
        table.0.insert(format!("r{n}"), public(&format!("h{n}.localhost"), app.address));
        rig.proxy.publish(&table);
        rig.proxy.wait_live(PATIENCE)
    });
    for (n, live) in futures::future::join_all(waiters).await.into_iter().enumerate() {
        assert!(live.unwrap().0[&format!("r{n}")].current);
    }
    assert_eq!(rig.get("h49.localhost").await.0, 200);
}

#[tokio::test]
async fn a_killed_traefik_comes_back_by_itself_with_all_routes() {
    let (mut rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    rig.route(&table([("r1", public("a.localhost", app.address)), ("r2", public("b.localhost", app.address))])).await;
    for _ in 0..2 {
        let before = rig.pid();
        signal("-KILL", before);
        until(&rig, "a.localhost", 0).await;
        until(&rig, "a.localhost", 200).await;
        until(&rig, "b.localhost", 200).await;
        assert_ne!(rig.pid(), before);
        assert!(rig.proxy.live().await.unwrap().0.values().all(|r| r.current));
    }
    assert_eq!(rig.traefik.as_ref().unwrap().status().borrow().restarts, 2);
    let pid = rig.pid();
    rig.traefik.take().unwrap().stop().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(matches!(rig.proxy.live().await, Err(ProxyError::Unreachable(_))));
}

#[tokio::test]
async fn routes_outlive_a_dead_controller_and_follow_it_again() {
    let (mut rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    rig.route(&table([("r1", public("a.localhost", app.address))])).await;
    rig.stop_feed().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.get("a.localhost").await.0, 200);
    rig.start_feed().await;
    rig.route(&table([("r2", public("b.localhost", app.address))])).await;
    assert_eq!((rig.get("a.localhost").await.0, rig.get("b.localhost").await.0), (404, 200));
}

#[tokio::test]
async fn a_bad_upstream_harms_nobody_else() {
    let (rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    let hostile = public("evil.localhost`) || Host(`a.localhost", app.address);
    let tcp = RouteEntry { protocol: Protocol::Tcp, ..public("tcp.localhost", app.address) };
    let bad = public("bad.localhost", free_address());
    rig.proxy.publish(&table([("r1", public("a.localhost", app.address)), ("r2", bad), ("r3", hostile), ("r4", tcp)]));
    let live = rig.proxy.wait_live(PATIENCE).await.unwrap();
    assert_eq!((rig.get("a.localhost").await.0, rig.get("bad.localhost").await.0), (200, 502));
    assert!(live.0["r1"].current && live.0["r2"].current);
    assert!(live.0["r3"].error.contains("host name") && live.0["r4"].error.contains("TCP"), "{live:?}");
}

#[tokio::test]
async fn the_gate_decides_before_a_private_workspace_sees_a_byte() {
    let (mut gate, app) = (Gate::start().await, Upstream::start("app").await);
    let rig = Rig::start(gate.address).await;
    rig.route(&table([
        ("r1", private("mine.localhost", app.address, "w1")),
        ("r2", private("other.localhost", app.address, "w2")),
    ]))
    .await;
    let good = [("Cookie", "dss=good")];
    for (host, headers, status) in [
        ("mine.localhost", &[][..], 401),
        ("mine.localhost", &[("Cookie", "dss=bad")], 401),
        ("other.localhost", &good, 403),
        (
            "other.localhost",
            &[("Cookie", "dss=good"), ("X-Forwarded-Host", "mine.localhost"), ("X-Forwarded-Uri", "/gate/w1")],
            403,
        ),
        ("MINE.localhost.", &[("X-DS-User", "ann"), ("X-Forwarded-For", "127.0.0.1")], 401),
    ] {
        assert_eq!(request(rig.web, host, "/", headers).await.0, status, "{host} {headers:?}");
    }
    assert_eq!(app.requests(), 0);
    assert_eq!(request(rig.web, "mine.localhost", "/", &good).await, (200, "app".into()));
    gate.stop().await;
    let refused = request(rig.web, "mine.localhost", "/", &good).await.0;
    assert!((500..600).contains(&refused), "{refused}");
    assert_eq!(app.requests(), 1);
}

/// By these headers the control plane tells what is handed on to it from what it is asked as the gate. Traefik takes the first one from
/// clients, but not from those behind a proxy that is trusted.
#[tokio::test]
async fn no_client_says_by_what_upgrades_are_told_from_questions_to_the_gate() {
    let control_plane = Upstream::start("control plane").await;
    let mut rig = Rig::start(control_plane.address).await;
    rig.traefik.take().unwrap().stop().await;
    let trusting = ManagedSettings { trusted: vec!["127.0.0.0/8".parse().unwrap()], ..rig.settings.clone() };
    rig.traefik = Some(started(trusting, rig.proxy.feed()).await.unwrap());
    rig.route(&table([("r1", private("mine.localhost", free_address(), "w1"))])).await;
    let planted = [("X-Forwarded-Uri", "/gate/w1"), ("X-DS-No-Upgrade", "1"), ("X-Forwarded-For", "192.0.2.7")];
    for upgrade in ["websocket", "h2c"] {
        let headers = [&planted[..], &[("Connection", "Upgrade"), ("Upgrade", upgrade)]].concat();
        assert_eq!(request(rig.web, "mine.localhost", "/gate/w1", &headers).await, (200, "control plane".into()));
        let seen = control_plane.seen.headers.lock().unwrap().clone();
        assert!(seen["x-forwarded-for"].to_str().unwrap().contains("192.0.2.7"), "the proxy is trusted: {seen:?}");
        assert!(!seen.contains_key("x-forwarded-uri"), "{upgrade}: {seen:?}");
        assert_eq!(seen.contains_key("x-ds-no-upgrade"), upgrade == "h2c", "{seen:?}");
    }
}

#[tokio::test]
async fn a_workspace_sees_neither_our_cookie_nor_a_pretended_identity() {
    let (gate, app) = (Gate::start().await, Upstream::start("app").await);
    let rig = Rig::start(gate.address).await;
    rig.route(&table([("r1", private("mine.localhost", app.address, "w1")), ("r2", public("open.localhost", app.address))]))
        .await;
    let spoofed = [("X-DS-User", "root"), ("X_DS_User", "root"), ("X.DS.User", "root"), ("x-Ds_uSer", "root")];
    for (host, user) in [("mine.localhost", Some("ann")), ("open.localhost", None)] {
        let headers = [&[("Cookie", "dss=good; app=1"), ("X-DS-Role", "admin")], &spoofed[..]].concat();
        assert_eq!(request(rig.web, host, "/", &headers).await.0, 200);
        let seen = app.seen.headers.lock().unwrap().clone();
        assert_eq!(seen.get("x-ds-user").map(|v| v.to_str().unwrap()), user, "{host}");
        assert!(seen.values().all(|v| v != "root"), "{host}: {seen:?}");
        if user.is_some() {
            assert_eq!(seen["cookie"], "app=1");
            assert!(!seen.contains_key("x-ds-role"));
        }
    }
    request(rig.web, "mine.localhost", "/", &[("Cookie", "dss=good")]).await;
    assert!(app.seen.headers.lock().unwrap().get("cookie").is_none_or(|c| c.is_empty()));
}

#[tokio::test]
async fn tls_and_https_upstreams_are_held_as_rendered() {
    let tls = Certificate::Resolver("dns".into());
    let rig = Rig::start_with(free_address(), Some(tls)).await;
    let https = |host: &str| RouteEntry { protocol: Protocol::Https, ..private(host, free_address(), "w1") };
    rig.route(&table([("r1", https("a.ws.localhost")), ("r2", https("own.example.com"))])).await;
    assert_eq!(rig.get("a.ws.localhost").await.0, 404);
}

#[tokio::test]
async fn a_thousand_routes_go_live_together() {
    let (rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    let entry = |n: usize| (format!("r{n}"), public(&format!("h{n}.localhost"), app.address));
    rig.route(&RouteTable((0..1000).map(entry).collect())).await;
    assert_eq!(rig.get("h999.localhost").await, (200, "app".into()));
}

#[tokio::test]
async fn an_old_traefik_is_refused_with_the_mend() {
    crate::support::crypto();
    let version = axum::Router::new().route("/api/version", get(|| async { r#"{"Version":"3.7.8"}"# }));
    let (address, task) = spawn(version).await;
    let settings =
        RenderSettings { entry_points: vec!["web".into()], gate_url: "http://127.0.0.1:1".into(), ..RenderSettings::default() };
    let proxy = TraefikProxy::new(&format!("http://{address}"), "t".into(), settings).unwrap();
    let error = proxy.live().await.unwrap_err();
    assert!(matches!(&error, ProxyError::Unusable(why) if why.contains("3.7.9 or newer")), "{error}");
    task.abort();
}

#[tokio::test]
async fn a_traefik_left_behind_is_taken_over_when_it_fits_and_ended_when_not() {
    let (mut rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    rig.route(&table([("r1", public("a.localhost", app.address))])).await;
    rig.traefik.take().unwrap().stop().await;
    let mut left = leave_behind(&rig.settings);
    let traefik = started(rig.settings.clone(), rig.proxy.feed()).await.unwrap();
    assert_eq!(traefik.status().borrow().pid, left.0.id());
    until(&rig, "a.localhost", 200).await;
    traefik.stop().await;
    left.0.wait().unwrap();

    let mut left = leave_behind(&rig.settings);
    let other = ManagedSettings { token: "another".into(), ..rig.settings.clone() };
    let traefik = started(other, rig.proxy.feed()).await.unwrap();
    assert_ne!(traefik.status().borrow().pid, left.0.id());
    left.0.wait().unwrap();
    traefik.stop().await;
}

#[tokio::test]
async fn a_traefik_taken_over_that_does_not_ask_is_restarted() {
    let (mut rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    rig.proxy.publish(&table([("r1", public("a.localhost", app.address))]));
    rig.traefik.take().unwrap().stop().await;
    rig.stop_feed().await;
    let mut left = leave_behind(&rig.settings);
    // A feed that was never asked: this run's own.
    let settings = RenderSettings::default();
    let unasked = TraefikProxy::new("http://127.0.0.1:1", "t".into(), settings).unwrap();
    let traefik = started(rig.settings.clone(), unasked.feed()).await.unwrap();
    assert_eq!(traefik.status().borrow().pid, left.0.id());
    sleep(Duration::from_secs(4)).await;
    assert!(left.0.try_wait().unwrap().is_none(), "while there is no table, the routes it has are kept");
    unasked.publish(&table([]));
    tokio::task::spawn_blocking(move || left.0.wait().unwrap()).await.unwrap();
    rig.start_feed().await;
    until(&rig, "a.localhost", 200).await;
    assert_eq!(traefik.status().borrow().restarts, 1);
    traefik.stop().await;
}

#[tokio::test]
async fn a_traefik_left_behind_that_does_not_answer_or_is_about_to_end_is_replaced() {
    let mut rig = Rig::start(free_address()).await;
    rig.traefik.take().unwrap().stop().await;
    for signal in ["-STOP", "-TERM"] {
        let mut left = leave_behind(&rig.settings);
        crate::support::signal(signal, left.0.id());
        let traefik = started(rig.settings.clone(), rig.proxy.feed()).await.unwrap();
        assert_ne!(traefik.status().borrow().pid, left.0.id(), "{signal}");
        left.0.wait().unwrap();
        traefik.stop().await;
    }
}

/// A Traefik as it stays when the control plane was killed; killed with the test at the latest.
struct Left(std::process::Child);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn leave_behind(settings: &ManagedSettings) -> Left {
    let dir = settings.state_dir.join("traefik");
    let config = format!("--configfile={}", dir.join("traefik.yml").display());
    let quiet = std::process::Stdio::null;
    let child = bare(find_traefik()).arg(config).stdout(quiet()).stderr(quiet()).spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    std::fs::write(dir.join("traefik.pid"), format!("{} {started}\n", child.id())).unwrap();
    Left(child)
}

#[tokio::test]
async fn what_keeps_traefik_from_starting_is_named_with_the_mend() {
    let dir = Watchdog::new("ds-traefik-");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let good = ManagedSettings {
        binary: Some(find_traefik()),
        state_dir: dir.path().into(),
        entry_points: [("web".to_owned(), free_address())].into(),
        api: free_address(),
        feed_url: "http://127.0.0.1:1/traefik/config".into(),
        token: "t".into(),
        env: [].into(),
        extra: [].into(),
        redirect: None,
        trusted: Vec::new(),
    };
    let entry_points = [("web".to_owned(), taken.local_addr().unwrap())].into();
    let port = ManagedSettings { entry_points, ..good.clone() };
    let binary = ManagedSettings { binary: Some("/nowhere/traefik".into()), ..good.clone() };
    let open = ManagedSettings { api: "0.0.0.0:9999".parse().unwrap(), ..good.clone() };
    let wrong = ManagedSettings { extra: [("metrics".to_owned(), serde_json::json!({"nonsense": 1}))].into(), ..good.clone() };
    let settings =
        RenderSettings { entry_points: vec!["web".into()], gate_url: "http://127.0.0.1:1".into(), ..RenderSettings::default() };
    let proxy = TraefikProxy::new("http://127.0.0.1:1", "t".into(), settings).unwrap();
    let start = async |settings| started(settings, proxy.feed()).await.err().unwrap();
    assert!(matches!(start(port).await, ManagedError::Address { .. }));
    assert!(matches!(start(binary).await, ManagedError::NoBinary(_)));
    assert!(matches!(start(open).await, ManagedError::ApiNotLoopback(_)));
    let error = start(wrong).await.to_string();
    assert!(error.contains("nonsense"), "{error}");
    let traefik = started(good.clone(), proxy.feed()).await.unwrap();
    assert_eq!(request(good.api, "localhost", "/metrics", &[]).await.0, 200);
    for file in ["traefik/traefik.yml", "traefik/traefik.log", "traefik/traefik.pid", "traefik"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
    traefik.stop().await;
}
