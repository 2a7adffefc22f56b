//! Templates from their text.

use super::{Compare, Part, Step};
use serde_json::Value;

/// Reads text and `{…}` up to the end, or to `{end}` inside a range.
pub fn parts(rest: &mut &str, inside: bool) -> Result<Vec<Part>, String> {
    let mut found = Vec::new();
    while let Some(open) = rest.find('{') {
        if open > 0 {
            found.push(Part::Text(rest[..open].to_owned()));
        }
        *rest = &rest[open + 1..];
        let close = closing(rest, '}').ok_or("a '{' has no '}'")?;
        let inner = rest[..close].trim();
        *rest = &rest[close + 1..];
        if inner == "end" {
            return if inside { Ok(found) } else { Err("{end} without {range}".into()) };
        }
        found.push(match inner.strip_prefix("range ") {
            Some(path) => Part::Range(steps(path.trim())?, parts(rest, true)?),
            None if inner.starts_with(['"', '\'']) => Part::Text(literal(inner)?),
            None => Part::Path(steps(inner)?),
        });
    }
    if inside {
        return Err("{range} without {end}".into());
    }
    if !rest.is_empty() {
        found.push(Part::Text(std::mem::take(rest).to_owned()));
    }
    Ok(found)
}

/// Where a bracket closes, quoted text left aside.
fn closing(text: &str, close: char) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == close => return Some(i),
            None => {}
        }
    }
    None
}

fn literal(text: &str) -> Result<String, String> {
    let quote = text.chars().next().unwrap_or('"');
    let inner = text[1..].strip_suffix(quote).filter(|_| text.len() >= 2).ok_or(format!("{text} has no closing quote"))?;
    Ok(inner.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"").replace("\\'", "'"))
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut rest = text.trim_start_matches(['$', '@']);
    let mut found = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            found.push(Step::Descend);
            rest = after;
            if rest.starts_with('[') {
                continue;
            }
        } else if let Some(after) = rest.strip_prefix('[') {
            let close = closing(after, ']').ok_or(format!("a '[' in {text} has no ']'"))?;
            found.push(bracket(after[..close].trim())?);
            rest = &after[close + 1..];
            continue;
        } else {
            rest = rest.strip_prefix('.').ok_or(format!("a path starts with '.' or '[' (found {rest})"))?;
        }
        let (name, after) = field(rest);
        match name.as_str() {
            "" if after.is_empty() || after.starts_with('[') => {}
            "" => return Err(format!("a field name is missing in {text}")),
            "*" => found.push(Step::All),
            _ => found.push(Step::Field(name)),
        }
        rest = after;
    }
    Ok(found)
}

/// Reads a field name; `\.` stands for a dot in it, as in `.metadata.labels.a\.b/c`.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

fn bracket(inner: &str) -> Result<Step, String> {
    if inner == "*" {
        return Ok(Step::All);
    }
    if inner.starts_with(['"', '\'']) {
        return literal(inner).map(Step::Field);
    }
    if let Some(test) = inner.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filter(test.trim());
    }
    let number = |t: &str| if t.is_empty() { Ok(None) } else { t.parse().map(Some) };
    let wrong = |_: std::num::ParseIntError| format!("[{inner}]: must be a number, a slice, *, a quoted name or ?(…)");
    match inner.split_once(':') {
        Some((from, to)) => Ok(Step::Slice(number(from).map_err(wrong)?, number(to).map_err(wrong)?)),
        None => inner.parse().map(Step::Index).map_err(wrong),
    }
}

fn filter(test: &str) -> Result<Step, String> {
    const SIGNS: [(&str, Compare); 6] = [
        ("==", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<=", Compare::LessOrEqual),
        (">=", Compare::MoreOrEqual),
        ("<", Compare::Less),
        (">", Compare::More),
    ];
    if !test.starts_with('@') {
        return Err(format!("?({test}): must start with '@', as in ?(@.type==\"Ready\")"));
    }
    let Some((sign, compare)) = SIGNS.iter().find(|(sign, _)| test.contains(sign)) else {
        return Ok(Step::Filter(steps(test)?, None));
    };
    let (path, value) = test.split_once(sign).unwrap_or((test, ""));
    let value = value.trim();
    let value = if value.starts_with(['"', '\'']) {
        Value::String(literal(value)?)
    } else {
        serde_json::from_str(value).map_err(|_| format!("{value} must be a number, true, false or in quotes"))?
    };
    Ok(Step::Filter(steps(path.trim())?, Some((*compare, value))))
}
