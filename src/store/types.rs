//! What goes in and comes out of the store.

use super::SecretKeys;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// `workspaces.devsanctum.io`, `namespaces`, `leases.coordination.k8s.io`; both groups' events are `events`.
pub type KindId = &'static str;

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: KindId,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// False for a key no record can have. PostgreSQL takes no NUL in a text, and gives up a whole transaction over one
    /// that is only asked for.
    pub(super) fn is_possible(&self) -> bool {
        ![self.kind, &self.namespace, &self.name].iter().any(|text| text.contains('\0'))
    }
}

/// A record as stored. `body` is its JSON, `metadata.resourceVersion` included, ready to send.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it lies.
    pub key: Key,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its `metadata.resourceVersion`.
    pub revision: i64,
    /// Its JSON.
    pub body: Bytes,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Kind to list.
    pub kind: KindId,
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// At most this many.
    pub limit: Option<u32>,
    /// Start after this (namespace, name).
    pub after: Option<(String, String)>,
    /// Whether there are more is enough to know; not how many.
    pub uncounted: bool,
}

/// A page of records.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The records, ordered by namespace and name.
    pub items: Vec<Stored>,
    /// Revision at which the page was read.
    pub revision: i64,
    /// Records after this page; zero means it is the last.
    pub remaining: i64,
}

/// A record to write.
#[derive(Clone, Debug)]
pub struct Put {
    /// Where.
    pub key: Key,
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its JSON.
    pub body: Value,
    /// Uids of its owners.
    pub owners: Vec<String>,
    /// Records it refers to.
    pub references: Vec<Key>,
    /// Values it claims, as (scope, value).
    pub claims: Vec<(String, String)>,
    /// Tell watchers the state before, too: set when labels or selectable fields have changed.
    pub tell_previous: bool,
}

/// What happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One entry of the change feed.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeType,
    /// The record after the change; for a deletion, its last state under a new revision.
    pub record: Stored,
    /// The record before, where [`Put::tell_previous`] was set.
    pub previous: Option<Bytes>,
}

/// What a watch yields.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// A change of the kind watched.
    Change(Arc<Change>),
    /// Nothing of this kind has changed up to this revision; sent when other kinds moved on, for bookmarks.
    Position(i64),
}

/// What an observer is shown.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// The next change, of any kind.
    Change(&'a Change),
    /// Changes that will not be shown lie between the last one and the next.
    Gap,
}

/// Is shown each change, in order, before anybody is told that it is there. It must be quick, and may not use the store.
pub type Observer = Box<dyn Fn(Observed<'_>) + Send + Sync>;

/// Where and how to keep the records.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite:///path/file.db` or `postgres://…`.
    pub url: String,
    /// Keys that seal secrets.
    pub secret_keys: SecretKeys,
    /// Changes kept at least for resuming watches.
    pub keep_changes: u32,
}

// The address may hold a password.
impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreConfig({:?}, {} changes)", self.secret_keys, self.keep_changes)
    }
}

/// Key that seals secrets; never printed.
#[derive(Clone)]
pub struct SecretKey(pub [u8; 32]);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The change log does not reach back that far.
    #[error("revision {0} is too old: the change log has been compacted beyond it")]
    Expired(i64),
    /// Something was said that the database has no text for: PostgreSQL takes no NUL, not even in a question.
    #[error("what was sent holds a NUL character, which no name and no text here may hold: leave it out")]
    Nul,
    /// A value is claimed by another record.
    #[error("{scope} {value:?} is taken")]
    Claimed {
        /// Sort of value.
        scope: String,
        /// The value.
        value: String,
    },
    /// Something sealed cannot be opened.
    #[error("a secret cannot be opened: it is not what was sealed in its place; restore the database from a backup")]
    Sealed,
    /// Keys are wanted that were not given.
    #[error("{words}")]
    KeyMissing {
        /// Their ids; none for a key from the time before ids.
        wanted: Vec<String>,
        /// What is wanted, what is there, and what to do.
        words: String,
    },
    /// Keys cannot be read, written or changed.
    #[error("{0}")]
    Keys(String),
    /// The database's schema is newer than this program.
    #[error("the database was written by a newer version (schema {found}, this program knows {known}): install that version")]
    Newer {
        /// Version found.
        found: i64,
        /// Version known.
        known: i64,
    },
    /// A backup cannot be made or restored.
    #[error("{0}")]
    Backup(String),
    /// The database refused or is unreachable.
    #[error("database: {0}")]
    Database(String),
}
