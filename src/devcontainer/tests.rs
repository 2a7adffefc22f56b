use super::*;
use crate::resource::common::Protocol;
use serde_json::json;

fn imported(text: &str) -> Imported {
    import(&read(text).unwrap()).unwrap()
}

fn of(fields: Value) -> Imported {
    imported(&fields.to_string())
}

fn with(mut fields: Value) -> Imported {
    fields["image"] = json!("node:22");
    of(fields)
}

/// What is said about a field.
fn noted(imported: &Imported, field: &str) -> String {
    imported.notes.iter().filter(|n| n.field == field).map(|n| n.why.clone()).collect::<Vec<_>>().join("; ")
}

const SHOP: &str = r#"// For format details, see the reference.
{
	"name": "Shop", /* the web shop */
	"image": "mcr.microsoft.com/devcontainers/javascript-node:1-22-bookworm",
	"features": {
		"ghcr.io/devcontainers/features/git:1": { "version": "os-provided" },
		"ghcr.io/devcontainers/features/docker-outside-of-docker:1": {},
		"ghcr.io/devcontainers/features/python:1": {},
		"ghcr.io/example/features/odd@sha256:0123": {},
	},
	"forwardPorts": [3000, "db:5432", 6379],
	"portsAttributes": {
		"3000": { "label": "Web App", "onAutoForward": "notify" },
		"9229": { "label": "Debug" },
	},
	"containerEnv": { "NODE_ENV": "development" },
	"remoteEnv": {
		"PATH": "${containerEnv:PATH}:/opt/\"x\"/bin",
		"TOKEN": "${localEnv:TOKEN}",
		"REGION": "${localEnv:REGION:eu}",
		"ROOT": "${containerWorkspaceFolder}/src",
		"GONE": null,
	},
	"workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}",
	"postCreateCommand": "npm ci && echo 'ready'",
	"postStartCommand": ["node", "-e", "it's"],
	"hostRequirements": { "cpus": 4, "memory": "8gb", "storage": "32gb", "gpu": true },
	"customizations": { "vscode": { "extensions": ["dbaeumer.vscode-eslint"] } },
}
"#;

#[test]
fn a_usual_one_becomes_a_template() {
    let made = imported(SHOP);
    let t = &made.template;
    assert_eq!(t.base.as_deref(), Some("mcr.microsoft.com/devcontainers/javascript-node:1-22-bookworm"));
    assert_eq!(
        (t.display_name.as_deref(), t.user.as_deref(), t.workdir.as_deref()),
        (Some("Shop"), Some("node"), Some("/workspaces"))
    );
    assert_eq!(t.features.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["shell-tools"]);
    let ports: Vec<_> = t.ports.iter().map(|p| (p.name.as_str(), p.port, p.protocol)).collect();
    assert_eq!(ports, [("web-app", 3000, Protocol::Http), ("port-6379", 6379, Protocol::Tcp)]);
    let env: Vec<_> = t.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["NODE_ENV=development", "REGION=eu", "ROOT=/workspaces/src"]);
    assert_eq!((t.min_ram_mb, t.min_disk_gb, t.limits.cpu, t.limits.memory_mb), (Some(8192), Some(32.0), Some(4.0), Some(8192)));
    let dockerfile = t.dockerfile.as_deref().unwrap();
    assert_eq!(dockerfile, "RUN mkdir -p /workspaces && chown node: /workspaces\nENV PATH=\"${PATH}:/opt/\\\"x\\\"/bin\"\n");
    for (field, why) in [
        ("features.ghcr.io/devcontainers/features/docker-outside-of-docker:1", "no engine runs in a workspace"),
        ("features.ghcr.io/devcontainers/features/python:1", "a language is a matter of the image"),
        ("features.ghcr.io/devcontainers/features/git:1", "`devsanctum library show shell-tools`"),
        ("features.ghcr.io/example/features/odd@sha256:0123", "the library has nothing of the kind"),
        ("forwardPorts[1]", "\"db:5432\" is another container's"),
        ("portsAttributes.9229", "names no port"),
        ("portsAttributes.3000.onAutoForward", "for editors"),
        ("remoteEnv.TOKEN", "${localEnv:TOKEN} has no value here"),
        ("remoteEnv.ROOT", "is /workspaces in it"),
        ("remoteEnv.GONE", "cannot be taken away"),
        ("hostRequirements.gpu", "no graphics processors"),
        ("customizations", "for editors"),
    ] {
        assert!(noted(&made, field).contains(why), "{field}: {:?}", noted(&made, field));
    }
    assert_eq!(made.notes.len(), 13, "and the ports: {:?}", made.notes);
}

#[test]
fn a_port_that_a_feature_brings_is_the_features() {
    let made = with(json!({"forwardPorts": [8000, 5432], "features": {"ghcr.io/itsmechlark/features/postgresql:1": {}}}));
    assert_eq!(made.template.ports.iter().map(|p| p.port).collect::<Vec<_>>(), [8000]);
}

#[test]
fn what_is_no_image_is_refused_with_what_to_do() {
    let refused = |fields: Value| import(&read(&fields.to_string()).unwrap()).unwrap_err();
    let compose = refused(json!({"dockerComposeFile": "compose.yml", "service": "app"}));
    assert!(compose.message.contains("compose files are not read") && compose.mend.contains("sidecar"));
    for build in [json!({"build": {"dockerfile": "Dockerfile"}}), json!({"dockerFile": "Dockerfile"})] {
        assert!(refused(build).mend.starts_with("build the image, push it to a registry"));
    }
    for image in [json!({}), json!({"image": 1}), json!({"image": "${localEnv:IMAGE}"}), json!({"image": "a b"})] {
        assert!(refused(image.clone()).message.contains("\"image\""), "{image}");
    }
    assert_eq!(of(json!({"image": "debian"})).template.base.as_deref(), Some("debian:latest"), "not the platform's own");
}

/// What a service does in a folder with a repository, run by a real shell; its output, without what it says on failure.
fn run(made: &Imported) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("shop/.git")).unwrap();
    let marker = dir.path().join("marker");
    let script = made.template.services[0].run.replace("/var/tmp/devcontainer-done", &marker.display().to_string());
    let script = script.replace("sleep 30", "sleep 0").replace("exec sleep infinity", "echo stays");
    let mut said = String::new();
    for _ in 0..2 {
        let mut command = std::process::Command::new("/bin/sh");
        let done = command.args(["-c", &script]).current_dir(dir.path()).output().unwrap();
        said.push_str(&String::from_utf8(done.stdout).unwrap());
    }
    said
}

#[test]
fn commands_run_in_the_repository_once_and_at_each_start() {
    let made = with(json!({
        "onCreateCommand": "echo \"it's $((1 + 1)) in ${PWD##*/} {{option.x}}\"",
        "updateContentCommand": ["echo", "${containerWorkspaceFolderBasename}", "a  b", "it's"],
        "postCreateCommand": {"one": "echo one; sleep 0.3", "two": ["printf", "%s\n", "two"]},
        "postStartCommand": "echo ${containerWorkspaceFolderBasename}",
    }));
    let said = run(&made);
    let (first, second) = said.split_once("stays\n").unwrap();
    let mut lines: Vec<&str> = first.lines().collect();
    lines[2..4].sort_unstable();
    assert_eq!(lines, ["it's 2 in shop {{option.x}}", "${containerWorkspaceFolderBasename} a  b it's", "one", "two", "shop"]);
    assert_eq!(second, "shop\nstays\n");
}

#[test]
fn a_command_that_fails_is_tried_again_from_the_start() {
    let made = with(
        json!({"onCreateCommand": "echo first", "postCreateCommand": {"a": "exit 3", "b": "echo b"}, "postStartCommand": "echo no"}),
    );
    let said = run(&made);
    assert_eq!(said.matches("first\n").count(), 2, "{said}");
    assert!(!said.contains("no\n") && !said.contains("stays"), "{said}");
}

#[test]
fn commands_that_cannot_be_run_are_named() {
    let made = with(json!({
        "postCreateCommand": {"a": "echo ${localEnv:HOME}", "b": ["x", 1], "c": {"d": 1}, "e": "x\u{0}"},
        "postStartCommand": "cp ${localWorkspaceFolder}/x .",
        "initializeCommand": "true",
        "postAttachCommand": "true",
    }));
    assert_eq!(made.template.services[0].run, commands::STAY);
    for field in ["postCreateCommand.a", "postCreateCommand.b", "postCreateCommand.c", "postCreateCommand.e", "postStartCommand"]
    {
        assert!(noted(&made, field).starts_with("is not mapped: "), "{field}");
    }
    assert!(noted(&made, "initializeCommand").contains("developer's machine") && !noted(&made, "postAttachCommand").is_empty());
}

#[test]
fn the_images_own_command_is_kept_where_that_is_asked_for() {
    assert!(with(json!({"overrideCommand": false})).template.services.is_empty());
    assert_eq!(with(json!({})).template.services[0].run, commands::STAY);
    assert_eq!(with(json!({"overrideCommand": false, "postCreateCommand": "x"})).template.services.len(), 1);
}

#[test]
fn volumes_are_folders_and_folders_of_a_developers_machine_are_not() {
    let made = with(json!({
        "remoteUser": "node",
        "workspaceFolder": "/work/",
        "mounts": [
            "source=${localWorkspaceFolderBasename}-modules,target=${containerWorkspaceFolder}/node_modules,type=volume",
            {"type": "volume", "source": "Cache 1", "target": "/home/node/.cache"},
            "source=/var/run/docker.sock,target=/var/run/docker.sock,type=bind",
            {"type": "volume", "target": "/etc/x"},
            {"type": "volume", "source": "again", "target": "/home/node/.cache"},
            7,
        ],
    }));
    let folders: Vec<_> = made.template.folders.iter().map(|f| (f.name.as_str(), f.path.as_str())).collect();
    assert_eq!(folders, [("workspace", "/work"), ("work-node-modules", "/work/node_modules"), ("cache-1", "/home/node/.cache")]);
    assert!(made.template.dockerfile.as_deref().unwrap().contains("chown node: /home/node/.cache"));
    assert!(noted(&made, "mounts[2]").contains("developer's machine") && noted(&made, "mounts[3]").contains("system folder"));
    assert!(noted(&made, "mounts[4]").contains("already") && !noted(&made, "mounts[5]").is_empty());
}

#[test]
fn hostile_values_come_to_a_template_or_to_words() {
    let made = with(json!({
        "name": 7, "remoteUser": "root; rm -rf /", "workspaceFolder": "/etc/../x", "features": [],
        "forwardPorts": [0, 70000, -1, {}, null, "x:y", 3000, 3000], "portsAttributes": {"3000": 1},
        "containerEnv": {"A B": "x", "N": "a\u{0}b", "X": "${containerEnv:Y}\nRUN evil", "Z": "{{option.q}}"},
        "remoteEnv": [], "mounts": {},
        "hostRequirements": {"cpus": -1, "memory": "99999999999999999999gb", "storage": "lots", "odd": 1},
        "\u{1b}[2J": 1,
    }));
    let t = &made.template;
    assert_eq!((t.user.as_deref(), t.workdir.as_deref(), t.ports.len()), (None, Some("/workspace"), 1));
    assert_eq!(t.dockerfile.as_deref(), Some("RUN mkdir -p /workspace\n"));
    for field in
        ["remoteUser", "workspaceFolder", "features", "forwardPorts[0]", "forwardPorts[5]", "containerEnv.A B", "containerEnv.N"]
    {
        assert!(!noted(&made, field).is_empty(), "{field}");
    }
    for field in
        ["containerEnv.X", "remoteEnv", "mounts", "hostRequirements.cpus", "hostRequirements.memory", "hostRequirements.odd"]
    {
        assert!(!noted(&made, field).is_empty(), "{field}");
    }
}

#[test]
fn what_is_no_such_json_is_refused() {
    let deep = |n: usize| format!("{{\"a\": {}{}}}", "[".repeat(n), "]".repeat(n));
    let bomb = format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20));
    for text in [
        "",
        "null",
        "[]",
        "7",
        "\"x\"",
        "{",
        "{\"a\": 1 \"b\": 2}",
        "{a: 1}",
        "{'a': 1}",
        "{\"a\": 0x10}",
        "{} {}",
        &bomb,
        &deep(33),
    ] {
        assert!(read(text).is_err(), "{}", &text[..text.len().min(40)]);
    }
    for text in [deep(600), deep(500_000), "{\"a\":".repeat(200_000), "/*".repeat(300_000), "//".repeat(300_000)] {
        assert!(read(&text).is_err());
    }
    assert!(read(&deep(30)).is_ok() && read("\u{feff}{\"a\": 1, // x\n}").is_ok());
}
