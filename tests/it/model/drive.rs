//! Takes steps against the API, and compares all that can be seen with the model after each.

use super::fields::Managers;
use super::record::{BOSS, KINDS, Kind, NOBODY, Record, Slot, Uid, told_labels};
use super::request::Client;
use super::step::{Scope, Step, WATCHERS};
use super::watching::{Scribe, Wait, Watcher, version};
use super::world::{Answer, World};
use crate::support::api::{GROUP, project, template, user};
use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tower::ServiceExt;

/// Steps taken, by name and by how they were answered.
pub type Counts = BTreeMap<(&'static str, String), u64>;

/// An API and what must be in it.
pub struct Run {
    router: Router,
    world: World,
    /// Records as they were listed last.
    live: BTreeMap<Slot, Value>,
    uids: BTreeMap<Uid, String>,
    revision: i64,
    scribes: Vec<Scribe>,
    watchers: [Option<Watcher>; WATCHERS],
    /// Records by how they are written, to read each writing once.
    read: HashMap<String, (Slot, Value)>,
    looks: usize,
    pub counts: Counts,
}

macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}

/// A list, with its items as they are written.
#[derive(Deserialize)]
struct List<'a> {
    metadata: Value,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

async fn ask(router: &Router, method: &str, path: &str, media: &str, body: Option<&Value>) -> Result<(u16, Value), String> {
    let (code, text) = send(router, method, path, media, body).await?;
    Ok((code, serde_json::from_slice(&text).map_err(|e| format!("{method} {path}: {e}"))?))
}

async fn send(router: &Router, method: &str, path: &str, media: &str, body: Option<&Value>) -> Result<(u16, Bytes), String> {
    let bytes = body.map_or(Body::empty(), |b| Body::from(b.to_string()));
    let request = Request::builder().method(method).uri(path).header("content-type", media).body(bytes);
    let response = router.clone().oneshot(request.map_err(|e| e.to_string())?).await.map_err(|e| e.to_string())?;
    let code = response.status().as_u16();
    Ok((code, to_bytes(response.into_body(), usize::MAX).await.map_err(|e| e.to_string())?))
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether the same records are there, and wait for the same.
fn waits_alike(found: &BTreeMap<Slot, Value>, world: &World) -> bool {
    let waits =
        |slot: &Slot, object: &Value| world.records.get(slot).is_some_and(|record| record.finalizers == finalizers(object));
    found.len() == world.records.len() && found.iter().all(|(slot, object)| waits(slot, object))
}

async fn must_make(router: &Router, plural: &str, body: &Value) -> Result<Value, String> {
    let (code, made) =
        ask(router, "POST", &format!("{GROUP}/{plural}?fieldManager=maker"), "application/json", Some(body)).await?;
    ensure!(code == 201, "a beginning: {code} {made}");
    Ok(made)
}

impl Run {
    /// Begins with a user, and two projects of theirs.
    pub async fn begin(router: Router) -> Result<Self, String> {
        let boss = must_make(&router, "users", &user("boss")).await?;
        must_make(&router, "templates", &template("base")).await?;
        for name in super::record::SPACES {
            let mut body = project(name);
            body["spec"]["owner"] = json!("boss");
            must_make(&router, "projects", &body).await?;
        }
        let mut spec = json!({"email": "boss@example.com"}).as_object().cloned().unwrap_or_default();
        Kind::User.complete(&mut spec);
        let mut fields = Managers::default();
        fields.update("maker", &BTreeMap::new(), &super::fields::leaves(&spec, &BTreeMap::new()));
        let record = Record {
            uid: 0,
            generation: 1,
            deleting: false,
            labels: BTreeMap::new(),
            finalizers: Vec::new(),
            owners: Vec::new(),
            spec,
            status: None,
            fields,
            untracked: false,
        };
        let mut it = Self {
            router,
            world: World::begin(record),
            live: BTreeMap::from([(BOSS, boss)]),
            uids: BTreeMap::new(),
            revision: 0,
            scribes: Vec::new(),
            watchers: [const { None }; WATCHERS],
            read: HashMap::new(),
            looks: 0,
            counts: Counts::new(),
        };
        let (found, revision) = it.look(&KINDS).await?;
        ensure!(found == it.live, "there is {found:?} to begin with");
        it.compare(BOSS, &it.world.records[&BOSS].clone(), &found[&BOSS].clone(), true)?;
        it.revision = revision;
        for kind in KINDS {
            let mirror = found.iter().filter(|(slot, _)| slot.kind() == kind).map(|(s, o)| (*s, o.clone())).collect();
            it.scribes.push(Scribe::open(&it.router, kind, revision, mirror).await?);
        }
        Ok(it)
    }

    fn count(&mut self, step: &Step, how: impl Into<String>) {
        *self.counts.entry((step.name(), how.into())).or_default() += 1;
    }

    /// Takes one step; an error says what is not as it must be.
    pub async fn step(&mut self, step: &Step) -> Result<(), String> {
        let how = match step {
            Step::Get { at } => self.get(*at).await?,
            Step::List { scope, limit } => self.list(*scope, *limit).await?,
            Step::Open { watcher, scope, stream } => {
                let scribe = self.scribe(scope.kind);
                let opened = Watcher::open(&self.router, *scope, *stream, scribe, self.revision).await?;
                self.watchers[*watcher] = Some(opened);
                "done".into()
            }
            Step::Cut { watcher } => match self.watchers[*watcher].as_mut().filter(|w| w.is_open()) {
                Some(open) => {
                    open.cut();
                    "done".into()
                }
                None => "nothing to do".into(),
            },
            Step::Reconnect { watcher } => match self.watchers[*watcher].as_mut() {
                Some(watch) => {
                    watch.reconnect(&self.router).await?;
                    "done".into()
                }
                None => "nothing to do".into(),
            },
            Step::Read { watcher } => {
                if self.read(*watcher, Wait::ForIt).await? > 0 {
                    "done".into()
                } else {
                    "nothing to do".into()
                }
            }
            _ => self.write(step).await?,
        };
        self.count(step, how);
        Ok(())
    }

    /// Reads all watches to their end.
    pub async fn finish(&mut self) -> Result<(), String> {
        for watcher in 0..WATCHERS {
            if let Some(cut) = self.watchers[watcher].as_mut().filter(|w| !w.is_open()) {
                cut.reconnect(&self.router).await?;
            }
            self.read(watcher, Wait::ForIt).await?;
        }
        for scribe in &mut self.scribes {
            ensure!(!scribe.take(Wait::Here).await?, "a watch tells a change that nobody made: {:?}", scribe.log.last());
        }
        Ok(())
    }

    fn scribe(&self, kind: Kind) -> &Scribe {
        self.scribes.iter().find(|s| s.kind == kind).expect("there is one for each kind")
    }

    async fn read(&mut self, watcher: usize, wait: Wait) -> Result<usize, String> {
        let Some(mut open) = self.watchers[watcher].take() else { return Ok(0) };
        let count = open.read(self.scribe(open.kind()), wait).await?;
        self.watchers[watcher] = Some(open);
        Ok(count)
    }

    async fn get(&self, at: Slot) -> Result<String, String> {
        let (code, reply) = ask(&self.router, "GET", &at.path(), "", None).await?;
        match self.live.get(&at) {
            Some(live) => ensure!(code == 200 && reply == *live, "GET {at:?}: {code} {reply}, not {live}"),
            None => ensure!(code == 404 && reply["reason"] == "NotFound", "GET {at:?}: {code} {reply}, not 404"),
        }
        Ok(if code == 200 { "done".into() } else { "404 NotFound".into() })
    }

    async fn list(&self, scope: Scope, limit: usize) -> Result<String, String> {
        let due: Vec<Slot> = self.world.select(scope);
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("{}?limit={limit}&continue={token}{}", scope.kind.path(scope.space), scope.selector.query());
            let (code, page) = ask(&self.router, "GET", &path, "", None).await?;
            ensure!(code == 200 && version(&page).ok() == Some(self.revision), "GET {path}: {code} {page}");
            let items = page["items"].as_array().cloned().unwrap_or_default();
            ensure!(limit == 0 || items.len() <= limit, "GET {path}: more than asked for: {page}");
            found.extend(items);
            token = page["metadata"]["continue"].as_str().unwrap_or("").to_owned();
            if token.is_empty() {
                break;
            }
            ensure!(found.len() <= due.len(), "GET {path}: the list does not end");
            if scope.selector == super::step::Selector::All {
                let left = due.len() - found.len();
                ensure!(page["metadata"]["remainingItemCount"] == left, "GET {path}: {left} remain: {}", page["metadata"]);
            }
        }
        let due: Vec<&Value> = due.iter().map(|slot| &self.live[slot]).collect();
        ensure!(due.iter().copied().eq(found.iter()), "a list of {scope:?} by {limit} is {found:?}, not {due:?}");
        Ok("done".into())
    }

    /// A request that writes, or would.
    async fn write(&mut self, step: &Step) -> Result<String, String> {
        let (next, answer) = self.world.after(step);
        let call = Client { world: &self.world, live: &self.live }.call(step).expect("it is a write");
        let (code, reply) = ask(&self.router, call.method, &call.path, call.media, Some(&call.body)).await?;
        let (next, answer) = self.as_answered(step, &reply, next, answer);
        let due = match answer {
            Answer::Created => 201,
            Answer::Done | Answer::Gone => 200,
            Answer::Refused(due, _) => due,
        };
        ensure!(code == due, "{call:?} is answered {code} {reply}, not {answer:?}");
        if let Answer::Refused(_, reason) = answer {
            ensure!(reply["reason"] == reason && reply["kind"] == "Status", "{call:?} is answered {reply}, not {answer:?}");
        }
        if answer == Answer::Gone && matches!(step, Step::Delete { .. }) {
            let uid = step.target().map(|at| &self.live[&at]["metadata"]["uid"]);
            ensure!(reply["status"] == "Success" && Some(&reply["details"]["uid"]) == uid, "{call:?} is answered {reply}");
        }
        // A record that loses its owner at once, or goes with it, is told as it was written before.
        let told = step.target().filter(|_| matches!(answer, Answer::Created | Answer::Done) && !next.swept);
        let told = told.and_then(|at| Some((at, next.records.get(&at)?.clone())));
        if let Some((at, record)) = &told {
            self.compare(*at, record, &reply, !step.is_dry()).map_err(|e| format!("{call:?} is answered {reply}: {e}"))?;
        }
        let before = self.world.clone();
        if !step.is_dry() {
            self.world = next;
        }
        let accepted = !step.is_dry() && !matches!(answer, Answer::Refused(..));
        self.observe(&before, step, accepted).await.map_err(|e| format!("after {call:?}: {e}"))?;
        if let Some((at, _)) = told.filter(|_| !step.is_dry()) {
            ensure!(self.live[&at] == reply, "{call:?} is answered {reply}, and there is {}", self.live[&at]);
        }
        Ok(answer.label())
    }

    /// What a deletion led to: where two records wait for each other, who is looked at first decides, and either is right.
    fn as_answered(&self, step: &Step, reply: &Value, next: World, answer: Answer) -> (World, Answer) {
        let Some(at) = step.target().filter(|_| matches!((step, answer), (Step::Delete { .. }, Answer::Done | Answer::Gone)))
        else {
            return (next, answer);
        };
        let fits = |world: &World| match world.records.get(&at) {
            Some(record) => record.finalizers == finalizers(reply),
            None => reply["status"] == "Success",
        };
        let (other, otherwise) = World { backwards: true, ..self.world.clone() }.after(step);
        if fits(&next) || !fits(&other) { (next, answer) } else { (World { backwards: false, ..other }, otherwise) }
    }

    /// All records of these kinds, and the version.
    async fn look(&mut self, kinds: &[Kind]) -> Result<(BTreeMap<Slot, Value>, i64), String> {
        let (mut found, mut versions) = (BTreeMap::new(), BTreeSet::new());
        for kind in kinds {
            let (code, text) = send(&self.router, "GET", &kind.path(None), "", None).await?;
            let list: List = serde_json::from_slice(&text).map_err(|e| format!("a list of {kind:?} is answered {code}: {e}"))?;
            versions.insert(version(&json!({"metadata": list.metadata}))?);
            for item in list.items {
                // What is written as it was has been read before.
                let (slot, object) = match self.read.get(item.get()) {
                    Some(known) => known.clone(),
                    None => {
                        let object: Value = serde_json::from_str(item.get()).map_err(|e| e.to_string())?;
                        let slot = Slot::of(*kind, &object).ok_or_else(|| format!("nobody made {object}"))?;
                        self.read.retain(|_, (other, _)| *other != slot);
                        self.read.insert(item.get().to_owned(), (slot, object.clone()));
                        (slot, object)
                    }
                };
                ensure!(found.insert(slot, object).is_none(), "listed twice: {item}");
            }
        }
        ensure!(versions.len() == 1, "lists without a write between them are of versions {versions:?}");
        Ok((found, versions.into_iter().next_back().unwrap_or(0)))
    }

    /// Looks at everything after a write. After one that was dry, refused or empty, records of one kind stand for all:
    /// the version is that of the whole store, so where it has not moved nothing has been written.
    async fn observe(&mut self, before: &World, step: &Step, accepted: bool) -> Result<(), String> {
        let mut changed = self.world.differs(before);
        self.looks += 1;
        let sweeps = accepted && self.world.records.values().any(|r| r.deleting);
        let kinds = if changed.is_empty() && !sweeps { &KINDS[self.looks % 3..][..1] } else { &KINDS };
        let (found, revision) = self.look(kinds).await?;
        if sweeps && !waits_alike(&found, &self.world) {
            // Of those in a circle of owners, who waits for whom is decided by who is looked at first.
            let other = World { backwards: true, ..before.clone() }.after(step).0;
            if waits_alike(&found, &other) {
                self.world = World { backwards: false, ..other };
                changed = self.world.differs(before);
            }
        }
        self.world.wrote.clear();
        if sweeps {
            // What waits to be deleted may be written in passing, and be as it was: a finalizer comes and goes.
            let same = |slot: &Slot, w: &World| w.records.get(slot).is_some_and(|r| r.deleting);
            let rewritten =
                |slot: &&Slot| same(slot, before) && same(slot, &self.world) && self.live.get(*slot) != found.get(*slot);
            changed.extend(found.keys().filter(rewritten));
        }
        ensure!(
            if changed.is_empty() { revision == self.revision } else { revision > self.revision },
            "the version was {} and is {revision}, and {changed:?} should have changed",
            self.revision
        );
        let due: BTreeMap<Slot, Record> = self.world.records.clone();
        let due: Vec<_> = due.into_iter().filter(|(slot, _)| kinds.contains(&slot.kind())).collect();
        ensure!(found.keys().eq(due.iter().map(|(slot, _)| slot)), "there is {:?}, not {due:?}", found.keys());
        for (slot, record) in due {
            let (object, last) = (&found[&slot], self.live.get(&slot).cloned());
            if changed.contains(&slot) {
                self.changed(slot, &record, object, last.as_ref(), before, revision)?;
            } else {
                ensure!(last.as_ref() == Some(object), "nobody changed {slot:?} from {last:?} to {object}");
            }
        }
        for (slot, object) in &found {
            if let Some(record) = self.world.records.get_mut(slot) {
                record.untracked = object["metadata"].get("managedFields").is_none();
            }
        }
        if !changed.is_empty() {
            self.told(&changed, &found, before).await?;
            (self.live, self.revision) = (found, revision);
        }
        Ok(())
    }

    /// A record that should have changed has, and what must not has not.
    fn changed(
        &mut self,
        slot: Slot,
        record: &Record,
        object: &Value,
        last: Option<&Value>,
        before: &World,
        revision: i64,
    ) -> Result<(), String> {
        let version = version(object)?;
        ensure!(version > self.revision && version <= revision, "{slot:?} is of version {version}: {object}");
        self.compare(slot, record, object, true)?;
        let Some((old, last)) = before.records.get(&slot).filter(|old| old.uid == record.uid).zip(last) else { return Ok(()) };
        let kept = if old.deleting { &["creationTimestamp", "deletionTimestamp"][..] } else { &["creationTimestamp"] };
        for field in kept {
            let (was, is) = (&last["metadata"][field], &object["metadata"][field]);
            ensure!(was == is, "{slot:?}: {field} was {was} and is {is}");
        }
        Ok(())
    }

    /// The watches of whole kinds tell these changes and no others.
    async fn told(&mut self, changed: &BTreeSet<Slot>, found: &BTreeMap<Slot, Value>, before: &World) -> Result<(), String> {
        for scribe in &mut self.scribes {
            let start = scribe.log.len();
            let due: Vec<Slot> = changed.iter().copied().filter(|slot| slot.kind() == scribe.kind).collect();
            let news = |scribe: &Scribe, slot: &Slot| scribe.log[start..].iter().filter(|t| t.slot == *slot).count();
            let is_told = |s: &Scribe, slot: &Slot| s.mirror.get(slot) == found.get(slot) && news(s, slot) > 0;
            while !due.iter().all(|slot| is_told(scribe, slot)) {
                scribe.take(Wait::ForIt).await.map_err(|e| format!("{e} ({due:?} have changed)"))?;
            }
            while scribe.take(Wait::Here).await? {}
            let more = scribe.log[start..].iter().find(|told| !changed.contains(&told.slot));
            ensure!(more.is_none(), "a watch tells a change that nobody made: {more:?}");
            let rests = |w: &World, slot: &Slot| w.records.get(slot).is_none_or(|r| !r.deleting);
            if let [only] = due[..]
                && changed.len() == 1
                && !self.world.swept
                && rests(before, &only)
                && self.world.records.get(&only).is_some_and(|r| !r.deleting)
            {
                ensure!(news(scribe, &only) == 1, "one change is told as {:?}", &scribe.log[start..]);
            }
        }
        Ok(())
    }

    /// A record as it was told, against the record as it must be. `learn`: what the server calls a new one is kept.
    fn compare(&mut self, slot: Slot, record: &Record, object: &Value, learn: bool) -> Result<(), String> {
        let meta = &object["metadata"];
        ensure!(Slot::of(slot.kind(), object) == Some(slot), "it is not {slot:?}");
        ensure!(object["kind"] == slot.kind().name() && object["apiVersion"] == "devsanctum.io/v1", "it is of another kind");
        let uid = meta["uid"].as_str().unwrap_or("");
        match self.uids.get(&record.uid) {
            Some(known) => ensure!(known == uid, "{slot:?} has the uid {uid}, not {known}"),
            None => {
                ensure!(uid.len() == 36 && self.uids.values().all(|u| u != uid), "{slot:?} is new and has the uid {uid:?}");
                if learn {
                    self.uids.insert(record.uid, uid.to_owned());
                }
            }
        }
        ensure!(
            meta["generation"] == record.generation,
            "{slot:?} has generation {}, not {}",
            meta["generation"],
            record.generation
        );
        let deleting = meta.get("deletionTimestamp").is_some_and(Value::is_string);
        ensure!(deleting == record.deleting, "{slot:?} has deletionTimestamp {}", meta["deletionTimestamp"]);
        ensure!(told_labels(object) == record.labels, "{slot:?} has labels {}, not {:?}", meta["labels"], record.labels);
        let finalizers = finalizers(object);
        ensure!(finalizers == record.finalizers, "{slot:?} has finalizers {finalizers:?}, not {:?}", record.finalizers);
        ensure!(object["spec"].as_object() == Some(&record.spec), "{slot:?} has spec {}, not {:?}", object["spec"], record.spec);
        let status = object["status"]["observedGeneration"].as_i64();
        ensure!(status == record.status, "{slot:?} has status {}, not {:?}", object["status"], record.status);
        let managers = Managers::told(object);
        ensure!(managers == record.fields, "{slot:?} has fields owned by {managers:?}, not {:?}", record.fields);
        self.compare_owners(slot, record, meta)
    }

    fn compare_owners(&self, slot: Slot, record: &Record, meta: &Value) -> Result<(), String> {
        let told: Vec<(&str, &str, bool)> = meta["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|o| (o["name"].as_str().unwrap_or(""), o["uid"].as_str().unwrap_or(""), o["blockOwnerDeletion"] == true))
            .collect();
        let uid = |uid: &Uid| self.uids.get(uid).map_or(NOBODY, String::as_str);
        let due: Vec<_> = record.owners.iter().map(|o| (o.slot.name(), uid(&o.uid), o.blocks)).collect();
        ensure!(told == due, "{slot:?} has owners {told:?}, not {due:?}");
        Ok(())
    }
}
