//! Small problems whose answer is worked out by hand, through one `check`.

use crate::support::{appliance, battery, ev, home, lossy, with};
use model::problem::Problem;
use model::schedule::{Plan, Status};
use scheduler::{GAP_MAX, solve, verify};

#[track_caller]
fn check(problem: &Problem, status: Status, objective: f64) -> Plan {
    let plan = solve(problem).expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), []);
    assert_eq!(plan.status, status, "{:?}", plan.relaxed);
    assert!(
        (plan.objective - objective).abs() < 1e-6,
        "objective {} instead of {objective}: {:#?}",
        plan.objective,
        plan.slots
    );
    assert_eq!(plan.gap, 0.0);
    plan
}

#[track_caller]
fn check_optimal(problem: &Problem, objective: f64) -> Plan {
    check(problem, Status::Optimal, objective)
}

#[track_caller]
fn check_relaxed(problem: &Problem, objective: f64, constraint: &str, amount: f64) {
    let plan = check(problem, Status::Relaxed, objective);
    let [relaxed] = plan.relaxed.as_slice() else {
        panic!("one constraint, not {:?}", plan.relaxed);
    };
    assert_eq!(relaxed.constraint, constraint);
    assert!((relaxed.amount - amount).abs() < 1e-6, "{relaxed:?}");
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-6
}

#[test]
fn a_home_without_a_battery_buys_and_sells_the_difference() {
    let problem = with(home(&[1.0, 1.0], &[0.0, 2.0], &[0.3, 0.3]), |p| {
        p.sell_price = vec![0.1, 0.1];
    });
    let plan = check_optimal(&problem, 0.2);
    assert!(close(plan.metrics.cost, 0.2));
    assert!(close(plan.metrics.autarky, 0.5));
    assert!(close(plan.metrics.self_consumption, 0.5));
    assert_eq!(plan.metrics, plan.baseline);
    assert!(close(plan.slots[0].shadow_price, 0.3));
    assert!(close(plan.slots[1].shadow_price, 0.1));
}

#[test]
fn a_slot_is_shorter_than_an_hour() {
    let problem = with(home(&[4.0], &[0.0], &[0.3]), |p| p.slot_minutes = 15);
    let plan = check_optimal(&problem, 0.3);
    assert!(close(plan.metrics.grid_import_kwh, 1.0));
    assert!(close(plan.slots[0].shadow_price, 0.3));
}

#[test]
fn a_battery_moves_load_to_the_cheap_slot() {
    let problem = with(home(&[1.0, 1.0], &[0.0, 0.0], &[0.1, 0.4]), |p| {
        p.battery = Some(battery(5.0));
    });
    let plan = check_optimal(&problem, 0.2);
    assert!(close(plan.slots[0].battery_charge_kw, 1.0));
    assert!(close(plan.slots[0].soc_kwh, 1.0));
    assert!(close(plan.slots[1].battery_discharge_kw, 1.0));
    assert!(close(plan.slots[1].shadow_price, 0.1));
    assert!(close(plan.baseline.cost, 0.5));
}

#[test]
fn losses_are_paid_where_the_spread_covers_them() {
    let spread = |dear: f64| {
        with(home(&[1.0, 1.0], &[0.0, 0.0], &[0.3, dear]), |p| {
            p.battery = Some(lossy(5.0, 0.9));
        })
    };
    // 0.3/0.81 = 0.370 a kWh out of the battery.
    check_optimal(&spread(0.36), 0.66);
    let plan = check_optimal(&spread(0.40), 0.3 + 0.3 / 0.81);
    assert!(close(plan.slots[1].shadow_price, 0.3 / 0.81));
}

#[test]
fn rates_and_capacity_bound_the_trade() {
    let problem = |capacity: f64, charge: f64| {
        with(home(&[0.0, 4.0], &[0.0, 0.0], &[0.1, 0.4]), |p| {
            p.battery = Some(model::problem::Battery {
                charge_kw: charge,
                ..battery(capacity)
            });
        })
    };
    check_optimal(&problem(10.0, 10.0), 0.4);
    check_optimal(&problem(3.0, 10.0), 0.3 + 0.4);
    check_optimal(&problem(10.0, 2.0), 0.2 + 0.8);
    check_optimal(&problem(0.0, 10.0), 1.6);
    check_optimal(&problem(10.0, 0.0), 1.6);
}

#[test]
fn wear_is_charged_on_the_change_of_soc() {
    let problem = |wear: f64| {
        with(home(&[0.0, 1.0], &[0.0, 0.0], &[0.1, 0.4]), |p| {
            p.battery = Some(model::problem::Battery {
                wear_cost_per_kwh: wear,
                ..lossy(5.0, 0.9)
            });
        })
    };
    // 1/0.9 kWh in and out of the battery.
    check_optimal(&problem(0.05), 0.1 / 0.81 + 2.0 * 0.05 / 0.9);
    check_optimal(&problem(0.15), 0.4);
}

#[test]
fn what_is_left_has_a_value_and_a_least_amount() {
    let problem = |value: f64, least: f64| {
        with(home(&[0.0], &[0.0], &[0.2]), |p| {
            p.battery = Some(model::problem::Battery {
                end_value_per_kwh: value,
                end_soc_min_kwh: least,
                ..battery(4.0)
            });
        })
    };
    check_optimal(&problem(0.0, 0.0), 0.0);
    check_optimal(&problem(0.0, 3.0), 0.6);
    check_optimal(&problem(0.3, 0.0), 4.0 * 0.2 - 4.0 * 0.3);
}

#[test]
fn among_equal_plans_the_battery_rests() {
    let problem = with(home(&[1.0; 4], &[0.0; 4], &[0.3; 4]), |p| {
        p.battery = Some(battery(5.0));
    });
    let plan = check_optimal(&problem, 1.2);
    assert!(plan.slots.iter().all(|slot| slot.soc_kwh == 0.0));
    // Whatever the battery does here costs the same.
    let pv = [0.0, 3.0, 0.0, 3.0];
    let problem = with(home(&[1.0; 4], &pv, &[0.3; 4]), |p| {
        p.sell_price = vec![0.3; 4];
        p.battery = Some(model::problem::Battery {
            soc_kwh: 2.0,
            end_value_per_kwh: 0.3,
            ..battery(5.0)
        });
    });
    let plan = check_optimal(&problem, -0.6 - 0.6);
    assert!(plan.slots.iter().all(|slot| slot.soc_kwh == 2.0));
}

#[test]
fn weights_change_what_is_best() {
    let problem = |autarky: f64, revenue: f64| {
        with(home(&[0.0, 1.0], &[1.0, 0.0], &[0.2, 0.2]), |p| {
            p.sell_price = vec![0.3, 0.0];
            p.battery = Some(battery(5.0));
            p.weights.autarky = autarky;
            p.weights.revenue = revenue;
        })
    };
    // Selling at 0.3 and buying back at 0.2 beats keeping it.
    check_optimal(&problem(0.0, 0.0), -0.1);
    // With a charge of 0.5 on import it does not.
    let plan = check_optimal(&problem(0.5, 0.0), 0.0);
    assert!(close(plan.metrics.autarky, 1.0));
    // A weight on revenue makes it so again, and the bill stays a bill.
    let plan = check_optimal(&problem(0.5, 2.0), 0.7 - 0.9);
    assert!(close(plan.metrics.cost, -0.1));
}

#[test]
fn a_meter_does_not_buy_and_sell_at_once() {
    // Selling pays more than buying costs.
    let problem = |load: &[f64]| {
        with(home(load, &[0.0, 0.0], &[0.1, 0.1]), |p| {
            p.sell_price = vec![0.2, 0.2];
        })
    };
    check_optimal(&problem(&[0.0, 1.0]), 0.1);
    let with_battery = with(problem(&[0.0, 0.0]), |p| p.battery = Some(battery(5.0)));
    check_optimal(&with_battery, 5.0 * (0.1 - 0.2));
}

#[test]
fn a_battery_does_not_burn_energy_at_a_negative_price() {
    let problem = |slots: usize| {
        let zero = vec![0.0; slots];
        with(home(&zero, &zero, &vec![-0.1; slots]), |p| {
            p.sell_price = vec![-0.1; slots];
            p.battery = Some(model::problem::Battery {
                soc_kwh: 5.0,
                ..lossy(5.0, 0.9)
            });
        })
    };
    // Full: only burning would earn, and that is not possible.
    check_optimal(&problem(1), 0.0);
    // Emptying and filling in turn earns the losses: 4.5 kWh out, 5/0.9 kWh in.
    check_optimal(&problem(2), 0.1 * (4.5 - 5.0 / 0.9));
}

/// The slot's own prices do not show that burning pays: it is the second slot that wants the battery empty.
#[test]
fn a_first_search_that_burns_energy_is_not_believed() {
    let problem = with(home(&[0.0; 2], &[0.01, 0.0], &[0.0, -0.1]), |p| {
        p.sell_price = vec![-0.3, -0.1];
        p.pv_curtailable = true;
        p.battery = Some(model::problem::Battery {
            soc_kwh: 1.0,
            ..lossy(1.0, 0.7)
        });
    });
    // Emptying costs 0.7*0.3 and filling up again earns 0.1/0.7, so that resting is best.
    check_optimal(&problem, 0.0);
}

#[test]
fn surplus_is_thrown_away_only_where_that_is_possible() {
    let problem = |curtailable: bool, limit: Option<f64>, sell: f64| {
        with(home(&[1.0], &[3.0], &[0.3]), |p| {
            p.pv_curtailable = curtailable;
            p.grid.export_limit_kw = limit;
            p.sell_price = vec![sell];
        })
    };
    check_optimal(&problem(false, None, -0.1), 0.2);
    let plan = check_optimal(&problem(true, None, -0.1), 0.0);
    assert!(close(plan.slots[0].pv_kw, 1.0));
    check_optimal(&problem(true, None, 0.1), -0.2);
    check_optimal(&problem(true, Some(0.5), 0.1), -0.05);
    check_relaxed(
        &problem(false, Some(0.5), 0.1),
        -0.2,
        "grid.export_limit_kw",
        1.5,
    );
}

#[test]
fn paid_to_import_the_home_throws_its_pv_away() {
    let problem = with(home(&[2.0], &[1.0], &[-0.2]), |p| {
        p.sell_price = vec![-0.3];
        p.pv_curtailable = true;
    });
    check_optimal(&problem, -0.4);
}

#[test]
fn an_import_limit_is_held_by_the_battery_while_it_lasts() {
    let problem = |soc: f64| {
        with(home(&[1.0, 4.0], &[0.0, 0.0], &[0.3, 0.3]), |p| {
            p.grid.import_limit_kw = Some(2.0);
            p.battery = Some(model::problem::Battery {
                soc_kwh: soc,
                discharge_kw: 2.0,
                ..battery(5.0)
            });
        })
    };
    check_optimal(&problem(2.0), 0.9);
    check_optimal(&problem(1.0), 1.2);
    // Empty: 1 kWh can be taken in the first slot, 1 kWh is missing in the second.
    check_relaxed(&problem(0.0), 1.5, "grid.import_limit_kw", 1.0);
}

#[test]
fn a_grid_limit_goes_before_a_reserve() {
    let problem = with(home(&[3.0], &[0.0], &[0.3]), |p| {
        p.grid.import_limit_kw = Some(2.0);
        p.battery = Some(model::problem::Battery {
            soc_kwh: 2.0,
            end_soc_min_kwh: 2.0,
            ..battery(5.0)
        });
    });
    check_relaxed(&problem, 0.6, "battery.end_soc_min_kwh", 1.0);
}

#[test]
fn an_end_soc_out_of_reach_is_missed_by_the_least() {
    let problem = with(home(&[0.0], &[0.0], &[0.2]), |p| {
        p.battery = Some(model::problem::Battery {
            charge_kw: 1.0,
            end_soc_min_kwh: 4.0,
            ..battery(5.0)
        });
    });
    check_relaxed(&problem, 0.2, "battery.end_soc_min_kwh", 3.0);
}

#[test]
fn a_soc_that_starts_outside_its_bounds_returns() {
    let problem = |soc: f64| {
        with(home(&[0.0, 0.0], &[0.0, 0.0], &[0.2, 0.1]), |p| {
            p.sell_price = vec![0.05, 0.05];
            p.battery = Some(model::problem::Battery {
                soc_kwh: soc,
                min_soc_kwh: 1.0,
                max_soc_kwh: 4.0,
                end_soc_min_kwh: 1.0,
                end_value_per_kwh: 0.15,
                charge_kw: 0.4,
                ..battery(5.0)
            });
        })
    };
    check_relaxed(
        &problem(0.5),
        0.4 * 0.2 + 0.4 * 0.1 - 1.3 * 0.15,
        "battery.min_soc_kwh",
        0.5,
    );
    check_relaxed(
        &problem(4.5),
        -0.5 * 0.05 - 4.0 * 0.15,
        "battery.max_soc_kwh",
        0.5,
    );
}

#[test]
fn an_appliance_takes_the_cheapest_start_in_its_window() {
    let prices = [0.1, 0.1, 0.5, 0.3, 0.2, 0.4];
    let zero = [0.0; 6];
    let problem = |earliest: u32, end: u32| {
        with(home(&zero, &zero, &prices), |p| {
            p.appliances = vec![appliance("dishwasher", &[2.0, 1.0], earliest, end)];
        })
    };
    check_optimal(&problem(0, 6), 0.3);
    check_optimal(&problem(1, 5), 0.7);
    check_optimal(&problem(2, 4), 1.3);
    let plan = check_optimal(&problem(1, 6), 0.7);
    let runs: Vec<bool> = plan
        .slots
        .iter()
        .map(|s| s.appliances["dishwasher"])
        .collect();
    assert!(runs == [false, true, true, false, false, false] || runs[3] && runs[4]);
    assert!(close(plan.baseline.cost, 0.7));
}

#[test]
fn appliances_share_an_import_limit() {
    let problem = |limit: f64| {
        with(home(&[0.0; 3], &[0.0; 3], &[0.1, 0.2, 0.3]), |p| {
            p.grid.import_limit_kw = Some(limit);
            p.appliances = vec![
                appliance("washer", &[2.0], 0, 3),
                appliance("dryer", &[2.0], 0, 3),
            ];
        })
    };
    check_optimal(&problem(4.0), 0.4);
    check_optimal(&problem(3.0), 0.6);
    check_relaxed(&problem(1.5), 0.6, "grid.import_limit_kw", 0.5);
}

#[test]
fn a_battery_feeds_an_appliance_that_must_run_in_a_dear_slot() {
    let problem = with(home(&[0.0; 2], &[0.0; 2], &[0.1, 0.5]), |p| {
        p.battery = Some(battery(3.0));
        p.appliances = vec![appliance("oven", &[4.0], 1, 2)];
    });
    check_optimal(&problem, 0.3 + 0.5);
}

#[test]
fn the_longest_horizon_with_every_feature_is_solved() {
    let slots = 672;
    let wave = |t: usize, length: f64| (t as f64 * std::f64::consts::TAU / length).sin();
    let load: Vec<f64> = (0..slots).map(|t| 0.6 + 0.4 * wave(t, 48.0)).collect();
    let pv: Vec<f64> = (0..slots)
        .map(|t| (4.0 * wave(t + 72, 96.0)).max(0.0))
        .collect();
    let price: Vec<f64> = (0..slots).map(|t| 0.25 + 0.1 * wave(t, 37.0)).collect();
    let problem = with(home(&load, &pv, &price), |p| {
        p.slot_minutes = 15;
        p.sell_price = price.iter().map(|price| price * 0.4).collect();
        p.pv_curtailable = true;
        p.grid.import_limit_kw = Some(6.0);
        p.grid.export_limit_kw = Some(3.0);
        p.battery = Some(lossy(8.0, 0.95));
    });
    let plan = solve(&problem).unwrap();
    assert_eq!(verify(&problem, &plan), []);
    assert_eq!(plan.status, Status::Optimal);
    assert!(plan.metrics.cost < plan.baseline.cost);
}

/// What comes back depends on the machine, but it is valid and not called better than it is.
#[test]
fn a_search_without_enough_time_is_honest() {
    let slots = 96;
    let price: Vec<f64> = (0..slots)
        .map(|t| 0.3 + 0.1 * f64::from(t * 7 % 11))
        .collect();
    let problem = with(home(&[1.0; 96], &[0.0; 96], &price), |p| {
        p.grid.import_limit_kw = Some(5.0);
        p.battery = Some(lossy(5.0, 0.95));
        p.appliances = (0..3)
            .map(|index| appliance(&index.to_string(), &[1.7, 1.1, 0.6], 0, 96))
            .collect();
    });
    let best = check_whole(&problem, 30.0);
    assert_eq!((best.status, best.gap), (Status::Optimal, 0.0));
    for seconds in [0.0, 0.001, 0.01, 0.05] {
        let plan = check_whole(&problem, seconds);
        let proven = plan.objective - plan.gap * plan.objective.abs();
        assert!(best.objective >= proven - 1e-4, "{plan:?}");
        assert!(best.objective <= plan.objective + 1e-4, "{plan:?}");
    }
}

/// No time at all still gives a plan that can be carried out, and says that nothing is proven of it.
#[test]
fn a_problem_without_time_has_a_plan() {
    let price: Vec<f64> = (0..96).map(|t| 0.3 + 0.1 * f64::from(t * 7 % 11)).collect();
    let problem = with(home(&[1.0; 96], &[0.0; 96], &price), |p| {
        p.time_limit_ms = Some(0);
        p.battery = Some(lossy(5.0, 0.95));
        p.appliances = vec![appliance("dishwasher", &[1.7, 1.1], 10, 96)];
        p.evs = vec![ev("car", 8, 80)];
    });
    let plan = solve(&problem).unwrap();
    assert_eq!(verify(&problem, &plan), []);
    assert_eq!(plan.status, Status::Optimal, "{:?}", plan.relaxed);
    assert_eq!((plan.solver.as_str(), plan.gap), ("left_alone", GAP_MAX));
    assert!(plan.slots[10].appliances["dishwasher"]);
    assert_eq!(plan.slots[8].evs["car"].charge_kw, 11.0);
}

#[track_caller]
fn check_whole(problem: &Problem, seconds: f64) -> Plan {
    let plan = scheduler::Solver::default()
        .solve_within(problem, seconds)
        .expect("the problem can be stated");
    assert_eq!(verify(problem, &plan), []);
    plan
}
