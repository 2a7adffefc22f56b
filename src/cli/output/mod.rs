//! Records as text: YAML, JSON, names, JSONPath, tables.

pub mod jsonpath;
pub mod table;

use super::failure::Failure;
use jsonpath::Template;
use serde_json::{Value, json};

/// How `get` prints.
#[derive(Debug)]
pub enum Format {
    /// A table; `wide` shows all columns.
    Table {
        /// All columns.
        wide: bool,
    },
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// `kind.group/name`.
    Name,
    /// A JSONPath template.
    JsonPath(Template),
}

impl Format {
    /// Reads `-o`.
    ///
    /// # Errors
    /// Lists the formats.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "table" | "" => Ok(Self::Table { wide: false }),
            "wide" => Ok(Self::Table { wide: true }),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            "name" => Ok(Self::Name),
            other => match other.strip_prefix("jsonpath=") {
                Some(template) => Ok(Self::JsonPath(Template::parse(template).map_err(Failure::usage)?)),
                None => Err(Failure::usage(format!("-o {other}: must be table, wide, yaml, json, name or jsonpath=TEMPLATE"))),
            },
        }
    }

    /// Prints records: one by itself, several as a `List`.
    ///
    /// # Errors
    /// When a JSONPath does not fit.
    pub fn render(&self, mut objects: Vec<Value>, single: bool) -> Result<String, Failure> {
        if matches!(self, Self::Name) {
            return Ok(objects.iter().map(|o| name(o) + "\n").collect());
        }
        let whole = match objects.pop() {
            Some(one) if single && objects.is_empty() => one,
            last => {
                objects.extend(last);
                json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
            }
        };
        match self {
            Self::Yaml => yaml(&whole),
            Self::JsonPath(template) => template.render(&whole).map_err(Failure::new),
            _ => Ok(serde_json::to_string_pretty(&whole)? + "\n"),
        }
    }
}

/// A value as YAML that readers of YAML 1.1 and 1.2 both take for the same.
///
/// # Errors
/// When the value cannot be written as YAML; that would be a fault of ours.
pub fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|e| Failure::new(format!("cannot be written as YAML: {e}")))
}

/// `workspace.devsanctum.io/web`, from the record alone.
pub fn name(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind").to_lowercase();
    match text("/apiVersion").split_once('/') {
        Some((group, _)) => super::ui::clean(&format!("{kind}.{group}/{}", text("/metadata/name"))),
        None => super::ui::clean(&format!("{kind}/{}", text("/metadata/name"))),
    }
}

/// Takes out what a person never edits or compares: bookkeeping of the server's own.
pub fn tidy(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_means_the_same_to_every_reader() {
        let value = json!({"a": "yes", "b": "0755", "c": "1e3", "d": "null", "e": "x: y", "f": "two\nlines\n", "g": [], "h": {}, "i": "~", "j": "12:30"});
        let text = yaml(&value).unwrap();
        let source = std::sync::Arc::new(crate::cli::manifest::position::Source { name: "x".into(), text: text.clone() });
        let (raws, complaints) = crate::cli::manifest::yaml::read(&source);
        assert!(complaints.is_empty(), "{text}");
        assert_eq!(raws[0].value, value, "{text}");
        assert!(text.contains("\"yes\"") || text.contains("'yes'"), "{text}");
    }

    #[test]
    fn one_record_stands_alone_and_several_in_a_list() {
        let record = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "web"}});
        let json = |objects, single| serde_json::from_str::<Value>(&Format::Json.render(objects, single).unwrap()).unwrap();
        assert_eq!(json(vec![record.clone()], true), record);
        assert_eq!(json(vec![record.clone()], false)["items"][0], record);
        assert_eq!(Format::Name.render(vec![record], false).unwrap(), "workspace.devsanctum.io/web\n");
    }

    #[test]
    fn unknown_formats_are_refused() {
        assert!(Format::parse("xml").unwrap_err().message.contains("must be table, wide, yaml"));
        assert!(Format::parse("jsonpath={.a").is_err());
    }
}
