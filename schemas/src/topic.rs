//! The Kafka topics by name, and how each is kept.

/// A topic of Hearth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Telemetry,
    Households,
    Tariffs,
    WeatherForecast,
    OptimizeRequests,
    Schedules,
    Commands,
    Acks,
    DeadLetters,
    Alerts,
    Slots,
}

/// How a topic forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    Delete,
    Compact,
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

    /// Name without the configured prefix.
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

    /// Cleanup policy.
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

    /// The topic called `name`, if it is one of ours. `name` is without the prefix.
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
