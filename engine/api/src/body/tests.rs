use expect_test::{Expect, expect};
use model::policy::{BatteryPolicy, Mode, Reason, SlotPolicy};
use model::problem::{
    Appliance, Battery, Ev, Grid, HeatStore, Problem, Scenario, Signal, Stability, Weights,
};
use model::rung::{LoadRung, PvRung, Rungs};
use model::schedule::{
    Metrics, Plan, PlannedEv, PlannedHeat, PlannedSlot, Relaxation, Schedule, Status,
};
use model::units::HouseholdId;
use proptest::prelude::*;

use super::{
    FieldError, MetadataBody, OptimizeBody, PlannedSlotBody, PolicyBody, ScheduleBody, TariffBody,
};

const START_MS: i64 = 1_757_671_200_000;

fn id() -> HouseholdId {
    HouseholdId::new(1).unwrap()
}

fn engine_problem() -> Problem {
    Problem {
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
        load_kw: vec![0.5; 4],
        pv_kw: vec![1.0; 4],
        buy_price: vec![0.3; 4],
        sell_price: vec![0.1; 4],
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
            import_limit_kw: Some(11.0),
            export_limit_kw: None,
            ..Grid::OPEN
        },
        pv_curtailable: true,
        appliances: vec![Appliance {
            id: "dishwasher".to_owned(),
            profile_kw: vec![2.0, 0.5],
            earliest_slot: 1,
            latest_end_slot: 4,
        }],
        weights: Weights::COST,
    }
}

fn body(json: &str) -> OptimizeBody {
    serde_json::from_str(json).unwrap()
}

fn merged(json: &str) -> Problem {
    body(json).into_problem(Some(&engine_problem())).unwrap()
}

#[track_caller]
fn refused(json: &str, base: Option<&Problem>, expected: &str) {
    let outcome = body(json).into_problem(base);
    assert_eq!(
        outcome.map_err(|error| error.to_string()),
        Err(expected.to_owned())
    );
}

const WHOLE: &str = r#"{"household_id":1,"start":"2025-09-12T12:00:00+02:00","slot_minutes":15,
 "load_kw":[0.5,0.5],"pv_kw":[1,1],"buy_price":[0.3,0.3],"sell_price":[0.1,-0.1],
 "battery":{"capacity_kwh":10,"soc_kwh":4,"min_soc_kwh":1,"max_soc_kwh":9.5,"charge_kw":5,"discharge_kw":5,
            "charge_efficiency":0.95,"discharge_efficiency":0.95,"end_soc_min_kwh":4,"end_value_per_kwh":0,"wear_cost_per_kwh":0},
 "grid":{"import_limit_kw":null,"export_limit_kw":null},"pv_curtailable":false,
 "appliances":[{"id":"dishwasher","profile_kw":[2.0,2.0,0.5],"earliest_slot":40,"latest_end_slot":80}],
 "weights":{"cost":1,"autarky":0,"revenue":0}}"#;

#[test]
fn a_whole_problem_needs_no_engine() {
    let body = body(WHOLE);
    assert!(body.is_whole() && !body.is_household_alone());
    let problem = body.into_problem(None).unwrap();
    assert_eq!(problem.start_ms, START_MS);
    assert_eq!(problem.sell_price, [0.1, -0.1]);
    assert_eq!(problem.battery.unwrap().end_soc_min_kwh, 4.0);
    assert_eq!(problem.appliances[0].latest_end_slot, 80);
}

#[test]
fn an_id_alone_asks_the_engines_question() {
    assert!(body(r#"{"household_id":1}"#).is_household_alone());
    assert_eq!(merged(r#"{"household_id":1}"#), engine_problem());
}

#[test]
fn what_is_given_overrides_the_engines() {
    let problem = merged(
        r#"{"household_id":1,"grid":{"import_limit_kw":null},"weights":{"cost":1,"autarky":0.5},"pv_kw":[0,0,0,0]}"#,
    );
    let mut expected = engine_problem();
    expected.grid.import_limit_kw = None;
    expected.weights.autarky = 0.5;
    expected.pv_kw = vec![0.0; 4];
    assert_eq!(problem, expected);

    assert_eq!(merged(r#"{"household_id":1,"battery":null}"#).battery, None);
    assert_eq!(
        merged(r#"{"household_id":1,"appliances":[]}"#).appliances,
        []
    );
}

/// An EV, a tank and a plan before on the engine's four slots.
fn engine_problem_with_stores() -> Problem {
    Problem {
        evs: vec![Ev {
            id: "car".to_owned(),
            arrival_slot: 1,
            departure_slot: 3,
            capacity_kwh: 52.0,
            soc_kwh: 20.0,
            min_soc_kwh: 10.0,
            goal_soc_kwh: 25.0,
            charge_kw: 11.0,
            min_charge_kw: 1.5,
            discharge_kw: 7.5,
            charge_efficiency: 0.92,
            discharge_efficiency: 0.91,
            end_value_per_kwh: 0.2,
            wear_cost_per_kwh: 0.03,
        }],
        heat_stores: vec![HeatStore {
            id: "tank".to_owned(),
            power_kw: 2.5,
            cop: vec![3.0, 3.25, 3.5, 3.75],
            kwh_per_k: 0.35,
            loss_kw_per_k: 0.002,
            temperature_c: 48.5,
            min_c: 45.0,
            max_c: 60.0,
            ambient_c: vec![18.0; 4],
            draw_kw: vec![0.0, 1.5, 0.0, 0.0],
            end_value_per_kwh: 0.1,
        }],
        stability: Some(Stability {
            battery_cost_per_kwh: 0.01,
            start_cost: 0.05,
            soc_change_kwh: vec![0.5, -0.5, 0.25],
            start_slots: [("dishwasher".to_owned(), 1)].into(),
        }),
        time_limit_ms: Some(750),
        scenarios: Vec::new(),
        caution_per_kwh: 0.0,
        signal: None,
        grid: Grid {
            peak_price_per_kw: 12.5,
            peak_kw: 3.5,
            ..engine_problem().grid
        },
        ..engine_problem()
    }
}

const STORES: &str = r#"{"household_id":1,
 "evs":[{"id":"car","arrival_slot":1,"departure_slot":3,"capacity_kwh":52,"soc_kwh":20,"min_soc_kwh":10,
         "goal_soc_kwh":25,"charge_kw":11,"min_charge_kw":1.5,"discharge_kw":7.5,"charge_efficiency":0.92,
         "discharge_efficiency":0.91,"end_value_per_kwh":0.2,"wear_cost_per_kwh":0.03}],
 "heat_stores":[{"id":"tank","power_kw":2.5,"cop":[3,3.25,3.5,3.75],"kwh_per_k":0.35,"loss_kw_per_k":0.002,
                 "temperature_c":48.5,"min_c":45,"max_c":60,"ambient_c":18,"draw_kw":[0,1.5,0,0],
                 "end_value_per_kwh":0.1}],
 "stability":{"battery_cost_per_kwh":0.01,"start_cost":0.05,"soc_change_kwh":[0.5,-0.5,0.25],
              "start_slots":{"dishwasher":1}},
 "time_limit_ms":750,
 "grid":{"import_limit_kw":11,"peak_price_per_kw":12.5,"peak_kw":3.5}}"#;

#[test]
fn evs_heat_stores_and_stability_are_read() {
    assert_eq!(merged(STORES), engine_problem_with_stores());
    assert!(!body(STORES).is_household_alone());
}

#[test]
fn what_is_absent_of_a_store_has_a_default() {
    let problem = merged(
        r#"{"household_id":1,"stability":{},
        "evs":[{"id":"car","arrival_slot":0,"departure_slot":4,"capacity_kwh":52,"soc_kwh":20,"charge_kw":11}],
        "heat_stores":[{"id":"house","power_kw":2,"cop":3,"kwh_per_k":2,"loss_kw_per_k":0.1,"temperature_c":20,
                        "min_c":19,"max_c":22,"ambient_c":[5,4,3,2]}]}"#,
    );
    let ev = Ev {
        id: "car".to_owned(),
        arrival_slot: 0,
        departure_slot: 4,
        capacity_kwh: 52.0,
        soc_kwh: 20.0,
        min_soc_kwh: 0.0,
        goal_soc_kwh: 20.0,
        charge_kw: 11.0,
        min_charge_kw: 0.0,
        discharge_kw: 0.0,
        charge_efficiency: 1.0,
        discharge_efficiency: 1.0,
        end_value_per_kwh: 0.0,
        wear_cost_per_kwh: 0.0,
    };
    assert_eq!(problem.evs, [ev]);
    let store = &problem.heat_stores[0];
    assert_eq!(store.cop, [3.0; 4]);
    assert_eq!(store.ambient_c, [5.0, 4.0, 3.0, 2.0]);
    assert_eq!(store.draw_kw, [0.0; 4]);
    assert_eq!(store.end_value_per_kwh, 0.0);
    let stability = Stability {
        battery_cost_per_kwh: 0.0,
        start_cost: 0.0,
        soc_change_kwh: Vec::new(),
        start_slots: std::collections::BTreeMap::new(),
    };
    assert_eq!(problem.stability, Some(stability));
    assert_eq!(problem.time_limit_ms, None);
}

#[test]
fn the_engines_stores_count_where_none_are_given() {
    let engine = engine_problem_with_stores();
    let merged = |json: &str| body(json).into_problem(Some(&engine)).unwrap();
    assert_eq!(merged(r#"{"household_id":1}"#), engine);

    let other =
        merged(r#"{"household_id":1,"evs":[],"heat_stores":[],"stability":null,"grid":{}}"#);
    assert_eq!((other.evs, other.heat_stores), (Vec::new(), Vec::new()));
    assert_eq!((other.stability, other.grid), (None, Grid::OPEN));
    assert_eq!(other.time_limit_ms, Some(750));

    let shorter = merged(r#"{"household_id":1,"load_kw":[1,2]}"#);
    assert_eq!(shorter.evs, [], "the EV leaves after the horizon");
    let store = &shorter.heat_stores[0];
    assert_eq!(store.cop, [3.0, 3.25]);
    assert_eq!((store.ambient_c.len(), store.draw_kw.len()), (2, 2));
    assert_eq!(shorter.stability.unwrap().soc_change_kwh, [0.5, -0.5]);

    // On other slots the engine's EVs, heat and plan before mean nothing.
    let elsewhere = merged(&WHOLE.replace("12:00", "13:00"));
    assert_eq!(
        (elsewhere.evs, elsewhere.heat_stores),
        (Vec::new(), Vec::new())
    );
    assert_eq!(elsewhere.stability, None);
}

#[test]
fn bodies_that_do_not_read_say_why() {
    let without = |field: &str| {
        let start = STORES.find(&format!("\"{field}\":")).unwrap();
        let end = start + STORES[start..].find(',').unwrap() + 1;
        format!("{}{}", &STORES[..start], &STORES[end..])
    };
    let with = |old: &str, new: &str| {
        assert!(STORES.contains(old), "{old}");
        STORES.replacen(old, new, 1)
    };
    let cases = [
        (without("departure_slot"), "missing field `departure_slot`"),
        (without("charge_kw"), "missing field `charge_kw`"),
        (without("ambient_c"), "missing field `ambient_c`"),
        (
            with("\"goal_soc_kwh\"", "\"goal_kwh\""),
            "unknown field `goal_kwh`",
        ),
        (with("\"max_c\"", "\"max_k\""), "unknown field `max_k`"),
        (with("\"start_cost\"", "\"cost\""), "unknown field `cost`"),
        (with("\"peak_kw\"", "\"peak\""), "unknown field `peak`"),
        (
            with("\"cop\":[3,3.25,3.5,3.75]", "\"cop\":[3,null]"),
            "cop, ambient_c, draw_kw: expected a number, or an array with a number for each slot",
        ),
        (
            with("\"ambient_c\":18", "\"ambient_c\":\"mild\""),
            "cop, ambient_c, draw_kw: expected a number, or an array with a number for each slot",
        ),
        (
            with("\"arrival_slot\":1", "\"arrival_slot\":-1"),
            "invalid value: integer `-1`, expected u32",
        ),
        (
            with("\"time_limit_ms\":750", "\"time_limit_ms\":0.5"),
            "invalid type: floating point `0.5`, expected u32",
        ),
    ];
    for (json, expected) in cases {
        let error = serde_json::from_str::<OptimizeBody>(&json).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_shorter_series_shortens_the_horizon() {
    let problem = merged(r#"{"household_id":1,"load_kw":[1,2]}"#);
    assert_eq!(problem.load_kw, [1.0, 2.0]);
    assert_eq!(problem.buy_price.len(), 2);
    assert_eq!(problem.appliances, []);
}

#[test]
fn refusals_name_the_field() {
    let engine = engine_problem();
    let engine = Some(&engine);
    refused(
        r#"{"household_id":0}"#,
        engine,
        "household_id: expected a positive integer, found 0",
    );
    refused(
        r#"{"household_id":1,"load_kw":[1,1,1,1,1]}"#,
        engine,
        "pv_kw: required: the engine knows 4 of 5",
    );
    // The engine's series begin at another time: laid under these slots they would be wrong in silence.
    refused(
        r#"{"household_id":1,"start":"2025-09-13T00:00:00Z"}"#,
        engine,
        "load_kw: required with another start or slot_minutes",
    );
    refused(
        r#"{"household_id":1,"slot_minutes":30}"#,
        engine,
        "load_kw: required with another start or slot_minutes",
    );
    refused(
        r#"{"household_id":1,"start":"soon"}"#,
        engine,
        "start: expected an RFC 3339 time with an offset, found \"soon\"",
    );
    refused(
        r#"{"household_id":1}"#,
        None,
        "start: required where the engine knows no value",
    );
    let unknown: Result<OptimizeBody, _> =
        serde_json::from_str(r#"{"household_id":1,"bateries":{}}"#);
    assert!(unknown.unwrap_err().to_string().contains("bateries"));
}

#[track_caller]
fn check_json(value: &impl serde::Serialize, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
}

fn relaxed() -> Schedule {
    let metrics = Metrics {
        cost: 1.5,
        grid_import_kwh: 5.0,
        grid_export_kwh: 0.0,
        autarky: 0.25,
        self_consumption: 1.0,
    };
    Schedule {
        schedule_id: "1-1757671200000-0".to_owned(),
        request_id: "1-1757671200000-0".to_owned(),
        household_id: id(),
        requested_ms: START_MS - 1,
        start_ms: START_MS,
        slot_minutes: 15,
        adopt: true,
        solve_us: 1234,
        forecast: Some(Rungs {
            load: LoadRung::PastDays,
            pv: PvRung::RecentSky,
        }),
        plan: Plan {
            status: Status::Relaxed,
            relaxed: vec![Relaxation {
                constraint: "grid.import_limit_kw".to_owned(),
                amount: 0.5,
            }],
            objective: 1.5,
            solver: "milp".to_owned(),
            gap: 0.0,
            metrics,
            baseline: metrics,
            slots: vec![PlannedSlot {
                start_ms: START_MS,
                load_kw: 0.5,
                pv_kw: 0.0,
                grid_import_kw: 0.5,
                grid_export_kw: 0.0,
                battery_charge_kw: 0.0,
                battery_discharge_kw: 0.0,
                soc_kwh: 4.0,
                appliances: [("dishwasher".to_owned(), true)].into(),
                shadow_price: 0.3,
                policy: None,
                evs: std::collections::BTreeMap::new(),
                heat: std::collections::BTreeMap::new(),
            }],
        },
    }
}

#[test]
fn a_schedule_is_written_as_documented() {
    check_json(
        &ScheduleBody::from(&relaxed()),
        &expect![[r#"
            {
              "id": "1-1757671200000-0",
              "household_id": 1,
              "requested": "2025-09-12T09:59:59.999Z",
              "adopted": true,
              "forecast": {
                "load": "past_days",
                "pv": "recent_sky"
              },
              "start": "2025-09-12T10:00:00Z",
              "slot_minutes": 15,
              "status": "relaxed",
              "reason": null,
              "relaxed": [
                {
                  "constraint": "grid.import_limit_kw",
                  "amount": 0.5
                }
              ],
              "objective": 1.5,
              "solver": "milp",
              "gap": 0.0,
              "solve_us": 1234,
              "metrics": {
                "cost": 1.5,
                "grid_import_kwh": 5.0,
                "grid_export_kwh": 0.0,
                "autarky": 0.25,
                "self_consumption": 1.0
              },
              "baseline": {
                "cost": 1.5,
                "grid_import_kwh": 5.0,
                "grid_export_kwh": 0.0,
                "autarky": 0.25,
                "self_consumption": 1.0
              },
              "slots": [
                {
                  "start": "2025-09-12T10:00:00Z",
                  "load_kw": 0.5,
                  "pv_kw": 0.0,
                  "grid_import_kw": 0.5,
                  "grid_export_kw": 0.0,
                  "battery_charge_kw": 0.0,
                  "battery_discharge_kw": 0.0,
                  "soc_kwh": 4.0,
                  "appliances": {
                    "dishwasher": true
                  },
                  "shadow_price": 0.3
                }
              ]
            }"#]],
    );
}

#[test]
fn a_slots_evs_and_heat_are_written() {
    let mut slot = PlannedSlot {
        start_ms: START_MS,
        load_kw: 0.5,
        pv_kw: 0.0,
        grid_import_kw: 9.0,
        grid_export_kw: 0.0,
        battery_charge_kw: 0.0,
        battery_discharge_kw: 0.0,
        soc_kwh: 0.0,
        appliances: std::collections::BTreeMap::new(),
        evs: std::collections::BTreeMap::new(),
        heat: std::collections::BTreeMap::new(),
        shadow_price: 0.25,
        policy: None,
    };
    let ev = PlannedEv {
        charge_kw: 7.0,
        discharge_kw: 0.0,
        soc_kwh: 21.5,
    };
    slot.evs.insert("car".to_owned(), ev);
    let heat = PlannedHeat {
        power_kw: 1.5,
        temperature_c: 48.25,
    };
    slot.heat.insert("tank".to_owned(), heat);
    check_json(
        &PlannedSlotBody::from(&slot),
        &expect![[r#"
        {
          "start": "2025-09-12T10:00:00Z",
          "load_kw": 0.5,
          "pv_kw": 0.0,
          "grid_import_kw": 9.0,
          "grid_export_kw": 0.0,
          "battery_charge_kw": 0.0,
          "battery_discharge_kw": 0.0,
          "soc_kwh": 0.0,
          "appliances": {},
          "evs": {
            "car": {
              "charge_kw": 7.0,
              "discharge_kw": 0.0,
              "soc_kwh": 21.5
            }
          },
          "heat": {
            "tank": {
              "power_kw": 1.5,
              "temperature_c": 48.25
            }
          },
          "shadow_price": 0.25
        }"#]],
    );
}

#[test]
fn metadata_is_checked() {
    let put = |json: &str| -> Result<_, FieldError> {
        serde_json::from_str::<MetadataBody>(json)
            .unwrap()
            .into_metadata(id())
    };
    let metadata = put(r#"{"tariff":"flat"}"#).unwrap();
    assert_eq!(metadata.household_id, id());
    assert_eq!(metadata.weights, Weights::COST);
    assert_eq!(metadata.grid, Grid::OPEN);
    let body = serde_json::to_string(&MetadataBody::from(&metadata)).unwrap();
    assert_eq!(put(&body).unwrap(), metadata);

    let grid = |json: &str| put(&format!(r#"{{"tariff":"flat","grid":{json}}}"#));
    let peak = grid(r#"{"import_limit_kw":11,"peak_price_per_kw":12.5,"peak_kw":3.5}"#).unwrap();
    let expected = Grid {
        import_limit_kw: Some(11.0),
        export_limit_kw: None,
        peak_price_per_kw: 12.5,
        peak_kw: 3.5,
    };
    assert_eq!(peak.grid, expected);
    let body = serde_json::to_string(&MetadataBody::from(&peak)).unwrap();
    assert_eq!(put(&body).unwrap(), peak);
    for (json, expected) in [
        (
            r#"{"peak_price_per_kw":-1}"#,
            "grid.peak_price_per_kw: expected 0 to 100000, found -1",
        ),
        (
            r#"{"peak_kw":10001}"#,
            "grid.peak_kw: expected 0 to 10000, found 10001",
        ),
    ] {
        assert_eq!(grid(json).unwrap_err().to_string(), expected);
    }

    let refused = |json: &str, field: &str| assert_eq!(put(json).unwrap_err().field, field);
    refused(r#"{"household_id":2,"tariff":"flat"}"#, "household_id");
    refused(r#"{"tariff":"flat","pv_capacity_kw":-1}"#, "pv_capacity_kw");
    let battery = |capacity: f64, max: f64, efficiency: f64| {
        format!(
            r#"{{"tariff":"flat","battery":{{"capacity_kwh":{capacity},"min_soc_kwh":1,"max_soc_kwh":{max},"charge_kw":5,
            "discharge_kw":5,"charge_efficiency":{efficiency},"discharge_efficiency":0.9,"wear_cost_per_kwh":0}}}}"#
        )
    };
    put(&battery(10.0, 10.0, 1.0)).unwrap();
    refused(&battery(0.0, 0.0, 1.0), "battery.capacity_kwh");
    refused(&battery(10.0, 11.0, 1.0), "battery.max_soc_kwh");
    refused(&battery(10.0, 0.5, 1.0), "battery.min_soc_kwh");
    refused(&battery(10.0, 10.0, 1.1), "battery.charge_efficiency");
}

#[test]
fn a_tariffs_periods_ascend() {
    let period = |start: &str, end: &str| {
        format!(r#"{{"start":"{start}","end":"{end}","buy":0.25,"sell":-0.01}}"#)
    };
    let put = |periods: &[String]| {
        let json = format!(r#"{{"periods":[{}]}}"#, periods.join(","));
        serde_json::from_str::<TariffBody>(&json)
            .unwrap()
            .into_tariff("t")
    };
    let (ten, eleven, twelve) = (
        "2025-09-12T12:00:00+02:00",
        "2025-09-12T11:00:00Z",
        "2025-09-12T12:00:00Z",
    );
    let tariff = put(&[period(ten, eleven), period(eleven, twelve)]).unwrap();
    assert_eq!(tariff.periods[0].start_ms, START_MS);
    assert_eq!(tariff.periods[1].sell_per_kwh, -0.01);
    let zero = period(ten, eleven).replace("0.25", "-0.0");
    let zero = TariffBody::from(&put(&[zero]).unwrap());
    assert!(zero.periods[0].buy.is_sign_positive(), "{zero:?}");
    let refused =
        |periods: &[String], field: &str| assert_eq!(put(periods).unwrap_err().field, field);
    refused(&[period(eleven, ten)], "periods[0].end");
    refused(
        &[period(ten, twelve), period(eleven, twelve)],
        "periods[1].start",
    );
    refused(&[period("yesterday", twelve)], "periods[0].start");
}

proptest! {
    #[test]
    fn a_series_is_one_number_or_one_a_slot(
        same in prop::num::f64::NORMAL,
        each in prop::collection::vec(prop::num::f64::NORMAL, 0..6),
    ) {
        let json = |series: String| {
            let store = format!(
                r#"{{"id":"h","power_kw":1,"cop":{series},"kwh_per_k":1,"loss_kw_per_k":0,"temperature_c":1,"min_c":0,
                "max_c":2,"ambient_c":0}}"#
            );
            format!(r#"{{"household_id":1,"heat_stores":[{store}]}}"#)
        };
        let cop = |json: &str| merged(json).heat_stores.swap_remove(0).cop;
        prop_assert_eq!(cop(&json(serde_json::to_string(&same).unwrap())), [same; 4]);
        // Its length is for the scheduler to check.
        prop_assert_eq!(cop(&json(serde_json::to_string(&each).unwrap())), each);
    }
}

#[test]
fn scenarios_are_read_and_weigh_the_same_unless_they_say_so() {
    let given = r#""scenarios":[{"load_kw":[1,2],"pv_kw":[0,1]},{"weight":2.5,"load_kw":[0,0],"pv_kw":[0,0]}]"#;
    let whole = WHOLE.replacen('{', &format!("{{{given},"), 1);
    let problem = body(&whole).into_problem(None).unwrap();
    let scenario = |weight: f64, load_kw: [f64; 2], pv_kw: [f64; 2]| Scenario {
        weight,
        load_kw: load_kw.to_vec(),
        pv_kw: pv_kw.to_vec(),
    };
    let expected = [
        scenario(1.0, [1.0, 2.0], [0.0, 1.0]),
        scenario(2.5, [0.0; 2], [0.0; 2]),
    ];
    assert_eq!(problem.scenarios, expected);
    assert!(!body(r#"{"household_id":1,"scenarios":[]}"#).is_household_alone());
}

#[test]
fn the_engines_scenarios_count_on_its_own_slots_and_load() {
    let mut engine = engine_problem();
    engine.scenarios = vec![Scenario {
        weight: 1.0,
        load_kw: vec![0.25, 0.5, 0.75, 1.0],
        pv_kw: vec![1.0; 4],
    }];
    let merged = |json: &str| body(json).into_problem(Some(&engine)).unwrap().scenarios;
    assert_eq!(merged(r#"{"household_id":1}"#), engine.scenarios);
    let shorter = merged(r#"{"household_id":1,"buy_price":[0.3,0.2]}"#);
    assert_eq!(shorter[0].load_kw, [0.25, 0.5]);
    assert_eq!(shorter[0].pv_kw, [1.0, 1.0]);
    assert_eq!(merged(r#"{"household_id":1,"scenarios":[]}"#), []);
    assert_eq!(merged(r#"{"household_id":1,"load_kw":[1,1,1,1]}"#), []);
    assert_eq!(merged(&WHOLE.replace("12:00", "13:00")), []);
}

#[test]
fn a_signal_is_read_and_a_null_takes_it_away() {
    let caps = r#""signal":{"price_per_kwh":[0.05,-0.1],"import_cap_kw":[2.5,null],"export_cap_kw":[null,-1],
        "import_breach_price_per_kwh":2,"export_breach_price_per_kwh":1.5}"#;
    let whole = |given: &str| WHOLE.replacen('{', &format!("{{{given},"), 1);
    let signal = Signal {
        price_per_kwh: vec![0.05, -0.1],
        import_cap_kw: vec![Some(2.5), None],
        export_cap_kw: vec![None, Some(-1.0)],
        import_breach_price_per_kwh: 2.0,
        export_breach_price_per_kwh: 1.5,
    };
    let problem = body(&whole(caps)).into_problem(None).unwrap();
    assert_eq!(problem.signal, Some(signal));
    let price = body(&whole(r#""signal":{"price_per_kwh":[0.05,0]}"#));
    let only_price = price.into_problem(None).unwrap().signal.unwrap();
    assert!(!only_price.has_caps());
    assert_eq!(only_price.price(0), 0.05);
    refused(
        &whole(r#""signal":{"export_cap_kw":[1,1],"import_breach_price_per_kwh":2}"#),
        None,
        "signal.export_breach_price_per_kwh: required with export_cap_kw",
    );
    assert!(!body(r#"{"household_id":1,"signal":null}"#).is_household_alone());
    let unknown = serde_json::from_str::<OptimizeBody>(&whole(r#""signal":{"cap_kw":[1,1]}"#));
    assert!(unknown.is_err());

    let mut engine = engine_problem();
    engine.signal = Some(Signal {
        price_per_kwh: vec![0.1, 0.2, 0.3, 0.4],
        import_cap_kw: vec![Some(1.0); 4],
        ..Signal::default()
    });
    let merged = |json: &str| body(json).into_problem(Some(&engine)).unwrap().signal;
    assert_eq!(merged(r#"{"household_id":1}"#), engine.signal);
    let shorter = merged(r#"{"household_id":1,"load_kw":[1,2]}"#).unwrap();
    assert_eq!(shorter.price_per_kwh, [0.1, 0.2]);
    assert_eq!(shorter.import_cap_kw, [Some(1.0); 2]);
    assert_eq!(merged(r#"{"household_id":1,"signal":null}"#), None);
    assert_eq!(merged(&WHOLE.replace("12:00", "13:00")), None);
}

#[test]
fn a_slots_policy_is_written() {
    let policy = SlotPolicy {
        battery: Some(BatteryPolicy {
            mode: Mode::SelfConsumption,
            charge_from_grid_to_kwh: None,
            charge_from_pv_to_kwh: Some(9.5),
            discharge_to_home_to_kwh: Some(-0.0),
            discharge_to_grid_to_kwh: None,
            charge_from_excess_to_kwh: None,
            discharge_to_excess_to_kwh: None,
            setpoint_kw: None,
            expected_kw: -0.5,
        }),
        import_max_kw: Some(3.5),
        export_max_kw: None,
        value_per_kwh: 0.25,
        reason: Reason::DearLater,
    };
    check_json(
        &PolicyBody::from(&policy),
        &expect![[r#"
            {
              "reason": "dear_later",
              "value_per_kwh": 0.25,
              "import_max_kw": 3.5,
              "export_max_kw": null,
              "battery": {
                "mode": "self_consumption",
                "charge_from_grid_to_kwh": null,
                "charge_from_pv_to_kwh": 9.5,
                "discharge_to_home_to_kwh": 0.0,
                "discharge_to_grid_to_kwh": null,
                "charge_from_excess_to_kwh": null,
                "discharge_to_excess_to_kwh": null,
                "setpoint_kw": null,
                "expected_kw": -0.5
              }
            }"#]],
    );
}
