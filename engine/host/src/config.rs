//! Settings of engine and optimizer.

use household::settings::{Settings, UNKNOWN_KW_MAX};
use model::limits::{POWER_KW_MAX, PRICE_MAX};
use model::units::{DAY_MS, MINUTE_MS, SlotLength};
use platform::settings::BadSetting;

platform::settings! {
    /// The engine: shards of household actors.
    pub struct EngineConfig {
        /// Consumer group; the topic prefix stands before it.
        #[expects("a name", |name: &String| !name.is_empty())]
        group: String = "hearth-engine".to_owned(),
        /// Stable name of this member for static membership; empty for none.
        member: String = String::new(),
        /// Length of a slot in minutes.
        #[expects("1, 5, 15, 30 or 60")]
        slot_minutes: SlotLength = SlotLength::QUARTER_HOUR,
        /// Slots in a plan.
        #[range(1..=672)]
        horizon_slots: u32 = 96,
        /// Slots in a program, which devices carry out even without contact before they fall back.
        #[range(1..=96)]
        program_slots: u32 = 8,
        /// Minutes that a slot waits for late readings before its raw readings are let go.
        #[range(0..=1_440)]
        grace_minutes: u32 = 15,
        /// Minutes that a reading holds where no next one of its kind comes: means are weighted by that time. 0 weighs
        /// each reading the same.
        #[range(0..=60)]
        hold_minutes: u32 = 15,
        /// Minutes that a reading may be ahead of the engine's clock; what is further ahead is a dead letter.
        #[range(0..=1_440)]
        ahead_minutes: u32 = 5,
        /// Days that a reading may be old; what is older is a dead letter. No more than the store keeps.
        #[range(1..=36_500)]
        kept_days: u32 = 90,
        /// Minutes without a reading after which a home counts as stale, and each of its inputs as unknown.
        #[range(1..=525_600)]
        stale_minutes: u32 = 60,
        /// Largest plausible load of a home whose import limit is not known, kW. A reading above one and a half times
        /// what is known, or this, is refused.
        #[range(1.0..=POWER_KW_MAX)]
        load_kw_max: f64 = UNKNOWN_KW_MAX,
        /// The same of the PV of a home whose capacity is not known.
        #[range(1.0..=POWER_KW_MAX)]
        pv_kw_max: f64 = UNKNOWN_KW_MAX,
        /// The same of a battery whose rates are not known, each way.
        #[range(1.0..=POWER_KW_MAX)]
        battery_kw_max: f64 = UNKNOWN_KW_MAX,
        /// What a new plan must save to depart from the one that holds: currency per kWh that the battery moves otherwise.
        #[range(0.0..=PRICE_MAX)]
        switching_cost_per_kwh: f64 = 0.002,
        /// The same for each appliance that starts in another slot.
        #[range(0.0..=PRICE_MAX)]
        switching_cost_per_start: f64 = 0.01,
        /// Most records handled before their effects are carried out.
        #[range(1..=100_000)]
        batch_records_max: usize = 2_000,
        /// How long a changed home waits for its next snapshot, milliseconds: the stretch of the log that a crash makes the
        /// next owner read again. A fleet's snapshots are spread over it.
        #[range(100..=3_600_000)]
        checkpoint_ms: u64 = 30_000,
        /// The same in records of a partition.
        #[range(1..=100_000_000)]
        checkpoint_records_max: u64 = 1_000_000,
        /// Whether each reading becomes a row of the store. Without, slots are all that is kept, and a reading behind the
        /// grace is a dead letter.
        store_readings: bool = true,
        /// Ignored with a warning; rows come together by themselves while the store is behind.
        rows_wait: bool = false,
        /// Whether each slot becomes a row of the store.
        store_slots: bool = true,
        /// Whether each slot becomes a record of the topic `slots`.
        publish_slots: bool = false,
        /// How often homes are told the time, milliseconds of real time.
        #[range(10..=60_000)]
        tick_ms: u64 = 1_000,
        /// Minutes of real time without a record after which a home leaves memory.
        #[range(1..=525_600)]
        passivate_minutes: u64 = 180,
        /// Most homes of a partition in memory; beyond it the longest silent ones leave.
        #[range(1_000..=100_000_000)]
        live_homes_max: usize = 500_000,
        /// Threads for shards; 0 for one a core.
        #[range(0..=256)]
        threads: usize = 0,
        ; together check_together
    }
}

fn check_together(config: &EngineConfig, section: &str, bad: &mut Vec<BadSetting>) {
    if !config.store_slots && !config.publish_slots {
        let expected = "expected true, unless publish_slots is: a slot must go somewhere";
        bad.push(BadSetting::new(section, "store_slots", expected));
    }
}

impl EngineConfig {
    /// What `household` takes as its settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            slot: self.slot_minutes,
            horizon_slots: self.horizon_slots,
            program_slots: self.program_slots,
            grace_ms: i64::from(self.grace_minutes) * MINUTE_MS,
            hold_ms: i64::from(self.hold_minutes) * MINUTE_MS,
            ahead_ms: i64::from(self.ahead_minutes) * MINUTE_MS,
            kept_ms: i64::from(self.kept_days) * DAY_MS,
            stores_readings: self.store_readings,
            stale_after_ms: i64::from(self.stale_minutes) * MINUTE_MS,
            load_kw_max: self.load_kw_max,
            pv_kw_max: self.pv_kw_max,
            battery_kw_max: self.battery_kw_max,
            switching_cost_per_kwh: self.switching_cost_per_kwh,
            switching_cost_per_start: self.switching_cost_per_start,
        }
    }
}

platform::settings! {
    /// The worker pool.
    pub struct OptimizerConfig {
        /// Consumer group; the topic prefix stands before it.
        #[expects("a name", |name: &String| !name.is_empty())]
        group: String = "hearth-optimizer".to_owned(),
        /// Stable name of this member; empty for none.
        member: String = String::new(),
        /// Threads that solve; 0 for one a core.
        #[range(0..=256)]
        workers: usize = 0,
        /// Most requests taken at once.
        #[range(1..=10_000)]
        batch_records_max: usize = 256,
    }
}
