//! Where the sun stands over a home. The position comes from the crate `solar-positioning` with algorithm 3 of Grena
//! (2012), which is good to 0.01 degrees; its functions do not depend on the machine's C library.

use serde::{Deserialize, Serialize};
use solar_positioning::time::JulianDate;
use solar_positioning::{Location, SolarPositions};

use model::units::{DAY_MS, HOUR_MS};

/// A point on Earth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Place {
    latitude_deg: f64,
    longitude_deg: f64,
}

impl Place {
    /// Returns the place, or `None` unless the latitude is -90 to 90 (north positive) and the longitude -180 to 180 (east
    /// positive), degrees.
    #[must_use]
    pub fn new(latitude_deg: f64, longitude_deg: f64) -> Option<Self> {
        let is_on_earth =
            (-90.0..=90.0).contains(&latitude_deg) && (-180.0..=180.0).contains(&longitude_deg);
        is_on_earth.then_some(Self {
            latitude_deg,
            longitude_deg,
        })
    }

    /// Parses `latitude,longitude` in degrees, such as `48.14,11.58`. Returns `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (latitude, longitude) = text.split_once(',')?;
        Self::new(
            latitude.trim().parse().ok()?,
            longitude.trim().parse().ok()?,
        )
    }

    /// Latitude, degrees, north positive.
    #[must_use]
    pub const fn latitude_deg(self) -> f64 {
        self.latitude_deg
    }

    /// Longitude, degrees, east positive.
    #[must_use]
    pub const fn longitude_deg(self) -> f64 {
        self.longitude_deg
    }
}

/// The sun's position without refraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sun {
    /// Height of its centre above the horizon, degrees, negative at night.
    pub elevation_deg: f64,
    /// Direction, degrees clockwise from north: 90 is east.
    pub azimuth_deg: f64,
}

/// The Julian date of 1970-01-01.
const EPOCH_JULIAN_DAYS: f64 = 2_440_587.5;
/// How far terrestrial time is ahead of UTC, s. A minute more or less moves the sun by less than 0.001 degrees.
const DELTA_T_S: f64 = 69.0;
/// 2011-01-01 and 2109-01-01: the algorithm's time with a margin.
const RANGE_MS: std::ops::Range<i64> = 1_293_840_000_000..4_386_528_000_000;
/// After four years, the sun stands where it stood to within 0.05 degrees.
const FOUR_YEARS_MS: i64 = 1_461 * DAY_MS;

/// Returns the sun's position at `ts_ms`, UTC epoch milliseconds. Years before 2011 and after 2108 take the position of a
/// year in between.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a double holds milliseconds of 9999"
)]
pub fn position(place: Place, ts_ms: i64) -> Sun {
    let years_before = (RANGE_MS.start - ts_ms).max(0).div_euclid(FOUR_YEARS_MS)
        + i64::from(ts_ms < RANGE_MS.start);
    let years_after =
        (ts_ms - RANGE_MS.end).max(0).div_euclid(FOUR_YEARS_MS) + i64::from(ts_ms >= RANGE_MS.end);
    let like_ms = ts_ms + (years_before - years_after) * FOUR_YEARS_MS;
    let days = EPOCH_JULIAN_DAYS + like_ms as f64 / DAY_MS as f64;
    let location = Location {
        latitude: place.latitude_deg,
        longitude: place.longitude_deg,
    };
    let position = JulianDate::new(days, DELTA_T_S)
        .and_then(|time| SolarPositions::grena3().at_from_julian(time, location, 0.0, None))
        .expect("the place is on Earth and the time within the algorithm's");
    Sun {
        elevation_deg: position.elevation_angle(),
        azimuth_deg: position.azimuth(),
    }
}

/// The fastest that the sun can rise, degrees an hour: a turn of the Earth against the stars, and what the sun moves itself.
const RISE_DEG_PER_HOUR: f64 = 15.1;

/// Returns a moment before which the sun does not rise, if it is down at `ts_ms`, UTC epoch milliseconds.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "six hours at most")]
pub(crate) fn down_until_ms(sun: Sun, ts_ms: i64) -> i64 {
    let hours = (-sun.elevation_deg).max(0.0) / RISE_DEG_PER_HOUR;
    ts_ms + (hours * HOUR_MS as f64) as i64
}
