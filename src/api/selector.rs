//! Label and field selectors of list, watch and delete-collection requests.

use super::schema::{label_value, qualified_name};
use crate::resource::KindDef;
use serde_json::Value;
use std::collections::BTreeSet;

/// A selector longer than this is refused; it cannot be an honest one.
const MAX_LENGTH: usize = 16 * 1024;

const LABEL_HELP: &str = "a label selector is a list such as 'app=web,tier!=db,env in (test,prod),zone notin (a),owned,!old'";

#[derive(Clone, Debug, PartialEq)]
enum Demand {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}

/// Which records a request is about, by their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector(Vec<(String, Demand)>);

impl LabelSelector {
    /// Reads a selector such as `app=web,tier in (a,b),!old`; empty text selects everything.
    ///
    /// # Errors
    /// Says where the text is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: String| format!("unable to parse requirement in labelSelector {:?}: {why}; {LABEL_HELP}", cut(text));
        if text.len() > MAX_LENGTH {
            return Err(refuse(format!("longer than {MAX_LENGTH} bytes")));
        }
        let parts = split(text).map_err(refuse)?;
        parts.into_iter().map(requirement).collect::<Result<_, _>>().map(Self).map_err(refuse)
    }

    /// True when the selector lets everything through.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True for a record the selector names.
    pub fn matches(&self, record: &Value) -> bool {
        let labels = record.get("metadata").and_then(|m| m.get("labels"));
        self.0.iter().all(|(key, demand)| {
            let label = labels.and_then(|l| l.get(key)).and_then(Value::as_str);
            match demand {
                Demand::In(values) => label.is_some_and(|label| values.contains(label)),
                // As in Kubernetes, a record without the label is "not in" too.
                Demand::NotIn(values) => label.is_none_or(|label| !values.contains(label)),
                Demand::Exists => label.is_some(),
                Demand::Absent => label.is_none(),
            }
        })
    }
}

/// Hostile text must not flood the message.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' if inside => return Err("'(' within a list".into()),
            '(' => inside = true,
            ')' if !inside => return Err("')' without '('".into()),
            ')' => inside = false,
            ',' if !inside => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("'(' without ')'".into());
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    } else if !parts.is_empty() {
        return Err("nothing stands after the last ','".into());
    }
    Ok(parts)
}

fn requirement(part: &str) -> Result<(String, Demand), String> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok((key_of(key)?, Demand::Absent));
    }
    if let Some((key, equal, value)) = comparison(part) {
        let values = BTreeSet::from([value_of(value)?]);
        return Ok((key_of(key)?, if equal { Demand::In(values) } else { Demand::NotIn(values) }));
    }
    let Some((head, list)) = part.split_once('(') else {
        return match part.split_whitespace().collect::<Vec<_>>()[..] {
            [key] => Ok((key_of(key)?, Demand::Exists)),
            _ => Err(format!("{part:?} has no operator: one of '=', '==', '!=', 'in', 'notin' is allowed")),
        };
    };
    let Some(list) = list.strip_suffix(')') else { return Err(format!("{part:?} goes on after ')'")) };
    let values = list.split(',').map(|value| value_of(value.trim())).collect::<Result<_, _>>()?;
    match head.split_whitespace().collect::<Vec<_>>()[..] {
        [key, "in"] => Ok((key_of(key)?, Demand::In(values))),
        [key, "notin"] => Ok((key_of(key)?, Demand::NotIn(values))),
        _ => Err(format!("{:?} stands before '(': must be a key and 'in' or 'notin'", head.trim())),
    }
}

/// Takes `a=b`, `a==b` and `a!=b` apart; `true` means equal.
fn comparison(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.find('=').filter(|at| part.find('(').is_none_or(|list| *at < list))?;
    let (head, value) = (&part[..at], &part[at + 1..]);
    match head.strip_suffix('!') {
        Some(key) => Some((key.trim(), false, value.trim())),
        None => Some((head.trim(), true, value.strip_prefix('=').unwrap_or(value).trim())),
    }
}

fn key_of(key: &str) -> Result<String, String> {
    let key = key.trim();
    qualified_name(key).map_err(|allowed| format!("key {key:?} {allowed}"))?;
    Ok(key.to_owned())
}

fn value_of(value: &str) -> Result<String, String> {
    label_value(value).map_err(|allowed| format!("value {value:?} {allowed}"))?;
    Ok(value.to_owned())
}

/// Which records a request is about, by some of their fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// Reads a selector such as `metadata.name=x,status.phase!=RUNNING` over the fields `def` allows.
    ///
    /// # Errors
    /// Says where the text is wrong, or which fields are supported.
    pub fn parse(text: &str, def: &KindDef) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("fieldSelector is longer than {MAX_LENGTH} bytes"));
        }
        let parts = pieces(text);
        let terms = parts.iter().filter(|part| !part.is_empty()).map(|part| term(part, def));
        terms.collect::<Result<_, _>>().map(Self)
    }

    /// True when the selector lets everything through.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value a field must have, when the selector asks for just one; lets a list become a read of one record.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, equal, _)| name == field && *equal).map(|(_, _, value)| value.as_str())
    }

    /// True for a record the selector names. A field that is not there is empty, as in Kubernetes.
    pub fn matches(&self, record: &Value) -> bool {
        self.0.iter().all(|(field, equal, wanted)| {
            let value = field.split('.').try_fold(record, |value, key| value.get(key));
            let same = match value {
                None | Some(Value::Null) => wanted.is_empty(),
                Some(Value::String(text)) => text == wanted,
                Some(other) => serde_json::to_string(other).is_ok_and(|text| text == *wanted),
            };
            same == *equal
        })
    }
}

/// Splits at commas that no `\` protects.
fn pieces(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            ',' if !escaped => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => escaped = c == '\\' && !escaped,
        }
    }
    found.push(&text[start..]);
    found
}

fn term(part: &str, def: &KindDef) -> Result<(String, bool, String), String> {
    let refuse = |why: &str| {
        let help = "a field selector is a list such as 'metadata.name=x,status.phase!=RUNNING'";
        format!("invalid field selector {:?}: {why}; {help}", cut(part))
    };
    let Some((head, value)) = part.split_once('=') else {
        return Err(refuse("it has no operator: one of '=', '==', '!=' is allowed"));
    };
    let (field, equal) = head.strip_suffix('!').map_or((head, true), |field| (field, false));
    let value = if equal { value.strip_prefix('=').unwrap_or(value) } else { value };
    let field = field.trim();
    let mut supported: Vec<&str> = vec!["metadata.name", "metadata.namespace"];
    supported.extend(def.selectable.iter().map(String::as_str));
    if !supported.contains(&field) {
        let field = cut(field);
        return Err(format!("field label not supported: {field:?}; supported for {}: {}", def.kind, supported.join(", ")));
    }
    Ok((field.to_owned(), equal, unescape(value).ok_or_else(|| refuse("'\\' may stand before '\\', ',' and '=' only"))?))
}

/// Undoes `\\`, `\,` and `\=`.
fn unescape(value: &str) -> Option<String> {
    let (mut text, mut chars) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => chars.next().filter(|c| "\\,=".contains(*c))?,
            c => c,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::kind;
    use proptest::prelude::*;
    use serde_json::json;

    fn labelled(labels: Value) -> Value {
        json!({"metadata": {"name": "w", "namespace": "p", "labels": labels}})
    }

    #[test]
    fn every_operator_selects_as_in_kubernetes() {
        let record = labelled(json!({"app": "web", "tier": "", "a.b/c": "1"}));
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = db", false),
            ("app!=web", false),
            ("none!=x", true),
            ("app in (web, db)", true),
            ("app in (db)", false),
            ("app notin (db,x)", true),
            ("none notin (x)", true),
            ("none in (x)", false),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("! app", false),
            ("tier=", true),
            ("tier in ()", true),
            ("a.b/c=1,app", true),
            ("app=web,none", false),
            ("app in(web),!none,tier", true),
        ];
        for (text, expected) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&record), expected, "{text}");
        }
        assert!(!LabelSelector::parse("app").unwrap().matches(&json!({})));
    }

    #[test]
    fn a_wrong_label_selector_says_what_is_allowed() {
        for bad in [
            "app web",
            "=x",
            "app in (a",
            "app in a)",
            "app in",
            "app ni (a)",
            "a,,b",
            "a,",
            "a b c",
            "app=x y",
            "-a=x",
            "app in (a)(b)",
            "app in ((a))",
            "(a)",
            "app in (a) x",
            "a=b=c",
            "!",
        ] {
            let error = LabelSelector::parse(bad).unwrap_err();
            assert!(error.contains(LABEL_HELP), "{bad}: {error}");
        }
    }

    #[test]
    fn fields_are_selected_by_dotted_path() {
        let def = kind("Workspace").unwrap();
        let record = json!({"metadata": {"name": "w", "namespace": "p"}, "status": {"phase": "RUNNING"}});
        let cases = [
            ("metadata.name=w", true),
            ("metadata.name==w,metadata.namespace=p", true),
            ("metadata.name!=w", false),
            ("status.phase=RUNNING", true),
            ("status.phase!=STOPPED", true),
            ("status.dockerServer=", true),
            ("status.dockerServer!=s", true),
            ("", true),
            (",metadata.name=w,", true),
            ("metadata.name=a\\,b", false),
        ];
        for (text, expected) in cases {
            assert_eq!(FieldSelector::parse(text, def).unwrap().matches(&record), expected, "{text}");
        }
        assert_eq!(FieldSelector::parse("metadata.name=w", def).unwrap().exact("metadata.name"), Some("w"));
        assert_eq!(FieldSelector::parse("metadata.name!=w", def).unwrap().exact("metadata.name"), None);
        assert_eq!(FieldSelector::parse("metadata.name=a\\=b", def).unwrap().exact("metadata.name"), Some("a=b"));
    }

    #[test]
    fn an_unknown_field_lists_those_supported() {
        let error = FieldSelector::parse("spec.branch=x", kind("Workspace").unwrap()).unwrap_err();
        assert_eq!(
            error,
            "field label not supported: \"spec.branch\"; supported for Workspace: metadata.name, metadata.namespace, \
             status.phase, status.dockerServer, spec.owner"
        );
        assert!(FieldSelector::parse("metadata.name", kind("Workspace").unwrap()).unwrap_err().contains("no operator"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_can_make_it_panic(text in "[a-z=!,() \\\\éinot.]{0,30}", odd in "\\PC{0,30}") {
            let record = labelled(json!({"a": "b"}));
            for text in [&text, &odd] {
                let _ = LabelSelector::parse(text).map(|s| s.matches(&record));
                let _ = FieldSelector::parse(text, kind("Workspace").unwrap()).map(|s| s.matches(&record));
                let _ = FieldSelector::parse(&format!("metadata.name={text}"), kind("Workspace").unwrap());
            }
        }

        #[test]
        fn in_and_notin_are_opposites(value in "[ab]{1,2}", list in prop::collection::vec("[ab]{1,2}", 1..4), has in any::<bool>()) {
            let record = labelled(if has { json!({"k": value}) } else { json!({}) });
            let text = list.join(",");
            let within = LabelSelector::parse(&format!("k in ({text})")).unwrap().matches(&record);
            let without = LabelSelector::parse(&format!("k notin ({text})")).unwrap().matches(&record);
            prop_assert_ne!(within, without);
        }
    }
}
