//! The way to a field, kept on the stack and only written out when there is something to say about it.

use serde_json::Value;
use std::fmt;

/// A path from the root of a record.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// The record.
    Root,
    /// `.name`.
    Field(&'a Path<'a>, &'a str),
    /// `[key]` of a map.
    Key(&'a Path<'a>, &'a str),
    /// `[0]` of a list.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The path of a field of this object.
    pub fn field(&'a self, name: &'a str) -> Self {
        Path::Field(self, name)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Key(parent, key) => write!(f, "{parent}[{key}]"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A value worth showing in an error: a scalar, and not too long.
pub(super) fn scalar(value: &Value) -> Option<Value> {
    match value {
        Value::Object(_) | Value::Array(_) => None,
        Value::String(text) if text.len() > 200 => Some(text.chars().take(200).collect::<String>().into()),
        other => Some(other.clone()),
    }
}
