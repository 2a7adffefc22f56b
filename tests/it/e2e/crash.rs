//! The control plane killed at random moments.

use super::equality::host;
use super::records;
use super::world::{annotation, in_world, until};
use crate::support::traefik::request;
use devsanctum::resource::labels;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often it is killed; set `DEVSANCTUM_TEST_CRASHES` for more or fewer.
fn crashes() -> u32 {
    std::env::var("DEVSANCTUM_TEST_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(30)
}

fn random_delay(longest: u64) -> Duration {
    Duration::from_millis(u64::from(getrandom::u32().unwrap()) % longest)
}

#[test]
fn no_request_fails_while_the_control_plane_is_killed_and_started_again() {
    in_world(async |mut world| {
        world.with_workspaces(2).await;
        let (traefik, addresses) = (world.traefik_pid().expect("Traefik runs"), world.traefik());
        let (web, stop) = (world.web, CancellationToken::new());
        let host = host(&world.workspace("w0").await).unwrap();
        let visits = async {
            let (mut failed, mut all) = (Vec::new(), 0);
            while !stop.is_cancelled() {
                let answer = request(web, &host, "/", &[]).await;
                all += 1;
                if answer.0 != 200 {
                    failed.push(answer);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (failed, all)
        };
        let restarts = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(300)).await;
                world.kill();
                tokio::time::sleep(random_delay(1000)).await;
                world.restart().await;
                world.at_rest().await;
                // Longer than one that was taken over has to ask.
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            stop.cancel();
        };
        let ((failed, all), ()) = tokio::join!(visits, restarts);
        assert!(failed.is_empty(), "{} of {all} requests failed: {:?}", failed.len(), failed.first());
        assert!(all > 500, "{all}");
        assert_eq!((world.traefik_pid(), world.traefik()), (Some(traefik), addresses));
    });
}

#[test]
fn a_suspended_workspace_keeps_its_route_and_holds_up_no_start() {
    in_world(async |mut world| {
        world.with_workspaces(2).await;
        world.merge("w0", annotation(labels::SUSPEND, "true")).await;
        world.kill();
        let begun = Instant::now();
        world.restart().await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        // The first table is told at once, and taken up soon after.
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.at_rest().await;
        // It is looked at, not looked after; but nobody is let in who should not be.
        world.merge("w0", json!({"spec": {"visibility": "PRIVATE"}})).await;
        until("its gate", Duration::from_secs(5), async || match world.page("w0").await.0 {
            401 => Ok(()),
            code => Err(code.to_string()),
        })
        .await;
        world.merge("w0", json!({"spec": {"visibility": "PUBLIC"}})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.page("w0").await.0, 401, "opened by nobody while it is suspended");
        let container = world.container("w0").await;
        world.docker(&["kill", &container]);
        // A request that was on its way to the dead container hangs for long.
        let page = async || tokio::time::timeout(Duration::from_secs(1), world.page("w0")).await;
        until("its route to go", Duration::from_secs(5), async || match page().await {
            // It is private now, and so as if it were not there.
            Ok((404, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(world.docker(&["inspect", "--format", "{{.State.Status}}", &container]).trim(), "exited");
        world.merge("w0", annotation(labels::SUSPEND, "false")).await;
        world.at_rest().await;
    });
}

#[test]
fn a_rollout_killed_at_random_points_ends_as_the_records_say() {
    in_world(async |mut world| {
        world.ground().await;
        for i in 0..20 {
            world.create(records::workspace(&format!("w{i}"))).await;
        }
        for _ in 0..crashes() {
            tokio::time::sleep(random_delay(3000)).await;
            world.kill();
            world.launch();
        }
        world.ready().await;
        world.at_rest_within(Duration::from_secs(120)).await;
    });
}
