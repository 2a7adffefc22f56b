//! Who is calling and what they may do.
//!
//! [`Authenticator`] turns a bearer token into an [`Identity`]; [`decide`] says, in one place, what an identity may do, from
//! the [`Records`] that [`Directory`] keeps; [`check_fields`] which fields of what they may write. Callers inside the process
//! bring their identity with them as a request extension.

mod authenticate;
mod decide;
mod device;
mod directory;
mod explain;
mod fields;
mod hosts;
mod keys;
pub mod oauth;
mod password;
mod records;
mod scope;
mod shares;
mod sight;
mod sign_in;
mod throttle;
mod welcome;
mod words;

pub use authenticate::{Authenticator, Unauthenticated};
pub use decide::{API_KEYS, Decision, Grounds, Lack, decide};
pub use device::{Asking, DEVICE, DeviceCodes, INTERVAL, Polled};
pub use directory::Directory;
pub use explain::explain;
pub use fields::{Edit, Unsettable, check_fields};
pub use keys::{KeyError, NewKey, issue};
pub use password::{Password, Place};
pub use records::{HostFacts, Records, Role};
pub use scope::Scope;
pub use shares::{NewShare, SHARES, ShareError, Shares};
pub use sight::Sight;
pub use sign_in::{LINK, Refused, SignIn, SignedIn, Token, Visitor, digest};
pub use throttle::network;
pub use welcome::{Applicant, BY_MAIL, Back, INVITATION, Intent, Invited, purpose};

use crate::resource::User;
use std::sync::Arc;

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
    /// Projects that the very request makes for its caller, where it makes several records.
    pub makes: Vec<String>,
    /// What the key they came by may be used for.
    pub scope: Arc<Scope>,
    /// Id of the API key they came by.
    pub key: Option<String>,
}

impl Identity {
    /// A part of this program, such as a controller; its name is its field manager too.
    pub fn system(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            groups: vec!["system:masters".into()],
            kind: IdentityKind::System,
            makes: Vec::new(),
            scope: Arc::default(),
            key: None,
        }
    }

    /// A person, by their record; `None` for one who may not come in.
    pub fn of(user: &User) -> Option<Self> {
        let name = user.metadata.name.clone()?;
        let gone = !user.spec.active || user.metadata.deletion_timestamp.is_some();
        (!gone).then(|| Self::person(name))
    }

    /// A person; what they may do, administrators too, is looked up when they want to.
    pub fn person(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            groups: Vec::new(),
            kind: IdentityKind::User,
            makes: Vec::new(),
            scope: Arc::default(),
            key: None,
        }
    }

    /// Who this is among all callers, whatever they came by: the administrator's token may be called as a person is.
    pub fn holder(&self) -> String {
        format!("{:?} {}", self.kind, self.name)
    }

    /// Holder of the administrator token.
    pub fn administrator(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            groups: vec!["system:masters".into()],
            kind: IdentityKind::Administrator,
            makes: Vec::new(),
            scope: Arc::default(),
            key: None,
        }
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
