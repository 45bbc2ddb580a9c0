//! Golden values of pvlib 0.16.1. The calls are named at each table.

use proptest::prelude::*;

use super::near;
use crate::irradiance::{
    Plane, ac_share, clear_sky_w_per_m2, extraterrestrial_w_per_m2, on_plane_w_per_m2, split,
};
use crate::plant::Plant;
use crate::sun::{Place, Sun};
use model::units::MINUTE_MS;

const fn sun(elevation_deg: f64, azimuth_deg: f64) -> Sun {
    Sun {
        elevation_deg,
        azimuth_deg,
    }
}

/// `clearsky.haurwitz(90 - elevation)`.
#[test]
fn a_clear_sky_is_haurwitzs() {
    for (elevation_deg, expected) in [
        (1.0, 0.652),
        (5.0, 48.6299),
        (20.0, 316.0358),
        (45.0, 714.2503),
        (65.3, 934.8187),
        (90.0, 1035.092),
        (-1.0, 0.0),
    ] {
        near(
            clear_sky_w_per_m2(sun(elevation_deg, 180.0)),
            expected,
            1e-3,
        );
    }
}

/// `irradiance.get_extra_radiation(date, method='asce')` on 2026-01-03, 2026-07-04 and 2026-10-15.
#[test]
fn the_sun_is_nearer_in_january() {
    for (ts_ms, expected) in [
        (1_767_441_600_000, 1411.1212),
        (1_783_166_400_000, 1321.0604),
        (1_792_065_600_000, 1377.0480),
    ] {
        near(extraterrestrial_w_per_m2(ts_ms), expected, 0.5);
    }
}

/// Elevation, GHI; DNI and DHI of `irradiance.erbs` with 1380 W/m² outside the atmosphere; the global irradiance of
/// `irradiance.get_total_irradiance(model='haydavies', albedo=0.2)` on planes of (30, 180), (90, 90) and (10, 270) degrees
/// of tilt and azimuth with the sun at 200, 200 and 260 degrees.
#[test]
fn light_is_split_and_laid_on_planes_as_pvlib_does() {
    for (elevation_deg, ghi, direct, diffuse, on_planes) in [
        (
            60.0,
            900.0,
            851.5522,
            162.5342,
            [1022.9056, 121.1199, 970.8814],
        ),
        (
            60.0,
            400.0,
            36.9706,
            367.9825,
            [387.1184, 219.0621, 401.3857],
        ),
        (30.0, 100.0, 2.6087, 98.6957, [95.7544, 59.2545, 99.8226]),
        (
            30.0,
            450.0,
            603.6355,
            148.1822,
            [699.6915, 86.6824, 553.0771],
        ),
        (10.0, 60.0, 9.2089, 58.4009, [61.9509, 35.0056, 61.5491]),
        (
            10.0,
            170.0,
            753.9119,
            39.0846,
            [556.4273, 25.8661, 315.4867],
        ),
        (5.0, 40.0, 35.8039, 36.8795, [59.4801, 21.9613, 47.6958]),
        (2.0, 30.0, 0.0, 30.0, [28.3923, 18.0, 29.8177]),
        (
            45.0,
            1100.0,
            1298.9552,
            181.5,
            [1479.902, 115.3296, 1271.3289],
        ),
    ] {
        let parts = split(sun(elevation_deg, 0.0), ghi, 1_380.0);
        near(parts.direct_normal_w_per_m2, direct, 1e-3);
        near(parts.diffuse_w_per_m2, diffuse, 1e-3);
        let planes = [
            (30.0, 180.0, 200.0),
            (90.0, 90.0, 200.0),
            (10.0, 270.0, 260.0),
        ];
        for ((tilt_deg, azimuth_deg, sun_deg), expected) in planes.into_iter().zip(on_planes) {
            let plane = Plane {
                tilt_deg,
                azimuth_deg,
            };
            let found = on_plane_w_per_m2(sun(elevation_deg, sun_deg), plane, ghi, 1_380.0);
            near(found, expected, 1e-3);
        }
    }
}

/// `temperature.ross(poa, air, noct=45)`, `pvsystem.pvwatts_dc(poa, cell, 1, -0.004)`, 14 % losses,
/// `inverter.pvwatts(dc, 1, eta_inv_nom=0.96)`.
#[test]
fn power_follows_light_and_cold() {
    for (on_plane, air_c, expected) in [
        (1000.0, 25.0, 0.723_951),
        (1100.0, -5.0, 0.892_911),
        (600.0, 30.0, 0.449_185),
        (200.0, 10.0, 0.168_430),
        (50.0, 15.0, 0.037_743),
        (5.0, 0.0, 0.0),
        (0.0, 20.0, 0.0),
    ] {
        near(ac_share(on_plane, air_c), expected, 1e-6);
    }
}

/// The whole chain for Munich on 2026-06-21 at 15 degrees Celsius, as above, sampled in the middle of quarter hours: kWh
/// per kWp of the day, highest power, and the power at 06:07:30 UTC.
#[test]
fn a_clear_day_of_a_plant_is_pvlibs() {
    for (tilt_deg, azimuth_deg, kwh, most_kw, morning_kw) in [
        (30.0, 180.0, 6.6008, 0.7748, 0.2629),
        (30.0, 90.0, 6.2552, 0.7378, 0.5935),
        (0.0, 180.0, 6.8412, 0.7138, 0.3393),
    ] {
        let plant = Plant {
            place: Place::new(48.14, 11.58),
            plane: Some(Plane {
                tilt_deg,
                azimuth_deg,
            }),
            capacity_w: Some(1_000.0),
        };
        let midnight_ms = 1_782_000_000_000;
        let powers: Vec<f64> = (0..96)
            .map(|slot| midnight_ms + slot * 15 * MINUTE_MS)
            .map(|start_ms| {
                plant
                    .yield_of(start_ms..start_ms + 15 * MINUTE_MS, start_ms, &[], &mut {
                        i64::MIN
                    })
                    .clear
            })
            .collect();
        near(powers.iter().sum::<f64>() / 4.0, kwh, 2e-3 * kwh);
        near(powers.iter().copied().fold(0.0, f64::max), most_kw, 1e-3);
        near(powers[24], morning_kw, 1e-3);
    }
}

proptest! {
    #[test]
    fn light_is_never_negative_nor_endless(
        elevation_deg in -90.0..90.0f64,
        azimuth_deg in 0.0..360.0f64,
        tilt_deg in 0.0..=90.0f64,
        facing_deg in 0.0..360.0f64,
        clearness in 0.0..1.3f64,
        air_c in -40.0..50.0f64,
    ) {
        let sun = sun(elevation_deg, azimuth_deg);
        let ghi = clearness * clear_sky_w_per_m2(sun);
        let plane = Plane { tilt_deg, azimuth_deg: facing_deg };
        let light = on_plane_w_per_m2(sun, plane, ghi, 1_366.0);
        prop_assert!((0.0..2_500.0).contains(&light), "{light}");
        prop_assert!((0.0..=0.96).contains(&ac_share(light, air_c)));
        if elevation_deg <= 0.0 {
            prop_assert_eq!(light, 0.0);
        }
    }
}
