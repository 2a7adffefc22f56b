//! Every bug that a simulation found, played again for ever: `tests/track-record/` has a plan and two lines of history for
//! each.

use super::child::{self, Asked};
use super::plan::Plan;
use super::points::Reference;
use crate::support::source::root;
use serde::Deserialize;

/// A file of the track record.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    /// What was wrong, and what made it right.
    history: [String; 2],
    plan: Plan,
}

#[test]
fn what_was_found_is_not_there_again() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("tests/track-record")).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut failed = Vec::new();
    for file in &files {
        let found: Found =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let folder = tempfile::tempdir().unwrap();
        let faultless = Plan::of(&found.plan.workload, found.plan.seed);
        let reference = (!faultless.is_day()).then(|| Reference::of(&faultless, folder.path()).file);
        let mut told = child::play(&Asked { plan: found.plan, reference, outcome: None });
        // What a plan's numbers meant may be another call by now; what it does must be right all the same.
        told.wrong.retain(|w| !w.starts_with("the plan"));
        if !told.wrong.is_empty() {
            failed.push(format!("{}: {}\n    {}", file.display(), found.history[0], told.wrong.join("\n    ")));
        }
    }
    println!("proof: track record {} played, {} failed", files.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
