//! A workspace's own `Route` records, and whether what they promise is true.

use super::Site;
use crate::controllers::context::Context;
use crate::controllers::retry::PassError;
use crate::controllers::status::{Pass, Record, still_so};
use crate::plan::digest;
use crate::plan::environment::Environment;
use crate::proxy::gateway::Way;
use crate::resource::common::{Port, Protocol, Visibility};
use crate::resource::conditions::{condition, find, holds};
use crate::resource::{Route, RouteSpec, ServiceStatus, Workspace, WorkspacePhase, WorkspaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A service listening is asked this often within a pass, this far apart, before the pass gives way to others.
const ASKS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(20);
/// Between passes.
const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(300);

/// Makes, corrects and removes the workspace's own routes, and says where its services are.
pub async fn publish(
    ctx: &Context,
    record: &Workspace,
    env: &Environment,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let settings = ctx.settings();
    let slug = pass.status.slug.clone().unwrap_or_default();
    let mut wanted = Vec::new();
    pass.status.services = Vec::new();
    for (i, port) in env.ports.iter().enumerate() {
        let host = host(record, &slug, (i > 0).then_some(port), &settings.domain);
        let url = (port.protocol != Protocol::Tcp).then(|| ctx.url(&host));
        pass.status.services.push(ServiceStatus { name: port.name.clone(), port: port.port, protocol: port.protocol, url });
        if port.protocol != Protocol::Tcp {
            wanted.push(route(record, port, host));
        }
    }
    let api = Route::api(&ctx.frame.client, record.namespace().as_deref());
    // First what is not wanted any more: it may hold a host that is wanted under another name.
    for stale in own_routes(ctx, record).iter().filter(|r| !wanted.iter().any(|w| w.name_any() == r.name_any())) {
        match api.delete(&stale.name_any(), &DeleteParams::default()).await {
            Err(kube::Error::Api(s)) if s.code == 404 => {}
            other => drop(other?),
        }
        pass.did(format!("removed route {}", stale.name_any()));
    }
    for r in &wanted {
        write(ctx, &api, record, r, pass).await?;
    }
    Ok(())
}

/// Closes those of a suspended workspace's own routes that are to be private, and changes nothing else.
pub async fn close(ctx: &Context, record: &Workspace, env: &Environment) -> Result<(), PassError> {
    let api = Route::api(&ctx.frame.client, record.namespace().as_deref());
    for port in env.ports.iter().filter(|port| visibility(record, port) == Visibility::Private) {
        let name = record_name(&record.name_any(), &port.name);
        let own = |route: &Route| route.name_any() == name && route.spec.visibility == Visibility::Public;
        let Some(open) = own_routes(ctx, record).into_iter().find(|route| own(route)) else { continue };
        still_so(&ctx.frame.client, record).await?;
        let spec = RouteSpec { visibility: Visibility::Private, ..open.spec.clone() };
        let closed = Route { metadata: open.metadata.clone(), spec, status: None };
        let params = PostParams { field_manager: Some("devsanctum-workspace".into()), ..PostParams::default() };
        api.replace(&name, &params, &closed).await.map_err(|e| refused(&e, &closed))?;
    }
    Ok(())
}

fn visibility(record: &Workspace, port: &Port) -> Visibility {
    if port.public { Visibility::Public } else { record.spec.visibility }
}

fn host(record: &Workspace, slug: &str, other: Option<&Port>, domain: &str) -> String {
    match (other, &record.spec.route_domain) {
        (None, Some(own)) => own.clone(),
        (None, None) => format!("{slug}.{domain}"),
        (Some(port), _) => format!("{slug}-{}.{domain}", port.name),
    }
}

fn route(record: &Workspace, port: &Port, host: String) -> Route {
    let visibility = visibility(record, port);
    let spec = RouteSpec { host, workspace: record.name_any(), port: port.port, protocol: port.protocol, visibility };
    let owner = OwnerReference {
        api_version: Workspace::api_version(&()).into_owned(),
        kind: Workspace::kind(&()).into_owned(),
        name: record.name_any(),
        uid: record.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let name = record_name(&record.name_any(), &port.name);
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: record.namespace(),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    Route { metadata, spec, status: None }
}

/// Name of the route of a workspace's port. No two of a project have the same: where that could be read in two ways, or where
/// it is cut, a digest makes the difference.
fn record_name(workspace: &str, port: &str) -> String {
    let whole = format!("{workspace}-{port}");
    if !port.contains('-') && port.len() <= 40 && whole.len() <= 63 {
        return whole;
    }
    let mark = &digest(&format!("{workspace}/{port}"))[..8];
    let port = shorten(port, 24);
    format!("{}-{port}-{mark}", shorten(workspace, 63 - 2 - port.len() - mark.len()))
}

fn shorten(name: &str, most: usize) -> &str {
    name.get(..most).unwrap_or(name).trim_end_matches('-')
}

async fn write(
    ctx: &Context,
    api: &kube::Api<Route>,
    record: &Workspace,
    wanted: &Route,
    pass: &mut Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let name = wanted.name_any();
    let reference = ObjectRef::new(&name).within(&wanted.namespace().unwrap_or_default());
    let known = ctx.caches.routes.get(&reference);
    if known.as_ref().is_some_and(|k| k.spec == wanted.spec && owned_by_same(k, wanted)) {
        return Ok(());
    }
    let params = PostParams { field_manager: Some("devsanctum-workspace".into()), ..PostParams::default() };
    // The copy may lag behind our own last write, so ask before changing anything.
    match api.get_opt(&name).await? {
        None => {
            api.create(&params, wanted).await.map_err(|e| refused(&e, wanted))?;
            pass.did(format!("created route {name}"));
        }
        Some(found) if !owned_by_same(&found, wanted) => {
            let message = format!("a Route named {name:?} is there that is not this workspace's; rename or delete it");
            return Err(PassError::stalled("Routed", "NameTaken", message));
        }
        Some(found) if found.spec != wanted.spec => {
            still_so(&ctx.frame.client, record).await?;
            let changed = Route { metadata: found.metadata, spec: wanted.spec.clone(), status: None };
            api.replace(&name, &params, &changed).await.map_err(|e| refused(&e, wanted))?;
            pass.did(format!("corrected route {name}"));
        }
        Some(_) => {}
    }
    Ok(())
}

fn refused(e: &kube::Error, wanted: &Route) -> PassError {
    match e {
        kube::Error::Api(s) if s.code == 422 => {
            PassError::stalled("Routed", "HostnameTaken", format!("host {} cannot be had: {}", wanted.spec.host, s.message))
        }
        e => PassError::api(e),
    }
}

fn owned_by_same(a: &Route, b: &Route) -> bool {
    let uid = |r: &Route| r.owner_references().iter().find(|o| o.controller == Some(true)).map(|o| o.uid.clone());
    uid(a) == uid(b)
}

fn own_routes(ctx: &Context, record: &Workspace) -> Vec<std::sync::Arc<Route>> {
    let uid = record.uid().unwrap_or_default();
    let known = ctx.caches.own_routes.of(&uid).into_iter().filter_map(|reference| ctx.caches.routes.get(&reference));
    let ours = |r: &Route| r.metadata.namespace == record.metadata.namespace && r.owner_references().iter().any(|o| o.uid == uid);
    known.filter(|r| ours(r)).collect()
}

/// Ports that open when they are ready.
pub fn probed(env: &Environment) -> BTreeSet<u16> {
    env.ports.iter().filter(|p| p.readiness_probe.is_some()).map(|p| p.port).collect()
}

/// Ports that gateways are to lead to.
pub fn served(env: &Environment) -> BTreeMap<u16, Protocol> {
    env.ports.iter().map(|p| (p.port, p.protocol)).collect()
}

/// Asks each service whether it is ready, or takes connections where it does not say what shows that. One that does not is asked
/// ever more seldom: a development server may be off for days. (Its route is there all the while.)
pub async fn answering(
    ctx: &Context,
    record: &Workspace,
    env: &Environment,
    site: &Site,
    pass: &Pass<WorkspaceStatus>,
) -> Result<(), PassError> {
    let uid = record.uid().unwrap_or_default();
    let Some(address) = pass.status.address.as_ref().and_then(|a| a.parse::<IpAddr>().ok()) else {
        let message = "the container runs but has no address on its network yet";
        return Err(PassError::waiting("ServicesAnswering", "NoAddress", message, Duration::from_secs(1)));
    };
    let mut ready = BTreeSet::new();
    let mut silent = None;
    // One that is not there must not keep the routes of others closed.
    for port in &env.ports {
        if silent.is_some() && port.readiness_probe.is_none() {
            continue;
        }
        match ask(ctx, site, &uid, (address, port.port).into(), port).await {
            Ok(()) => drop(ready.insert(port.port)),
            Err(why) => silent = silent.or(Some((port, why))),
        }
    }
    ready.retain(|port| probed(env).contains(port));
    ctx.ready(&uid, ready);
    let Some((port, (reason, why))) = silent else { return Ok(()) };
    let lasted = pass.lasted("ServicesAnswering", "False").min(pass.lasted("ContainerRunning", "True"));
    let wait = (lasted / 10).clamp(SOONEST, LATEST);
    let message = format!("service {:?} on port {} {why}", port.name, port.port);
    Err(PassError::waiting("ServicesAnswering", reason, message, wait))
}

/// Some times within a pass, before it gives way to others.
async fn ask(ctx: &Context, site: &Site, uid: &str, upstream: SocketAddr, port: &Port) -> Result<(), (&'static str, String)> {
    let way = match site.near {
        true => None,
        false => Some(ctx.gateways.await_way(&site.server, uid, upstream, port.protocol).await.map_err(|e| ("NoGateway", e))?),
    };
    let mut last = Ok(());
    for ask in 0..ASKS {
        if ask > 0 {
            tokio::time::sleep(BETWEEN).await;
        }
        last = ask_once(ctx, upstream, way.as_deref(), port).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn ask_once(ctx: &Context, upstream: SocketAddr, way: Option<&Way>, port: &Port) -> Result<(), (&'static str, String)> {
    let get = port.readiness_probe.as_ref().and_then(|p| p.http_get.as_ref());
    let asked = async {
        match (way, get) {
            (None, Some(get)) => ctx.proxy.answers(upstream, port.protocol, &get.path).await,
            (None, None) => ctx.proxy.reaches(upstream).await.map(|()| 200),
            (Some(way), Some(get)) => way.answers(&upstream.to_string(), &get.path).await,
            (Some(way), None) => way.reaches().await.map(|()| 200),
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(2), asked).await;
    let words = match (answer, get) {
        (Ok(Ok(200..400)), _) => return Ok(()),
        (Ok(Ok(status)), Some(get)) => {
            return Err(("NotReady", format!("is not ready yet: it answers GET {} with {status}", get.path)));
        }
        (Ok(Ok(status)), None) => status.to_string(),
        (Ok(Err(e)), _) => e.to_string(),
        (Err(_), _) => "no answer in 2 s".into(),
    };
    Err(("NotListening", format!("does not take connections yet ({words})")))
}

/// Whether the proxy itself says that the workspace's routes are live.
pub fn live(ctx: &Context, record: &Workspace, pass: &mut Pass<WorkspaceStatus>) -> Result<(), PassError> {
    let routes = own_routes(ctx, record);
    for port in pass.status.services.iter().filter(|s| s.url.is_some()) {
        let Some(route) = routes.iter().find(|r| r.spec.port == port.port) else {
            return Err(waiting_for_route(pass, "its routes are being made"));
        };
        let conditions = route.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        if !holds(conditions, "Programmed") {
            let why = find(conditions, "Programmed")
                .map_or("the proxy has not taken up its routes yet", |c| c.message.as_str())
                .to_owned();
            return Err(waiting_for_route(pass, &why));
        }
    }
    pass.set(condition("Routed", true, "Live", ""));
    Ok(())
}

/// The route's own change brings the next pass; the wait is in case it does not, and grows: a proxy can be down for long.
fn waiting_for_route(pass: &mut Pass<WorkspaceStatus>, why: &str) -> PassError {
    if pass.status.phase != WorkspacePhase::Running {
        pass.status.phase = WorkspacePhase::Starting;
    }
    let wait = (pass.lasted("Routed", "False") / 10).clamp(Duration::from_secs(5), LATEST);
    PassError::waiting("Routed", "NotLive", why, wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ports_have_routes_of_one_name() {
        let (long, port) = ("w".repeat(62), "p".repeat(45));
        let pairs = [
            ("a".to_owned(), "b-c".to_owned()),
            ("a-b".into(), "c".into()),
            (format!("{long}1"), "web".into()),
            (format!("{long}2"), "web".into()),
            ("a".into(), format!("{port}1")),
            ("a".into(), format!("{port}2")),
            (format!("{long}1"), format!("{port}1")),
        ];
        let names: BTreeSet<String> = pairs.iter().map(|(w, p)| record_name(w, p)).collect();
        assert_eq!(names.len(), pairs.len(), "{names:?}");
        assert!(names.iter().all(|n| crate::resource::names::dns_label(n).is_ok()), "{names:?}");
        assert_eq!(record_name("a-b", "c"), "a-b-c");
    }
}
