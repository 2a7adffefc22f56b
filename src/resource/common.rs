//! Shapes that several kinds share.

use super::errors::FieldErrors;
use super::names;
use crate::image::{options, read};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Who may open something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Visibility {
    /// Anyone.
    Public,
    /// Only people entitled to it.
    #[default]
    Private,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.1, HTTP/2 without TLS, and WebSocket.
    #[default]
    Http,
    /// HTTP over TLS inside the workspace.
    Https,
    /// Any byte stream.
    Tcp,
}

/// A port a workspace serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name of the service, a DNS label; it becomes part of the host name.
    pub name: String,
    /// Port number inside the workspace.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// On a public project: listed to visitors.
    #[serde(default)]
    pub public: bool,
    /// When it is ready: its route opens only then, after each start of the workspace. Where left out, the route is open as long
    /// as the workspace runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<ReadinessProbe>,
}

/// What shows that a service is ready. One of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessProbe {
    /// It answers a GET with a status from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// It takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
}

/// A request for a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Path, with a query if need be.
    #[serde(default = "root")]
    pub path: String,
}

/// A connection, which is closed at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpSocket {}

fn root() -> String {
    "/".into()
}

/// A key of a `Secret`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Project of the secret; the record's own project where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the secret.
    pub name: String,
}

/// Most a workspace may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// CPU cores; fractions allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.05, max = 1024.0))]
    pub cpu: Option<f64>,
    /// Memory in mebibytes. Docker's own minimum is 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 6))]
    pub memory_mb: Option<u32>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 65536))]
    pub pids: Option<u32>,
}

/// How long a folder lives and who shares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum FolderMode {
    /// Belongs to one workspace and goes with it.
    #[default]
    Persistent,
    /// One per project and server; stays when workspaces go.
    Shared,
}

/// A folder kept on a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Folder {
    /// Name of the volume, a DNS label.
    pub name: String,
    /// Where it is mounted, absolute.
    pub path: String,
    /// How long it lives.
    #[serde(default)]
    pub mode: FolderMode,
}

/// A companion container on the workspace's own localhost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Image to run; `{{option.KEY}}` may stand in it.
    pub image: String,
    /// Command in place of the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment of the sidecar alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folders of the sidecar alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<Folder>,
    /// Most the sidecar may use.
    #[serde(default)]
    pub limits: Limits,
}

/// A supervised process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Name, a DNS label.
    pub name: String,
    /// Run script; it must stay in the foreground. It begins in the folder that programs begin in.
    pub run: String,
    /// User of the image it runs as, by name or number; the template's where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A feature asked for, with its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureUse {
    /// Name of the `Feature`.
    pub name: String,
    /// Option values by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Checks ports: valid, distinct names and numbers.
pub fn check_ports(path: &str, ports: &[Port], errors: &mut FieldErrors) {
    let (mut by_name, mut by_number) = (BTreeSet::new(), BTreeSet::new());
    for (i, p) in ports.iter().enumerate() {
        errors.check(format!("{path}[{i}].name"), &p.name, names::dns_label(&p.name));
        // "<slug>-<service>" is one DNS label of 63 characters at most, and a slug takes 8 of them.
        if p.name.len() > 54 {
            errors.invalid(
                format!("{path}[{i}].name"),
                p.name.as_str(),
                "must be 54 characters at most: it is part of a host name",
            );
        }
        if p.port == 0 {
            errors.invalid(format!("{path}[{i}].port"), 0, "must be between 1 and 65535");
        }
        if !by_name.insert(&p.name) {
            errors.duplicate(format!("{path}[{i}].name"), p.name.as_str(), "every port needs a name of its own");
        }
        if let Some(probe) = &p.readiness_probe {
            check_probe(&format!("{path}[{i}].readinessProbe"), probe, p.protocol, errors);
        }
        if !by_number.insert(p.port) {
            errors.duplicate(format!("{path}[{i}].port"), p.port, "every port number may be listed once");
        }
    }
}

fn check_probe(path: &str, probe: &ReadinessProbe, protocol: Protocol, errors: &mut FieldErrors) {
    if probe.http_get.is_some() == probe.tcp_socket.is_some() {
        errors.required(path, "give one of 'httpGet' and 'tcpSocket'");
    }
    let Some(get) = &probe.http_get else { return };
    if protocol == Protocol::Tcp {
        errors.invalid(format!("{path}.httpGet"), get.path.as_str(), "a port that speaks TCP is asked with 'tcpSocket'");
    }
    let plain =
        get.path.len() <= 1024 && get.path.starts_with('/') && get.path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !plain {
        errors.invalid(
            format!("{path}.httpGet.path"),
            get.path.as_str(),
            "must begin with '/', and be at most 1024 letters, digits and signs without blanks and '#' (for example '/healthz')",
        );
    }
}

/// Longest argument and longest variable, its name and '=' included: Linux starts no program with a longer one.
const LONGEST_WORD: usize = 131_071;

/// Checks environment variables' names and values.
pub fn check_env(path: &str, env: &BTreeMap<String, String>, errors: &mut FieldErrors) {
    for (key, value) in env {
        errors.check(format!("{path}[{key}]"), key, names::env_name(key));
        if value.contains('\0') {
            errors.invalid(format!("{path}[{key}]"), "…", "must not contain a NUL byte");
        }
        if key.len() + 1 + value.len() > LONGEST_WORD {
            errors.invalid(format!("{path}[{key}]"), "…", too_long());
        }
    }
}

/// Checks a program and its arguments.
pub fn check_command(path: &str, command: &[String], errors: &mut FieldErrors) {
    if command.first().is_some_and(String::is_empty) {
        errors.invalid(format!("{path}[0]"), "", "must name a program");
    }
    for (i, word) in command.iter().enumerate() {
        if word.contains('\0') {
            errors.invalid(format!("{path}[{i}]"), word.as_str(), "must not contain a NUL byte");
        }
        if word.len() > LONGEST_WORD {
            errors.invalid(format!("{path}[{i}]"), word.as_str(), too_long());
        }
    }
}

fn too_long() -> String {
    format!("must be at most {LONGEST_WORD} bytes, a variable's name included: Linux starts no program with more")
}

/// Checks the value of an option: it may stand in places that end with their line.
///
/// # Errors
/// Says what is allowed.
pub fn one_line(value: &str) -> Result<(), String> {
    if value.contains(['\n', '\r', '\0']) { Err("must be one line of text".into()) } else { Ok(()) }
}

/// Checks extra instructions: each is one that is read, and the options named are there.
pub fn check_dockerfile(path: &str, text: &str, declared: &BTreeSet<&str>, errors: &mut FieldErrors) {
    match read(text) {
        Ok(extras) => {
            let named: BTreeSet<&str> = extras.iter().flat_map(|e| e.options()).collect();
            check_keys(path, named, declared, errors);
        }
        Err(e) => {
            let line = text.lines().nth(e.line.saturating_sub(1)).unwrap_or_default();
            errors.invalid(path, line.trim(), e.to_string());
        }
    }
}

/// Checks that the options a text names are there.
pub fn check_options_of(path: &str, text: &str, declared: &BTreeSet<&str>, errors: &mut FieldErrors) {
    check_keys(path, options::keys(text).collect(), declared, errors);
}

fn check_keys(path: &str, named: BTreeSet<&str>, declared: &BTreeSet<&str>, errors: &mut FieldErrors) {
    for key in named.difference(declared) {
        let known = match declared.is_empty() {
            true => "there are no options here".to_owned(),
            false => format!("must be one of: {}", declared.iter().copied().collect::<Vec<_>>().join(", ")),
        };
        errors.invalid(path, format!("{{{{option.{key}}}}}"), known);
    }
}

/// Checks services: distinct names, and scripts that `/bin/sh` is to run.
pub fn check_services(path: &str, services: &[Service], declared: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, s) in services.iter().enumerate() {
        errors.check(format!("{path}[{i}].name"), &s.name, names::dns_label(&s.name));
        if !seen.insert(&s.name) {
            errors.duplicate(format!("{path}[{i}].name"), s.name.as_str(), "every service needs a name of its own");
        }
        check_service(&format!("{path}[{i}]"), s, declared, errors);
    }
}

/// Checks a service's script.
pub fn check_service(path: &str, service: &Service, declared: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let run = format!("{path}.run");
    if let Some(user) = &service.user {
        errors.check(format!("{path}.user"), user, names::user_name(user));
    }
    check_options_of(&run, &service.run, declared, errors);
    if service.run.trim().is_empty() || service.run.contains('\0') {
        errors.invalid(&run, service.run.as_str(), "must be a script without NUL bytes");
    }
    if service.run.starts_with("#!") {
        let line = service.run.lines().next().unwrap_or_default();
        errors.invalid(
            &run,
            line,
            "must be a script of /bin/sh without a '#!' line; start another interpreter from it ('exec python3 …')",
        );
    }
}

/// Checks folders: valid, distinct names and paths.
pub fn check_folders(path: &str, folders: &[Folder], errors: &mut FieldErrors) {
    let (mut by_name, mut by_path) = (BTreeSet::new(), BTreeSet::new());
    for (i, f) in folders.iter().enumerate() {
        errors.check(format!("{path}[{i}].name"), &f.name, names::dns_label(&f.name));
        errors.check(format!("{path}[{i}].path"), &f.path, names::folder_path(&f.path));
        if !by_name.insert(&f.name) {
            errors.duplicate(format!("{path}[{i}].name"), f.name.as_str(), "every folder needs a name of its own");
        }
        if !by_path.insert(&f.path) {
            errors.duplicate(format!("{path}[{i}].path"), f.path.as_str(), "a path can carry one folder");
        }
    }
}

/// Checks a duration such as `90s`, `2h` or `7d`.
pub fn check_duration(path: &str, value: &str, errors: &mut FieldErrors) {
    if humantime::parse_duration(value).is_err() {
        errors.invalid(path, value, "must be a duration such as '90s', '2h' or '7d'");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_program_can_be_started_with_is_refused() {
        let mut errors = FieldErrors::default();
        let long = |more: usize| "x".repeat(LONGEST_WORD + more);
        let words = [String::new(), "a\0b".into(), long(0), long(1), String::new()];
        check_command("c", &words, &mut errors);
        let env = [("A", long(0)), ("B", "a\0b".into()), ("C", "x".repeat(LONGEST_WORD - 2))];
        check_env("e", &env.map(|(k, v)| (k.to_owned(), v)).into(), &mut errors);
        let paths: Vec<_> = errors.0.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["c[0]", "c[1]", "c[3]", "e[A]", "e[B]"]);
    }
}
