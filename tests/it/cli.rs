//! The real binary against the real API over TLS.

use crate::support::api::{Api, GROUP, record, user};
use crate::support::cli::{Cli, Served};
use crate::support::{bare, kubectl};
use async_trait::async_trait;
use bytes::Bytes;
use devsanctum::access::{Directory, SignIn, Visitor};
use devsanctum::api::streams::{
    ExecInput, ExecOutput, ExecRequest, ExecSession, LogRequest, Run, StreamError, StreamTarget, WorkspaceStreams,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TEAM: &str = "\
apiVersion: devsanctum.io/v1
kind: Workspace
metadata:
  name: web
  namespace: team
spec:
  owner: ada
---
apiVersion: devsanctum.io/v1
kind: Project
metadata:
  name: team
spec:
  owner: ada
  template: base
---
apiVersion: devsanctum.io/v1
kind: Template
metadata:
  name: base
spec:
  base: node:20
---
apiVersion: devsanctum.io/v1
kind: User
metadata:
  name: ada
spec:
  email: ada@example.com
";

async fn served() -> (Served, Cli) {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    (served, cli)
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_creates_in_order_then_changes_then_leaves_alone() {
    let (_served, cli) = served().await;
    let file = cli.file("team.yaml", TEAM);
    let first = cli.run(&["apply", "-f", &file]).await;
    assert_eq!(
        first.ok(),
        "user.devsanctum.io/ada created\ntemplate.devsanctum.io/base created\nproject.devsanctum.io/team created\n\
         workspace.devsanctum.io/web created\n"
    );
    assert_eq!(cli.run(&["apply", "-f", &file]).await.ok().matches(" unchanged\n").count(), 4);
    cli.file("team.yaml", &TEAM.replace("owner: ada\n---", "owner: ada\n  branch: next\n---"));
    let dry = cli.run(&["apply", "-f", &file, "--dry-run"]).await;
    assert!(dry.ok().contains("workspace.devsanctum.io/web configured (server dry run)\n"), "{dry:?}");
    let diff = cli.run(&["diff", "-f", &file]).await;
    assert_eq!(diff.code, 1, "{diff:?}");
    assert!(diff.out.contains("\n-  branch: main\n+  branch: next\n"), "{diff:?}");
    let done = cli.run(&["apply", "-f", &file]).await;
    assert!(
        done.ok().contains("workspace.devsanctum.io/web configured\n") && done.out.contains("user.devsanctum.io/ada unchanged")
    );
    assert_eq!(cli.run(&["diff", "-f", &file]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_field_is_shown_at_its_line_and_the_rest_is_applied() {
    let (_served, cli) = served().await;
    let text = "apiVersion: devsanctum.io/v1\nkind: Template\nmetadata:\n  name: base\nspec:\n  base: node:20\n  ports:\n    - name: web\n      port: 0\n---\n\
                apiVersion: devsanctum.io/v1\nkind: User\nmetadata:\n  name: ada\nspec:\n  email: ada@example.com\n  colour: red\n---\n\
                apiVersion: devsanctum.io/v1\nkind: User\nmetadata:\n  name: eve\nspec:\n  email: eve@example.com\n";
    let file = cli.file("bad.yaml", text);
    let run = cli.run(&["apply", "-f", &file, "--prune", "--set", "x"]).await;
    assert_eq!((run.code, run.out.as_str()), (1, "user.devsanctum.io/eve created\n"), "{run:?}");
    assert!(run.err.contains(&format!("{file}:9:13: spec.ports[0].port: Invalid value: 0")), "{run:?}");
    assert!(run.err.contains("    9 |       port: 0\n      |             ^"), "{run:?}");
    assert!(run.err.contains(&format!("{file}:17:11: ")) && run.err.contains("colour"), "{run:?}");
    assert!(run.err.contains("nothing was pruned"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_deletes_what_left_the_set_and_nothing_else() {
    let (served, cli) = served().await;
    served.api.create(&format!("{GROUP}/users"), &user("other")).await;
    let one = |name: &str| {
        format!(
            "---\napiVersion: devsanctum.io/v1\nkind: User\nmetadata: {{name: {name}}}\nspec: {{email: {name}@example.com}}\n"
        )
    };
    let file = cli.file("users.yaml", &(one("ada") + &one("eve")));
    cli.run(&["apply", "-f", &file, "--set", "people"]).await.ok();
    cli.file("users.yaml", &one("ada"));
    let run = cli.run(&["apply", "-f", &file, "--set", "people", "--prune"]).await;
    assert_eq!(run.ok(), "user.devsanctum.io/ada unchanged\nuser.devsanctum.io/eve pruned\n");
    assert_eq!(cli.run(&["get", "users", "-o", "name"]).await.ok(), "user.devsanctum.io/ada\nuser.devsanctum.io/other\n");
    assert_eq!(cli.run(&["apply", "-f", &file, "--prune"]).await.code, 2, "without a set nothing can be pruned");
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_by_labels_stays_in_its_projects_and_with_what_was_applied() {
    let (served, cli) = served().await;
    let project = |name: &str| {
        let spec = "{owner: ada, template: base}";
        format!("---\napiVersion: devsanctum.io/v1\nkind: Project\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let ground = "apiVersion: devsanctum.io/v1\nkind: User\nmetadata: {name: ada}\nspec: {email: ada@example.com}\n---\n\
                  apiVersion: devsanctum.io/v1\nkind: Template\nmetadata: {name: base}\nspec: {base: node:20}\n";
    let file = cli.file("ground.yaml", &(ground.to_owned() + &project("a") + &project("b")));
    cli.run(&["apply", "-f", &file]).await.ok();
    let workspace = |project: &str, name: &str| {
        format!(
            "---\napiVersion: devsanctum.io/v1\nkind: Workspace\nmetadata: {{name: {name}, namespace: {project}, labels: {{app: web}}}}\nspec: {{owner: ada}}\n"
        )
    };
    let file = cli.file("all.yaml", &(workspace("a", "stays") + &workspace("a", "goes") + &workspace("b", "others")));
    cli.run(&["apply", "-f", &file]).await.ok();
    // Of somebody who uses another tool.
    let mut made = record("Workspace", "by-hand", json!({"owner": "ada"}));
    made["metadata"]["labels"] = json!({"app": "web"});
    served.api.create(&format!("{GROUP}/namespaces/a/workspaces"), &made).await;
    let file = cli.file("a.yaml", &workspace("a", "stays"));
    let run = cli.run(&["apply", "-f", &file, "-l", "app=web", "--prune"]).await;
    assert_eq!(run.ok(), "workspace.devsanctum.io/stays unchanged\nworkspace.devsanctum.io/goes pruned\n");
    let left = cli.run(&["get", "workspaces", "-A", "-o", "name"]).await;
    assert_eq!(left.ok().lines().count(), 3, "{left:?}");
    let run = cli.run(&["apply", "-n", "a", "-f", &file, "-l", "app=web", "--prune"]).await;
    assert_eq!(run.ok(), "workspace.devsanctum.io/stays unchanged\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_stands_twice_is_found_where_one_leaves_its_project_to_the_flag() {
    let (_served, cli) = served().await;
    let workspace = |more: &str| {
        format!("apiVersion: devsanctum.io/v1\nkind: Workspace\nmetadata: {{name: web{more}}}\nspec: {{owner: ada}}\n")
    };
    let (a, b) = (cli.file("a.yaml", &workspace(", namespace: team")), cli.file("b.yaml", &workspace("")));
    let run = cli.run(&["apply", "-n", "team", "-f", &a, "-f", &b]).await;
    assert!(run.code != 0 && run.err.contains("Workspace \"web\" stands here and at "), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_listed_as_kubectl_lists_them() {
    let (_served, cli) = served().await;
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    let table = cli.run(&["get", "ws", "-n", "team"]).await;
    let lines: Vec<Vec<&str>> = table.ok().lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((lines[0].as_slice(), lines[1][0]), (["NAME", "PHASE", "URL", "SERVER", "AGE"].as_slice(), "web"));
    let wide = cli.run(&["get", "workspaces", "-A", "-o", "wide", "--show-labels"]).await;
    assert!(wide.ok().starts_with("NAMESPACE") && wide.out.contains("OWNER") && wide.out.contains("LABELS"), "{wide:?}");
    assert_eq!(cli.run(&["get", "ws/web", "-n", "team", "-o", "jsonpath={.spec.owner}"]).await.ok(), "ada\n");
    let yaml = cli.run(&["get", "ws/web", "-n", "team", "-o", "yaml"]).await;
    assert!(yaml.ok().contains("\nspec:\n") && !yaml.out.contains("managedFields"), "{yaml:?}");
    let list: Value = serde_json::from_str(cli.run(&["get", "all", "-A", "-o", "json"]).await.ok()).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
    assert!(cli.run(&["get", "all", "-A"]).await.ok().contains("workspace.devsanctum.io/web"));
    let sorted = cli.run(&["get", "users,templates", "-o", "name", "--sort-by", ".metadata.name"]).await;
    assert_eq!(sorted.ok(), "user.devsanctum.io/ada\ntemplate.devsanctum.io/base\n");
    let none = cli.run(&["get", "ws", "-l", "a=b", "-n", "team"]).await;
    assert_eq!((none.ok(), none.err.contains("No resources found")), ("", true));
    let missing = cli.run(&["get", "ws/none", "-n", "team"]).await;
    assert!(missing.code == 1 && missing.err.contains("not found"), "{missing:?}");
    assert_eq!(cli.run(&["get", "nope"]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_described_waited_for_and_deleted() {
    let (served, cli) = served().await;
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    let path = format!("{GROUP}/namespaces/team/workspaces/web");
    let late = cli.run(&["wait", "ws/web", "-n", "team", "--for=condition=Ready", "--timeout=200ms"]).await;
    assert_eq!(late.code, 4, "{late:?}");
    let ready = json!({"status": {"phase": "RUNNING", "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}]}});
    let waiting = cli.spawn(&["wait", "ws/web", "-n", "team", "--for=condition=Ready", "--timeout=20s"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (code, answer) = served.api.merge(&format!("{path}/status"), &ready).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(waiting.await.ok(), "workspace.devsanctum.io/web condition met\n");
    cli.run(&["wait", "ws/web", "-n", "team", "--for=jsonpath={.status.phase}=RUNNING"]).await.ok();
    let said = cli.run(&["describe", "ws", "web", "-n", "team"]).await;
    assert!(said.ok().contains("Ready: yes, for ") && said.out.contains("Events:  <none>"), "{said:?}");
    served.api.merge(&path, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    let held = cli.run(&["delete", "ws/web", "-n", "team", "--timeout=300ms"]).await;
    assert!(held.code == 4 && held.err.contains("example.com/hold"), "{held:?}");
    let waiting = cli.spawn(&["delete", "ws/web", "-n", "team", "--force-abandon"]);
    let begun = Instant::now();
    while served.api.get(&path).await.1["metadata"]["annotations"]["devsanctum.io/abandon"] != "true" {
        assert!(begun.elapsed() < Duration::from_secs(20), "the record is not marked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    served.api.merge(&path, &json!({"metadata": {"finalizers": null}})).await;
    let gone = waiting.await;
    assert!(gone.ok().contains("web deleted") && gone.err.contains("left behind on"), "{gone:?}");
    assert_eq!(cli.run(&["delete", "ws/web", "-n", "team"]).await.code, 1);
    assert_eq!(cli.run(&["delete", "ws/web", "-n", "team", "--ignore-not-found"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_by_label_and_all_at_once_and_never_by_a_bare_kind() {
    let (_served, cli) = served().await;
    for (name, tier) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let group = format!(
            "apiVersion: devsanctum.io/v1\nkind: Group\nmetadata: {{name: {name}, labels: {{tier: {tier}}}}}\nspec: {{}}\n"
        );
        cli.run(&["apply", "-f", &cli.file("group.yaml", &group)]).await.ok();
    }
    let bare = cli.run(&["delete", "groups"]).await;
    assert!(bare.code == 2 && bare.err.contains("--all"), "{bare:?}");
    let mixed = cli.run(&["delete", "group/a", "--all"]).await;
    assert!(mixed.code == 2 && mixed.err.contains("not both"), "{mixed:?}");
    let none = cli.run(&["delete", "groups", "-l", "tier=z"]).await;
    assert!(none.ok().is_empty() && none.err.contains("no record matches"), "{none:?}");
    assert!(
        cli.run(&["delete", "groups", "--all", "--dry-run"])
            .await
            .ok()
            .contains("group.devsanctum.io/c deleted (server dry run)")
    );
    let client = cli.run(&["delete", "group/a", "--dry-run=client"]).await;
    assert_eq!(client.ok(), "group.devsanctum.io/a deleted (client dry run)\n");
    assert_eq!(
        cli.run(&["delete", "groups", "-l", "tier=x"]).await.ok(),
        "group.devsanctum.io/a deleted\ngroup.devsanctum.io/b deleted\n"
    );
    assert_eq!(cli.run(&["delete", "groups", "--all"]).await.ok(), "group.devsanctum.io/c deleted\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_refused_comes_back_with_the_reason() {
    let (_served, cli) = served().await;
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    // The first time it writes nonsense, the second time it finds the reason on top and mends it.
    let editor = cli.script("editor.sh", "if grep -q '^# .*minRamMb' \"$1\"; then sed -i 's/minRamMb: .*/minRamMb: 512/' \"$1\"; else sed -i 's/^  base: node:20$/&\\n  minRamMb: many/' \"$1\"; fi\n");
    let edited = cli.with("EDITOR", &editor).run(&["edit", "template/base"]).await;
    assert_eq!(edited.ok(), "template.devsanctum.io/base edited\n", "{edited:?}");
    assert_eq!(cli.run(&["get", "template/base", "-o", "jsonpath={.spec.minRamMb}"]).await.ok(), "512\n");
    let cancelled = cli.with("EDITOR", "true").run(&["edit", "template", "base"]).await;
    assert!(cancelled.code == 0 && cancelled.err.contains("Edit cancelled"), "{cancelled:?}");
    let stubborn = cli.script("stubborn.sh", "sed -i 's/minRamMb: .*/minRamMb: many/' \"$1\"\n");
    let refused = cli.with("EDITOR", &stubborn).run(&["edit", "template", "base"]).await;
    assert!(refused.code == 1 && refused.err.contains("refused again; it is kept in"), "{refused:?}");
    let kept = refused.err.split("kept in ").nth(1).unwrap().trim();
    std::fs::remove_file(kept).unwrap();
    // Nor is it lost when it cannot be sent, here because the record goes meanwhile.
    let group = "apiVersion: devsanctum.io/v1\nkind: Group\nmetadata: {name: g}\nspec: {}\n";
    cli.run(&["apply", "-f", &cli.file("group.yaml", group)]).await.ok();
    let binary = env!("CARGO_BIN_EXE_devsanctum");
    let slow = format!("sed -i 's/^  name: g$/&\\n  labels: {{a: b}}/' \"$1\"\n'{binary}' delete group/g >/dev/null\n");
    let lost = cli.with("EDITOR", &cli.script("slow.sh", &slow)).run(&["edit", "group/g"]).await;
    assert!(lost.code == 1 && lost.err.contains("(NotFound)"), "{lost:?}");
    let kept = lost.err.split("kept in ").nth(1).unwrap().lines().next().unwrap();
    assert!(std::fs::read_to_string(kept).unwrap().contains("labels: {a: b}"), "{lost:?}");
    std::fs::remove_file(kept).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_secret_is_not_shown() {
    let (_served, cli) = served().await;
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    let secret = |data: &str| {
        format!("apiVersion: devsanctum.io/v1\nkind: Secret\nmetadata: {{name: s, namespace: team}}\nspec:\n  data:\n{data}")
    };
    for data in ["    pin: 7123987\n", "    pin: 07123987\n", "    pin: [text7123987]\n", "    not ok: text7123987\n    pin: 1\n"]
    {
        let file = cli.file("secret.yaml", &secret(data));
        for dry in ["--dry-run=none", "--dry-run=client"] {
            let run = cli.run(&["apply", "-f", &file, dry]).await;
            assert!(run.code == 1 && run.err.contains(&format!("{file}:")), "{run:?}");
            assert!(!run.err.contains("7123987") && !run.out.contains("7123987"), "{data}: {run:?}");
        }
    }
    cli.run(&["apply", "-f", &cli.file("secret.yaml", &secret("    pin: '7123987'\n"))]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_looks_at_least_once_and_bears_any_timeout() {
    let (_served, cli) = served().await;
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    let there = ["wait", "user/ada", "--for=create", "--timeout=0s"];
    assert_eq!(cli.run(&there).await.ok(), "user.devsanctum.io/ada condition met\n");
    let not = cli.run(&["wait", "user/ada", "--for=condition=Ready", "--timeout=0s"]).await;
    assert_eq!(not.code, 4, "{not:?}");
    cli.run(&["wait", "user/ada", "--for=create", "--timeout=500000000000y"]).await.ok();
    let long = cli.spawn(&["wait", "group/later", "--for=create", "--timeout=500000000000y"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let group = "apiVersion: devsanctum.io/v1\nkind: Group\nmetadata: {name: later}\nspec: {}\n";
    cli.run(&["apply", "-f", &cli.file("group.yaml", group)]).await.ok();
    long.await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_prints_what_changes() {
    let (served, cli) = served().await;
    let users = format!("{GROUP}/users");
    let mut watching = cli.follow(&["get", "users", "-w", "-o", "name"]);
    // Listed or watched: once its line is there, what follows is seen by the watch.
    served.api.create(&users, &user("marker")).await;
    assert_eq!(watching.line().await, "user.devsanctum.io/marker");
    served.api.create(&users, &user("ada")).await;
    served.api.merge(&format!("{users}/ada"), &json!({"metadata": {"labels": {"a": "b"}}})).await;
    served.api.create(&users, &user("zoe")).await;
    for expected in ["ada", "ada", "zoe"] {
        assert_eq!(watching.line().await, format!("user.devsanctum.io/{expected}"));
    }
    let mut watching = cli.follow(&["get", "users", "-w"]);
    for expected in ["NAME", "ada", "marker", "zoe", "eve"] {
        if expected == "eve" {
            served.api.create(&users, &user("eve")).await;
        }
        let line = watching.line().await;
        assert_eq!(line.split_whitespace().next(), Some(expected), "{line}");
    }
}

/// Echoes, and ends with the exit code its first word asks for.
struct Echo;

#[async_trait]
impl WorkspaceStreams for Echo {
    async fn dial(&self, _: StreamTarget, _: &str, _: u16) -> Result<ExecSession, StreamError> {
        Err(StreamError::Unavailable("not here".into()))
    }

    async fn exec(&self, _: StreamTarget, request: ExecRequest) -> Result<ExecSession, StreamError> {
        let Run::Command(command) = request.run else { panic!("{request:?}") };
        let (input, mut received) = tokio::sync::mpsc::channel(8);
        let (said, output) = futures::channel::mpsc::unbounded();
        tokio::spawn(async move {
            let _ = said.unbounded_send(ExecOutput::Stdout(Bytes::from(command.join(" ") + "\n")));
            let _ = said.unbounded_send(ExecOutput::Stderr(Bytes::from_static(b"warned\n")));
            if request.stdin && command.last().is_none_or(|word| word != "leave") {
                while let Some(ExecInput::Stdin(bytes)) = received.recv().await {
                    let _ = said.unbounded_send(ExecOutput::Stdout(bytes));
                }
            }
            let code = command[0].parse().unwrap_or(0);
            let _ = said.unbounded_send(ExecOutput::Exit(code));
        });
        Ok(ExecSession { input, output: output.boxed() })
    }

    async fn log(
        &self,
        target: StreamTarget,
        request: LogRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, StreamError>>, StreamError> {
        let text = format!("{} {:?} {:?}\n", target.name, target.container, request.tail_lines);
        Ok(futures::stream::iter([Ok(Bytes::from(text)), Ok(Bytes::from_static(b"two\n"))]).boxed())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_logs_pass_through_with_input_and_exit_code() {
    let served = Served::new(Api::with_streams(Arc::new(Echo), 100_000).await).await;
    let cli = served.cli();
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    let run = cli.run(&["exec", "-n", "team", "web", "--", "7", "--flag"]).await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (7, "7 --flag\n", "warned\n"));
    let piped = cli.run_with(&["exec", "-i", "-n", "team", "ws/web", "--", "0"], "hello\n".repeat(20_000).as_bytes()).await;
    assert_eq!(piped.ok().len(), 2 + 6 * 20_000, "all of the input came back");
    let left = cli.run_with_open_input(&["exec", "-i", "-n", "team", "web", "--", "3", "leave"]).await;
    assert_eq!((left.code, left.out.as_str()), (3, "3 leave\n"), "it ends with the command: {left:?}");
    let terminal = cli.run(&["exec", "-it", "-n", "team", "web", "--", "0"]).await;
    assert!(terminal.code == 2 && terminal.err.contains("-t needs a terminal"), "{terminal:?}");
    let missing = cli.run(&["exec", "-n", "team", "none", "--", "0"]).await;
    assert!(missing.code == 1 && !missing.err.is_empty(), "{missing:?}");
    let logs = cli.run(&["logs", "-n", "team", "web", "--tail", "5", "-c", "db"]).await;
    assert_eq!(logs.ok(), "web Some(\"db\") Some(5)\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_connection_is_named() {
    let (served, cli) = served().await;
    let wrong = cli.file("token", "not-the-token");
    let refused = cli.run(&["get", "users", "--token-file", &wrong]).await;
    assert!(refused.code == 1 && refused.err.contains("Unauthorized") && !refused.err.contains("not-the-token"), "{refused:?}");
    // As editors and the control plane itself write files.
    let with_an_end = cli.file("right", &format!("{}\n", crate::support::cli::TOKEN));
    cli.run(&["get", "users", "--token-file", &with_an_end]).await.ok();
    let other = rcgen::generate_simple_self_signed(vec!["other".into()]).unwrap();
    let authority = cli.file("ca.pem", &other.cert.pem());
    let foreign = cli.run(&["get", "users", "--ca-file", &authority]).await;
    assert!(foreign.code == 1 && foreign.err.contains("does not have the certificate expected"), "{foreign:?}");
    assert!(foreign.err.contains("hint: ") && foreign.err.contains(&served.address), "{foreign:?}");
    let closed = crate::support::ports::free_address();
    let nobody = cli.run(&["get", "users", "--server", &format!("https://{closed}")]).await;
    assert!(nobody.code == 1 && nobody.err.contains(&format!("nothing listens at https://{closed}")), "{nobody:?}");
    assert!(nobody.err.contains("devsanctum up"), "{nobody:?}");
    let plain = cli.run(&["get", "users", "--server", "http://127.0.0.1:1"]).await;
    assert!(plain.code == 2 && plain.err.contains("must be an https address"), "{plain:?}");
    // Ours is on a private address, or this machine: reached directly, whatever proxy is exported.
    cli.with("HTTPS_PROXY", "http://127.0.0.1:1").run(&["get", "users"]).await.ok();
    let fresh = tempfile::tempdir().unwrap();
    let none = cli.run(&["get", "users", "--state-dir", &fresh.path().display().to_string()]).await;
    assert!(none.code == 1 && none.err.contains("kubeconfig cannot be read"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubeconfig_works_for_kubectl() {
    let (_served, cli) = served().await;
    let file = cli.path("kube/config");
    let merged = cli.with("KUBECONFIG", &file).run(&["kubeconfig", "--merge"]).await;
    assert!(merged.ok().contains("context \"devsanctum\" written to"), "{merged:?}");
    let mut kubectl = tokio::process::Command::from(bare(kubectl::new()));
    let kubectl = kubectl.args(["get", "users"]).env("KUBECONFIG", &file).env("HOME", cli.path("")).output().await.unwrap();
    assert!(kubectl.status.success(), "{}", String::from_utf8_lossy(&kubectl.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_error() {
    let (_served, cli) = served().await;
    let run = tokio::process::Command::from(bare("sh"))
        .args(["-c", r#""$1" schema | head -c 10 >/dev/null; echo ok"#, "sh", env!("CARGO_BIN_EXE_devsanctum")])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    for words in [["explain", "ws.spec"], ["schema", "ws"], ["completion", "bash"]] {
        cli.run(&words).await.ok();
    }
    assert!(cli.run(&["version"]).await.ok().starts_with("devsanctum "));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_listed_verified_and_pruned() {
    let served = Served::new(Api::with_streams(Arc::new(Echo), 100_000).await).await;
    let cli = served.cli();
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    cli.run(&["exec", "-n", "team", "web", "--", "0"]).await.ok();
    let run = cli.run(&["audit", "list", "--kind", "ws", "--since", "1h"]).await;
    let lines: Vec<Vec<&str>> = run.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3, "{run:?}");
    // The connection's own address.
    let (by, made) = (["admin", "admin-token", "127.0.0.1"], lines[2][5] == "apply" || lines[2][5] == "patch");
    assert!(lines[1][2..5] == by && lines[1][5..10] == ["create", "Workspace/web/exec", "in", "team", "101"], "{run:?}");
    assert!(lines[2][2..5] == by && made && lines[2][6..10] == ["Workspace/web", "in", "team", "201"], "{run:?}");
    let json: Value = serde_json::from_str(cli.run(&["audit", "list", "--limit", "0", "-o", "json"]).await.ok()).unwrap();
    let count = json.as_array().unwrap().len();
    assert!(count >= 5 && json[0]["subresource"] == "exec", "{json}");
    let csv = cli.run(&["audit", "list", "--user", "admin", "--verb", "create", "-o", "csv"]).await;
    assert!(csv.ok().starts_with("seq,time,user,") && csv.out.lines().count() == 2, "{csv:?}");
    assert_eq!(cli.run(&["audit", "list", "-n", "nowhere"]).await.ok().lines().count(), 1);
    let bad = cli.run(&["audit", "list", "--since", "yesterday"]).await;
    assert!(bad.code == 2 && bad.err.contains("2026-01-31"), "{bad:?}");

    let verified = cli.run(&["audit", "verify"]).await;
    assert!(verified.ok().contains(&format!("intact: {count} rows")), "{verified:?}");
    let head = verified.out.split_whitespace().find(|word| word.len() == 64).unwrap().to_owned();
    cli.run(&["audit", "verify", "--head", &head]).await.ok();
    let pruned = cli.run(&["audit", "prune", "--before", "2020-01-01"]).await;
    assert_eq!(pruned.ok(), "0 rows pruned, up to row 0\n");
    served.api.sql("UPDATE audit SET actor = 'eve' WHERE seq = 2").await;
    let verified = cli.run(&["audit", "verify"]).await;
    assert!(verified.code == 1 && verified.out.starts_with("row 2 does not say"), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_signed_out_and_the_keys_that_go_on_are_told() {
    let (served, cli) = served().await;
    cli.run(&["apply", "-f", &cli.file("team.yaml", TEAM)]).await.ok();
    let (store, now) = (served.api.store.clone(), jiff::Timestamp::now());
    let people = SignIn::new(store.clone(), Arc::new(Directory::new(store.clone())));
    let by = Visitor { address: [192, 0, 2, 1].into(), agent: String::new(), known: None, session: None };
    for _ in 0..2 {
        people.welcome("ada", &by, now).await.unwrap();
    }
    let run = cli.run(&["user", "sign-out", "ada"]).await;
    assert!(run.ok() == "ada is signed out; sessions ended: 2\n" && run.err.is_empty(), "{run:?}");
    assert!(store.sessions_of("ada").await.unwrap().is_empty());
    cli.run(&["key", "create", "laptop", "--user", "ada"]).await.ok();
    let run = cli.run(&["user", "sign-out", "ada"]).await;
    assert!(run.ok() == "ada is signed out; sessions ended: 0\n" && run.err.contains("API keys go on (1)"), "{run:?}");
    let run = cli.run(&["user", "sign-out", "nobody"]).await;
    assert!(run.code != 0 && run.err.contains("not found"), "{run:?}");
}
