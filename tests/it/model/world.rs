//! The model: what each request must lead to, by the documentation of the Kubernetes API and our own.

use super::fields::{Managers, leaves, parts};
use super::record::{BOSS, FINALIZERS, Kind, Owner, Record, Slot, Uid, labels, spec, team};
use super::step::{Content, Edit, Identity, Policy, Scope, Step, Version};
use std::collections::{BTreeMap, BTreeSet};

/// All records, and what the last step did to them.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub records: BTreeMap<Slot, Record>,
    /// Incarnations so far.
    pub born: Uid,
    /// Written by the step itself, also where that changes nothing in the end.
    pub wrote: BTreeSet<Slot>,
    /// What followed from the step changed the record it wrote once more, after its answer was made.
    pub swept: bool,
    /// What follows is done from the last record to the first.
    pub backwards: bool,
}

/// What a request must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Created,
    /// 200, with the record.
    Done,
    /// 200, and the record is gone.
    Gone,
    Refused(u16, &'static str),
}

const MISSING: Answer = Answer::Refused(404, "NotFound");
const CONFLICT: Answer = Answer::Refused(409, "Conflict");
const INVALID: Answer = Answer::Refused(422, "Invalid");

type Judged = Result<Answer, Answer>;

impl Answer {
    /// As it is counted.
    pub fn label(self) -> String {
        match self {
            Self::Created | Self::Done | Self::Gone => "done".into(),
            Self::Refused(code, reason) => format!("{code} {reason}"),
        }
    }
}

impl World {
    /// The world after a step, and the answer. Steps about watches and reads change nothing and are not judged here.
    pub fn after(&self, step: &Step) -> (Self, Answer) {
        let mut next = Self { wrote: BTreeSet::new(), swept: false, ..self.clone() };
        let answer = next.take(step).unwrap_or_else(|refused| refused);
        if matches!(answer, Answer::Refused(..)) {
            next = Self { wrote: BTreeSet::new(), swept: false, ..self.clone() };
        }
        (next, answer)
    }

    /// Records that differ from what they were, and those that were written as they were.
    pub fn differs(&self, before: &Self) -> BTreeSet<Slot> {
        let all: BTreeSet<Slot> = before.records.keys().chain(self.records.keys()).copied().collect();
        let differs = all.into_iter().filter(|slot| before.records.get(slot) != self.records.get(slot));
        differs.chain(self.wrote.iter().copied()).collect()
    }

    fn take(&mut self, step: &Step) -> Judged {
        match step {
            Step::Create { at, content, .. } => self.create(*at, content, None),
            Step::Update { at, content, version, identity, manager, .. } => {
                let old = self.held(*at)?;
                match version {
                    Version::Missing => return Err(INVALID),
                    Version::Stale => return Err(CONFLICT),
                    Version::Current => {}
                }
                refuse_wrong(*identity)?;
                let new = self.updated(*at, &old, content);
                self.change(*at, &old, new, &updater(*manager), content.bad)
            }
            Step::Merge { at, edit, version, manager, .. } => {
                let old = self.held(*at)?;
                refuse_stale(*version)?;
                let new = edited(*at, &old, *edit);
                let broken = new.is_none();
                self.change(*at, &old, new.unwrap_or_else(|| old.clone()), &updater(*manager), broken)
            }
            Step::JsonPatch { at, edit, test, manager, .. } => self.json_patch(*at, *edit, *test, *manager),
            Step::Apply { at, content, version, manager, force, .. } => self.apply(*at, content, *version, *manager, *force),
            Step::Status { at, value, version, patch, .. } => {
                let old = self.held(*at)?;
                if *version == Version::Missing && !patch {
                    return Err(INVALID);
                }
                refuse_stale(*version)?;
                let new = Record { status: Some(i64::from(*value)), ..old.clone() };
                self.write(*at, &old, new)
            }
            Step::Finalizers { at, bits, system } => {
                let old = self.held(*at)?;
                let new = Record { finalizers: finalizers(&old, *bits, !system), ..old.clone() };
                self.change(*at, &old, new, "keeper", false)
            }
            Step::Owners { at, owners } => {
                let old = self.held(*at)?;
                let new = Record { owners: self.owners(owners), ..old.clone() };
                self.change(*at, &old, new, "keeper", false)
            }
            Step::Delete { at, policy, version, identity, .. } => {
                self.held(*at)?;
                refuse_wrong(*identity)?;
                refuse_stale(*version)?;
                self.delete(*at, *policy);
                self.settle();
                Ok(self.fate(*at))
            }
            // All namespaces at once can only be read.
            Step::DeleteAll { scope, .. } if scope.kind == Kind::Workspace && scope.space.is_none() => {
                Err(Answer::Refused(405, "MethodNotAllowed"))
            }
            Step::DeleteAll { scope, .. } => {
                for at in self.select(*scope) {
                    self.delete(at, Policy::Unsaid);
                }
                self.settle();
                Ok(Answer::Done)
            }
            Step::Get { .. } | Step::List { .. } => Ok(Answer::Done),
            Step::Open { .. } | Step::Cut { .. } | Step::Reconnect { .. } | Step::Read { .. } => Ok(Answer::Done),
        }
    }

    fn held(&self, at: Slot) -> Result<Record, Answer> {
        self.records.get(&at).cloned().ok_or(MISSING)
    }

    fn fate(&self, at: Slot) -> Answer {
        if self.records.contains_key(&at) { Answer::Done } else { Answer::Gone }
    }

    /// The records of a list, in its order.
    pub fn select(&self, scope: Scope) -> Vec<Slot> {
        let within = |at: &Slot| at.kind() == scope.kind && scope.space.is_none_or(|s| s == at.space());
        let admits = |at: &Slot, r: &Record| scope.selector.admits(at.name(), &r.labels);
        self.records.iter().filter(|(at, r)| within(at) && admits(at, r)).map(|(at, _)| *at).collect()
    }

    /// Owners as a body names them. One that is not there gets an incarnation nobody has.
    pub fn owners(&self, wanted: &[(Slot, bool)]) -> Vec<Owner> {
        let uid = |slot: &Slot| self.records.get(slot).map_or(Uid::MAX, |r| r.uid);
        wanted.iter().map(|(slot, blocks)| Owner { uid: uid(slot), slot: *slot, blocks: *blocks }).collect()
    }

    /// `applied` is the manager who creates by applying.
    fn create(&mut self, at: Slot, content: &Content, applied: Option<&str>) -> Judged {
        if content.bad {
            return Err(INVALID);
        }
        if self.records.contains_key(&at) {
            return Err(Answer::Refused(409, "AlreadyExists"));
        }
        let (mut spec, labels) = (spec(at, content), labels(content));
        let mut fields = Managers::default();
        if let Some(manager) = applied {
            fields.apply(manager, &Default::default(), &leaves(&spec, &labels), false);
        }
        at.kind().complete(&mut spec);
        if applied.is_none() {
            fields.update("maker", &Default::default(), &leaves(&spec, &labels));
        }
        let (bits, owners) = if applied.is_some() { (0, Vec::new()) } else { (content.finalizers, self.owners(&content.owners)) };
        let finalizers = chosen(bits).map(str::to_owned).collect();
        self.born += 1;
        let uid = self.born;
        let record = Record {
            uid,
            generation: 1,
            deleting: false,
            labels,
            finalizers,
            owners,
            spec,
            status: None,
            fields,
            untracked: false,
        };
        self.admit(at, None, &record)?;
        self.records.insert(at, record.clone());
        self.wrote.insert(at);
        self.settle();
        self.swept = self.records.get(&at) != Some(&record);
        Ok(Answer::Created)
    }

    fn updated(&self, at: Slot, old: &Record, content: &Content) -> Record {
        let mut spec = spec(at, content);
        at.kind().complete(&mut spec);
        let finalizers = finalizers(old, content.finalizers, true);
        Record { labels: labels(content), finalizers, owners: self.owners(&content.owners), spec, ..old.clone() }
    }

    fn json_patch(&mut self, at: Slot, edit: Edit, test: Option<u8>, manager: u8) -> Judged {
        let old = self.held(at)?;
        let note = old.spec.get(at.kind().note());
        let expected = test.map(|n| serde_json::json!(format!("n{n}")));
        // To take out what is not there is an error here, and nothing in a merge patch.
        let absent = match edit {
            Edit::Note(None) => note.is_none(),
            Edit::Team(None) => !old.labels.contains_key("team"),
            _ => false,
        };
        if note != expected.as_ref() || absent {
            return Err(INVALID);
        }
        let mut new = edited(at, &old, edit);
        if let (Some(new), Edit::Team(Some(_))) = (&mut new, edit) {
            new.labels.remove("tier");
        }
        let broken = new.is_none();
        self.change(at, &old, new.unwrap_or_else(|| old.clone()), &updater(manager), broken)
    }

    fn apply(&mut self, at: Slot, content: &Content, version: Version, manager: u8, force: bool) -> Judged {
        let manager = applier(manager);
        let Some(old) = self.records.get(&at).cloned() else {
            return if version == Version::Missing { self.create(at, content, Some(&manager)) } else { Err(CONFLICT) };
        };
        refuse_stale(version)?;
        let config = leaves(&spec(at, content), &labels(content));
        let (mut fields, live) = (old.fields.clone(), leaves(&old.spec, &old.labels));
        if old.untracked {
            fields.update("before-first-apply", &Default::default(), &live);
        }
        let merged = fields.apply(&manager, &live, &config, force).ok_or(CONFLICT)?;
        if content.bad {
            return Err(INVALID);
        }
        let (mut spec, labels) = parts(merged);
        at.kind().complete(&mut spec);
        self.write(at, &old, Record { spec, labels, fields, ..old.clone() })
    }

    /// An update or patch of the record.
    fn change(&mut self, at: Slot, old: &Record, mut new: Record, manager: &str, broken: bool) -> Judged {
        if broken {
            return Err(INVALID);
        }
        new.fields.update(manager, &leaves(&old.spec, &old.labels), &leaves(&new.spec, &new.labels));
        self.write(at, old, new)
    }

    fn write(&mut self, at: Slot, old: &Record, mut new: Record) -> Judged {
        if new == *old {
            return Ok(Answer::Done);
        }
        if old.deleting && new.finalizers.iter().any(|f| !old.finalizers.contains(f)) {
            return Err(INVALID);
        }
        new.generation += i64::from(new.spec != old.spec);
        self.admit(at, Some(old), &new)?;
        self.records.insert(at, new.clone());
        self.wrote.insert(at);
        self.settle();
        // The answer about one that is being deleted is made afterwards.
        self.swept = !old.deleting && self.records.get(&at) != Some(&new);
        Ok(self.fate(at))
    }

    /// What a write must hold against the other records: what is new in it, no more.
    fn admit(&self, at: Slot, old: Option<&Record>, new: &Record) -> Result<(), Answer> {
        let known = old.map(|r| r.references(at.kind())).unwrap_or_default();
        let stays = |slot: &Slot| self.records.get(slot).is_some_and(|r| !r.deleting);
        let named = new.references(at.kind()).iter().all(|slot| known.contains(slot) || stays(slot));
        let email = |r: &Record| r.spec.get("email").cloned();
        let others = || self.records.iter().filter(|(slot, _)| slot.kind() == Kind::User && **slot != at);
        let claims = at.kind() == Kind::User && old.is_none_or(|old| email(old) != email(new));
        let free = !claims || others().all(|(_, r)| email(r) != email(new));
        let owned = new.owners.iter().all(|owner| {
            let before = old.is_some_and(|old| old.is_owned_by(owner.uid));
            let there = self.records.get(&owner.slot).is_some_and(|r| r.uid == owner.uid);
            before || (there && owner.slot.can_own(at))
        });
        // Whose owner is deactivated is not started.
        let runs = |r: &Record| r.spec.get("running") == Some(&true.into());
        let starts = at.kind() == Kind::Workspace && runs(new) && old.is_some_and(|old| !runs(old));
        let is_away = |slot: &Slot| self.records.get(slot).is_some_and(|r| r.spec.get("active") == Some(&false.into()));
        let started = starts && new.references(at.kind()).iter().any(is_away);
        if named && free && owned && !started { Ok(()) } else { Err(INVALID) }
    }

    /// The user who owns the projects.
    pub fn begin(boss: Record) -> Self {
        Self { records: BTreeMap::from([(BOSS, boss)]), ..Self::default() }
    }
}

pub fn updater(manager: u8) -> String {
    format!("updater{manager}")
}

pub fn applier(manager: u8) -> String {
    format!("applier{manager}")
}

fn refuse_stale(version: Version) -> Result<(), Answer> {
    if version == Version::Stale { Err(CONFLICT) } else { Ok(()) }
}

fn refuse_wrong(identity: Identity) -> Result<(), Answer> {
    if identity == Identity::Wrong { Err(CONFLICT) } else { Ok(()) }
}

pub fn chosen(bits: u8) -> impl Iterator<Item = &'static str> {
    FINALIZERS.into_iter().enumerate().filter(move |(i, _)| bits & (1 << i) != 0).map(|(_, name)| name)
}

/// A record's finalizers with ours chosen anew; `system` keeps the server's own, as a client does that sends back what
/// it has read.
pub fn finalizers(old: &Record, bits: u8, system: bool) -> Vec<String> {
    let ours = |f: &&String| FINALIZERS.contains(&f.as_str());
    let kept = old.finalizers.iter().filter(|f| if ours(f) { chosen(bits).any(|c| c == **f) } else { system });
    let kept: Vec<String> = kept.cloned().collect();
    let new: Vec<String> = chosen(bits).filter(|c| !kept.iter().any(|k| k == c)).map(str::to_owned).collect();
    [kept, new].concat()
}

/// The record after an edit; `None` where that breaks it.
fn edited(at: Slot, old: &Record, edit: Edit) -> Option<Record> {
    let mut new = old.clone();
    match edit {
        Edit::Note(Some(n)) => drop(new.spec.insert(at.kind().note().into(), format!("n{n}").into())),
        Edit::Note(None) => drop(new.spec.remove(at.kind().note())),
        Edit::Flag(on) => drop(at.kind().flag().map(|field| new.spec.insert(field.into(), on.into()))),
        Edit::Team(Some(t)) => drop(new.labels.insert("team".into(), team(t).into())),
        Edit::Team(None) => drop(new.labels.remove("team")),
        Edit::NoLink if at.kind().required().is_some() => return None,
        Edit::NoLink => drop(new.spec.remove("members")),
    }
    at.kind().complete(&mut new.spec);
    Some(new)
}
