//! The fake's networks and addresses.

use super::answers::{Outcome, Refusal};
use super::events::has_label;
use super::world::{FakeNetwork, Life, World};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Where the engine takes subnets from that nobody chose: 10.64.0.0/12 in pieces of 256 addresses.
const POOL: u32 = u32::from_be_bytes([10, 64, 0, 0]);
const POOL_PIECES: u32 = 4096;

impl World {
    pub(super) fn network_named(&self, name: &str) -> Option<&FakeNetwork> {
        self.networks.get(name).or_else(|| self.networks.values().find(|n| n.name == name))
    }

    pub(super) fn create_network(&mut self, body: &Value) -> Outcome<String> {
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        if body["CheckDuplicate"] == true && self.network_named(&name).is_some() {
            return Err(Refusal(409, format!("network with name {name} already exists")));
        }
        let subnet = match body["IPAM"]["Config"][0]["Subnet"].as_str() {
            Some(text) => text.parse().map_err(|_| Refusal(400, format!("invalid subnet {text}")))?,
            None => self.free_subnet()?,
        };
        let overlaps = |n: &FakeNetwork| n.subnet.contains(&subnet) || subnet.contains(&n.subnet);
        if self.networks.values().any(overlaps) {
            return Err(Refusal(403, "Pool overlaps with other one on this address space".into()));
        }
        let id = self.new_id();
        let last = u32::from(subnet.network()) + 1;
        let network = FakeNetwork {
            id: id.clone(),
            name: name.clone(),
            labels: text_map(&body["Labels"]),
            options: text_map(&body["Options"]),
            used: BTreeSet::from([Ipv4Addr::from(last)]),
            subnet,
            last,
        };
        self.networks.insert(id.clone(), network);
        self.tell("network", "create", &id, &[("name", name), ("type", "bridge".into())]);
        Ok(id)
    }

    fn free_subnet(&self) -> Outcome<ipnet::Ipv4Net> {
        let taken = |net: &ipnet::Ipv4Net| self.networks.values().any(|n| n.subnet.contains(net) || net.contains(&n.subnet));
        (0..POOL_PIECES)
            .filter_map(|i| ipnet::Ipv4Net::new(Ipv4Addr::from(POOL + (i << 8)), 24).ok())
            .find(|net| !taken(net))
            .ok_or_else(|| {
                Refusal(500, "could not find an available, non-overlapping IPv4 address pool among the defaults".into())
            })
    }

    pub(super) fn remove_network(&mut self, asked: &str) -> Outcome<()> {
        let Some((id, name)) = self.network_named(asked).map(|n| (n.id.clone(), n.name.clone())) else {
            return Err(Refusal(404, format!("network {asked} not found")));
        };
        let on_it = |life: Life| matches!(life, Life::Running | Life::Paused);
        let active = |c: &super::world::FakeContainer| on_it(c.life) && c.networks.values().any(|(of, _)| *of == id);
        if self.containers.values().any(active) {
            return Err(Refusal(403, format!("error while removing network: network {name} id {id} has active endpoints")));
        }
        self.networks.remove(&id);
        self.tell("network", "destroy", &id, &[("name", name), ("type", "bridge".into())]);
        Ok(())
    }

    /// Gives a container an address on a network, after the last one given: addresses are not reused at once.
    pub(super) fn join(&mut self, container: &str, network: &str) -> Outcome<()> {
        let Some(net) = self.networks.get_mut(network) else {
            return Err(Refusal(404, format!("network {network} not found")));
        };
        let (first, end) = (u32::from(net.subnet.network()) + 1, u32::from(net.subnet.broadcast()));
        let after = (net.last + 1..end).chain(first..=net.last).map(Ipv4Addr::from).find(|a| !net.used.contains(a));
        let Some(address) = after else {
            return Err(Refusal(500, "no available IPv4 addresses on this network's address pools".into()));
        };
        net.used.insert(address);
        net.last = u32::from(address);
        let (name, id) = (net.name.clone(), net.id.clone());
        if let Some(found) = self.containers.get_mut(container) {
            found.networks.insert(name.clone(), (id.clone(), Some(address)));
        }
        let told = [("container", container.to_owned()), ("name", name), ("type", "bridge".into())];
        self.tell("network", "connect", &id, &told);
        Ok(())
    }

    /// Takes all addresses of a container back; it stays attached.
    pub(super) fn leave_all(&mut self, container: &str) {
        let Some(found) = self.containers.get_mut(container) else { return };
        let held: Vec<_> =
            found.networks.iter_mut().filter_map(|(name, (id, a))| Some((name.clone(), id.clone(), a.take()?))).collect();
        for (name, id, address) in held {
            if let Some(network) = self.networks.get_mut(&id) {
                network.used.remove(&address);
            }
            let told = [("container", container.to_owned()), ("name", name), ("type", "bridge".into())];
            self.tell("network", "disconnect", &id, &told);
        }
    }

    /// To Docker `none` is a network like others.
    pub(super) fn tell_of_no_network(&mut self, action: &str, container: &str) {
        if self.containers.get(container).is_some_and(|c| c.host["NetworkMode"] == "none") {
            let told = [("container", container.to_owned()), ("name", "none".into()), ("type", "null".into())];
            self.tell("network", action, "none", &told);
        }
    }

    pub(super) fn connect(&mut self, network: &str, asked: &str) -> Outcome<()> {
        let id = self.find(asked).ok_or_else(|| Refusal::no_container(asked))?.to_owned();
        let container = &self.containers[&id];
        let Some((net, name)) = self.network_named(network).map(|n| (n.id.clone(), n.name.clone())) else {
            if matches!(container.life, Life::Running | Life::Paused) {
                return Err(Refusal(404, format!("network {network} not found")));
            }
            // Docker looks for it when the container is started.
            if let Some(found) = self.containers.get_mut(&id) {
                found.networks.insert(network.to_owned(), (String::new(), None));
            }
            return Ok(());
        };
        if container.host["NetworkMode"].as_str().is_some_and(|m| m.starts_with("container:")) {
            let words =
                "container sharing network namespace with another container or host cannot be connected to any other network";
            return Err(Refusal(400, words.into()));
        }
        let running = matches!(container.life, Life::Running | Life::Paused);
        match container.networks.get(&name) {
            Some((_, Some(_))) if running => {
                let words = format!("endpoint with name {} already exists in network {name}", container.name);
                Err(Refusal(403, words))
            }
            _ if running => self.join(&id, &net),
            _ => {
                if let Some(found) = self.containers.get_mut(&id) {
                    found.networks.insert(name, (net, None));
                }
                Ok(())
            }
        }
    }

    pub(super) fn disconnect(&mut self, network: &str, asked: &str, force: bool) -> Outcome<()> {
        let id = self.find(asked).ok_or_else(|| Refusal::no_container(asked))?.to_owned();
        let runs = matches!(self.containers[&id].life, Life::Running | Life::Paused);
        if runs && !force && self.network_named(network).is_none() {
            return Err(Refusal(404, format!("network {network} not found")));
        }
        let name = self.network_named(network).map_or_else(|| network.to_owned(), |n| n.name.clone());
        let removed = self.containers.get_mut(&id).and_then(|c| c.networks.remove(&name));
        let Some((net, address)) = removed else {
            return Err(Refusal(500, format!("container {id} is not connected to the network {name}")));
        };
        if let (Some(address), Some(network)) = (address, self.networks.get_mut(&net)) {
            network.used.remove(&address);
            let told = [("container", id), ("name", name), ("type", "bridge".into())];
            self.tell("network", "disconnect", &net, &told);
        }
        Ok(())
    }

    /// The networks that pass Docker's filters; a name passes when it is contained.
    pub(super) fn network_list(&self, filters: &BTreeMap<String, Vec<String>>) -> Value {
        let passes = |n: &&FakeNetwork| {
            filters.iter().all(|(key, values)| match key.as_str() {
                "label" => values.iter().all(|v| has_label(&n.labels, v)),
                "name" => values.iter().any(|v| n.name.contains(v.as_str())),
                _ => true,
            })
        };
        self.networks.values().filter(passes).map(network_json).collect()
    }
}

/// A network as Docker shows it.
pub(super) fn network_json(network: &FakeNetwork) -> Value {
    let gateway = Ipv4Addr::from(u32::from(network.subnet.network()) + 1);
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": "2026-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Config": [{ "Subnet": network.subnet.to_string(), "Gateway": gateway.to_string() }] },
        "Options": network.options,
        "Labels": network.labels,
    })
}

/// A JSON object of texts.
pub(super) fn text_map(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().into_iter().flatten();
    object.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}
