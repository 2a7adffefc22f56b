//! What kubectl 1.20 and a new kubectl do, with exit codes and words.

use crate::support::api::{Api, GROUP, template, user, workspaces};
use crate::support::cli::Served;
use crate::support::kubectl::{Kubectl, both};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const TEAM: &str = "\
apiVersion: devsanctum.io/v1
kind: User
metadata: {name: ada}
spec: {email: ada@example.com}
---
apiVersion: devsanctum.io/v1
kind: Template
metadata: {name: base}
spec: {base: 'node:20'}
---
apiVersion: devsanctum.io/v1
kind: Project
metadata: {name: team}
spec: {owner: ada, template: base}
---
apiVersion: devsanctum.io/v1
kind: Workspace
metadata: {name: web, namespace: team, labels: {tier: front}}
spec: {owner: ada, branch: main}
";

/// An API with the team in it, and both kubectls.
async fn team() -> (Served, [Kubectl; 2]) {
    let api = Api::new().await;
    api.project().await;
    let web = json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
        "metadata": {"name": "web", "labels": {"tier": "front"}}, "spec": {"owner": "ada", "branch": "main"}});
    api.create(&workspaces(), &web).await;
    let served = Served::new(api).await;
    let kubectls = both(&served);
    (served, kubectls)
}

fn columns(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|l| l.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_read_in_every_format() {
    let (served, kubectls) = team().await;
    served.api.create(&workspaces(), &crate::support::api::workspace("api")).await;
    for k in &kubectls {
        let table = k.says("get ws -n team", 0, &[]).await.out;
        let rows = columns(&table);
        assert_eq!(rows[0], ["NAME", "PHASE", "URL", "SERVER", "AGE"], "{table}");
        assert_eq!([rows[1][0], rows[2][0]], ["api", "web"], "{table}");
        k.says("get workspaces web -n team -o wide", 0, &["OWNER", "IMAGE", "MESSAGE", "ada"]).await;
        k.says("get ws/web -n team -o yaml", 0, &["\nkind: Workspace\n", "\nspec:\n  branch: main\n"]).await;
        let json: Value = serde_json::from_str(&k.says("get ws -A -o json", 0, &[]).await.out).unwrap();
        assert_eq!((json["kind"].as_str(), json["items"].as_array().map(Vec::len)), (Some("List"), Some(2)));
        let path = k.says("get ws -n team -o jsonpath={.items[*].metadata.name}", 0, &[]).await;
        assert_eq!(path.out, "api web");
        let custom = k.says("get ws web -n team -o custom-columns=N:.metadata.name,B:.spec.branch", 0, &[]).await.out;
        assert_eq!(columns(&custom), [["N", "B"], ["web", "main"]]);
        assert_eq!(k.says("get ws -n team -l tier=front -o name", 0, &[]).await.out, "workspace.devsanctum.io/web\n");
        k.says("get ws -n team -l tier=back", 0, &["No resources found in team namespace."]).await;
        let field = k.says("get ws -A --field-selector metadata.name=api -o name", 0, &[]).await.out;
        assert_eq!(field, "workspace.devsanctum.io/api\n");
        let sorted = k.says("get ws -n team --sort-by=.spec.branch --no-headers", 0, &[]).await.out;
        assert_eq!(columns(&sorted).iter().map(|r| r[0]).collect::<Vec<_>>(), ["api", "web"]);
        k.says("get ws -A --show-labels", 0, &["NAMESPACE", "LABELS", "tier=front", "<none>"]).await;
        k.says("get all -n team", 0, &["workspace.devsanctum.io/web", "template.devsanctum.io/base"]).await;
        k.says("get ws nope -n team", 1, &["Error from server (NotFound): workspaces.devsanctum.io \"nope\" not found"]).await;
        k.says("get nope", 1, &["the server doesn't have a resource type \"nope\""]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_apply_and_compare() {
    let served = Served::new(Api::new().await).await;
    for k in &both(&served) {
        let file = k.file("team.yaml", TEAM);
        let next = k.file("next.yaml", &TEAM.replace("branch: main", "branch: next"));
        let typo = k.file("typo.yaml", &TEAM.replace("branch: main", "brnach: main"));
        let done = |what: &str| {
            ["user.devsanctum.io/ada", "template.devsanctum.io/base", "project.devsanctum.io/team", "workspace.devsanctum.io/web"]
                .map(|r| format!("{r} {what}\n"))
                .concat()
        };
        assert_eq!(k.says(&format!("apply -f {file}"), 0, &[]).await.out, done("created"));
        assert_eq!(k.says(&format!("apply -f {file}"), 0, &[]).await.out, done("unchanged"));
        assert_eq!(k.says(&format!("diff -f {file}"), 0, &[]).await.out, "");
        k.says(&format!("diff -f {next}"), 1, &["\n-  branch: main\n+  branch: next\n"]).await;
        k.says(&format!("apply -f {next} --dry-run=server"), 0, &["web configured (server dry run)"]).await;
        k.says(&format!("apply -f {next} --dry-run=client"), 0, &["web configured (dry run)"]).await;
        assert_eq!(k.says("get ws/web -n team -o jsonpath={.spec.branch}", 0, &[]).await.out, "main", "dry runs change nothing");
        k.says(&format!("apply -f {typo}"), 1, &["unknown field", "brnach"]).await;
        k.says(&format!("apply -f {next}"), 0, &["workspace.devsanctum.io/web configured\n", "ada unchanged\n"]).await;
        assert_eq!(
            k.says(&format!("apply --server-side --force-conflicts -f {file}"), 0, &[]).await.out,
            done("serverside-applied")
        );
        let other = format!("apply --server-side --field-manager=other -f {next}");
        k.says(&other, 1, &["conflict", ".spec.branch"]).await;
        k.says(&format!("{other} --force-conflicts"), 0, &["web serverside-applied"]).await;
        assert_eq!(k.says("get ws/web -n team -o jsonpath={.spec.branch}", 0, &[]).await.out, "next");
        k.says(&format!("diff --server-side --field-manager=other -f {next}"), 0, &[]).await;
        k.says(&format!("replace -f {file}"), 0, &["workspace.devsanctum.io/web replaced"]).await;
        assert_eq!(k.says("get ws/web -n team -o jsonpath={.spec.branch}", 0, &[]).await.out, "main");
        k.says(&format!("delete -f {file} --wait=false"), 0, &["user.devsanctum.io \"ada\" deleted"]).await;
        k.says(&format!("delete -f {file} --ignore-not-found"), 0, &[]).await;
        k.says("get ws,projects,users,templates -A", 0, &["No resources found"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_change_records() {
    let (_served, kubectls) = team().await;
    for k in &kubectls {
        let branch = "get ws/web -n team -o jsonpath={.spec.branch}";
        k.says(r#"patch ws web -n team --type=merge -p {"spec":{"branch":"b"}}"#, 0, &["web patched"]).await;
        assert_eq!(k.says(branch, 0, &[]).await.out, "b");
        let json = r#"patch ws web -n team --type=json -p [{"op":"replace","path":"/spec/branch","value":"c"}]"#;
        k.says(json, 0, &["web patched"]).await;
        assert_eq!(k.says(branch, 0, &[]).await.out, "c");
        k.says(r#"patch ws web -n team -p {"spec":{"branch":"d"}}"#, 1, &["the body of the request was in an unknown format"])
            .await;
        k.says(r#"patch ws web -n team --type=merge -p {"spec":{"owner":"nobody"}}"#, 1, &["spec.owner", "nobody"]).await;
        k.says("label ws web -n team a=b", 0, &["web labeled"]).await;
        k.says("label ws web -n team a=c", 1, &["--overwrite is false"]).await;
        k.says("label ws web -n team a=c --overwrite", 0, &["web labeled"]).await;
        k.says("label ws web -n team a-", 0, &[]).await;
        k.says("annotate ws web -n team example.com/note=hello --overwrite", 0, &["web annotated"]).await;
        let editor = k.file("editor.sh", "#!/bin/sh\nsed -i 's/branch: .*/branch: edited/' \"$1\"\n");
        std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o700)).unwrap();
        let edited = k.spawn(&["edit", "ws/web", "-n", "team"], &[("EDITOR", &editor)]).await;
        assert_eq!(edited.ok(), "workspace.devsanctum.io/web edited\n");
        assert_eq!(k.says(branch, 0, &[]).await.out, "edited");
        let same = k.spawn(&["edit", "ws/web", "-n", "team"], &[("EDITOR", "true")]).await;
        assert!(same.code == 0 && (same.out + &same.err).contains("Edit cancelled"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_follow_and_wait() {
    let (served, kubectls) = team().await;
    let status = format!("{}/web/status", workspaces());
    for (i, k) in kubectls.iter().enumerate() {
        let name = format!("late{i}");
        let watching = k.spawn(&["get", "users", "-w", "--request-timeout=4s"], &[]);
        let waiting = k.spawn(&["wait", "--for=condition=Ready", "ws/web", "-n", "team", "--timeout=30s"], &[]);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        served.api.create(&format!("{GROUP}/users"), &user(&name)).await;
        let ready = |is: &str| {
            json!({"status": {"conditions": [{"type": "Ready", "status": is, "reason": "Test", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
        };
        assert_eq!(served.api.merge(&status, &ready("True")).await.0, 200);
        assert_eq!(waiting.await.ok(), "workspace.devsanctum.io/web condition met\n");
        let seen = watching.await.out;
        assert!(columns(&seen).iter().filter(|r| r[0] == name).count() == 1 && seen.starts_with("NAME"), "{seen}");
        assert_eq!(served.api.merge(&status, &ready("False")).await.0, 200);
        k.says("wait --for=condition=Ready ws/web -n team --timeout=1s", 1, &["timed out waiting for the condition"]).await;
        let gone = k.spawn(&["wait", "--for=delete", &format!("user/{name}"), "--timeout=30s"], &[]);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        served.api.delete(&format!("{GROUP}/users/{name}")).await;
        let gone = gone.await;
        // One that was slow to start finds nothing to wait for.
        assert!(gone.code == 0 || gone.err.contains("(NotFound)"), "{gone:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_explain_and_discover() {
    let (served, kubectls) = team().await;
    let web = served.api.get(&format!("{}/web", workspaces())).await.1;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "team"},
        "involvedObject": {"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "namespace": "team", "name": "web",
            "uid": web["metadata"]["uid"]},
        "reason": "Started", "message": "it runs now", "type": "Normal", "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"});
    served.api.create("/api/v1/namespaces/team/events", &event).await;
    for k in &kubectls {
        k.says("describe ws web -n team", 0, &["Name:         web", "Started", "it runs now"]).await;
        k.says("get events -n team", 0, &["Started", "it runs now"]).await;
        k.says("explain workspace.spec.branch", 0, &["Branch of the project's repositories."]).await;
        k.says("explain workspace.spec --recursive", 0, &["branch\t<string>", "owner\t<string>", "env\t<map[string]string>"])
            .await;
        k.says("explain workspace.spec.nope", 1, &["nope"]).await;
        k.says("get namespaces", 0, &["default", "devsanctum-system", "team", "Active"]).await;
        k.says("api-resources --api-group=devsanctum.io", 0, &["workspaces", "ws", "dockerservers", "Settings"]).await;
        k.says("api-versions", 0, &["devsanctum.io/v1\n", "events.k8s.io/v1\n"]).await;
        assert_eq!(k.says("auth can-i create workspaces -n team", 0, &[]).await.out, "yes\n");
        k.says("auth can-i delete users.devsanctum.io --all-namespaces", 0, &["yes"]).await;
        k.says("version", 0, &["+devsanctum"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_delete() {
    let (served, kubectls) = team().await;
    for k in &kubectls {
        for name in ["one", "held", "two", "three"] {
            served.api.create(&format!("{GROUP}/templates"), &template(name)).await;
        }
        let path = format!("{GROUP}/templates/one");
        let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
        let let_go = json!({"metadata": {"finalizers": null}});
        served.api.merge(&path, &hold).await;
        k.says("delete template one --wait=false", 0, &["template.devsanctum.io \"one\" deleted"]).await;
        assert!(served.api.get(&path).await.1["metadata"]["deletionTimestamp"].is_string(), "the finalizer holds it");
        k.says("delete template one --timeout=1s", 1, &["timed out waiting for the condition"]).await;
        served.api.merge(&path, &let_go).await;
        let path = format!("{GROUP}/templates/held");
        served.api.merge(&path, &hold).await;
        let waiting = k.spawn(&["delete", "template", "held", "--timeout=30s"], &[]);
        for _ in 0..300 {
            if served.api.get(&path).await.1["metadata"]["deletionTimestamp"].is_string() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        served.api.merge(&path, &let_go).await;
        assert_eq!(waiting.await.ok(), "template.devsanctum.io \"held\" deleted\n");
        let dir = k.path("dir");
        for name in ["two", "three"] {
            k.file(&format!("dir/{name}.json"), &template(name).to_string());
        }
        k.says(&format!("delete -f {dir}"), 0, &["\"two\" deleted", "\"three\" deleted"]).await;
        served.api.create(&workspaces(), &crate::support::api::workspace("more")).await;
        k.says("delete ws --all -n team", 0, &["\"more\" deleted"]).await;
        k.says("get ws -n team", 0, &["No resources found"]).await;
        k.says("delete ws web -n team --ignore-not-found", 0, &[]).await;
        k.says("delete namespace team", 1, &["namespaces follow projects: delete the Project"]).await;
        served.api.create(&workspaces(), &crate::support::api::workspace("last")).await;
        served.api.create(&format!("{GROUP}/projects"), &crate::support::api::project("other")).await;
        k.says("delete project other", 0, &["\"other\" deleted"]).await;
        assert!(!k.says("get ns", 0, &["team", "Active"]).await.out.contains("other"));
    }
}
