//! Logs the state of the brokers as librdkafka reports it: one line when they become unreachable, one from time to time,
//! and one when they are back, for the producer and all consumers together.

use platform::report::{Outage, Throttle};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, error, warn};

#[derive(Debug)]
pub(super) struct Brokers {
    outage: Outage,
    /// For reports while at least one broker is reachable.
    others: Throttle,
}

impl Brokers {
    pub(super) fn new(addresses: &str) -> Self {
        Self {
            outage: Outage::of(format!("Kafka at {addresses}")),
            others: Throttle::default(),
        }
    }

    /// Notes that a broker answered.
    pub(super) fn heard(&self) {
        self.outage.succeeded();
    }

    /// Passes on a log line of librdkafka.
    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => self.trouble(message),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(target: "librdkafka", facility, "{message}");
            }
        }
    }

    /// Passes on an error that no call returns.
    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // Reaching the end of a partition is not an error; the poll returns it as well.
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::AllBrokersDown) => self.outage.failed(reason),
            _ => self.trouble(&format!("{error}: {reason}")),
        }
    }

    /// Logs trouble with one of several brokers, or with all of them.
    pub(super) fn trouble(&self, detail: &str) {
        if self.outage.is_away() {
            self.outage.failed(detail);
        } else if let Some(others) = self.others.pass() {
            warn!(target: "librdkafka", others, "{detail}");
        } else {
            debug!(target: "librdkafka", "{detail}");
        }
    }
}

/// The context of a client that is only used for occasional questions.
pub(super) struct Asking(pub(super) std::sync::Arc<Brokers>);

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::config::RDKafkaLogLevel;
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::Brokers;

    #[test]
    fn only_when_all_are_down_kafka_is_away() {
        let brokers = Brokers::new("127.0.0.1:9092");
        brokers.log(RDKafkaLogLevel::Error, "FAIL", "one of three is down");
        assert!(!brokers.outage.is_away());
        let down = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        brokers.error(&down, "3/3 brokers are down");
        assert!(brokers.outage.is_away());
        brokers.error(&KafkaError::Global(RDKafkaErrorCode::PartitionEOF), "");
        brokers.heard();
        assert!(!brokers.outage.is_away());
    }
}
