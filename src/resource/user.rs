//! `User`: a person.

use super::errors::FieldErrors;
use super::kind::{Claim, Rules};
use super::names::is_email;
use super::quota::Quota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a user may do platform-wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum UserRole {
    /// What their groups allow.
    #[default]
    User,
    /// Everything.
    Admin,
}

fn yes() -> bool {
    true
}

/// A person who signs in.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "devsanctum.io", version = "v1", kind = "User", status = "UserStatus", category = "all", derive = "PartialEq")]
#[kube(printcolumn = r#"{"name":"Email","type":"string","jsonPath":".spec.email"}"#)]
#[kube(printcolumn = r#"{"name":"Role","type":"string","jsonPath":".spec.role"}"#)]
#[kube(printcolumn = r#"{"name":"Active","type":"boolean","jsonPath":".spec.active"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[kube(printcolumn = r#"{"name":"Last Login","type":"date","jsonPath":".status.lastLoginAt","priority":1}"#)]
#[serde(rename_all = "camelCase")]
pub struct UserSpec {
    /// Login address; unique without regard to case.
    pub email: String,
    /// Name shown to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Picture, an https address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// Platform-wide role.
    #[serde(default)]
    pub role: UserRole,
    /// Public keys they come in by over SSH, as `ssh-keygen` writes them: ed25519 or ecdsa, each of one user alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
    /// Inactive users cannot sign in and their workspaces stop.
    #[serde(default = "yes")]
    pub active: bool,
    /// Most they may hold, in all projects together; what is left out is as the settings' `userQuota` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UserStatus {
    /// How they sign in: `LOCAL`, `GITHUB`, `GOOGLE` or the name of an OIDC provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// When they last signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_login_at: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State.
    pub conditions: Vec<Condition>,
}

/// Reads a public key.
///
/// # Errors
/// Says what is allowed.
fn ssh_key(text: &str) -> Result<PublicKey, String> {
    let key =
        PublicKey::from_openssh(text).map_err(|_| "must be a public key in one line, such as 'ssh-ed25519 AAAA… ada@desk'")?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Ok(key),
        other => Err(format!("is a key of the type {other}: must be ed25519 or ecdsa; `ssh-keygen -t ed25519` makes one")),
    }
}

impl Rules for UserSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        if !is_email(&self.email) {
            errors.invalid("spec.email", self.email.as_str(), "must be an e-mail address such as 'ada@example.com'");
        }
        for (i, text) in self.ssh_keys.iter().enumerate() {
            errors.check(format!("spec.sshKeys[{i}]"), text, ssh_key(text).map(drop));
        }
        if let Some(url) = self.avatar_url.as_deref().filter(|u| !u.starts_with("https://")) {
            errors.invalid("spec.avatarUrl", url, "must be an https:// address");
        }
    }
    fn claims(&self) -> Vec<Claim> {
        let keys = self.ssh_keys.iter().enumerate().filter_map(|(i, text)| {
            let value = ssh_key(text).ok()?.fingerprint(HashAlg::Sha256).to_string();
            Some(Claim { path: format!("spec.sshKeys[{i}]"), scope: "ssh-key", value })
        });
        let email = Claim { path: "spec.email".into(), scope: "email", value: self.email.to_lowercase() };
        std::iter::once(email).chain(keys).collect()
    }
}
