//! The pool of a template: as many warm environments as it asks for, made from what it is now.

use super::super::context::Context;
use super::super::retry::PassError;
use super::super::status::{Pass, Record, still_so};
use super::super::workspace::{of_template, remove};
use crate::plan::digest;
use crate::plan::environment::Environment;
use crate::resource::common::{Folder, FolderMode};
use crate::resource::conditions::condition;
use crate::resource::{SYSTEM_NAMESPACE, Template, TemplateStatus, Workspace, WorkspacePhase, labels};
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;

const KIND: &str = "Warm";

/// Makes what is missing, removes what is too many or made from what the template was before, and says how many there are.
pub async fn keep(ctx: &Context, record: &Template, env: &Environment, pass: &mut Pass<TemplateStatus>) -> Result<(), PassError> {
    if let Some(at) = ctx.restored() {
        // Nothing is removed, or given to anybody, by records that a person has not looked at yet.
        if record.spec.warm.is_some() {
            pass.notice(condition(KIND, false, "RecordsRestored", format!("the records are from the backup of {at}")));
        }
        return Ok(());
    }
    let wanted = record.spec.warm.unwrap_or(0);
    let made_from = env.digest();
    let refused = unfit(env).filter(|_| wanted > 0);
    let wanted = if refused.is_some() { 0 } else { wanted };
    let names: BTreeSet<String> = (0..wanted).map(|slot| name(&record.name_any(), slot)).collect();
    let mut kept = Vec::new();
    for warm in of_template(ctx, &record.uid().unwrap_or_default()) {
        let current = warm.annotations().get(labels::DIGEST) == Some(&made_from);
        if current && names.contains(&warm.name_any()) && !on_server_that_goes(ctx, &warm) {
            kept.push(warm);
        } else {
            remove(ctx, &warm).await?;
            pass.did(format!("removed warm environment {}", warm.name_any()));
        }
    }
    for name in names {
        // One that goes, or was given away, keeps its name until it is gone.
        if ctx.caches.workspaces.get(&ObjectRef::new(&name).within(SYSTEM_NAMESPACE)).is_none() {
            make(ctx, record, &name, &made_from, pass).await?;
        }
    }
    tell(record, &kept, wanted, refused, pass);
    Ok(())
}

/// Why no environment of it can be made before its workspace is known.
fn unfit(env: &Environment) -> Option<String> {
    let of_sidecars = env.sidecars.values().flat_map(|s| &s.folders);
    let shared = |f: &&Folder| f.mode == FolderMode::Shared;
    let folder = env.folders.iter().chain(of_sidecars).find(shared)?;
    Some(format!("folder {:?} is shared within a project, and whose an environment will be is not known before", folder.name))
}

fn on_server_that_goes(ctx: &Context, warm: &Workspace) -> bool {
    let Some(name) = warm.server() else { return false };
    ctx.caches.servers.get(&ObjectRef::new(name)).is_none_or(|s| s.metadata.deletion_timestamp.is_some())
}

/// The name of one of its warm environments: the template's, cut where need be, and a number.
fn name(template: &str, slot: u32) -> String {
    let whole = format!("{template}-{slot}");
    if whole.len() <= 63 {
        return whole;
    }
    let mark = &digest(template)[..8];
    format!("{}-{mark}-{slot}", template.get(..48).unwrap_or(template).trim_end_matches('-'))
}

async fn make(
    ctx: &Context,
    record: &Template,
    name: &str,
    made_from: &str,
    pass: &mut Pass<TemplateStatus>,
) -> Result<(), PassError> {
    still_so(&ctx.frame.client, record).await?;
    let body = json!({
        "apiVersion": Workspace::api_version(&()), "kind": Workspace::kind(&()),
        "metadata": {
            "name": name, "namespace": SYSTEM_NAMESPACE, "annotations": {labels::DIGEST: made_from},
            "ownerReferences": [record.controller_owner_ref(&())],
        },
        "spec": {"owner": ""},
    });
    let warm: Workspace = serde_json::from_value(body).map_err(|e| PassError::transient(KIND, "Unwritable", e.to_string()))?;
    let params = PostParams { field_manager: Some("devsanctum-template".into()), ..PostParams::default() };
    match Workspace::api(&ctx.frame.client, Some(SYSTEM_NAMESPACE)).create(&params, &warm).await {
        // The copy does not show it yet.
        Err(kube::Error::Api(s)) if s.code == 409 => Ok(()),
        Err(e) => Err(e.into()),
        Ok(_) => {
            pass.did(format!("made warm environment {name}"));
            Ok(())
        }
    }
}

fn tell(
    record: &Template,
    kept: &[std::sync::Arc<Workspace>],
    wanted: u32,
    refused: Option<String>,
    pass: &mut Pass<TemplateStatus>,
) {
    let runs = |w: &&std::sync::Arc<Workspace>| w.status.as_ref().is_some_and(|s| s.phase == WorkspacePhase::Running);
    let ready = kept.iter().filter(runs).count();
    pass.status.warm_ready = record.spec.warm.filter(|n| *n > 0).map(|_| u32::try_from(ready).unwrap_or(u32::MAX));
    if let Some(why) = refused {
        pass.notice(condition(KIND, false, "SharedFolder", why));
    } else if ready < wanted as usize {
        let why = kept.iter().find_map(|w| Some((w.name_any(), w.status.as_ref()?.message.clone()?)));
        let why = why.map(|(name, message)| format!("; {name}: {message}")).unwrap_or_default();
        pass.notice(condition(KIND, false, "Filling", format!("{ready} of {wanted} warm environments are ready{why}")));
    } else if wanted > 0 {
        pass.notice(condition(KIND, true, "Filled", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_environments_of_two_templates_never_have_one_name() {
        let long = "t".repeat(63);
        assert_eq!(name("node", 1), "node-1");
        let names = [name("node", 11), name("node-1", 1), name(&long, 1), name(&long[1..], 1), name(&long[..62], 11)];
        let all: BTreeSet<&String> = names.iter().collect();
        assert_eq!(all.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|n| crate::resource::names::dns_label(n).is_ok()), "{names:?}");
    }
}
