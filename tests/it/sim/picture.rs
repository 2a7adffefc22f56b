//! What there is at the end, with all taken off that may differ from run to run: so that two runs can be compared.

use super::hands::Hands;
use super::world::World;
use devsanctum::resource::labels;
use serde_json::{Map, Value};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Every value of records, engines and routes, by name and path.
pub type Picture = BTreeMap<String, String>;

/// Keys that time and chance write.
const VOLATILE: [&str; 18] = [
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "lastTransitionTime",
    "resourcesUpdatedAt",
    "Created",
    "StartedAt",
    "startedAt",
    "repositoriesDigest",
    "FinishedAt",
    "NetworkID",
    "time",
    "lastActivityAt",
    "requests",
    "startAt",
    "stopAt",
    "destroyAt",
    "destroyAnnouncedAt",
];

/// Names in place of what is drawn: uids, slugs, ids and addresses.
#[derive(Default)]
pub struct Masks {
    everywhere: Vec<(String, String)>,
    /// Servers give out the same addresses: by server.
    addresses: BTreeMap<String, Vec<(String, String)>>,
}

impl Masks {
    fn add(&mut self, drawn: &str, name: String) {
        if !drawn.is_empty() {
            self.everywhere.push((drawn.to_owned(), name));
        }
    }

    /// The text with names in place of what is drawn.
    fn mask(&self, text: &str) -> String {
        put(&self.everywhere, text.to_owned())
    }

    /// And in place of addresses of this server.
    fn mask_on(&self, server: &str, text: &str) -> String {
        put(self.addresses.get(server).map_or(&[], Vec::as_slice), self.mask(text))
    }

    fn value_on(&self, server: &str, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.mask_on(server, &text)),
            Value::Array(all) => all.into_iter().map(|v| self.value_on(server, v)).collect(),
            Value::Object(all) => {
                let kept = all.into_iter().filter(|(key, _)| !VOLATILE.contains(&key.as_str()));
                Value::Object(kept.map(|(key, v)| (self.mask(&key), self.value_on(server, v))).collect::<Map<_, _>>())
            }
            other => other,
        }
    }
}

fn put(names: &[(String, String)], text: String) -> String {
    // Most texts are shorter than most of what is drawn, and to look for it is dear.
    names
        .iter()
        .fold(text, |text, (drawn, name)| if text.len() < drawn.len() { text } else { text.replace(drawn.as_str(), name) })
}

/// Kinds the loops look at.
const KINDS: [&str; 7] = ["DockerServer", "Feature", "Project", "Route", "Settings", "Template", "Workspace"];

/// All records, by kind and name.
async fn records(hands: &Hands<'_>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for kind in KINDS {
        for record in hands.list(kind).await {
            let meta = &record["metadata"];
            let name = format!("{kind}/{}/{}", text(&meta["namespace"]), text(&meta["name"]));
            all.insert(name, record);
        }
    }
    all
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn masks(records: &BTreeMap<String, Value>, world: &World) -> Masks {
    let mut masks = Masks::default();
    for (name, record) in records {
        let uid = text(&record["metadata"]["uid"]);
        masks.add(uid, format!("<uid {name}>"));
        masks.add(uid.get(..8).unwrap_or_default(), format!("<uid8 {name}>"));
        let took_over = text(&record["status"]["tookOver"]["uid"]);
        masks.add(took_over, format!("<uid taken over by {name}>"));
        masks.add(took_over.get(..8).unwrap_or_default(), format!("<uid8 taken over by {name}>"));
        masks.add(text(&record["status"]["slug"]), format!("<slug {name}>"));
        let moved = text(&record["status"]["movedImage"]).rsplit(':').next().unwrap_or_default();
        masks.add(moved, format!("<move of {name}>"));
    }
    for (server, engine) in &world.engines {
        for (name, container) in engine.inspected() {
            let name = masks.mask(&name);
            masks.add(text(&container["Id"]), format!("<id {server} {name}>"));
            // Its settings have the slug in them.
            masks.add(text(&container["Config"]["Labels"][labels::DIGEST]), format!("<digest {server} {name}>"));
            for network in container["NetworkSettings"]["Networks"].as_object().into_iter().flat_map(Map::values) {
                let address = text(&network["IPAddress"]);
                if !address.is_empty() {
                    let here = masks.addresses.entry(server.clone()).or_default();
                    here.push((address.to_owned(), format!("<address {server} {name}>")));
                }
            }
        }
    }
    // One may be the beginning of another one.
    masks.addresses.values_mut().chain([&mut masks.everywhere]).for_each(|all| all.sort_by_key(|(d, _)| Reverse(d.len())));
    masks
}

/// The server whose addresses a record tells.
fn server<'r>(record: &'r Value, records: &'r BTreeMap<String, Value>) -> &'r str {
    let (meta, spec) = (&record["metadata"], &record["spec"]);
    match text(&record["kind"]) {
        "DockerServer" => text(&meta["name"]),
        "Route" => {
            let workspace = format!("Workspace/{}/{}", text(&meta["namespace"]), text(&spec["workspace"]));
            records.get(&workspace).map_or("", |w| text(&w["status"]["dockerServer"]))
        }
        _ => text(&record["status"]["dockerServer"]),
    }
}

/// What there is now, and how often each thing was made, started and ended.
pub async fn take(hands: &Hands<'_>) -> (Picture, BTreeMap<String, u64>) {
    let (world, records) = (hands.world, records(hands).await);
    let masks = masks(&records, world);
    let mut picture = Picture::new();
    for (name, record) in &records {
        flatten(name.clone(), masks.value_on(server(record, &records), record.clone()), &mut picture);
    }
    let mut tally = BTreeMap::new();
    for (server, engine) in &world.engines {
        for (name, container) in engine.inspected() {
            flatten(format!("{server} container {}", masks.mask(&name)), masks.value_on(server, container), &mut picture);
        }
        for name in engine.networks() {
            picture.insert(format!("{server} network {}", masks.mask(&name)), String::new());
        }
        for name in engine.volumes() {
            picture.insert(format!("{server} volume {}", masks.mask(&name)), String::new());
        }
        for ((kind, name, action), count) in engine.tally() {
            if COUNTED.contains(&action.as_str()) && !name.contains("neighbour") {
                *tally.entry(format!("{server} {kind} {} {action}", nameless(&masks.mask(&name)))).or_default() += count;
            }
        }
    }
    for (uid, entry) in world.proxy.routes().0 {
        let of = records.values().find(|r| text(&r["metadata"]["uid"]) == entry.workspace_uid);
        let server = of.map_or("", |workspace| server(workspace, &records));
        let told = format!("{} {} {:?} {:?}", entry.upstream, entry.workspace_uid, entry.visibility, entry.protocol);
        picture.insert(format!("route {} {}", masks.mask(&uid), masks.mask(&entry.host)), masks.mask_on(server, &told));
    }
    (picture, tally)
}

/// One line for each value; members of lists go by their type, if they have one.
fn flatten(path: String, value: Value, picture: &mut Picture) {
    match value {
        Value::Object(all) => all.into_iter().for_each(|(key, v)| flatten(format!("{path}.{key}"), v, picture)),
        Value::Array(all) => all.into_iter().enumerate().for_each(|(n, v)| {
            let key = v["type"].as_str().map_or_else(|| n.to_string(), str::to_owned);
            flatten(format!("{path}[{key}]"), v, picture);
        }),
        other => drop(picture.insert(path, other.to_string())),
    }
}

/// Actions of which each one counts.
const COUNTED: [&str; 4] = ["create", "destroy", "start", "die"];

/// A name whose record is gone still has eight digits of its uid.
fn nameless(name: &str) -> String {
    let hex = |part: &str| part.len() == 8 && part.chars().all(|c| c.is_ascii_hexdigit());
    let plain = |part: &str| part.split('.').map(|p| if hex(p) { "<gone>" } else { p }).collect::<Vec<_>>().join(".");
    name.split('-').map(plain).collect::<Vec<_>>().join("-")
}

/// What differs, in lines.
pub fn differences<V: PartialEq + std::fmt::Display>(wanted: &BTreeMap<String, V>, found: &BTreeMap<String, V>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in wanted {
        match found.get(name) {
            None => lines.push(format!("{name}: missing; it is {value} without faults")),
            Some(other) if other != value => lines.push(format!("{name}: {other}; it is {value} without faults")),
            Some(_) => {}
        }
    }
    lines.extend(found.iter().filter(|(name, _)| !wanted.contains_key(*name)).map(|(name, v)| format!("{name}: {v}; too many")));
    lines
}
