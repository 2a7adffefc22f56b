//! Reads JSON with comments and with commas at ends, and nothing more lenient than that.

use super::{Fields, Refusal};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

/// Most bytes.
const MOST_BYTES: usize = 1 << 20;
/// Most levels of objects and arrays.
const MOST_LEVELS: usize = 32;

/// Reads a `devcontainer.json`.
///
/// # Errors
/// Says where it is no such JSON.
pub fn read(text: &str) -> Result<Fields, Refusal> {
    let refuse = |message: String| Err(Refusal::new(message, "a devcontainer.json is an object of JSON, comments allowed"));
    if text.len() > MOST_BYTES {
        return refuse(format!("is larger than {MOST_BYTES} bytes"));
    }
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    match parse_to_serde_value::<Value>(text.trim_start_matches('\u{feff}'), &options) {
        Ok(value) if levels(&value) > MOST_LEVELS => refuse(format!("is nested more than {MOST_LEVELS} levels deep")),
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => refuse("is no object".into()),
        Err(e) => refuse(format!("cannot be read: {e}")),
    }
}

/// The parser itself stops at 512 levels.
fn levels(value: &Value) -> usize {
    let deepest = match value {
        Value::Array(entries) => entries.iter().map(levels).max(),
        Value::Object(fields) => fields.values().map(levels).max(),
        _ => return 0,
    };
    1 + deepest.unwrap_or(0)
}
