//! Settings of engine and optimizer.

use household::household::Settings;
use model::units::{MINUTE_MS, SlotLength};
use serde::{Deserialize, Serialize};

/// The engine: shards of household actors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Consumer group; the topic prefix stands before it.
    pub group: String,
    /// Stable name of this member for static membership; empty for none.
    pub member: String,
    /// Length of a slot in minutes: 1, 5, 15, 30 or 60.
    pub slot_minutes: SlotLength,
    /// Slots in a plan, 1 to 672.
    pub horizon_slots: u32,
    /// Minutes that a slot waits for late readings before its raw readings are let go, 0 to 1440.
    pub grace_minutes: u32,
    /// Minutes without a reading after which a home counts as stale.
    pub stale_minutes: u32,
    /// What a new plan must save to depart from the one that holds: currency per kWh that the battery moves otherwise.
    pub switching_cost_per_kwh: f64,
    /// The same for each appliance that starts in another slot.
    pub switching_cost_per_start: f64,
    /// Most records handled before their effects are carried out, 1 to 100,000.
    pub batch_records_max: usize,
    /// How long a changed home waits for its next snapshot, milliseconds: the stretch of the log that a crash makes the
    /// next owner read again. A fleet's snapshots are spread over it.
    pub checkpoint_ms: u64,
    /// The same in records of a partition.
    pub checkpoint_records_max: u64,
    /// Whether each reading becomes a row of the store. Without, slots are all that is kept, and a reading behind the
    /// grace is a dead letter.
    pub store_readings: bool,
    /// Whether each slot becomes a row of the store, and a record of the topic `slots`.
    pub store_slots: bool,
    pub publish_slots: bool,
    /// How often homes are told the time, milliseconds of real time.
    pub tick_ms: u64,
    /// Minutes of real time without a record after which a home leaves memory.
    pub passivate_minutes: u64,
    /// Most homes of a partition in memory; beyond it the longest silent ones leave.
    pub live_homes_max: usize,
    /// Threads for shards; 0 for one a core.
    pub threads: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            group: "hearth-engine".to_owned(),
            member: String::new(),
            slot_minutes: SlotLength::QUARTER_HOUR,
            horizon_slots: 96,
            grace_minutes: 15,
            stale_minutes: 60,
            switching_cost_per_kwh: 0.002,
            switching_cost_per_start: 0.01,
            batch_records_max: 2_000,
            checkpoint_ms: 30_000,
            checkpoint_records_max: 1_000_000,
            store_readings: true,
            store_slots: true,
            publish_slots: false,
            tick_ms: 1_000,
            passivate_minutes: 180,
            live_homes_max: 500_000,
            threads: 0,
        }
    }
}

impl EngineConfig {
    /// What `household` takes as its settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            slot: self.slot_minutes,
            horizon_slots: self.horizon_slots,
            grace_ms: i64::from(self.grace_minutes) * MINUTE_MS,
            stores_readings: self.store_readings,
            stale_after_ms: i64::from(self.stale_minutes) * MINUTE_MS,
            switching_cost_per_kwh: self.switching_cost_per_kwh,
            switching_cost_per_start: self.switching_cost_per_start,
        }
    }
}

/// The worker pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Consumer group; the topic prefix stands before it.
    pub group: String,
    /// Stable name of this member; empty for none.
    pub member: String,
    /// Threads that solve; 0 for one a core.
    pub workers: usize,
    /// Most requests taken at once, 1 to 10,000.
    pub batch_records_max: usize,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            group: "hearth-optimizer".to_owned(),
            member: String::new(),
            workers: 0,
            batch_records_max: 256,
        }
    }
}
