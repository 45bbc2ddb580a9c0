//! Numbers and windows as bytes.

use proptest::prelude::*;

use super::*;
use crate::packed::{Reader, Writer};

fn bytes_of(value: f64) -> Vec<u8> {
    let mut packed = Writer::default();
    packed.number(value);
    packed.bytes().to_vec()
}

/// What meters tell is short; anything else takes its 64 bits and one more byte.
#[test]
fn common_numbers_are_short() {
    for (value, length) in [
        (0.0, 1),
        (7.0, 1),
        (300.0, 2),
        (-300.0, 2),
        (412.7, 3),
        (55.5, 2),
        (1_234.56, 3),
        (1.0 / 3.0, 9),
        (-0.0, 9),
        (1e300, 9),
    ] {
        assert_eq!(bytes_of(value).len(), length, "{value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn numbers_keep_every_bit(
        values in prop::collection::vec(
            prop_oneof![
                any::<u64>().prop_map(f64::from_bits),
                (-1_000_000..1_000_000_i32).prop_map(|cents| f64::from(cents) / 100.0),
            ],
            0..20,
        ),
        wholes in prop::collection::vec(any::<u64>(), 0..20),
        signed in prop::collection::vec(any::<i64>(), 0..20),
    ) {
        let mut packed = Writer::default();
        values.iter().for_each(|value| packed.number(*value));
        wholes.iter().for_each(|value| packed.whole(*value));
        signed.iter().for_each(|value| packed.signed(*value));
        let mut read = Reader::new(packed.bytes());
        for value in values {
            prop_assert_eq!(read.number().map(f64::to_bits), Some(value.to_bits()));
        }
        for value in wholes {
            prop_assert_eq!(read.whole(), Some(value));
        }
        for value in signed {
            prop_assert_eq!(read.signed(), Some(value));
        }
        prop_assert!(read.is_at_end());
        prop_assert_eq!(read.whole(), None);
    }

    /// Homes with gaps, late readings and readings at any millisecond come back as they were.
    #[test]
    fn windows_come_back(
        seed in prop::collection::vec((0..3_u8, 0..10_800_000_i64, 0..5_000_i32), 1..200),
    ) {
        let mut world = World::with(SETTINGS, metadata());
        let mut now_ms = at(0);
        for (kind, past_ms, tenths) in seed {
            now_ms += past_ms / 20;
            let (ts_ms, value) = (now_ms - past_ms / 100, f64::from(tenths) / 10.0);
            world.read(match kind {
                0 => load(ts_ms, value),
                1 => pv(ts_ms, value / 3.0),
                _ => battery(ts_ms, value / 5.0),
            });
        }
        let bytes = postcard::to_stdvec(&world.home).unwrap();
        let restored: Household = postcard::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&restored, &world.home);
        prop_assert_eq!(postcard::to_stdvec(&restored).unwrap(), bytes);
    }
}

/// Whatever a damaged snapshot says, nothing panics.
#[test]
fn damage_does_no_more_than_fail() {
    let world = lived_day(SETTINGS);
    let bytes = postcard::to_stdvec(&world.home).unwrap();
    let mut refused = 0;
    for place in 0..bytes.len() {
        for mask in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] ^= mask;
            refused += u32::from(postcard::from_bytes::<Household>(&damaged).is_err());
        }
    }
    assert!(refused > 0);
}

/// Ended slots are kept to a quarter of a watt.
#[test]
fn ended_slots_are_known_to_a_quarter_of_a_watt() {
    let mut world = World::with(SETTINGS, metadata());
    for minute in 0..60 {
        world.read(load(at(minute), 1_000.0 / 3.0));
    }
    let slots = world.home.recent_slots(at(15), &SETTINGS);
    assert_eq!(slots[0].load_w.mean(), Some(333.25));
    assert_eq!(world.slots[&at(0)].load_w.mean(), Some(1_000.0 / 3.0));
}
