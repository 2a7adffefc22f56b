//! What a change has changed, in few words.

use serde_json::{Map, Value, json};

/// How long it may be, in bytes.
const LIMIT: usize = 8 * 1024;
/// How long one value may be, in bytes.
const MAX_VALUE: usize = 2 * 1024;
/// What the server keeps account of by itself.
const OURS: [&str; 3] = ["managedFields", "resourceVersion", "generation"];
/// A copy of the whole record.
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The paths (RFC 6901) at which two states differ, with the values there, as a JSON array of at most 8 KiB. `None` is
/// what is not there. A value that is too long, and changes that find no room, are told as left out. The values of secrets
/// are in no state of a record; that they have moved shows in the generation.
pub fn changes(old: Option<&Value>, new: Option<&Value>) -> String {
    let mut found = Vec::new();
    let empty = Value::Object(Map::new());
    let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
    let secret = [old, new].iter().any(|state| state["kind"] == "Secret");
    walk(&mut String::new(), old, new, secret, &mut found);
    written(found)
}

fn skipped(path: &str, key: &str, secret: bool) -> bool {
    match path {
        "/metadata" => OURS.contains(&key) && !(secret && key == "generation"),
        "/metadata/annotations" => key == COPY,
        // Where the API itself takes the values out; nothing that is left there by whatever mistake is told.
        "/spec" => secret && key == "data",
        _ => false,
    }
}

fn walk(path: &mut String, old: &Value, new: &Value, secret: bool, found: &mut Vec<Value>) {
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
        for key in keys {
            if skipped(path, key, secret) {
                continue;
            }
            let length = path.len();
            path.push('/');
            path.push_str(&key.replace('~', "~0").replace('/', "~1"));
            match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => walk(path, a, b, secret, found),
                (Some(a), None) => one_sided(path, a, secret, "old", found),
                (None, Some(b)) => one_sided(path, b, secret, "new", found),
                (None, None) => {}
            }
            path.truncate(length);
        }
        return;
    }
    let mut change = json!({"path": path});
    put(&mut change, "old", old);
    put(&mut change, "new", new);
    found.push(change);
}

/// What is only there before, or only afterwards. Objects are taken apart, for what is skipped in them.
fn one_sided(path: &mut String, value: &Value, secret: bool, side: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let empty = Value::Object(Map::new());
            let (old, new) = if side == "old" { (value, &empty) } else { (&empty, value) };
            walk(path, old, new, secret, found);
        }
        _ => {
            let mut change = json!({"path": path});
            put(&mut change, side, value);
            found.push(change);
        }
    }
}

fn put(change: &mut Value, side: &str, value: &Value) {
    let bytes = value.to_string().len();
    if bytes > MAX_VALUE {
        change[format!("{side}LeftOut")] = json!(format!("{bytes} bytes"));
    } else {
        change[side] = value.clone();
    }
}

fn written(found: Vec<Value>) -> String {
    // Room for the word about what is left out.
    let room = LIMIT - 64;
    let (mut text, count) = (String::from("["), found.len());
    for (at, change) in found.into_iter().enumerate() {
        let change = change.to_string();
        if text.len() + change.len() + 2 > room {
            let comma = if at > 0 { "," } else { "" };
            text.push_str(&format!("{comma}{{\"leftOut\":{}}}", count - at));
            break;
        }
        if at > 0 {
            text.push(',');
        }
        text.push_str(&change);
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(old: &Value, new: &Value) -> Value {
        serde_json::from_str(&changes(Some(old), Some(new))).unwrap()
    }

    #[test]
    fn what_differs_is_told_with_its_path() {
        let old =
            json!({"metadata": {"generation": 1, "labels": {"a/b": "x"}}, "spec": {"cpu": 1, "ports": [1, 2], "gone": true}});
        let new =
            json!({"metadata": {"generation": 2, "labels": {"a/b": "y"}}, "spec": {"cpu": 1, "ports": [1], "new": {"x": 1}}});
        assert_eq!(
            of(&old, &new),
            json!([
                {"path": "/metadata/labels/a~1b", "old": "x", "new": "y"},
                {"path": "/spec/gone", "old": true},
                {"path": "/spec/ports", "old": [1, 2], "new": [1]},
                {"path": "/spec/new/x", "new": 1},
            ])
        );
        assert_eq!(of(&old, &old), json!([]));
        let made: Value = serde_json::from_str(&changes(None, Some(&json!({"spec": {"a": 1}})))).unwrap();
        assert_eq!(made, json!([{"path": "/spec/a", "new": 1}]));
    }

    #[test]
    fn long_ones_are_cut_and_say_so() {
        let new = json!({"spec": {"long": "x".repeat(3000), "short": 1}});
        assert_eq!(
            of(&json!({}), &new),
            json!([{"path": "/spec/long", "newLeftOut": "3002 bytes"}, {"path": "/spec/short", "new": 1}])
        );
        let many: Map<String, Value> = (0..1000).map(|i| (format!("k{i}"), json!("x".repeat(100)))).collect();
        let text = changes(None, Some(&json!({"spec": many})));
        let told: Value = serde_json::from_str(&text).unwrap();
        let told = told.as_array().unwrap();
        assert!(text.len() <= LIMIT, "{}", text.len());
        assert_eq!(told.last().unwrap()["leftOut"].as_u64().unwrap() as usize + told.len() - 1, 1000);
    }

    #[test]
    fn a_secrets_values_are_left_out_wherever_they_stand() {
        let copy = json!({"kind": "Secret", "spec": {"data": {"token": "hunter2"}}}).to_string();
        let new = json!({
            "kind": "Secret", "metadata": {"generation": 2, "annotations": {COPY: copy}}, "spec": {"data": {"token": "hunter2"}},
            "status": {"keys": ["token"]},
        });
        let old = json!({"kind": "Secret", "metadata": {"generation": 1}, "spec": {}});
        for text in [changes(None, Some(&new)), changes(Some(&old), Some(&new)), changes(Some(&new), None)] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(changes(Some(&old), Some(&new)).contains("/metadata/generation"));
    }
}
