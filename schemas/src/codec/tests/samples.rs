//! A problem, a schedule and a command, as each version of their schemas could express them.

use model::command::{BatteryRating, Command, EvOrder, HeatOrder, ProgramEntry, SlotCommand};
use model::policy::{self, BatteryPolicy, Mode, SlotPolicy};
use model::problem::{
    Appliance, Battery, Ev, Grid, HeatStore, Problem, Scenario, Signal, Stability, Weights,
};
use model::request::OptimizeRequest;
use model::rung::{LoadRung, PvRung, Rungs};
use model::schedule::{
    Metrics, Plan, PlannedEv, PlannedHeat, PlannedSlot, Relaxation, Schedule, Status,
};

use super::{START_MS, id};

/// What the first version of the schema could express.
pub(super) fn request_v1() -> OptimizeRequest {
    OptimizeRequest {
        request_id: "42-1757671200000-1".to_owned(),
        household_id: id(),
        requested_ms: START_MS,
        adopt: true,
        problem: Problem {
            evs: Vec::new(),
            heat_stores: Vec::new(),
            stability: None,
            time_limit_ms: None,
            scenarios: Vec::new(),
            caution_per_kwh: 0.0,
            signal: None,
            household_id: id(),
            start_ms: START_MS,
            slot_minutes: 15,
            load_kw: vec![0.5, 0.25],
            pv_kw: vec![0.0, 1.0],
            buy_price: vec![0.3, -0.1],
            sell_price: vec![0.1, 0.1],
            battery: Some(Battery {
                capacity_kwh: 10.0,
                soc_kwh: 4.0,
                min_soc_kwh: 1.0,
                max_soc_kwh: 9.5,
                charge_kw: 5.0,
                discharge_kw: 5.0,
                charge_efficiency: 0.95,
                discharge_efficiency: 0.95,
                end_soc_min_kwh: 4.0,
                end_value_per_kwh: 0.2,
                wear_cost_per_kwh: 0.02,
            }),
            grid: Grid {
                import_limit_kw: None,
                export_limit_kw: Some(5.0),
                ..Grid::OPEN
            },
            pv_curtailable: false,
            appliances: vec![Appliance {
                id: "washer".to_owned(),
                profile_kw: vec![2.0],
                earliest_slot: 0,
                latest_end_slot: 2,
            }],
            weights: Weights::COST,
        },
        forecast: None,
    }
}

const RUNGS: Rungs = Rungs {
    load: LoadRung::FewDays,
    pv: PvRung::LearnedWeather,
};

pub(super) fn request() -> OptimizeRequest {
    let mut request = OptimizeRequest {
        forecast: Some(RUNGS),
        ..request_v3()
    };
    request.problem.signal = Some(Signal {
        price_per_kwh: vec![0.05, -0.125],
        import_cap_kw: vec![Some(2.5), None],
        export_cap_kw: vec![None, Some(-1.25)],
        import_breach_price_per_kwh: 2.0,
        export_breach_price_per_kwh: 1.5,
    });
    request
}

/// What the third version of the schema could express.
pub(super) fn request_v3() -> OptimizeRequest {
    let mut request = request_v2();
    request.problem.caution_per_kwh = 0.012;
    request.problem.scenarios = vec![
        Scenario {
            weight: 0.75,
            load_kw: vec![0.5, 0.0],
            pv_kw: vec![0.0, 1.25],
        },
        Scenario {
            weight: 2.0,
            load_kw: vec![0.0, 10_000.0],
            pv_kw: vec![0.01, 0.0],
        },
    ];
    request
}

/// What the second version of the schema could express.
pub(super) fn request_v2() -> OptimizeRequest {
    let mut request = request_v1();
    let problem = &mut request.problem;
    problem.grid.peak_price_per_kw = 12.5;
    problem.grid.peak_kw = 3.5;
    problem.evs = vec![Ev {
        id: "zoé".to_owned(),
        arrival_slot: 0,
        departure_slot: 2,
        capacity_kwh: 52.0,
        soc_kwh: 20.0,
        min_soc_kwh: 10.0,
        goal_soc_kwh: 22.5,
        charge_kw: 11.0,
        min_charge_kw: 4.1,
        discharge_kw: 7.4,
        charge_efficiency: 0.92,
        discharge_efficiency: 0.91,
        end_value_per_kwh: -0.25,
        wear_cost_per_kwh: 0.03,
    }];
    problem.heat_stores = vec![HeatStore {
        id: "tank".to_owned(),
        power_kw: 2.5,
        cop: vec![3.5, 2.75],
        kwh_per_k: 0.35,
        loss_kw_per_k: 0.002,
        temperature_c: 48.5,
        min_c: 45.0,
        max_c: 60.0,
        ambient_c: vec![18.0, -7.5],
        draw_kw: vec![0.0, 1.5],
        end_value_per_kwh: 0.1,
    }];
    problem.stability = Some(Stability {
        battery_cost_per_kwh: 0.01,
        start_cost: 0.05,
        soc_change_kwh: vec![-0.5],
        start_slots: [("washer".to_owned(), 1)].into(),
    });
    problem.time_limit_ms = Some(750);
    request
}

/// What the first version of the schema could express.
pub(super) fn schedule_v1() -> Schedule {
    let metrics = Metrics {
        cost: 1.25,
        grid_import_kwh: 5.0,
        grid_export_kwh: 0.5,
        autarky: 0.25,
        self_consumption: 0.75,
    };
    Schedule {
        schedule_id: "42-1757671200000-1".to_owned(),
        request_id: "42-1757671200000-1".to_owned(),
        household_id: id(),
        requested_ms: START_MS,
        start_ms: START_MS,
        slot_minutes: 15,
        adopt: true,
        forecast: None,
        solve_us: 1_234,
        plan: Plan {
            status: Status::Relaxed,
            relaxed: vec![Relaxation {
                constraint: "grid.import_limit_kw".to_owned(),
                amount: 0.5,
            }],
            objective: 1.25,
            solver: "milp".to_owned(),
            gap: 0.0,
            metrics,
            baseline: Metrics {
                cost: 2.5,
                ..metrics
            },
            slots: vec![PlannedSlot {
                start_ms: START_MS,
                load_kw: 0.5,
                pv_kw: 0.0,
                grid_import_kw: 0.5,
                grid_export_kw: 0.0,
                battery_charge_kw: 0.0,
                battery_discharge_kw: 0.0,
                soc_kwh: 4.0,
                appliances: [("washer".to_owned(), true)].into(),
                shadow_price: 0.3,
                policy: None,
                evs: std::collections::BTreeMap::new(),
                heat: std::collections::BTreeMap::new(),
            }],
        },
    }
}

/// What the second version of the schema could express.
pub(super) fn schedule_v2() -> Schedule {
    let mut schedule = schedule_v1();
    let slot = &mut schedule.plan.slots[0];
    let ev = PlannedEv {
        charge_kw: 7.0,
        discharge_kw: 0.0,
        soc_kwh: 21.5,
    };
    slot.evs = [("zoé".to_owned(), ev)].into();
    let heat = PlannedHeat {
        power_kw: 2.5,
        temperature_c: -0.5,
    };
    slot.heat = [("tank".to_owned(), heat)].into();
    schedule
}

pub(super) fn schedule() -> Schedule {
    Schedule {
        forecast: Some(RUNGS),
        ..schedule_v3()
    }
}

pub(super) fn schedule_v3() -> Schedule {
    let mut schedule = schedule_v2();
    schedule.plan.slots[0].policy = Some(policy());
    schedule
}

fn policy() -> SlotPolicy {
    SlotPolicy {
        battery: Some(BatteryPolicy {
            mode: Mode::Hold,
            charge_from_grid_to_kwh: None,
            charge_from_pv_to_kwh: Some(9.5),
            discharge_to_home_to_kwh: Some(7.25),
            discharge_to_grid_to_kwh: None,
            charge_from_excess_to_kwh: Some(9.75),
            discharge_to_excess_to_kwh: Some(1.5),
            setpoint_kw: None,
            expected_kw: -0.3,
        }),
        import_max_kw: Some(11.0),
        export_max_kw: None,
        value_per_kwh: 0.21,
        reason: policy::Reason::DearLater,
    }
}

/// What the first version of the schema could express: one slot.
pub(super) fn command_v1() -> Command {
    Command::from(SlotCommand {
        command_id: "42-1757671200000-1-0".to_owned(),
        household_id: id(),
        schedule_id: "42-1757671200000-1".to_owned(),
        requested_ms: START_MS,
        not_before_ms: START_MS,
        expires_ms: START_MS + 900_000,
        battery_w: Some(-1_500.0),
        appliances: [("washer".to_owned(), false)].into(),
    })
}

pub(super) fn command() -> Command {
    let ev = EvOrder {
        charge_kw: 3.7,
        surplus: true,
        discharge_max_kw: 0.0,
    };
    let entry = ProgramEntry {
        from_ms: START_MS,
        policy: Some(policy()),
        appliances: [("washer".to_owned(), false)].into(),
        evs: [("zoé".to_owned(), ev)].into(),
        heat: [("tank".to_owned(), HeatOrder { power_kw: 2.5 })].into(),
    };
    let mut second = entry.clone();
    second.from_ms += 900_000;
    second.policy = None;
    Command {
        issued_ms: START_MS + 1_000,
        expires_ms: START_MS + 1_800_000,
        battery: Some(BatteryRating {
            capacity_kwh: 10.0,
            charge_kw: 5.0,
            discharge_kw: 4.6,
        }),
        program: vec![entry, second],
        ..command_v1()
    }
}
