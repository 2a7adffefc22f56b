//! What a container may do, seen from inside and from the engine. On a real dockerd only.

use super::lab::Lab;
use crate::support::dockerd::Dockerd;
use devsanctum::engine::docker::CAPABILITIES;
use devsanctum::engine::*;
use std::collections::BTreeMap;

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

async fn read(lab: &Lab, id: &ContainerId, script: &str) -> String {
    String::from_utf8(lab.sh(id, script).await.stdout).unwrap()
}

#[tokio::test]
async fn privileges_are_dropped_for_good() {
    let lab = Lab::real();
    let id = lab.run(&lab.spec("a")).await;
    for process in ["1", "self"] {
        let status = read(&lab, &id, &format!("cat /proc/{process}/status")).await;
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "Seccomp"), "2");
        let bounding = u64::from_str_radix(field(&status, "CapBnd"), 16).unwrap();
        // Bits of <linux/capability.h>.
        let bits = [
            ("AUDIT_WRITE", 29),
            ("CHOWN", 0),
            ("DAC_OVERRIDE", 1),
            ("FOWNER", 3),
            ("FSETID", 4),
            ("KILL", 5),
            ("NET_BIND_SERVICE", 10),
            ("SETGID", 6),
            ("SETUID", 7),
            ("SYS_CHROOT", 18),
        ];
        assert_eq!(bits.map(|b| b.0), CAPABILITIES);
        assert_eq!(bounding, bits.iter().fold(0, |all, (_, bit)| all | 1 << bit));
    }
}

#[tokio::test]
async fn limits_are_in_force() {
    let lab = Lab::real();
    let id = lab.run(&lab.spec("a")).await;
    let read = async |controller: &str, file: &str| {
        let v1 = format!("cat /sys/fs/cgroup/{controller}/{file} 2>/dev/null || echo none");
        read(&lab, &id, &v1).await.trim().to_owned()
    };
    if read("memory", "memory.limit_in_bytes").await == "none" {
        // cgroup v2.
        assert_eq!(read(".", "memory.max").await, (32 << 20).to_string());
        assert_eq!(read(".", "pids.max").await, "64");
        assert_eq!(read(".", "cpu.max").await, "50000 100000");
        return;
    }
    assert_eq!(read("memory", "memory.limit_in_bytes").await, (32 << 20).to_string());
    assert_eq!(read("pids", "pids.max").await, "64");
    assert_eq!(read("cpu", "cpu.cfs_quota_us").await, "50000");
}

#[tokio::test]
async fn a_process_that_eats_memory_is_killed() {
    let lab = Lab::real();
    let spec = ContainerSpec { memory: 8 << 20, ..lab.script("a", "x=x; while :; do x=$x$x; done") };
    let id = lab.run(&spec).await;
    // Whether dockerd hears in time that it was for its memory is chance: see `Lab::run_out_of_memory`.
    assert_eq!(lab.ended(&id).await.exit_code, 137);
}

#[tokio::test]
async fn what_only_the_host_may_do_fails_inside() {
    let lab = Lab::real();
    let id = lab.run(&lab.spec("a")).await;
    for script in [
        "mount -t tmpfs x /tmp",
        "mknod /tmp/sda b 8 0",
        "ping -c 1 -w 1 127.0.0.1",
        "hostname x",
        "unshare -m true",
        "chroot /proc/1/root true && nsenter -t 1 -m true",
        "echo 1 > /proc/sys/kernel/sysrq",
        "ls /var/run/docker.sock",
    ] {
        assert_ne!(lab.sh(&id, script).await.code, 0, "{script}");
    }
}

#[tokio::test]
async fn what_a_base_needs_works_inside() {
    let lab = Lab::real();
    let id = lab.run(&lab.spec("a")).await;
    for script in [
        "touch /tmp/x && chown dev:dev /tmp/x && chmod 600 /tmp/x && cat /tmp/x",
        "su dev -c 'id -u | grep 1000'",
        "nc -l -p 80 -w 1 & sleep 0.2; kill %1",
        "chroot / true",
        "sleep 50 & kill $!",
    ] {
        let output = lab.sh(&id, script).await;
        assert_eq!(output.code, 0, "{script}: {output:?}");
    }
}

#[tokio::test]
async fn the_engine_holds_no_way_out_for_a_container() {
    let lab = Lab::real();
    let volume = VolumeSpec { name: lab.name("v"), labels: lab.labels("v") };
    lab.engine.create_volume(&volume).await.unwrap();
    let mounts = BTreeMap::from([(volume.name.clone(), "/data".to_owned())]);
    let id = lab.run(&ContainerSpec { mounts, ..lab.spec("a") }).await;
    let shown: serde_json::Value =
        serde_json::from_str(&Dockerd::shared().docker(&["inspect", "--type=container", id.as_str()])).unwrap();
    let host = &shown[0]["HostConfig"];
    let empty = |v: &serde_json::Value| {
        v.is_null() || v == "" || v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(|o| o.is_empty())
    };
    for field in ["Binds", "Devices", "DeviceRequests", "DeviceCgroupRules", "PortBindings", "VolumesFrom", "GroupAdd"] {
        assert!(empty(&host[field]), "{field}: {}", host[field]);
    }
    for field in ["PidMode", "UTSMode", "UsernsMode", "Cgroup", "CgroupParent", "VolumeDriver"] {
        assert!(empty(&host[field]), "{field}: {}", host[field]);
    }
    assert_eq!(
        (&host["Privileged"], &host["PublishAllPorts"], &host["AutoRemove"]),
        (&false.into(), &false.into(), &false.into())
    );
    assert_eq!((&host["IpcMode"], &host["RestartPolicy"]["Name"]), (&"private".into(), &"no".into()));
    assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges"]));
    assert_eq!(host["MemorySwap"], host["Memory"]);
    assert_eq!(host["LogConfig"], serde_json::json!({ "Type": "json-file", "Config": { "max-file": "3", "max-size": "10m" } }));
    let types: Vec<_> = shown[0]["Mounts"].as_array().unwrap().iter().map(|m| m["Type"].clone()).collect();
    assert_eq!(types, ["volume"]);
}
