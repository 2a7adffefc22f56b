//! `Invitation`: a way in for someone who has no account yet.

use super::errors::FieldErrors;
use super::kind::{Reference, Rules};
use super::names::is_email;
use super::user::UserRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An invitation by mail.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "devsanctum.io", version = "v1", kind = "Invitation", status = "InvitationStatus", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name":"Email","type":"string","jsonPath":".spec.email"}"#)]
#[kube(printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#)]
#[kube(printcolumn = r#"{"name":"Expires","type":"date","jsonPath":".status.expiresAt"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct InvitationSpec {
    /// Whom it is for.
    pub email: String,
    /// Role they will have.
    #[serde(default)]
    pub role: UserRole,
    /// Groups they will join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// How far an invitation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InvitationPhase {
    /// Not sent yet.
    #[default]
    Pending,
    /// Sent, and waiting to be taken up.
    Sent,
    /// Somebody has made an account of it.
    Accepted,
    /// Its 48 hours are over.
    Expired,
}

/// What became of an invitation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InvitationStatus {
    /// State in a word.
    pub phase: InvitationPhase,
    /// When it was sent last (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// When it ends (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was taken up (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<String>,
    /// The `User` that was made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The address that it was sent to last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_to: Option<String>,
    /// How often it was sent.
    pub times_sent: u32,
    /// The wish to send it again that was last seen to: the value of the annotation `devsanctum.io/resend`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resent: Option<String>,
    /// What to know or do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State.
    pub conditions: Vec<Condition>,
}

impl Rules for InvitationSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        if !is_email(&self.email) {
            errors.invalid("spec.email", self.email.as_str(), "must be an e-mail address such as 'ada@example.com'");
        }
    }
    fn references(&self) -> Vec<Reference> {
        let group = |(i, g): (usize, &String)| Reference::new(format!("spec.groups[{i}]"), "Group", g);
        self.groups.iter().enumerate().map(group).collect()
    }
}
