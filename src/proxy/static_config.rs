//! The static configuration of a Traefik of our own: what it reads once, at its start.

use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// How a managed Traefik is set up.
#[derive(Clone)]
pub struct ManagedSettings {
    /// The program; else `traefik` in `PATH`, else `<state_dir>/venv/bin/traefik`.
    pub binary: Option<PathBuf>,
    /// State directory of DevSanctum; Traefik's files go to `traefik/` in it.
    pub state_dir: PathBuf,
    /// Entry points that serve workspaces, by name.
    pub entry_points: BTreeMap<String, SocketAddr>,
    /// Where Traefik's API, ping and counters of requests listen; on loopback.
    pub api: SocketAddr,
    /// Where Traefik polls its configuration, with the path.
    pub feed_url: String,
    /// Bearer token for `feed_url`.
    pub token: String,
    /// Its whole environment beside `PATH`; a resolver finds the credentials of its DNS provider here.
    pub env: BTreeMap<String, String>,
    /// Further static configuration by top-level key, such as `certificatesResolvers`.
    pub extra: BTreeMap<String, Value>,
    /// Where plain HTTP is sent on to the first entry point, by https.
    pub redirect: Option<SocketAddr>,
    /// Proxies before this one, whose `X-Forwarded-*` is believed.
    pub trusted: Vec<IpNet>,
}

/// Where the Traefik of an earlier run of ours listened and asked. With these addresses again, one that was left behind
/// fits and is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// [`ManagedSettings::api`].
    pub api: SocketAddr,
    /// The address in [`ManagedSettings::feed_url`].
    pub feed: SocketAddr,
}

impl Earlier {
    /// Reads the configuration that lies in the state folder; `None` when there is none of ours.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(state_dir.join(CONFIG_FILE)).ok()?;
        let config: Value = serde_json::from_str(&text).ok()?;
        let at = |path| config.pointer(path).and_then(Value::as_str);
        let feed = at("/providers/http/endpoint")?.strip_prefix("http://")?.split('/').next()?;
        Some(Self { api: at("/entryPoints/traefik/address")?.parse().ok()?, feed: feed.parse().ok()? })
    }
}

/// Name of the entry point that sends plain HTTP on.
const REDIRECT: &str = "redirect";
const METRICS: &str = "metrics";
const PROMETHEUS: &str = "prometheus";
/// Where the configuration lies in the state folder. YAML by Traefik's reading; JSON is a part of that.
pub(super) const CONFIG_FILE: &str = "traefik/traefik.yml";

/// What somebody else wants counted, and where, and by service, all the same.
fn counting(ours: &Value, theirs: &Value) -> Value {
    let Some(theirs) = theirs.as_object() else { return ours.clone() };
    let mut both = theirs.clone();
    for key in ["entryPoint", "addServicesLabels"] {
        both.insert(key.into(), ours[key].clone());
    }
    Value::Object(both)
}

/// The static configuration. `aliases`: this Traefik knows `aliasHeadersStrategy`, which replaced
/// `underscoreHeadersStrategy` and also removes `X.DS.User` beside `X_DS_User`.
pub(super) fn static_config(settings: &ManagedSettings, aliases: bool) -> Value {
    let strategy = if aliases { "aliasHeadersStrategy" } else { "underscoreHeadersStrategy" };
    let entry_point = |address: &SocketAddr| json!({"address": address.to_string(), "http": {strategy: "delete"}});
    let mut entry_points = serde_json::Map::new();
    for (name, address) in &settings.entry_points {
        let mut serving = entry_point(address);
        if !settings.trusted.is_empty() {
            serving["forwardedHeaders"] =
                json!({"trustedIPs": settings.trusted.iter().map(IpNet::to_string).collect::<Vec<_>>()});
        }
        entry_points.insert(name.clone(), serving);
    }
    if let (Some(address), Some(to)) = (&settings.redirect, settings.entry_points.keys().next()) {
        let mut redirecting = entry_point(address);
        redirecting["http"]["redirections"] = json!({"entryPoint": {"to": to, "scheme": "https", "permanent": true}});
        entry_points.insert(REDIRECT.into(), redirecting);
    }
    // Traefik's own name for where `api.insecure`, ping and metrics listen.
    entry_points.insert("traefik".into(), entry_point(&settings.api));
    let mut config = json!({
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
        "log": {"level": "ERROR", "noColor": true},
        "api": {"insecure": true, "dashboard": false},
        "ping": {"entryPoint": "traefik"},
        "entryPoints": entry_points,
        // For the counts of requests by service, and nothing else: each label and bucket costs with every request.
        METRICS: {PROMETHEUS: {
            "addEntryPointsLabels": false, "addRoutersLabels": false, "buckets": [1.0], "entryPoint": "traefik", "addServicesLabels": true,
        }},
        "providers": {
            "providersThrottleDuration": "0s",
            "http": {
                "endpoint": settings.feed_url,
                "pollInterval": "1ms",
                "pollTimeout": "30s",
                "headers": {"Authorization": format!("Bearer {}", settings.token)},
            },
        },
    });
    for (key, value) in &settings.extra {
        let ours = std::mem::replace(&mut config[key.as_str()], value.clone());
        if key == METRICS && value.is_object() {
            config[key.as_str()][PROMETHEUS] = counting(&ours[PROMETHEUS], &value[PROMETHEUS]);
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_else_is_counted_requests_are_counted_by_service() {
        let with = |metrics: Option<Value>| {
            let settings = ManagedSettings {
                binary: None,
                state_dir: "/s".into(),
                entry_points: BTreeMap::new(),
                api: ([127, 0, 0, 1], 1).into(),
                feed_url: "http://127.0.0.1:2/c".into(),
                token: "t".into(),
                env: BTreeMap::new(),
                extra: metrics.map(|metrics| (METRICS.to_owned(), metrics)).into_iter().collect(),
                redirect: None,
                trusted: Vec::new(),
            };
            static_config(&settings, true)[METRICS].clone()
        };
        let usual = with(None);
        assert_eq!(
            (&usual[PROMETHEUS]["entryPoint"], &usual[PROMETHEUS]["addServicesLabels"]),
            (&json!("traefik"), &json!(true))
        );
        let otlp = with(Some(json!({"otlp": {"http": {}}})));
        assert_eq!((&otlp[PROMETHEUS], &otlp["otlp"]), (&usual[PROMETHEUS], &json!({"http": {}})));
        let own = with(Some(json!({PROMETHEUS: {"buckets": [0.1], "entryPoint": "web", "addServicesLabels": false}})));
        assert_eq!(own[PROMETHEUS], json!({"buckets": [0.1], "entryPoint": "traefik", "addServicesLabels": true}));
    }
}
