//! Problems for tests: short to write, in the units of the scheduler. Never asserts.

use model::problem::{Appliance, Battery, Ev, Grid, Problem, Weights};
use model::units::HouseholdId;

/// Hourly slots, no battery, no limits, cheapest bill. `prices` are what importing costs; export earns nothing.
pub(crate) fn home(load: &[f64], pv: &[f64], prices: &[f64]) -> Problem {
    Problem {
        evs: Vec::new(),
        heat_stores: Vec::new(),
        stability: None,
        time_limit_ms: None,
        scenarios: Vec::new(),
        caution_per_kwh: 0.0,
        signal: None,
        household_id: HouseholdId::new(1).expect("1 is positive"),
        start_ms: 1_757_671_200_000,
        slot_minutes: 60,
        load_kw: load.to_vec(),
        pv_kw: pv.to_vec(),
        buy_price: prices.to_vec(),
        sell_price: vec![0.0; load.len()],
        battery: None,
        grid: Grid {
            import_limit_kw: None,
            export_limit_kw: None,
            ..Grid::OPEN
        },
        pv_curtailable: false,
        appliances: Vec::new(),
        weights: Weights::COST,
    }
}

/// Without losses, empty, with rates of 10 kW.
pub(crate) fn battery(capacity_kwh: f64) -> Battery {
    Battery {
        capacity_kwh,
        soc_kwh: 0.0,
        min_soc_kwh: 0.0,
        max_soc_kwh: capacity_kwh,
        charge_kw: 10.0,
        discharge_kw: 10.0,
        charge_efficiency: 1.0,
        discharge_efficiency: 1.0,
        end_soc_min_kwh: 0.0,
        end_value_per_kwh: 0.0,
        wear_cost_per_kwh: 0.0,
    }
}

/// The same with `efficiency` each way.
pub(crate) fn lossy(capacity_kwh: f64, efficiency: f64) -> Battery {
    Battery {
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
        ..battery(capacity_kwh)
    }
}

pub(crate) fn appliance(id: &str, profile: &[f64], earliest: u32, latest_end: u32) -> Appliance {
    Appliance {
        id: id.to_owned(),
        profile_kw: profile.to_vec(),
        earliest_slot: earliest,
        latest_end_slot: latest_end,
    }
}

/// Arrives with 10 of 40 kWh and wants 30, at 11 kW without losses.
pub(crate) fn ev(id: &str, arrival: u32, departure: u32) -> Ev {
    Ev {
        id: id.to_owned(),
        arrival_slot: arrival,
        departure_slot: departure,
        capacity_kwh: 40.0,
        soc_kwh: 10.0,
        min_soc_kwh: 0.0,
        goal_soc_kwh: 30.0,
        charge_kw: 11.0,
        min_charge_kw: 0.0,
        discharge_kw: 0.0,
        charge_efficiency: 1.0,
        discharge_efficiency: 1.0,
        end_value_per_kwh: 0.0,
        wear_cost_per_kwh: 0.0,
    }
}

/// `value` changed by `change`.
pub(crate) fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}
