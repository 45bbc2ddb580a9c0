//! A home in a small world that carries its effects out, and checks its invariants after every event.

mod assets;
mod clocks;
mod commands;
mod inputs;
mod lasting;
mod lengths;
mod limits;
mod local_time;
mod means;
mod packed;
mod past;
mod planning;
mod plausible;
mod present;
mod snapshots;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::effect::{Effect, Refusal};
use crate::event::Event;
use crate::household::{Env, Household};
use crate::inputs::{Inputs, Newest};
use crate::invariants::{check, check_step};
use crate::repair;
use crate::settings::{Settings, UNKNOWN_KW_MAX};
use model::alert::AlertKind;
use model::asset::AssetReading;
use model::command::{Ack, AckStatus, Command, CommandProgress, CommandState};
use model::metadata::{ApplianceSpec, BatterySpec, Metadata};
use model::problem::Grid;
use model::reading::{Kind, Measurement, Reading, ReadingOutcome};
use model::request::OptimizeRequest;
use model::schedule::{Metrics, Plan, PlannedSlot, Schedule, Status};
use model::slot::Slot;
use model::tariff::{PricePeriod, Tariff};
use model::units::{DAY_MS, HOUR_MS, HouseholdId, MINUTE_MS, SlotLength};

/// 2025-09-12T00:00:00Z
const MIDNIGHT_MS: i64 = 1_757_635_200_000;

const SETTINGS: Settings = Settings {
    slot: SlotLength::QUARTER_HOUR,
    horizon_slots: 96,
    program_slots: 8,
    grace_ms: 15 * MINUTE_MS,
    hold_ms: 15 * MINUTE_MS,
    ahead_ms: 5 * MINUTE_MS,
    kept_ms: 365 * DAY_MS,
    stores_readings: true,
    stale_after_ms: HOUR_MS,
    load_kw_max: UNKNOWN_KW_MAX,
    pv_kw_max: UNKNOWN_KW_MAX,
    battery_kw_max: UNKNOWN_KW_MAX,
    switching_cost_per_kwh: 0.002,
    switching_cost_per_start: 0.01,
};

fn id() -> HouseholdId {
    HouseholdId::new(7).unwrap()
}

/// Minutes after midnight.
fn at(minutes: i64) -> i64 {
    MIDNIGHT_MS + minutes * MINUTE_MS
}

fn reading(ts_ms: i64, measurement: Measurement) -> Reading {
    Reading {
        household_id: id(),
        ts_ms,
        measurement,
    }
}

fn load(ts_ms: i64, consumption_w: f64) -> Reading {
    reading(ts_ms, Measurement::Meter { consumption_w })
}

fn pv(ts_ms: i64, pv_w: f64) -> Reading {
    reading(ts_ms, Measurement::Pv { pv_w })
}

fn battery(ts_ms: i64, soc_pct: f64) -> Reading {
    reading(
        ts_ms,
        Measurement::Battery {
            soc_pct,
            power_w: 100.0,
        },
    )
}

/// A home with PV, a battery and a dishwasher that runs for three quarter hours between 10:00 and 16:00.
fn metadata() -> Metadata {
    Metadata {
        name: "seven".to_owned(),
        location: "48.14,11.58".to_owned(),
        pv_capacity_kw: 8.0,
        battery: Some(BatterySpec {
            capacity_kwh: 10.0,
            min_soc_kwh: 1.0,
            max_soc_kwh: 9.5,
            charge_kw: 5.0,
            discharge_kw: 5.0,
            charge_efficiency: 0.95,
            discharge_efficiency: 0.95,
            wear_cost_per_kwh: 0.01,
        }),
        grid: Grid {
            import_limit_kw: Some(20.0),
            export_limit_kw: None,
            ..Grid::OPEN
        },
        appliances: vec![ApplianceSpec {
            id: "dishwasher".to_owned(),
            profile_kw: vec![2.0, 1.0, 0.5],
            window_start_min: 600,
            window_end_min: 960,
        }],
        ..Metadata::of(id(), "dynamic")
    }
}

/// A home of which only the load is measured.
fn plain_metadata() -> Metadata {
    Metadata {
        pv_capacity_kw: 0.0,
        battery: None,
        appliances: Vec::new(),
        ..metadata()
    }
}

/// Hourly prices for ten days.
fn tariff() -> Tariff {
    let period = |hour: i64| PricePeriod {
        start_ms: at(hour * 60),
        end_ms: at(hour * 60 + 60),
        buy_per_kwh: if hour % 24 < 12 { 0.2 } else { 0.4 },
        sell_per_kwh: 0.1,
    };
    Tariff {
        stated: Vec::new(),
        name: "dynamic".to_owned(),
        periods: (-48..240).map(period).collect(),
    }
}

struct World {
    home: Household,
    settings: Settings,
    tariffs: BTreeMap<String, Arc<Tariff>>,
    readings: BTreeMap<(i64, Kind), Reading>,
    assets: Vec<AssetReading>,
    slots: BTreeMap<i64, Slot>,
    schedules: Vec<String>,
    commands: BTreeMap<String, CommandProgress>,
    requests: Vec<OptimizeRequest>,
    sent: Vec<Command>,
    alerts: Vec<AlertKind>,
    outcomes: BTreeMap<&'static str, u32>,
    refused: Vec<(i64, Refusal)>,
    /// Times that a slot was aggregated from the store.
    repairs_count: usize,
    /// The host's clock, where times of readings are judged.
    now_ms: Option<i64>,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            home: Household::new(id()),
            settings,
            tariffs: BTreeMap::from([("dynamic".to_owned(), Arc::new(tariff()))]),
            readings: BTreeMap::new(),
            assets: Vec::new(),
            slots: BTreeMap::new(),
            schedules: Vec::new(),
            commands: BTreeMap::new(),
            requests: Vec::new(),
            sent: Vec::new(),
            alerts: Vec::new(),
            outcomes: BTreeMap::new(),
            refused: Vec::new(),
            repairs_count: 0,
            now_ms: None,
        }
    }

    /// A home that knows its metadata.
    fn with(settings: Settings, metadata: Metadata) -> Self {
        let mut world = Self::new(settings);
        world.tell(Event::MetadataChanged(Arc::new(metadata)));
        world
    }

    #[track_caller]
    fn tell(&mut self, event: Event) {
        let mut repairs = self.tell_once(event);
        while let Some(start_ms) = repairs.pop() {
            let rows: Vec<Slot> = self.slots.values().copied().collect();
            for (start_ms, length) in repair::spans(start_ms, self.settings.slot, &rows) {
                let slot = self.stored_slot_of(start_ms, length);
                self.repairs_count += 1;
                repairs.extend(self.tell_once(Event::SlotRepaired(slot)));
            }
        }
    }

    /// Carries the effects out, except for repairs, which it hands back.
    #[track_caller]
    fn tell_once(&mut self, event: Event) -> Vec<i64> {
        let before = self.home.clone();
        let told_ms = match event {
            Event::ClockTicked { now_ms } => Some(now_ms),
            Event::ReadingArrived(_)
            | Event::AssetRead(_)
            | Event::MetadataChanged(_)
            | Event::ScheduleReady(_)
            | Event::AckArrived(_)
            | Event::SlotRepaired(_) => None,
        };
        let mut effects = Vec::new();
        let env = Env {
            settings: &self.settings,
            tariffs: &self.tariffs,
            now_ms: self.now_ms,
        };
        self.home.handle(event, &env, &mut effects);
        check(&self.home, &self.settings).unwrap();
        check_step(&before, &self.home, told_ms, &self.settings).unwrap();
        let mut repairs = Vec::new();
        for effect in effects {
            match effect {
                Effect::StoreReading(reading) => {
                    let key = (reading.ts_ms, reading.measurement.kind());
                    self.readings.insert(key, reading);
                }
                Effect::StoreAsset(reading) => self.assets.push(reading),
                Effect::StoreSlot { household_id, slot } => {
                    assert_eq!(household_id, id());
                    let before = self.slots.insert(slot.start_ms, slot);
                    let minutes = before.map_or(slot.slot_minutes, |before| before.slot_minutes);
                    assert_eq!(slot.slot_minutes, minutes, "over a slot of another length");
                }
                Effect::StoreMetadata(metadata) => assert_eq!(metadata.household_id, id()),
                Effect::StoreSchedule(schedule) => {
                    self.schedules.push(schedule.schedule_id.clone());
                }
                Effect::StoreCommand(command) => {
                    let issued = CommandProgress {
                        command: command.clone(),
                        state: CommandState::Issued,
                        acked_ms: None,
                        reason: String::new(),
                    };
                    let id = command.command_id.clone();
                    let row = self.commands.entry(id).or_insert(issued);
                    row.command = command;
                }
                Effect::StoreAnswer(answer) => {
                    let row = self.commands.get_mut(&answer.command_id).unwrap();
                    assert_eq!(row.command.from_ms(), answer.from_ms);
                    row.state = answer.status.into();
                    row.acked_ms = Some(answer.acked_ms);
                }
                Effect::RequestOptimize(request) => self.requests.push(*request),
                Effect::SendCommand(command) => self.sent.push(command),
                Effect::RaiseAlert(alert) => self.alerts.push(alert.kind),
                Effect::RepairSlot { start_ms, .. } => repairs.push(start_ms),
                Effect::RefuseReading { reading, refusal } => {
                    self.refused.push((reading.ts_ms, refusal));
                }
                Effect::RefuseAsset { ts_ms, refusal } => self.refused.push((ts_ms, refusal)),
                Effect::CountReading { outcome, .. } | Effect::CountAsset { outcome, .. } => {
                    *self.outcomes.entry(outcome.as_str()).or_default() += 1;
                }
            }
        }
        repairs
    }

    #[track_caller]
    fn read(&mut self, reading: Reading) {
        self.tell(Event::ReadingArrived(reading));
    }

    /// One reading of each meter.
    #[track_caller]
    fn read_all(&mut self, ts_ms: i64) {
        self.read(load(ts_ms, 500.0));
        self.read(pv(ts_ms, 2_000.0));
        self.read(battery(ts_ms, 50.0));
    }

    #[track_caller]
    fn tick(&mut self, now_ms: i64) {
        self.tell(Event::ClockTicked { now_ms });
    }

    #[track_caller]
    fn ack(&mut self, command_id: &str, status: AckStatus) {
        self.tell(Event::AckArrived(Ack {
            household_id: id(),
            command_id: command_id.to_owned(),
            ts_ms: self.home.watermark_ms(),
            status,
            reason: String::new(),
        }));
    }

    #[track_caller]
    fn answer(&mut self, request: &OptimizeRequest, charge_kw: f64) {
        self.tell(Event::ScheduleReady(Arc::new(schedule(request, charge_kw))));
    }

    fn outcome(&self, outcome: ReadingOutcome) -> u32 {
        self.outcomes.get(outcome.as_str()).copied().unwrap_or(0)
    }

    /// The aggregate of a slot from the stored readings alone.
    fn stored_slot(&self, start_ms: i64) -> Slot {
        self.stored_slot_of(start_ms, self.settings.slot)
    }

    fn stored_slot_of(&self, start_ms: i64, length: SlotLength) -> Slot {
        let (minutes, hold_ms) = (length.minutes(), self.settings.hold_ms);
        let end_ms = start_ms + length.ms();
        let span = (start_ms - hold_ms, Kind::Meter)..(end_ms, Kind::Meter);
        let readings = self.readings.range(span).map(|(_, read)| *read);
        let timed = readings.map(|read| (read.ts_ms, read.measurement));
        Slot::of(start_ms, minutes, hold_ms, i64::MAX, timed)
    }

    /// What each slot must be that has a reading or into which one holds on, once all have ended.
    fn offline(&self) -> BTreeMap<i64, Slot> {
        let length = self.settings.slot;
        let starts = self.readings.keys().flat_map(|(ts_ms, _)| {
            let until_ms = (ts_ms + self.settings.hold_ms).max(ts_ms + 1);
            let step = usize::try_from(length.ms()).unwrap();
            (length.start_of_ms(*ts_ms)..until_ms).step_by(step)
        });
        starts
            .map(|start_ms| (start_ms, self.stored_slot(start_ms)))
            .collect()
    }
}

/// A plan that charges with `charge_kw` all the time and runs each appliance as early as it may.
fn schedule(request: &OptimizeRequest, charge_kw: f64) -> Schedule {
    let problem = &request.problem;
    let slot_ms = i64::from(problem.slot_minutes) * MINUTE_MS;
    let metrics = Metrics {
        cost: 0.0,
        grid_import_kwh: 0.0,
        grid_export_kwh: 0.0,
        autarky: 0.0,
        self_consumption: 0.0,
    };
    let planned = |index: usize| PlannedSlot {
        start_ms: problem.start_ms + i64::try_from(index).unwrap() * slot_ms,
        load_kw: problem.load_kw[index],
        pv_kw: problem.pv_kw[index],
        grid_import_kw: 0.0,
        grid_export_kw: 0.0,
        battery_charge_kw: charge_kw.max(0.0),
        battery_discharge_kw: (-charge_kw).max(0.0),
        soc_kwh: 0.0,
        appliances: problem
            .appliances
            .iter()
            .map(|appliance| {
                let first = appliance.earliest_slot as usize;
                let runs = (first..first + appliance.profile_kw.len()).contains(&index);
                (appliance.id.clone(), runs)
            })
            .collect(),
        shadow_price: 0.0,
        policy: None,
        evs: std::collections::BTreeMap::new(),
        heat: std::collections::BTreeMap::new(),
    };
    Schedule {
        schedule_id: request.request_id.clone(),
        request_id: request.request_id.clone(),
        household_id: request.household_id,
        requested_ms: request.requested_ms,
        start_ms: problem.start_ms,
        slot_minutes: problem.slot_minutes,
        adopt: request.adopt,
        solve_us: 1_000,
        forecast: request.forecast,
        plan: Plan {
            status: Status::Optimal,
            relaxed: Vec::new(),
            objective: 0.0,
            solver: "by hand".to_owned(),
            gap: 0.0,
            metrics,
            baseline: metrics,
            slots: (0..problem.load_kw.len()).map(planned).collect(),
        },
    }
}

/// A day of readings, one of each meter every five minutes.
fn lived_day(settings: Settings) -> World {
    let mut world = World::with(settings, metadata());
    for minute in (0..24 * 60).step_by(5) {
        world.read_all(at(minute - 24 * 60));
    }
    world
}
