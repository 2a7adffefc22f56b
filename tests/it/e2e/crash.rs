//! The control plane killed at random moments.

use super::records;
use super::world::in_world;
use std::time::Duration;

/// How often it is killed; set `DEVSANCTUM_TEST_CRASHES` for more or fewer.
fn crashes() -> u32 {
    std::env::var("DEVSANCTUM_TEST_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(30)
}

fn random_delay(longest: u64) -> Duration {
    Duration::from_millis(u64::from(getrandom::u32().unwrap()) % longest)
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
