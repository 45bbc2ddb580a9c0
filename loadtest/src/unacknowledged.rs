//! The publishes of a connection that have no PUBACK yet. Each is kept until its PUBACK, and sent again after a reconnect.
//! Packet ids are matched by order, since the client library reports an id only when a publish is sent.

use std::collections::{BTreeMap, VecDeque};

/// A publish with its number; numbers ascend in the order of publishing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outbound<T> {
    pub(crate) number: u64,
    pub(crate) publication: T,
}

/// Publishes of one connection that are not acknowledged. Its owner bounds their number.
#[derive(Debug)]
pub(crate) struct Unacknowledged<T> {
    next_number: u64,
    /// Not handed to the client library yet, ascending by number.
    waiting: VecDeque<Outbound<T>>,
    /// Handed to the client library but without a packet id yet, in order.
    handed: VecDeque<Outbound<T>>,
    /// On the wire, by packet id.
    flying: BTreeMap<u16, Outbound<T>>,
}

impl<T> Unacknowledged<T> {
    pub(crate) const fn new() -> Self {
        Self {
            next_number: 0,
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            flying: BTreeMap::new(),
        }
    }

    /// Adds a publish, to be sent now through [`Self::hand_over`] or on the next connection.
    pub(crate) fn push(&mut self, publication: T) {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.push_back(Outbound {
            number,
            publication,
        });
    }

    /// Hands the oldest waiting publish to the client library through `give`; returns whether that took one.
    pub(crate) fn hand_over(&mut self, give: impl FnOnce(&T) -> bool) -> bool {
        let given = self
            .waiting
            .front()
            .is_some_and(|oldest| give(&oldest.publication));
        if given {
            self.handed.extend(self.waiting.pop_front());
        }
        given
    }

    /// Notes that the client library sent the oldest handed publish, with `packet_id`.
    pub(crate) fn left(&mut self, packet_id: u16) {
        if let Some(oldest) = self.handed.pop_front() {
            self.flying.insert(packet_id, oldest);
        }
    }

    /// Notes the PUBACK of `packet_id`; returns its publish.
    pub(crate) fn acknowledged(&mut self, packet_id: u16) -> Option<T> {
        self.flying
            .remove(&packet_id)
            .map(|outbound| outbound.publication)
    }

    /// Notes the end of the connection: every publish waits for the next one, in the original order.
    pub(crate) fn disconnected(&mut self) {
        let mut again: Vec<_> = std::mem::take(&mut self.flying).into_values().collect();
        again.extend(std::mem::take(&mut self.handed));
        again.extend(std::mem::take(&mut self.waiting));
        again.sort_by_key(|outbound| outbound.number);
        self.waiting = again.into();
    }

    /// Returns the number of publishes without PUBACK.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.handed.len() + self.flying.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Unacknowledged;

    fn hand_all(unacknowledged: &mut Unacknowledged<&'static str>) -> Vec<&'static str> {
        let mut given = Vec::new();
        while unacknowledged.hand_over(|publication| {
            given.push(*publication);
            true
        }) {}
        given
    }

    #[test]
    fn acknowledgements_find_their_publish_in_any_order() {
        let mut unacknowledged = Unacknowledged::new();
        for publication in ["a", "b", "c"] {
            unacknowledged.push(publication);
        }
        assert_eq!(hand_all(&mut unacknowledged), ["a", "b", "c"]);
        for packet_id in [7, 8, 9] {
            unacknowledged.left(packet_id);
        }
        assert_eq!(unacknowledged.acknowledged(9), Some("c"));
        assert_eq!(unacknowledged.acknowledged(7), Some("a"));
        assert_eq!(unacknowledged.acknowledged(7), None);
        assert_eq!(unacknowledged.len(), 1);
    }

    #[test]
    fn after_a_disconnect_everything_unacknowledged_goes_out_again_in_order() {
        let mut unacknowledged = Unacknowledged::new();
        for publication in ["a", "b", "c", "d"] {
            unacknowledged.push(publication);
        }
        let mut room = 3;
        while unacknowledged.hand_over(|_| {
            room -= 1;
            room >= 0
        }) {}
        unacknowledged.left(900);
        unacknowledged.left(1);
        assert_eq!(unacknowledged.acknowledged(900), Some("a"));
        unacknowledged.disconnected();
        unacknowledged.push("e");
        assert_eq!(hand_all(&mut unacknowledged), ["b", "c", "d", "e"]);
        assert_eq!(
            unacknowledged.acknowledged(1),
            None,
            "packet ids begin anew"
        );
    }
}
