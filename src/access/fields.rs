//! Which fields of a record somebody may not set, though they may write the record.

use super::decide::role;
use super::records::{Records, Role};
use super::{Identity, IdentityKind};
use crate::resource::labels::{PREFIX, RECREATE, SUSPEND};
use serde_json::Value;
use std::collections::BTreeSet;

/// Fields of a `User` that are the person's own to set.
const OF_ONESELF: [&str; 3] = ["displayName", "avatarUrl", "sshKeys"];
/// Annotations of the platform that people set on what they may write.
const SWITCHES: [&str; 2] = [SUSPEND, RECREATE];

/// A field that is not theirs to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettable {
    /// Which.
    pub path: String,
    /// Why, and what is allowed.
    pub why: String,
}

/// A write: of which kind and where, before and after.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// Kind of our own group.
    pub kind: &'a str,
    /// Project; empty for cluster kinds.
    pub namespace: &'a str,
    /// Before; `None` for a record that is new.
    pub old: Option<&'a Value>,
    /// After.
    pub new: &'a Value,
}

impl<'a> Edit<'a> {
    fn before(&self, pointer: &str) -> &'a Value {
        self.old.and_then(|old| old.pointer(pointer)).unwrap_or(&Value::Null)
    }

    fn after(&self, pointer: &str) -> &'a Value {
        self.new.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn changes(&self, pointer: &str) -> bool {
        self.before(pointer) != self.after(pointer)
    }

    /// Fields of the spec that are not the same any more.
    fn changed_spec(&self) -> BTreeSet<&'a str> {
        let fields = |v: &'a Value| v.as_object().into_iter().flat_map(|all| all.keys().map(String::as_str));
        let (old, new) = (self.before("/spec"), self.after("/spec"));
        fields(old).chain(fields(new)).filter(|field| old.get(field) != new.get(field)).collect()
    }
}

fn refuse(path: impl Into<String>, why: impl Into<String>) -> Result<(), Unsettable> {
    Err(Unsettable { path: path.into(), why: why.into() })
}

/// Judges a write that [`super::decide`] has allowed.
///
/// # Errors
/// The first field that is not theirs to set.
pub fn check_fields(who: &Identity, edit: &Edit<'_>, records: &Records) -> Result<(), Unsettable> {
    // A key of a person's that may do less than they would come in by another that may do all.
    if edit.kind == "User" && who.kind == IdentityKind::User && !who.scope.is_all() && edit.changes("/spec/sshKeys") {
        return refuse("spec.sshKeys", "whoever comes in by SSH may do all that its user may, and this API key may not");
    }
    if who.kind != IdentityKind::User || records.person(&who.name).is_some_and(|p| p.active && p.admin) {
        return Ok(());
    }
    check_metadata(edit)?;
    match edit.kind {
        "Workspace" => check_workspace(who, edit, records),
        "Project" => check_project(&who.name, edit, records),
        "Group" => only(edit, &["members"], "a group's managers change its members alone"),
        "User" => only(edit, &OF_ONESELF, "the rest of a user's record is the administrators' to change"),
        _ => Ok(()),
    }
}

/// What the platform itself keeps in the metadata, and steers by.
fn check_metadata(edit: &Edit<'_>) -> Result<(), Unsettable> {
    for field in ["finalizers", "ownerReferences"] {
        if edit.changes(&format!("/metadata/{field}")) {
            return refuse(format!("metadata.{field}"), "is the platform's own: leave it as it is");
        }
    }
    for field in ["labels", "annotations"] {
        let (old, new) = (edit.before(&format!("/metadata/{field}")), edit.after(&format!("/metadata/{field}")));
        let keys = |v: &Value| v.as_object().into_iter().flat_map(|all| all.keys().cloned()).collect::<BTreeSet<String>>();
        for key in keys(old).union(&keys(new)).filter(|key| key.starts_with(PREFIX)) {
            let switch = field == "annotations" && SWITCHES.contains(&key.as_str());
            if old.get(key) != new.get(key) && !switch {
                return refuse(format!("metadata.{field}[{key}]"), "is the platform's own: only administrators may change it");
            }
        }
    }
    Ok(())
}

/// Nothing but these fields of the spec.
fn only(edit: &Edit<'_>, allowed: &[&str], why: &str) -> Result<(), Unsettable> {
    match edit.changed_spec().into_iter().find(|field| !allowed.contains(field)) {
        Some(field) => refuse(format!("spec.{field}"), format!("{why} (spec.{})", allowed.join(", spec."))),
        None => Ok(()),
    }
}

fn check_workspace(who: &Identity, edit: &Edit<'_>, records: &Records) -> Result<(), Unsettable> {
    let (role, who) = (role(who, edit.namespace, records), who.name.as_str());
    if role >= Role::Manage {
        return is_their_place_too(who, edit, records);
    }
    // Whose it was decides; the record itself says so, as it lies in this transaction.
    let owner = if edit.old.is_some() { edit.before("/spec/owner") } else { edit.after("/spec/owner") };
    if owner.as_str() != Some(who) {
        return refuse(
            "spec.owner",
            format!("must be {who:?}: making a workspace for somebody else takes MANAGE in the project"),
        );
    }
    // A fork is a copy of the other's files.
    let from = edit.after("/spec/from").as_str().filter(|_| edit.changes("/spec/from"));
    if from.is_some_and(|from| records.workspace_owner(edit.namespace, from) != Some(who)) {
        return refuse("spec.from", "must be a workspace of your own: forking somebody else's takes MANAGE in the project");
    }
    if edit.old.is_some() && edit.changes("/spec/owner") {
        return refuse("spec.owner", "giving a workspace to somebody else takes MANAGE in the project");
    }
    if role >= Role::Deploy {
        return Ok(());
    }
    let switch = |key: &str| {
        let switch = |of: &Value| of.get(key).cloned();
        switch(edit.before("/metadata/annotations")) != switch(edit.after("/metadata/annotations"))
    };
    if let Some(switch) = SWITCHES.iter().find(|key| switch(key)) {
        return refuse(format!("metadata.annotations[{switch}]"), "takes DEPLOY in the project");
    }
    only(edit, &["pinned"], "whose it is may pin it; the rest takes DEPLOY in the project")
}

/// What a workspace takes counts against its owner's quota: nobody's is used up where they do not even see it.
fn is_their_place_too(who: &str, edit: &Edit<'_>, records: &Records) -> Result<(), Unsettable> {
    let owner = edit.after("/spec/owner").as_str().filter(|owner| *owner != who && edit.changes("/spec/owner"));
    match owner.filter(|owner| records.role(owner, edit.namespace) < Role::Read) {
        Some(owner) => refuse(
            "spec.owner",
            format!("{owner:?} has no role in the project, and what it takes would be of their quota: give them READ first"),
        ),
        None => Ok(()),
    }
}

/// A limit that was there, and is higher now or gone.
fn loosened<'a>(old: &'a Value, new: &Value) -> Option<&'a str> {
    let limits = old.as_object().into_iter().flatten().filter_map(|(field, most)| Some((field.as_str(), most.as_f64()?)));
    limits.into_iter().find(|(field, most)| new[*field].as_f64().is_none_or(|now| now > *most)).map(|(field, _)| field)
}

fn check_project(who: &str, edit: &Edit<'_>, records: &Records) -> Result<(), Unsettable> {
    let owner = if edit.old.is_some() { edit.before("/spec/owner") } else { edit.after("/spec/owner") };
    let owns = owner.as_str() == Some(who);
    if edit.old.is_none() && !owns {
        return refuse("spec.owner", format!("must be {who:?}: only administrators make projects for others"));
    }
    // Whether it is theirs was asked by its name alone, and it may have been made since.
    let name = edit.after("/metadata/name").as_str().unwrap_or_default();
    if edit.old.is_some() && !owns && records.role(who, name) < Role::Manage {
        return refuse("metadata.name", "a project of this name is there, and is not yours to change");
    }
    if edit.changes("/spec/owner") && !owns {
        return refuse("spec.owner", "only its owner may give a project away");
    }
    if let Some(field) = loosened(edit.before("/spec/quota"), edit.after("/spec/quota")) {
        return refuse(format!("spec.quota.{field}"), "a quota may be tightened: only administrators raise it or take it away");
    }
    // A group's servers come with the group: nobody lends what is not theirs.
    let groups = |v: &Value| v.as_array().into_iter().flatten().filter_map(|g| g["group"].as_str().map(str::to_owned)).collect();
    let (old, new): (BTreeSet<String>, BTreeSet<String>) =
        (groups(edit.before("/spec/groups")), groups(edit.after("/spec/groups")));
    match new.difference(&old).find(|group| records.membership(who, group).is_none()) {
        Some(group) => {
            refuse("spec.groups", format!("{group:?} is no group of yours: only its members and administrators may add it"))
        }
        None => Ok(()),
    }
}
