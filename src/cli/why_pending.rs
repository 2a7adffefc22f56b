//! `workspace why-pending`: what a workspace waits for, in words.

use super::connect::Context;
use super::describe::words;
use super::failure::Failure;
use super::ui::{self, Tone, Ui, clean};
use super::{events, logs, target};
use crate::resource::conditions::READY;
use serde_json::Value;
use std::fmt::Write;

/// Warnings shown, the newest ones.
const SHOWN: usize = 5;

/// Runs `workspace why-pending`.
///
/// # Errors
/// When there is no such workspace, or the API refuses.
pub async fn run(context: &Context, name: &str) -> Result<(), Failure> {
    let name = logs::workspace(name)?;
    let found = context.get(target::kind("workspace")?, Some(&context.namespace), name).await?;
    let missing = || Failure::new(format!("workspace {name:?} does not exist in project {:?}", context.namespace));
    let object = found.ok_or_else(missing)?;
    let mut happened = events::about(context, &object).await?;
    happened.retain(|event| event["type"] == "Warning");
    ui::say(&text(&object, &happened, context.ui))
}

/// What is to be said of it.
fn text(object: &Value, warnings: &[Value], ui: Ui) -> String {
    let at = |path: &str| clean(object.pointer(path).and_then(Value::as_str).unwrap_or_default());
    let name = at("/metadata/name");
    let waits = |kind: &str| {
        let all = object.pointer("/status/conditions").and_then(Value::as_array)?;
        all.iter().find(|c| c["type"] == kind && c["status"] != "True").map(|c| words(c, ui))
    };
    if let Some(why) = waits("Deleting").filter(|_| object["metadata"]["deletionTimestamp"].is_string()) {
        return format!("workspace/{name} is being deleted, and waits at this:\n  {why}");
    }
    if let Some(why) = waits("Moved").filter(|_| object["status"]["move"].is_object()) {
        return format!("workspace/{name} moves to another server, and waits at this:\n  {why}");
    }
    if object["spec"]["running"] == false {
        return format!("workspace/{name} is stopped, as its record asks; `devsanctum workspace start {name}` starts it");
    }
    let none = Vec::new();
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).unwrap_or(&none);
    let ready = conditions.iter().find(|c| c["type"] == READY);
    if ready.is_some_and(|ready| ready["status"] == "True") {
        return format!("workspace/{name} is up: it waits for nothing");
    }
    // Which of the others it follows from, it says by reason and message.
    let says = |c: &&Value| ready.is_some_and(|ready| c["reason"] == ready["reason"] && c["message"] == ready["message"]);
    let of = conditions.iter().find(|c| c["type"] != READY && says(c));
    let Some(first) = of.or(ready) else {
        return format!(
            "workspace/{name} should run, and nobody has looked at it yet; `devsanctum status` says whether the control plane works"
        );
    };
    let mut out = format!("workspace/{name} should run, and waits at this:\n");
    // What is said of several servers is a line for each.
    for (i, part) in words(first, ui).split("; ").enumerate() {
        let _ = writeln!(out, "  {}{part}", if i == 0 { "" } else { "  " });
    }
    let holding: Vec<String> =
        conditions.iter().filter(|c| c["status"] == "True").map(|c| clean(c["type"].as_str().unwrap_or_default())).collect();
    if !holding.is_empty() {
        let _ = writeln!(out, "Done so far: {}", holding.join(", "));
    }
    if !warnings.is_empty() {
        let _ = writeln!(out, "{}", ui.paint(Tone::Strong, "Warnings:"));
        let newest = &warnings[warnings.len().saturating_sub(SHOWN)..];
        events::lines(newest, false).iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::When;
    use serde_json::json;

    fn said(spec: &Value, conditions: &Value) -> String {
        let object = json!({"metadata": {"name": "web"}, "spec": spec, "status": {"conditions": conditions}});
        text(&object, &[], Ui::new(When::Never))
    }

    #[test]
    fn the_first_thing_in_the_way_is_told_server_by_server() {
        let why = "no server can take it: it needs 512 MiB RAM and 1.0 GiB disk; a: free: 100 MiB RAM, 9.0 GiB disk; b: offline";
        let conditions = json!([
            {"type": "Resolved", "status": "True", "reason": "Resolved"},
            {"type": "Scheduled", "status": "False", "reason": "NoEligibleServer", "message": why},
            {"type": "Ready", "status": "False", "reason": "NoEligibleServer", "message": why}]);
        assert_eq!(
            said(&json!({"running": true}), &conditions),
            "workspace/web should run, and waits at this:\n  Scheduled: no: NoEligibleServer: no server can take it: it needs 512 MiB \
             RAM and 1.0 GiB disk\n    a: free: 100 MiB RAM, 9.0 GiB disk\n    b: offline\nDone so far: Resolved"
        );
    }

    #[test]
    fn what_waits_for_nothing_is_told_so() {
        assert!(said(&json!({"running": false}), &json!([])).contains("devsanctum workspace start web"));
        let moved = json!([{"type": "Moved", "status": "False", "reason": "CarryFailed", "message": "no space left on b"}]);
        let object =
            json!({"metadata": {"name": "web"}, "spec": {"running": false}, "status": {"conditions": moved, "move": {}}});
        assert!(text(&object, &[], Ui::new(When::Never)).contains("no space left on b"));
        let ready = json!([{"type": "Ready", "status": "True"}]);
        assert!(said(&json!({}), &ready).contains("waits for nothing"));
        assert!(said(&json!({}), &json!([])).contains("nobody has looked at it yet"));
    }
}
