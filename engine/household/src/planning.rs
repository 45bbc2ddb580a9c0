//! States a home's problem from what is known of it. Missing is never zero: what cannot be known is said, not guessed.
//!
//! The forecast is persistence: each slot looks as the same time of day did in the last 24 hours.

use std::collections::BTreeMap;

use crate::command::{CommandProgress, CommandState};
use crate::household::Settings;
use crate::metadata::{ApplianceSpec, Metadata};
use crate::problem::{Appliance, Battery, Problem};
use crate::slot::Slot;
use crate::tariff::Tariff;
use crate::units::{DAY_MS, MINUTE_MS};

/// What is left in the battery at the horizon's end is worth this share of the mean price: less than what it costs to
/// buy, so that nothing is bought only to be kept, and more than nothing, so that it is not thrown away.
const END_VALUE_SHARE: f64 = 0.8;

/// What planning needs.
#[derive(Debug, Clone, Copy)]
pub struct PlanningInput<'i> {
    pub metadata: &'i Metadata,
    /// Ended slots of the last 24 h, ascending.
    pub slots: &'i [Slot],
    pub tariff: Option<&'i Tariff>,
    /// Newest SoC, percent.
    pub soc_pct: Option<f64>,
    /// When each appliance last started; see [`runs`].
    pub runs: &'i BTreeMap<String, i64>,
    pub now_ms: i64,
    pub settings: &'i Settings,
}

/// Why there is no problem to state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplannable {
    /// No load was read in the last 24 h.
    NoLoad,
    /// The home has PV, and none was read in the last 24 h.
    NoPv,
    /// The home has a battery, and its SoC was not read.
    NoSoc,
    /// The home's tariff is not known.
    NoTariff,
    /// The tariff has no price for the current slot.
    NoPrice,
}

impl Unplannable {
    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoLoad => "no load was read in the last 24 hours",
            Self::NoPv => "no PV power was read in the last 24 hours",
            Self::NoSoc => "the battery's state of charge was not read",
            Self::NoTariff => "the household's tariff is not known",
            Self::NoPrice => "the tariff has no price for the current slot",
        }
    }
}

/// States the problem from the slot that holds `now_ms` on. The horizon ends early where prices end.
pub fn problem(input: &PlanningInput<'_>) -> Result<Problem, Unplannable> {
    let PlanningInput {
        metadata,
        slots,
        settings,
        ..
    } = *input;
    let length = settings.slot;
    let start_ms = length.start_of_ms(input.now_ms);
    let tariff = input.tariff.ok_or(Unplannable::NoTariff)?;
    let starts = (0..i64::from(settings.horizon_slots)).map(|index| start_ms + index * length.ms());
    let prices: Vec<_> = starts
        .clone()
        .map_while(|at_ms| tariff.at_ms(at_ms))
        .collect();
    if prices.is_empty() {
        return Err(Unplannable::NoPrice);
    }
    let starts: Vec<i64> = starts.take(prices.len()).collect();
    let mut load_kw =
        persistence(slots, &starts, |slot| slot.load_w.mean()).ok_or(Unplannable::NoLoad)?;
    let pv_kw = if metadata.pv_capacity_kw > 0.0 {
        persistence(slots, &starts, |slot| slot.pv_w.mean()).ok_or(Unplannable::NoPv)?
    } else {
        vec![0.0; starts.len()]
    };
    let appliances = appliances(input, &starts, &mut load_kw);
    let buy_price: Vec<f64> = prices.iter().map(|period| period.buy_per_kwh).collect();
    Ok(Problem {
        household_id: metadata.household_id,
        start_ms,
        slot_minutes: length.minutes(),
        battery: battery(metadata, input.soc_pct, &buy_price)?,
        load_kw,
        pv_kw,
        sell_price: prices.iter().map(|period| period.sell_per_kwh).collect(),
        buy_price,
        grid: metadata.grid,
        pv_curtailable: metadata.pv_curtailable,
        appliances,
        weights: metadata.weights,
    })
}

/// Each slot takes the value of the slot at the same time of day; where that was not measured, the one nearest to it
/// in time of day. `None` where nothing was measured.
fn persistence(slots: &[Slot], starts: &[i64], pick: fn(&Slot) -> Option<f64>) -> Option<Vec<f64>> {
    let mut known: Vec<(i64, f64)> = slots
        .iter()
        .filter_map(|slot| Some((slot.start_ms.rem_euclid(DAY_MS), pick(slot)? / 1e3)))
        .collect();
    // Of two days' values for one time of day the later stands behind and wins below.
    known.sort_by_key(|(of_day_ms, _)| *of_day_ms);
    known.reverse();
    known.dedup_by_key(|(of_day_ms, _)| *of_day_ms);
    known.reverse();
    let (first, last) = (*known.first()?, *known.last()?);
    let value_at = |start_ms: i64| {
        let of_day_ms = start_ms.rem_euclid(DAY_MS);
        let at = known.partition_point(|(known_ms, _)| *known_ms < of_day_ms);
        let after = known
            .get(at)
            .map_or((first.0 + DAY_MS, first.1), |found| *found);
        let before = at
            .checked_sub(1)
            .map_or((last.0 - DAY_MS, last.1), |at| known[at]);
        if after.0 - of_day_ms <= of_day_ms - before.0 {
            after.1
        } else {
            before.1
        }
    };
    Some(starts.iter().map(|start_ms| value_at(*start_ms)).collect())
}

fn battery(
    metadata: &Metadata,
    soc_pct: Option<f64>,
    buy_price: &[f64],
) -> Result<Option<Battery>, Unplannable> {
    let Some(spec) = &metadata.battery else {
        return Ok(None);
    };
    let soc_kwh = soc_pct.ok_or(Unplannable::NoSoc)? / 100.0 * spec.capacity_kwh;
    let (min_soc_kwh, max_soc_kwh) = (spec.min_soc_kwh, spec.max_soc_kwh);
    #[expect(clippy::cast_precision_loss, reason = "at most 672 slots")]
    let mean_price = buy_price.iter().sum::<f64>() / buy_price.len() as f64;
    Ok(Some(Battery {
        capacity_kwh: spec.capacity_kwh,
        // A meter may stand a little outside of the plan's bounds; the plan starts at the nearest.
        soc_kwh: soc_kwh.clamp(min_soc_kwh, max_soc_kwh),
        min_soc_kwh,
        max_soc_kwh,
        charge_kw: spec.charge_kw,
        discharge_kw: spec.discharge_kw,
        charge_efficiency: spec.charge_efficiency,
        discharge_efficiency: spec.discharge_efficiency,
        end_soc_min_kwh: min_soc_kwh,
        end_value_per_kwh: (mean_price * spec.discharge_efficiency * END_VALUE_SHARE).max(0.0),
        wear_cost_per_kwh: spec.wear_cost_per_kwh,
    }))
}

/// The appliances that are still to run, at most one window each. One that runs now is load until it ends.
fn appliances(input: &PlanningInput<'_>, starts: &[i64], load_kw: &mut [f64]) -> Vec<Appliance> {
    let slot_ms = input.settings.slot.ms();
    let start_ms = starts[0];
    let mut planned = Vec::new();
    for spec in &input.metadata.appliances {
        let run = input.runs.get(&spec.id).copied();
        if let Some(run_ms) = run {
            for (index, power_kw) in spec.profile_kw.iter().enumerate() {
                let at_ms = run_ms + slots_ms(index, slot_ms);
                if let Ok(at) = starts.binary_search(&at_ms) {
                    load_kw[at] += power_kw;
                }
            }
        }
        planned.extend(next_window(spec, run, start_ms, slot_ms, starts.len()));
    }
    planned
}

fn slots_ms(count: usize, slot_ms: i64) -> i64 {
    i64::try_from(count).expect("a profile is short") * slot_ms
}

/// The first window, from yesterday's on, in which the appliance has not run and still can, within the horizon.
fn next_window(
    spec: &ApplianceSpec,
    run: Option<i64>,
    start_ms: i64,
    slot_ms: i64,
    horizon_count: usize,
) -> Option<Appliance> {
    let today_ms = start_ms - start_ms.rem_euclid(DAY_MS);
    let horizon_end_ms = start_ms + slots_ms(horizon_count, slot_ms);
    let mut window_end_min = i64::from(spec.window_end_min);
    if spec.window_end_min <= spec.window_start_min {
        window_end_min += DAY_MS / MINUTE_MS;
    }
    (-1..=7).find_map(|day| {
        let day_ms = today_ms + day * DAY_MS;
        let opens_ms = day_ms + i64::from(spec.window_start_min) * MINUTE_MS;
        let closes_ms = day_ms + window_end_min * MINUTE_MS;
        if run.is_some_and(|run_ms| (opens_ms..closes_ms).contains(&run_ms)) {
            return None;
        }
        let earliest = (opens_ms.max(start_ms) - start_ms + slot_ms - 1) / slot_ms;
        let latest_end = (closes_ms.min(horizon_end_ms) - start_ms).div_euclid(slot_ms);
        let length = i64::try_from(spec.profile_kw.len()).expect("a profile is short");
        // A window that the horizon cuts is planned only when it fits whole, else the run would be pressed into its start.
        let whole = closes_ms <= horizon_end_ms || opens_ms <= start_ms;
        (whole && earliest + length <= latest_end).then(|| Appliance {
            id: spec.id.clone(),
            profile_kw: spec.profile_kw.clone(),
            earliest_slot: u32::try_from(earliest).expect("within the horizon"),
            latest_end_slot: u32::try_from(latest_end).expect("within the horizon"),
        })
    })
}

/// When each appliance last started, from commands that were applied, ascending in time.
#[must_use]
pub fn runs(commands: &[CommandProgress]) -> BTreeMap<String, i64> {
    let mut runs: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for progress in commands
        .iter()
        .filter(|progress| progress.state == CommandState::Applied)
    {
        let command = &progress.command;
        for (id, _) in command.appliances.iter().filter(|(_, runs)| **runs) {
            let run = runs
                .entry(id.clone())
                .or_insert((command.not_before_ms, command.expires_ms));
            // A gap between commands means that the appliance was off, and this is a new run.
            if command.not_before_ms > run.1 {
                *run = (command.not_before_ms, command.expires_ms);
            }
            run.1 = run.1.max(command.expires_ms);
        }
    }
    runs.into_iter()
        .map(|(id, (started_ms, _))| (id, started_ms))
        .collect()
}
