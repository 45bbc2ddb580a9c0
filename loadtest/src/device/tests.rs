//! A home's devices under programs, without them, and beside the plain rule.

use std::collections::BTreeMap;

use model::asset::AssetState;
use model::command::{EvOrder, HeatOrder};
use model::policy::{BatteryPolicy, Mode, Reason, SlotPolicy};
use model::units::{DAY_MS, HOUR_MS};
use proptest::prelude::*;

use super::*;
use crate::homes::SEED;

/// 2026-09-21, 16:15 in Berlin.
const START_MS: i64 = 1_790_000_100_000;
const SLOT_MS: i64 = 15 * MINUTE_MS;

fn id(number: i64) -> HouseholdId {
    HouseholdId::new(number).unwrap()
}

/// Home 1 has PV and a battery in the fleet of the default seed.
fn device() -> Device {
    let device = Device::new(Home::new(id(1), SEED));
    assert!(device.metadata.battery.is_some() && device.metadata.pv_capacity_kw > 0.0);
    device
}

fn mixed(number: i64) -> Device {
    Device::new(Home::mixed(id(number), SEED))
}

/// A program of quarter hours from `from_ms` on, issued then.
fn command(name: &str, from_ms: i64, policies: &[Option<SlotPolicy>]) -> Command {
    let entry = |(nth, policy): (i64, &Option<SlotPolicy>)| ProgramEntry {
        from_ms: from_ms + nth * SLOT_MS,
        policy: policy.clone(),
        appliances: BTreeMap::new(),
        evs: BTreeMap::new(),
        heat: BTreeMap::new(),
    };
    let program: Vec<_> = (0_i64..).zip(policies).map(entry).collect();
    Command {
        command_id: name.to_owned(),
        household_id: id(1),
        schedule_id: "1-0-0".to_owned(),
        requested_ms: 0,
        issued_ms: from_ms,
        expires_ms: program.last().unwrap().from_ms + SLOT_MS,
        battery: None,
        program,
    }
}

fn holds(power_kw: f64) -> Option<SlotPolicy> {
    Some(SlotPolicy::setpoint(power_kw))
}

fn takes(device: &mut Device, command: Command, now_ms: i64) {
    assert_eq!(device.receive(command, now_ms).status, AckStatus::Applied);
}

fn measured(told: &[Telemetry]) -> impl Iterator<Item = Measurement> {
    told.iter().filter_map(|told| match told {
        Telemetry::Reading(reading) => Some(reading.measurement),
        Telemetry::Asset(_) => None,
    })
}

/// SoC in percent and power in W.
fn battery(told: &[Telemetry]) -> (f64, f64) {
    let found = measured(told).find_map(|measurement| match measurement {
        Measurement::Battery { soc_pct, power_w } => Some((soc_pct, power_w)),
        Measurement::Meter { .. } | Measurement::Pv { .. } => None,
    });
    found.unwrap()
}

fn load_w(told: &[Telemetry]) -> f64 {
    let found = measured(told).find_map(|measurement| match measurement {
        Measurement::Meter { consumption_w } => Some(consumption_w),
        Measurement::Battery { .. } | Measurement::Pv { .. } => None,
    });
    found.unwrap()
}

fn assets(told: &[Telemetry]) -> Vec<AssetState> {
    let states = told.iter().filter_map(|told| match told {
        Telemetry::Reading(_) => None,
        Telemetry::Asset(asset) => Some(asset.state),
    });
    states.collect()
}

/// What a battery of 5 kW that serves the home does in the second before `ts_ms`, W, while it is neither full nor empty.
fn served_w(device: &Device, ts_ms: i64) -> f64 {
    let at_ms = ts_ms - 1_000;
    (device.home.pv_w(at_ms) - device.home.load_w(at_ms)).clamp(-5_000.0, 5_000.0)
}

#[test]
fn soc_follows_the_program_and_stays_within_the_limits() {
    for (power_kw, end_pct) in [(5.0, 95.0), (-5.0, 10.0), (50.0, 95.0)] {
        let mut device = device();
        takes(
            &mut device,
            command("a", START_MS, &vec![holds(power_kw); 8]),
            START_MS,
        );
        let mut soc_pct = 50.0;
        for minute in 0..120 {
            let (next_pct, moved_w) = battery(&device.step(START_MS + minute * MINUTE_MS));
            assert!((10.0..=95.0).contains(&next_pct), "{next_pct} %");
            assert!((-5_000.0..=5_000.0).contains(&moved_w), "{moved_w} W");
            let expected_pct = if moved_w > 0.0 {
                moved_w * 0.95
            } else {
                moved_w / 0.95
            } / 6e3;
            let moves = minute > 0 && (10.5..94.5).contains(&next_pct);
            let moved_pct = if moves {
                expected_pct
            } else {
                next_pct - soc_pct
            };
            assert!(
                (next_pct - soc_pct - moved_pct).abs() < 0.11,
                "minute {minute}"
            );
            soc_pct = next_pct;
        }
        assert_eq!(soc_pct, end_pct);
    }
}

/// Every second counts, whatever the time between readings.
#[test]
fn a_program_is_carried_out_between_readings() {
    let program = command("a", START_MS, &[holds(4.0), holds(-2.0)]);
    let (mut often, mut seldom) = (device(), device());
    for device in [&mut often, &mut seldom] {
        let _ = device.step(START_MS);
        takes(device, program.clone(), START_MS);
    }
    for second in 1..=1_800 {
        let _ = often.step(START_MS + second * 1_000);
    }
    let _ = seldom.step(START_MS + 30 * MINUTE_MS);
    assert!((often.content_kwh() - seldom.content_kwh()).abs() < 1e-9);
    // A quarter of an hour each, at 95 % each way.
    let expected_kwh = 5.0 + 4.0 * 0.25 * 0.95 - 2.0 * 0.25 / 0.95;
    assert!((seldom.content_kwh() - expected_kwh).abs() < 1e-9);
}

/// Eight slots, charging and discharging in turns; then nothing comes any more.
#[test]
fn a_device_that_is_cut_off_follows_its_program_and_then_falls_back() {
    let mut device = device();
    let _ = device.step(START_MS);
    let policies: Vec<_> = (0..8)
        .map(|nth| holds(if nth % 2 == 0 { 2.0 } else { -1.5 }))
        .collect();
    takes(&mut device, command("a", START_MS, &policies), START_MS);
    for second in 1..=7_200 {
        let ts_ms = START_MS + second * 1_000;
        let (_, power_w) = battery(&device.step(ts_ms));
        let nth = (second - 1) / 900;
        assert_eq!(power_w, if nth % 2 == 0 { 2_000.0 } else { -1_500.0 });
    }
    let expected_kwh = 5.0 + 4.0 * 0.25 * (2.0 * 0.95 - 1.5 / 0.95);
    assert!((device.content_kwh() - expected_kwh).abs() < 1e-9);
    for second in 7_201..=9_000 {
        let ts_ms = START_MS + second * 1_000;
        let (_, power_w) = battery(&device.step(ts_ms));
        assert!(
            (power_w - served_w(&device, ts_ms)).abs() < 0.06,
            "{second}"
        );
    }
}

#[test]
fn without_a_valid_command_the_battery_serves_the_home() {
    let mut device = device();
    takes(&mut device, command("a", START_MS, &[holds(5.0)]), START_MS);
    assert_eq!(battery(&device.step(START_MS)).1, 5_000.0);
    let later_ms = START_MS + SLOT_MS + 1_000;
    let told = device.step(later_ms);
    assert!((battery(&told).1 - served_w(&device, later_ms)).abs() < 0.06);
    // An entry that says nothing of the battery is no order either.
    takes(&mut device, command("b", later_ms, &[None]), later_ms);
    let told = device.step(later_ms + 1_000);
    assert!((battery(&told).1 - served_w(&device, later_ms + 1_000)).abs() < 0.06);
}

#[test]
fn the_later_command_holds_from_its_first_entry_on() {
    let mut device = device();
    let policy = |device: &Device, minute: i64| {
        let entry = entry_at(&device.commands, START_MS + minute * MINUTE_MS)?;
        entry.policy.as_ref()?.battery?.setpoint_kw
    };
    let one = command("one", START_MS, &[holds(1.0), holds(2.0), holds(3.0)]);
    let two = command("two", START_MS + SLOT_MS, &[holds(-1.0)]);
    takes(&mut device, one.clone(), START_MS);
    takes(&mut device, two, START_MS);
    assert_eq!(policy(&device, -1), None);
    assert_eq!(policy(&device, 14), Some(1.0));
    assert_eq!(policy(&device, 15), Some(-1.0));
    // The later one ends earlier, and the one before does not come back.
    assert_eq!(policy(&device, 30), None);
    let again = device.receive(one, START_MS + 1);
    assert_eq!(again.reason, "a later command is here");
    let late = device.receive(command("late", START_MS, &[None]), START_MS + SLOT_MS);
    assert_eq!(late.reason, "expired");
}

#[test]
fn a_command_that_comes_again_is_answered_again() {
    let mut device = device();
    for _ in 0..2 {
        let ack = device.receive(command("now", START_MS, &[None]), START_MS);
        assert_eq!(
            (ack.command_id.as_str(), ack.status),
            ("now", AckStatus::Applied)
        );
        assert_eq!(device.commands.len(), 1);
    }
}

#[test]
fn an_appliance_that_is_switched_on_shows_on_the_meter() {
    let told = |on: bool| {
        let mut device = Device::new(Home::new(id(3), SEED));
        let mut order = command("on", START_MS, &[None]);
        let appliances = &mut order.program[0].appliances;
        appliances.insert("dishwasher".to_owned(), on);
        takes(&mut device, order, START_MS);
        load_w(&device.step(START_MS))
    };
    assert!((told(true) - told(false) - 2_000.0).abs() < 0.2);
}

/// Home 5 of a mixed fleet knows only modes. The threshold says to stop at 6 kWh, which it does not see.
#[test]
fn a_device_that_knows_only_modes_goes_by_them() {
    let policy = |mode, setpoint_kw| {
        Some(SlotPolicy {
            battery: Some(BatteryPolicy {
                mode,
                charge_from_grid_to_kwh: Some(6.0),
                charge_from_pv_to_kwh: Some(6.0),
                discharge_to_home_to_kwh: Some(4.0),
                discharge_to_grid_to_kwh: Some(4.0),
                charge_from_excess_to_kwh: None,
                discharge_to_excess_to_kwh: None,
                setpoint_kw,
                expected_kw: 0.0,
            }),
            import_max_kw: Some(0.5),
            export_max_kw: Some(0.5),
            value_per_kwh: 0.0,
            reason: Reason::CheapNow,
        })
    };
    let after_kwh = |mode, setpoint_kw| {
        let mut device = mixed(5);
        let _ = device.step(START_MS);
        let program = command("a", START_MS, &vec![policy(mode, setpoint_kw); 8]);
        takes(&mut device, program, START_MS);
        for minute in 1..=120 {
            let _ = device.step(START_MS + minute * MINUTE_MS);
        }
        device.content_kwh()
    };
    assert!((after_kwh(Mode::Charge, None) - 9.5).abs() < 1e-9);
    assert!((after_kwh(Mode::Sell, None) - 1.0).abs() < 1e-9);
    assert_eq!(after_kwh(Mode::Idle, None), 5.0);
    assert!(after_kwh(Mode::Hold, None) >= 5.0);
    let serves_kwh = after_kwh(Mode::SelfConsumption, None);
    assert_eq!(after_kwh(Mode::Setpoint, Some(2.0)), serves_kwh);
}

#[test]
fn a_mixed_fleet_has_evs_and_tanks_that_are_told_what_to_do() {
    let has = |number| {
        let metadata = Home::mixed(id(number), SEED).metadata();
        assert_eq!(metadata.check(), Ok(()));
        (!metadata.evs.is_empty(), !metadata.heat_stores.is_empty())
    };
    let kinds: Vec<_> = (1..=5).map(has).collect();
    let (ev, tank, plain) = ((true, false), (false, true), (false, false));
    assert_eq!(kinds, [plain, ev, plain, tank, plain]);
    // 22:15: the car is at home.
    let start_ms = START_MS + 6 * HOUR_MS;
    let mut order = command("a", start_ms, &[None]);
    order.program[0].evs = [(
        "car".to_owned(),
        EvOrder {
            charge_kw: 3.0,
            surplus: false,
            discharge_max_kw: 0.0,
        },
    )]
    .into();
    order.program[0].heat = [("tank".to_owned(), HeatOrder { power_kw: 0.5 })].into();
    let told = |number, order: Option<Command>| {
        let mut device = mixed(number);
        if let Some(order) = order {
            takes(&mut device, order, start_ms);
        }
        assets(&device.step(start_ms))
    };
    let [
        AssetState::Ev {
            plugged: true,
            power_w: 3_000.0,
            ..
        },
    ] = told(2, Some(order.clone()))[..]
    else {
        panic!("{:?}", told(2, Some(order)))
    };
    assert_eq!(told(2, None)[0].power_w(), 11_000.0);
    assert_eq!(told(4, Some(order))[0].power_w(), 500.0);
}

/// A day without contact, told in means, is the day that the meters counted.
#[test]
fn what_a_device_tells_later_is_what_its_meters_counted() {
    let mut device = mixed(4);
    let (mut load_kwh, mut moved_kwh, mut heat_kwh) = (0.0, 0.0, 0.0);
    for nth in 0..96 {
        let start_ms = START_MS + nth * KEPT_MS;
        let content_kwh = device.content_kwh();
        let told = device.live_through(start_ms);
        let (soc_pct, power_w) = battery(&told);
        assert!((soc_pct - 10.0 * content_kwh).abs() < 0.051);
        assert!(told.iter().all(|told| match told {
            Telemetry::Reading(reading) => reading.ts_ms == start_ms,
            Telemetry::Asset(asset) => asset.ts_ms == start_ms,
        }));
        load_kwh += load_w(&told) * KEPT_H / 1e3;
        moved_kwh += power_w * KEPT_H / 1e3;
        heat_kwh += assets(&told)[0].power_w() * KEPT_H / 1e3;
    }
    let meters = device.meters();
    assert!((load_kwh - meters.load_kwh - meters.heat_kwh).abs() < 1e-3);
    assert!((moved_kwh - meters.battery_in_kwh + meters.battery_out_kwh).abs() < 1e-3);
    assert!((heat_kwh - meters.heat_kwh).abs() < 1e-3);
    assert!(meters.load_kwh > 3.0 && meters.heat_kwh > 1.0);
}

/// Lives for `days` and returns the bills.
fn lived(mut device: Device, days: i64, program: &[Option<SlotPolicy>]) -> Bills {
    assert_eq!(device.bills(), Bills::default());
    let _ = device.live_through(START_MS - KEPT_MS);
    device.compare_from(START_MS);
    for nth in 0..days * 96 {
        if !program.is_empty() {
            let now_ms = START_MS + nth * KEPT_MS;
            takes(&mut device, command("a", now_ms, program), now_ms);
        }
        let _ = device.live_through(START_MS + nth * KEPT_MS);
    }
    device.bills()
}

#[test]
fn without_programs_a_home_pays_what_the_rule_pays() {
    for number in [1, 2, 4, 12] {
        let bills = lived(mixed(number), 7, &[]);
        assert_eq!((bills.homes, bills.since_ms), (1, START_MS));
        assert_eq!(bills.hearth, bills.rule, "home {number}");
        assert!(bills.rule < bills.none, "home {number}: {bills:?}");
    }
}

/// A battery that rests costs what no battery costs.
#[test]
fn with_an_idle_battery_a_home_pays_what_it_pays_without() {
    let bills = lived(device(), 7, &[holds(0.0)]);
    assert!((bills.hearth - bills.none).abs() < 1e-9, "{bills:?}");
    assert!(bills.rule < bills.hearth);
}

fn any_policy() -> impl Strategy<Value = Option<SlotPolicy>> {
    let content = || prop::option::of(0.0..11.0_f64);
    let thresholds = (content(), content(), content(), content());
    let limit = || prop::option::weighted(0.2, 0.0..4.0_f64);
    let modes = prop::sample::select(vec![Mode::SelfConsumption, Mode::Charge, Mode::Sell]);
    let policy =
        (thresholds, limit(), limit(), modes).prop_map(|(to, import, export, mode)| SlotPolicy {
            battery: Some(BatteryPolicy {
                mode,
                charge_from_grid_to_kwh: to.0,
                charge_from_pv_to_kwh: to.1,
                discharge_to_home_to_kwh: to.2,
                discharge_to_grid_to_kwh: to.3,
                charge_from_excess_to_kwh: None,
                discharge_to_excess_to_kwh: None,
                setpoint_kw: None,
                expected_kw: 0.0,
            }),
            import_max_kw: import,
            export_max_kw: export,
            value_per_kwh: 0.0,
            reason: Reason::OwnUse,
        });
    let setpoint = (-7.0..7.0_f64).prop_map(SlotPolicy::setpoint);
    prop::option::weighted(0.8, prop_oneof![policy, setpoint])
}

fn any_command(from_ms: i64) -> impl Strategy<Value = Command> {
    let ev = (0.0..12.0_f64, any::<bool>(), 0.0..5.0_f64);
    let orders = (
        any::<bool>(),
        prop::option::of(ev),
        prop::option::of(0.0..4.0_f64),
    );
    prop::collection::vec((any_policy(), orders), 1..4).prop_map(move |entries| {
        let policies: Vec<_> = entries.iter().map(|(policy, _)| policy.clone()).collect();
        let mut command = command("any", from_ms, &policies);
        for (entry, (_, (on, ev, heat))) in command.program.iter_mut().zip(entries) {
            entry.appliances.insert("dishwasher".to_owned(), on);
            let ev = ev.map(|(charge_kw, surplus, discharge_max_kw)| EvOrder {
                charge_kw,
                surplus,
                discharge_max_kw,
            });
            entry.evs.extend(ev.map(|ev| ("car".to_owned(), ev)));
            let heat = heat.map(|power_kw| HeatOrder { power_kw });
            entry
                .heat
                .extend(heat.map(|heat| ("tank".to_owned(), heat)));
        }
        command
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each second: import - export = load + charge - discharge - PV + EV + heat. What goes through the battery is in its
    /// content, less the losses, and the content never leaves its bounds.
    #[test]
    fn the_meters_of_a_home_balance_each_second(
        number in 1_i64..61,
        from_ms in START_MS..START_MS + 14 * DAY_MS,
        commands in prop::collection::vec(any_command(0), 1..4),
    ) {
        let from_ms = from_ms - from_ms.rem_euclid(1_000);
        let mut device = mixed(number);
        let _ = device.step(from_ms);
        let mut before = device.meters();
        let mut content_kwh = device.content_kwh();
        for second in 0..2_700_i64 {
            let now_ms = from_ms + second * 1_000;
            if second % 900 == 0 && let Some(command) = commands.get(usize::try_from(second / 900).unwrap()) {
                let mut command = command.clone();
                command.issued_ms = now_ms;
                command.expires_ms += now_ms;
                command.program.iter_mut().for_each(|entry| entry.from_ms += now_ms);
                prop_assert_eq!(device.receive(command, now_ms).status, AckStatus::Applied);
            }
            let _ = device.step(now_ms + 1_000);
            let after = device.meters();
            let counted = |of: fn(&Meters) -> f64| of(&after) - of(&before);
            let grid_kwh = counted(|meters| meters.import_kwh - meters.export_kwh);
            let moved_kwh = counted(|meters| meters.battery_in_kwh - meters.battery_out_kwh);
            let driven_kwh = counted(|meters| meters.ev_in_kwh - meters.ev_out_kwh);
            let rest_kwh = counted(|meters| meters.load_kwh + meters.heat_kwh - meters.pv_kwh);
            prop_assert!((grid_kwh - moved_kwh - driven_kwh - rest_kwh).abs() < 1e-9);
            let both_ways = |into: f64, out: f64| into > 1e-12 && out > 1e-12;
            prop_assert!(!both_ways(counted(|meters| meters.import_kwh), counted(|meters| meters.export_kwh)));
            let next_kwh = device.content_kwh();
            if device.metadata.battery.is_some() {
                let stored_kwh = counted(|meters| 0.95 * meters.battery_in_kwh - meters.battery_out_kwh / 0.95);
                prop_assert!((next_kwh - content_kwh - stored_kwh).abs() < 1e-9);
                prop_assert!((1.0 - 1e-9..=9.5 + 1e-9).contains(&next_kwh), "{}", next_kwh);
            }
            content_kwh = next_kwh;
            before = after;
        }
    }
}
