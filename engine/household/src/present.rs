//! What a home draws, makes, stores and pays at a moment, for sums over a fleet. Nothing here changes a home.

use std::ops::AddAssign;

use crate::household::{Env, Household};
use crate::inputs::Newest;

/// A home at a moment by its newest readings, or the sum over many. Powers are W and not negative, but for the two of
/// batteries, which are positive while charging.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Present {
    /// Homes in the sum.
    pub homes_count: u64,
    /// Load.
    pub load_w: f64,
    /// PV production.
    pub pv_w: f64,
    /// Drawn from the grid.
    pub import_w: f64,
    /// Given to the grid.
    pub export_w: f64,
    /// Into batteries.
    pub charge_w: f64,
    /// Out of batteries.
    pub discharge_w: f64,
    /// Energy in the batteries, Wh.
    pub stored_wh: f64,
    /// Capacity of the batteries, Wh.
    pub capacity_wh: f64,
    /// What the load would cost if all of it were bought at the present prices, currency per hour.
    pub load_cost_per_hour: f64,
    /// What the import costs, currency per hour.
    pub import_cost_per_hour: f64,
    /// What the export earns, currency per hour.
    pub export_revenue_per_hour: f64,
    /// Power of the batteries for which a plan holds.
    pub steered_battery_w: f64,
    /// What those plans expect of them.
    pub planned_battery_w: f64,
}

impl AddAssign for Present {
    fn add_assign(&mut self, other: Self) {
        self.homes_count += other.homes_count;
        self.load_w += other.load_w;
        self.pv_w += other.pv_w;
        self.import_w += other.import_w;
        self.export_w += other.export_w;
        self.charge_w += other.charge_w;
        self.discharge_w += other.discharge_w;
        self.stored_wh += other.stored_wh;
        self.capacity_wh += other.capacity_wh;
        self.load_cost_per_hour += other.load_cost_per_hour;
        self.import_cost_per_hour += other.import_cost_per_hour;
        self.export_revenue_per_hour += other.export_revenue_per_hour;
        self.steered_battery_w += other.steered_battery_w;
        self.planned_battery_w += other.planned_battery_w;
    }
}

impl Household {
    /// Returns the home at `now_ms`; `None` if it lacks metadata, a price for now, or a fresh reading of an input. A
    /// missing value is never 0, but PV that sleeps is.
    #[must_use]
    pub fn present(&self, now_ms: i64, env: &Env<'_>) -> Option<Present> {
        let metadata = self.metadata.as_deref()?;
        let price = env.tariffs.get(&metadata.tariff)?.at_ms(now_ms)?;
        let stale_after_ms = env.settings.stale_after_ms;
        let inputs = self.inputs(now_ms, env.settings);
        inputs.check(metadata, now_ms, stale_after_ms).ok()?;
        let is_fresh = |newest: &Newest| now_ms - newest.ts_ms <= stale_after_ms;
        let load_w = inputs.load_w?.value;
        let pv_w = inputs.pv_w.filter(is_fresh);
        let pv_w = pv_w.filter(|_| metadata.pv_capacity_kw > 0.0);
        let pv_w = pv_w.map_or(0.0, |pv| pv.value);
        let mut present = Present {
            homes_count: 1,
            load_w,
            pv_w,
            load_cost_per_hour: load_w / 1e3 * price.buy_per_kwh,
            ..Present::default()
        };
        let mut battery_w = 0.0;
        if let Some(battery) = &metadata.battery {
            let newest = self.newest_battery_w().filter(is_fresh)?;
            let capacity_wh = battery.capacity_kwh * 1e3;
            battery_w = newest.value;
            present.capacity_wh = capacity_wh;
            present.stored_wh = inputs.soc_pct?.value / 100.0 * capacity_wh;
            if let Some(planned_w) = self.planned_battery_w(now_ms) {
                present.steered_battery_w = newest.value;
                present.planned_battery_w = f64::from(planned_w);
            }
        }
        present.charge_w = battery_w.max(0.0);
        present.discharge_w = (-battery_w).max(0.0);
        let grid_w = load_w - pv_w + battery_w;
        present.import_w = grid_w.max(0.0);
        present.export_w = (-grid_w).max(0.0);
        present.import_cost_per_hour = present.import_w / 1e3 * price.buy_per_kwh;
        present.export_revenue_per_hour = present.export_w / 1e3 * price.sell_per_kwh;
        Some(present)
    }

    /// The battery's newest power among the readings of open slots.
    fn newest_battery_w(&self) -> Option<Newest> {
        let slots = self.windows.open.iter().rev();
        let mut newest = slots.filter_map(|slot| {
            let (offset_ms, value) = slot.readings.newest_power_w()?;
            let ts_ms = slot.start_ms + i64::from(offset_ms);
            Some(Newest { ts_ms, value })
        });
        newest.next()
    }

    /// What the plan that holds expects of the battery, W.
    fn planned_battery_w(&self, now_ms: i64) -> Option<i32> {
        let adopted = self.adopted.as_ref()?;
        adopted.battery_w(adopted.slot_index(now_ms)?)
    }
}
