//! What the fake Traefik holds: its own view of a configuration, its API's answers, and where requests go.

use crate::proxy::dynamic::{Http, Router};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const PROVIDER: &str = "@http";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nobody listens.
    Refused,
    /// No router takes it: 404.
    Nowhere,
    /// To this server, past these middlewares.
    To {
        /// Address of the server.
        url: String,
        /// Names of middlewares, in order.
        middlewares: Vec<String>,
    },
}

/// A configuration, and what is wrong with each router.
#[derive(Debug, Default)]
pub(super) struct Held {
    http: Http,
    /// By router: what is wrong, and whether it is in force all the same.
    errors: BTreeMap<String, (Vec<String>, bool)>,
    entry_points: Vec<String>,
}

impl Held {
    pub(super) fn new(http: Http, entry_points: &[String]) -> Self {
        let judge = |(name, router): (&String, &Router)| (name.clone(), errors(&http, router, entry_points));
        let errors = http.routers.iter().map(judge).filter(|(_, (errors, _))| !errors.is_empty()).collect();
        Self { http, errors, entry_points: entry_points.to_vec() }
    }

    fn status(&self, router: &str) -> &'static str {
        match self.errors.get(router) {
            None => "enabled",
            Some((_, true)) => "warning",
            Some((_, false)) => "disabled",
        }
    }

    /// Of the routers that match, the one with the largest priority.
    fn best(&self, host: &str) -> Option<&Router> {
        let host = host.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let takes = |(name, r): &(&String, &Router)| self.status(name) != "disabled" && host_of(&r.rule) == Some(host.as_str());
        self.http.routers.iter().filter(takes).max_by_key(|(_, r)| priority(r)).map(|(_, router)| router)
    }

    /// The service that requests with this host are counted for.
    pub(super) fn service(&self, host: &str) -> Option<&str> {
        self.best(host).map(|router| bare(&router.service))
    }

    pub(super) fn way(&self, host: &str) -> Way {
        let Some(router) = self.best(host) else { return Way::Nowhere };
        let service = self.http.services.get(bare(&router.service));
        let server = service.and_then(|s| s.load_balancer.servers.first());
        server.map_or(Way::Nowhere, |s| Way::To { url: s.url.clone(), middlewares: router.middlewares.clone() })
    }

    fn router(&self, name: &str, router: &Router) -> Value {
        let mut value = json!(router);
        value["priority"] = priority(router).into();
        if !router.middlewares.is_empty() {
            value["middlewares"] = router.middlewares.iter().map(|m| qualified(m)).collect();
        }
        let using: Vec<&String> = router.entry_points.iter().filter(|e| self.entry_points.contains(e)).collect();
        if !using.is_empty() {
            value["using"] = json!(using);
        }
        value["status"] = self.status(name).into();
        if let Some((errors, _)) = self.errors.get(name) {
            value["error"] = json!(errors);
        }
        value
    }

    /// All of a kind by qualified name.
    fn all(&self, kind: &str) -> BTreeMap<String, Value> {
        let users = |of: &dyn Fn(&Router) -> bool| -> Vec<String> {
            self.http.routers.iter().filter(|(_, r)| of(r)).map(|(name, _)| qualified(name)).collect()
        };
        let mark = |mut value: Value, used_by: Vec<String>| {
            value["status"] = "enabled".into();
            if !used_by.is_empty() {
                value["usedBy"] = json!(used_by);
            }
            value
        };
        match kind {
            "routers" => self.http.routers.iter().map(|(name, r)| (qualified(name), self.router(name, r))).collect(),
            "services" => {
                let one = |name: &String| users(&|r| bare(&r.service) == name);
                self.http.services.iter().map(|(name, s)| (qualified(name), mark(json!(s), one(name)))).collect()
            }
            "middlewares" => {
                let one = |name: &String| users(&|r| r.middlewares.iter().any(|m| bare(m) == name));
                self.http.middlewares.iter().map(|(name, m)| (qualified(name), mark(json!(m), one(name)))).collect()
            }
            _ => BTreeMap::new(),
        }
    }

    /// `/api/rawdata`.
    pub(super) fn raw(&self) -> Value {
        let kinds = ["routers", "services", "middlewares"].map(|kind| (kind, self.all(kind)));
        let some = kinds.into_iter().filter(|(_, all)| !all.is_empty());
        Value::Object(some.map(|(kind, all)| (kind.to_owned(), json!(all))).collect())
    }

    /// `/api/http/<kind>`.
    pub(super) fn list(&self, kind: &str) -> Value {
        self.all(kind).into_iter().map(|(name, value)| named(name, value)).collect()
    }

    /// `/api/http/<kind>/<name>`.
    pub(super) fn one(&self, kind: &str, name: &str) -> Option<Value> {
        self.all(kind).remove(name).map(|value| named(name.to_owned(), value))
    }

    /// `/api/overview`, as far as it is about HTTP.
    pub(super) fn overview(&self) -> Value {
        let section = |kind: &str| {
            let all = self.all(kind);
            let count = |status: &str| all.values().filter(|v| v["status"] == status).count();
            json!({"total": all.len(), "warnings": count("warning"), "errors": count("disabled")})
        };
        let kinds = ["routers", "services", "middlewares"];
        let http: Map<String, Value> = kinds.into_iter().map(|kind| (kind.to_owned(), section(kind))).collect();
        json!({"http": http, "providers": ["HTTP"]})
    }
}

fn named(name: String, mut value: Value) -> Value {
    value["provider"] = name.rsplit('@').next().unwrap_or_default().into();
    value["name"] = name.into();
    value
}

/// What is wrong with a router, and whether it is in force all the same.
fn errors(http: &Http, router: &Router, entry_points: &[String]) -> (Vec<String>, bool) {
    let unknown: Vec<&String> = router.entry_points.iter().filter(|e| !entry_points.contains(e)).collect();
    let mut errors: Vec<String> = unknown.iter().map(|e| format!("EntryPoint doesn't exist: {e}")).collect();
    if !router.entry_points.is_empty() && unknown.len() == router.entry_points.len() {
        errors.push("no valid entryPoint for this router".into());
        return (errors, false);
    }
    let before = errors.len();
    // Nothing is upgraded here.
    if host_of(&router.rule).is_none() && !router.rule.starts_with("HeaderRegexp(`Upgrade`, `") {
        errors.push(format!("error while parsing rule {}", router.rule));
    }
    if !http.services.contains_key(bare(&router.service)) {
        errors.push(format!("the service \"{}\" does not exist", qualified(bare(&router.service))));
    }
    let missing = router.middlewares.iter().filter(|m| !http.middlewares.contains_key(bare(m)));
    errors.extend(missing.map(|m| format!("middleware \"{}\" does not exist", qualified(m))));
    let in_force = errors.len() == before;
    (errors, in_force)
}

/// Without a priority, longer rules win.
fn priority(router: &Router) -> i64 {
    if router.priority == 0 { i64::try_from(router.rule.len()).unwrap_or(i64::MAX) } else { router.priority }
}

/// The host of a rule.
fn host_of(rule: &str) -> Option<&str> {
    rule.strip_prefix("Host(`")?.strip_suffix("`)").filter(|host| !host.contains('`'))
}

fn qualified(name: &str) -> String {
    format!("{}{PROVIDER}", bare(name))
}

fn bare(name: &str) -> &str {
    name.strip_suffix(PROVIDER).unwrap_or(name)
}
