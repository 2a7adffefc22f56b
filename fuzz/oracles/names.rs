//! Names people choose: what is accepted is what the field's own documents allow, and can do nothing where it is put.

use devsanctum::resource::names::{Slug, dns_label, env_name, folder_path, host_name, image_reference};

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    one(&text);
    // Inputs are long; names are short.
    text.split(['\n', ' ']).for_each(one);
}

/// Judges one name by every rule, and each rule by a second account of it.
fn one(text: &str) {
    assert_eq!(dns_label(text).is_ok(), is_label(text), "label {text:?}");
    assert_eq!(host_name(text).is_ok(), is_host(text), "host {text:?}");
    assert_eq!(env_name(text).is_ok(), is_variable(text), "variable {text:?}");
    assert_eq!(Slug::parse(text).is_ok(), is_slug(text), "slug {text:?}");
    assert_eq!(folder_path(text).is_ok(), is_folder(text), "folder {text:?}");
    if image_reference(text).is_ok() {
        harmless(text);
        assert!(!text.starts_with(['-', '.', '/', ':', '@']) && !text.contains("..") && text.len() <= 255, "image {text:?}");
    }
    for accepted in [dns_label(text), host_name(text), env_name(text), folder_path(text), Slug::parse(text).map(drop)] {
        match accepted {
            Ok(()) => harmless(text),
            Err(why) => assert!(!why.is_empty() && !why.contains(|c: char| c.is_control()), "{why:?}"),
        }
    }
}

/// Cannot end a rule, a shell word, a line, a header or a path, and is spelt in one way only.
fn harmless(text: &str) {
    let bad = |c: char| !c.is_ascii_graphic() || "`'\"$\\;|&<>(){}[]*?!#%^~=, +".contains(c);
    assert!(!text.is_empty() && !text.contains(bad), "{text:?} was accepted");
    assert!(text.split('/').all(|part| part != ".."), "{text:?} was accepted");
}

/// RFC 1123, section 2.1, in lower case.
fn is_label(text: &str) -> bool {
    let mut chars = text.chars();
    let ends = text.chars().next().is_some_and(is_plain) && text.chars().next_back().is_some_and(is_plain);
    ends && text.chars().count() < 64 && chars.all(|c| is_plain(c) || c == '-')
}

fn is_plain(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9')
}

/// Labels with dots between them, more than one, 253 characters at most, and no address.
fn is_host(text: &str) -> bool {
    let Some((_, last)) = text.rsplit_once('.') else { return false };
    let address = last.parse::<u128>().is_ok() || last.chars().all(|c| c.is_ascii_digit());
    text.chars().count() < 254 && text.split('.').all(is_label) && !address && text.parse::<std::net::IpAddr>().is_err()
}

fn is_variable(text: &str) -> bool {
    let word = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_');
    text.chars().all(word) && text.chars().next().is_some_and(|c| !c.is_ascii_digit()) && text.chars().count() < 129
}

fn is_slug(text: &str) -> bool {
    text.chars().count() == 8 && text.chars().all(is_plain)
}

/// An absolute path in its shortest spelling, below no folder of the system's own.
fn is_folder(text: &str) -> bool {
    use std::path::{Component, Path};
    let Some(inside) = text.strip_prefix('/') else { return false };
    let parts: Vec<Component> = Path::new(inside).components().collect();
    let normal: Option<Vec<&str>> = parts
        .iter()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    let Some(normal) = normal.filter(|n| n.join("/") == inside && !n.is_empty()) else { return false };
    let system = ["bin", "boot", "dev", "etc", "lib", "proc", "run", "sbin", "sys", "usr"];
    let plain = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '/');
    text.len() < 256 && inside.chars().all(plain) && !system.contains(&normal[0])
}
