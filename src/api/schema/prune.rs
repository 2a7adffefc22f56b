//! Dropping what the schema does not know, and filling in what it has defaults for.

use super::path::Path;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A field that was dropped.
pub(super) struct Unknown {
    /// Its path.
    pub path: String,
    suggestion: Option<String>,
}

impl Unknown {
    /// `unknown field "spec.ownr", did you mean "spec.owner"?`
    pub fn told(&self) -> String {
        match &self.suggestion {
            None => format!("unknown field {:?}", self.path),
            Some(suggestion) => format!("unknown field {:?}, did you mean {suggestion:?}?", self.path),
        }
    }
}

/// A walk over a record.
#[derive(Default)]
pub(super) struct Pruner {
    fill: bool,
    /// What was dropped.
    pub unknown: Vec<Unknown>,
}

type Fields = BTreeMap<String, JSONSchemaProps>;

impl Pruner {
    /// One that fills in defaults as well.
    pub fn defaulting() -> Self {
        Self { fill: true, ..Self::default() }
    }

    /// Prunes a record, whose schema does not speak of `apiVersion`, `kind` and `metadata`.
    pub fn record(&mut self, schema: &JSONSchemaProps, record: &mut Value) {
        let Value::Object(map) = record else { return };
        let apart = ["apiVersion", "kind", "metadata"].map(|key| map.remove_entry(key));
        self.object(schema, map, Path::Root);
        map.extend(apart.into_iter().flatten());
    }

    /// Prunes a value.
    pub fn value(&mut self, schema: &JSONSchemaProps, value: &mut Value, path: Path) {
        match value {
            // Where no object may be, validation says so; its fields are not worth naming.
            Value::Object(map) if schema.type_.as_deref().is_none_or(|t| t == "object") => self.object(schema, map, path),
            Value::Array(list) => {
                let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else { return };
                for (index, item) in list.iter_mut().enumerate() {
                    self.value(schema, item, Path::Index(&path, index));
                }
            }
            Value::Number(number) if schema.type_.as_deref() == Some("integer") => {
                if let Some(whole) = whole(number) {
                    *value = whole;
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, schema: &JSONSchemaProps, map: &mut Map<String, Value>, path: Path) {
        static NONE: Fields = Fields::new();
        let fields = schema.properties.as_ref().unwrap_or(&NONE);
        let keep = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        map.retain(|name, value| match (fields.get(name), &schema.additional_properties) {
            // `null` for a field is the field left out.
            (Some(_), _) if value.is_null() => false,
            (Some(field), _) => {
                self.value(field, value, Path::Field(&path, name));
                true
            }
            (None, Some(JSONSchemaPropsOrBool::Schema(each))) => {
                self.value(each, value, Path::Key(&path, name));
                true
            }
            (None, Some(JSONSchemaPropsOrBool::Bool(true))) => true,
            (None, _) if keep => true,
            (None, _) => {
                self.drop_unknown(fields, name, path);
                false
            }
        });
        if self.fill {
            self.fill(fields, map, path);
        }
    }

    fn fill(&mut self, fields: &Fields, map: &mut Map<String, Value>, path: Path) {
        for (name, field) in fields {
            let Some(default) = field.default.as_ref().filter(|d| !d.0.is_null() && !map.contains_key(name)) else { continue };
            let mut value = default.0.clone();
            self.value(field, &mut value, Path::Field(&path, name));
            map.insert(name.clone(), value);
        }
    }

    fn drop_unknown(&mut self, fields: &Fields, name: &str, path: Path) {
        if self.unknown.len() >= super::MAX_TOLD {
            return;
        }
        let full = |name: &str| Path::Field(&path, name).to_string();
        let suggestion = closest(name, fields.keys()).map(full);
        self.unknown.push(Unknown { path: full(&name.chars().take(100).collect::<String>()), suggestion });
    }
}

/// `3.0` where an integer is asked for is 3, as in Kubernetes.
fn whole(number: &serde_json::Number) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() <= EXACT)?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    Some(Value::from(float as i64))
}

/// The known name a mistyped one most likely means.
fn closest<'n>(name: &str, known: impl Iterator<Item = &'n String>) -> Option<&'n str> {
    if name.len() > 64 {
        return None;
    }
    let wanted = name.to_lowercase();
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    let scored = known.map(|k| (distance(&wanted, &k.to_lowercase()), k));
    scored.filter(|(d, _)| *d <= allowed).min_by_key(|(d, _)| *d).map(|(_, k)| k.as_str())
}

/// Edits from one word to another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
