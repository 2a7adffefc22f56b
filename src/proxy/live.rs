//! What Traefik reports it holds, compared with what it should hold. Pure.

use super::dynamic::{Http, Middleware, Router, Service};
use super::render::{Rendered, VERSION_MIDDLEWARE, version_of};
use super::types::{LiveRoute, LiveRoutes};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Suffix by which Traefik marks what came from its HTTP provider, which is us.
const PROVIDER: &str = "@http";

/// Traefik's `/api/rawdata`: all it holds, in one answer and from one moment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawData {
    routers: BTreeMap<String, Held<Router>>,
    services: BTreeMap<String, Held<Service>>,
    middlewares: BTreeMap<String, Held<Middleware>>,
}

impl RawData {
    /// Digest of the configuration it is a picture of; `None` when it holds none of ours.
    pub fn digest(&self) -> Option<String> {
        self.middlewares.get(&qualified(VERSION_MIDDLEWARE)).and_then(|m| version_of(&m.what)).map(str::to_owned)
    }
}

/// A thing as Traefik holds it, with what it says about it.
#[derive(Debug, Deserialize)]
struct Held<T> {
    #[serde(flatten)]
    what: T,
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Vec<String>,
}

impl<T> Held<T> {
    fn enabled(&self) -> bool {
        self.status == "enabled" && self.error.is_empty()
    }
}

/// Compares what Traefik holds with what was rendered.
///
/// A route is current when its router, its service and its middlewares are as rendered and enabled. Routes that Traefik
/// still holds but that are no longer wanted are told as not current; refused ones carry the reason.
pub fn compare(held: &RawData, wanted: Option<&Rendered>) -> LiveRoutes {
    let empty = Http::default();
    let http = wanted.and_then(|w| w.configuration.http.as_ref()).unwrap_or(&empty);
    let mut live = BTreeMap::new();
    for (name, router) in &held.routers {
        let Some(name) = name.strip_suffix(PROVIDER) else { continue };
        if let Some(uid) = name.strip_prefix("ds-") {
            let current = http.routers.get(name).is_some_and(|want| is_current(held, router, http, want));
            live.insert(uid.to_owned(), LiveRoute { current, error: errors(held, router) });
        }
    }
    for (uid, reason) in wanted.iter().flat_map(|w| &w.refused) {
        let error = format!("not routed: {reason}");
        // What Traefik still holds of it is on its way out.
        live.insert(uid.clone(), LiveRoute { current: false, error });
    }
    LiveRoutes(live)
}

fn is_current(held: &RawData, router: &Held<Router>, http: &Http, want: &Router) -> bool {
    let same_service = || {
        let (held, want) = (held.services.get(&qualified(&want.service)), http.services.get(&want.service));
        held.zip(want).is_some_and(|(held, want)| held.enabled() && service(&held.what) == *want)
    };
    let same_middleware = |name: &String| {
        let (held, want) = (held.middlewares.get(&qualified(name)), http.middlewares.get(name));
        held.zip(want).is_some_and(|(held, want)| held.enabled() && held.what == *want)
    };
    router.enabled() && unqualified(&router.what) == *want && same_service() && want.middlewares.iter().all(same_middleware)
}

/// Traefik's own words about a router and its service, shortest way to a cause.
fn errors(held: &RawData, router: &Held<Router>) -> String {
    let service = held.services.get(&qualified(bare(&router.what.service)));
    let texts = router.error.iter().chain(service.iter().flat_map(|s| &s.error));
    texts.map(String::as_str).collect::<Vec<_>>().join("; ")
}

fn qualified(name: &str) -> String {
    format!("{name}{PROVIDER}")
}

fn bare(name: &str) -> &str {
    name.strip_suffix(PROVIDER).unwrap_or(name)
}

/// Traefik qualifies some of the names it was given.
fn unqualified(router: &Router) -> Router {
    Router {
        service: bare(&router.service).into(),
        middlewares: router.middlewares.iter().map(|m| bare(m).into()).collect(),
        ..router.clone()
    }
}

fn service(held: &Service) -> Service {
    let mut held = held.clone();
    let transport = &mut held.load_balancer.servers_transport;
    *transport = transport.as_deref().map(|t| bare(t).to_owned());
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::render::{RenderSettings, render};
    use crate::proxy::types::{RouteEntry, RouteTable};
    use crate::resource::common::{Protocol, Visibility};

    fn rendered(upstream: [u8; 4]) -> Rendered {
        let entry = RouteEntry {
            host: "a.localhost".into(),
            upstream: (upstream, 80).into(),
            protocol: Protocol::Http,
            visibility: Visibility::Private,
            workspace_uid: "w".into(),
            way: None,
        };
        let gate_url = "http://127.0.0.1:1".into();
        let settings = RenderSettings { entry_points: vec!["web".into()], gate_url, ..RenderSettings::default() };
        render(&RouteTable([("r".to_owned(), entry)].into()), &settings)
    }

    /// What Traefik answers when it holds a configuration, in its own form.
    fn held(rendered: &Rendered) -> serde_json::Value {
        let http = serde_json::to_value(rendered.configuration.http.as_ref().unwrap()).unwrap();
        let mut raw = serde_json::json!({});
        for kind in ["routers", "services", "middlewares"] {
            for (name, what) in http[kind].as_object().unwrap() {
                let mut what = what.clone();
                what["status"] = "enabled".into();
                raw[kind][format!("{name}@http")] = what;
            }
        }
        raw["routers"]["ds-r@http"]["middlewares"] = serde_json::json!(["ds-gate-w@http"]);
        raw["routers"]["api@internal"] = serde_json::json!({"rule": "PathPrefix(`/api`)", "status": "enabled"});
        raw
    }

    fn live(raw: serde_json::Value, wanted: &Rendered) -> LiveRoutes {
        compare(&serde_json::from_value(raw).unwrap(), Some(wanted))
    }

    #[test]
    fn a_route_is_current_only_when_everything_behind_it_is_as_rendered() {
        let wanted = rendered([10, 0, 0, 1]);
        let good = live(held(&wanted), &wanted);
        assert_eq!(good.0["r"], LiveRoute { current: true, error: String::new() });
        let changes: [(&str, serde_json::Value); 6] = [
            ("/routers/ds-r@http/rule", "Host(`b.localhost`)".into()),
            ("/routers/ds-r@http/status", "disabled".into()),
            ("/routers/ds-r@http/middlewares", serde_json::json!([])),
            ("/services/ds-r@http/loadBalancer/servers/0/url", "http://10.0.0.9:80".into()),
            ("/middlewares/ds-gate-w@http/forwardAuth/address", "http://127.0.0.1:1/gate/x".into()),
            ("/middlewares/ds-gate-w@http/forwardAuth/trustForwardHeader", true.into()),
        ];
        for (path, value) in changes {
            let mut raw = held(&wanted);
            *raw.pointer_mut(path).unwrap() = value;
            assert!(!live(raw, &wanted).0["r"].current, "{path}");
        }
    }

    #[test]
    fn an_old_upstream_and_a_route_no_longer_wanted_are_not_current() {
        let (old, new) = (rendered([10, 0, 0, 1]), rendered([10, 0, 0, 2]));
        let outdated = live(held(&old), &new);
        assert!(!outdated.0["r"].current);
        let unwanted = compare(&serde_json::from_value(held(&old)).unwrap(), None);
        assert!(!unwanted.0["r"].current);
    }

    #[test]
    fn the_words_of_traefik_are_passed_on() {
        let wanted = rendered([10, 0, 0, 1]);
        let mut raw = held(&wanted);
        raw["routers"]["ds-r@http"]["error"] = serde_json::json!(["middleware \"x\" does not exist"]);
        assert_eq!(live(raw, &wanted).0["r"].error, "middleware \"x\" does not exist");
    }
}
