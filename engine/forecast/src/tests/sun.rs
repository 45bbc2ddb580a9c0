//! Golden values: pvlib 0.16.1, `solarposition.get_solarposition(time, latitude, longitude, altitude=0)`, the true
//! elevation without refraction.

use proptest::prelude::*;

use super::{MINUTE_MS, at, near};
use crate::sun::{Place, down_until_ms, position};

/// Latitude, longitude, UTC epoch milliseconds, elevation, azimuth.
const POSITIONS: [(f64, f64, i64, f64, f64); 20] = [
    // Munich, Fontana, Sydney, Tromsø and Quito at 2026-06-21 12:00, 2026-12-21 08:30, 2027-03-20 17:45 and
    // 2019-10-05 02:00.
    (48.14, 11.58, 1_782_043_200_000, 63.7636, 203.6089),
    (48.14, 11.58, 1_797_841_800_000, 9.7804, 142.8683),
    (48.14, 11.58, 1_805_564_700_000, -4.0121, 274.4210),
    (48.14, 11.58, 1_570_240_800_000, -32.3005, 55.6398),
    (34.1, -117.43, 1_782_043_200_000, -7.6063, 54.9010),
    (34.1, -117.43, 1_797_841_800_000, -75.8917, 43.6742),
    (34.1, -117.43, 1_805_564_700_000, 43.9213, 130.7945),
    (34.1, -117.43, 1_570_240_800_000, -7.0420, 269.2405),
    (-33.87, 151.21, 1_782_043_200_000, -62.4223, 255.5024),
    (-33.87, 151.21, 1_797_841_800_000, 5.7197, 245.5336),
    (-33.87, 151.21, 1_805_564_700_000, -27.9534, 110.9284),
    (-33.87, 151.21, 1_570_240_800_000, 60.4526, 351.7773),
    (69.65, 18.96, 1_782_043_200_000, 42.4906, 203.2618),
    (69.65, 18.96, 1_797_841_800_000, -6.0545, 149.7999),
    (69.65, 18.96, 1_805_564_700_000, -4.6478, 282.5249),
    (69.65, 18.96, 1_570_240_800_000, -16.7987, 54.9203),
    (-0.18, -78.47, 1_782_043_200_000, 10.0766, 66.1371),
    (-0.18, -78.47, 1_797_841_800_000, -36.4596, 119.7906),
    (-0.18, -78.47, 1_805_564_700_000, 84.0826, 271.3115),
    (-0.18, -78.47, 1_570_240_800_000, -44.1810, 263.4512),
];

#[test]
fn the_sun_stands_where_pvlib_says() {
    for (latitude, longitude, ts_ms, elevation_deg, azimuth_deg) in POSITIONS {
        let sun = position(Place::new(latitude, longitude).unwrap(), ts_ms);
        near(sun.elevation_deg, elevation_deg, 0.01);
        near(sun.azimuth_deg, azimuth_deg, 0.05);
    }
}

/// Paris on 2007-05-05, 1990-11-05 and 2120-02-05, 10:00 UTC.
#[test]
fn years_beyond_the_algorithm_are_like_others() {
    let paris = Place::new(48.86, 2.35).unwrap();
    for (ts_ms, elevation_deg, azimuth_deg) in [
        (1_178_359_200_000, 50.7038, 136.8139),
        (657_799_200_000, 22.1724, 155.4507),
        (4_736_570_400_000, 19.4252, 148.2731),
    ] {
        let sun = position(paris, ts_ms);
        near(sun.elevation_deg, elevation_deg, 0.25);
        near(sun.azimuth_deg, azimuth_deg, 0.25);
    }
}

#[test]
fn no_moment_is_refused() {
    let place = Place::new(90.0, 180.0).unwrap();
    for ts_ms in [i64::MIN / 2, -1, 0, 253_370_764_800_000, i64::MAX / 2] {
        assert!(position(place, ts_ms).elevation_deg.abs() < 24.0);
    }
}

#[test]
fn a_place_is_read_as_metadata_write_it() {
    assert_eq!(Place::parse("48.14,11.58"), Place::new(48.14, 11.58));
    assert_eq!(Place::parse(" -33.87 , 151.21"), Place::new(-33.87, 151.21));
    for text in ["", "Munich", "48.14", "91,0", "0,181", "1,2,3", "NaN,0"] {
        assert_eq!(Place::parse(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sun_does_not_rise_before_it_can(
        latitude in -90.0..90.0_f64,
        longitude in -180.0..180.0_f64,
        minutes in 0..4 * 366 * 1_440_i64,
    ) {
        let place = Place::new(latitude, longitude).unwrap();
        let ts_ms = at(0, 0, minutes);
        let sun = position(place, ts_ms);
        let until_ms = down_until_ms(sun, ts_ms);
        prop_assert!(until_ms >= ts_ms);
        if sun.elevation_deg <= 0.0 {
            for ms in (ts_ms..until_ms).step_by(usize::try_from(3 * MINUTE_MS).unwrap()) {
                prop_assert!(position(place, ms).elevation_deg <= 0.0);
            }
            prop_assert!(until_ms <= ts_ms || position(place, until_ms - 1).elevation_deg <= 0.0);
        }
    }
}
