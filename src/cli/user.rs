//! `user`: letting people in.

use super::args::{UserArgs, UserCommand};
use super::connect::Context;
use super::failure::Failure;
use super::ui::{self, clean};
use serde_json::{Value, json};

/// Runs `user`.
///
/// # Errors
/// What the API refused.
pub async fn run(context: &Context, args: UserArgs) -> Result<(), Failure> {
    let UserCommand::Link(args) = args.command;
    let made = context.post("/devsanctum/links", &json!({"user": args.user})).await??;
    let status: Value = context.ask("/devsanctum/status").await?;
    let text = |value: &Value, field: &str| clean(value[field].as_str().unwrap_or_default());
    ui::note(&format!("give this to {} alone; it works once, until {}", text(&made, "user"), text(&made, "expiresAt")));
    ui::say(&format!("{}{}", text(&status, "panel"), text(&made, "path")))
}
