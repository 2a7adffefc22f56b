//! Errors of the API, rendered as the Kubernetes `Status` object that client-go, kube-rs and kubectl read.

use super::managed_fields::{self, Conflict};
use super::schema::MAX_TOLD;
use crate::resource::{FieldError, KindDef, Problem};
use serde_json::{Value, json};
use std::time::Duration;

/// What a refused request is told. [`ApiError::to_status`] is the body, [`ApiError::code`] the HTTP code.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct ApiError(Box<Refused>);

/// Boxed: nearly every function here may fail, and what succeeds should not carry the room for this.
#[derive(Clone, Debug, PartialEq)]
struct Refused {
    code: u16,
    reason: &'static str,
    message: String,
    subject: Option<Subject>,
    causes: Vec<Cause>,
    retry_after: Option<u32>,
}

/// What the error is about. `kind` is the plural where Kubernetes names the resource, the kind where it names that.
#[derive(Clone, Debug, PartialEq)]
struct Subject {
    group: &'static str,
    kind: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

/// `workspaces.devsanctum.io`, or `events` in the core group.
fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// `Workspace in version "v1" cannot be handled as a Workspace: …`, the frame Kubernetes gives decoding errors.
fn undecodable(def: &KindDef, why: &str) -> String {
    format!("{kind} in version {:?} cannot be handled as a {kind}: {why}", def.version, kind = def.kind)
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Refused { code, reason, message: message.into(), subject: None, causes: Vec::new(), retry_after: None }))
    }

    fn about_resource(mut self, def: &KindDef, name: &str) -> Self {
        self.0.subject = Some(Subject { group: def.group, kind: def.plural.clone(), name: name.to_owned() });
        self
    }

    fn retry_in(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: nobody is signed in, or the credential is not known.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    /// 429: the caller has asked too often.
    pub fn too_many_requests(wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        Self::new(429, "TooManyRequests", "too many requests by this caller: try again later, and list less or watch instead")
            .retry_in(seconds)
    }

    /// 429: the caller has as many of something open as one may have. Without a time to wait: it is theirs to end some.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message)
    }

    /// 403 about a record: `workspaces.devsanctum.io "x" is forbidden: <why>`. `name` may be empty (lists, creates).
    pub fn forbidden(def: &KindDef, name: &str, why: impl AsRef<str>) -> Self {
        let what = qualified(&def.plural, def.group);
        let message = match name {
            "" => format!("{what} is forbidden: {}", why.as_ref()),
            name => format!("{what} {name:?} is forbidden: {}", why.as_ref()),
        };
        Self::new(403, "Forbidden", message).about_resource(def, name)
    }

    /// 403 about something that is not a record, such as a path.
    pub fn forbidden_request(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// 404 about a record.
    pub fn not_found(def: &KindDef, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(&def.plural, def.group));
        Self::new(404, "NotFound", message).about_resource(def, name)
    }

    /// 404 about something that is no record.
    pub fn not_found_request(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    /// 404 about a path that is not served.
    pub fn unknown_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 405: the resource is served, but not with this method.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(405, "MethodNotAllowed", message)
    }

    /// 406: no representation the client accepts.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 409: a create met a record of the same name.
    pub fn already_exists(def: &KindDef, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(&def.plural, def.group));
        Self::new(409, "AlreadyExists", message).about_resource(def, name)
    }

    /// 409: `Operation cannot be fulfilled on workspaces.devsanctum.io "x": <why>`.
    pub fn conflict(def: &KindDef, name: &str, why: impl AsRef<str>) -> Self {
        let what = qualified(&def.plural, def.group);
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {}", why.as_ref());
        Self::new(409, "Conflict", message).about_resource(def, name)
    }

    /// 409: the record changed since the client read it, in Kubernetes' words.
    pub fn modified(def: &KindDef, name: &str) -> Self {
        Self::conflict(def, name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    /// 409: a server-side apply would change fields other managers own.
    pub fn apply_conflict(conflicts: &[Conflict]) -> Self {
        let mut error = Self::new(409, "Conflict", managed_fields::conflict_message(conflicts));
        let cause = |c: &Conflict| Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with {}", c.holder()),
            field: c.path.clone(),
        };
        error.0.causes = conflicts.iter().map(cause).collect();
        error
    }

    /// 410 with reason `Expired`: a resource version or a continue token is too old; clients list anew.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 422 naming every refused field. Unknown fields are decoding errors to Kubernetes: with one among `errors`
    /// the answer is 400 and says `strict decoding error: unknown field "spec.foo"`, as kubectl users know it.
    pub fn invalid(def: &KindDef, name: &str, errors: &[FieldError]) -> Self {
        let errors = &errors[..errors.len().min(MAX_TOLD)];
        let texts = |unknown: bool| -> Vec<String> {
            errors.iter().filter(|e| (e.problem == Problem::Unknown) == unknown).map(described).collect()
        };
        let (unknown, wrong) = (texts(true), texts(false));
        let wrong = if wrong.len() == 1 { wrong[0].clone() } else { format!("[{}]", wrong.join(", ")) };
        let mut error = if unknown.is_empty() {
            let message = format!("{} {name:?} is invalid: {wrong}", qualified(&def.kind, def.group));
            Self::new(422, "Invalid", message)
        } else {
            let and = if unknown.len() == errors.len() { String::new() } else { format!("; also {wrong}") };
            let why = format!("strict decoding error: {}{and}", unknown.join(", "));
            Self::new(400, "BadRequest", undecodable(def, &why))
        };
        error.0.subject = Some(Subject { group: def.group, kind: def.kind.clone(), name: name.to_owned() });
        error.0.causes = errors.iter().map(cause).collect();
        error
    }

    /// Several documents were sent together and some were refused, each at its index. Code and reason are the first
    /// one's; every cause says which document it is about.
    pub fn of_documents(refused: Vec<(usize, Self)>, of: usize) -> Self {
        let texts: Vec<String> = refused.iter().map(|(i, e)| format!("documents[{i}]: {e}")).collect();
        let (code, reason) = refused.first().map_or((400, "BadRequest"), |(_, e)| (e.0.code, e.0.reason));
        let words = format!("{} of {of} documents refused, nothing was applied: {}", refused.len(), texts.join("; "));
        let mut error = Self::new(code, reason, words);
        for (index, refusal) in refused {
            let Refused { reason, message, mut causes, .. } = *refusal.0;
            if causes.is_empty() {
                causes.push(Cause { reason, message, field: String::new() });
            }
            for mut cause in causes {
                let dot = if cause.field.is_empty() || cause.field.starts_with('.') { "" } else { "." };
                cause.field = format!("documents[{index}]{dot}{}", cause.field);
                error.0.causes.push(cause);
            }
        }
        error
    }

    /// 400: the body is not a record of this kind at all.
    pub fn undecodable(def: &KindDef, why: impl AsRef<str>) -> Self {
        Self::bad_request(undecodable(def, why.as_ref()))
    }

    /// 408: the body did not come in time.
    pub fn request_timeout(message: impl Into<String>) -> Self {
        Self::new(408, "Timeout", message)
    }

    /// 413: the body is larger than the server takes.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415: `accepted` lists what may be sent instead.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {}", accepted.join(", "));
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422 about the request as a whole, such as a JSON patch whose `test` failed.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 500: our fault. The message must not carry secrets; the cause belongs in the log.
    pub fn internal(message: impl AsRef<str>) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {}", message.as_ref()))
    }

    /// 503: not ready, or going down.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: no answer in time; the client may try again in `seconds`.
    pub fn server_timeout(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(504, "ServerTimeout", message).retry_in(seconds)
    }

    /// The HTTP code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// The machine-readable reason, such as `NotFound`.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// Why, for the audit log: without anything that was sent, which the words of 400 and 422 repeat.
    pub fn noted(&self) -> String {
        match self.0.code {
            400 | 413 | 415 | 422 => {
                let fields: Vec<&str> = self.0.causes.iter().map(|c| c.field.as_str()).filter(|f| !f.is_empty()).collect();
                if fields.is_empty() { self.0.reason.to_owned() } else { format!("{}: {}", self.0.reason, fields.join(", ")) }
            }
            _ if self.0.message.starts_with(self.0.reason) => self.0.message.clone(),
            _ => format!("{}: {}", self.0.reason, self.0.message),
        }
    }

    /// Seconds for a `Retry-After` header.
    pub fn retry_after(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "reason": self.0.reason, "code": self.0.code,
        });
        let details = self.details();
        if details.as_object().is_some_and(|d| !d.is_empty()) {
            status["details"] = details;
        }
        status
    }

    fn details(&self) -> Value {
        let mut details = json!({});
        if let Some(subject) = &self.0.subject {
            for (key, text) in [("name", subject.name.as_str()), ("group", subject.group), ("kind", subject.kind.as_str())] {
                if !text.is_empty() {
                    details[key] = json!(text);
                }
            }
        }
        if !self.0.causes.is_empty() {
            let causes = self.0.causes.iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}));
            details["causes"] = causes.collect();
        }
        if let Some(seconds) = self.0.retry_after {
            details["retryAfterSeconds"] = json!(seconds);
        }
        details
    }
}

/// An error with its path, as it stands in the message. An unknown field is quoted in kubectl's words.
fn described(error: &FieldError) -> String {
    match error.problem {
        Problem::Unknown => error.detail.clone(),
        _ => error.to_string(),
    }
}

/// A cause carries the path apart, and kubectl puts the two together again.
fn cause(error: &FieldError) -> Cause {
    let text = described(error);
    let message = text.strip_prefix(&format!("{}: ", error.path)).map_or(text.clone(), str::to_owned);
    Cause { reason: error.problem.reason(), message, field: error.path.clone() }
}
