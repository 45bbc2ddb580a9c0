//! The brokers as librdkafka speaks of them: a line when they go, one now and then, and one when they are back, for the
//! producer and all consumers together.

use platform::report::{Outage, Throttle};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, error, warn};

#[derive(Debug)]
pub(super) struct Brokers {
    outage: Outage,
    /// For what is said while some broker is there.
    others: Throttle,
}

impl Brokers {
    pub(super) fn new(addresses: &str) -> Self {
        Self {
            outage: Outage::of(format!("Kafka at {addresses}")),
            others: Throttle::default(),
        }
    }

    /// A broker has answered something.
    pub(super) fn heard(&self) {
        self.outage.succeeded();
    }

    /// A line of librdkafka's.
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

    /// An error that no call answers with.
    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // Reaching the end is no error; the poll hands it over as well.
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            Some(RDKafkaErrorCode::AllBrokersDown) => self.outage.failed(reason),
            _ => self.trouble(&format!("{error}: {reason}")),
        }
    }

    /// One broker of many, or all of them once more.
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

/// A client that only asks now and then.
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
