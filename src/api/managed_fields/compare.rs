//! Which fields two states of a record differ in, and which fields a configuration names.

use super::field_set::{Branch, FieldSet, field};
use super::shape::{Form, Shape};
use serde_json::{Map, Value};

/// The difference between two states.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Fields that are new or have another value.
    pub changed: FieldSet,
    /// Fields that are gone.
    pub removed: FieldSet,
}

impl Changes {
    /// True when the states are alike in everything that can be owned.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

#[derive(Default)]
struct Marks {
    changed: Branch,
    removed: Branch,
}

impl Marks {
    fn attach(&mut self, element: impl Fn() -> String, below: Self) {
        self.changed.attach(&element, below.changed);
        self.removed.attach(&element, below.removed);
    }
}

/// Compares two states of a record.
pub(super) fn compare(shape: Shape, old: Option<&Value>, new: Option<&Value>) -> Changes {
    let mut marks = Marks::default();
    differ(shape, old, new, &mut marks);
    Changes { changed: marks.changed.into_set(), removed: marks.removed.into_set() }
}

fn differ(shape: Shape, old: Option<&Value>, new: Option<&Value>, marks: &mut Marks) {
    // Comparing lists is cheaper than naming their items.
    if let (Some(Value::Array(a)), Some(Value::Array(b))) = (old, new)
        && a == b
    {
        return;
    }
    let (was, is) = (shape.form(old), shape.form(new));
    if was.is_hollow() && is.is_hollow() {
        return leaf(old, new, marks);
    }
    match (was, is) {
        (Form::Leaf, Form::Leaf | Form::Absent | Form::Null) | (Form::Absent | Form::Null, Form::Leaf) => {
            return leaf(old, new, marks);
        }
        (Form::Map(a), Form::Map(b)) => maps(shape, a, b, marks),
        (Form::List(a), Form::List(b)) => lists(shape, a, b, marks),
        (Form::Map(a), Form::Absent | Form::Null) => maps(shape, a, &Map::new(), marks),
        (Form::Absent | Form::Null, Form::Map(b)) => maps(shape, &Map::new(), b, marks),
        (Form::List(a), Form::Absent | Form::Null) => lists(shape, a, Vec::new(), marks),
        (Form::Absent | Form::Null, Form::List(b)) => lists(shape, Vec::new(), b, marks),
        // A value of another sort: all of the old is gone and all of the new is new.
        _ => {
            differ(shape, old, None, marks);
            differ(shape, None, new, marks);
            marks.changed.member = true;
            marks.removed.member = false;
            return;
        }
    }
    marks.changed.member |= old.is_none();
    marks.removed.member |= new.is_none();
}

fn leaf(old: Option<&Value>, new: Option<&Value>, marks: &mut Marks) {
    match (old, new) {
        (None, Some(_)) => marks.changed.member = true,
        (Some(_), None) => marks.removed.member = true,
        (old, new) => marks.changed.member |= old != new,
    }
}

fn maps(shape: Shape, old: &Map<String, Value>, new: &Map<String, Value>, marks: &mut Marks) {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    for name in new.keys().chain(gone).filter(|name| shape.tracks(name)) {
        let mut below = Marks::default();
        differ(shape.child(name), old.get(name), new.get(name), &mut below);
        if shape.is_root() && name == "metadata" {
            // Every record has metadata, so nobody owns that it is there.
            (below.changed.member, below.removed.member) = (false, false);
        }
        marks.attach(|| field(name), below);
    }
}

fn lists(shape: Shape, mut old: Vec<(String, &Value)>, mut new: Vec<(String, &Value)>, marks: &mut Marks) {
    old.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    new.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    while let Some(element) = old.peek().into_iter().chain(new.peek()).map(|(element, _)| element).min().cloned() {
        let was = old.next_if(|(other, _)| *other == element).map(|(_, item)| item);
        let is = new.next_if(|(other, _)| *other == element).map(|(_, item)| item);
        let mut below = Marks::default();
        differ(shape.item(), was, is, &mut below);
        marks.attach(|| element.clone(), below);
    }
}

/// The fields a configuration names, which are those its applier owns.
pub(super) fn owned(shape: Shape, config: &Value) -> FieldSet {
    let mut all = Branch::default();
    name(shape, config, &mut all);
    all.into_set()
}

fn name(shape: Shape, value: &Value, marks: &mut Branch) {
    match shape.form(Some(value)) {
        Form::Map(map) => {
            for (key, value) in map.iter().filter(|(key, _)| shape.tracks(key)) {
                let mut below = Branch::default();
                name(shape.child(key), value, &mut below);
                let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                below.member |= hollow || !shape.is_field(key);
                if shape.is_root() && key == "metadata" {
                    below.member = false;
                }
                marks.attach(|| field(key), below);
            }
        }
        Form::List(items) => {
            for (element, item) in items {
                let mut below = Branch::default();
                name(shape.item(), item, &mut below);
                below.member = true;
                marks.attach(|| element, below);
            }
        }
        Form::Absent | Form::Null | Form::Leaf => marks.member = true,
    }
}
