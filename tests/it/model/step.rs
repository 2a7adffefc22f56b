//! What can be asked of the API, and how it is chosen. Steps do not depend on what is there: the model says what
//! each must lead to, so that any part of a sequence is a sequence.

use super::record::{KINDS, Kind, SLOTS, SPACES, Slot};
use proptest::prelude::*;
use proptest::sample::select;

/// What a body says.
#[derive(Clone, Debug)]
pub struct Content {
    pub note: Option<u8>,
    pub flag: Option<bool>,
    pub link: u8,
    pub team: Option<u8>,
    pub tier: bool,
    /// Bits into [`super::record::FINALIZERS`].
    pub finalizers: u8,
    /// Owners, and whether their deletion waits for this record.
    pub owners: Vec<(Slot, bool)>,
    /// Breaks the schema.
    pub bad: bool,
}

/// The `resourceVersion` a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Missing,
    Current,
    Stale,
}

/// The uid a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Missing,
    Right,
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Unsaid,
    Background,
    Foreground,
    Orphan,
}

/// One change to a record, for both patch formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Note(Option<u8>),
    Flag(bool),
    Team(Option<u8>),
    /// Takes out what must be there.
    NoLink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    All,
    TeamIs(bool),
    TeamIsNot(bool),
    HasTeam,
    NoTier,
    Named(Slot),
}

/// What a list or a watch is about.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    pub kind: Kind,
    pub space: Option<&'static str>,
    pub selector: Selector,
}

#[derive(Clone, Debug)]
pub enum Step {
    Create {
        at: Slot,
        content: Content,
        dry: bool,
    },
    Get {
        at: Slot,
    },
    List {
        scope: Scope,
        limit: usize,
    },
    Update {
        at: Slot,
        content: Content,
        version: Version,
        identity: Identity,
        manager: u8,
        dry: bool,
    },
    Merge {
        at: Slot,
        edit: Edit,
        version: Version,
        manager: u8,
        dry: bool,
    },
    /// The operations stand behind a `test` of the note.
    JsonPatch {
        at: Slot,
        edit: Edit,
        test: Option<u8>,
        manager: u8,
        dry: bool,
    },
    Apply {
        at: Slot,
        content: Content,
        version: Version,
        manager: u8,
        force: bool,
        dry: bool,
    },
    /// `patch`: as a merge patch, else as an update. `meddle`: the body changes more than the status.
    Status {
        at: Slot,
        value: u8,
        version: Version,
        patch: bool,
        meddle: bool,
    },
    /// `system`: also takes off what the server put there.
    Finalizers {
        at: Slot,
        bits: u8,
        system: bool,
    },
    Owners {
        at: Slot,
        owners: Vec<(Slot, bool)>,
    },
    Delete {
        at: Slot,
        policy: Policy,
        version: Version,
        identity: Identity,
        dry: bool,
    },
    DeleteAll {
        scope: Scope,
        dry: bool,
    },
    /// `stream`: the list comes through the watch.
    Open {
        watcher: usize,
        scope: Scope,
        stream: bool,
    },
    /// Hangs up, whatever has not been read.
    Cut {
        watcher: usize,
    },
    /// Goes on from the last version read, after a cut where it is not cut already.
    Reconnect {
        watcher: usize,
    },
    /// Reads what there is.
    Read {
        watcher: usize,
    },
}

impl Step {
    /// Only asked what would be.
    pub fn is_dry(&self) -> bool {
        match self {
            Self::Create { dry, .. } | Self::Update { dry, .. } | Self::Merge { dry, .. } => *dry,
            Self::JsonPatch { dry, .. } | Self::Apply { dry, .. } => *dry,
            Self::Delete { dry, .. } | Self::DeleteAll { dry, .. } => *dry,
            _ => false,
        }
    }

    /// The record it writes, where it is one.
    pub fn target(&self) -> Option<Slot> {
        match self {
            Self::Create { at, .. } | Self::Update { at, .. } | Self::Merge { at, .. } | Self::JsonPatch { at, .. } => Some(*at),
            Self::Apply { at, .. } | Self::Status { at, .. } | Self::Finalizers { at, .. } => Some(*at),
            Self::Owners { at, .. } | Self::Delete { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// What is counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { dry: false, .. } => "create",
            Self::Update { dry: false, .. } => "update",
            Self::Merge { dry: false, .. } => "merge patch",
            Self::JsonPatch { dry: false, .. } => "JSON patch",
            Self::Apply { dry: false, force: false, .. } => "apply",
            Self::Apply { dry: false, force: true, .. } => "apply, forced",
            Self::Delete { dry: false, .. } => "delete",
            Self::DeleteAll { dry: false, .. } => "delete collection",
            Self::Create { .. } => "dry create",
            Self::Update { .. } | Self::Merge { .. } | Self::JsonPatch { .. } => "dry change",
            Self::Apply { .. } => "dry apply",
            Self::Delete { .. } | Self::DeleteAll { .. } => "dry delete",
            Self::Get { .. } => "get",
            Self::List { .. } => "list",
            Self::Status { .. } => "status",
            Self::Finalizers { .. } => "finalizers",
            Self::Owners { .. } => "owners",
            Self::Open { .. } => "watch",
            Self::Cut { .. } => "cut",
            Self::Reconnect { .. } => "reconnect",
            Self::Read { .. } => "read",
        }
    }
}

/// Watches open at a time.
pub const WATCHERS: usize = 4;

fn slot() -> impl Strategy<Value = Slot> {
    select(&SLOTS[..]).prop_map(Slot)
}

fn owners() -> impl Strategy<Value = Vec<(Slot, bool)>> {
    prop::collection::vec((slot(), prop::bool::weighted(0.7)), 0..3).prop_map(|mut owners| {
        owners.dedup_by_key(|(slot, _)| *slot);
        owners
    })
}

fn content() -> impl Strategy<Value = Content> {
    let some_owners = prop_oneof![2 => Just(Vec::new()), 1 => owners()];
    let finalizers = prop_oneof![3 => Just(0), 1 => 0..4u8];
    let parts = (prop::option::of(0..3u8), prop::option::of(any::<bool>()), 0..4u8, prop::option::of(0..2u8), any::<bool>());
    (parts, finalizers, some_owners, prop::bool::weighted(0.03)).prop_map(
        |((note, flag, link, team, tier), finalizers, owners, bad)| Content {
            note,
            flag,
            link,
            team,
            tier,
            finalizers,
            owners,
            bad,
        },
    )
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![2 => Just(Version::Missing), 3 => Just(Version::Current), 1 => Just(Version::Stale)]
}

/// An update must name its version, so here it mostly does.
fn update_version() -> impl Strategy<Value = Version> {
    prop_oneof![1 => Just(Version::Missing), 8 => Just(Version::Current), 2 => Just(Version::Stale)]
}

fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![6 => Just(Identity::Missing), 2 => Just(Identity::Right), 1 => Just(Identity::Wrong)]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        2 => Just(Policy::Unsaid),
        1 => Just(Policy::Background),
        3 => Just(Policy::Foreground),
        1 => Just(Policy::Orphan),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => prop::option::of(0..3u8).prop_map(Edit::Note),
        2 => any::<bool>().prop_map(Edit::Flag),
        3 => prop::option::of(0..2u8).prop_map(Edit::Team),
        1 => Just(Edit::NoLink),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    let selector = prop_oneof![
        3 => Just(Selector::All),
        2 => any::<bool>().prop_map(Selector::TeamIs),
        1 => any::<bool>().prop_map(Selector::TeamIsNot),
        1 => Just(Selector::HasTeam),
        1 => Just(Selector::NoTier),
        1 => slot().prop_map(Selector::Named),
    ];
    (select(&KINDS[..]), prop::option::of(select(&SPACES[..])), selector).prop_map(|(kind, space, selector)| Scope {
        kind,
        space: space.filter(|_| kind == Kind::Workspace),
        selector,
    })
}

fn dry() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.08)
}

/// A step; those that fill the world weigh as much as those that empty it.
pub fn step() -> impl Strategy<Value = Step> {
    let manager = || 0..2u8;
    let writes = prop_oneof![
        10 => (slot(), content(), dry()).prop_map(|(at, content, dry)| Step::Create { at, content, dry }),
        6 => (slot(), content(), update_version(), identity(), manager(), dry()).prop_map(
            |(at, content, version, identity, manager, dry)| Step::Update { at, content, version, identity, manager, dry }),
        5 => (slot(), edit(), version(), manager(), dry())
            .prop_map(|(at, edit, version, manager, dry)| Step::Merge { at, edit, version, manager, dry }),
        3 => (slot(), edit(), prop::option::of(0..3u8), manager(), dry())
            .prop_map(|(at, edit, test, manager, dry)| Step::JsonPatch { at, edit, test, manager, dry }),
        6 => (slot(), content(), version(), manager(), prop::bool::weighted(0.3), dry()).prop_map(
            |(at, content, version, manager, force, dry)| Step::Apply { at, content, version, manager, force, dry }),
        4 => (slot(), 1..4u8, update_version(), any::<bool>(), any::<bool>())
            .prop_map(|(at, value, version, patch, meddle)| Step::Status { at, value, version, patch, meddle }),
    ];
    let deletes = prop_oneof![
        8 => (slot(), prop_oneof![3 => Just(0), 1 => 1..4u8], prop::bool::weighted(0.2))
            .prop_map(|(at, bits, system)| Step::Finalizers { at, bits, system }),
        6 => (slot(), owners()).prop_map(|(at, owners)| Step::Owners { at, owners }),
        10 => (slot(), policy(), version(), identity(), dry())
            .prop_map(|(at, policy, version, identity, dry)| Step::Delete { at, policy, version, identity, dry }),
        1 => (scope(), dry()).prop_map(|(scope, dry)| Step::DeleteAll { scope, dry }),
    ];
    let reads = prop_oneof![
        2 => slot().prop_map(|at| Step::Get { at }),
        4 => (scope(), 0..4usize).prop_map(|(scope, limit)| Step::List { scope, limit }),
        2 => (0..WATCHERS, scope(), any::<bool>())
            .prop_map(|(watcher, scope, stream)| Step::Open { watcher, scope, stream }),
        1 => (0..WATCHERS).prop_map(|watcher| Step::Cut { watcher }),
        5 => (0..WATCHERS).prop_map(|watcher| Step::Reconnect { watcher }),
        5 => (0..WATCHERS).prop_map(|watcher| Step::Read { watcher }),
    ];
    prop_oneof![34 => writes, 14 => deletes, 14 => reads]
}
