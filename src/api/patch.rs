//! The patch formats of the API: JSON patch, JSON merge patch, server-side apply.

use super::status::ApiError;
use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

/// Most operations in one JSON patch.
const MAX_OPERATIONS: usize = 1_000;
/// Most values all `copy` and `move` operations of a patch may touch: copies of copies grow without measure.
const MAX_COPIED: usize = 100_000;
/// Deepest nesting of a patch and of what it makes; deeper values could not even be freed safely.
const MAX_DEPTH: usize = 64;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// How a patch body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json` (RFC 6902).
    Json,
    /// `application/merge-patch+json` (RFC 7386).
    Merge,
    /// `application/apply-patch+yaml`: goes to `managed_fields::apply`.
    Apply,
}

impl PatchKind {
    /// Chooses by the request's content type.
    ///
    /// # Errors
    /// 415 listing what is accepted; strategic merge patches are refused as custom resources refuse them.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, ApiError> {
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            JSON => Ok(Self::Json),
            MERGE => Ok(Self::Merge),
            APPLY => Ok(Self::Apply),
            _ => Err(ApiError::unsupported_media_type(&[JSON, MERGE, APPLY])),
        }
    }
}

/// Applies a JSON patch. After an error `record` is in no useful state.
///
/// # Errors
/// 400 for a patch that cannot be read, 413 for one that asks too much, 422 for one that does not fit the record.
pub fn json_patch(record: &mut Value, patch: &Value) -> Result<(), ApiError> {
    if patch.as_array().is_some_and(|list| list.len() > MAX_OPERATIONS) {
        return Err(ApiError::too_large(format!("a JSON patch may hold {MAX_OPERATIONS} operations at most")));
    }
    let patch: Patch = serde::Deserialize::deserialize(patch).map_err(|e| {
        ApiError::bad_request(format!(
            "error decoding JSON patch: {e}; it must be a list of operations such as \
             {{\"op\": \"replace\", \"path\": \"/spec/running\", \"value\": false}}"
        ))
    })?;
    let mut budget = MAX_COPIED;
    for (index, operation) in patch.0.iter().enumerate() {
        if passes_as_absent(record, operation) {
            continue;
        }
        if !is_modest(record, operation, &mut budget) {
            let what = described(index, operation);
            return Err(ApiError::too_large(format!("{what} copies too much, or nests deeper than {MAX_DEPTH} levels")));
        }
        json_patch::patch_unsafe(record, std::slice::from_ref(operation)).map_err(|e| {
            let what = described(index, operation);
            ApiError::unprocessable(format!("the server rejected our request due to an error in our request: {what}: {}", e.kind))
        })?;
    }
    Ok(())
}

/// Kubernetes' own library takes a missing field for `null` in a `test`, and clients rely on it: kube-rs adds a
/// finalizer behind `test /metadata/finalizers null`.
fn passes_as_absent(record: &Value, operation: &PatchOperation) -> bool {
    matches!(operation, PatchOperation::Test(test) if test.value.is_null() && at(record, &test.path).is_none())
}

fn at<'v>(record: &'v Value, path: &Pointer) -> Option<&'v Value> {
    record.pointer(path.as_str())
}

/// True when the operation's result stays within the caps.
fn is_modest(record: &Value, operation: &PatchOperation, budget: &mut usize) -> bool {
    let (value, path) = match operation {
        PatchOperation::Add(add) => (Some(&add.value), &add.path),
        PatchOperation::Replace(replace) => (Some(&replace.value), &replace.path),
        PatchOperation::Copy(copy) => (at(record, &copy.from), &copy.path),
        PatchOperation::Move(moved) => (at(record, &moved.from), &moved.path),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return true,
    };
    let Some(room) = MAX_DEPTH.checked_sub(path.count()) else { return false };
    // What stands in the body is paid for by the body's own size.
    let mut body = usize::MAX;
    let carried = matches!(operation, PatchOperation::Add(_) | PatchOperation::Replace(_));
    value.is_none_or(|value| fits(value, room, if carried { &mut body } else { budget }))
}

/// True when a value is no deeper than `room` and holds no more than `budget` values, which it uses up.
fn fits(value: &Value, room: usize, budget: &mut usize) -> bool {
    let size = if let Value::String(text) = value { 1 + text.len() / 64 } else { 1 };
    let Some(left) = budget.checked_sub(size) else { return false };
    *budget = left;
    match value {
        Value::Array(list) => room > 0 && list.iter().all(|item| fits(item, room - 1, budget)),
        Value::Object(map) => room > 0 && map.values().all(|item| fits(item, room - 1, budget)),
        _ => true,
    }
}

fn described(index: usize, operation: &PatchOperation) -> String {
    let name = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    };
    format!("operation {index} ({name} {})", operation.path())
}

/// Applies a JSON merge patch.
///
/// # Errors
/// 400 when the patch is not an object or is nested too deeply.
pub fn merge_patch(record: &mut Value, patch: &Value) -> Result<(), ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request("a merge patch must be a JSON object such as {\"spec\": {\"running\": false}}"));
    }
    if !fits(patch, MAX_DEPTH, &mut { usize::MAX }) {
        return Err(ApiError::bad_request(format!("a merge patch may be nested {MAX_DEPTH} levels deep at most")));
    }
    json_patch::merge(record, patch);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(mut record: Value, patch: Value) -> Result<Value, u16> {
        json_patch(&mut record, &patch).map(|()| record).map_err(|e| e.code())
    }

    #[test]
    fn content_types_choose_the_patch_and_strategic_merge_is_refused() {
        let of = |text| PatchKind::from_content_type(Some(text));
        assert_eq!(of("application/merge-patch+json; charset=utf-8"), Ok(PatchKind::Merge));
        assert_eq!(of("application/json-patch+json"), Ok(PatchKind::Json));
        assert_eq!(of("application/apply-patch+yaml"), Ok(PatchKind::Apply));
        for other in [Some("application/strategic-merge-patch+json"), Some("application/json"), None] {
            let error = PatchKind::from_content_type(other).unwrap_err();
            assert_eq!((error.code(), error.reason()), (415, "UnsupportedMediaType"));
            assert!(error.to_string().contains("application/merge-patch+json"));
        }
    }

    #[test]
    fn testing_a_missing_field_for_null_passes() {
        let record = json!({"metadata": {"name": "x"}});
        let patch = json!([{"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]}]);
        assert_eq!(patched(record.clone(), patch.clone()).unwrap()["metadata"]["finalizers"], json!(["a/b"]));
        let held = patched(record, patch.clone()).unwrap();
        assert_eq!(patched(held, patch), Err(422));
    }

    #[test]
    fn an_operation_that_does_not_fit_is_named() {
        let mut record = json!({"a": 1});
        let error = json_patch(&mut record, &json!([{"op": "remove", "path": "/b"}])).unwrap_err();
        assert!(error.to_string().contains("operation 0 (remove /b)"), "{error}");
        assert_eq!(patched(json!({}), json!([{"op": "nope", "path": "/a"}])), Err(400));
        assert_eq!(patched(json!({}), json!({"op": "remove"})), Err(400));
        assert_eq!(patched(json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 2}])), Err(422));
    }

    #[test]
    fn a_patch_cannot_blow_the_record_up() {
        let repeated = |operations: &[Value], times| -> Value { vec![operations; times].concat().into() };
        let deeper = json!({"op": "copy", "from": "/a", "path": "/a/x"});
        assert_eq!(patched(json!({"a": {"b": 1}}), repeated(&[deeper], 100)), Err(413));
        let wider = json!({"op": "copy", "from": "/a", "path": "/a/0"});
        let wider = [
            json!({"op": "copy", "from": "/a/0", "path": "/a/-"}),
            json!({"op": "copy", "from": "/a", "path": "/b"}),
            json!({"op": "copy", "from": "/b", "path": "/a/0"}),
            wider,
        ];
        assert_eq!(patched(json!({"a": [[1, 2, 3]]}), repeated(&wider, 100)), Err(413));
        let path = "/a".repeat(70);
        assert_eq!(patched(json!({"a": {}}), json!([{"op": "add", "path": path, "value": 1}])), Err(413));
        assert_eq!(patched(json!({}), repeated(&[json!({"op": "test", "path": "/a", "value": null})], 1001)), Err(413));
    }

    #[test]
    fn a_merge_patch_removes_by_null_and_replaces_lists() {
        let mut record = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        merge_patch(&mut record, &json!({"a": {"b": null, "c": [3]}, "e": {"f": null, "g": 1}})).unwrap();
        assert_eq!(record, json!({"a": {"c": [3]}, "d": 1, "e": {"g": 1}}));
        assert_eq!(merge_patch(&mut record, &json!([])).unwrap_err().code(), 400);
        let deep = (0..100).fold(json!(1), |below, _| json!({"a": below}));
        assert_eq!(merge_patch(&mut record, &deep).unwrap_err().code(), 400);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<u8>().prop_map(Value::from), "[ab/~]{0,3}".prop_map(Value::from)];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|m| json!(m)),
            ]
        })
    }

    fn any_operation() -> impl Strategy<Value = Value> {
        let path = || prop_oneof![Just(String::new()), "(/[ab0-3~-]{0,2}){1,3}", "[ab]"];
        let op = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]);
        (op, path(), path(), any_json())
            .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_patch_can_make_it_panic(record in any_json(), operations in prop::collection::vec(any_operation(), 0..6), other in any_json()) {
            let _ = patched(record.clone(), Value::from(operations));
            let _ = patched(record.clone(), other.clone());
            let mut merged = record;
            let _ = merge_patch(&mut merged, &other);
        }
    }
}
