//! The one place where a container's settings are made: what is not written here cannot be asked for.

use crate::engine::ownership::Ownership;
use crate::engine::{Attach, ContainerSpec, EngineError, IN_MEMORY, Labels, Resources};
use crate::resource::labels;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType,
    RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::HashMap;

/// All that a container may do as root inside it. Less than Docker's own default: no `NET_RAW` (spoofing on the
/// bridge), no `MKNOD`, no `SETFCAP` and no `SETPCAP` (nothing in a workspace needs to hand capabilities out).
///
/// - files of several users, as package managers and s6 need: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`
/// - s6 and sshd start services as other users and stop them: `SETUID`, `SETGID`, `KILL`
/// - sshd's privilege separation and PAM: `SYS_CHROOT`, `AUDIT_WRITE`
/// - web servers on port 80: `NET_BIND_SERVICE`
pub const CAPABILITIES: [&str; 10] =
    ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"];

const IN_MEMORY_OPTIONS: &str = "rw,noexec,nosuid,nodev,size=1m,mode=755";
/// What is in its host's network is nobody there (by number: images name them otherwise), and what it writes is its own.
const NOBODY: &str = "65534:65534";
const NOBODYS_OPTIONS: &str = "rw,noexec,nosuid,nodev,size=8m,mode=700,uid=65534,gid=65534";

const LOG_MAX_SIZE: &str = "10m";
const LOG_MAX_FILE: &str = "3";

/// Settings of a container, hardened. [`EngineError::Invalid`] says what of the specification is refused.
pub(super) fn body(spec: &ContainerSpec) -> Result<ContainerCreateBody, EngineError> {
    check_name("container", &spec.name)?;
    check_reference(&spec.image)?;
    Ok(ContainerCreateBody {
        hostname: spec.hostname.clone().filter(|_| !matches!(spec.attach, Attach::Container(_) | Attach::Host)),
        user: in_host_network(spec).then(|| NOBODY.to_owned()),
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        working_dir: spec.workdir.clone(),
        env: Some(environment(spec)?),
        labels: Some(spec.labels.clone().into_iter().collect()),
        tty: Some(false),
        open_stdin: Some(false),
        host_config: Some(host_config(spec)?),
        ..Default::default()
    })
}

fn host_config(spec: &ContainerSpec) -> Result<HostConfig, EngineError> {
    let memory = limit("memory", spec.memory)?;
    let (capabilities, in_memory) = match in_host_network(spec) {
        true => (Vec::new(), NOBODYS_OPTIONS),
        false => (CAPABILITIES.map(str::to_owned).to_vec(), IN_MEMORY_OPTIONS),
    };
    Ok(HostConfig {
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(capabilities),
        readonly_rootfs: in_host_network(spec).then_some(true),
        security_opt: Some(vec!["no-new-privileges".into()]),
        privileged: Some(false),
        ipc_mode: Some("private".into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        network_mode: Some(network_mode(&spec.attach, &spec.labels)?),
        publish_all_ports: Some(false),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(limit("cpu", spec.nano_cpus)?),
        pids_limit: Some(limit("pids", u64::from(spec.pids))?),
        restart_policy: Some(never_restarted()),
        auto_remove: Some(false),
        init: Some(false),
        mounts: Some(spec.mounts.iter().map(|(volume, path)| mount(volume, path)).collect::<Result<_, _>>()?),
        tmpfs: Some(HashMap::from([(IN_MEMORY.to_owned(), in_memory.to_owned())])),
        log_config: Some(log_config()),
        ..Default::default()
    })
}

/// Limits of a container that is there.
pub(super) fn update(resources: &Resources) -> Result<ContainerUpdateBody, EngineError> {
    let memory = limit("memory", resources.memory)?;
    Ok(ContainerUpdateBody {
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(limit("cpu", resources.nano_cpus)?),
        pids_limit: Some(limit("pids", u64::from(resources.pids))?),
        restart_policy: Some(never_restarted()),
        ..Default::default()
    })
}

/// What runs and what does not is decided by the records.
fn never_restarted() -> RestartPolicy {
    RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }
}

/// Docker's own word for "no limit" is 0; a container without a limit is refused.
fn limit(what: &str, value: u64) -> Result<i64, EngineError> {
    i64::try_from(value)
        .ok()
        .filter(|v| *v > 0)
        .ok_or_else(|| EngineError::Invalid(format!("the {what} limit is {value}; every container needs one above 0")))
}

fn in_host_network(spec: &ContainerSpec) -> bool {
    spec.attach == Attach::Host
}

/// A workspace's labels are never a server's, so that no mistake elsewhere puts one into its host's network.
fn network_mode(attach: &Attach, labels: &Labels) -> Result<String, EngineError> {
    let is_gateway = |o: Ownership| o.kind == "DockerServer" && o.namespace.is_none() && o.role == labels::GATEWAY;
    match attach {
        Attach::None => Ok("none".into()),
        Attach::Host if Ownership::read(labels).is_some_and(is_gateway) => Ok("host".into()),
        Attach::Host => Err(EngineError::Invalid("nothing but a server's gateway may be in its host's network".into())),
        Attach::Container(id) => Ok(format!("container:{}", id.as_str())),
        Attach::Network(name) => {
            check_name("network", name)?;
            if ["host", "none", "default"].contains(&name.as_str()) {
                return Err(EngineError::Invalid(format!("'{name}' is not a network a container may be attached to")));
            }
            Ok(name.clone())
        }
    }
}

/// A named volume, by the type that cannot mean a path on the host.
fn mount(volume: &str, path: &str) -> Result<Mount, EngineError> {
    check_name("volume", volume)?;
    let plain = path.starts_with('/') && path.len() > 1 && !path.split('/').any(|p| p == "..") && !path.contains('\0');
    if !plain {
        return Err(EngineError::Invalid(format!("volume '{volume}' is mounted at '{path}', which is not an absolute path")));
    }
    Ok(Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(path.to_owned()),
        read_only: Some(false),
        ..Default::default()
    })
}

fn environment(spec: &ContainerSpec) -> Result<Vec<String>, EngineError> {
    let line = |(key, value): (&String, &String)| {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(EngineError::Invalid(format!("'{key}' is not a name of an environment variable")));
        }
        Ok(format!("{key}={value}"))
    };
    spec.env.iter().map(line).collect()
}

fn log_config() -> HostConfigLogConfig {
    let config =
        HashMap::from([("max-size".to_owned(), LOG_MAX_SIZE.to_owned()), ("max-file".to_owned(), LOG_MAX_FILE.to_owned())]);
    HostConfigLogConfig { typ: Some("json-file".into()), config: Some(config) }
}

/// Docker's rule for names. An empty one would get a random name, and a `/` would ask for something else.
pub(super) fn check_name(kind: &str, name: &str) -> Result<(), EngineError> {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric()) && bytes.all(rest) && name.len() <= 255;
    if good {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "'{name}' is not a {kind} name: it must be 1 to 255 letters, digits, '_', '.' or '-', and begin with a letter or digit"
    )))
}

/// An image reference, as far as it can do harm in a request's path.
pub(super) fn check_reference(reference: &str) -> Result<(), EngineError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-:@/".contains(&b);
    let begins = reference.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let part = |p: &str| !p.is_empty() && p != "." && p != "..";
    if begins && reference.bytes().all(allowed) && reference.split('/').all(part) && reference.len() <= 512 {
        return Ok(());
    }
    Err(EngineError::Invalid(format!("'{reference}' is not an image reference such as 'alpine:3.22'")))
}

#[cfg(test)]
#[path = "harden_tests.rs"]
mod tests;
