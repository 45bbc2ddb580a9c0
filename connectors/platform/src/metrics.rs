//! Every metric of Hearth, made once and handed down. Names are public; no label holds a household's id.

use model::reading::Kind;
use model::reading::ReadingOutcome;
use prometheus::{
    Counter, Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::clock::wall_ms;

/// The metrics of one process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Readings by `kind` (meter, pv, battery) and `outcome` (accepted, duplicate, corrected, late, refused). The ingest
    /// counts received and spooled ones.
    pub readings_total: IntCounterVec,
    /// Dead letters by `reason`.
    pub dead_letters_total: IntCounterVec,
    /// Age of the oldest record that the engine has not finished, seconds.
    pub consumer_lag_seconds: Gauge,
    /// Records that are not yet read, by `topic`.
    pub consumer_lag_records: IntGaugeVec,
    /// Household actors in memory.
    pub live_households: IntGauge,
    /// Schedules by `status` and `method`.
    pub schedules_total: IntCounterVec,
    /// Slots whose aggregate was written, corrections included.
    pub slots_total: IntCounter,
    /// Commands by `outcome` (sent, applied, rejected, expired, superseded, retried).
    pub commands_total: IntCounterVec,
    /// Seconds of one solve, by `method`.
    pub solve_seconds: HistogramVec,
    /// Proven gap of a schedule as a share of its cost, by `method`; 0 if it is optimal.
    pub schedule_gap: HistogramVec,
    /// Seconds from a reading's arrival in the log to its row.
    pub reading_to_store_seconds: Histogram,
    /// Seconds from the arrival of the reading that closed a slot to the resulting command.
    pub reading_to_command_seconds: Histogram,
    /// Seconds of one write of rows.
    pub store_write_seconds: Histogram,
    /// Writes that had to be repeated.
    pub store_retries_total: IntCounter,
    /// Seconds from PUBLISH to PUBACK, by `way` (gateway, bridge). Not the time to a command's ack.
    pub publish_to_ack_seconds: HistogramVec,
    /// Bytes waiting in the spool while the log is away.
    pub spool_bytes: IntGauge,
    /// Places in spool files where a record or more could not be read.
    pub spool_damaged_total: IntCounter,
    /// Seconds to restore a household's state.
    pub restore_seconds: Histogram,
    /// Requests taken by a worker pool and not yet answered.
    pub requests_queued: IntGauge,
    /// Devices connected to the gateway.
    pub gateway_connections: IntGauge,
    /// Clients, publishes and subscriptions that the gateway refused, by `reason`.
    pub gateway_refused_total: IntCounterVec,
    /// Homes whose newest reading is older than the configured limit.
    pub stale_households: IntGauge,
    /// Homes with metadata and no schedule that covers now.
    pub unplanned_households: IntGauge,
    /// Homes that panicked on a tick of the clock. They get ticks again after their next record.
    pub quarantined_households: IntGauge,
    /// Panics of homes, by `event` (record, repair, tick).
    pub household_failures_total: IntCounterVec,
    /// Records that the log refused for good, by `topic`.
    pub records_refused_total: IntCounterVec,
    /// Rows that no store can hold, by `source`.
    pub rows_refused_total: IntCounterVec,
    /// Times that the machine's clock jumped, by `direction` (forward, back).
    pub clock_jumps_total: IntCounterVec,
    /// CPU seconds of the solver, all methods.
    pub solve_cpu_seconds_total: Counter,
    /// Alerts by `kind`.
    pub alerts_total: IntCounterVec,
    /// Ended spans of traces by `outcome` (exported, failed, dropped).
    pub trace_spans_total: IntCounterVec,
}

const FAST_S: &[f64] = &[
    1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0,
];
const GAPS: &[f64] = &[0.0, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 1.0];
const WAIT_S: &[f64] = &[
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
];

impl Metrics {
    /// Makes and registers every metric.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a list, one entry a metric")]
    pub fn new() -> Self {
        let registry = Registry::new_custom(Some("hearth".to_owned()), None)
            .expect("a prefix that is not empty");
        let r = &registry;
        Self {
            readings_total: counters(
                r,
                "readings_total",
                "Readings by kind and outcome",
                &["kind", "outcome"],
            ),
            dead_letters_total: counters(
                r,
                "dead_letters_total",
                "Dead letters by reason",
                &["reason"],
            ),
            consumer_lag_seconds: register(
                r,
                Gauge::new(
                    "consumer_lag_seconds",
                    "Age of the oldest unfinished record",
                ),
            ),
            consumer_lag_records: register(
                r,
                IntGaugeVec::new(
                    Opts::new("consumer_lag_records", "Records not yet read"),
                    &["topic"],
                ),
            ),
            live_households: register(
                r,
                IntGauge::new("live_households", "Household actors in memory"),
            ),
            schedules_total: counters(
                r,
                "schedules_total",
                "Schedules by status and method",
                &["status", "method"],
            ),
            slots_total: register(
                r,
                IntCounter::new("slots_total", "Slots whose aggregate was written"),
            ),
            commands_total: counters(r, "commands_total", "Commands by outcome", &["outcome"]),
            schedule_gap: histograms(
                r,
                "schedule_gap",
                "Proven gap of a schedule as a share of its cost",
                GAPS,
                &["method"],
            ),
            solve_seconds: histograms(r, "solve_seconds", "Time of one solve", FAST_S, &["method"]),
            reading_to_store_seconds: histogram(
                r,
                "reading_to_store_seconds",
                "From a reading's arrival in the log to its row",
                WAIT_S,
            ),
            reading_to_command_seconds: histogram(
                r,
                "reading_to_command_seconds",
                "From the reading that closed a slot to the command",
                WAIT_S,
            ),
            store_write_seconds: histogram(r, "store_write_seconds", "One write of rows", WAIT_S),
            store_retries_total: register(
                r,
                IntCounter::new("store_retries_total", "Store writes that were repeated"),
            ),
            publish_to_ack_seconds: histograms(
                r,
                "publish_to_ack_seconds",
                "From PUBLISH to PUBACK",
                WAIT_S,
                &["way"],
            ),
            spool_bytes: register(
                r,
                IntGauge::new("spool_bytes", "Bytes waiting in the spool"),
            ),
            spool_damaged_total: register(
                r,
                IntCounter::new(
                    "spool_damaged_total",
                    "Places in spool files where a record or more could not be read",
                ),
            ),
            restore_seconds: histogram(r, "restore_seconds", "Time to restore a household", FAST_S),
            requests_queued: register(
                r,
                IntGauge::new(
                    "requests_queued",
                    "Optimize requests taken and not answered",
                ),
            ),
            gateway_connections: register(
                r,
                IntGauge::new("gateway_connections", "Devices connected to the gateway"),
            ),
            gateway_refused_total: counters(
                r,
                "gateway_refused_total",
                "Clients, publishes and subscriptions that the gateway refused",
                &["reason"],
            ),
            stale_households: register(
                r,
                IntGauge::new("stale_households", "Homes with stale telemetry"),
            ),
            unplanned_households: register(
                r,
                IntGauge::new("unplanned_households", "Homes without a valid schedule"),
            ),
            quarantined_households: register(
                r,
                IntGauge::new("quarantined_households", "Homes that panic on each tick"),
            ),
            household_failures_total: counters(
                r,
                "household_failures_total",
                "Panics of homes by event",
                &["event"],
            ),
            records_refused_total: counters(
                r,
                "records_refused_total",
                "Records that the log refused for good",
                &["topic"],
            ),
            rows_refused_total: counters(
                r,
                "rows_refused_total",
                "Rows that no store could hold",
                &["source"],
            ),
            clock_jumps_total: counters(
                r,
                "clock_jumps_total",
                "Jumps of the machine's clock by direction",
                &["direction"],
            ),
            solve_cpu_seconds_total: register(
                r,
                Counter::new("solve_cpu_seconds_total", "CPU seconds of the solver"),
            ),
            alerts_total: counters(r, "alerts_total", "Alerts by kind", &["kind"]),
            trace_spans_total: counters(
                r,
                "trace_spans_total",
                "Ended spans of traces by outcome",
                &["outcome"],
            ),
            registry,
        }
    }

    /// Returns all metrics in Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

impl Metrics {
    /// Counts `count` readings.
    pub fn count_readings(&self, kind: Kind, outcome: ReadingOutcome, count: u64) {
        self.readings_total
            .with_label_values(&[kind.as_str(), outcome.as_str()])
            .inc_by(count);
    }

    /// Observes that readings which the log took at `taken_ms` (wall clock) are durable now, with all their effects.
    pub fn observe_stored(&self, taken_ms: &[i64]) {
        let now_ms = wall_ms();
        let local = self.reading_to_store_seconds.local();
        for taken_ms in taken_ms {
            local.observe(seconds_between(*taken_ms, now_ms));
        }
        local.flush();
    }

    /// Observes that a reading which the log took at `taken_ms` led to a command at `now_ms`.
    pub fn observe_commanded(&self, taken_ms: i64, now_ms: i64) {
        let seconds = seconds_between(taken_ms, now_ms);
        self.reading_to_command_seconds.observe(seconds);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a span of milliseconds")]
fn seconds_between(from_ms: i64, to_ms: i64) -> f64 {
    (to_ms - from_ms).max(0) as f64 / 1e3
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<M>,
) -> M {
    let metric = made.expect("a metric's name and labels are constants that are valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("each metric is registered once");
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets_s: &[f64]) -> Histogram {
    register(
        registry,
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets_s.to_vec())),
    )
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets_s: &[f64],
    labels: &[&str],
) -> HistogramVec {
    register(
        registry,
        HistogramVec::new(
            HistogramOpts::new(name, help).buckets(buckets_s.to_vec()),
            labels,
        ),
    )
}
