//! Events have two spellings of one thing: core `v1` (stored here, read by kubectl) and `events.k8s.io/v1`
//! (written by kube-rs).

use serde_json::{Map, Value};

/// `events.k8s.io/v1` name, core `v1` name.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// From `events.k8s.io/v1` to core `v1`. What only the core spelling has is filled from what the other says.
pub fn to_core(event: Value) -> Value {
    let mut event = renamed(event, "v1", |name| NAMES.iter().find(|n| n.0 == name).map(|n| n.1));
    complete(&mut event);
    event
}

/// From core `v1` to `events.k8s.io/v1`.
pub fn to_new(event: Value) -> Value {
    renamed(event, "events.k8s.io/v1", |name| NAMES.iter().find(|n| n.1 == name).map(|n| n.0))
}

/// A field selector over `events.k8s.io/v1` names, in the stored spelling.
pub fn core_selector(selector: &str) -> String {
    selector.replace("regarding.", "involvedObject.").replace("reportingController", "reportingComponent")
}

fn renamed(event: Value, version: &str, to: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = event else { return event };
    let mut out: Map<String, Value> = fields.into_iter().map(|(k, v)| (to(&k).map_or(k, str::to_owned), v)).collect();
    out.insert("apiVersion".into(), version.into());
    Value::Object(out)
}

/// kubectl sorts and counts by fields that new-style writers leave out.
fn complete(event: &mut Value) {
    let Some(fields) = event.as_object_mut() else { return };
    let series = fields.get("series").cloned().unwrap_or(Value::Null);
    if let Some(at) = fields.get("eventTime").filter(|t| !t.is_null()).cloned() {
        fields.entry("firstTimestamp").or_insert_with(|| at.clone());
        let last = series.get("lastObservedTime").cloned().unwrap_or(at);
        fields.insert("lastTimestamp".into(), last);
    }
    let count = series.get("count").cloned().unwrap_or_else(|| 1.into());
    fields.insert("count".into(), count);
    let component = fields.get("reportingComponent").cloned().unwrap_or(Value::Null);
    if !component.is_null() {
        fields.entry("source").or_insert_with(|| serde_json::json!({"component": component}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_survives_the_way_there_and_back() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "pulled", "reason": "Pulled",
            "reportingController": "workspace", "regarding": {"kind": "Workspace", "name": "a"},
            "eventTime": "2026-01-01T00:00:00.000000Z",
        });
        let core = to_core(new.clone());
        assert_eq!(core["message"], "pulled");
        assert_eq!(core["involvedObject"]["name"], "a");
        assert_eq!(core["source"]["component"], "workspace");
        assert_eq!(core["lastTimestamp"], "2026-01-01T00:00:00.000000Z");
        let back = to_new(core);
        for (key, value) in new.as_object().unwrap() {
            assert_eq!(&back[key], value, "{key}");
        }
    }
}
