//! The records tests apply.

use crate::support::dockerd::TINY;
use serde_json::{Value, json};
use std::path::Path;

/// An image and a command that waits, and ends when it is asked to.
pub const IDLE: [&str; 4] = [TINY, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"];

fn record(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// With these, nothing stops or goes by itself; see `lifecycle.rs`.
pub fn settings(probe: &str) -> Value {
    let never = json!({"stopAfter": "never", "destroyAfter": "never"});
    record("Settings", "default", json!({"images": {"probe": probe}, "lifecycle": never}))
}

pub fn server(name: &str, socket: &Path) -> Value {
    record("DockerServer", name, json!({"host": format!("unix://{}", socket.display())}))
}

pub fn user() -> Value {
    record("User", "ada", json!({"email": "ada@example.com"}))
}

/// A page that says the workspace's name and a number drawn when its volume was new.
pub fn template(name: &str) -> Value {
    let script = "trap 'exit 0' TERM; cd /data && { [ -s index.html ] || \
        echo \"$HOSTNAME $(cat /proc/sys/kernel/random/uuid)\" > index.html; }; httpd -p 8080 -h /data; \
        while :; do sleep 3600 & wait; done";
    record(
        "Template",
        name,
        json!({
            "base": TINY,
            "startCommand": ["sh", "-c", script],
            "ports": [{"name": "web", "port": 8080}],
            "folders": [{"name": "data", "path": "/data"}],
            "minRamMb": 16, "minDiskGb": 0.01,
            "limits": {"cpu": 0.5, "memoryMb": 32, "pids": 32},
        }),
    )
}

pub fn project(name: &str, template: &str) -> Value {
    record("Project", name, json!({"owner": "ada", "template": template, "visibility": "PUBLIC"}))
}

pub fn workspace(name: &str) -> Value {
    let mut w = record("Workspace", name, json!({"owner": "ada", "visibility": "PUBLIC"}));
    w["metadata"]["namespace"] = "team".into();
    w
}

/// A companion that serves a page on the workspace's localhost.
pub fn feature(name: &str) -> Value {
    let script = "trap 'exit 0' TERM; mkdir -p /tmp/p; echo companion > /tmp/p/index.html; httpd -p 9090 -h /tmp/p; \
        while :; do sleep 3600 & wait; done";
    record("Feature", name, json!({"sidecar": {"image": TINY, "command": ["sh", "-c", script], "limits": {"memoryMb": 32}}}))
}
