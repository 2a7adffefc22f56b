//! An environment made of hostile texts wherever a text may stand, and what comes of it.

use super::{SOON, files, has_environment, inspect, labelled, lines, numbered, strings, texts};
use crate::e2e::records;
use crate::e2e::services::base;
use crate::e2e::world::{World, until};
use crate::support::devsanctum;
use devsanctum::resource::conditions::{find, holds};
use devsanctum::resource::{Template, Workspace};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A package manager that only says what it is asked for.
const APK: &str = "FROM devsanctum/base:tiny\nRUN printf '#!/bin/sh\\nfor v; do echo \"$v\"; done >/asked\\n' >/bin/apk && chmod 755 /bin/apk\n";
const BASE: &str = "ds-test/hostile:1";
/// Names that are none a shell, a builder or a package manager would read as more.
const PACKAGES: [&str; 8] =
    ["a+b", "apk:build-base", "apt:not-here", "dnf:nor-here", "g++=1:2.3~rc4+d-1", "lib.so_1:any", "x@edge", "y>=1<2"];
/// What a service is made of, as it is.
const SCRIPT: &str = "mkdir -p /tmp/log\ncat >/tmp/log/new <<'EOF'\nit's \"$(touch /pwned)\" `touch /pwned` ${IFS} \\\n\
    --\u{2028}\u{202e}\u{85}\u{1b}[2J\r\n#!/bin/false\n{{option\nEOF\nmv /tmp/log/new /tmp/log/said\nexec sleep 1000000\n";
const SAID: &str =
    "it's \"$(touch /pwned)\" `touch /pwned` ${IFS} \\\n--\u{2028}\u{202e}\u{85}\u{1b}[2J\r\n#!/bin/false\n{{option\n";
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";
const MARK: &str = "display-7731";

fn record(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn option(i: usize) -> String {
    format!("{{{{option.O{i}}}}}")
}

/// A feature that puts each option wherever one may stand.
fn inner(n: usize) -> Value {
    let each = |line: &dyn Fn(usize) -> String, between: &str| (0..n).map(line).collect::<Vec<_>>().join(between);
    let quotes = |i: usize, folder: &str| {
        let o = option(i);
        format!("printf %s {o} >{folder}/plain.{i}; printf %s '{o}' >{folder}/single.{i}; printf %s \"{o}\" >{folder}/double.{i}")
    };
    let arguments: Vec<String> = (0..n).map(option).collect();
    let program = ["/bin/sh", "-c", "i=0; for v; do printf %s \"$v\" >/made/json.$i; i=$((i + 1)); done", "sh"];
    let program: Vec<String> = program.map(str::to_owned).into_iter().chain(arguments).collect();
    let dockerfile = format!(
        "RUN mkdir /made; {}\nRUN {}\nENV {}\n",
        each(&|i| quotes(i, "/made"), "; "),
        json!(program),
        each(&|i| format!("V{i}={}", option(i)), " ")
    );
    let run =
        format!("mkdir -p /tmp/new\n{}\nmv /tmp/new /tmp/served\nexec sleep 1000000", each(&|i| quotes(i, "/tmp/new"), "\n"));
    let options: Vec<Value> = (0..n).map(|i| json!({"key": format!("O{i}")})).collect();
    let env: BTreeMap<String, String> = (0..n).map(|i| (format!("F{i}"), option(i))).collect();
    record(
        "Feature",
        "inner",
        json!({"options": options, "dockerfile": dockerfile, "env": env, "service": {"name": "0", "run": run}}),
    )
}

/// The same for a companion.
fn beside(n: usize) -> Value {
    let mut options: Vec<Value> = (0..n).map(|i| json!({"key": format!("O{i}")})).collect();
    options.push(json!({"key": "IMAGE", "default": "busybox"}));
    let command: Vec<String> = ["sh", "-c", IDLE, "sh"].map(str::to_owned).into_iter().chain((0..n).map(option)).collect();
    let env: BTreeMap<String, String> = (0..n).map(|i| (format!("S{i}"), option(i))).collect();
    let sidecar = json!({"image": "ds-test/{{option.IMAGE}}:1", "command": command, "env": env, "limits": {"memoryMb": 32}});
    record("Feature", "0-0", json!({"options": options, "sidecar": sidecar}))
}

/// A template of these options, variables, packages and a service.
fn template(name: &str, options: &[String], env: &[String], packages: &[&str], script: &str) -> Value {
    let options = numbered("O", options);
    let mut template = records::template(name);
    let spec = json!({
        "displayName": format!("{MARK}\u{1b}[2J\n'\"`$(touch /pwned)"),
        "description": "a\r\n{{option.X}}\u{202e}\u{7}",
        "base": BASE, "startCommand": null, "packages": packages, "env": numbered("E", env), "user": "1000",
        "folders": [{"name": "0", "path": "/-rf"}, {"name": "x--y", "path": "/..."}], "workdir": "/--help/-x",
        "services": [{"name": "log", "run": script, "user": "root"}],
        "features": [{"name": "inner", "options": options}, {"name": "0-0", "options": options}],
        "limits": {"memoryMb": 96, "pids": 64},
    });
    template["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    template
}

/// Keywords of a Dockerfile, and how many arguments each `RUN` has or how many variables each `ENV` sets.
fn shape(world: &World<'_>, name: &str) -> Vec<(String, usize)> {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["template", "render", name, "--dockerfile"]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    let line = |line: &str| {
        let (keyword, rest) = line.split_once(' ').unwrap();
        let parts = match keyword {
            "RUN" => serde_json::from_str::<Vec<String>>(rest).unwrap().len(),
            "ENV" => variables(rest).len(),
            _ => rest.split(' ').count(),
        };
        (keyword.to_owned(), parts)
    };
    text.lines().filter(|l| !l.is_empty()).map(line).collect()
}

/// `NAME="value" …`, where a backslash takes a character's meaning away.
fn variables(text: &str) -> BTreeMap<String, String> {
    let (mut all, mut rest) = (BTreeMap::new(), text.chars());
    while !rest.as_str().is_empty() {
        let name: String = rest.by_ref().take_while(|c| *c != '=').collect();
        assert_eq!(rest.next(), Some('"'), "{name}");
        let mut value = String::new();
        loop {
            match rest.next().unwrap() {
                '"' => break,
                '\\' => value.push(rest.next().unwrap()),
                c => value.push(c),
            }
        }
        assert!(matches!(rest.next(), None | Some(' ')), "{name}");
        all.insert(name, value);
    }
    all
}

/// Makes it all, and looks at what came of it. Gives how many values there are.
pub async fn as_they_are(world: &World<'_>) -> usize {
    base(world);
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), APK).unwrap();
    world.docker(&["build", "--network=none", "-t", BASE, &context.path().display().to_string()]);
    let (texts, lines) = (texts(), lines());
    let plain = |all: &[String]| vec!["x".to_owned(); all.len()];
    world.create(inner(texts.len())).await;
    world.create(beside(texts.len())).await;
    world.create(template("twin", &plain(&texts), &plain(&lines), &["p"], "exec x")).await;
    world.create(template("hostile", &texts, &lines, &PACKAGES, SCRIPT)).await;
    let project = format!("p{}", "0".repeat(62));
    let mut record = records::project(&project, "hostile");
    record["spec"]["displayName"] = json!(format!("{MARK}\n\u{1b}]0;x\u{7}"));
    world.create(record).await;
    let mut workspace = records::workspace("xn--80ak6aa92e");
    workspace["metadata"]["namespace"] = json!(project);
    workspace["spec"]["env"] = json!(numbered("W", &lines));
    world.create(workspace).await;
    let api: Api<Workspace> = Api::namespaced(world.client.clone(), &project);
    let mut uid = String::new();
    until("the hostile workspace to run", SOON, async || {
        let found = api.get("xn--80ak6aa92e").await.map_err(|e| e.to_string())?;
        uid = found.uid().unwrap_or_default();
        let all = found.status.clone().unwrap_or_default().conditions;
        if holds(&all, "ContainerRunning") { Ok(()) } else { Err(format!("{:?}", find(&all, "Ready"))) }
    })
    .await;
    built(world, &texts).await;
    let main = format!("ds-{project}-xn--80ak6aa92e-{}", &uid[..8]);
    let owner = (project.as_str(), "xn--80ak6aa92e", uid.as_str());
    inside(world, &main, &texts, &lines, owner).await;
    companion(world, &format!("{main}.0-0"), &texts, owner);
    shown(world, &project);
    // In each text's places: RUN four times, ENV, a service three times, a feature's variable, a companion's and its argument.
    texts.len() * 11 + lines.len() * 2 + PACKAGES.len()
}

/// The Dockerfile has the shape of its harmless twin, and each argument is one of what was given.
async fn built(world: &World<'_>, texts: &[String]) {
    let (mut hostile, mut twin) = (shape(world, "hostile"), shape(world, "twin"));
    // What is said of many packages is said of one: the list is a set.
    let install = hostile.iter().position(|(k, _)| k == "RUN").unwrap();
    assert_eq!((hostile.remove(install).1, twin.remove(install).1), (4 + PACKAGES.len(), 5));
    assert_eq!(hostile, twin);
    let resolved = async |name: &str| {
        let found = Api::<Template>::all(world.client.clone()).get(name).await.unwrap();
        found.status.unwrap().resolved.unwrap().dockerfile.unwrap()
    };
    let of = |text: &str| text.lines().filter_map(|l| l.strip_prefix("RUN ").map(str::to_owned)).collect::<Vec<_>>();
    let argv = |line: &String| serde_json::from_str::<Vec<String>>(line).unwrap();
    let (hostile, twin) = (resolved("hostile").await, resolved("twin").await);
    assert_eq!(argv(&of(&hostile)[0])[4..], PACKAGES);
    // Options come in the order of their names as arguments of scripts.
    let sorted: Vec<String> = numbered("O", texts).into_values().collect();
    let scripts: Vec<(Vec<String>, Vec<String>)> =
        of(&hostile).iter().map(argv).zip(of(&twin).iter().map(argv)).skip(1).collect();
    let with_options: Vec<_> = scripts.iter().filter(|(h, _)| h.len() > 4).collect();
    assert_eq!(with_options.len(), 2);
    for (hostile, twin) in &scripts {
        assert_eq!(hostile[..4], twin[..4]);
    }
    assert_eq!(with_options[0].0[4..], sorted);
    assert_eq!(with_options[1].0[4..], *texts);
}

async fn inside(world: &World<'_>, main: &str, texts: &[String], lines: &[String], owner: (&str, &str, &str)) {
    let seen = inspect(world, main);
    labelled(world, &seen, "main", owner, Some("1000"));
    let image = inspect(world, seen["Config"]["Image"].as_str().unwrap());
    let set: Vec<String> = numbered("V", texts).iter().map(|(k, v)| format!("{k}={v}")).collect();
    let from: Vec<String> = strings(&image["Config"]["Env"]).into_iter().filter(|l| l.starts_with('V')).collect();
    assert_eq!(from.iter().collect::<std::collections::BTreeSet<_>>(), set.iter().collect());
    let over = [("F", texts), ("E", lines), ("W", lines)].into_iter().flat_map(|(k, all)| numbered(k, all)).collect();
    has_environment(world, &seen, &over);
    assert_eq!((&seen["Config"]["Entrypoint"], &seen["Config"]["Cmd"]), (&json!(["/init"]), &Value::Null));
    assert_eq!(seen["Config"]["WorkingDir"], "/--help/-x");
    let mounts: BTreeMap<&str, &str> = seen["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["Type"] == "volume")
        .map(|m| (m["Destination"].as_str().unwrap(), m["Name"].as_str().unwrap().strip_prefix(main).unwrap()))
        .collect();
    assert_eq!(mounts, BTreeMap::from([("/-rf", ".0"), ("/...", ".x--y")]));

    let each = |names: &[&str]| {
        let of = |name: &str| texts.iter().enumerate().map(|(i, t)| (format!("{name}.{i}"), t.clone())).collect::<Vec<_>>();
        names.iter().flat_map(|n| of(n)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(files(world, main, "/made"), each(&["plain", "single", "double", "json"]));
    let ended = |file: &str| world.daemon.try_docker(&["exec", main, "test", "-e", file]).status.success();
    until("the services", SOON, async || if ended("/tmp/served") && ended("/tmp/log/said") { Ok(()) } else { Err("no".into()) })
        .await;
    assert_eq!(files(world, main, "/tmp/served"), each(&["plain", "single", "double"]));
    assert_eq!(files(world, main, "/tmp/log"), BTreeMap::from([("said".to_owned(), SAID.to_owned())]));
    assert_eq!(files(world, main, "/etc/services.d/log/script"), BTreeMap::from([("script".to_owned(), SCRIPT.to_owned())]));
    let asked = world.docker(&["exec", main, "cat", "/asked"]);
    let wanted = ["add", "--no-cache", "--", "a+b", "build-base", "g++=1:2.3~rc4+d-1", "lib.so_1:any", "x@edge", "y>=1<2"];
    assert_eq!(asked.lines().collect::<Vec<_>>(), wanted);
    assert!(!ended("/pwned"), "something was run that was only a text");
    assert!(!world.docker(&["inspect", main]).contains(MARK));
}

fn companion(world: &World<'_>, name: &str, texts: &[String], owner: (&str, &str, &str)) {
    let seen = inspect(world, name);
    labelled(world, &seen, "sidecar.0-0", owner, None);
    has_environment(world, &seen, &numbered("S", texts));
    let wanted: Vec<String> = ["sh", "-c", IDLE, "sh"].map(str::to_owned).into_iter().chain(texts.iter().cloned()).collect();
    assert_eq!(strings(&seen["Config"]["Cmd"]), wanted);
    assert_eq!(seen["Config"]["Image"], super::TINY);
}

/// What people are shown moves no cursor.
fn shown(world: &World<'_>, project: &str) {
    for args in [&["describe", "template", "hostile"][..], &["get", "templates", "-o", "wide"], &["describe", "project", project]]
    {
        let mut command = devsanctum();
        let done = command.arg("--state-dir").arg(world.state_dir()).args(args).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success() && text.contains("hostile"), "{args:?}: {text}");
        let steers = text.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
        assert_eq!(steers, None, "{args:?}: {text}");
    }
}
