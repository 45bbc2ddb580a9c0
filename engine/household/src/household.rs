//! One home: its state, and how events change it.
//! The same events in the same order give the same state and the same effects, bit for bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::adopted::Adopted;
use crate::alerts::{Condition, Raised, SocOutside};
use crate::asset_problems::AssetInput;
use crate::assets::{Assets, Counting};
use crate::commanding::Commands;
use crate::effect::{Effect, Refusal};
use crate::event::Event;
use crate::inputs::{Inputs, Newest};
use crate::lasting::Lasting;
use crate::planning::{self, PlanningInput, Stated};
use crate::plausible::Ranges;
use crate::program::Source;
use crate::refused::{note_clamped, quarantine, refuse, time_refused};
use crate::runs::Runs;
use crate::settings::Settings;
use crate::slot_commands::SlotCommands;
use crate::unplannable::Unplannable;
use crate::windows::Windows;
use forecast::home::HomeForecast;
use model::alert::Alert;
use model::asset::AssetReading;
use model::command::{Ack, AckStatus};
use model::metadata::Metadata;
use model::reading::{Measurement, Reading, ReadingOutcome};
use model::request::OptimizeRequest;
use model::rolling::Rolling;
use model::schedule::{Schedule, Status};
use model::slot::Slot;
use model::tariff::Tariff;
use model::units::{DAY_MS, HouseholdId};

/// What a home knows about its surroundings.
#[derive(Debug, Clone, Copy)]
pub struct Env<'a> {
    /// The engine's settings.
    pub settings: &'a Settings,
    /// All known tariffs, by name.
    pub tariffs: &'a BTreeMap<String, Arc<Tariff>>,
    /// The host's clock, UTC epoch milliseconds; `None` if the times of readings must not be checked.
    pub now_ms: Option<i64>,
}

/// The state of one home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Household {
    pub(crate) id: HouseholdId,
    pub(crate) metadata: Option<Arc<Metadata>>,
    pub(crate) windows: Windows,
    /// Percent of the capacity.
    soc: Option<Newest>,
    /// The host's clock at the last tick; it goes back if the host's clock does.
    clock_ms: Option<i64>,
    /// Since when the home has waited for its first reading.
    awaited_ms: Option<i64>,
    /// When something other than the clock last reached the home.
    active_ms: Option<i64>,
    pub(crate) adopted: Option<Adopted>,
    slot_commands: SlotCommands,
    pub(crate) runs: Runs,
    /// Requests made so far.
    requests_count: u64,
    /// Start of the slot in which a plan was last requested.
    asked_slot_ms: Option<i64>,
    /// `requested_ms` of the last request; each request has a later one than the one before.
    pub(crate) requested_ms: i64,
    /// Since when the home has needed a plan that it has not got.
    unplanned_since_ms: Option<i64>,
    /// Alerts whose condition still holds.
    raised: Raised,
    /// W.
    load: Option<Newest>,
    /// W.
    pv: Option<Newest>,
    /// Since when readings have come without the whole home falling silent, event time.
    speaks_since_ms: Option<i64>,
    pub(crate) commands: Commands,
    pub(crate) assets: Assets,
    /// What forecasts are made of; `None` until a slot has ended.
    pub(crate) past: Option<Box<HomeForecast>>,
    /// What the last plan was asked for, while its answer may do for more than a slot.
    lasting: Option<Lasting>,
}

impl Household {
    /// Returns a home without state that may have had readings before; its first slots are aggregated from the store.
    #[must_use]
    pub const fn new(id: HouseholdId) -> Self {
        Self::with(id, Windows::new(false))
    }

    /// Returns a home that never had a reading before, so its first slots need no store.
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
            slot_commands: SlotCommands::none(),
            runs: Runs::new(),
            requests_count: 0,
            asked_slot_ms: None,
            requested_ms: i64::MIN,
            unplanned_since_ms: None,
            raised: Raised::new(),
            load: None,
            pv: None,
            speaks_since_ms: None,
            commands: Commands::new(),
            assets: Assets::new(),
            past: None,
            lasting: None,
        }
    }

    /// Handles one event and appends its effects to `effects`.
    pub fn handle(&mut self, event: Event, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let effects_before = effects.len();
        self.windows
            .set_length(self.id, None, env.settings, effects);
        let mut adopted = None;
        match event {
            Event::ReadingArrived(reading) => self.reading_arrived(&reading, env, effects),
            Event::AssetRead(reading) => self.asset_read(reading, env, effects),
            Event::MetadataChanged(metadata) => self.metadata_changed(metadata, effects),
            Event::ScheduleReady(schedule) => {
                adopted = self.schedule_ready(&schedule, effects).then_some(schedule);
            }
            Event::AckArrived(ack) => self.ack_arrived(&ack, effects),
            Event::SlotRepaired(slot) => self.windows.repair(self.id, slot, effects),
            Event::ClockTicked { now_ms } => {
                self.clock_ticked(now_ms, env, effects);
            }
        }
        self.remember(&effects[effects_before..], env.settings);
        let Some(present_ms) = self.present_ms() else {
            return;
        };
        if self.is_stale(present_ms, env.settings) {
            // The plan was based on readings that have stopped, so no more commands follow. Devices carry out the last
            // program to its end, and then fall back by themselves.
            self.unplanned_since_ms = None;
        } else {
            self.ask(present_ms, env, effects);
            self.give(adopted.as_deref(), present_ms, env, effects);
        }
        self.watch(present_ms, env, effects);
        if self.commands.has_old(present_ms) {
            self.note_runs(present_ms);
            self.commands.forget(present_ms);
        }
    }

    /// Returns the household's id.
    #[must_use]
    pub const fn id(&self) -> HouseholdId {
        self.id
    }

    /// Returns the latest event time seen, UTC epoch milliseconds; 0 before the first reading.
    #[must_use]
    pub const fn watermark_ms(&self) -> i64 {
        match self.windows.watermark_ms {
            Some(watermark_ms) => watermark_ms,
            None => 0,
        }
    }

    /// Returns when something other than the clock last reached the home, in the home's own time; `None` if nothing has.
    #[must_use]
    pub const fn last_active_ms(&self) -> Option<i64> {
        self.active_ms
    }

    /// Returns whether the home has metadata.
    #[must_use]
    pub const fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// Returns whether the last reading is too old to plan with, or none ever came.
    #[must_use]
    pub fn is_stale(&self, now_ms: i64, settings: &Settings) -> bool {
        let watermark_ms = self.windows.watermark_ms;
        watermark_ms.is_none_or(|watermark_ms| now_ms - watermark_ms > settings.stale_after_ms)
    }

    /// Returns whether the adopted schedule covers `now_ms`.
    #[must_use]
    pub fn is_planned(&self, now_ms: i64) -> bool {
        let adopted = self.adopted.as_ref();
        adopted.is_some_and(|adopted| adopted.slot_index(now_ms).is_some())
    }

    /// Returns the rolling means, daily sums and peak at `now_ms`.
    #[must_use]
    pub fn rolling(&self, now_ms: i64, settings: &Settings) -> Rolling {
        Rolling::of(&self.windows.recent(now_ms, settings), now_ms)
    }

    /// Returns the slots of the last 24 hours, ascending: those that have ended, and the open ones as known at `now_ms`.
    /// Of ended slots only the means and the peak load are kept, as if each series had one reading.
    #[must_use]
    pub fn recent_slots(&self, now_ms: i64, settings: &Settings) -> Vec<Slot> {
        self.windows.recent(now_ms, settings)
    }

    /// Returns the home's present: its watermark or the host's clock, whichever is later.
    fn present_ms(&self) -> Option<i64> {
        self.windows.watermark_ms.max(self.clock_ms)
    }

    /// What the home remembers of its load and PV; `None` until a slot has ended.
    #[must_use]
    pub fn past(&self) -> Option<&HomeForecast> {
        self.past.as_deref()
    }

    /// What is known of its EVs and heat stores.
    #[must_use]
    pub const fn assets(&self) -> &Assets {
        &self.assets
    }

    fn reading_arrived(&mut self, reading: &Reading, env: &Env<'_>, effects: &mut Vec<Effect>) {
        if let Some(refusal) = time_refused(reading.ts_ms, env.now_ms, env.settings) {
            return refuse(reading, refusal, effects);
        }
        let ranges = Ranges::of(self.metadata.as_deref(), env.settings);
        let measurement = match ranges.judge(reading.measurement) {
            Ok(measurement) => measurement,
            Err(implausible) => return quarantine(reading, implausible, effects),
        };
        let judged = Reading {
            measurement,
            ..*reading
        };
        let was_silent = self.is_stale(reading.ts_ms, env.settings);
        if was_silent || self.speaks_since_ms.is_none() {
            self.speaks_since_ms = Some(reading.ts_ms);
        }
        self.windows
            .set_length(self.id, Some(reading.ts_ms), env.settings, effects);
        let effects_before = effects.len();
        self.windows.take_in(&judged, env.settings, effects);
        if judged != *reading {
            note_clamped(&mut effects[effects_before..]);
        }
        self.active_ms = self.present_ms();
        match measurement {
            Measurement::Meter { consumption_w } => {
                self.load = Newest::after(self.load, reading, consumption_w);
            }
            Measurement::Pv { pv_w } => self.pv = Newest::after(self.pv, reading, pv_w),
            Measurement::Battery { soc_pct, .. } => {
                self.soc = Newest::after(self.soc, reading, soc_pct);
            }
        }
    }

    fn asset_read(&mut self, reading: AssetReading, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let (kind, ts_ms) = (reading.state.kind(), reading.ts_ms);
        let refusal = time_refused(ts_ms, env.now_ms, env.settings);
        let metadata = self.metadata.as_deref();
        let is_planned = metadata.is_some_and(|home| home.has_asset(kind, &reading.id));
        let counting = Counting {
            slot_ms: self.windows.length.ms(),
            hold_ms: env.settings.hold_ms,
        };
        let taken = refusal.map_or_else(
            || {
                let taken = self.assets.take_in(&reading, is_planned, counting);
                taken.ok_or(Refusal::TooManyAssets)
            },
            Err,
        );
        let outcome = match taken {
            Ok(outcome) => {
                self.active_ms = self.present_ms();
                if outcome != ReadingOutcome::Duplicate && env.settings.stores_readings {
                    effects.push(Effect::StoreAsset(reading));
                }
                outcome
            }
            Err(refusal) => {
                effects.push(Effect::RefuseAsset { ts_ms, refusal });
                ReadingOutcome::Refused
            }
        };
        effects.push(Effect::CountAsset { kind, outcome });
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
        // The devices may have been replaced, so alerts about the old ones are over.
        self.raised.note(Condition::CommandUnanswered, Some(false));
        self.raised.note(Condition::CommandRejected, Some(false));
        self.asked_slot_ms = None;
        self.lasting = None;
    }

    /// Returns whether the schedule is adopted.
    fn schedule_ready(&mut self, schedule: &Arc<Schedule>, effects: &mut Vec<Effect>) -> bool {
        self.active_ms = self.present_ms();
        let held = self.adopted.as_ref();
        // The same schedule again: it is stored already, and its commands are issued.
        if held.is_some_and(|held| held.schedule_id == schedule.schedule_id) {
            return false;
        }
        effects.push(Effect::StoreSchedule(Arc::clone(schedule)));
        let feasible = match schedule.plan.status {
            Status::Optimal | Status::Relaxed => !schedule.plan.slots.is_empty(),
            Status::Infeasible => false,
        };
        let newer = held.is_none_or(|held| held.requested_ms < schedule.requested_ms);
        let adopts = schedule.adopt && feasible && newer;
        if adopts {
            self.adopted = Some(Adopted::of(schedule, self.metadata.as_deref()));
            self.lasting = self.lasting.filter(|lasting| lasting.holds_for(schedule));
            self.unplanned_since_ms = None;
        }
        adopts
    }

    fn ack_arrived(&mut self, ack: &Ack, effects: &mut Vec<Effect>) {
        self.active_ms = self.present_ms();
        let is_news = self.commands.answered(ack, effects);
        if ack.status == AckStatus::Rejected {
            self.lasting = None;
        }
        if let (true, Some(present_ms)) = (is_news, self.present_ms()) {
            self.note_runs(present_ms);
        }
    }

    /// Notes the runs that have begun with commands that a device carries out.
    fn note_runs(&mut self, present_ms: i64) {
        if let Some(metadata) = &self.metadata {
            self.commands
                .note_runs(&mut self.runs, metadata, present_ms);
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

    /// Returns whether part of the state is further ahead of `now_ms` than a reading may be, because a clock was ahead.
    pub(crate) fn lies_ahead(&self, now_ms: i64, settings: &Settings) -> bool {
        let slot_ms = settings.slot.ms();
        let times_ms = [
            self.windows.watermark_ms,
            self.awaited_ms,
            self.active_ms,
            Some(self.requested_ms),
            self.unplanned_since_ms,
            // A plan is requested in a slot that has begun.
            self.asked_slot_ms,
            self.adopted.as_ref().map(|adopted| adopted.requested_ms),
            self.load.map(|load| load.ts_ms),
            self.pv.map(|pv| pv.ts_ms),
            self.soc.map(|soc| soc.ts_ms),
            self.speaks_since_ms,
            self.assets.newest_ms(),
            self.windows.closed.newest_ms(),
        ];
        let latest_ms = times_ms.into_iter().flatten().max().unwrap_or(now_ms);
        latest_ms > now_ms.saturating_add(settings.ahead_ms + slot_ms)
            || self.windows.watermark_ms > Some(now_ms.saturating_add(settings.ahead_ms))
    }

    /// Undoes the effects of a clock that was ahead, so that the home continues at `now_ms`.
    fn bring_back(&mut self, now_ms: i64, settings: &Settings) {
        let latest_ms = now_ms.saturating_add(settings.ahead_ms);
        let is_known = |ms: &i64| *ms <= latest_ms;
        self.windows.bring_back(now_ms, settings);
        if let Some(past) = &mut self.past {
            past.forget_after(now_ms);
        }
        for input in [&mut self.load, &mut self.pv, &mut self.soc] {
            *input = input.filter(|input| is_known(&input.ts_ms));
        }
        self.assets.forget_after(latest_ms);
        self.speaks_since_ms = self.speaks_since_ms.map(|ms| ms.min(now_ms));
        self.awaited_ms = self.awaited_ms.map(|ms| ms.min(now_ms));
        self.active_ms = self.active_ms.map(|ms| ms.min(now_ms));
        self.unplanned_since_ms = self.unplanned_since_ms.map(|ms| ms.min(now_ms));
        self.asked_slot_ms = self.asked_slot_ms.filter(is_known);
        self.requested_ms = self.requested_ms.min(now_ms);
        self.runs.retain(|_, began_ms| is_known(began_ms));
        self.lasting = None;
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
            .retain(|given| given.requested_ms.max(given.issued_ms) <= latest_ms);
    }

    /// Requests a plan, once per slot unless the one in force lasts longer: when a reading of the slot shows that the
    /// previous one has ended, or when the clock has waited long enough for a reading. A home without a plan requests one
    /// as soon as it can.
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
        if self.goes_on(slot_ms, env) {
            self.asked_slot_ms = Some(slot_ms);
            return;
        }
        self.unplanned_since_ms = self.unplanned_since_ms.or(Some(present_ms));
        let Ok(stated) = self.problem(present_ms, env) else {
            return;
        };
        self.asked_slot_ms = Some(slot_ms);
        let metadata = self.metadata.as_deref();
        self.lasting = metadata.and_then(|metadata| Lasting::of(&stated.problem, metadata));
        self.requested_ms = present_ms.max(self.requested_ms.saturating_add(1));
        let request_id = format!("{}-{}-{}", self.id, self.requested_ms, self.requests_count);
        self.requests_count += 1;
        effects.push(Effect::RequestOptimize(Box::new(OptimizeRequest {
            request_id,
            household_id: self.id,
            requested_ms: self.requested_ms,
            adopt: true,
            problem: stated.problem,
            forecast: Some(stated.forecast),
        })));
    }

    /// Whether the plan in force does for the slot at `slot_ms` too.
    fn goes_on(&self, slot_ms: i64, env: &Env<'_>) -> bool {
        let (Some(lasting), Some(adopted)) = (&self.lasting, &self.adopted) else {
            return false;
        };
        let metadata = self.metadata.as_deref();
        let tariff = metadata.and_then(|metadata| env.tariffs.get(&metadata.tariff));
        adopted.requested_ms == self.requested_ms
            && adopted.slot_ms() == env.settings.slot.ms()
            && adopted.slot_index(slot_ms).is_some()
            && lasting.lasts(self.id, slot_ms, tariff.map(Arc::as_ref), env.settings)
    }

    /// Builds the current problem.
    ///
    /// # Errors
    /// Returns what is missing; `None` stands for the metadata.
    fn problem(&self, present_ms: i64, env: &Env<'_>) -> Result<Stated, Option<Unplannable>> {
        // The cheap check comes first: a home that lacks an input gets here with every reading.
        self.check_inputs(present_ms, env)?;
        let metadata = self.metadata.as_deref().ok_or(None)?;
        let unknown;
        let past = if let Some(past) = self.past() {
            past
        } else {
            unknown = HomeForecast::new(env.settings.slot);
            &unknown
        };
        let mut stated = planning::problem(&PlanningInput {
            metadata,
            past,
            tariff: env.tariffs.get(&metadata.tariff).map(Arc::as_ref),
            inputs: self.inputs(present_ms, env.settings),
            runs: &self.commands.runs_at(&self.runs, metadata, present_ms),
            now_ms: present_ms,
            settings: env.settings,
        })?;
        let assets = AssetInput {
            metadata,
            assets: &self.assets,
            fresh_from_ms: present_ms.saturating_sub(env.settings.stale_after_ms),
            now_ms: present_ms,
        };
        let problem = &mut stated.problem;
        assets.add_to(problem);
        let adopted = self.adopted.as_ref();
        problem.stability = adopted.and_then(|adopted| adopted.stability(problem, env.settings));
        Ok(stated)
    }

    /// Checks whether a problem can be built; errors as in [`Self::problem`].
    fn check_inputs(&self, present_ms: i64, env: &Env<'_>) -> Result<(), Option<Unplannable>> {
        let metadata = self.metadata.as_deref().ok_or(None)?;
        let tariff = env.tariffs.get(&metadata.tariff).map(Arc::as_ref);
        let inputs = self.inputs(present_ms, env.settings);
        planning::check(metadata, tariff, &inputs, present_ms, env.settings)?;
        Ok(())
    }

    pub(crate) fn inputs(&self, present_ms: i64, settings: &Settings) -> Inputs {
        let day_before_ms = settings.slot.start_of_ms(present_ms) - DAY_MS;
        let day_before = self.windows.closed.get(day_before_ms);
        Inputs {
            load_w: self.load,
            pv_w: self.pv,
            soc_pct: self.soc,
            pv_day_before_w: day_before.and_then(|slot| slot.pv_w).map(f64::from),
        }
    }

    /// Completes a restored state with what snapshots of earlier builds lack: the newest load and PV and a past for
    /// forecasts, which are derived from the slots, and commands as programs.
    pub fn recall(&mut self, settings: &Settings) {
        self.commands.recall(&mut self.slot_commands);
        if self.past.is_none() {
            let closed: Vec<Slot> = self.windows.ended().collect();
            for slot in &closed {
                self.remember_slot(slot, settings);
            }
        }
        let Some(watermark_ms) = self.windows.watermark_ms else {
            return;
        };
        if self.load.is_some() || self.pv.is_some() {
            return;
        }
        let slots = self.windows.recent(watermark_ms, settings);
        let inputs = Inputs::of(&slots, watermark_ms, self.windows.length);
        self.load = self.load.or(inputs.load_w);
        self.pv = self.pv.or(inputs.pv_w);
    }

    /// Issues the program of the plan in force; `schedule` is the one that was adopted just now. If an input has failed
    /// since the plan was requested, the program says nothing about the battery, while appliances run as planned.
    fn give(
        &mut self,
        schedule: Option<&Schedule>,
        present_ms: i64,
        env: &Env<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(adopted), Some(metadata)) = (&self.adopted, &self.metadata) else {
            return;
        };
        if !self
            .commands
            .considers(adopted, schedule.is_some(), present_ms)
        {
            return;
        }
        self.commands
            .note_runs(&mut self.runs, metadata, present_ms);
        let inputs = self.inputs(present_ms, env.settings);
        let is_fresh = inputs
            .check(metadata, present_ms, env.settings.stale_after_ms)
            .is_ok();
        let source = Source {
            adopted,
            planned: schedule
                .filter(|_| is_fresh)
                .map(|schedule| schedule.plan.slots.as_slice()),
            metadata,
            runs: &self.runs,
            slots_max: env.settings.program_slots as usize,
        };
        self.commands.give(&source, present_ms, effects);
    }

    /// Raises each alert once when its condition begins to hold.
    fn watch(&mut self, present_ms: i64, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let stale_after_ms = env.settings.stale_after_ms;
        let heard_ms = self.windows.watermark_ms.or(self.awaited_ms);
        let is_silent = heard_ms.is_some_and(|heard_ms| present_ms - heard_ms > stale_after_ms);
        self.alert(
            Condition::Silent,
            Some(is_silent),
            present_ms,
            effects,
            |_| format!("no reading for more than {} s", stale_after_ms / 1_000),
        );
        if !is_silent {
            self.watch_inputs(present_ms, env, effects);
        }
        let waited_ms = self.unplanned_since_ms.map_or(0, |ms| present_ms - ms);
        let is_overdue = waited_ms > 2 * env.settings.slot.ms();
        self.alert(
            Condition::ScheduleOverdue,
            Some(is_overdue),
            present_ms,
            effects,
            |home| {
                let why = match home.check_inputs(present_ms, env) {
                    Err(Some(missing)) => missing.to_string(),
                    Ok(()) | Err(None) => "no answer to a request".to_owned(),
                };
                format!("no new schedule for {} s: {why}", waited_ms / 1_000)
            },
        );
        self.watch_commands(present_ms, effects);
        let outside = self.soc_outside();
        let is_outside = Some(outside.is_some());
        self.alert(
            Condition::SocOutside,
            is_outside,
            present_ms,
            effects,
            |_| outside.map_or_else(String::new, |outside| outside.to_string()),
        );
    }

    /// Watches for inputs that have stopped while others continue. After the whole home was silent, each input gets time
    /// to come back.
    fn watch_inputs(&mut self, present_ms: i64, env: &Env<'_>, effects: &mut Vec<Effect>) {
        let Some(metadata) = self.metadata.as_deref() else {
            return;
        };
        let stale_after_ms = env.settings.stale_after_ms;
        let inputs = self.inputs(present_ms, env.settings);
        let stale = inputs.stale(metadata, present_ms, stale_after_ms);
        let since_ms = self.speaks_since_ms.unwrap_or(present_ms);
        let has_had_time = present_ms.saturating_sub(since_ms) > stale_after_ms;
        let conditions = [
            (Condition::LoadStale, stale.load, "meter"),
            (Condition::PvStale, stale.pv, "pv"),
            (Condition::SocStale, stale.soc, "battery"),
        ];
        for (condition, is_stale, kind) in conditions {
            let holds = (has_had_time || !is_stale).then_some(is_stale);
            self.alert(condition, holds, present_ms, effects, |_| {
                let seconds = stale_after_ms / 1_000;
                format!("no {kind} reading for more than {seconds} s, others continue")
            });
        }
    }

    fn watch_commands(&mut self, present_ms: i64, effects: &mut Vec<Effect>) {
        let waited = self.commands.is_unanswered(present_ms);
        let holds = waited.map(|(_, is_unanswered)| is_unanswered);
        self.alert(
            Condition::CommandUnanswered,
            holds,
            present_ms,
            effects,
            |home| {
                let newest = home.commands.is_unanswered(present_ms);
                let command_id = newest.map_or("", |(command_id, _)| command_id);
                format!("no answer to command {command_id}")
            },
        );
        let answered = self.commands.is_rejected();
        let holds = answered.map(|(_, is_rejected)| is_rejected);
        self.alert(
            Condition::CommandRejected,
            holds,
            present_ms,
            effects,
            |home| {
                let newest = home.commands.is_rejected();
                let command_id = newest.map_or("", |(command_id, _)| command_id);
                format!("the device rejected command {command_id}")
            },
        );
    }

    /// Returns the SoC if it is outside the bounds that plans keep to.
    fn soc_outside(&self) -> Option<SocOutside> {
        let battery = self.metadata.as_deref()?.battery.as_ref()?;
        SocOutside::of(self.soc?.value, battery)
    }

    /// Raises the condition's alert if it begins to hold. `holds` is `None` if nothing new is known about it.
    fn alert(
        &mut self,
        condition: Condition,
        holds: Option<bool>,
        ts_ms: i64,
        effects: &mut Vec<Effect>,
        detail: impl FnOnce(&Self) -> String,
    ) {
        if self.raised.note(condition, holds) {
            effects.push(Effect::RaiseAlert(Alert {
                household_id: self.id,
                ts_ms,
                kind: condition.kind(),
                detail: detail(self),
            }));
        }
    }
}

/// Returns how long the clock waits for late readings after a slot's end before it ends the slot, milliseconds.
fn patience_ms(settings: &Settings) -> i64 {
    settings.slot.ms() / 15
}
