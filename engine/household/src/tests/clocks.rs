//! Clocks that were ahead, and readings that are too far from now.

use super::*;

/// Some hours of a home at `from_min`, a reading of the load each minute and the clock with it.
fn live(world: &mut World, from_min: i64, minutes: i64) {
    for minute in from_min..from_min + minutes {
        world.now_ms = Some(at(minute));
        world.tick(at(minute));
        world.read(load(at(minute), 500.0));
    }
}

#[test]
fn a_home_comes_back_from_the_future_within_a_slot() {
    for ahead_min in [60, 3 * 60, 25 * 60, 400 * 24 * 60] {
        let mut world = World::with(SETTINGS, plain_metadata());
        let mut tariff = tariff();
        tariff.periods.push(PricePeriod {
            start_ms: at(10 * 24 * 60),
            end_ms: at(500 * 24 * 60),
            buy_per_kwh: 0.3,
            sell_per_kwh: 0.1,
        });
        world.tariffs.insert("dynamic".to_owned(), Arc::new(tariff));
        live(&mut world, ahead_min, 30);
        let request = world.requests.last().unwrap().clone();
        world.answer(&request, 0.0);
        let requests_count = world.requests.len();
        live(&mut world, 0, 16);
        assert!(world.requests.len() > requests_count, "{ahead_min}");
        assert_eq!(world.home.watermark_ms(), at(15));
        let request = world.requests.last().unwrap().clone();
        assert_eq!(request.problem.start_ms, at(15));
        world.answer(&request, 0.0);
        assert!(world.home.is_planned(at(16)), "{ahead_min}");
    }
}

#[test]
fn a_tick_that_jumps_ahead_silences_a_home_no_longer_than_it_lasts() {
    let mut world = World::with(SETTINGS, plain_metadata());
    live(&mut world, 0, 60);
    world.tick(at(400 * 24 * 60));
    let requests_count = world.requests.len();
    live(&mut world, 60, 16);
    assert!(world.requests.len() > requests_count);
}

#[test]
fn readings_too_far_from_now_are_refused() {
    let mut world = World::new(SETTINGS);
    world.now_ms = Some(at(0));
    world.read(load(at(5), 1.0));
    world.read(load(at(5) + 1, 1.0));
    world.read(load(at(0) - SETTINGS.kept_ms - 1, 1.0));
    let refused = [
        (at(5) + 1, Refusal::Future),
        (at(0) - SETTINGS.kept_ms - 1, Refusal::TooOld),
    ];
    assert_eq!(world.refused, refused);
    assert_eq!(world.home.watermark_ms(), at(5));
    assert_eq!(world.outcome(ReadingOutcome::Refused), 2);
}
