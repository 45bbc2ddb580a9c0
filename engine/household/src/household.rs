//! One home: its state, and how an event changes it.
//! The same events in the same order give the same state and the same effects, bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::commanding::{Adopted, Commands, note_runs};
use crate::effect::{Effect, Refusal};
use crate::event::Event;
use crate::planning::{self, PlanningInput, Runs, Unplannable};
use crate::windows::{Windows, refuse};
use model::alert::{Alert, AlertKind};
use model::command::{Ack, AckStatus};
use model::metadata::Metadata;
use model::problem::Problem;
use model::reading::{Measurement, Reading};
use model::request::OptimizeRequest;
use model::rolling::Rolling;
use model::schedule::{Schedule, Status};
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{HouseholdId, SlotLength};

/// How far a SoC reading may stand outside the bounds before it is an alert, percent of the capacity. Batteries that
/// rest at a bound report it give or take a little.
const SOC_TOLERANCE_PCT: f64 = 1.0;

/// What is the same for every home.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub slot: SlotLength,
    /// Slots in a plan, 1 to 672.
    pub horizon_slots: u32,
    /// How long after its end a slot keeps its raw readings, so that a late one corrects it exactly; 0 or more.
    pub grace_ms: i64,
    /// How long a reading holds where no next one of its kind comes: means are weighted by that time. 0 to an hour; with 0
    /// each reading weighs the same.
    pub hold_ms: i64,
    /// How far ahead of the host's clock a reading may be; what lies further ahead is refused, and state that does is
    /// brought back. 0 or more.
    pub ahead_ms: i64,
    /// How far back of the host's clock a reading may be: the store keeps nothing older. More than 0.
    pub kept_ms: i64,
    /// Whether each reading becomes a row of the store. Where it does not, the slot that a reading belongs to holds all
    /// that is kept of it, and one that comes after the grace is refused.
    pub stores_readings: bool,
    /// A home whose last reading is older than this is stale: it is neither planned nor commanded. More than 0.
    pub stale_after_ms: i64,
    /// What it must save to depart from the plan that holds, so that plans do not flip for next to nothing: currency
    /// per kWh that the battery moves otherwise, and per appliance that starts in another slot; 0 or more.
    pub switching_cost_per_kwh: f64,
    pub switching_cost_per_start: f64,
}

/// What a home sees of the world around it.
#[derive(Debug, Clone, Copy)]
pub struct Env<'a> {
    pub settings: &'a Settings,
    /// By name.
    pub tariffs: &'a BTreeMap<String, Arc<Tariff>>,
    /// The host's clock, UTC epoch milliseconds; `None` where the times of readings are not to be judged.
    pub now_ms: Option<i64>,
}

/// The latest state of charge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Soc {
    ts_ms: i64,
    pct: f64,
}

/// A home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Household {
    pub(crate) id: HouseholdId,
    pub(crate) metadata: Option<Arc<Metadata>>,
    pub(crate) windows: Windows,
    soc: Option<Soc>,
    /// The host's clock, as it was told last; it goes back where the host's does.
    clock_ms: Option<i64>,
    /// Since when readings are waited for, where none ever came.
    awaited_ms: Option<i64>,
    active_ms: Option<i64>,
    pub(crate) adopted: Option<Adopted>,
    pub(crate) commands: Commands,
    runs: Runs,
    /// Requests made so far.
    requests_count: u64,
    /// Start of the slot in which a plan was asked for last.
    asked_slot_ms: Option<i64>,
    /// `requested_ms` of the last request; each request has a later one.
    pub(crate) requested_ms: i64,
    /// Since when the home wants a plan and has not got it.
    unplanned_since_ms: Option<i64>,
    /// Alerts raised whose condition still holds.
    raised: BTreeSet<AlertKind>,
}

impl Household {
    /// A home of which nothing is known yet, though it may have lived before.
    #[must_use]
    pub const fn new(id: HouseholdId) -> Self {
        Self::with(id, Windows::new(false))
    }

    /// A home that never had a reading before: its first slots need no look into the store.
    #[must_use]
    pub const fn newborn(id: HouseholdId) -> Self {
        Self::with(id, Windows::new(true))
    }

    const fn with(id: HouseholdId, windows: Windows) -> Self {
        Self {
            id,
            metadata: None,
            windows,
            soc: None,
            clock_ms: None,
            awaited_ms: None,
            active_ms: None,
            adopted: None,
            commands: Commands::new(),
            runs: Runs::new(),
            requests_count: 0,
            asked_slot_ms: None,
            requested_ms: i64::MIN,
            unplanned_since_ms: None,
            raised: BTreeSet::new(),
        }
    }

    /// Takes one event in and appends what follows from it to `effects`.
    pub fn handle(&mut self, event: Event, env: &Env<'_>, effects: &mut Vec<Effect>) {
        self.windows.set_length(env.settings);
        match event {
            Event::ReadingArrived(reading) => self.reading_arrived(&reading, env, effects),
            Event::MetadataChanged(metadata) => self.metadata_changed(metadata, effects),
            Event::ScheduleReady(schedule) => self.schedule_ready(&schedule, effects),
            Event::AckArrived(ack) => self.ack_arrived(&ack, effects),
            Event::SlotRepaired(slot) => self.windows.repair(self.id, slot, effects),
            Event::ClockTicked { now_ms } => {
                self.clock_ticked(now_ms, env, effects);
            }
        }
        let Some(present_ms) = self.present_ms() else {
            return;
        };
        if self.is_stale(present_ms, env.settings) {
            // What was planned on readings that have stopped is not carried on; the devices fall back by themselves.
            self.unplanned_since_ms = None;
        } else {
            self.ask(present_ms, env, effects);
            if let (Some(adopted), Some(metadata)) = (&self.adopted, &self.metadata) {
                self.commands
                    .give(adopted, metadata, &self.runs, present_ms, effects);
            }
        }
        self.watch(present_ms, env, effects);
        self.commands.forget(present_ms);
    }

    /// Whose state this is.
    #[must_use]
    pub const fn id(&self) -> HouseholdId {
        self.id
    }

    /// Latest event time seen; 0 before the first reading.
    #[must_use]
    pub const fn watermark_ms(&self) -> i64 {
        match self.windows.watermark_ms {
            Some(watermark_ms) => watermark_ms,
            None => 0,
        }
    }

    /// When something other than the clock last reached the home, in its own time; `None` before the first.
    #[must_use]
    pub const fn last_active_ms(&self) -> Option<i64> {
        self.active_ms
    }

    /// Whether the operator has said what the home is.
    #[must_use]
    pub const fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// Whether the last reading is too old to plan on, or none ever came.
    #[must_use]
    pub fn is_stale(&self, now_ms: i64, settings: &Settings) -> bool {
        let watermark_ms = self.windows.watermark_ms;
        watermark_ms.is_none_or(|watermark_ms| now_ms - watermark_ms > settings.stale_after_ms)
    }

    /// Whether an adopted schedule covers `now_ms`.
    #[must_use]
    pub fn is_planned(&self, now_ms: i64) -> bool {
        let adopted = self.adopted.as_ref();
        adopted.is_some_and(|adopted| adopted.slot_index(now_ms).is_some())
    }

    /// Rolling means, daily sums and peak at `now_ms`.
    #[must_use]
    pub fn rolling(&self, now_ms: i64, settings: &Settings) -> Rolling {
        Rolling::of(&self.windows.recent(now_ms, settings), now_ms)
    }

    /// The slots of the last 24 hours that have ended, ascending, then what is known of the open ones at `now_ms`. Of a
    /// series only the mean and the peak are kept: each slot stands as if it had one reading.
    #[must_use]
    pub fn recent_slots(&self, now_ms: i64, settings: &Settings) -> Vec<Slot> {
        self.windows.recent(now_ms, settings)
    }

    /// The home's present: its watermark or the host's clock, whichever is later.
    fn present_ms(&self) -> Option<i64> {
        self.windows.watermark_ms.max(self.clock_ms)
    }

    fn reading_arrived(&mut self, reading: &Reading, env: &Env<'_>, effects: &mut Vec<Effect>) {
        if let Some(refusal) = self.time_refused(reading.ts_ms, env) {
            return refuse(reading, refusal, effects);
        }
        self.windows.take_in(reading, env.settings, effects);
        self.active_ms = self.present_ms();
        if let Measurement::Battery { soc_pct, .. } = reading.measurement
            && self.soc.is_none_or(|soc| soc.ts_ms <= reading.ts_ms)
        {
            self.soc = Some(Soc {
                ts_ms: reading.ts_ms,
                pct: soc_pct,
            });
        }
    }

    fn time_refused(&self, ts_ms: i64, env: &Env<'_>) -> Option<Refusal> {
        let now_ms = env.now_ms?;
        if ts_ms > now_ms.saturating_add(env.settings.ahead_ms) {
            Some(Refusal::Future)
        } else if ts_ms < now_ms.saturating_sub(env.settings.kept_ms) {
            Some(Refusal::TooOld)
        } else {
            None
        }
    }

    fn metadata_changed(&mut self, metadata: Arc<Metadata>, effects: &mut Vec<Effect>) {
        self.active_ms = self.present_ms();
        if self.metadata.as_ref() == Some(&metadata) {
            return;
        }
        self.runs
            .retain(|id, _| metadata.appliances.iter().any(|spec| spec.id == *id));
        effects.push(Effect::StoreMetadata(Arc::clone(&metadata)));
        self.metadata = Some(metadata);
        self.asked_slot_ms = None;
    }

    fn schedule_ready(&mut self, schedule: &Arc<Schedule>, effects: &mut Vec<Effect>) {
        self.active_ms = self.present_ms();
        let held = self.adopted.as_ref();
        // The same answer again: it is stored, and its commands are given.
        if held.is_some_and(|held| held.schedule_id == schedule.schedule_id) {
            return;
        }
        effects.push(Effect::StoreSchedule(Arc::clone(schedule)));
        let feasible = match schedule.plan.status {
            Status::Optimal | Status::Relaxed => !schedule.plan.slots.is_empty(),
            Status::Infeasible => false,
        };
        let newer = held.is_none_or(|held| held.requested_ms < schedule.requested_ms);
        if schedule.adopt && feasible && newer {
            self.adopted = Some(Adopted::of(schedule, self.metadata.as_deref()));
            self.unplanned_since_ms = None;
        }
    }

    fn ack_arrived(&mut self, ack: &Ack, effects: &mut Vec<Effect>) {
        self.active_ms = self.present_ms();
        let Some(command) = self.commands.answered(ack, effects) else {
            return;
        };
        if let (AckStatus::Applied, Some(metadata)) = (ack.status, &self.metadata) {
            note_runs(&mut self.runs, command, metadata);
        }
    }

    fn clock_ticked(&mut self, now_ms: i64, env: &Env<'_>, effects: &mut Vec<Effect>) {
        self.clock_ms = Some(now_ms);
        if self.lies_ahead(now_ms, env.settings) {
            self.bring_back(now_ms, env.settings);
        }
        if self.windows.watermark_ms.is_none() {
            self.awaited_ms = self.awaited_ms.or(Some(now_ms));
        }
        let until_ms = now_ms - patience_ms(env.settings);
        self.windows
            .end_until(self.id, until_ms, env.settings, effects);
    }

    /// Whether part of the state is further ahead of `now_ms` than a reading may be: a clock was ahead.
    pub(crate) fn lies_ahead(&self, now_ms: i64, settings: &Settings) -> bool {
        let slot_ms = settings.slot.ms();
        let times_ms = [
            self.windows.watermark_ms,
            self.awaited_ms,
            self.active_ms,
            Some(self.requested_ms),
            self.unplanned_since_ms,
            // A plan is asked for a slot that has begun.
            self.asked_slot_ms,
            self.adopted.as_ref().map(|adopted| adopted.requested_ms),
            self.soc.map(|soc| soc.ts_ms),
            self.windows.closed.newest_ms(),
        ];
        let latest_ms = times_ms.into_iter().flatten().max().unwrap_or(now_ms);
        latest_ms > now_ms.saturating_add(settings.ahead_ms + slot_ms)
            || self.windows.watermark_ms > Some(now_ms.saturating_add(settings.ahead_ms))
    }

    /// Takes back what a clock that was ahead has led to, so that the home lives on at `now_ms`.
    fn bring_back(&mut self, now_ms: i64, settings: &Settings) {
        let latest_ms = now_ms.saturating_add(settings.ahead_ms);
        let is_known = |ms: &i64| *ms <= latest_ms;
        self.windows.bring_back(now_ms, settings);
        self.soc = self.soc.filter(|soc| is_known(&soc.ts_ms));
        self.awaited_ms = self.awaited_ms.map(|ms| ms.min(now_ms));
        self.active_ms = self.active_ms.map(|ms| ms.min(now_ms));
        self.unplanned_since_ms = self.unplanned_since_ms.map(|ms| ms.min(now_ms));
        self.asked_slot_ms = self.asked_slot_ms.filter(is_known);
        self.requested_ms = self.requested_ms.min(now_ms);
        self.runs.retain(|_, began_ms| is_known(began_ms));
        if self
            .adopted
            .as_ref()
            .is_some_and(|adopted| adopted.requested_ms > latest_ms)
        {
            self.adopted = None;
            self.asked_slot_ms = None;
        }
        self.commands
            .given
            .retain(|given| given.command.requested_ms <= latest_ms);
    }

    /// Asks for a plan, once in a slot: as soon as a reading of the slot shows that the one before has ended, or when
    /// the clock has waited long enough for one. A home without a plan asks as soon as it can.
    fn ask(&mut self, present_ms: i64, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let slot_ms = env.settings.slot.start_of_ms(present_ms);
        let asked = self
            .asked_slot_ms
            .is_some_and(|asked_ms| asked_ms >= slot_ms);
        if asked || self.metadata.is_none() {
            return;
        }
        let ended = self.windows.watermark_ms >= Some(slot_ms)
            || present_ms >= slot_ms + patience_ms(env.settings);
        if !ended && self.is_planned(present_ms) {
            return;
        }
        self.unplanned_since_ms = self.unplanned_since_ms.or(Some(present_ms));
        let Some(Ok(problem)) = self.problem(present_ms, env) else {
            return;
        };
        self.asked_slot_ms = Some(slot_ms);
        self.requested_ms = present_ms.max(self.requested_ms.saturating_add(1));
        let request_id = format!("{}-{}-{}", self.id, self.requested_ms, self.requests_count);
        self.requests_count += 1;
        effects.push(Effect::RequestOptimize(Box::new(OptimizeRequest {
            request_id,
            household_id: self.id,
            requested_ms: self.requested_ms,
            adopt: true,
            problem,
        })));
    }

    /// The problem as it stands; `None` without metadata.
    fn problem(&self, present_ms: i64, env: &Env<'_>) -> Option<Result<Problem, Unplannable>> {
        let metadata = self.metadata.as_deref()?;
        let stated = planning::problem(&PlanningInput {
            metadata,
            slots: &self.windows.recent(present_ms, env.settings),
            tariff: env.tariffs.get(&metadata.tariff).map(Arc::as_ref),
            soc_pct: self.soc.map(|soc| soc.pct),
            runs: &self.commands.runs_at(&self.runs, metadata, present_ms),
            now_ms: present_ms,
            settings: env.settings,
        });
        Some(stated.map(|problem| {
            Problem {
                stability: self
                    .adopted
                    .as_ref()
                    .and_then(|adopted| adopted.stability(&problem, env.settings)),
                ..problem
            }
        }))
    }

    /// Raises each alert once when its condition begins to hold.
    fn watch(&mut self, present_ms: i64, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let stale_after_ms = env.settings.stale_after_ms;
        let heard_ms = self.windows.watermark_ms.or(self.awaited_ms);
        let silent = heard_ms.filter(|heard_ms| present_ms - heard_ms > stale_after_ms);
        self.alert(AlertKind::MissingTelemetry, present_ms, effects, |_| {
            silent.map(|_| format!("no reading for more than {} s", stale_after_ms / 1_000))
        });
        let overdue_ms = 2 * env.settings.slot.ms();
        self.alert(AlertKind::ScheduleOverdue, present_ms, effects, |home| {
            let since_ms = home.unplanned_since_ms?;
            (present_ms - since_ms > overdue_ms).then(|| {
                let waited_s = (present_ms - since_ms) / 1_000;
                let why = match home.problem(present_ms, env) {
                    Some(Err(missing)) => missing.to_string(),
                    Some(Ok(_)) | None => "no answer to a request".to_owned(),
                };
                format!("no new schedule for {waited_s} s: {why}")
            })
        });
        self.alert(AlertKind::CommandUnanswered, present_ms, effects, |home| {
            let command = home.commands.unanswered(present_ms)?;
            Some(format!(
                "command {} expired without an answer",
                command.command_id
            ))
        });
        self.alert(AlertKind::SocLimit, present_ms, effects, Self::soc_outside);
    }

    fn soc_outside(&self) -> Option<String> {
        let soc = self.soc?;
        let battery = self.metadata.as_deref()?.battery.as_ref()?;
        let least_pct = battery.min_soc_kwh / battery.capacity_kwh * 100.0;
        let most_pct = battery.max_soc_kwh / battery.capacity_kwh * 100.0;
        let outside =
            soc.pct < least_pct - SOC_TOLERANCE_PCT || soc.pct > most_pct + SOC_TOLERANCE_PCT;
        outside.then(|| {
            format!(
                "SoC {:.1} % is outside {least_pct:.1} to {most_pct:.1} %",
                soc.pct
            )
        })
    }

    fn alert(
        &mut self,
        kind: AlertKind,
        ts_ms: i64,
        effects: &mut Vec<Effect>,
        detail: impl FnOnce(&Self) -> Option<String>,
    ) {
        let Some(detail) = detail(self) else {
            self.raised.remove(&kind);
            return;
        };
        if self.raised.insert(kind) {
            effects.push(Effect::RaiseAlert(Alert {
                household_id: self.id,
                ts_ms,
                kind,
                detail,
            }));
        }
    }
}

/// How long after a slot's end the clock waits for the readings that are on their way, before it ends the slot.
fn patience_ms(settings: &Settings) -> i64 {
    settings.slot.ms() / 15
}
