//! Schedules in, commands out; answers and alerts.

use super::*;
use model::command::{BatteryRating, ProgramEntry};
use model::policy::{BatteryPolicy, Mode, Reason, SlotPolicy};

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

/// Start, end, the battery's power in the first entry and whether the dishwasher runs in it.
fn orders(sent: &[Command]) -> Vec<(i64, i64, f64, bool)> {
    let minute = |ms: i64| (ms - MIDNIGHT_MS) / MINUTE_MS;
    sent.iter()
        .map(|command| {
            for (entry, end_ms) in command.spans() {
                assert_eq!(end_ms - entry.from_ms, 15 * MINUTE_MS);
            }
            let entry = &command.program[0];
            (
                minute(entry.from_ms),
                minute(command.expires_ms),
                power_w(entry),
                entry.appliances["dishwasher"],
            )
        })
        .collect()
}

fn power_w(entry: &ProgramEntry) -> f64 {
    let battery = entry.policy.as_ref().unwrap().battery.unwrap();
    assert_eq!(battery.mode, Mode::Setpoint);
    battery.setpoint_kw.unwrap() * 1e3
}

#[test]
fn an_adopted_schedule_becomes_one_program() {
    let mut world = planned_home();
    assert_eq!(orders(&world.sent), [(600, 720, 1_000.0, true)]);
    let schedule_id = world.requests.last().unwrap().request_id.clone();
    let command = &world.sent[0];
    assert_eq!(command.command_id, format!("{schedule_id}-0"));
    assert_eq!(command.issued_ms, at(600), "at once");
    let runs = command
        .program
        .iter()
        .map(|entry| entry.appliances["dishwasher"]);
    let expected = [true, true, true, false, false, false, false, false];
    assert_eq!(runs.collect::<Vec<_>>(), expected);
    assert_eq!(world.schedules, std::slice::from_ref(&schedule_id));
    // No slot's start is the time of another command, and no program outlives the plan's that it follows.
    for minute in (605..=900).step_by(5) {
        world.read_all(at(minute));
    }
    assert_eq!(world.sent.len(), 1);
    assert!(world.home.is_planned(at(616)) && world.home.is_planned(at(600 + 1_439)));
    assert!(!world.home.is_planned(at(600 + 1_440)));
}

#[test]
fn a_program_ends_with_its_plan() {
    let short = Settings {
        horizon_slots: 3,
        ..SETTINGS
    };
    let mut world = lived_day(short);
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, 1.0);
    assert_eq!(world.sent[0].program.len(), 3);
    assert_eq!(world.sent[0].expires_ms, at(30));
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
        [(615, 735, -2_000.0, true)]
    );
    assert!(world.sent[1].issued_ms > world.sent[0].issued_ms);
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

/// Answers the last request with `policy` in every slot.
fn answer_with(world: &mut World, policy: &SlotPolicy) {
    let request = world.requests.last().unwrap().clone();
    let mut schedule = schedule(&request, 0.0);
    for slot in &mut schedule.plan.slots {
        slot.policy = Some(policy.clone());
    }
    world.tell(Event::ScheduleReady(Arc::new(schedule)));
}

/// 10 kWh: stores PV up to 9.5 kWh and covers the load down to 4 kWh.
fn follows() -> SlotPolicy {
    SlotPolicy {
        battery: Some(BatteryPolicy {
            mode: Mode::SelfConsumption,
            charge_from_grid_to_kwh: None,
            charge_from_pv_to_kwh: Some(9.5),
            discharge_to_home_to_kwh: Some(4.0),
            discharge_to_grid_to_kwh: None,
            charge_from_excess_to_kwh: None,
            discharge_to_excess_to_kwh: None,
            setpoint_kw: None,
            expected_kw: 0.0,
        }),
        import_max_kw: Some(11.0),
        export_max_kw: None,
        value_per_kwh: 0.2,
        reason: Reason::OwnUse,
    }
}

#[test]
fn a_program_has_the_policies_of_its_plan() {
    let mut world = lived_day(SETTINGS);
    answer_with(&mut world, &follows());
    let command = &world.sent[0];
    assert!(
        command
            .program
            .iter()
            .all(|entry| entry.policy == Some(follows()))
    );
    let rating = BatteryRating {
        capacity_kwh: 10.0,
        charge_kw: 5.0,
        discharge_kw: 5.0,
    };
    assert_eq!(command.battery, Some(rating));
}

/// A new plan changes the policies by `change`. Returns whether a new program is sent for it.
fn sends_again(change: fn(&mut SlotPolicy)) -> bool {
    let mut world = lived_day(SETTINGS);
    answer_with(&mut world, &follows());
    assert_eq!(world.sent.len(), 1);
    world.read_all(at(0));
    let mut changed = follows();
    change(&mut changed);
    answer_with(&mut world, &changed);
    world.sent.len() == 2
}

#[test]
fn a_program_is_replaced_where_the_plan_says_something_new() {
    let battery = |policy: &mut SlotPolicy| *policy.battery.as_mut().unwrap();
    assert!(!sends_again(|_| {}));
    // One percent of 10 kWh.
    assert!(!sends_again(|policy| {
        policy.battery.as_mut().unwrap().discharge_to_home_to_kwh = Some(4.1);
    }));
    assert!(sends_again(|policy| {
        policy.battery.as_mut().unwrap().discharge_to_home_to_kwh = Some(4.11);
    }));
    assert!(sends_again(|policy| {
        policy.battery.as_mut().unwrap().discharge_to_home_to_kwh = None;
    }));
    assert!(sends_again(|policy| policy
        .battery
        .as_mut()
        .unwrap()
        .mode = Mode::Hold));
    assert!(sends_again(|policy| policy.import_max_kw = Some(10.9)));
    assert!(sends_again(|policy| policy.export_max_kw = Some(0.0)));
    // Devices need neither of these.
    assert!(!sends_again(|policy| policy.value_per_kwh = 0.3));
    assert!(!sends_again(|policy| policy
        .battery
        .as_mut()
        .unwrap()
        .expected_kw = 1.0));
    assert_eq!(battery(&mut follows()).mode, Mode::SelfConsumption);
}

#[test]
fn the_same_program_is_sent_again_when_half_of_it_is_left() {
    let mut world = planned_home();
    // No device has confirmed the run of 10:00, so it counts as begun at 10:15.
    for minute in [616, 631, 646] {
        world.read_all(at(minute));
        let request = world.requests.last().unwrap().clone();
        world.answer(&request, 1.0);
        assert_eq!(world.sent.len(), 1, "minute {minute}");
    }
    world.read_all(at(661));
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, 1.0);
    assert_eq!(orders(&world.sent[1..]), [(660, 780, 1_000.0, false)]);
}

#[test]
fn what_a_device_rejected_is_sent_again_with_the_next_plan() {
    let mut world = planned_home();
    let first = world.sent[0].command_id.clone();
    world.ack(&first, AckStatus::Rejected);
    world.read_all(at(610));
    assert_eq!(world.sent.len(), 1);
    world.read_all(at(616));
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, 1.0);
    assert_eq!(world.sent.len(), 2);
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
    world.read_all(at(616));
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, 2.0);
    let [one, two] = [0, 1].map(|index| world.sent[index].command_id.clone());
    // The first comes late: the second has replaced it.
    world.ack(&two, AckStatus::Rejected);
    world.ack(&one, AckStatus::Applied);
    world.ack("7-0-0-0", AckStatus::Applied);
    let state = |id: &str| {
        (
            world.commands[id].state.as_str(),
            world.commands[id].acked_ms,
        )
    };
    assert_eq!(state(&one), ("applied", Some(at(616))));
    assert_eq!(state(&two), ("rejected", Some(at(616))));
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
        let command = world.sent.last().unwrap().clone();
        world.ack(&command.command_id, AckStatus::Applied);
        let runs = (600..645).contains(&minute);
        let entry = command.entry_at(at(minute)).unwrap();
        assert_eq!(entry.appliances["dishwasher"], runs, "minute {minute}");
    }
}

/// The device has the program and begins the run by itself, hours after it has answered.
#[test]
fn a_run_begins_within_a_program() {
    let mut later = metadata();
    later.appliances[0].window_start_min = 660;
    let mut world = World::with(SETTINGS, later);
    for minute in (0..=600).step_by(5) {
        world.read_all(at(minute - 1_440));
        world.read_all(at(minute));
    }
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, 1.0);
    let command = world.sent[0].clone();
    assert!(command.entry_at(at(660)).unwrap().appliances["dishwasher"]);
    world.ack(&command.command_id, AckStatus::Applied);
    for minute in (605..=676).step_by(5) {
        world.read_all(at(minute));
    }
    // It began at 11:00, and at 11:15 two of its three slots are left, wherever the plan would have it.
    let problem = &world.requests.last().unwrap().problem;
    assert_eq!(problem.start_ms, at(675));
    assert_eq!(problem.appliances[0].profile_kw, [1.0, 0.5]);
    assert_eq!(problem.appliances[0].earliest_slot, 0);
    // The plan comes too late and would stop it.
    let last = world.requests.last().unwrap().clone();
    let mut stops = schedule(&last, 2.0);
    for slot in &mut stops.plan.slots {
        slot.appliances.insert("dishwasher".to_owned(), false);
    }
    world.tell(Event::ScheduleReady(Arc::new(stops)));
    let runs = world.sent[1]
        .program
        .iter()
        .map(|entry| entry.appliances["dishwasher"]);
    assert_eq!(runs.take(3).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn a_rejected_run_is_planned_again() {
    let mut world = planned_home();
    let command_id = world.sent[0].command_id.clone();
    world.ack(&command_id, AckStatus::Rejected);
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
    let newest = world.sent.last().unwrap().command_id.clone();
    world.ack(&newest, AckStatus::Applied);
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, -1.0);
    assert_eq!(world.sent.len(), 2);
    for minute in (660..690).step_by(5) {
        world.read_all(at(minute));
    }
    assert_eq!(unanswered(&world), 2);
}

/// One program replaces the other before it expires, and no device answers any.
#[test]
fn programs_that_replace_each_other_are_unanswered_too() {
    let mut world = planned_home();
    for minute in (605..=640).step_by(5) {
        world.read_all(at(minute));
        let last = world.requests.last().unwrap().clone();
        if !world.schedules.contains(&last.request_id) {
            world.answer(&last, f64::from(i32::try_from(minute).unwrap()) / 1e3);
        }
    }
    assert_eq!(world.sent.len(), 3);
    let unanswered = |kind: &&AlertKind| **kind == AlertKind::CommandUnanswered;
    assert_eq!(world.alerts.iter().filter(unanswered).count(), 1);
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
    assert_eq!(world.sent.len(), 1, "the program of 10:00");
    // A plan that comes while the home is silent is not carried out.
    let request = world.requests.last().unwrap().clone();
    let mut late = schedule(&request, 2.0);
    late.requested_ms += 1;
    late.schedule_id.push('x');
    world.tell(Event::ScheduleReady(Arc::new(late)));
    assert_eq!(world.sent.len(), 1);
    world.read_all(at(720));
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, 1.0);
    assert_eq!(orders(&world.sent[1..])[0].0, 720);
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
