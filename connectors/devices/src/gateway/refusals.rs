//! Why the gateway refused a client or one of its requests. Refusals are counted, and logged at a bounded rate for each
//! reason.

use std::net::SocketAddr;

use mqtt_protocol_core::mqtt::result_code::MqttError;
use tracing::{debug, warn};

use platform::metrics::Metrics;
use platform::report::Throttle;

/// The label `reason` of `hearth_gateway_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewayRefusal {
    ConnectionsMax,
    ConnectTimeout,
    Tls,
    ClientId,
    Protocol,
    PacketTooLarge,
    KeepAlive,
    WriteTimeout,
    NotAuthorized,
    MessageTooLarge,
    NotDurable,
    Qos2Max,
    Subscription,
    SharedSubscription,
    SubscriptionsMax,
    /// The reading was taken, but not as a retained message.
    Retain,
    /// The client was accepted, but not its will.
    Will,
}

impl GatewayRefusal {
    pub(super) const ALL: [Self; 17] = [
        Self::ConnectionsMax,
        Self::ConnectTimeout,
        Self::Tls,
        Self::ClientId,
        Self::Protocol,
        Self::PacketTooLarge,
        Self::KeepAlive,
        Self::WriteTimeout,
        Self::NotAuthorized,
        Self::MessageTooLarge,
        Self::NotDurable,
        Self::Qos2Max,
        Self::Subscription,
        Self::SharedSubscription,
        Self::SubscriptionsMax,
        Self::Retain,
        Self::Will,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionsMax => "connections_max",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::ClientId => "client_id",
            Self::Protocol => "protocol",
            Self::PacketTooLarge => "packet_too_large",
            Self::KeepAlive => "keep_alive",
            Self::WriteTimeout => "write_timeout",
            Self::NotAuthorized => "not_authorized",
            Self::MessageTooLarge => "message_too_large",
            Self::NotDurable => "not_durable",
            Self::Qos2Max => "qos2_max",
            Self::Subscription => "subscription",
            Self::SharedSubscription => "shared_subscription",
            Self::SubscriptionsMax => "subscriptions_max",
            Self::Retain => "retain",
            Self::Will => "will",
        }
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client left, connected again elsewhere, or the gateway is stopping.
    Left(String),
    Refused(GatewayRefusal, String),
}

impl End {
    pub(super) fn left(detail: &str) -> Self {
        Self::Left(detail.to_owned())
    }

    pub(super) fn refused(refusal: GatewayRefusal, detail: &str) -> Self {
        Self::Refused(refusal, detail.to_owned())
    }

    pub(super) fn protocol(error: MqttError) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "all other violations of the protocol are answered alike"
        )]
        let refusal = match error {
            MqttError::PacketTooLarge => GatewayRefusal::PacketTooLarge,
            _ => GatewayRefusal::Protocol,
        };
        Self::Refused(refusal, error.to_string())
    }
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Left(error.to_string())
    }
}

/// Counts and logs refusals.
#[derive(Debug)]
pub(super) struct Refusals {
    metrics: Metrics,
    throttles: [Throttle; GatewayRefusal::ALL.len()],
}

impl Refusals {
    pub(super) fn new(metrics: Metrics) -> Self {
        // From the start, since a counter that appears with its first count shows no increase.
        for refusal in GatewayRefusal::ALL {
            let counter = &metrics.gateway_refused_total;
            counter.with_label_values(&[refusal.as_str()]);
        }
        Self {
            metrics,
            throttles: GatewayRefusal::ALL.map(|_| Throttle::default()),
        }
    }

    /// Counts and logs a refusal. `client` is empty if the client has not sent its id.
    pub(super) fn note(
        &self,
        refusal: GatewayRefusal,
        peer: SocketAddr,
        client: &str,
        detail: &str,
    ) {
        let reason = refusal.as_str();
        let counter = &self.metrics.gateway_refused_total;
        counter.with_label_values(&[reason]).inc();
        if let Some(others) = self.throttles[refusal as usize].pass() {
            warn!(reason, %peer, client, detail, others, "the gateway refused a client or its request");
        }
    }

    /// Notes the end of a connection.
    pub(super) fn end(&self, end: &End, peer: SocketAddr, client: &str) {
        match end {
            End::Left(detail) => debug!(%peer, client, detail, "connection ended"),
            End::Refused(refusal, detail) => self.note(*refusal, peer, client, detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GatewayRefusal;

    #[test]
    fn each_reason_has_its_place() {
        for (place, refusal) in GatewayRefusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place, "{}", refusal.as_str());
        }
    }
}
