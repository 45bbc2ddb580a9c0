//! A home as production runs it: the household is told what a device sends, its requests are solved, and its programs
//! reach the device at once. The clock is that of the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household};
use household::settings::{Settings, UNKNOWN_KW_MAX};
use model::command::{Ack, AckStatus, Command};
use model::metadata::Metadata;
use model::policy::SlotPolicy;
use model::problem::Problem;
use model::reading::{Measurement, Reading};
use model::schedule::{Plan, Schedule};
use model::tariff::Tariff;
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS, SlotLength};
use scheduler::Solver;

use crate::recorded::{PricesKnown, Recorded};

const TARIFF: &str = "recorded";
/// How often what is known of prices is looked at. The horizon of a plan is a day.
const PRICES_MS: i64 = 12 * HOUR_MS;

/// A home that is living.
#[derive(Debug)]
pub struct Live<'a> {
    home: &'a Recorded,
    household: Household,
    metadata: Arc<Metadata>,
    settings: Settings,
    tariffs: BTreeMap<String, Arc<Tariff>>,
    priced_until_ms: i64,
    solver: Solver,
    command: Option<Command>,
    fallback: SlotPolicy,
    planned: Option<Planned>,
    plans_count: usize,
    commands_count: usize,
}

/// The newest plan.
#[derive(Debug)]
struct Planned {
    start_ms: i64,
    /// The policy of each slot, and the load less PV that it expects, kW.
    slots: Vec<(SlotPolicy, f64)>,
}

impl<'a> Live<'a> {
    /// Returns a home that has just been set up.
    #[must_use]
    pub fn new(home: &'a Recorded, id: HouseholdId) -> Self {
        let metadata = Arc::new(metadata(home, id));
        let mut live = Self {
            home,
            household: Household::newborn(id),
            settings: settings(home.slot(), home.step),
            tariffs: BTreeMap::new(),
            priced_until_ms: i64::MIN,
            solver: Solver::default(),
            command: None,
            fallback: crate::device::self_consumption(home),
            planned: None,
            plans_count: 0,
            commands_count: 0,
            metadata: Arc::clone(&metadata),
        };
        live.tell(Event::MetadataChanged(metadata));
        live
    }

    /// The household.
    #[must_use]
    pub const fn household(&self) -> &Household {
        &self.household
    }

    /// Its metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the number of commands sent so far.
    #[must_use]
    pub const fn commands_count(&self) -> usize {
        self.commands_count
    }

    /// Returns the number of plans made so far.
    #[must_use]
    pub const fn plans_count(&self) -> usize {
        self.plans_count
    }

    /// Tells what the meters measured in the step before `index`, and what the battery holds now. A slot that is over ends
    /// with this, and the next one is planned.
    pub fn begin_step(&mut self, index: usize, content_kwh: f64, battery_kw: f64) {
        let now_ms = self.home.step_ms(index);
        self.learn_prices(now_ms);
        if let Some(before) = index.checked_sub(1) {
            let ts_ms = self.home.step_ms(before);
            let (load_w, pv_w) = (self.home.load_w[before], self.home.pv_w[before]);
            if !load_w.is_nan() {
                let consumption_w = load_w;
                self.read(ts_ms, Measurement::Meter { consumption_w });
            }
            if !pv_w.is_nan() && self.home.pv_capacity_kw > 0.0 {
                self.read(ts_ms, Measurement::Pv { pv_w });
            }
        }
        let soc_pct = 100.0 * content_kwh / self.home.battery.capacity_kwh;
        let power_w = 1e3 * battery_kw;
        self.read(now_ms, Measurement::Battery { soc_pct, power_w });
    }

    /// Returns what the device does at `at_ms`: its program, or its fallback.
    #[must_use]
    pub fn policy_at(&self, at_ms: i64) -> &SlotPolicy {
        let command = self.command.as_ref();
        let entry = command.and_then(|command| command.entry_at(at_ms));
        entry
            .and_then(|entry| entry.policy.as_ref())
            .unwrap_or(&self.fallback)
    }

    /// Returns what the newest plan has for the slot at `at_ms`, and the load less PV that it expects there, kW.
    #[must_use]
    pub fn planned_at(&self, at_ms: i64) -> Option<&(SlotPolicy, f64)> {
        let planned = self.planned.as_ref()?;
        let slots_past = (at_ms - planned.start_ms).div_euclid(self.settings.slot.ms());
        planned.slots.get(usize::try_from(slots_past).ok()?)
    }

    fn learn_prices(&mut self, now_ms: i64) {
        if now_ms < self.priced_until_ms {
            return;
        }
        let tariff = self.home.tariff_at(TARIFF, now_ms);
        self.tariffs.insert(TARIFF.to_owned(), Arc::new(tariff));
        self.priced_until_ms = match self.home.prices_known {
            PricesKnown::Always => now_ms - now_ms.rem_euclid(DAY_MS) + DAY_MS,
            PricesKnown::DayAhead => now_ms - now_ms.rem_euclid(PRICES_MS) + PRICES_MS,
        };
    }

    fn read(&mut self, ts_ms: i64, measurement: Measurement) {
        self.tell(Event::ReadingArrived(Reading {
            household_id: self.household.id(),
            ts_ms,
            measurement,
        }));
    }

    /// Tells the household an event, and what follows from its effects.
    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut effects = Vec::new();
            let env = Env {
                settings: &self.settings,
                tariffs: &self.tariffs,
                now_ms: None,
            };
            self.household.handle(event, &env, &mut effects);
            for effect in effects {
                events.extend(self.carry_out(effect));
            }
        }
    }

    /// Does what the services around a household do, and returns what they tell it.
    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::RequestOptimize(request) => {
                self.plans_count += 1;
                let problem = &request.problem;
                let plan = solved(&mut self.solver, problem);
                let nets_kw = problem.load_kw.iter().zip(&problem.pv_kw);
                let policies = plan.slots.iter().filter_map(|slot| slot.policy.clone());
                self.planned = Some(Planned {
                    start_ms: problem.start_ms,
                    slots: policies.zip(nets_kw.map(|(load, pv)| load - pv)).collect(),
                });
                Some(Event::ScheduleReady(Arc::new(Schedule {
                    schedule_id: request.request_id.clone(),
                    request_id: request.request_id.clone(),
                    household_id: request.household_id,
                    requested_ms: request.requested_ms,
                    start_ms: problem.start_ms,
                    slot_minutes: problem.slot_minutes,
                    adopt: request.adopt,
                    solve_us: 0,
                    forecast: request.forecast,
                    plan,
                })))
            }
            Effect::SendCommand(command) => {
                let ack = Ack {
                    household_id: command.household_id,
                    command_id: command.command_id.clone(),
                    ts_ms: command.issued_ms,
                    status: AckStatus::Applied,
                    reason: String::new(),
                };
                self.commands_count += 1;
                self.command = Some(command);
                Some(Event::AckArrived(ack))
            }
            // Readings are not stored, so slots are never aggregated from the store.
            Effect::StoreReading(_)
            | Effect::StoreSlot { .. }
            | Effect::StoreMetadata(_)
            | Effect::StoreSchedule(_)
            | Effect::StoreCommand(_)
            | Effect::StoreAnswer(_)
            | Effect::RaiseAlert(_)
            | Effect::RepairSlot { .. }
            | Effect::RefuseReading { .. }
            | Effect::CountReading { .. }
            | Effect::StoreAsset(_)
            | Effect::RefuseAsset { .. }
            | Effect::CountAsset { .. } => None,
        }
    }
}

fn solved(solver: &mut Solver, problem: &Problem) -> Plan {
    match solver.solve(problem) {
        Ok(plan) => plan,
        Err(error) => Plan::failed(&error.to_string()),
    }
}

/// The engine's settings by default, with slots as recorded.
fn settings(slot: SlotLength, step: SlotLength) -> Settings {
    Settings {
        slot,
        horizon_slots: u32::try_from(slot.per_day()).expect("a day has few slots"),
        program_slots: 8,
        grace_ms: 15 * MINUTE_MS,
        hold_ms: 15 * MINUTE_MS,
        ahead_ms: 5 * MINUTE_MS,
        kept_ms: 36_500 * DAY_MS,
        stores_readings: false,
        // A reading an hour is fresh for that hour and the next.
        stale_after_ms: HOUR_MS.max(2 * step.ms()),
        load_kw_max: UNKNOWN_KW_MAX,
        pv_kw_max: UNKNOWN_KW_MAX,
        battery_kw_max: UNKNOWN_KW_MAX,
        switching_cost_per_kwh: 0.002,
        switching_cost_per_start: 0.01,
    }
}

fn metadata(home: &Recorded, household_id: HouseholdId) -> Metadata {
    Metadata {
        name: home.name.clone(),
        location: home.location.clone(),
        pv_capacity_kw: home.pv_capacity_kw,
        battery: Some(home.battery.clone()),
        grid: home.grid,
        pv_curtailable: home.pv_curtailable,
        ..Metadata::of(household_id, TARIFF)
    }
}
