//! Readings in, slots out.

use proptest::prelude::*;

use super::*;
use crate::windows::RAW_NUMBERS_MAX;
use model::rolling::Rolling;

#[test]
fn a_reading_of_the_next_slot_ends_a_slot() {
    let mut world = World::new(SETTINGS);
    for minute in 0..=30 {
        world.read(load(
            at(minute),
            100.0 + f64::from(i32::try_from(minute).unwrap()),
        ));
    }
    assert_eq!(
        world.slots.keys().copied().collect::<Vec<_>>(),
        [at(0), at(15)]
    );
    let slot = world.slots[&at(15)];
    assert_eq!(
        (slot.load_w.count, slot.load_w.min, slot.load_w.max),
        (15, 115.0, 129.0)
    );
    assert_eq!(slot.pv_w.mean(), None);
    // The home may have lived before, and both may have readings that it does not hold: the store aggregates them.
    assert_eq!(world.repairs_count, 2);
}

#[test]
fn the_clock_ends_a_slot_once_it_has_waited() {
    let mut world = World::new(SETTINGS);
    world.read(load(at(20), 100.0));
    world.read(load(at(31), 100.0));
    world.tick(at(45));
    assert!(!world.slots.contains_key(&at(30)));
    world.tick(at(46));
    assert_eq!(world.slots[&at(30)].load_w.count, 1);
    // A reading that was on its way all the same corrects it.
    world.read(load(at(44), 300.0));
    // 100 W up to then, a minute of it held from the slot before, and a minute with 300 W: 1,700 / 15.
    assert_eq!(world.slots[&at(30)].load_w.mean(), Some(1_700.0 / 15.0));
    assert_eq!(world.outcome(ReadingOutcome::Late), 0);
}

#[test]
fn repeats_and_corrections_count_once() {
    let mut world = World::new(SETTINGS);
    world.read(load(at(14), 1.0));
    world.read(load(at(20), 100.0));
    world.read(load(at(20), 100.0));
    world.read(load(at(20), 150.0));
    world.read(load(at(31), 1.0));
    // 1 W is held for five minutes of the slot.
    assert_eq!(world.slots[&at(15)].load_w.mean(), Some(1_505.0 / 15.0));
    // The slot has ended, and its grace has not.
    world.read(load(at(20), 180.0));
    world.read(load(at(25), 20.0));
    assert_eq!(world.slots[&at(15)].load_w.mean(), Some(67.0));
    assert_eq!(world.outcome(ReadingOutcome::Duplicate), 1);
    assert_eq!(world.outcome(ReadingOutcome::Corrected), 2);
    assert_eq!(world.outcome(ReadingOutcome::Accepted), 4);
}

#[test]
fn a_late_reading_is_stored_and_repairs_its_slot() {
    let mut world = World::new(SETTINGS);
    for minute in 0..120 {
        world.read(load(at(minute), 100.0));
    }
    let repairs_count = world.repairs_count;
    world.read(load(at(20) + 1, 260.0));
    assert_eq!(world.outcome(ReadingOutcome::Late), 1);
    // Its own slot, and the next one, into which it may hold on.
    assert_eq!(world.repairs_count, repairs_count + 2);
    // 260 W for 59,999 of 900,000 ms.
    let mean_w = 100.0 + 160.0 * 59_999.0 / 900_000.0;
    let stored_w = world.slots[&at(15)].load_w.mean().unwrap();
    assert!((stored_w - mean_w).abs() < 1e-9, "{stored_w}");
    let recent = world.home.recent_slots(at(120), &world.settings);
    let repaired = recent.iter().find(|slot| slot.start_ms == at(15)).unwrap();
    let repaired_w = repaired.load_w.mean().unwrap();
    // To a quarter of a watt.
    assert!((repaired_w - mean_w).abs() <= 0.125, "{repaired_w}");
}

#[test]
fn a_backlog_is_worked_off_slot_by_slot() {
    let mut world = World::with(SETTINGS, plain_metadata());
    world.read(load(at(0), 100.0));
    world.tick(at(600));
    let requests_count = world.requests.len();
    for minute in 1..600 {
        world.read(load(at(minute), 100.0));
    }
    assert_eq!(world.slots.len(), 39);
    assert_eq!(world.outcome(ReadingOutcome::Late), 0);
    world.tick(at(601));
    let mut ended = world.offline();
    ended.remove(&at(600));
    assert_eq!(world.slots, ended);
    // Only the present is planned, not the slots that went by.
    assert_eq!(world.requests.len(), requests_count + 1);
    assert_eq!(world.requests.last().unwrap().problem.start_ms, at(600));
}

#[test]
fn a_flood_is_bounded_and_loses_nothing() {
    let mut world = World::new(SETTINGS);
    world.read(load(at(14), 1.0));
    for index in 0..RAW_NUMBERS_MAX + 500 {
        world.read(load(at(15) + i64::try_from(index).unwrap(), 10.0));
    }
    world.read(load(at(31), 1.0));
    let slot = world.slots[&at(15)];
    assert_eq!(slot.load_w.count as usize, RAW_NUMBERS_MAX + 500);
    world.tick(at(61));
    assert_eq!(world.slots, world.offline());
}

#[test]
fn another_slot_length_is_gone_over_to() {
    let mut world = World::with(SETTINGS, plain_metadata());
    for minute in 0..100 {
        world.read(load(at(minute), 100.0));
    }
    world.settings.slot = SlotLength::new(60).unwrap();
    world.slots.clear();
    for minute in 100..200 {
        world.read(load(at(minute), 100.0));
    }
    world.tick(at(250));
    for (start_ms, slot) in &world.slots {
        assert_eq!(slot, &world.offline()[start_ms]);
    }
    assert_eq!(
        world.slots.keys().copied().collect::<Vec<_>>(),
        [at(60), at(120), at(180)]
    );
}

#[test]
fn a_longer_grace_does_not_take_back_what_was_let_go() {
    let mut world = World::new(SETTINGS);
    for minute in 0..120 {
        world.read(load(at(minute), 100.0));
    }
    world.settings.grace_ms = DAY_MS;
    world.read(load(at(20) + 1, 260.0));
    let slot = world.slots[&at(15)];
    // 260 W for 59,999 of 900,000 ms, 100 W otherwise.
    let mean_w = 100.0 + 160.0 * 59_999.0 / 900_000.0;
    assert!(
        (slot.load_w.mean().unwrap() - mean_w).abs() < 1e-9,
        "{slot:?}"
    );
    assert_eq!(slot.load_w.count, 16);
}

/// Settings of a fleet whose readings are not kept as rows.
const WITHOUT_ROWS: Settings = Settings {
    stores_readings: false,
    ..SETTINGS
};

#[test]
fn without_rows_every_slot_is_aggregated_at_home() {
    let mut world = World::new(WITHOUT_ROWS);
    let mut whole = World::new(SETTINGS);
    for minute in 7..200 {
        // Every third comes ten minutes late.
        let ts_ms = at(if minute % 3 == 0 { minute - 10 } else { minute });
        world.read(load(
            ts_ms,
            100.0 + f64::from(i32::try_from(minute).unwrap()),
        ));
        whole.read(load(
            ts_ms,
            100.0 + f64::from(i32::try_from(minute).unwrap()),
        ));
    }
    assert_eq!(world.slots, whole.slots);
    assert_eq!((world.repairs_count, world.readings.len()), (0, 0));
    // Too late for its slot: the host is told, and the slot stays.
    let before = world.slots.clone();
    world.read(load(at(20) + 1, 260.0));
    assert_eq!(world.refused, [(at(20) + 1, Refusal::Late)]);
    assert_eq!(world.outcome(ReadingOutcome::Refused), 1);
    assert_eq!(world.slots, before);
}

#[test]
fn without_rows_a_flood_is_refused_beyond_its_bound() {
    let mut world = World::new(WITHOUT_ROWS);
    for index in 0..RAW_NUMBERS_MAX + 5 {
        world.read(load(at(15) + i64::try_from(index).unwrap(), 10.0));
    }
    assert_eq!(world.refused.len(), 5);
    assert!(world.refused.iter().all(|(_, why)| *why == Refusal::Full));
}

#[test]
fn without_rows_another_slot_length_keeps_what_is_open() {
    let mut world = World::new(WITHOUT_ROWS);
    for minute in 60..100 {
        world.read(load(at(minute), 100.0));
    }
    world.settings.slot = SlotLength::new(30).unwrap();
    world.slots.clear();
    for minute in 100..130 {
        world.read(load(at(minute), 100.0));
    }
    let counts: Vec<u32> = world.slots.values().map(|slot| slot.load_w.count).collect();
    // Longer slots begin with the next one, at 120. Until then each reading goes into the row of its quarter hour.
    assert_eq!(counts, [15, 15]);
}

#[test]
fn rolling_figures_hold_a_day() {
    let mut world = World::new(SETTINGS);
    for minute in 0..26 * 60 {
        let hour = f64::from(i32::try_from(minute / 60).unwrap());
        world.read(load(at(minute), 100.0 * hour));
    }
    world.read(load(at(26 * 60), 0.0));
    let closed: Vec<Slot> = world.slots.values().copied().collect();
    let rolling = Rolling::of(&closed, at(26 * 60));
    assert_eq!(rolling.load_w_mean_1h, Some(2_500.0));
    assert_eq!(rolling.load_w_peak_24h, Some(2_500.0));
    // 00:00 to 01:00 with 2.4 kW, then an hour with 2.5 kW.
    assert_eq!(rolling.load_kwh_today, 4.9);
    assert_eq!((rolling.pv_w_mean_24h, rolling.pv_kwh_today), (None, 0.0));
    let mean_w = rolling.load_w_mean_24h.unwrap();
    assert!((mean_w - 1_350.0).abs() < 1e-9, "{mean_w}");
    assert_eq!(world.home.rolling(at(26 * 60), &world.settings), rolling);
}

/// Readings over three hours, up to a second apart, in any order and some of them twice.
fn arrivals() -> impl Strategy<Value = Vec<Reading>> {
    let one = (0..3 * 3_600_i64, 0..3_u8, 0.0..5_000.0_f64).prop_map(|(second, kind, value)| {
        let ts_ms = MIDNIGHT_MS + second * 1_000;
        match kind {
            0 => load(ts_ms, value),
            1 => pv(ts_ms, value),
            _ => battery(ts_ms, value / 50.0),
        }
    });
    (
        prop::collection::vec(one, 1..120),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut read, cut)| {
            // Of one meter at one time there is one value; corrections depend on the order by their nature.
            read.sort_by_key(|read| (read.ts_ms, read.measurement.kind()));
            read.dedup_by_key(|read| (read.ts_ms, read.measurement.kind()));
            let repeated: Vec<Reading> = read[cut.index(read.len())..].to_vec();
            read.extend(repeated);
            read
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_and_repeats_do_not_matter(
        shuffled in arrivals().prop_shuffle(),
        minutes in prop::sample::select(vec![1_u32, 5, 15, 30, 60]),
        grace_min in prop::sample::select(vec![0_i64, 15, 240]),
    ) {
        let slot = SlotLength::new(minutes).unwrap();
        let settings = Settings { slot, grace_ms: grace_min * MINUTE_MS, ..SETTINGS };
        let mut sorted = shuffled.clone();
        sorted.sort_by_key(|read| (read.ts_ms, read.measurement.kind()));
        let [in_order, in_disorder] = [sorted, shuffled].map(|arrivals| {
            let mut world = World::new(settings);
            arrivals.into_iter().for_each(|read| world.read(read));
            world.tick(at(24 * 60));
            world
        });
        prop_assert_eq!(&in_order.slots, &in_order.offline());
        prop_assert_eq!(&in_disorder.slots, &in_order.slots);
        prop_assert_eq!(&in_disorder.readings, &in_order.readings);
        if grace_min == 240 {
            // Nothing was late, so the counts agree as well.
            prop_assert_eq!(&in_disorder.outcomes, &in_order.outcomes);
        }
    }
}
