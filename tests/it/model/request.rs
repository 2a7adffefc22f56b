//! Steps as requests: bodies with the versions and uids the client has seen.

use super::record::{FINALIZERS, NOBODY, Owner, Slot, body, labels, spec, team};
use super::step::{Content, Edit, Identity, Policy, Step, Version};
use super::world::{World, applier, chosen, finalizers, updater};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A request that writes.
#[derive(Debug)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub media: &'static str,
    pub body: Value,
}

/// What the client knows: records as it read them last.
pub struct Client<'a> {
    pub world: &'a World,
    pub live: &'a BTreeMap<Slot, Value>,
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

impl Client<'_> {
    /// The request of a step that writes; `None` for the others.
    pub fn call(&self, step: &Step) -> Option<Call> {
        let call = |method, path: String, media, body| Some(Call { method, path, media, body });
        let query = |manager: &str, dry: bool| format!("?fieldManager={manager}{}", if dry { "&dryRun=All" } else { "" });
        match step {
            Step::Create { at, content, dry } => {
                call("POST", at.collection() + &query("maker", *dry), JSON, self.full(*at, content, &[]))
            }
            Step::Update { at, content, version, identity, manager, dry } => {
                let held = self.world.records.get(at).map(|r| finalizers(r, content.finalizers, true)).unwrap_or_default();
                let mut body = self.full(*at, content, &held);
                self.pin(*at, *version, *identity, &mut body["metadata"]);
                call("PUT", at.path() + &query(&updater(*manager), *dry), JSON, body)
            }
            Step::Merge { at, edit, version, manager, dry } => {
                let mut body = merge(*at, *edit);
                self.pin(*at, *version, Identity::Missing, &mut body["metadata"]);
                call("PATCH", at.path() + &query(&updater(*manager), *dry), MERGE, body)
            }
            Step::JsonPatch { at, edit, test, manager, dry } => {
                let body = operations(*at, *edit, *test);
                call("PATCH", at.path() + &query(&updater(*manager), *dry), "application/json-patch+json", body)
            }
            Step::Apply { at, content, version, manager, force, dry } => {
                let mut config = body(*at);
                config["spec"] = spec(*at, content).into();
                put_labels(&mut config, content);
                self.pin(*at, *version, Identity::Missing, &mut config["metadata"]);
                let path = format!("{}{}&force={force}", at.path(), query(&applier(*manager), *dry));
                call("PATCH", path, "application/apply-patch+yaml", config)
            }
            Step::Status { at, value, version, patch, meddle } => Some(self.status(*at, *value, *version, *patch, *meddle)),
            Step::Finalizers { at, bits, system } => {
                let left = self.world.records.get(at).map(|r| finalizers(r, *bits, !system));
                let left = left.unwrap_or_else(|| chosen(*bits).map(str::to_owned).collect());
                let value = if left.is_empty() { Value::Null } else { json!(left) };
                call("PATCH", at.path() + &query("keeper", false), MERGE, json!({"metadata": {"finalizers": value}}))
            }
            Step::Owners { at, owners } => {
                let list = self.owners(owners);
                let value = if list.is_empty() { Value::Null } else { list.into() };
                call("PATCH", at.path() + &query("keeper", false), MERGE, json!({"metadata": {"ownerReferences": value}}))
            }
            Step::Delete { at, policy, version, identity, dry } => {
                let mut pins = json!({});
                self.pin(*at, *version, *identity, &mut pins);
                let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": pins});
                if *policy != Policy::Unsaid {
                    options["propagationPolicy"] = json!(format!("{policy:?}"));
                }
                call("DELETE", at.path() + if *dry { "?dryRun=All" } else { "" }, JSON, options)
            }
            Step::DeleteAll { scope, dry } => {
                let dry = if *dry { "dryRun=All" } else { "" };
                let path = format!("{}?{dry}{}", scope.kind.path(scope.space), scope.selector.query());
                call("DELETE", path, JSON, json!({}))
            }
            _ => None,
        }
    }

    fn status(&self, at: Slot, value: u8, version: Version, patch: bool, meddle: bool) -> Call {
        let path = format!("{}/status?fieldManager=observer", at.path());
        let mut change = json!({"metadata": {}, "status": {"observedGeneration": value}});
        if meddle {
            change["spec"] = json!({at.kind().note(): "meddled"});
            change["metadata"]["labels"] = json!({"team": "meddled"});
            change["metadata"]["finalizers"] = json!(["example.com/meddled"]);
        }
        self.pin(at, version, Identity::Missing, &mut change["metadata"]);
        if patch {
            return Call { method: "PATCH", path, media: MERGE, body: change };
        }
        let mut whole = self.live.get(&at).cloned().unwrap_or_else(|| body(at));
        if let Some(metadata) = whole["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        for part in ["metadata", "spec", "status"] {
            for (field, value) in change[part].as_object().cloned().unwrap_or_default() {
                whole[part][field] = value;
            }
        }
        Call { method: "PUT", path, media: JSON, body: whole }
    }

    /// A whole record, with a status that must not be heeded. What is empty is left out, as client libraries do.
    fn full(&self, at: Slot, content: &Content, held: &[String]) -> Value {
        let mut record = body(at);
        record["spec"] = spec(at, content).into();
        record["status"] = json!({"observedGeneration": 77});
        put_labels(&mut record, content);
        let finalizers: Vec<String> =
            if held.is_empty() { chosen(content.finalizers).map(str::to_owned).collect() } else { held.to_vec() };
        if !finalizers.is_empty() {
            record["metadata"]["finalizers"] = json!(finalizers);
        }
        let owners = self.owners(&content.owners);
        if !owners.is_empty() {
            record["metadata"]["ownerReferences"] = owners.into();
        }
        record
    }

    fn owners(&self, wanted: &[(Slot, bool)]) -> Vec<Value> {
        let reference = |Owner { slot, blocks, .. }: Owner| {
            let uid = self.live.get(&slot).map_or(NOBODY, |r| r["metadata"]["uid"].as_str().unwrap_or(NOBODY));
            json!({
                "apiVersion": "devsanctum.io/v1", "kind": slot.kind().name(), "name": slot.name(), "uid": uid,
                "blockOwnerDeletion": blocks,
            })
        };
        self.world.owners(wanted).into_iter().map(reference).collect()
    }

    /// Names the version and uid in metadata or preconditions.
    fn pin(&self, at: Slot, version: Version, identity: Identity, into: &mut Value) {
        let meta = |field: &str| self.live.get(&at).and_then(|r| r["metadata"][field].as_str()).map(str::to_owned);
        let current: i64 = meta("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(2);
        match version {
            Version::Missing => {}
            Version::Current => into["resourceVersion"] = json!(current.to_string()),
            Version::Stale => into["resourceVersion"] = json!((current - 1).to_string()),
        }
        match identity {
            Identity::Missing => {}
            Identity::Right => into["uid"] = json!(meta("uid").unwrap_or_else(|| NOBODY.into())),
            Identity::Wrong => into["uid"] = json!(NOBODY),
        }
    }
}

fn put_labels(record: &mut Value, content: &Content) {
    let labels = labels(content);
    if !labels.is_empty() {
        record["metadata"]["labels"] = json!(labels);
    }
}

fn merge(at: Slot, edit: Edit) -> Value {
    let kind = at.kind();
    let link = kind.required().unwrap_or("members");
    let spec: Map<String, Value> = match edit {
        Edit::Note(note) => Map::from_iter([(kind.note().to_owned(), note.map_or(Value::Null, |n| json!(format!("n{n}"))))]),
        Edit::Flag(on) => kind.flag().map(|field| (field.to_owned(), json!(on))).into_iter().collect(),
        Edit::NoLink => Map::from_iter([(link.to_owned(), Value::Null)]),
        Edit::Team(chosen) => {
            let value = chosen.map_or(Value::Null, |t| json!(team(t)));
            return json!({"metadata": {"labels": {"team": value}}});
        }
    };
    json!({"metadata": {}, "spec": spec})
}

fn operations(at: Slot, edit: Edit, test: Option<u8>) -> Value {
    let kind = at.kind();
    let note = format!("/spec/{}", kind.note());
    let mut list = vec![json!({"op": "test", "path": note, "value": test.map(|n| format!("n{n}"))})];
    match edit {
        Edit::Note(Some(n)) => list.push(json!({"op": "add", "path": note, "value": format!("n{n}")})),
        Edit::Note(None) => list.push(json!({"op": "remove", "path": note})),
        Edit::Flag(on) => {
            let replace = |field: &str| json!({"op": "replace", "path": format!("/spec/{field}"), "value": on});
            list.extend(kind.flag().map(replace));
        }
        Edit::Team(Some(t)) => {
            let value = json!({"team": team(t)});
            list.push(json!({"op": "add", "path": "/metadata/labels", "value": value}));
        }
        Edit::Team(None) => list.push(json!({"op": "remove", "path": "/metadata/labels/team"})),
        Edit::NoLink => {
            list.push(json!({"op": "remove", "path": format!("/spec/{}", kind.required().unwrap_or("members"))}));
        }
    }
    list.into()
}

/// The finalizers a step may set are known to the model.
#[test]
fn every_bit_is_a_finalizer() {
    assert_eq!(chosen(3).collect::<Vec<_>>(), FINALIZERS);
    assert_eq!(chosen(0).count(), 0);
}
