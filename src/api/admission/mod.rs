//! Admission: what a write must hold against the other records, inside its own transaction.

mod kinds;
mod opened;
mod project;
mod quota;
mod references;
mod source;

pub use opened::forget_visitors;
pub use project::namespace_of;
pub use source::name_source;

use super::bootstrap::RESERVED;
use super::facts::Facts;
use super::served::Served;
use super::status::ApiError;
use super::write::WriteRequest;
use super::{fail, record};
use crate::access::{Edit, IdentityKind, check_fields};
use crate::resource::{FieldErrors, GROUP, Problem, SETTINGS_NAME};
use crate::store::{Key, Stored, Tx};
use serde_json::Value;

/// A write, as admission sees it.
pub struct Subject<'a> {
    /// How it was asked for.
    pub request: &'a WriteRequest,
    /// Where the record lies.
    pub key: &'a Key,
    /// Its state before; `None` for a create.
    pub old: Option<&'a Value>,
    /// Its state after.
    pub new: &'a Value,
    /// What it said about others before.
    pub before: Option<&'a Facts>,
    /// What it says about others now.
    pub facts: &'a Facts,
}

impl Subject<'_> {
    /// The project it belongs to, or is.
    fn project(&self) -> &str {
        if self.request.served.def.kind == "Project" { &self.key.name } else { &self.key.namespace }
    }
}

/// Names a kind does not allow. Needs no other record.
pub fn check_name(served: &Served, name: &str, errors: &mut FieldErrors) {
    if served.def.group != GROUP || name.is_empty() {
        return;
    }
    if served.def.kind == "Settings" && name != SETTINGS_NAME {
        let detail = format!("there is one Settings record, named {SETTINGS_NAME:?}");
        errors.push("metadata.name", Problem::NotSupported, Some(name.into()), detail);
    }
    if served.def.kind == "Project" && RESERVED.contains(&name) {
        let detail = format!("this name is reserved ({}): choose another", RESERVED.join(", "));
        errors.push("metadata.name", Problem::Invalid, Some(name.into()), detail);
    }
}

/// Judges a write.
///
/// # Errors
/// 422 naming every field that does not fit the other records; 403 and 404 about its project.
pub async fn admit(tx: &mut Tx, subject: &Subject<'_>) -> Result<(), ApiError> {
    settable(subject.request, &subject.key.name, subject.old, subject.new)?;
    project::check_namespace(tx, subject).await?;
    let mut errors = FieldErrors::default();
    references::check(tx, subject, &mut errors).await?;
    // The rules of a kind follow what it names: not where hardly any of that exists.
    if !references::is_full(&errors) {
        kinds::check(tx, subject, &mut errors).await?;
    }
    if errors.0.is_empty() {
        return quota::check(tx, subject).await;
    }
    Err(ApiError::invalid(subject.request.served.def, &subject.key.name, &errors.0))
}

/// Fields that the caller may not set, though they may write the record.
fn settable(request: &WriteRequest, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let WriteRequest { served, namespace, caller, .. } = request;
    if served.def.group != GROUP || caller.who.kind != IdentityKind::User {
        return Ok(());
    }
    let edit = Edit { kind: &served.def.kind, namespace, old, new };
    let judged = caller.directory.now(|records| check_fields(&caller.who, &edit, records));
    judged.map_err(|e| ApiError::forbidden(served.def, name, format!("{}: {}", e.path, e.why)))
}

/// Whether the caller may delete the very record that lies there: who was let in was asked by its name alone.
///
/// # Errors
/// 403 where it is somebody else's.
pub fn may_go(request: &WriteRequest, stored: &Stored) -> Result<(), ApiError> {
    if request.caller.who.kind != IdentityKind::User {
        return Ok(());
    }
    let record = record::parse(&stored.body).map_err(fail::damaged)?;
    settable(request, &stored.key.name, Some(&record), &record)
}
