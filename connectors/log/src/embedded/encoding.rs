//! How records and offsets are written on disk.

use platform::log::{Record, TopicPartition};
use platform::trace::TraceContext;
use schemas::topic::Topic;

/// The number of a topic on disk. A number is never given to another topic, whatever the order of [`Topic::ALL`].
const fn topic_number(topic: Topic) -> u8 {
    match topic {
        Topic::Telemetry => 0,
        Topic::Households => 1,
        Topic::Tariffs => 2,
        Topic::WeatherForecast => 3,
        Topic::OptimizeRequests => 4,
        Topic::Schedules => 5,
        Topic::Commands => 6,
        Topic::Acks => 7,
        Topic::DeadLetters => 8,
        Topic::Alerts => 9,
        Topic::Slots => 10,
    }
}

/// Returns a record's key. Records sort by topic, partition and offset.
pub(super) fn record_key(from: TopicPartition, offset: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(topic_number(from.topic));
    key.extend(from.partition.to_be_bytes());
    key.extend(offset.to_be_bytes());
    key
}

pub(super) fn offset_of_key(key: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(key.get(5..13)?.try_into().ok()?))
}

pub(super) fn offset_key(group: &str, of: TopicPartition) -> Vec<u8> {
    let mut key = group.as_bytes().to_vec();
    key.push(0);
    key.push(topic_number(of.topic));
    key.extend(of.partition.to_be_bytes());
    key
}

/// Set in the length of a key where the context of a trace follows it.
const TRACED: u32 = 1 << 31;

/// Returns a record's stored form: time, length of the key, context of its trace if it is recorded, key, value.
pub(super) fn record_value(
    key: &[u8],
    value: &[u8],
    trace: Option<TraceContext>,
    now_ms: i64,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + TraceContext::BYTES + key.len() + value.len());
    bytes.extend(now_ms.to_be_bytes());
    let key_bytes = u32::try_from(key.len()).expect("a key is short");
    let traced = if trace.is_some() { TRACED } else { 0 };
    bytes.extend((key_bytes | traced).to_be_bytes());
    if let Some(trace) = trace {
        bytes.extend(trace.to_bytes());
    }
    bytes.extend(key);
    bytes.extend(value);
    bytes
}

pub(super) fn parse_record(offset: i64, bytes: &[u8]) -> Option<Record> {
    let (timestamp_ms, rest) = bytes.split_first_chunk::<8>()?;
    let (key_bytes, mut rest) = rest.split_first_chunk::<4>()?;
    let key_bytes = u32::from_be_bytes(*key_bytes);
    let mut trace = None;
    if key_bytes & TRACED != 0 {
        let (context, behind) = rest.split_first_chunk::<{ TraceContext::BYTES }>()?;
        trace = TraceContext::from_bytes(context);
        rest = behind;
    }
    let key_bytes = usize::try_from(key_bytes & !TRACED).ok()?;
    let (key, value) = rest.split_at_checked(key_bytes)?;
    Some(Record {
        offset,
        timestamp_ms: i64::from_be_bytes(*timestamp_ms),
        key: Some(bytes::Bytes::copy_from_slice(key)),
        value: bytes::Bytes::copy_from_slice(value),
        trace,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_trace_stays_as_it_was() {
        // As the first release wrote it: 1,000 ms, one byte of key, "7", "ab".
        let golden = b"\0\0\0\0\0\0\x03\xe8\0\0\0\x017ab";
        assert_eq!(record_value(b"7", b"ab", None, 1_000), golden);
        let record = parse_record(5, golden).unwrap();
        assert_eq!(
            (record.offset, record.timestamp_ms, record.trace),
            (5, 1_000, None)
        );
        assert_eq!(
            (record.key.as_deref(), record.value.as_ref()),
            (Some(&b"7"[..]), &b"ab"[..])
        );
    }

    #[test]
    fn a_trace_stands_before_the_key() {
        let text = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext::parse(text);
        let bytes = record_value(b"7", b"ab", trace, 1_000);
        assert_eq!(&bytes[8..14], b"\x80\0\0\x01\x4b\xf9");
        assert_eq!(&bytes[34..], b"\x02\xb77ab");
        let record = parse_record(5, &bytes).unwrap();
        assert_eq!(record.trace, trace);
        assert_eq!(
            (record.key.as_deref(), record.value.as_ref()),
            (Some(&b"7"[..]), &b"ab"[..])
        );
        assert!(parse_record(5, &bytes[..30]).is_none());
    }

    /// Folders that exist hold these numbers.
    #[test]
    fn numbers_of_topics_on_disk_never_change() {
        let numbers = [
            ("telemetry", 0),
            ("households", 1),
            ("tariffs", 2),
            ("weather-forecast", 3),
            ("optimize-requests", 4),
            ("schedules", 5),
            ("commands", 6),
            ("acks", 7),
            ("dead-letters", 8),
            ("alerts", 9),
            ("slots", 10),
        ];
        for (name, number) in numbers {
            let topic = Topic::parse(name).unwrap();
            assert_eq!(topic_number(topic), number, "{name}");
            let of = TopicPartition {
                topic,
                partition: 258,
            };
            let key = [number, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4];
            assert_eq!(record_key(of, 772), key, "{name}");
            assert_eq!(offset_key("g", of), [b'g', 0, number, 0, 0, 1, 2]);
        }
        let mut all: Vec<u8> = Topic::ALL.into_iter().map(topic_number).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Topic::ALL.len(), "each number is one topic's");
    }
}
