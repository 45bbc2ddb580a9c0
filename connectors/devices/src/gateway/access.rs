//! Decides who may publish and subscribe to what. Pure.

use model::units::HouseholdId;
use schemas::mqtt;

/// Whom a connection may speak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// Everybody: the open gateway on loopback.
    Anyone,
    /// A device of this home.
    Household(HouseholdId),
    /// Hearth's controller.
    Service,
}

/// The kinds of messages from the cloud to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Downward {
    Command,
    Status,
}

/// Where a publish goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publishing {
    /// Into the ingest, which also handles unknown topics.
    Ingest,
    /// To the devices of a home.
    Pass(HouseholdId, Downward),
    /// This client may not publish here.
    Refused,
}

/// A subscription to messages for devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Filter {
    /// `None` for every home.
    pub(super) household_id: Option<HouseholdId>,
    pub(super) commands: bool,
    pub(super) status: bool,
}

/// Why a subscription is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilterRefusal {
    NotAuthorized,
    /// Shared subscriptions are not supported.
    Shared,
    /// The connection has too many subscriptions.
    TooMany,
}

impl Downward {
    pub(super) fn topic(self, household_id: HouseholdId) -> String {
        match self {
            Self::Command => mqtt::command_topic(household_id),
            Self::Status => mqtt::status_topic(household_id),
        }
    }
}

impl Filter {
    /// Returns whether messages of this kind match.
    pub(super) const fn passes(&self, downward: Downward) -> bool {
        match downward {
            Downward::Command => self.commands,
            Downward::Status => self.status,
        }
    }
}

/// Decides where a publish goes.
pub(super) fn publishing(identity: Identity, topic: &str) -> Publishing {
    let household_id = mqtt::household_of_topic(topic);
    let leaf = topic.splitn(3, '/').nth(2);
    let downward = match (household_id, leaf) {
        (Some(household_id), Some("cmd")) => Some((household_id, Downward::Command)),
        (Some(household_id), Some("status")) => Some((household_id, Downward::Status)),
        _ => None,
    };
    match (identity, downward) {
        (Identity::Anyone | Identity::Service, Some((household_id, downward))) => {
            Publishing::Pass(household_id, downward)
        }
        (Identity::Anyone, None) => Publishing::Ingest,
        (Identity::Household(own), None) if household_id == Some(own) => Publishing::Ingest,
        (Identity::Household(_) | Identity::Service, _) => Publishing::Refused,
    }
}

/// Decides on a subscription. Only messages for devices can be subscribed to, and a device can subscribe only to its own.
pub(super) fn filter(identity: Identity, filter: &str) -> Result<Filter, FilterRefusal> {
    if filter.starts_with("$share/") {
        return Err(FilterRefusal::Shared);
    }
    let levels: Vec<&str> = filter.splitn(4, '/').collect();
    let (home, leaf) = match levels.as_slice() {
        ["#"] | ["home", "#"] => ("+", "#"),
        ["home", home, leaf] => (*home, *leaf),
        _ => return Err(FilterRefusal::NotAuthorized),
    };
    let (commands, status) = match leaf {
        "cmd" => (true, false),
        "status" => (false, true),
        "+" | "#" => (true, true),
        _ => return Err(FilterRefusal::NotAuthorized),
    };
    let household_id = HouseholdId::parse(home);
    let is_allowed = match identity {
        Identity::Anyone | Identity::Service => household_id.is_some() || home == "+",
        Identity::Household(own) => household_id == Some(own),
    };
    if !is_allowed {
        return Err(FilterRefusal::NotAuthorized);
    }
    Ok(Filter {
        household_id,
        commands,
        status,
    })
}

#[cfg(test)]
mod tests {
    use model::units::HouseholdId;

    use super::{Downward, FilterRefusal, Identity, Publishing, filter, publishing};

    fn home(id: i64) -> HouseholdId {
        HouseholdId::new(id).unwrap()
    }

    #[test]
    fn a_device_publishes_under_its_own_home_only() {
        let device = Identity::Household(home(7));
        for (topic, expected) in [
            ("home/7/meter", Publishing::Ingest),
            ("home/7/ack", Publishing::Ingest),
            ("home/7/nonsense", Publishing::Ingest),
            ("home/7/cmd", Publishing::Refused),
            ("home/7/status", Publishing::Refused),
            ("home/8/meter", Publishing::Refused),
            ("home/77/meter", Publishing::Refused),
            ("home/07/meter", Publishing::Refused),
            ("elsewhere", Publishing::Refused),
            ("", Publishing::Refused),
        ] {
            assert_eq!(publishing(device, topic), expected, "{topic}");
        }
    }

    #[test]
    fn the_controller_publishes_commands_and_status_only() {
        for (topic, expected) in [
            ("home/7/cmd", Publishing::Pass(home(7), Downward::Command)),
            ("home/7/status", Publishing::Pass(home(7), Downward::Status)),
            ("home/7/meter", Publishing::Refused),
            ("home/x/cmd", Publishing::Refused),
            ("home/7/cmd/more", Publishing::Refused),
        ] {
            assert_eq!(publishing(Identity::Service, topic), expected, "{topic}");
        }
        assert_eq!(
            publishing(Identity::Anyone, "home/x/cmd"),
            Publishing::Ingest
        );
    }

    #[test]
    fn subscriptions() {
        let device = Identity::Household(home(7));
        let allowed = |identity, text| filter(identity, text).is_ok();
        for text in ["home/7/cmd", "home/7/status", "home/7/#", "home/7/+"] {
            assert!(
                allowed(device, text) && allowed(Identity::Anyone, text),
                "{text}"
            );
        }
        for text in ["home/8/cmd", "home/+/cmd", "#", "home/#", "home/+/#"] {
            assert!(
                !allowed(device, text) && allowed(Identity::Anyone, text),
                "{text}"
            );
        }
        for text in [
            "home/7/meter",
            "home/7/cmd/x",
            "home/x/cmd",
            "+/7/cmd",
            "x",
            "",
        ] {
            assert!(
                !allowed(device, text) && !allowed(Identity::Anyone, text),
                "{text}"
            );
        }
        let shared = filter(Identity::Anyone, "$share/g/home/+/cmd");
        assert_eq!(shared, Err(FilterRefusal::Shared));
        let everything = filter(Identity::Anyone, "home/+/cmd").unwrap();
        assert_eq!((everything.household_id, everything.status), (None, false));
    }
}
