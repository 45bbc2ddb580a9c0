//! What spans say of homes: what a home made of an event, and the rows that came of it.

use household::effect::Effect;
use platform::trace::{Span, SpanKind, attribute};
use schemas::mqtt::rfc3339;

/// Tells a span what a home wants done.
pub(crate) fn describe(span: &mut Span, effects: &[Effect]) {
    if !span.is_recorded() {
        return;
    }
    for effect in effects {
        match effect {
            Effect::StoreSlot { slot, .. } => {
                let start = attribute("hearth.slot.start", rfc3339(slot.start_ms));
                let samples = i64::from(slot.samples_count());
                let samples = attribute("hearth.slot.samples", samples);
                span.event("slot", vec![start, samples]);
            }
            Effect::RepairSlot { start_ms, .. } => {
                let start = attribute("hearth.slot.start", rfc3339(*start_ms));
                span.event("slot to aggregate again", vec![start]);
            }
            Effect::RequestOptimize(request) => {
                let id = attribute("hearth.request_id", request.request_id.clone());
                span.event("plan requested", vec![id]);
            }
            Effect::SendCommand(command) => {
                let id = attribute("hearth.command_id", command.command_id.clone());
                span.event("command issued", vec![id]);
            }
            Effect::RaiseAlert(alert) => {
                let kind = attribute("hearth.alert", alert.kind.as_str());
                span.event("alert", vec![kind]);
            }
            Effect::CountReading { outcome, .. } | Effect::CountAsset { outcome, .. } => {
                span.set("hearth.outcome", outcome.as_str());
            }
            Effect::RefuseReading { refusal, .. } | Effect::RefuseAsset { refusal, .. } => {
                let why = attribute("hearth.refusal", format!("{refusal:?}"));
                span.event("refused", vec![why]);
            }
            Effect::StoreReading(_)
            | Effect::StoreAsset(_)
            | Effect::StoreMetadata(_)
            | Effect::StoreSchedule(_)
            | Effect::StoreCommand(_)
            | Effect::StoreAnswer(_) => {}
        }
    }
}

/// Whether something comes of these effects that is worth a trace of its own.
pub(crate) fn are_worth_a_trace(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::RequestOptimize(_) | Effect::SendCommand(_)))
}

/// Begins the way of rows into the store.
pub(crate) fn writing(cause: &Span, rows: usize) -> Span {
    let tracer = cause.tracer();
    let mut span = tracer.child(cause.context(), "write rows", SpanKind::Client);
    span.set("db.operation.name", "write");
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    span.set("db.operation.batch.size", rows);
    span
}
