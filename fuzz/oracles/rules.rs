//! What Traefik is told: a router takes the requests of its own host, and no others.
//!
//! The rules are read again and judged here by Traefik's documentation: `Host` compares without regard to case, port
//! and a trailing dot; `HeaderRegexp` takes a request of which any line of the header matches.

use super::input::Input;
use devsanctum::proxy::dynamic::{Configuration, Http};
use devsanctum::proxy::render::render;
use devsanctum::proxy::{RenderSettings, RouteEntry, RouteTable};
use devsanctum::resource::common::{Protocol, Visibility};
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let entries = (0..1 + input.below(3)).map(|i| {
        let uid = if input.below(8) == 0 { input.text(12) } else { format!("r{i}") };
        (uid, entry(&mut input))
    });
    table(&RouteTable(entries.collect()));
}

fn host(input: &mut Input) -> String {
    const LABELS: [&str; 14] = ["a", "ws-1", "x--y", "abc", "A", "é", "-", "a_b", "*", "a`", "", "0", "a\n", "ẞ"];
    const ENDS: [&str; 8] =
        ["localhost", "example.com", "example.com.", "example.com:80", "10.0.0.1", "x`) || PathPrefix(`/", "com`,`b.com", "COM"];
    match input.below(4) {
        0 => input.text(40),
        1 => format!("{}.{}", input.pick(&LABELS[..4]), input.pick(&ENDS[..2])),
        _ => {
            let labels: Vec<&str> = (0..input.below(4)).map(|_| *input.pick(&LABELS)).collect();
            format!("{}.{}", labels.join("."), input.pick(&ENDS))
        }
    }
}

fn entry(input: &mut Input) -> RouteEntry {
    let host = host(input);
    let address = [10, input.byte(), input.byte(), input.byte()];
    RouteEntry {
        host,
        upstream: SocketAddr::from((address, u16::from(input.byte()) * 100)),
        protocol: *input.pick(&[Protocol::Http, Protocol::Https, Protocol::Tcp]),
        visibility: *input.pick(&[Visibility::Public, Visibility::Private]),
        workspace_uid: if input.below(6) == 0 { input.text(12) } else { "ws-1".into() },
        way: None,
    }
}

/// Judges all that is rendered of a table.
pub fn table(table: &RouteTable) {
    let settings = RenderSettings {
        entry_points: vec!["web".into()],
        gate_url: "http://127.0.0.1:8081".into(),
        ..RenderSettings::default()
    };
    let rendered = render(table, &settings);
    // What Traefik reads is the text.
    let text = serde_json::to_string(&rendered.configuration).expect("it can be written");
    let read: Configuration = serde_json::from_str(&text).expect("it can be read");
    let http = read.http.expect("there is always an HTTP part");
    let rules: BTreeMap<&String, Rule> =
        http.routers.iter().map(|(name, router)| (name, Rule::read(&router.rule).expect("a rule Traefik knows"))).collect();
    for (uid, entry) in &table.0 {
        let name = format!("ds-{uid}");
        let takers = |host: &str, path: &str| rules.iter().filter(|(_, rule)| rule.takes(host, path)).map(|(n, _)| *n).collect();
        if !http.routers.contains_key(&name) {
            assert!(rendered.refused.contains_key(uid), "{uid:?} is neither rendered nor refused");
            let others: Vec<&String> = takers(&entry.host, "/");
            let same = |n: &&String| table.0.iter().any(|(u, e)| **n == format!("ds-{u}") && same_host(&e.host, &entry.host));
            assert!(others.iter().all(same), "{:?} was refused and {others:?} take it", entry.host);
            continue;
        }
        leads_to(&http, &name, entry);
        upgraded(&http, &rules, entry);
        for spelling in spellings(&entry.host) {
            for path in ["/", "/x/../y", "/gate/ws-1", "/`) || Host(`a"] {
                let taken: Vec<&String> = takers(&spelling, path);
                assert_eq!(taken, [&name], "{spelling:?}{path} of {:?}", entry.host);
            }
        }
        for near in near_misses(&entry.host) {
            assert!(!rules[&name].takes(&near, "/"), "{name} of {:?} takes {near:?}", entry.host);
        }
    }
}

/// The router's service is the entry's, and its middleware the one that its visibility asks for.
fn leads_to(http: &Http, name: &str, entry: &RouteEntry) {
    let router = &http.routers[name];
    let scheme = if entry.protocol == Protocol::Https { "https" } else { "http" };
    let servers = &http.services[&router.service].load_balancer.servers;
    assert_eq!(servers.iter().map(|s| s.url.clone()).collect::<Vec<_>>(), [format!("{scheme}://{}", entry.upstream)]);
    let gates: Vec<&str> =
        router.middlewares.iter().filter_map(|m| Some(http.middlewares[m].forward_auth.as_ref()?.address.as_str())).collect();
    let due = format!("http://127.0.0.1:8081/gate/{}", entry.workspace_uid);
    assert_eq!(gates, if entry.visibility == Visibility::Private { vec![due.as_str()] } else { vec![] });
}

/// What is to be upgraded to a WebSocket goes through the control plane where the route is private, and nowhere else; other upgrades
/// lead there from every host.
fn upgraded(http: &Http, rules: &BTreeMap<&String, Rule>, entry: &RouteEntry) {
    let first = |upgrades: &[&str]| {
        let takers = rules.iter().filter(|(_, rule)| rule.takes_upgrade(&entry.host, "/", upgrades));
        *takers.max_by_key(|(name, _)| http.routers[name.as_str()].priority).expect("its own router takes it").0
    };
    let to_control_plane = |name: &str| {
        let servers = &http.services[&http.routers[name].service].load_balancer.servers;
        assert_eq!(servers.iter().map(|s| s.url.as_str()).collect::<Vec<_>>(), ["http://127.0.0.1:8081"]);
    };
    let carried = entry.visibility == Visibility::Private;
    for upgrades in [&["websocket"][..], &["WebSocket"], &["websocket", "websocket"]] {
        assert_eq!(first(upgrades) == "sockets", carried, "{:?} {upgrades:?}", entry.host);
        assert_ne!(first(upgrades), "no-upgrades", "{:?} {upgrades:?}", entry.host);
    }
    if carried {
        to_control_plane("sockets");
    }
    to_control_plane("no-upgrades");
    let others = [&["h2c"][..], &["websocket, h2c"], &["websocket", "h2c"], &["h2c", "websocket"], &["websocke"], &["webſocket"]];
    for upgrades in others {
        assert_eq!(first(upgrades), "no-upgrades", "{:?} {upgrades:?}", entry.host);
    }
    for near in near_misses(&entry.host).iter().filter(|near| !rules.values().any(|rule| rule.takes(near, "/"))) {
        let taken = rules.values().any(|rule| ["websocket", "h2c"].iter().any(|to| rule.takes_upgrade(near, "/", &[to])));
        assert!(!taken, "{near:?}");
    }
}

fn canonical(host: &str) -> String {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn same_host(a: &str, b: &str) -> bool {
    canonical(a) == canonical(b)
}

/// Other ways to write the same host.
fn spellings(host: &str) -> Vec<String> {
    let mixed = host.char_indices().map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    let upper = host.to_ascii_uppercase();
    vec![host.into(), upper.clone(), mixed, format!("{host}."), format!("{host}:80"), format!("{upper}.:8443")]
}

/// Hosts that look much like it, and are others.
fn near_misses(host: &str) -> Vec<String> {
    let mut near = vec![
        String::new(),
        format!("x{host}"),
        format!("{host}x"),
        format!("x.{host}"),
        format!("{host}.example.org"),
        format!("-{host}"),
        format!("*.{host}"),
        format!("{host}`"),
        format!("{host}\0"),
        format!("{host} "),
        format!("{host}/"),
        format!("{host}@example.org"),
        format!("{host},example.org"),
        format!("{host}.."),
        host.replacen('.', "", 1),
        host.replacen('.', "-", 1),
        host.replacen('.', "..", 1),
        host.split_once('.').map_or("", |(_, rest)| rest).to_owned(),
        host.rsplit_once('.').map_or("", |(rest, _)| rest).to_owned(),
    ];
    for at in 0..host.len() {
        let (before, after) = (&host[..at], &host[at + 1..]);
        near.push(format!("{before}{after}"));
        near.push(format!("{before}~{after}"));
    }
    near.retain(|other| !same_host(other, host));
    near
}

/// A rule, as far as one about hosts and paths goes.
#[derive(Debug, PartialEq)]
pub enum Rule {
    Host(String),
    Path(String),
    PathPrefix(String),
    /// What is to be upgraded, to something that this matches.
    Upgrade(String),
    Not(Box<Rule>),
    And(Box<Rule>, Box<Rule>),
    Or(Box<Rule>, Box<Rule>),
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// What is left where it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let (rule, rest) = Self::either(text)?;
        if rest.trim().is_empty() { Ok(rule) } else { Err(rest.into()) }
    }

    fn either(text: &str) -> Result<(Self, &str), String> {
        let (mut rule, mut rest) = Self::both(text)?;
        while let Some(more) = rest.trim_start().strip_prefix("||") {
            let (other, after) = Self::both(more)?;
            (rule, rest) = (Self::Or(rule.into(), other.into()), after);
        }
        Ok((rule, rest))
    }

    fn both(text: &str) -> Result<(Self, &str), String> {
        let (mut rule, mut rest) = Self::single(text)?;
        while let Some(more) = rest.trim_start().strip_prefix("&&") {
            let (other, after) = Self::single(more)?;
            (rule, rest) = (Self::And(rule.into(), other.into()), after);
        }
        Ok((rule, rest))
    }

    fn single(text: &str) -> Result<(Self, &str), String> {
        let text = text.trim_start();
        if let Some(inner) = text.strip_prefix('!') {
            let (rule, rest) = Self::single(inner)?;
            return Ok((Self::Not(rule.into()), rest));
        }
        if let Some(inner) = text.strip_prefix('(') {
            let (rule, rest) = Self::either(inner)?;
            return Ok((rule, rest.trim_start().strip_prefix(')').ok_or(rest)?));
        }
        if let Some(rest) = text.strip_prefix("HeaderRegexp(`Upgrade`, `") {
            let (pattern, rest) = rest.split_once("`)").ok_or(text)?;
            return Ok((Self::Upgrade(pattern.into()), rest));
        }
        let (matcher, rest) = text.split_once('(').ok_or(text)?;
        let quote = rest.chars().next().filter(|c| "`\"".contains(*c)).ok_or(text)?;
        let (argument, rest) = rest[1..].split_once(quote).ok_or(text)?;
        let rest = rest.strip_prefix(')').ok_or(text)?;
        let make = match matcher {
            "Host" => Self::Host,
            "Path" => Self::Path,
            "PathPrefix" => Self::PathPrefix,
            _ => return Err(text.into()),
        };
        Ok((make(argument.into()), rest))
    }

    /// True when a request for this host and path is the router's.
    pub fn takes(&self, host: &str, path: &str) -> bool {
        self.judge(host, path, &[])
    }

    /// And one that asks to be upgraded, by these lines.
    pub fn takes_upgrade(&self, host: &str, path: &str, upgrades: &[&str]) -> bool {
        self.judge(host, path, upgrades)
    }

    fn judge(&self, host: &str, path: &str, upgrade: &[&str]) -> bool {
        match self {
            Self::Host(name) => same_host(name, host),
            Self::Path(exact) => path == exact,
            Self::PathPrefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Upgrade(pattern) => {
                let pattern = Regex::new(pattern).expect("a pattern that RE2 knows, too");
                upgrade.iter().any(|line| pattern.is_match(line))
            }
            Self::Not(rule) => !rule.judge(host, path, upgrade),
            Self::And(a, b) => a.judge(host, path, upgrade) && b.judge(host, path, upgrade),
            Self::Or(a, b) => a.judge(host, path, upgrade) || b.judge(host, path, upgrade),
        }
    }
}
