//! What the server refused, shown at its place in the file.

use super::Record;
use crate::cli::failure::Failure;
use crate::cli::manifest::position::Complaint;
use kube::core::Status;

/// A record that was refused.
pub struct Refusal {
    complaints: Vec<Complaint>,
    conflict: bool,
}

/// Finds the place of every cause the server names.
pub fn of(record: &Record<'_>, status: &Status) -> Refusal {
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    let fields = causes.iter().filter(|c| !c.field.is_empty());
    let mut complaints: Vec<Complaint> = fields.map(|c| field(record, &c.field, &c.message)).collect();
    if complaints.is_empty() {
        let d = record.document;
        complaints.push(d.complaint("kind", format!("{} \"{}\": {}", d.def.kind, d.name, status.message)));
    }
    Refusal { complaints, conflict: status.reason == "Conflict" }
}

/// A complaint about a field, worded `spec.ports[0].port: Invalid value: …` whichever way the server words it.
pub fn field(record: &Record<'_>, path: &str, message: &str) -> Complaint {
    let path = path.trim_start_matches('.');
    let message = message.strip_prefix(path).and_then(|m| m.strip_prefix(": ")).unwrap_or(message);
    record.document.complaint(path, format!("{path}: {message}"))
}

/// All refusals of one run as one failure.
pub fn all(refused: &[Refusal], pruning: bool) -> Failure {
    let complaints: Vec<Complaint> = refused.iter().flat_map(|r| r.complaints.iter().cloned()).collect();
    let failure = super::failed(Failure::from(complaints).message);
    match (refused.iter().any(|r| r.conflict), pruning) {
        (true, _) => failure
            .hint("another manager set these fields: take them over with --force-conflicts, or leave them out of the manifest"),
        (false, true) => failure.hint("nothing was pruned, because not every record could be applied"),
        (false, false) => failure,
    }
}
