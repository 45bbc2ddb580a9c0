//! Times on the wire: UTC epoch milliseconds in records, RFC 3339 in JSON.

use jiff::Timestamp;

/// Earliest time that a record may have, UTC epoch milliseconds: 1970-01-01.
pub const TS_MS_MIN: i64 = 0;
/// Latest time that a record may have, UTC epoch milliseconds: 9999-12-30T22:00:00Z, the last that RFC 3339 can write
/// with any offset.
pub const TS_MS_MAX: i64 = 253_402_207_200_000;
/// Longest text that is parsed as a time, bytes; RFC 3339 with nanoseconds and an offset has 35.
const TIME_BYTES_MAX: usize = 64;
/// The year 0.
const RFC3339_MS_MIN: i64 = -62_167_219_200_000;

/// Returns a time as RFC 3339 in UTC. A time before the year 0 or after [`TS_MS_MAX`] is moved to that bound rather than
/// causing a panic. Such times occur only in texts for people: every message's check refuses them.
#[must_use]
pub fn rfc3339(ts_ms: i64) -> String {
    let ts_ms = ts_ms.clamp(RFC3339_MS_MIN, TS_MS_MAX);
    Timestamp::from_millisecond(ts_ms).map_or_else(|_| format!("{ts_ms} ms"), |ts| ts.to_string())
}

/// Returns the time that an RFC 3339 text with an offset says, in UTC epoch milliseconds.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    if text.len() > TIME_BYTES_MAX {
        return None;
    }
    let parsed: Timestamp = text.parse().ok()?;
    Some(parsed.as_millisecond())
}

/// Returns whether a record may have this time.
#[must_use]
pub const fn is_in_range(ts_ms: i64) -> bool {
    TS_MS_MIN <= ts_ms && ts_ms <= TS_MS_MAX
}

#[cfg(test)]
mod tests {
    use super::{TS_MS_MAX, TS_MS_MIN, rfc3339};

    #[test]
    fn no_time_makes_it_panic() {
        assert_eq!(rfc3339(TS_MS_MIN), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(i64::MIN), "0000-01-01T00:00:00Z");
        for beyond in [
            TS_MS_MAX,
            TS_MS_MAX + 1,
            4_000_000_000_000_000_000,
            i64::MAX,
        ] {
            assert_eq!(rfc3339(beyond), "9999-12-30T22:00:00Z");
        }
    }
}
