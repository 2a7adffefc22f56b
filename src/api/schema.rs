//! Structural schemas: pruning, defaulting, validating.

use crate::resource::{FieldError, KindDef};
use serde_json::Value;

/// What happens to fields the schema does not know (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped, and a warning is returned.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; absent or empty is `Warn`, as in Kubernetes.
    ///
    /// # Errors
    /// Lists what is allowed.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text.unwrap_or("") {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(format!("fieldValidation {other:?} is not known: must be 'Ignore', 'Warn' or 'Strict'")),
        }
    }
}

/// Makes a record fit to store: drops unknown fields and nulls, fills defaults, then checks everything.
/// Returns warnings for the `Warning` header.
///
/// # Errors
/// Every field that is wrong.
pub fn prepare(_def: &KindDef, _record: &mut Value, _mode: FieldValidation) -> Result<Vec<String>, Vec<FieldError>> {
    Ok(Vec::new())
}

/// Drops unknown fields and nulls, and nothing else: for the body of a server-side apply, whose defaults must not
/// become the applier's, and which may leave required fields to others. The merged record then goes through
/// [`prepare`].
///
/// # Errors
/// With `Strict`, every unknown field.
pub fn prune(_def: &KindDef, _record: &mut Value, _mode: FieldValidation) -> Result<Vec<String>, Vec<FieldError>> {
    Ok(Vec::new())
}
