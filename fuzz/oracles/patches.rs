//! Patches: each format does what its document says, by a second and simpler account of it.

use super::input::Input;
use devsanctum::api::managed_fields::{apply, track_update};
use devsanctum::api::patch::{json_patch, merge_patch};
use devsanctum::api::schema::{FieldValidation, prune};
use devsanctum::resource::{KindDef, kind};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => merge(&mut input),
        1 => operations(&mut input),
        _ => applies(&mut input),
    }
}

fn merge(input: &mut Input) {
    let (record, patch) = (Value::from(input.object(4)), input.value(4));
    let mut merged = record.clone();
    let outcome = merge_patch(&mut merged, &patch);
    assert_eq!(outcome.is_ok(), patch.is_object(), "{patch}");
    if outcome.is_ok() {
        assert_eq!(merged, merged_by_rfc7386(Some(&record), &patch), "{record} and {patch}");
        let once = merged.clone();
        merge_patch(&mut merged, &patch).expect("it was taken before");
        assert_eq!(merged, once, "{patch} twice");
    }
}

/// RFC 7386, section 2.
fn merged_by_rfc7386(target: Option<&Value>, patch: &Value) -> Value {
    let Value::Object(fields) = patch else { return patch.clone() };
    let mut merged = target.and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in fields {
        match value {
            Value::Null => drop(merged.remove(key)),
            value => {
                let value = merged_by_rfc7386(merged.get(key), value);
                merged.insert(key.clone(), value);
            }
        }
    }
    merged.into()
}

fn operations(input: &mut Input) {
    let record = Value::from(input.object(4));
    let patch: Vec<Value> = (0..input.below(6)).map(|_| operation(input, &record)).collect();
    let mut patched = record.clone();
    let outcome = json_patch(&mut patched, &Value::from(patch.clone()));
    let due = patch.iter().try_fold(record.clone(), by_rfc6902);
    match (outcome, due) {
        (Ok(()), Some(due)) => assert_eq!(patched, due, "{patch:?} of {record}"),
        (Err(refused), None) => assert!([400, 422].contains(&refused.code()), "{refused}"),
        (outcome, due) => panic!("{patch:?} of {record} gives {outcome:?} and {patched}, not {due:?}"),
    }
}

/// Pointers mostly lead somewhere, and sometimes one step beyond.
fn pointer(input: &mut Input, record: &Value) -> String {
    let (mut path, mut at) = (String::new(), Some(record));
    for _ in 0..input.below(5) {
        let token = match at {
            Some(Value::Object(fields)) if !fields.is_empty() && input.below(4) > 0 => {
                fields.keys().nth(input.below(fields.len())).cloned().unwrap_or_default()
            }
            Some(Value::Array(items)) if input.below(8) > 0 => {
                if input.below(6) == 0 {
                    "-".to_owned()
                } else {
                    input.below(items.len() + 2).to_string()
                }
            }
            _ => (*input.pick(&["a", "01", "", "~", "-1", "x/y"])).to_owned(),
        };
        at = at.and_then(|value| child(value, &token));
        path = format!("{path}/{}", token.replace('~', "~0").replace('/', "~1"));
    }
    path
}

fn operation(input: &mut Input, record: &Value) -> Value {
    let op = *input.pick(&["add", "remove", "replace", "move", "copy", "test"]);
    let mut path = pointer(input, record);
    let mut from = pointer(input, record);
    // What it means to take away the whole record is not said.
    if op == "remove" && path.is_empty() {
        path = "/a".into();
    }
    if op == "move" && (from.is_empty() || path.is_empty()) {
        (path, from) = ("/b".into(), "/a".into());
    }
    let tested = record.pointer(&path).filter(|_| input.below(3) > 0).cloned();
    let value = if op == "test" { tested.unwrap_or_else(|| input.value(1)) } else { input.value(2) };
    json!({"op": op, "path": path, "from": from, "value": value})
}

fn tokens(path: &Value) -> Vec<String> {
    let path = path.as_str().unwrap_or("");
    path.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    token.parse().ok().filter(|_| plain)
}

fn child<'v>(value: &'v Value, token: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => fields.get(token),
        Value::Array(items) => items.get(index(token)?),
        _ => None,
    }
}

fn child_mut<'v>(value: &'v mut Value, token: &str) -> Option<&'v mut Value> {
    match value {
        Value::Object(fields) => fields.get_mut(token),
        Value::Array(items) => items.get_mut(index(token)?),
        _ => None,
    }
}

/// RFC 6902, section 4, and Kubernetes' word that a missing field passes as `null` in a test. `None`: an error.
fn by_rfc6902(mut record: Value, operation: &Value) -> Option<Value> {
    let (path, from) = (tokens(&operation["path"]), tokens(&operation["from"]));
    let get = |record: &Value, path: &[String]| path.iter().try_fold(record, |v, t| child(v, t)).cloned();
    let value = operation["value"].clone();
    match operation["op"].as_str()? {
        "add" => add(&mut record, &path, value)?,
        "remove" => drop(remove(&mut record, &path)?),
        "replace" => *path.iter().try_fold(&mut record, |v, t| child_mut(v, t))? = value,
        "move" => {
            if path.len() > from.len() && path.starts_with(&from) {
                return None;
            }
            let moved = remove(&mut record, &from)?;
            add(&mut record, &path, moved)?;
        }
        "copy" => {
            let copied = get(&record, &from)?;
            add(&mut record, &path, copied)?;
        }
        _ => {
            if get(&record, &path).unwrap_or_default() != value || (get(&record, &path).is_none() && !value.is_null()) {
                return None;
            }
        }
    }
    Some(record)
}

fn add(record: &mut Value, path: &[String], value: Value) -> Option<()> {
    let Some((last, parents)) = path.split_last() else {
        *record = value;
        return Some(());
    };
    match parents.iter().try_fold(record, |v, t| child_mut(v, t))? {
        Value::Object(fields) => drop(fields.insert(last.clone(), value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(last).filter(|at| *at <= items.len())?;
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(record: &mut Value, path: &[String]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    match parents.iter().try_fold(record, |v, t| child_mut(v, t))? {
        Value::Object(fields) => fields.remove(last),
        Value::Array(items) => {
            let at = index(last).filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

/// A configuration with fields of the kind, of any sort, and labels.
fn config(input: &mut Input, def: &KindDef) -> Value {
    let schema = def.schema.properties.as_ref().and_then(|p| p.get("spec")).and_then(|s| s.properties.as_ref());
    let names: Vec<&String> = schema.map(|fields| fields.keys().collect()).unwrap_or_default();
    let spec: Map<String, Value> =
        (0..input.below(5)).filter_map(|_| Some(((*names.get(input.below(names.len()))?).clone(), input.value(3)))).collect();
    let labels: Map<String, Value> = (0..input.below(3)).map(|_| (input.key().to_owned(), input.scalar())).collect();
    let mut config = json!({
        "apiVersion": def.api_version(), "kind": def.kind, "metadata": {"name": "x", "labels": labels}, "spec": spec,
    });
    if input.flag() {
        config["metadata"]["finalizers"] = (0..input.below(3)).map(|_| input.scalar()).collect();
    }
    config
}

fn applies(input: &mut Input) {
    const KINDS: [&str; 4] = ["Workspace", "Template", "Group", "Settings"];
    let def = kind(KINDS[input.below(KINDS.len())]).expect("a kind of ours");
    let now = Timestamp::UNIX_EPOCH;
    let mut live: Option<Value> = None;
    for _ in 0..1 + input.below(5) {
        let mut config = config(input, def);
        let manager = *input.pick(&["one", "two", "three"]);
        if prune(def, &mut config, FieldValidation::Ignore).is_err() {
            return;
        }
        if input.below(3) == 0 {
            let mut next = config.clone();
            if let Some(held) = live.as_ref().and_then(|l| l["metadata"].get("managedFields")) {
                next["metadata"]["managedFields"] = if input.below(6) == 0 { input.value(4) } else { held.clone() };
            }
            track_update(live.as_ref(), &mut next, manager, "", &def.schema, now);
            live = Some(next);
            continue;
        }
        let applied = |live: Option<&Value>, who: &str, force| apply(live, &config, who, "", force, &def.schema, now);
        let forced = applied(live.as_ref(), manager, true).expect("what is forced is in conflict with nobody");
        match applied(live.as_ref(), manager, false) {
            Ok(taken) => assert_eq!(taken, forced, "{config} on {live:?}"),
            Err(conflicts) => {
                assert!(!conflicts.is_empty() && conflicts.iter().all(|c| c.path.starts_with('.')), "{conflicts:?}");
            }
        }
        stands_in(&config["spec"], &forced["spec"], &config);
        stands_in(&config["metadata"]["labels"], &forced["metadata"]["labels"], &config);
        // An empty list that empties a list goes with the last item, as in Kubernetes, and is there the second time.
        let again = applied(Some(&forced), manager, false).expect("nobody is in conflict with themselves");
        assert_eq!(filled(&again), filled(&forced), "{config} again");
        assert_eq!(applied(Some(&again), manager, false), Ok(again), "{config} a third time");
        let other = applied(Some(&forced), "other", false).expect("who wants the same is in conflict with nobody");
        assert_eq!(filled(&without_managers(&other)), filled(&without_managers(&forced)), "{config} by another");
        live = Some(forced);
    }
}

fn is_hollow(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// A value without what is empty.
fn filled(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(k, v)| (k.clone(), filled(v))).filter(|(_, v)| !is_hollow(v)).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(filled).collect(),
        other => other.clone(),
    }
}

fn without_managers(record: &Value) -> Value {
    let mut record = record.clone();
    record["metadata"].as_object_mut().map(|m| m.remove("managedFields"));
    record
}

/// What was applied is there.
fn stands_in(config: &Value, record: &Value, all: &Value) {
    // Nobody owns that a list is empty: one that held something goes with what it held.
    if is_hollow(&filled(config)) {
        return;
    }
    match (config, record) {
        (Value::Object(config), Value::Object(record)) => {
            for (key, value) in config {
                stands_in(value, record.get(key).unwrap_or(&Value::Null), all);
            }
        }
        (Value::Array(config), Value::Array(record)) => assert!(config.len() <= record.len(), "{all}"),
        (config, record) => assert_eq!(config, record, "{all}"),
    }
}
