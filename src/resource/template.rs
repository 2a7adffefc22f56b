//! `Template`: the blueprint of an environment.

use super::common::{
    FeatureUse, Folder, Limits, Port, Service, Sidecar, check_command, check_dockerfile, check_env, check_folders, check_ports,
    check_services, one_line,
};
use super::errors::FieldErrors;
use super::kind::{Reference, Rules};
use super::names;
use crate::image::MANAGERS;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Memory a workspace is reserved where nothing says otherwise, in mebibytes.
pub const DEFAULT_MIN_RAM_MB: u32 = 256;
/// Disk a workspace is reserved where nothing says otherwise, in gibibytes.
pub const DEFAULT_MIN_DISK_GB: f64 = 1.0;

/// A blueprint. Child over parent: packages unite; env and same-numbered ports override; instructions append;
/// minimums take the larger.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "Template",
    shortname = "tpl",
    status = "TemplateStatus",
    category = "all",
    derive = "PartialEq"
)]
#[kube(printcolumn = r#"{"name":"Base","type":"string","jsonPath":".spec.base"}"#)]
#[kube(printcolumn = r#"{"name":"Extends","type":"string","jsonPath":".spec.extends"}"#)]
#[kube(printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#)]
#[kube(printcolumn = r#"{"name":"Warm","type":"integer","jsonPath":".status.warmReady","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[kube(printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSpec {
    /// Name shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Template this one builds on; that one may not extend another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// Base image: `alpine` (default) and `debian` mean these distributions, made a place to work in; anything else is an
    /// image as it is, such as `node:20-bullseye`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Packages of the base's package manager; `apk:`, `apt:` or `dnf:` before a name means that one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Extra Dockerfile instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// Folders kept on volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Folder>,
    /// Folder that programs, terminals and repositories begin in: the image's own, or `/workspace` for a project with
    /// repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// User of the image, by name or number, that repositories are of, and that services, commands and terminals are run
    /// as; the image's own where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Ports served; the first is the primary one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Command in place of the image's own, run as given, without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_command: Option<Vec<String>>,
    /// Supervised processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Features every workspace of the template has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<FeatureUse>,
    /// Memory reserved on a server, in mebibytes (256).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 6))]
    pub min_ram_mb: Option<u32>,
    /// Disk reserved on a server, in gibibytes (1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub min_disk_gb: Option<f64>,
    /// Most a workspace may use.
    #[serde(default)]
    pub limits: Limits,
    /// Environments made before anybody asks for them, and given to new workspaces that have the same: they run, and hold what
    /// workspaces hold on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 50))]
    pub warm: Option<u32>,
}

/// A template with its parent and its features put together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResolvedTemplate {
    /// Image that workspaces run: one as it is, or `devsanctum/env:` and a digest of all it is made of.
    pub image: String,
    /// What that is built from; missing where an image is used as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// Names of services kept running inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Command in place of the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_command: Option<Vec<String>>,
    /// Folder that programs begin in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// User that repositories are of, and that commands and terminals are run as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Ports, the primary one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Folders on volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Folder>,
    /// Companions by feature.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sidecars: BTreeMap<String, Sidecar>,
    /// Most a workspace may use.
    pub limits: Limits,
    /// Memory reserved on a server, in mebibytes.
    pub min_ram_mb: u32,
    /// Disk reserved on a server, in gibibytes.
    pub min_disk_gb: f64,
}

/// What is known of a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateStatus {
    /// Digest of the resolved template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What workspaces of it get, where their project adds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedTemplate>,
    /// Warm environments that a new workspace could have at once; missing where none are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_ready: Option<u32>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State: `Resolved`, `Ready`, and `Warm` where warm environments are wanted.
    pub conditions: Vec<Condition>,
    /// What to know or do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Checks feature uses: named once each, with values of one line. What else an option asks for is known when they are put
/// together.
pub(super) fn check_features(path: &str, features: &[FeatureUse], errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, f) in features.iter().enumerate() {
        for (key, value) in &f.options {
            errors.check(format!("{path}[{i}].options[{key}]"), value, one_line(value));
        }
        if !seen.insert(&f.name) {
            errors.duplicate(format!("{path}[{i}].name"), f.name.as_str(), "a feature can be listed once");
        }
    }
}

/// References of feature uses.
pub(super) fn feature_references<'a>(path: &'a str, features: &'a [FeatureUse]) -> impl Iterator<Item = Reference> + 'a {
    features.iter().enumerate().map(move |(i, f)| Reference::new(format!("{path}[{i}].name"), "Feature", &f.name))
}

/// Checks that package names cannot be anything but package names.
pub(super) fn check_packages(path: &str, packages: &[String], errors: &mut FieldErrors) {
    for (i, p) in packages.iter().enumerate() {
        let p = MANAGERS.iter().find_map(|m| p.strip_prefix(m)?.strip_prefix(':')).unwrap_or(p);
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"+-._=<>~:@".contains(&b);
        // apt-get takes a '-' at the end for a wish to remove it.
        let removes = p.ends_with('-');
        if p.is_empty() || p.len() > 128 || !p.as_bytes()[0].is_ascii_alphanumeric() || !p.bytes().all(ok) || removes {
            errors.invalid(
                format!("{path}[{i}]"),
                packages[i].as_str(),
                "must be a package name, with a version or a package manager if need be (for example 'git', 'nodejs=20.11' or \
                 'apt:g++')",
            );
        }
    }
}

impl Rules for TemplateSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        if let Some(base) = &self.base {
            errors.check("spec.base", base, names::image_reference(base));
        }
        if let Some(command) = &self.start_command {
            if command.is_empty() {
                errors.invalid("spec.startCommand", "[]", "must list a program and its arguments");
            }
            check_command("spec.startCommand", command, errors);
        }
        check_packages("spec.packages", &self.packages, errors);
        check_folders("spec.folders", &self.folders, errors);
        if let Some(workdir) = &self.workdir {
            errors.check("spec.workdir", workdir, names::folder_path(workdir));
        }
        if let Some(user) = &self.user {
            errors.check("spec.user", user, names::user_name(user));
        }
        check_ports("spec.ports", &self.ports, errors);
        check_env("spec.env", &self.env, errors);
        check_features("spec.features", &self.features, errors);
        check_services("spec.services", &self.services, &BTreeSet::new(), errors);
        if let Some(dockerfile) = &self.dockerfile {
            check_dockerfile("spec.dockerfile", dockerfile, &BTreeSet::new(), errors);
        }
    }
    fn references(&self) -> Vec<Reference> {
        let parent = self.extends.iter().map(|t| Reference::new("spec.extends", "Template", t));
        parent.chain(feature_references("spec.features", &self.features)).collect()
    }
}
