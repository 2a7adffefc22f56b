//! `Route`: a host name that leads to a service of a workspace.

use super::common::{Protocol, Visibility};
use super::errors::FieldErrors;
use super::kind::{Claim, Reference, Rules};
use super::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A host name and where it leads. Workspaces make their own; a project may add more.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "Route",
    namespaced,
    status = "RouteStatus",
    category = "all",
    derive = "PartialEq"
)]
#[kube(selectable = ".spec.workspace")]
#[kube(printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.host"}"#)]
#[kube(printcolumn = r#"{"name":"Workspace","type":"string","jsonPath":".spec.workspace"}"#)]
#[kube(printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.port"}"#)]
#[kube(printcolumn = r#"{"name":"Live","type":"string","jsonPath":".status.conditions[?(@.type=='Programmed')].status"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[kube(printcolumn = r#"{"name":"Upstream","type":"string","jsonPath":".status.upstream","priority":1}"#)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// Host name, canonical; no two routes may have the same.
    pub host: String,
    /// Name of the `Workspace` in the same project.
    pub workspace: String,
    /// Port inside the workspace.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What the port speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Who may pass.
    #[serde(default)]
    pub visibility: Visibility,
}

/// What is known of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteStatus {
    /// Address it leads to now, where its workspace runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Where it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State: `Accepted`, `Programmed` (the proxy itself reports it), `Ready`.
    pub conditions: Vec<Condition>,
    /// What to know or do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a route's host is claimed under: one route has it.
pub const HOST_CLAIM: &str = "route-host";

impl Rules for RouteSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        errors.check("spec.host", &self.host, names::host_name(&self.host));
        if self.port == 0 {
            errors.invalid("spec.port", 0, "must be between 1 and 65535");
        }
    }
    fn references(&self) -> Vec<Reference> {
        vec![Reference::new("spec.workspace", "Workspace", &self.workspace)]
    }
    fn claims(&self) -> Vec<Claim> {
        vec![Claim { path: "spec.host".into(), scope: HOST_CLAIM, value: self.host.clone() }]
    }
}
