use super::*;
use crate::resource::DEFAULT_MIN_RAM_MB;
use crate::resource::{FeatureOption, OptionType};

#[derive(Default)]
struct Shelf {
    templates: BTreeMap<String, TemplateSpec>,
    features: BTreeMap<String, FeatureSpec>,
}

impl Library for Shelf {
    fn template(&self, name: &str) -> Option<TemplateSpec> {
        self.templates.get(name).cloned()
    }
    fn feature(&self, name: &str) -> Option<FeatureSpec> {
        self.features.get(name).cloned()
    }
}

fn port(name: &str, port: u16) -> Port {
    Port { name: name.into(), port, protocol: Default::default(), public: false, readiness_probe: None }
}

fn project(template: &str) -> ProjectSpec {
    serde_json::from_value(serde_json::json!({"owner": "ada", "template": template})).unwrap()
}

fn feature_use(name: &str) -> FeatureUse {
    FeatureUse { name: name.into(), options: BTreeMap::new() }
}

#[test]
fn a_child_overrides_its_parent_by_port_number_and_env_key() {
    let mut shelf = Shelf::default();
    let parent = TemplateSpec {
        base: Some("node:20".into()),
        env: [("A".into(), "1".into()), ("B".into(), "1".into())].into(),
        ports: vec![port("web", 80), port("api", 81)],
        min_ram_mb: Some(512),
        ..Default::default()
    };
    let child = TemplateSpec {
        extends: Some("parent".into()),
        env: [("B".into(), "2".into())].into(),
        ports: vec![port("app", 80)],
        min_ram_mb: Some(300),
        ..Default::default()
    };
    shelf.templates.insert("parent".into(), parent);
    shelf.templates.insert("child".into(), child);
    let e = resolve(&project("child"), &Images::default(), &shelf).unwrap();
    assert_eq!(e.image, Image::AsItIs("node:20".into()));
    assert_eq!(e.env, [("A".to_string(), "1".to_string()), ("B".into(), "2".into())].into());
    assert_eq!(e.ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["app", "api"]);
    assert_eq!(e.min_ram_mb, 512);
}

#[test]
fn features_bring_what_they_need_and_sum_their_minimums() {
    let mut shelf = Shelf::default();
    shelf.templates.insert("t".into(), TemplateSpec::default());
    let db = FeatureSpec {
        min_ram_mb: Some(100),
        sidecar: Some(serde_json::from_value(serde_json::json!({"image": "pg", "env": {"P": "{{option.PASS}}"}})).unwrap()),
        options: vec![FeatureOption {
            key: "PASS".into(),
            label: None,
            kind: OptionType::String,
            required: true,
            default: Some("x{{option.PASS}}".into()),
            values: vec![],
        }],
        ..Default::default()
    };
    shelf.features.insert("db".into(), db);
    shelf
        .features
        .insert("admin".into(), FeatureSpec { requires: vec!["db".into()], min_ram_mb: Some(50), ..Default::default() });
    let mut p = project("t");
    p.features = vec![feature_use("admin")];
    let e = resolve(&p, &Images::default(), &shelf).unwrap();
    assert_eq!(e.min_ram_mb, DEFAULT_MIN_RAM_MB + 150);
    assert_eq!(e.sidecars["db"].env["P"], "x{{option.PASS}}", "a value is not interpolated again");
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let mut shelf = Shelf::default();
    shelf.templates.insert("t".into(), TemplateSpec { ports: vec![port("web", 80)], ..Default::default() });
    shelf.features.insert("a".into(), FeatureSpec { requires: vec!["b".into()], ..Default::default() });
    shelf.features.insert("b".into(), FeatureSpec { requires: vec!["a".into()], ..Default::default() });
    shelf.features.insert("clash".into(), FeatureSpec { ports: vec![port("other", 80)], ..Default::default() });
    let reason = |features: &[&str]| {
        let mut p = project("t");
        p.features = features.iter().map(|f| feature_use(f)).collect();
        resolve(&p, &Images::default(), &shelf).unwrap_err()
    };
    assert_eq!(reason(&["a"]).message, "features need each other in a circle: a → b → a");
    assert_eq!(reason(&["gone"]).reason, "FeatureNotFound");
    assert_eq!(reason(&["clash"]).reason, "PortTaken");
    assert_eq!(resolve(&project("none"), &Images::default(), &shelf).unwrap_err().reason, "TemplateNotFound");
}

#[test]
fn two_spellings_of_one_environment_have_one_digest() {
    let mut shelf = Shelf::default();
    let whole = TemplateSpec { base: Some("x".into()), ports: vec![port("web", 80)], ..Default::default() };
    shelf.templates.insert("whole".into(), whole.clone());
    shelf.templates.insert("base".into(), TemplateSpec { base: Some("x".into()), ..Default::default() });
    shelf.templates.insert("split".into(), TemplateSpec { extends: Some("base".into()), base: None, ..whole });
    let digest = |t| resolve(&project(t), &Images::default(), &shelf).unwrap().digest();
    assert_eq!(digest("whole"), digest("split"));
}

#[test]
fn a_feature_s_folder_is_one_of_the_workspace_s_and_its_sidecar_s_image_is_an_option() {
    let mut shelf = Shelf::default();
    let folder = |name: &str, path: &str| Folder { name: name.into(), path: path.into(), mode: FolderMode::Persistent };
    let option: FeatureOption = serde_json::from_value(serde_json::json!({"key": "V", "default": "17"})).unwrap();
    let sidecar =
        Sidecar { image: "postgres:{{option.V}}".into(), ..serde_json::from_value(serde_json::json!({"image": ""})).unwrap() };
    let db = FeatureSpec {
        folders: vec![folder("data", "/data")],
        sidecar: Some(sidecar),
        options: vec![option],
        ..Default::default()
    };
    shelf.features.insert("db".into(), db);
    let template = TemplateSpec { base: Some("x".into()), features: vec![feature_use("db")], ..Default::default() };
    shelf.templates.insert("t".into(), template.clone());
    let found = resolve(&project("t"), &Images::default(), &shelf).unwrap();
    assert_eq!((found.folders, found.sidecars["db"].image.as_str()), (vec![folder("data", "/data")], "postgres:17"));

    let mut odd = project("t");
    odd.features = vec![FeatureUse { name: "db".into(), options: [("V".into(), "a b".into())].into() }];
    let refused = resolve(&odd, &Images::default(), &shelf).unwrap_err();
    assert!(refused.reason == "OptionInvalid" && refused.message.contains("\"postgres:a b\""), "{refused:?}");
    shelf.templates.insert("t".into(), TemplateSpec { folders: vec![folder("data", "/elsewhere")], ..template });
    assert_eq!(resolve(&project("t"), &Images::default(), &shelf).unwrap_err().reason, "FolderTaken");
}

#[test]
fn repositories_lie_on_a_volume_wherever_they_are() {
    let on = |workdir: Option<&str>, folders: &[(&str, &str)]| {
        let folder =
            |(name, path): &(&str, &str)| Folder { name: (*name).into(), path: (*path).into(), mode: FolderMode::Persistent };
        let folders = folders.iter().map(folder).collect();
        let template = TemplateSpec { workdir: workdir.map(Into::into), folders, ..Default::default() };
        let shelf = Shelf { templates: BTreeMap::from([("t".into(), template)]), ..Default::default() };
        let mut project = project("t");
        project.repositories = serde_json::from_value(serde_json::json!([{"name": "web", "url": "https://h/web"}])).unwrap();
        let found = resolve(&project, &Images::default(), &shelf).unwrap();
        let folders: Vec<String> = found.folders.iter().map(|f| format!("{} {}", f.name, f.path)).collect();
        format!("{} on {}", found.workdir.unwrap(), folders.join(", "))
    };
    assert_eq!(on(None, &[]), "/workspace on workspace /workspace");
    assert_eq!(on(Some("/home/dev/code"), &[("home", "/home/dev")]), "/home/dev/code on home /home/dev");
    assert_eq!(on(Some("/home/dev"), &[("h", "/home/developer")]), "/home/dev on h /home/developer, workspace /home/dev");
    assert_eq!(on(None, &[("workspace", "/data")]), "/workspace on workspace /data, workspace-repositories /workspace");

    let shelf = Shelf { templates: BTreeMap::from([("t".into(), TemplateSpec::default())]), ..Default::default() };
    let without = resolve(&project("t"), &Images::default(), &shelf).unwrap();
    assert_eq!((without.workdir, without.folders), (None, vec![]));
}

#[test]
fn a_start_command_does_not_take_the_place_of_what_keeps_services_running() {
    let of = |command: Option<&[&str]>| {
        let services = serde_json::from_value(serde_json::json!([{"name": "web", "run": "exec httpd -f"}])).unwrap();
        let start_command = command.map(|c| c.iter().map(|w| (*w).to_owned()).collect());
        let template = TemplateSpec { services, start_command, ..Default::default() };
        let shelf = Shelf { templates: BTreeMap::from([("t".into(), template)]), ..Default::default() };
        resolve(&project("t"), &Images::default(), &shelf).map(|e| e.command.is_some()).map_err(|e| e.reason)
    };
    assert_eq!(of(None), Ok(false));
    assert_eq!(of(Some(&["/init"])), Err("ServicesNeverRun"));
    assert_eq!(of(Some(&["node", "server.js"])), Err("ServicesNeverRun"));
}
