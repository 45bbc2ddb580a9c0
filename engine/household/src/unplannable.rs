//! Why a home cannot be planned at the moment.

/// A missing input of a home's planning problem. Planning resumes as soon as the input arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplannable {
    /// No load was read in the last 24 hours.
    NoLoad,
    /// The home has PV, but no PV power was read in the last 24 hours.
    NoPv,
    /// The home has a battery, but its SoC was never read.
    NoSoc,
    /// The last reading of the load is too old.
    StaleLoad,
    /// The last reading of the PV power is too old, and it is not night.
    StalePv,
    /// The last reading of the battery's SoC is too old.
    StaleSoc,
    /// The home's tariff is not known.
    NoTariff,
    /// The tariff has no price for the current slot.
    NoPrice,
}

impl Unplannable {
    /// Returns the code for programs, such as `no_load`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoLoad => "no_load",
            Self::NoPv => "no_pv",
            Self::NoSoc => "no_soc",
            Self::StaleLoad => "stale_load",
            Self::StalePv => "stale_pv",
            Self::StaleSoc => "stale_soc",
            Self::NoTariff => "no_tariff",
            Self::NoPrice => "no_price",
        }
    }

    /// Returns a sentence for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoLoad => "no load was read in the last 24 hours",
            Self::NoPv => "no PV power was read in the last 24 hours",
            Self::NoSoc => "the battery's state of charge was not read",
            Self::StaleLoad => "the last reading of the load is too old",
            Self::StalePv => "the last reading of the PV power is too old",
            Self::StaleSoc => "the last reading of the battery's state of charge is too old",
            Self::NoTariff => "the household's tariff is not known",
            Self::NoPrice => "the tariff has no price for the current slot",
        }
    }
}

impl std::fmt::Display for Unplannable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.as_str(), self.code())
    }
}

impl std::error::Error for Unplannable {}
