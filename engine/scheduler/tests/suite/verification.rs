//! The checker finds what is wrong with a plan: each spoiled plan breaks the rule it should.

use model::problem::{Battery, Problem};
use model::schedule::{Plan, Relaxation, Status};
use scheduler::{solve, verify};

use crate::support::{appliance, home, lossy, with};

fn sound() -> Problem {
    with(
        home(&[1.0; 4], &[0.0, 3.0, 0.0, 0.0], &[0.3, 0.3, 0.3, 0.6]),
        |p| {
            p.sell_price = vec![0.1; 4];
            p.grid.import_limit_kw = Some(4.0);
            p.battery = Some(Battery {
                min_soc_kwh: 0.5,
                soc_kwh: 0.5,
                ..lossy(4.0, 0.9)
            });
            p.appliances = vec![appliance("washer", &[1.0, 0.5], 0, 4)];
        },
    )
}

#[track_caller]
fn check(rule: &str, spoil: impl FnOnce(&mut Plan)) {
    let problem = sound();
    let mut plan = solve(&problem).expect("the problem can be stated");
    assert_eq!(verify(&problem, &plan), []);
    spoil(&mut plan);
    let found = verify(&problem, &plan);
    assert!(
        found.iter().any(|violation| violation.rule == rule),
        "{found:#?}"
    );
}

#[test]
fn slots() {
    check("energy balance", |p| p.slots[0].grid_import_kw += 0.01);
    check("load_kw with appliances", |p| p.slots[0].load_kw += 0.01);
    check("pv_kw as it is", |p| p.slots[1].pv_kw -= 0.01);
    check("import or export", |p| {
        p.slots[0].grid_import_kw += 1.0;
        p.slots[0].grid_export_kw += 1.0;
    });
    check("charge or discharge", |p| {
        p.slots[0].battery_charge_kw += 1.0;
        p.slots[0].battery_discharge_kw += 1.0;
    });
    check("soc follows the flows", |p| p.slots[1].soc_kwh += 0.01);
    check("battery.charge_kw", |p| p.slots[1].battery_charge_kw = 11.0);
    check("battery.discharge_kw", |p| {
        p.slots[3].battery_discharge_kw = 11.0;
    });
    check("battery.max_soc_kwh", |p| p.slots[1].soc_kwh = 4.1);
    check("battery.min_soc_kwh", |p| p.slots[1].soc_kwh = 0.4);
    check("grid.import_limit_kw", |p| p.slots[0].grid_import_kw = 4.1);
    check("start", |p| p.slots[2].start_ms += 1);
    check("grid_import_kw is finite and 0 or more", |p| {
        p.slots[2].grid_import_kw = f64::NAN;
    });
    check("shadow_price is finite", |p| {
        p.slots[2].shadow_price = f64::INFINITY;
    });
}

#[test]
fn appliances() {
    let rule = "washer runs once, whole, in its window";
    let set = |p: &mut Plan, runs: [bool; 4]| {
        for (slot, runs) in p.slots.iter_mut().zip(runs) {
            slot.appliances.insert("washer".to_owned(), runs);
        }
    };
    check(rule, |p| set(p, [false; 4]));
    check(rule, |p| set(p, [true, false, true, false]));
    check(rule, |p| set(p, [true, true, true, false]));
    check("everything named", |p| p.slots[0].appliances.clear());
}

#[test]
fn the_whole() {
    check("one entry a slot", |p| p.slots.truncate(3));
    check("no slots", |p| p.status = Status::Infeasible);
    check("objective", |p| p.objective -= 0.01);
    check("metrics.cost", |p| p.metrics.cost -= 0.01);
    check("metrics.autarky", |p| p.metrics.autarky += 0.01);
    check("gap is finite and 0 or more", |p| p.gap = f64::NAN);
    check("status names limits", |p| p.status = Status::Relaxed);
    check("relaxed as said", |p| {
        p.status = Status::Relaxed;
        p.relaxed = vec![Relaxation {
            constraint: "grid.import_limit_kw".to_owned(),
            amount: 1.0,
        }];
    });
}
