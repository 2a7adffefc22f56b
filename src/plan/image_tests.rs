use super::*;
use crate::resource::{FeatureOption, FeatureSpec, OptionType};

#[test]
fn the_version_of_a_base_is_what_its_tag_begins_with() {
    let of = |base| version(base).map(|v| v.to_string());
    assert_eq!(of("node:20-bullseye").as_deref(), Some("20.0.0"));
    assert_eq!(of("alpine:3.20").as_deref(), Some("3.20.0"));
    assert_eq!(of("registry:5000/a/python:3.12.1-slim@sha256:00").as_deref(), Some("3.12.1"));
    for unknown in ["alpine", "registry:5000/alpine", "debian:bookworm", "devsanctum/base:tiny", "a:99999999999999999999999"] {
        assert_eq!(of(unknown), None, "{unknown}");
    }
}

#[test]
fn a_platform_base_is_equipped_unless_the_settings_name_an_image_for_it() {
    let of =
        |template: serde_json::Value, images: &Images| image(&serde_json::from_value(template).unwrap(), &[], images).unwrap();
    let Image::Built(recipe) = of(serde_json::json!({}), &Images::default()) else { panic!("not built") };
    assert_eq!((recipe.base.as_str(), recipe.bare, recipe.supervised), (ALPINE, true, true));
    let Image::Built(recipe) = of(serde_json::json!({"base": "debian", "startCommand": ["sleep"]}), &Images::default()) else {
        panic!("not built")
    };
    assert_eq!((recipe.base.as_str(), recipe.bare, recipe.supervised), (DEBIAN, true, false));
    let own = Images { debian: Some("own:1".into()), ..Images::default() };
    assert_eq!(of(serde_json::json!({"base": "debian"}), &own), Image::AsItIs("own:1".into()));
    assert_eq!(of(serde_json::json!({"base": "node:22"}), &own), Image::AsItIs("node:22".into()));
}

#[test]
fn services_run_as_the_template_s_user_unless_they_name_one() {
    let service = serde_json::json!([{"name": "web", "run": "exec web"}, {"name": "db", "run": "exec db", "user": "root"}]);
    let template = serde_json::json!({"base": "x", "user": "dev", "services": service});
    let Image::Built(recipe) = image(&serde_json::from_value(template).unwrap(), &[], &Images::default()).unwrap() else {
        panic!("not built")
    };
    let users: Vec<_> = recipe.services.values().map(|s| s.user.as_deref()).collect();
    assert_eq!(users, [Some("root"), Some("dev")]);
}

#[test]
fn a_feature_says_which_versions_of_a_base_it_works_with() {
    let feature = FeatureSpec { base_versions: Some(">=3.18, <4".into()), ..Default::default() };
    let on = |base: &str| {
        let template = TemplateSpec { base: Some(base.into()), ..Default::default() };
        let chosen = [("f".to_owned(), feature.clone(), BTreeMap::new())];
        image(&template, &chosen, &Images::default()).map(drop).map_err(|e| e.message)
    };
    assert_eq!(on("alpine:3.20"), Ok(()));
    assert_eq!(on("alpine:edge"), Ok(()));
    let refused = on("alpine:3.17").unwrap_err();
    assert!(refused.contains("\"f\" works with versions >=3.18, <4 of a base, and the base is alpine:3.17"), "{refused}");
}

#[test]
fn an_image_has_what_features_bring_before_what_the_template_does() {
    let service = |name: &str, run: &str| Service { name: name.into(), run: run.into(), user: None };
    let option = FeatureOption {
        key: "V".into(),
        label: None,
        kind: OptionType::String,
        required: false,
        default: Some("it's 1".into()),
        values: vec![],
    };
    let feature = FeatureSpec {
        packages: vec!["git".into(), "curl".into()],
        dockerfile: Some("RUN get {{option.V}}".into()),
        service: Some(service("ide", "exec ide {{option.V}}")),
        options: vec![option],
        ..Default::default()
    };
    let template = TemplateSpec {
        base: Some("debian".into()),
        packages: vec!["git".into()],
        dockerfile: Some("RUN true".into()),
        services: vec![service("web", "exec web")],
        ..Default::default()
    };
    let chosen = |feature: &FeatureSpec| {
        let options = feature.options.iter().map(|o| (o.key.clone(), o.default.clone().unwrap_or_default())).collect();
        vec![("f".to_owned(), feature.clone(), options)]
    };
    let made = recipe(&template, &chosen(&feature), &Images::default()).unwrap();
    assert_eq!((made.base.as_str(), made.bare), (DEBIAN, true));
    assert_eq!(made.packages.iter().collect::<Vec<_>>(), ["curl", "git"]);
    let lines: Vec<String> = made.instructions.iter().map(ToString::to_string).collect();
    assert!(lines[0].contains("get") && lines[0].ends_with("\"it's 1\"]") && lines[1].contains("true"), "{lines:?}");
    assert_eq!(made.services.keys().collect::<Vec<_>>(), ["ide", "web"]);

    let twice = FeatureSpec { service: Some(service("web", "exec other")), ..Default::default() };
    let refused = recipe(&template, &chosen(&twice), &Images::default()).unwrap_err();
    assert_eq!((refused.reason, refused.message.contains("\"web\"")), ("ServiceTaken", true));
    let unread = TemplateSpec { dockerfile: Some("RUN true\nCOPY a b".into()), ..Default::default() };
    let refused = recipe(&unread, &[], &Images::default()).unwrap_err();
    assert!(refused.message.starts_with("dockerfile of the template, line 2: COPY is not read here"), "{}", refused.message);
}

#[test]
fn an_instruction_no_builder_reads_is_refused_before_it_is_built() {
    let of = |bytes: usize| {
        let dockerfile = format!("RUN true {}", "x".repeat(bytes));
        let template = TemplateSpec { base: Some("x".into()), dockerfile: Some(dockerfile), ..Default::default() };
        image(&template, &[], &Images::default())
    };
    assert!(of(60_000).is_ok());
    let refused = of(66_000).unwrap_err();
    assert_eq!(refused.reason, "DockerfileInvalid");
    assert!(refused.message.contains("RUN [\"/bin/sh\"") && refused.message.len() < 400, "{}", refused.message);
}
