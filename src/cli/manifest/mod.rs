//! Manifests: the records a user wrote down, and where in which file each field stands.

pub mod position;
mod read;
mod scalar;
#[cfg(test)]
mod tests;
pub mod yaml;

use crate::resource::{KindDef, kinds};
use position::{Children, Complaint, Mark, Node, Source};
use serde_json::Value;
use std::sync::Arc;

/// One record to apply.
pub struct Document {
    /// The text it came from.
    pub source: Arc<Source>,
    /// The record.
    pub value: Value,
    /// Where its fields stand.
    pub node: Node,
    /// Its kind.
    pub def: &'static KindDef,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, where the record names one.
    pub namespace: Option<String>,
}

impl Document {
    /// A complaint about a field of this record. Whoever words it may repeat the value: a Secret's is taken out.
    pub fn complaint(&self, path: &str, message: impl Into<String>) -> Complaint {
        let mut message = message.into();
        if self.def.kind == "Secret" {
            hide(&self.value["spec"], &mut message);
        }
        Complaint::at(&self.source, self.node.find(path), message)
    }

    /// Place in the order of application: what is named before what names it.
    pub fn order(&self) -> usize {
        kinds().iter().position(|k| std::ptr::eq(k, self.def)).unwrap_or(usize::MAX)
    }
}

/// Reads everything named by `-f` and sorts it into the order of application. All complaints are
/// collected; documents that gave rise to one are left out.
pub fn load(names: &[String], recursive: bool) -> (Vec<Document>, Vec<Complaint>) {
    let (sources, mut complaints) = read::sources(names, recursive);
    let mut documents = Vec::new();
    for source in &sources {
        let (found, wrong) = parse(source);
        documents.extend(found);
        complaints.extend(wrong);
        if documents.len() > yaml::MAX_DOCUMENTS {
            let message = format!("more than {} documents in one run; apply them in parts", yaml::MAX_DOCUMENTS);
            complaints.push(Complaint::file(&source.name, message));
            break;
        }
    }
    complaints.extend(twice(documents.iter().map(|d| (d, d.namespace.as_deref()))));
    documents.sort_by_key(Document::order);
    (documents, complaints)
}

/// Reads the documents of one text.
pub fn parse(source: &Arc<Source>) -> (Vec<Document>, Vec<Complaint>) {
    let (raws, mut complaints) = yaml::read(source);
    let mut documents = Vec::new();
    for raw in raws {
        for (value, node) in unlist(raw.value, raw.node) {
            match identify(source, value, node) {
                Ok(document) => documents.push(document),
                Err(wrong) => complaints.extend(wrong),
            }
        }
    }
    (documents, complaints)
}

/// Takes a value and all that is in it out of a message, in the ways the server and serde write values: whole, cut
/// short, or in backticks.
fn hide(value: &Value, message: &mut String) {
    let whole = value.to_string();
    let cut: String = whole.chars().take(120).collect();
    for written in [format!(" {whole}"), format!("`{whole}`"), format!(" {cut}…")] {
        *message = message.replace(&written, " (not shown)");
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|v| hide(v, message)),
        Value::Array(entries) => entries.iter().for_each(|v| hide(v, message)),
        _ => {}
    }
}

/// Takes the items out of a `kind: List`.
fn unlist(mut value: Value, mut node: Node) -> Vec<(Value, Node)> {
    let list = value["apiVersion"] == "v1" && value["kind"] == "List" && value["items"].is_array();
    let Some(Children::List(nodes)) = map(&mut node).filter(|_| list).and_then(|m| m.remove("items")).map(|n| n.children) else {
        return vec![(value, node)];
    };
    let Value::Array(items) = value["items"].take() else { return Vec::new() };
    items.into_iter().zip(nodes).collect()
}

fn map(node: &mut Node) -> Option<&mut std::collections::BTreeMap<String, Node>> {
    match &mut node.children {
        Children::Map(fields) => Some(fields),
        _ => None,
    }
}

fn identify(source: &Arc<Source>, value: Value, node: Node) -> Result<Document, Vec<Complaint>> {
    let mut wrong = Vec::new();
    if !value.is_object() {
        return Err(vec![Complaint::at(source, node.at, "a record is a map with apiVersion, kind, metadata and spec")]);
    }
    let mut text = |path: &str, example: &str| {
        let found = value.pointer(&format!("/{}", path.replace('.', "/")));
        match found {
            Some(Value::String(s)) if !s.is_empty() => Some(s.clone()),
            Some(Value::Null) | None => {
                wrong.push(Complaint::at(
                    source,
                    node.find(path),
                    format!("{path}: Required value: add it, for example '{example}'"),
                ));
                None
            }
            Some(other) => {
                let message = format!("{path}: Invalid value: {other}: must be text, for example '{example}'");
                wrong.push(Complaint::at(source, node.find(path), message));
                None
            }
        }
    };
    let api_version = text("apiVersion", "apiVersion: devsanctum.io/v1");
    let kind = text("kind", "kind: Workspace");
    let name = text("metadata.name", "name: my-app");
    let namespace = match value.pointer("/metadata/namespace") {
        None | Some(Value::Null) => None,
        Some(_) => text("metadata.namespace", "namespace: my-project"),
    };
    let (Some(api_version), Some(kind), Some(name)) = (api_version, kind, name) else { return Err(wrong) };
    for (path, text) in [("metadata.name", Some(&name)), ("metadata.namespace", namespace.as_ref())] {
        if let Some(text) = text.filter(|t| crate::cli::target::check_name(t).is_err()) {
            let message = format!("{path}: Invalid value: {text:?}: must be letters, digits, '-' and '.', 253 at most");
            wrong.push(Complaint::at(source, node.find(path), message));
        }
    }
    match kinds().iter().find(|k| k.kind == kind && k.api_version() == api_version) {
        Some(def) if wrong.is_empty() => Ok(Document { source: source.clone(), value, node, def, name, namespace }),
        Some(_) => Err(wrong),
        None => {
            wrong.push(unknown_kind(source, &node, &api_version, &kind));
            Err(wrong)
        }
    }
}

fn unknown_kind(source: &Arc<Source>, node: &Node, api_version: &str, kind: &str) -> Complaint {
    if let Some(def) = kinds().iter().find(|k| k.kind == kind) {
        let message = format!("apiVersion: Unsupported value: \"{api_version}\": {kind} is served as {}", def.api_version());
        return Complaint::at(source, node.find("apiVersion"), message);
    }
    let known: Vec<&str> = kinds().iter().filter(|k| k.group == crate::resource::GROUP).map(|k| k.kind.as_str()).collect();
    let message = format!("kind: Unsupported value: \"{kind}\": must be Namespace or one of {}", known.join(", "));
    Complaint::at(source, node.find("kind"), message)
}

/// The same record twice in one run: which of the two wins would be chance to the reader.
pub fn twice<'d>(documents: impl Iterator<Item = (&'d Document, Option<&'d str>)>) -> Vec<Complaint> {
    let mut seen = std::collections::BTreeMap::<_, (&str, Mark)>::new();
    let mut wrong = Vec::new();
    for (d, namespace) in documents {
        let at = d.node.find("metadata.name");
        match seen.get(&(d.order(), namespace, d.name.as_str())) {
            Some((file, first)) => {
                let message = format!("{} \"{}\" stands here and at {file}:{}:{}", d.def.kind, d.name, first.line, first.column);
                wrong.push(Complaint::at(&d.source, at, message));
            }
            None => {
                seen.insert((d.order(), namespace, d.name.as_str()), (d.source.name.as_str(), at));
            }
        }
    }
    wrong
}
