//! What a gateway is to lead where.

use super::Context;
use crate::proxy::gateway::{label, target};
use crate::resource::Workspace;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What a gateway leads where: names within its domain, and targets.
pub(super) type Map = BTreeMap<String, String>;

/// What a gateway is to hold, as far as that is known.
#[derive(Default)]
pub(super) struct Wanted {
    /// Where names lead, of what this process has seen.
    pub map: Map,
    /// Those on the server, by uid, that this process has not looked at yet.
    pub unseen: BTreeSet<String>,
}

/// What a server's gateway is to lead where: to the ports of its workspaces that run, and those that routes name.
pub(super) fn wanted(ctx: &Context, server: &str) -> Wanted {
    let stays = |w: &Workspace| w.metadata.deletion_timestamp.is_none() && w.warm_of().is_none();
    let mut wanted = Wanted::default();
    for workspace in ctx.members(server).into_iter().filter(|w| stays(w)) {
        let uid = workspace.uid().unwrap_or_default();
        let Some((address, ports)) = ctx.upstreams.beyond(server, &uid) else {
            if !ctx.upstreams.seen(&uid) {
                wanted.unseen.insert(uid);
            }
            continue;
        };
        let routes = ctx.caches.own_routes.to(&workspace.namespace().unwrap_or_default(), &workspace.name_any());
        let routes = routes.iter().filter_map(|reference| ctx.caches.routes.get(reference));
        let routed = routes.filter(|route| route.spec.workspace == workspace.name_any());
        for (port, protocol) in ports.into_iter().chain(routed.map(|route| (route.spec.port, route.spec.protocol))) {
            wanted.map.insert(label(&uid, port, protocol), target((address, port).into(), protocol));
        }
    }
    wanted
}

/// What is wanted, and what a gateway that holds this leads to those that were not looked at yet: a process that has just begun must
/// not end what works. An address that somebody was seen at is nobody else's.
pub(super) fn with_unseen(held: &Map, wanted: &Wanted) -> Map {
    let taken: BTreeSet<&str> = wanted.map.values().map(|to| host(to)).collect();
    let stays = |name: &str, to: &str| {
        let of_unseen = name.split_once('-').is_some_and(|(_, uid)| wanted.unseen.contains(uid));
        of_unseen && !taken.contains(host(to))
    };
    let kept = held.iter().filter(|(name, to)| stays(name, to)).map(|(name, to)| (name.clone(), to.clone()));
    kept.chain(wanted.map.clone()).collect()
}

/// The addresses that a map leads to.
pub(super) fn led(map: &Map) -> BTreeSet<SocketAddr> {
    let address = |to: &String| {
        let mut parts = to.split('/');
        Some(SocketAddr::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    map.values().filter_map(address).collect()
}

fn host(to: &str) -> &str {
    to.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(all: &[(&str, &str)]) -> Map {
        all.iter().map(|(name, to)| ((*name).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn what_was_not_looked_at_yet_is_led_as_before_and_all_else_as_was_seen() {
        let held = map(&[
            ("p80-a-1", "10.0.0.1/80/"),
            ("s443-a-1", "10.0.0.1/443/tls"),
            ("p80-b-2", "10.0.0.2/80/"),
            ("p80-c-3", "10.0.0.3/80/"),
            ("p80-gone", "10.0.0.4/80/"),
            ("p80-d-4", "10.0.0.5/80/"),
        ]);
        let seen = map(&[("p80-b-2", "10.0.0.9/80/"), ("p81-e-5", "10.0.0.5/81/")]);
        let unseen = ["a-1", "d-4", "never-there"].map(str::to_owned).into();
        let wanted = Wanted { map: seen.clone(), unseen };
        let now = map(&[
            ("p80-a-1", "10.0.0.1/80/"),
            ("s443-a-1", "10.0.0.1/443/tls"),
            ("p80-b-2", "10.0.0.9/80/"),
            ("p81-e-5", "10.0.0.5/81/"),
        ]);
        assert_eq!(with_unseen(&held, &wanted), now, "c-3 was seen not to run; d-4's address is e-5's now");
        assert_eq!(with_unseen(&now, &wanted), now);
        assert_eq!(with_unseen(&held, &Wanted { map: seen.clone(), ..Wanted::default() }), seen, "all were looked at");
        assert!(led(&now).contains(&"10.0.0.1:443".parse().unwrap()) && !led(&now).contains(&"10.0.0.3:80".parse().unwrap()));
    }
}
