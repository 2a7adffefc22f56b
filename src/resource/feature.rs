//! `Feature`: an add-on to an environment.

use super::common::{
    Folder, Port, Service, Sidecar, check_command, check_dockerfile, check_env, check_folders, check_options_of, check_ports,
    check_service, one_line,
};
use super::errors::FieldErrors;
use super::kind::{Reference, Rules};
use super::names;
use super::template::check_packages;
use crate::image::options::fill;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What an option's value must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum OptionType {
    /// Any text.
    #[default]
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of `values`.
    Select,
}

/// Something a project can choose about a feature; its value replaces `{{option.KEY}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureOption {
    /// Key, as in an environment variable.
    pub key: String,
    /// Name shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the value must be.
    #[serde(default, rename = "type")]
    pub kind: OptionType,
    /// A value must be given.
    #[serde(default)]
    pub required: bool,
    /// Value where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What a `SELECT` offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// An add-on: a supervised service inside, a companion container beside, or configuration alone.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "Feature",
    shortname = "feat",
    status = "FeatureStatus",
    category = "all",
    derive = "PartialEq"
)]
#[kube(printcolumn = r#"{"name":"Sidecar","type":"string","jsonPath":".spec.sidecar.image"}"#)]
#[kube(printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct FeatureSpec {
    /// Name shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Packages of the base's package manager; `apk:`, `apt:` or `dnf:` before a name means that one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Folders kept on volumes, of the workspace itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Folder>,
    /// Versions of the base it works with, such as `>=3.18,<4`: what the base's tag begins with. A base whose tag has no
    /// version is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_versions: Option<String>,
    /// Extra Dockerfile instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// Process supervised inside the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Companion container on the workspace's localhost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,
    /// Ports it adds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Environment it adds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What a project can choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<FeatureOption>,
    /// Features it needs; they come with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Memory it adds to the reservation, in mebibytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ram_mb: Option<u32>,
    /// Disk it adds to the reservation, in gibibytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub min_disk_gb: Option<f64>,
}

/// What is known of a feature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FeatureStatus {
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State: `Resolved`, `Ready`.
    pub conditions: Vec<Condition>,
    /// What to know or do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Rules for FeatureSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        check_packages("spec.packages", &self.packages, errors);
        check_folders("spec.folders", &self.folders, errors);
        check_ports("spec.ports", &self.ports, errors);
        check_env("spec.env", &self.env, errors);
        if let Some(range) = &self.base_versions
            && let Err(e) = semver::VersionReq::parse(range)
        {
            errors.invalid("spec.baseVersions", range.as_str(), format!("must be a range such as '>=3.18, <4' ({e})"));
        }
        if self.service.is_some() && self.sidecar.is_some() {
            errors.invalid("spec.sidecar", "…", "a feature has a service or a sidecar, not both");
        }
        let declared: BTreeSet<&str> = self.options.iter().map(|o| o.key.as_str()).collect();
        if let Some(s) = &self.service {
            errors.check("spec.service.name", &s.name, names::dns_label(&s.name));
            check_service("spec.service", s, &declared, errors);
        }
        if let Some(dockerfile) = &self.dockerfile {
            check_dockerfile("spec.dockerfile", dockerfile, &declared, errors);
        }
        for (key, value) in &self.env {
            check_options_of(&format!("spec.env[{key}]"), value, &declared, errors);
        }
        if let Some(s) = &self.sidecar {
            check_options_of("spec.sidecar.image", &s.image, &declared, errors);
            // Any value that keeps it a reference will do; the one chosen is checked when it is put in.
            let sample = declared.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect();
            errors.check("spec.sidecar.image", &s.image, names::image_reference(&fill(&s.image, &sample)));
            check_env("spec.sidecar.env", &s.env, errors);
            check_folders("spec.sidecar.folders", &s.folders, errors);
            for (key, value) in &s.env {
                check_options_of(&format!("spec.sidecar.env[{key}]"), value, &declared, errors);
            }
            check_command("spec.sidecar.command", &s.command, errors);
            for (i, word) in s.command.iter().enumerate() {
                check_options_of(&format!("spec.sidecar.command[{i}]"), word, &declared, errors);
            }
        }
        check_options(&self.options, errors);
    }
    fn references(&self) -> Vec<Reference> {
        let needs = |(i, n): (usize, &String)| Reference::new(format!("spec.requires[{i}]"), "Feature", n);
        self.requires.iter().enumerate().map(needs).collect()
    }
}

fn check_options(options: &[FeatureOption], errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, o) in options.iter().enumerate() {
        let path = format!("spec.options[{i}]");
        errors.check(format!("{path}.key"), &o.key, names::env_name(&o.key));
        if !seen.insert(&o.key) {
            errors.duplicate(format!("{path}.key"), o.key.as_str(), "every option needs a key of its own");
        }
        if o.kind == OptionType::Select && o.values.is_empty() {
            errors.required(format!("{path}.values"), "a SELECT option needs values to choose from");
        }
        for (j, value) in o.values.iter().enumerate() {
            errors.check(format!("{path}.values[{j}]"), value, one_line(value));
        }
        if let Some(default) = &o.default {
            errors.check(format!("{path}.default"), default, o.accepts(default));
        }
    }
}

impl FeatureOption {
    /// Checks a value against the option's type.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn accepts(&self, value: &str) -> Result<(), String> {
        let ok = match self.kind {
            OptionType::String => one_line(value).is_ok(),
            OptionType::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            OptionType::Boolean => value == "true" || value == "false",
            OptionType::Select => self.values.iter().any(|v| v == value),
        };
        ok.then_some(()).ok_or_else(|| match self.kind {
            OptionType::String => one_line(value).err().unwrap_or_default(),
            OptionType::Number => "must be a number".into(),
            OptionType::Boolean => "must be 'true' or 'false'".into(),
            OptionType::Select => format!("must be one of: {}", self.values.join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_can_be_chosen_is_one_line() {
        let spec = serde_json::json!({"options": [
            {"key": "A", "type": "SELECT", "values": ["a", "b\nUSER root"]},
            {"key": "B", "default": "a\rb"},
        ]});
        let mut errors = FieldErrors::default();
        serde_json::from_value::<FeatureSpec>(spec).expect("a feature").validate(&mut errors);
        let paths: Vec<_> = errors.0.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["spec.options[0].values[1]", "spec.options[1].default"]);
    }
}
