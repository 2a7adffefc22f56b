//! `Group`: people who get access together.

use super::errors::FieldErrors;
use super::kind::{Reference, Rules};
use super::quota::Quota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a member may do to the group itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MemberRole {
    /// Belongs to it.
    #[default]
    Member,
    /// Also adds and removes members.
    Manager,
}

/// One person in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the `User`.
    pub user: String,
    /// Role in the group.
    #[serde(default)]
    pub role: MemberRole,
}

/// Access to projects and servers is given to groups, never to single people.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "devsanctum.io", version = "v1", kind = "Group", status = "GroupStatus", category = "all", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name":"Description","type":"string","jsonPath":".spec.description"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct GroupSpec {
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who belongs to it. Once there is a MANAGER, one must remain.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Most that its members' workspaces may come to, those of all members and projects together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupStatus {
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State.
    pub conditions: Vec<Condition>,
}

impl GroupSpec {
    /// True when somebody manages the group.
    pub fn has_manager(&self) -> bool {
        self.members.iter().any(|m| m.role == MemberRole::Manager)
    }
}

impl Rules for GroupSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        let mut seen = BTreeSet::new();
        for (i, m) in self.members.iter().enumerate() {
            if !seen.insert(&m.user) {
                errors.duplicate(format!("spec.members[{i}].user"), m.user.as_str(), "a user can be a member once");
            }
        }
    }
    fn references(&self) -> Vec<Reference> {
        let user = |(i, m): (usize, &Member)| Reference::new(format!("spec.members[{i}].user"), "User", &m.user);
        self.members.iter().enumerate().map(user).collect()
    }
}
