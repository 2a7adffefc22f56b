//! The records all benches use.

use super::docker::TINY;
use serde_json::{Value, json};
use std::path::Path;

/// Serves `ok` on port 8080.
pub const SERVE: &str = "echo ok > /home/index.html; exec httpd -f -p 8080 -h /home";

/// A record of our group.
pub fn record(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A user, a template, a project; `routed`: its workspaces serve a port.
pub fn ground(routed: bool) -> Vec<Value> {
    let ports = if routed { json!([{"name": "web", "port": 8080}]) } else { json!([]) };
    let template = json!({
        "base": TINY, "startCommand": ["sh", "-c", SERVE], "ports": ports,
        "folders": [{"name": "home", "path": "/home"}],
        "minRamMb": 32, "minDiskGb": 0.01, "limits": {"cpu": 1, "memoryMb": 64, "pids": 64},
    });
    vec![
        record("Settings", "default", json!({"images": {"probe": TINY}})),
        record("User", "ada", json!({"email": "ada@example.com"})),
        record("Template", "plain", template),
        record("Project", "bench", json!({"owner": "ada", "template": "plain", "visibility": "PUBLIC"})),
    ]
}

/// A server at this socket.
pub fn server(name: &str, socket: &Path) -> Value {
    record("DockerServer", name, json!({"host": format!("unix://{}", socket.display())}))
}

/// A workspace of the project.
pub fn workspace(name: &str) -> Value {
    let mut made = record("Workspace", name, json!({"owner": "ada", "visibility": "PUBLIC"}));
    made["metadata"]["namespace"] = "bench".into();
    made
}

/// Documents as one file for `apply`.
pub fn file(records: &[Value]) -> String {
    records.iter().map(|r| format!("---\n{r}\n")).collect()
}
