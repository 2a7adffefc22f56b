//! `status`: how the control plane is, from its own report and the records.

use super::args::StatusArgs;
use super::connect::Context;
use super::failure::{FAILED, Failure};
use super::target;
use super::ui::{self, Tone, Ui, clean, columns};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What `/devsanctum/status` answers.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Report {
    version: String,
    uptime_seconds: i64,
    ready: bool,
    database: String,
    loops: Vec<Loop>,
    /// What a newer server tells besides.
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

/// One reconcile loop.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Loop {
    kind: String,
    passes: u64,
    last_pass: Option<String>,
    last_duration_ms: Option<f64>,
    failures: u64,
    queue: u64,
    /// Passes by how they ended.
    outcomes: BTreeMap<String, u64>,
    /// The last passes that did something or did not settle, newest last.
    recent: Vec<Pass>,
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

/// One pass over one record.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Pass {
    record: String,
    at: String,
    outcome: String,
    reason: String,
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

/// Passes shown below the tables.
const SHOWN: usize = 5;

/// Runs `status`.
///
/// # Errors
/// With the exit code 1 when the control plane is not ready.
pub async fn run(context: &Context, args: StatusArgs) -> Result<(), Failure> {
    let report: Report = context.ask("/devsanctum/status").await?;
    let servers = context.list(target::kind("dockerservers")?, None, &vec![]).await?.0;
    let workspaces = context.list(target::kind("workspaces")?, None, &vec![]).await?.0;
    let phases = phases(&workspaces);
    if args.output == "json" {
        let mut whole = serde_json::to_value(&report)?;
        whole["servers"] = servers.iter().map(server_json).collect();
        whole["workspaces"] = json!(phases);
        ui::say(&serde_json::to_string_pretty(&whole)?)?;
    } else {
        ui::say(&text(&context.server, &report, &servers, &phases, context.ui))?;
    }
    if report.ready { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

fn phases(workspaces: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for workspace in workspaces {
        let phase = workspace.pointer("/status/phase").and_then(Value::as_str).unwrap_or("PENDING");
        *counts.entry(clean(phase)).or_default() += 1;
    }
    counts
}

fn server_json(server: &Value) -> Value {
    json!({"name": server["metadata"]["name"], "phase": server["status"]["phase"], "engineVersion": server["status"]["engineVersion"]})
}

fn text(address: &str, report: &Report, servers: &[Value], phases: &BTreeMap<String, usize>, ui: Ui) -> String {
    let (ready, tone) = if report.ready { ("ready", Tone::Good) } else { ("not ready", Tone::Bad) };
    let up = ui::age(report.uptime_seconds);
    let mut out = format!(
        "{} {} at {address}, up {up}, database {}\n",
        ui.paint(tone, ready),
        clean(&report.version),
        clean(&report.database)
    );
    if let Some(ssh) = report.more.get("ssh").and_then(|ssh| ssh["address"].as_str()) {
        let _ = writeln!(out, "ssh: {}, as WORKSPACE.PROJECT", clean(ssh));
    }
    let counts: Vec<String> = phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    let _ = writeln!(out, "workspaces: {}", if counts.is_empty() { "none".into() } else { counts.join(", ") });
    table(&mut out, ui, &["SERVER", "PHASE", "ENGINE", "MESSAGE"], servers.iter().map(server_row).collect());
    table(
        &mut out,
        ui,
        &["LOOP", "PASSES", "LAST", "TOOK", "FAILURES", "QUEUE", "OUTCOMES"],
        report.loops.iter().map(loop_row).collect(),
    );
    unsettled(&mut out, &report.loops);
    out.trim_end().to_owned()
}

fn table(out: &mut String, ui: Ui, header: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let mut all = vec![header.iter().map(|h| (*h).to_owned()).collect()];
    all.extend(rows);
    let mut lines = columns(&all);
    lines[0] = ui.paint(Tone::Strong, &lines[0]);
    let _ = writeln!(out, "\n{}", lines.join("\n"));
}

fn server_row(server: &Value) -> Vec<String> {
    let at = |path: &str| server.pointer(path).and_then(Value::as_str).map_or_else(|| "<none>".into(), clean);
    vec![at("/metadata/name"), at("/status/phase"), at("/status/engineVersion"), at("/status/message")]
}

fn loop_row(l: &Loop) -> Vec<String> {
    let last = l.last_pass.as_deref().map_or_else(|| "never".into(), |t| format!("{} ago", ui::age_of(t)));
    let took = l.last_duration_ms.map_or_else(|| "-".into(), |ms| format!("{ms:.0}ms"));
    let outcomes: Vec<String> = l.outcomes.iter().map(|(how, count)| clean(&format!("{} {count}", how.to_lowercase()))).collect();
    vec![clean(&l.kind), l.passes.to_string(), last, took, l.failures.to_string(), l.queue.to_string(), outcomes.join(", ")]
}

/// The newest passes that did not settle: only the last of each record, since it replaces what was before.
fn unsettled(out: &mut String, loops: &[Loop]) {
    let mut last: BTreeMap<(&str, &str), &Pass> = BTreeMap::new();
    for l in loops {
        last.extend(l.recent.iter().map(|pass| ((l.kind.as_str(), pass.record.as_str()), pass)));
    }
    let mut open: Vec<_> = last.into_iter().filter(|(_, pass)| pass.outcome != "Settled").collect();
    open.sort_by(|(_, a), (_, b)| b.at.cmp(&a.at));
    if open.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nNot settled, newest first:");
    for ((kind, record), pass) in open.iter().take(SHOWN) {
        let line = format!("{kind} {record}: {} {} ago: {}", pass.outcome.to_lowercase(), ui::age_of(&pass.at), pass.reason);
        let _ = writeln!(out, "  {}", clean(&line));
    }
    if open.len() > SHOWN {
        let _ = writeln!(out, "  and {} more (status -o json shows all)", open.len() - SHOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_and_shown_whole() {
        let report = json!({"version": "0.1.0", "uptimeSeconds": 61, "ready": true, "database": "sqlite",
            "loops": [{"kind": "Workspace", "passes": 12, "lastPass": null, "lastDurationMs": 3.2, "failures": 1, "queue": 0,
                "outcomes": {"Settled": 10, "Waiting": 2}, "recent": [
                {"record": "team/old", "at": "2026-01-01T00:00:00Z", "outcome": "Failed", "reason": "Past", "millis": 1.0},
                {"record": "team/old", "at": "2026-01-01T00:00:01Z", "outcome": "Settled", "millis": 1.0},
                {"record": "team/web", "at": "2026-01-01T00:00:02Z", "outcome": "Waiting", "reason": "Pulling", "millis": 1.0}]}]});
        let report: Report = serde_json::from_value(report).unwrap();
        let servers = [json!({"metadata": {"name": "local"}, "status": {"phase": "ONLINE", "engineVersion": "20.10.24"}})];
        let phases = phases(&[json!({"status": {"phase": "RUNNING"}}), json!({}), json!({"status": {"phase": "RUNNING"}})]);
        let text = text("https://x", &report, &servers, &phases, Ui { color: false });
        for part in [
            "ready 0.1.0 at https://x, up 61s, database sqlite",
            "workspaces: 1 PENDING, 2 RUNNING",
            "local    ONLINE",
            "settled 10, waiting 2",
            "\nNot settled, newest first:\n  Workspace team/web: waiting ",
            " ago: Pulling",
            "never",
            "3ms",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("Past") && !text.contains('{'), "{text}");
    }
}
