//! Means are weighted by time: worked out by hand, each as (seconds after 12:00, W) in, mean of the slot out.

use super::*;

const NOON_MIN: i64 = 720;

fn second(seconds: i64) -> i64 {
    at(NOON_MIN) + seconds * 1_000
}

/// Mean load of the slot of 15 minutes from 12:00, held at most a quarter hour, up to `until_s`.
#[track_caller]
fn check(readings: &[(i64, f64)], until_s: i64, expected_w: Option<f64>) {
    let timed = readings.iter().map(|(seconds, consumption_w)| {
        let consumption_w = *consumption_w;
        (second(*seconds), Measurement::Meter { consumption_w })
    });
    let hold_ms = 15 * MINUTE_MS;
    let slot = Slot::of(at(NOON_MIN), 15, hold_ms, second(until_s), timed);
    let mean_w = slot.load_w.mean();
    let is_close = match (mean_w, expected_w) {
        (Some(mean_w), Some(expected_w)) => (mean_w - expected_w).abs() < 1e-9,
        (None, None) => true,
        _ => false,
    };
    assert!(is_close, "{mean_w:?}, expected {expected_w:?}");
}

#[test]
fn a_reading_holds_until_the_next() {
    let mut on_change = vec![(0, 0.0)];
    on_change.extend((840..900).map(|seconds| (seconds, 3_000.0)));
    check(&on_change, 900, Some(200.0));
    check(&[], 900, None);
    // One reading, in the slot, on either of its bounds, and before it.
    check(&[(450, 300.0)], 900, Some(300.0));
    check(&[(0, 300.0)], 900, Some(300.0));
    check(&[(-300, 300.0)], 900, Some(300.0));
    // It has just come to its end where the slot begins.
    check(&[(-900, 300.0)], 900, None);
    // 100 W for five minutes, then nothing for five, then 400 W for five.
    check(&[(-600, 100.0), (600, 400.0)], 900, Some(250.0));
    // An open slot counts what has passed: 100 W for 100 s, then 200 W for 50.
    check(&[(0, 100.0), (100, 200.0)], 150, Some(400.0 / 3.0));
}

#[test]
fn a_regular_meter_keeps_its_mean_to_the_bit() {
    let readings: Vec<(i64, f64)> = (0..90_u32)
        .map(|index| (i64::from(index) * 10, 0.1 * f64::from(index)))
        .collect();
    let mut plain = model::slot::Stat::EMPTY;
    readings.iter().for_each(|(_, watts)| plain.add(*watts));
    let timed = readings.iter().map(|(seconds, pv_w)| {
        let pv_w = *pv_w;
        (second(*seconds), Measurement::Pv { pv_w })
    });
    let slot = Slot::of(at(NOON_MIN), 15, 15 * MINUTE_MS, i64::MAX, timed);
    assert_eq!(slot.pv_w, plain);
}

#[test]
fn today_counts_the_time_that_has_passed() {
    let mut world = World::new(SETTINGS);
    assert!(
        world
            .home
            .rolling(at(770), &SETTINGS)
            .load_kwh_today
            .is_sign_positive()
    );
    for half_minute in 0..=100 {
        world.read(load(second(half_minute * 30), 600.0));
    }
    let rolling = world.home.rolling(at(770), &SETTINGS);
    assert!((rolling.load_kwh_today - 0.5).abs() < 1e-9, "{rolling:?}");
    assert_eq!(rolling.load_w_mean_1h, Some(600.0));
}

#[test]
fn a_reading_holds_across_slots_without_one() {
    let slot = SlotLength::new(5).unwrap();
    let mut world = World::new(Settings { slot, ..SETTINGS });
    world.read(load(at(721), 600.0));
    world.tick(at(760));
    assert_eq!(world.slots, world.offline());
    let starts: Vec<i64> = world.slots.keys().copied().collect();
    assert_eq!(starts, [at(720), at(725), at(730), at(735)]);
    assert!(
        world
            .slots
            .values()
            .all(|slot| slot.load_w.mean() == Some(600.0))
    );
}
