use super::*;
use crate::cli::manifest::position::Source;
use kube::core::Status;
use std::sync::Arc;

const TEXT: &str =
    "apiVersion: devsanctum.io/v1\nkind: Template\nmetadata:\n  name: web\nspec:\n  ports:\n    - name: http\n      port: 0\n";

fn documents(text: &str) -> Vec<Document> {
    manifest::parse(&Arc::new(Source { name: "t.yaml".into(), text: text.into() })).0
}

fn status(value: Value) -> Status {
    serde_json::from_value(value).unwrap()
}

fn records(documents: &[Document]) -> Vec<Record<'_>> {
    documents.iter().map(|document| Record { document, namespace: None, value: document.value.clone() }).collect()
}

#[test]
fn a_refused_field_is_shown_at_its_place() {
    let documents = documents(TEXT);
    for message in
        ["Invalid value: 0: must be between 1 and 65535", "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535"]
    {
        let status = status(json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "…",
            "details": {"causes": [{"reason": "FieldValueInvalid", "field": "spec.ports[0].port", "message": message}]}}));
        let failure = refusal::all(&[refusal::of(&records(&documents)[0], &status)], false);
        let expected = "t.yaml:8:13: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535\n    8 |       port: 0\n      |             ^";
        assert_eq!(failure.message, expected);
    }
}

#[test]
fn a_refusal_without_fields_names_the_record() {
    let documents = documents(TEXT);
    let status = status(json!({"status": "Failure", "code": 409, "reason": "Conflict", "message": "the record changed"}));
    let failure = refusal::all(&[refusal::of(&records(&documents)[0], &status)], false);
    assert!(failure.message.starts_with("t.yaml:2:7: Template \"web\": the record changed"), "{}", failure.message);
    assert!(failure.hint.unwrap().contains("--force-conflicts"));
}

#[test]
fn an_atomic_refusal_finds_the_record_among_many() {
    let documents = documents(&format!("{TEXT}---\n{}", TEXT.replace("web", "api")));
    let causes = json!([{"reason": "x", "field": "documents[1].spec.ports[0].port", "message": "Invalid value: 0: no"}]);
    let status =
        status(json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "", "details": {"causes": causes}}));
    let failure = atomic::refused_for_tests(&records(&documents), &status);
    assert!(failure.message.starts_with("t.yaml:17:13: spec.ports[0].port: Invalid value: 0: no"), "{}", failure.message);
}

#[test]
fn the_rules_are_checked_without_a_server() {
    let failure = offline(&documents(TEXT)).unwrap_err();
    assert!(
        failure.message.starts_with("t.yaml:8:13: spec.ports[0].port: Invalid value: 0: must be between"),
        "{}",
        failure.message
    );
    let failure = offline(&documents(&TEXT.replace("port: 0", "port: many"))).unwrap_err();
    assert!(failure.message.starts_with("t.yaml:5:1: spec: Invalid value: invalid type: string \"many\""), "{}", failure.message);
}

#[test]
fn outcomes_are_told_from_version_and_content() {
    let version =
        |uid: &str, rv: &str, x: i64| json!({"metadata": {"uid": uid, "resourceVersion": rv, "generation": 1}, "spec": {"x": x}});
    assert_eq!(outcome(None, &version("a", "1", 1)), Outcome::Created);
    assert_eq!(outcome(Some(&version("a", "1", 1)), &version("a", "1", 1)), Outcome::Unchanged);
    assert_eq!(outcome(Some(&version("a", "1", 1)), &version("a", "2", 2)), Outcome::Changed);
    assert_eq!(outcome(Some(&version("a", "1", 1)), &version("a", "2", 1)), Outcome::Unchanged, "a dry run counts on");
    assert_eq!(outcome(Some(&version("a", "1", 1)), &version("b", "2", 1)), Outcome::Created, "deleted meanwhile");
}

#[test]
fn labels_choose_among_manifests() {
    let record = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
    for (selector, fits) in [
        ("app=web", true),
        ("app==web,tier=front", true),
        ("app!=web", false),
        ("app", true),
        ("!app", false),
        ("x!=y", true),
        ("app=a", false),
    ] {
        assert_eq!(Labels::parse(selector).unwrap().fit(&record), fits, "{selector}");
    }
    assert!(Labels::parse("app in (a,b)").is_err() && Labels::parse("=x").is_err());
}

#[test]
fn pruning_needs_a_set() {
    let args = ApplyArgs {
        files: crate::cli::args::Files { files: vec!["x".into()], recursive: false },
        dry_run: DryRun::None,
        server_side: false,
        force_conflicts: false,
        atomic: false,
        prune: true,
        set: None,
        selector: None,
    };
    assert_eq!(check(&args).unwrap_err().code, 2);
    assert!(check(&ApplyArgs { set: Some("shop".into()), ..args }).is_ok());
}
