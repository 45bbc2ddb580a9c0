use super::*;
use crate::device::{Bill, Device, self_consumption};
use crate::run::run;
use model::policy::SlotPolicy;

fn near(one: f64, other: f64) {
    assert!((one - other).abs() < 1e-9, "{one} is not {other}");
}

/// An hour with 2 kW left over, then one in which 1.5 kW is missing.
#[test]
fn the_rule_by_hand() {
    let mut home = home(60, &[1.0, 2.0], &[3.0, 0.5], &[0.3, 0.4], 0.1);
    let rule = self_consumption(&home);
    let mut device = Device::new(&home);
    let first = device.carry_out(Some(&rule), &home.step_at(0));
    near(first.battery_kw, 2.0);
    near(device.content_kwh(), 1.9);
    near(first.cost, 0.0);
    // 1.5 kWh out of the battery take 1.5 / 0.95 from its content.
    let second = device.carry_out(Some(&rule), &home.step_at(1));
    near(second.battery_kw, -1.5);
    near(device.content_kwh(), 1.9 - 1.5 / 0.95);
    near(second.import_kwh, 0.0);
    let mut bill = Bill::default();
    bill.add(&first, home.left_per_kwh());
    bill.add(&second, home.left_per_kwh());
    // Mean prices of 0.35 and 0.1, and 95 % of a kWh comes out.
    near(home.left_per_kwh(), 0.225 * 0.95);
    near(bill.cost, -(1.9 - 1.5 / 0.95) * 0.225 * 0.95);
    near(bill.wear_kwh, 1.9 + 1.5 / 0.95);
    // Where a step is missing, nothing moves and nothing is paid.
    home.load_w[1] = f64::NAN;
    let nothing = device.carry_out(Some(&rule), &home.step_at(1));
    near(nothing.cost + nothing.battery_kw + nothing.content_kwh, 0.0);
}

#[test]
fn a_set_point_is_held_whatever_the_load_does() {
    let home = home(60, &[0.0, 4.0], &[0.0, 0.0], &[0.3, 0.3], 0.1);
    let mut device = Device::new(&home);
    let two_kw = SlotPolicy::setpoint(2.0);
    near(device.carry_out(Some(&two_kw), &home.step_at(0)).cost, 0.6);
    near(device.carry_out(Some(&two_kw), &home.step_at(1)).cost, 1.8);
    near(device.content_kwh(), 3.8);
}

#[test]
fn pv_that_costs_is_thrown_away_where_that_may_be() {
    let mut home = home(60, &[0.0], &[3.0], &[0.1], -0.2);
    let moved = Device::new(&home).carry_out(None, &home.step_at(0));
    near(moved.cost, 0.6);
    home.pv_curtailable = true;
    let moved = Device::new(&home).carry_out(None, &home.step_at(0));
    near(moved.cost + moved.export_kwh, 0.0);
}

/// Twenty days with a dear evening and lumpy loads: every contender is where it must be.
#[test]
fn contenders_are_in_order() {
    let hours = 20 * 24;
    let noise = |hour: u32| f64::from(hour.wrapping_mul(2_654_435_761) >> 20) / 4_096.0;
    let load_kw: Vec<f64> = (0..hours).map(|hour| 0.2 + 2.0 * noise(hour)).collect();
    let pv_kw: Vec<f64> = (0..hours)
        .map(|hour| (4.0 - (f64::from(hour % 24) - 11.5).abs()).max(0.0) * noise(hour / 24 + 1))
        .collect();
    let buy: Vec<f64> = (0..hours)
        .map(|hour| if hour % 24 > 16 { 0.5 } else { 0.2 })
        .collect();
    let mut home = home(60, &load_kw, &pv_kw, &buy, 0.05);
    home.scored_from = 7 * 24;
    let mut steps_count = 0;
    let found = run(&home, &mut |steps| steps_count += steps).figures;
    assert_eq!(steps_count, crate::run::passes() * 480);
    let costs = found.costs;
    assert!(found.cost_bound <= costs.perfect + 1e-9, "{found:?}");
    assert!(
        costs.perfect < costs.hearth && costs.hearth < costs.rule,
        "{costs:?}"
    );
    assert!(costs.rule < costs.none, "{costs:?}");
    // At steps of a slot, a week's foresight loses next to nothing.
    assert!(costs.perfect - found.cost_bound < 0.01 * (costs.none - costs.perfect));
    let months: f64 = found.months.values().map(|month| month.hearth).sum();
    near(months, costs.hearth);
    near(found.days, 13.0);
}
