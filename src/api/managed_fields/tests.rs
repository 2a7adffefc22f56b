use super::*;
use crate::resource::kind;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSON, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn text() -> JSONSchemaProps {
    JSONSchemaProps { type_: Some("string".into()), ..Default::default() }
}

fn object(fields: &[(&str, JSONSchemaProps)]) -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("object".into()),
        properties: Some(fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect()),
        ..Default::default()
    }
}

fn map_of(schema: JSONSchemaProps) -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("object".into()),
        additional_properties: Some(JSONSchemaPropsOrBool::Schema(Box::new(schema))),
        ..Default::default()
    }
}

fn list(kind: &str, keys: &[&str], item: JSONSchemaProps) -> JSONSchemaProps {
    JSONSchemaProps {
        type_: Some("array".into()),
        items: Some(JSONSchemaPropsOrArray::Schema(Box::new(item))),
        x_kubernetes_list_type: Some(kind.into()),
        x_kubernetes_list_map_keys: (!keys.is_empty()).then(|| keys.iter().map(|k| (*k).to_owned()).collect()),
        ..Default::default()
    }
}

/// A kind with every sort of field.
fn schema() -> JSONSchemaProps {
    let item = object(&[("name", text()), ("value", text()), ("note", text())]);
    let mut atomic = object(&[("x", text()), ("y", text())]);
    atomic.x_kubernetes_map_type = Some("atomic".into());
    let mut defaulted = text();
    defaulted.default = Some(JSON(json!("d")));
    let spec = object(&[
        ("a", text()),
        ("b", text()),
        ("limits", object(&[("cpu", text()), ("memory", text())])),
        ("env", map_of(text())),
        ("nested", map_of(object(&[("v", text())]))),
        ("plain", list("atomic", &[], text())),
        ("set", list("set", &[], text())),
        ("items", list("map", &["name"], item)),
        ("atomic", atomic),
        ("defaulted", defaulted),
    ]);
    object(&[("spec", spec), ("status", object(&[("phase", text())]))])
}

fn record(spec: Value) -> Value {
    json!({"apiVersion": "t/v1", "kind": "T", "metadata": {"name": "x"}, "spec": spec})
}

fn by(live: Option<&Value>, spec: Value, manager: &str, second: i64) -> Result<Value, Vec<Conflict>> {
    apply(live, &record(spec), manager, "", false, &schema(), at(second))
}

fn forced(live: &Value, spec: Value, manager: &str) -> Value {
    apply(Some(live), &record(spec), manager, "", true, &schema(), at(9)).unwrap()
}

fn update(old: Option<&Value>, mut new: Value, manager: &str, second: i64) -> Value {
    if let Some(fields) = old.and_then(|o| o.pointer("/metadata/managedFields")) {
        new["metadata"]["managedFields"] = fields.clone();
    }
    track_update(old, &mut new, manager, "", &schema(), at(second));
    new
}

fn fields(record: &Value, manager: &str) -> Value {
    let entries = record["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

fn paths(conflicts: Vec<Conflict>) -> Vec<String> {
    conflicts.into_iter().map(|c| c.path).collect()
}

#[test]
fn an_applier_owns_what_it_names_and_nothing_else() {
    let live = by(None, json!({"a": "1", "limits": {"cpu": "2"}, "env": {"K": "v"}}), "one", 0).unwrap();
    assert_eq!(live["spec"], json!({"a": "1", "limits": {"cpu": "2"}, "env": {"K": "v"}}));
    assert_eq!(
        live["metadata"]["managedFields"],
        json!([{
            "manager": "one", "operation": "Apply", "apiVersion": "t/v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:a": {}, "f:limits": {"f:cpu": {}}, "f:env": {"f:K": {}}}},
        }])
    );
}

#[test]
fn a_creator_owns_the_containers_too() {
    let new = update(None, record(json!({"a": "1", "env": {"K": "v"}, "plain": ["p"]})), "creator", 0);
    let expected = json!({"f:spec": {".": {}, "f:a": {}, "f:env": {".": {}, "f:K": {}}, "f:plain": {}}});
    assert_eq!(fields(&new, "creator"), expected);
    assert_eq!(new["metadata"]["managedFields"][0]["operation"], "Update");
}

#[test]
fn a_field_no_longer_applied_goes_unless_another_owns_it() {
    let live = by(None, json!({"a": "1", "b": "1", "env": {"X": "1", "Y": "1"}}), "one", 0).unwrap();
    let live = by(Some(&live), json!({"b": "1", "env": {"Y": "1"}}), "two", 1).unwrap();
    let live = by(Some(&live), json!({"env": {"X": "1"}}), "one", 2).unwrap();
    assert_eq!(live["spec"], json!({"b": "1", "env": {"X": "1", "Y": "1"}}));
    let live = by(Some(&live), json!({"b": "1"}), "two", 3).unwrap();
    assert_eq!(live["spec"], json!({"b": "1", "env": {"X": "1"}}));
}

#[test]
fn an_object_goes_with_the_last_field_anyone_owned_in_it() {
    let live = by(None, json!({"a": "1", "limits": {"cpu": "1"}}), "one", 0).unwrap();
    let gone = by(Some(&live), json!({"a": "1"}), "one", 1).unwrap();
    assert_eq!(gone["spec"], json!({"a": "1"}));
    let shared = by(Some(&live), json!({"limits": {"memory": "1"}}), "two", 1).unwrap();
    let kept = by(Some(&shared), json!({"a": "1"}), "one", 2).unwrap();
    assert_eq!(kept["spec"], json!({"a": "1", "limits": {"memory": "1"}}));
}

#[test]
fn changing_what_another_owns_is_a_conflict_and_agreeing_is_not() {
    let live = by(None, json!({"a": "1", "plain": ["x"]}), "one", 0).unwrap();
    assert_eq!(paths(by(Some(&live), json!({"a": "2", "plain": ["y"]}), "two", 1).unwrap_err()), [".spec.a", ".spec.plain"]);
    let shared = by(Some(&live), json!({"a": "1"}), "two", 1).unwrap();
    assert_eq!(fields(&shared, "two"), json!({"f:spec": {"f:a": {}}}));
    assert_eq!(fields(&shared, "one"), json!({"f:spec": {"f:a": {}, "f:plain": {}}}));
    // And now neither of the two can change it alone.
    assert_eq!(paths(by(Some(&shared), json!({"a": "3", "plain": ["x"]}), "one", 2).unwrap_err()), [".spec.a"]);
}

#[test]
fn force_takes_the_field_over() {
    let live = by(None, json!({"a": "1", "b": "1"}), "one", 0).unwrap();
    let live = forced(&live, json!({"a": "2"}), "two");
    assert_eq!(live["spec"], json!({"a": "2", "b": "1"}));
    assert_eq!(fields(&live, "one"), json!({"f:spec": {"f:b": {}}}));
    let live = forced(&live, json!({"a": "3", "b": "3"}), "two");
    assert_eq!(fields(&live, "one"), Value::Null);
}

#[test]
fn an_update_takes_ownership_and_the_applier_then_conflicts() {
    let live = by(None, json!({"a": "1", "b": "1"}), "one", 0).unwrap();
    let mut edited = live.clone();
    edited["spec"]["a"] = json!("2");
    let edited = update(Some(&live), edited, "kubectl-edit", 5);
    assert_eq!(fields(&edited, "one"), json!({"f:spec": {"f:b": {}}}));
    assert_eq!(fields(&edited, "kubectl-edit"), json!({"f:spec": {"f:a": {}}}));
    let conflicts = by(Some(&edited), json!({"a": "1", "b": "1"}), "one", 6).unwrap_err();
    assert_eq!(
        conflict_message(&conflicts),
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using t/v1 at 2026-01-01T00:00:05Z: .spec.a"
    );
}

#[test]
fn a_message_with_several_conflicts_lists_them_by_owner() {
    let live = by(None, json!({"a": "1"}), "one", 0).unwrap();
    let live = by(Some(&live), json!({"b": "1", "env": {"K": "1"}}), "two", 0).unwrap();
    let conflicts = by(Some(&live), json!({"a": "2", "b": "2", "env": {"K": "2"}}), "three", 1).unwrap_err();
    assert_eq!(
        conflict_message(&conflicts),
        "Apply failed with 3 conflicts: conflicts with \"one\":\n- .spec.a\nconflicts with \"two\":\n- .spec.b\n- .spec.env.K"
    );
}

#[test]
fn a_removed_field_leaves_everybody() {
    let live = by(None, json!({"a": "1", "b": "1"}), "one", 0).unwrap();
    let live = by(Some(&live), json!({"a": "1"}), "two", 0).unwrap();
    let mut new = live.clone();
    new["spec"].as_object_mut().unwrap().remove("a");
    let new = update(Some(&live), new, "three", 1);
    assert_eq!(fields(&new, "one"), json!({"f:spec": {"f:b": {}}}));
    assert_eq!(fields(&new, "two"), Value::Null);
    assert_eq!(fields(&new, "three"), Value::Null);
}

#[test]
fn items_of_a_keyed_list_have_owners_of_their_own() {
    let live = by(None, json!({"items": [{"name": "a", "value": "1"}, {"name": "b", "value": "1"}]}), "one", 0).unwrap();
    let live = by(Some(&live), json!({"items": [{"name": "c", "value": "2"}, {"name": "a", "note": "n"}]}), "two", 1).unwrap();
    assert_eq!(
        live["spec"]["items"],
        json!([{"name": "c", "value": "2"}, {"name": "a", "value": "1", "note": "n"}, {"name": "b", "value": "1"}])
    );
    assert_eq!(
        fields(&live, "two"),
        json!({"f:spec": {"f:items": {
            "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:note": {}},
            "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:value": {}},
        }}})
    );
    let conflict = by(Some(&live), json!({"items": [{"name": "b", "value": "9"}]}), "two", 2).unwrap_err();
    assert_eq!(paths(conflict), [".spec.items[name=\"b\"].value"]);
    // Item `a` is still named by `two`; `b` is nobody else's and goes.
    let live = by(Some(&live), json!({"a": "1"}), "one", 3).unwrap();
    assert_eq!(live["spec"]["items"], json!([{"name": "c", "value": "2"}, {"name": "a", "note": "n"}]));
}

#[test]
fn members_of_a_set_have_owners_of_their_own() {
    let live = by(None, json!({"set": ["a", "b"]}), "one", 0).unwrap();
    let live = by(Some(&live), json!({"set": ["b", "c"]}), "two", 1).unwrap();
    assert_eq!(live["spec"]["set"], json!(["a", "b", "c"]));
    let live = by(Some(&live), json!({"a": "1"}), "one", 2).unwrap();
    assert_eq!(live["spec"]["set"], json!(["b", "c"]));
    assert_eq!(fields(&live, "two"), json!({"f:spec": {"f:set": {"v:\"b\"": {}, "v:\"c\"": {}}}}));
}

#[test]
fn atomic_objects_and_lists_go_as_a_whole() {
    let live = by(None, json!({"atomic": {"x": "1", "y": "1"}, "plain": ["a", "b"]}), "one", 0).unwrap();
    assert_eq!(fields(&live, "one"), json!({"f:spec": {"f:atomic": {}, "f:plain": {}}}));
    let live = by(Some(&live), json!({"atomic": {"x": "2"}, "plain": ["c"]}), "one", 1).unwrap();
    assert_eq!(live["spec"], json!({"atomic": {"x": "2"}, "plain": ["c"]}));
}

#[test]
fn map_keys_are_owned_beside_what_they_hold() {
    let live = by(None, json!({"nested": {"k": {"v": "1"}}}), "one", 0).unwrap();
    assert_eq!(fields(&live, "one"), json!({"f:spec": {"f:nested": {"f:k": {".": {}, "f:v": {}}}}}));
}

#[test]
fn an_empty_object_is_owned() {
    let live = by(None, json!({"env": {}}), "one", 0).unwrap();
    assert_eq!(fields(&live, "one"), json!({"f:spec": {"f:env": {}}}));
    assert_eq!(live["spec"], json!({"env": {}}));
}

#[test]
fn applying_the_same_again_changes_nothing_not_even_the_time() {
    let live = by(None, json!({"a": "1", "set": ["x"], "items": [{"name": "i"}]}), "one", 0).unwrap();
    let again = by(Some(&live), json!({"a": "1", "set": ["x"], "items": [{"name": "i"}]}), "one", 100).unwrap();
    assert_eq!(again, live);
    let untouched = update(Some(&live), live.clone(), "someone", 100);
    assert_eq!(untouched, live);
}

#[test]
fn defaults_filled_in_later_belong_to_nobody() {
    let mut live = by(None, json!({"a": "1"}), "one", 0).unwrap();
    live["spec"]["defaulted"] = json!("d");
    let again = by(Some(&live), json!({"a": "1"}), "one", 1).unwrap();
    assert_eq!(again, live);
    let set = by(Some(&live), json!({"defaulted": "mine"}), "two", 1).unwrap();
    assert_eq!(set["spec"]["defaulted"], "mine");
}

#[test]
fn conditions_belong_to_their_writers_by_type() {
    let schema = &kind("Workspace").unwrap().schema;
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": ""});
    let live = json!({"apiVersion": "devsanctum.io/v1", "metadata": {"name": "w"}, "spec": {"owner": "o"}});
    let status = |conditions: Value| json!({"apiVersion": "devsanctum.io/v1", "metadata": {"name": "w"}, "status": {"conditions": conditions}});
    let one = apply(Some(&live), &status(json!([condition("A", "True")])), "one", "status", false, schema, at(0)).unwrap();
    let two = apply(Some(&one), &status(json!([condition("B", "True")])), "two", "status", false, schema, at(1)).unwrap();
    assert_eq!(two["status"]["conditions"], json!([condition("A", "True"), condition("B", "True")]));
    let refused = apply(Some(&two), &status(json!([condition("A", "False")])), "two", "status", false, schema, at(2));
    assert_eq!(paths(refused.unwrap_err()), [".status.conditions[type=\"A\"].status"]);
    let entry = two["metadata"]["managedFields"].as_array().unwrap().iter().find(|e| e["manager"] == "two").unwrap();
    assert_eq!(entry["subresource"], "status");
}

#[test]
fn status_is_applied_through_its_subresource_alone() {
    let both = json!({"apiVersion": "t/v1", "metadata": {"name": "x", "labels": {"l": "1"}}, "spec": {"a": "1"}, "status": {"phase": "P"}});
    let live = apply(None, &both, "one", "", false, &schema(), at(0)).unwrap();
    assert_eq!(live.get("status"), None);
    assert_eq!(fields(&live, "one"), json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {"f:a": {}}}));
    let status = json!({"apiVersion": "t/v1", "metadata": {"name": "x", "labels": {"l": "2"}}, "spec": {"a": "2"}, "status": {"phase": "P"}});
    let live = apply(Some(&live), &status, "two", "status", false, &schema(), at(1)).unwrap();
    assert_eq!((&live["spec"]["a"], &live["metadata"]["labels"]["l"]), (&json!("1"), &json!("1")));
    assert_eq!(fields(&live, "two"), json!({"f:status": {"f:phase": {}}}));
}

#[test]
fn what_the_server_writes_is_nobodys() {
    let mut new = record(json!({"a": "1"}));
    new["metadata"] = json!({"name": "x", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["f/x"],
        "ownerReferences": [{"uid": "o", "name": "owner"}], "annotations": {"k": "v"}});
    let new = update(None, new, "m", 0);
    assert_eq!(
        fields(&new, "m")["f:metadata"],
        json!({"f:finalizers": {".": {}, "v:\"f/x\"": {}}, "f:annotations": {".": {}, "f:k": {}},
            "f:ownerReferences": {".": {}, "k:{\"uid\":\"o\"}": {}}})
    );
    let mut later = new.clone();
    later["metadata"]["resourceVersion"] = json!("2");
    later["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    assert_eq!(fields(&update(Some(&new), later, "other", 1), "other"), Value::Null);
}

#[test]
fn a_client_may_correct_the_entries_but_not_through_a_subresource() {
    let live = by(None, json!({"a": "1"}), "one", 0).unwrap();
    let mut renamed = live.clone();
    renamed["metadata"]["managedFields"][0]["manager"] = json!("renamed");
    let mut kept = renamed.clone();
    track_update(Some(&live), &mut kept, "m", "", &schema(), at(1));
    assert_eq!(kept["metadata"]["managedFields"][0]["manager"], "renamed");
    track_update(Some(&live), &mut renamed, "m", "status", &schema(), at(1));
    assert_eq!(renamed, live);
    let mut cleared = live.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    track_update(Some(&live), &mut cleared, "m", "", &schema(), at(1));
    assert_eq!(cleared["metadata"].get("managedFields"), None);
}

#[test]
fn entries_that_cannot_be_read_or_were_left_out_do_not_count() {
    let live = by(None, json!({"a": "1"}), "one", 0).unwrap();
    for sent in [
        json!(null),
        json!([]),
        json!("x"),
        json!([{"manager": 1}]),
        json!([{"manager": "m", "operation": "Apply",
        "fieldsV1": {"bad": {}}}]),
    ] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = sent;
        track_update(Some(&live), &mut new, "m", "", &schema(), at(1));
        assert_eq!(new, live);
    }
}

#[test]
fn an_untracked_record_is_protected_at_its_first_apply() {
    let live = record(json!({"a": "1", "b": "1"}));
    let conflicts = by(Some(&live), json!({"a": "2"}), "one", 0).unwrap_err();
    assert_eq!((conflicts[0].manager.as_str(), conflicts[0].path.as_str()), ("before-first-apply", ".spec.a"));
    let live = by(Some(&live), json!({"a": "1"}), "one", 0).unwrap();
    assert_eq!(fields(&live, "one"), json!({"f:spec": {"f:a": {}}}));
}

#[test]
fn kubectl_moves_from_client_side_to_server_side_apply_without_conflicts() {
    let mut new = record(json!({"a": "1", "b": "1"}));
    let last = json!({"spec": {"a": "1", "b": "1"}}).to_string();
    new["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let live = update(None, new, "kubectl-client-side-apply", 0);
    let moved = by(Some(&live), json!({"a": "2", "b": "1"}), "kubectl", 1).unwrap();
    assert_eq!(moved["spec"]["a"], "2");
    assert_eq!(paths(by(Some(&live), json!({"a": "2"}), "other", 1).unwrap_err()), [".spec.a"]);
    // A field somebody changed since is not kubectl's own any more.
    let mut edited = live.clone();
    edited["spec"]["a"] = json!("edited");
    let edited = update(Some(&live), edited, "kubectl-edit", 1);
    assert_eq!(paths(by(Some(&edited), json!({"a": "2"}), "kubectl", 2).unwrap_err()), [".spec.a"]);
}

#[test]
fn changing_names_does_not_grow_the_record_without_end() {
    let mut live = update(None, record(json!({"env": {}})), "creator", 0);
    for i in 0..30 {
        let mut new = live.clone();
        new["spec"]["env"][format!("K{i:02}")] = json!("v");
        live = update(Some(&live), new, &format!("m{i}"), i);
    }
    assert_eq!(live["metadata"]["managedFields"].as_array().unwrap().len(), 10);
    assert!(fields(&live, "ancient-changes")["f:spec"]["f:env"]["f:K00"].is_object());
    assert!(fields(&live, "m29")["f:spec"]["f:env"]["f:K29"].is_object());
}

#[test]
fn twin_items_make_a_keyed_list_one_whole() {
    let twins = json!({"items": [{"name": "a"}, {"name": "a"}], "set": ["x", "x"]});
    let live = by(None, twins.clone(), "one", 0).unwrap();
    assert_eq!(live["spec"], twins);
    assert_eq!(fields(&live, "one"), json!({"f:spec": {"f:items": {}, "f:set": {}}}));
    let mended = by(Some(&live), json!({"items": [{"name": "a"}]}), "one", 1).unwrap();
    assert_eq!(mended["spec"], json!({"items": [{"name": "a"}]}));
}

#[test]
fn a_schemaless_kind_has_granular_objects_and_whole_lists() {
    let schema = &kind("Lease").unwrap().schema;
    let lease = |spec: Value| json!({"apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "l"}, "spec": spec});
    let one = apply(None, &lease(json!({"a": [1], "m": {"x": 1}})), "one", "", false, schema, at(0)).unwrap();
    assert_eq!(fields(&one, "one"), json!({"f:spec": {".": {}, "f:a": {}, "f:m": {".": {}, "f:x": {}}}}));
    let two = apply(Some(&one), &lease(json!({"m": {"y": 1}})), "two", "", false, schema, at(1)).unwrap();
    assert_eq!(two["spec"], json!({"a": [1], "m": {"x": 1, "y": 1}}));
}

fn set(value: Value) -> FieldSet {
    FieldSet::parse(value).unwrap()
}

#[test]
fn set_operations_follow_membership_not_containment() {
    let a = set(json!({"f:spec": {".": {}, "f:x": {}, "f:y": {}}}));
    let b = set(json!({"f:spec": {"f:x": {}}, "f:z": {}}));
    assert_eq!(a.intersection(&b), set(json!({"f:spec": {"f:x": {}}})));
    let mut rest = a.clone();
    rest.subtract(&b);
    assert_eq!(rest, set(json!({"f:spec": {".": {}, "f:y": {}}})));
    let mut only_self = a.clone();
    only_self.subtract(&set(json!({"f:spec": {"f:x": {}, "f:y": {}}})));
    assert_eq!(only_self, set(json!({"f:spec": {}})));
    let mut all = b.clone();
    all.union(&a);
    assert_eq!(all, set(json!({"f:spec": {".": {}, "f:x": {}, "f:y": {}}, "f:z": {}})));
    assert_eq!(a.paths(), [".spec", ".spec.x", ".spec.y"]);
    assert_eq!(b.paths(), [".spec.x", ".z"]);
}

#[test]
fn what_is_no_set_is_refused() {
    for bad in [json!([]), json!({"x": {}}), json!({"f:a": 1}), json!({"k:nope": {}}), json!({"i:-1": {}}), json!({".": {}})] {
        assert!(FieldSet::parse(bad.clone()).is_none(), "{bad}");
    }
    let deep = (0..100).fold(json!({}), |below, _| json!({"f:a": below}));
    assert!(FieldSet::parse(deep).is_none());
}

/// Any JSON, including what no schema allows.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    let keys = prop_oneof![
        Just("spec"),
        Just("status"),
        Just("metadata"),
        Just("labels"),
        Just("finalizers"),
        Just("ownerReferences"),
        Just("conditions"),
        Just("type"),
        Just("uid"),
        Just("name"),
        Just("items"),
        Just("set"),
        Just("env"),
        Just("limits"),
        Just("a"),
        Just("managedFields"),
        Just("")
    ];
    leaf.prop_recursive(5, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.clone().prop_map(str::to_owned), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    any_json().prop_map(|value| owned(Shape::root(&JSONSchemaProps::default(), Part::All), &json!({"spec": value})))
}

/// A record with a spec of the test schema.
fn any_spec() -> impl Strategy<Value = Value> {
    let word = "[ab]";
    let item = (word, word).prop_map(|(n, v)| json!({"name": n, "value": v}));
    let distinct = |mut v: Vec<Value>| {
        let mut seen = std::collections::BTreeSet::new();
        v.retain(|i| seen.insert(i["name"].to_string()));
        v
    };
    (
        prop::option::of(word),
        prop::option::of(word),
        prop::collection::btree_map("[xyz]", word, 0..3),
        prop::collection::btree_set("[abc]", 0..3),
        prop::collection::vec(item, 0..3).prop_map(distinct),
        prop::option::of(word),
    )
        .prop_map(|(a, cpu, env, set, items, plain)| {
            let mut spec = json!({});
            a.into_iter().for_each(|a| spec["a"] = json!(a));
            cpu.into_iter().for_each(|c| spec["limits"] = json!({"cpu": c}));
            plain.into_iter().for_each(|p| spec["plain"] = json!([p]));
            for (key, value) in [("env", json!(env)), ("set", json!(set)), ("items", json!(items))] {
                if value.as_array().is_none_or(|l| !l.is_empty()) && value.as_object().is_none_or(|m| !m.is_empty()) {
                    spec[key] = value;
                }
            }
            spec
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_json_can_make_it_panic(old in any_json(), new in any_json(), applied in any_json()) {
        let mut tracked = new.clone();
        track_update(Some(&old), &mut tracked, "m", "", &schema(), at(0));
        let _ = apply(Some(&tracked), &applied, "n", "", false, &schema(), at(1));
        let merged = apply(Some(&tracked), &applied, "n", "", true, &schema(), at(1));
        prop_assert!(merged.is_ok());
        let _ = apply(None, &applied, "kubectl", "status", false, &kind("Workspace").unwrap().schema, at(1));
    }

    #[test]
    fn a_set_survives_being_stored(set in any_set()) {
        prop_assert_eq!(FieldSet::parse(set.clone().into_value()), Some(set));
    }

    #[test]
    fn set_algebra_holds(a in any_set(), b in any_set()) {
        let common = a.intersection(&b);
        prop_assert_eq!(&common, &b.intersection(&a));
        let mut rest = a.clone();
        rest.subtract(&b);
        prop_assert!(rest.intersection(&b).is_empty());
        rest.union(&common);
        prop_assert_eq!(&rest, &a);
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.union(&b);
        ba.union(&a);
        prop_assert_eq!(ab, ba);
    }

    #[test]
    fn applying_twice_is_applying_once(one in any_spec(), two in any_spec()) {
        let live = by(None, one, "one", 0).unwrap();
        let once = forced(&live, two.clone(), "two");
        let again = by(Some(&once), two, "two", 50);
        prop_assert_eq!(again, Ok(once));
    }

    #[test]
    fn a_lone_applier_gets_exactly_what_it_last_applied(one in any_spec(), two in any_spec()) {
        let live = by(None, one, "one", 0).unwrap();
        let live = by(Some(&live), two.clone(), "one", 1).unwrap();
        prop_assert_eq!(&live["spec"], &two);
    }

    #[test]
    fn nobody_owns_what_is_not_there(one in any_spec(), two in any_spec(), three in any_spec()) {
        let live = by(None, one, "one", 0).unwrap();
        let live = forced(&live, two, "two");
        let mut new = live.clone();
        new["spec"] = three;
        let new = update(Some(&live), new, "three", 1);
        let there = compare(Shape::root(&schema(), Part::All), None, Some(&new)).changed;
        let mut gone = Entries::of(&new).owned();
        gone.subtract(&there);
        prop_assert_eq!(gone.paths(), Vec::<String>::new());
    }
}

/// Prints the cost of tracking a status write; `cargo test --release … -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn how_long_tracking_takes() {
    let schema = &kind("Workspace").unwrap().schema;
    let conditions = |n: i64| -> Vec<Value> {
        ["Scheduled", "ImageReady", "ContainerRunning", "Routed", "Ready"]
            .map(|t| {
                json!({"type": t, "status": "True", "reason": "Ok", "message": format!("m{n}"),
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": n})
            })
            .to_vec()
    };
    let mut live = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
        "metadata": {"name": "w", "namespace": "p", "labels": {"a": "b"}},
        "spec": {"owner": "o", "branch": "main", "running": true, "visibility": "PRIVATE", "env": {"A": "1", "B": "2"}}});
    track_update(None, &mut live, "kubectl-client-side-apply", "", schema, at(0));
    let mut with_finalizer = live.clone();
    with_finalizer["metadata"]["finalizers"] = json!(["devsanctum.io/workspace"]);
    track_update(Some(&live), &mut with_finalizer, "controller", "", schema, at(1));
    let mut live = with_finalizer;
    let rounds = 5000u32;
    let mut spent = std::time::Duration::ZERO;
    for n in 0..rounds {
        let mut new = live.clone();
        new["status"] = json!({"phase": "RUNNING", "slug": "abcdefgh", "dockerServer": "s", "conditions": conditions(n.into()),
            "services": [{"name": "web", "port": 80, "protocol": "HTTP", "url": "http://x"}], "observedGeneration": n});
        let start = std::time::Instant::now();
        track_update(Some(&live), &mut new, "controller", "status", schema, at(2));
        spent += start.elapsed();
        live = new;
    }
    println!("track_update of a status write: {:?}", spent / rounds);
}
