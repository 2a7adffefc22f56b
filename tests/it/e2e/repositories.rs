//! Repositories in workspaces, from a git host in the engine's network.

use super::records;
use super::world::{World, annotation, in_world, until};
use crate::support::devsanctum;
use crate::support::git::{GitHost, image_with_git};
use crate::support::git_ssh::SshGit;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Project, Secret, Template, labels};
use kube::api::{Api, Patch, PatchParams};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// Nowhere may this be but where git looks for it.
const CANARY: &str = "canary-7f3a91c2e5";

/// A world with a project of these repositories. Addresses are paths on the host.
pub async fn ground(world: &World<'_>, host: &GitHost, repositories: Value) {
    world.ground().await;
    let templates: Api<Template> = Api::all(world.client.clone());
    let spec = json!({"base": image_with_git(world.daemon), "limits": {"memoryMb": 128, "pids": 64}});
    templates.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    repositories_of(world, host, repositories).await;
}

/// Where workspaces reach what listens on their host.
pub async fn host_address(world: &World<'_>) -> String {
    let mut gateway = String::new();
    until("the workspaces' network", SOON, async || {
        let subnet = world.docker_says(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", &world.bridge()]);
        // Docker gives a bridge the first address.
        gateway = format!("{}.1", subnet.trim().split_once(".0/").ok_or("it is not there")?.0);
        Ok(())
    })
    .await;
    gateway
}

/// Gives the project these repositories.
async fn repositories_of(world: &World<'_>, host: &GitHost, repositories: Value) {
    let gateway = host_address(world).await;
    let mut all = repositories;
    for repository in all.as_array_mut().unwrap() {
        let url = repository["url"].as_str().unwrap();
        if !url.starts_with("ssh://") {
            repository["url"] = json!(format!("http://{gateway}:{}/{url}", host.address.port()));
        }
    }
    let projects: Api<Project> = Api::all(world.client.clone());
    let patch = json!({"spec": {"repositories": all}});
    projects.patch("team", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Waits until the condition of `w0` has this reason, and gives its message.
pub async fn condition(world: &World<'_>, reason: &str) -> String {
    let mut message = String::new();
    until(&format!("RepositoriesReady {reason}"), SOON, async || {
        let all = world.workspace("w0").await.status.unwrap_or_default().conditions;
        let found = find(&all, "RepositoriesReady").filter(|c| c.reason == reason);
        message = found.map(|c| c.message.clone()).ok_or_else(|| format!("{all:?}"))?;
        Ok(())
    })
    .await;
    message
}

/// What a script says in `w0`.
pub async fn inside(world: &World<'_>, script: &str) -> String {
    world.docker_says(&["exec", &world.container("w0").await, "sh", "-c", &format!("{script} 2>&1")]).trim().to_owned()
}

pub async fn secret(world: &World<'_>, data: Value) {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "team");
    let (params, patch) = (PatchParams::default(), Patch::Merge(json!({"spec": {"data": data}})));
    if secrets.get_opt("git").await.unwrap().is_some() {
        secrets.patch("git", &params, &patch).await.unwrap();
    } else {
        let metadata = json!({"name": "git", "namespace": "team"});
        let kind = json!({"apiVersion": "devsanctum.io/v1", "kind": "Secret", "metadata": metadata, "spec": {"data": data}});
        world.create(kind).await;
    }
}

#[test]
fn repositories_are_cloned_at_the_branch_or_the_default_one_and_never_over_what_is_there() {
    in_world(async |world| {
        let host = GitHost::start();
        host.repository("web.git", &["main", "feature/x"]);
        host.repository("api.git", &["trunk"]);
        host.repository("empty.git", &[]);
        let all = json!([
            {"name": "web", "url": "web.git"},
            {"name": "api", "url": "api.git", "defaultBranch": "trunk", "depth": 1},
            {"name": "empty", "url": "empty.git"},
        ]);
        ground(&world, &host, all).await;
        let mut w0 = records::workspace("w0");
        w0["spec"]["branch"] = json!("feature/x");
        world.create(w0).await;
        world.at_rest_within(SOON).await;
        let told = condition(&world, "OtherBranch").await;
        assert!(told.contains("api is at trunk, not at feature/x") && !told.contains("web"), "{told}");
        assert_eq!(inside(&world, "cd /workspace && cat web/branch api/branch && ls -A empty").await, "feature/xtrunk.git");
        assert_eq!(inside(&world, "pwd; ls -A /workspace").await, "/workspace\napi\nempty\nweb");
        assert_eq!(world.page("w0").await.0, 200);

        let branches = async |args: &[&str]| {
            let mut command = devsanctum();
            command.arg("--state-dir").arg(world.state_dir()).arg("branches").args(args);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        };
        let (code, listed, words) = branches(&["team"]).await;
        let first: Vec<String> = listed.lines().map(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(first, ["REPOSITORY BRANCH", "web feature/x", "web main", "api trunk"], "{code:?} {words}");
        let (code, _, words) = branches(&["team", "none"]).await;
        assert!(code == Some(1) && words.contains("it has: web, api, empty"), "{words}");

        // Work goes on where it was: after a stop, and in a container that was made anew.
        inside(&world, "cd /workspace/web && echo mine > branch && git checkout -q -b other").await;
        world.merge("w0", json!({"spec": {"running": false}})).await;
        until("the stop", SOON, async || match world.workspace("w0").await.status.unwrap().phase {
            devsanctum::resource::WorkspacePhase::Stopped => Ok(()),
            phase => Err(format!("{phase:?}")),
        })
        .await;
        world.merge("w0", json!({"spec": {"running": true, "env": {"COLOUR": "green"}}})).await;
        world.at_rest_within(SOON).await;
        assert_eq!(inside(&world, "cat /workspace/web/branch").await, "mine");
        let status = world.workspace("w0").await.status.unwrap();
        let outdated = find(&status.conditions, "UpToDate").unwrap().message.clone();
        world.merge("w0", annotation(labels::RECREATE, outdated.rsplit('=').next().unwrap())).await;
        until("another container", SOON, async || match inside(&world, "echo $COLOUR").await.as_str() {
            "green" => Ok(()),
            found => Err(found.to_owned()),
        })
        .await;
        world.at_rest_within(SOON).await;
        assert_eq!(inside(&world, "cat /workspace/web/branch").await, "mine");
        // Nothing waits for what git says.
        until("the branches", SOON, async || {
            let status = world.workspace("w0").await.status.unwrap();
            let branches: Vec<_> =
                status.repositories.iter().map(|r| (r.name.as_str(), r.branch.as_deref().unwrap_or("-"))).collect();
            let wanted = [("web", "other"), ("api", "trunk"), ("empty", "main")];
            if branches == wanted { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    });
}

#[test]
fn a_token_is_found_nowhere_but_where_git_looks_for_it() {
    in_world(async |mut world| {
        let host = GitHost::start();
        let bare = host.repository("web.git", &["main"]);
        host.ask_for(CANARY);
        ground(&world, &host, json!([{"name": "web", "url": "web.git", "credentials": {"name": "git"}}])).await;
        world.create(records::workspace("w0")).await;
        let told = condition(&world, "CredentialsMissing").await;
        assert_eq!(told, "web: secret team/git does not exist");
        world.at_rest_within(SOON).await;
        assert_eq!(world.page("w0").await.0, 200);
        secret(&world, json!({"token": CANARY})).await;
        condition(&world, "Cloned").await;
        world.at_rest_within(SOON).await;

        let container = world.container("w0").await;
        let found = inside(&world, &format!("grep -rlF {CANARY} /workspace /run /tmp /root /etc /home /var")).await;
        assert_eq!(found, "/run/devsanctum/git/web");
        assert_eq!(inside(&world, "ls -l /run/devsanctum/git/web | cut -c1-10").await, "-rw-------");
        let environments = inside(&world, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline").await;
        let image = world.workspace("w0").await.status.unwrap().image.unwrap();
        let docker = [
            world.docker_says(&["inspect", &container]),
            world.docker_says(&["logs", &container]),
            world.docker_says(&["history", "--no-trunc", &image]),
            world.docker_says(&["exec", &container, "cat", "/workspace/web/.git/config"]),
        ];
        let records = serde_json::to_string(&world.workspace("w0").await).unwrap();
        let log = std::fs::read_to_string(world.state_dir().join("log")).unwrap();
        for (i, text) in docker.iter().chain([&environments, &records, &log]).enumerate() {
            assert!(!text.contains(CANARY), "it is in {i}");
        }
        let layer = world.docker(&["commit", &container, "ds-test/canary:1"]);
        let kept = world.docker_says(&[
            "run",
            "--rm",
            "--network=none",
            "--entrypoint",
            "grep",
            &layer,
            "-rlF",
            CANARY,
            "/run",
            "/root",
            "/tmp",
        ]);
        world.docker(&["rmi", "-f", "ds-test/canary:1"]);
        assert_eq!(kept, "", "it is in a layer");

        // A person's own git finds it too, after a stop as well.
        let again = async |world: &World<'_>| {
            until("the token to be there again", SOON, async || match inside(world, "cat /run/devsanctum/git/web").await {
                text if text.contains(CANARY) => Ok(()),
                text => Err(text),
            })
            .await;
        };
        world.docker(&["restart", "-t", "0", &container]);
        again(&world).await;
        world.kill();
        world.docker(&["restart", "-t", "0", &container]);
        world.restart().await;
        again(&world).await;
        let push = "cd /workspace/web && echo more > more && git add more && \
            git commit -qm more && git log -1 --format='%an %ae' && git push -q origin main";
        assert_eq!(inside(&world, push).await, "ada ada@example.com");
        assert_eq!(crate::support::git::git(&bare, &["log", "-1", "--format=%s", "main"]), "more");
    });
}

#[test]
fn a_deploy_key_lets_git_in_over_ssh_and_is_found_nowhere_else() {
    in_world(async |world| {
        let host = GitHost::start();
        let bare = host.repository("web.git", &["main"]);
        let ssh = SshGit::start(host.root().to_owned());
        let of = |seed| PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
        let (deploy, other) = (of(1), of(2));
        let text = |key: &PrivateKey| key.to_openssh(LineEnding::LF).unwrap().to_string();
        ground(&world, &host, json!([])).await;
        let at = host_address(&world).await;
        let url = format!("ssh://git@{at}:{}/web.git", ssh.address.port());
        repositories_of(&world, &host, json!([{"name": "web", "url": url, "credentials": {"name": "git"}}])).await;
        let known = format!("[{at}]:{} {}", ssh.address.port(), ssh.key);
        secret(&world, json!({"sshKey": text(&deploy), "knownHosts": known})).await;
        world.create(records::workspace("w0")).await;
        let told = condition(&world, "CloneFailed").await;
        assert!(told.contains("web: ") && told.contains("Permission denied"), "{told}");
        *ssh.lets_in.lock().unwrap() = Some(deploy.public_key().clone());
        // Another host's key: nothing is told to whoever answers.
        let pinned = format!("[{at}]:{} {}", ssh.address.port(), other.public_key().to_openssh().unwrap());
        secret(&world, json!({"sshKey": text(&deploy), "knownHosts": pinned})).await;
        until("word of the other host", SOON, async || match condition(&world, "CloneFailed").await {
            told if told.contains("Host key verification failed") => Ok(()),
            told => Err(told),
        })
        .await;
        secret(&world, json!({"sshKey": text(&deploy), "knownHosts": known})).await;
        condition(&world, "Cloned").await;
        world.at_rest_within(SOON).await;

        let canary = text(&deploy).lines().nth(2).unwrap().to_owned();
        let found = inside(&world, &format!("grep -rlF {canary} /workspace /run /tmp /root /home /var")).await;
        assert_eq!(found, "/run/devsanctum/git/web.key");
        assert_eq!(inside(&world, "ls -l /run/devsanctum/git/web.key | cut -c1-10").await, "-rw-------");
        let container = world.container("w0").await;
        let log = std::fs::read_to_string(world.state_dir().join("log")).unwrap();
        let environments = inside(&world, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /workspace/web/.git/config").await;
        for text in [world.docker_says(&["inspect", &container]), log, environments] {
            assert!(!text.contains(&canary));
        }
        let push = "cd /workspace/web && echo more > more && git add more && \
            git -c user.name=a -c user.email=a@example.com commit -qm more && git push -q origin main";
        assert_eq!(inside(&world, push).await, "");
        assert_eq!(crate::support::git::git(&bare, &["log", "-1", "--format=%s", "main"]), "more");
    });
}

#[test]
fn nothing_is_cloned_into_a_container_that_would_lose_it() {
    in_world(async |world| {
        let host = GitHost::start();
        host.repository("web.git", &["main"]);
        ground(&world, &host, json!([])).await;
        world.create(records::workspace("w0")).await;
        world.at_rest_within(SOON).await;
        repositories_of(&world, &host, json!([{"name": "web", "url": "web.git"}])).await;
        let told = condition(&world, "UpdateNeeded").await;
        assert!(told.contains("devsanctum workspace update"), "{told}");
        assert!(inside(&world, "ls /workspace").await.contains("No such file"));
        let latest = world.workspace("w0").await.status.unwrap().latest_environment.unwrap();
        world.merge("w0", annotation(labels::RECREATE, &latest)).await;
        condition(&world, "Cloned").await;
        assert_eq!(inside(&world, "cat /workspace/web/branch").await, "main");
    });
}

#[test]
fn what_cannot_be_cloned_is_told_in_gits_words_and_comes_when_it_can() {
    in_world(async |world| {
        let host = GitHost::start();
        host.repository("web.git", &["main"]);
        host.repository("api.git", &["main"]);
        host.ask_for(CANARY);
        let all = json!([
            {"name": "web", "url": "web.git", "credentials": {"name": "git"}},
            {"name": "api", "url": "api.git"},
        ]);
        ground(&world, &host, all).await;
        secret(&world, json!({"token": "wrong-5d1e"})).await;
        world.create(records::workspace("w0")).await;
        let told = condition(&world, "CloneFailed").await;
        assert!(told.contains("web: ") && told.contains("Authentication failed"), "{told}");
        assert!(told.contains("api: ") && told.contains("could not read Username"), "{told}");
        assert!(!told.contains("wrong-5d1e") && told.contains("at once when its Secret is corrected"), "{told}");
        world.at_rest_within(SOON).await;
        assert_eq!(world.page("w0").await.0, 200);
        assert_eq!(inside(&world, "ls -A /workspace").await, "");

        secret(&world, json!({"token": CANARY})).await;
        let projects: Api<Project> = Api::all(world.client.clone());
        let mut all = projects.get("team").await.unwrap().spec.repositories;
        all[1].credentials = all[0].credentials.clone();
        projects.patch("team", &PatchParams::default(), &Patch::Merge(json!({"spec": {"repositories": all}}))).await.unwrap();
        condition(&world, "Cloned").await;
        assert_eq!(inside(&world, "cat /workspace/web/branch /workspace/api/branch").await, "mainmain");
    });
}
