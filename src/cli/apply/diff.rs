//! `diff`: what applying the manifests would change. Exit codes are kubectl's: 0 nothing, 1 something, 2 failed.

use super::{Record, prepare, read, refusal};
use crate::cli::args::{DiffArgs, Globals};
use crate::cli::connect::{Context, connect};
use crate::cli::failure::Failure;
use crate::cli::output::{tidy, yaml};
use crate::cli::ui::{self, Tone, Ui};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

/// Exit code when there are differences.
const DIFFERENT: u8 = 1;
/// Exit code when the comparison failed.
const FAILED: u8 = 2;

/// Runs `diff`.
///
/// # Errors
/// With the exit code 1 and no message when there are differences; with 2 when it failed.
pub async fn run(globals: &Globals, args: DiffArgs) -> Result<(), Failure> {
    let failed = |f: Failure| Failure { code: if f.code == 0 { 0 } else { FAILED }, ..f };
    if compare(globals, args).await.map_err(failed)? { Err(Failure::silent(DIFFERENT)) } else { Ok(()) }
}

async fn compare(globals: &Globals, args: DiffArgs) -> Result<bool, Failure> {
    let documents = read(&args.files.files, args.files.recursive, None)?;
    let context = connect(globals).await?;
    let (mut different, mut refused) = (false, Vec::new());
    for record in prepare(&context, &documents, None)? {
        let (before, after) = versions(&context, &record).await?;
        match after {
            Ok(after) => {
                let text = unified(&record, before, after, context.ui)?;
                different |= !text.is_empty();
                if !text.is_empty() {
                    ui::say(&text)?;
                }
            }
            Err(kube::Error::Api(status)) => refused.push(refusal::of(&record, &status)),
            Err(e) => return Err(e.into()),
        }
    }
    if refused.is_empty() { Ok(different) } else { Err(refusal::all(&refused, false)) }
}

type Versions = (Option<Value>, Result<Value, kube::Error>);

/// The record as it is, and as the server says it would be. Forced, so that conflicts show as changes.
async fn versions(context: &Context, record: &Record<'_>) -> Result<Versions, Failure> {
    let (d, namespace) = (record.document, record.namespace.as_deref());
    let before = context.get(d.def, namespace, &d.name).await?;
    let after = context.apply(d.def, namespace, &d.name, &record.value, true, true).await?;
    Ok((before, after))
}

fn unified(record: &Record<'_>, before: Option<Value>, after: Value, ui: Ui) -> Result<String, Failure> {
    let d = record.document;
    let fresh = before.is_none();
    let text = |value: Option<Value>| match value {
        Some(mut value) => {
            bare(&mut value, fresh);
            // Values of secrets are write-only; a server that shows them must not make us do so too.
            if d.def.kind == "Secret" {
                mask(&mut value);
            }
            yaml(&value)
        }
        None => Ok(String::new()),
    };
    let (before, after) = (text(before)?, text(Some(after))?);
    let place = [record.namespace.as_deref(), Some(&d.name)].into_iter().flatten().collect::<Vec<_>>().join("/");
    let name = ui::clean(&format!("{}/{place}", d.def.kind));
    Ok(paint(&TextDiff::from_lines(&before, &after), &name, ui))
}

/// Leaves out what every write changes by itself, and what a dry run can only make up.
fn bare(value: &mut Value, fresh: bool) {
    tidy(value);
    if let Some(metadata) = value["metadata"].as_object_mut() {
        let made_up: &[&str] = if fresh {
            &["uid", "creationTimestamp", "resourceVersion", "generation"]
        } else {
            &["resourceVersion", "generation"]
        };
        made_up.iter().for_each(|f| drop(metadata.remove(*f)));
    }
}

fn mask(value: &mut Value) {
    if let Some(data) = value.pointer_mut("/spec/data").and_then(Value::as_object_mut) {
        data.values_mut().for_each(|v| *v = "***".into());
    }
}

fn paint(diff: &TextDiff<'_, '_, str>, name: &str, ui: Ui) -> String {
    let mut text = String::new();
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        if text.is_empty() {
            text.push_str(&ui.paint(Tone::Strong, &format!("--- live/{name}\n+++ merged/{name}\n")));
        }
        text.push_str(&ui.paint(Tone::Dim, &format!("{}\n", hunk.header())));
        for change in hunk.iter_changes() {
            let (sign, tone) = match change.tag() {
                ChangeTag::Delete => ('-', Some(Tone::Bad)),
                ChangeTag::Insert => ('+', Some(Tone::Good)),
                ChangeTag::Equal => (' ', None),
            };
            let line = format!("{sign}{}", change.value().trim_end_matches('\n'));
            text.push_str(&tone.map_or_else(|| line.clone(), |t| ui.paint(t, &line)));
            text.push('\n');
        }
    }
    text
}
