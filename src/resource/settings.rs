//! `Settings`: how this installation behaves. There is one, named `default`.

use super::common::check_duration;
use super::errors::FieldErrors;
use super::kind::Rules;
use super::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn localhost() -> String {
    "localhost".into()
}
fn two_hours() -> String {
    "2h".into()
}
fn seven_days() -> String {
    "7d".into()
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Registration {
    /// Anyone.
    Open,
    /// Invited people only.
    #[default]
    Invitation,
}

/// When workspaces stop and go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Without work for this long, a workspace stops.
    #[serde(default = "two_hours")]
    pub stop_after: String,
    /// This long after its creation, a workspace is destroyed.
    #[serde(default = "seven_days")]
    pub destroy_after: String,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { stop_after: two_hours(), destroy_after: seven_days() }
    }
}

/// Base images of the platform's own, by the names a template may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// An image that `alpine` means, taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpine: Option<String>,
    /// An image that `debian` means, taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debian: Option<String>,
    /// A small image with a POSIX shell, for the probe on each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

/// How this installation behaves.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "Settings",
    plural = "settings",
    singular = "settings",
    status = "SettingsStatus",
    derive = "PartialEq"
)]
#[kube(printcolumn = r#"{"name":"Domain","type":"string","jsonPath":".spec.domain"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct SettingsSpec {
    /// Workspaces are reached at `<slug>.<domain>`.
    #[serde(default = "localhost")]
    pub domain: String,
    /// Port workspaces are reached at; where left out, the port the managed proxy listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Workspaces are reached over https. The proxy must hold a certificate for `*.<domain>`.
    #[serde(default)]
    pub tls: bool,
    /// When workspaces stop and go.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Who may make an account.
    #[serde(default)]
    pub registration: Registration,
    /// Base images.
    #[serde(default)]
    pub images: Images,
}

impl Default for SettingsSpec {
    fn default() -> Self {
        Self {
            domain: localhost(),
            port: None,
            tls: false,
            lifecycle: Lifecycle::default(),
            registration: Registration::default(),
            images: Images::default(),
        }
    }
}

/// What is known of the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SettingsStatus {
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State.
    pub conditions: Vec<Condition>,
}

/// The only name a `Settings` record may have.
pub const SETTINGS_NAME: &str = "default";

impl Rules for SettingsSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        if self.domain != "localhost" {
            errors.check("spec.domain", &self.domain, names::host_name(&self.domain));
        }
        check_duration("spec.lifecycle.stopAfter", &self.lifecycle.stop_after, errors);
        check_duration("spec.lifecycle.destroyAfter", &self.lifecycle.destroy_after, errors);
        let images = [("alpine", &self.images.alpine), ("debian", &self.images.debian), ("probe", &self.images.probe)];
        for (name, image) in images.into_iter().filter_map(|(n, i)| Some((n, i.as_ref()?))) {
            errors.check(format!("spec.images.{name}"), image, names::image_reference(image));
        }
    }
}
