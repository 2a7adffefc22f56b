//! Caps on any record from outside, checked before anything walks it.

use crate::resource::{FieldError, Problem};
use serde_json::Value;

/// Deepest nesting of objects and lists.
const MAX_DEPTH: usize = 64;
/// Most values in one record.
const MAX_VALUES: usize = 100_000;

/// Most values in `metadata.managedFields`. The server writes them itself, so they are counted apart: who owns what must
/// not use up the room for what is owned.
const MAX_OWNED: usize = 300_000;

/// Refuses a record that is too deep or too large, or holds a NUL character (no SQL text can).
pub(super) fn check(record: &Value) -> Result<(), FieldError> {
    let mut left = MAX_VALUES.saturating_add(owned(record, |_| 0));
    walk(record, 0, &mut left).map_err(|detail| invalid("", detail))?;
    match nul_in(record) {
        Some(path) => Err(invalid(path.trim_start_matches('.'), "must not contain a NUL character".into())),
        None => Ok(()),
    }
}

/// Refuses a write after which managers own more than may be kept. One that takes nothing more is let through, so that
/// a record at the limit can still be written.
///
/// # Errors
/// Says what to do.
pub fn check_owned(old: Option<&Value>, new: &Value) -> Result<(), FieldError> {
    // A name is as long as its writer likes.
    let weight = |record: &Value| owned(record, |key| key.len() / 64);
    let after = weight(new);
    if after <= MAX_OWNED || old.is_some_and(|old| after <= weight(old)) {
        return Ok(());
    }
    let why = "the managers of this record's fields are too many: write under the names they have, or forget all of them by \
               setting metadata.managedFields to [{}]";
    Err(invalid(
        "metadata.managedFields",
        format!("must not hold more than {MAX_OWNED} values, long names counting as several: {why}"),
    ))
}

/// Values in `metadata.managedFields`, and what their keys add to that.
fn owned(record: &Value, key: fn(&str) -> usize) -> usize {
    fn count(value: &Value, room: usize, key: fn(&str) -> usize) -> usize {
        let Some(room) = room.checked_sub(1) else { return 1 };
        match value {
            Value::Array(list) => 1 + list.iter().map(|item| count(item, room, key)).sum::<usize>(),
            Value::Object(map) => 1 + map.iter().map(|(k, item)| key(k) + count(item, room, key)).sum::<usize>(),
            _ => 1,
        }
    }
    record.get("metadata").and_then(|m| m.get("managedFields")).map_or(0, |list| count(list, MAX_DEPTH, key))
}

fn invalid(path: &str, detail: String) -> FieldError {
    FieldError { path: path.into(), problem: Problem::Invalid, value: None, detail }
}

fn walk(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("must not be nested deeper than {MAX_DEPTH} levels"));
    }
    *left = left.checked_sub(1).ok_or_else(|| format!("must not hold more than {MAX_VALUES} values"))?;
    match value {
        Value::Array(list) => list.iter().try_for_each(|item| walk(item, depth + 1, left)),
        Value::Object(map) => map.values().try_for_each(|item| walk(item, depth + 1, left)),
        _ => Ok(()),
    }
}

/// Where a NUL character is, from the value on; of a key with one, where the object is.
fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(list) => list.iter().enumerate().find_map(|(i, item)| Some(format!("[{i}]{}", nul_in(item)?))),
        Value::Object(map) => {
            map.iter().find_map(
                |(key, item)| {
                    if key.contains('\0') { Some(String::new()) } else { Some(format!(".{key}{}", nul_in(item)?)) }
                },
            )
        }
        _ => None,
    }
}
