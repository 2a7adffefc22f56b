use super::position::Source;
use super::*;
use serde_json::json;

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "f.yaml".into(), text: text.into() })
}

fn values(text: &str) -> Vec<Value> {
    let (raws, complaints) = yaml::read(&source(text));
    assert!(complaints.is_empty(), "{:?}", complaints.iter().map(Complaint::headline).collect::<Vec<_>>());
    raws.into_iter().map(|r| r.value).collect()
}

fn complaints(text: &str) -> Vec<String> {
    parse(&source(text)).1.iter().map(Complaint::headline).collect()
}

#[test]
fn documents_of_one_text_are_read_in_order_and_empty_ones_left_out() {
    assert_eq!(
        values("---\n# nothing\n---\na: 1\n---\nb: [x, 'y', \"z\"]\n...\n"),
        [json!({"a": 1}), json!({"b": ["x", "y", "z"]})]
    );
    assert_eq!(values(""), Vec::<Value>::new());
    assert_eq!(values("\u{feff}a: b\n"), [json!({"a": "b"})]);
}

#[test]
fn json_is_read_as_it_is() {
    assert_eq!(
        values("{\n\t\"a\": [1, 2.5, null, true, \"x: y\"],\n\t\"b\":{}}\n"),
        [json!({"a": [1, 2.5, null, true, "x: y"], "b": {}})]
    );
}

#[test]
fn block_texts_keep_their_lines() {
    assert_eq!(values("a: |\n  one\n  two\nb: >-\n  one\n  two\n"), [json!({"a": "one\ntwo\n", "b": "one two"})]);
}

#[test]
fn aliases_stand_for_what_they_name() {
    assert_eq!(values("a: &x {k: [1]}\nb: *x\n"), [json!({"a": {"k": [1]}, "b": {"k": [1]}})]);
}

#[test]
fn hostile_texts_are_refused_with_the_place() {
    let record = "apiVersion: devsanctum.io/v1\nkind: Workspace\nmetadata:\n  name: a\n";
    let cases = [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: the key \"a\" stands here and on line 1; keep one of them"),
        ("1: x\n", "f.yaml:1:1: a key must be text; write \"1\" in quotes"),
        ("true: x\n", "f.yaml:1:1: a key must be text; write \"true\" in quotes"),
        ("? [a]\n: x\n", "f.yaml:1:3: a key must be text, not a map, list or alias"),
        ("a: !!int 3\n", "f.yaml:1:4: tags are not allowed (found !!int); quote a text, leave other values plain"),
        ("a: !ruby/object x\n", "f.yaml:1:4: tags are not allowed (found !ruby/object); quote a text, leave other values plain"),
        ("a: &a [*a]\n", "f.yaml:1:8: the alias stands inside the value it refers to"),
        ("<<: {a: 1}\n", "f.yaml:1:1: merge keys are not supported; write the fields out"),
        (
            "mode: 0755\n",
            "f.yaml:1:7: 0755 is octal to some YAML readers and decimal to others; quote it as text, or write the number without the leading 0",
        ),
        ("- a\n", "f.yaml:1:1: a record is a map with apiVersion, kind, metadata and spec"),
        (
            &record.replace("  name: a\n", "  labels: {}\n"),
            "f.yaml:3:1: metadata.name: Required value: add it, for example 'name: my-app'",
        ),
        (
            &record.replace("name: a", "name: 3"),
            "f.yaml:4:9: metadata.name: Invalid value: 3: must be text, for example 'name: my-app'",
        ),
        (
            &record.replace("io/v1", "io/v2"),
            "f.yaml:1:13: apiVersion: Unsupported value: \"devsanctum.io/v2\": Workspace is served as devsanctum.io/v1",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(complaints(text).first().map(String::as_str), Some(expected), "{text:?}");
    }
    let unknown = complaints(&record.replace("Workspace", "Deployment"));
    assert!(
        unknown[0].starts_with("f.yaml:2:7: kind: Unsupported value: \"Deployment\": must be Namespace or one of"),
        "{unknown:?}"
    );
}

#[test]
fn syntax_errors_name_the_place() {
    let found = complaints("a: 1\nb: [1, 2\nc: 3\n");
    assert!(found[0].starts_with("f.yaml:3:") && found[0].contains("not valid YAML"), "{found:?}");
}

#[test]
fn an_alias_bomb_costs_nothing() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let entries = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{entries}]\n"));
    }
    let (_, found) = yaml::read(&source(&text));
    assert!(found[0].message.contains("more than 100000 values once aliases are expanded"), "{}", found[0].message);
    let long = format!("a: &a \"{}\"\nb: [*a, *a, *a]\n", "x".repeat(500_000));
    let (_, found) = yaml::read(&source(&long));
    assert_eq!(found[0].headline(), "f.yaml:2:9: larger than 1048576 bytes once aliases are expanded");
}

#[test]
fn depth_size_and_number_of_documents_are_limited() {
    let deep = format!("a: {}{}", "[".repeat(65), "]".repeat(65));
    assert!(complaints(&deep)[0].contains("nested more than 64 levels deep"));
    let fine = format!("{}{}", "[".repeat(64), "]".repeat(64));
    assert_eq!(values(&fine).len(), 1);
    let block: String = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert!(complaints(&block)[0].contains("nested more than 64 levels deep"));
    let long = format!("a: \"{}\"\n", "x".repeat(yaml::MAX_BYTES + 10));
    assert!(complaints(&long)[0].contains("larger than 1048576 bytes"));
    let many = "--- a\n".repeat(1_001);
    assert!(yaml::read(&source(&many)).1[0].message.contains("more than 1000 documents"));
    let two: String = (0..2).map(|i| format!("---\na{i}: \"{}\"\n", "x".repeat(900_000))).collect();
    assert_eq!(values(&two).len(), 2, "the limit is for a document, not for the file");
}

#[test]
fn a_field_path_leads_to_its_place() {
    let text = "metadata:\n  labels:\n    a.b/c: x\nspec:\n  ports:\n    - name: web\n      port: 0\n  env:\n    MY.KEY: v\n  empty: {}\n";
    let (raws, _) = yaml::read(&source(text));
    let cases = [
        ("spec.ports[0].port", (7, 13)),
        ("spec.ports[0]", (6, 7)),
        ("spec.ports", (5, 3)),
        ("spec.env[MY.KEY]", (9, 13)),
        ("spec.env.MY.KEY", (9, 13)),
        ("metadata.labels.a.b/c", (3, 12)),
        ("metadata.labels[a.b/c]", (3, 12)),
        ("spec.ports[7].port", (5, 3)),
        ("spec.owner", (4, 1)),
        ("spec.empty.x", (10, 3)),
        ("", (1, 1)),
    ];
    for (path, (line, column)) in cases {
        assert_eq!(raws[0].node.find(path), Mark { line, column }, "{path}");
    }
}

#[test]
fn a_complaint_shows_the_line_and_points_at_the_column() {
    let s = source("spec:\n  port: 0\n");
    let complaint = Complaint::at(&s, Mark { line: 2, column: 9 }, "spec.port: Invalid value: 0");
    assert_eq!(complaint.render(), "f.yaml:2:9: spec.port: Invalid value: 0\n    2 |   port: 0\n      |         ^");
    let hostile = source("a: \u{1b}[2J\n");
    assert!(!Complaint::at(&hostile, Mark { line: 1, column: 4 }, "x").render().contains('\u{1b}'));
}

#[test]
fn folders_are_read_in_order_and_only_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let ns = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    put("b.yml", ns("two").as_bytes());
    put("a/x.json", br#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"one"}}"#);
    put("c.txt", b"not: [yaml");
    put("d.yaml", b"a: \xff\n");
    let (documents, complaints) = load(&[dir.path().display().to_string()], true);
    let names = |documents: &[Document]| documents.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&documents), ["one", "two"]);
    assert_eq!(names(&load(&[dir.path().display().to_string()], false).0), ["two"]);
    assert_eq!(complaints.len(), 1);
    assert!(
        complaints[0].headline().ends_with("d.yaml: is not UTF-8 text: byte 3 starts no character"),
        "{}",
        complaints[0].headline()
    );
}

#[test]
fn records_are_sorted_into_the_order_of_application_and_may_stand_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.yaml");
    let record = |kind: &str, name: &str| {
        format!("---\napiVersion: devsanctum.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{}}\n")
    };
    let text = record("Workspace", "w") + &record("Project", "p") + &record("User", "u");
    std::fs::write(&path, &text).unwrap();
    let (documents, _) = load(&[path.display().to_string()], false);
    assert_eq!(documents.iter().map(|d| d.def.kind.as_str()).collect::<Vec<_>>(), ["User", "Project", "Workspace"]);
    std::fs::write(&path, text + &record("User", "u")).unwrap();
    let (_, complaints) = load(&[path.display().to_string()], false);
    assert!(complaints[0].message.starts_with("User \"u\" stands here and at "), "{}", complaints[0].message);
}

#[test]
fn a_list_is_its_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: a\n- {}\n";
    let (documents, complaints) = parse(&source(text));
    assert_eq!(documents[0].node.find("metadata.name"), Mark { line: 7, column: 11 });
    assert_eq!(complaints[0].at, Some(Mark { line: 8, column: 3 }));
}

#[test]
fn missing_files_and_addresses_are_named() {
    let (_, complaints) = load(&["/nonexistent/x.yaml".into(), "https://example.com/x.yaml".into()], false);
    assert!(complaints[0].headline().starts_with("/nonexistent/x.yaml: cannot be read: "), "{}", complaints[0].headline());
    assert!(complaints[1].headline().contains("addresses are not fetched"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a-c:?&*!\\[\\]{}#|>'\", \n\t0-9<%@`.]{0,200}") {
        let _ = parse(&source(&text));
    }
}

#[test]
fn nothing_of_a_secret_is_repeated() {
    let head = "apiVersion: devsanctum.io/v1\nkind: Secret\nmetadata:\n  name: a\nspec:\n  data:\n";
    let wrong = [
        "    pin: 0123987\n",
        "    pin: !0123987\n",
        "    0123987: x\n",
        "    pin: x\n    pin: 0123987\n",
        "    pin: 'x' 0123987\n",
        "    pin: x: 0123987\n",
        "    pin: *0123987\n",
    ];
    for text in wrong {
        // Before, after and among others; as an item of a list it is part of a document that may be a Secret.
        for text in
            [format!("{head}{text}"), format!("a: 1\n---\n{head}{text}---\na: 1\n"), head.replacen("Secret", "secrets", 1) + text]
        {
            let found = parse(&source(&text)).1;
            let said: Vec<String> = found.iter().map(Complaint::render).collect();
            assert!(!said.is_empty() && said.iter().all(|s| !s.contains("0123987")), "{text}: {said:?}");
        }
    }
    let other = parse(&source(&format!("{head}    pin: x\n---\na: 0123987\n"))).1;
    assert!(other[0].render().contains("a: 0123987"), "a document beside it is shown: {}", other[0].render());
}

#[test]
fn a_field_of_a_secret_is_named_without_its_line() {
    let text = "apiVersion: devsanctum.io/v1\nkind: Secret\nmetadata: {name: a}\nspec: {data: {pin: 123987}}\n";
    let (documents, complaints) = parse(&source(text));
    assert!(complaints.is_empty());
    for (worded, shown) in [
        ("must be text", "must be text"),
        ("Invalid value: 123987: must be text", "Invalid value: (not shown): must be text"),
        ("invalid type: integer `123987`", "invalid type: integer  (not shown)"),
        ("Invalid value: {\"pin\":123987}", "Invalid value: (not shown)"),
    ] {
        assert_eq!(documents[0].complaint("spec.data.pin", worded).render(), format!("f.yaml:4:20: {shown}"));
    }
}
