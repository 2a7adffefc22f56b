//! Sets of field paths, in the form `fieldsV1` stores them.
//!
//! A set is the very JSON object that is stored, so reading and writing one costs nothing: each key is a path
//! element (`f:name` for a field, `k:{"type":"Ready"}` for an item of a keyed list, `v:"x"` for a member of a set,
//! `i:0` for a position) and holds the paths below it. `{}` is a member with nothing below; a member with something
//! below carries the key `.` as well.

use serde_json::{Map, Value};

/// The paths below one path element.
pub(super) type Node = Map<String, Value>;

/// Deeper sets than this are refused from outside; records are no deeper.
const MAX_DEPTH: usize = 64;

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet(Node);

/// The element for a named field.
pub(super) fn field(name: &str) -> String {
    ["f:", name].concat()
}

/// The name in the element of a field.
pub(super) fn field_name(element: &str) -> Option<&str> {
    element.strip_prefix("f:")
}

/// True when the path that ends in this node is itself in the set.
pub(super) fn is_member(node: &Node) -> bool {
    node.is_empty() || node.contains_key(".")
}

impl FieldSet {
    /// Reads a `fieldsV1` value from outside.
    ///
    /// `None` when it is not one: a key that is no path element, a value that is no object, or too deep.
    pub fn parse(value: Value) -> Option<Self> {
        match value {
            Value::Object(node) if !node.contains_key(".") && well_formed(&node, 0) => Some(Self(node)),
            _ => None,
        }
    }

    /// Reads a `fieldsV1` value this server wrote itself.
    pub(super) fn stored(value: Value) -> Option<Self> {
        match value {
            Value::Object(node) => Some(Self(node)),
            _ => None,
        }
    }

    /// The stored form.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// True when no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the paths of `other`.
    pub fn union(&mut self, other: &Self) {
        for (element, node) in branches(&other.0) {
            join(&mut self.0, element, node);
        }
    }

    /// Takes the paths of `other` out. Paths below one of them stay unless `other` names them too.
    pub fn subtract(&mut self, other: &Self) {
        cut(&mut self.0, &other.0);
    }

    /// The paths that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(common(&self.0, &other.0))
    }

    /// All paths, as kubectl shows them: `.spec.owner`, `.status.conditions[type="Ready"].status`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.0, &mut String::new(), &mut found);
        found
    }

    pub(super) fn root(&self) -> &Node {
        &self.0
    }

    pub(super) fn root_mut(&mut self) -> &mut Node {
        &mut self.0
    }
}

/// A part of a set being built: a path and what is below it.
#[derive(Debug, Default)]
pub(super) struct Branch {
    /// The path itself is in the set.
    pub member: bool,
    below: Node,
}

impl Branch {
    /// Adds what is below `element`, unless that is nothing.
    pub fn attach(&mut self, element: impl FnOnce() -> String, child: Self) {
        if let Some(node) = child.into_node() {
            self.below.insert(element(), Value::Object(node));
        }
    }

    fn into_node(self) -> Option<Node> {
        let mut node = self.below;
        if node.is_empty() {
            return self.member.then_some(node);
        }
        set_member(&mut node, self.member);
        Some(node)
    }

    /// The finished set; the root itself is never a member.
    pub fn into_set(self) -> FieldSet {
        FieldSet(self.below)
    }
}

/// Marks a node that has paths below it.
pub(super) fn set_member(node: &mut Node, member: bool) {
    if !member {
        node.remove(".");
    } else if !node.is_empty() {
        node.insert(".".to_owned(), Value::Object(Node::new()));
    }
}

fn branches(node: &Node) -> impl Iterator<Item = (&String, &Node)> {
    node.iter().filter(|(element, _)| *element != ".").filter_map(|(element, below)| Some((element, below.as_object()?)))
}

fn join(into: &mut Node, element: &str, node: &Node) {
    let Some(Value::Object(mine)) = into.get_mut(element) else {
        into.insert(element.to_owned(), Value::Object(node.clone()));
        return;
    };
    let member = is_member(mine) || is_member(node);
    for (element, below) in branches(node) {
        join(mine, element, below);
    }
    set_member(mine, member);
}

fn cut(from: &mut Node, other: &Node) {
    for (element, theirs) in branches(other) {
        let Some(Value::Object(mine)) = from.get_mut(element) else { continue };
        let member = is_member(mine) && !is_member(theirs);
        mine.remove(".");
        cut(mine, theirs);
        if mine.is_empty() && !member {
            from.remove(element);
        } else {
            set_member(mine, member);
        }
    }
}

fn common(a: &Node, b: &Node) -> Node {
    let mut both = Node::new();
    for (element, mine) in branches(a) {
        let Some(theirs) = b.get(element).and_then(Value::as_object) else { continue };
        let member = is_member(mine) && is_member(theirs);
        let mut below = common(mine, theirs);
        if member || !below.is_empty() {
            set_member(&mut below, member);
            both.insert(element.clone(), Value::Object(below));
        }
    }
    both
}

fn list(node: &Node, path: &mut String, found: &mut Vec<String>) {
    for (element, below) in branches(node) {
        let before = path.len();
        path.push_str(&shown(element));
        if is_member(below) {
            found.push(path.clone());
        }
        list(below, path, found);
        path.truncate(before);
    }
}

/// An element as a person reads it.
fn shown(element: &str) -> String {
    let Some((kind, rest)) = element.split_once(':') else { return String::new() };
    match kind {
        "f" => format!(".{rest}"),
        "v" => format!("[={rest}]"),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        _ => format!("[{rest}]"),
    }
}

fn well_formed(node: &Node, depth: usize) -> bool {
    depth < MAX_DEPTH
        && node.iter().all(|(element, below)| {
            let Some(below) = below.as_object() else { return false };
            match element.split_once(':') {
                None => element == "." && below.is_empty(),
                Some(("f", _)) => well_formed(below, depth + 1),
                Some(("k", keys)) => serde_json::from_str::<Node>(keys).is_ok() && well_formed(below, depth + 1),
                Some(("v", value)) => serde_json::from_str::<Value>(value).is_ok() && well_formed(below, depth + 1),
                Some(("i", index)) => index.parse::<u32>().is_ok() && well_formed(below, depth + 1),
                Some(_) => false,
            }
        })
}
