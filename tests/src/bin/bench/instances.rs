//! The homes on which solvers are compared: recorded load, PV and prices, as problems made by the engine's own planning.
//! A home follows from its set and its number alone. Nothing here solves anything.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use forecast::home::HomeForecast;
use household::inputs::{Inputs, Newest};
use household::planning::{self, PlanningInput};
use household::settings::{Settings, UNKNOWN_KW_MAX};
use loadtest::draw::Draw;
use loadtest::homes::{self, Home};
use model::metadata::BatterySpec;
use model::problem::{Appliance, Battery, Ev, HeatStore, Problem, Scenario};
use model::reading::Measurement;
use model::slot::{Slot, Stat};
use model::tariff::Tariff;
use model::units::{DAY_MS, HouseholdId, MINUTE_MS, SlotLength};

const SLOTS: u32 = 96;
const SLOT_MS: i64 = 15 * MINUTE_MS;
/// A midnight. The two recorded weeks repeat, so any is fine.
const FIRST_DAY_MS: i64 = 20_000 * DAY_MS;
const DAYS: u32 = 14;
/// What a PV roof earns per kWh, except in hours whose price is below 0.
const FEED_IN_PER_KWH: f64 = 0.08;
/// The same in an old contract.
const OLD_FEED_IN_PER_KWH: f64 = 0.12;
/// Power in each slot of a run, kW.
const APPLIANCES: [(&str, &[f64]); 5] = [
    ("dishwasher", &[2.0, 0.1, 0.1, 1.9, 0.6, 0.1]),
    ("washing_machine", &[1.9, 1.2, 0.2, 0.2, 0.5]),
    ("tumble_dryer", &[2.2, 2.2, 2.1, 1.6, 0.9]),
    ("water_heater", &[3.0, 3.0, 3.0, 1.2]),
    (
        "pool_pump",
        &[
            0.9, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75,
        ],
    ),
];

const SETTINGS: Settings = Settings {
    slot: SlotLength::QUARTER_HOUR,
    horizon_slots: SLOTS,
    program_slots: 8,
    grace_ms: 0,
    hold_ms: 0,
    ahead_ms: i64::MAX / 4,
    kept_ms: i64::MAX / 4,
    stores_readings: true,
    stale_after_ms: i64::MAX,
    load_kw_max: UNKNOWN_KW_MAX,
    pv_kw_max: UNKNOWN_KW_MAX,
    battery_kw_max: UNKNOWN_KW_MAX,
    switching_cost_per_kwh: 0.0,
    switching_cost_per_start: 0.0,
};

/// Homes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// A battery. Selling never earns more than buying costs, nor less than nothing.
    Battery,
    /// The same with one to four appliances.
    Appliances1,
    Appliances2,
    Appliances3,
    Appliances4,
    /// A battery where burning energy, or buying to sell at once, would pay: prices below 0, feed-in worth more than
    /// a purchase after weighting, an export limit that PV passes.
    Nonconvex,
    /// An EV that charges at any power, and no battery.
    Ev,
    /// As the first, with 30 scenarios of load and PV.
    Scenarios30,
    /// An EV as above beside a battery.
    EvBattery,
    /// A tank for hot water beside a battery.
    TankBattery,
    /// An EV as above beside a tank, and no battery.
    EvTank,
}

impl Set {
    pub(crate) const ALL: [Self; 11] = [
        Self::Battery,
        Self::Appliances1,
        Self::Appliances2,
        Self::Appliances3,
        Self::Appliances4,
        Self::Nonconvex,
        Self::Ev,
        Self::Scenarios30,
        Self::EvBattery,
        Self::TankBattery,
        Self::EvTank,
    ];

    /// Its name in rows.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Battery => "battery",
            Self::Appliances1 => "appliances1",
            Self::Appliances2 => "appliances2",
            Self::Appliances3 => "appliances3",
            Self::Appliances4 => "appliances4",
            Self::Nonconvex => "nonconvex",
            Self::Ev => "ev",
            Self::EvBattery => "ev_battery",
            Self::TankBattery => "tank_battery",
            Self::EvTank => "ev_tank",
            Self::Scenarios30 => "scenarios30",
        }
    }

    /// Whether other solvers state the same question: they know one course of load and PV.
    pub(crate) const fn is_certain(self) -> bool {
        !matches!(self, Self::Scenarios30)
    }

    /// Whether the formulation for CBC can state it: it knows no heat.
    pub(crate) const fn is_for_cbc(self) -> bool {
        self.is_certain() && !matches!(self, Self::TankBattery | Self::EvTank)
    }

    /// The first homes of the set.
    pub(crate) fn problems(self, count: u32) -> Result<Vec<Problem>> {
        (0..count).map(|number| self.problem(number)).collect()
    }

    /// Home `number` of the set.
    pub(crate) fn problem(self, number: u32) -> Result<Problem> {
        let id = HouseholdId::new(i64::from(number) + 1).context("a positive id")?;
        let draw = &mut Draw::new(self as u64, id);
        match self {
            Self::Battery => battery_home(id, draw),
            Self::Appliances1 => appliance_home(id, draw, 1),
            Self::Appliances2 => appliance_home(id, draw, 2),
            Self::Appliances3 => appliance_home(id, draw, 3),
            Self::Appliances4 => appliance_home(id, draw, 4),
            Self::Nonconvex => nonconvex_home(id, draw),
            Self::Ev => ev_home(id, draw, None),
            Self::EvBattery => {
                let battery = battery(draw);
                ev_home(id, draw, Some(battery))
            }
            Self::TankBattery => {
                let mut problem = battery_home(id, draw)?;
                add_tank(&mut problem, draw);
                Ok(problem)
            }
            Self::EvTank => {
                let mut problem = ev_home(id, draw, None)?;
                add_tank(&mut problem, draw);
                Ok(problem)
            }
            Self::Scenarios30 => scenario_home(id, draw, 30),
        }
    }
}

fn pick<T: Copy, const N: usize>(draw: &mut Draw, from: [T; N]) -> T {
    let count = u32::try_from(N).expect("a short list");
    from[usize::try_from(draw.below(count)).expect("an index")]
}

fn between(draw: &mut Draw, low: f64, high: f64) -> f64 {
    low + (high - low) * draw.unit()
}

fn battery_home(id: HouseholdId, draw: &mut Draw) -> Result<Problem> {
    let battery = battery(draw);
    let start_ms = start_ms(draw, 0..SLOTS);
    let tariff = convex_tariff(draw, start_ms);
    stated(id, draw, Some(battery), start_ms, &tariff)
}

fn appliance_home(id: HouseholdId, draw: &mut Draw, count: u32) -> Result<Problem> {
    let mut problem = battery_home(id, draw)?;
    let first = draw.below(5);
    for number in first..first + count {
        let (id, profile_kw) = APPLIANCES[usize::try_from(number % 5)?];
        let size = between(draw, 0.85, 1.15);
        let window_slots = 16 + draw.below(41);
        let earliest_slot = draw.below(SLOTS - window_slots + 1);
        problem.appliances.push(Appliance {
            id: id.to_owned(),
            profile_kw: profile_kw.iter().map(|power| power * size).collect(),
            earliest_slot,
            latest_end_slot: earliest_slot + window_slots,
        });
    }
    Ok(problem)
}

fn nonconvex_home(id: HouseholdId, draw: &mut Draw) -> Result<Problem> {
    let battery = battery(draw);
    let start_ms = start_ms(draw, 0..SLOTS);
    match draw.below(3) {
        0 => {
            let mut tariff = convex_tariff(draw, start_ms);
            for period in &mut tariff.periods {
                period.sell_per_kwh = OLD_FEED_IN_PER_KWH;
            }
            let mut problem = stated(id, draw, Some(battery), start_ms, &tariff)?;
            // A kWh sold counts twice, and more than most cost.
            problem.weights.revenue = 1.0;
            Ok(problem)
        }
        1 => {
            let tariff = convex_tariff(draw, start_ms);
            let mut problem = stated(id, draw, Some(battery.clone()), start_ms, &tariff)?;
            if let Some(limit_kw) = export_limit_kw(&problem) {
                problem.grid.export_limit_kw = Some(limit_kw);
                return Ok(problem);
            }
            // Too little sun for an export limit.
            negative_home(id, draw, battery, start_ms)
        }
        _ => negative_home(id, draw, battery, start_ms),
    }
}

/// Wholesale prices with a small fee, lowered until some are below 0, so that buying earns money there. Without wear,
/// which at these prices would cost more than burning energy earns.
fn negative_home(
    id: HouseholdId,
    draw: &mut Draw,
    mut battery: BatterySpec,
    start_ms: i64,
) -> Result<Problem> {
    const FEE_PER_KWH: f64 = 0.02;
    const VAT: f64 = 1.19;
    battery.wear_cost_per_kwh = 0.0;
    let mut tariff = homes::prices(start_ms, start_ms + DAY_MS);
    let spot = tariff.periods.iter().map(|period| period.sell_per_kwh);
    let least = spot.fold(f64::INFINITY, f64::min);
    let lowered = (least + between(draw, 0.03, 0.09)).max(0.0);
    for period in &mut tariff.periods {
        period.sell_per_kwh -= lowered;
        period.buy_per_kwh = (period.sell_per_kwh + FEE_PER_KWH) * VAT;
    }
    let mut problem = stated(id, draw, Some(battery), start_ms, &tariff)?;
    problem.pv_curtailable = draw.below(2) == 0;
    Ok(problem)
}

/// The lowest limit, from half of the largest surplus on, that the battery can keep with the room it has at the start;
/// `None` where PV passes the load by little, or the battery is full.
fn export_limit_kw(problem: &Problem) -> Option<f64> {
    let battery = problem.battery.as_ref()?;
    let powers = problem.pv_kw.iter().zip(&problem.load_kw);
    let surplus_kw: Vec<f64> = powers.map(|(pv, load)| pv - load).collect();
    let largest_kw = surplus_kw.iter().copied().fold(0.0, f64::max);
    let is_kept = |limit_kw: f64| {
        let over = surplus_kw.iter().map(|surplus| surplus - limit_kw);
        let over: Vec<f64> = over.map(|power| power.max(0.0)).collect();
        let charged_kwh = 0.25 * battery.charge_efficiency * over.iter().sum::<f64>();
        charged_kwh <= battery.max_soc_kwh - battery.soc_kwh
            && over.iter().all(|power| *power <= battery.charge_kw)
    };
    let shares = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
    let mut limits = shares.iter().map(|share| share * largest_kw);
    limits.find(|limit| largest_kw > 0.5 && is_kept(*limit))
}

/// The load and PV of the days before, each larger or smaller as a whole.
fn scenario_home(id: HouseholdId, draw: &mut Draw, count: u32) -> Result<Problem> {
    let mut problem = battery_home(id, draw)?;
    let home = Home::new(id, homes::SEED);
    for days_back in 1..=i64::from(count) {
        let first_ms = problem.start_ms - days_back * DAY_MS + SLOT_MS / 2;
        let (load_share, pv_share) = (between(draw, 0.7, 1.3), between(draw, 0.4, 1.2));
        let moments = (0..i64::from(SLOTS)).map(|t| first_ms + t * SLOT_MS);
        let loads = moments.clone().map(|at_ms| home.load_w(at_ms));
        let pvs = moments.map(|at_ms| home.pv_w(at_ms));
        problem.scenarios.push(Scenario {
            weight: between(draw, 0.2, 1.0),
            load_kw: loads.map(|watts| load_share * watts / 1_000.0).collect(),
            pv_kw: pvs.map(|watts| pv_share * watts / 1_000.0).collect(),
        });
    }
    Ok(problem)
}

/// An EV that comes home in the afternoon and leaves in the morning; every fifth can feed the home.
fn ev_home(id: HouseholdId, draw: &mut Draw, battery: Option<BatterySpec>) -> Result<Problem> {
    // From 08:00 on, so that the morning is inside the horizon.
    let start_ms = start_ms(draw, 32..84);
    let tariff = convex_tariff(draw, start_ms);
    let mut problem = stated(id, draw, battery, start_ms, &tariff)?;
    let start_slot = u32::try_from(start_ms.rem_euclid(DAY_MS) / SLOT_MS)?;
    // 15:00 to 21:00, and 04:30 to 07:30 of the next day.
    let arrival_slot = (60 + draw.below(25)).saturating_sub(start_slot);
    let departure_slot = SLOTS + 18 + draw.below(13) - start_slot;
    let capacity_kwh = pick(draw, [40.0, 52.0, 58.0, 64.0, 77.0]);
    let charge_kw = pick(draw, [3.7, 7.4, 11.0]);
    let efficiency = pick(draw, [0.9, 0.92, 0.95]);
    let soc_kwh = capacity_kwh * between(draw, 0.2, 0.6);
    let reach_kwh = 0.25 * f64::from(departure_slot - arrival_slot) * charge_kw * efficiency;
    let wished_kwh = capacity_kwh * between(draw, 0.6, 0.9);
    problem.evs.push(Ev {
        id: "car".to_owned(),
        arrival_slot,
        departure_slot,
        capacity_kwh,
        soc_kwh,
        min_soc_kwh: 0.2 * capacity_kwh,
        goal_soc_kwh: wished_kwh.min(soc_kwh + 0.95 * reach_kwh),
        charge_kw,
        min_charge_kw: 0.0,
        discharge_kw: if draw.below(5) == 0 { 5.0 } else { 0.0 },
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
        end_value_per_kwh: 0.0,
        wear_cost_per_kwh: pick(draw, [0.0, 0.01, 0.03]),
    });
    Ok(problem)
}

/// A battery and 200 to 400 litres of hot water, with showers in the morning and in the evening.
fn add_tank(problem: &mut Problem, draw: &mut Draw) {
    let start_slot = problem.start_ms.rem_euclid(DAY_MS) / SLOT_MS;
    let min_c = between(draw, 42.0, 48.0);
    let cop = pick(draw, [1.0, 3.0]);
    let draws = (start_slot..start_slot + i64::from(SLOTS)).map(|slot| match slot % 96 {
        24..32 | 76..84 => between(draw, 0.3, 1.5),
        _ => 0.05,
    });
    problem.heat_stores.push(HeatStore {
        id: "tank".to_owned(),
        draw_kw: draws.collect(),
        power_kw: pick(draw, [1.5, 2.0, 3.0]),
        cop: vec![cop; problem.load_kw.len()],
        kwh_per_k: pick(draw, [0.23, 0.35, 0.46]),
        loss_kw_per_k: pick(draw, [0.002, 0.004]),
        temperature_c: min_c + between(draw, 3.0, 10.0),
        min_c,
        max_c: min_c + 15.0,
        ambient_c: vec![18.0; problem.load_kw.len()],
        end_value_per_kwh: 0.05,
    });
}

fn battery(draw: &mut Draw) -> BatterySpec {
    let (capacity_kwh, power_kw) = pick(
        draw,
        [
            (5.1, 2.5),
            (7.7, 3.6),
            (10.0, 5.0),
            (12.8, 5.0),
            (16.0, 8.0),
        ],
    );
    let efficiency = pick(draw, [0.93, 0.95, 0.96, 0.975]);
    BatterySpec {
        capacity_kwh,
        min_soc_kwh: pick(draw, [0.05, 0.1, 0.2]) * capacity_kwh,
        max_soc_kwh: pick(draw, [0.95, 1.0]) * capacity_kwh,
        charge_kw: power_kw,
        discharge_kw: power_kw,
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
        wear_cost_per_kwh: pick(draw, [0.0, 0.005, 0.01, 0.02, 0.04]),
    }
}

/// Start of a horizon on some day, in one of `slots` of it.
fn start_ms(draw: &mut Draw, slots: std::ops::Range<u32>) -> i64 {
    let slot = slots.start + draw.below(slots.end - slots.start);
    FIRST_DAY_MS + i64::from(draw.below(DAYS)) * DAY_MS + i64::from(slot) * SLOT_MS
}

/// Day-ahead prices to buy. Half of the homes sell at the exchange's price and half at a fixed one, neither of them
/// below 0.
fn convex_tariff(draw: &mut Draw, start_ms: i64) -> Tariff {
    let mut tariff = homes::prices(start_ms, start_ms + DAY_MS);
    let is_fixed = draw.below(2) == 0;
    for period in &mut tariff.periods {
        let spot_per_kwh = period.sell_per_kwh;
        period.sell_per_kwh = if spot_per_kwh < 0.0 {
            0.0
        } else if is_fixed {
            FEED_IN_PER_KWH
        } else {
            spot_per_kwh
        };
    }
    tariff
}

/// The home's problem as the engine states it, without appliances. Load and PV are those of the day before, so that
/// solvers meet the peaks of a recorded day.
fn stated(
    id: HouseholdId,
    draw: &mut Draw,
    battery: Option<BatterySpec>,
    start_ms: i64,
    tariff: &Tariff,
) -> Result<Problem> {
    let home = Home::new(id, homes::SEED);
    let mut metadata = home.metadata();
    metadata.appliances.clear();
    metadata.battery = battery;
    let slots: Vec<Slot> = (1..=i64::from(SLOTS))
        .rev()
        .map(|back| slot(&home, start_ms - back * SLOT_MS))
        .collect();
    let input = PlanningInput {
        metadata: &metadata,
        past: &HomeForecast::new(SETTINGS.slot),
        tariff: Some(tariff),
        inputs: Inputs {
            soc_pct: Some(Newest {
                ts_ms: start_ms,
                value: 0.0,
            }),
            ..Inputs::of(&slots, start_ms, SETTINGS.slot)
        },
        runs: &BTreeMap::new(),
        now_ms: start_ms,
        settings: &SETTINGS,
    };
    let stated = planning::problem(&input).map_err(|reason| anyhow!(reason.as_str()))?;
    let mut problem = stated.problem;
    let kilowatts = |series: fn(&Slot) -> &Stat| {
        let watts = slots.iter().map(|slot| series(slot).mean().unwrap_or(0.0));
        watts.map(|watts| watts / 1e3).collect()
    };
    problem.load_kw = kilowatts(|slot| &slot.load_w);
    if metadata.pv_capacity_kw > 0.0 {
        problem.pv_kw = kilowatts(|slot| &slot.pv_w);
    }
    problem.scenarios = Vec::new();
    if let Some(battery) = &mut problem.battery {
        let Battery {
            min_soc_kwh,
            max_soc_kwh,
            ..
        } = *battery;
        battery.soc_kwh = between(draw, min_soc_kwh, max_soc_kwh);
    }
    Ok(problem)
}

/// A slot of which one reading of each series is known, in its middle.
fn slot(home: &Home, start_ms: i64) -> Slot {
    let mut slot = Slot::empty(start_ms, SETTINGS.slot.minutes());
    let at_ms = start_ms + SLOT_MS / 2;
    let consumption_w = home.load_w(at_ms);
    slot.add(at_ms, &Measurement::Meter { consumption_w });
    let pv_w = home.pv_w(at_ms);
    slot.add(at_ms, &Measurement::Pv { pv_w });
    slot
}

#[cfg(test)]
mod tests {
    use model::schedule::Status;
    use scheduler::{Solver, validate, verify};

    use super::*;

    const HOMES: u32 = 60;

    fn problems(set: Set) -> Vec<Problem> {
        set.problems(HOMES).unwrap()
    }

    #[test]
    fn a_home_follows_from_its_number_and_no_two_are_alike() {
        for set in Set::ALL {
            assert_eq!(problems(set), problems(set));
            for pair in problems(set).windows(2) {
                assert_ne!(pair[0].load_kw, pair[1].load_kw, "{}", set.as_str());
            }
        }
    }

    #[test]
    fn every_home_can_be_stated_and_keeps_its_limits() {
        let mut solver = Solver::default();
        for set in Set::ALL {
            for (number, problem) in problems(set).iter().enumerate() {
                assert_eq!(validate(problem), Ok(()));
                assert_eq!(problem.load_kw.len(), 96);
                let plan = solver.solve(problem).unwrap();
                assert_eq!(verify(problem, &plan), []);
                assert_eq!(plan.status, Status::Optimal, "{} {number}", set.as_str());
                assert_eq!(plan.gap, 0.0, "{} {number}", set.as_str());
            }
        }
    }

    #[test]
    fn sets_have_what_they_are_named_for() {
        let count = |set: Set| {
            let problems = problems(set);
            let first = problems[0].appliances.len();
            assert!(problems.iter().all(|home| home.appliances.len() == first));
            first
        };
        assert_eq!(count(Set::Battery), 0);
        assert_eq!(count(Set::Appliances1), 1);
        assert_eq!(count(Set::Appliances2), 2);
        assert_eq!(count(Set::Appliances3), 3);
        assert_eq!(count(Set::Appliances4), 4);
        for home in problems(Set::Battery) {
            let mut prices = home.buy_price.iter().zip(&home.sell_price);
            assert!(prices.all(|(buy, sell)| buy >= sell && *sell >= 0.0));
        }
        for home in problems(Set::Scenarios30) {
            assert_eq!(home.scenarios.len(), 30);
        }
        for home in problems(Set::Ev) {
            assert!(home.battery.is_none() && home.evs.len() == 1);
            assert_eq!(home.evs[0].min_charge_kw, 0.0);
        }
        for home in problems(Set::EvBattery) {
            assert!(home.battery.is_some() && home.evs.len() == 1);
        }
        for home in problems(Set::TankBattery) {
            assert!(home.battery.is_some() && home.heat_stores.len() == 1);
        }
        for home in problems(Set::EvTank) {
            assert!(home.battery.is_none() && home.evs.len() == 1 && home.heat_stores.len() == 1);
        }
    }

    #[test]
    fn each_way_not_to_be_convex_is_there() {
        let homes = problems(Set::Nonconvex);
        let negative = |home: &&Problem| home.buy_price.iter().any(|price| *price < 0.0);
        let doubled = |home: &&Problem| home.weights.revenue > 0.0;
        let limited = |home: &&Problem| home.grid.export_limit_kw.is_some();
        for count in [
            homes.iter().filter(negative).count(),
            homes.iter().filter(doubled).count(),
            homes.iter().filter(limited).count(),
        ] {
            assert!(count >= 10, "{count}");
        }
        let is_one = |home: &Problem| negative(&home) || doubled(&home) || limited(&home);
        assert!(homes.iter().all(is_one));
    }
}
