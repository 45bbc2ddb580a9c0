//! Schedules in, commands out; answers and alerts.

use super::*;

/// A home at 10:01 whose plan of 10:00 charges with 1 kW.
fn planned_home() -> World {
    let mut world = lived_day(SETTINGS);
    for minute in (0..=600).step_by(5) {
        world.read_all(at(minute));
    }
    let request = world.requests.last().unwrap().clone();
    assert_eq!(request.problem.start_ms, at(600));
    world.answer(&request, 1.0);
    world.read_all(at(601));
    world
}

fn orders(sent: &[Command]) -> Vec<(i64, f64, bool)> {
    let minute = |ms: i64| (ms - MIDNIGHT_MS) / MINUTE_MS;
    sent.iter()
        .map(|command| {
            assert_eq!(command.expires_ms, command.not_before_ms + 15 * MINUTE_MS);
            let power_w = command.battery_w.unwrap();
            (
                minute(command.not_before_ms),
                power_w,
                command.appliances["dishwasher"],
            )
        })
        .collect()
}

#[test]
fn an_adopted_schedule_commands_this_slot_and_the_next() {
    let mut world = planned_home();
    assert_eq!(
        orders(&world.sent),
        [(600, 1_000.0, true), (615, 1_000.0, true)]
    );
    let schedule_id = world.requests.last().unwrap().request_id.clone();
    assert_eq!(world.sent[0].command_id, format!("{schedule_id}-0"));
    assert_eq!(world.schedules, std::slice::from_ref(&schedule_id));
    world.read_all(at(616));
    assert_eq!(orders(&world.sent[2..]), [(630, 1_000.0, true)]);
    assert_eq!(world.sent[2].command_id, format!("{schedule_id}-2"));
    assert!(world.home.is_planned(at(616)) && world.home.is_planned(at(600 + 1_439)));
    assert!(!world.home.is_planned(at(600 + 1_440)));
}

#[test]
fn a_later_schedule_takes_over_and_an_earlier_one_does_not() {
    let mut world = planned_home();
    let first = world.requests.last().unwrap().clone();
    world.read_all(at(616));
    let second = world.requests.last().unwrap().clone();
    let sent_count = world.sent.len();
    world.answer(&second, -2.0);
    assert_eq!(
        orders(&world.sent[sent_count..]),
        [(615, -2_000.0, true), (630, -2_000.0, true)]
    );
    let sent_count = world.sent.len();
    // The answer again, the superseded one late, a question without consequences, and no answer at all.
    world.answer(&second, -2.0);
    let mut late = schedule(&first, 3.0);
    late.schedule_id.push('x');
    world.tell(Event::ScheduleReady(Arc::new(late)));
    let mut later = schedule(&second, 3.0);
    later.requested_ms += 1;
    later.schedule_id.push('x');
    let what_if = Schedule {
        adopt: false,
        ..later.clone()
    };
    world.tell(Event::ScheduleReady(Arc::new(what_if)));
    let mut infeasible = later;
    infeasible.schedule_id.push('x');
    infeasible.plan.status = Status::Infeasible;
    infeasible.plan.slots.clear();
    world.tell(Event::ScheduleReady(Arc::new(infeasible)));
    assert_eq!(world.sent.len(), sent_count);
    assert_eq!(world.schedules.len(), 5);
    assert!(world.home.is_planned(at(616)));
}

#[test]
fn the_same_order_is_not_sent_again() {
    let mut world = planned_home();
    // No device has confirmed the run of 10:00, so it counts as begun with the command in force at 10:15.
    world.read_all(at(616));
    let request = world.requests.last().unwrap().clone();
    let sent_count = world.sent.len();
    world.answer(&request, 1.0);
    assert_eq!(orders(&world.sent[sent_count..]), []);
    world.read_all(at(631));
    assert_eq!(orders(&world.sent[sent_count..]), [(645, 1_000.0, true)]);
}

#[test]
fn a_home_without_devices_is_not_commanded() {
    let mut world = World::with(SETTINGS, plain_metadata());
    world.read(load(at(0), 100.0));
    let request = world.requests[0].clone();
    world.answer(&request, 0.0);
    assert!(world.home.is_planned(at(0)));
    assert!(world.sent.is_empty());
}

#[test]
fn answers_are_recorded() {
    let mut world = planned_home();
    let [now, next] = [0, 1].map(|index| world.sent[index].command_id.clone());
    world.ack(&now, AckStatus::Applied);
    world.ack(&next, AckStatus::Rejected);
    world.ack("7-0-0-0", AckStatus::Applied);
    let state = |id: &str| {
        (
            world.commands[id].state.as_str(),
            world.commands[id].acked_ms,
        )
    };
    assert_eq!(state(&now), ("applied", Some(at(601))));
    assert_eq!(state(&next), ("rejected", Some(at(601))));
    assert_eq!(world.commands.len(), 2);
}

#[test]
fn a_run_goes_on_and_is_not_repeated() {
    let mut world = planned_home();
    for minute in (605..1_020).step_by(5) {
        world.read_all(at(minute));
        let last = world.requests.last().unwrap().clone();
        if !world.schedules.contains(&last.request_id) {
            world.answer(&last, f64::from(i32::try_from(minute).unwrap()) / 1e3);
        }
        let now_ms = at(minute);
        let in_force = world
            .sent
            .iter()
            .rev()
            .find(|command| (command.not_before_ms..command.expires_ms).contains(&now_ms));
        let command = in_force.unwrap().clone();
        world.ack(&command.command_id, AckStatus::Applied);
        let runs = (600..645).contains(&minute);
        assert_eq!(command.appliances["dishwasher"], runs, "minute {minute}");
    }
}

#[test]
fn a_rejected_run_is_planned_again() {
    let mut world = planned_home();
    let [now, next] = [0, 1].map(|index| world.sent[index].command_id.clone());
    world.ack(&now, AckStatus::Rejected);
    world.ack(&next, AckStatus::Rejected);
    world.read_all(at(616));
    let appliance = &world.requests.last().unwrap().problem.appliances[0];
    assert_eq!(
        (appliance.earliest_slot, appliance.latest_end_slot),
        (0, 23)
    );
    assert_eq!(appliance.profile_kw.len(), 3);
}

#[test]
fn an_unanswered_command_is_an_alert_once() {
    let mut world = planned_home();
    let unanswered = |world: &World| {
        world
            .alerts
            .iter()
            .filter(|kind| **kind == AlertKind::CommandUnanswered)
            .count()
    };
    world.read_all(at(614));
    assert_eq!(unanswered(&world), 0);
    for minute in (615..660).step_by(5) {
        world.read_all(at(minute));
        assert_eq!(unanswered(&world), 1);
    }
    let newest = world.sent[world.sent.len() - 2].command_id.clone();
    world.ack(&newest, AckStatus::Applied);
    for minute in (660..690).step_by(5) {
        world.read_all(at(minute));
    }
    assert_eq!(unanswered(&world), 2);
}

/// A device that answers every command with `status` from 10:15 on; the number of alerts about rejections after it.
fn answered_until(world: &mut World, minutes: std::ops::Range<i64>, status: AckStatus) -> usize {
    for minute in minutes.step_by(5) {
        world.read_all(at(minute));
        let last = world.requests.last().unwrap().clone();
        if !world.schedules.contains(&last.request_id) {
            world.answer(&last, f64::from(i32::try_from(minute).unwrap()) / 1e3);
        }
        let open = world
            .commands
            .values()
            .filter(|given| given.acked_ms.is_none());
        let ids: Vec<String> = open.map(|given| given.command.command_id.clone()).collect();
        ids.iter().for_each(|id| world.ack(id, status));
    }
    let kinds = world.alerts.iter();
    kinds
        .filter(|kind| **kind == AlertKind::CommandRejected)
        .count()
}

#[test]
fn a_device_that_rejects_is_an_alert_once_an_episode() {
    let mut world = planned_home();
    assert_eq!(answered_until(&mut world, 605..720, AckStatus::Rejected), 1);
    assert_eq!(answered_until(&mut world, 720..780, AckStatus::Applied), 1);
    assert_eq!(answered_until(&mut world, 780..840, AckStatus::Rejected), 2);
    assert!(!world.alerts.contains(&AlertKind::CommandUnanswered));
    // Silence is no proof that it obeys: the episode goes on after its commands are forgotten.
    for minute in 841..1_000 {
        world.tick(at(minute));
    }
    assert_eq!(
        answered_until(&mut world, 1_000..1_060, AckStatus::Rejected),
        2
    );
}

#[test]
fn one_rejection_among_many_is_an_alert_that_ends() {
    let mut world = planned_home();
    assert_eq!(answered_until(&mut world, 605..615, AckStatus::Applied), 0);
    assert_eq!(answered_until(&mut world, 615..620, AckStatus::Rejected), 1);
    assert_eq!(answered_until(&mut world, 630..635, AckStatus::Applied), 1);
    assert_eq!(answered_until(&mut world, 645..650, AckStatus::Rejected), 2);
}

#[test]
fn other_devices_begin_without_a_rejection() {
    let mut world = planned_home();
    assert_eq!(answered_until(&mut world, 605..660, AckStatus::Rejected), 1);
    let mut changed = metadata();
    changed.battery.as_mut().unwrap().capacity_kwh = 12.0;
    world.tell(Event::MetadataChanged(Arc::new(changed)));
    assert_eq!(answered_until(&mut world, 660..720, AckStatus::Rejected), 2);
}

#[test]
fn a_silent_home_is_an_alert_and_is_not_commanded() {
    let mut world = planned_home();
    for minute in 602..720 {
        world.tick(at(minute));
    }
    let missing = |world: &World| {
        world
            .alerts
            .iter()
            .filter(|kind| **kind == AlertKind::MissingTelemetry)
            .count()
    };
    assert_eq!(missing(&world), 1);
    // The last reading came at 10:01, so the last slot to be looked at began at 11:00.
    assert_eq!(world.sent.last().unwrap().not_before_ms, at(675));
    world.read_all(at(720));
    assert_eq!(orders(&world.sent[world.sent.len() - 2..])[0].0, 720);
    for minute in 721..800 {
        world.tick(at(minute));
    }
    assert_eq!(missing(&world), 2);
}

#[test]
fn a_home_that_never_spoke_is_an_alert() {
    let mut world = World::with(SETTINGS, metadata());
    for minute in 0..180 {
        world.tick(at(minute));
    }
    assert_eq!(world.alerts, [AlertKind::MissingTelemetry]);
}

#[test]
fn a_schedule_that_does_not_come_is_an_alert() {
    let mut world = lived_day(SETTINGS);
    world.alerts.clear();
    let first = world.requests.last().unwrap().clone();
    world.answer(&first, 0.0);
    for minute in (0..60).step_by(5) {
        world.read_all(at(minute));
    }
    assert_eq!(
        world.alerts,
        [AlertKind::CommandUnanswered, AlertKind::ScheduleOverdue]
    );
    let last = world.requests.last().unwrap().clone();
    world.answer(&last, 0.0);
    assert!(world.home.is_planned(at(60)));
}

#[test]
fn soc_outside_its_bounds_is_an_alert_once() {
    let mut world = World::with(SETTINGS, metadata());
    for (minute, soc_pct, alerts_count) in [
        (0, 50.0, 0),
        (1, 9.5, 0),
        (2, 5.0, 1),
        (3, 4.0, 1),
        (4, 50.0, 1),
        (5, 99.0, 2),
    ] {
        world.read(battery(at(minute), soc_pct));
        assert_eq!(
            world.alerts,
            vec![AlertKind::SocLimit; alerts_count],
            "minute {minute}"
        );
    }
}
