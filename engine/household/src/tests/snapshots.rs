//! State as bytes, and what a crash leaves behind.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn snapshot(home: &Household) -> Vec<u8> {
    postcard::to_stdvec(home).unwrap()
}

fn restore(bytes: &[u8]) -> Household {
    postcard::from_bytes(bytes).unwrap()
}

#[test]
fn a_home_fits_a_few_kilobytes() {
    let mut world = World::with(SETTINGS, metadata());
    for minute in -1_440..600 {
        world.read_all(at(minute));
    }
    let request = world.requests.last().unwrap().clone();
    world.answer(&request, 1.5);
    let bytes = snapshot(&world.home);
    assert_eq!(restore(&bytes), world.home);
    let windows = postcard::to_stdvec(&world.home.windows).unwrap().len();
    let (all, state) = (bytes.len(), size_of::<Household>());
    let sizes = format!("snapshot {all}: windows {windows}; struct {state}");
    expect!["snapshot 4644: windows 898; struct 672"].assert_eq(&sizes);
}

/// Rows of the stores are JSON, and stay when fields are added.
#[test]
fn rows_without_the_newest_fields_are_read() {
    let grid: Grid =
        serde_json::from_str(r#"{"import_limit_kw":null,"export_limit_kw":null}"#).unwrap();
    assert_eq!(grid, Grid::OPEN);
    let slot: PlannedSlot = serde_json::from_str(
        r#"{"start_ms":0,"load_kw":0.5,"pv_kw":0,"grid_import_kw":0.5,"grid_export_kw":0,"battery_charge_kw":0,
        "battery_discharge_kw":0,"soc_kwh":4,"appliances":{"dishwasher":true},"shadow_price":0.3}"#,
    )
    .unwrap();
    assert!(slot.evs.is_empty() && slot.heat.is_empty());
}

/// A home's life: an hour of readings, then what `seed` says, a minute each: readings up to some minutes old, the
/// clock, answers of the pool and of the devices.
fn life(seed: &[(u8, i64)]) -> Vec<Event> {
    let mut world = World::new(SETTINGS);
    let mut events = Vec::new();
    for minute in 480..=540 {
        let event = Event::ReadingArrived(load(at(minute), 300.0));
        world.tell(event.clone());
        events.push(event);
    }
    let mut now_ms = at(540);
    for (choice, jitter) in seed {
        now_ms += MINUTE_MS;
        let ts_ms = now_ms - jitter * MINUTE_MS;
        let event = match choice {
            0 => Event::ClockTicked { now_ms },
            1 | 2 => Event::ReadingArrived(load(ts_ms, 400.0)),
            3 => Event::ReadingArrived(pv(ts_ms, 900.0)),
            4 | 5 => Event::ReadingArrived(battery(ts_ms, 60.0)),
            6 => match world.requests.last() {
                Some(request) => Event::ScheduleReady(Arc::new(schedule(request, 0.5))),
                None => Event::MetadataChanged(Arc::new(metadata())),
            },
            _ => match world.sent.last() {
                Some(command) => Event::AckArrived(Ack {
                    household_id: id(),
                    command_id: command.command_id.clone(),
                    ts_ms: now_ms,
                    status: AckStatus::Applied,
                    reason: String::new(),
                }),
                None => Event::MetadataChanged(Arc::new(metadata())),
            },
        };
        world.tell(event.clone());
        events.push(event);
    }
    events.push(Event::ClockTicked {
        now_ms: now_ms + HOUR_MS / 2,
    });
    events
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The host snapshots a home only when all its effects are durable, so a crash loses state, never rows.
    #[test]
    fn a_crash_changes_nothing(
        (jitter_max, seed) in prop::sample::select(vec![15_i64, 60]).prop_flat_map(|jitter_max| {
            (Just(jitter_max), prop::collection::vec((0..8_u8, 0..jitter_max), 1..150))
        }),
        one in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        let events = life(&seed);
        let (saved, crashed) = {
            let after_an_hour = |index: prop::sample::Index| 61 + index.index(events.len() - 61);
            let (one, other) = (after_an_hour(one), after_an_hour(other));
            (one.min(other), one.max(other))
        };
        let mut calm = World::new(SETTINGS);
        events.iter().for_each(|event| calm.tell(event.clone()));
        let mut world = World::new(SETTINGS);
        events[..saved].iter().for_each(|event| world.tell(event.clone()));
        let bytes = snapshot(&world.home);
        events[saved..crashed].iter().for_each(|event| world.tell(event.clone()));
        world.home = restore(&bytes);
        events[saved..].iter().for_each(|event| world.tell(event.clone()));
        prop_assert_eq!(&world.readings, &calm.readings);
        prop_assert_eq!(&world.slots, &calm.slots);
        prop_assert_eq!(&world.slots, &world.offline());
        prop_assert_eq!(&world.commands, &calm.commands);
        prop_assert_eq!(&world.home.windows, &calm.home.windows);
        // A repair after the crash finds rows in the store that were not there before, and the home may be planned a
        // little earlier for it. Where nothing is late, there is no repair, and nothing at all differs.
        if jitter_max == 15 {
            prop_assert_eq!(&world.home, &calm.home);
            let ids = |world: &World| {
                let ids = world.requests.iter().map(|request| request.request_id.clone());
                ids.collect::<std::collections::BTreeSet<_>>()
            };
            prop_assert_eq!(ids(&world), ids(&calm));
        }
    }

    /// A snapshot that cannot be read costs the windows, and no slot.
    #[test]
    fn a_lost_snapshot_spoils_no_slot(
        seed in prop::collection::vec((1..6_u8, 0..15_i64), 40..150),
        lost in 0..100_usize,
    ) {
        let events = life(&seed);
        let mut world = World::new(SETTINGS);
        events[..lost].iter().for_each(|event| world.tell(event.clone()));
        let (watermark_ms, before) = (world.home.watermark_ms(), world.slots.clone());
        world.home = Household::new(id());
        events[lost..].iter().for_each(|event| world.tell(event.clone()));
        // What had ended and was not touched again stays; a slot that nobody spoke of again waits for its repair.
        let offline = world.offline();
        for (start_ms, slot) in &world.slots {
            prop_assert_eq!(slot, &offline[start_ms], "slot {}", start_ms);
        }
        prop_assert!(before.keys().all(|start_ms| world.slots.contains_key(start_ms)));
        let open_ms = watermark_ms - watermark_ms.rem_euclid(15 * MINUTE_MS);
        let missing = offline.keys().filter(|start_ms| !world.slots.contains_key(start_ms));
        prop_assert!(missing.into_iter().all(|start_ms| *start_ms == open_ms));
    }
}
