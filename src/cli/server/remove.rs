//! `server remove`: a host goes, and with it the certificates that `server add` has kept.

use super::{def, placed, read};
use crate::cli::args::{DeleteArgs, DryRun, RemoveServerArgs};
use crate::cli::connect::Context;
use crate::cli::delete;
use crate::cli::failure::{Failure, TIMED_OUT};
use crate::cli::target;
use crate::cli::ui;
use crate::resource::common::SecretRef;
use crate::resource::{SYSTEM_NAMESPACE, Workspace};
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
    delete::run(context, of(format!("{}/{}", def()?.singular, args.name), args)).await.map_err(|e| match e.code {
        TIMED_OUT => e.hint("wait longer with --timeout; if the server will never come back, --force lets it go"),
        _ => e,
    })?;
    let own = |s: &&SecretRef| s.namespace.as_deref() == Some(SYSTEM_NAMESPACE) && s.name == args.name;
    if let Some(secret) = server.spec.tls.secret.as_ref().or(server.spec.ssh.as_ref().map(|s| &s.secret)).filter(own) {
        // One that another server is reached with is held until that goes as well.
        context.delete(target::kind("secret")?, Some(SYSTEM_NAMESPACE), &secret.name, None, false).await?;
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
