//! `Project`: repositories, a template and features that workspaces are made from.

use super::common::{FeatureUse, SecretRef, Visibility};
use super::errors::FieldErrors;
use super::kind::{Reference, Rules};
use super::lifecycle::ProjectLifecycle;
use super::names;
use super::quota::Quota;
use super::template::{check_features, feature_references};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a group may do in a project. Higher ones include lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProjectRole {
    /// See the project and its workspaces.
    Read,
    /// Also deploy workspaces and manage one's own.
    Deploy,
    /// Also change settings, group assignments and others' workspaces.
    Manage,
}

/// A group's role in the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectGroup {
    /// Name of the `Group`.
    pub group: String,
    /// What it may do.
    pub role: ProjectRole,
}

fn main_branch() -> String {
    "main".into()
}

/// A Git repository cloned into every workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Directory it is cloned into, a DNS label.
    pub name: String,
    /// `https://…` or `ssh://…` or `git@host:path`.
    pub url: String,
    /// Branch where a workspace's own does not exist.
    #[serde(default = "main_branch")]
    pub default_branch: String,
    /// Commits of history to fetch; all where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub depth: Option<u32>,
    /// Secret of the project: `token` (with `username` where the host asks for one) for HTTPS, or `sshKey` (with `knownHosts`
    /// to pin the host's key) for SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretRef>,
}

/// What workspaces are made from. Its name is also the name of its namespace.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "Project",
    shortname = "proj",
    status = "ProjectStatus",
    category = "all",
    derive = "PartialEq"
)]
#[kube(printcolumn = r#"{"name":"Template","type":"string","jsonPath":".spec.template"}"#)]
#[kube(printcolumn = r#"{"name":"Owner","type":"string","jsonPath":".spec.owner"}"#)]
#[kube(printcolumn = r#"{"name":"Visibility","type":"string","jsonPath":".spec.visibility"}"#)]
#[kube(printcolumn = r#"{"name":"Workspaces","type":"integer","jsonPath":".status.workspaces"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSpec {
    /// Name shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Name of the `User` with full control.
    pub owner: String,
    /// Name of the `Template` workspaces are made from.
    pub template: String,
    /// Who may see it.
    #[serde(default)]
    pub visibility: Visibility,
    /// Repositories cloned into every workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository>,
    /// Features beside the template's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureUse>,
    /// Who may do what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ProjectGroup>,
    /// Memory reserved per workspace in mebibytes; raises the template's, never lowers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ram_mb: Option<u32>,
    /// Disk reserved per workspace in gibibytes; raises the template's, never lowers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub min_disk_gb: Option<f64>,
    /// Visibility of single ports by name, over what the template says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub port_visibility: BTreeMap<String, Visibility>,
    /// Most it may hold.
    #[serde(default)]
    pub quota: Quota,
    /// When its workspaces stop and go, where that is not as the settings say.
    #[serde(default)]
    pub lifecycle: ProjectLifecycle,
}

/// What is known of a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectStatus {
    /// Workspaces in it.
    pub workspaces: u32,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State: `NamespaceReady`, `Ready`, and `Deleting` with what is in the way.
    pub conditions: Vec<Condition>,
    /// What to know or do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Checks a Git address: no shell or option may hide in it.
///
/// # Errors
/// Says what is allowed.
pub(super) fn git_url(value: &str) -> Result<(), String> {
    let scheme = ["https://", "http://", "ssh://"].iter().any(|s| value.starts_with(s));
    let scp = value.split_once(':').is_some_and(|(a, b)| a.contains('@') && !a.contains('/') && !b.is_empty());
    let plain = value.len() <= 1024
        && !value.starts_with('-')
        && value.chars().all(|c| c.is_ascii_graphic() && !"\"'`$\\<>|;&(){}*?!".contains(c));
    if has_password(value) {
        return Err("must not hold a password: put it into a Secret, and name that under 'credentials'".into());
    }
    if !plain || !(scheme || scp) {
        return Err("must be an https://, http:// or ssh:// address, or of the form git@host:path".into());
    }
    if !names_a_host(value) {
        return Err("must name a host of letters, digits, '.', '_', '-' and ':', beginning with a letter or digit".into());
    }
    Ok(())
}

/// Whether user, host and path are such that neither git nor ssh can take one of them for an option.
fn names_a_host(url: &str) -> bool {
    let (authority, path) = match url.split_once("://") {
        Some((_, rest)) => (rest.split('/').next().unwrap_or_default(), ""),
        None => url.split_once(':').unwrap_or_default(),
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("git", authority));
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '[');
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b));
    begins(user) && begins(host) && plain && !path.starts_with('-')
}

fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    authority.and_then(|a| a.rsplit_once('@')).is_some_and(|(user, _)| user.contains([':', '@']))
}

/// Checks a branch name by the main rules of `git check-ref-format`.
///
/// # Errors
/// Says what is allowed.
pub(super) fn branch(value: &str) -> Result<(), String> {
    let chars = value.chars().all(|c| c.is_alphanumeric() || "._-/+#@=".contains(c));
    let shape = !value.is_empty() && value.len() <= 244 && !value.starts_with(['-', '/', '.']) && !value.ends_with(['/', '.']);
    if chars && shape && !value.contains("..") && !value.contains("//") && !value.contains("@{") && !value.ends_with(".lock") {
        return Ok(());
    }
    Err("must be a Git branch name (letters, digits and . _ - / + # @ =, not starting with '-', '/' or '.')".into())
}

impl Rules for ProjectSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        let (mut repos, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for (i, r) in self.repositories.iter().enumerate() {
            let path = format!("spec.repositories[{i}]");
            errors.check(format!("{path}.name"), &r.name, names::dns_label(&r.name));
            let shown = if has_password(&r.url) { "…" } else { &r.url };
            errors.check(format!("{path}.url"), shown, git_url(&r.url));
            errors.check(format!("{path}.defaultBranch"), &r.default_branch, branch(&r.default_branch));
            if let Some(c) = &r.credentials {
                errors.check(format!("{path}.credentials.name"), &c.name, names::dns_label(&c.name));
            }
            if let Some(other) = r.credentials.as_ref().and_then(|c| c.namespace.as_deref()) {
                errors.invalid(
                    format!("{path}.credentials.namespace"),
                    other,
                    "must be left out: a project has secrets of its own",
                );
            }
            if !repos.insert(&r.name) {
                errors.duplicate(format!("{path}.name"), r.name.as_str(), "every repository needs a name of its own");
            }
        }
        for (i, g) in self.groups.iter().enumerate() {
            if !groups.insert(&g.group) {
                errors.duplicate(format!("spec.groups[{i}].group"), g.group.as_str(), "a group can have one role");
            }
        }
        check_features("spec.features", &self.features, errors);
        self.lifecycle.check(errors);
    }
    fn references(&self) -> Vec<Reference> {
        let mut all =
            vec![Reference::new("spec.owner", "User", &self.owner), Reference::new("spec.template", "Template", &self.template)];
        let group = |(i, g): (usize, &ProjectGroup)| Reference::new(format!("spec.groups[{i}].group"), "Group", &g.group);
        all.extend(self.groups.iter().enumerate().map(group));
        all.extend(feature_references("spec.features", &self.features));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_git_nor_ssh_takes_a_part_of_an_address_for_an_option() {
        for bad in [
            "ssh://-oProxyCommand=x/a",
            "ssh://-x@h/a",
            "ssh://git@-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "git@h:--upload-pack=x",
            "https://h.helper=x/a",
            "https://h,i/a",
            "https:///a",
            "https://",
            "ssh://git@/a",
        ] {
            assert!(git_url(bad).is_err(), "{bad}");
        }
        for good in [
            "https://h/a",
            "http://127.0.0.1:8080/--upload-pack=x.git",
            "ssh://git@h:22/-a",
            "ssh://[::1]:22/a",
            "me.too+1@h:a/b.git",
            "https://me@h/a%20b.git",
        ] {
            assert_eq!(git_url(good), Ok(()), "{good}");
        }
    }
}
