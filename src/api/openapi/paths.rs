//! The paths of the documents: which operations there are, and what they take.

use super::{Dialect, gvk, root, schemas};
use crate::resource::KindDef;
use serde_json::{Map, Value, json};

type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = ("dryRun", "string", "'All': do everything but store the result.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "Name under which changed fields are tracked.");
const FIELD_VALIDATION: Parameter =
    ("fieldValidation", "string", "What happens to unknown fields: 'Ignore', 'Warn' or 'Strict'.");
const FORCE: Parameter = ("force", "boolean", "Server-side apply: take over fields that other managers own.");

const WRITING: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCHING: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const READING: &[Parameter] = &[];
const DELETING: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds the record may take to go."),
    ("propagationPolicy", "string", "What happens to dependents: 'Orphan', 'Background' or 'Foreground'."),
];
const LISTING: &[Parameter] = &[
    ("labelSelector", "string", "Only records with these labels."),
    ("fieldSelector", "string", "Only records with these fields."),
    ("limit", "integer", "Most records in one answer."),
    ("continue", "string", "Where the answer before ended."),
    ("resourceVersion", "string", "Version to read at, or to watch from."),
    ("resourceVersionMatch", "string", "How 'resourceVersion' is to be taken."),
    ("timeoutSeconds", "integer", "How long a watch may last."),
    ("watch", "boolean", "Stream changes in place of a list."),
    ("allowWatchBookmarks", "boolean", "Send bookmarks along with the changes."),
    ("sendInitialEvents", "boolean", "Start a watch with the records there are."),
];

/// Where an operation reads or writes: all of a kind, one record, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Everywhere,
    Collection,
    Record,
    Status,
}

/// The paths of these kinds.
pub(super) fn all(defs: &[&KindDef], dialect: Dialect) -> Value {
    let mut paths = Map::new();
    for def in defs {
        let space = if def.namespaced { "namespaces/{namespace}/" } else { "" };
        let collection = format!("/{}/{space}{}", root(def), def.plural);
        let mut add = |path: String, target| paths.insert(path, item(def, target, dialect));
        if def.namespaced {
            add(format!("/{}/{}", root(def), def.plural), Target::Everywhere);
        }
        if def.has_status {
            add(format!("{collection}/{{name}}/status"), Target::Status);
        }
        add(format!("{collection}/{{name}}"), Target::Record);
        add(collection, Target::Collection);
    }
    Value::Object(paths)
}

fn item(def: &KindDef, target: Target, dialect: Dialect) -> Value {
    let operations: &[(&str, &str, &[Parameter])] = match target {
        Target::Everywhere => &[("get", "list", LISTING)],
        Target::Collection => &[("get", "list", LISTING), ("post", "post", WRITING), ("delete", "deletecollection", LISTING)],
        Target::Record => {
            &[("get", "get", READING), ("put", "put", WRITING), ("patch", "patch", PATCHING), ("delete", "delete", DELETING)]
        }
        Target::Status => &[("get", "get", READING), ("put", "put", WRITING), ("patch", "patch", PATCHING)],
    };
    let mut item: Map<String, Value> = operations
        .iter()
        .map(|(method, action, parameters)| ((*method).to_owned(), operation(def, target, action, parameters, dialect)))
        .collect();
    item.insert("parameters".into(), path_parameters(def, target, dialect));
    Value::Object(item)
}

fn path_parameters(def: &KindDef, target: Target, dialect: Dialect) -> Value {
    let mut names = Vec::new();
    if def.namespaced && target != Target::Everywhere {
        names.push(("namespace", "Project the record belongs to."));
    }
    if matches!(target, Target::Record | Target::Status) {
        names.push(("name", "Name of the record."));
    }
    names
        .into_iter()
        .map(|(name, text)| {
            let mut parameter = parameter(&(name, "string", text), dialect);
            parameter["in"] = json!("path");
            parameter["required"] = json!(true);
            parameter
        })
        .collect()
}

fn parameter((name, kind, description): &Parameter, dialect: Dialect) -> Value {
    let mut parameter = json!({"name": name, "in": "query", "description": description});
    match dialect {
        Dialect::V2 => parameter["type"] = json!(kind),
        Dialect::V3 => parameter["schema"] = json!({ "type": kind }),
    }
    parameter
}

fn operation(def: &KindDef, target: Target, action: &str, parameters: &[Parameter], dialect: Dialect) -> Value {
    let writes = matches!(action, "post" | "put" | "patch");
    let answer = match action {
        "list" => format!("{}List", schemas::name(def)),
        "delete" | "deletecollection" => schemas::status_name(),
        _ => schemas::name(def),
    };
    let mut operation = json!({
        "operationId": operation_id(def, target, action),
        "description": describe(def, target, action),
        "tags": [root(def).trim_start_matches("api").trim_start_matches("s/").trim_start_matches('/').replace(['/', '.'], "_")],
        "parameters": parameters.iter().map(|p| parameter(p, dialect)).collect::<Vec<_>>(),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(def, ""),
    });
    body(&mut operation, action, &schemas::name(def), &answer, writes, dialect);
    operation
}

/// Adds the request's body and the answers.
fn body(operation: &mut Value, action: &str, record: &str, answer: &str, writes: bool, dialect: Dialect) {
    let types: &[&str] = match action {
        "patch" => &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"],
        _ => &["application/json", "application/yaml"],
    };
    // A patch is a partial record or a list of operations: any JSON.
    let sent = if action == "patch" { json!({}) } else { dialect.reference(record) };
    let unauthorized = json!({"description": "Nobody is signed in."});
    match dialect {
        Dialect::V2 => {
            operation["consumes"] = json!(if writes { types } else { &["*/*"] });
            operation["produces"] = json!(["application/json"]);
            operation["responses"] =
                json!({"200": {"description": "OK", "schema": dialect.reference(answer)}, "401": unauthorized});
            if let (true, Some(parameters)) = (writes, operation["parameters"].as_array_mut()) {
                parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": sent}));
            }
        }
        Dialect::V3 => {
            let answer = json!({"application/json": {"schema": dialect.reference(answer)}});
            operation["responses"] = json!({"200": {"description": "OK", "content": answer}, "401": unauthorized});
            if writes {
                let content: Map<String, Value> =
                    types.iter().map(|kind| ((*kind).to_owned(), json!({"schema": sent.clone()}))).collect();
                operation["requestBody"] = json!({"required": true, "content": content});
            }
        }
    }
}

/// `patchDevsanctumIoV1NamespacedWorkspaceStatus`: unique, as generators want it.
fn operation_id(def: &KindDef, target: Target, action: &str) -> String {
    let verb = match action {
        "get" => "read",
        "post" => "create",
        "put" => "replace",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let group = if def.group.is_empty() { "core" } else { def.group };
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    };
    let group: String = group.split('.').map(capital).collect();
    let (scope, end) = match target {
        Target::Everywhere => ("", "ForAllNamespaces"),
        Target::Status if def.namespaced => ("Namespaced", "Status"),
        Target::Status => ("", "Status"),
        _ if def.namespaced => ("Namespaced", ""),
        _ => ("", ""),
    };
    format!("{verb}{group}{}{scope}{}{end}", capital(def.version), def.kind)
}

fn describe(def: &KindDef, target: Target, action: &str) -> String {
    let what = if target == Target::Status { format!("status of a {}", def.kind) } else { format!("a {}", def.kind) };
    match action {
        "list" => format!("list or watch {}", def.plural),
        "deletecollection" => format!("delete {}", def.plural),
        "post" => format!("create {what}"),
        "put" => format!("replace {what}"),
        "get" => format!("read {what}"),
        other => format!("{other} {what}"),
    }
}
