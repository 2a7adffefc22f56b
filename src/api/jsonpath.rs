//! The part of JSONPath that printer columns use: `.a.b`, `['a']`, `[0]`, `[-1]`, `[*]` and `[?(@.type=='Ready')]`.

use serde_json::Value;

/// A path such as `.status.conditions[?(@.type=='Ready')].status`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: JsonPath, equal: bool, value: Value },
}

const ALLOWED: &str = "allowed are '.name', '['name']', '[0]', '[*]' and '[?(@.name=='value')]'";

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// Says where it is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| format!("JSON path {text:?}: {why}; {ALLOWED}");
        let mut rest = text.trim();
        rest = rest.strip_prefix('{').and_then(|r| r.strip_suffix('}')).unwrap_or(rest);
        rest = rest.strip_prefix('$').unwrap_or(rest);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, left) = step(rest).map_err(refuse)?;
            steps.extend(step);
            rest = left;
        }
        Ok(Self(steps))
    }

    /// All values at the path, in order.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
        }
        found
    }

    /// The values at the path as kubectl prints them: text bare, everything else as JSON, several joined by a comma;
    /// `None` when there is nothing.
    pub fn print(&self, value: &Value) -> Option<String> {
        let found = self.find(value);
        let texts: Vec<String> = found.into_iter().filter(|v| !v.is_null()).map(printed).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    }
}

/// A value as kubectl prints it.
pub fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Step {
    fn take<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(index) => {
                let at = |list: &Vec<Value>| usize::try_from(if *index < 0 { *index + list.len() as i64 } else { *index }).ok();
                value.as_array().and_then(|list| list.get(at(list)?)).into_iter().collect()
            }
            Self::All => children(value),
            Self::Filter { path, equal, value: wanted } => {
                let fits = |child: &&Value| path.find(child).contains(&wanted) == *equal;
                children(value).into_iter().filter(fits).collect()
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

/// One step and what follows it.
fn step(text: &str) -> Result<(Option<Step>, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        return bracket(rest).map(|(step, rest)| (Some(step), rest));
    }
    let rest = text.strip_prefix('.').unwrap_or(text);
    if rest.starts_with('.') {
        return Err("'..' is not supported");
    }
    let mut name = String::new();
    let mut chars = rest.char_indices();
    let mut end = rest.len();
    while let Some((at, c)) = chars.next() {
        match c {
            // `\.` is a dot within a name, as in `.metadata.annotations.example\.com/x`.
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    let step = match name.as_str() {
        "" if rest.starts_with('[') => None,
        "" if rest.is_empty() => None,
        "" => return Err("a name is missing"),
        "*" => Some(Step::All),
        _ => Some(Step::Field(name)),
    };
    Ok((step, &rest[end..]))
}

/// What stands after `[`.
fn bracket(text: &str) -> Result<(Step, &str), &'static str> {
    let end = closing(text).ok_or("'[' is not closed")?;
    let (inner, rest) = (text[..end].trim(), &text[end + 1..]);
    let step = if inner == "*" {
        Step::All
    } else if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        self::filter(filter)?
    } else if let Some(name) = quoted(inner) {
        Step::Field(name.to_owned())
    } else {
        Step::Index(inner.parse().map_err(|_| "'[' must hold a number, '*', a quoted name or a filter")?)
    };
    Ok((step, rest))
}

/// Where the `]` is that closes a bracket; quoted text is passed over.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    let quote = chars.next().filter(|c| *c == '\'' || *c == '"')?;
    chars.as_str().strip_suffix(quote)
}

/// `@.type=='Ready'`.
fn filter(text: &str) -> Result<Step, &'static str> {
    let wrong = "a filter compares '@.name' with a value by '==' or '!='";
    let (at, equal) = match (text.find("=="), text.find("!=")) {
        (Some(at), other) if other.is_none_or(|o| at < o) => (at, true),
        (_, Some(at)) => (at, false),
        _ => return Err(wrong),
    };
    let path = text[..at].trim().strip_prefix('@').ok_or(wrong)?;
    // A filter within a filter would let a path nest without end.
    if path.contains('?') {
        return Err("a filter within a filter is not supported");
    }
    let path = JsonPath::parse(path).map_err(|_| wrong)?;
    let value = text[at + 2..].trim();
    let value = match quoted(value) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(value).map_err(|_| wrong)?,
    };
    Ok(Step::Filter { path, equal, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::kinds;
    use proptest::prelude::*;
    use serde_json::json;

    fn print(path: &str) -> Option<String> {
        let value = json!({"a": {"b": "x", "n": 3, "f": true, "c.d/e": "dotted"}, "list": [{"t": "A", "s": "1"}, {"t": "B", "s": "2"}],
            "null": null, "words": ["p", "q"]});
        JsonPath::parse(path).unwrap().print(&value)
    }

    #[test]
    fn paths_are_read_as_printer_columns_write_them() {
        for (path, expected) in [
            (".a.b", Some("x")),
            ("{.a.b}", Some("x")),
            ("$.a.b", Some("x")),
            (".a.n", Some("3")),
            (".a.f", Some("true")),
            (".a['c.d/e']", Some("dotted")),
            (".a.c\\.d/e", Some("dotted")),
            (".list[0].s", Some("1")),
            (".list[-1].s", Some("2")),
            (".list[9].s", None),
            (".list[-9].s", None),
            (".list[*].s", Some("1,2")),
            (".list[?(@.t=='B')].s", Some("2")),
            (".list[?(@.t == \"A\")].s", Some("1")),
            (".list[?(@.t!='A')].s", Some("2")),
            (".list[?(@.t=='C')].s", None),
            (".null", None),
            (".nope.x", None),
            (".words", Some("[\"p\",\"q\"]")),
            (".list[0]", Some("{\"s\":\"1\",\"t\":\"A\"}")),
        ] {
            assert_eq!(print(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_supported_is_said() {
        for bad in ["..a", ".a[", ".a[x]", ".a[?(x)]", ".a[?(@.b)]", ".a.", ".a[?(@.b[?(@.c=='d')]=='e')]"] {
            match JsonPath::parse(bad) {
                Err(error) => assert!(error.contains("allowed are"), "{error}"),
                Ok(path) => assert_eq!(bad, ".a.", "{path:?}"),
            }
        }
    }

    #[test]
    fn every_column_of_every_kind_can_be_read() {
        for column in kinds().iter().flat_map(|k| &k.columns) {
            JsonPath::parse(&column.json_path).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_can_make_it_panic(text in "[.\\[\\]a*?()@='\"0-9!\\\\é-]{0,24}") {
            let _ = JsonPath::parse(&text).map(|path| path.print(&json!({"a": [{"a": 1}, "é"]})));
        }
    }
}
