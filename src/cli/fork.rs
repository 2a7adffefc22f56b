//! `fork`: a new workspace that begins as a copy of another.

use super::args::ForkArgs;
use super::connect::Context;
use super::failure::Failure;
use super::workspace::Named;
use super::{logs, target, ui};
use crate::resource::{Workspace, WorkspaceSpec};
use kube::Api;
use kube::api::PostParams;

const MANAGER: &str = "devsanctum-workspace-command";

/// Runs `fork`.
///
/// # Errors
/// When there is no such workspace, one of the new name is there, or it does not run in time.
pub async fn run(context: &Context, args: ForkArgs) -> Result<(), Failure> {
    let def = target::kind("workspace")?;
    let of = Named { context, def, name: logs::workspace(&args.one.workspace)? };
    target::check_name(&args.name)?;
    let source = of.read().await?;
    let fork = Workspace::new(&args.name, copy(source.spec, of.name));
    let api: Api<Workspace> = Api::namespaced(context.client.clone(), &context.namespace);
    let made = api.create(&PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }, &fork).await?;
    if args.one.wait {
        Named { context, def, name: &args.name }.wait(&args.one, &made, None).await?;
    }
    ui::say(&format!("workspace/{} forked from workspace/{}\n", args.name, of.name))
}

/// As the other is, but for what is that one's alone: its host name, its server (the folders say which it is), and that it is
/// kept.
fn copy(source: WorkspaceSpec, name: &str) -> WorkspaceSpec {
    WorkspaceSpec {
        from: Some(name.to_owned()),
        running: true,
        route_domain: None,
        docker_server: None,
        pinned: false,
        kept: false,
        wake_on_visit: false,
        active_above_cpu: source.active_above_cpu,
        ..source
    }
}
