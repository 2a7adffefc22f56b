//! Figures of the proxy port. Run alone: `cargo test --test it proxy_measured -- --ignored --nocapture`.

use crate::support::ports::free_address;
use crate::support::traefik::{PATIENCE, Rig, Upstream, public};
use devsanctum::proxy::{Proxy, RouteTable};
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

#[tokio::test]
#[ignore = "measures; the machine should be quiet"]
async fn how_long_a_change_takes_and_what_a_look_costs() {
    let (rig, app) = (Rig::start(free_address()).await, Upstream::start("app").await);
    for routes in [10, 200, 1000] {
        let entry = |n: usize| (format!("r{n}"), public(&format!("h{n}.localhost"), app.address));
        let mut table = RouteTable((0..routes).map(entry).collect());
        rig.route(&table).await;
        let (mut answered, mut reported, mut full) = (vec![], vec![], vec![]);
        for turn in 0..20 {
            sleep(Duration::from_secs(1)).await;
            let host = format!("new{turn}.localhost");
            table.0.insert("rnew".into(), public(&host, app.address));
            let start = Instant::now();
            rig.proxy.publish(&table);
            let ask = async {
                while rig.get(&host).await.0 != 200 {
                    sleep(Duration::from_millis(2)).await;
                }
                start.elapsed()
            };
            let report = async {
                rig.proxy.wait_live(PATIENCE).await.unwrap();
                start.elapsed()
            };
            let (a, r) = tokio::join!(ask, report);
            answered.push(a);
            reported.push(r);
        }
        for turn in 0..20 {
            // Undone at once: another digest is wanted, so the next look compares all routes.
            rig.proxy.publish(&RouteTable(table.0.clone().into_iter().skip(turn + 1).collect()));
            let start = Instant::now();
            rig.proxy.live().await.unwrap();
            full.push(start.elapsed());
            rig.proxy.publish(&table);
            rig.proxy.wait_live(PATIENCE).await.unwrap();
        }
        let start = Instant::now();
        for _ in 0..100 {
            rig.proxy.live().await.unwrap();
        }
        let look = start.elapsed() / 100;
        println!(
            "{routes} routes: change -> 200 {:?}, change -> reported {:?}, full look {:?}, unchanged look {look:?}",
            median(answered),
            median(reported),
            median(full)
        );
    }
}
