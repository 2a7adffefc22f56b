//! Caps on any record from outside, checked before anything walks it.

use crate::resource::{FieldError, Problem};
use serde_json::Value;

/// Deepest nesting of objects and lists.
const MAX_DEPTH: usize = 64;
/// Most values in one record.
const MAX_VALUES: usize = 100_000;

/// Refuses a record that is too deep or too large, or holds a NUL character (no SQL text can).
pub(super) fn check(record: &Value) -> Result<(), FieldError> {
    let mut left = MAX_VALUES;
    walk(record, 0, &mut left).map_err(|detail| FieldError {
        path: String::new(),
        problem: Problem::Invalid,
        value: None,
        detail,
    })
}

fn walk(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("must not be nested deeper than {MAX_DEPTH} levels"));
    }
    *left = left.checked_sub(1).ok_or_else(|| format!("must not hold more than {MAX_VALUES} values"))?;
    match value {
        Value::String(text) => no_nul(text),
        Value::Array(list) => list.iter().try_for_each(|item| walk(item, depth + 1, left)),
        Value::Object(map) => map.iter().try_for_each(|(key, item)| {
            no_nul(key)?;
            walk(item, depth + 1, left)
        }),
        _ => Ok(()),
    }
}

fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("must not contain a NUL character".into()) } else { Ok(()) }
}
