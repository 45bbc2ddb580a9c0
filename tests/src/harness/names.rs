//! Unique names, homes and ports for tests.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Tests may use the homes 1 to this; Mosquitto has a user for each.
pub const HOMES: u64 = 2_000;

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

/// The address on which the stack listens: `HEARTH_STACK_HOST`, or loopback. Another one is for a network of its own, in
/// which pods reach it.
#[must_use]
pub fn host() -> String {
    std::env::var("HEARTH_STACK_HOST").unwrap_or_else(|_| "127.0.0.1".to_owned())
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
