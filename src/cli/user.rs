//! `user`: letting people in; `mail`: whether they can be written to.

use super::args::{InviteArgs, LinkArgs, MailArgs, MailCommand, ResendArgs, SignOutArgs, UserArgs, UserCommand};
use super::connect::Context;
use super::failure::Failure;
use super::target::check_name;
use super::ui::{self, clean};
use crate::resource::{Invitation, InvitationSpec, UserRole, labels};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

/// Runs `user`.
///
/// # Errors
/// What the API refused.
pub async fn run(context: &Context, args: UserArgs) -> Result<(), Failure> {
    match args.command {
        UserCommand::Link(args) => link(context, args).await,
        UserCommand::Invite(args) => invite(context, args).await,
        UserCommand::Resend(args) => resend(context, args).await,
        UserCommand::SignOut(args) => sign_out(context, args).await,
    }
}

/// Runs `mail`.
///
/// # Errors
/// What the API, or the mail server, refused.
pub async fn mail(context: &Context, args: MailArgs) -> Result<(), Failure> {
    let MailCommand::Test(args) = args.command;
    context.post("/devsanctum/mail", &json!({"to": args.to})).await??;
    ui::say(&format!("the mail server has taken a mail to {}", clean(&args.to)))
}

async fn link(context: &Context, args: LinkArgs) -> Result<(), Failure> {
    let made = context.post("/devsanctum/links", &json!({"user": args.user})).await??;
    let status: Value = context.ask("/devsanctum/status").await?;
    let text = |value: &Value, field: &str| clean(value[field].as_str().unwrap_or_default());
    ui::note(&format!("give this to {} alone; it works once, until {}", text(&made, "user"), text(&made, "expiresAt")));
    ui::say(&format!("{}{}", text(&status, "panel"), text(&made, "path")))
}

async fn sign_out(context: &Context, args: SignOutArgs) -> Result<(), Failure> {
    check_name(&args.user)?;
    let ended: Value = context.remove(&format!("/devsanctum/users/{}/sessions", args.user)).await?;
    let keys: Value = context.ask(&format!("/devsanctum/keys?user={}", args.user)).await?;
    let (count, left) = (ended["sessions"].as_u64().unwrap_or_default(), keys["keys"].as_array().map_or(0, Vec::len));
    ui::say(&format!("{} is signed out; sessions ended: {count}", args.user))?;
    if left > 0 {
        // Terminals that have signed in have one.
        ui::note(&format!(
            "API keys go on ({left}): `devsanctum key list --user {}` shows them, `key delete` ends them",
            args.user
        ));
    }
    Ok(())
}

async fn invite(context: &Context, args: InviteArgs) -> Result<(), Failure> {
    let role = if args.admin { UserRole::Admin } else { UserRole::User };
    let mut invitation = Invitation::new("", InvitationSpec { email: args.email, role, groups: args.groups });
    (invitation.meta_mut().name, invitation.meta_mut().generate_name) = (None, Some("invitation-".into()));
    let made = Api::<Invitation>::all(context.client.clone()).create(&PostParams::default(), &invitation).await?;
    let name = made.name_any();
    ui::note(&format!("`devsanctum get invitation {name}` says whether it was sent and taken up"));
    ui::say(&format!("invitation/{name} created"))
}

async fn resend(context: &Context, args: ResendArgs) -> Result<(), Failure> {
    let body = json!({"metadata": {"annotations": {labels::RESEND: Timestamp::now().to_string()}}});
    let api = Api::<Invitation>::all(context.client.clone());
    let done = api.patch(&args.invitation, &PatchParams::default(), &Patch::Merge(body)).await?;
    ui::say(&format!("invitation/{} is sent anew", done.name_any()))
}
