//! Decisions in words: for refusals, for `kubectl auth can-i`, and for `devsanctum auth why`.

use super::decide::{Decision, Grounds, Lack};
use super::records::{Records, Role};
use super::{Action, Identity};

/// Says why a decision is as it is.
pub fn explain(who: &Identity, action: &Action<'_>, decision: Decision, records: &Records) -> String {
    let asked = Asked { who: &who.name, action, records };
    match decision {
        Decision::Allow(grounds) => asked.allowed(grounds),
        Decision::Deny(lack) => asked.denied(lack),
        Decision::Hidden => "it does not exist, or is not theirs to see".to_owned(),
    }
}

struct Asked<'a> {
    who: &'a str,
    action: &'a Action<'a>,
    records: &'a Records,
}

impl Asked<'_> {
    fn project(&self) -> &str {
        let of_itself = matches!(self.action.resource, "projects" | "namespaces");
        (if of_itself { self.action.name } else { self.action.namespace }).unwrap_or_default()
    }

    /// `ada has DEPLOY in project "team", by group "devs"`.
    fn has(&self, role: Role) -> String {
        let (who, project) = (self.who, self.project());
        match role {
            Role::Owner => format!("{who} owns project {project:?}"),
            Role::None | Role::Visitor => format!("{who} has {} in project {project:?}", role.name()),
            _ => {
                let groups: Vec<String> = self.records.by_groups(who, project).iter().map(|g| format!("{g:?}")).collect();
                let group = if groups.len() == 1 { "group" } else { "groups" };
                format!("{who} has {} in project {project:?}, by {group} {}", role.name(), groups.join(", "))
            }
        }
    }

    fn allowed(&self, grounds: Grounds) -> String {
        let who = self.who;
        match grounds {
            Grounds::Platform => format!("{who} is a part of the platform"),
            Grounds::Administrator => format!("{who} is an administrator"),
            Grounds::Role(role) => self.has(role),
            Grounds::Own(role) => format!("{}, and the workspace is their own or new", self.has(role)),
            Grounds::Themself => "it is their own record".to_owned(),
            Grounds::Member => format!("{who} is in a group with it"),
            Grounds::GroupManager => format!("{who} is MANAGER of the group"),
            Grounds::OpenServer => format!("the server is open to {who}"),
            Grounds::Everybody => "everybody who is signed in may; lists show what they may see".to_owned(),
        }
    }

    fn denied(&self, lack: Lack) -> String {
        match lack {
            Lack::Inactive => format!("user {:?} is not known, or not active", self.who),
            Lack::Role(needed, has) => format!("it takes {} in the project: {}", needed.name(), self.has(has)),
            Lack::NotOwn(has) => {
                format!("it takes MANAGE in the project, or DEPLOY and that the workspace is theirs: {}", self.has(has))
            }
            Lack::Scope => "the API key was made for other things: its scope does not allow this".to_owned(),
            Lack::Administrators => "only administrators may".to_owned(),
            Lack::GroupManagers => "only managers of the group and administrators may".to_owned(),
        }
    }
}
