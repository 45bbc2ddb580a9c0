//! Values that a message's check refuses, each with the name of its field.

use super::*;

type Spoil<T> = (&'static str, fn(&mut T, f64));

const SPOIL_REQUEST: [Spoil<Problem>; 12] = [
    ("problem.load_kw[1]", |problem, x| {
        problem.load_kw[1] = x;
    }),
    ("problem.battery.soc_kwh", |problem, x| {
        problem.battery.as_mut().unwrap().soc_kwh = x;
    }),
    ("problem.grid.peak_price_per_kw", |problem, x| {
        problem.grid.peak_price_per_kw = x;
    }),
    ("problem.appliances[0].profile_kw[0]", |problem, x| {
        problem.appliances[0].profile_kw[0] = x;
    }),
    ("problem.evs[0].goal_soc_kwh", |problem, x| {
        problem.evs[0].goal_soc_kwh = x;
    }),
    ("problem.heat_stores[0].max_c", |problem, x| {
        problem.heat_stores[0].max_c = x;
    }),
    ("problem.heat_stores[0].cop[1]", |problem, x| {
        problem.heat_stores[0].cop[1] = x;
    }),
    ("problem.stability.start_cost", |problem, x| {
        problem.stability.as_mut().unwrap().start_cost = x;
    }),
    ("problem.weights.revenue", |problem, x| {
        problem.weights.revenue = x;
    }),
    ("problem.signal.price_per_kwh[0]", |problem, x| {
        problem.signal.as_mut().unwrap().price_per_kwh[0] = x;
    }),
    ("problem.signal.import_cap_kw[1]", |problem, x| {
        problem.signal.as_mut().unwrap().import_cap_kw[1] = Some(x);
    }),
    (
        "problem.signal.export_breach_price_per_kwh",
        |problem, x| {
            let signal = problem.signal.as_mut().unwrap();
            signal.export_breach_price_per_kwh = x;
        },
    ),
];

const SPOIL_SCHEDULE: [Spoil<Schedule>; 7] = [
    ("plan.objective", |schedule, x| {
        schedule.plan.objective = x;
    }),
    ("plan.baseline.cost", |schedule, x| {
        schedule.plan.baseline.cost = x;
    }),
    ("plan.relaxed.amount", |schedule, x| {
        schedule.plan.relaxed[0].amount = x;
    }),
    ("plan.slots[0].battery_charge_kw", |schedule, x| {
        schedule.plan.slots[0].battery_charge_kw = x;
    }),
    ("plan.slots[0].shadow_price", |schedule, x| {
        schedule.plan.slots[0].shadow_price = x;
    }),
    ("plan.slots.evs.soc_kwh", |schedule, x| {
        schedule.plan.slots[0]
            .evs
            .values_mut()
            .for_each(|ev| ev.soc_kwh = x);
    }),
    ("plan.slots.heat.temperature_c", |schedule, x| {
        schedule.plan.slots[0]
            .heat
            .values_mut()
            .for_each(|store| store.temperature_c = x);
    }),
];

const SPOIL_METADATA: [Spoil<Metadata>; 5] = [
    ("pv_capacity_kw", |metadata, x| {
        metadata.pv_capacity_kw = x;
    }),
    ("battery.charge_efficiency", |metadata, x| {
        metadata.battery.as_mut().unwrap().charge_efficiency = x;
    }),
    ("grid.import_limit_kw", |metadata, x| {
        metadata.grid.import_limit_kw = Some(x);
    }),
    ("appliances[0].profile_kw[1]", |metadata, x| {
        metadata.appliances[0].profile_kw[1] = x;
    }),
    ("weights.cost", |metadata, x| {
        metadata.weights.cost = x;
    }),
];

/// A field, and the check of its message with another value in it.
type Checked<V> = (&'static str, fn(V) -> Result<(), model::limits::LimitError>);

const SPOIL_OTHERS: [Checked<f64>; 12] = [
    ("consumption_w", |x| {
        reading(Measurement::Meter { consumption_w: x }).check()
    }),
    ("pv_w", |x| reading(Measurement::Pv { pv_w: x }).check()),
    ("soc_pct", |x| {
        reading(Measurement::Battery {
            soc_pct: x,
            power_w: 0.0,
        })
        .check()
    }),
    ("power_w", |x| {
        reading(Measurement::Battery {
            soc_pct: 5.0,
            power_w: x,
        })
        .check()
    }),
    ("battery.capacity_kwh", |x| {
        let mut command = command();
        command.battery.as_mut().unwrap().capacity_kwh = x;
        command.check()
    }),
    ("program[0].policy.battery.discharge_to_home_to_kwh", |x| {
        let mut command = command();
        let policy = command.program[0].policy.as_mut().unwrap();
        policy.battery.as_mut().unwrap().discharge_to_home_to_kwh = Some(x);
        command.check()
    }),
    ("program[0].evs.charge_kw", |x| {
        let mut command = command();
        let mut evs = command.program[0].evs.values_mut();
        evs.next().unwrap().charge_kw = x;
        command.check()
    }),
    ("program[1].heat.power_kw", |x| {
        let mut command = command();
        let mut heat = command.program[1].heat.values_mut();
        heat.next().unwrap().power_kw = x;
        command.check()
    }),
    ("periods[0].buy", |x| {
        let mut tariff = tariff();
        tariff.periods[0].buy_per_kwh = x;
        tariff.check()
    }),
    ("periods[0].ghi_w_per_m2", |x| {
        let mut weather = weather();
        weather.periods[0].ghi_w_per_m2 = x;
        weather.check()
    }),
    ("slot.pv_w.max", |x| {
        let mut slot = slot();
        slot.slot.pv_w.max = x;
        slot.check()
    }),
    ("slot.soc_pct", |x| {
        let mut slot = slot();
        slot.slot.soc_pct = Some(x);
        slot.check()
    }),
];

/// Checks that decoding the encoded value fails and names the field.
#[track_caller]
fn check_refused<T: Message + std::fmt::Debug>(value: &T, field: &str) {
    let codec = Codec::single_object();
    let decoded = codec.decode::<T>(&codec.encode(value).unwrap());
    match decoded {
        Err(CodecError::Rule { rule, .. }) => assert_eq!(rule.field, field),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn numbers_that_are_none_or_absurd_are_refused_by_name() {
    for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
        for (field, spoil) in SPOIL_REQUEST {
            let mut request = request();
            spoil(&mut request.problem, x);
            check_refused(&request, field);
        }
        for (field, spoil) in SPOIL_SCHEDULE {
            let mut schedule = schedule();
            spoil(&mut schedule, x);
            check_refused(&schedule, field);
        }
        for (field, spoil) in SPOIL_METADATA {
            let mut metadata = metadata();
            spoil(&mut metadata, x);
            check_refused(&metadata, field);
        }
        for (field, check) in SPOIL_OTHERS {
            assert_eq!(check(x).unwrap_err().field, field);
        }
    }
}

/// Every time of every message, by the name that its error gives.
const SPOIL_TIMES: [Checked<i64>; 21] = [
    ("ts_ms", |ts_ms| {
        Reading {
            ts_ms,
            ..reading(Measurement::Pv { pv_w: 1.0 })
        }
        .check()
    }),
    ("ts_ms", |ts_ms| Ack { ts_ms, ..ack() }.check()),
    ("ts_ms", |ts_ms| Alert { ts_ms, ..alert() }.check()),
    ("refused_ms", |refused_ms| {
        DeadLetter {
            refused_ms,
            ..dead_letter(Reason::Poison)
        }
        .check()
    }),
    ("requested_ms", |requested_ms| {
        Command {
            requested_ms,
            ..command()
        }
        .check()
    }),
    ("issued_ms", |issued_ms| {
        Command {
            issued_ms,
            ..command()
        }
        .check()
    }),
    ("expires_ms", |expires_ms| {
        Command {
            expires_ms,
            ..command()
        }
        .check()
    }),
    ("requested_ms", |requested_ms| {
        OptimizeRequest {
            requested_ms,
            ..request()
        }
        .check()
    }),
    ("problem.start_ms", |start_ms| {
        let mut request = request();
        request.problem.start_ms = start_ms;
        request.check()
    }),
    ("requested_ms", |requested_ms| {
        Schedule {
            requested_ms,
            ..schedule()
        }
        .check()
    }),
    ("start_ms", |start_ms| {
        Schedule {
            start_ms,
            ..schedule()
        }
        .check()
    }),
    ("plan.slots[0].start_ms", |start_ms| {
        let mut schedule = schedule();
        schedule.plan.slots[0].start_ms = start_ms;
        schedule.check()
    }),
    ("slot.start_ms", |start_ms| {
        let mut slot = slot();
        slot.slot.start_ms = start_ms;
        slot.check()
    }),
    ("slot.soc_ts_ms", |soc_ts_ms| {
        let mut slot = slot();
        slot.slot.soc_ts_ms = soc_ts_ms;
        slot.check()
    }),
    ("periods[0].start", |start_ms| {
        let mut tariff = tariff();
        tariff.periods[0].start_ms = start_ms;
        tariff.check()
    }),
    ("periods[0].end", |end_ms| {
        let mut tariff = tariff();
        tariff.periods[0].end_ms = end_ms;
        tariff.check()
    }),
    ("periods[1].end", |end_ms| {
        let mut tariff = tariff();
        let (first, start_ms) = (tariff.periods[0], tariff.periods[0].end_ms);
        tariff.periods.push(PricePeriod {
            start_ms,
            end_ms,
            ..first
        });
        tariff.stated.clear();
        tariff.check()
    }),
    ("issued_ms", |issued_ms| {
        WeatherForecast {
            issued_ms,
            ..weather()
        }
        .check()
    }),
    ("periods[0].start_ms", |start_ms| {
        let mut weather = weather();
        weather.periods[0].start_ms = start_ms;
        weather.check()
    }),
    ("periods[0].end_ms", |end_ms| {
        let mut weather = weather();
        weather.periods[0].end_ms = end_ms;
        weather.check()
    }),
    ("problem.start_ms", |start_ms| {
        let mut request = request_v1();
        request.problem.start_ms = start_ms;
        request.check()
    }),
];

#[test]
fn absurd_times_are_refused_in_every_message() {
    for (field, check) in SPOIL_TIMES {
        for ts_ms in [
            i64::MIN,
            -1,
            TS_MS_MAX + 1,
            4_000_000_000_000_000_000,
            i64::MAX,
        ] {
            let rule = check(ts_ms).unwrap_err();
            // If the start is after the end, the error names the end.
            let of = field.replace("start", "end");
            assert!(rule.field == field || rule.field == of, "{field}: {rule}");
        }
        if !field.starts_with("periods") {
            assert_eq!(check(START_MS + 7_200_000), Ok(()), "{field}");
        }
    }
    let absurd = Reading {
        ts_ms: 4_000_000_000_000_000_000,
        ..reading(Measurement::Pv { pv_w: 1.0 })
    };
    let codec = Codec::single_object();
    let error = codec
        .decode::<Reading>(&codec.encode(&absurd).unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "telemetry record breaks a rule: ts_ms is 4000000000000000000 ms (9999-12-30T22:00:00Z), expected a time of \
         the years 1970 to 9999"
    );
}
