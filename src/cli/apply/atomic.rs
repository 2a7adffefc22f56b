//! `apply --atomic`: all records in one transaction, through `POST /devsanctum/apply`.
//!
//! Records of one set may name one another, so a dry run of each by itself would refuse a set that is fine
//! as a whole: only the server can judge them together.

use super::{Outcome, Record, refusal, report};
use crate::cli::args::{ApplyArgs, DryRun};
use crate::cli::connect::Context;
use crate::cli::failure::Failure;
use crate::cli::manifest::position::Complaint;
use crate::cli::rest::MANAGER;
use crate::cli::ui;
use kube::core::Status;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Answer {
    results: Vec<Applied>,
}

#[derive(Deserialize)]
struct Applied {
    index: usize,
    action: String,
}

/// Applies all records, or none.
pub async fn run(context: &Context, args: &ApplyArgs, records: &[Record<'_>]) -> Result<(), Failure> {
    let documents: Vec<&Value> = records.iter().map(|r| &r.value).collect();
    let dry = args.dry_run == DryRun::Server;
    let body = json!({"dryRun": dry, "force": args.force_conflicts, "manager": MANAGER, "documents": documents});
    let answer = match context.post("/devsanctum/apply", &body).await? {
        Ok(answer) => serde_json::from_value::<Answer>(answer)?,
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 405 => {
            return Err(Failure::new("this control plane cannot apply in one transaction").hint("apply without --atomic"));
        }
        Err(kube::Error::Api(status)) => return Err(refused(records, &status)),
        Err(e) => return Err(e.into()),
    };
    for result in answer.results {
        let Some(record) = records.get(result.index) else { continue };
        let outcome = match result.action.as_str() {
            "created" => Outcome::Created,
            "unchanged" => Outcome::Unchanged,
            _ => Outcome::Changed,
        };
        ui::say(&report(record, outcome, args))?;
    }
    Ok(())
}

/// The causes name their record first: `documents[3].spec.owner`.
fn refused(records: &[Record<'_>], status: &Status) -> Failure {
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    let complaints: Vec<Complaint> = causes.iter().filter_map(|c| place(records, &c.field, &c.message)).collect();
    if complaints.is_empty() {
        return Failure::from_status(status);
    }
    super::failed(Failure::from(complaints).message).hint("nothing was applied")
}

fn place(records: &[Record<'_>], path: &str, message: &str) -> Option<Complaint> {
    let (index, rest) = path.strip_prefix("documents[")?.split_once(']')?;
    let record = records.get(index.parse::<usize>().ok()?)?;
    let message = message.strip_prefix(&format!("documents[{index}].")).unwrap_or(message);
    let path = rest.trim_start_matches('.');
    if path.is_empty() {
        let d = record.document;
        return Some(d.complaint("kind", format!("{} \"{}\": {message}", d.def.kind, d.name)));
    }
    Some(refusal::field(record, path, message))
}

#[cfg(test)]
pub(super) fn refused_for_tests(records: &[Record<'_>], status: &Status) -> Failure {
    refused(records, status)
}
