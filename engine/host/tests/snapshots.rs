//! Snapshots of every version give back the household.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;

use host::config::EngineConfig;
use household::effect::Effect;
use household::event::Event;
use household::household::{Env, Household};
use model::command::{Ack, AckStatus};
use model::units::HouseholdId;
use schemas::snapshot::{NextOffsets, SnapshotError, encode};
use schemas::topic::Topic;

fn decode(bytes: &[u8], partition: i32) -> Result<(NextOffsets, Household), SnapshotError> {
    schemas::snapshot::decode(bytes, partition)
}

/// A snapshot of version 1, taken on partition 3, gives the same home as when it is written again.
#[track_caller]
fn check(stored: &[u8], has_metadata: bool, expected: &str) {
    let (next_offsets, household) = decode(stored, 3).unwrap();
    assert_eq!(next_offsets.get(Topic::Telemetry), 5);
    assert_eq!(next_offsets.get(Topic::Households), 6);
    assert_eq!(next_offsets.get(Topic::Schedules), 0);
    assert_eq!(next_offsets.get(Topic::Acks), 7);
    assert_eq!(household.has_metadata(), has_metadata);
    let debug = format!("{household:?}");
    assert!(debug.contains(expected), "{debug}");
    let bytes = encode(3, &next_offsets, &household);
    assert_eq!(bytes[0], 5);
    let added = 9 + if has_metadata { 25 } else { 0 };
    // Readings and ended slots are shorter now.
    assert!(bytes.len() <= stored.len() + added);
    assert_eq!(decode(&bytes, 3).unwrap(), (next_offsets, household));
    assert!(matches!(
        decode(stored, 4),
        Err(SnapshotError::Partition(3))
    ));
}

#[test]
fn version_1_is_read() {
    check(
        include_bytes!("../../../schemas/golden/snapshot-v1.bin"),
        true,
        "grid: Grid { import_limit_kw: Some(20.0), export_limit_kw: None, peak_price_per_kw: 0.0, peak_kw: 0.0 }, \
         pv_curtailable: false, appliances: [ApplianceSpec { id: \"dishwasher\"",
    );
    let no_metadata = include_bytes!("../../../schemas/golden/snapshot-v1-no-metadata.bin");
    check(no_metadata, false, "metadata: None");
}

/// A snapshot of version 4 of a home with an EV, a day of readings, minute by minute in the end, a plan and its program.
#[test]
fn version_4_is_read() {
    const SIX_MS: i64 = 1_757_671_200_000;
    let stored = include_bytes!("../../../schemas/golden/snapshot-v4.bin");
    let (next_offsets, household) = decode(stored, 3).unwrap();
    assert_eq!(next_offsets.get(Topic::Acks), 7);
    let settings = EngineConfig::default().settings();
    household::invariants::check(&household, &settings).unwrap();
    let slots = household.recent_slots(SIX_MS + 5 * 60_000, &settings);
    let [.., ended, open] = slots.as_slice() else {
        panic!("{slots:?}");
    };
    // 300 W at the hour, and 1.1 W more each minute; what has ended is known to a quarter of a watt.
    assert_eq!(
        (slots.len(), open.start_ms, open.load_w.count),
        (97, SIX_MS, 6)
    );
    assert!((open.load_w.sum - 6.0 * 302.2).abs() < 0.6 * 1.1);
    assert_eq!(ended.load_w.mean(), Some(357.25));
    assert_eq!(ended.load_w.max, 365.0);
    assert_eq!(open.soc_pct, Some(50.25));
    assert!(household.past().is_some());
    let bytes = encode(3, &next_offsets, &household);
    assert_eq!(bytes[0], 5);
    assert!(
        bytes.len() < 6_000,
        "{} bytes of {}",
        bytes.len(),
        stored.len()
    );
    assert_eq!(decode(&bytes, 3).unwrap(), (next_offsets, household));
}

/// A snapshot of version 3 holds two commands of one slot each; the device has applied the first, in which a run began.
#[test]
fn commands_of_version_3_become_programs() {
    let stored = include_bytes!("../../../schemas/golden/snapshot-v3.bin");
    let (next_offsets, mut household) = decode(stored, 3).unwrap();
    let settings = EngineConfig::default().settings();
    household.recall(&settings);
    household::invariants::check(&household, &settings).unwrap();
    let bytes = encode(3, &next_offsets, &household);
    assert_eq!(
        decode(&bytes, 3).unwrap(),
        (next_offsets, household.clone())
    );
    let second_ms = 1_757_672_100_000;
    let answers = ["7-1757671200000-136-0", "7-1757671200000-136-1"].map(|command_id| {
        let mut effects = Vec::new();
        let ack = Ack {
            household_id: HouseholdId::new(7).unwrap(),
            command_id: command_id.to_owned(),
            ts_ms: second_ms,
            status: AckStatus::Applied,
            reason: String::new(),
        };
        let env = Env {
            settings: &settings,
            tariffs: &BTreeMap::new(),
            now_ms: None,
        };
        household.handle(Event::AckArrived(ack), &env, &mut effects);
        effects
    });
    assert_eq!(answers[0], [], "it was answered already");
    let Effect::StoreAnswer(answer) = &answers[1][0] else {
        panic!("{:?}", answers[1]);
    };
    assert_eq!((answer.from_ms, answers[1].len()), (second_ms, 1));
}

#[test]
fn damage_and_other_versions_are_refused() {
    let stored = include_bytes!("../../../schemas/golden/snapshot-v1.bin");
    for end in 1..stored.len() {
        let outcome = decode(&stored[..end], 3);
        assert!(
            matches!(outcome, Err(SnapshotError::Undecodable(_))),
            "{end}"
        );
    }
    assert!(matches!(decode(&[], 3), Err(SnapshotError::Empty)));
    assert!(matches!(decode(&[0, 0], 3), Err(SnapshotError::Version(0))));
    assert!(matches!(decode(&[6, 0], 3), Err(SnapshotError::Newer(6))));
    assert!(matches!(
        decode(&[255, 0], 3),
        Err(SnapshotError::Newer(255))
    ));
}
