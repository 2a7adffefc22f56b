//! `server remove`: a host goes, and with it the certificates that `server add` has kept.

use super::{MANAGER, def, placed, read};
use crate::cli::args::{DeleteArgs, DryRun, RemoveServerArgs};
use crate::cli::connect::Context;
use crate::cli::delete;
use crate::cli::failure::{Failure, TIMED_OUT};
use crate::cli::target;
use crate::cli::ui;
use crate::resource::conditions::find;
use crate::resource::{DockerServer, SYSTEM_NAMESPACE, Workspace};
use kube::ResourceExt;

/// Names shown at most.
const SHOWN: usize = 10;

/// Runs `server remove`.
///
/// # Errors
/// When workspaces are on it and it is not forced; when it is not gone in time.
pub async fn run(context: &Context, args: &RemoveServerArgs) -> Result<(), Failure> {
    let server = read(context, &args.name).await?;
    let there = placed(context, &args.name).await?;
    let names: Vec<String> = there.iter().filter(|w| w.warm_of().is_none()).map(named).collect();
    if !names.is_empty() && !args.force {
        return Err(refused(&args.name, &names));
    }
    let doomed = of(format!("{}/{}", def()?.singular, args.name), args);
    // Before the wait, which may never end: what is still needed is held until the last server that is reached with it is gone.
    let secrets = async || remove_secrets(context, &server).await;
    if let Err(e) = delete::run_and(context, doomed, secrets).await {
        return Err(if e.code == TIMED_OUT { e.hint(mend(context, &args.name).await) } else { e });
    }
    if !names.is_empty() {
        ui::note(&format!(
            "{} are still placed on it; what they held is lost with it. Let each go with `devsanctum delete -n PROJECT \
             workspace/NAME --force-abandon`",
            shown(&names)
        ));
    }
    Ok(())
}

/// The credentials that `server add` has kept for it; what somebody else has made stays.
async fn remove_secrets(context: &Context, server: &DockerServer) -> Result<(), Failure> {
    let (kind, name) = (target::kind("secret")?, server.name_any());
    let all = server.spec.tls.secret.iter().chain(server.spec.ssh.as_ref().map(|s| &s.secret));
    if !all.into_iter().any(|s| s.namespace.as_deref() == Some(SYSTEM_NAMESPACE) && s.name == name) {
        return Ok(());
    }
    let Some(secret) = context.get(kind, Some(SYSTEM_NAMESPACE), &name).await? else { return Ok(()) };
    let managers = secret["metadata"]["managedFields"].as_array().into_iter().flatten();
    if managers.filter_map(|m| m["manager"].as_str()).any(|m| m == MANAGER) {
        context.delete(kind, Some(SYSTEM_NAMESPACE), &name, secret["metadata"]["uid"].as_str(), false).await?;
    }
    Ok(())
}

/// What to do about a server that is still there. Letting go of one that only takes its time would leave behind what it would have
/// removed.
async fn mend(context: &Context, name: &str) -> &'static str {
    let conditions = read(context, name).await.ok().and_then(|s| s.status).unwrap_or_default().conditions;
    match find(&conditions, "Deleting") {
        Some(c) if c.reason == "ServerUnreachable" => {
            "wait longer with --timeout; if the server will never come back, --force lets it go"
        }
        _ => "it goes by itself; wait longer with --timeout",
    }
}

fn named(w: &Workspace) -> String {
    format!("{}/{}", w.namespace().unwrap_or_default(), w.name_any())
}

fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

fn refused(name: &str, names: &[String]) -> Failure {
    let hint = format!(
        "their files are there alone. `devsanctum server drain {name} --stop` keeps others from it and stops them; delete them, and then \
         remove it. If it will never come back, --force lets go of it"
    );
    Failure::new(format!("dockerserver/{name} has workspaces on it: {}", shown(names))).hint(hint)
}

/// What `delete` is told.
fn of(title: String, args: &RemoveServerArgs) -> DeleteArgs {
    DeleteArgs {
        what: vec![title],
        all: false,
        selector: None,
        all_namespaces: false,
        files: Vec::new(),
        recursive: false,
        wait: true,
        timeout: args.timeout,
        force_abandon: args.force,
        ignore_not_found: false,
        dry_run: DryRun::None,
    }
}
