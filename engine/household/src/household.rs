//! One home's state and everything that it decides. `handle` takes one event and orders effects; it reads no clock and
//! does no IO, so the same events give the same effects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::commanding::{Adopted, Commands};
use crate::effect::{Alert, AlertKind, Effect, OptimizeRequest, ReadingOutcome};
use crate::event::Event;
use crate::metadata::Metadata;
use crate::planning::{self, PlanningInput};
use crate::reading::{Measurement, Reading};
use crate::schedule::{Schedule, Status};
use crate::slot::Slot;
use crate::tariff::Tariff;
use crate::units::{HouseholdId, MINUTE_MS, SlotLength};
use crate::windows::{Taken, Windows};

/// How long a home that could not be planned waits before it looks again.
const PLAN_RETRY_MS: i64 = MINUTE_MS;

/// What holds for every home.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub slot: SlotLength,
    /// Slots in a plan, 1 to 672.
    pub horizon_slots: u32,
    /// How long after its end a slot takes late readings, by event time.
    pub grace_ms: i64,
    /// A home whose newest reading is older than this is stale, and is not planned.
    pub stale_after_ms: i64,
}

/// What a home may look at besides its own state.
#[derive(Debug, Clone, Copy)]
pub struct Env<'e> {
    pub settings: &'e Settings,
    pub tariffs: &'e BTreeMap<String, Arc<Tariff>>,
}

/// A home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Household {
    pub(crate) id: HouseholdId,
    pub(crate) metadata: Option<Arc<Metadata>>,
    pub(crate) windows: Windows,
    /// Newest event time of a reading; `None` before the first.
    pub(crate) watermark_ms: Option<i64>,
    /// The host's time, as told last; it never goes back.
    pub(crate) clock_ms: i64,
    /// Newest SoC: when, and percent.
    pub(crate) soc: Option<(i64, f64)>,
    pub(crate) adopted: Option<Adopted>,
    pub(crate) commands: Commands,
    pub(crate) requests_count: u64,
    /// Start of the newest slot that a plan was asked for.
    pub(crate) asked_slot_ms: Option<i64>,
    /// No plan is asked for before.
    pub(crate) retry_at_ms: i64,
    pub(crate) raised: Raised,
}

/// Alerts that hold; each is raised once until it has cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Raised {
    missing_telemetry: bool,
    soc_limit: bool,
    schedule_overdue: bool,
}

impl Household {
    /// A home of which nothing is known yet.
    #[must_use]
    pub fn new(id: HouseholdId) -> Self {
        Self {
            id,
            metadata: None,
            windows: Windows::default(),
            watermark_ms: None,
            clock_ms: 0,
            soc: None,
            adopted: None,
            commands: Commands::default(),
            requests_count: 0,
            asked_slot_ms: None,
            retry_at_ms: 0,
            raised: Raised::default(),
        }
    }

    /// Whose state it is.
    #[must_use]
    pub const fn id(&self) -> HouseholdId {
        self.id
    }

    /// Newest event time of a reading; 0 before the first.
    #[must_use]
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms.unwrap_or(0)
    }

    /// Whether the operator has said what it is.
    #[must_use]
    pub const fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// Whether its newest reading is too old at `now_ms`.
    #[must_use]
    pub fn is_stale(&self, now_ms: i64, settings: &Settings) -> bool {
        self.watermark_ms
            .is_none_or(|watermark_ms| now_ms - watermark_ms > settings.stale_after_ms)
    }

    /// Whether an adopted schedule covers `now_ms`.
    #[must_use]
    pub fn is_planned(&self, now_ms: i64) -> bool {
        self.adopted
            .as_ref()
            .is_some_and(|adopted| adopted.index_at(now_ms).is_some())
    }

    /// Takes one event in and appends what it orders to `effects`.
    pub fn handle(&mut self, event: Event, env: &Env<'_>, effects: &mut Vec<Effect>) {
        match event {
            Event::ReadingArrived(reading) => self.reading_arrived(reading, env, effects),
            Event::MetadataChanged(metadata) => {
                effects.push(Effect::StoreMetadata(Arc::clone(&metadata)));
                if self.metadata.as_ref() != Some(&metadata) {
                    self.metadata = Some(metadata);
                    self.asked_slot_ms = None;
                    self.retry_at_ms = 0;
                }
                self.advance(env, effects);
            }
            Event::ScheduleReady(schedule) => self.schedule_ready(&schedule, effects),
            Event::AckArrived(ack) => effects.extend(self.commands.acknowledge(&ack)),
            Event::SlotRepaired(slot) => {
                self.windows.put_closed(slot);
                effects.push(Effect::StoreSlot {
                    household_id: self.id,
                    slot,
                });
            }
            Event::ClockTicked { now_ms } => {
                self.clock_ms = self.clock_ms.max(now_ms);
                self.advance(env, effects);
                self.watch(env, effects);
            }
        }
    }

    /// The later of clock and watermark: a home's clock may run a little ahead, and a replay runs behind the clock.
    fn now_ms(&self) -> i64 {
        self.clock_ms.max(self.watermark_ms())
    }

    fn reading_arrived(&mut self, reading: Reading, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let Settings {
            slot: length,
            grace_ms,
            ..
        } = *env.settings;
        let watermark_ms = self.watermark_ms.unwrap_or(i64::MIN);
        let taken = self.windows.take(&reading, length, grace_ms, watermark_ms);
        let kind = reading.measurement.kind();
        let outcome = match taken {
            Taken::New => ReadingOutcome::Accepted,
            Taken::Duplicate => ReadingOutcome::Duplicate,
            Taken::Corrected => ReadingOutcome::Corrected,
            Taken::Beyond => ReadingOutcome::Late,
        };
        effects.push(Effect::CountReading { kind, outcome });
        // A duplicate was made durable with its first copy.
        if taken == Taken::Duplicate {
            return;
        }
        effects.push(Effect::StoreReading(reading));
        let repair = |start_ms| Effect::RepairSlot {
            household_id: self.id,
            start_ms,
        };
        if taken == Taken::Beyond {
            effects.push(repair(length.start_of_ms(reading.ts_ms)));
        } else if let Some(corrected) = self.windows.correct(reading.ts_ms, length) {
            effects.push(match corrected {
                Ok(slot) => Effect::StoreSlot {
                    household_id: self.id,
                    slot,
                },
                Err(start_ms) => repair(start_ms),
            });
        }
        if let Measurement::Battery { soc_pct, .. } = reading.measurement
            && self.soc.is_none_or(|(ts_ms, _)| ts_ms <= reading.ts_ms)
        {
            self.soc = Some((reading.ts_ms, soc_pct));
            self.watch_soc(reading.ts_ms, soc_pct, effects);
        }
        if reading.ts_ms > watermark_ms {
            self.watermark_ms = Some(reading.ts_ms);
            self.advance(env, effects);
        }
    }

    /// Time has moved on: ends slots, asks for a plan, orders the commands that are due.
    fn advance(&mut self, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let Settings {
            slot: length,
            grace_ms,
            ..
        } = *env.settings;
        let (now_ms, household_id) = (self.now_ms(), self.id);
        self.windows.end_until(now_ms, length, |ended| {
            effects.push(match ended {
                Ok(slot) => Effect::StoreSlot { household_id, slot },
                Err(start_ms) => Effect::RepairSlot {
                    household_id,
                    start_ms,
                },
            });
        });
        self.windows.forget(self.watermark_ms(), length, grace_ms);
        self.request_plan(env, effects);
        self.order_commands(effects);
    }

    fn request_plan(&mut self, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let now_ms = self.now_ms();
        let slot_ms = env.settings.slot.start_of_ms(now_ms);
        let asked = self
            .asked_slot_ms
            .is_some_and(|asked_ms| asked_ms >= slot_ms);
        if asked || now_ms < self.retry_at_ms || self.is_stale(now_ms, env.settings) {
            return;
        }
        let Some(metadata) = &self.metadata else {
            return;
        };
        let slots = self.windows.closed();
        let stated = planning::problem(&PlanningInput {
            metadata,
            slots: &slots,
            tariff: env.tariffs.get(&metadata.tariff).map(Arc::as_ref),
            soc_pct: self.soc.map(|(_, soc_pct)| soc_pct),
            runs: self.commands.runs(),
            now_ms,
            settings: env.settings,
        });
        let Ok(problem) = stated else {
            self.retry_at_ms = now_ms + PLAN_RETRY_MS;
            return;
        };
        self.requests_count += 1;
        self.asked_slot_ms = Some(slot_ms);
        effects.push(Effect::RequestOptimize(OptimizeRequest {
            request_id: format!("{}-{slot_ms}-{}", self.id, self.requests_count),
            household_id: self.id,
            requested_ms: now_ms,
            adopt: true,
            problem,
        }));
    }

    fn schedule_ready(&mut self, schedule: &Arc<Schedule>, effects: &mut Vec<Effect>) {
        effects.push(Effect::StoreSchedule(Arc::clone(schedule)));
        let usable = match schedule.plan.status {
            Status::Optimal | Status::Relaxed => !schedule.plan.slots.is_empty(),
            Status::Infeasible => false,
        };
        let newer = self.adopted.as_ref().is_none_or(|adopted| {
            schedule.requested_ms >= adopted.requested_ms
                && schedule.schedule_id != adopted.schedule_id
        });
        if schedule.adopt && usable && newer {
            self.adopted = Some(Adopted::of(schedule, self.metadata.as_deref()));
            self.raised.schedule_overdue = false;
            self.order_commands(effects);
        }
    }

    fn order_commands(&mut self, effects: &mut Vec<Effect>) {
        let now_ms = self.now_ms();
        if let Some(adopted) = &self.adopted {
            self.commands.order(self.id, adopted, now_ms, effects);
        }
    }

    /// Raises what an operator should know.
    fn watch(&mut self, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let now_ms = self.now_ms();
        let stale = self.is_stale(now_ms, env.settings);
        if stale && !self.raised.missing_telemetry {
            let since = self.watermark_ms.map_or_else(
                || "no reading yet".to_owned(),
                |watermark_ms| {
                    format!(
                        "no reading for {} minutes",
                        (now_ms - watermark_ms) / MINUTE_MS
                    )
                },
            );
            effects.push(self.alert(AlertKind::MissingTelemetry, since));
        }
        self.raised.missing_telemetry = stale;
        let waited = |asked_ms: i64| now_ms - asked_ms > 2 * env.settings.slot.ms();
        let overdue = !stale && !self.is_planned(now_ms) && self.asked_slot_ms.is_some_and(waited);
        if overdue && !self.raised.schedule_overdue {
            let detail = "a plan was asked for and none covers the present".to_owned();
            effects.push(self.alert(AlertKind::ScheduleOverdue, detail));
        }
        self.raised.schedule_overdue = overdue;
        for command_id in self.commands.expire(now_ms) {
            let detail = format!("command {command_id} expired without an answer");
            effects.push(self.alert(AlertKind::CommandUnanswered, detail));
        }
    }

    fn watch_soc(&mut self, ts_ms: i64, soc_pct: f64, effects: &mut Vec<Effect>) {
        let Some(spec) = self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.battery.as_ref())
        else {
            return;
        };
        let soc_kwh = soc_pct / 100.0 * spec.capacity_kwh;
        // A meter's resolution is no breach.
        let slack_kwh = 0.02 * spec.capacity_kwh;
        let outside =
            soc_kwh < spec.min_soc_kwh - slack_kwh || soc_kwh > spec.max_soc_kwh + slack_kwh;
        if outside && !self.raised.soc_limit {
            let (min, max) = (spec.min_soc_kwh, spec.max_soc_kwh);
            effects.push(Effect::RaiseAlert(Alert {
                household_id: self.id,
                ts_ms,
                kind: AlertKind::SocLimit,
                detail: format!("SoC is {soc_kwh:.2} kWh, planned within {min} to {max} kWh"),
            }));
        }
        self.raised.soc_limit = outside;
    }

    fn alert(&self, kind: AlertKind, detail: String) -> Effect {
        Effect::RaiseAlert(Alert {
            household_id: self.id,
            ts_ms: self.now_ms(),
            kind,
            detail,
        })
    }

    /// Ended slots of the last 24 h, ascending.
    #[must_use]
    pub fn closed_slots(&self) -> Vec<Slot> {
        self.windows.closed()
    }
}
