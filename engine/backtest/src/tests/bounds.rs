use super::*;
use crate::bound::lowest_cost;
use proptest::prelude::*;

/// The lowest cost by trying every move between contents of a fine grid, which can only cost more.
fn by_grid(home: &Recorded, content_kwh: f64, places: usize) -> f64 {
    let battery = &home.battery;
    let width = battery.max_soc_kwh / places as f64;
    let worth = home.left_per_kwh();
    let mut to_go: Vec<f64> = (0..=places)
        .map(|place| -worth * width * place as f64)
        .collect();
    for step in home.steps().collect::<Vec<_>>().iter().rev() {
        let Some(net_kw) = step.net_kw else { continue };
        let before = (0..=places).map(|from| {
            let costs = (0..=places).filter_map(|to| {
                let change = width * (to as f64 - from as f64);
                let battery_kw = if change > 0.0 {
                    change / battery.charge_efficiency / step.hours
                } else {
                    change * battery.discharge_efficiency / step.hours
                };
                let fits =
                    (-battery.discharge_kw - 1e-9..=battery.charge_kw + 1e-9).contains(&battery_kw);
                let grid_kw = net_kw + battery_kw;
                let price = if grid_kw > 0.0 { step.buy } else { step.sell };
                fits.then_some(price * grid_kw * step.hours + to_go[to])
            });
            costs.fold(f64::INFINITY, f64::min)
        });
        to_go = before.collect();
    }
    to_go[(content_kwh / width).round() as usize] + worth * content_kwh
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The bound is never above what a battery can do, and as near as the grid is fine.
    #[test]
    fn the_bound_is_the_lowest_cost(
        steps in prop::collection::vec((0.0..4.0f64, 0.0..5.0f64, 0.1..0.6f64), 1..12),
        sell in -0.05..0.1f64,
        start in 0_u32..=10,
        missing in prop::option::of(0..12_usize),
    ) {
        let load_kw: Vec<f64> = steps.iter().map(|step| step.0).collect();
        let pv_kw: Vec<f64> = steps.iter().map(|step| step.1).collect();
        let buy: Vec<f64> = steps.iter().map(|step| step.2).collect();
        let mut home = home(60, &load_kw, &pv_kw, &buy, sell);
        if let Some(step) = missing.filter(|step| *step < steps.len()) {
            home.load_w[step] = f64::NAN;
        }
        let bound = lowest_cost(&home, f64::from(start));
        let found = by_grid(&home, f64::from(start), 400);
        prop_assert!(bound <= found + 1e-9, "{bound} is above {found}");
        // Off the grid by half a place in each step, at a price of 0.6 over 0.95 at most.
        let apart = 0.025 * 0.64 * steps.len() as f64;
        prop_assert!(found - bound <= apart, "{bound} is far below {found}");
    }
}
