use super::*;
use crate::proxy::gateway;
use proptest::prelude::*;
use std::net::SocketAddr;

fn settings() -> RenderSettings {
    RenderSettings { entry_points: vec!["web".into()], gate_url: "http://127.0.0.1:8081".into(), ..RenderSettings::default() }
}

fn entry(host: &str, visibility: Visibility) -> RouteEntry {
    let upstream = SocketAddr::from(([172, 20, 0, 2], 8080));
    RouteEntry { host: host.into(), upstream, protocol: Protocol::Http, visibility, workspace_uid: "ws-1".into(), way: None }
}

fn one(entry: RouteEntry) -> Rendered {
    render(&RouteTable(BTreeMap::from([("r1".to_owned(), entry)])), &settings())
}

fn http(rendered: &Rendered) -> Http {
    rendered.configuration.http.clone().unwrap()
}

#[test]
fn a_private_route_asks_the_gate_of_its_own_workspace() {
    let http = http(&one(entry("abc.localhost", Visibility::Private)));
    assert_eq!(http.routers["ds-r1"].rule, "Host(`abc.localhost`)");
    assert_eq!(http.routers["ds-r1"].middlewares, ["ds-gate-ws-1"]);
    let auth = http.middlewares["ds-gate-ws-1"].forward_auth.clone().unwrap();
    assert_eq!(auth.address, "http://127.0.0.1:8081/gate/ws-1");
    assert_eq!(auth.auth_response_headers, ["Cookie"]);
    assert!(!auth.trust_forward_header);
}

#[test]
fn a_public_route_lets_nobody_pretend_an_identity() {
    let http = http(&one(entry("abc.localhost", Visibility::Public)));
    let headers = http.middlewares["ds-public"].headers.clone().unwrap();
    assert_eq!(headers.custom_request_headers["X-DS-User"], "");
    assert!(http.middlewares.values().all(|m| m.forward_auth.is_none()));
}

#[test]
fn an_empty_table_holds_the_version_and_nothing_else() {
    let rendered = render(&RouteTable::default(), &settings());
    let text = serde_json::to_string(&rendered.configuration).unwrap();
    let expected = format!(
        r#"{{"http":{{"middlewares":{{"ds-version":{{"headers":{{"customResponseHeaders":{{"X-DS-Version":"{}"}}}}}}}}}}}}"#,
        rendered.digest
    );
    assert_eq!(text, expected);
}

#[test]
fn tcp_and_unplaced_upstreams_are_refused_with_a_reason() {
    let mut tcp = entry("abc.localhost", Visibility::Public);
    tcp.protocol = Protocol::Tcp;
    assert!(one(tcp).refused["r1"].contains("TCP"));
    let mut nowhere = entry("abc.localhost", Visibility::Public);
    nowhere.upstream = SocketAddr::from(([0, 0, 0, 0], 80));
    assert!(one(nowhere).refused["r1"].contains("0.0.0.0:80"));
}

#[test]
fn an_https_upstream_may_show_its_own_certificate() {
    let mut https = entry("abc.localhost", Visibility::Public);
    https.protocol = Protocol::Https;
    let http = http(&one(https));
    let balancer = &http.services["ds-r1"].load_balancer;
    assert_eq!(balancer.servers[0].url, "https://172.20.0.2:8080");
    assert!(http.servers_transports[balancer.servers_transport.as_ref().unwrap()].insecure_skip_verify);
}

#[test]
fn routes_that_claim_one_host_are_all_refused() {
    let entry = entry("abc.localhost", Visibility::Public);
    let table = RouteTable(BTreeMap::from([("a".into(), entry.clone()), ("b".into(), entry)]));
    let rendered = render(&table, &settings());
    assert_eq!(rendered.refused.len(), 2);
    assert!(http(&rendered).routers.is_empty());
}

#[test]
fn a_resolver_orders_one_wildcard_and_nothing_for_foreign_hosts() {
    let certificate = Certificate::Resolver("dns".into());
    let panel = PanelRoute { host: "panel.example.com".into(), upstream: SocketAddr::from(([127, 0, 0, 1], 1)) };
    let settings = RenderSettings { tls: Some(certificate), panel: Some(panel), ..settings() };
    let routes = ["a.ws.example.com", "b.ws.example.com", "other.example.org", "x.y.ws.example.com", "evilws.example.com"];
    let entries = routes.iter().map(|h| ((*h).replace('.', "-"), entry(h, Visibility::Public)));
    let http = http(&render_below(&RouteTable(entries.collect()), &settings, Some("ws.example.com")));
    let of_panel = http.routers[PANEL].tls.clone().unwrap();
    assert_eq!(of_panel.domains, [Domain { main: "panel.example.com".into() }], "it is not below the domain");
    for host in &routes[..2] {
        let tls = http.routers[&format!("ds-{}", host.replace('.', "-"))].tls.clone().unwrap();
        assert_eq!(tls.domains, [Domain { main: "*.ws.example.com".into() }]);
        assert_eq!(tls.cert_resolver.as_deref(), Some("dns"));
    }
    for host in &routes[2..] {
        assert_eq!(http.routers[&format!("ds-{}", host.replace('.', "-"))].tls, Some(RouterTls::default()), "{host}");
    }
}

#[test]
fn where_tls_ends_browsers_are_told_to_come_by_https_alone() {
    let panel = PanelRoute { host: "panel.example.com".into(), upstream: SocketAddr::from(([127, 0, 0, 1], 1)) };
    let table =
        [("a", Visibility::Public), ("b", Visibility::Private)].map(|(n, v)| (n.to_owned(), entry(&format!("{n}.com"), v)));
    let told = |hsts| {
        let settings = RenderSettings { hsts, panel: Some(panel.clone()), ..settings() };
        http(&render_below(&RouteTable(table.clone().into()), &settings, Some("example.com")))
    };
    let with = told(true);
    assert!(with.routers.values().all(|router| router.middlewares[0] == HSTS), "{:?}", with.routers);
    let headers = serde_json::to_value(&with.middlewares[HSTS].headers).unwrap();
    assert_eq!(headers, serde_json::json!({"stsSeconds": 63_072_000, "stsIncludeSubdomains": true, "forceSTSHeader": true}));
    assert!(told(false).routers.values().all(|router| !router.middlewares.iter().any(|name| name == HSTS)));
}

fn any_entry() -> impl Strategy<Value = RouteEntry> {
    let host = prop_oneof![
        "[a-z0-9]{1,8}(-[a-z0-9]{1,8})?\\.(localhost|example\\.com)",
        ".{0,40}",
        "[a-z]{1,4}`\\) ?(\\|\\|)? ?(Host|PathPrefix)\\(`[a-z/.]{0,9}",
        "[a-z]{1,4}\\.com[\n\r\t` \\x00]",
    ];
    let uid = prop_oneof!["[a-z0-9-]{1,40}", ".{0,20}", "\\.\\./[a-z]{1,5}"];
    let visibility = prop_oneof![Just(Visibility::Public), Just(Visibility::Private)];
    let protocol = prop_oneof![Just(Protocol::Http), Just(Protocol::Https), Just(Protocol::Tcp)];
    (host, uid, visibility, protocol, any::<[u8; 4]>(), any::<u16>()).prop_map(
        |(host, workspace_uid, visibility, protocol, ip, port)| RouteEntry {
            host,
            upstream: SocketAddr::from((ip, port)),
            protocol,
            visibility,
            workspace_uid,
            way: None,
        },
    )
}

fn any_table() -> impl Strategy<Value = RouteTable> {
    let uid = prop_oneof![3 => "[a-z0-9]{4}-[a-z0-9]{4}", 1 => ".{0,12}"];
    proptest::collection::btree_map(uid, any_entry(), 0..12).prop_map(RouteTable)
}

proptest! {
    #[test]
    fn no_host_whatever_it_holds_reaches_a_rule_unless_it_is_canonical(host in ".{0,60}") {
        match host_rule(&host) {
            Ok(rule) => {
                prop_assert!(host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
                prop_assert_eq!(rule, format!("Host(`{host}`)"));
            }
            Err(reason) => prop_assert!(!reason.is_empty()),
        }
    }

    #[test]
    fn every_route_is_rendered_wholly_or_refused(table in any_table()) {
        let rendered = render(&table, &settings());
        let http = http(&rendered);
        let carried = |(uid, entry): (&String, &RouteEntry)| entry.is_carried() && !rendered.refused.contains_key(uid);
        let (sockets, any) = (usize::from(table.0.iter().any(carried)), usize::from(rendered.refused.len() < table.0.len()));
        prop_assert_eq!(http.routers.len() + rendered.refused.len(), table.0.len() + sockets + any);
        prop_assert_eq!(http.services.len() + rendered.refused.len(), table.0.len() + any);
        for (uid, entry) in &table.0 {
            let Some(router) = http.routers.get(&format!("ds-{uid}")) else {
                prop_assert!(rendered.refused.contains_key(uid));
                continue;
            };
            prop_assert_eq!(&router.rule, &format!("Host(`{}`)", entry.host));
            prop_assert!(http.services.contains_key(&router.service));
            prop_assert_eq!(router.priority, PRIORITY);
            prop_assert!(router.middlewares.iter().all(|m| http.middlewares.contains_key(m)));
            let gates: Vec<_> = router.middlewares.iter().filter_map(|m| http.middlewares[m].forward_auth.as_ref()).collect();
            match entry.visibility {
                Visibility::Public => prop_assert!(gates.is_empty()),
                Visibility::Private => {
                    prop_assert_eq!(gates.len(), 1);
                    prop_assert_eq!(&gates[0].address, &format!("http://127.0.0.1:8081/gate/{}", entry.workspace_uid));
                }
            }
        }
    }

    #[test]
    fn what_is_rendered_is_a_function_of_the_table(table in any_table()) {
        let (a, b) = (render(&table, &settings()), render(&table.clone(), &settings()));
        prop_assert_eq!(serde_json::to_string(&a.configuration).unwrap(), serde_json::to_string(&b.configuration).unwrap());
        prop_assert_eq!(&a.digest, &b.digest);
        let text = serde_json::to_string(&a.configuration).unwrap();
        prop_assert_eq!(serde_json::from_str::<Configuration>(&text).unwrap(), a.configuration);
    }
}

#[test]
fn the_fallback_comes_last_and_leads_to_the_panel() {
    let panel = PanelRoute { host: "panel.example.com".into(), upstream: ([127, 0, 0, 1], 9).into() };
    let with = RenderSettings { panel: Some(panel), ..settings() };
    let table = RouteTable(BTreeMap::from([("r1".to_owned(), entry("a.example.com", Visibility::Private))]));
    let rendered = render_below(&table, &with, Some("example.com"));
    let http = http(&rendered);
    let router = &http.routers[fallback::FALLBACK];
    assert_eq!(router.rule, fallback::below_rule("example.com").unwrap());
    assert_eq!((router.service.as_str(), &router.middlewares), (PANEL, &vec![PUBLIC_MIDDLEWARE.to_owned()]));
    assert!(http.routers.iter().all(|(name, other)| name == fallback::FALLBACK || other.priority > router.priority));
    assert_ne!(rendered.digest, render(&table, &with).digest);
    for (domain, settings) in [(Some("a`b"), &with), (None, &with), (Some("example.com"), &settings())] {
        assert!(!http_of(&table, settings, domain).routers.contains_key(fallback::FALLBACK), "{domain:?}");
    }
}

fn http_of(table: &RouteTable, settings: &RenderSettings, domain: Option<&str>) -> Http {
    http(&render_below(table, settings, domain))
}

#[test]
fn the_panel_has_a_router_and_nobody_else_its_host() {
    let panel = PanelRoute { host: "panel.example.com".into(), upstream: ([127, 0, 0, 1], 9).into() };
    let settings = RenderSettings { panel: Some(panel), ..settings() };
    let routes = [("r1", "panel.example.com"), ("r2", "a.example.com")];
    let table = RouteTable(routes.map(|(uid, host)| (uid.to_owned(), entry(host, Visibility::Public))).into());
    let rendered = render(&table, &settings);
    assert_eq!(rendered.refused.keys().collect::<Vec<_>>(), ["r1"], "{:?}", rendered.refused);
    let http = rendered.configuration.http.unwrap();
    assert_eq!(http.routers.keys().collect::<Vec<_>>(), ["ds-r2", NO_UPGRADES, PANEL]);
    assert_eq!(http.routers[PANEL].rule, "Host(`panel.example.com`)");
    assert_eq!(http.services[PANEL].load_balancer.servers[0].url, "http://127.0.0.1:9");
}

#[test]
fn what_is_to_be_upgraded_on_private_hosts_goes_through_the_control_plane() {
    let routes =
        [("r1", "a.example.com"), ("r2", "b.example.com")].map(|(uid, host)| (uid.to_owned(), entry(host, Visibility::Private)));
    let open = ("r3".to_owned(), entry("c.example.com", Visibility::Public));
    let secure = ("r4".to_owned(), RouteEntry { protocol: Protocol::Https, ..entry("d.example.com", Visibility::Private) });
    let rendered = render(&RouteTable(routes.into_iter().chain([open.clone(), secure]).collect()), &settings());
    let http = rendered.configuration.http.unwrap();
    let router = &http.routers[SOCKETS];
    assert_eq!(
        router.rule,
        "HeaderRegexp(`Upgrade`, `.`) && (Host(`a.example.com`) || Host(`b.example.com`) || Host(`d.example.com`))"
    );
    assert!(router.priority > PRIORITY);
    // By which the control plane tells it from a question to the gate is nothing that a client says.
    let told = http.middlewares[&router.middlewares[1]].headers.clone().unwrap().custom_request_headers;
    assert_eq!([&told["X-Forwarded-Uri"], &told[NO_UPGRADE_HEADER]], ["", ""]);
    assert_eq!(http.services[SOCKETS].load_balancer.servers[0].url, "http://127.0.0.1:8081");
    let rendered = render(&RouteTable([open].into()), &settings());
    assert!(!rendered.configuration.http.unwrap().routers.contains_key(SOCKETS));
}

#[test]
fn no_upgrade_but_one_to_a_websocket_gets_through_on_any_host() {
    let routes = [("r1", "a.example.com", Visibility::Public), ("r2", "b.example.com", Visibility::Private)];
    let routes =
        routes.into_iter().chain([("r3", "other.example.org", Visibility::Public), ("r4", "badexample.com", Visibility::Public)]);
    let table = RouteTable(routes.map(|(uid, host, visibility)| (uid.to_owned(), entry(host, visibility))).collect());
    for (domain, hosts) in [
        (
            None,
            "Host(`a.example.com`) || Host(`b.example.com`) || Host(`badexample.com`) || Host(`other.example.org`)".to_owned(),
        ),
        (Some("example.com"), {
            let below = fallback::below_rule("example.com").unwrap();
            format!("Host(`badexample.com`) || Host(`other.example.org`) || {below}")
        }),
    ] {
        let http = http_of(&table, &settings(), domain);
        let router = &http.routers[NO_UPGRADES];
        assert_eq!(router.rule, format!("HeaderRegexp(`Upgrade`, `{}`) && ({hosts})", all_but(WEBSOCKET)));
        assert!(http.routers.iter().all(|(name, other)| name == NO_UPGRADES || other.priority < router.priority));
        assert_eq!(http.services[&router.service].load_balancer.servers[0].url, "http://127.0.0.1:8081");
        let told = http.middlewares[router.middlewares.last().unwrap()].headers.clone().unwrap();
        assert_eq!(told.custom_request_headers[NO_UPGRADE_HEADER], "1");
    }
    assert!(one(entry("abc.localhost", Visibility::Public)).configuration.http.unwrap().routers.contains_key(NO_UPGRADES));
}

#[test]
fn all_but_a_word_is_all_but_that_word() {
    let other = regex_lite::Regex::new(&all_but(WEBSOCKET)).unwrap();
    for word in ["", "websocket", "WebSocket", "WEBSOCKET", "wEbSoCkEt"] {
        assert!(!other.is_match(word), "{word:?}");
    }
    for end in 1..WEBSOCKET.len() {
        assert!(other.is_match(&WEBSOCKET[..end]) && other.is_match(&WEBSOCKET[end..]), "{end}");
    }
    for word in
        ["h2c", "websocket, h2c", "h2c, websocket", "websocketx", "websocket/13", " websocket", "websocket ", "websocket\n"]
    {
        assert!(other.is_match(word), "{word:?}");
    }
    for word in ["web\u{17f}ocket", "websoc\u{212a}et", "websocke\u{ff54}", "\n", "\nwebsocket", "TLS/1.0", "ws"] {
        assert!(other.is_match(word), "{word:?}");
    }
}

proptest! {
    #[test]
    fn all_but_a_word_is_told_of_any_text(text in "[wWeEbBsSoOcCkKtT]{0,10}|.{0,12}|websocket.{0,2}|.?websocket") {
        let other = regex_lite::Regex::new(&all_but(WEBSOCKET)).unwrap();
        prop_assert_eq!(other.is_match(&text), !text.is_empty() && !text.eq_ignore_ascii_case(WEBSOCKET));
    }
}

#[test]
fn a_service_on_another_machine_is_reached_through_its_gateway_alone() {
    let (pem, key) = gateway::Authority::make().unwrap();
    let identity = std::sync::Arc::new(gateway::Authority::read(&pem, &key).unwrap().client(gateway::PROXY).unwrap());
    let way = |name: &str| {
        let (server, gateway, name) = ("rack".into(), "192.0.2.7:9443".into(), format!("{name}.u.gateway.internal"));
        Some(std::sync::Arc::new(gateway::Way { server, gateway, name, identity: identity.clone() }))
    };
    let far = RouteEntry { way: way("p8080-w1"), ..entry("a.example.com", Visibility::Public) };
    let secure = RouteEntry { way: way("s8443-w1"), protocol: Protocol::Https, ..entry("b.example.com", Visibility::Private) };
    let near = entry("c.example.com", Visibility::Public);
    let table = RouteTable([("r1", far), ("r2", secure), ("r3", near)].map(|(uid, entry)| (uid.to_owned(), entry)).into());
    let http = http(&render(&table, &settings()));
    for (name, sni) in [("ds-r1", "p8080-w1"), ("ds-r2", "s8443-w1")] {
        let service = &http.services[name].load_balancer;
        assert_eq!(
            (service.servers[0].url.as_str(), service.servers_transport.as_deref()),
            ("https://192.0.2.7:9443", Some(name))
        );
        let transport = &http.servers_transports[name];
        assert_eq!(transport.server_name, format!("{sni}.u.gateway.internal"));
        assert!(
            !transport.insecure_skip_verify && transport.disable_http2 && transport.max_idle_conns_per_host == KEPT_OPEN_THROUGH
        );
        assert_eq!((&transport.root_cas[0], &transport.certificates[0].key_file), (&pem, &identity.key));
    }
    assert_eq!(http.services["ds-r3"].load_balancer.servers[0].url, "http://172.20.0.2:8080");
    assert_eq!(http.servers_transports.len(), 2, "nothing goes there unchecked");
}
