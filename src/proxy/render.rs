//! From a route table to Traefik's dynamic configuration: pure, and with `fallback.rs` the only place that prints a rule.
//!
//! # Guarantees
//! - A route's rule is ``Host(`…`)`` of one canonical host name, or there is no router at all. The fallback's is in `fallback.rs`.
//! - A private route always carries the gate's middleware of its own workspace. The workspace's uid stands in the
//!   gate's address, so the gate never has to decide by a header of the client.
//! - One router, one service a route: Traefik tries rules one after the other. One more, before them, sends what is to be upgraded
//!   on private hosts through the control plane; and one before that what asks for another upgrade than to a WebSocket, on all
//!   hosts: within what it is upgraded to, such as HTTP/2, headers are said that nobody here sees.
//! - What cannot be served safely is left out and named in [`Rendered::refused`].
//!
//! # Caveats
//! - TCP routes are refused. Traefik can tell TCP routes apart only by the name in a TLS handshake, and has no
//!   ForwardAuth for them.
//! - The certificate of an HTTPS upstream is not checked: it is the workspace's own, self-signed, and the way there is
//!   the container's own bridge. On another machine it is the gateway that speaks TLS with it; the gateway's own is checked, and
//!   each route there has a transport of its own, since the name in the handshake is all that a gateway goes by.

use super::dynamic::{
    CertificateFiles, Configuration, Domain, ForwardAuth, Headers, Http, LoadBalancer, Middleware, Router, RouterTls, Server,
    ServersTransport, Service, Tls, TlsStore,
};
use super::fallback;
use super::types::{RouteEntry, RouteTable};
use crate::resource::common::{Protocol, Visibility};
use crate::resource::names;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Name of the middleware that carries the digest of the configuration. No router uses it: it tells, by one small
/// request to Traefik's API, which configuration Traefik holds.
pub const VERSION_MIDDLEWARE: &str = "ds-version";
/// Header name under which [`VERSION_MIDDLEWARE`] carries the digest.
pub const VERSION_HEADER: &str = "X-DS-Version";
/// Headers by which the gate tells a workspace who is asking. A client cannot set them on any route.
pub const IDENTITY_HEADERS: [&str; 1] = ["X-DS-User"];

/// Header by which the control plane knows what is asked to be upgraded to something else than a WebSocket: Traefik takes what it
/// knows to be harmful, such as `h2c`, out of the request.
pub const NO_UPGRADE_HEADER: &str = "X-DS-No-Upgrade";

/// All `X-DS-*`, as Go spells header names.
const IDENTITY_PATTERN: &str = "^X-Ds-";
const PUBLIC_MIDDLEWARE: &str = "ds-public";
const HSTS: &str = "ds-hsts";
/// Two years, as browsers want it of who asks to be known to them beforehand.
const HSTS_SECONDS: i64 = 63_072_000;
const PANEL: &str = "panel";
const SOCKETS: &str = "sockets";
/// What asks to speak otherwise than HTTP on its connection.
const UPGRADES: &str = "HeaderRegexp(`Upgrade`, `.`)";
/// The one upgrade there is.
const WEBSOCKET: &str = "websocket";
const NO_UPGRADES: &str = "no-upgrades";
/// By which Traefik says that it asks the gate: it takes it from clients, but for those behind proxies that are trusted.
const ASKED_URI: &str = "X-Forwarded-Uri";
const HANDED_ON: &str = "ds-handed-on";
const NO_UPGRADES_MIDDLEWARE: &str = "ds-no-upgrades";
const SELF_SIGNED: &str = "ds-self-signed";
/// Room above for routers that must win on every host, and below for a fallback.
const PRIORITY: i64 = 1_000;
const GATE_ANSWER_BYTES: i64 = 64 * 1024;
/// As many as Traefik keeps open to services that need no transport of their own. With two, most requests at once would begin with a
/// handshake.
const KEPT_OPEN: u32 = 200;
/// A gateway has places for all workspaces of its server together, and each route keeps its own.
const KEPT_OPEN_THROUGH: u32 = 32;

/// What holds for all routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderSettings {
    /// Traefik's entry points that serve workspaces, such as `web`.
    pub entry_points: Vec<String>,
    /// Where Traefik reaches the gate, without a trailing `/`, such as `http://127.0.0.1:8081`.
    pub gate_url: String,
    /// TLS ends at Traefik, with this wildcard certificate.
    pub tls: Option<Certificate>,
    /// Browsers are told to come by https alone (RFC 6797): TLS ends at Traefik or before it.
    pub hsts: bool,
    /// Certificate where no other fits, also without TLS: a Traefik that has none makes an RSA key of its own at every
    /// change, for about 100 ms of CPU. See [`super::certificate::self_signed`].
    pub default_certificate: Option<CertificateFiles>,
    /// The panel, which no workspace can stand in for.
    pub panel: Option<PanelRoute>,
}

/// Where the panel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelRoute {
    /// Its host.
    pub host: String,
    /// Where Traefik reaches it.
    pub upstream: SocketAddr,
}

/// Where the wildcard certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// From files.
    Files(CertificateFiles),
    /// From one of Traefik's certificate resolvers: one order for `*.<domain>`, and one for a panel that is not right below the
    /// domain; never one a workspace. Other hosts get the default certificate.
    Resolver(String),
}

/// A configuration, and what had to be left out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What Traefik gets.
    pub configuration: Configuration,
    /// Why a route is not in it, by the uid of its record.
    pub refused: BTreeMap<String, String>,
    /// SHA-256 over the configuration, in hex; also carried inside by [`VERSION_MIDDLEWARE`].
    pub digest: String,
}

/// Renders the whole table. Equal tables and settings give equal bytes.
pub fn render(table: &RouteTable, settings: &RenderSettings) -> Rendered {
    render_below(table, settings, None)
}

/// As [`render`], for workspaces below this domain: with a certificate for it where one is ordered, and a fallback for hosts that no
/// route has, where there is a panel.
pub fn render_below(table: &RouteTable, settings: &RenderSettings, domain: Option<&str>) -> Rendered {
    let mut http = Http::default();
    let mut refused = BTreeMap::new();
    let shared = shared_hosts(table);
    for (uid, entry) in &table.0 {
        let done = match shared.get(entry.host.as_str()) {
            _ if settings.panel.as_ref().is_some_and(|panel| panel.host == entry.host) => {
                Err(format!("the host {:?} is the panel's own; choose another", entry.host))
            }
            Some(n) if *n > 1 => Err(format!("{n} routes claim the host {:?}; give each its own", entry.host)),
            _ => add(&mut http, uid, entry, settings, domain),
        };
        if let Err(reason) = done {
            refused.insert(uid.clone(), reason);
        }
    }
    add_sockets(&mut http, table, &refused, settings);
    add_no_upgrades(&mut http, table, &refused, settings, domain);
    if let Some(panel) = &settings.panel {
        add_panel(&mut http, panel, settings, domain);
    }
    if let Some(domain) = domain {
        fallback::add(&mut http, domain, PANEL);
    }
    let certificate = match &settings.tls {
        Some(Certificate::Files(files)) => Some(files),
        _ => settings.default_certificate.as_ref(),
    };
    let tls = certificate.map(|files| {
        let store = TlsStore { default_certificate: files.clone() };
        Tls { stores: BTreeMap::from([("default".to_owned(), store)]) }
    });
    let mut configuration = Configuration { http: Some(http), tls };
    let digest = digest(&configuration);
    // The marker also keeps an empty table from being `{}` or an empty map, which Traefik refuses.
    if let Some(http) = &mut configuration.http {
        let headers = Headers {
            custom_response_headers: BTreeMap::from([(VERSION_HEADER.to_owned(), digest.clone())]),
            ..Headers::default()
        };
        http.middlewares.insert(VERSION_MIDDLEWARE.into(), Middleware { headers: Some(headers), ..Middleware::default() });
    }
    Rendered { configuration, refused, digest }
}

/// Prints the only kind of rule there is.
///
/// # Errors
/// When the host is not a canonical host name; a backtick or an operator can then not reach the rule.
pub fn host_rule(host: &str) -> Result<String, String> {
    names::host_name(host).map_err(|why| format!("host {host:?} {why}"))?;
    Ok(format!("Host(`{host}`)"))
}

/// Name of a route's router and service.
///
/// # Errors
/// When the uid is not made of lower-case letters, digits and `-`.
pub fn route_name(uid: &str) -> Result<String, String> {
    names::dns_label(uid).map_err(|why| format!("uid {uid:?} {why}"))?;
    Ok(format!("ds-{uid}"))
}

/// The digest that [`VERSION_MIDDLEWARE`] carries.
pub fn version_of(marker: &Middleware) -> Option<&str> {
    marker.headers.as_ref()?.custom_response_headers.get(VERSION_HEADER).map(String::as_str)
}

fn shared_hosts(table: &RouteTable) -> BTreeMap<&str, usize> {
    let mut count = BTreeMap::new();
    for entry in table.0.values() {
        *count.entry(entry.host.as_str()).or_default() += 1;
    }
    count
}

fn add(http: &mut Http, uid: &str, entry: &RouteEntry, settings: &RenderSettings, domain: Option<&str>) -> Result<(), String> {
    let (name, rule) = (route_name(uid)?, host_rule(&entry.host)?);
    if entry.protocol == Protocol::Tcp {
        return Err("protocol TCP cannot be routed by host name; use HTTP or HTTPS, or reach the port by 'exec'".into());
    }
    if entry.upstream.ip().is_unspecified() || entry.upstream.port() == 0 {
        return Err(format!("upstream {} is not an address; wait for the workspace's container", entry.upstream));
    }
    let middleware = match entry.visibility {
        Visibility::Public => add_public(http),
        Visibility::Private => add_gate(http, &entry.workspace_uid, settings)?,
    };
    let (url, servers_transport) = reached(http, &name, entry);
    let load_balancer = LoadBalancer { servers: vec![Server { url }], pass_host_header: true, servers_transport };
    let router = Router {
        entry_points: settings.entry_points.clone(),
        rule,
        priority: PRIORITY,
        service: name.clone(),
        middlewares: add_hsts(http, settings).into_iter().chain([middleware]).collect(),
        tls: settings.tls.as_ref().map(|tls| router_tls(tls, &entry.host, domain)),
    };
    http.services.insert(name.clone(), Service { load_balancer });
    http.routers.insert(name, router);
    Ok(())
}

/// The address of a route's service, and how that is spoken to.
fn reached(http: &mut Http, name: &str, entry: &RouteEntry) -> (String, Option<String>) {
    let kept_open = ServersTransport { max_idle_conns_per_host: KEPT_OPEN, ..ServersTransport::default() };
    let (name, transport) = match (&entry.way, entry.protocol) {
        (None, Protocol::Https) => (SELF_SIGNED, ServersTransport { insecure_skip_verify: true, ..kept_open }),
        (None, _) => return (format!("http://{}", entry.upstream), None),
        (Some(way), _) => {
            let (cert_file, key_file) = (way.identity.certificate.clone(), way.identity.key.clone());
            let transport = ServersTransport {
                server_name: way.name.clone(),
                root_cas: vec![way.identity.authority.clone()],
                certificates: vec![CertificateFiles { cert_file, key_file }],
                disable_http2: true,
                max_idle_conns_per_host: KEPT_OPEN_THROUGH,
                ..kept_open
            };
            (name, transport)
        }
    };
    http.servers_transports.insert(name.to_owned(), transport);
    (entry.way.as_ref().map_or_else(|| format!("https://{}", entry.upstream), |way| way.url()), Some(name.to_owned()))
}

/// One router for all private hosts: what is to be upgraded goes through the control plane, which is the gate itself there. Before
/// all others, so that Traefik looks at it once for a request, however many routes there are.
fn add_sockets(http: &mut Http, table: &RouteTable, refused: &BTreeMap<String, String>, settings: &RenderSettings) {
    let carried = table.0.iter().filter(|(uid, entry)| entry.is_carried() && !refused.contains_key(*uid));
    let hosts: Vec<String> = carried.filter_map(|(_, entry)| host_rule(&entry.host).ok()).collect();
    if hosts.is_empty() {
        return;
    }
    lead_to_sockets(http, SOCKETS, format!("{UPGRADES} && ({})", hosts.join(" || ")), PRIORITY + 1, settings);
}

/// One router for all hosts, public ones too, before all others: an upgrade to anything but a WebSocket leads to the control plane,
/// which refuses it in words. All hosts below the domain are said at once.
fn add_no_upgrades(
    http: &mut Http,
    table: &RouteTable,
    refused: &BTreeMap<String, String>,
    settings: &RenderSettings,
    domain: Option<&str>,
) {
    let below = domain.and_then(|domain| Some((format!(".{domain}"), fallback::below_rule(domain).ok()?)));
    let rule = |host: &str| match &below {
        Some((end, rule)) if host.ends_with(end) => Some(rule.clone()),
        _ => host_rule(host).ok(),
    };
    let served = table.0.iter().filter(|(uid, _)| !refused.contains_key(*uid));
    let hosts: BTreeSet<String> = served.filter_map(|(_, entry)| rule(&entry.host)).collect();
    if hosts.is_empty() {
        return;
    }
    let hosts: Vec<String> = hosts.into_iter().collect();
    let rule = format!("HeaderRegexp(`Upgrade`, `{}`) && ({})", all_but(WEBSOCKET), hosts.join(" || "));
    lead_to_sockets(http, NO_UPGRADES, rule, PRIORITY + 2, settings);
    let told = BTreeMap::from([(NO_UPGRADE_HEADER.to_owned(), "1".to_owned())]);
    let headers = Headers { custom_request_headers: told, ..Headers::default() };
    http.middlewares.insert(NO_UPGRADES_MIDDLEWARE.into(), Middleware { headers: Some(headers), ..Middleware::default() });
    if let Some(router) = http.routers.get_mut(NO_UPGRADES) {
        router.middlewares.push(NO_UPGRADES_MIDDLEWARE.into());
    }
}

/// Matches all that is neither nothing nor this word, in whichever case: RE2 does not look ahead, and its own way to ignore case
/// takes letters for others' that are not ASCII.
fn all_but(word: &str) -> String {
    let beyond = ".".to_owned();
    let inner = word.char_indices().rev().fold(beyond, |rest, (at, letter)| {
        let same = format!("{}{}", letter.to_ascii_lowercase(), letter.to_ascii_uppercase());
        let too_short = if at == 0 { "" } else { "$|" };
        format!("(?:{too_short}[^{same}]|[{same}]{rest})")
    });
    format!("(?s)^{inner}")
}

fn lead_to_sockets(http: &mut Http, name: &str, rule: String, priority: i64, settings: &RenderSettings) {
    let load_balancer = LoadBalancer {
        servers: vec![Server { url: settings.gate_url.clone() }],
        pass_host_header: true,
        servers_transport: None,
    };
    let router = Router {
        entry_points: settings.entry_points.clone(),
        rule,
        priority,
        service: SOCKETS.into(),
        middlewares: add_hsts(http, settings).into_iter().chain([add_public(http), add_handed_on(http)]).collect(),
        tls: settings.tls.as_ref().map(|_| RouterTls::default()),
    };
    http.services.insert(SOCKETS.into(), Service { load_balancer });
    http.routers.insert(name.into(), router);
}

/// The panel's router, which is no route's. A host that cannot be printed is no panel.
fn add_panel(http: &mut Http, panel: &PanelRoute, settings: &RenderSettings, domain: Option<&str>) {
    let Ok(rule) = host_rule(&panel.host) else { return };
    let servers = vec![Server { url: format!("http://{}", panel.upstream) }];
    let load_balancer = LoadBalancer { servers, pass_host_header: true, servers_transport: None };
    let router = Router {
        entry_points: settings.entry_points.clone(),
        rule,
        priority: PRIORITY,
        service: PANEL.into(),
        middlewares: add_hsts(http, settings).into_iter().chain([add_public(http)]).collect(),
        tls: settings.tls.as_ref().map(|tls| panel_tls(tls, &panel.host, domain)),
    };
    http.services.insert(PANEL.into(), Service { load_balancer });
    http.routers.insert(PANEL.into(), router);
}

/// What is handed on to the control plane says nothing by which Traefik speaks to it.
fn add_handed_on(http: &mut Http) -> String {
    let removed = [ASKED_URI, NO_UPGRADE_HEADER].map(|name| (name.to_owned(), String::new())).into();
    let headers = Headers { custom_request_headers: removed, ..Headers::default() };
    http.middlewares.insert(HANDED_ON.into(), Middleware { headers: Some(headers), ..Middleware::default() });
    HANDED_ON.into()
}

/// A public workspace sees nobody's identity, so nobody may pretend one.
fn add_public(http: &mut Http) -> String {
    let removed = IDENTITY_HEADERS.iter().map(|h| ((*h).to_owned(), String::new())).collect();
    let headers = Headers { custom_request_headers: removed, ..Headers::default() };
    http.middlewares.insert(PUBLIC_MIDDLEWARE.into(), Middleware { headers: Some(headers), ..Middleware::default() });
    PUBLIC_MIDDLEWARE.into()
}

fn add_gate(http: &mut Http, workspace_uid: &str, settings: &RenderSettings) -> Result<String, String> {
    names::dns_label(workspace_uid).map_err(|why| format!("workspace uid {workspace_uid:?} {why}"))?;
    let name = format!("ds-gate-{workspace_uid}");
    let forward_auth = ForwardAuth {
        address: format!("{}/gate/{workspace_uid}", settings.gate_url),
        trust_forward_header: false,
        // Taken from the gate's answer only: this is what strips our cookie before the workspace sees it.
        auth_response_headers: vec!["Cookie".into()],
        auth_response_headers_regex: IDENTITY_PATTERN.into(),
        max_response_body_size: GATE_ANSWER_BYTES,
    };
    http.middlewares.insert(name.clone(), Middleware { forward_auth: Some(forward_auth), ..Middleware::default() });
    Ok(name)
}

/// Where browsers have to be told to come by https alone, the middleware that tells them.
fn add_hsts(http: &mut Http, settings: &RenderSettings) -> Option<String> {
    let headers =
        Headers { sts_seconds: HSTS_SECONDS, sts_include_subdomains: true, force_sts_header: true, ..Headers::default() };
    settings.hsts.then(|| {
        http.middlewares.insert(HSTS.into(), Middleware { headers: Some(headers), ..Middleware::default() });
        HSTS.to_owned()
    })
}

/// The wildcard is ordered by the hosts that it covers: those right below the domain.
fn router_tls(tls: &Certificate, host: &str, domain: Option<&str>) -> RouterTls {
    let label = domain.and_then(|domain| host.strip_suffix(domain)).and_then(|host| host.strip_suffix('.'));
    match (tls, domain) {
        (Certificate::Resolver(resolver), Some(domain)) if label.is_some_and(|label| !label.contains('.')) => {
            ordered(resolver, format!("*.{domain}"))
        }
        _ => RouterTls::default(),
    }
}

/// A panel that the wildcard does not cover has a certificate of its own.
fn panel_tls(tls: &Certificate, host: &str, domain: Option<&str>) -> RouterTls {
    match (tls, router_tls(tls, host, domain)) {
        (Certificate::Resolver(resolver), own) if own == RouterTls::default() => ordered(resolver, host.to_owned()),
        (_, tls) => tls,
    }
}

fn ordered(resolver: &str, main: String) -> RouterTls {
    RouterTls { cert_resolver: Some(resolver.to_owned()), domains: vec![Domain { main }] }
}

fn digest(configuration: &Configuration) -> String {
    let bytes = serde_json::to_vec(configuration).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
