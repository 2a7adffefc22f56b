//! Selectors: no text does harm, and one written by the rules selects what they say.

use super::input::Input;
use devsanctum::api::selector::{FieldSelector, LabelSelector};
use devsanctum::resource::kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KEYS: [&str; 4] = ["team", "a.b/c", "x-1", "in"];
const VALUES: [&str; 5] = ["", "x", "y", "1.2", "a_b"];

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => any_text(&input.rest()),
        1 => labels(&mut input),
        _ => fields(&mut input),
    }
}

/// Whatever is sent is read or refused in words, and what is read can be asked.
fn any_text(text: &str) {
    let record = json!({"metadata": {"name": "x", "labels": {"team": "x"}}, "spec": {"owner": 1}});
    match LabelSelector::parse(text) {
        Ok(selector) => {
            assert_eq!(selector.is_empty(), text.trim().is_empty(), "{text:?}");
            // Blanks around a selector mean nothing.
            assert_eq!(LabelSelector::parse(&format!(" {text} ")), Ok(selector.clone()), "{text:?}");
            let _ = selector.matches(&record);
        }
        Err(why) => assert!(!why.is_empty()),
    }
    let def = kind("Workspace").expect("a kind of ours");
    match FieldSelector::parse(text, def) {
        Ok(selector) => drop(selector.matches(&record)),
        Err(why) => assert!(!why.is_empty()),
    }
}

/// One demand on a label.
struct Demand {
    key: &'static str,
    operator: usize,
    values: Vec<&'static str>,
}

impl Demand {
    fn new(input: &mut Input) -> Self {
        let values = (0..1 + input.below(3)).map(|_| *input.pick(&VALUES)).collect();
        Self { key: KEYS[input.below(KEYS.len())], operator: input.below(7), values }
    }

    fn written(&self, input: &mut Input) -> String {
        let (key, first, list) = (self.key, self.values[0], self.values.join(","));
        let blank = *input.pick(&["", " ", "\t "]);
        match self.operator {
            0 => format!("{blank}{key}{blank}={blank}{first}{blank}"),
            1 => format!("{key}=={blank}{first}"),
            2 => format!("{key}{blank}!={first}{blank}"),
            3 => format!("{blank}{key} in{blank}({list}{blank})"),
            4 => format!("{key}\tnotin ({blank}{list})"),
            5 => format!("{blank}{key}"),
            _ => format!("!{blank}{key}"),
        }
    }

    fn admits(&self, labels: &BTreeMap<&str, &str>) -> bool {
        let label = labels.get(self.key);
        match self.operator {
            0 | 1 => label == Some(&self.values[0]),
            2 => label != Some(&self.values[0]),
            3 => label.is_some_and(|l| self.values.contains(l)),
            4 => !label.is_some_and(|l| self.values.contains(l)),
            5 => label.is_some(),
            _ => label.is_none(),
        }
    }
}

fn labels(input: &mut Input) {
    let demands: Vec<Demand> = (0..1 + input.below(4)).map(|_| Demand::new(input)).collect();
    let text = demands.iter().map(|d| d.written(input)).collect::<Vec<_>>().join(",");
    let selector = LabelSelector::parse(&text).unwrap_or_else(|why| panic!("{text:?} is refused: {why}"));
    for _ in 0..4 {
        let labels: BTreeMap<&str, &str> = (0..input.below(4)).map(|_| (*input.pick(&KEYS), *input.pick(&VALUES))).collect();
        let due = demands.iter().all(|d| d.admits(&labels));
        assert_eq!(selector.matches(&json!({"metadata": {"labels": labels}})), due, "{text:?} on {labels:?}");
    }
}

fn escaped(value: &str) -> String {
    let escape = |c: char| if "\\,=".contains(c) { format!("\\{c}") } else { c.to_string() };
    value.chars().map(escape).collect()
}

fn fields(input: &mut Input) {
    let def = kind("Workspace").expect("a kind of ours");
    let (name, owner, equal) = (input.text(12), input.text(12), input.flag());
    let text = format!("metadata.name={},spec.owner{}{}", escaped(&name), if equal { "==" } else { "!=" }, escaped(&owner));
    let selector = FieldSelector::parse(&text, def).unwrap_or_else(|why| panic!("{text:?} is refused: {why}"));
    assert_eq!(selector.exact("metadata.name"), Some(name.as_str()), "{text:?}");
    let record = |name: &str, owner: &str| -> Value { json!({"metadata": {"name": name}, "spec": {"owner": owner}}) };
    assert_eq!(selector.matches(&record(&name, &owner)), equal, "{text:?}");
    assert_eq!(selector.matches(&record(&name, &format!("{owner}x"))), !equal, "{text:?}");
    assert!(!selector.matches(&record(&format!("{name}x"), &owner)), "{text:?}");
}
