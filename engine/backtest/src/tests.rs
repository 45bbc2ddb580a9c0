//! Small records whose bills are known by hand or by an oracle, and a short backtest of real homes.

mod bills;
mod bounds;
mod layouts;
mod short;

use model::problem::Grid;
use model::units::SlotLength;

use crate::recorded::{PricesKnown, Recorded};
use crate::source::common_battery;

/// 2025-09-12T00:00:00Z
const MIDNIGHT_MS: i64 = 1_757_635_200_000;

/// A home with these loads and PV in kW, all of it counted.
fn home(minutes: u32, load_kw: &[f64], pv_kw: &[f64], buy: &[f64], sell: f64) -> Recorded {
    let watts = |kilowatts: &[f64]| kilowatts.iter().map(|kw| kw * 1e3).collect();
    Recorded {
        name: "one".to_owned(),
        location: String::new(),
        start_ms: MIDNIGHT_MS,
        step: SlotLength::new(minutes).unwrap(),
        load_w: watts(load_kw),
        pv_w: watts(pv_kw),
        pv_capacity_kw: 5.0,
        buy: buy.to_vec(),
        sell: vec![sell; buy.len()],
        prices_known: PricesKnown::Always,
        battery: common_battery(),
        grid: Grid::OPEN,
        pv_curtailable: false,
        scored_from: 0,
    }
}
