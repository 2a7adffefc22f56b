//! `server drain`: nothing more is placed on a host, and what is there is stopped or moves away.

use super::{LOOK_EVERY, MANAGER, merge, placed};
use crate::cli::args::DrainArgs;
use crate::cli::connect::Context;
use crate::cli::failure::{FAILED, Failure, TIMED_OUT};
use crate::cli::{relocate, target, ui};
use crate::resource::Workspace;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Runs `server drain`.
///
/// # Errors
/// What the API refused; with `--move`, why some are still there.
pub async fn run(context: &Context, args: &DrainArgs) -> Result<(), Failure> {
    let mut spec = json!({"schedulable": false});
    if args.move_away {
        spec["evacuate"] = true.into();
    }
    merge(context, &args.name, &spec).await?;
    ui::say(&format!("dockerserver/{} takes no more workspaces", args.name))?;
    let there = placed(context, &args.name).await?;
    let there: Vec<&Workspace> = there.iter().filter(|w| w.warm_of().is_none()).collect();
    if args.move_away {
        return move_away(context, args, &there).await;
    }
    let mut left = Vec::new();
    for workspace in there {
        if args.stop && workspace.spec.running {
            change(context, workspace, &json!({"running": false})).await?;
            ui::progress(&format!("workspace {} is being stopped", title(workspace)));
        }
        left.push(format!("{}{}", title(workspace), if workspace.spec.running && !args.stop { " (runs)" } else { "" }));
    }
    if left.is_empty() {
        return Ok(());
    }
    let hint = format!("their files are there alone: `devsanctum server drain {} --move` moves them with those", args.name);
    ui::say(&format!("on it are {}; {hint}", left.join(", ")))
}

fn title(w: &Workspace) -> String {
    let meta = &w.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

async fn change(context: &Context, w: &Workspace, spec: &Value) -> Result<(), Failure> {
    let (namespace, name) = (w.metadata.namespace.as_deref(), w.metadata.name.as_deref().unwrap_or_default());
    context.merge(target::kind("workspace")?, namespace, name, &json!({"spec": spec}), MANAGER).await??;
    Ok(())
}

/// Waits until nothing of anybody is left, telling how far each is.
async fn move_away(context: &Context, args: &DrainArgs, there: &[&Workspace]) -> Result<(), Failure> {
    // The server is not theirs to ask for any more.
    for workspace in there.iter().filter(|w| w.spec.docker_server.as_ref() == Some(&args.name)) {
        change(context, workspace, &json!({"dockerServer": null})).await?;
    }
    let (begun, mut told) = (Instant::now(), BTreeMap::new());
    loop {
        let left = left(context, &args.name).await?;
        if left.is_empty() {
            return ui::say(&format!("dockerserver/{} is empty: {} workspaces moved", args.name, there.len()));
        }
        for (title, words) in left.iter().map(|w| (title(w), relocate::words(w))).filter(|(_, words)| !words.is_empty()) {
            if told.insert(title.clone(), words.clone()).as_ref() != Some(&words) {
                ui::progress(&format!("{title}: {words}"));
            }
        }
        let refused = left.iter().all(|w| relocate::refused(w, w.metadata.generation).is_some());
        let over = begun.elapsed() > args.timeout;
        if refused || over {
            let each = left.iter().map(|w| format!("\n  {}: {}", title(w), relocate::words(w))).collect::<String>();
            let words = format!("on dockerserver/{} are still {} of {} workspaces:{each}", args.name, left.len(), there.len());
            return Err(Failure { code: if refused { FAILED } else { TIMED_OUT }, ..Failure::new(words) });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Those that are there, or have something there because they are on their way.
async fn left(context: &Context, name: &str) -> Result<Vec<Workspace>, Failure> {
    let all = Api::<Workspace>::all(context.client.clone()).list(&ListParams::default()).await?.items;
    Ok(all.into_iter().filter(|w| w.warm_of().is_none() && w.has_to_do_with(name)).collect())
}
