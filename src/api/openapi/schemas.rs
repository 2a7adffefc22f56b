//! The schemas of the documents.

use super::{Dialect, gvk};
use crate::resource::KindDef;
use k8s_openapi::api::{coordination, core, events};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta, Status};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Name of a kind's schema: `io.devsanctum.v1.Workspace`, or Kubernetes' own for its kinds.
pub(super) fn name(def: &KindDef) -> String {
    let package = match def.group {
        "" => "io.k8s.api.core".to_owned(),
        group => match group.strip_suffix(".k8s.io") {
            Some(group) => format!("io.k8s.api.{group}"),
            None => group.rsplit('.').collect::<Vec<_>>().join("."),
        },
    };
    format!("{package}.{}.{}", def.version, def.kind)
}

/// Name of the shared schema of an answer that is no record.
pub(super) fn status_name() -> String {
    format!("{META}.Status")
}

/// The schemas of these kinds, their lists, and what they share.
pub(super) fn all(defs: &[&KindDef], dialect: Dialect) -> Value {
    let shared = [("ObjectMeta", of::<ObjectMeta>()), ("ListMeta", of::<ListMeta>()), ("Status", of::<Status>())];
    let mut schemas: Map<String, Value> = shared.into_iter().map(|(name, schema)| (format!("{META}.{name}"), schema)).collect();
    for def in defs {
        schemas.insert(name(def), record(def, dialect));
        schemas.insert(format!("{}List", name(def)), list(def, dialect));
    }
    schemas.values_mut().for_each(|schema| tidy(schema, dialect));
    Value::Object(schemas)
}

/// The schema of a Kubernetes type, in one piece.
fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("title");
        schema.remove("components");
    }
    schema
}

fn record(def: &KindDef, dialect: Dialect) -> Value {
    let mut schema = match (def.group, def.kind.as_str()) {
        ("", "Namespace") => of::<core::v1::Namespace>(),
        ("", "Event") => of::<core::v1::Event>(),
        ("events.k8s.io", "Event") => of::<events::v1::Event>(),
        ("coordination.k8s.io", "Lease") => of::<coordination::v1::Lease>(),
        _ => own(def),
    };
    let text = |description: &str| json!({"type": "string", "description": description});
    let fields = &mut schema["properties"];
    fields["apiVersion"] = text("Group and version of this representation.");
    fields["kind"] = text("Kind of this record, in CamelCase.");
    fields["metadata"] = referring(dialect, "ObjectMeta", "Name, namespace, labels and what the server keeps of every record.");
    schema["x-kubernetes-group-version-kind"] = json!([gvk(def, "")]);
    schema
}

fn own(def: &KindDef) -> Value {
    let mut schema = serde_json::to_value(&def.schema).unwrap_or_default();
    // The derived text speaks of how the type is made; what the kind is stands with its spec.
    let about = schema.pointer("/properties/spec/description").cloned();
    schema["description"] = about.unwrap_or_default();
    schema
}

fn list(def: &KindDef, dialect: Dialect) -> Value {
    json!({
        "description": format!("A list of {}.", def.plural), "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": referring(dialect, "ListMeta", "Version and continuation of the list."),
            "items": {"type": "array", "items": dialect.reference(&name(def))},
        },
        "x-kubernetes-group-version-kind": [gvk(def, "List")],
    })
}

/// A described reference. Beside `$ref` nothing counts, so version 3 wraps it, as Kubernetes does.
fn referring(dialect: Dialect, what: &str, description: &str) -> Value {
    let mut reference = dialect.reference(&format!("{META}.{what}"));
    match dialect {
        Dialect::V2 => {
            reference["description"] = json!(description);
            reference
        }
        Dialect::V3 => json!({"description": description, "allOf": [reference]}),
    }
}

/// Takes out what the dialect has no word for, and empty descriptions.
fn tidy(schema: &mut Value, dialect: Dialect) {
    let Value::Object(map) = schema else { return };
    if map.get("description").is_some_and(|d| d.is_null() || d == "") {
        map.remove("description");
    }
    if dialect == Dialect::V2 {
        for word in ["nullable", "default", "oneOf", "anyOf", "not"] {
            map.remove(word);
        }
    }
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(fields)) = map.get_mut(key) {
            fields.values_mut().for_each(|field| tidy(field, dialect));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = map.get_mut(key) {
            tidy(below, dialect);
        }
    }
}
