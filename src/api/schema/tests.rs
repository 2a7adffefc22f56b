use super::*;
use crate::api::status::ApiError;
use crate::resource::{kind, kinds};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSON, JSONSchemaProps};
use proptest::prelude::*;

fn workspace(spec: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "w", "namespace": "p"}, "spec": spec})
}

fn told(def: &str, mut record: Value) -> Vec<String> {
    match prepare(kind(def).unwrap(), &mut record, FieldValidation::Strict) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn defaults_are_filled_in_and_nulls_go() {
    let mut record = workspace(json!({"owner": "o", "routeDomain": null, "branch": null}));
    assert_eq!(prepare(kind("Workspace").unwrap(), &mut record, FieldValidation::Strict), Ok(vec![]));
    let expected = json!({"owner": "o", "branch": "main", "running": true, "visibility": "PRIVATE", "pinned": false, "kept": false, "wakeOnVisit": false});
    assert_eq!(record["spec"], expected);
}

#[test]
fn pruning_for_an_apply_fills_nothing_in_and_misses_nothing() {
    let mut record = workspace(json!({"routeDomain": null, "typo": 1}));
    let warnings = prune(kind("Workspace").unwrap(), &mut record, FieldValidation::Warn).unwrap();
    assert_eq!(warnings, ["unknown field \"spec.typo\""]);
    assert_eq!(record["spec"], json!({}));
}

#[test]
fn an_unknown_field_is_named_and_the_likely_one_suggested() {
    let mut record = workspace(json!({"owner": "o", "brnch": "x", "env": {"A": "1"}}));
    record["metadata"]["lables"] = json!({});
    let errors = prepare(kind("Workspace").unwrap(), &mut record, FieldValidation::Strict).unwrap_err();
    let status = ApiError::invalid(kind("Workspace").unwrap(), "w", &errors).to_status();
    assert_eq!(
        status["message"],
        "Workspace in version \"v1\" cannot be handled as a Workspace: strict decoding error: \
         unknown field \"spec.brnch\", did you mean \"spec.branch\"?, \
         unknown field \"metadata.lables\", did you mean \"metadata.labels\"?"
    );
    assert_eq!(status["code"], 400);
    assert_eq!(status["details"]["causes"][0]["field"], "spec.brnch");
}

#[test]
fn an_unknown_field_in_a_list_item_has_its_index() {
    let spec = json!({"displayName": "P", "owner": "o", "template": "t",
        "repositories": [{"name": "a", "url": "https://x/a"}, {"name": "b", "url": "https://x/b", "nope": 1}]});
    let record = json!({"metadata": {"name": "p"}, "spec": spec});
    assert_eq!(
        told("Project", record),
        ["spec.repositories[1].nope: Unknown field: unknown field \"spec.repositories[1].nope\""]
    );
}

#[test]
fn ignored_and_warned_fields_are_dropped() {
    for (mode, warnings) in [(FieldValidation::Ignore, 0), (FieldValidation::Warn, 1)] {
        let mut record = workspace(json!({"owner": "o", "zzz": {"deep": 1}}));
        assert_eq!(prepare(kind("Workspace").unwrap(), &mut record, mode).unwrap().len(), warnings);
        assert_eq!(record["spec"].get("zzz"), None);
    }
}

#[test]
fn wrong_values_are_named_with_what_is_allowed() {
    let record = workspace(json!({"running": "yes", "visibility": "HIDDEN", "env": {"A": 1, "B": null}}));
    assert_eq!(
        told("Workspace", record),
        [
            "spec.owner: Required value: a string: Name of the `User` it belongs to.",
            "spec.env[A]: Invalid value: 1: spec.env[A] in body must be of type string: \"integer\"",
            "spec.env[B]: Invalid value: null: spec.env[B] in body must be of type string: \"null\"",
            "spec.running: Invalid value: \"yes\": spec.running in body must be of type boolean: \"string\"",
            "spec.visibility: Unsupported value: \"HIDDEN\": supported values: \"PUBLIC\", \"PRIVATE\"",
        ]
    );
}

#[test]
fn ports_are_between_1_and_65535() {
    for (port, why) in [(json!(0), "should be greater than or equal to 1"), (json!(65536), "must be between 0 and 65535")] {
        let record = json!({"metadata": {"name": "t"}, "spec": {"ports": [{"name": "web", "port": port}]}});
        let told = told("Template", record);
        assert_eq!(told, [format!("spec.ports[0].port: Invalid value: {port}: spec.ports[0].port in body {why}")]);
    }
    let mut record = json!({"metadata": {"name": "t"}, "spec": {"ports": [{"name": "web", "port": 80.0}]}});
    prepare(kind("Template").unwrap(), &mut record, FieldValidation::Strict).unwrap();
    assert_eq!(record["spec"]["ports"][0]["port"], json!(80));
}

#[test]
fn a_condition_needs_a_time() {
    let mut record = workspace(json!({"owner": "o"}));
    record["status"] = json!({"conditions": [{"type": "A", "status": "True", "reason": "R", "message": "",
        "lastTransitionTime": "yesterday"}]});
    assert_eq!(
        told("Workspace", record),
        ["status.conditions[0].lastTransitionTime: Invalid value: \"yesterday\": status.conditions[0].lastTransitionTime \
          in body must be of type date-time, such as \"2026-01-31T12:00:00Z\""]
    );
}

#[test]
fn names_are_checked_and_cluster_kinds_have_no_namespace() {
    let with = |metadata: Value| json!({"metadata": metadata, "spec": {"email": "a@b.c"}});
    assert!(told("User", with(json!({"name": "a`)||Host(`x"})))[0].starts_with("metadata.name: Invalid value"));
    assert!(told("User", with(json!({})))[0].contains("name or generateName is required"));
    assert!(told("User", with(json!({"generateName": "user-"}))).is_empty());
    assert!(told("User", with(json!({"name": "a", "namespace": "n"})))[0].starts_with("metadata.namespace: Forbidden"));
    assert!(told("User", json!({"spec": {"email": "a@b.c"}}))[0].starts_with("metadata.name: Required"));
    assert!(told("User", with(json!(null)))[0].starts_with("metadata: Invalid value"));
}

#[test]
fn labels_annotations_finalizers_and_owners_are_checked() {
    let with = |key: &str, value: Value| {
        let mut record = workspace(json!({"owner": "o"}));
        record["metadata"][key] = value;
        told("Workspace", record)
    };
    assert!(with("labels", json!({"a/b/c": "x"}))[0].starts_with("metadata.labels: Invalid value: \"a/b/c\""));
    assert!(with("labels", json!({"a": "x y"}))[0].starts_with("metadata.labels[a]: Invalid value"));
    assert!(with("labels", json!({"a": 1}))[0].contains("must be of type string"));
    assert!(with("labels", json!({"app.kubernetes.io/name": "x", "a": ""})).is_empty());
    assert!(with("annotations", json!({"k": "x".repeat(300_000)}))[0].contains("262144"));
    assert!(with("finalizers", json!(["plain"]))[0].contains("fully qualified"));
    assert!(with("finalizers", json!(["devsanctum.io/workspace", "foregroundDeletion"])).is_empty());
    let owner = json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "controller": true});
    assert!(with("ownerReferences", json!([owner, owner]))[0].contains("Only one reference"));
    assert!(with("ownerReferences", json!([{"uid": "u"}]))[0].contains("metadata.ownerReferences[0].apiVersion: Required"));
    assert!(with("creationTimestamp", json!(null)).is_empty());
}

#[test]
fn kind_and_version_are_those_of_the_path() {
    let mut record = workspace(json!({"owner": "o"}));
    record["kind"] = json!("Project");
    assert_eq!(told("Workspace", record), ["kind: Invalid value: \"Project\": must be \"Workspace\" here"]);
    let mut record = json!({"metadata": {"name": "w"}, "spec": {"owner": "o"}});
    prepare(kind("Workspace").unwrap(), &mut record, FieldValidation::Strict).unwrap();
    assert_eq!((&record["apiVersion"], &record["kind"]), (&json!("devsanctum.io/v1"), &json!("Workspace")));
}

#[test]
fn depth_size_and_nul_are_capped() {
    let deep = (0..70).fold(json!(1), |below, _| json!([below]));
    assert!(told("Workspace", deep)[0].contains("deeper than 64"));
    assert!(told("Workspace", json!({"a": vec![0; 100_001]}))[0].contains("more than 100000 values"));
    for (spec, place) in [
        (json!({"owner": "a\0b"}), "spec.owner: "),
        (json!({"owner": "a", "env": {"A": "\0"}}), "spec.env.A: "),
        (json!({"owner": "a", "env": {"A\0": "b"}}), "spec.env: "),
    ] {
        let told = &told("Workspace", workspace(spec))[0];
        assert!(told.starts_with(place) && told.contains("NUL"), "{told}");
    }
    let many: serde_json::Map<String, Value> = (0..5000).map(|i| (format!("x{i}"), json!(1))).collect();
    assert!(told("Workspace", workspace(many.into())).len() <= MAX_TOLD);
}

#[test]
fn a_secrets_value_is_in_no_error() {
    let record = json!({"metadata": {"name": "s", "namespace": "p"}, "spec": {"data": {"k": {"hunter": "2"}, "n": 31337}}});
    let text = told("Secret", record).join("\n");
    assert!(text.contains("spec.data[n]") && !text.contains("31337") && !text.contains("hunter"), "{text}");
}

#[test]
fn a_secrets_null_asks_for_removal_and_stays() {
    let mut record = json!({"metadata": {"name": "s", "namespace": "p"}, "spec": {"data": {"k": null}}});
    prepare(kind("Secret").unwrap(), &mut record, FieldValidation::Strict).unwrap();
    assert_eq!(record["spec"]["data"], json!({"k": null}));
}

#[test]
fn built_in_kinds_keep_what_their_clients_write() {
    let mut record =
        json!({"metadata": {"name": "l.17abc", "namespace": "n"}, "spec": {"holderIdentity": "x"}, "extra": [1, null]});
    let before = record["extra"].clone();
    prepare(kind("Lease").unwrap(), &mut record, FieldValidation::Strict).unwrap();
    assert_eq!(record["extra"], before);
}

#[test]
fn numbers_strings_and_lists_keep_their_bounds() {
    let schema = |json: Value| serde_json::from_value::<JSONSchemaProps>(json).unwrap();
    let wrong = |s: Value, v: Value| {
        let mut errors = FieldErrors::default();
        validate::validate(&schema(s), &v, Path::Root.field("x"), &mut errors);
        errors.0.into_iter().map(|e| e.detail.replace("x in body ", "")).collect::<Vec<_>>()
    };
    for (s, v, expected) in [
        (json!({"type": "number", "minimum": 1, "exclusiveMinimum": true}), json!(1), "should be greater than 1"),
        (json!({"type": "number", "maximum": 1.5}), json!(2), "should be less than or equal to 1.5"),
        (json!({"type": "number", "maximum": 2, "exclusiveMaximum": true}), json!(2), "should be less than 2"),
        (json!({"type": "integer", "multipleOf": 5}), json!(7), "should be a multiple of 5"),
        (json!({"type": "string", "pattern": "^a+$"}), json!("b"), "should match '^a+$'"),
        (json!({"type": "string", "minLength": 2}), json!("é"), "should be at least 2 chars long"),
        (json!({"type": "string", "maxLength": 1}), json!("ab"), "should be at most 1 chars long"),
        (json!({"type": "array", "minItems": 1}), json!([]), "should have at least 1 items"),
        (json!({"type": "array", "maxItems": 1}), json!([1, 2]), "should have at most 1 items"),
        (json!({"type": "object", "maxProperties": 0}), json!({"a": 1}), "should have at most 0 properties"),
        (json!({"x-kubernetes-int-or-string": true}), json!(true), "must be of type integer or string: \"boolean\""),
        (json!({"type": "string", "nullable": false}), json!(null), "must be of type string: \"null\""),
    ] {
        assert_eq!(wrong(s, v), [expected]);
    }
    assert!(wrong(json!({"x-kubernetes-int-or-string": true}), json!("80%")).is_empty());
    assert!(wrong(json!({"type": "string", "nullable": true, "enum": ["a"]}), json!(null)).is_empty());
    assert_eq!(wrong(json!({"type": "array", "uniqueItems": true}), json!([1, 1])), [""]);
    assert_eq!(wrong(json!({"oneOf": [{"type": "string"}, {"minLength": 1}]}), json!("a")).len(), 1);
}

#[test]
fn defaults_fit_their_own_schemas() {
    fn walk(kind: &str, schema: &JSONSchemaProps) {
        if let Some(JSON(default)) = schema.default.as_ref().filter(|d| !d.0.is_null()) {
            let (mut value, mut errors) = (default.clone(), FieldErrors::default());
            Pruner::defaulting().value(schema, &mut value, Path::Root);
            validate::validate(schema, &value, Path::Root, &mut errors);
            assert!(errors.0.is_empty(), "{kind}: {default}: {:?}", errors.0);
        }
        schema.properties.iter().flatten().for_each(|(_, field)| walk(kind, field));
        schema.pattern.iter().for_each(|p| assert!(regex_lite::Regex::new(p).is_ok(), "{kind}: {p}"));
    }
    kinds().iter().for_each(|k| walk(&k.kind, &k.schema));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("metadata".to_owned()),
        Just("spec".into()),
        Just("status".into()),
        Just("conditions".into()),
        Just("ports".into()),
        Just("port".into()),
        Just("name".into()),
        Just("labels".into()),
        Just("owner".into()),
        Just("env".into()),
        Just("ownerReferences".into()),
        Just("limits".into()),
        "\\PC{0,5}",
    ];
    leaf.prop_recursive(6, 80, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_json_can_make_it_panic(record in any_json(), which in 0..kinds().len()) {
        let def = &kinds()[which];
        let mut pruned = record.clone();
        let _ = prune(def, &mut pruned, FieldValidation::Warn);
        let mut prepared = record;
        if let Err(errors) = prepare(def, &mut prepared, FieldValidation::Strict) {
            ApiError::invalid(def, "x", &errors).to_status();
        }
    }

    #[test]
    fn preparing_twice_is_preparing_once(spec in any_json()) {
        let def = kind("Workspace").unwrap();
        let mut record = workspace(spec);
        if let Some(spec) = record["spec"].as_object_mut() {
            spec.insert("owner".into(), json!("o"));
        }
        if prepare(def, &mut record, FieldValidation::Ignore).is_ok() {
            let once = record.clone();
            prop_assert_eq!(prepare(def, &mut record, FieldValidation::Strict), Ok(vec![]));
            prop_assert_eq!(record, once);
        }
    }
}
