//! What a message costs with traces: off, on and not drawn, and recorded up to the collector. Needs no stack.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use hearth::traces::{Environment, Traces, TracesConfig};
use platform::metrics::Metrics;
use platform::trace::{Caller, SpanKind, Tracer};
use schemas::topic::Topic;
use tests::harness::Collector;

use crate::board::Board;
use crate::selection::Selection;

const CHEAP: u32 = 20_000_000;
const RECORDED: u32 = 100_000;

/// The spans of one reading's way up to its rows: what gateway, ingest, engine and outbox ask for.
fn hops(tracer: &Tracer, number: u32) {
    let received = tracer.head(SpanKind::Consumer, Caller::Unknown, || "receive".to_owned());
    let published = tracer.publish(received.context(), Topic::Telemetry);
    let handled = tracer.process(published.context(), Topic::Telemetry, 0, number.into());
    let entered = handled.enter();
    let written = tracer.child(handled.context(), "write rows", SpanKind::Client);
    drop(black_box(entered));
    drop(black_box((received, published, handled, written)));
}

/// Nanoseconds for one message.
fn measured(tracer: &Tracer, messages: u32) -> f64 {
    let begun = Instant::now();
    for number in 0..messages {
        hops(black_box(tracer), number);
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(messages)
}

pub(super) async fn measure(
    board: &mut Board,
    runs: usize,
    selection: &Selection<'_>,
) -> Result<()> {
    if selection.wants("traces.off_ns") {
        let off = (0..runs).map(|_| measured(&Tracer::off(), CHEAP));
        board.add("traces.off_ns", "ns/message", off.collect());
    }
    let (metrics, collector) = (Metrics::new(), Collector::start()?);
    let start = |sampled_share| {
        let config = TracesConfig {
            endpoint: collector.url(),
            sampled_share,
            queue_spans_max: 1_000_000,
            ..TracesConfig::default()
        };
        let environment = Environment::default();
        Traces::start(&config, &environment, "bench", "kafka", &metrics)
    };
    if selection.wants("traces.not_drawn_ns") {
        let tracer = start(0.0)?.tracer();
        let idle = (0..runs).map(|_| measured(&tracer, CHEAP / 10));
        board.add("traces.not_drawn_ns", "ns/message", idle.collect());
    }
    if selection.wants("traces.recorded_ns") {
        let mut recorded = Vec::new();
        for _ in 0..runs {
            let traces = start(1.0)?;
            recorded.push(measured(&traces.tracer(), RECORDED));
            traces.close().await;
        }
        let dropped = metrics.trace_spans_total.with_label_values(&["dropped"]);
        ensure!(dropped.get() == 0, "{} spans dropped", dropped.get());
        board.add("traces.recorded_ns", "ns/message", recorded);
    }
    Ok(())
}
