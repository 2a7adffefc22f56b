//! `share`: links by which people without an account open a service of a private workspace.

use super::args::{EndSharesArgs, NewShareArgs, ShareArgs, ShareCommand};
use super::connect::Context;
use super::failure::Failure;
use super::ui::{self, clean, columns};
use super::{logs, target};
use serde_json::{Value, json};

const ADDRESS: &str = "/devsanctum/shares";

/// Runs `share`.
///
/// # Errors
/// What the API refused.
pub async fn run(context: &Context, args: ShareArgs) -> Result<(), Failure> {
    match args.command {
        None => create(context, args.new).await,
        Some(ShareCommand::List(args)) => list(context, logs::workspace(&args.workspace)?).await,
        Some(ShareCommand::End(args)) => end(context, args).await,
    }
}

async fn create(context: &Context, args: NewShareArgs) -> Result<(), Failure> {
    let workspace = logs::workspace(args.workspace.as_deref().unwrap_or_default())?;
    let wanted = json!({
        "project": context.namespace, "workspace": workspace, "service": args.service,
        "expiresInSeconds": args.lasts.map(|lasts| lasts.as_secs()),
    });
    let made = context.post(ADDRESS, &wanted).await??;
    let of = |field: &str| text(&made, field);
    // The link alone goes to the output, so that it can be handed on.
    ui::note(&format!(
        "whoever has this opens {} of workspace/{} until {}; `devsanctum share end {}` ends it",
        of("service"),
        of("workspace"),
        of("expiresAt"),
        of("id")
    ));
    ui::say(&of("url"))
}

async fn list(context: &Context, workspace: &str) -> Result<(), Failure> {
    target::check_name(&context.namespace)?;
    let answer: Value = context.ask(&format!("{ADDRESS}?project={}&workspace={workspace}", context.namespace)).await?;
    let mut rows = vec![["ID", "SERVICE", "BY", "EXPIRES", "AGE"].map(str::to_owned).to_vec()];
    for share in answer["shares"].as_array().into_iter().flatten() {
        rows.push(vec![
            text(share, "id"),
            text(share, "service"),
            share["user"].as_str().map_or("the administrator token".into(), clean),
            text(share, "expiresAt"),
            share["createdAt"].as_str().map(ui::age_of).unwrap_or_default(),
        ]);
    }
    ui::say(&columns(&rows).join("\n"))
}

async fn end(context: &Context, args: EndSharesArgs) -> Result<(), Failure> {
    for id in args.ids {
        target::check_name(&id)?;
        let ended: Value = context.remove(&format!("{ADDRESS}/{id}")).await?;
        ui::say(&format!("share {id} of workspace/{} ended", text(&ended, "workspace")))?;
    }
    Ok(())
}

fn text(value: &Value, field: &str) -> String {
    clean(value[field].as_str().unwrap_or_default())
}
