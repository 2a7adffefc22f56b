//! `RepoSync`: manifests in a Git repository, applied and pruned.

use super::common::{SecretRef, check_duration};
use super::errors::FieldErrors;
use super::kind::{Reference, Rules};
use super::project::{branch, git_url};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn main_branch() -> String {
    "main".into()
}
fn root() -> String {
    ".".into()
}
fn five_minutes() -> String {
    "5m".into()
}

/// Where manifests come from.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "RepoSync",
    shortname = "rs",
    status = "RepoSyncStatus",
    category = "all",
    derive = "PartialEq"
)]
#[kube(printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url"}"#)]
#[kube(printcolumn = r#"{"name":"Commit","type":"string","jsonPath":".status.commit"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct RepoSyncSpec {
    /// Address of the repository.
    pub url: String,
    /// Branch to follow.
    #[serde(default = "main_branch")]
    pub branch: String,
    /// Folder of the manifests, relative.
    #[serde(default = "root")]
    pub path: String,
    /// How often it is fetched.
    #[serde(default = "five_minutes")]
    pub interval: String,
    /// Records that left the repository are deleted (only those it made).
    #[serde(default)]
    pub prune: bool,
    /// Secret with `token` or `sshKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretRef>,
    /// Stops syncing.
    #[serde(default)]
    pub suspend: bool,
}

/// What was last synced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RepoSyncStatus {
    /// Commit last applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State.
    pub conditions: Vec<Condition>,
}

impl Rules for RepoSyncSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        errors.check("spec.url", &self.url, git_url(&self.url));
        errors.check("spec.branch", &self.branch, branch(&self.branch));
        check_duration("spec.interval", &self.interval, errors);
        if self.path.starts_with('/') || self.path.split('/').any(|p| p == "..") {
            errors.invalid("spec.path", self.path.as_str(), "must be a folder inside the repository, relative, without '..'");
        }
        if self.credentials.as_ref().is_some_and(|s| s.namespace.is_none()) {
            errors.required("spec.credentials.namespace", "a RepoSync is in no project, so say which project holds the secret");
        }
    }
    fn references(&self) -> Vec<Reference> {
        let secret =
            |s: &SecretRef| Reference { namespace: s.namespace.clone(), ..Reference::new("spec.credentials", "Secret", &s.name) };
        self.credentials.iter().map(secret).collect()
    }
}
