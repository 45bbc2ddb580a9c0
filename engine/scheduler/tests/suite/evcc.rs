//! Home scheduling cases that another solver has answered, most of them from real homes: each is stated as one of our
//! problems, or as a chain of them, and the two answers are compared by what they are worth. See `../data/README.md`
//! and `docs/reference/cases.md`.

use std::ops::Range;

use model::problem::{Battery, Ev, Problem};
use model::schedule::{Plan, PlannedSlot};
use serde_json::Value;

use crate::agreed::agreed;
use crate::page;
use crate::support::{battery, ev, home, with};

/// What a figure may differ from the one stated for it: both are rounded to six digits.
const ROUNDED: f64 = 1e-6;
/// What the values of the two answers may differ by, relative.
const SAME_VALUE: f64 = 1e-5;
/// The strategies that level the import charge this share of the largest price, per W of the highest import.
const LEVELLING: f64 = 1e-3;

/// One case and how it is stated.
struct Case {
    label: &'static str,
    text: &'static str,
    /// Where the horizon is cut in a chain of problems, each beginning with the SoC that the one before ends with.
    cuts: &'static [usize],
    /// First slot in which the EV is gone; `None` for the end.
    departure: Option<usize>,
    answer: Answer,
    /// The objective of each problem of the chain, and the goal that is missed there, kWh.
    found: &'static [(f64, Option<f64>)],
}

/// How the file's answer stands to ours.
#[derive(Debug, PartialEq)]
enum Answer {
    /// Worth the same; our plan keeps the rules that only the case has.
    Equal,
    /// Worth less, under a rule that we cannot state.
    Worse,
}

const CASES: [Case; 10] = [
    Case {
        label: "009",
        text: include_str!("../data/009-discharge-before-import.json"),
        found: &[(-3.481_546, None)],
        ..WHOLE
    },
    Case {
        label: "010",
        text: include_str!("../data/010-infesible-charge-goal.json"),
        cuts: &[1, 10],
        found: &[
            (0.041_716, Some(67.011_52)),
            (1.855_329, Some(37.203_52)),
            (-8.702_642, None),
        ],
        ..WHOLE
    },
    Case {
        label: "013",
        text: include_str!("../data/013-grid-export-limit-hit.json"),
        cuts: &[10, 22],
        found: &[
            (-11.973_508, None),
            (-30.688_743, None),
            (-15.167_416, None),
        ],
        ..WHOLE
    },
    Case {
        label: "019",
        text: include_str!("../data/019-unexpected-charge-spikes.json"),
        found: &[(-2.788_716, None)],
        ..WHOLE
    },
    Case {
        label: "022",
        text: include_str!("../data/022-feed-in-cap-recovery.json"),
        found: &[(-200.38, None)],
        ..WHOLE
    },
    Case {
        label: "023",
        text: include_str!("../data/023-c_min-limit-kept-with-p_demand-set.json"),
        departure: Some(20),
        answer: Answer::Worse,
        found: &[(-1.295_696, None)],
        ..WHOLE
    },
    Case {
        label: "024",
        text: include_str!("../data/024-attenuate-demand-peaks.json"),
        found: &[(1_263.473_684, None)],
        ..WHOLE
    },
    Case {
        label: "025",
        text: include_str!("../data/025-attenuate-feedin-peaks.json"),
        found: &[(-1_178.947_368, None)],
        ..WHOLE
    },
    Case {
        label: "026",
        text: include_str!("../data/026-attenuate-grid-peaks.json"),
        found: &[(389.821_053, None)],
        ..WHOLE
    },
    Case {
        label: "027",
        text: include_str!("../data/027-attenuate-feedin-peaks-below-cap.json"),
        found: &[(-149.4, None)],
        ..WHOLE
    },
];

/// A case that is one problem, with an EV that stays.
const WHOLE: Case = Case {
    label: "",
    text: "",
    cuts: &[],
    departure: None,
    answer: Answer::Equal,
    found: &[],
};

/// A case in the terms of its file: Wh, W and currency per Wh.
struct File(Value);

impl File {
    fn series(&self, name: &str) -> Vec<f64> {
        numbers(&self.0["request"]["time_series"][name])
    }

    /// Seconds of each step.
    fn steps(&self) -> Vec<f64> {
        self.series("dt")
    }

    /// Its batteries with their number, without those that hold nothing.
    fn stores(&self) -> Vec<(usize, &Value)> {
        let all = self.0["request"]["batteries"].as_array();
        let all = all.expect("batteries").iter().enumerate();
        all.filter(|(_, store)| number(store, "s_max") > 0.0)
            .collect()
    }

    /// What `import` and `export` of each step, Wh, and the content at the end are worth.
    fn value(&self, import: &[f64], export: &[f64], left: f64) -> f64 {
        let all = |prices: Vec<f64>, energies: &[f64]| -> f64 {
            prices.iter().zip(energies).map(|(p, e)| p * e).sum()
        };
        all(self.series("p_E"), export) - all(self.series("p_N"), import) + left
    }

    /// What its own answer is worth.
    fn answer_value(&self) -> f64 {
        let answer = &self.0["expected_response"];
        let left = self.stores().into_iter().map(|(index, store)| {
            let soc = numbers(&answer["batteries"][index]["state_of_charge"]);
            number(store, "p_a") * soc.last().expect("a step")
        });
        self.value(
            &numbers(&answer["grid_import"]),
            &numbers(&answer["grid_export"]),
            left.sum(),
        )
    }

    /// `store` in kW and kWh, with the rates of a slot of which a step takes this `share`.
    fn battery(&self, store: &Value, share: f64, soc_kwh: f64) -> Battery {
        let kilo = |name: &str| number(store, name) / 1000.0;
        let request = &self.0["request"];
        Battery {
            soc_kwh,
            min_soc_kwh: kilo("s_min"),
            charge_kw: kilo("c_max") * share,
            discharge_kw: kilo("d_max") * share,
            charge_efficiency: number(request, "eta_c"),
            discharge_efficiency: number(request, "eta_d"),
            end_value_per_kwh: number(store, "p_a") * 1000.0,
            ..battery(kilo("s_max"))
        }
    }

    /// What a W of the highest import costs.
    fn peak_price(&self) -> f64 {
        let strategy = self.0["request"]["strategy"]["charging_strategy"].as_str();
        if !matches!(
            strategy,
            Some("attenuate_demand_peaks" | "attenuate_grid_peaks")
        ) {
            return 0.0;
        }
        let values = self.stores().into_iter().map(|(_, s)| number(s, "p_a"));
        let prices = self.series("p_N").into_iter().chain(self.series("p_E"));
        LEVELLING * prices.chain(values).fold(1e-4, f64::max)
    }
}

fn number(object: &Value, name: &str) -> f64 {
    object[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} is a number"))
}

fn numbers(series: &Value) -> Vec<f64> {
    let all = series.as_array().expect("a series").iter();
    all.map(|v| v.as_f64().expect("a number")).collect()
}

/// Whether `store` may do what `rule` says; silence is no.
fn may(store: &Value, rule: &str) -> bool {
    store[rule].as_bool().unwrap_or(false)
}

/// A store of the file is an EV where it charges at no less than some power, and the battery otherwise.
fn is_ev(store: &Value) -> bool {
    number(store, "c_min") > 0.0
}

/// The SoC that `store` must have by the end of `part`. A goal after the part is one already: it is cut only where the
/// goal takes all that can be charged until then.
fn goal(store: &Value, part: &Range<usize>) -> f64 {
    if store["p_demand"].is_array() {
        return number(store, "s_max");
    }
    if store["s_goal"].is_null() {
        return 0.0;
    }
    let goals = numbers(&store["s_goal"]);
    let ahead = goals[part.end - 1..].iter();
    ahead.copied().find(|soc| *soc > 0.0).unwrap_or(0.0)
}

/// Steps `part` of the case, in kWh and currency per kWh. The energy of a step is kept, also where it is shorter than
/// the others; its rates are those of a whole slot, unless it stands alone. `soc_wh` is that of each store.
fn problem(case: &Case, file: &File, part: &Range<usize>, soc_wh: &[f64]) -> Problem {
    let steps = file.steps();
    let stands_alone = part.len() == 1;
    let seconds = if stands_alone {
        3600.0
    } else {
        steps[part.end - 1]
    };
    let share = steps[part.end - 1] / seconds;
    let in_slots = |name: &str, factor: f64| -> Vec<f64> {
        let values = &file.series(name)[part.clone()];
        values.iter().map(|value| value * factor).collect()
    };
    let kw_of_wh = 3.6 / seconds;
    let (load, pv) = (in_slots("gt", kw_of_wh), in_slots("ft", kw_of_wh));
    with(home(&load, &pv, &in_slots("p_N", 1000.0)), |p| {
        p.slot_minutes = (seconds / 60.0) as u32;
        p.sell_price = in_slots("p_E", 1000.0);
        p.grid.peak_price_per_kw = file.peak_price() * 1000.0;
        // What cannot be exported is lost in the file's model.
        let limit = file.0["request"]["grid"]["p_max_exp"].as_f64();
        p.grid.export_limit_kw = limit.map(|watts| watts / 1000.0);
        p.pv_curtailable = limit.is_some();
        for ((_, store), soc) in file.stores().into_iter().zip(soc_wh) {
            let mut battery = file.battery(store, share, soc / 1000.0);
            battery.end_soc_min_kwh = goal(store, part) / 1000.0;
            // With surplus in every step, all that it discharges would be sold.
            if !may(store, "discharge_to_grid") && (0..part.len()).all(|t| pv[t] >= load[t]) {
                battery.discharge_kw = 0.0;
            }
            if is_ev(store) {
                let starts_short = !stands_alone && steps[part.start] < seconds;
                let departure = case.departure.unwrap_or(part.end).min(part.end) - part.start;
                let least_kw = number(store, "c_min") / 1000.0 * share;
                p.evs.push(car(
                    &battery,
                    least_kw,
                    usize::from(starts_short)..departure,
                ));
            } else {
                assert!(p.battery.is_none(), "one battery");
                p.battery = Some(battery);
            }
        }
    })
}

/// What `battery` is as an EV that is there in the slots `stay`.
fn car(battery: &Battery, min_charge_kw: f64, stay: Range<usize>) -> Ev {
    Ev {
        capacity_kwh: battery.capacity_kwh,
        soc_kwh: battery.soc_kwh,
        min_soc_kwh: battery.min_soc_kwh,
        goal_soc_kwh: battery.end_soc_min_kwh,
        charge_kw: battery.charge_kw,
        min_charge_kw,
        discharge_kw: battery.discharge_kw,
        charge_efficiency: battery.charge_efficiency,
        discharge_efficiency: battery.discharge_efficiency,
        end_value_per_kwh: battery.end_value_per_kwh,
        ..ev("car", stay.start as u32, stay.end as u32)
    }
}

/// Charge, discharge and SoC of `store` in a slot: kW and kWh.
fn move_of(store: &Value, slot: &PlannedSlot) -> (f64, f64, f64) {
    if is_ev(store) {
        let ev = slot.evs["car"];
        return (ev.charge_kw, ev.discharge_kw, ev.soc_kwh);
    }
    let (charge, discharge) = (slot.battery_charge_kw, slot.battery_discharge_kw);
    (charge, discharge, slot.soc_kwh)
}

/// Where `plan` for steps `part` breaks a rule that only the case has: which way energy may go between grid and store.
/// Rates are those of a step of usual length; a step that is shorter in the file is as long as the others here, and PV is
/// stored in the first that has some.
fn broken_rules(file: &File, part: &Range<usize>, problem: &Problem, plan: &Plan) -> Vec<String> {
    const STILL: f64 = 1e-7;
    let hours = f64::from(problem.slot_minutes) / 60.0;
    let steps = &file.steps()[part.clone()];
    let mut broken = Vec::new();
    for (index, store) in file.stores() {
        for (t, slot) in plan.slots.iter().enumerate() {
            let (charge, discharge, _) = move_of(store, slot);
            let share = (steps[t] / 3600.0 / hours).max(1.0);
            let rules = [
                (
                    "charge_from_grid",
                    charge > STILL && slot.grid_import_kw > STILL,
                ),
                (
                    "discharge_to_grid",
                    discharge > STILL && slot.grid_export_kw > STILL,
                ),
            ];
            for (name, is_broken) in rules {
                if is_broken && !may(store, name) {
                    broken.push(format!("store {index}, slot {t}: {name}"));
                }
            }
            let most = [("c_max", charge), ("d_max", discharge)];
            for (name, power) in most {
                if power > number(store, name) / 1000.0 * share + STILL {
                    broken.push(format!("store {index}, slot {t}: {name}"));
                }
            }
        }
    }
    broken
}

/// The plans of a case's chain in the terms of its file.
struct Answered {
    parts: Vec<(Range<usize>, Problem, Plan)>,
    import_wh: Vec<f64>,
    /// What each store holds at the end of each part, Wh.
    soc_wh: Vec<Vec<f64>>,
    value: f64,
}

fn solved(case: &Case, file: &File) -> Answered {
    let stores = file.stores();
    let initial = stores.iter().map(|(_, store)| number(store, "s_initial"));
    let mut soc_wh = vec![initial.collect::<Vec<f64>>()];
    let (mut start, mut parts) = (0, Vec::new());
    let (mut import_wh, mut export_wh) = (Vec::new(), Vec::new());
    for end in case.cuts.iter().copied().chain([file.steps().len()]) {
        let part = start..end;
        let before = soc_wh.last().expect("the first is there");
        let problem = problem(case, file, &part, before);
        let plan = agreed(&format!("{}, steps {part:?}", case.label), &problem);
        let wh = 1000.0 * f64::from(problem.slot_minutes) / 60.0;
        import_wh.extend(plan.slots.iter().map(|slot| slot.grid_import_kw * wh));
        export_wh.extend(plan.slots.iter().map(|slot| slot.grid_export_kw * wh));
        let last = plan.slots.last().expect("a slot");
        let after = stores
            .iter()
            .map(|(_, store)| 1000.0 * move_of(store, last).2);
        soc_wh.push(after.collect());
        parts.push((part, problem, plan));
        start = end;
    }
    soc_wh.remove(0);
    let last = soc_wh.last().expect("a part");
    let left = stores
        .iter()
        .zip(last)
        .map(|((_, store), soc)| number(store, "p_a") * soc);
    let value = file.value(&import_wh, &export_wh, left.sum());
    Answered {
        parts,
        import_wh,
        soc_wh,
        value,
    }
}

/// The figures of each problem are those stated in [`CASES`].
fn check_found(case: &Case, answered: &Answered) {
    let label = case.label;
    assert_eq!(answered.parts.len(), case.found.len(), "{label}");
    for ((part, _, plan), (objective, missed)) in answered.parts.iter().zip(case.found) {
        let difference = (plan.objective - objective).abs();
        assert!(
            difference < ROUNDED,
            "{label}: {} instead of {objective}",
            plan.objective
        );
        match (plan.relaxed.as_slice(), missed) {
            ([], None) => {}
            ([relaxed], Some(missed)) => {
                assert_eq!(relaxed.constraint, "evs.car.goal_soc_kwh", "{label}");
                assert!(
                    (relaxed.amount - missed).abs() < ROUNDED,
                    "{label}: {relaxed:?}"
                );
            }
            (other, _) => panic!("{label}, steps {part:?}: {other:?} instead of {missed:?}"),
        }
    }
}

/// What the file's answer says of the places where ours follows its rules by a detour.
fn check_same_shape(case: &Case, file: &File, answered: &Answered) {
    for (part, problem, plan) in &answered.parts {
        assert_eq!(
            broken_rules(file, part, problem, plan),
            [""; 0],
            "{}",
            case.label
        );
    }
    let close = |ours: f64, theirs: f64, what: &str| {
        assert!(
            (ours - theirs).abs() < 1e-3,
            "{}: {what} {ours}, not {theirs} Wh",
            case.label
        );
    };
    let answer = &file.0["expected_response"];
    // Where a goal is out of reach there is one best thing to do, so that cutting there loses nothing.
    let cuts = case.cuts.iter().zip(&answered.soc_wh).zip(case.found);
    for ((end, soc), _) in cuts.filter(|(_, (_, missed))| missed.is_some()) {
        for ((index, _), soc) in file.stores().iter().zip(soc) {
            let theirs = &numbers(&answer["batteries"][index]["state_of_charge"]);
            close(*soc, theirs[end - 1], "at a cut");
        }
    }
    if file.peak_price() > 0.0 {
        let theirs = numbers(&answer["grid_import"]);
        for (ours, theirs) in answered.import_wh.iter().zip(theirs) {
            close(*ours, theirs, "levelled import");
        }
    }
}

#[test]
fn every_case_is_worth_what_its_answer_is() {
    for case in &CASES {
        let file = File(serde_json::from_str(case.text).expect("the case is JSON"));
        let (label, answered) = (case.label, solved(case, &file));
        for (part, _, plan) in &answered.parts {
            let (objective, solver) = (plan.objective, &plan.solver);
            println!("{label}, steps {part:?}: objective {objective:.6} by {solver}");
        }
        let (ours, theirs) = (answered.value, file.answer_value());
        println!("{label}: expected {theirs:.6}, ours {ours:.6}");
        check_found(case, &answered);
        match case.answer {
            Answer::Equal => {
                let difference = (ours - theirs).abs();
                assert!(difference <= SAME_VALUE * theirs.abs(), "{label}");
                check_same_shape(case, &file, &answered);
            }
            Answer::Worse => assert!(ours > theirs, "{label}"),
        }
        page::states(label, &[theirs, ours, ours - theirs]);
    }
}
