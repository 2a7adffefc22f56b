//! Structural schemas: pruning, defaulting, validating.
//!
//! [`prepare`] is the gate every record passes before it is stored. It works as a Kubernetes API server does with custom
//! resources, and says `unknown field "spec.foo"` and `spec.port: Invalid value: …` in the same words.

mod limits;
mod metadata;
mod path;
mod prune;
#[cfg(test)]
mod tests;
mod validate;

pub(super) use limits::check_owned;
pub(super) use metadata::{label_value, qualified_name};

use crate::resource::{FieldError, FieldErrors, KindDef, Problem};
use path::Path;
use prune::Pruner;
use serde_json::{Value, json};

/// More errors or warnings than this are not told: a hostile body must not become a huge answer.
pub(super) const MAX_TOLD: usize = 50;

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
pub fn prepare(def: &KindDef, record: &mut Value, mode: FieldValidation) -> Result<Vec<String>, Vec<FieldError>> {
    limits::check(record).map_err(|error| vec![error])?;
    let mut errors = FieldErrors::default();
    let unknown = clean(def, record, Pruner::defaulting());
    metadata::drop_hollow(record);
    let warnings = judge(unknown, mode, &mut errors);
    identity(def, record, &mut errors);
    validate::validate(&def.schema, record, Path::Root, &mut errors);
    metadata::check(def, record, &mut errors);
    finish(def, warnings, errors)
}

/// Drops unknown fields and nulls, and nothing else: for the body of a server-side apply, whose defaults must not
/// become the applier's, and which may leave required fields to others. The merged record then goes through
/// [`prepare`].
///
/// # Errors
/// With `Strict`, every unknown field.
pub fn prune(def: &KindDef, record: &mut Value, mode: FieldValidation) -> Result<Vec<String>, Vec<FieldError>> {
    limits::check(record).map_err(|error| vec![error])?;
    let mut errors = FieldErrors::default();
    let unknown = clean(def, record, Pruner::default());
    let warnings = judge(unknown, mode, &mut errors);
    finish(def, warnings, errors)
}

/// Prunes the record and its metadata; returns what was unknown.
fn clean(def: &KindDef, record: &mut Value, mut pruner: Pruner) -> Vec<prune::Unknown> {
    pruner.record(&def.schema, record);
    if let Some(object) = record.get_mut("metadata") {
        pruner.value(metadata::schema(), object, Path::Root.field("metadata"));
    }
    pruner.unknown
}

fn judge(unknown: Vec<prune::Unknown>, mode: FieldValidation, errors: &mut FieldErrors) -> Vec<String> {
    let mut warnings = Vec::new();
    for field in unknown.into_iter().take(MAX_TOLD) {
        match mode {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.push(field.told()),
            FieldValidation::Strict => {
                let told = field.told();
                errors.push(field.path, Problem::Unknown, None, told);
            }
        }
    }
    warnings
}

/// `apiVersion` and `kind` are those of the path; a body may leave them out, not contradict them.
fn identity(def: &KindDef, record: &mut Value, errors: &mut FieldErrors) {
    let Some(record) = record.as_object_mut() else {
        return errors.push("", Problem::Invalid, None, format!("a {} must be an object", def.kind));
    };
    for (key, expected) in [("apiVersion", def.api_version()), ("kind", def.kind.clone())] {
        let given = record.entry(key).or_insert_with(|| json!(expected));
        if *given != json!(expected) {
            let given = path::scalar(given);
            errors.push(key, Problem::Invalid, given, format!("must be {expected:?} here"));
        }
    }
}

fn finish(def: &KindDef, warnings: Vec<String>, mut errors: FieldErrors) -> Result<Vec<String>, Vec<FieldError>> {
    if errors.0.is_empty() {
        return Ok(warnings);
    }
    errors.0.truncate(MAX_TOLD);
    if def.kind == "Secret" {
        // A secret's value stands in no message and no log.
        errors.0.iter_mut().filter(|e| e.path.starts_with("spec")).for_each(|e| e.value = None);
    }
    Err(errors.0)
}
