//! Builds a home's planning problem from its readings, tariff and metadata.
//!
//! Load and PV are forecast out of the home's own past; see the crate `forecast`. A missing value is never taken as 0.

use crate::inputs::Inputs;
use crate::past;
use crate::runs::Runs;
use crate::settings::Settings;
use crate::unplannable::Unplannable;
use forecast::home::{Forecast, HomeForecast};
use model::metadata::{ApplianceSpec, BatterySpec, Metadata};
use model::problem::{Appliance, Battery, Problem, Scenario};
use model::rung::Rungs;
use model::tariff::Tariff;
use model::units::SlotLength;
use model::zone::{DAY_MIN, LocalDay, Zone};

/// A battery departs from storing surplus and covering the load where that promises so much of the mean price more.
/// Without it, what forecasts promised and did not keep made a home on spot prices dearer than the plain rule; twice as
/// much gives away a third of what plans gain. See `docs/explanation/decisions.md`.
const CAUTION_SHARE: f64 = 0.06;

/// Everything that a problem is built from.
#[derive(Debug, Clone, Copy)]
pub struct PlanningInput<'a> {
    /// The home's metadata.
    pub metadata: &'a Metadata,
    /// What the home remembers of its load and PV.
    pub past: &'a HomeForecast,
    /// The home's tariff; `None` if it is not known.
    pub tariff: Option<&'a Tariff>,
    /// The newest reading of each input.
    pub inputs: Inputs,
    /// When each appliance last began a run; see [`crate::runs::runs`]. A run that has begun continues, and a finished one
    /// is not planned again in the same window.
    pub runs: &'a Runs,
    /// The horizon begins with the slot that contains this moment, UTC epoch milliseconds.
    pub now_ms: i64,
    /// The engine's settings.
    pub settings: &'a Settings,
}

/// A problem, and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Stated {
    /// The problem.
    pub problem: Problem,
    /// What its load and PV rest on.
    pub forecast: Rungs,
}

/// Checks cheaply whether a home's problem can be built at `now_ms`. A home that lacks an input calls this with every
/// reading, so it does not build the problem.
///
/// # Errors
/// Returns what is missing.
pub fn check(
    metadata: &Metadata,
    tariff: Option<&Tariff>,
    inputs: &Inputs,
    now_ms: i64,
    settings: &Settings,
) -> Result<(), Unplannable> {
    let tariff = tariff.ok_or(Unplannable::NoTariff)?;
    let start_ms = settings.slot.start_of_ms(now_ms);
    slot_price(tariff, start_ms, settings.slot).ok_or(Unplannable::NoPrice)?;
    inputs.check(metadata, now_ms, settings.stale_after_ms)
}

/// Builds the problem, beginning with the slot that contains `now_ms`. The horizon ends early if prices end. The engine
/// and the API both use this function.
///
/// # Errors
/// Returns what is missing.
pub fn problem(input: &PlanningInput<'_>) -> Result<Stated, Unplannable> {
    let PlanningInput {
        metadata,
        settings,
        inputs,
        now_ms,
        ..
    } = *input;
    check(metadata, input.tariff, &inputs, now_ms, settings)?;
    #[cfg(test)]
    BUILDS.with(|builds| builds.set(builds.get() + 1));
    let start_ms = settings.slot.start_of_ms(now_ms);
    let tariff = input.tariff.ok_or(Unplannable::NoTariff)?;
    let (buy_price, sell_price) = prices(tariff, start_ms, settings);
    let horizon = Horizon {
        start_ms,
        slots_count: buy_price.len(),
        slot: settings.slot,
    };
    let battery = match (&metadata.battery, inputs.soc_pct) {
        (None, _) => None,
        (Some(_), None) => return Err(Unplannable::NoSoc),
        (Some(spec), Some(soc)) => Some(battery(spec, soc.value, &buy_price, &sell_price)),
    };
    let forecast = past::forecast(
        input.past,
        metadata,
        start_ms,
        settings.slot,
        horizon.slots_count,
    );
    let rungs = forecast.rungs;
    let zone = Zone::find_or_utc(&metadata.time_zone);
    let appliances = metadata.appliances.iter();
    let problem = Problem {
        evs: Vec::new(),
        heat_stores: Vec::new(),
        stability: None,
        time_limit_ms: None,
        household_id: metadata.household_id,
        start_ms,
        slot_minutes: settings.slot.minutes(),
        load_kw: kilowatts(forecast.load.median_w()),
        pv_kw: kilowatts(forecast.pv.median_w()),
        scenarios: scenarios(forecast, battery.is_some()),
        caution_per_kwh: CAUTION_SHARE * mean(&buy_price).max(0.0),
        signal: None,
        buy_price,
        sell_price,
        battery,
        grid: metadata.grid,
        pv_curtailable: metadata.pv_curtailable,
        appliances: appliances
            .filter_map(|spec| horizon.appliance(spec, &zone, input.runs.get(&spec.id).copied()))
            .collect(),
        weights: metadata.weights,
    };
    Ok(Stated {
        problem,
        forecast: rungs,
    })
}

#[cfg(test)]
std::thread_local! {
    /// Number of problems built by this thread, for tests.
    pub(crate) static BUILDS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Returns the courses that load and PV may take together, for a home that can do something about them.
fn scenarios(forecast: Forecast, has_battery: bool) -> Vec<Scenario> {
    if !has_battery {
        return Vec::new();
    }
    let Forecast { load, pv, .. } = forecast;
    let courses = load.series_w.into_iter().zip(pv.series_w);
    let weighted = load.weights.into_iter().zip(courses);
    weighted
        .map(|(weight, (load_w, pv_w))| Scenario {
            weight,
            load_kw: kilowatts(load_w),
            pv_kw: kilowatts(pv_w),
        })
        .collect()
}

fn kilowatts(watts: Vec<f64>) -> Vec<f64> {
    watts.into_iter().map(|watts| watts / 1e3).collect()
}

/// Returns the buying and selling prices from `start_ms` up to the first slot whose price is not fully known.
pub(crate) fn prices(tariff: &Tariff, start_ms: i64, settings: &Settings) -> (Vec<f64>, Vec<f64>) {
    let starts = (0..i64::from(settings.horizon_slots)).map(|t| start_ms + t * settings.slot.ms());
    starts
        .map_while(|start_ms| slot_price(tariff, start_ms, settings.slot))
        .unzip()
}

/// Returns the mean prices of a slot, each period weighted by its share of the slot; `None` if part of it has no price.
#[expect(clippy::cast_precision_loss, reason = "an hour in milliseconds fits")]
fn slot_price(tariff: &Tariff, start_ms: i64, slot: SlotLength) -> Option<(f64, f64)> {
    let end_ms = start_ms + slot.ms();
    let first = tariff.at_ms(start_ms)?;
    if first.end_ms >= end_ms {
        return Some((first.buy_per_kwh, first.sell_per_kwh));
    }
    let (mut at_ms, mut buy, mut sell) = (start_ms, 0.0, 0.0);
    while at_ms < end_ms {
        let period = tariff.at_ms(at_ms)?;
        let until_ms = period.end_ms.min(end_ms);
        let share = (until_ms - at_ms) as f64 / slot.ms() as f64;
        buy += share * period.buy_per_kwh;
        sell += share * period.sell_per_kwh;
        at_ms = until_ms;
    }
    Some((buy, sell))
}

/// Returns the battery of the problem. Energy left at the end of the horizon still has a value: later it will either
/// replace a purchase or be sold. We do not know which, so it is worth the mean of both prices. That is less than the
/// average buying price, so under a flat tariff the battery is never charged from the grid for it. Given this value, the
/// end of the horizon needs no other floor than the lowest allowed SoC.
fn battery(spec: &BatterySpec, soc_pct: f64, buy: &[f64], sell: &[f64]) -> Battery {
    let soc_kwh = spec.capacity_kwh * soc_pct / 100.0;
    let worth = f64::midpoint(mean(buy), mean(sell)) * spec.discharge_efficiency;
    Battery {
        capacity_kwh: spec.capacity_kwh,
        soc_kwh: soc_kwh.clamp(0.0, spec.capacity_kwh.max(0.0)),
        min_soc_kwh: spec.min_soc_kwh,
        max_soc_kwh: spec.max_soc_kwh,
        charge_kw: spec.charge_kw,
        discharge_kw: spec.discharge_kw,
        charge_efficiency: spec.charge_efficiency,
        discharge_efficiency: spec.discharge_efficiency,
        end_soc_min_kwh: spec.min_soc_kwh,
        end_value_per_kwh: worth.max(0.0),
        wear_cost_per_kwh: spec.wear_cost_per_kwh,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a horizon has 672 slots at most"
)]
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The slots of the problem.
#[derive(Debug, Clone, Copy)]
struct Horizon {
    start_ms: i64,
    slots_count: usize,
    slot: SlotLength,
}

impl Horizon {
    fn end_ms(self) -> i64 {
        let slots_count = i64::try_from(self.slots_count).expect("a horizon has 672 slots at most");
        self.start_ms + slots_count * self.slot.ms()
    }

    /// Returns the appliance with its window as slot indexes. A run under way can only continue. Otherwise the window is
    /// the first one without a run that lies within the horizon and is long enough; `None` if there is none. A later
    /// problem will contain a window that ends after this horizon.
    fn appliance(
        self,
        spec: &ApplianceSpec,
        zone: &Zone,
        last_run_ms: Option<i64>,
    ) -> Option<Appliance> {
        if spec.profile_kw.is_empty() {
            return None;
        }
        if let Some(rest) = last_run_ms.and_then(|began_ms| self.rest_of_run(spec, began_ms)) {
            return (rest.len() <= self.slots_count).then(|| Appliance {
                id: spec.id.clone(),
                profile_kw: rest.to_vec(),
                earliest_slot: 0,
                latest_end_slot: count(rest.len()),
            });
        }
        let today = zone.day_of(self.start_ms);
        // Yesterday's window may reach into today.
        for day in [today.plus(-1), today, today.plus(1)] {
            let window = window(spec, zone, day);
            let has_run = last_run_ms.is_some_and(|began_ms| window.contains(&began_ms));
            if has_run || window.end > self.end_ms() {
                continue;
            }
            let earliest_slot = self.slots_until(window.start + self.slot.ms() - 1);
            let latest_end_slot = self.slots_until(window.end);
            if earliest_slot + count(spec.profile_kw.len()) > latest_end_slot {
                continue;
            }
            return Some(Appliance {
                id: spec.id.clone(),
                profile_kw: spec.profile_kw.clone(),
                earliest_slot,
                latest_end_slot,
            });
        }
        None
    }

    /// Returns the number of whole slots from the start of the horizon to `ts_ms`; 0 if `ts_ms` has passed.
    fn slots_until(self, ts_ms: i64) -> u32 {
        let slots_count = (ts_ms - self.start_ms).div_euclid(self.slot.ms());
        u32::try_from(slots_count.max(0)).expect("two days have few slots")
    }

    /// Returns the rest of the profile of a run that began at `began_ms`; `None` if the run is over or has not begun.
    fn rest_of_run(self, spec: &ApplianceSpec, began_ms: i64) -> Option<&[f64]> {
        let past = usize::try_from((self.start_ms - began_ms).div_euclid(self.slot.ms())).ok()?;
        spec.profile_kw.get(past..).filter(|rest| !rest.is_empty())
    }
}

/// Returns the window that begins on a local day, UTC epoch milliseconds. Where clocks pass over all of it, it is empty.
fn window(spec: &ApplianceSpec, zone: &Zone, day: LocalDay) -> std::ops::Range<i64> {
    let (start_min, end_min) = (spec.window_start_min, spec.window_end_min);
    let overnight_min = if end_min > start_min { 0 } else { DAY_MIN };
    zone.at_ms(day, start_min)..zone.at_ms(day, end_min + overnight_min)
}

fn count(slots: usize) -> u32 {
    u32::try_from(slots).expect("a horizon has 672 slots at most")
}
