//! `apply`: make the records be as the manifests say.
//!
//! Every apply is a server-side apply: the server merges, and knows which manager set which field. So
//! manifests applied here, by kubectl and by Git sync meet each other with conflicts that name the other,
//! instead of undoing one another's work.

mod atomic;
pub mod diff;
mod prune;
mod refusal;

use super::args::{ApplyArgs, DryRun, Globals};
use super::connect::{Context, connect};
use super::failure::{FAILED, Failure};
use super::manifest::{self, Document, twice};
use super::{target, ui};
use crate::resource::{FieldErrors, labels};
use serde_json::{Value, json};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Changed,
    Unchanged,
}

/// Label that names the set a record was applied with.
fn set_label() -> String {
    format!("{}applied-by", labels::PREFIX)
}

/// Runs `apply`.
///
/// # Errors
/// When a manifest cannot be read, or the API refuses a record.
pub async fn run(globals: &Globals, args: ApplyArgs) -> Result<(), Failure> {
    check(&args)?;
    let documents = read(&args.files.files, args.files.recursive, args.selector.as_deref())?;
    these(globals, &args, &documents).await
}

/// Applies records that were read, and says what became of each.
///
/// # Errors
/// When the API refuses a record.
pub async fn these(globals: &Globals, args: &ApplyArgs, documents: &[Document]) -> Result<(), Failure> {
    if args.dry_run == DryRun::Client {
        return offline(documents);
    }
    let context = connect(globals).await?;
    let records = prepare(&context, documents, args.set.as_deref())?;
    if args.atomic {
        atomic::run(&context, args, &records).await?;
    } else {
        each(&context, args, &records).await?;
    }
    if args.prune {
        prune::run(&context, args, &records).await?;
    }
    Ok(())
}

fn check(args: &ApplyArgs) -> Result<(), Failure> {
    if args.prune && args.set.is_none() && args.selector.is_none() {
        return Err(Failure::usage("--prune needs to know which records belong together")
            .hint("name the set with --set NAME, or give their labels with -l"));
    }
    match &args.set {
        Some(set) => crate::resource::names::dns_label(set).map_err(|e| Failure::usage(format!("--set {set}: {e}"))),
        None => Ok(()),
    }
}

/// Reads the manifests and leaves out those that do not fit the selector.
///
/// # Errors
/// With everything that is wrong in any of them, or when nothing is left.
pub fn read(files: &[String], recursive: bool, selector: Option<&str>) -> Result<Vec<Document>, Failure> {
    let wanted = selector.map(Labels::parse).transpose()?;
    let (mut documents, complaints) = manifest::load(files, recursive);
    if !complaints.is_empty() {
        return Err(Failure::from(complaints).hint("nothing was applied"));
    }
    documents.retain(|d| wanted.as_ref().is_none_or(|w| w.fit(&d.value)));
    if documents.is_empty() {
        let of = selector.map(|s| format!(" with the labels {s}")).unwrap_or_default();
        return Err(Failure::new(format!("no records{of} in {}", files.join(", "))));
    }
    Ok(documents)
}

/// Checks the records against the kinds' own rules, without a server.
fn offline(documents: &[Document]) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for d in documents {
        match d.def.rules(d.value.get("spec").unwrap_or(&json!({}))) {
            Ok(None) => {}
            Ok(Some(rules)) => {
                let mut errors = FieldErrors::default();
                rules.validate(&mut errors);
                wrong.extend(errors.0.iter().map(|e| d.complaint(&e.path, e.to_string())));
            }
            Err(message) => wrong.push(d.complaint("spec", format!("spec: Invalid value: {message}"))),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.into());
    }
    let lines: Vec<String> =
        documents.iter().map(|d| format!("{} checked (client dry run)", target::title(d.def, &d.name))).collect();
    ui::say(&lines.join("\n"))
}

/// A document made ready to send: with its project and its set's label.
pub struct Record<'d> {
    /// Where it came from.
    pub document: &'d Document,
    /// Its project.
    pub namespace: Option<String>,
    /// What is sent.
    pub value: Value,
}

/// Makes the documents ready to send.
///
/// # Errors
/// When one names another project than `-n` does.
pub fn prepare<'d>(context: &Context, documents: &'d [Document], set: Option<&str>) -> Result<Vec<Record<'d>>, Failure> {
    let mut wrong = Vec::new();
    let mut records = Vec::new();
    for d in documents {
        let other = d.namespace.as_ref().filter(|ns| context.namespace_given && d.def.namespaced && **ns != context.namespace);
        if let Some(ns) = other {
            let message =
                format!("metadata.namespace: Invalid value: \"{ns}\": -n says \"{}\"; leave one of them out", context.namespace);
            wrong.push(d.complaint("metadata.namespace", message));
            continue;
        }
        let namespace = d.def.namespaced.then(|| d.namespace.clone().unwrap_or_else(|| context.namespace.clone()));
        let mut value = d.value.clone();
        if let Some(ns) = &namespace {
            value["metadata"]["namespace"] = json!(ns);
        }
        if let Some(set) = set {
            label(&mut value, set);
        }
        records.push(Record { document: d, namespace, value });
    }
    // One that names its project and one that leaves it to `-n` may be the same record.
    wrong.extend(twice(records.iter().map(|record| (record.document, record.namespace.as_deref()))));
    if wrong.is_empty() { Ok(records) } else { Err(wrong.into()) }
}

fn label(value: &mut Value, set: &str) {
    let labels = &mut value["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[set_label()] = json!(set);
}

/// Applies record by record; one that is refused does not hold up the others.
async fn each(context: &Context, args: &ApplyArgs, records: &[Record<'_>]) -> Result<(), Failure> {
    let mut refused = Vec::new();
    for record in records {
        let d = record.document;
        let before = context.get(d.def, record.namespace.as_deref(), &d.name).await?;
        let dry = args.dry_run == DryRun::Server;
        let sent = context.apply(d.def, record.namespace.as_deref(), &d.name, &record.value, dry, args.force_conflicts).await?;
        match sent {
            Ok(after) => ui::say(&report(record, outcome(before.as_ref(), &after), args))?,
            Err(kube::Error::Api(status)) => refused.push(refusal::of(record, &status)),
            Err(e) => return Err(e.into()),
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(refusal::all(&refused, args.prune)) }
}

/// Compares a record before and after. In a dry run the version does not tell, so the content does.
fn outcome(before: Option<&Value>, after: &Value) -> Outcome {
    let Some(before) = before else { return Outcome::Created };
    let bare = |v: &Value| {
        let mut v = v.clone();
        if let Some(metadata) = v["metadata"].as_object_mut() {
            ["managedFields", "resourceVersion", "generation"].iter().for_each(|f| drop(metadata.remove(*f)));
        }
        v
    };
    if before["metadata"]["uid"] != after["metadata"]["uid"] {
        Outcome::Created
    } else if before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"] || bare(before) == bare(after) {
        Outcome::Unchanged
    } else {
        Outcome::Changed
    }
}

/// `workspace.devsanctum.io/web configured`, as kubectl reports it.
fn report(record: &Record<'_>, outcome: Outcome, args: &ApplyArgs) -> String {
    let done = match outcome {
        _ if args.server_side => "serverside-applied",
        Outcome::Created => "created",
        Outcome::Changed => "configured",
        Outcome::Unchanged => "unchanged",
    };
    let dry = if args.dry_run == DryRun::Server { " (server dry run)" } else { "" };
    format!("{} {done}{dry}", target::title(record.document.def, &record.document.name))
}

/// Equality-based label selectors, for choosing among manifests.
struct Labels(Vec<(String, Option<String>, bool)>);

impl Labels {
    fn parse(text: &str) -> Result<Self, Failure> {
        let one = |part: &str| {
            let part = part.trim();
            let (key, value, wanted) = match (part.split_once("!="), part.split_once('='), part.strip_prefix('!')) {
                (Some((k, v)), _, _) => (k, Some(v), false),
                (_, Some((k, v)), _) => (k, Some(v.trim_start_matches('=')), true),
                (_, _, Some(k)) => (k, None, false),
                _ => (part, None, true),
            };
            if key.trim().is_empty() || key.contains(['(', ')', ' ']) {
                return Err(Failure::usage(format!(
                    "-l {text}: must be KEY=VALUE, KEY!=VALUE, KEY or !KEY, with commas between"
                )));
            }
            Ok((key.trim().to_owned(), value.map(|v| v.trim().to_owned()), wanted))
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }

    fn fit(&self, record: &Value) -> bool {
        self.0.iter().all(|(key, value, wanted)| {
            let held = record["metadata"]["labels"][key].as_str();
            let fits = held.is_some_and(|h| value.as_ref().is_none_or(|v| v == h));
            fits == *wanted
        })
    }
}

/// The exit of an apply of which something was refused.
fn failed(message: String) -> Failure {
    Failure { code: FAILED, ..Failure::new(message) }
}

#[cfg(test)]
mod tests;
