//! Starts real Kafka, Cassandra, Mosquitto and a schema registry on free ports of this machine, runs `hearth` against
//! them, and looks at the outcome by outside means: never through Hearth's own connectors.
//!
//! Tests that need the stack skip themselves unless [`stack_wanted`].

use std::net::TcpListener;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod ca;
mod cache;
mod cassandra;
mod hearth;
mod kafka;
mod mosquitto;
mod mqtt;
mod outside;
mod process;
mod registry;
mod stack;
mod watchdog;

pub use ca::{Ca, CertFiles};
pub use cache::root as cache_root;
pub use cassandra::Cassandra;
pub use hearth::{HearthProcess, hearth_config, hearth_init, hearth_output};
pub use kafka::Kafka;
pub use mosquitto::{BRIDGE_USER, HOMES, Mosquitto};
pub use mqtt::{Message, MqttAccess, Subscription, mosquitto_pub, mosquitto_pub_whole};
pub use outside::{
    KafkaRecord, KafkaTopic, cql, cql_do, cql_session, decode_confluent, http, kafka_create_topic,
    kafka_delete_topics, kafka_produce, kafka_records, metric,
};
pub use process::Process;
pub use registry::Registry;
pub use stack::Stack;
pub use watchdog::folder as scratch_folder;

/// Whether tests that need real services shall run: `STACK=1`.
#[must_use]
pub fn stack_wanted() -> bool {
    std::env::var("STACK").is_ok_and(|value| value == "1")
}

/// Says on the terminal why a test is skipped, and returns true, unless the stack is wanted.
#[must_use]
#[expect(
    clippy::print_stderr,
    reason = "a skipped test says so where people look"
)]
pub fn skipped(test: &str) -> bool {
    if !stack_wanted() {
        eprintln!(
            "{test}: skipped, it needs the real stack: run deploy/setup.sh test, set STACK=1"
        );
    }
    !stack_wanted()
}

/// A name that no other test of this machine uses: `prefix_PID_N`, good for topics, keyspaces and clients.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{}_{number}", std::process::id())
}

/// A household id that no other test of this process uses; Mosquitto knows its user. At most [`HOMES`].
#[must_use]
pub fn unique_home() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let home = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(home <= HOMES, "Mosquitto knows the homes 1 to {HOMES} only");
    home
}

/// A free port below the range that the kernel gives to outgoing connections, so that a service can be stopped for a
/// while and find its port free again.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 18_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let offset = std::process::id().wrapping_mul(37) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + offset % COUNT).expect("below 30,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}

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
