//! The effects of households, gathered by where they go: rows, records, slots to aggregate again.

use std::collections::{BTreeMap, BTreeSet};

use household::effect::{Effect, Refusal};
use household::windows::RAW_NUMBERS_MAX;
use model::reading::ReadingOutcome;
use model::slot::HouseholdSlot;
use model::units::HouseholdId;
use platform::metrics::Metrics;
use platform::store::Row;
use schemas::codec::Message;
use schemas::dead_letter::Reason;
use schemas::mqtt::rfc3339;

use crate::outbox::Delivery;
use crate::outgoing::{Outgoing, outgoing_of};
use crate::resident::Resident;
use crate::setup::Setup;
use crate::traced;
use platform::role_context::RoleContext;
use platform::trace::Span;

/// Effects of households, by where they go.
#[derive(Debug, Default)]
pub(crate) struct EffectBatch {
    /// Of the household that was told something last, not routed yet.
    pub(crate) fresh: Vec<Effect>,
    pub(crate) rows: Vec<Row>,
    pub(crate) outgoing: Vec<Outgoing>,
    /// Of traces, until the rows are written.
    pub(crate) writing: Vec<Span>,
    /// Slots to aggregate again once the rows are durable.
    pub(crate) repairs: BTreeSet<(HouseholdId, i64)>,
    /// When the log took the readings that led to all this, wall clock.
    pub(crate) readings_ms: Vec<i64>,
    /// Records of the log that led to all this.
    pub(crate) records_count: usize,
    /// Readings by kind and outcome.
    counts: BTreeMap<(&'static str, ReadingOutcome), u64>,
    /// Whether the readings were counted before.
    is_replayed: bool,
}

impl EffectBatch {
    /// Nothing but these records.
    pub(crate) fn with(outgoing: Vec<Outgoing>) -> Self {
        Self {
            outgoing,
            ..Self::default()
        }
    }

    /// Of a home that is told again what it was told before.
    pub(crate) fn replayed() -> Self {
        Self {
            is_replayed: true,
            ..Self::default()
        }
    }

    /// Routes the fresh effects, which are of `home`. Returns why it refuses the reading that it was given,
    /// if it does.
    pub(crate) fn route(
        &mut self,
        setup: &Setup,
        home: &Resident,
        cause: &Span,
    ) -> Option<Refused> {
        let context = &setup.context;
        let mut refused = None;
        let rows_count = self.rows.len();
        let mut fresh = std::mem::take(&mut self.fresh);
        for effect in fresh.drain(..) {
            match effect {
                Effect::StoreReading(reading) => self.rows.push(Row::Reading(reading)),
                Effect::StoreAsset(reading) => self.rows.push(Row::Asset(reading)),
                Effect::StoreSlot { household_id, slot } => {
                    self.store_slot(setup, HouseholdSlot { household_id, slot }, cause);
                }
                Effect::StoreMetadata(metadata) => self.rows.push(Row::Household(metadata)),
                Effect::StoreSchedule(schedule) => self.rows.push(Row::Schedule(schedule)),
                Effect::StoreCommand(command) => self.rows.push(Row::Command(command)),
                Effect::StoreAnswer(answer) => self.rows.push(Row::CommandAnswer(answer)),
                Effect::RequestOptimize(request) => {
                    self.send(context, request.household_id, request.as_ref(), cause);
                }
                Effect::SendCommand(command) => {
                    self.send(context, command.household_id, &command, cause);
                }
                Effect::RaiseAlert(alert) => {
                    let kind = alert.kind.as_str();
                    context
                        .metrics
                        .alerts_total
                        .with_label_values(&[kind])
                        .inc();
                    self.send(context, alert.household_id, &alert, cause);
                }
                Effect::RepairSlot {
                    household_id,
                    start_ms,
                } => {
                    self.repairs.insert((household_id, start_ms));
                }
                Effect::RefuseReading { reading, refusal } => {
                    refused = Some(why_refused(reading.ts_ms, refusal, home));
                }
                Effect::RefuseAsset { ts_ms, refusal } => {
                    refused = Some(why_refused(ts_ms, refusal, home));
                }
                Effect::CountReading { kind, outcome } => {
                    *self.counts.entry((kind.as_str(), outcome)).or_default() += 1;
                }
                Effect::CountAsset { kind, outcome } => {
                    *self.counts.entry((kind.as_str(), outcome)).or_default() += 1;
                }
            }
        }
        self.fresh = fresh;
        if cause.is_recorded() && self.rows.len() > rows_count {
            let rows = self.rows.len() - rows_count;
            self.writing.push(traced::writing(cause, rows));
        }
        refused
    }

    fn store_slot(&mut self, setup: &Setup, slot: HouseholdSlot, cause: &Span) {
        setup.context.metrics.slots_total.inc();
        if setup.publish_slots {
            self.send(&setup.context, slot.household_id, &slot, cause);
        }
        let HouseholdSlot { household_id, slot } = slot;
        if setup.store_slots {
            self.rows.push(Row::Slot { household_id, slot });
        }
    }

    fn send<T: Message>(
        &mut self,
        context: &RoleContext,
        household_id: HouseholdId,
        value: &T,
        cause: &Span,
    ) {
        let record = outgoing_of(cause, context, household_id, value);
        self.outgoing.extend(record);
    }

    /// Adds the readings to the process's count.
    pub(crate) fn count(&mut self, metrics: &Metrics) {
        for ((kind, outcome), count) in std::mem::take(&mut self.counts) {
            let outcome = if self.is_replayed {
                "replayed"
            } else {
                outcome.as_str()
            };
            let readings = &metrics.readings_total;
            readings.with_label_values(&[kind, outcome]).inc_by(count);
        }
    }

    pub(crate) fn into_delivery(self) -> Delivery {
        Delivery {
            rows: self.rows,
            outgoing: self.outgoing,
            writing: self.writing,
            readings_ms: self.readings_ms,
            records_count: self.records_count,
            ..Delivery::default()
        }
    }
}

/// Why a home refuses a reading.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

fn why_refused(ts_ms: i64, refusal: Refusal, home: &Resident) -> Refused {
    let ts = rfc3339(ts_ms);
    let detail = match refusal {
        Refusal::Late => {
            let watermark = rfc3339(home.household.watermark_ms());
            format!(
                "ts is {ts}, but the home has come to {watermark} and engine.grace_minutes are over"
            )
        }
        Refusal::Future => {
            format!("ts is {ts}, further ahead of the engine's clock than engine.ahead_minutes")
        }
        Refusal::TooOld => format!("ts is {ts}, before what engine.kept_days keeps"),
        Refusal::Implausible(implausible) => implausible.to_string(),
        Refusal::TooManyAssets => {
            "the home has sent readings of as many EVs or heat stores as it may have".to_owned()
        }
        Refusal::Full => format!(
            "ts is {ts}, but the home holds {RAW_NUMBERS_MAX} numbers of open slots already"
        ),
    };
    let reason = match refusal {
        Refusal::Future => Reason::FutureTime,
        Refusal::TooOld => Reason::PastTime,
        Refusal::Late | Refusal::Implausible(_) | Refusal::Full | Refusal::TooManyAssets => {
            Reason::OutOfRange
        }
    };
    Refused { reason, detail }
}
