//! Merging an applied configuration into a record, and taking out what it no longer names.

use super::field_set::{FieldSet, Node, field_name, is_member, set_member};
use super::shape::{Form, Shape};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Lays `config` over `live`: objects and keyed lists are merged, everything else is replaced.
pub(super) fn merge(shape: Shape, live: &mut Value, config: &Value) {
    match (shape.form(Some(live)), shape.form(Some(config))) {
        (Form::Map(_), Form::Map(config)) => {
            let Value::Object(live) = live else { return };
            for (key, value) in config.iter().filter(|(key, _)| shape.tracks(key)) {
                match live.get_mut(key) {
                    Some(held) => merge(shape.child(key), held, value),
                    None => {
                        live.insert(key.clone(), fresh(shape.child(key), value));
                    }
                }
            }
        }
        (Form::List(held), Form::List(config)) => {
            let merged = merge_lists(shape, &held, &config);
            *live = Value::Array(merged);
        }
        _ => *live = fresh(shape, config),
    }
}

/// A value as it enters a record: without what the server alone writes.
fn fresh(shape: Shape, config: &Value) -> Value {
    match config {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| shape.tracks(key));
            Value::Object(kept.map(|(key, value)| (key.clone(), fresh(shape.child(key), value))).collect())
        }
        other => other.clone(),
    }
}

/// The items of both lists. Items only the record has keep their place among their neighbours; the others come in the
/// configuration's order.
fn merge_lists(shape: Shape, live: &[(String, &Value)], config: &[(String, &Value)]) -> Vec<Value> {
    let held: BTreeMap<&str, &Value> = live.iter().map(|(element, item)| (element.as_str(), *item)).collect();
    let named: BTreeSet<&str> = config.iter().map(|(element, _)| element.as_str()).collect();
    let only_live = |(element, _): &&(String, &Value)| !named.contains(element.as_str());
    let mut merged = Vec::with_capacity(live.len() + config.len());
    let mut rest = live.iter().peekable();
    for (element, item) in config {
        while let Some((_, item)) = rest.next_if(|next| only_live(next)) {
            merged.push((*item).clone());
        }
        rest.next_if(|(next, _)| next == element);
        match held.get(element.as_str()) {
            Some(mine) => {
                let mut both = (*mine).clone();
                merge(shape.item(), &mut both, item);
                merged.push(both);
            }
            None => merged.push((*item).clone()),
        }
    }
    merged.extend(rest.filter(only_live).map(|(_, item)| (*item).clone()));
    merged
}

/// Adds to a set the objects that hold its fields, down the whole path: whoever owns `.spec.limits.cpu` holds
/// `.spec.limits` in being.
pub(super) fn with_holders(shape: Shape, set: &FieldSet) -> FieldSet {
    let mut closed = set.clone();
    close(shape, closed.root_mut());
    closed
}

fn close(shape: Shape, node: &mut Node) {
    for (element, below) in node.iter_mut().filter(|(element, _)| *element != ".") {
        let Value::Object(below) = below else { continue };
        close(shape.below(element), below);
        // Every record has metadata: nobody holds it in being, so it does not go with its last owned field.
        let is_metadata = |name: &str| shape.is_root() && name == "metadata";
        if field_name(element).is_some_and(|name| shape.is_field(name) && !is_metadata(name)) {
            set_member(below, true);
        }
    }
}

/// Takes the fields of `set`, with all they hold, out of a record.
pub(super) fn remove(shape: Shape, record: &mut Value, set: &FieldSet) {
    take_out(shape, record, set.root());
}

fn take_out(shape: Shape, value: &mut Value, node: &Node) {
    match value {
        Value::Object(map) => take_fields(shape, map, node),
        Value::Array(list) => {
            let Some(items) = shape.items(list) else { return };
            let elements: Vec<String> = items.into_iter().map(|(element, _)| element).collect();
            let mut elements = elements.iter();
            list.retain_mut(|item| match elements.next().and_then(|e| node.get(e)).and_then(Value::as_object) {
                Some(below) if is_member(below) => false,
                Some(below) => {
                    take_out(shape.item(), item, below);
                    true
                }
                None => true,
            });
        }
        _ => {}
    }
}

fn take_fields(shape: Shape, map: &mut Map<String, Value>, node: &Node) {
    for (element, below) in node {
        let (Some(name), Some(below)) = (field_name(element), below.as_object()) else { continue };
        if is_member(below) {
            map.remove(name);
        } else if let Some(value) = map.get_mut(name) {
            take_out(shape.child(name), value, below);
        }
    }
}
