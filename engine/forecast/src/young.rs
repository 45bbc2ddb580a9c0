//! What is assumed of a home before it has a past: the shape of a common day, at the level of what was read so far. Its
//! share shrinks to nothing over two weeks.

use crate::local_time::DayClass;
use crate::profiles::History;
use model::units::HOUR_MS;

/// Load in each local hour of a workday, a Saturday and a Sunday, percent of the year's mean.
///
/// Own means of open data: half of it five homes of the CityLearn Challenge 2022 (Sierra Crest, California; MIT licence;
/// Nweye et al., doi 10.18738/T8/0YLJ6Q), half of it house 2 of the REFIT Electrical Load Measurements (United Kingdom;
/// CC BY 4.0; D. Murray, L. Stankovic and V. Stankovic, doi 10.1038/sdata.2016.122). Each home counts by its own mean.
const SHAPE_PCT: [[u8; 24]; 3] = [
    [
        63, 56, 52, 52, 53, 58, 77, 133, 131, 106, 98, 100, 99, 101, 99, 109, 147, 135, 129, 131,
        126, 107, 94, 81,
    ],
    [
        75, 68, 62, 59, 55, 59, 74, 115, 138, 141, 123, 124, 115, 115, 107, 120, 131, 138, 126,
        128, 136, 131, 96, 74,
    ],
    [
        62, 61, 52, 51, 52, 52, 72, 103, 156, 136, 122, 119, 111, 108, 113, 129, 151, 158, 139,
        141, 146, 133, 115, 96,
    ],
];

/// Mean load of a home of which nothing is known, W: 3,500 kWh a year.
const LEVEL_W: f64 = 400.0;
/// For how many hours of readings that guess counts.
const LEVEL_HOURS: f64 = 3.0;
/// Days after which a home is not young any more.
pub const YOUNG_DAYS: usize = 14;

/// How the load of a single home lies around the shape: a factor and its weight. The mean is 1.
pub(crate) const SPREAD: [(f64, f64); 3] = [(0.5, 0.4), (0.9, 0.4), (2.2, 0.2)];

/// Returns the load of a home whose mean is 1 at a local time.
#[must_use]
pub fn standard_share(local_ms: i64) -> f64 {
    let hours = match DayClass::of(local_ms) {
        DayClass::Workday => &SHAPE_PCT[0],
        DayClass::Saturday => &SHAPE_PCT[1],
        DayClass::Sunday => &SHAPE_PCT[2],
    };
    let hour = usize::try_from(local_ms.div_euclid(HOUR_MS).rem_euclid(24)).unwrap_or(0);
    f64::from(hours[hour]) / 100.0
}

/// Returns the home's mean load by what was read in the last two weeks, W.
#[must_use]
pub fn level_w(history: &History<'_>) -> f64 {
    let cell_hours = history.cell().hours();
    let (mut read, mut standard) = (LEVEL_W * LEVEL_HOURS, LEVEL_HOURS);
    let cells = history
        .newest_first()
        .take(YOUNG_DAYS * history.cell().per_day());
    for (start_ms, power_w) in cells {
        read += power_w * cell_hours;
        standard += standard_share(history.local_ms(start_ms)) * cell_hours;
    }
    read / standard
}

/// Returns the probability that the standard profile has in a home with this many known days: 1 to 0.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "six weeks have few days")]
pub fn standard_weight(days_known: usize) -> f64 {
    let left = YOUNG_DAYS.saturating_sub(days_known) as f64 / YOUNG_DAYS as f64;
    left * left
}
