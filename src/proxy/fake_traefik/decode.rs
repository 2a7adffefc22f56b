//! What Traefik takes for a configuration, and what it refuses as a whole.

use crate::proxy::dynamic::{Configuration, Http};
use serde_json::Value;

/// Fields that stand at each level, as far as we use them. Any other is a mistake to Traefik.
const TOP: [&str; 4] = ["http", "tcp", "udp", "tls"];
const HTTP: [&str; 4] = ["routers", "services", "middlewares", "serversTransports"];
const ROUTER: [&str; 7] = ["entryPoints", "rule", "priority", "service", "middlewares", "tls", "ruleSyntax"];

/// The HTTP part of a configuration.
///
/// # Errors
/// In words, when it would not be taken.
pub(super) fn http(body: &[u8]) -> Result<Http, String> {
    let value: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    known(&value, &TOP)?;
    let http = &value["http"];
    known(http, &HTTP)?;
    standalone(&value)?;
    standalone(http)?;
    for router in http["routers"].as_object().into_iter().flat_map(|all| all.values()) {
        known(router, &ROUTER)?;
    }
    let configuration: Configuration = serde_json::from_value(value).map_err(|e| e.to_string())?;
    Ok(configuration.http.unwrap_or_default())
}

fn known(value: &Value, fields: &[&str]) -> Result<(), String> {
    match value {
        Value::Null => Ok(()),
        Value::Object(all) => match all.keys().find(|k| !fields.contains(&k.as_str())) {
            Some(other) => Err(format!("field not found, node: {other}")),
            None => Ok(()),
        },
        other => Err(format!("{other} is no object")),
    }
}

fn standalone(value: &Value) -> Result<(), String> {
    let empty = |v: &Value| v.as_object().is_some_and(serde_json::Map::is_empty);
    match value.as_object().into_iter().flatten().find(|(_, v)| empty(v)) {
        Some((name, _)) => Err(format!("{name} cannot be a standalone element")),
        None => Ok(()),
    }
}
