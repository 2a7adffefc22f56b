//! Reading manifests: no text does harm, every document is what it says, every place lies in the text.

use devsanctum::cli::manifest::position::{Children, Complaint, Mark, Node, Source};
use devsanctum::cli::manifest::{Document, parse, yaml};
use serde_json::Value;
use std::sync::Arc;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (documents, complaints) = read(text);
    complaints.iter().for_each(|c| complaint(text, c));
    for document in &documents {
        sound(text, document);
        if complaints.is_empty() {
            reads_the_same_as_json(document);
        }
    }
}

fn read(text: &str) -> (Vec<Document>, Vec<Complaint>) {
    parse(&Arc::new(Source { name: "f.yaml".into(), text: text.to_owned() }))
}

/// A complaint names a place in the text, and sends nothing to the terminal that would steer it.
fn complaint(text: &str, complaint: &Complaint) {
    assert!(!complaint.message.is_empty());
    if let Some(at) = complaint.at {
        lies_within(text, at);
    }
    let rendered = complaint.render();
    // The quoted line is made printable; the message has its own words for what it quotes.
    let quoted = rendered.strip_prefix(&complaint.headline()).expect("a complaint begins with its headline");
    assert!(quoted.chars().all(|c| c == '\n' || !c.is_control()), "{quoted:?}");
}

fn lies_within(text: &str, at: Mark) {
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    assert!(at.line >= 1 && at.column >= 1 && at.line <= lines + 1, "{at:?} in {text:?}");
}

fn sound(text: &str, document: &Document) {
    let value = &document.value;
    assert_eq!(value["kind"], document.def.kind);
    assert_eq!(value["apiVersion"], document.def.api_version());
    assert_eq!(value["metadata"]["name"], document.name);
    assert_eq!(value["metadata"]["namespace"].as_str(), document.namespace.as_deref());
    // What names a record becomes part of an address.
    for name in [Some(&document.name), document.namespace.as_ref()].into_iter().flatten() {
        assert!(!name.is_empty() && !name.contains(['/', '%', '?', '#', '\\', ' ']) && name != "." && name != "..", "{name:?}");
        assert!(name.is_ascii() && !name.contains(|c: char| c.is_control()), "{name:?}");
    }
    let values = alike(text, value, &document.node, 0);
    assert!(values <= yaml::MAX_VALUES);
}

/// Places have the shape of what they are the places of. Answers the number of values.
fn alike(text: &str, value: &Value, node: &Node, depth: usize) -> usize {
    assert!(depth <= yaml::MAX_DEPTH);
    lies_within(text, node.at);
    1 + match (value, &node.children) {
        (Value::Object(fields), Children::Map(nodes)) => {
            assert!(fields.keys().all(|key| nodes.contains_key(key)) && fields.len() == nodes.len());
            fields.iter().map(|(key, value)| alike(text, value, &nodes[key], depth + 1)).sum()
        }
        (Value::Array(items), Children::List(nodes)) => {
            assert_eq!(items.len(), nodes.len());
            items.iter().zip(nodes).map(|(item, node)| alike(text, item, node, depth + 1)).sum()
        }
        (Value::Object(_) | Value::Array(_), _) => panic!("{value} has no places"),
        (_, Children::None) => 0,
        _ => panic!("the scalar {value} has places in it"),
    }
}

/// JSON is YAML: what was read, written as JSON, reads the same.
fn reads_the_same_as_json(document: &Document) {
    let text = document.value.to_string();
    if text.len() > yaml::MAX_BYTES / 2 {
        return;
    }
    let (again, complaints) = read(&text);
    assert!(complaints.is_empty(), "{text}: {:?}", complaints.iter().map(Complaint::headline).collect::<Vec<_>>());
    // A `List` in a list is taken apart once.
    if let [again] = &again[..] {
        assert_eq!(again.value, document.value, "{text}");
    }
}
