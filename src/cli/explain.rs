//! `explain`: the fields of a kind, from the same schema the server checks records against.

use super::args::ExplainArgs;
use super::failure::Failure;
use super::{target, ui};
use crate::resource::KindDef;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use std::fmt::Write;

/// Runs `explain`.
///
/// # Errors
/// When the kind or field does not exist; lists those that do.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let (def, path) = split(&args.what)?;
    let schema = whole(def);
    let found = find(&schema, &path)?;
    ui::say(&text(def, &path, &found, args.recursive))
}

/// The kind comes up to the first dot, unless the word is a kind with its group.
fn split(what: &str) -> Result<(&'static KindDef, Vec<&str>), Failure> {
    let (kind, path) = what.split_once('.').unwrap_or((what, ""));
    Ok((target::kind(kind)?, path.split('.').filter(|p| !p.is_empty()).collect()))
}

/// The schema with the fields every record has, which a kind's own schema leaves to Kubernetes.
fn whole(def: &KindDef) -> JSONSchemaProps {
    let mut schema = def.schema.clone();
    let text =
        |about: &str| JSONSchemaProps { type_: Some("string".into()), description: Some(about.into()), ..Default::default() };
    let fields = schema.properties.get_or_insert_default();
    fields.entry("apiVersion".into()).or_insert_with(|| text(&format!("Always {}.", def.api_version())));
    fields.entry("kind".into()).or_insert_with(|| text(&format!("Always {}.", def.kind)));
    let metadata = JSONSchemaProps {
        type_: Some("object".into()),
        description: Some("Name, labels and annotations, as on every Kubernetes record.".into()),
        ..Default::default()
    };
    fields.entry("metadata".into()).or_insert(metadata);
    schema
}

fn find(schema: &JSONSchemaProps, path: &[&str]) -> Result<JSONSchemaProps, Failure> {
    let mut here = schema;
    for (i, name) in path.iter().enumerate() {
        here = fields(here).into_iter().find(|(n, _)| n == name).map(|(_, s)| s).ok_or_else(|| {
            let there: Vec<&str> = fields(here).into_iter().map(|(n, _)| n).collect();
            let place = if i == 0 { "the record".to_owned() } else { path[..i].join(".") };
            let hint = if there.is_empty() {
                format!("{place} has no fields of its own")
            } else {
                format!("the fields of {place} are {}", there.join(", "))
            };
            Failure::usage(format!("there is no field \"{}\"", path[..=i].join("."))).hint(hint)
        })?;
    }
    Ok(here.clone())
}

/// The fields of an object, of the entries of a list, or of the values of a map.
fn fields(schema: &JSONSchemaProps) -> Vec<(&str, &JSONSchemaProps)> {
    inner(schema).properties.iter().flatten().map(|(name, s)| (name.as_str(), s)).collect()
}

fn inner(schema: &JSONSchemaProps) -> &JSONSchemaProps {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => inner(items),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => inner(values),
        _ => schema,
    }
}

/// `string`, `[]Object`, `map[string]string`.
fn kind_of(schema: &JSONSchemaProps) -> String {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => format!("[]{}", kind_of(items)),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => format!("map[string]{}", kind_of(values)),
        _ => match schema.type_.as_deref() {
            Some("object") => "Object".into(),
            Some(other) => other.to_owned(),
            None => "any".into(),
        },
    }
}

fn text(def: &KindDef, path: &[&str], schema: &JSONSchemaProps, recursive: bool) -> String {
    let mut out = String::new();
    if !def.group.is_empty() {
        let _ = writeln!(out, "GROUP:      {}", def.group);
    }
    let _ = writeln!(out, "KIND:       {}\nVERSION:    {}\n", def.kind, def.version);
    if let Some(name) = path.last() {
        let _ = writeln!(out, "FIELD: {name} <{}>\n", kind_of(schema));
    }
    let about = about(schema);
    let _ = writeln!(out, "DESCRIPTION:\n{}", indented(if about.is_empty() { "(none)" } else { &about }, 4));
    if !fields(schema).is_empty() {
        let _ = writeln!(out, "\nFIELDS:");
        list(&mut out, schema, recursive, 2);
    }
    out
}

fn list(out: &mut String, schema: &JSONSchemaProps, recursive: bool, indent: usize) {
    let required = inner(schema).required.clone().unwrap_or_default();
    for (name, field) in fields(schema) {
        let needed = if required.iter().any(|r| r == name) { " -required-" } else { "" };
        let _ = writeln!(out, "{:indent$}{name}\t<{}>{needed}", "", kind_of(field));
        if recursive {
            list(out, field, true, indent + 2);
        } else {
            let _ = writeln!(out, "{}\n", indented(&about(field), indent + 2));
        }
    }
}

/// Description, allowed values and default.
fn about(schema: &JSONSchemaProps) -> String {
    let mut parts: Vec<String> = schema.description.iter().cloned().collect();
    if let Some(values) = &schema.enum_ {
        let values: Vec<String> = values.iter().filter(|v| !v.0.is_null()).map(|v| v.0.to_string()).collect();
        parts.push(format!("One of {}.", values.join(", ")));
    }
    match (schema.minimum, schema.maximum) {
        (Some(min), Some(max)) => parts.push(format!("From {min} to {max}.")),
        (Some(min), None) => parts.push(format!("At least {min}.")),
        _ => {}
    }
    parts.extend(schema.default.as_ref().map(|d| format!("Default: {}", d.0)));
    parts.join(" ")
}

/// Words set in lines of 80 characters, indented.
fn indented(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + word.chars().count() + indent >= 80 {
            lines.push(word.to_owned());
            continue;
        }
        if !lines[last].is_empty() {
            lines[last].push(' ');
        }
        lines[last].push_str(word);
    }
    lines.iter().map(|line| format!("{:indent$}{line}", "")).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(what: &str, recursive: bool) -> String {
        let (def, path) = split(what).unwrap();
        text(def, &path, &find(&whole(def), &path).unwrap(), recursive)
    }

    #[test]
    fn fields_are_explained_down_to_the_last() {
        let whole = explain("ws", false);
        assert!(whole.contains("KIND:       Workspace") && whole.contains("metadata\t<Object>"), "{whole}");
        let port = explain("template.spec.ports.port", false);
        assert!(port.contains("FIELD: port <integer>") && port.contains("From 1 to 65535."), "{port}");
        assert!(explain("ws.spec", false).contains("owner\t<string> -required-"));
        assert!(explain("ws.spec.env", false).contains("<map[string]string>"));
        assert!(explain("template", true).contains("      port\t<integer>"));
    }

    #[test]
    fn a_field_that_is_not_there_names_those_that_are() {
        let (def, path) = split("ws.spec.ownr").unwrap();
        let failure = find(&whole(def), &path).unwrap_err();
        assert_eq!(failure.message, "there is no field \"spec.ownr\"");
        assert!(failure.hint.unwrap().contains("owner"));
    }
}
