//! Rules of single kinds that look at other records.

use super::super::fail;
use super::super::record;
use super::super::served::by_kind;
use super::super::status::ApiError;
use super::{Subject, quota};
use crate::resource::{FieldErrors, GROUP, GroupSpec, SYSTEM_NAMESPACE};
use crate::store::Tx;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Applies the rules of the subject's kind.
pub async fn check(tx: &mut Tx, subject: &Subject<'_>, errors: &mut FieldErrors) -> Result<(), ApiError> {
    let def = subject.request.served.def;
    if def.group != GROUP || !subject.request.subresource.is_empty() {
        return Ok(());
    }
    match def.kind.as_str() {
        "Group" => keeps_a_manager(subject, errors),
        "Template" => extends_one_level(tx, subject, errors).await?,
        "Feature" => has_no_cycle(tx, subject, errors).await?,
        "Workspace" => {
            is_somebodys(subject, errors);
            may_run(tx, subject, errors).await?;
        }
        _ => {}
    }
    Ok(())
}

fn is_somebodys(subject: &Subject<'_>, errors: &mut FieldErrors) {
    if subject.new["spec"]["owner"] == "" && subject.key.namespace != SYSTEM_NAMESPACE {
        errors.required("spec.owner", "name the User it belongs to");
    }
}

/// Whose owner is deactivated is not started. One that is new, or given to them, is stopped by the lifecycle loop as any that runs: a
/// manifest of theirs is no error.
async fn may_run(tx: &mut Tx, subject: &Subject<'_>, errors: &mut FieldErrors) -> Result<(), ApiError> {
    let (old, new) = (subject.old, subject.new);
    let begins = old.is_some_and(|old| !quota::runs(old));
    let (owner, Some(users)) = (quota::owner(new), by_kind("User")) else { return Ok(()) };
    if !quota::runs(new) || !begins || owner.is_empty() {
        return Ok(());
    }
    let Some(stored) = tx.get(&users.key("", owner)).await? else { return Ok(()) };
    if record::parse(&stored.body).map_err(fail::damaged)?["spec"]["active"] == false {
        let detail = "this User is deactivated, and their workspaces do not run: activate them, name another owner, or set spec.running to false";
        errors.invalid("spec.owner", owner, detail);
    }
    Ok(())
}

fn keeps_a_manager(subject: &Subject<'_>, errors: &mut FieldErrors) {
    let managed = |v: &Value| GroupSpec::deserialize(&v["spec"]).is_ok_and(|g| g.has_manager());
    if subject.old.is_some_and(managed) && !managed(subject.new) {
        errors.required("spec.members", "at least one member must stay MANAGER: make somebody else MANAGER first");
    }
}

async fn extends_one_level(tx: &mut Tx, subject: &Subject<'_>, errors: &mut FieldErrors) -> Result<(), ApiError> {
    let Some(parent) = subject.new["spec"]["extends"].as_str() else { return Ok(()) };
    if parent == subject.key.name {
        errors.invalid("spec.extends", parent, "a template cannot extend itself");
        return Ok(());
    }
    let served = subject.request.served;
    if let Some(stored) = tx.get(&served.key("", parent)).await? {
        let body = record::parse(&stored.body).map_err(fail::damaged)?;
        if let Some(grand) = body["spec"]["extends"].as_str() {
            let detail = format!("it extends {grand:?} itself, and templates extend one level only: extend {grand:?}");
            errors.invalid("spec.extends", parent, detail);
        }
    }
    for child in tx.referrers(subject.key).await?.into_iter().filter(|k| k.kind == subject.key.kind) {
        let detail = format!("template {:?} extends this one, and templates extend one level only", child.name);
        errors.invalid("spec.extends", parent, detail);
    }
    Ok(())
}

/// Walks what the feature requires; a way back to itself is a cycle, and the error shows it.
async fn has_no_cycle(tx: &mut Tx, subject: &Subject<'_>, errors: &mut FieldErrors) -> Result<(), ApiError> {
    let own = subject.key.name.as_str();
    let mut seen = BTreeSet::new();
    let mut open: Vec<(Vec<String>, Vec<String>)> = vec![(vec![own.to_owned()], requires(subject.new))];
    while let Some((way, next)) = open.pop() {
        for name in next {
            if name != own && !seen.insert(name.clone()) {
                continue;
            }
            let way: Vec<String> = way.iter().cloned().chain([name.clone()]).collect();
            if name == own {
                errors.invalid(
                    "spec.requires",
                    way[1].as_str(),
                    format!("features may not require each other: {}", way.join(" → ")),
                );
                return Ok(());
            }
            if let Some(stored) = tx.get(&subject.request.served.key("", &name)).await? {
                open.push((way, requires(&record::parse(&stored.body).map_err(fail::damaged)?)));
            }
        }
    }
    Ok(())
}

fn requires(feature: &Value) -> Vec<String> {
    feature["spec"]["requires"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
