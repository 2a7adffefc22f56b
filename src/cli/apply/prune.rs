//! `apply --prune`: delete what the set no longer holds.

use super::{Record, set_label};
use crate::cli::args::{ApplyArgs, DryRun};
use crate::cli::connect::Context;
use crate::cli::failure::Failure;
use crate::cli::rest::MANAGER;
use crate::cli::{target, ui};
use crate::resource::{GROUP, KindDef, kinds};
use serde_json::Value;
use std::collections::BTreeSet;

/// A record by kind, project and name.
type Key = (String, String, String);

/// Deletes the records of the set that are not among those applied, dependents first: of those alone that were applied by this
/// command before, whatever labels others have. Namespaces and other built-in kinds are never pruned.
pub async fn run(context: &Context, args: &ApplyArgs, records: &[Record<'_>]) -> Result<(), Failure> {
    let kept: BTreeSet<Key> = records.iter().map(|r| key(r.document.def, &r.value)).collect();
    let projects = projects(context, args, records);
    let is_meant = |record: &Value, def: &KindDef| {
        let project = record["metadata"]["namespace"].as_str().unwrap_or_default();
        was_applied(record) && (!def.namespaced || projects.as_ref().is_none_or(|projects| projects.contains(project)))
    };
    let mut selector: Vec<String> = args.selector.iter().cloned().collect();
    selector.extend(args.set.iter().map(|set| format!("{}={set}", set_label())));
    let dry = args.dry_run == DryRun::Server;
    for def in kinds().iter().rev().filter(|k| k.group == GROUP) {
        let (found, _) = context.list(def, None, &vec![("labelSelector", selector.join(","))]).await?;
        for record in found.iter().filter(|r| is_meant(r, def) && gone(r, def, &kept)) {
            let text = |field: &str| record["metadata"][field].as_str().map(str::to_owned);
            let name = text("name").unwrap_or_default();
            if context.delete(def, text("namespace").as_deref(), &name, text("uid").as_deref(), dry).await? {
                let note = if dry { " (server dry run)" } else { "" };
                ui::say(&format!("{} pruned{note}", ui::clean(&target::title(def, &name))))?;
            }
        }
    }
    Ok(())
}

/// The projects in which is pruned: that of `-n`, or all that a set is in; by labels alone, those of the manifests.
fn projects(context: &Context, args: &ApplyArgs, records: &[Record<'_>]) -> Option<BTreeSet<String>> {
    if context.namespace_given {
        return Some(BTreeSet::from([context.namespace.clone()]));
    }
    args.set.is_none().then(|| records.iter().filter_map(|record| record.namespace.clone()).collect())
}

/// Whether this command has applied it: others' records may have the same labels.
fn was_applied(record: &Value) -> bool {
    let entries = record["metadata"]["managedFields"].as_array();
    entries.into_iter().flatten().any(|entry| entry["manager"] == MANAGER && entry["operation"] == "Apply")
}

/// It left the set, and is not on its way out already.
fn gone(record: &Value, def: &KindDef, kept: &BTreeSet<Key>) -> bool {
    record["metadata"]["deletionTimestamp"].is_null() && !kept.contains(&key(def, record))
}

fn key(def: &KindDef, record: &Value) -> Key {
    let text = |field: &str| record["metadata"][field].as_str().unwrap_or_default().to_owned();
    let namespace = if def.namespaced { text("namespace") } else { String::new() };
    (def.kind.clone(), namespace, text("name"))
}
