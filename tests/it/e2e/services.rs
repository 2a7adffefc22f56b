//! Processes that are kept running inside a workspace, under s6 of the platform's own base.

use super::records;
use super::world::{World, in_world, until};
use crate::support::devsanctum;
use crate::support::source::root;
use devsanctum::resource::conditions::find;
use devsanctum::resource::{Template, WorkspacePhase};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const BASE: &str = "devsanctum/base:tiny";

/// Makes the platform's own base, and gives its name.
pub fn base(world: &World<'_>) -> &'static str {
    let mut build = devsanctum();
    build.args(["image", "base", "build", "tiny", "--docker-host", &format!("unix://{}", world.daemon.socket().display())]);
    // This network has no way out.
    let made = build.arg("--packages").arg(root().join("target/tools/packages")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    BASE
}

/// A world with a workspace `w0` of these services, on the platform's own base.
async fn ground(world: &World<'_>, services: serde_json::Value) {
    base(world);
    world.ground().await;
    let templates: Api<Template> = Api::all(world.client.clone());
    let spec = json!({"base": BASE, "startCommand": null, "services": services, "limits": {"memoryMb": 64, "pids": 64}});
    templates.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    world.create(records::workspace("w0")).await;
}

async fn inside(world: &World<'_>, script: &str) -> String {
    world.docker_says(&["exec", &world.container("w0").await, "sh", "-c", &format!("{script} 2>&1")]).trim().to_owned()
}

/// What `devsanctum logs` prints, and how it ends.
fn logs(world: &World<'_>, args: &[&str]) -> Output {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "logs", "w0"]).args(args);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn services_come_back_end_cleanly_and_have_logs_of_their_own() {
    in_world(async |world| {
        let web = "mkdir -p /data && echo \"$HOSTNAME says hello\" > /data/index.html && echo serving && exec httpd -f -p 8080 -h /data";
        // It does not heed what asks it to end.
        let worker = "trap '' TERM; n=0; while :; do n=$((n + 1)); echo working on $n; echo trouble with $n >&2; sleep 0.2; done";
        ground(&world, json!([{"name": "web", "run": web}, {"name": "worker", "run": worker}])).await;
        world.at_rest_within(SOON).await;
        assert_eq!(world.page("w0").await, (200, "w0 says hello\n".into()));
        assert_eq!(inside(&world, "cat /proc/1/comm").await, "s6-svscan");

        let container = world.container("w0").await;
        let started = world.docker_says(&["inspect", "-f", "{{.State.StartedAt}}", &container]);
        for service in ["web", "worker"] {
            let pid = inside(&world, &format!("s6-svstat -o pid /run/service/{service}")).await;
            inside(&world, &format!("kill -9 {pid}")).await;
            until(&format!("{service} to come back"), SOON, async || {
                let status = inside(&world, &format!("s6-svstat -o up,pid /run/service/{service}")).await;
                if status.starts_with("true ") && !status.ends_with(&format!(" {pid}")) { Ok(()) } else { Err(status) }
            })
            .await;
        }
        until("the page", SOON, async || match world.page("w0").await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(world.docker_says(&["inspect", "-f", "{{.State.StartedAt}}", &container]), started, "it was started again");

        let text = |output: Output| String::from_utf8(output.stdout).unwrap();
        let whole = text(logs(&world, &[]));
        assert!(whole.contains("working on 1\n") && whole.contains("trouble with 1\n") && whole.contains("serving\n"), "{whole}");
        let worker = text(logs(&world, &["-s", "worker", "--tail", "4"]));
        assert_eq!(worker.lines().count(), 4, "{worker}");
        assert!(worker.lines().all(|l| l.starts_with("working on ") || l.starts_with("trouble with ")), "{worker}");
        let web = text(logs(&world, &["-s", "web"]));
        assert!(web.contains("serving\n") && !web.contains("working"), "{web}");
        let none = logs(&world, &["-s", "db"]);
        let words = String::from_utf8(none.stderr).unwrap();
        assert!(none.status.code() == Some(1) && words.contains("no log of a service 'db'; there are: web worker"), "{words}");

        // One that follows a log leaves nothing behind when it goes.
        let mut command = devsanctum();
        command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team", "logs", "w0", "-f", "-s", "worker", "--tail", "1"]);
        let mut following = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let followed = tokio::task::spawn_blocking({
            let out = following.stdout.take().unwrap();
            move || std::io::BufRead::lines(std::io::BufReader::new(out)).take(5).map(Result::unwrap).collect::<Vec<_>>()
        });
        assert_eq!(followed.await.unwrap().len(), 5);
        assert!(inside(&world, "ps").await.contains("tail -n 1 -F"));
        following.kill().unwrap();
        following.wait().unwrap();
        until("the follower to go", SOON, async || match inside(&world, "ps").await {
            all if all.contains("tail -n 1 -F") => Err(all),
            _ => Ok(()),
        })
        .await;

        let begun = Instant::now();
        world.merge("w0", json!({"spec": {"running": false}})).await;
        until("the stop", SOON, async || match world.workspace("w0").await.status.unwrap().phase {
            WorkspacePhase::Stopped => Ok(()),
            phase => Err(format!("{phase:?}")),
        })
        .await;
        assert!(begun.elapsed() < Duration::from_secs(8), "it was killed in the end: {:?}", begun.elapsed());
        assert_eq!(world.docker_says(&["inspect", "-f", "{{.State.ExitCode}}", &container]).trim(), "0");
        world.merge("w0", json!({"spec": {"running": true}})).await;
        world.at_rest_within(SOON).await;
        assert_eq!(world.page("w0").await.0, 200);
        assert!(text(logs(&world, &["-s", "worker"])).contains("working on 1\n"), "what was written before the stop is gone");
    });
}

#[test]
fn services_need_a_base_that_keeps_them_running() {
    in_world(async |world| {
        ground(&world, json!([{"name": "web", "run": "exec httpd -f -p 8080"}])).await;
        let templates: Api<Template> = Api::all(world.client.clone());
        let spec = json!({"base": crate::support::dockerd::TINY});
        templates.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
        world.create(records::workspace("w1")).await;
        until("word of it", SOON, async || {
            let all = world.workspace("w1").await.status.unwrap_or_default().conditions;
            let told = find(&all, "ImageReady").filter(|c| c.reason == "ImageBuildFailed").map(|c| c.message.clone());
            match told {
                Some(words) if words.contains("has no /init (s6)") => Ok(()),
                _ => Err(format!("{all:?}")),
            }
        })
        .await;
    });
}
