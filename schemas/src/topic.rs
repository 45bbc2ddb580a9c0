//! The Kafka topics: their names and cleanup policies.

/// A topic of Hearth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Readings of meters, PV and batteries.
    Telemetry,
    /// Metadata of households.
    Households,
    /// Prices.
    Tariffs,
    /// Weather forecasts.
    WeatherForecast,
    /// Problems for the worker pool.
    OptimizeRequests,
    /// Solved problems.
    Schedules,
    /// Commands to devices.
    Commands,
    /// Devices' answers to commands.
    Acks,
    /// What was refused, with the reason.
    DeadLetters,
    /// Alerts for the operator.
    Alerts,
    /// Aggregates of slots.
    Slots,
}

/// Which records of a topic Kafka removes: its `cleanup.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Records older than the retention.
    Delete,
    /// Records that have a newer one with the same key.
    Compact,
    /// Both.
    CompactDelete,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 11] = [
        Self::Telemetry,
        Self::Households,
        Self::Tariffs,
        Self::WeatherForecast,
        Self::OptimizeRequests,
        Self::Schedules,
        Self::Commands,
        Self::Acks,
        Self::DeadLetters,
        Self::Alerts,
        Self::Slots,
    ];

    /// Returns the name without the configured prefix.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Households => "households",
            Self::Tariffs => "tariffs",
            Self::WeatherForecast => "weather-forecast",
            Self::OptimizeRequests => "optimize-requests",
            Self::Schedules => "schedules",
            Self::Commands => "commands",
            Self::Acks => "acks",
            Self::DeadLetters => crate::next::DEAD_LETTERS,
            Self::Alerts => "alerts",
            Self::Slots => "slots",
        }
    }

    /// Returns the cleanup policy.
    #[must_use]
    pub const fn cleanup(self) -> Cleanup {
        match self {
            Self::Households | Self::Tariffs | Self::WeatherForecast => Cleanup::Compact,
            Self::Schedules => Cleanup::CompactDelete,
            Self::Telemetry
            | Self::OptimizeRequests
            | Self::Commands
            | Self::Acks
            | Self::DeadLetters
            | Self::Alerts
            | Self::Slots => Cleanup::Delete,
        }
    }

    /// Returns the topic called `name` (without the prefix), or `None` if it is not one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == name)
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
