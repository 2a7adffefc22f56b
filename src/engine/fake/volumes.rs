//! The fake's volumes.

use super::answers::{Outcome, Refusal};
use super::events::has_label;
use super::networks::text_map;
use super::world::{FakeVolume, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl World {
    /// Makes a volume; one that is there already is given back as it is, as Docker does.
    pub(super) fn create_volume(&mut self, body: &Value) -> Value {
        let name = body["Name"].as_str().filter(|n| !n.is_empty()).map_or_else(|| self.new_id(), str::to_owned);
        self.ensure_volume(&name, text_map(&body["Labels"]));
        volume_json(&name, &self.volumes[&name])
    }

    pub(super) fn ensure_volume(&mut self, name: &str, labels: BTreeMap<String, String>) {
        if self.volumes.contains_key(name) {
            return;
        }
        self.volumes.insert(name.to_owned(), FakeVolume { labels, files: BTreeMap::new() });
        self.tell("volume", "create", name, &[("driver", "local".into())]);
    }

    pub(super) fn remove_volume(&mut self, name: &str) -> Outcome<()> {
        if !self.volumes.contains_key(name) {
            return Err(Refusal(404, format!("get {name}: no such volume")));
        }
        if let Some(user) = self.containers.values().find(|c| c.mounts.contains_key(name)) {
            return Err(Refusal(409, format!("remove {name}: volume is in use - [{}]", user.id)));
        }
        self.volumes.remove(name);
        self.tell("volume", "destroy", name, &[("driver", "local".into())]);
        Ok(())
    }

    pub(super) fn copy_folders(&mut self, container: &str) {
        let Some(mounts) = self.containers.get(container).map(|c| c.mounts.clone()) else { return };
        for (volume, path) in &mounts {
            let Some(to) = path.strip_prefix("/from/").map(|rest| format!("/to/{rest}")) else { continue };
            let files = self.volumes.get(volume).map(|v| v.files.clone()).unwrap_or_default();
            let target = mounts.iter().find(|(_, at)| **at == to).and_then(|(name, _)| self.volumes.get_mut(name));
            target.into_iter().for_each(|t| t.files.clone_from(&files));
        }
    }

    pub(super) fn volume_list(&self, filters: &BTreeMap<String, Vec<String>>) -> Value {
        let wanted = filters.get("label").cloned().unwrap_or_default();
        let passes = |v: &FakeVolume| wanted.iter().all(|w| has_label(&v.labels, w));
        let all: Vec<_> = self.volumes.iter().filter(|(_, v)| passes(v)).map(|(n, v)| volume_json(n, v)).collect();
        json!({ "Volumes": all, "Warnings": null })
    }
}

/// A volume as Docker shows it.
pub(super) fn volume_json(name: &str, volume: &FakeVolume) -> Value {
    json!({
        "Name": name,
        "Driver": "local",
        "Mountpoint": format!("/var/lib/docker/volumes/{name}/_data"),
        "CreatedAt": "2026-01-01T00:00:00Z",
        "Labels": volume.labels,
        "Scope": "local",
        "Options": {},
    })
}
