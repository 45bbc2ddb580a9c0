//! The format of a spool file: one frame for each record, with nothing between them. Works on bytes in memory only.
//!
//! A frame is the length of its body and the body's CRC-32 (both 32 bits, little endian), then the body: topic name and
//! key, each preceded by its length, and the value. The CRC starts from the file's salt. A device does not know the salt,
//! so it cannot forge frames inside a payload, to be found when a damaged file is searched.

use std::ops::ControlFlow;

use schemas::topic::Topic;

use super::record::SpooledRecord;

pub(super) const HEADER_BYTES: usize = 8;
/// The shortest body: lengths of topic and key, and a topic of one letter.
const BODY_BYTES_MIN: usize = 1 + 1 + 4;
/// A search gives up after checksumming this many times the bytes that it searches. Nested look-alikes of frames could
/// otherwise make it checksum each byte very often.
const SUMMED_TIMES_MAX: usize = 64;

/// What was found at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole {
        frame_bytes: usize,
        record: SpooledRecord,
    },
    /// An undamaged frame with a topic or layout of a later version of Hearth.
    Newer { topic: String },
    /// A frame that is longer than the bytes available.
    Cut,
    /// Not a frame, or one that has changed since it was written.
    Damaged,
}

/// Appends the frame of `record` to `frames`.
pub(super) fn push(record: &SpooledRecord, salt: u32, frames: &mut Vec<u8>) {
    let start = frames.len();
    frames.extend([0; HEADER_BYTES]);
    let topic = record.topic.as_str();
    frames.push(u8::try_from(topic.len()).expect("names of topics are short"));
    frames.extend(topic.as_bytes());
    let key_bytes = u32::try_from(record.key.len()).expect("a key is shorter than 4 GiB");
    frames.extend(key_bytes.to_le_bytes());
    frames.extend(&record.key);
    frames.extend(&record.value);
    let body = &frames[start + HEADER_BYTES..];
    let body_bytes = u32::try_from(body.len()).expect("a record is shorter than 4 GiB");
    let crc = checksum(body, salt);
    frames[start..start + 4].copy_from_slice(&body_bytes.to_le_bytes());
    frames[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Returns the length of the frame of `record`.
pub(super) fn frame_bytes(record: &SpooledRecord) -> u64 {
    let topic_bytes = record.topic.as_str().len();
    (HEADER_BYTES + 1 + topic_bytes + 4 + record.key.len() + record.value.len()) as u64
}

/// Reads the frame at the start of `bytes`, which are not empty.
pub(super) fn read(bytes: &[u8], salt: u32) -> Found {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Found::Cut;
    };
    let body_bytes = body_bytes(header);
    if body_bytes < BODY_BYTES_MIN {
        return Found::Damaged;
    }
    let Some(body) = bytes[HEADER_BYTES..].get(..body_bytes) else {
        return Found::Cut;
    };
    let crc = u32::from_le_bytes(*header.last_chunk().expect("a header has eight bytes"));
    if checksum(body, salt) != crc {
        return Found::Damaged;
    }
    match parse_body(body) {
        Ok(record) => Found::Whole {
            frame_bytes: HEADER_BYTES + body_bytes,
            record,
        },
        Err(topic) => Found::Newer { topic },
    }
}

/// Returns how many bytes to skip to the next whole frame, if the first frame is damaged or cut.
pub(super) fn damaged_bytes(bytes: &[u8], salt: u32) -> usize {
    let is_frame = |at: usize| match bytes.get(at..) {
        None | Some([]) => false,
        Some(rest) => match read(rest, salt) {
            Found::Whole { .. } | Found::Newer { .. } => true,
            Found::Cut | Found::Damaged => false,
        },
    };
    let by_length = bytes
        .first_chunk::<HEADER_BYTES>()
        .map(|header| HEADER_BYTES.saturating_add(body_bytes(header)))
        .filter(|next| *next == bytes.len() || is_frame(*next));
    // In a file without salt a frame inside this one may be forged, so a length that leads to a frame is believed. In one
    // with salt a frame inside is true, and the length is what was damaged: it leads beyond an undamaged frame.
    if let (0, Some(next)) = (salt, by_length) {
        return next;
    }
    let mut sums_left = bytes.len().saturating_mul(SUMMED_TIMES_MAX);
    let found = (1..bytes.len()).try_for_each(|at| {
        let Some(costs) = frame_like(&bytes[at..]) else {
            return ControlFlow::Continue(());
        };
        if costs > sums_left {
            return ControlFlow::Break(by_length.unwrap_or(bytes.len()));
        }
        sums_left -= costs;
        if is_frame(at) {
            return ControlFlow::Break(at);
        }
        ControlFlow::Continue(())
    });
    found.break_value().unwrap_or(bytes.len())
}

/// Returns whether a cut frame can be the rest of an interrupted append: the file ends within it, or none of its bytes
/// were written.
pub(super) fn is_torn(rest: &[u8], salt: u32) -> bool {
    read(rest, salt) == Found::Cut || rest.iter().all(|byte| *byte == 0)
}

/// Returns the length of what looks like a frame, without checking its checksum.
fn frame_like(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let body = bytes[HEADER_BYTES..].get(..body_bytes(header))?;
    let (topic_bytes, body) = body.split_first()?;
    let topic = body.get(..usize::from(*topic_bytes))?;
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'-';
    (!topic.is_empty() && topic.iter().all(is_name)).then_some(HEADER_BYTES + body.len())
}

/// Parses a body. Fails with the topic's name if this version does not know it, or with an empty name if the layout
/// differs.
fn parse_body(body: &[u8]) -> Result<SpooledRecord, String> {
    let parts = || {
        let (topic_bytes, body) = body.split_first()?;
        let (topic, body) = body.split_at_checked(usize::from(*topic_bytes))?;
        let topic = std::str::from_utf8(topic).ok()?;
        let (key_bytes, body) = body.split_first_chunk::<4>()?;
        let key_bytes = usize::try_from(u32::from_le_bytes(*key_bytes)).ok()?;
        let (key, value) = body.split_at_checked(key_bytes)?;
        Some((topic, key, value))
    };
    let (topic, key, value) = parts().ok_or_else(String::new)?;
    Ok(SpooledRecord {
        topic: Topic::parse(topic).ok_or_else(|| topic.to_owned())?,
        key: key.to_vec(),
        value: value.to_vec(),
    })
}

fn checksum(body: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(body);
    hasher.finalize()
}

fn body_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    let bytes = *header.first_chunk::<4>().expect("a header has eight bytes");
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

/// Returns the length of the frame according to its header.
pub(super) fn announced_bytes(header: &[u8; HEADER_BYTES]) -> usize {
    HEADER_BYTES.saturating_add(body_bytes(header))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schemas::topic::Topic;

    use super::{Found, damaged_bytes, frame_bytes, push, read};
    use crate::spool::SpooledRecord;

    const SALT: u32 = 0x1234_5678;

    fn record(value: Vec<u8>) -> SpooledRecord {
        SpooledRecord {
            topic: Topic::Telemetry,
            key: b"7".to_vec(),
            value,
        }
    }

    fn frame(value: &[u8], salt: u32) -> Vec<u8> {
        let mut frame = Vec::new();
        push(&record(value.to_vec()), salt, &mut frame);
        frame
    }

    #[test]
    fn a_frame_without_salt_stays_as_it_was() {
        // Written by the first release: body length 16, CRC-32 of the body, 9 "telemetry", 1 "7", value 01.
        // The CRC by zlib.
        let golden = b"\x10\0\0\0\x7d\xa5\x3e\x2b\x09telemetry\x01\0\0\x007\x01";
        assert_eq!(frame(&[1], 0), golden);
        assert_eq!(frame_bytes(&record(vec![1])), 24);
        let Found::Whole {
            frame_bytes,
            record: found,
        } = read(golden, 0)
        else {
            panic!("not read")
        };
        assert_eq!((frame_bytes, found), (24, record(vec![1])));
    }

    #[test]
    fn a_payload_cannot_pass_for_a_frame() {
        // A device sends bytes that are a frame without a salt. The frame around them is damaged.
        let forged = frame(b"forged", 0);
        let mut bytes = frame(&forged, SALT);
        bytes[0] ^= 1;
        let outer = bytes.len();
        bytes.extend(frame(b"next", SALT));
        assert_eq!(damaged_bytes(&bytes, SALT), outer);
    }

    #[test]
    fn a_length_that_leads_to_a_later_frame_costs_one_frame() {
        let (first, second) = (frame(b"first", SALT), frame(b"second", SALT));
        for tail in [frame(b"third", SALT), Vec::new()] {
            let mut bytes = [first.clone(), second.clone(), tail].concat();
            let body_bytes = u8::try_from(first.len() + second.len() - 8).unwrap();
            bytes[0] = body_bytes;
            assert_eq!(damaged_bytes(&bytes, SALT), first.len());
        }
    }

    #[test]
    fn frames_within_frames_do_not_make_a_search_long() {
        // Every eighth byte starts what looks like a frame up to the end.
        let mut bytes = vec![b'a'; 1 << 20];
        for at in (1..bytes.len() - 64).step_by(16) {
            let body_bytes = u32::try_from(bytes.len() - at - 8).unwrap();
            bytes[at..at + 4].copy_from_slice(&body_bytes.to_le_bytes());
            bytes[at + 8] = 1;
        }
        assert_eq!(damaged_bytes(&bytes, SALT), bytes.len());
    }

    proptest! {
        #[test]
        fn one_changed_byte_costs_one_frame(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
            at in any::<prop::sample::Index>(),
            change in 1_u8..,
        ) {
            let mut bytes = Vec::new();
            for value in &values {
                push(&record(value.clone()), SALT, &mut bytes);
            }
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            let (mut kept, mut rest) = (Vec::new(), bytes.as_slice());
            while !rest.is_empty() {
                match read(rest, SALT) {
                    Found::Whole { frame_bytes, record } => {
                        kept.push(record.value);
                        rest = &rest[frame_bytes..];
                    }
                    Found::Newer { topic } => panic!("{topic}"),
                    Found::Cut | Found::Damaged => rest = &rest[damaged_bytes(rest, SALT)..],
                }
            }
            // All except the one that was changed, in order.
            let lost = (0..values.len()).find(|lost| {
                let mut expected = values.clone();
                expected.remove(*lost);
                expected == kept
            });
            prop_assert!(lost.is_some(), "{} of {}", kept.len(), values.len());
        }
    }
}
