//! Homes that fall silent leave memory, but not the count of those that are missed.

#[allow(
    unreachable_pub,
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "shared by several tests"
)]
mod fakes;

use std::time::Duration;

use fakes::{MORNING_MS, World, home, meter};
use host::fence::Fence;
use host::partition::Partition;
use model::units::MINUTE_MS;
use schemas::topic::Topic;

#[tokio::test(start_paused = true)]
async fn a_home_that_leaves_memory_stays_among_the_stale_ones() {
    let world = World::new();
    let mut setup = world.setup();
    setup.passivate_after = Duration::from_secs(10);
    let lag = setup.lag.clone();
    let mut partition = Partition::new(setup, 0, Fence::open());
    let counted = || {
        lag.publish(world.group.as_ref());
        let metrics = &world.metrics;
        (
            metrics.live_households.get(),
            metrics.known_households.get(),
            metrics.stale_households.get(),
        )
    };
    let reading = |minute: i64| {
        let reading = meter(home(1), MORNING_MS + minute * MINUTE_MS, 500.0);
        world.append(0, home(1), &reading)
    };
    partition
        .take_in(Topic::Telemetry, &[reading(0)])
        .await
        .unwrap();
    partition.tick(MORNING_MS + MINUTE_MS).await.unwrap();
    assert_eq!(counted(), (1, 1, 0));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now_ms = MORNING_MS + 120 * MINUTE_MS;
        partition.tick(now_ms).await.unwrap();
    }
    assert_eq!(counted(), (0, 1, 1));
    partition
        .take_in(Topic::Telemetry, &[reading(120)])
        .await
        .unwrap();
    partition.tick(MORNING_MS + 121 * MINUTE_MS).await.unwrap();
    assert_eq!(counted(), (1, 1, 0));
    assert!(world.metrics.snapshots_total.get() >= 1);
    partition.forget();
    lag.clear(0);
    assert_eq!(counted(), (0, 0, 0));
}
