//! What the model knows of records: where they lie, what they hold, how they are written down.

use super::step::{Content, Selector};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    User,
    Group,
    Workspace,
}

pub const KINDS: [Kind; 3] = [Kind::User, Kind::Group, Kind::Workspace];
pub const SPACES: [&str; 2] = ["lab", "team"];

/// Where a record may lie, in the order of lists. Few, so that requests meet each other often.
const PLACES: [(Kind, &str, &str); 10] = [
    (Kind::User, "", "ann"),
    (Kind::User, "", "bob"),
    (Kind::User, "", "boss"),
    (Kind::User, "", "cid"),
    (Kind::Group, "", "dev"),
    (Kind::Group, "", "ops"),
    (Kind::Workspace, "lab", "api"),
    (Kind::Workspace, "lab", "web"),
    (Kind::Workspace, "team", "api"),
    (Kind::Workspace, "team", "web"),
];
/// Owns the two projects, so it is there from the start and nothing is asked of it.
pub const BOSS: Slot = Slot(2);
/// The places steps are about.
pub const SLOTS: [usize; 9] = [0, 1, 3, 4, 5, 6, 7, 8, 9];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub usize);

impl Slot {
    pub fn kind(self) -> Kind {
        PLACES[self.0].0
    }

    pub fn space(self) -> &'static str {
        PLACES[self.0].1
    }

    pub fn name(self) -> &'static str {
        PLACES[self.0].2
    }

    pub fn of(kind: Kind, record: &Value) -> Option<Self> {
        let text = |field: &str| record["metadata"][field].as_str().unwrap_or("");
        let here = (kind, text("namespace"), text("name"));
        PLACES.iter().position(|place| *place == here).map(Self)
    }

    /// Path of the collection it is in.
    pub fn collection(self) -> String {
        self.kind().path(Some(self.space()).filter(|s| !s.is_empty()))
    }

    pub fn path(self) -> String {
        format!("{}/{}", self.collection(), self.name())
    }

    /// True when a record here can be an owner of one there: owners are looked for in the dependent's own namespace.
    pub fn can_own(self, dependent: Self) -> bool {
        self.space().is_empty() || self.space() == dependent.space()
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::Workspace => "Workspace",
        }
    }

    pub fn path(self, space: Option<&str>) -> String {
        let plural = format!("{}s", self.name().to_lowercase());
        match space {
            Some(space) => format!("{}/namespaces/{space}/{plural}", crate::support::api::GROUP),
            None => format!("{}/{plural}", crate::support::api::GROUP),
        }
    }

    /// The field with a free text, which may be missing unless it has a default.
    pub fn note(self) -> &'static str {
        match self {
            Self::User => "displayName",
            Self::Group => "description",
            Self::Workspace => "branch",
        }
    }

    /// A yes-or-no field that is `true` by default.
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::User => Some("active"),
            Self::Group => None,
            Self::Workspace => Some("running"),
        }
    }

    fn defaults(self) -> Value {
        match self {
            Self::User => json!({"role": "USER", "active": true}),
            Self::Group => json!({"members": []}),
            Self::Workspace => {
                json!({"branch": "main", "running": true, "visibility": "PRIVATE", "pinned": false, "kept": false, "wakeOnVisit": false})
            }
        }
    }

    /// Fills in what a spec leaves out.
    pub fn complete(self, spec: &mut Map<String, Value>) {
        let Value::Object(defaults) = self.defaults() else { return };
        for (field, value) in defaults {
            spec.entry(field).or_insert(value);
        }
    }

    /// A field that must be given.
    pub fn required(self) -> Option<&'static str> {
        match self {
            Self::User => Some("email"),
            Self::Group => None,
            Self::Workspace => Some("owner"),
        }
    }
}

/// Names somebody made up: no record has this uid.
pub const NOBODY: &str = "00000000-0000-4000-8000-000000000000";
pub const FINALIZERS: [&str; 2] = ["example.com/a", "example.com/b"];
pub const FOREGROUND: &str = "foregroundDeletion";
pub const IN_USE: &str = "devsanctum.io/in-use";
const USERS: [&str; 4] = ["ann", "bob", "boss", "cid"];

/// An incarnation of a record; what the server calls it is learned when it is made.
pub type Uid = usize;

#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    pub uid: Uid,
    pub slot: Slot,
    pub blocks: bool,
}

/// A record as it must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub uid: Uid,
    pub generation: i64,
    pub deleting: bool,
    pub labels: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
    pub owners: Vec<Owner>,
    pub spec: Map<String, Value>,
    /// `status.observedGeneration`: any number will do.
    pub status: Option<i64>,
    pub fields: super::fields::Managers,
    /// Nobody is told to own anything, nor anything the model does not follow: learned from the server.
    pub untracked: bool,
}

impl Record {
    /// Records it names.
    pub fn references(&self, kind: Kind) -> Vec<Slot> {
        let user = |v: &Value| USERS.iter().position(|u| v == u).map(Slot);
        match kind {
            Kind::User => Vec::new(),
            Kind::Group => self.spec["members"].as_array().into_iter().flatten().filter_map(|m| user(&m["user"])).collect(),
            Kind::Workspace => user(&self.spec["owner"]).into_iter().collect(),
        }
    }

    pub fn is_owned_by(&self, uid: Uid) -> bool {
        self.owners.iter().any(|o| o.uid == uid)
    }

    /// True when nobody else owns it.
    pub fn is_owned_only_by(&self, uid: Uid) -> bool {
        self.is_owned_by(uid) && self.owners.iter().all(|o| o.uid == uid)
    }
}

/// The spec a content asks for, before defaults.
pub fn spec(slot: Slot, content: &Content) -> Map<String, Value> {
    let kind = slot.kind();
    let link = match kind {
        Kind::User if content.link == 0 => json!({"email": "shared@example.com"}),
        Kind::User => json!({"email": format!("{}@example.com", slot.name())}),
        Kind::Group if content.link == 0 => json!({}),
        Kind::Group => json!({"members": [{"user": USERS[usize::from(content.link) % 4], "role": "MEMBER"}]}),
        Kind::Workspace => json!({"owner": USERS[usize::from(content.link) % 4]}),
    };
    let Value::Object(mut spec) = link else { unreachable!() };
    if let Some(note) = content.note {
        spec.insert(kind.note().into(), json!(format!("n{note}")));
    }
    if let (Some(flag), Some(field)) = (content.flag, kind.flag()) {
        spec.insert(field.into(), json!(flag));
    }
    if content.bad {
        spec.insert(kind.note().into(), json!(5));
    }
    spec
}

/// A value of the label `team`.
pub fn team(number: u8) -> &'static str {
    if number.is_multiple_of(2) { "x" } else { "y" }
}

pub fn labels(content: &Content) -> BTreeMap<String, String> {
    let team = content.team.map(|t| ("team".to_owned(), team(t).to_owned()));
    let tier = content.tier.then(|| ("tier".to_owned(), "1".to_owned()));
    team.into_iter().chain(tier).collect()
}

/// A body with what every body has.
pub fn body(slot: Slot) -> Value {
    let mut body = json!({"apiVersion": "devsanctum.io/v1", "kind": slot.kind().name(), "metadata": {"name": slot.name()}});
    if !slot.space().is_empty() {
        body["metadata"]["namespace"] = json!(slot.space());
    }
    body
}

impl Selector {
    /// Judges by itself what the server is asked to judge.
    pub fn admits(self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let label = |key: &str| labels.get(key).map(String::as_str);
        match self {
            Self::All => true,
            Self::TeamIs(x) => label("team") == Some(if x { "x" } else { "y" }),
            Self::TeamIsNot(x) => label("team") != Some(if x { "x" } else { "y" }),
            Self::HasTeam => label("team").is_some(),
            Self::NoTier => label("tier").is_none(),
            Self::Named(slot) => name == slot.name(),
        }
    }

    /// As a query, with `&` before it.
    pub fn query(self) -> String {
        match self {
            Self::All => String::new(),
            Self::TeamIs(x) => format!("&labelSelector=team%3D{}", if x { "x" } else { "y" }),
            Self::TeamIsNot(x) => format!("&labelSelector=team%21%3D{}", if x { "x" } else { "y" }),
            Self::HasTeam => "&labelSelector=team".into(),
            Self::NoTier => "&labelSelector=%21tier".into(),
            Self::Named(slot) => format!("&fieldSelector=metadata.name%3D{}", slot.name()),
        }
    }
}

/// The labels of a record as it was told.
pub fn told_labels(record: &Value) -> BTreeMap<String, String> {
    let labels = record["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned())).collect()
}
