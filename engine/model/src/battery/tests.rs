use proptest::prelude::*;

use super::{Bounds, Moment};
use crate::policy::{BatteryPolicy, Mode};

const BOUNDS: Bounds = Bounds {
    min_kwh: 1.0,
    max_kwh: 9.0,
    charge_kw: 4.0,
    discharge_kw: 5.0,
    charge_efficiency: 0.8,
    discharge_efficiency: 0.5,
};

/// Buys up to 2 kWh, stores PV up to 7, covers load down to 3 and sells down to 8.
const POLICY: BatteryPolicy = BatteryPolicy {
    mode: Mode::SelfConsumption,
    charge_from_grid_to_kwh: Some(2.0),
    charge_from_pv_to_kwh: Some(7.0),
    discharge_to_home_to_kwh: Some(3.0),
    discharge_to_grid_to_kwh: Some(8.0),
    charge_from_excess_to_kwh: None,
    discharge_to_excess_to_kwh: None,
    setpoint_kw: None,
    expected_kw: 0.0,
};

fn moment(content_kwh: f64, net_load_kw: f64) -> Moment {
    Moment {
        content_kwh,
        net_load_kw,
        import_max_kw: f64::INFINITY,
        export_max_kw: f64::INFINITY,
    }
}

#[track_caller]
fn check(policy: &BatteryPolicy, moment: Moment, hours: f64, expected_kw: f64) {
    let found = BOUNDS.power_kw(policy, &moment, hours);
    assert!(
        (found - expected_kw).abs() < 1e-12,
        "{found} for {moment:?}"
    );
}

const SECOND: f64 = 1.0 / 3600.0;

#[test]
fn each_kind_of_energy_has_its_threshold() {
    // Bought at full rate, whatever the load; nothing between what is bought and what is kept for later.
    check(&POLICY, moment(1.5, 3.0), SECOND, 4.0);
    check(&POLICY, moment(2.5, 3.0), SECOND, 0.0);
    // The surplus and no more.
    check(&POLICY, moment(2.5, -3.0), SECOND, 3.0);
    check(&POLICY, moment(2.5, -6.0), SECOND, 4.0);
    check(&POLICY, moment(7.5, -3.0), SECOND, 0.0);
    // The load and no more.
    check(&POLICY, moment(3.5, 2.0), SECOND, -2.0);
    check(&POLICY, moment(3.5, 6.0), SECOND, -5.0);
    // Sold at full rate, beside PV too.
    check(&POLICY, moment(8.5, 2.0), SECOND, -5.0);
    check(&POLICY, moment(8.5, -2.0), SECOND, -5.0);
}

#[test]
fn a_long_step_ends_at_the_threshold() {
    // 0.5 kWh short: 0.5/0.8 kWh at the AC side, over half an hour.
    check(&POLICY, moment(1.5, 3.0), 0.5, 1.25);
    // The surplus leads further than what would be bought.
    check(&POLICY, moment(1.5, -2.0), 0.5, 2.0);
    check(&POLICY, moment(6.6, -3.0), 0.5, 1.0);
    // 0.6 kWh above: 0.3 kWh at the AC side.
    check(&POLICY, moment(3.6, 2.0), 0.5, -0.6);
    check(&POLICY, moment(8.6, 0.25), 0.5, -0.6);
    // What the load takes leads further than what would be sold.
    check(&POLICY, moment(8.6, 2.0), 0.5, -2.0);
}

#[test]
fn limits_of_the_grid_come_first() {
    let limited = |content_kwh: f64, net_load_kw: f64| Moment {
        import_max_kw: 2.0,
        export_max_kw: 1.0,
        ..moment(content_kwh, net_load_kw)
    };
    check(&POLICY, limited(1.5, 0.5), SECOND, 1.5);
    check(&POLICY, limited(1.5, 2.0), SECOND, 0.0);
    check(&POLICY, limited(8.5, 2.0), SECOND, -3.0);
    check(&POLICY, limited(8.5, -1.5), SECOND, 0.5);
    // Beyond a limit the battery gives and takes what it can, whatever it is kept for.
    check(&POLICY, limited(2.5, 3.5), SECOND, -1.5);
    check(&POLICY, limited(7.5, -3.0), SECOND, 2.0);
    let content = BatteryPolicy {
        charge_from_excess_to_kwh: Some(7.0),
        discharge_to_excess_to_kwh: Some(2.5),
        ..POLICY
    };
    check(&content, limited(2.5, 3.5), SECOND, 0.0);
    check(&content, limited(7.5, -3.0), SECOND, 0.0);
    let held = BatteryPolicy {
        mode: Mode::Setpoint,
        setpoint_kw: Some(3.0),
        ..POLICY
    };
    check(&held, limited(5.0, 0.5), SECOND, 1.5);
    check(&held, limited(5.0, 4.0), SECOND, -2.0);
    check(&held, moment(9.0, 0.0), SECOND, 0.0);
}

proptest! {
    /// However long a step, no threshold is passed; and many short ones come to where the meter's side says.
    #[test]
    fn no_step_passes_a_threshold(content in 1.0..9.0_f64, net in -8.0..8.0_f64, hours in 0.001..3.0_f64) {
        let power = BOUNDS.power_kw(&POLICY, &moment(content, net), hours);
        let after = BOUNDS.after_kwh(content, power, hours);
        prop_assert!((BOUNDS.min_kwh - 1e-9..=BOUNDS.max_kwh + 1e-9).contains(&after));
        prop_assert!((-BOUNDS.discharge_kw..=BOUNDS.charge_kw).contains(&power));
        if power > 0.0 {
            prop_assert!(after <= 7.0 + 1e-9);
            prop_assert!(power <= -net || after <= 2.0 + 1e-9);
        }
        if power < 0.0 {
            prop_assert!(after >= 3.0 - 1e-9);
            prop_assert!(-power <= net || after >= 8.0 - 1e-9);
        }
    }
}
