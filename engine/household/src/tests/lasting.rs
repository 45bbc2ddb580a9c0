//! How long a home goes on with a plan whose thresholds hold whatever load and sun do.

use super::*;
use model::policy::{BatteryPolicy, Mode, Reason, SlotPolicy};

fn battery_metadata() -> Metadata {
    Metadata {
        appliances: Vec::new(),
        ..metadata()
    }
}

fn policy(mode: Mode) -> SlotPolicy {
    SlotPolicy {
        battery: Some(BatteryPolicy {
            mode,
            charge_from_grid_to_kwh: None,
            charge_from_pv_to_kwh: Some(9.5),
            discharge_to_home_to_kwh: Some(1.0),
            discharge_to_grid_to_kwh: None,
            charge_from_excess_to_kwh: None,
            discharge_to_excess_to_kwh: None,
            setpoint_kw: (mode == Mode::Setpoint).then_some(0.0),
            expected_kw: 0.0,
        }),
        import_max_kw: None,
        export_max_kw: None,
        value_per_kwh: 0.2,
        reason: Reason::OwnUse,
    }
}

/// Reads all every five minutes and answers each request with a plan in this mode, which the device carries out.
fn live(world: &mut World, minutes: std::ops::Range<i64>, mode: Mode) {
    for minute in minutes.step_by(5) {
        let before = world.requests.len();
        world.read_all(at(minute));
        let requests = world.requests[before..].to_vec();
        for request in &requests {
            let mut schedule = schedule(request, 0.0);
            for slot in &mut schedule.plan.slots {
                slot.policy = Some(policy(mode));
            }
            let sent_count = world.sent.len();
            world.tell(Event::ScheduleReady(Arc::new(schedule)));
            let sent = world.sent[sent_count..].to_vec();
            for command in &sent {
                world.ack(&command.command_id, AckStatus::Applied);
            }
        }
    }
}

/// The minutes in whose slots a plan was asked for.
fn asked(world: &World) -> Vec<i64> {
    let starts_ms = world
        .requests
        .iter()
        .map(|request| request.problem.start_ms);
    starts_ms.map(|ms| (ms - MIDNIGHT_MS) / MINUTE_MS).collect()
}

#[track_caller]
fn check(metadata: Metadata, settings: Settings, mode: Mode, expected: &[i64]) {
    let mut world = World::with(settings, metadata);
    live(&mut world, 0..240, mode);
    assert_eq!(asked(&world), expected);
    // The device always has a program.
    for pair in world.sent.windows(2) {
        assert!(pair[1].from_ms() < pair[0].expires_ms);
    }
    assert!(world.sent.last().unwrap().expires_ms > at(240));
    assert_eq!(world.alerts, []);
}

/// Home 7 has its turns a quarter past the hour.
#[test]
fn a_battery_with_thresholds_is_planned_once_an_hour() {
    let all: Vec<i64> = (0..240).step_by(15).collect();
    let hourly = [0, 15, 75, 135, 195];
    check(battery_metadata(), SETTINGS, Mode::SelfConsumption, &hourly);
    check(battery_metadata(), SETTINGS, Mode::Setpoint, &all);
    check(metadata(), SETTINGS, Mode::SelfConsumption, &all);
    let with_car = Metadata {
        evs: vec![super::assets::ev_spec()],
        ..battery_metadata()
    };
    check(with_car, SETTINGS, Mode::Hold, &all);
    // Half of a shorter program lasts half an hour; the turns of home 7 are at quarter past and to.
    let short = Settings {
        program_slots: 4,
        ..SETTINGS
    };
    let half_hours: Vec<i64> = [0].into_iter().chain((15..240).step_by(30)).collect();
    check(battery_metadata(), short, Mode::Hold, &half_hours);
    let single = Settings {
        program_slots: 1,
        ..SETTINGS
    };
    let mut world = World::with(single, battery_metadata());
    live(&mut world, 0..240, Mode::Hold);
    assert_eq!(asked(&world), all);
}

fn planned() -> World {
    let mut world = World::with(SETTINGS, battery_metadata());
    live(&mut world, 0..80, Mode::Hold);
    assert_eq!(asked(&world), [0, 15, 75]);
    world
}

#[test]
fn other_prices_are_planned_for_in_the_next_slot() {
    let mut world = planned();
    let mut dearer = tariff();
    let hour = dearer
        .periods
        .iter_mut()
        .find(|period| period.start_ms == at(900));
    hour.unwrap().buy_per_kwh = 0.9;
    world.tariffs.insert("dynamic".to_owned(), Arc::new(dearer));
    live(&mut world, 80..140, Mode::Hold);
    assert_eq!(asked(&world)[3..], [90, 135]);
}

/// Prices up to midnight are known, and more of them from two o'clock on.
#[test]
fn more_prices_are_planned_for_in_the_next_slot() {
    let mut known = tariff();
    known.periods.retain(|period| period.start_ms < at(1_440));
    let mut world = World::with(SETTINGS, battery_metadata());
    world.tariffs.insert("dynamic".to_owned(), Arc::new(known));
    live(&mut world, 0..150, Mode::Hold);
    assert_eq!(asked(&world), [0, 15, 75, 135]);
    assert_eq!(world.requests[3].problem.load_kw.len(), 87);
    world
        .tariffs
        .insert("dynamic".to_owned(), Arc::new(tariff()));
    live(&mut world, 150..160, Mode::Hold);
    assert_eq!(asked(&world)[4..], [150]);
    assert_eq!(world.requests[4].problem.load_kw.len(), 96);
}

#[test]
fn what_a_device_rejected_is_planned_again_in_the_next_slot() {
    let mut world = planned();
    let command_id = world.sent.last().unwrap().command_id.clone();
    world.ack(&command_id, AckStatus::Rejected);
    let sent_count = world.sent.len();
    live(&mut world, 80..100, Mode::Hold);
    assert_eq!(asked(&world)[3..], [90]);
    assert_eq!(world.sent.len(), sent_count + 1);
}

#[test]
fn changed_metadata_is_planned_for_at_once() {
    let mut world = planned();
    let larger = Metadata {
        pv_capacity_kw: 9.0,
        ..battery_metadata()
    };
    world.tell(Event::MetadataChanged(Arc::new(larger)));
    assert_eq!(asked(&world)[3..], [75]);
}

/// A plan that does not come, or comes for an older request, is no reason to wait.
#[test]
fn without_an_answer_the_next_slot_asks_again() {
    let mut world = planned();
    for minute in (80..180).step_by(5) {
        world.read_all(at(minute));
    }
    assert_eq!(asked(&world)[3..], [135, 150, 165]);
}
