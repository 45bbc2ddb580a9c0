//! The age of each input: a plan and a setpoint are based on what is known now.

use super::*;
use crate::planning::BUILDS;
use crate::unplannable::Unplannable;

/// Which input falls silent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Silent {
    Load,
    Pv,
    Soc,
}

/// A planned home whose `silent` input dies at 12:00 while the others go on until `until_min`.
fn dying(silent: Silent, until_min: i64) -> World {
    let mut world = lived_day(SETTINGS);
    answer_all(&mut world);
    acknowledge_all(&mut world);
    world.alerts.clear();
    for minute in (0..=until_min).step_by(5) {
        let dead = minute > 720;
        if !(dead && silent == Silent::Load) {
            world.read(load(at(minute), 500.0));
        }
        if !(dead && silent == Silent::Pv) {
            world.read(pv(at(minute), 2_000.0));
        }
        if !(dead && silent == Silent::Soc) {
            world.read(battery(at(minute), 50.0));
        }
        answer_all(&mut world);
        acknowledge_all(&mut world);
    }
    world
}

fn answer_all(world: &mut World) {
    let last = world.requests.last().unwrap().clone();
    if !world.schedules.contains(&last.request_id) {
        // Another plan each time, so that each slot has commands of its own.
        let nth = f64::from(u32::try_from(world.requests.len()).unwrap());
        world.answer(&last, nth / 1e3);
    }
}

fn acknowledge_all(world: &mut World) {
    let issued = world
        .commands
        .values()
        .filter(|progress| progress.acked_ms.is_none());
    let ids: Vec<String> = issued
        .map(|progress| progress.command.command_id.clone())
        .collect();
    for command_id in ids {
        world.ack(&command_id, AckStatus::Applied);
    }
}

#[test]
fn an_input_that_died_ends_plans_and_setpoints() {
    for silent in [Silent::Load, Silent::Pv, Silent::Soc] {
        let alive = dying(silent, 780);
        assert!(alive.alerts.is_empty(), "{silent:?}: {:?}", alive.alerts);
        let last = alive.requests.last().unwrap();
        assert_eq!(last.problem.start_ms, at(780), "{silent:?}");
        let world = dying(silent, 900);
        assert_eq!(world.requests.len(), alive.requests.len(), "{silent:?}");
        assert_eq!(
            world.alerts,
            [AlertKind::MissingTelemetry, AlertKind::ScheduleOverdue],
            "{silent:?}"
        );
        // The program of 13:00 is the last, and it is carried out to its end.
        let entries = world.sent.iter().flat_map(|command| &command.program);
        let told = entries.filter(|entry| entry.policy.is_some());
        let newest_ms = told.map(|entry| entry.from_ms).max();
        assert_eq!(newest_ms, Some(at(885)), "{silent:?}");
    }
}

#[test]
fn an_input_that_comes_back_is_planned_on_at_once() {
    let mut world = dying(Silent::Soc, 900);
    let requests_count = world.requests.len();
    world.read(battery(at(901), 20.0));
    assert_eq!(world.requests.len(), requests_count + 1);
    let problem = &world.requests.last().unwrap().problem;
    assert_eq!(problem.battery.as_ref().unwrap().soc_kwh, 2.0);
    // It dies again: another alert.
    let alerts_count = world.alerts.len();
    for minute in (905..=980).step_by(5) {
        world.read(load(at(minute), 500.0));
        world.read(pv(at(minute), 2_000.0));
        answer_all(&mut world);
        acknowledge_all(&mut world);
    }
    assert_eq!(world.alerts[alerts_count..], [AlertKind::MissingTelemetry]);
}

/// The plan of 13:00 runs the dishwasher from 13:30 on. The SoC is unknown from 13:05 on. A program has one slot here.
#[test]
fn appliances_run_as_planned_without_the_battery() {
    let mut evening = metadata();
    evening.appliances[0].window_start_min = 810;
    let short = Settings {
        program_slots: 1,
        ..SETTINGS
    };
    let mut world = World::with(short, evening);
    for minute in (0..=900).step_by(5) {
        world.read(load(at(minute), 500.0));
        world.read(pv(at(minute), 2_000.0));
        if minute <= 720 {
            world.read(battery(at(minute), 50.0));
        }
        answer_all(&mut world);
        acknowledge_all(&mut world);
    }
    let sent = world
        .sent
        .iter()
        .filter(|command| command.from_ms() > at(780));
    let sent: Vec<_> = sent
        .map(|command| {
            let entry = &command.program[0];
            (
                entry.from_ms,
                entry.policy.clone(),
                entry.appliances["dishwasher"],
            )
        })
        .collect();
    assert_eq!(sent, [810, 825, 840].map(|minute| (at(minute), None, true)));
}

/// An old reading that comes late does not make an input young.
#[test]
fn a_late_reading_tells_nothing_new() {
    let mut world = dying(Silent::Soc, 900);
    let requests_count = world.requests.len();
    world.read(battery(at(730), 20.0));
    world.read(battery(at(835), 20.0));
    assert_eq!(world.requests.len(), requests_count);
}

/// Inverters sleep at night. Their last word is little power, and the day before says that it is dark.
#[test]
fn an_inverter_that_sleeps_has_not_died() {
    let sun_w = |minute: i64| {
        let hour = minute.rem_euclid(1_440) / 60;
        [(7..9, 400.0), (9..18, 3_000.0), (18..20, 400.0)]
            .into_iter()
            .find_map(|(hours, pv_w)| hours.contains(&hour).then_some(pv_w))
    };
    let mut world = World::with(SETTINGS, metadata());
    for minute in (-1_440..1_980).step_by(5) {
        world.read(load(at(minute), 500.0));
        world.read(battery(at(minute), 50.0));
        // The second morning it does not wake.
        if let Some(pv_w) = sun_w(minute).filter(|_| minute < 1_440) {
            world.read(pv(at(minute), pv_w));
        }
        if world.requests.is_empty() {
            continue;
        }
        answer_all(&mut world);
        acknowledge_all(&mut world);
        world
            .alerts
            .retain(|kind| *kind != AlertKind::ScheduleOverdue || minute >= 0);
        if (0..1_440 + 540).contains(&minute) {
            assert_eq!(world.alerts, [], "minute {minute}");
            assert!(world.home.is_planned(at(minute)));
        }
    }
    let planned_until_ms = world.requests.last().unwrap().problem.start_ms;
    assert_eq!(planned_until_ms, at(1_440 + 525));
    for minute in [1_985, 2_000, 2_020] {
        world.read(load(at(minute), 500.0));
        acknowledge_all(&mut world);
    }
    assert_eq!(
        world.alerts,
        [AlertKind::MissingTelemetry, AlertKind::ScheduleOverdue]
    );
}

/// What a home lacks is found without stating its problem, with each reading.
#[test]
fn a_home_that_lacks_something_states_no_problem() {
    let builds = || BUILDS.with(std::cell::Cell::get);
    let no_tariff = |world: &mut World| world.tariffs.clear();
    let no_price = |world: &mut World| {
        let ended = Tariff {
            periods: tariff().periods[..10].to_vec(),
            ..tariff()
        };
        world.tariffs = BTreeMap::from([("dynamic".to_owned(), Arc::new(ended))]);
    };
    let lacks: [fn(&mut World); 2] = [no_tariff, no_price];
    for lack in lacks {
        let mut world = lived_day(SETTINGS);
        lack(&mut world);
        let before = builds();
        for minute in 0..240 {
            world.read_all(at(minute));
            world.tick(at(minute) + 1_000);
        }
        assert_eq!(
            builds(),
            before,
            "nothing is stated while something is missing"
        );
        assert_eq!(world.alerts.last(), Some(&AlertKind::ScheduleOverdue));
        world.tariffs = World::new(SETTINGS).tariffs;
        world.read_all(at(240));
        assert_eq!(builds(), before + 1);
        // A plan that does not come is waited for without stating the problem again.
        for minute in 241..255 {
            world.read_all(at(minute));
        }
        assert_eq!(builds(), before + 1);
    }
    let before = builds();
    let mut world = World::with(SETTINGS, metadata());
    for minute in 0..240 {
        world.read(load(at(minute), 500.0));
        world.read(pv(at(minute), 500.0));
    }
    assert_eq!(builds(), before, "a battery that was never read");
}

#[track_caller]
fn check_missing(expected: Result<(), Unplannable>, inputs: &Inputs) {
    let found = inputs.check(&metadata(), at(120), HOUR_MS);
    assert_eq!(found, expected);
}

#[test]
fn each_input_has_an_age() {
    let newest = |minute, value| {
        Some(Newest {
            ts_ms: at(minute),
            value,
        })
    };
    let fresh = Inputs {
        load_w: newest(60, 500.0),
        pv_w: newest(60, 2_000.0),
        soc_pct: newest(60, 50.0),
        pv_day_before_w: None,
    };
    check_missing(Ok(()), &fresh);
    let old_soc = Inputs {
        soc_pct: newest(59, 50.0),
        ..fresh
    };
    check_missing(Err(Unplannable::StaleSoc), &old_soc);
    let old_load = Inputs {
        load_w: newest(59, 0.0),
        ..fresh
    };
    check_missing(Err(Unplannable::StaleLoad), &old_load);
    let pv = |pv_w, pv_day_before_w| Inputs {
        pv_w: newest(59, pv_w),
        pv_day_before_w,
        ..fresh
    };
    // A tenth of 8 kW.
    check_missing(Ok(()), &pv(800.0, None));
    check_missing(Ok(()), &pv(800.0, Some(800.0)));
    check_missing(Err(Unplannable::StalePv), &pv(801.0, None));
    check_missing(Err(Unplannable::StalePv), &pv(0.0, Some(801.0)));
    check_missing(
        Err(Unplannable::NoSoc),
        &Inputs {
            soc_pct: None,
            ..fresh
        },
    );
    check_missing(
        Err(Unplannable::NoPv),
        &Inputs {
            pv_w: None,
            ..fresh
        },
    );
    check_missing(Err(Unplannable::NoSoc), &Inputs::default());
}

/// Slots tell as much as the home that made them.
#[test]
fn inputs_of_slots_are_those_of_the_home() {
    let world = lived_day(SETTINGS);
    let slots: Vec<Slot> = world.offline().into_values().collect();
    let found = Inputs::of(&slots, at(-4), SETTINGS.slot);
    let newest = |value| {
        Some(Newest {
            ts_ms: at(-4),
            value,
        })
    };
    assert_eq!(found.load_w, newest(500.0));
    assert_eq!(found.pv_w, newest(2_000.0));
    assert_eq!(
        found.soc_pct,
        Some(Newest {
            ts_ms: at(-5),
            value: 50.0
        })
    );
}
