//! `Workspace`: a running (or stopped) environment of one person in a project.

use super::SYSTEM_NAMESPACE;
use super::common::{Protocol, Visibility, check_env};
use super::errors::FieldErrors;
use super::kind::{Claim, Reference, Rules};
use super::names;
use super::project::branch;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

fn yes() -> bool {
    true
}
fn main_branch() -> String {
    "main".into()
}

/// An environment. Its namespace is its project.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "Workspace",
    shortname = "ws",
    namespaced,
    status = "WorkspaceStatus",
    category = "all",
    derive = "PartialEq"
)]
#[kube(selectable = ".status.phase", selectable = ".status.dockerServer", selectable = ".spec.owner")]
#[kube(printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#)]
#[kube(printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.services[0].url"}"#)]
#[kube(printcolumn = r#"{"name":"Server","type":"string","jsonPath":".status.dockerServer"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[kube(printcolumn = r#"{"name":"Owner","type":"string","jsonPath":".spec.owner","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Image","type":"string","jsonPath":".status.image","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceSpec {
    /// Name of the `User` it belongs to.
    pub owner: String,
    /// Branch of the project's repositories.
    #[serde(default = "main_branch")]
    pub branch: String,
    /// It should run (`true`) or be stopped with its files kept (`false`).
    #[serde(default = "yes")]
    pub running: bool,
    /// Who may open its services.
    #[serde(default)]
    pub visibility: Visibility,
    /// Never stopped or destroyed for inactivity or age.
    #[serde(default)]
    pub pinned: bool,
    /// Never destroyed for age.
    #[serde(default)]
    pub kept: bool,
    /// While it uses more processor time than this, in cores, it is worked in: a build that nobody looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01))]
    pub active_above_cpu: Option<f64>,
    /// Who opens one of its pages starts it: at a private one those who may open it, at a public one anybody.
    #[serde(default)]
    pub wake_on_visit: bool,
    /// Server it must run on; it must pass the same rules as any. Another one than it is on moves it there, with its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_server: Option<String>,
    /// Host name of its primary service, in place of `<slug>.<domain>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_domain: Option<String>,
    /// Workspace of the same project that it begins as a copy of: its folders are filled from that one's before it first runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Environment over the template's and features'.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Where a workspace is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkspacePhase {
    /// Waiting for a server, an image or a mend; the conditions say which.
    #[default]
    Pending,
    /// Being brought up.
    Starting,
    /// Runs, and its routes answer.
    Running,
    /// Being stopped.
    Stopping,
    /// Stopped; its files are kept.
    Stopped,
    /// Being removed for good.
    Destroyed,
}

/// A service of a workspace and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Name of the port.
    pub name: String,
    /// Port inside the workspace.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A repository in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    /// Its name, and its folder's.
    pub name: String,
    /// Branch it was cloned at, or is at where it was there already; missing where it is at none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// A workspace, or a warm environment, as its Docker objects name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The workspace that a warm environment is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedBy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its `metadata.resourceVersion` then: the claim holds for what is written over this one alone.
    pub resource_version: String,
}

/// How far a move to another server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MoveStep {
    /// It is being stopped where it is.
    #[default]
    Stopping,
    /// Its files are carried over. Nothing runs; it can go back.
    Copying,
    /// It is being started where it goes to. What it was is still whole, and stopped.
    Starting,
    /// It answers where it went to; what it was is being removed.
    Removing,
}

/// A part of a workspace that was carried to another server, and found the same there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CarriedPart {
    /// Name of the volume, or `image` for the container's own file system.
    pub name: String,
    /// Bytes carried.
    pub bytes: u64,
    /// What both servers say of it: of a volume, a digest over its files, their names, owners and modes; of the file system,
    /// a digest over its image's layers.
    pub digest: String,
}

/// A move to another server, while it is under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoveStatus {
    /// Tells this move from others.
    pub id: String,
    /// Server it was on.
    pub from: String,
    /// Server it goes to.
    pub to: String,
    /// How far it is.
    pub step: MoveStep,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// The run of its container that is carried, by when it started: files of a later one would be other ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// What has been carried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<CarriedPart>,
    /// Memory reserved on the one of the two that it is not on, in mebibytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_ram_mb: Option<u32>,
    /// Disk reserved there, in gibibytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_disk_gb: Option<f64>,
}

impl MoveStatus {
    /// What a part that is the container's own file system is called.
    pub const FILE_SYSTEM: &'static str = "image";

    /// Name of the image that the container's own file system is carried as.
    pub fn image(&self) -> String {
        format!("{MOVED_IMAGES}{}", self.id)
    }

    /// Whether it takes room on a server, or leaves something there.
    pub fn concerns(&self, server: &str) -> bool {
        self.from == server || self.to == server
    }

    /// What was carried and is not among these volumes.
    pub fn gone(&self, volumes: Vec<&str>) -> Vec<&str> {
        let carried = self.carried.iter().map(|part| part.name.as_str());
        carried.filter(|name| *name != Self::FILE_SYSTEM && !volumes.contains(name)).collect()
    }

    /// Whether the container's own file system was carried.
    pub fn has_file_system(&self) -> bool {
        self.carried.iter().any(|part| part.name == Self::FILE_SYSTEM)
    }
}

/// What names of images begin with that file systems are carried as.
pub const MOVED_IMAGES: &str = "devsanctum/moved:";

/// What is known of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkspaceStatus {
    /// Where it is in its life.
    pub phase: WorkspacePhase,
    /// Its public name: 8 characters of base 36, never changed once set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Server it was placed on; never changed silently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_server: Option<String>,
    /// Memory reserved there, in mebibytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_ram_mb: Option<u32>,
    /// Disk reserved there, in gibibytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_disk_gb: Option<f64>,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// When the container last started, in its engine's words (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Address of the container on its bridge; the router's way to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Image it runs, or waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Digest of the environment its container was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Digest of the environment its records describe now, where that is another: see [`super::labels::RECREATE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_environment: Option<String>,
    /// Uid of the workspace that `spec.from` named when it was written: that one is copied, and no other of its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Uid of the workspace that its folders were filled from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<String>,
    /// The warm environment it began with, whose Docker objects are its own since, and keep their names and labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_over: Option<Identity>,
    /// Of a warm environment: the workspace that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<ClaimedBy>,
    /// The move to another server that is under way.
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub moving: Option<MoveStatus>,
    /// The image that its own file system came to its server as. It goes with the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_image: Option<String>,
    /// Moves that were given up, the last ones, of which something may be on a server that did not answer: it is nobody's copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_moves: Vec<String>,
    /// Services and where they are reached.
    pub services: Vec<ServiceStatus>,
    /// Repositories it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepositoryStatus>,
    /// Digest of what they were last looked after for: a container's run, the project's repositories and their credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repositories_digest: Option<String>,
    /// Last work seen in it, or when it came up (RFC 3339); told at most once a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<String>,
    /// Requests that the proxy had handed on to it by then, since the proxy was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// When it will be started (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<String>,
    /// The moment of its schedule that was carried out last (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<String>,
    /// When it will be stopped (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<String>,
    /// When it will be destroyed (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy_at: Option<String>,
    /// When it was announced that it will be destroyed (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy_announced_at: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State: `Resolved`, `Scheduled`, `Moved`, `FoldersCopied`, `ImageReady`, `ContainerRunning`, `RepositoriesReady`, `ServicesAnswering`, `Routed`,
    /// `UpToDate`, `Ready`.
    pub conditions: Vec<Condition>,
    /// What to know or do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Rules for WorkspaceSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        errors.check("spec.branch", &self.branch, branch(&self.branch));
        if let Some(host) = &self.route_domain {
            errors.check("spec.routeDomain", host, names::host_name(host));
        }
        check_env("spec.env", &self.env, errors);
        if let Some(from) = &self.from {
            errors.check("spec.from", from, names::dns_label(from));
        }
    }
    fn references(&self) -> Vec<Reference> {
        let server = self.docker_server.iter().map(|s| Reference::new("spec.dockerServer", "DockerServer", s));
        // A warm environment is nobody's yet.
        let owner = Some(&self.owner).filter(|o| !o.is_empty());
        server.chain(owner.map(|o| Reference::new("spec.owner", "User", o))).collect()
    }
    fn claims(&self) -> Vec<Claim> {
        let claim = |h: &String| Claim { path: "spec.routeDomain".into(), scope: "workspace-host", value: h.clone() };
        self.route_domain.iter().map(claim).collect()
    }
}

/// Commands run in it through the `exec` subresource.
impl Workspace {
    /// The server it is placed on.
    pub fn server(&self) -> Option<&str> {
        self.status.as_ref()?.docker_server.as_deref()
    }

    /// The move to another server that is under way.
    pub fn moving(&self) -> Option<&MoveStatus> {
        self.status.as_ref()?.moving.as_ref()
    }

    /// Whether it is on a server, or has something there because it moves.
    pub fn has_to_do_with(&self, server: &str) -> bool {
        self.server() == Some(server) || self.moving().is_some_and(|m| m.concerns(server))
    }

    /// Whose names and uid its Docker objects bear: its own, or those of the warm environment it took over.
    pub fn identity(&self) -> Identity {
        if let Some(took_over) = self.status.as_ref().and_then(|s| s.took_over.clone()) {
            return took_over;
        }
        let meta = self.metadata.clone();
        Identity {
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
        }
    }

    /// Name and uid of the template that it is a warm environment of, if it is one.
    pub fn warm_of(&self) -> Option<(&str, &str)> {
        if self.metadata.namespace.as_deref() != Some(SYSTEM_NAMESPACE) {
            return None;
        }
        let owner =
            self.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true) && o.kind == "Template")?;
        Some((&owner.name, &owner.uid))
    }

    /// The workspace that this warm environment is for.
    pub fn claimed_by(&self) -> Option<&ClaimedBy> {
        self.status.as_ref()?.claimed_by.as_ref()
    }
}

impl kube::api::Execute for Workspace {}
/// Its ports are reached through the `portforward` subresource.
impl kube::api::Portforward for Workspace {}
/// Its output is read through the `log` subresource.
impl kube::api::Log for Workspace {}
