//! The library of templates and features: each works, alone and together, and its page says what it is.

use crate::support::api::Api;
use crate::support::cli::Served;
use crate::support::source::{files, root};
use devsanctum::cli::manifest::{self, Document};
use devsanctum::image::{Instruction, Recipe};
use devsanctum::plan::environment::{Environment, Library, resolve};
use devsanctum::plan::image::Image;
use devsanctum::resource::common::FeatureUse;
use devsanctum::resource::{FeatureSpec, Images, ProjectSpec, TemplateSpec};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// All records of the library.
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

/// Each file's path and the one record in it.
fn records() -> Vec<(String, Document)> {
    let read = |folder: &str| {
        files(&format!("manifests/library/{folder}"), "yaml").into_iter().map(|file| {
            let (mut documents, complaints) = manifest::load(&[root().join(&file.path).display().to_string()]);
            assert!(complaints.is_empty() && documents.len() == 1, "{}: {:?}", file.path, complaints);
            (file.path, documents.remove(0))
        })
    };
    read("templates").chain(read("features")).collect()
}

fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    for (path, document) in records() {
        let spec = document.value["spec"].clone();
        match document.def.kind.as_str() {
            "Template" => drop(shelf.templates.insert(document.name, serde_json::from_value(spec).unwrap())),
            "Feature" => drop(shelf.features.insert(document.name, serde_json::from_value(spec).unwrap())),
            kind => panic!("{path} holds a {kind}"),
        }
    }
    shelf
}

/// A feature with a value for each option that needs one.
fn used(name: &str, feature: &FeatureSpec) -> FeatureUse {
    let needed = feature.options.iter().filter(|o| o.required).map(|o| (o.key.clone(), "tcp://build.example.com:2376".into()));
    FeatureUse { name: name.to_owned(), options: needed.collect() }
}

fn environment(shelf: &Shelf, template: &str, features: &[&str]) -> Environment {
    let features: Vec<FeatureUse> = features.iter().map(|name| used(name, &shelf.features[*name])).collect();
    let project = serde_json::json!({"owner": "ada", "template": template, "features": features});
    let project: ProjectSpec = serde_json::from_value(project).unwrap();
    resolve(&project, &Images::default(), shelf).unwrap_or_else(|e| panic!("{template}: {}: {}", e.reason, e.message))
}

fn parses(what: &str, script: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    std::fs::write(&file, script).unwrap();
    let done = std::process::Command::new("sh").arg("-n").arg(&file).output().unwrap();
    assert!(done.status.success(), "{what}: {}\n{script}", String::from_utf8_lossy(&done.stderr));
}

fn scripts_parse(what: &str, recipe: &Recipe) {
    for line in recipe.lines() {
        let Instruction::Run(argv) = line else { continue };
        assert_eq!(argv[..2], ["/bin/sh", "-c"], "{what}");
        parses(what, &argv[2]);
    }
    for (name, service) in &recipe.services {
        parses(&format!("{what}, service {name}"), &service.script);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_is_applied_to_an_empty_server_and_then_unchanged() {
    let mut count = 0;
    for (path, document) in records() {
        let file = root().join(&path).display().to_string();
        assert_eq!(path.rsplit('/').next(), Some(format!("{}.yaml", document.name).as_str()), "{path}");
        let folder = format!("manifests/library/{}s/", document.def.singular);
        assert!(path.starts_with(&folder), "{path} holds a {}", document.def.kind);
        let served = Served::new(Api::new().await).await;
        let cli = served.cli();
        let title = format!("{}.devsanctum.io/{}", document.def.singular, document.name);
        assert_eq!(cli.run(&["apply", "-f", &file]).await.ok(), format!("{title} created\n"));
        assert_eq!(cli.run(&["apply", "-f", &file]).await.ok(), format!("{title} unchanged\n"));
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn every_template_works_alone_and_with_every_feature() {
    let shelf = shelf();
    let all: Vec<&str> = shelf.features.keys().map(String::as_str).collect();
    for name in shelf.templates.keys() {
        let alone = environment(&shelf, name, &[]);
        let Image::Built(recipe) = &alone.image else { panic!("{name} is built") };
        scripts_parse(name, recipe);
        assert_eq!(alone.workdir.as_deref(), Some("/workspace"), "{name}");
        assert!(alone.folders.iter().any(|f| f.name == "workspace" && f.path == "/workspace"), "{name}");
        assert!(alone.user.as_ref().is_some_and(|u| u != "root" && u != "0"), "{name}");
        // Nothing else listens, so a port without a service would never come to rest.
        assert_eq!(alone.ports.len(), recipe.services.len(), "{name}");
        if let Some(port) = alone.ports.first() {
            assert_eq!(alone.env.get("PORT"), Some(&port.port.to_string()), "{name}");
        }
        for feature in &all {
            environment(&shelf, name, &[feature]);
        }
        let together = environment(&shelf, name, &all);
        let Image::Built(recipe) = &together.image else { panic!("{name} is built") };
        scripts_parse(name, recipe);
        assert!(together.ports.starts_with(&alone.ports), "{name}: the template's port is the primary one");
    }
}

#[test]
fn a_feature_has_ports_where_something_listens_and_says_what_it_is() {
    for (name, feature) in shelf().features {
        let serves = feature.service.is_some() || feature.sidecar.is_some();
        assert_eq!(serves, !feature.ports.is_empty(), "{name}");
        assert!(feature.description.is_some_and(|d| d.len() > 20), "{name}");
    }
}

#[test]
fn every_page_tells_the_options_their_defaults_and_the_ports() {
    let shelf = shelf();
    let page = |name: &str| {
        let path = root().join(format!("docs/library/{name}.md"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        text
    };
    for (name, template) in &shelf.templates {
        let text = page(name);
        for port in &template.ports {
            assert!(text.contains(&format!("`{}` ({}", port.name, port.port)), "{name}: {}", port.name);
        }
        assert!(template.base.as_ref().is_some_and(|base| text.contains(&format!("`{base}`"))), "{name}: its base");
    }
    for (name, feature) in &shelf.features {
        let text = page(name);
        for port in &feature.ports {
            assert!(text.contains(&format!("`{}` ({}", port.name, port.port)), "{name}: {}", port.name);
        }
        for option in &feature.options {
            let row = text.lines().find(|l| l.starts_with(&format!("| `{}` |", option.key)));
            let row = row.unwrap_or_else(|| panic!("{name}: {}", option.key));
            let default = option.default.as_ref().map_or("| |".to_owned(), |d| format!("| `{d}` |"));
            assert!(row.ends_with(&default), "{name}: {}: {default}", option.key);
        }
        for key in feature.env.keys() {
            assert!(text.contains(&format!("`{key}`")), "{name}: {key}");
        }
    }
    let pages = files("docs/library", "md").into_iter().filter(|p| !p.path.ends_with("README.md")).count();
    assert_eq!(pages, shelf.templates.len() + shelf.features.len(), "a page of nothing in the library");
}

/// Programs in the place of those that would serve the page: each says that it runs, and stays.
fn stand_ins(folder: &Path) {
    for name in ["node", "python3", "php", "placeholder", "jwebserver"] {
        let path = folder.join(name);
        std::fs::write(&path, "#!/bin/sh\necho $$ >\"$STATE/page\"\nexec sleep 60\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// What a file says, once it says something.
async fn said(file: &Path) -> String {
    for _ in 0..200 {
        match std::fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("nothing is written to {}", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_served_until_the_project_has_a_start_script() {
    let shelf = shelf();
    for (name, template) in shelf.templates.iter().filter(|(_, t)| !t.services.is_empty()) {
        let (work, state, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        stand_ins(programs.path());
        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", &template.services[0].run]).current_dir(work.path()).env("STATE", state.path()).kill_on_drop(true);
        let _running = command.env("PATH", format!("{}:/usr/bin:/bin", programs.path().display())).spawn().unwrap();
        let page = said(&state.path().join("page")).await;
        let scripts = work.path().join("shop/.devsanctum");
        std::fs::create_dir_all(&scripts).unwrap();
        std::fs::write(scripts.join("start.sh"), "echo \"${PWD##*/}\" >\"$STATE/started\"\nexec sleep 60\n").unwrap();
        assert_eq!(said(&state.path().join("started")).await, "shop", "{name}: begins in the repository's folder");
        assert!(!Path::new(&format!("/proc/{page}")).exists(), "{name}: the page gave its port up");
    }
}
