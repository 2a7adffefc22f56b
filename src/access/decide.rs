//! Who may do what: one pure function, called by every door.
//!
//! A private project does not exist for somebody without a role in it: [`Decision::Hidden`] is answered as what is not
//! there is, and what is not there is decided in the same way, so that nothing tells the two apart.

use super::records::{Records, Role};
use super::{Action, Identity, IdentityKind};
use crate::resource::{GROUP, MemberRole};

/// What API keys are called where it is decided who may make, see and end them; the name is their user's.
pub const API_KEYS: &str = "apikeys";

/// Why something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// A part of this program.
    Platform,
    /// An administrator.
    Administrator,
    /// A role in the project.
    Role(Role),
    /// It is their own workspace, in a project in which they have this role.
    Own(Role),
    /// It is they themselves.
    Themself,
    /// They belong to the group, or to one of its members' groups.
    Member,
    /// They manage the group.
    GroupManager,
    /// The server is open to one of their groups.
    OpenServer,
    /// Everybody may who is signed in.
    Everybody,
}

/// Why something is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// They are not known, or not active.
    Inactive,
    /// It takes this role in the project; they have that one.
    Role(Role, Role),
    /// It takes `MANAGE`, or `DEPLOY` and that it is their own.
    NotOwn(Role),
    /// The API key they came by is not for this.
    Scope,
    /// Only administrators may.
    Administrators,
    /// Only administrators and the group's managers may.
    GroupManagers,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on. On lists: with what they may see.
    Allow(Grounds),
    /// 403, with the reason.
    Deny(Lack),
    /// 404: to them it does not exist.
    Hidden,
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// What somebody may do in a project, also in one that their request makes.
pub fn role(who: &Identity, project: &str, records: &Records) -> Role {
    let made = who.makes.iter().any(|made| made == project) && !records.has_project(project);
    if made { Role::Owner } else { records.role(&who.name, project) }
}

/// Reads only.
fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

/// Decides whether `who` may do `action`.
pub fn decide(who: &Identity, action: &Action<'_>, records: &Records) -> Decision {
    match who.kind {
        IdentityKind::System => return Decision::Allow(Grounds::Platform),
        IdentityKind::Administrator => return Decision::Allow(Grounds::Administrator),
        IdentityKind::User if !who.scope.allows(action) => return Decision::Deny(Lack::Scope),
        IdentityKind::User => {}
    }
    match records.person(&who.name) {
        Some(person) if person.active && person.admin => Decision::Allow(Grounds::Administrator),
        Some(person) if person.active => Asking { identity: who, who: &who.name, action, records }.decide(),
        _ => Decision::Deny(Lack::Inactive),
    }
}

/// A person who is no administrator, and what they want.
struct Asking<'a> {
    identity: &'a Identity,
    who: &'a str,
    action: &'a Action<'a>,
    records: &'a Records,
}

impl Asking<'_> {
    fn decide(&self) -> Decision {
        // What people ask about themselves is answered by a door of its own.
        match (self.action.group, self.action.resource) {
            (GROUP, "projects") => self.project(),
            (GROUP, "workspaces") => self.workspace(),
            (GROUP, "routes") => self.read_with(Role::Read),
            (GROUP, "secrets") => self.in_project(Role::Manage),
            ("" | "events.k8s.io", "events") => self.read_with(Role::Read),
            ("", "namespaces") => self.namespace(),
            (GROUP, "templates" | "features") if reads(self.action.verb) => Decision::Allow(Grounds::Everybody),
            (GROUP, "dockerservers") => self.server(),
            (GROUP, "groups") => self.group(),
            (GROUP, "users") => self.user(),
            (GROUP, API_KEYS) if self.action.name == Some(self.who) => Decision::Allow(Grounds::Themself),
            _ => Decision::Deny(Lack::Administrators),
        }
    }

    fn role(&self, project: &str) -> Role {
        role(self.identity, project, self.records)
    }

    /// At least `needed` in the project that the action is in. Without one, a list is of what may be seen.
    fn in_project(&self, needed: Role) -> Decision {
        let Some(project) = self.action.namespace else {
            return if reads(self.action.verb) {
                Decision::Allow(Grounds::Everybody)
            } else {
                Decision::Deny(Lack::Administrators)
            };
        };
        match self.role(project) {
            // A list of what is not there is empty.
            Role::None if matches!(self.action.verb, "list" | "watch") => Decision::Allow(Grounds::Everybody),
            Role::None => Decision::Hidden,
            role if role >= needed => Decision::Allow(Grounds::Role(role)),
            role => Decision::Deny(Lack::Role(needed, role)),
        }
    }

    /// Read with a role, written by the platform and administrators alone.
    fn read_with(&self, needed: Role) -> Decision {
        match self.in_project(needed) {
            Decision::Allow(_) if !reads(self.action.verb) => Decision::Deny(Lack::Administrators),
            decision => decision,
        }
    }

    /// Projects and namespaces by their own name.
    fn of_project(&self, needed: Role) -> Decision {
        let Some(project) = self.action.name else { return Decision::Allow(Grounds::Everybody) };
        match self.role(project) {
            Role::None => Decision::Hidden,
            role if role >= needed => Decision::Allow(Grounds::Role(role)),
            role => Decision::Deny(Lack::Role(needed, role)),
        }
    }

    fn project(&self) -> Decision {
        match (self.action.verb, self.action.subresource) {
            ("get" | "list" | "watch", _) => self.of_project(Role::Visitor),
            ("create", "") => Decision::Allow(Grounds::Everybody),
            // Applying makes what is not there. Names are everybody's: that one is taken cannot be hidden from who wants it.
            ("patch", "") if self.action.name.is_some_and(|name| !self.records.has_project(name)) => {
                Decision::Allow(Grounds::Everybody)
            }
            ("update" | "patch", "") => self.of_project(Role::Manage),
            ("delete", "") => self.of_project(Role::Owner),
            _ => Decision::Deny(Lack::Administrators),
        }
    }

    fn namespace(&self) -> Decision {
        if reads(self.action.verb) { self.of_project(Role::Visitor) } else { Decision::Deny(Lack::Administrators) }
    }

    fn workspace(&self) -> Decision {
        let Action { verb, subresource, namespace, name, .. } = *self.action;
        let (Some(project), Some(name)) = (namespace, name) else { return self.workspaces() };
        let role = self.role(project);
        if role == Role::None || (role == Role::Visitor && !self.records.is_public(project, name)) {
            return Decision::Hidden;
        }
        let owner = self.records.workspace_owner(project, name);
        // One that is not there could be made by them.
        let own = owner.is_none_or(|owner| owner == self.who);
        match (verb, subresource) {
            ("get" | "list" | "watch", "" | "status") => Decision::Allow(Grounds::Role(role)),
            (_, "status") => Decision::Deny(Lack::Administrators),
            _ if role >= Role::Manage => Decision::Allow(Grounds::Role(role)),
            _ if role >= Role::Deploy && own => Decision::Allow(Grounds::Own(role)),
            // Its pages, where it is private.
            ("get", "web") if role >= Role::Read && owner == Some(self.who) => Decision::Allow(Grounds::Own(role)),
            // What they may change of it then is said by `fields`.
            ("update" | "patch", "") if role >= Role::Read && owner == Some(self.who) => Decision::Allow(Grounds::Own(role)),
            _ => Decision::Deny(Lack::NotOwn(role)),
        }
    }

    /// All of a project, or of all projects.
    fn workspaces(&self) -> Decision {
        match self.action.verb {
            "get" | "list" | "watch" => self.in_project(Role::Visitor),
            "create" => self.in_project(Role::Deploy),
            _ => self.in_project(Role::Manage),
        }
    }

    fn server(&self) -> Decision {
        match self.action.name {
            _ if !reads(self.action.verb) => Decision::Deny(Lack::Administrators),
            None => Decision::Allow(Grounds::Everybody),
            Some(server) if self.records.is_open(server, self.who) => Decision::Allow(Grounds::OpenServer),
            Some(_) => Decision::Hidden,
        }
    }

    fn group(&self) -> Decision {
        let Some(group) = self.action.name else {
            return if reads(self.action.verb) {
                Decision::Allow(Grounds::Everybody)
            } else {
                Decision::Deny(Lack::Administrators)
            };
        };
        match (self.records.membership(self.who, group), self.action.verb, self.action.subresource) {
            (None, ..) => Decision::Hidden,
            (Some(_), "get" | "list" | "watch", _) => Decision::Allow(Grounds::Member),
            (Some(MemberRole::Manager), "update" | "patch", "") => Decision::Allow(Grounds::GroupManager),
            (Some(_), "update" | "patch", "") => Decision::Deny(Lack::GroupManagers),
            _ => Decision::Deny(Lack::Administrators),
        }
    }

    fn user(&self) -> Decision {
        let Some(user) = self.action.name else {
            return if reads(self.action.verb) {
                Decision::Allow(Grounds::Everybody)
            } else {
                Decision::Deny(Lack::Administrators)
            };
        };
        let own = user == self.who;
        match (self.action.verb, self.action.subresource) {
            _ if !own && !self.records.share_a_group(self.who, user) => Decision::Hidden,
            ("get" | "list" | "watch", _) if own => Decision::Allow(Grounds::Themself),
            ("get" | "list" | "watch", _) => Decision::Allow(Grounds::Member),
            ("update" | "patch", "") if own => Decision::Allow(Grounds::Themself),
            _ => Decision::Deny(Lack::Administrators),
        }
    }
}
