//! How far behind each partition is, and how its homes are, put together for the gauges of the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use household::present::Present;
use platform::clock::wall_ms;
use platform::log::{ConsumerControl, Record, TopicPartition};
use platform::metrics::{FleetMetrics, Metrics};
use schemas::topic::Topic;

/// Shared by the shards of an engine.
#[derive(Debug, Clone)]
pub struct LagBoard {
    metrics: Metrics,
    board: Arc<Mutex<Board>>,
}

/// How the homes of a partition are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Health {
    /// Homes in memory, and silent ones that have left it.
    pub known_count: usize,
    /// Homes that changed since their newest snapshot.
    pub unsaved_count: usize,
    /// Homes whose last reading is too old to plan on.
    pub stale_count: usize,
    /// Homes with metadata and without a schedule that holds now.
    pub unplanned_count: usize,
    /// Homes that are not told the time, since they panic on it.
    pub quarantined_count: usize,
}

#[derive(Debug, Default)]
struct Board {
    reached: BTreeMap<TopicPartition, Reached>,
    health: BTreeMap<i32, Health>,
    present: BTreeMap<i32, Present>,
}

/// How far a partition of a topic has been handled.
#[derive(Debug, Clone, Copy)]
struct Reached {
    next_offset: i64,
    /// When the newest handled record entered the log; before the first, when that one did.
    timestamp_ms: i64,
}

impl LagBoard {
    /// An empty board for these metrics.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            board: Arc::default(),
        }
    }

    /// Records from `first` on have come, and wait to be handled.
    pub fn received(&self, from: TopicPartition, first: &Record) {
        let reached = Reached {
            next_offset: first.offset,
            timestamp_ms: first.timestamp_ms,
        };
        self.board().reached.entry(from).or_insert(reached);
    }

    /// Everything up to `last` of a partition has been handled.
    pub fn handled(&self, from: TopicPartition, last: &Record) {
        let reached = Reached {
            next_offset: last.offset + 1,
            timestamp_ms: last.timestamp_ms,
        };
        self.board().reached.insert(from, reached);
    }

    /// Takes note of how the homes of a partition are.
    pub fn health(&self, partition: i32, health: Health) {
        self.board().health.insert(partition, health);
    }

    /// Takes note of the sums over the homes of a partition.
    pub fn present(&self, partition: i32, present: Present) {
        self.board().present.insert(partition, present);
    }

    /// A partition has gone to another owner.
    pub fn clear(&self, partition: i32) {
        let mut board = self.board();
        board.reached.retain(|from, _| from.partition != partition);
        board.health.remove(&partition);
        board.present.remove(&partition);
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("no holder panics")
    }

    /// Sets the gauges. The ends are asked of the consumer, so that the lag of a shard that stands still grows.
    pub fn publish(&self, control: &dyn ConsumerControl) {
        let board = self.board();
        let now_ms = wall_ms();
        let mut records: BTreeMap<Topic, i64> = BTreeMap::new();
        let mut oldest_ms = 0;
        for (from, reached) in &board.reached {
            let end = control.end_offset(*from).unwrap_or(reached.next_offset);
            let behind = (end - reached.next_offset).max(0);
            *records.entry(from.topic).or_default() += behind;
            if behind > 0 {
                oldest_ms = oldest_ms.max(now_ms - reached.timestamp_ms);
            }
        }
        for (topic, count) in records {
            self.metrics
                .consumer_lag_records
                .with_label_values(&[topic.as_str()])
                .set(count);
        }
        #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds")]
        self.metrics
            .consumer_lag_seconds
            .set(oldest_ms as f64 / 1e3);
        let count = |of: fn(&Health) -> usize| {
            let count: usize = board.health.values().map(of).sum();
            i64::try_from(count).expect("a count fits")
        };
        let metrics = &self.metrics;
        metrics.stale_households.set(count(|home| home.stale_count));
        metrics
            .unplanned_households
            .set(count(|home| home.unplanned_count));
        metrics
            .quarantined_households
            .set(count(|home| home.quarantined_count));
        metrics.known_households.set(count(|home| home.known_count));
        metrics
            .unsaved_households
            .set(count(|home| home.unsaved_count));
        let mut fleet = Present::default();
        for present in board.present.values() {
            fleet += *present;
        }
        show(&metrics.fleet, &fleet);
    }
}

fn show(metrics: &FleetMetrics, fleet: &Present) {
    let homes_count = i64::try_from(fleet.homes_count).expect("a count fits");
    metrics.households.set(homes_count);
    for (flow, power_w) in [
        ("load", fleet.load_w),
        ("pv", fleet.pv_w),
        ("import", fleet.import_w),
        ("export", fleet.export_w),
        ("charge", fleet.charge_w),
        ("discharge", fleet.discharge_w),
    ] {
        metrics.power_watts.with_label_values(&[flow]).set(power_w);
    }
    for (of, power_w) in [
        ("measured", fleet.steered_battery_w),
        ("planned", fleet.planned_battery_w),
    ] {
        let battery = &metrics.steered_battery_watts;
        battery.with_label_values(&[of]).set(power_w);
    }
    for (of, energy_wh) in [("stored", fleet.stored_wh), ("capacity", fleet.capacity_wh)] {
        let battery = &metrics.battery_watt_hours;
        battery.with_label_values(&[of]).set(energy_wh);
    }
    for (of, money) in [
        ("load", fleet.load_cost_per_hour),
        ("import", fleet.import_cost_per_hour),
        ("export", fleet.export_revenue_per_hour),
    ] {
        metrics.money_per_hour.with_label_values(&[of]).set(money);
    }
}
