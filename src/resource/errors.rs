//! Field errors, worded as Kubernetes words them, so that kubectl and scripts read them alike.

use serde_json::Value;
use std::fmt;

/// Why a field is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value does not have the form or range asked for.
    Invalid,
    /// The value is missing.
    Required,
    /// The value is not one of those allowed.
    NotSupported,
    /// Something else already has this value.
    Duplicate,
    /// The record named does not exist.
    NotFound,
    /// The value may not be set, or not changed.
    Forbidden,
    /// The field does not exist.
    Unknown,
}

impl Problem {
    /// The machine-readable cause, as in Kubernetes' `StatusCause.reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::Forbidden => "FieldValueForbidden",
            Self::Unknown => "FieldValueUnknown",
        }
    }
}

/// One refused field: where, what was given, and what is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Dotted path from the root of the record, such as `spec.ports[0].port`.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
    /// The value given, when showing it helps and it is not a secret.
    pub value: Option<Value>,
    /// What is allowed, or what to do next.
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.problem {
            Problem::Invalid => "Invalid value",
            Problem::Required => "Required value",
            Problem::NotSupported => "Unsupported value",
            Problem::Duplicate => "Duplicate value",
            Problem::NotFound => "Not found",
            Problem::Forbidden => "Forbidden",
            Problem::Unknown => "Unknown field",
        };
        write!(f, "{}: {label}", self.path)?;
        if let Some(value) = &self.value {
            write!(f, ": {}", shorten(&value.to_string()))?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// A hostile value must not flood an error message or a log line.
fn shorten(text: &str) -> String {
    const MAX: usize = 120;
    if text.chars().count() <= MAX {
        return text.to_owned();
    }
    text.chars().take(MAX).chain("…".chars()).collect()
}

/// Field errors being collected, so that one answer names them all.
#[derive(Debug, Default)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    /// Adds an error of any kind.
    pub fn push(&mut self, path: impl Into<String>, problem: Problem, value: Option<Value>, detail: impl Into<String>) {
        self.0.push(FieldError { path: path.into(), problem, value, detail: detail.into() });
    }
    /// Adds an error about a value of the wrong form.
    pub fn invalid(&mut self, path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, Problem::Invalid, Some(value.into()), detail);
    }
    /// Adds an error about a missing value.
    pub fn required(&mut self, path: impl Into<String>, detail: impl Into<String>) {
        self.push(path, Problem::Required, None, detail);
    }
    /// Adds an error about a value that is already taken.
    pub fn duplicate(&mut self, path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, Problem::Duplicate, Some(value.into()), detail);
    }
    /// Adds what a name validator said, if it refused.
    pub fn check<T>(&mut self, path: impl Into<String>, value: &str, result: Result<T, String>) {
        if let Err(detail) = result {
            self.invalid(path, value, detail);
        }
    }
}
