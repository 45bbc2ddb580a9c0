//! From the sun's position to the power of a plant: clear sky (Haurwitz 1945), diffuse share (Erbs, Klein and Duffie
//! 1982), irradiance on a tilted plane (Hay and Davies 1980), cell temperature (Ross 1976), DC and AC power (PVWatts 5,
//! Dobos 2014). The formulas and constants are those of pvlib, against which they are tested.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use crate::sun::Sun;
use model::units::DAY_MS;

/// Irradiance outside the atmosphere at the mean distance of the sun, W/m².
const SOLAR_CONSTANT_W_PER_M2: f64 = 1_366.1;
/// Cosine of the zenith angle below which a clearness index is not defined (about 86 degrees).
const COS_ZENITH_MIN: f64 = 0.065;
/// The same for the ratio of beam irradiance (89 degrees).
const COS_ZENITH_BEAM_MIN: f64 = 0.017_45;
/// Share of light that the ground reflects.
const ALBEDO: f64 = 0.2;
/// Change of power with cell temperature, per kelvin above 25 degrees Celsius.
const POWER_PER_K: f64 = -0.004;
/// Cell temperature above the air's per W/m² (a nominal cell temperature of 45 degrees Celsius).
const CELL_K_PER_W_PER_M2: f64 = 25.0 / 800.0;
/// What soiling, wiring and mismatch leave (PVWatts: losses of 14 %).
const SYSTEM_EFFICIENCY: f64 = 0.86;
const INVERTER_EFFICIENCY: f64 = 0.96;
/// Efficiency of the inverter that PVWatts' curve was fitted to.
const INVERTER_REFERENCE: f64 = 0.963_7;

/// How a plant's modules lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plane {
    /// Angle to the horizontal, degrees: 0 (flat) to 90 (upright).
    pub tilt_deg: f64,
    /// Direction that it faces, degrees clockwise from north: 180 is south.
    pub azimuth_deg: f64,
}

impl Plane {
    /// Flat on the ground.
    pub const FLAT: Self = Self {
        tilt_deg: 0.0,
        azimuth_deg: 180.0,
    };
}

/// The parts of global irradiance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// From the sun's disc, on a plane that faces it, W/m².
    pub direct_normal_w_per_m2: f64,
    /// From the sky, on a horizontal plane, W/m².
    pub diffuse_w_per_m2: f64,
}

pub(crate) fn cos_deg(angle_deg: f64) -> f64 {
    libm::cos(angle_deg.to_radians())
}

fn cos_zenith(sun: Sun) -> f64 {
    libm::sin(sun.elevation_deg.to_radians())
}

/// Returns the global irradiance under a clear sky on a horizontal plane, W/m². 0 while the sun is down.
#[must_use]
pub fn clear_sky_w_per_m2(sun: Sun) -> f64 {
    let cos_zenith = cos_zenith(sun);
    if cos_zenith <= 0.0 {
        return 0.0;
    }
    1_098.0 * cos_zenith * libm::exp(-0.059 / cos_zenith)
}

/// Returns the irradiance outside the atmosphere at `ts_ms`, UTC epoch milliseconds, on a plane that faces the sun, W/m².
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a double holds milliseconds of 9999"
)]
pub fn extraterrestrial_w_per_m2(ts_ms: i64) -> f64 {
    // The day of a year of 365.25 days is at most a day off, which is 0.1 W/m².
    let year_ms = 365 * DAY_MS + DAY_MS / 4;
    let days = ts_ms.rem_euclid(year_ms) as f64 / DAY_MS as f64;
    SOLAR_CONSTANT_W_PER_M2 * (1.0 + 0.033 * libm::cos(TAU * days / 365.0))
}

/// Splits global irradiance (`ghi_w_per_m2`, W/m²) into direct and diffuse by the clearness index.
/// `extraterrestrial_w_per_m2` is that of the day.
#[must_use]
pub fn split(sun: Sun, ghi_w_per_m2: f64, extraterrestrial_w_per_m2: f64) -> Split {
    let cos_zenith = cos_zenith(sun);
    let horizontal_w_per_m2 = extraterrestrial_w_per_m2 * cos_zenith.max(COS_ZENITH_MIN);
    let kt = (ghi_w_per_m2 / horizontal_w_per_m2).clamp(0.0, 1.0);
    let diffuse_share = if kt <= 0.22 {
        1.0 - 0.09 * kt
    } else if kt <= 0.8 {
        0.9511 + kt * (-0.1604 + kt * (4.388 + kt * (-16.638 + kt * 12.336)))
    } else {
        0.165
    };
    let diffuse_w_per_m2 = ghi_w_per_m2 * diffuse_share;
    let direct_w_per_m2 = (ghi_w_per_m2 - diffuse_w_per_m2) / cos_zenith;
    if sun.elevation_deg < 3.0 || direct_w_per_m2 < 0.0 {
        return Split {
            direct_normal_w_per_m2: 0.0,
            diffuse_w_per_m2: ghi_w_per_m2,
        };
    }
    Split {
        direct_normal_w_per_m2: direct_w_per_m2,
        diffuse_w_per_m2,
    }
}

/// Returns the irradiance on a plane, W/m²: direct, diffuse from around the sun and from the whole sky, and reflected by
/// the ground.
#[must_use]
pub fn on_plane_w_per_m2(
    sun: Sun,
    plane: Plane,
    ghi_w_per_m2: f64,
    extraterrestrial_w_per_m2: f64,
) -> f64 {
    let split = split(sun, ghi_w_per_m2, extraterrestrial_w_per_m2);
    let cos_zenith = cos_zenith(sun);
    let (sin_tilt, cos_tilt) = libm::sincos(plane.tilt_deg.to_radians());
    let sin_zenith = cos_deg(sun.elevation_deg);
    let cos_incidence = cos_tilt * cos_zenith
        + sin_tilt * sin_zenith * cos_deg(sun.azimuth_deg - plane.azimuth_deg);
    let facing = cos_incidence.max(0.0);
    let around_sun = split.direct_normal_w_per_m2 / extraterrestrial_w_per_m2;
    let sky_share = f64::midpoint(1.0, cos_tilt);
    let diffuse_w_per_m2 = split.diffuse_w_per_m2
        * (around_sun * facing / cos_zenith.max(COS_ZENITH_BEAM_MIN)
            + (1.0 - around_sun) * sky_share);
    let reflected_w_per_m2 = ghi_w_per_m2 * ALBEDO * (1.0 - sky_share);
    split.direct_normal_w_per_m2 * facing + diffuse_w_per_m2 + reflected_w_per_m2
}

/// Returns the AC power of a plant per watt of its peak power: 0 to 0.96. `air_c` is the air's temperature, degrees
/// Celsius. The inverter is as large as the modules.
#[must_use]
pub fn ac_share(on_plane_w_per_m2: f64, air_c: f64) -> f64 {
    let cell_c = air_c + on_plane_w_per_m2 * CELL_K_PER_W_PER_M2;
    let dc_share = on_plane_w_per_m2 / 1_000.0 * (1.0 + POWER_PER_K * (cell_c - 25.0));
    // PVWatts' inverter is rated at its DC input.
    let load = (dc_share * SYSTEM_EFFICIENCY).max(0.0);
    if load <= 0.0 {
        return 0.0;
    }
    let efficiency =
        INVERTER_EFFICIENCY / INVERTER_REFERENCE * (-0.0162 * load - 0.0059 / load + 0.9858);
    (load * efficiency).clamp(0.0, INVERTER_EFFICIENCY)
}
