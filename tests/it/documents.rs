//! What is written about the project holds: links, kinds, schemas, the list of dependencies.

use crate::support::source::{Source, files, root};
use devsanctum::resource::{GROUP, KindDef, kinds};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Headings of a kind's page, in order.
const SECTIONS: [&str; 7] =
    ["What it is", "Example", "Spec", "Status and conditions", "What its loop does", "Errors and mends", "See also"];

fn ours() -> impl Iterator<Item = &'static KindDef> {
    kinds().iter().filter(|k| k.group == GROUP)
}

fn documents() -> Vec<Source> {
    let mut all: Vec<Source> = files("docs", "md");
    for name in ["README.md", "CONTRIBUTING.md"] {
        all.push(Source { path: name.into(), text: std::fs::read_to_string(root().join(name)).unwrap() });
    }
    all
}

/// A heading's anchor, as the usual viewers make it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines().filter(|l| l.starts_with('#')).map(|l| anchor(l.trim_start_matches('#'))).collect()
}

fn links(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text.split("](").skip(1).filter_map(|t| t.split_once(')')).map(|(l, _)| l.to_owned()).collect();
    found.extend(text.split("src=\"").skip(1).filter_map(|t| t.split_once('"')).map(|(l, _)| l.to_owned()));
    found.retain(|l| !l.contains("://") && !l.is_empty());
    found
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let folder = root().join(&document.path).parent().map(Path::to_owned).unwrap();
        for link in links(&document.text) {
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { root().join(&document.path) } else { folder.join(file) };
            let ok = match (target.exists(), fragment) {
                (false, _) => false,
                (true, "") => true,
                (true, part) => anchors(&std::fs::read_to_string(&target).unwrap_or_default()).contains(part),
            };
            if !ok {
                broken.push(format!("{}: {link}", document.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_named_in_the_documents_exist() {
    let mut missing = Vec::new();
    for document in documents() {
        for word in document.text.split('`').skip(1).step_by(2).filter(|w| w.starts_with("src/") || w.starts_with("tests/")) {
            let path = word.split([':', ' ', '#']).next().unwrap_or("");
            if !root().join(path).exists() {
                missing.push(format!("{}: {word}", document.path));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_kind_has_a_page_in_the_fixed_order() {
    for kind in ours() {
        let path = root().join(format!("docs/kinds/{}.md", kind.singular));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let headings: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("## ")).collect();
        assert_eq!(headings, SECTIONS, "{}", path.display());
        assert!(text.starts_with(&format!("# {}\n", kind.kind)), "{}", path.display());
    }
    assert_eq!(files("docs/kinds", "md").len(), ours().count(), "a page without a kind");
}

#[test]
fn a_kinds_page_names_all_of_its_fields() {
    let mut missing = Vec::new();
    for kind in ours() {
        let text = std::fs::read_to_string(root().join(format!("docs/kinds/{}.md", kind.singular))).unwrap();
        for part in ["spec", "status"] {
            let Some(schema) = kind.schema.properties.as_ref().and_then(|p| p.get(part)) else { continue };
            let fields = schema.properties.iter().flatten().map(|(name, _)| name);
            missing.extend(fields.filter(|f| !text.contains(&format!("`{f}`"))).map(|f| format!("{}: {part}.{f}", kind.kind)));
        }
    }
    assert!(missing.is_empty(), "not in docs/kinds:\n{}", missing.join("\n"));
}

#[test]
fn the_schemas_are_those_of_the_kinds() {
    let fresh = tempfile::tempdir().unwrap();
    let mut command = crate::support::devsanctum();
    assert!(command.args(["schema", "--out"]).arg(fresh.path()).status().unwrap().success());
    let read = |folder: &Path| -> BTreeMap<String, String> {
        let entries = [folder.to_owned(), folder.join("crds")].map(|f| std::fs::read_dir(f).unwrap());
        let files = entries.into_iter().flatten().flatten().filter(|e| e.path().is_file());
        files.map(|e| (e.file_name().display().to_string(), std::fs::read_to_string(e.path()).unwrap())).collect()
    };
    let (kept, made) = (read(&root().join("schemas")), read(fresh.path()));
    let differ: Vec<_> = made.iter().filter(|(name, text)| kept.get(*name) != Some(text)).map(|(name, _)| name).collect();
    assert!(differ.is_empty() && kept.len() == made.len(), "run `make schemas`: {differ:?}");
}

#[test]
fn the_readme_says_why_each_dependency_is_there() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: BTreeSet<&str> = section.lines().filter_map(|l| l.split_once(" = ")).map(|(name, _)| name.trim()).collect();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split("## Why each dependency is there").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|l| l.starts_with("| `"));
    let told: BTreeSet<&str> = rows.flat_map(|l| l.split('|').nth(1).unwrap_or("").split('`').skip(1).step_by(2)).collect();
    assert_eq!(names.difference(&told).collect::<Vec<_>>(), Vec::<&&str>::new(), "say in README.md why they are there");
    assert_eq!(told.difference(&names).collect::<Vec<_>>(), Vec::<&&str>::new(), "in README.md, but no longer used");
}

#[test]
fn scripts_and_doctor_want_the_same_traefik_as_the_proxy() {
    let (a, b, c) = devsanctum::proxy::traefik::OLDEST;
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    assert!(text("scripts/common.sh").contains(&format!("oldest_traefik={a}.{b}.{c}\n")));
    assert!(text("src/cli/doctor/host.rs").contains(&format!("OLDEST_TRAEFIK: [u64; 3] = [{a}, {b}, {c}]")));
    for script in ["scripts/up.sh", "scripts/test-tools.sh"] {
        assert!(text(script).contains("fits ") && !text(script).contains("Version:"), "{script}");
    }
}

#[test]
fn bases_that_can_be_made_are_told() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (script, page) = (text("images/base/build.sh"), text("docs/kinds/template.md"));
    for base in ["alpine", "debian"] {
        let makeable = script.contains(&format!("build_{base}()"));
        assert_eq!(page.contains(&format!("devsanctum image base build {base}")), makeable, "{base}");
        assert_eq!(page.contains(&format!("devsanctum/base:{base}")), makeable, "{base}");
    }
}
