//! How far behind each partition is, and how its homes are, put together for the gauges of the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use platform::clock::wall_ms;
use platform::log::{Record, TopicPartition};
use platform::metrics::Metrics;
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
    /// Homes whose last reading is too old to plan on.
    pub stale_count: usize,
    /// Homes with metadata and without a schedule that holds now.
    pub unplanned_count: usize,
}

#[derive(Debug, Default)]
struct Board {
    behind: BTreeMap<TopicPartition, Behind>,
    health: BTreeMap<i32, Health>,
}

#[derive(Debug, Clone, Copy)]
struct Behind {
    records: i64,
    /// When the newest handled record entered the log.
    handled_ms: i64,
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

    /// Everything up to `last` of a partition has been handled; it ends before offset `end`.
    pub fn record(&self, from: TopicPartition, last: &Record, end: Option<i64>) {
        let records = end.map_or(0, |end| (end - last.offset - 1).max(0));
        let behind = Behind {
            records,
            handled_ms: last.timestamp_ms,
        };
        self.board
            .lock()
            .expect("no holder panics")
            .behind
            .insert(from, behind);
    }

    /// Takes note of how the homes of a partition are.
    pub fn health(&self, partition: i32, health: Health) {
        let mut board = self.board.lock().expect("no holder panics");
        board.health.insert(partition, health);
    }

    /// A partition has gone to another owner.
    pub fn clear(&self, partition: i32) {
        let mut board = self.board.lock().expect("no holder panics");
        board.behind.retain(|from, _| from.partition != partition);
        board.health.remove(&partition);
    }

    /// Sets the gauges.
    pub fn publish(&self) {
        let board = self.board.lock().expect("no holder panics");
        let now_ms = wall_ms();
        let mut records: BTreeMap<Topic, i64> = BTreeMap::new();
        let mut oldest_ms = 0;
        for (from, behind) in &board.behind {
            *records.entry(from.topic).or_default() += behind.records;
            if behind.records > 0 {
                oldest_ms = oldest_ms.max(now_ms - behind.handled_ms);
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
    }
}
