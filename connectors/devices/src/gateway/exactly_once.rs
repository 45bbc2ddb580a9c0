//! Tracks a client's publishes with QoS 2 by packet id. Pure. The protocol's state machine detects repeated publishes
//! too, but would answer them before the first one is durable.

use std::collections::HashSet;

/// Most publishes with QoS 2 that a session may have between PUBLISH and PUBREL.
const UNDER_WAY_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct ExactlyOnce {
    /// Publishes that are not durable yet.
    taking: HashSet<u16>,
    /// Durable publishes that the client has not released; it may still repeat them.
    recorded: HashSet<u16>,
}

/// The state in which a PUBREL finds its publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    Known,
    /// Released before, or by a session that is gone.
    Unknown,
    /// Before its PUBREC.
    TooEarly,
}

impl ExactlyOnce {
    /// Continues with the packet ids that the session's last connection had recorded.
    pub(super) fn resume(recorded: HashSet<u16>) -> Self {
        Self {
            taking: HashSet::new(),
            recorded,
        }
    }

    /// Notes that a publish is on its way into the log; returns false if there are too many.
    pub(super) fn begin(&mut self, packet_id: u16) -> bool {
        if self.taking.len() + self.recorded.len() >= UNDER_WAY_MAX {
            return false;
        }
        self.taking.insert(packet_id)
    }

    /// Returns whether PUBREC may be sent for it.
    pub(super) fn may_record(&self, packet_id: u16) -> bool {
        !self.taking.contains(&packet_id)
    }

    /// Notes that it is durable, or refused permanently (`is_taken` is false), and that PUBREC is about to be sent.
    pub(super) fn record(&mut self, packet_id: u16, is_taken: bool) {
        self.taking.remove(&packet_id);
        if is_taken {
            self.recorded.insert(packet_id);
        }
    }

    /// Notes a PUBREL.
    pub(super) fn release(&mut self, packet_id: u16) -> Released {
        if self.recorded.remove(&packet_id) {
            Released::Known
        } else if self.taking.contains(&packet_id) {
            Released::TooEarly
        } else {
            Released::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ExactlyOnce, Released, UNDER_WAY_MAX};

    #[test]
    fn the_way_of_a_packet_id() {
        let mut once = ExactlyOnce::default();
        assert!(once.begin(7) && !once.may_record(7));
        assert_eq!(once.release(7), Released::TooEarly);
        once.record(7, true);
        assert!(once.may_record(7));
        assert_eq!(once.release(7), Released::Known);
        assert_eq!(once.release(7), Released::Unknown);
        assert!(once.begin(7), "used again");
        once.record(7, false);
        assert_eq!(once.release(7), Released::Unknown, "it was refused");
    }

    #[test]
    fn a_session_has_a_bound_number_under_way() {
        let mut once = ExactlyOnce::resume([1, 2].into());
        let ids = (3..=u16::MAX).take_while(|id| once.begin(*id));
        assert_eq!(ids.count(), UNDER_WAY_MAX - 2);
        assert_eq!(once.release(1), Released::Known);
        assert!(once.begin(1) && !once.begin(2));
    }
}
