//! Rows to records.

use super::{Change, ChangeType, Key, KindId, Stored};
use bytes::Bytes;
use sqlx::any::AnyRow;
use sqlx::{Error, Row};
use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

/// Columns that [`stored`] reads.
pub(super) const RECORD: &str = "uid, kind, namespace, name, revision, body";
/// Columns that [`change`] reads.
pub(super) const CHANGE: &str = "uid, kind, namespace, name, revision, body, type, previous";

/// Reads a record from a row with the columns of [`RECORD`].
pub(super) fn stored(row: &AnyRow) -> Result<Stored, Error> {
    let text = |column| row.try_get::<&str, _>(column);
    let key = Key { kind: kind_id(text(1)?), namespace: text(2)?.into(), name: text(3)?.into() };
    let body = Bytes::copy_from_slice(text(5)?.as_bytes());
    Ok(Stored { key, uid: text(0)?.into(), revision: row.try_get(4)?, body })
}

/// Reads a change from a row with the columns of [`CHANGE`].
pub(super) fn change(row: &AnyRow) -> Result<Change, Error> {
    let kind = match row.try_get::<&str, _>(6)? {
        "ADDED" => ChangeType::Added,
        "MODIFIED" => ChangeType::Modified,
        "DELETED" => ChangeType::Deleted,
        other => return Err(Error::Decode(format!("unknown type of change {other:?}").into())),
    };
    let previous = row.try_get::<Option<String>, _>(7)?.map(Bytes::from);
    Ok(Change { kind, record: stored(row)?, previous })
}

/// A change's type as the table spells it.
pub(super) fn type_name(kind: ChangeType) -> &'static str {
    match kind {
        ChangeType::Added => "ADDED",
        ChangeType::Modified => "MODIFIED",
        ChangeType::Deleted => "DELETED",
    }
}

/// The static name of a kind. Kinds are few and come from this program's own tables, so a name seen for the
/// first time is kept for good.
pub(super) fn kind_id(name: &str) -> KindId {
    static KNOWN: RwLock<BTreeSet<&'static str>> = RwLock::new(BTreeSet::new());
    if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return known;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    known.insert(kept);
    kept
}
