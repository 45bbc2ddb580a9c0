//! Waits for a condition instead of a fixed time.

use std::panic::Location;
use std::time::{Duration, Instant};

/// Polls until `probe` gives a value; panics with the last reason it gave when `limit` has passed.
#[track_caller]
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> impl Future<Output = T> {
    wait_at(Location::caller(), what, limit, probe)
}

async fn wait_at<T>(
    place: &Location<'_>,
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > limit => {
                panic!("{place}: waited {limit:?} for {what}, but: {reason:#}")
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}
