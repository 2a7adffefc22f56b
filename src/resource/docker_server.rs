//! `DockerServer`: a host with a Docker Engine that workspaces may run on.

use super::common::{SecretRef, check_duration};
use super::errors::FieldErrors;
use super::kind::{Reference, Rules};
use super::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

fn default_port() -> u16 {
    2376
}
fn default_gateway_port() -> u16 {
    9443
}
fn default_poll() -> String {
    "60s".into()
}
fn yes() -> bool {
    true
}

/// How the connection to the engine is secured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// Use TLS with a client certificate.
    pub enabled: bool,
    /// Secret with the keys `ca`, `cert` and `key`, all PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
}

/// What to get to a host through SSH with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerSsh {
    /// Secret with the keys `sshKey` (an Ed25519 or ECDSA private key without a passphrase) and `knownHosts` (what the host is known by).
    pub secret: SecretRef,
}

/// An engine's socket behind SSH, as `host` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SshHost<'a> {
    /// Whom to be there.
    pub user: &'a str,
    /// Host name or address.
    pub host: &'a str,
    /// Port of SSH.
    pub port: u16,
    /// Path of the engine's socket.
    pub socket: &'a str,
}

/// A Docker host.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "devsanctum.io",
    version = "v1",
    kind = "DockerServer",
    shortname = "dsrv",
    status = "DockerServerStatus",
    category = "all",
    derive = "PartialEq"
)]
#[kube(selectable = ".status.phase")]
#[kube(printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#)]
#[kube(printcolumn = r#"{"name":"Engine","type":"string","jsonPath":".status.engineVersion"}"#)]
#[kube(printcolumn = r#"{"name":"CPU","type":"integer","jsonPath":".status.cpuCores"}"#)]
#[kube(printcolumn = r#"{"name":"RAM Used MB","type":"integer","jsonPath":".status.ramUsedMb"}"#)]
#[kube(printcolumn = r#"{"name":"RAM MB","type":"integer","jsonPath":".status.ramTotalMb"}"#)]
#[kube(printcolumn = r#"{"name":"Workspaces","type":"integer","jsonPath":".status.workspaces"}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[kube(printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.host","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#)]
#[serde(rename_all = "camelCase")]
pub struct DockerServerSpec {
    /// Host name or address, a local socket such as `unix:///var/run/docker.sock`, or one through SSH:
    /// `ssh://user@rack-1.example.com:22/var/run/docker.sock`, where port and path may be left out.
    pub host: String,
    /// Port of the engine; not used for sockets.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// TLS. Docker's own convention is 2376 with TLS; without TLS anyone on the network owns the host.
    #[serde(default)]
    pub tls: ServerTls,
    /// What to get there with, where `host` begins with `ssh://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<ServerSsh>,
    /// Groups whose projects may use this server. Empty: every project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// How often CPU, RAM and disk are read.
    #[serde(default = "default_poll")]
    pub poll_interval: String,
    /// New workspaces may be placed here.
    #[serde(default = "yes")]
    pub schedulable: bool,
    /// What is on it moves to other servers, two at a time, and nothing is placed here. Workspaces whose `dockerServer` asks for this
    /// one stay.
    #[serde(default)]
    pub evacuate: bool,
    /// Address at which the proxy and the control plane reach the gateway on this host; `host` where left out. Not used where the
    /// engine is on the control plane's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_address: Option<IpAddr>,
    /// Port of the gateway on this host, by which routes lead to its workspaces. Not used where the engine is on the control
    /// plane's own machine.
    #[serde(default = "default_gateway_port")]
    #[schemars(range(min = 1024, max = 65535))]
    pub gateway_port: u16,
}

/// Whether a server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServerPhase {
    /// Never reached so far.
    #[default]
    Offline,
    /// Answers.
    Online,
    /// Answered before, does not now.
    Unreachable,
}

/// How workspaces on a server are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub enum NetworkMode {
    /// One wide bridge without inter-container traffic.
    SharedBridge,
    /// A network for each workspace, where the shared bridge does not keep them apart.
    PerWorkspace,
}

/// What is known of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerServerStatus {
    /// Whether it answers.
    pub phase: ServerPhase,
    /// Version of the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// The engine's own identity (`docker info`'s `ID`): another one means another machine behind the same address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
    /// Logical cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
    /// RAM in mebibytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_total_mb: Option<u64>,
    /// RAM in use in mebibytes, caches not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_used_mb: Option<u64>,
    /// Disk under Docker's data folder, in gibibytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_total_gb: Option<f64>,
    /// Disk in use, in gibibytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_used_gb: Option<f64>,
    /// When the figures were read (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources_updated_at: Option<String>,
    /// The figures are the last known ones, not current.
    pub stale: bool,
    /// Workspaces placed here.
    pub workspaces: u32,
    /// When the first of the certificates of its TLS ends, the engine's, ours or an authority's (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<String>,
    /// How workspaces are kept apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<NetworkMode>,
    /// The test that was done last: what the annotation `devsanctum.io/tested` said then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_test: Option<String>,
    /// Generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State: `Reachable`, `Isolated`, `ResourcesKnown`, `GatewayReady`, `Patched`, `CertificatesCurrent`, `Ready`.
    pub conditions: Vec<Condition>,
    /// What to know or do, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl DockerServerSpec {
    /// The path of a local socket, where the host is one.
    pub fn socket(&self) -> Option<&str> {
        self.host.strip_prefix("unix://")
    }

    /// The socket behind SSH, where the host is one.
    pub fn ssh_host(&self) -> Option<SshHost<'_>> {
        let (user, rest) = self.host.strip_prefix("ssh://")?.split_once('@')?;
        let (at, socket) = rest.find('/').map_or((rest, "/var/run/docker.sock"), |end| rest.split_at(end));
        let (host, port) = match at.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|p| *p > 0)?),
            None => (at, 22),
        };
        Some(SshHost { user, host, port, socket })
    }

    /// Where its engine is reached from other machines: the host's name or address, and the port, which is SSH's own where the way is
    /// through that. None for a local socket.
    pub fn at(&self) -> Option<(&str, u16)> {
        match self.ssh_host() {
            Some(ssh) => Some((ssh.host, ssh.port)),
            None if self.host.contains("://") => None,
            None => Some((&self.host, self.port)),
        }
    }

    /// Whether the engine runs on the machine of the control plane: only then do the addresses of its containers
    /// lead to them, and not to somebody else's containers. An SSH port on loopback may be the near end of a tunnel; a gateway there is
    /// reached either way.
    pub fn is_local(&self) -> bool {
        self.socket().is_some() || self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl Rules for DockerServerSpec {
    fn validate(&self, errors: &mut FieldErrors) {
        let ip = self.host.parse::<IpAddr>().is_ok();
        let named = names::host_name(&self.host).is_ok() || names::dns_label(&self.host).is_ok();
        let socket = self.socket().is_some_and(|p| p.starts_with('/') && !p.contains(".."));
        let ssh = self.ssh_host().is_some_and(|at| {
            let host = at.host.parse::<std::net::Ipv4Addr>().is_ok() || names::host_name(at.host).is_ok();
            let user = at.user.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && at.user.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            user && (host || names::dns_label(at.host).is_ok()) && !at.socket.contains("..")
        });
        if !(ip || named || socket || ssh) {
            errors.invalid(
                "spec.host",
                self.host.as_str(),
                "must be a host name, an IP address, a socket such as 'unix:///var/run/docker.sock', or one through SSH such as \
                 'ssh://root@rack-1.example.com'",
            );
        }
        if self.host.starts_with("ssh://") && self.ssh.as_ref().is_none_or(|s| s.secret.namespace.is_none()) {
            errors.required("spec.ssh.secret", "SSH needs a Secret (namespace and name) with the keys sshKey and knownHosts");
        }
        if self.port == 0 {
            errors.invalid("spec.port", 0, "must be between 1 and 65535");
        }
        // It is nobody's user that listens.
        if self.gateway_port < 1024 {
            errors.invalid("spec.gatewayPort", self.gateway_port, "must be between 1024 and 65535");
        }
        if !self.is_local() && self.gateway_port == self.port {
            errors.invalid("spec.gatewayPort", self.gateway_port, "must not be the engine's own port (spec.port)");
        }
        if self.tls.enabled && self.tls.secret.as_ref().is_none_or(|s| s.namespace.is_none()) {
            errors.required("spec.tls.secret", "TLS needs a Secret (namespace and name) with the keys ca, cert and key");
        }
        check_duration("spec.pollInterval", &self.poll_interval, errors);
    }
    fn references(&self) -> Vec<Reference> {
        let group = |(i, g): (usize, &String)| Reference::new(format!("spec.groups[{i}]"), "Group", g);
        let mut all: Vec<_> = self.groups.iter().enumerate().map(group).collect();
        let secrets = [("spec.tls.secret", self.tls.secret.as_ref()), ("spec.ssh.secret", self.ssh.as_ref().map(|s| &s.secret))];
        for (path, secret) in secrets {
            all.extend(secret.map(|s| Reference { namespace: s.namespace.clone(), ..Reference::new(path, "Secret", &s.name) }));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_however_its_engine_is_reached() {
        for (host, at) in [
            ("rack.example", Some(("rack.example", 2376))),
            ("10.0.0.7", Some(("10.0.0.7", 2376))),
            ("fd00::7", Some(("fd00::7", 2376))),
            ("ssh://root@rack.example", Some(("rack.example", 22))),
            ("ssh://root@10.0.0.7:2222/run/docker.sock", Some(("10.0.0.7", 2222))),
            ("unix:///var/run/docker.sock", None),
        ] {
            let spec: DockerServerSpec = serde_json::from_value(serde_json::json!({"host": host})).unwrap();
            assert_eq!(spec.at(), at, "{host}");
        }
    }
}
