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
            let (mut documents, complaints) = manifest::load(&[root().join(&file.path).display().to_string()], false);
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
    let contents = std::fs::read_to_string(root().join("docs/library/README.md")).unwrap();
    for name in shelf.templates.keys().chain(shelf.features.keys()) {
        assert!(contents.contains(&format!("[{name}]({name}.md)")), "docs/library/README.md: {name}");
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

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_that_of_the_folder_and_all_of_it_is_built_in() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    let folder = root().join("manifests/library").display().to_string();
    let fresh = cli.run(&["library", "index", &folder]).await;
    let kept = std::fs::read_to_string(root().join("manifests/library/index.yaml")).unwrap();
    assert_eq!(fresh.ok(), kept, "run `make library`");
    let built_in = devsanctum::library::built_in();
    assert_eq!(&devsanctum::library::Index::read(&kept).unwrap(), built_in);
    let listed = cli.run(&["library", "list"]).await;
    for (path, document) in records() {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        assert_eq!(cli.run(&["library", "show", &document.name]).await.ok(), text, "{path}: list it in src/library/built_in.rs");
        let description = document.value["spec"]["description"].as_str().unwrap();
        let row = listed.ok().lines().find(|l| l.split_whitespace().nth(1) == Some(&document.name)).unwrap();
        assert!(row.starts_with(&document.def.kind) && row.ends_with(description), "{row}");
    }
    assert_eq!(listed.out.lines().count(), 1 + records().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_built_in_is_imported_as_apply_would() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    let dry = cli.run(&["library", "import", "node", "--dry-run"]).await;
    assert_eq!(dry.ok(), "template.devsanctum.io/node created (server dry run)\n");
    let here = cli.run(&["library", "import", "node", "redis", "--dry-run=client"]).await;
    assert_eq!(here.ok().matches(" checked (client dry run)\n").count(), 2, "{here:?}");
    let first = cli.run(&["library", "import", "node", "redis", "node"]).await;
    assert_eq!(first.ok(), "feature.devsanctum.io/redis created\ntemplate.devsanctum.io/node created\n");
    let again = cli.run(&["library", "import", "redis", "node"]).await;
    assert_eq!(again.ok(), "feature.devsanctum.io/redis unchanged\ntemplate.devsanctum.io/node unchanged\n");
    let file = cli.file("node.yaml", &std::fs::read_to_string(root().join("manifests/library/templates/node.yaml")).unwrap());
    assert_eq!(cli.run(&["apply", "-f", &file]).await.ok(), "template.devsanctum.io/node unchanged\n");
    cli.file("node.yaml", &std::fs::read_to_string(&file).unwrap().replace("minRamMb: 512", "minRamMb: 600"));
    cli.run(&["apply", "-f", &file]).await.ok();
    assert_eq!(cli.run(&["library", "import", "node"]).await.ok(), "template.devsanctum.io/node configured\n");
    let none = cli.run(&["library", "import", "node", "cobol"]).await;
    assert!(none.code == 1 && none.err.contains("has no \"cobol\"") && none.err.contains("it has: adminer, "), "{none:?}");
    assert_eq!(cli.run(&["library", "list", "--allow-private"]).await.code, 2, "it says nothing about what is built in");
}

const BASE: &str =
    "apiVersion: devsanctum.io/v1\nkind: Template\nmetadata:\n  name: team\nspec:\n  base: debian\n  features: [{name: b}]\n";
const CHILD: &str = "apiVersion: devsanctum.io/v1\nkind: Template\nmetadata:\n  name: child\nspec:\n  extends: team\n  features: \
                     [{name: redis}]\n";
const A: &str = "apiVersion: devsanctum.io/v1\nkind: Feature\nmetadata:\n  name: a\nspec:\n  description: An a.\n  env: {A: a}\n";
const B: &str = "apiVersion: devsanctum.io/v1\nkind: Feature\nmetadata:\n  name: b\nspec:\n  requires: [a]\n";

/// A folder's files, as any web server would give them.
fn site(folder: &Path) -> axum::Router {
    let folder = folder.to_owned();
    let answer = move |uri: axum::http::Uri| {
        let path = folder.join(uri.path().trim_start_matches('/'));
        async move { std::fs::read_to_string(path).map_err(|_| axum::http::StatusCode::NOT_FOUND) }
    };
    axum::Router::new().fallback(answer)
}

async fn serve(folder: &Path) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/lib", listener.local_addr().unwrap());
    let site = site(folder);
    tokio::spawn(async move { axum::serve(listener, site).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_behind_tls_is_read_where_its_authority_is_trusted() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    std::fs::copy(root().join("manifests/library/index.yaml"), folder.path().join("lib/index.yaml")).unwrap();
    let authority = folder.path().join("tls");
    let made = devsanctum::api::tls::load_or_create(&authority, &[], None, jiff::Timestamp::now()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let site = site(folder.path());
    let serving = tokio::spawn(async move {
        devsanctum::api::tls::serve(listener, site, &made, Default::default(), std::future::pending()).await
    });
    let address = format!("https://localhost:{port}/lib");
    let list = ["library", "list", "--allow-private", "--from", address.as_str()];
    let foreign = cli.run(&list).await;
    assert!(foreign.code == 1 && foreign.err.contains("could not be fetched: invalid peer certificate"), "{foreign:?}");
    let trusted = cli.with("SSL_CERT_FILE", &authority.join("ca.crt").display().to_string()).run(&list).await;
    assert_eq!(trusted.ok().lines().count(), 1 + records().len(), "{trusted:?}");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_elsewhere_is_imported_with_all_that_its_records_need() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    let folder = tempfile::tempdir().unwrap();
    let lib = folder.path().join("lib");
    let write = |path: &str, text: &str| {
        std::fs::create_dir_all(lib.join(path).parent().unwrap()).unwrap();
        std::fs::write(lib.join(path), text).unwrap();
    };
    for (path, text) in [("t/team.yaml", BASE), ("t/child.yaml", CHILD), ("a.yaml", A), ("b.yaml", B)] {
        write(path, text);
    }
    let index = cli.run(&["library", "index", &lib.display().to_string()]).await;
    write("index.yaml", index.ok());
    let address = serve(folder.path()).await;
    let refused = cli.run(&["library", "list", "--from", &address]).await;
    assert!(refused.code == 1 && refused.err.contains("is this machine itself") && refused.err.contains("--allow-private"));
    let there = ["--from", address.as_str(), "--allow-private"];
    let listed = cli.run(&[&["library", "list"], there.as_slice()].concat()).await;
    assert!(listed.ok().contains("Feature    a       An a.\n") && listed.out.contains("Template   child\n"), "{listed:?}");
    assert_eq!(cli.run(&[&["library", "show", "a"], there.as_slice()].concat()).await.ok(), A);
    cli.run(&["library", "import", "redis"]).await.ok();
    let import = [&["library", "import", "child"], there.as_slice()].concat();
    let imported = cli.run(&import).await;
    let expected =
        ["feature.devsanctum.io/a", "feature.devsanctum.io/b", "template.devsanctum.io/team", "template.devsanctum.io/child"];
    assert_eq!(imported.ok(), expected.map(|title| format!("{title} created\n")).concat());
    assert!(imported.err.contains("needs the Feature \"redis\", which this library has not"), "{imported:?}");
    assert_eq!(cli.run(&import).await.ok().matches(" unchanged\n").count(), 4);
    // A proxy of the environment would see what is fetched, and could change it.
    cli.with("HTTP_PROXY", "http://127.0.0.1:1").run(&import).await.ok();
    write("a.yaml", &A.replace("A: a", "A: b"));
    let changed = cli.run(&import).await;
    assert!(changed.code == 1 && changed.out.is_empty() && changed.err.contains("a.yaml is not the file that the index means"));
    let user = "apiVersion: devsanctum.io/v1\nkind: User\nmetadata:\n  name: a\nspec:\n  email: a@example.com\n";
    for text in
        [&format!("{A}---\n{user}"), user, "", &A.replace("name: a", "name: c"), &A.replace("name: a", "name: a\n  namespace: x")]
    {
        write("a.yaml", text);
        let digest = devsanctum::library::digest;
        write("index.yaml", &index.out.replace(&digest(A), &digest(text)));
        let odd = cli.run(&import).await;
        assert!(
            odd.code == 1 && odd.out.is_empty() && odd.err.contains("must hold the Feature \"a\" and nothing else"),
            "{odd:?}"
        );
    }
}

const DEVCONTAINER: &str = r#"{
  // A comment.
  "image": "node:22-bookworm",
  "remoteUser": "node",
  "features": { "ghcr.io/devcontainers/features/common-utils:2": {} },
  "forwardPorts": [3000],
  "postCreateCommand": "npm ci",
  "runArgs": ["--privileged"],
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_devcontainer_becomes_a_template_with_the_features_it_has() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    let repository = tempfile::tempdir().unwrap();
    std::fs::create_dir(repository.path().join(".devcontainer")).unwrap();
    std::fs::write(repository.path().join(".devcontainer/devcontainer.json"), DEVCONTAINER).unwrap();
    let path = repository.path().display().to_string();
    let import = ["devcontainer", "import", path.as_str(), "--name", "shop"];
    let printed = cli.run(&[import.as_slice(), &["-o", "yaml"]].concat()).await;
    assert!(printed.ok().contains("base: node:22-bookworm\n"), "{printed:?}");
    assert!(printed.err.lines().any(|l| l.starts_with("runArgs: containers are hardened alike")), "{printed:?}");
    let here = cli.run(&[import.as_slice(), &["--dry-run=client"]].concat()).await;
    assert_eq!(here.ok().lines().count(), 2, "{here:?}");
    let imported = cli.run(&import).await;
    assert_eq!(imported.ok(), "feature.devsanctum.io/shell-tools created\ntemplate.devsanctum.io/shop created\n");
    assert_eq!(cli.run(&import).await.ok(), "template.devsanctum.io/shop unchanged\n", "a feature that is there is let be");
    let again = cli.run(&["apply", "-f", &cli.file("shop.yaml", &printed.out)]).await;
    assert_eq!(again.ok(), "template.devsanctum.io/shop unchanged\n", "what is printed is what is applied");
    let mut shelf = shelf();
    let made = manifest::load(&[cli.path("shop.yaml")], false).0.remove(0).value["spec"].clone();
    shelf.templates.insert("shop".into(), serde_json::from_value(made).unwrap());
    for (_, name, port) in devsanctum::devcontainer::SAME {
        assert_eq!(shelf.features[name].ports.first().map(|p| p.port), port, "{name}");
    }
    let environment = environment(&shelf, "shop", &["postgresql", "code-server"]);
    let Image::Built(recipe) = &environment.image else { panic!("it is built") };
    scripts_parse("shop", recipe);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_devcontainer_is_refused_in_words() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    let compose = cli.file("a.json", r#"{"dockerComposeFile": "compose.yml"}"#);
    let broken = cli.file("b.json", "{\"image\": ");
    let none = cli.path("");
    for (path, why, hint) in [
        (&compose, "compose files are not read", "sidecar"),
        (&broken, "cannot be read", "object"),
        (&none, "there is no .devcontainer/", "path"),
    ] {
        let run = cli.run(&["devcontainer", "import", path, "--name", "shop"]).await;
        assert!(run.code == 1 && run.err.contains(why) && run.err.contains("\nhint: ") && run.err.contains(hint), "{run:?}");
    }
    assert_eq!(cli.run(&["devcontainer", "import", &compose, "--name", "Shop"]).await.code, 2);
    assert_eq!(cli.run(&["devcontainer", "import", &compose]).await.code, 2);
}
