//! Ports.

use super::text::label;
use super::{Draft, Fields};
use crate::resource::common::{Port, Protocol};
use serde_json::Value;

/// What usually listens there speaks no HTTP, which a devcontainer.json has no word for.
const NOT_HTTP: [u16; 12] = [22, 25, 1025, 1433, 3306, 5432, 5672, 6379, 9042, 9092, 11211, 27017];

/// Ports that are forwarded, with what is said about them.
pub(super) fn ports(fields: &Fields, draft: &mut Draft) {
    for field in ["forwardPorts", "appPort"] {
        let all = match fields.get(field) {
            None => continue,
            Some(Value::Array(all)) => all.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        for (i, value) in all.iter().enumerate() {
            match number(value) {
                Ok(port) => add(port, fields, draft),
                Err(why) => draft.note(format!("{field}[{i}]"), why),
            }
        }
    }
    let attributes = fields.get("portsAttributes").and_then(Value::as_object);
    for key in attributes.into_iter().flat_map(|a| a.keys()) {
        if !key.parse::<u16>().is_ok_and(|port| draft.template.ports.iter().any(|p| p.port == port)) {
            draft.note(format!("portsAttributes.{key}"), "is not mapped: it names no port of \"forwardPorts\"");
        }
    }
    if !draft.template.ports.is_empty() {
        let why = "a workspace is RUNNING once something listens on each of them, on 0.0.0.0; take out those that nothing \
                   always listens on";
        draft.note("forwardPorts", why);
    }
}

fn number(value: &Value) -> Result<u16, String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return Err("must be a number".into()),
    };
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", &text));
    match port.parse::<u16>() {
        Ok(port) if port > 0 && (host == "localhost" || host == "127.0.0.1" || host.parse::<u16>().is_ok()) => Ok(port),
        Ok(port) if port > 0 => Err(format!(
            "{text:?} is another container's: a companion is a Feature with a 'sidecar', on the workspace's localhost"
        )),
        _ => Err(format!("{text:?} is no port: must be between 1 and 65535")),
    }
}

fn add(port: u16, fields: &Fields, draft: &mut Draft) {
    if draft.template.ports.iter().any(|p| p.port == port) {
        return;
    }
    let attributes = fields.get("portsAttributes").and_then(|all| all.get(port.to_string()));
    let text = |key: &str| attributes.and_then(|a| a.get(key)).and_then(Value::as_str);
    for key in
        attributes.and_then(Value::as_object).into_iter().flat_map(|a| a.keys()).filter(|k| *k != "label" && *k != "protocol")
    {
        draft.note(format!("portsAttributes.{port}.{key}"), "is for editors, which ask the person");
    }
    let named = text("label").and_then(|l| label(l, 54)).filter(|name| draft.template.ports.iter().all(|p| p.name != *name));
    let protocol = match text("protocol") {
        Some("https") => Protocol::Https,
        Some(_) => Protocol::Http,
        None if NOT_HTTP.contains(&port) => Protocol::Tcp,
        None => Protocol::Http,
    };
    let name = named.unwrap_or_else(|| format!("port-{port}"));
    draft.template.ports.push(Port { name, port, protocol, public: false, readiness_probe: None });
}
