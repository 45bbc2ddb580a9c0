//! Identifiers and time. Times are UTC epoch milliseconds and end in `_ms`.

use serde::{Deserialize, Serialize};

/// Milliseconds in a minute.
pub const MINUTE_MS: i64 = 60_000;
/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Milliseconds in a UTC day.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// A household's id: a positive 63-bit integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HouseholdId(i64);

impl HouseholdId {
    /// Returns the id, or `None` unless `id` is positive.
    #[must_use]
    pub const fn new(id: i64) -> Option<Self> {
        if id > 0 { Some(Self(id)) } else { None }
    }

    /// Parses an id as written in record keys and MQTT topics: digits only, no sign, no leading zero. Returns `None` for
    /// any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = !text.is_empty()
            && !text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain {
            text.parse().ok().and_then(Self::new)
        } else {
            None
        }
    }

    /// Returns the id as a number: 1 to `i64::MAX`.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl std::fmt::Display for HouseholdId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The length of a slot: 1, 5, 15, 30 or 60 minutes, aligned to UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SlotLength {
    minutes: u32,
}

impl SlotLength {
    /// A quarter of an hour, the default.
    pub const QUARTER_HOUR: Self = Self { minutes: 15 };

    /// Returns the length, or `None` unless `minutes` is 1, 5, 15, 30 or 60.
    #[must_use]
    pub const fn new(minutes: u32) -> Option<Self> {
        match minutes {
            1 | 5 | 15 | 30 | 60 => Some(Self { minutes }),
            _ => None,
        }
    }

    /// Returns the length in minutes.
    #[must_use]
    pub const fn minutes(self) -> u32 {
        self.minutes
    }

    /// Returns the length in milliseconds.
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.minutes as i64 * MINUTE_MS
    }

    /// Returns the length in hours.
    #[must_use]
    pub fn hours(self) -> f64 {
        f64::from(self.minutes) / 60.0
    }

    /// Returns the start of the slot that contains `ts_ms`, UTC epoch milliseconds.
    #[must_use]
    pub const fn start_of_ms(self, ts_ms: i64) -> i64 {
        ts_ms - ts_ms.rem_euclid(self.ms())
    }

    /// Returns the number of slots in 24 hours.
    #[must_use]
    pub const fn per_day(self) -> usize {
        (24 * 60 / self.minutes) as usize
    }
}

impl TryFrom<u32> for SlotLength {
    type Error = String;

    fn try_from(minutes: u32) -> Result<Self, String> {
        Self::new(minutes)
            .ok_or_else(|| format!("slot length is 1, 5, 15, 30 or 60 minutes, not {minutes}"))
    }
}

impl From<SlotLength> for u32 {
    fn from(length: SlotLength) -> Self {
        length.minutes
    }
}
