//! Reads dead letters from the log, and filters them.
//!
//! A replayed letter gets a mark: a later record of the same topic under the same key, whose source is the topic itself
//! and whose partition and offset are those of the letter.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::units::HouseholdId;
use platform::log::{LogEvent, Record, Start, Subscription, TopicPartition};
use schemas::codec::Message;
use schemas::dead_letter::{DeadLetter, Reason};
use schemas::mqtt;
use schemas::topic::Topic;

use platform::role_context::RoleContext;

/// Most letters in a batch. They are up to 256 KiB each, so only few are held at a time.
const BATCH_MAX: usize = 100;
/// A log without an event for this long counts as away.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const REPLAYED: &str = "replayed";

/// Position of a letter in the log: `PARTITION:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    pub partition: i32,
    pub offset: i64,
}

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self {
                partition: partition.parse().ok().filter(|number| *number >= 0)?,
                offset: offset.parse().ok().filter(|number| *number >= 0)?,
            })
        });
        parsed.ok_or_else(|| format!("expected PARTITION:OFFSET as shown by list, found {text:?}"))
    }
}

/// A dead letter read from the log.
#[derive(Debug, Clone)]
pub struct Letter {
    pub id: LetterId,
    pub key: Vec<u8>,
    pub letter: DeadLetter,
    pub is_replayed: bool,
}

/// A filter of letters. Every criterion that is given must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Any of these; empty for all.
    pub ids: Vec<LetterId>,
    /// Any of these; empty for all.
    pub reasons: Vec<Reason>,
    /// Refused at or after this time, UTC epoch milliseconds.
    pub since_ms: Option<i64>,
    /// Refused before this time, UTC epoch milliseconds.
    pub until_ms: Option<i64>,
    /// Topic that it came from, with MQTT's wildcards `+` and `#`.
    pub source: Option<String>,
    pub household: Option<HouseholdId>,
}

impl Filter {
    /// Returns whether it matches every letter.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ids.is_empty()
            && self.reasons.is_empty()
            && self.since_ms.is_none()
            && self.until_ms.is_none()
            && self.source.is_none()
            && self.household.is_none()
    }

    /// Returns whether `letter` matches.
    #[must_use]
    pub fn takes(&self, letter: &Letter) -> bool {
        let inner = &letter.letter;
        (self.ids.is_empty() || self.ids.contains(&letter.id))
            && (self.reasons.is_empty() || self.reasons.contains(&inner.reason))
            && self.since_ms.is_none_or(|since| inner.refused_ms >= since)
            && self.until_ms.is_none_or(|until| inner.refused_ms < until)
            && self
                .source
                .as_ref()
                .is_none_or(|wanted| topic_fits(wanted, &inner.source))
            && self
                .household
                .is_none_or(|id| household_of(letter) == Some(id))
    }
}

/// Returns the letter's home: that of its MQTT topic, else that of its key.
fn household_of(letter: &Letter) -> Option<HouseholdId> {
    mqtt::household_of_topic(&letter.letter.source).or_else(|| {
        let key = std::str::from_utf8(&letter.key).ok()?;
        HouseholdId::parse(key)
    })
}

/// Returns whether a topic matches, by MQTT's rule: `+` is any one level, `#` at the end is all further levels.
fn topic_fits(wanted: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for level in wanted.split('/') {
        match (level, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(found)) if level == found => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Returns the mark of a replayed letter.
#[must_use]
pub(super) fn mark(letter: &Letter, now_ms: i64) -> DeadLetter {
    DeadLetter {
        source: Topic::DeadLetters.to_string(),
        partition: Some(letter.id.partition),
        offset: Some(letter.id.offset),
        reason: letter.letter.reason,
        detail: REPLAYED.to_owned(),
        refused_ms: now_ms,
        payload_bytes: 0,
        payload: Vec::new(),
    }
}

/// Returns the letter that `record` marks as replayed, if it is a mark.
fn marked(record: &DeadLetter) -> Option<LetterId> {
    let is_mark = record.source == Topic::DeadLetters.as_str() && record.detail == REPLAYED;
    let partition = record.partition.filter(|_| is_mark)?;
    let offset = record.offset?;
    Some(LetterId { partition, offset })
}

/// Reads every letter that is in the log now, in batches of one partition, and hands those that match `filter` to
/// `each`. Returns how many records could not be decoded.
pub(super) async fn read(
    context: &RoleContext,
    filter: &Filter,
    mut each: impl AsyncFnMut(Vec<Letter>) -> Result<()>,
) -> Result<u64> {
    let mut replayed = BTreeSet::new();
    read_records(context, async |_, records| {
        let letters = records.iter().filter_map(|record| decode(context, record));
        replayed.extend(letters.filter_map(|letter| marked(&letter)));
        Ok(())
    })
    .await?;
    let mut unreadable = 0;
    read_records(context, async |from, records| {
        let mut taken = Vec::new();
        for record in records {
            let Some(inner) = decode(context, record) else {
                unreadable += 1;
                continue;
            };
            if marked(&inner).is_some() {
                continue;
            }
            let id = LetterId {
                partition: from.partition,
                offset: record.offset,
            };
            let letter = Letter {
                id,
                key: record.key.as_deref().unwrap_or_default().to_vec(),
                letter: inner,
                is_replayed: replayed.contains(&id),
            };
            if filter.takes(&letter) {
                taken.push(letter);
            }
        }
        each(taken).await
    })
    .await?;
    Ok(unreadable)
}

fn decode(context: &RoleContext, record: &Record) -> Option<DeadLetter> {
    context.codec.decode(&record.value).ok()
}

/// Hands every batch of the topic up to its current end to `each`.
async fn read_records(
    context: &RoleContext,
    mut each: impl AsyncFnMut(TopicPartition, &[Record]) -> Result<()>,
) -> Result<()> {
    let subscription = Subscription {
        group: None,
        member: None,
        topics: vec![DeadLetter::TOPIC],
        start: Start::Earliest,
        batch_max: BATCH_MAX,
    };
    let consumer = context.log.subscribe(subscription).await;
    let mut events = consumer.context("read the dead letters")?.events;
    let mut open = BTreeSet::new();
    loop {
        let event = tokio::time::timeout(SILENCE_MAX, events.recv()).await;
        let Some(event) = event.context("the log does not answer")? else {
            bail!("the log ended the subscription to the dead letters");
        };
        match event {
            LogEvent::Assigned(partitions) => open.extend(partitions),
            LogEvent::Records { from, records } => each(from, &records).await?,
            LogEvent::CaughtUp(partition) => {
                open.remove(&partition);
                if open.is_empty() {
                    return Ok(());
                }
            }
            LogEvent::Revoked { .. } => bail!("the log took the dead letters away"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_as_in_mqtt() {
        for (wanted, topic, expected) in [
            ("telemetry", "telemetry", true),
            ("home/+/meter", "home/7/meter", true),
            ("home/+/meter", "home/7/pv", false),
            ("home/7/#", "home/7/ev/car", true),
            ("home/+", "home/7/meter", false),
            ("home/7/meter/x", "home/7/meter", false),
        ] {
            assert_eq!(topic_fits(wanted, topic), expected, "{wanted} {topic}");
        }
    }

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let id = LetterId {
            partition: 3,
            offset: 17,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "3", "3:", "3:-1", "a:1", "3:1:2"] {
            assert!(text.parse::<LetterId>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_condition_of_a_filter_must_hold() {
        let letter = Letter {
            id: LetterId {
                partition: 0,
                offset: 5,
            },
            key: b"7".to_vec(),
            letter: DeadLetter {
                source: "telemetry".to_owned(),
                partition: Some(1),
                offset: Some(2),
                reason: Reason::Undecodable,
                detail: String::new(),
                refused_ms: 1_000,
                payload_bytes: 0,
                payload: Vec::new(),
            },
            is_replayed: false,
        };
        assert!(Filter::default().takes(&letter));
        let fitting = Filter {
            ids: vec![letter.id],
            reasons: vec![Reason::Poison, Reason::Undecodable],
            since_ms: Some(1_000),
            until_ms: Some(1_001),
            source: Some("telemetry".to_owned()),
            household: HouseholdId::new(7),
        };
        assert!(fitting.takes(&letter));
        for other in [
            Filter {
                reasons: vec![Reason::Poison],
                ..fitting.clone()
            },
            Filter {
                since_ms: Some(1_001),
                ..fitting.clone()
            },
            Filter {
                until_ms: Some(1_000),
                ..fitting.clone()
            },
            Filter {
                source: Some("acks".to_owned()),
                ..fitting.clone()
            },
            Filter {
                household: HouseholdId::new(8),
                ..fitting
            },
        ] {
            assert!(!other.takes(&letter), "{other:?}");
        }
    }
}
