//! Which readings a home believes, by data.

use super::*;
use crate::plausible::Ranges;

/// What becomes of a measurement: the values that count, or the sentence that refuses it.
fn judged(metadata: Option<&Metadata>, measurement: Measurement) -> Result<Measurement, String> {
    let ranges = Ranges::of(metadata, &SETTINGS);
    ranges.judge(measurement).map_err(|why| why.to_string())
}

#[track_caller]
fn check_load(metadata: Option<&Metadata>, consumption_w: f64, expected: Result<f64, &str>) {
    let found = judged(metadata, Measurement::Meter { consumption_w });
    let expected = expected.map(|consumption_w| Measurement::Meter { consumption_w });
    assert_eq!(found, expected.map_err(str::to_owned));
}

#[track_caller]
fn check_pv(metadata: Option<&Metadata>, pv_w: f64, expected: Result<f64, &str>) {
    let found = judged(metadata, Measurement::Pv { pv_w });
    let expected = expected.map(|pv_w| Measurement::Pv { pv_w });
    assert_eq!(found, expected.map_err(str::to_owned));
}

#[track_caller]
fn check_battery(
    metadata: Option<&Metadata>,
    given: (f64, f64),
    expected: Result<(f64, f64), &str>,
) {
    let of = |(soc_pct, power_w)| Measurement::Battery { soc_pct, power_w };
    let expected = expected.map(of).map_err(str::to_owned);
    assert_eq!(judged(metadata, of(given)), expected);
}

/// Behind a fuse of 10 kW, with nothing that adds to it.
fn fused() -> Metadata {
    Metadata {
        grid: Grid {
            import_limit_kw: Some(10.0),
            ..Grid::OPEN
        },
        ..plain_metadata()
    }
}

#[test]
fn a_load_is_what_grid_pv_and_battery_carry() {
    let plain = fused();
    let plain = Some(&plain);
    check_load(plain, 300.0, Ok(300.0));
    // A fuse of 10 kW carries 15 kW for a while.
    check_load(plain, 15_000.0, Ok(15_000.0));
    let refused = "plausible for this home is -100 to 15000";
    check_load(
        plain,
        15_001.0,
        Err(&format!("consumption_w is 15001, {refused}")),
    );
    check_load(
        plain,
        167_153.78,
        Err(&format!("consumption_w is 167153.78, {refused}")),
    );
    check_load(
        plain,
        f64::NAN,
        Err(&format!("consumption_w is NaN, {refused}")),
    );
    check_load(plain, -0.4, Ok(0.0));
    check_load(plain, -100.0, Ok(0.0));
    check_load(
        plain,
        -101.0,
        Err(&format!("consumption_w is -101, {refused}")),
    );
    // 20 kW of the grid, 8 of PV and 5 of the battery, half as much again.
    let home = metadata();
    check_load(Some(&home), 49_500.0, Ok(49_500.0));
    let refused = "consumption_w is 49501, plausible for this home is -100 to 49500";
    check_load(Some(&home), 49_501.0, Err(refused));
    // Nothing is known of the connection: as the settings say.
    let open = plain_metadata();
    let open = Metadata {
        grid: Grid::OPEN,
        ..open
    };
    for unknown in [None, Some(&open)] {
        check_load(unknown, 150_000.0, Ok(150_000.0));
        let refused = "consumption_w is 167153.78, plausible for this home is -100 to 150000";
        check_load(unknown, 167_153.78, Err(refused));
    }
    // A connection that may import nothing still feeds its own meter.
    let closed = Metadata {
        grid: Grid {
            import_limit_kw: Some(0.0),
            ..Grid::OPEN
        },
        ..plain_metadata()
    };
    check_load(Some(&closed), 1_000.0, Ok(1_000.0));
}

#[test]
fn pv_is_what_the_plant_makes() {
    let home = metadata();
    check_pv(Some(&home), 8_000.0, Ok(8_000.0));
    check_pv(Some(&home), 12_000.0, Ok(12_000.0));
    let refused = "plausible for this home is -160 to 12000";
    check_pv(
        Some(&home),
        12_001.0,
        Err(&format!("pv_w is 12001, {refused}")),
    );
    // 2 % of 8 kW is standby at night.
    check_pv(Some(&home), -160.0, Ok(0.0));
    check_pv(
        Some(&home),
        -161.0,
        Err(&format!("pv_w is -161, {refused}")),
    );
    // A plant that the metadata does not know.
    let dark = plain_metadata();
    for unknown in [None, Some(&dark)] {
        check_pv(unknown, 150_000.0, Ok(150_000.0));
        check_pv(unknown, -100.0, Ok(0.0));
        let refused = "pv_w is -101, plausible for this home is -100 to 150000";
        check_pv(unknown, -101.0, Err(refused));
    }
}

#[test]
fn a_battery_keeps_to_its_rates_and_its_capacity() {
    let mut home = metadata();
    home.battery.as_mut().unwrap().discharge_kw = 3.0;
    let home = Some(&home);
    check_battery(home, (50.0, 7_500.0), Ok((50.0, 7_500.0)));
    check_battery(home, (50.0, -4_500.0), Ok((50.0, -4_500.0)));
    let refused = "plausible for this home is -4500 to 7500";
    check_battery(
        home,
        (50.0, 7_501.0),
        Err(&format!("power_w is 7501, {refused}")),
    );
    check_battery(
        home,
        (50.0, -4_501.0),
        Err(&format!("power_w is -4501, {refused}")),
    );
    for (given_pct, counts_pct) in [(100.4, 100.0), (102.0, 100.0), (-0.3, 0.0), (-2.0, 0.0)] {
        check_battery(home, (given_pct, -800.0), Ok((counts_pct, -800.0)));
        check_battery(None, (given_pct, -800.0), Ok((counts_pct, -800.0)));
    }
    let refused = "plausible for this home is -2 to 102";
    for soc_pct in [102.1, -2.1, 6_553.5] {
        let refused = format!("soc_pct is {soc_pct}, {refused}");
        check_battery(home, (soc_pct, -800.0), Err(&refused));
        check_battery(None, (soc_pct, -800.0), Err(&refused));
    }
}

/// 88 readings of 300 W and one of 167 kW: the forecast is that of a home with 300 W.
#[test]
fn one_implausible_reading_spoils_no_forecast() {
    let mut world = World::with(SETTINGS, fused());
    for minute in 0..88 {
        world.read(load(at(minute), 300.0));
        if minute == 40 {
            world.read(load(at(minute) + 1, 167_153.78));
        }
    }
    assert_eq!(world.outcome(ReadingOutcome::Accepted), 88);
    assert_eq!(world.outcome(ReadingOutcome::Implausible), 1);
    assert_eq!(world.refused.len(), 1);
    assert!(matches!(world.refused[0], (_, Refusal::Implausible(_))));
    assert_eq!(world.readings.len(), 88, "it is no row");
    assert!(world.slots.values().all(|slot| slot.load_w.max == 300.0));
    let problem = &world.requests.last().unwrap().problem;
    assert!(problem.load_kw.iter().all(|kw| (0.1..0.7).contains(kw)));
}

#[test]
fn an_implausible_reading_is_no_sign_of_life() {
    let mut world = World::with(SETTINGS, metadata());
    world.read(battery(at(0), 50.0));
    world.read(battery(at(10), 150.0));
    assert_eq!(world.home.watermark_ms(), at(0));
    world.tick(at(61));
    assert!(world.home.is_stale(at(61), &SETTINGS));
}

#[test]
fn what_stands_a_little_beyond_is_put_back_and_counted() {
    let mut world = World::with(SETTINGS, metadata());
    world.read(battery(at(0), 100.4));
    world.read(battery(at(0), 100.4));
    world.read(battery(at(1), -0.3));
    world.read(load(at(1), -3.0));
    world.read(pv(at(1), -12.0));
    world.read(battery(at(2), 100.0));
    assert_eq!(world.outcome(ReadingOutcome::Clamped), 4);
    assert_eq!(world.outcome(ReadingOutcome::Duplicate), 1);
    assert_eq!(world.outcome(ReadingOutcome::Accepted), 1);
    let stored: Vec<Measurement> = world
        .readings
        .values()
        .map(|read| read.measurement)
        .collect();
    let of = |soc_pct| Measurement::Battery {
        soc_pct,
        power_w: 100.0,
    };
    let meter = Measurement::Meter { consumption_w: 0.0 };
    let dark = Measurement::Pv { pv_w: 0.0 };
    assert_eq!(stored, [of(100.0), meter, dark, of(0.0), of(100.0)]);
    // The plan starts from a full battery.
    let problem = &world.requests.last().unwrap().problem;
    assert_eq!(problem.battery.as_ref().unwrap().soc_kwh, 0.0);
}

/// A home is judged by the metadata that it has when the reading comes.
#[test]
fn metadata_makes_ranges_narrower() {
    let mut world = World::new(SETTINGS);
    world.read(load(at(0), 90_000.0));
    world.tell(Event::MetadataChanged(Arc::new(fused())));
    world.read(load(at(1), 90_000.0));
    assert_eq!(world.outcome(ReadingOutcome::Accepted), 1);
    assert_eq!(world.outcome(ReadingOutcome::Implausible), 1);
}

#[test]
fn a_zero_has_no_sign() {
    let zeros = [
        Measurement::Meter {
            consumption_w: -0.0,
        },
        Measurement::Pv { pv_w: -0.0 },
        Measurement::Battery {
            soc_pct: -0.0,
            power_w: -0.0,
        },
    ];
    for zero in zeros {
        let found = format!("{:?}", judged(None, zero).unwrap());
        assert!(!found.contains("-0"), "{found}");
    }
}
