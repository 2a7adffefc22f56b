//! What an unquoted YAML scalar means: the YAML 1.2 core schema, less what could be read in two ways.

use serde_json::{Number, Value};

/// Reads an unquoted scalar.
///
/// # Errors
/// For a number that JSON cannot carry, or that YAML 1.1 and 1.2 readers take for different numbers.
pub fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("the number {text} cannot be sent as JSON; quote it if it is meant as text"));
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(Value::String(text.to_owned()));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return based(text, digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return based(text, digits, 8);
    }
    if unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return integer(text, unsigned);
    }
    Ok(float(text).unwrap_or_else(|| Value::String(text.to_owned())))
}

fn integer(text: &str, digits: &str) -> Result<Value, String> {
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(format!(
            "{text} is octal to some YAML readers and decimal to others; quote it as text, or write the number without the leading 0"
        ));
    }
    let plain = text.trim_start_matches('+');
    let number = plain.parse::<i64>().map(Number::from).or_else(|_| plain.parse::<u64>().map(Number::from));
    number.map(Value::Number).map_err(|_| format!("the number {text} needs more than 64 bits; quote it if it is meant as text"))
}

fn based(text: &str, digits: &str, radix: u32) -> Result<Value, String> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Ok(Value::String(text.to_owned()));
    }
    let number = u64::from_str_radix(digits, radix);
    number.map(Value::from).map_err(|_| format!("the number {text} needs more than 64 bits; quote it if it is meant as text"))
}

/// A float of the core schema: digits with a point or an exponent, nothing else that Rust would take.
fn float(text: &str) -> Option<Value> {
    let shape = |b: u8| b.is_ascii_digit() || b".eE+-".contains(&b);
    if !text.bytes().all(shape) || !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = text.parse::<f64>().ok()?;
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_follow_the_core_schema() {
        let cases = [
            ("", json!(null)),
            ("~", json!(null)),
            ("True", json!(true)),
            ("yes", json!("yes")),
            ("no", json!("no")),
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("+3", json!(3)),
            ("0", json!(0)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("1.2.3", json!("1.2.3")),
            ("12:30", json!("12:30")),
            ("0xZZ", json!("0xZZ")),
            ("2026-01-01", json!("2026-01-01")),
            ("18446744073709551615", json!(u64::MAX)),
            ("-", json!("-")),
            ("inf", json!("inf")),
            (".", json!(".")),
        ];
        for (text, value) in cases {
            assert_eq!(plain(text), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn numbers_that_readers_disagree_on_are_refused() {
        for text in ["0755", "-007", ".inf", "-.INF", ".nan", "18446744073709551616", "0xFFFFFFFFFFFFFFFFF"] {
            assert!(plain(text).is_err(), "{text:?}");
        }
    }
}
