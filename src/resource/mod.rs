//! The records: what a user may ask for, kind by kind. Pure; imports nothing of ours.
//!
//! A kind is one file holding its `spec`, `status` and [`Rules`]. Everything else about it (names,
//! schema, printer columns, selectable fields) comes from its derived `CustomResourceDefinition`, so the
//! same definition serves our own API and a real Kubernetes cluster. [`kinds`] lists them all.

pub mod common;
pub mod conditions;
pub mod core;
pub mod errors;
pub mod kind;
pub mod labels;
pub mod names;

mod docker_server;
mod feature;
mod group;
mod invitation;
mod lifecycle;
mod project;
mod quota;
mod repo_sync;
mod route;
mod schedule;
mod secret;
mod settings;
mod sign_in;
mod template;
mod user;
mod workspace;

pub use docker_server::*;
pub use errors::{FieldError, FieldErrors, Problem};
pub use feature::*;
pub use group::*;
pub use invitation::*;
pub use kind::{Claim, KindDef, Reference, Rules, kind, kinds};
pub use lifecycle::{Lifecycle, NEVER, ProjectLifecycle, after};
pub use project::*;
pub use quota::Quota;
pub use repo_sync::*;
pub use route::*;
pub use schedule::{Day, Schedule, time_of_day};
pub use secret::*;
pub use settings::*;
pub use sign_in::{Mail, MailSecurity, Provider, ProviderType};
pub use template::*;
pub use user::*;
pub use workspace::*;

/// The API group of every kind of this product.
pub const GROUP: &str = "devsanctum.io";
/// The namespace of what the platform keeps for itself: certificates of servers, warm environments.
pub const SYSTEM_NAMESPACE: &str = "devsanctum-system";
/// The one served version.
pub const VERSION: &str = "v1";
