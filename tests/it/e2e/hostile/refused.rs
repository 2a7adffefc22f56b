//! Values that are refused when they are given: by the name of their field, and nothing is stored.

use crate::e2e::records;
use crate::e2e::world::{World, until};
use devsanctum::resource::Template;
use devsanctum::resource::conditions::find;
use kube::api::Api;
use serde_json::{Value, json};
use std::time::Duration;

/// A kind of place for a value: the field that is named, the record, and the values.
type Place = (&'static str, fn(&str) -> Value, &'static [&'static str]);

fn record(kind: &str, name: &str, spec: Value) -> Value {
    let mut record = json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    if ["Workspace", "Route", "Secret"].contains(&kind) {
        record["metadata"]["namespace"] = "team".into();
    }
    record
}

fn template(spec: Value) -> Value {
    record("Template", "bad", spec)
}

fn feature(spec: Value) -> Value {
    record("Feature", "bad", spec)
}

fn project(mut more: Value) -> Value {
    more["owner"] = "ada".into();
    more["template"] = "hello".into();
    record("Project", "bad", more)
}

fn repository(field: &str, value: &str) -> Value {
    let mut repository = json!({"name": "a", "url": "https://h/a"});
    repository[field] = value.into();
    project(json!({"repositories": [repository]}))
}

fn workspace(field: &str, value: &str) -> Value {
    let mut workspace = record("Workspace", "bad", json!({"owner": "ada"}));
    workspace["spec"][field] = value.into();
    workspace
}

fn port(field: &str, value: Value) -> Value {
    let mut port = json!({"name": "web", "port": 80});
    port[field] = value;
    template(json!({"ports": [port]}))
}

const NAMES: &[&str] = &[
    "",
    "..",
    "../team",
    "A",
    "a`)||Host(`b",
    "a.b,c.d",
    "a b",
    "a\n",
    "-a",
    "a-",
    "$(id)",
    "--all",
    "аpple",
    "a\u{202e}b",
    "a%00",
];
const PATHS: &[&str] = &[
    "/",
    "//",
    "relative",
    "../etc",
    "/home/../etc",
    "/proc",
    "/run/devsanctum",
    "/var/run/devsanctum/git",
    "/etc/ssh",
    "/usr/bin",
    "/lib64",
    "/data/",
    "/data//x",
    "/da ta",
    "/data\n/etc",
    "/data:/etc:ro",
    "/data,readonly",
    "/$(id)",
    "/data\u{2028}",
];
const BRANCHES: &[&str] = &[
    "",
    "--upload-pack=touch /x",
    "-oProxyCommand=x",
    "-",
    "a..b",
    "a b",
    "a\nb",
    "$(id)",
    "`id`",
    "a;id",
    "${IFS}",
    "a@{1}",
    "x.lock",
    "/a",
    "a\u{2028}b",
    "a\u{202e}b",
    "a\u{1b}[2J",
];

const PLACES: &[Place] = &[
    ("metadata.name", |v| record("Template", v, json!({})), NAMES),
    ("metadata.name", |v| record("Feature", v, json!({})), NAMES),
    ("metadata.name", |v| record("Project", v, json!({"owner": "ada", "template": "hello"})), NAMES),
    ("metadata.name", |v| record("Project", v, json!({"owner": "ada", "template": "hello"})), &["kube-system", "default"]),
    ("metadata.name", |v| record("Workspace", v, json!({"owner": "ada"})), NAMES),
    (
        "spec.packages[0]",
        |v| template(json!({"packages": [v]})),
        &[
            "",
            "--allow-unauthenticated",
            "-y",
            "git curl",
            "git;id",
            "$(id)",
            "`id`",
            "${IFS}",
            "git\nUSER root",
            "git\r",
            "a'b",
            "a\"b",
            "git-",
            "{{option.X}}",
            "../x.deb",
            "/tmp/x.deb",
            "https://h/x.apk",
            "gіt",
            "git\u{2028}",
            "apt:",
            "<<EOF",
        ],
    ),
    ("spec.packages[0]", |v| feature(json!({"packages": [v]})), &["git\nRUN id", "-y"]),
    ("spec.env", |v| template(json!({"env": {(v): "x"}})), &["", "A=B", "A B", "1A", "A\nB", "Ä", "$(id)", "A\u{2028}", "--x"]),
    ("spec.env", |v| workspace_env(v, "x"), &["", "A=B", "A\0", "A-B"]),
    ("spec.env", |v| template(json!({"env": {"A": v}})), &["a\0b"]),
    ("spec.env", |v| feature(json!({"env": {"A": v}})), &["a\0b", "{{option.X}}"]),
    ("spec.env", |v| workspace_env("A", v), &["a\0b"]),
    (
        "spec.dockerfile",
        |v| template(json!({"dockerfile": v})),
        &[
            "FROM scratch",
            "COPY / /",
            "ADD https://h/x /",
            "LABEL devsanctum.io/uid=1",
            "ENTRYPOINT [\"/x\"]",
            "VOLUME /",
            "ARG X",
            "ONBUILD RUN id",
            "# syntax=evil/frontend",
            "# escape=`",
            "RUN --mount=type=bind,target=/x id",
            "RUN --network=host id",
            "RUN [\"a\", \"\\u0000\"]",
            "RUN get {{option.X}}",
            "RUN a\u{1b}[2Jb",
            "RUN a\0b",
            "ENV A=${B:-$(id)}",
            "ENV A B",
            "ENV A='b",
            "WORKDIR $HOME",
            "WORKDIR --chown=x",
            "USER ro\u{2028}ot",
            "USER -x",
            "{{option.X}} id",
        ],
    ),
    (
        "spec.base",
        |v| template(json!({"base": v})),
        &["", "a b", "a AS b", "--platform=x", "$BASE", "a\nRUN id", "a/../b", "a//b", "{{option.X}}", "/etc", "аlpine"],
    ),
    ("spec.services[0].name", |v| template(json!({"services": [{"name": v, "run": "x"}]})), NAMES),
    (
        "spec.services[0].run",
        |v| template(json!({"services": [{"name": "a", "run": v}]})),
        &["", " \n", "a\0b", "#!/bin/evil\n", "x {{option.X}}"],
    ),
    ("spec.services[0].user", |v| template(json!({"services": [{"name": "a", "run": "x", "user": v}]})), USERS),
    ("spec.user", |v| template(json!({"user": v})), USERS),
    ("spec.workdir", |v| template(json!({"workdir": v})), PATHS),
    ("spec.folders[0].path", |v| template(json!({"folders": [{"name": "a", "path": v}]})), PATHS),
    ("spec.folders[0].path", |v| feature(json!({"folders": [{"name": "a", "path": v}]})), PATHS),
    (
        "spec.sidecar.folders[0].path",
        |v| feature(json!({"sidecar": {"image": "a", "folders": [{"name": "a", "path": v}]}})),
        PATHS,
    ),
    ("spec.folders[0].name", |v| template(json!({"folders": [{"name": v, "path": "/data"}]})), NAMES),
    ("spec.startCommand[0]", |v| template(json!({"startCommand": [v]})), &["", "a\0b"]),
    ("spec.startCommand[1]", |v| template(json!({"startCommand": ["a", v]})), &["a\0b"]),
    ("spec.sidecar.command[1]", |v| feature(json!({"sidecar": {"image": "a", "command": ["a", v]}})), &["a\0b", "{{option.X}}"]),
    ("spec.sidecar.image", |v| feature(json!({"sidecar": {"image": v}})), &["", "a b", "$(id)", "../a", "--x", "{{option.X}}"]),
    ("spec.sidecar.env", |v| feature(json!({"sidecar": {"image": "a", "env": {"A": v}}})), &["a\0b", "{{option.X}}"]),
    ("spec.options[0].key", |v| feature(json!({"options": [{"key": v}]})), &["", "A B", "A}}{{option.B", "A\nB", "1", "A=$(id)"]),
    ("spec.options[0].default", |v| feature(json!({"options": [{"key": "A", "default": v}]})), &["a\nb", "a\rb", "a\0b"]),
    (
        "spec.options[0].values[0]",
        |v| feature(json!({"options": [{"key": "A", "type": "SELECT", "values": [v]}]})),
        &["a\nUSER root", "a\0b"],
    ),
    (
        "spec.features[0].options",
        |v| template(json!({"features": [{"name": "f", "options": {"A": v}}]})),
        &["a\nUSER root", "a\r", "a\0b"],
    ),
    ("spec.features[0].options", |v| project(json!({"features": [{"name": "f", "options": {"A": v}}]})), &["a\nUSER root"]),
    ("spec.features[0].name", |v| template(json!({"features": [{"name": v}]})), &["../f", "f\n", ""]),
    ("spec.ports[0].name", |v| port("name", v.into()), NAMES),
    (
        "spec.ports[0].port",
        |v| port("port", v.parse::<i64>().map_or(v.into(), Value::from)),
        &["0", "65536", "-1", "4294967376", "80 ", "0x50", "$(id)"],
    ),
    ("spec.ports[0].protocol", |v| port("protocol", v.into()), &["http", "TCP ", "FTP", "HTTP`) || Host(`a", ""]),
    ("spec.repositories[0].name", |v| repository("name", v), NAMES),
    ("spec.repositories[0].defaultBranch", |v| repository("defaultBranch", v), BRANCHES),
    (
        "spec.repositories[0].url",
        |v| repository("url", v),
        &[
            "",
            "--upload-pack=touch /x",
            "-oProxyCommand=x",
            "ext::sh -c touch% /x",
            "ext::sh",
            "fd::17/x",
            "file:///etc",
            "/etc/passwd",
            "../other",
            "ssh://-oProxyCommand=x/a",
            "ssh://git@-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "git@h:--upload-pack=x",
            "https://h.helper=x/a",
            "https://h/$(id)",
            "https://h/`id`",
            "https://h/a${IFS}b",
            "https://h/a\nb",
            "https://h/a\0",
            "https://h/a'b",
            "https://h/a\u{2028}",
            "https://gіthub.com/a",
            "HTTPS://h/a",
            "git://h/a",
            "javascript:alert(1)",
            "https://me:hunter2@h/a",
        ],
    ),
    (
        "spec.repositories[0].credentials.name",
        |v| project(json!({"repositories": [{"name": "a", "url": "https://h/a", "credentials": {"name": v}}]})),
        NAMES,
    ),
    ("spec.template", |v| record("Project", "bad", json!({"owner": "ada", "template": v})), &["../hello", "hello\n", "Hello"]),
    ("spec.branch", |v| workspace("branch", v), BRANCHES),
    (
        "spec.routeDomain",
        |v| workspace("routeDomain", v),
        &[
            "",
            "localhost",
            "*.example.com",
            "example.com.",
            "Example.com",
            "example.com:80",
            "10.0.0.1",
            "[::1]",
            "a.b,c.d",
            "a`) || PathPrefix(`/",
            "Host(`a`) || PathPrefix(`/`)",
            "a.com`,`b.com",
            "аpple.com",
            "a.com/x",
            "a..com",
            "a_b.com",
            "{host:.+}.com",
            "a.com\n",
            "a\u{202e}.com",
        ],
    ),
    ("spec.dockerServer", |v| workspace("dockerServer", v), &["../local", "local\n", "tcp://h"]),
    ("spec.owner", |v| workspace("owner", v), &["../ada", "ada\0", "Ada"]),
    (
        "spec.host",
        |v| record("Route", "bad", json!({"host": v, "workspace": "w0", "port": 80})),
        &["a`) || PathPrefix(`/", "*.example.com", "a.b,c.d", "example.com."],
    ),
];
const USERS: &[&str] = &["", "root; id", "-x", "a:b", "A", "../x", "root\n", "$(id)", "rооt", "#0"];

fn workspace_env(name: &str, value: &str) -> Value {
    record("Workspace", "bad", json!({"owner": "ada", "env": {(name): value}}))
}

/// Values that are too long for what they are for.
fn too_long() -> Vec<(&'static str, Value)> {
    let (long, longer) = ("x".repeat(300), "x".repeat(140_000));
    vec![
        ("metadata.name", record("Template", &long, json!({}))),
        ("metadata.name", record("Workspace", &long[..64], json!({"owner": "ada"}))),
        ("spec.packages[0]", template(json!({"packages": [long]}))),
        ("spec.env", template(json!({"env": {(&long): "x"}}))),
        ("spec.env", template(json!({"env": {"A": longer}}))),
        ("spec.env", workspace_env("A", &longer)),
        ("spec.startCommand[1]", template(json!({"startCommand": ["a", longer]}))),
        ("spec.sidecar.command[0]", feature(json!({"sidecar": {"image": "a", "command": [longer]}}))),
        ("spec.sidecar.env", feature(json!({"sidecar": {"image": "a", "env": {"A": longer}}}))),
        ("spec.base", template(json!({"base": long}))),
        ("spec.workdir", template(json!({"workdir": format!("/{long}")}))),
        ("spec.user", template(json!({"user": long}))),
        ("spec.ports[0].name", port("name", long[..55].into())),
        ("spec.branch", workspace("branch", &long)),
        ("spec.routeDomain", workspace("routeDomain", &format!("{}.com", &long[..64]))),
        ("spec.repositories[0].url", repository("url", &format!("https://h/{}", long.repeat(4)))),
    ]
}

/// Offers every one, and gives how many there are.
pub async fn all(world: &World<'_>) -> usize {
    world.create(record("Feature", "f", json!({"options": [{"key": "A"}]}))).await;
    let before = stored(world).await;
    let values = PLACES.iter().flat_map(|(field, make, values)| values.iter().map(|v| (*field, make(v))));
    let all: Vec<(&str, Value)> = values.chain(too_long()).collect();
    let mut let_in = Vec::new();
    for (field, record) in &all {
        match world.try_create(record).await {
            Err(kube::Error::Api(s)) if [400, 422].contains(&s.code) && s.message.contains(field) => {}
            other => let_in.push(format!("{field} of {:.300}: {:.300}", record.to_string(), format!("{other:?}"))),
        }
    }
    assert!(let_in.is_empty(), "{} of {}: {let_in:#?}", let_in.len(), all.len());
    assert_eq!(stored(world).await, before);
    all.len()
}

/// All records there are: their kinds, their names, and how often they were changed.
async fn stored(world: &World<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for kind in ["templates", "features", "projects", "workspaces", "routes", "secrets"] {
        let request = http::Request::get(format!("/apis/devsanctum.io/v1/{kind}")).body(vec![]).unwrap();
        let list: Value = world.client.request(request).await.unwrap();
        let of = |r: &Value| format!("{kind} {} {}", r["metadata"]["name"], r["metadata"]["generation"]);
        all.extend(list["items"].as_array().unwrap().iter().map(of));
    }
    all
}

/// Values of options that only show what they are when all is put together: then that is said, and there is nothing to build.
pub async fn when_put_together(world: &World<'_>) -> usize {
    let options = json!([
        {"key": "N", "type": "NUMBER"}, {"key": "B", "type": "BOOLEAN"}, {"key": "S", "type": "SELECT", "values": ["a"]},
        {"key": "I", "default": "busybox"}, {"key": "T"},
    ]);
    let image = "ds-test/{{option.I}}:1";
    let typed = json!({"options": options, "dockerfile": "RUN echo {{option.T}}", "sidecar": {"image": image}});
    world.create(record("Feature", "typed", typed)).await;
    let long = "x".repeat(70_000);
    let cases = [
        ("N", "1; id"),
        ("N", "NaN"),
        ("N", "$(id)"),
        ("B", "TRUE"),
        ("B", "true "),
        ("S", "b"),
        ("S", "a`id`"),
        ("I", "a b"),
        ("I", "../../x"),
        ("I", "$(id)"),
        ("I", "a\u{202e}"),
        ("X", "a"),
        ("T", long.as_str()),
    ];
    for (i, (key, value)) in cases.iter().enumerate() {
        cannot_be_put_together(world, &format!("typed-{i}"), key, value).await;
    }
    cases.len()
}

async fn cannot_be_put_together(world: &World<'_>, name: &str, key: &str, value: &str) {
    let mut template = records::template(name);
    template["spec"]["features"] = json!([{"name": "typed", "options": {(key): value}}]);
    world.create(template).await;
    let wanted = match key {
        "X" => ("UnknownOption", "\"X\""),
        "T" => ("DockerfileInvalid", "no builder reads more than 65534"),
        "I" => ("OptionInvalid", "the image of feature \"typed\""),
        _ => ("OptionInvalid", "of feature \"typed\""),
    };
    until(&format!("word of {name}"), Duration::from_secs(20), async || {
        let found = Api::<Template>::all(world.client.clone()).get(name).await.map_err(|e| e.to_string())?;
        let status = found.status.unwrap_or_default();
        let told = find(&status.conditions, "Resolved").filter(|c| c.reason == wanted.0 && c.message.contains(wanted.1));
        if told.is_some() && status.resolved.is_none() { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await;
}
