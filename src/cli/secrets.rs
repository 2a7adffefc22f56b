//! `secrets`: the keys that secrets are sealed with.

use super::args::{RotateArgs, SecretsArgs, SecretsCommand};
use super::connect::Context;
use super::failure::Failure;
use super::ui::{self, clean, columns};
use serde_json::{Value, json};
use std::time::Duration;

const ADDRESS: &str = "/devsanctum/secrets";
/// How often it is asked how far a rotation is.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs `secrets`.
///
/// # Errors
/// What the API refused, or why a rotation ended before its end.
pub async fn run(context: &Context, args: SecretsArgs) -> Result<(), Failure> {
    match args.command {
        SecretsCommand::Rotate(args) => rotate(context, args).await,
        SecretsCommand::Status => status(context).await,
    }
}

async fn rotate(context: &Context, args: RotateArgs) -> Result<(), Failure> {
    let wanted = json!({"keepOld": args.keep_old, "onlyReplica": args.only_replica});
    let mut now = context.post(&format!("{ADDRESS}/rotate"), &wanted).await??;
    match (now["made"].as_str(), now["goesOnTo"].as_str()) {
        (Some(made), _) => ui::note(&format!("made the key {}, in {}", clean(made), text(&now, "source"))),
        (_, Some(to)) => ui::note(&format!("going on to the key {}", clean(to))),
        _ => {}
    }
    let mut told = -1;
    loop {
        let rotation = &now["rotation"];
        let (wrapped, total) = (count(rotation, "wrapped"), count(rotation, "total"));
        if wrapped != told {
            ui::note(&format!("wrapped {wrapped} of {} data keys anew", total.max(wrapped)));
            told = wrapped;
        }
        if let Some(error) = rotation["error"].as_str() {
            return Err(Failure::new(format!("the rotation stopped: {}", clean(error))));
        }
        if rotation["running"] != true {
            return ui::say(&ended(&now, args.keep_old));
        }
        tokio::time::sleep(PAUSE).await;
        now = context.ask(ADDRESS).await?;
    }
}

/// What is to be said of a rotation that has ended.
fn ended(now: &Value, keep_old: bool) -> String {
    let all = || now["keys"].as_array().into_iter().flatten();
    let current = all().find(|key| key["current"] == true).map(|key| text(key, "id")).unwrap_or_default();
    let removed: Vec<String> = strings(&now["rotation"]["removed"]);
    let idle = all().filter(|key| key["current"] != true && key["given"] == true && count(key, "dataKeys") == 0);
    let idle: Vec<String> = idle.map(|key| text(key, "id")).filter(|id| !removed.contains(id)).collect();
    let mut words = format!("secrets are sealed with the key {current}");
    if !removed.is_empty() {
        words += &format!("; out of the file: {}; backups made before want what you kept of it", removed.join(", "));
    }
    if !idle.is_empty() {
        let why = if keep_old { "kept for backups made before" } else { "no longer in use, and yours to take out of" };
        words += &format!("; {why} {}: {}", text(now, "source"), idle.join(", "));
    }
    words
}

async fn status(context: &Context) -> Result<(), Failure> {
    let now: Value = context.ask(ADDRESS).await?;
    let mut rows = vec![["KEY", "WRAPS", "HERE", "DATA KEYS"].map(str::to_owned).to_vec()];
    for key in now["keys"].as_array().into_iter().flatten() {
        let yes = |field: &str| if key[field] == true { "yes" } else { "no" }.to_owned();
        rows.push(vec![text(key, "id"), yes("current"), yes("given"), count(key, "dataKeys").to_string()]);
    }
    let rotation = &now["rotation"];
    if rotation["running"] == true {
        ui::note(&format!("a rotation goes on: {} of {}", count(rotation, "wrapped"), count(rotation, "total")));
    } else if let Some(error) = rotation["error"].as_str() {
        ui::note(&format!("the last rotation stopped: {}", clean(error)));
    }
    ui::note(&format!("keys from {}", text(&now, "source")));
    ui::say(&columns(&rows).join("\n"))
}

fn text(value: &Value, field: &str) -> String {
    clean(value[field].as_str().unwrap_or_default())
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(clean).collect()
}

fn count(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or(0)
}
