use super::*;
use crate::engine::ContainerId;
use std::collections::BTreeMap;

fn spec() -> ContainerSpec {
    ContainerSpec {
        name: "ds-a".into(),
        image: "ds/base:1".into(),
        command: None,
        workdir: None,
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        mounts: BTreeMap::from([("home".into(), "/home/dev".into())]),
        attach: Attach::Network("ds-net".into()),
        hostname: Some("ws".into()),
        memory: 64 << 20,
        nano_cpus: 500_000_000,
        pids: 64,
    }
}

fn refused(change: impl FnOnce(&mut ContainerSpec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    body(&spec).unwrap_err().to_string()
}

#[test]
fn only_these_host_settings_are_ever_sent() {
    let sent = serde_json::to_value(body(&spec()).unwrap()).unwrap();
    let keys: Vec<_> = sent["HostConfig"].as_object().unwrap().keys().map(String::as_str).collect();
    let allowed = [
        "AutoRemove",
        "CapAdd",
        "CapDrop",
        "CgroupnsMode",
        "Init",
        "IpcMode",
        "LogConfig",
        "Memory",
        "MemorySwap",
        "Mounts",
        "NanoCpus",
        "NetworkMode",
        "PidsLimit",
        "Privileged",
        "PublishAllPorts",
        "RestartPolicy",
        "SecurityOpt",
        "Tmpfs",
    ];
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, allowed);
    assert_eq!(sent["HostConfig"]["Privileged"], false);
    assert_eq!(sent["HostConfig"]["CapDrop"][0], "ALL");
    assert_eq!(sent["HostConfig"]["MemorySwap"], sent["HostConfig"]["Memory"]);
    assert_eq!(sent["HostConfig"]["Mounts"][0]["Type"], "volume");
    assert!(sent["HostConfig"]["Mounts"][0].get("VolumeOptions").is_none());
}

#[test]
fn no_dangerous_capability_is_added() {
    for bad in ["NET_RAW", "NET_ADMIN", "MKNOD", "SYS_ADMIN", "SYS_PTRACE", "SETFCAP", "SETPCAP", "DAC_READ_SEARCH"] {
        assert!(!CAPABILITIES.contains(&bad), "{bad}");
    }
}

#[test]
fn a_container_without_a_limit_is_refused() {
    assert!(refused(|s| s.memory = 0).contains("memory"));
    assert!(refused(|s| s.nano_cpus = 0).contains("cpu"));
    assert!(refused(|s| s.pids = 0).contains("pids"));
    assert!(refused(|s| s.memory = u64::MAX).contains("memory"));
}

#[test]
fn an_empty_or_path_like_name_is_refused() {
    for name in ["", "-a", "a/b", "../x", "a b", "a?force=1", "a%2f"] {
        assert!(refused(|s| s.name = name.into()).contains("container name"), "{name:?}");
    }
}

#[test]
fn the_host_s_network_cannot_be_asked_for() {
    for name in ["host", "none", "default", "container:abc", "ns:/proc/1/ns/net", ""] {
        assert!(!refused(|s| s.attach = Attach::Network(name.into())).is_empty(), "{name:?}");
    }
}

#[test]
fn a_mount_is_a_named_volume_at_an_absolute_path() {
    for (volume, path) in [("/etc", "/x"), ("a/b", "/x"), ("v", "x"), ("v", "/"), ("v", "/a/../b"), ("", "/x")] {
        assert!(!refused(|s| s.mounts = BTreeMap::from([(volume.into(), path.into())])).is_empty(), "{volume} {path}");
    }
}

#[test]
fn a_sidecar_has_no_host_name_of_its_own() {
    let id = ContainerId::parse(&"a".repeat(64)).unwrap();
    let body = body(&ContainerSpec { attach: Attach::Container(id), ..spec() }).unwrap();
    assert_eq!(body.hostname, None);
    assert_eq!(body.host_config.unwrap().network_mode.unwrap(), format!("container:{}", "a".repeat(64)));
}

#[test]
fn references_that_would_leave_the_request_s_path_are_refused() {
    for bad in ["", "a/../b", "a?x", "a#x", "a b", "/a", "a//b", "a%2e"] {
        assert!(check_reference(bad).is_err(), "{bad:?}");
    }
    for good in ["alpine", "alpine:3.22", "127.0.0.1:5000/a/b:1", "a@sha256:0123", "node:20-bullseye"] {
        assert!(check_reference(good).is_ok(), "{good}");
    }
}

#[test]
fn nothing_but_a_gateway_is_in_its_host_s_network_and_it_has_less_than_others() {
    let owner = |kind: &str, namespace: Option<&str>, role: &str| Ownership {
        instance: "i".into(),
        uid: "u".into(),
        kind: kind.into(),
        namespace: namespace.map(str::to_owned),
        name: "n".into(),
        role: role.into(),
    };
    let gateway = owner("DockerServer", None, labels::GATEWAY);
    let of = |owner: &Ownership| ContainerSpec { attach: Attach::Host, labels: owner.labels(), ..spec() };
    for other in [
        owner("Workspace", Some("team"), labels::GATEWAY),
        owner("Workspace", None, labels::GATEWAY),
        owner("DockerServer", Some("team"), labels::GATEWAY),
        owner("DockerServer", None, "probe"),
    ] {
        assert!(body(&of(&other)).unwrap_err().to_string().contains("nothing but a server's gateway"), "{other:?}");
    }
    assert!(refused(|s| s.attach = Attach::Host).contains("nothing but a server's gateway"));
    let sent = serde_json::to_value(body(&of(&gateway)).unwrap()).unwrap();
    let host = &sent["HostConfig"];
    assert_eq!((&host["NetworkMode"], &host["ReadonlyRootfs"], &sent["User"]), (&"host".into(), &true.into(), &NOBODY.into()));
    assert_eq!((&host["CapAdd"], &host["CapDrop"][0]), (&serde_json::json!([]), &"ALL".into()));
    assert!(host.get("PortBindings").is_none() && sent.get("Hostname").is_none());
}
