//! `key`: API keys, by which programs and people come in without signing in.

use super::args::{CreateKeyArgs, DeleteKeysArgs, KeyArgs, KeyCommand, ListKeysArgs};
use super::connect::Context;
use super::failure::Failure;
use super::target;
use super::ui::{self, clean, columns};
use serde_json::{Value, json};

const ADDRESS: &str = "/devsanctum/keys";

/// Runs `key`.
///
/// # Errors
/// What the API refused.
pub async fn run(context: &Context, args: KeyArgs) -> Result<(), Failure> {
    match args.command {
        KeyCommand::Create(args) => create(context, args).await,
        KeyCommand::List(args) => list(context, args).await,
        KeyCommand::Delete(args) => delete(context, args).await,
    }
}

async fn create(context: &Context, args: CreateKeyArgs) -> Result<(), Failure> {
    let kinds: Result<Vec<&str>, Failure> = args.kinds.iter().map(|word| Ok(target::kind(word)?.plural.as_str())).collect();
    let wanted = json!({
        "name": args.name, "user": args.user, "expiresInSeconds": args.expires.map(|d| d.as_secs()),
        "scope": {"verbs": args.verbs, "kinds": kinds?, "projects": args.projects},
    });
    let made = context.post(ADDRESS, &wanted).await??;
    // The key alone goes to the output, so that it can be put into a file.
    ui::note(&format!("this is the only time that key {} is shown; with --token-file FILE it is used", text(&made, "id")));
    ui::say(&text(&made, "key"))
}

async fn list(context: &Context, args: ListKeysArgs) -> Result<(), Failure> {
    let query = match &args.user {
        Some(user) => {
            target::check_name(user)?;
            format!("?user={user}")
        }
        None => String::new(),
    };
    let answer: Value = context.ask(&format!("{ADDRESS}{query}")).await?;
    let mut rows = vec![["ID", "USER", "NAME", "SCOPE", "EXPIRES", "LAST USED", "AGE"].map(str::to_owned).to_vec()];
    for key in answer["keys"].as_array().into_iter().flatten() {
        let age = |field: &str| key[field].as_str().map(|time| format!("{} ago", ui::age_of(time)));
        rows.push(vec![
            text(key, "id"),
            text(key, "user"),
            text(key, "name"),
            scope(&key["scope"]),
            key["expiresAt"].as_str().map_or("never".into(), clean),
            age("lastUsedAt").unwrap_or_else(|| "never".into()),
            key["createdAt"].as_str().map(ui::age_of).unwrap_or_default(),
        ]);
    }
    ui::say(&columns(&rows).join("\n"))
}

async fn delete(context: &Context, args: DeleteKeysArgs) -> Result<(), Failure> {
    for id in args.ids {
        target::check_name(&id)?;
        let ended = context.remove(&format!("{ADDRESS}/{id}")).await?;
        ui::say(&format!("key {id} of {} ended", text(&ended, "user")))?;
    }
    Ok(())
}

fn text(value: &Value, field: &str) -> String {
    clean(value[field].as_str().unwrap_or_default())
}

fn scope(scope: &Value) -> String {
    let parts = ["verbs", "kinds", "projects"].into_iter().filter_map(|field| {
        let words: Vec<&str> = scope[field].as_array()?.iter().filter_map(Value::as_str).collect();
        (!words.is_empty()).then(|| format!("{field}={}", words.join(",")))
    });
    let all: Vec<String> = parts.collect();
    if all.is_empty() { "everything".into() } else { clean(&all.join(" ")) }
}
