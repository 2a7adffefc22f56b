//! Who is calling and what they may do.
//!
//! [`Authenticator`] turns a bearer token into an [`Identity`]; [`authorize`] decides, in one place, what an
//! identity may do. Callers inside the process bring their identity with them as a request extension.

mod authenticate;

pub use authenticate::{Authenticator, Unauthenticated};

use crate::resource::{User, UserRole};

/// What sort of caller an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    /// A part of this program.
    System,
    /// Holder of the administrator token.
    Administrator,
    /// A person.
    User,
}

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name, as records and logs show it.
    pub name: String,
    /// Groups the caller belongs to.
    pub groups: Vec<String>,
    /// What sort of caller it is.
    pub kind: IdentityKind,
}

impl Identity {
    /// A part of this program, such as a controller; its name is its field manager too.
    pub fn system(name: impl Into<String>) -> Self {
        Self { name: name.into(), groups: vec!["system:masters".into()], kind: IdentityKind::System }
    }

    /// A person, by their record; `None` for one who may not come in.
    pub fn of(user: &User) -> Option<Self> {
        let name = user.metadata.name.clone()?;
        let gone = !user.spec.active || user.metadata.deletion_timestamp.is_some();
        let who = match user.spec.role {
            UserRole::Admin => Self::administrator(name),
            UserRole::User => Self { name, groups: Vec::new(), kind: IdentityKind::User },
        };
        (!gone).then_some(who)
    }

    /// Holder of the administrator token.
    pub fn administrator(name: impl Into<String>) -> Self {
        Self { name: name.into(), groups: vec!["system:masters".into()], kind: IdentityKind::Administrator }
    }
}

/// What a request wants to do, in Kubernetes' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'a str,
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural name of the kind.
    pub resource: &'a str,
    /// `status`, `exec`, `log`; empty for the record itself.
    pub subresource: &'a str,
    /// Project; `None` across all of them and for cluster kinds.
    pub namespace: Option<&'a str>,
    /// Name; `None` for lists.
    pub name: Option<&'a str>,
}

/// A refusal, with the reason for the caller.
#[derive(Debug, thiserror::Error)]
#[error("User {user:?} cannot {verb} resource {resource:?} in API group {group:?}")]
pub struct Denied {
    /// Who asked.
    pub user: String,
    /// For what.
    pub verb: String,
    /// On which kind.
    pub resource: String,
    /// Of which API group.
    pub group: String,
}

/// Decides whether `identity` may do `action`. Every handler passes through here before it does anything.
///
/// # Errors
/// [`Denied`] when it may not.
pub fn authorize(identity: &Identity, action: &Action<'_>) -> Result<(), Denied> {
    match identity.kind {
        IdentityKind::System | IdentityKind::Administrator => Ok(()),
        // Nobody can sign in as a person yet; until roles are judged here, a person may do nothing.
        IdentityKind::User => Err(Denied {
            user: identity.name.clone(),
            verb: action.verb.into(),
            resource: action.resource.into(),
            group: action.group.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_may_nothing_until_roles_are_judged() {
        let user = Identity { name: "ada".into(), groups: vec![], kind: IdentityKind::User };
        let action =
            Action { verb: "get", group: "", resource: "events", subresource: "", namespace: Some("default"), name: None };
        assert!(authorize(&user, &action).is_err());
        assert!(authorize(&Identity::system("controller"), &action).is_ok());
    }
}
