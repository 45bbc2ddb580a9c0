//! What a plant's model says of a slot: per watt of peak power, under a clear sky and under a weather forecast.

use std::ops::Range;

use crate::irradiance::{self, Plane};
use crate::sun::{self, Place};
use model::units::{DAY_MS, HOUR_MS, MINUTE_MS};
use model::weather::WeatherPeriod;

/// What the operator knows of a plant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plant {
    /// Where it stands.
    pub place: Option<Place>,
    /// How its modules lie. Without it, they are taken to be tilted by 30 degrees towards the equator, and the home's
    /// own readings say how each hour differs from that.
    pub plane: Option<Plane>,
    /// Peak power, W, 0 or more; without it the highest power shown.
    pub capacity_w: Option<f64>,
}

/// Share of the peak power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Yield {
    /// Under a clear sky; 1 all day where the place is not known.
    pub(crate) clear: f64,
    /// Under the weather forecast, if there is one.
    pub(crate) weather: Option<f64>,
}

/// Weather of a period against a clear sky.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sky {
    start_ms: i64,
    end_ms: i64,
    /// Irradiance as a share of the clear sky's; W/m² where the place is not known.
    level: f64,
    air_c: f64,
}

/// Time between two samples of the sun, ms.
const SAMPLE_MS: i64 = 15 * MINUTE_MS;
/// Irradiance is at most this share of the clear sky's. Between bright clouds it is more than 1 for minutes.
const CLEARNESS_MAX: f64 = 1.3;
/// Temperature where there is no forecast, degrees Celsius.
const AIR_C: f64 = 15.0;
const TILT_DEG: f64 = 30.0;

/// Moments in the middle of equal parts of a time.
fn samples_ms(start_ms: i64, end_ms: i64) -> impl Iterator<Item = i64> {
    let length_ms = end_ms - start_ms;
    let count = (length_ms / SAMPLE_MS).clamp(1, 96);
    (0..count).map(move |index| start_ms + (2 * index + 1) * length_ms / (2 * count))
}

impl Sky {
    /// Compares a period of a forecast with the clear sky over a place.
    pub(crate) fn of(period: &WeatherPeriod, place: Option<Place>) -> Self {
        let ghi_w_per_m2 = period.ghi_w_per_m2.max(0.0);
        let level = place.map_or(ghi_w_per_m2, |place| {
            let (mut clear, mut count) = (0.0, 0.0);
            for ts_ms in samples_ms(period.start_ms, period.end_ms) {
                clear += irradiance::clear_sky_w_per_m2(sun::position(place, ts_ms));
                count += 1.0;
            }
            if clear > 0.0 {
                (ghi_w_per_m2 * count / clear).min(CLEARNESS_MAX)
            } else {
                0.0
            }
        });
        Self {
            start_ms: period.start_ms,
            end_ms: period.end_ms,
            level,
            air_c: period.temperature_c,
        }
    }
}

/// Returns the sky of a moment. `skies` ascend.
fn sky_at(skies: &[Sky], ts_ms: i64) -> Option<&Sky> {
    let after = skies.partition_point(|sky| sky.start_ms <= ts_ms);
    let sky = skies.get(after.checked_sub(1)?)?;
    (ts_ms < sky.end_ms).then_some(sky)
}

impl Plant {
    fn plane(&self, place: Place) -> Plane {
        self.plane.unwrap_or(Plane {
            tilt_deg: TILT_DEG,
            azimuth_deg: if place.latitude_deg() < 0.0 {
                0.0
            } else {
                180.0
            },
        })
    }

    /// Returns the yield of a slot. It is 0 where the sun is down. Where the place is not known, the sun is up in the
    /// hours of [`SUN_HOURS`]; `solar_ms` is the solar time of the slot's middle. Up to `dark_until_ms` the sun is known to
    /// be down; that moves on with what is seen, so slots must ascend.
    pub(crate) fn yield_of(
        &self,
        span_ms: Range<i64>,
        solar_ms: i64,
        skies: &[Sky],
        dark_until_ms: &mut i64,
    ) -> Yield {
        let Some(place) = self.place else {
            let sky = sky_at(skies, i64::midpoint(span_ms.start, span_ms.end));
            let hours = hours_since_first(solar_ms);
            let is_up = (0.0..SUN_HOURS as f64).contains(&hours);
            return Yield {
                clear: if is_up { 1.0 } else { 0.0 },
                weather: sky.map(|sky| irradiance::ac_share(sky.level, sky.air_c)),
            };
        };
        let plane = self.plane(place);
        let (mut clear, mut weather, mut count) = (0.0, Some(0.0), 0.0);
        for ts_ms in samples_ms(span_ms.start, span_ms.end) {
            let sky = sky_at(skies, ts_ms);
            count += 1.0;
            if ts_ms < *dark_until_ms {
                weather = weather.filter(|_| sky.is_some());
                continue;
            }
            let sun = sun::position(place, ts_ms);
            if sun.elevation_deg <= 0.0 {
                *dark_until_ms = sun::down_until_ms(sun, ts_ms);
                weather = weather.filter(|_| sky.is_some());
                continue;
            }
            let ghi_w_per_m2 = irradiance::clear_sky_w_per_m2(sun);
            let beyond_w_per_m2 = irradiance::extraterrestrial_w_per_m2(ts_ms);
            let share = |level: f64, air_c: f64| {
                let on_plane = irradiance::on_plane_w_per_m2(
                    sun,
                    plane,
                    level * ghi_w_per_m2,
                    beyond_w_per_m2,
                );
                irradiance::ac_share(on_plane, air_c)
            };
            clear += share(1.0, sky.map_or(AIR_C, |sky| sky.air_c));
            weather = weather.and_then(|sum| Some(sum + share(sky?.level, sky?.air_c)));
        }
        Yield {
            clear: clear / count,
            weather: weather.map(|sum| sum / count),
        }
    }

    /// Returns mean solar time at `ts_ms` as if it were UTC, epoch milliseconds. Where the place is not known, it is taken
    /// to be an hour behind the clock, `local_ms`.
    #[expect(clippy::cast_possible_truncation, reason = "half a day fits")]
    pub(crate) fn solar_ms(&self, ts_ms: i64, local_ms: i64) -> i64 {
        self.place.map_or(local_ms - HOUR_MS, |place| {
            ts_ms + (place.longitude_deg() / 15.0 * HOUR_MS as f64) as i64
        })
    }
}

/// Hours of the solar day that are told apart: from 4 to 20 o'clock. What lies before or after counts to the first or
/// last.
pub(crate) const SUN_HOURS: usize = 16;
const FIRST_HOUR: f64 = 4.0;

#[expect(clippy::cast_precision_loss, reason = "a day in milliseconds fits")]
fn hours_since_first(solar_ms: i64) -> f64 {
    solar_ms.rem_euclid(DAY_MS) as f64 / HOUR_MS as f64 - FIRST_HOUR
}

/// Returns the solar day and its hour that contain a solar time.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "there are 16"
)]
pub(crate) fn day_and_hour(solar_ms: i64) -> (i64, usize) {
    let hour = hours_since_first(solar_ms).clamp(0.0, SUN_HOURS as f64 - 1.0);
    (solar_ms.div_euclid(DAY_MS), hour as usize)
}

/// A time between the middles of two hours of sun.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Between {
    earlier: usize,
    later: usize,
    /// 0 at the earlier one's middle, 1 at the later one's.
    share: f64,
}

impl Between {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "there are 16"
    )]
    pub(crate) fn of(solar_ms: i64) -> Self {
        let hours = (hours_since_first(solar_ms) - 0.5).clamp(0.0, SUN_HOURS as f64 - 1.0);
        let earlier = hours as usize;
        Self {
            earlier,
            later: (earlier + 1).min(SUN_HOURS - 1),
            share: hours - hours.trunc(),
        }
    }

    /// Interpolates values of hours.
    pub(crate) fn value(self, hours: &[f64; SUN_HOURS]) -> f64 {
        hours[self.earlier] + self.share * (hours[self.later] - hours[self.earlier])
    }
}
