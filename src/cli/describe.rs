//! `describe`: a record, its conditions in words, and what happened to it.

use super::args::DescribeArgs;
use super::connect::Context;
use super::events;
use super::failure::Failure;
use super::output::yaml;
use super::target::targets;
use super::ui::{self, Tone, Ui, age_of, clean, columns};
use serde_json::Value;
use std::fmt::Write;

/// Runs `describe`.
///
/// # Errors
/// When a record named does not exist, or the API refuses.
pub async fn run(context: &Context, args: DescribeArgs) -> Result<(), Failure> {
    let query: Vec<_> = args.selector.iter().map(|l| ("labelSelector", l.clone())).collect();
    let mut texts = Vec::new();
    for target in targets(&args.what)? {
        let namespace = context.scope(args.all_namespaces);
        let found = match &target.name {
            Some(name) => match context.get(target.def, namespace, name).await? {
                Some(object) => vec![object],
                None => return Err(Failure::new(format!("{} \"{name}\" does not exist", target.def.plural))),
            },
            None => context.list(target.def, namespace, &query).await?.0,
        };
        for object in found {
            let happened = events::about(context, &object).await?;
            texts.push(text(&object, &happened, context.ui)?);
        }
    }
    if texts.is_empty() {
        ui::note("No resources found");
        return Ok(());
    }
    ui::say(&texts.join("\n\n"))
}

/// The whole description of a record.
fn text(object: &Value, happened: &[Value], ui: Ui) -> Result<String, Failure> {
    let at = |path: &str| clean(object.pointer(path).and_then(Value::as_str).unwrap_or_default());
    let mut out = columns(&head(object)).join("\n") + "\n";
    if !at("/metadata/deletionTimestamp").is_empty() {
        let held = object.pointer("/metadata/finalizers").map(super::output::jsonpath::shown).unwrap_or_default();
        let line = format!("Being deleted since {}; still held by {}", age_of(&at("/metadata/deletionTimestamp")), clean(&held));
        let _ = writeln!(out, "{}", ui.paint(Tone::Fair, &line));
    }
    section(&mut out, "Spec", &object["spec"], ui)?;
    let mut status = object["status"].clone();
    let conditions = status.as_object_mut().and_then(|s| s.remove("conditions"));
    section(&mut out, "Status", &status, ui)?;
    if let Some(Value::Array(conditions)) = conditions.filter(|c| c.as_array().is_some_and(|c| !c.is_empty())) {
        let _ = writeln!(out, "{}", ui.paint(Tone::Strong, "Conditions:"));
        for condition in &conditions {
            let _ = writeln!(out, "  {}", words(condition, ui));
        }
    }
    let _ = write!(out, "{}", ui.paint(Tone::Strong, "Events:"));
    match happened {
        [] => out.push_str("  <none>"),
        _ => events::lines(happened, false).iter().for_each(|line| out.push_str(&format!("\n  {line}"))),
    }
    Ok(out)
}

fn head(object: &Value) -> Vec<Vec<String>> {
    let at = |path: &str| clean(object.pointer(path).and_then(Value::as_str).unwrap_or_default());
    let mut rows = vec![vec!["Name:".to_owned(), at("/metadata/name")]];
    if !at("/metadata/namespace").is_empty() {
        rows.push(vec!["Namespace:".into(), at("/metadata/namespace")]);
    }
    rows.push(vec!["Kind:".into(), format!("{} ({})", at("/kind"), at("/apiVersion"))]);
    for (label, path) in [("Labels:", "/metadata/labels"), ("Annotations:", "/metadata/annotations")] {
        let Some(pairs) = object.pointer(path).and_then(Value::as_object).filter(|p| !p.is_empty()) else { continue };
        for (i, (key, value)) in pairs.iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            rows.push(vec![label.into(), clean(&format!("{key}={}", super::output::jsonpath::shown(value)))]);
        }
    }
    let created = at("/metadata/creationTimestamp");
    rows.push(vec!["Created:".into(), format!("{created} ({} ago)", age_of(&created))]);
    rows
}

fn section(out: &mut String, title: &str, value: &Value, ui: Ui) -> Result<(), Failure> {
    if value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(());
    }
    let _ = writeln!(out, "{}", ui.paint(Tone::Strong, &format!("{title}:")));
    for line in yaml(value)?.lines() {
        let _ = writeln!(out, "  {line}");
    }
    Ok(())
}

/// A condition as a sentence: `Ready: no, for 3m20s: NoEligibleServer: no server has room`.
pub fn words(condition: &Value, ui: Ui) -> String {
    let at = |field: &str| clean(condition[field].as_str().unwrap_or_default());
    let (answer, tone) = match at("status").as_str() {
        "True" => ("yes", Tone::Good),
        "False" => ("no", Tone::Bad),
        _ => ("not known", Tone::Fair),
    };
    let since = at("lastTransitionTime");
    let since = if since.is_empty() { String::new() } else { format!(", for {}", age_of(&since)) };
    let mut why = [at("reason"), at("message")].into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(": ");
    if at("status") == "True" && why == at("type") {
        why.clear();
    }
    let why = if why.is_empty() { why } else { format!(": {why}") };
    format!("{}: {}{since}{why}", at("type"), ui.paint(tone, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_read_as_sentences() {
        let ui = Ui { color: false };
        let bad = json!({"type": "Ready", "status": "False", "reason": "NoEligibleServer", "message": "no server has room"});
        assert_eq!(words(&bad, ui), "Ready: no: NoEligibleServer: no server has room");
        assert_eq!(words(&json!({"type": "Ready", "status": "True", "reason": "Ready", "message": ""}), ui), "Ready: yes");
        assert_eq!(words(&json!({"type": "X", "status": "Unknown"}), ui), "X: not known");
    }

    #[test]
    fn a_description_has_every_part() {
        let object = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["x"]},
            "spec": {"owner": "ada"}, "status": {"phase": "PENDING", "conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m"}]}});
        let text = text(&object, &[], Ui { color: false }).unwrap();
        for part in [
            "Name:        web",
            "Labels:      a=b",
            "Being deleted since",
            "Spec:\n  owner: ada",
            "Status:\n  phase: PENDING",
            "Conditions:\n  Ready: no: R: m",
            "Events:  <none>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
