//! A program that fails costs its server nothing, and its owner is told why.

use super::records;
use super::world::{in_world, until};
use devsanctum::resource::Template;
use devsanctum::resource::conditions::find;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[test]
fn a_program_that_ends_at_once_is_started_ever_more_seldom_and_says_with_which_code() {
    in_world(async |world| {
        world.ground().await;
        let templates: Api<Template> = Api::all(world.client.clone());
        let body = Patch::Merge(json!({"spec": {"startCommand": ["sh", "-c", "exit 3"]}}));
        templates.patch("hello", &PatchParams::default(), &body).await.unwrap();
        world.create(records::workspace("w0")).await;
        until("the crash loop to be told", Duration::from_secs(30), async || {
            let status = world.workspace("w0").await.status.unwrap_or_default();
            match find(&status.conditions, "ContainerRunning") {
                Some(c) if c.reason == "CrashLoopBackOff" && c.message.contains("exit code 3") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let container = world.container("w0").await;
        // Not by events: the engine's ring forgets them.
        let started = || world.docker(&["inspect", "--format={{.State.StartedAt}}", &container]);
        let mut seen = BTreeSet::from([started()]);
        let begun = Instant::now();
        loop {
            let now = started();
            // What is seen later may rightly be one start more.
            if begun.elapsed() > Duration::from_secs(5) {
                break;
            }
            seen.insert(now);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(seen.len() <= 3, "started at {seen:?} within five seconds");
    });
}
