//! The fuzz targets' oracles on inputs chosen by chance, and proof that they can fail.

#[path = "../../fuzz/oracles/mod.rs"]
mod checks;

use checks::rules::Rule;
use checks::{dockerfile, manifest, names, patches, rules, selectors};
use proptest::prelude::*;

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..120)
}

/// Lines that manifests are made of, in any order.
fn manifest_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        6 => prop::sample::select(&[
            "apiVersion: devsanctum.io/v1", "kind: Template", "kind: Secret", "kind: List", "apiVersion: v1", "metadata: {name: x}",
            "metadata:", "  name: a-b", "  namespace: team", "spec:", "  base: &x alpine", "  env: {A: *x}", "  packages: [git, '1']",
            "items:", "- a: 0x1f", "- 1.50e3", "---", "...", "\u{feff}", "a: |", "  text\u{7}", "? k", ": 12345678901234567890",
            "spec: {data: {k: hunter2}}", "# note", "\tx: 1", "x: \"\\u0000\"", "b: -0", "c: 1e400",
        ][..]).prop_map(str::to_owned),
        1 => "[a-z:{}\\[\\]&*!|>'\"%@`#,? -]{0,12}",
        1 => ".{0,8}",
    ];
    prop::collection::vec(line, 0..14).prop_map(|lines| lines.join("\n"))
}

/// Lines that extra instructions are made of, in any order, after the values of two options.
fn instructions() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => prop::sample::select(&[
            "RUN echo {{option.X}}", "RUN a '{{option.X}}' \\", "  \"{{option.Y}}\"", "RUN [\"a\", \"{{option.X}}<b\"]", "RUN [", "# x",
            "ENV A={{option.X}} B=\"c {{option.Y}}\"", "ENV C='$d' E=$F G=${H}", "ENV I=\\$j K=", "WORKDIR /a", "USER b:c", "run x\\",
            "\\", "", "#{{option.X}} \\", "FROM x", "ENV L=\"", "RUN cat <<E", "RUN \\{{option.X}}",
        ][..]).prop_map(str::to_owned),
        1 => "[a-zA-Z\"'\\\\$={}\\[\\]<># ]{0,16}",
        1 => ".{0,8}",
    ];
    let value = || prop::collection::vec(any::<u8>(), 0..12);
    (value(), value(), prop::collection::vec(line, 0..8)).prop_map(|(x, y, lines)| {
        let option = |value: Vec<u8>| std::iter::once(value.len() as u8).chain(value);
        option(x).chain(option(y)).chain(lines.join("\n").into_bytes()).collect()
    })
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn no_value_adds_to_the_instructions(data in instructions()) {
        dockerfile::check(&data);
    }

    #[test]
    fn no_text_makes_the_manifest_reader_err(text in manifest_text()) {
        manifest::check(text.as_bytes());
    }

    #[test]
    fn patches_do_what_their_documents_say(data in bytes()) {
        patches::check(&data);
    }

    #[test]
    fn selectors_select_what_they_say(data in bytes()) {
        selectors::check(&data);
    }

    #[test]
    fn selectors_stand_any_text(text in "[a-z(),=! ]{0,20}|.{0,30}") {
        let mut data = vec![0];
        data.extend(text.bytes());
        selectors::check(&data);
    }

    #[test]
    fn names_are_what_their_rules_say(name in "[a-zA-Z0-9./_-]{0,12}|[a-z0-9.-]{1,70}|/[a-z./]{0,9}|.{0,20}") {
        names::check(name.as_bytes());
    }

    #[test]
    fn a_router_takes_its_own_host_and_no_other(data in bytes()) {
        rules::check(&data);
    }
}

#[test]
fn rules_that_take_too_much_are_told_apart() {
    let takes = |rule: &str, host: &str, path: &str| Rule::read(rule).unwrap().takes(host, path);
    assert!(takes("Host(`a.com`)", "A.COM.:80", "/") && !takes("Host(`a.com`)", "b.com", "/"));
    let injected = "Host(`a.com`) || PathPrefix(`/`)";
    assert!(takes(injected, "b.com", "/") && takes("!Host(`a.com`)", "b.com", "/"));
    assert!(takes("(Host(`a.com`) || Host(\"b.com\")) && Path(`/x`)", "b.com", "/x"));
    assert!(!takes("Host(`a.com`) && Path(`/x`)", "a.com", "/"));
    let rule = Rule::read("HeaderRegexp(`Upgrade`, `^h`) && Host(`a.com`)").unwrap();
    assert!(rule.takes_upgrade("a.com", "/", &["websocket", "h2c"]) && !rule.takes_upgrade("a.com", "/", &["websocket"]));
    assert!(!rule.takes_upgrade("b.com", "/", &["h2c"]) && !rule.takes("a.com", "/"));
    for unknown in ["HostRegexp(`.*`)", "Host(`a`", "Host(a)", "Host(`a`) x", "", "Host(`a`,`b`)"] {
        assert!(Rule::read(unknown).is_err(), "{unknown}");
    }
}
