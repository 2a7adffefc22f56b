//! `schema`: the kinds for editors (JSON Schema) and for a Kubernetes cluster (CustomResourceDefinitions).

use super::args::SchemaArgs;
use super::failure::Failure;
use super::output::yaml;
use super::{target, ui};
use crate::resource::{GROUP, KindDef, kinds};
use serde_json::{Value, json};
use std::path::Path;

/// Runs `schema`.
///
/// # Errors
/// When the kind does not exist or the folder cannot be written.
pub fn run(args: &SchemaArgs) -> Result<(), Failure> {
    if let Some(folder) = &args.out {
        return write(folder);
    }
    let defs: Vec<&KindDef> = match &args.kind {
        Some(word) => vec![target::kind(word)?],
        None => ours().collect(),
    };
    let texts: Result<Vec<String>, Failure> = match (args.crd, defs.as_slice()) {
        (true, defs) => defs.iter().map(|d| yaml(&definition(d)?)).collect(),
        (false, [one]) => Ok(vec![serde_json::to_string_pretty(&json_schema(one)?)?]),
        (false, _) => Ok(vec![serde_json::to_string_pretty(&json!({"oneOf": all(&defs)?}))?]),
    };
    ui::say(&texts?.join("---\n"))
}

fn all(defs: &[&KindDef]) -> Result<Vec<Value>, Failure> {
    defs.iter().map(|d| json_schema(d)).collect()
}

fn ours() -> impl Iterator<Item = &'static KindDef> {
    kinds().iter().filter(|k| k.group == GROUP)
}

fn write(folder: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("{} cannot be written: {e}", folder.display()));
    std::fs::create_dir_all(folder.join("crds")).map_err(failed)?;
    for def in ours() {
        let schema = serde_json::to_string_pretty(&json_schema(def)?)? + "\n";
        std::fs::write(folder.join(format!("{}.json", def.singular)), schema).map_err(failed)?;
        std::fs::write(folder.join(format!("crds/{}.yaml", def.plural)), yaml(&definition(def)?)?).map_err(failed)?;
    }
    ui::say(&format!("{} kinds written to {}", ours().count(), folder.display()))
}

/// A kind as JSON Schema 2020-12.
fn json_schema(def: &KindDef) -> Result<Value, Failure> {
    let mut schema = serde_json::to_value(&def.schema)?;
    standard(&mut schema);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(def.kind);
    schema["properties"]["apiVersion"] = json!({"const": def.api_version()});
    schema["properties"]["kind"] = json!({"const": def.kind});
    schema["properties"]["metadata"] = json!({
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
    });
    let mut required = vec!["apiVersion", "kind", "metadata"];
    let spec = def.schema.required.iter().flatten().any(|r| r == "spec");
    required.extend(spec.then_some("spec"));
    schema["required"] = json!(required);
    Ok(schema)
}

/// Kubernetes writes `nullable` and `x-kubernetes-*`, which JSON Schema does not know; and in a Kubernetes
/// schema every field of an object that is not listed is an error, which JSON Schema must be told.
fn standard(schema: &mut Value) {
    match schema {
        Value::Array(entries) => entries.iter_mut().for_each(standard),
        Value::Object(fields) => {
            let nullable = fields.remove("nullable") == Some(json!(true));
            let open = fields.remove("x-kubernetes-preserve-unknown-fields") == Some(json!(true));
            fields.retain(|key, value| !key.starts_with("x-kubernetes-") || !(value.is_array() || value.is_boolean()));
            if let Some(kind) = fields.get_mut("type").filter(|k| nullable && k.is_string()) {
                *kind = json!([kind.clone(), "null"]);
            }
            if let Some(values) =
                fields.get_mut("enum").and_then(Value::as_array_mut).filter(|v| nullable && !v.contains(&Value::Null))
            {
                values.push(Value::Null);
            }
            if !open && fields.get("properties").is_some_and(Value::is_object) && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), json!(false));
            }
            children(fields);
        }
        _ => {}
    }
}

/// A field may bear the name of a keyword: what is below `properties` is schemas by field name.
fn children(fields: &mut serde_json::Map<String, Value>) {
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("properties" | "definitions", Value::Object(named)) => named.values_mut().for_each(standard),
            ("items" | "additionalProperties" | "not" | "allOf" | "anyOf" | "oneOf", value) => standard(value),
            _ => {}
        }
    }
}

/// A kind as the CustomResourceDefinition it was derived from.
fn definition(def: &KindDef) -> Result<Value, Failure> {
    let mut version = json!({
        "name": def.version,
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": def.schema},
        "additionalPrinterColumns": def.columns,
    });
    if def.has_status {
        version["subresources"] = json!({"status": {}});
    }
    if !def.selectable.is_empty() {
        version["selectableFields"] = def.selectable.iter().map(|f| json!({"jsonPath": format!(".{f}")})).collect();
    }
    Ok(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", def.plural, def.group)},
        "spec": {
            "group": def.group,
            "names": {"kind": def.kind, "plural": def.plural, "singular": def.singular, "shortNames": def.short_names, "categories": def.categories},
            "scope": if def.namespaced { "Namespaced" } else { "Cluster" },
            "versions": [version],
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Workspace;
    use kube::CustomResourceExt;

    #[test]
    fn the_definition_is_the_derived_one() {
        let derived = serde_json::to_value(Workspace::crd()).unwrap();
        let ours = definition(crate::resource::kind("Workspace").unwrap()).unwrap();
        assert_eq!(ours, derived);
    }

    #[test]
    fn json_schemas_refuse_what_the_server_refuses() {
        let schema = json_schema(crate::resource::kind("Workspace").unwrap()).unwrap();
        assert_eq!(schema["properties"]["kind"]["const"], "Workspace");
        assert_eq!(schema["properties"]["spec"]["additionalProperties"], false);
        assert_eq!(schema["properties"]["spec"]["properties"]["env"]["additionalProperties"]["type"], "string");
        let text = schema.to_string();
        assert!(!text.contains("nullable") && !text.contains("x-kubernetes"), "{text}");
    }

    #[test]
    fn every_kind_is_written() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        assert!(dir.path().join("workspace.json").exists() && dir.path().join("crds/workspaces.yaml").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), ours().count() + 1);
    }
}
