//! `Settings`: how this installation behaves. There is one, named `default`.

use super::common::{SecretRef, check_duration};
use super::errors::FieldErrors;
use super::kind::Rules;
use super::lifecycle::{Lifecycle, seven_days};
use super::names;
use super::quota::Quota;
use super::sign_in::{Mail, Provider, check_mail, check_providers};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

fn localhost() -> String {
    "localhost".into()
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

/// Base images of the platform's own, by the names a template may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// An image that `alpine` means, taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpine: Option<String>,
    /// An image that `debian` means, taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debian: Option<String>,
    /// Repository, without a tag, that images are pushed to when they are built, so that other servers need not build them:
    /// `registry.example.com/devsanctum/env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// A small image with a POSIX shell, for the probe on each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// An image with HAProxy 2.6 or newer and a POSIX shell, for the gateway on each server that is another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// How long a built image that neither a workspace nor a template uses is kept on a server; not at all where its disk is
    /// nearly full.
    #[serde(default = "seven_days")]
    pub keep: String,
}

impl Default for Images {
    fn default() -> Self {
        Self { alpine: None, debian: None, repository: None, probe: None, gateway: None, keep: seven_days() }
    }
}

/// A registry that wants a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// Its host, with its port where it is not the usual one: `registry.example.com:5000`, or `docker.io`.
    pub host: String,
    /// Secret with the keys `username` and `password`.
    pub credentials: SecretRef,
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
    /// Port workspaces are reached at; where left out, the one of `--panel-url`, or the port the managed proxy listens on.
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
    /// Most each person may hold, where their own record does not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_quota: Option<Quota>,
    /// Providers that people sign in by, besides by password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
    /// The server that takes mail; without one, links are an administrator's to hand over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
    /// Base images, and where built ones go.
    #[serde(default)]
    pub images: Images,
    /// Registries that want a login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<Registry>,
}

impl Default for SettingsSpec {
    fn default() -> Self {
        Self {
            domain: localhost(),
            port: None,
            tls: false,
            lifecycle: Lifecycle::default(),
            registration: Registration::default(),
            user_quota: None,
            providers: Vec::new(),
            mail: None,
            images: Images::default(),
            registries: Vec::new(),
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

fn check_registries(registries: &[Registry], errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, registry) in registries.iter().enumerate() {
        let path = format!("spec.registries[{i}]");
        errors.check(format!("{path}.host"), &registry.host, names::registry_host(&registry.host));
        if !seen.insert(&registry.host) {
            errors.duplicate(format!("{path}.host"), registry.host.as_str(), "a registry can be listed once");
        }
        if registry.credentials.namespace.is_none() {
            errors.required(format!("{path}.credentials.namespace"), "the project that the secret is in");
        }
    }
}

impl Rules for SettingsSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        if self.domain != "localhost" {
            errors.check("spec.domain", &self.domain, names::host_name(&self.domain));
        }
        self.lifecycle.check(errors);
        let images = &self.images;
        let named =
            [("alpine", &images.alpine), ("debian", &images.debian), ("probe", &images.probe), ("gateway", &images.gateway)];
        for (name, image) in named.into_iter().filter_map(|(n, i)| Some((n, i.as_ref()?))) {
            errors.check(format!("spec.images.{name}"), image, names::image_reference(image));
        }
        if let Some(repository) = &self.images.repository {
            errors.check("spec.images.repository", repository, names::image_repository(repository));
        }
        check_duration("spec.images.keep", &self.images.keep, errors);
        check_registries(&self.registries, errors);
        check_providers(&self.providers, errors);
        self.mail.iter().for_each(|mail| check_mail(mail, errors));
    }
}
