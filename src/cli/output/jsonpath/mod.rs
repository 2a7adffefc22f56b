//! kubectl's JSONPath templates: text with `{…}` in it, `{range …}…{end}`, filters, slices and descent.
//!
//! kubectl's dialect is older than RFC 9535 and differs from it (braces, ranges, relaxed quoting), so a
//! library for the standard does not read it.

mod parse;

use serde_json::Value;

/// A template, ready to be filled in.
#[derive(Debug, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    All,
    Descend,
    Slice(Option<i64>, Option<i64>),
    Index(i64),
    Filter(Vec<Step>, Option<(Compare, Value)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Template {
    /// Reads a template. A bare path (`.metadata.name`) may leave out its braces.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let braced = text.contains('{');
        let text = if braced { text.to_owned() } else { format!("{{.{}}}", text.trim_start_matches(['.', '$'])) };
        let mut rest = text.as_str();
        let parts = parse::parts(&mut rest, false)?;
        Ok(Self(parts))
    }

    /// Fills the template in from a value. What is not there prints as nothing.
    ///
    /// # Errors
    /// Never for a template that was read; kept for templates that will one day demand a value.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        let mut out = String::new();
        fill(&self.0, value, &mut out);
        Ok(out)
    }

    /// The values a template of a single path finds.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self.0.as_slice() {
            [Part::Path(steps)] => walk(steps, value),
            _ => Vec::new(),
        }
    }
}

fn fill(parts: &[Part], here: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let found: Vec<String> = walk(steps, here).into_iter().map(shown).collect();
                out.push_str(&found.join(" "));
            }
            Part::Range(steps, inner) => walk(steps, here).into_iter().for_each(|v| fill(inner, v, out)),
        }
    }
}

/// Texts print bare, everything else as JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn walk<'v>(steps: &[Step], from: &'v Value) -> Vec<&'v Value> {
    let mut found = vec![from];
    for step in steps {
        found = found.into_iter().flat_map(|v| step.take(v)).collect();
    }
    found
}

impl Step {
    fn take<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::All => members(value),
            Self::Descend => descendants(value),
            Self::Index(i) => index(value, *i).into_iter().collect(),
            Self::Slice(from, to) => slice(value, *from, *to),
            Self::Filter(steps, test) => members(value).into_iter().filter(|v| passes(v, steps, test.as_ref())).collect(),
        }
    }
}

fn members(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(entries) => entries.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn descendants(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    members(value).into_iter().for_each(|v| all.extend(descendants(v)));
    all
}

fn index(value: &Value, i: i64) -> Option<&Value> {
    let entries = value.as_array()?;
    let i = if i < 0 { i + i64::try_from(entries.len()).ok()? } else { i };
    entries.get(usize::try_from(i).ok()?)
}

fn slice(value: &Value, from: Option<i64>, to: Option<i64>) -> Vec<&Value> {
    let Some(entries) = value.as_array() else { return Vec::new() };
    let len = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    let place = |i: i64| usize::try_from(if i < 0 { i + len } else { i }.clamp(0, len)).unwrap_or_default();
    let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(len)));
    entries.get(from..to).map(|s| s.iter().collect()).unwrap_or_default()
}

fn passes(value: &Value, steps: &[Step], test: Option<&(Compare, Value)>) -> bool {
    let found = walk(steps, value);
    let Some((compare, wanted)) = test else { return !found.is_empty() };
    found.into_iter().any(|v| compare.holds(v, wanted))
}

impl Compare {
    fn holds(self, left: &Value, right: &Value) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (a, b) => Some(shown(a).cmp(&shown(b))),
        };
        match self {
            Self::Equal => order == Some(Equal),
            Self::NotEqual => order != Some(Equal),
            Self::Less => order == Some(Less),
            Self::LessOrEqual => matches!(order, Some(Less | Equal)),
            Self::More => order == Some(Greater),
            Self::MoreOrEqual => matches!(order, Some(Greater | Equal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(template: &str) -> Result<String, String> {
        let value = json!({"items": [
            {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "n": 1, "conditions": [{"type": "Ready", "status": "True"}]},
            {"metadata": {"name": "b"}, "n": 2, "conditions": [{"type": "Ready", "status": "False"}, {"type": "Routed", "status": "True"}]},
        ]});
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn templates_are_filled_in_as_kubectl_does() {
        let cases = [
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1:].metadata.name}", "b"),
            ("{.items[-1].n}", "2"),
            ("{$.items[0:1].n}", "1"),
            (".items[0].n", "1"),
            ("items[0].n", "1"),
            ("{.items[0].metadata.labels.x\\.y/z}", "1"),
            ("{.items[0].metadata.labels['x.y/z']}", "1"),
            ("{range .items[*]}{.metadata.name}={.n}{\"\\n\"}{end}", "a=1\nb=2\n"),
            ("{.items[?(@.n>1)].metadata.name}", "b"),
            ("{.items[*].conditions[?(@.type==\"Ready\")].status}", "True False"),
            ("{.items[?(@.metadata.labels)].n}", "1"),
            ("{..name}", "a b"),
            ("n: {.items[1].n}!", "n: 2!"),
            ("{.items[0].metadata.labels}", "{\"x.y/z\":\"1\"}"),
            ("{.nothing.here}", ""),
            ("{.items[9]}", ""),
        ];
        for (template, expected) in cases {
            assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn wrong_templates_say_why() {
        for template in
            ["{.a", "{range .a}", "{end}", "{.a[}", "{.a[x]}", "{.a[?(b==1)]}", "{.a[?(@.b==c)]}", "{.a..}{'x}", "{a}"]
        {
            assert!(run(template).is_err(), "{template}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_template_makes_it_panic(text in "[-{}\\[\\].*?@()'\"\\\\:=<>a0 $,é]{0,40}") {
            let _ = run(&text);
        }
    }
}
