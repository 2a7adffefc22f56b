//! What people get wrong, and what an attacker might try, through `devsanctum apply`: each is refused with the
//! place in the file, the field, the value and what is allowed.

use crate::support::api::{Api, GROUP, route, routes, workspace, workspaces};
use crate::support::cli::{Cli, Served};
use serde_json::json;

/// An API with user `ada`, template `base`, project `team` and workspace `web`.
async fn served() -> (Served, Cli) {
    let api = Api::new().await;
    api.project().await;
    api.create(&workspaces(), &workspace("web")).await;
    let served = Served::new(api).await;
    let cli = served.cli();
    (served, cli)
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    let place = if ["Workspace", "Route"].contains(&kind) { ", namespace: team" } else { "" };
    format!("apiVersion: devsanctum.io/v1\nkind: {kind}\nmetadata: {{name: {name}{place}}}\nspec: {spec}\n")
}

/// Applies a file that must be refused whole, at a place and in words.
async fn refused(cli: &Cli, text: &[u8], headline: &str) {
    let file = cli.path("bad.yaml");
    std::fs::write(&file, text).unwrap();
    for flags in [&["apply", "-f", &file][..], &["apply", "--atomic", "-f", &file]] {
        let run = cli.run(flags).await;
        assert!(run.code == 1 && run.out.is_empty(), "{run:?}");
        let wanted = headline.replace("bad.yaml", &file);
        assert!(run.err.contains(&wanted), "{flags:?}: {wanted:?} expected, got\n{}", run.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_fields_are_shown_at_their_place() {
    let (_served, cli) = served().await;
    let route = |spec: &str| document("Route", "r", spec);
    let cases = [
        (
            document("Workspace", "x", "{owner: ada, brnach: main}"),
            "bad.yaml:4:28: spec.brnach: unknown field \"spec.brnach\", did you mean \"spec.branch\"?",
        ),
        (
            document("Workspace", "x", "{owner: ada, running: maybe}"),
            "bad.yaml:4:29: spec.running: Invalid value: \"maybe\": spec.running in body must be of type boolean",
        ),
        (document("Workspace", "x", "{owner: [ada]}"), "bad.yaml:4:8: spec.owner: Invalid value: "),
        (
            document("Workspace", "x", "{owner: ada, owner: eve}"),
            "bad.yaml:4:20: the key \"owner\" stands here and on line 4; keep one of them",
        ),
        (document("Workspace", "x", "{branch: main}"), "spec.owner: Required value"),
        (
            document("Workspace", "x", "{owner: nobody}"),
            "bad.yaml:4:15: spec.owner: Not found: \"nobody\": no User of this name; there are: ada",
        ),
        (
            route("{host: a.example.com, workspace: none, port: 80}"),
            "bad.yaml:4:40: spec.workspace: Not found: \"none\": no Workspace of this name in project \"team\"; there are: web",
        ),
        (route("{host: a.example.com, workspace: web, port: 0}"), "spec.port: Invalid value: 0: "),
        (route("{host: a.example.com, workspace: web, port: 65536}"), "spec.port: Invalid value: 65536: "),
        (
            route("{host: a.example.com, workspace: web, port: '80'}"),
            "spec.port: Invalid value: \"80\": spec.port in body must be of type integer",
        ),
        (
            route("{host: 'a.example.com`) || PathPrefix(`/', workspace: web, port: 80}"),
            "spec.host: Invalid value: \"a.example.com`) || PathPrefix(`/\": must be a lower-case host name",
        ),
        (document("Template", "'x`) || Host(`y'", "{base: 'node:20'}"), "metadata.name: Invalid value: "),
        (document("Template", "'../../users/ada'", "{base: 'node:20'}"), "metadata.name: Invalid value: "),
        (document("Template", "x", "{base: 'node:20', env: {'A=B': c}}"), "bad.yaml:4:38: spec.env[A=B]: Invalid value: \"A=B\""),
        (
            document("Template", "x", "{base: '$(rm -rf /)'}"),
            "bad.yaml:4:14: spec.base: Invalid value: \"$(rm -rf /)\": must be an image reference such as",
        ),
        (document("Wrkspace", "x", "{}"), "bad.yaml:2:7: kind: Unsupported value: \"Wrkspace\": must be "),
    ];
    for (text, headline) in cases {
        refused(&cli, text.as_bytes(), headline).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_is_told_is_an_address_a_branch_and_a_folder_and_nothing_else() {
    let (_served, cli) = served().await;
    let repository = |of: &str| document("Project", "p", &format!("{{owner: ada, template: base, repositories: [{{{of}}}]}}"));
    let addresses = [
        "--upload-pack=touch /x",
        "-oProxyCommand=x",
        "ext::sh -c touch% /x",
        "file:///etc",
        "/etc/passwd",
        "../other",
        "https://h/$(id)",
        "https://h/`id`",
        "https://h/a;id",
        "https://h/a|id",
        "https://h/a&&id",
        "https://h/a b",
        "https://h/a\\nb",
        "git@h",
        "javascript:alert(1)",
    ];
    for address in addresses {
        let text = repository(&format!("name: a, url: \"{address}\""));
        refused(&cli, text.as_bytes(), "spec.repositories[0].url: Invalid value: ").await;
    }
    let spoken = repository("name: a, url: 'https://me:hunter2@h/a'");
    let kept = "spec.repositories[0].url: Invalid value: \"…\": must not hold a password";
    refused(&cli, spoken.as_bytes(), kept).await;
    for branch in ["--mirror", "a..b", "a b", "$(id)", "a;id", "/a", "a/", "a.lock", "a@{1}", "a\\nb", "`id`", ""] {
        let text = repository(&format!("name: a, url: 'https://h/a', defaultBranch: \"{branch}\""));
        refused(&cli, text.as_bytes(), "spec.repositories[0].defaultBranch: Invalid value: ").await;
        let text = document("Workspace", "w", &format!("{{owner: ada, branch: \"{branch}\"}}"));
        refused(&cli, text.as_bytes(), "spec.branch: Invalid value: ").await;
    }
    for name in ["..", ".git", "a/b", "-a", "a b", "$HOME"] {
        let text = repository(&format!("name: '{name}', url: 'https://h/a'"));
        refused(&cli, text.as_bytes(), "spec.repositories[0].name: Invalid value: ").await;
    }
    let theirs = repository("name: a, url: 'https://h/a', credentials: {name: s, namespace: other}");
    refused(&cli, theirs.as_bytes(), "spec.repositories[0].credentials.namespace: Invalid value: \"other\"").await;
    for (field, value) in [("user", "root; id"), ("user", "-x"), ("user", "a:b"), ("workdir", "/etc/x"), ("workdir", "a/../b")] {
        let text = document("Template", "x", &format!("{{base: 'node:20', {field}: '{value}'}}"));
        refused(&cli, text.as_bytes(), &format!("spec.{field}: Invalid value: ")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_image_is_made_of_is_read_when_it_is_given() {
    let (_served, cli) = served().await;
    let (template, feature) = (|spec| document("Template", "x", spec), |spec| document("Feature", "x", spec));
    let cases = [
        (
            template("{dockerfile: \"RUN true\\nCOPY a b\"}"),
            "bad.yaml:4:20: spec.dockerfile: Invalid value: \"COPY a b\": line 2: COPY is not read here: there are no files beside it",
        ),
        (
            template("{dockerfile: 'RUN get {{option.X}}'}"),
            "spec.dockerfile: Invalid value: \"{{option.X}}\": there are no options here",
        ),
        (
            feature("{options: [{key: A}], dockerfile: 'RUN get {{option.X}}'}"),
            "spec.dockerfile: Invalid value: \"{{option.X}}\": must be one of: A",
        ),
        (
            feature("{options: [{key: A}], env: {B: 'b {{option.X}}'}}"),
            "spec.env[B]: Invalid value: \"{{option.X}}\": must be one of: A",
        ),
        (
            feature("{sidecar: {image: 'db:1', command: [db, '{{option.X}}']}}"),
            "spec.sidecar.command[1]: Invalid value: \"{{option.X}}\": there are no options here",
        ),
        (
            feature("{service: {name: ide, run: \"#!/usr/bin/python3\\nprint()\"}}"),
            "spec.service.run: Invalid value: \"#!/usr/bin/python3\": must be a script of /bin/sh without a '#!' line",
        ),
        (template("{services: [{name: web, run: ' '}]}"), "spec.services[0].run: Invalid value: \" \": must be a script"),
        (
            template("{packages: [git, 'dash-']}"),
            "bad.yaml:4:24: spec.packages[1]: Invalid value: \"dash-\": must be a package name",
        ),
        (template("{packages: [\"git\\nUSER root\"]}"), "spec.packages[0]: Invalid value: "),
    ];
    for (text, headline) in cases {
        refused(&cli, text.as_bytes(), headline).await;
    }
    let fine = feature("{options: [{key: A}], dockerfile: \"# why\\nRUN get \\\\\\n  {{option.A}}\\nENV V={{option.A}}\"}");
    let file = cli.path("fine.yaml");
    std::fs::write(&file, fine).unwrap();
    let run = cli.run(&["apply", "-f", &file]).await;
    assert_eq!(run.code, 0, "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_files_are_refused_at_no_cost() {
    let (_served, cli) = served().await;
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 9].join(",");
        bomb += &format!("a{i}: &a{i} [{refs}]\n");
    }
    refused(&cli, bomb.as_bytes(), "more than 100000 values once aliases are expanded").await;
    let huge = document("Template", "x", &format!("{{base: 'node:20', description: '{}'}}", "y".repeat(2_000_000)));
    refused(&cli, huge.as_bytes(), "larger than 1048576 bytes").await;
    let deep = document("Template", "x", &format!("{}{}", "[".repeat(100), "]".repeat(100)));
    refused(&cli, deep.as_bytes(), "nested more than 64 levels deep").await;
    let mut bytes = document("User", "x", "{email: x@example.com}").into_bytes();
    bytes.extend(b"# \xff\xfe\n");
    refused(&cli, &bytes, &format!("bad.yaml: is not UTF-8 text: byte {} starts no character", bytes.len() - 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_host_says_whose_it_is() {
    let (served, cli) = served().await;
    served.api.create(&routes(), &route("first", "web")).await;
    let text = document("Route", "second", "{host: first.example.com, workspace: web, port: 80}");
    let words =
        "bad.yaml:4:14: spec.host: Duplicate value: \"first.example.com\": Route \"first\" in project \"team\" already has it";
    refused(&cli, text.as_bytes(), words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn atomic_applies_all_or_nothing() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    // The last first: the records are brought into an order in which each finds what it names.
    let good = [
        document("Route", "page", "{host: page.example.com, workspace: web, port: 80}"),
        document("Workspace", "web", "{owner: ada}"),
        document("Project", "team", "{owner: ada, template: base}"),
        document("Template", "base", "{base: 'node:20'}"),
        document("User", "ada", "{email: ada@example.com}"),
    ];
    let bad =
        [document("Route", "bad", "{host: bad, workspace: web, port: 0}"), document("User", "eve", "{email: ada@example.com}")];
    let file = cli.file("all.yaml", &[good.join("---\n"), bad.join("---\n")].join("---\n"));
    let run = cli.run(&["apply", "--atomic", "-f", &file]).await;
    assert!(run.code == 1 && run.out.is_empty() && run.err.contains("nothing was applied"), "{run:?}");
    for words in
        ["spec.port: Invalid value: 0: ", "spec.email: Duplicate value: \"ada@example.com\": User \"ada\" already has it"]
    {
        assert!(run.err.contains(words), "{words}: {run:?}");
    }
    for kind in ["users", "templates", "projects", "workspaces", "routes"] {
        assert_eq!(served.api.get(&format!("{GROUP}/{kind}")).await.1["items"], json!([]), "{kind}");
    }
    let file = cli.file("all.yaml", &good.join("---\n"));
    let dry = cli.run(&["apply", "--atomic", "--dry-run", "-f", &file]).await;
    assert_eq!(dry.ok().lines().count(), 5, "{dry:?}");
    assert_eq!(served.api.get(&format!("{GROUP}/users")).await.1["items"], json!([]));
    let first = cli.run(&["apply", "--atomic", "-f", &file]).await;
    assert!(first.ok().lines().all(|l| l.ends_with(" created")) && first.out.lines().count() == 5, "{first:?}");
    let again = cli.run(&["apply", "--atomic", "-f", &file]).await;
    assert!(again.ok().lines().all(|l| l.ends_with(" unchanged")), "{again:?}");
    let file = cli.file("all.yaml", &good.join("---\n").replace("port: 80", "port: 81"));
    let changed = cli.run(&["apply", "--atomic", "-f", &file]).await;
    assert!(changed.ok().contains("route.devsanctum.io/page configured"), "{changed:?}");
}

#[tokio::test]
async fn the_transaction_answers_hostile_bodies() {
    let api = Api::new().await;
    let path = "/devsanctum/apply";
    let user = json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": "ada"}, "spec": {"email": "a@example.com"}});
    for (documents, part) in [
        (json!([]), "documents: must be 1 to 1000, got 0"),
        (json!([1]), "documents[0]: must be an object"),
        (json!([user, {"kind": "Pod", "apiVersion": "v1"}]), "documents[1]: no kind \"Pod\" in version \"v1\""),
        (json!([{"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {}}]), "metadata.name: Required value"),
        (
            json!([{"apiVersion": "devsanctum.io/v1", "kind": "Route", "metadata": {"name": "x"}}]),
            "metadata.namespace: Required value",
        ),
    ] {
        let (code, status) = api.post(path, &json!({"manager": "m", "documents": documents})).await;
        assert!(code == 400 && status["message"].as_str().unwrap().contains(part), "{part}: {status}");
    }
    for body in [
        "{}",
        "[]",
        "{\"manager\": \"\", \"documents\": [{}]}",
        "nonsense",
        "{\"manager\":\"m\",\"manager\":\"n\",\"documents\":[]}",
    ] {
        assert_eq!(api.call("POST", path, "application/json", body).await.0, 400, "{body}");
    }
    let (code, status) = api.call("POST", &format!("{GROUP}/users"), "application/json",
        r#"{"apiVersion":"devsanctum.io/v1","kind":"User","metadata":{"name":"ada"},"spec":{"email":"a@example.com","email":"b@example.com"}}"#).await;
    assert!(code == 400 && status["message"].as_str().unwrap().contains("duplicate field \"email\""), "{status}");
}
