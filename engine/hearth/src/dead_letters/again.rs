//! Decodes a dead letter again: returns the records that its original bytes make now, or why they are still refused.
//! Neither reads nor writes the log.

use model::command::Ack;
use model::metadata::Metadata;
use model::reading::Reading;
use model::request::OptimizeRequest;
use model::schedule::Schedule;
use model::tariff::Tariff;
use model::units::HouseholdId;
use schemas::codec::{Codec, Message};
use schemas::dead_letter::DeadLetter;
use schemas::mqtt::{self, TimeWindow};
use schemas::topic::Topic;

/// A record to write back to the topic where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    pub topic: Topic,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// Decodes dead letters with given schemas and at a given time.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub codec: &'a Codec,
    pub now_ms: i64,
    /// Range of times of readings that are accepted.
    pub times: TimeWindow,
}

impl Judge<'_> {
    /// Returns the records that `letter` makes now, or why it would be refused again. `key` is the dead letter's own; if
    /// the original came from the log, it is the original's key too.
    pub fn again(&self, key: &[u8], letter: &DeadLetter) -> Result<Vec<Returned>, String> {
        let kept = letter.payload.len();
        if i64::try_from(kept).is_ok_and(|kept| kept < letter.payload_bytes) {
            let whole = letter.payload_bytes;
            return Err(format!("only {kept} of its {whole} bytes were kept"));
        }
        match Topic::parse(&letter.source) {
            Some(topic) => self.of_log(topic, key, &letter.payload),
            None => self.of_mqtt(&letter.source, &letter.payload),
        }
    }

    fn of_mqtt(&self, topic: &str, payload: &[u8]) -> Result<Vec<Returned>, String> {
        let parsed = mqtt::parse(topic, payload, self.times);
        if let Some(refusal) = parsed.refusals.first() {
            return Err(format!("{}: {}", refusal.reason.as_str(), refusal.detail));
        }
        let readings = parsed.readings.iter();
        let readings = readings.map(|reading| self.record(reading.household_id, reading));
        let acks = parsed.acks.iter();
        let acks = acks.map(|ack| self.record(ack.household_id, ack));
        readings.chain(acks).collect()
    }

    fn record<T: Message>(&self, id: HouseholdId, message: &T) -> Result<Returned, String> {
        let value = self.codec.encode(message);
        Ok(Returned {
            topic: T::TOPIC,
            key: id.to_string().into_bytes(),
            value: value.map_err(|error| error.to_string())?,
        })
    }

    fn of_log(&self, topic: Topic, key: &[u8], value: &[u8]) -> Result<Vec<Returned>, String> {
        let owner = match topic {
            Topic::Telemetry => self.read::<Reading>(value)?.household_id.to_string(),
            Topic::Households => self.read::<Metadata>(value)?.household_id.to_string(),
            Topic::Schedules => self.read::<Schedule>(value)?.household_id.to_string(),
            Topic::Acks => self.read::<Ack>(value)?.household_id.to_string(),
            Topic::OptimizeRequests => {
                let request: OptimizeRequest = self.read(value)?;
                request.problem.household_id.to_string()
            }
            Topic::Tariffs => self.read::<Tariff>(value)?.name,
            Topic::WeatherForecast
            | Topic::Commands
            | Topic::DeadLetters
            | Topic::Alerts
            | Topic::Slots => return Err(format!("Hearth does not read {topic} back")),
        };
        if key != owner.as_bytes() {
            let key = String::from_utf8_lossy(key);
            return Err(format!(
                "its key {key:?} does not match its value, which needs {owner}"
            ));
        }
        Ok(vec![Returned {
            topic,
            key: key.to_vec(),
            value: value.to_vec(),
        }])
    }

    /// Returns the fields of a record that [`Self::again`] made, as JSON for people.
    pub fn fields(&self, record: &Returned) -> Result<String, String> {
        match record.topic {
            Topic::Telemetry => self.json::<Reading>(&record.value),
            Topic::Households => self.json::<Metadata>(&record.value),
            Topic::Schedules => self.json::<Schedule>(&record.value),
            Topic::Acks => self.json::<Ack>(&record.value),
            Topic::OptimizeRequests => self.json::<OptimizeRequest>(&record.value),
            Topic::Tariffs => self.json::<Tariff>(&record.value),
            Topic::WeatherForecast
            | Topic::Commands
            | Topic::DeadLetters
            | Topic::Alerts
            | Topic::Slots => Err(format!("nothing goes back to {}", record.topic)),
        }
    }

    fn json<T: Message>(&self, value: &[u8]) -> Result<String, String> {
        let message: T = self.read(value)?;
        serde_json::to_string(&message).map_err(|error| error.to_string())
    }

    fn read<T: Message>(&self, value: &[u8]) -> Result<T, String> {
        self.codec.decode(value).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use schemas::dead_letter::Reason;

    use super::*;

    const NOON_MS: i64 = 1_757_678_400_000; // 2025-09-12T12:00:00Z

    fn letter(source: &str, payload: &[u8]) -> DeadLetter {
        DeadLetter {
            source: source.to_owned(),
            partition: None,
            offset: None,
            reason: Reason::FutureTime,
            detail: String::new(),
            refused_ms: NOON_MS,
            payload_bytes: i64::try_from(payload.len()).expect("short"),
            payload: payload.to_vec(),
        }
    }

    fn judge(codec: &Codec) -> Judge<'_> {
        Judge {
            codec,
            now_ms: NOON_MS,
            times: TimeWindow::around(NOON_MS, i64::MAX, 300_000),
        }
    }

    const GOOD: &[u8] = br#"{"household_id":7,"ts":"2025-09-12T12:04:00Z","consumption_w":450}"#;

    #[test]
    fn what_was_in_the_future_is_taken_once_it_is_not() {
        let codec = Codec::single_object();
        let letter = letter("home/7/meter", GOOD);
        let early = Judge {
            times: TimeWindow::around(NOON_MS - 600_000, i64::MAX, 300_000),
            ..judge(&codec)
        };
        let why = early.again(b"7", &letter).unwrap_err();
        assert!(why.starts_with("future_time: "), "{why}");
        let records = judge(&codec).again(b"7", &letter).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(
            (records[0].topic, records[0].key.as_slice()),
            (Topic::Telemetry, &b"7"[..])
        );
        let reading: Reading = codec.decode(&records[0].value).unwrap();
        assert_eq!(
            (reading.household_id.get(), reading.ts_ms),
            (7, NOON_MS + 240_000)
        );
    }

    #[test]
    fn a_record_of_the_log_goes_back_as_it_was_under_its_own_key() {
        let codec = Codec::single_object();
        let made = judge(&codec)
            .again(b"7", &letter("home/7/meter", GOOD))
            .unwrap();
        let value = made[0].value.clone();
        let stored = letter("telemetry", &value);
        let back = judge(&codec).again(b"7", &stored).unwrap();
        let expected = Returned {
            topic: Topic::Telemetry,
            key: b"7".to_vec(),
            value,
        };
        assert_eq!(back, [expected]);
        let why = judge(&codec).again(b"8", &stored).unwrap_err();
        assert_eq!(why, "its key \"8\" does not match its value, which needs 7");
    }

    #[test]
    fn what_would_fail_again_says_why() {
        let codec = Codec::single_object();
        for (source, payload, expected) in [
            ("home/7/meter", &b"{"[..], "bad_json: "),
            ("home/8/meter", GOOD, "household_mismatch: "),
            ("telemetry", b"\x00", ""),
            ("commands", b"\x00", "Hearth does not read commands back"),
        ] {
            let why = judge(&codec)
                .again(b"7", &letter(source, payload))
                .unwrap_err();
            assert!(why.starts_with(expected), "{source}: {why}");
        }
        let mut cut = letter("home/7/meter", GOOD);
        cut.payload_bytes += 1;
        let why = judge(&codec).again(b"7", &cut).unwrap_err();
        assert!(why.starts_with("only "), "{why}");
    }
}
