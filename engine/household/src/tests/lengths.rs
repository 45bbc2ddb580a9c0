//! The length of slots is changed while a home lives: rows keep the length they were written with, each reading stands
//! in one row, and forecasts and rolling figures go on.

use super::*;

fn with_slot(settings: Settings, minutes: u32) -> Settings {
    let slot = SlotLength::new(minutes).unwrap();
    Settings { slot, ..settings }
}

/// Each stored reading stands in exactly one row, and each row is the aggregate of its readings.
#[track_caller]
fn check_rows(world: &World) {
    for (start_ms, slot) in &world.slots {
        let length = SlotLength::new(slot.slot_minutes).unwrap();
        assert_eq!(slot, &world.stored_slot_of(*start_ms, length));
    }
    let spans = || {
        let rows = world.slots.values();
        rows.map(|row| row.start_ms..row.start_ms + i64::from(row.slot_minutes) * MINUTE_MS)
    };
    for (ts_ms, _) in world.readings.keys() {
        let count = spans().filter(|span| span.contains(ts_ms)).count();
        assert_eq!(count, 1, "rows of the reading at {}", ts_ms - MIDNIGHT_MS);
    }
}

/// A restart: the state goes through its saved form, and the settings may be others.
fn restart(world: &mut World, settings: Settings) {
    let bytes = postcard::to_stdvec(&world.home).unwrap();
    world.home = postcard::from_bytes(&bytes).unwrap();
    world.settings = settings;
}

#[test]
fn a_late_reading_leaves_its_quarter_hour_a_quarter_hour() {
    let mut world = World::new(SETTINGS);
    for half_minute in 0..120 {
        world.read(load(at(0) + half_minute * 30_000, 600.0));
    }
    restart(&mut world, with_slot(SETTINGS, 5));
    for minute in 60..75 {
        world.read(load(at(minute), 600.0));
    }
    world.read(load(at(17) + 1, 600.0));
    let slot = world.slots[&at(15)];
    assert_eq!((slot.slot_minutes, slot.load_w.count), (15, 31));
    assert_eq!(slot.load_w.mean(), Some(600.0));
    world.tick(at(180));
    check_rows(&world);
    assert_eq!(world.slots[&at(60)].slot_minutes, 5);
}

#[test]
fn every_change_of_length_keeps_each_reading_in_one_row() {
    for (before, after) in [
        (15, 5),
        (5, 15),
        (60, 1),
        (1, 60),
        (30, 15),
        (15, 60),
        (5, 30),
    ] {
        // In the middle of a slot of either length, and at the start of one.
        for changed_min in [127, 120, 134] {
            for hold_ms in [0, 15 * MINUTE_MS] {
                let settings = Settings {
                    hold_ms,
                    ..SETTINGS
                };
                let mut world = World::new(with_slot(settings, before));
                for minute in 0..changed_min {
                    world.read(load(at(minute), 100.0));
                }
                restart(&mut world, with_slot(settings, after));
                for minute in changed_min..changed_min + 61 {
                    world.read(load(at(minute), 100.0));
                    // Late by one minute, by less than the grace, and by more.
                    for late_min in [1, 14, 70, 125] {
                        world.read(load(at(minute - late_min) + 1 + late_min, 300.0));
                    }
                }
                world.tick(at(changed_min + 400));
                check_rows(&world);
            }
        }
    }
}

#[test]
fn the_length_may_change_there_and_back() {
    let mut world = World::new(SETTINGS);
    let lengths = [15, 5, 15, 60, 1, 30, 15];
    for (index, minutes) in (0_i64..).zip(lengths) {
        restart(&mut world, with_slot(SETTINGS, minutes));
        for minute in 0..37 {
            let minute = index * 37 + minute;
            world.read(load(at(minute), 100.0));
            world.read(load(at((minute - 53).max(0)) + 7, 200.0));
        }
    }
    world.tick(at(600));
    check_rows(&world);
}

#[test]
fn forecasts_and_rolling_figures_outlive_a_change() {
    for (before, after) in [(15, 5), (5, 15), (60, 15), (15, 60)] {
        let mut world = World::with(with_slot(SETTINGS, before), plain_metadata());
        for minute in (0..26 * 60).step_by(5) {
            // 1 kW until noon, then 2 kW.
            let watts = if (minute / 60) % 24 < 12 { 1e3 } else { 2e3 };
            world.read(load(at(minute), watts));
        }
        restart(&mut world, with_slot(SETTINGS, after));
        world.tick(at(26 * 60));
        world.read(load(at(26 * 60), 1e3));
        let rolling = world.home.rolling(at(26 * 60), &world.settings);
        // The longer slot in which the change happened is a row, and missing here.
        let missing_h = if after > before {
            f64::from(after) / 60.0
        } else {
            0.0
        };
        let mean_w = rolling.load_w_mean_24h.unwrap();
        let expected_w = (1e3 * (12.0 - missing_h) + 2e3 * 12.0) / (24.0 - missing_h);
        assert!(
            (mean_w - expected_w).abs() < 1e-6,
            "{before} to {after}: {mean_w}"
        );
        let today_kwh = rolling.load_kwh_today;
        assert!((today_kwh - (2.0 - missing_h)).abs() < 1e-9, "{today_kwh}");
        let problem = &world.requests.last().unwrap().problem;
        assert_eq!(problem.slot_minutes, after);
        // The course of the day before is among those of the forecast, to the 3.2 % that a past is kept with.
        let start_ms = |index: usize| {
            at(26 * 60) + i64::try_from(index).unwrap() * i64::from(after) * MINUTE_MS
        };
        let is_yesterday = |course_w: &Vec<f64>| {
            course_w.iter().enumerate().all(|(index, watts)| {
                let hour = (start_ms(index) - MIDNIGHT_MS) / HOUR_MS % 24;
                let was_w = if hour < 12 { 1e3 } else { 2e3 };
                (watts - was_w).abs() <= 0.032 * was_w
            })
        };
        let (past, slot) = (world.home.past().unwrap(), world.settings.slot);
        let count = problem.load_kw.len();
        let found = crate::past::forecast(past, &plain_metadata(), at(26 * 60), slot, count);
        let is_there = found.load.series_w.iter().any(is_yesterday);
        assert!(is_there, "{before} to {after}");
    }
}

/// Where readings are no rows, what is refused is told; what is taken in stands in one row.
#[test]
fn without_rows_every_reading_is_in_one_row_or_refused() {
    for (before, after) in [(15, 5), (5, 15), (60, 1), (1, 60), (30, 15), (15, 60)] {
        for changed_min in [127, 120, 134] {
            for (step_min, hold_ms) in [(1, 0), (7, 0), (7, 15 * MINUTE_MS)] {
                let settings = Settings {
                    stores_readings: false,
                    hold_ms,
                    ..SETTINGS
                };
                let mut world = World::new(with_slot(settings, before));
                let mut told: u32 = 0;
                for minute in (0..changed_min + 150).step_by(usize::try_from(step_min).unwrap()) {
                    if minute == changed_min - changed_min % step_min {
                        restart(&mut world, with_slot(settings, after));
                    }
                    world.read(load(at(minute), 100.0));
                    told += 1;
                    for late_min in [1, 9, 14, 20] {
                        world.read(load(at((minute - late_min).max(0)) + 1 + minute, 300.0));
                        told += 1;
                    }
                }
                world.tick(at(changed_min + 600));
                let in_rows: u32 = world.slots.values().map(|slot| slot.load_w.count).sum();
                let refused = u32::try_from(world.refused.len()).unwrap();
                let repeated = world.outcome(ReadingOutcome::Duplicate);
                // A slot without a reading of its own counts what holds on into it as one.
                let taken = told - refused - repeated;
                assert!(
                    taken == in_rows || hold_ms > 0 && taken < in_rows,
                    "{before} to {after} at {changed_min}: {in_rows} in rows of {taken}"
                );
                let mut end_ms = i64::MIN;
                for slot in world.slots.values() {
                    assert!(slot.start_ms >= end_ms, "rows overlap");
                    end_ms = slot.start_ms + i64::from(slot.slot_minutes) * MINUTE_MS;
                }
            }
        }
    }
}
