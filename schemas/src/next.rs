//! What the next build may change in the formats, for tests of upgrades: with the feature `next` this crate writes and
//! reads formats that are one version newer than those it ships. They are of three kinds: a snapshot with one more
//! field, a topic's schema with one more optional field, and a topic that no build before knows.

/// How many versions newer than those that ship the snapshots are.
pub(crate) const SNAPSHOT_VERSIONS: u8 = if cfg!(feature = "next") { 1 } else { 0 };

/// The additional field at the end of a snapshot: an `Option` that is `None`, as postcard writes it.
pub(crate) const SNAPSHOT_FIELD: &[u8] = if cfg!(feature = "next") { &[0] } else { &[] };

/// Where dead letters go. The next build has a topic of its own for them.
pub(crate) const DEAD_LETTERS: &str = if cfg!(feature = "next") {
    "refusals"
} else {
    "dead-letters"
};

/// The schema of telemetry.
pub(crate) const TELEMETRY: &str = if cfg!(feature = "next") {
    include_str!("../avro/next/telemetry.avsc")
} else {
    include_str!("../avro/telemetry.avsc")
};

/// The schemas of telemetry before, the oldest first.
pub(crate) const TELEMETRY_BEFORE: &[&str] = if cfg!(feature = "next") {
    &[
        include_str!("../avro/history/v1/telemetry.avsc"),
        include_str!("../avro/telemetry.avsc"),
    ]
} else {
    &[include_str!("../avro/history/v1/telemetry.avsc")]
};
